"""The messages that the devnet takes: the four completions, and the founding of a guild.

A decoded message is a value, apart from its wire form.
"""

from __future__ import annotations

from dataclasses import dataclass

from devnet.rules import Rules
from devnet.state import (
    PERMISSION_HASH_BUILD,
    PERMISSION_HASH_MINE,
    PERMISSION_HASH_RAID,
    PERMISSION_HASH_REFINE,
    PERMISSION_PLAY,
    PERMISSION_REACTOR_GUILD_CREATE,
)
from hashfleet.action import Action
from hashfleet.rpc.structs.structs import tx_pb2

type_of_completion = (
    tx_pb2.MsgStructBuildComplete
    | tx_pb2.MsgStructOreMinerComplete
    | tx_pb2.MsgStructOreRefineryComplete
    | tx_pb2.MsgPlanetRaidComplete
)


@dataclass(frozen=True, slots=True)
class Completion:
    """A proof brought to the chain."""

    action: Action
    #: Full name of the protobuf message.
    name: str
    #: bech32 address of the key that signs.
    creator: str
    #: As the message says it: a struct id, or a fleet id for a raid.
    object_id: str
    proof: str
    nonce: str

    @property
    def permission(self) -> int:
        """The bit that the signing address needs, and that its player needs on the owner."""
        return _PERMISSIONS[self.action]

    def address_permission(self, rules: Rules) -> int:
        """The bit that the signing address needs."""
        return self.permission


@dataclass(frozen=True, slots=True)
class GuildCreation:
    """A guild to be founded: with a proof (v0.21), or by a right to a reactor."""

    #: Full name of the protobuf message.
    name: str
    #: bech32 address of the key that signs; its player is the solver.
    creator: str
    reactor_id: str
    endpoint: str
    entry_substation_id: str
    proof: str = ""
    nonce: str = ""
    #: As the message says it; empty if the solver founds the guild.
    founder_id: str = ""
    #: The founder's consent, if the solver is somebody else: an address of theirs, its key and signature in hex.
    address: str = ""
    public_key: str = ""
    signature: str = ""

    @property
    def by_proof(self) -> bool:
        return bool(self.proof or self.nonce)

    def address_permission(self, rules: Rules) -> int:
        """The bit that the signing address needs."""
        return PERMISSION_PLAY if rules.charter else PERMISSION_REACTOR_GUILD_CREATE


Message = Completion | GuildCreation


_PERMISSIONS = {
    Action.BUILD: PERMISSION_HASH_BUILD,
    Action.MINE: PERMISSION_HASH_MINE,
    Action.REFINE: PERMISSION_HASH_REFINE,
    Action.RAID: PERMISSION_HASH_RAID,
}

#: Type URL -> (action, message class).
COMPLETIONS: dict[str, tuple[Action, type[type_of_completion]]] = {
    f"/{message.DESCRIPTOR.full_name}": (action, message)
    for action, message in (
        (Action.BUILD, tx_pb2.MsgStructBuildComplete),
        (Action.MINE, tx_pb2.MsgStructOreMinerComplete),
        (Action.REFINE, tx_pb2.MsgStructOreRefineryComplete),
        (Action.RAID, tx_pb2.MsgPlanetRaidComplete),
    )
}


def completion(action: Action, message: type_of_completion) -> Completion:
    """The value of a parsed message."""
    object_id = message.fleetId if isinstance(message, tx_pb2.MsgPlanetRaidComplete) else message.structId
    return Completion(action, message.DESCRIPTOR.full_name, message.creator, object_id, message.proof, message.nonce)


GUILD_CREATE_URL = f"/{tx_pb2.MsgGuildCreate.DESCRIPTOR.full_name}"
#: The last field number of MsgGuildCreate before v0.21.
LAST_OLD_GUILD_FIELD = 4


def guild_creation(message: tx_pb2.MsgGuildCreate) -> GuildCreation:
    """The value of a parsed message."""
    return GuildCreation(
        message.DESCRIPTOR.full_name,
        message.creator,
        message.reactorId,
        message.endpoint,
        message.entrySubstationId,
        message.proof,
        message.nonce,
        message.founderPlayerId,
        message.address,
        message.proofPubKey,
        message.proofSignature,
    )
