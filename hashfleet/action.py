"""The kinds of work, and the puzzle that each one poses.

The chain hashes these bytes (UTF-8, no separators, plain decimals, ids exactly as the chain prints them)::

    build, mine, refine   {structId}BUILD{anchor}NONCE{nonce}         (or MINE, REFINE)
    raid                  {fleetId}@{planetId}RAID{anchor}NONCE{nonce}
    charter (v0.21 on)    CHAIN{chainId}|{solverId}@{founderId}GUILDCHARTER{anchor}NONCE{nonce}
                          {solverId}@{founderId}GUILDCHARTER{anchor}NONCE{nonce}    (unreleased; docs/chain.md)

Everything up to and including ``NONCE`` is the *prefix*; `prefix` is the only place that writes it.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from hashfleet.errors import InvalidInput

MAX_UINT64 = 2**64 - 1
#: Heights and ranges above this are refused: the guild stack keeps them as 32-bit integers, and at one block a
#: second a chain needs 68 years to get there.
MAX_HEIGHT = 2**31 - 1
MAX_RANGE = 2**31 - 1

# The number before the dash of an object id, as the chain numbers its object types.
PLAYER_TYPE, PLANET_TYPE, REACTOR_TYPE, SUBSTATION_TYPE, STRUCT_TYPE, ADDRESS_TYPE, FLEET_TYPE = 1, 2, 3, 4, 5, 8, 9
_TYPE_NAMES = {
    PLAYER_TYPE: "player",
    PLANET_TYPE: "planet",
    REACTOR_TYPE: "reactor",
    SUBSTATION_TYPE: "substation",
    STRUCT_TYPE: "struct",
    FLEET_TYPE: "fleet",
}
_OBJECT_ID = re.compile(r"([0-9]{1,2})-(0|[1-9][0-9]{0,19})", re.ASCII)
#: CometBFT's limit of a chain id is 50 characters.
_CHAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}", re.ASCII)


class Action(enum.Enum):
    """A kind of work; the value is the word that stands in the preimage."""

    BUILD = "BUILD"
    MINE = "MINE"
    REFINE = "REFINE"
    RAID = "RAID"
    #: Founding a guild by proof of work: one puzzle for the whole chain.
    CHARTER = "GUILDCHARTER"

    @property
    def object_type(self) -> int:
        """Type number of what the work is done on: a fleet for a raid, the founder for a charter, else a struct."""
        return _OBJECT_TYPES.get(self, STRUCT_TYPE)

    @property
    def priced(self) -> bool:
        """Whether its transaction pays fees. The others are free, and must not stand in one transaction with it."""
        return self is Action.CHARTER


_OBJECT_TYPES = {Action.RAID: FLEET_TYPE, Action.CHARTER: PLAYER_TYPE}


def check_object_id(text: str, object_type: int, what: str) -> str:
    """Return `text` if it is a canonical id of that type, else raise InvalidInput naming `what`.

    >>> check_object_id("5-28", STRUCT_TYPE, "entity_id")
    '5-28'
    """
    found = _OBJECT_ID.fullmatch(text)
    name = _TYPE_NAMES[object_type]
    if not found or int(found[1]) != object_type or str(object_type) != found[1] or int(found[2]) > MAX_UINT64:
        raise InvalidInput(f"{what} is {_shown(text)}; it should be a {name} id such as {object_type}-28")
    return text


def check_anchor(anchor: int) -> int:
    """Return `anchor` (a block height) if it is one that a running clock can have, else raise InvalidInput."""
    if not 1 <= anchor <= MAX_HEIGHT:
        shown = _shown_number(anchor)
        raise InvalidInput(f"block_start is {shown}; it should be a block height from 1 to {MAX_HEIGHT}")
    return anchor


def check_range(difficulty_range: int) -> int:
    """Return `difficulty_range` if the difficulty falls along it, else raise InvalidInput.

    Ranges 0 and 1 mean "no clock": chain versions disagree about them (64 for ever, or 1 at once).
    """
    if not 2 <= difficulty_range <= MAX_RANGE:
        raise InvalidInput(
            f"the difficulty range is {_shown_number(difficulty_range)}; it should be from 2 to {MAX_RANGE} "
            "(the number of blocks after which the difficulty has fallen to 1)"
        )
    return difficulty_range


def check_chain_id(text: str) -> str:
    """Return `text` if it can be the id of a chain, else raise InvalidInput."""
    if not _CHAIN_ID.fullmatch(text):
        raise InvalidInput(f"the chain id is {_shown(text)}; it should be like structstestnet-111")
    return text


@dataclass(frozen=True, slots=True)
class CharterTerms:
    """What the puzzle of a charter names beside founder and anchor. Checked when made."""

    #: None where the chain hashes the form that names no chain.
    chain_id: str | None
    #: The player that the signing key belongs to: a proof is of use to nobody else.
    solver_id: str

    def __post_init__(self) -> None:
        if self.chain_id is not None:
            check_chain_id(self.chain_id)
        check_object_id(self.solver_id, PLAYER_TYPE, "the solver")


@dataclass(frozen=True, slots=True)
class Work:
    """One puzzle, as the chain poses it now. Checked when made, so a Work is always well-formed."""

    action: Action
    #: Struct id; fleet id for a raid; for a charter the id of the player who founds the guild.
    object_id: str
    #: Height at which the clock of this work started.
    anchor: int
    #: Blocks after the anchor at which the difficulty has fallen to 1.
    range: int
    #: The planet that is raided; None for every other action.
    target_id: str | None = None
    #: Who solves a charter, and on which chain; None for every other action.
    charter: CharterTerms | None = None

    def __post_init__(self) -> None:
        check_object_id(self.object_id, self.action.object_type, "entity_id")
        check_anchor(self.anchor)
        check_range(self.range)
        if self.action is Action.RAID:
            check_object_id(self.target_id or "", PLANET_TYPE, "target_id")
        elif self.target_id is not None:
            raise InvalidInput(f"target_id is {_shown(self.target_id)}; only a raid has a target")
        if (self.action is Action.CHARTER) != (self.charter is not None):
            raise InvalidInput("the chain and the solver should be named for a charter, and for nothing else")

    @property
    def prefix(self) -> bytes:
        """The bytes that stand before the nonce."""
        return prefix(self.action, self.object_id, self.anchor, self.target_id, self.charter)


def prefix(
    action: Action, object_id: str, anchor: int, target_id: str | None = None, charter: CharterTerms | None = None
) -> bytes:
    """The bytes before the nonce, for any anchor: a chain also hashes clocks that nobody should work on (height 0)."""
    chain = f"CHAIN{charter.chain_id}|" if charter is not None and charter.chain_id is not None else ""
    before = f"{chain}{charter.solver_id}@" if charter is not None else ""
    where = f"@{target_id}" if action is Action.RAID else ""
    return f"{before}{object_id}{where}{action.value}{anchor}NONCE".encode("ascii")


def _shown(text: str) -> str:
    """`text` quoted, escaped and cut, so that an error stays one readable line whatever was sent."""
    shown = ascii(text[:40])
    return shown + "..." if len(text) > 40 else shown


def _shown_number(number: int) -> str:
    """`number` in decimal, unless it is absurd: Python refuses to print integers of more than 4,300 digits."""
    return str(number) if abs(number) < 10**30 else "a number of more than 30 digits"
