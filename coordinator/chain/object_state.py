"""From query answers to `Work`: pure functions, no connection.

Each object is first turned into a checked value (``struct_state``, ``planet_state``, ...) and then asked whether it
poses a puzzle now (``build_work``, ``ore_work``, ``raid_work``, ``charter_work``). Three things can stand in the way:

=================  ===================================================================================
WorkGone           it never will: built, destroyed, exhausted, fleet back home
WorkPaused         not now, but maybe later: offline, under raid, shields up, not first in the queue
BadChainAnswer     the answer lacks or garbles something, so nothing is known
=================  ===================================================================================

proto3 does not send a scalar that is 0, so a zero and a missing scalar look the same on the wire. Missing *messages*
can be told apart and are refused; a number that must not be 0 is refused at 0; and the status of a struct, which is
sent twice (bit mask and flags), has to agree with itself. A clock at 0 means "not running" and is never hashed.

Conditions and derivations: interface notes 1.5, 1.6 and 2.1. Not judged here, because the queries do not tell it:
whether the owner has enough power. The chain then answers with structs 1201, which pauses the job as well.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from coordinator.chain.versions import ChainRules
from hashfleet.action import (
    FLEET_TYPE,
    PLANET_TYPE,
    PLAYER_TYPE,
    STRUCT_TYPE,
    Action,
    CharterTerms,
    Work,
    check_object_id,
)
from hashfleet.errors import BadChainAnswer, InvalidInput, WorkGone, WorkPaused
from hashfleet.rpc.structs.structs import query_pb2, types_pb2

#: Structs that one player may have; the chain gives each planet and fleet 16 slots.
MAX_STRUCTS = 4096
#: What the chain's module takes a charter range of 0 for, in blocks (v0.21 on).
DEFAULT_CHARTER_RANGE = 2_500_000


class StructStatus(enum.IntFlag):
    """Bits of the stored struct attribute `status`; those that decide about work."""

    BUILT = 2
    ONLINE = 4
    DESTROYED = 32


@dataclass(frozen=True, slots=True)
class StructState:
    """A struct as committed."""

    id: str
    #: Number of its struct type.
    type: int
    #: Player id.
    owner: str
    #: Planet it stands on; None when it belongs to a fleet.
    planet_id: str | None
    built: bool
    online: bool
    destroyed: bool
    #: Clocks: heights, 0 when not running. The two ore clocks are those of chains up to v0.20.
    build_anchor: int
    mine_anchor: int
    refine_anchor: int


@dataclass(frozen=True, slots=True)
class TypeRanges:
    """Difficulty ranges of a struct type, in blocks; 0 where the type has no such system."""

    type: int
    build: int
    mine: int
    refine: int


@dataclass(frozen=True, slots=True)
class PlanetState:
    """A planet as committed."""

    id: str
    #: Player id; empty if it belongs to nobody.
    owner: str
    complete: bool
    #: Units of ore left in the ground.
    ore: int
    #: First fleet of the queue of raiders; empty if nobody raids.
    queue_head: str
    #: Difficulty range of a raid.
    shield: int
    #: Height, 0 when the raid clock does not run.
    raid_anchor: int
    #: Its slots as told: struct ids, unchecked, and empty texts; see `check_structs`.
    structs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetState:
    """A fleet as committed."""

    id: str
    #: Player id.
    owner: str
    away: bool
    #: Planet where it stands; None when it is anywhere else.
    planet_id: str | None
    #: Fleet before it in the queue; empty if it is first.
    behind: str
    #: Its Command Ship and its slots as told: struct ids, unchecked, and empty texts; see `check_structs`.
    structs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlayerState:
    """A player as committed."""

    id: str
    #: Home planet; None before the first one is explored.
    planet_id: str | None
    fleet_id: str | None
    #: Units of ore stored: what a refinery takes.
    ore: int
    #: Guild that the player belongs to, whoever owns it; empty for none.
    guild_id: str


# Answers to values


def struct_state(answer: query_pb2.QueryGetStructResponse, asked: str) -> StructState:
    """The struct of an answer. Raises BadChainAnswer."""
    if not answer.HasField("Struct") or not answer.HasField("structAttributes"):
        raise BadChainAnswer(f"the answer about struct {asked} lacks the struct or its attributes")
    struct, attributes = answer.Struct, answer.structAttributes
    _check_same(struct.id, asked, "struct")
    if struct.type == 0:
        raise BadChainAnswer(f"struct {asked} has no type; it should be a number from 1")
    status = StructStatus(attributes.status & (StructStatus.BUILT | StructStatus.ONLINE | StructStatus.DESTROYED))
    built, online, destroyed = (bit in status for bit in StructStatus)
    if (built, online, destroyed) != (attributes.isBuilt, attributes.isOnline, attributes.isDestroyed):
        raise BadChainAnswer(
            f"the status {attributes.status} of struct {asked} contradicts its flags built={attributes.isBuilt}, "
            f"online={attributes.isOnline}, destroyed={attributes.isDestroyed}"
        )
    return StructState(
        id=asked,
        type=struct.type,
        owner=_checked_id(struct.owner, PLAYER_TYPE, f"the owner of struct {asked}"),
        planet_id=_planet_of(struct.locationType, struct.locationId, f"struct {asked}"),
        built=built,
        online=online,
        destroyed=destroyed,
        build_anchor=attributes.blockStartBuild,
        mine_anchor=attributes.blockStartOreMine,
        refine_anchor=attributes.blockStartOreRefine,
    )


def type_ranges(answer: query_pb2.QueryGetStructTypeResponse, asked: int) -> TypeRanges:
    """The ranges of a struct type. Raises BadChainAnswer.

    Every type can be built, so a type without a build range was not read whole; that tells a missing ore range
    (no such system) from an answer that lost its numbers.
    """
    if not answer.HasField("StructType"):
        raise BadChainAnswer(f"the answer about struct type {asked} lacks the type")
    kind = answer.StructType
    if kind.id != asked:
        raise BadChainAnswer(f"asked for struct type {asked}, the chain answered with {kind.id}")
    if kind.buildDifficulty < 2:
        raise BadChainAnswer(f"struct type {asked} has build difficulty {kind.buildDifficulty}; it should be 2 or more")
    return TypeRanges(asked, kind.buildDifficulty, kind.oreMiningDifficulty, kind.oreRefiningDifficulty)


def planet_state(answer: query_pb2.QueryGetPlanetResponse, asked: str) -> PlanetState:
    """The planet of an answer. Raises BadChainAnswer."""
    if not (answer.HasField("Planet") and answer.HasField("gridAttributes") and answer.HasField("planetAttributes")):
        raise BadChainAnswer(f"the answer about planet {asked} lacks the planet, its ore or its attributes")
    _check_same(answer.Planet.id, asked, "planet")
    head, owner = answer.Planet.locationListStart, answer.Planet.owner
    return PlanetState(
        id=asked,
        owner=_checked_id(owner, PLAYER_TYPE, f"the owner of planet {asked}") if owner else "",
        complete=answer.Planet.status == types_pb2.complete,
        ore=answer.gridAttributes.ore,
        queue_head=_checked_id(head, FLEET_TYPE, f"the first fleet at planet {asked}") if head else "",
        shield=answer.planetAttributes.planetaryShield,
        raid_anchor=answer.planetAttributes.blockStartRaid,
        structs=_slots(answer.Planet),
    )


def fleet_state(answer: query_pb2.QueryGetFleetResponse, asked: str) -> FleetState:
    """The fleet of an answer. Raises BadChainAnswer."""
    if not answer.HasField("Fleet"):
        raise BadChainAnswer(f"the answer about fleet {asked} lacks the fleet")
    fleet = answer.Fleet
    _check_same(fleet.id, asked, "fleet")
    behind = fleet.locationListForward
    return FleetState(
        id=asked,
        owner=_checked_id(fleet.owner, PLAYER_TYPE, f"the owner of fleet {asked}"),
        away=fleet.status == types_pb2.away,
        planet_id=_planet_of(fleet.locationType, fleet.locationId, f"fleet {asked}"),
        behind=_checked_id(behind, FLEET_TYPE, f"the fleet before fleet {asked}") if behind else "",
        structs=(fleet.commandStruct, *_slots(fleet)),
    )


def stored_ore(answer: query_pb2.QueryGetPlayerResponse, asked: str) -> int:
    """Units of ore that a player holds. Raises BadChainAnswer."""
    if not answer.HasField("Player") or not answer.HasField("gridAttributes"):
        raise BadChainAnswer(f"the answer about player {asked} lacks the player or its ore")
    _check_same(answer.Player.id, asked, "player")
    return answer.gridAttributes.ore


def player_state(answer: query_pb2.QueryGetPlayerResponse, asked: str) -> PlayerState:
    """The player of an answer. Raises BadChainAnswer."""
    ore = stored_ore(answer, asked)
    planet_id, fleet_id = answer.Player.planetId, answer.Player.fleetId
    return PlayerState(
        id=asked,
        planet_id=_checked_id(planet_id, PLANET_TYPE, f"the planet of player {asked}") if planet_id else None,
        fleet_id=_checked_id(fleet_id, FLEET_TYPE, f"the fleet of player {asked}") if fleet_id else None,
        ore=ore,
        guild_id=answer.Player.guildId,
    )


def guild_owner(answer: query_pb2.QueryGetGuildResponse, asked: str) -> str:
    """The player who owns the guild of an answer. Raises BadChainAnswer."""
    if not answer.HasField("Guild"):
        raise BadChainAnswer(f"the answer about guild {asked[:40]!a} lacks the guild")
    _check_same(answer.Guild.id, asked, "guild")
    return _checked_id(answer.Guild.owner, PLAYER_TYPE, f"the owner of guild {asked}")


def check_structs(listed: Iterable[str], owner: str) -> list[str]:
    """What a player's planet and fleet list: each struct once, without the empty texts of free slots.

    Raises BadChainAnswer.
    """
    found = list(dict.fromkeys(struct_id for struct_id in listed if struct_id))
    if len(found) > MAX_STRUCTS:
        raise BadChainAnswer(f"player {owner} is told to have {len(found)} structs; it should be at most {MAX_STRUCTS}")
    return [_checked_id(struct_id, STRUCT_TYPE, f"a struct of player {owner}") for struct_id in found]


# Values to work


def struct_actions(struct: StructState, ranges: TypeRanges) -> tuple[Action, ...]:
    """What may be done with a struct at all: its build, or else what it has systems for."""
    if not struct.built:
        return (Action.BUILD,)
    able = ((Action.MINE, ranges.mine), (Action.REFINE, ranges.refine))
    return tuple(action for action, difficulty_range in able if difficulty_range)


def build_work(struct: StructState, ranges: TypeRanges) -> Work:
    """The puzzle of a build. Raises WorkGone, BadChainAnswer."""
    if struct.destroyed:
        raise WorkGone(f"struct {struct.id} is destroyed")
    if struct.built:
        raise WorkGone(f"struct {struct.id} is already built")
    if struct.build_anchor == 0:
        raise WorkGone(f"struct {struct.id} has no running build: its build clock is not set")
    return _posed(Action.BUILD, struct.id, struct.build_anchor, ranges.build)


def ore_planet(action: Action, struct: StructState) -> str:
    """The planet that a rig or refinery works on, if it can work at all. Raises WorkGone, WorkPaused."""
    if struct.destroyed:
        raise WorkGone(f"struct {struct.id} is destroyed")
    if not struct.built:
        raise WorkPaused(f"struct {struct.id} is not built yet; it can {_verb(action)} once it is built and online")
    if not struct.online:
        raise WorkPaused(f"struct {struct.id} is offline; it can {_verb(action)} once it is online again")
    if struct.planet_id is None:
        raise WorkGone(f"struct {struct.id} stands on no planet, so it cannot {_verb(action)}")
    return struct.planet_id


def ore_work(
    action: Action,
    struct: StructState,
    ranges: TypeRanges,
    planet: PlanetState,
    ore: int,
    anchor: int,
    rules: ChainRules,
) -> Work:
    """The puzzle of a mine or refine. Raises WorkGone, WorkPaused, BadChainAnswer.

    `ore` is what is left to be worked: in the planet to mine, in the player's store to refine. `anchor` is the clock,
    of the struct or of the planet as the version has it.

    On a complete planet the chain takes neither (1650 `complete`; 1.6). Nothing is left to mine there; but the stored
    ore stays the player's, and 3.7 calls 1650 a pause, so a refinery waits: whether its planet ever becomes active
    again is not known, and nothing is hashed meanwhile.
    """
    ore_planet(action, struct)
    difficulty_range = ranges.mine if action is Action.MINE else ranges.refine
    if difficulty_range == 0:
        raise WorkGone(f"struct {struct.id} is of type {struct.type}, which cannot {_verb(action)}")
    if action is Action.MINE and planet.complete:
        raise WorkGone(f"planet {planet.id} is complete; nothing is left to mine")
    if ore == 0:
        where = f"planet {planet.id}" if action is Action.MINE else f"player {struct.owner}"
        raise WorkGone(f"{where} has no ore to {_verb(action)}")
    if planet.complete:
        raise WorkPaused(f"planet {planet.id} is complete; to {_verb(action)} there stands still")
    if rules.raid_stops_ore and planet.queue_head:
        raise WorkPaused(f"planet {planet.id} is under raid by fleet {planet.queue_head}; ore work stands still")
    if anchor == 0:
        raise WorkPaused(f"the clock to {_verb(action)} with struct {struct.id} is not running")
    return _posed(action, struct.id, anchor, difficulty_range)


def planet_clock(planet_id: str, shield: int, answers: Mapping[str, int]) -> tuple[str, int]:
    """Which of several spellings of a planet clock the chain knows, and the clock (0: not running).

    The chain answers a name that it does not know with attribute 0, the planetary shield, and no error. So a spelling
    is right only if its answer differs from the shield, which must have been read at the same state. Raises
    BadChainAnswer if no spelling, or more than one value, passes.
    """
    passed = {name: value for name, value in answers.items() if value != shield}
    if len(set(passed.values())) != 1:
        told = ", ".join(f"{name}={value}" for name, value in answers.items())
        raise BadChainAnswer(
            f"the ore clock of planet {planet_id} cannot be told from its shield {shield} ({told}); "
            "exactly one value should differ from the shield"
        )
    return next(iter(passed.items()))


def raid_planet(fleet: FleetState) -> str:
    """The planet that a fleet raids, if it does. Raises WorkGone, WorkPaused."""
    if not fleet.away:
        raise WorkGone(f"fleet {fleet.id} is on station; only a fleet that is away can raid")
    if fleet.planet_id is None:
        raise WorkGone(f"fleet {fleet.id} stands at no planet, so there is nothing to raid")
    if fleet.behind:
        raise WorkPaused(f"fleet {fleet.id} is behind fleet {fleet.behind}; only the first in the queue can raid")
    return fleet.planet_id


def raid_work(fleet: FleetState, planet: PlanetState, rules: ChainRules) -> Work:
    """The puzzle of a raid. Raises WorkGone, WorkPaused, BadChainAnswer."""
    raid_planet(fleet)
    if planet.queue_head != fleet.id:
        first = f"fleet {planet.queue_head}" if planet.queue_head else "no fleet"
        raise WorkPaused(f"planet {planet.id} has {first} first in its queue, not fleet {fleet.id}")
    if rules.raid_needs_active_planet and planet.complete:
        raise WorkGone(f"planet {planet.id} is complete; only an active planet can be raided")
    if planet.raid_anchor == 0:
        why = "its shields are up" if rules.gated_raid_clock else "no fleet has begun to raid it"
        raise WorkPaused(f"the raid clock of planet {planet.id} is not running: {why}")
    if planet.shield < 2:
        # Versions disagree about ranges 0 and 1 (64 zeros for ever, or 1 at once), and the shield may rise again.
        raise WorkPaused(f"planet {planet.id} has shield {planet.shield}; a raid needs one of 2 or more")
    return _posed(Action.RAID, fleet.id, planet.raid_anchor, planet.shield, planet.id)


def charter_work(answer: query_pb2.QueryGuildCharterResponse, founder_id: str, terms: CharterTerms) -> Work:
    """The puzzle of founding a guild. Raises WorkPaused, BadChainAnswer.

    The answer's own age and difficulty are passed over: they are those of a block that is past.
    """
    if answer.anchor == 0:
        raise WorkPaused(f"the charter clock of chain {terms.chain_id} is not set; no proof founds a guild yet")
    return _posed(
        Action.CHARTER, founder_id, answer.anchor, answer.difficultyRange or DEFAULT_CHARTER_RANGE, charter=terms
    )


def _posed(
    action: Action,
    object_id: str,
    anchor: int,
    difficulty_range: int,
    target_id: str | None = None,
    charter: CharterTerms | None = None,
) -> Work:
    try:
        return Work(action, object_id, anchor, difficulty_range, target_id, charter)
    except InvalidInput as error:
        raise BadChainAnswer(f"the chain poses {action.value} {object_id} in a form that cannot be: {error}") from error


def _slots(place: types_pb2.Planet | types_pb2.Fleet) -> tuple[str, ...]:
    return (*place.space, *place.air, *place.land, *place.water)


def _planet_of(location_type: int, location_id: str, what: str) -> str | None:
    if location_type != types_pb2.planet:
        return None
    return _checked_id(location_id, PLANET_TYPE, f"the location of {what}")


def _checked_id(text: str, object_type: int, what: str) -> str:
    try:
        return check_object_id(text, object_type, what)
    except InvalidInput as error:
        raise BadChainAnswer(str(error)) from error


def _check_same(answered: str, asked: str, what: str) -> None:
    if answered != asked:
        raise BadChainAnswer(f"asked for {what} {asked}, the chain answered with {answered[:40]!a}")


def _verb(action: Action) -> str:
    return action.value.lower()
