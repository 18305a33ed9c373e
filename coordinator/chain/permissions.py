"""Who may hand in a proof: the bits that a signing key needs, and where they stand.

Two layers decide, and each is a query:

1. the *address* has to be registered to a player and its record has to carry the action's bit (ante handler);
2. if that player does not own the object, the owner's player object has to grant the bit to it: the permission
   record ``{owner}@{signer}`` (message handler).

A guild-rank rule on the owner can grant the second layer too; the queries that we use do not show those rules, so a
key that has its right from such a rule only is taken for one without. Source: interface notes 3.6 (v0.16 on).
"""

from __future__ import annotations

from typing import Final

from hashfleet.action import PLAYER_TYPE, Action, check_object_id
from hashfleet.errors import BadChainAnswer, InvalidInput, KeyProblem
from hashfleet.rpc.structs.structs import query_pb2

#: Permission bit that each action needs, and the chain's name of it.
PERMISSION_BITS: Final = {
    Action.BUILD: (1 << 20, "PermHashBuild"),
    Action.MINE: (1 << 21, "PermHashMine"),
    Action.REFINE: (1 << 22, "PermHashRefine"),
    Action.RAID: (1 << 23, "PermHashRaid"),
}
#: What founding a guild by charter needs of the signing address; nobody's object is touched, so nobody grants it.
PLAY: Final = (1, "PermPlay")
#: What the chain answers for an address that belongs to nobody.
NOBODY: Final = "1-0"


def signer_player(answer: query_pb2.QueryAddressResponse, address: str, action: Action) -> str:
    """The player of a signing address, if the address itself may do the action. Raises KeyProblem, BadChainAnswer."""
    if answer.playerId == NOBODY:
        raise KeyProblem(f"the address {address} is not registered to any player; register it with the signing player")
    try:
        player = check_object_id(answer.playerId, PLAYER_TYPE, f"the player of address {address}")
    except InvalidInput as error:
        raise BadChainAnswer(str(error)) from error
    if answer.address != address:
        raise BadChainAnswer(f"asked for address {address}, the chain answered with {answer.address[:80]!a}")
    bit, name = PERMISSION_BITS.get(action, PLAY)
    if not answer.permissions & bit:
        raise KeyProblem(
            f"the address {address} of player {player} lacks {name} ({bit}) for {action.value}; "
            f"grant that permission to the address"
        )
    return player


def permission_id(owner: str, signer: str) -> str:
    """Id of the record that says what `signer` may do with what `owner` owns."""
    return f"{owner}@{signer}"


def check_delegation(
    answer: query_pb2.QueryGetPermissionResponse | None, owner: str, signer: str, action: Action
) -> None:
    """Raise KeyProblem unless the record (None: there is none) lets player `signer` act for player `owner`."""
    asked = permission_id(owner, signer)
    value = 0
    if answer is not None:
        if not answer.HasField("permissionRecord"):
            raise BadChainAnswer(f"the answer about permission {asked} lacks the record")
        record = answer.permissionRecord
        # A record that was never written may come back empty; one of another pair may not.
        if record.permissionId != asked and (record.permissionId or record.value):
            raise BadChainAnswer(f"asked for permission {asked}, the chain answered with {record.permissionId[:80]!a}")
        value = record.value
    bit, name = PERMISSION_BITS[action]
    if not value & bit:
        raise KeyProblem(
            f"player {signer} lacks {name} ({bit}) on player {owner}, who owns the object; "
            f"the owner should grant it that permission"
        )
