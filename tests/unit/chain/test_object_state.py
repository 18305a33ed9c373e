"""From query answers to work: what poses a puzzle, what waits, what is over, and what is no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator.chain import object_state
from coordinator.chain.object_state import (
    FleetState,
    PlanetState,
    StructState,
    TypeRanges,
    build_work,
    fleet_state,
    ore_work,
    planet_clock,
    planet_state,
    raid_work,
    stored_ore,
    struct_state,
    type_ranges,
)
from coordinator.chain.versions import ChainRules, rules_of
from hashfleet.action import Action, Work
from hashfleet.errors import BadChainAnswer, ChainError, WorkGone, WorkPaused
from hashfleet.rpc.structs.structs import query_pb2, types_pb2

V20, V21, V22 = rules_of("v0.20.0"), rules_of("v0.21.0"), rules_of("v0.22.0")
assert V20 and V21 and V22


def struct_answer(status: int = 7, **attributes: Any) -> query_pb2.QueryGetStructResponse:
    """Struct 5-14, an extractor on planet 2-9 as the interface notes show it."""
    flags = {"isBuilt": bool(status & 2), "isOnline": bool(status & 4), "isDestroyed": bool(status & 32)}
    clocks = {"blockStartBuild": 1283900, "blockStartOreMine": 1290000, "blockStartOreRefine": 1295000}
    return query_pb2.QueryGetStructResponse(
        Struct=types_pb2.Struct(
            id="5-14", index=14, type=14, owner="1-7", locationType=types_pb2.planet, locationId="2-9"
        ),
        structAttributes=types_pb2.StructAttributes(status=status, **{**flags, **clocks, **attributes}),
    )


def type_answer(**members: Any) -> query_pb2.QueryGetStructTypeResponse:
    usual = {"id": 14, "buildDifficulty": 700, "oreMiningDifficulty": 14000, "oreRefiningDifficulty": 28000}
    return query_pb2.QueryGetStructTypeResponse(StructType=types_pb2.StructType(**{**usual, **members}))


def planet_answer(ore: int = 5, shield: int = 75, raid: int = 1310000, **members: Any) -> Any:
    usual = {"id": "2-9", "locationListStart": "9-3", "locationListLast": "9-3"}
    return query_pb2.QueryGetPlanetResponse(
        Planet=types_pb2.Planet(**{**usual, **members}),
        gridAttributes=types_pb2.GridAttributes(ore=ore),
        planetAttributes=types_pb2.PlanetAttributes(planetaryShield=shield, blockStartRaid=raid),
    )


def fleet_answer(**members: Any) -> query_pb2.QueryGetFleetResponse:
    usual = {
        "id": "9-3",
        "owner": "1-3",
        "locationType": types_pb2.planet,
        "locationId": "2-9",
        "status": types_pb2.away,
    }
    return query_pb2.QueryGetFleetResponse(Fleet=types_pb2.Fleet(**{**usual, **members}))


def struct(status: int = 7, **attributes: Any) -> StructState:
    return struct_state(struct_answer(status, **attributes), "5-14")


def planet(**members: Any) -> PlanetState:
    return planet_state(planet_answer(**members), "2-9")


def fleet(**members: Any) -> FleetState:
    return fleet_state(fleet_answer(**members), "9-3")


RANGES = TypeRanges(14, 700, 14000, 28000)
QUIET = {"locationListStart": "", "locationListLast": ""}


# Build


def test_an_unbuilt_struct_poses_its_build() -> None:
    assert build_work(struct(status=1), RANGES) == Work(Action.BUILD, "5-14", 1283900, 700)


@pytest.mark.parametrize(
    ("status", "attributes", "expected"),
    [
        (3, {}, "already built"),
        (33, {}, "destroyed"),
        (35, {}, "destroyed"),
        (1, {"blockStartBuild": 0}, "build clock is not set"),
    ],
)
def test_a_build_that_is_over_is_gone(status: int, attributes: dict[str, int], expected: str) -> None:
    with pytest.raises(WorkGone, match=expected):
        build_work(struct(status, **attributes), RANGES)


# Ore


@pytest.mark.parametrize(
    ("action", "anchor", "expected"),
    [
        (Action.MINE, 1290000, Work(Action.MINE, "5-14", 1290000, 14000)),
        (Action.REFINE, 1295000, Work(Action.REFINE, "5-14", 1295000, 28000)),
    ],
)
def test_an_online_rig_with_ore_poses_its_work(action: Action, anchor: int, expected: Work) -> None:
    assert ore_work(action, struct(), RANGES, planet(**QUIET), 5, anchor, V21) == expected


@pytest.mark.parametrize("action", [Action.MINE, Action.REFINE])
@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (3, WorkPaused, "offline"),
        (1, WorkPaused, "not built yet"),
        (5, WorkPaused, "not built yet"),
        (39, WorkGone, "destroyed"),
    ],
)
def test_a_rig_that_does_not_run_poses_nothing(
    action: Action, status: int, error: type[ChainError], expected: str
) -> None:
    with pytest.raises(error, match=expected):
        ore_work(action, struct(status), RANGES, planet(**QUIET), 5, 1290000, V20)


@pytest.mark.parametrize(("action", "whose"), [(Action.MINE, "planet 2-9"), (Action.REFINE, "player 1-7")])
def test_work_without_ore_is_gone_and_says_whose_ore(action: Action, whose: str) -> None:
    with pytest.raises(WorkGone, match=f"{whose} has no ore"):
        ore_work(action, struct(), RANGES, planet(**QUIET), 0, 1290000, V20)


@pytest.mark.parametrize("rules", [V20, V21, V22])
def test_mining_a_complete_planet_is_gone_and_refining_there_waits(rules: ChainRules) -> None:
    complete = planet(status=types_pb2.complete, **QUIET)
    with pytest.raises(WorkGone, match="complete"):
        ore_work(Action.MINE, struct(), RANGES, complete, 5, 1290000, rules)
    with pytest.raises(WorkPaused, match="planet 2-9 is complete; to refine there stands still"):
        ore_work(Action.REFINE, struct(), RANGES, complete, 5, 1290000, rules)


def test_refining_without_ore_on_a_complete_planet_is_gone_and_waits_for_nothing() -> None:
    complete = planet(status=types_pb2.complete, **QUIET)
    with pytest.raises(WorkGone, match="player 1-7 has no ore"):
        ore_work(Action.REFINE, struct(), RANGES, complete, 0, 1290000, V20)


def test_a_raided_planet_pauses_ore_work_from_v0_21_on_only() -> None:
    assert ore_work(Action.MINE, struct(), RANGES, planet(), 5, 1290000, V20).anchor == 1290000
    for rules in (V21, V22):
        with pytest.raises(WorkPaused, match="under raid by fleet 9-3"):
            ore_work(Action.MINE, struct(), RANGES, planet(), 5, 1290000, rules)


@pytest.mark.parametrize("action", [Action.MINE, Action.REFINE])
def test_an_ore_clock_at_0_is_never_hashed(action: Action) -> None:
    with pytest.raises(WorkPaused, match="not running"):
        ore_work(action, struct(), RANGES, planet(**QUIET), 5, 0, V20)


@pytest.mark.parametrize(
    ("action", "ranges"),
    [(Action.MINE, TypeRanges(14, 700, 0, 28000)), (Action.REFINE, TypeRanges(14, 700, 14000, 0))],
)
def test_a_type_without_the_system_is_gone(action: Action, ranges: TypeRanges) -> None:
    with pytest.raises(WorkGone, match="type 14, which cannot"):
        ore_work(action, struct(), ranges, planet(**QUIET), 5, 1290000, V20)


def test_a_range_of_1_is_a_bad_answer() -> None:
    with pytest.raises(BadChainAnswer, match="range is 1"):
        ore_work(Action.MINE, struct(), TypeRanges(14, 700, 1, 1), planet(**QUIET), 5, 1290000, V20)


def test_a_rig_aboard_a_fleet_is_gone() -> None:
    answer = struct_answer()
    answer.Struct.locationType, answer.Struct.locationId = types_pb2.fleet, "9-7"
    with pytest.raises(WorkGone, match="on no planet"):
        object_state.ore_planet(Action.MINE, struct_state(answer, "5-14"))


# Raid


def test_the_first_fleet_away_poses_a_raid_of_the_planet_where_it_stands() -> None:
    assert raid_work(fleet(), planet(), V21) == Work(Action.RAID, "9-3", 1310000, 75, "2-9")


@pytest.mark.parametrize(
    ("of_fleet", "of_planet", "error", "expected"),
    [
        ({"status": types_pb2.onStation}, {}, WorkGone, "on station"),
        ({"locationType": types_pb2.fleet}, {}, WorkGone, "at no planet"),
        ({"locationListForward": "9-8"}, {}, WorkPaused, "behind fleet 9-8"),
        ({}, {"locationListStart": "9-8"}, WorkPaused, "fleet 9-8 first"),
        ({}, {"locationListStart": ""}, WorkPaused, "no fleet first"),
        ({}, {"raid": 0}, WorkPaused, "shields are up"),
        ({}, {"shield": 0}, WorkPaused, "shield 0"),
        ({}, {"shield": 1}, WorkPaused, "shield 1"),
    ],
)
def test_a_raid_that_cannot_be_completed_says_why(
    of_fleet: dict[str, Any], of_planet: dict[str, Any], error: type[ChainError], expected: str
) -> None:
    with pytest.raises(error, match=expected):
        raid_work(fleet(**of_fleet), planet(**of_planet), V21)


def test_a_complete_planet_cannot_be_raided_from_v0_22_on_only() -> None:
    complete = planet(status=types_pb2.complete)
    assert raid_work(fleet(), complete, V21).target_id == "2-9"
    with pytest.raises(WorkGone, match="complete"):
        raid_work(fleet(), complete, V22)


# Answers that are none


def spoiled(answer: Any, spoil: Callable[[Any], object]) -> Any:
    spoil(answer)
    return answer


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda a: a.ClearField("structAttributes"), "lacks"),
        (lambda a: a.ClearField("Struct"), "lacks"),
        (lambda a: setattr(a.Struct, "id", "5-15"), "asked for struct 5-14"),
        (lambda a: setattr(a.Struct, "id", ""), "asked for struct 5-14"),
        (lambda a: setattr(a.Struct, "type", 0), "no type"),
        (lambda a: setattr(a.Struct, "owner", ""), "owner"),
        (lambda a: setattr(a.Struct, "owner", "2-7"), "owner"),
        (lambda a: setattr(a.Struct, "locationId", ""), "location"),
        (lambda a: setattr(a.structAttributes, "isBuilt", False), "contradicts"),
        (lambda a: setattr(a.structAttributes, "isOnline", False), "contradicts"),
        (lambda a: setattr(a.structAttributes, "isDestroyed", True), "contradicts"),
        (lambda a: setattr(a.structAttributes, "status", 0), "contradicts"),
    ],
)
def test_a_struct_answer_that_lacks_or_garbles_something_is_refused(
    spoil: Callable[[Any], object], expected: str
) -> None:
    with pytest.raises(BadChainAnswer, match=expected):
        struct_state(spoiled(struct_answer(), spoil), "5-14")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda a: a.ClearField("StructType"), "lacks"),
        (lambda a: setattr(a.StructType, "id", 15), "answered with 15"),
        (lambda a: setattr(a.StructType, "buildDifficulty", 0), "build difficulty 0"),
        (lambda a: setattr(a.StructType, "buildDifficulty", 1), "build difficulty 1"),
    ],
)
def test_a_type_answer_that_lacks_or_garbles_something_is_refused(
    spoil: Callable[[Any], object], expected: str
) -> None:
    with pytest.raises(BadChainAnswer, match=expected):
        type_ranges(spoiled(type_answer(), spoil), 14)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda a: a.ClearField("Planet"), "lacks"),
        (lambda a: a.ClearField("gridAttributes"), "lacks"),
        (lambda a: a.ClearField("planetAttributes"), "lacks"),
        (lambda a: setattr(a.Planet, "id", "2-10"), "asked for planet 2-9"),
        (lambda a: setattr(a.Planet, "locationListStart", "5-3"), "first fleet"),
    ],
)
def test_a_planet_answer_that_lacks_or_garbles_something_is_refused(
    spoil: Callable[[Any], object], expected: str
) -> None:
    with pytest.raises(BadChainAnswer, match=expected):
        planet_state(spoiled(planet_answer(), spoil), "2-9")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda a: a.ClearField("Fleet"), "lacks"),
        (lambda a: setattr(a.Fleet, "id", "9-30"), "asked for fleet 9-3"),
        (lambda a: setattr(a.Fleet, "owner", "x"), "owner"),
        (lambda a: setattr(a.Fleet, "locationId", "9-9"), "location"),
        (lambda a: setattr(a.Fleet, "locationListForward", "?"), "before fleet"),
    ],
)
def test_a_fleet_answer_that_lacks_or_garbles_something_is_refused(
    spoil: Callable[[Any], object], expected: str
) -> None:
    with pytest.raises(BadChainAnswer, match=expected):
        fleet_state(spoiled(fleet_answer(), spoil), "9-3")


def test_a_player_answer_needs_the_player_and_its_grid() -> None:
    whole = query_pb2.QueryGetPlayerResponse(
        Player=types_pb2.Player(id="1-7"), gridAttributes=types_pb2.GridAttributes(ore=3)
    )
    assert stored_ore(whole, "1-7") == 3
    for without in ("Player", "gridAttributes"):
        answer = query_pb2.QueryGetPlayerResponse.FromString(whole.SerializeToString())
        answer.ClearField(without)  # type: ignore[arg-type]
        with pytest.raises(BadChainAnswer, match="lacks"):
            stored_ore(answer, "1-7")
    with pytest.raises(BadChainAnswer, match="asked for player 1-8"):
        stored_ore(whole, "1-8")


def test_an_empty_message_is_present_and_means_zero() -> None:
    answer = query_pb2.QueryGetPlanetResponse(
        Planet=types_pb2.Planet(id="2-9"),
        gridAttributes=types_pb2.GridAttributes(),
        planetAttributes=types_pb2.PlanetAttributes(),
    )
    received = query_pb2.QueryGetPlanetResponse.FromString(answer.SerializeToString())
    state = planet_state(received, "2-9")
    assert (state.ore, state.shield, state.raid_anchor, state.queue_head) == (0, 0, 0, "")


def test_a_height_beyond_any_chain_is_a_bad_answer() -> None:
    with pytest.raises(BadChainAnswer, match="block_start"):
        build_work(struct(status=1, blockStartBuild=2**31), RANGES)


# The spelling of planet clocks


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"plain": 2300000, "proto": 75}, ("plain", 2300000)),
        ({"plain": 75, "proto": 2300000}, ("proto", 2300000)),
        ({"plain": 2300000, "proto": 2300000}, ("plain", 2300000)),
        ({"plain": 0, "proto": 75}, ("plain", 0)),
    ],
)
def test_the_spelling_that_does_not_read_the_shield_is_the_right_one(
    answers: dict[str, int], expected: tuple[str, int]
) -> None:
    assert planet_clock("2-9", 75, answers) == expected


@pytest.mark.parametrize("answers", [{"plain": 75, "proto": 75}, {"plain": 2300000, "proto": 2299999}])
def test_a_clock_that_cannot_be_told_from_the_shield_is_a_bad_answer(answers: dict[str, int]) -> None:
    with pytest.raises(BadChainAnswer, match="cannot be told"):
        planet_clock("2-9", 75, answers)
