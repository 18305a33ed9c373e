"""The messages that the devnet takes: the four completions. A decoded message is a value, apart from its wire form."""

from __future__ import annotations

from dataclasses import dataclass

from devnet.state import PERMISSION_HASH_BUILD, PERMISSION_HASH_MINE, PERMISSION_HASH_RAID, PERMISSION_HASH_REFINE
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
