"""What the chain lets a signing address do, in words: for `hashfleet keys show`, not for decisions about jobs.

Decisions are in `permissions`. Source of the bits: interface notes 3.6 (v0.16 on, 25 bits; not all have a name there).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coordinator.chain.permissions import NOBODY, PERMISSION_BITS, permission_id
from coordinator.chain.queries import ADDRESS, PERMISSION
from coordinator.chain.transport import Transport
from hashfleet.action import PLAYER_TYPE, Action, check_object_id
from hashfleet.errors import BadChainAnswer, InvalidInput
from hashfleet.rpc.structs.structs import query_pb2

#: PermPlay: what every message of a player needs.
PLAY: Final = 1
REACTOR_GUILD_CREATE: Final = 1 << 19
#: The actions that are done for others; each has its bit.
_HASHED: Final = {
    Action.BUILD: "complete builds",
    Action.MINE: "complete mining",
    Action.REFINE: "complete refining",
    Action.RAID: "complete raids",
}
HASH_BITS: Final = sum(PERMISSION_BITS[action][0] for action in _HASHED)
#: All that a key needs to hash for others, and nothing more.
HASH_DELEGATE: Final = HASH_BITS | PLAY
ALL: Final = (1 << 25) - 1

_NAMES: Final = {
    PLAY: "PermPlay",
    REACTOR_GUILD_CREATE: "PermReactorGuildCreate",
    **dict(PERMISSION_BITS[action] for action in _HASHED),
}
_WORDS: Final = {
    PLAY: "play",
    REACTOR_GUILD_CREATE: "create guilds at reactors",
    **{PERMISSION_BITS[action][0]: text for action, text in _HASHED.items()},
}


@dataclass(frozen=True, slots=True)
class KeyRights:
    """What the chain says of an address."""

    #: The player that the address is registered to; None if it is registered to nobody.
    player: str | None
    #: Permission bits of the address.
    permissions: int
    #: Permission bits that the asked owner granted to that player; None if no owner was asked about or there is none.
    granted: int | None = None

    @property
    def lacks(self) -> int:
        """Bits that a hash delegate needs and the address does not have."""
        return HASH_DELEGATE & ~self.permissions


def words(permissions: int) -> list[str]:
    """Permission bits as people read them."""
    if permissions & ALL == ALL:
        return ["everything"]
    said = [text for bit, text in _WORDS.items() if permissions & bit]
    further = permissions & ~sum(_WORDS)
    return said + ([f"more (bits {further})"] if further else [])


def names(permissions: int) -> list[str]:
    """The chain's names of permission bits, with their values; bits whose name is not known are one entry."""
    said = [f"{name} ({bit})" for bit, name in _NAMES.items() if permissions & bit]
    further = permissions & ~sum(_NAMES)
    return said + ([f"others ({further})"] if further else [])


async def read_rights(transport: Transport, address: str, owner: str | None = None) -> KeyRights:
    """Ask the chain about an address, and what player `owner` granted to its player.

    Raises BadChainAnswer, ChainUnavailable.
    """
    answer = await transport.find(ADDRESS, query_pb2.QueryGetAddressRequest(address=address), f"address {address}")
    # An address that was never registered is answered with player 1-0, or not found.
    if answer is None or answer.playerId == NOBODY:
        return KeyRights(None, 0)
    if answer.address != address:
        raise BadChainAnswer(f"asked for address {address}, the chain answered with {answer.address[:80]!a}")
    try:
        player = check_object_id(answer.playerId, PLAYER_TYPE, f"the player of address {address}")
    except InvalidInput as error:
        raise BadChainAnswer(str(error)) from error
    if owner is None or owner == player:
        return KeyRights(player, answer.permissions)
    asked = permission_id(owner, player)
    record = await transport.find(
        PERMISSION, query_pb2.QueryGetPermissionRequest(permissionId=asked), f"permission {asked}"
    )
    granted = record.permissionRecord.value if record is not None else 0
    if record is not None and granted and record.permissionRecord.permissionId != asked:
        told = record.permissionRecord.permissionId[:80]
        raise BadChainAnswer(f"asked for permission {asked}, the chain answered with {told!a}")
    return KeyRights(player, answer.permissions, granted)
