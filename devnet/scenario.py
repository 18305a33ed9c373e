"""How a chain begins: a readable JSON file, or one of the presets beside this module (`scenarios/*.json`).

Clocks are told by `age`, the blocks that have passed since they started when the chain begins, or by `anchor`, the
height they started at. A file names addresses and never a key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devnet.changes import Changes
from devnet.rules import DEFAULT_VERSION
from devnet.staging import DEFAULT_CAPACITY, DEFAULT_ORE, Condition, Stage
from devnet.state import CHARTER_RANGE, PERMISSION_ALL, Charter, State, struct_types
from hashfleet.action import MAX_HEIGHT, MAX_RANGE
from hashfleet.errors import InvalidInput

PRESETS = ("demo", "empty")
MAX_FILE_BYTES = 16 * 1024 * 1024

Count = Annotated[int, Field(ge=0, le=2**53)]
Height = Annotated[int, Field(ge=0, le=MAX_HEIGHT)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Clock(_Entry):
    age: Height | None = None
    anchor: Height | None = None


class KeyEntry(_Entry):
    """Another address of a player."""

    address: str
    permissions: Count
    account_number: Count | None = None
    sequence: Count = 0


class PlayerEntry(_Entry):
    """A player with home planet and fleet."""

    id: str
    address: str
    permissions: Count = PERMISSION_ALL
    account_number: Count | None = None
    sequence: Count = 0
    planet: str | None = None
    planet_ore: Count = DEFAULT_ORE
    ore: Count = 0
    capacity: Count = DEFAULT_CAPACITY
    keys: tuple[KeyEntry, ...] = ()


class StructEntry(_Clock):
    """A structure; `type` is the chain's number."""

    id: str
    type: int
    owner: str
    condition: Condition = Field(default=Condition.BUILDING, strict=False)


class RaidEntry(_Clock):
    """A fleet at another player's planet."""

    fleet: str
    planet: str


class GrantEntry(_Entry):
    """Permission bits on a player's objects, given to another player."""

    owner: str
    player: str
    permissions: Count


class ReactorEntry(_Entry):
    """A reactor that guilds are founded on."""

    id: str
    owner: str
    since: Height = 1
    bonded: bool = True
    jailed: bool = False


class CharterEntry(_Clock):
    """The puzzle that founders of guilds share, from v0.21 on; a range of 0 is the chain's default."""

    range: Annotated[int, Field(ge=0, le=MAX_RANGE)] = CHARTER_RANGE
    #: Whether its preimage begins with the chain's id.
    names_chain: bool = True


class Scenario(_Entry):
    """A whole beginning."""

    about: str = ""
    start_height: Annotated[int, Field(ge=1, lt=MAX_HEIGHT)] = 1
    players: tuple[PlayerEntry, ...] = ()
    structs: tuple[StructEntry, ...] = ()
    raids: tuple[RaidEntry, ...] = ()
    grants: tuple[GrantEntry, ...] = ()
    reactors: tuple[ReactorEntry, ...] = ()
    charter: CharterEntry = CharterEntry()


def load(name: str) -> Scenario:
    """A preset by name, or a JSON file by path. Raises InvalidInput with what is wrong where."""
    if name in PRESETS:
        text = resources.files("devnet").joinpath("scenarios", f"{name}.json").read_bytes()
    else:
        text = _read(Path(name))
    try:
        return Scenario.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InvalidInput(f"scenario {name!r} is wrong at {where}: {first['msg']}") from error


def genesis(scenario: Scenario, start_height: int | None = None, version: str = DEFAULT_VERSION) -> tuple[State, int]:
    """The state at the start height (the scenario's, unless given). Raises InvalidInput."""
    height = scenario.start_height if start_height is None else start_height
    changes = Changes(State(version=version, struct_types=dict(struct_types(version))), height, silent=True)
    stage = Stage(changes)
    for player in scenario.players:
        with _entry(player.id):
            stage.add_player(
                player.id,
                player.address,
                permissions=player.permissions,
                planet_id=player.planet,
                planet_ore=player.planet_ore,
                ore=player.ore,
                capacity=player.capacity,
                account_number=player.account_number,
                sequence=player.sequence,
            )
            for key in player.keys:
                stage.add_address(
                    key.address,
                    player.id,
                    key.permissions,
                    account_number=key.account_number,
                    sequence=key.sequence,
                )
    for struct in scenario.structs:
        with _entry(struct.id):
            anchor = _anchor(struct, height)
            if anchor == 0 and struct.condition is Condition.BUILDING and changes.state.rules.stamps_builds:
                anchor = height
            stage.add_struct(struct.id, struct.type, struct.owner, struct.condition, anchor=anchor)
    for raid in scenario.raids:
        with _entry(f"the raid of {raid.fleet}"):
            stage.send_fleet(raid.fleet, raid.planet, anchor=_anchor(raid, height))
    for grant in scenario.grants:
        with _entry(f"the grant on {grant.owner}"):
            stage.grant(grant.owner, grant.player, grant.permissions)
    for reactor in scenario.reactors:
        with _entry(reactor.id):
            stage.add_reactor(
                reactor.id, reactor.owner, since=reactor.since, bonded=reactor.bonded, jailed=reactor.jailed
            )
    with _entry("the charter"):
        changes.state.charter = Charter(
            _anchor(scenario.charter, height) or 1, scenario.charter.range, names_chain=scenario.charter.names_chain
        )
    return changes.state, height


def _anchor(clock: _Clock, height: int) -> int | None:
    if clock.age is None:
        return clock.anchor
    if clock.anchor is not None:
        raise InvalidInput("it has both an age and an anchor; it should have one")
    if clock.age >= height:
        raise InvalidInput(f"its age is {clock.age}, but the chain starts at height {height}; start the chain higher")
    return height - clock.age


@contextmanager
def _entry(what: str) -> Iterator[None]:
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"the scenario is wrong at {what}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        known = " or ".join(PRESETS)
        raise InvalidInput(
            f"cannot read scenario {str(path)!r}: {error.strerror or error}; it should be {known}, or a JSON file"
        ) from error
    if len(text) > MAX_FILE_BYTES:
        raise InvalidInput(f"scenario {str(path)!r} is larger than {MAX_FILE_BYTES} bytes")
    return text
