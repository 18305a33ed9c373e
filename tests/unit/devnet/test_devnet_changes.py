"""Whatever changes on the devnet is told by an event, and what a query lists is what stands there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devnet import records, state_file
from devnet.changes import Changes
from devnet.node import Devnet
from devnet.scenario import genesis, load
from devnet.staging import Condition, Stage
from hashfleet.action import Action
from hashfleet.errors import InvalidInput

COMMAND_SHIP, TANK, RIG = 1, 9, 14
HEIGHT = 100_000


class Told:
    """A chain's state, and the events of what was last done to it."""

    def __init__(self, version: str) -> None:
        self.state, _ = genesis(load("demo"), HEIGHT, version)

    def do(self, height: int = HEIGHT) -> Stage:
        changes = Changes(self.state, height)
        self.changes = changes
        return Stage(changes)

    def told(self, name: str) -> list[Any]:
        wanted = f"structs.structs.{name}"
        return [json.loads(event.attributes[0][1]) for event in self.changes.events if event.type == wanted]


@pytest.fixture
def chain() -> Told:
    return Told("v0.20")


@pytest.fixture
def v21() -> Told:
    return Told("v0.21")


@pytest.fixture
def newcomer(owner: Any) -> str:
    """An address that the demo does not have."""
    address: str = type(owner)(bytes(range(1, 33)), number=30).address
    return address


# Lists of structs


def planet(told: Told, planet_id: str = "2-11") -> Any:
    return records.planet_record(told.state, told.state.planets[planet_id])


def fleet(told: Told, fleet_id: str = "9-11") -> Any:
    return records.fleet_record(told.state, told.state.fleets[fleet_id])


def test_planets_and_fleets_list_their_structs_by_ambit(chain: Told) -> None:
    assert list(planet(chain).space) == ["5-108", "", "", ""]
    assert list(planet(chain).land) == ["5-101", "5-102", "5-104", "5-105", "5-106", "5-110"]
    assert list(planet(chain).water) == [""] * 4
    assert list(fleet(chain).land) == ["5-103", "", "", ""]
    assert list(fleet(chain).space) == ["5-107", "5-109", "", ""]


def test_a_command_ship_stands_apart_from_the_slots_from_the_start_of_its_build(chain: Told) -> None:
    chain.do().add_struct("5-300", COMMAND_SHIP, "1-11")
    assert fleet(chain).commandStruct == "5-300"
    assert "5-300" not in fleet(chain).space
    assert chain.told("EventFleet")[-1]["commandStruct"] == "5-300"


def test_a_new_struct_is_told_with_the_slot_it_takes(chain: Told) -> None:
    chain.do().add_struct("5-300", RIG, "1-11")
    assert chain.told("EventStruct")[0]["id"] == "5-300"
    assert "5-300" in chain.told("EventPlanet")[0]["land"]
    chain.do().add_struct("5-301", TANK, "1-11")
    assert "5-301" in chain.told("EventFleet")[0]["land"]


def test_a_destroyed_struct_leaves_its_slot(chain: Told) -> None:
    chain.do().set_condition("5-104", Condition.DESTROYED)
    assert "5-104" not in planet(chain).land
    assert "5-104" not in chain.told("EventPlanet")[0]["land"]
    assert {"attributeId": "1-5-104", "value": "35"} in chain.told("EventStructAttribute")


# Events


def test_what_a_struct_draws_is_told_of_its_player(chain: Told) -> None:
    load_before = chain.state.players["1-11"].structs_load
    chain.do().set_condition("5-104", Condition.OFFLINE)
    assert chain.told("EventGrid") == [{"attributeId": "4-1-11", "value": str(load_before - 500_000)}]


def test_a_load_set_from_outside_is_told(chain: Told) -> None:
    chain.do().set_player("1-11", load=7)
    assert chain.told("EventGrid") == [{"attributeId": "3-1-11", "value": "7"}]


def test_permissions_are_told_by_their_id(chain: Told, newcomer: str) -> None:
    chain.do().grant("1-11", "1-12", 1 << 20)
    assert chain.told("EventPermission") == [{"permissionId": "1-11@1-12", "value": "1048576"}]
    chain.do().add_address(newcomer, "1-11", 1)
    assert chain.told("EventPermission") == [{"permissionId": f"8-{newcomer}@0", "value": "1"}]


def test_a_raid_that_begins_is_told_once(chain: Told) -> None:
    chain.do().send_fleet("9-12", "2-11")
    raid = {"fleetId": "9-12", "planetId": "2-11", "status": "initiated", "seized_ore": "0"}
    assert chain.told("EventRaid") == [raid]
    assert chain.told("EventPlanet")[0]["locationListStart"] == "9-12"
    assert chain.told("EventFleet")[0]["status"] == "away"


def test_nobody_hears_how_a_chain_begins() -> None:
    changes = Changes(Told("v0.20").state, HEIGHT, silent=True)
    Stage(changes).set_player("1-11", ore=9)
    assert changes.events == []


# The ore clocks of v0.21


def test_before_v21_no_planet_has_an_ore_clock(chain: Told) -> None:
    home = chain.state.planets["2-11"]
    assert (home.block_start_ore_mine, home.active_rigs, home.block_raider_arrived) == (0, 0, 0)
    assert records.planet_attribute_number(chain.state, "blockStartOreMine") == 0


def test_a_planets_clock_starts_with_its_first_rig_and_not_with_the_second(v21: Told) -> None:
    stage = v21.do(HEIGHT + 5)
    stage.add_struct("5-300", RIG, "1-12", Condition.ONLINE)
    assert {"attributeId": "12-2-12", "value": str(HEIGHT + 5)} in v21.told("EventPlanetAttribute")
    v21.do(HEIGHT + 9).add_struct("5-301", RIG, "1-12", Condition.ONLINE)
    assert v21.state.planets["2-12"].block_start_ore_mine == HEIGHT + 5
    assert v21.told("EventPlanetAttribute") == [{"attributeId": "14-2-12", "value": "2"}]
    assert v21.state.structs["5-300"].block_start_ore_mine == 0


def test_a_planets_clock_goes_on_when_its_rigs_stop_and_starts_anew_with_the_next(v21: Told) -> None:
    clock = v21.state.planets["2-11"].block_start_ore_mine
    for rig in ("5-104", "5-106"):
        v21.do(HEIGHT + 5).set_condition(rig, Condition.OFFLINE)
    assert v21.state.planets["2-11"].block_start_ore_mine == clock
    v21.do(HEIGHT + 9).set_condition("5-104", Condition.ONLINE)
    assert v21.state.planets["2-11"].block_start_ore_mine == HEIGHT + 9


def test_mining_and_refining_have_clocks_of_their_own(v21: Told) -> None:
    v21.do().set_anchor(Action.REFINE, "5-105", 77_777)
    assert v21.told("EventPlanetAttribute") == [{"attributeId": "13-2-11", "value": "77777"}]


def test_a_raid_moves_the_ore_clocks_by_as_long_as_it_took(v21: Told) -> None:
    v21.do().set_anchor(Action.MINE, "5-104", 90_000)
    v21.do().set_anchor(Action.REFINE, "5-105", 80_000)
    v21.do(HEIGHT + 10).send_fleet("9-12", "2-11")
    assert {"attributeId": "11-2-11", "value": str(HEIGHT + 10)} in v21.told("EventPlanetAttribute")
    v21.do(HEIGHT + 40).send_fleet("9-12", "2-12")
    home = v21.state.planets["2-11"]
    assert (home.block_start_ore_mine, home.block_start_ore_refine, home.block_raider_arrived) == (90_030, 80_030, 0)
    assert {"attributeId": "12-2-11", "value": "90030"} in v21.told("EventPlanetAttribute")


def test_a_clock_that_starts_during_a_raid_is_as_old_as_the_peace_after_it(v21: Told) -> None:
    v21.do(HEIGHT + 10).send_fleet("9-12", "2-11")
    v21.do(HEIGHT + 20).set_anchor(Action.MINE, "5-104", HEIGHT + 20)
    v21.do(HEIGHT + 40).send_fleet("9-12", "2-12")
    assert v21.state.planets["2-11"].block_start_ore_mine == HEIGHT + 40


def test_a_raid_leaves_a_clock_that_no_struct_uses(v21: Told) -> None:
    v21.do().set_anchor(Action.REFINE, "5-105", 80_000)
    v21.do().set_condition("5-105", Condition.OFFLINE)
    v21.do(HEIGHT + 10).send_fleet("9-12", "2-11")
    v21.do(HEIGHT + 40).send_fleet("9-12", "2-12")
    assert v21.state.planets["2-11"].block_start_ore_refine == 80_000


def test_the_pause_lasts_until_the_last_raider_has_left(v21: Told, newcomer: str) -> None:
    v21.do().set_anchor(Action.MINE, "5-104", 90_000)
    v21.do().add_player("1-13", newcomer)
    v21.do().set_planet("2-11", extra_queue=1)
    v21.do(HEIGHT + 10).send_fleet("9-12", "2-11")
    v21.do(HEIGHT + 20).send_fleet("9-13", "2-11")
    v21.do(HEIGHT + 30).send_fleet("9-12", "2-12")
    assert v21.state.planets["2-11"].block_raider_arrived == HEIGHT + 10
    assert v21.state.planets["2-11"].block_start_ore_mine == 90_000
    v21.do(HEIGHT + 50).send_fleet("9-13", "2-13")
    assert v21.state.planets["2-11"].block_start_ore_mine == 90_040


# The version of a chain


def test_a_version_that_is_not_known_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"v0\.20 or v0\.21 or v0\.22"):
        Devnet(version="v0.15")


def test_a_kept_chain_stays_of_its_version(tmp_path: Any) -> None:
    path = tmp_path / "chain.json"
    state_file.write(path, Devnet(scenario_name="demo", version="v0.21").chain)
    assert Devnet(state_path=path).chain.state.rules.planet_clocks
    with pytest.raises(InvalidInput, match=r"holds a chain of v0\.21, not of v0\.20"):
        Devnet(state_path=path, version="v0.20")
