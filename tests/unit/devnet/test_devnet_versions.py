"""What the releases do differently, each on a chain that behaves like it."""

from __future__ import annotations

import json

import pytest

from devnet import charter
from devnet.node import Devnet
from devnet.rules import VERSIONS
from devnet.scenario import genesis, load
from devnet.staging import Condition
from devnet.state import PERMISSION_HASH_BUILD
from hashfleet.action import Action
from hashfleet.errors import InvalidInput

RIPE = 100_000 - 50_000
TANK, EXTRACTOR, BUNKER, COMMAND_SHIP = 9, 14, 18, 1
OLD, NUMBERED = ["v0.16"], ["v0.17", "v0.18", "v0.19", "v0.20", "v0.21", "v0.22"]


def code(result) -> tuple[str, int]:
    return result.codespace, result.code


def bogus(wallet, object_id="5-1", sequence=None):
    return wallet.sign(wallet.completion(Action.BUILD, object_id, "0", "1"), sequence=sequence)


# the ante handler


@pytest.mark.parametrize("version", OLD)
def test_v016_tells_its_ante_errors_as_plain_text_with_code_1(world_of, stranger, version):
    world = world_of(version)
    world.chain.state.accounts[stranger.address] = type(world.chain.state.accounts[world.owner.address])(
        stranger.address, stranger.number
    )
    result = world.chain.broadcast(bogus(stranger))[1]
    assert code(result) == ("undefined", 1)
    assert result.log.startswith("structs ante: ")


@pytest.mark.parametrize("version", NUMBERED)
def test_ante_errors_have_numbers_from_v017_on(world_of, stranger, version):
    world = world_of(version)
    world.stage(lambda stage: stage.add_address(stranger.address, "1-11", 1, account_number=23))
    assert code(world.chain.broadcast(bogus(stranger))[1]) == ("structs-ante", 2011)


def test_errors_of_the_sdk_are_numbered_in_v016_too(world_of, owner):
    assert code(world_of("v0.16").chain.broadcast(bogus(owner, sequence=7))[1]) == ("sdk", 32)


def test_v016_finds_a_second_proof_for_an_object_in_the_block_only(world_of, owner):
    world = world_of("v0.16")
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    first, second = bogus(owner), bogus(owner)
    sent = [world.chain.broadcast(raw) for raw in (first, second)]
    assert [result.code for _, result in sent] == [0, 0]
    results = [tx.result for tx in world.chain.produce_block().txs]
    assert [code(result) for result in results] == [("structs", 1800), ("undefined", 1)]
    assert world.chain.state.accounts[owner.address].sequence == 1


@pytest.mark.parametrize("version", NUMBERED)
def test_a_second_proof_for_an_object_is_refused_by_the_mempool_from_v017_on(world_of, owner, version):
    world = world_of(version)
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    assert world.chain.broadcast(bogus(owner))[1].code == 0
    assert code(world.chain.broadcast(bogus(owner))[1]) == ("structs-ante", 2031)


@pytest.mark.parametrize(("version", "taken"), [("v0.20", True), ("v0.21", False)])
def test_from_v021_on_only_who_may_complete_takes_the_slot(world_of, owner, stranger, version, taken):
    world = world_of(version)
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    world.stage(lambda stage: stage.add_player("1-12", stranger.address, account_number=23))
    assert world.chain.broadcast(bogus(stranger))[1].code == 0
    assert world.chain.broadcast(bogus(owner))[1].code == (2031 if taken else 0)


@pytest.mark.parametrize(("version", "admitted"), [("v0.21", True), ("v0.22", False)])
def test_from_v022_on_the_mempool_counts_a_players_messages_too(world_of, owner, stranger, version, admitted):
    world = world_of(version)
    world.stage(lambda stage: stage.add_address(stranger.address, "1-11", PERMISSION_HASH_BUILD, account_number=23))
    full = owner.sign(*(owner.completion(Action.BUILD, f"5-{n}", "0", "1") for n in range(1, 41)))
    assert world.chain.broadcast(full)[1].code == 0
    answer = world.chain.broadcast(bogus(stranger, "5-50"))[1]
    assert code(answer) == (("", 0) if admitted else ("structs-ante", 2040))


# difficulty, clocks, shields


@pytest.mark.parametrize(("version", "asked"), [("v0.21", 9), ("v0.22", 8)])
def test_difficulty_is_the_floats_until_v021_and_exact_from_v022_on(world_of, version, asked):
    world = world_of(version)
    world.stage(lambda stage: stage.set_charter(anchor=1, difficulty_range=1_953_125))
    assert charter.asked_zeros(world.chain.state, 390_626) == asked


@pytest.mark.parametrize(("version", "result"), [("v0.21", 0), ("v0.22", 1800)])
def test_a_range_of_1_asks_for_one_zero_until_v021_and_for_64_from_v022_on(world_of, stranger, version, result):
    world = world_of(version)
    world.stage(lambda stage: stage.add_player("1-12", stranger.address))
    world.stage(lambda stage: stage.send_fleet("9-11", "2-12", anchor=RIPE))
    world.stage(lambda stage: stage.set_planet("2-12", shield=1))
    assert world.complete(Action.RAID, "9-11", RIPE, "2-12").code == result


@pytest.mark.parametrize(("version", "bare", "guarded"), [("v0.16", 1500, 10_500), ("v0.18", 25, 75)])
def test_shields_count_in_thousands_before_v018_and_in_tens_after(world_of, version, bare, guarded):
    world = world_of(version)
    shields = [world.chain.state.planets["2-11"].shield]
    world.stage(lambda stage: stage.add_struct("5-1", BUNKER, "1-11", Condition.ONLINE))
    shields.append(world.chain.state.planets["2-11"].shield)
    assert shields == [bare, guarded]


def _besieged(world, stranger, *, defended: bool):
    """The owner's fleet at 2-12, whose Command Ship is on line or not."""
    world.stage(lambda stage: stage.add_player("1-12", stranger.address, ore=7))
    condition = Condition.ONLINE if defended else Condition.OFFLINE
    world.stage(lambda stage: stage.add_struct("5-9", COMMAND_SHIP, "1-12", condition))
    world.stage(lambda stage: stage.send_fleet("9-11", "2-12"))
    return world.chain.state.planets["2-12"]


@pytest.mark.parametrize("version", ["v0.16", "v0.17"])
def test_before_v018_a_raid_clock_runs_whatever_the_shields_and_stays_when_the_raid_is_over(
    world_of, stranger, version
):
    world = world_of(version)
    assert _besieged(world, stranger, defended=True).block_start_raid == 100_000
    world.stage(lambda stage: stage.set_anchor(Action.RAID, "9-11", RIPE))
    assert world.complete(Action.RAID, "9-11", RIPE, "2-12").code == 0
    assert world.chain.state.planets["2-12"].block_start_raid == RIPE


def test_before_v018_every_new_head_of_the_queue_starts_the_raid_clock_again(world_of, owner, stranger):
    world = world_of("v0.17")
    _besieged(world, stranger, defended=False)
    other = type(owner)(bytes(31) + b"\x09", number=40)
    world.stage(lambda stage: stage.add_player("1-13", other.address))
    world.stage(lambda stage: stage.send_fleet("9-13", "2-12"))
    world.chain.produce_block()
    assert world.chain.state.planets["2-12"].block_start_raid == 100_000
    world.stage(lambda stage: stage.send_fleet("9-11", "2-11"))
    assert world.chain.state.planets["2-12"].block_start_raid == 100_001


def test_before_v018_a_raid_clock_of_the_future_wraps_to_the_lowest_difficulty(world_of, stranger):
    world = world_of("v0.16")
    _besieged(world, stranger, defended=True)
    world.stage(lambda stage: stage.set_anchor(Action.RAID, "9-11", 200_000))
    assert world.complete(Action.RAID, "9-11", 200_000, "2-12").code == 0


def test_from_v018_on_a_raid_waits_for_the_shields_to_fall(world_of, stranger):
    world = world_of("v0.18")
    assert _besieged(world, stranger, defended=True).block_start_raid == 0
    result = world.complete(Action.RAID, "9-11", RIPE, "2-12")
    assert code(result) == ("structs", 1650)
    assert "shields_active" in result.log
    world.stage(lambda stage: stage.set_condition("5-9", Condition.OFFLINE))
    assert world.chain.state.planets["2-12"].block_start_raid == world.chain.height
    told = [event for event in world.chain.produce_block().events if event.type.endswith("EventRaid")]
    assert "shieldsVulnerable" in told[-1].attributes[0][1]


@pytest.mark.parametrize(("version", "vulnerable"), [("v0.18", False), ("v0.19", True)])
def test_a_defender_whose_fleet_is_away_is_vulnerable_from_v019_on(world_of, owner, stranger, version, vulnerable):
    world = world_of(version)
    _besieged(world, stranger, defended=True)
    other = type(owner)(bytes(31) + b"\x09", number=40)
    world.stage(lambda stage: stage.add_player("1-13", other.address))
    world.stage(lambda stage: stage.send_fleet("9-12", "2-13"))
    assert (world.chain.state.planets["2-12"].block_start_raid > 0) == vulnerable


@pytest.mark.parametrize(("version", "result"), [("v0.21", 0), ("v0.22", 1650)])
def test_only_an_active_planet_is_raided_from_v022_on(world_of, stranger, version, result):
    world = world_of(version)
    _besieged(world, stranger, defended=False)
    world.stage(lambda stage: stage.set_anchor(Action.RAID, "9-11", RIPE))
    world.stage(lambda stage: stage.set_planet("2-12", complete=True))
    assert world.complete(Action.RAID, "9-11", RIPE, "2-12").code == result


def test_a_queue_of_raiders_has_a_length_from_v021_on(world_of, owner, stranger):
    for version in ("v0.20", "v0.21"):
        world = world_of(version)
        _besieged(world, stranger, defended=False)
        other = type(owner)(bytes(31) + b"\x09", number=40)
        world.stage(lambda stage, other=other: stage.add_player("1-13", other.address))
        if version == "v0.20":
            world.stage(lambda stage: stage.send_fleet("9-13", "2-12"))
            continue
        with pytest.raises(InvalidInput, match="queue of planet 2-12 is full"):
            world.stage(lambda stage: stage.send_fleet("9-13", "2-12"))
        world.stage(lambda stage: stage.set_planet("2-12", extra_queue=1))
        world.stage(lambda stage: stage.send_fleet("9-13", "2-12"))
        assert world.chain.state.planets["2-12"].queue == ("9-11", "9-13")


@pytest.mark.parametrize(("version", "on_struct"), [("v0.20", True), ("v0.21", False), ("v0.22", False)])
def test_ore_clocks_are_the_structs_until_v020_and_the_planets_from_v021_on(world_of, version, on_struct):
    world = world_of(version)
    world.stage(lambda stage: stage.add_struct("5-1", EXTRACTOR, "1-11", Condition.ONLINE, anchor=RIPE))
    state = world.chain.state
    clocks = state.structs["5-1"].block_start_ore_mine, state.planets["2-11"].block_start_ore_mine
    assert clocks == ((RIPE, 0) if on_struct else (0, RIPE))
    assert world.complete(Action.MINE, "5-1", RIPE).code == 0


@pytest.mark.parametrize(
    ("version", "log"), [("v0.20", "work failure"), ("v0.21", "destroyed"), ("v0.22", "destroyed")]
)
def test_a_destroyed_building_is_refused_as_such_from_v021_on(world_of, version, log):
    world = world_of(version)
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    world.stage(lambda stage: stage.set_condition("5-1", Condition.DESTROYED))
    result = world.complete(Action.BUILD, "5-1", RIPE)
    assert result.code
    assert log in result.log


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_tells_itself_and_completes_a_build(world_of, version):
    world = world_of(version)
    assert world.chain.view().state.rules.release.startswith(version)
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    assert world.complete(Action.BUILD, "5-1", RIPE).code == 0


@pytest.mark.parametrize(("version", "anchor"), [("v0.16", 0), ("v0.20", 0), ("v0.21", 0), ("v0.22", 100_000)])
def test_an_unbuilt_struct_without_a_clock_gets_that_of_the_genesis_from_v022_on(tmp_path, owner, version, anchor):
    path = tmp_path / "scenario.json"
    structs = [{"id": "5-1", "type": TANK, "owner": "1-11", "anchor": 0}]
    structs.append({"id": "5-2", "type": TANK, "owner": "1-11", "anchor": 0, "condition": "online"})
    structs.append({"id": "5-3", "type": TANK, "owner": "1-11", "anchor": RIPE})
    path.write_text(json.dumps({"players": [{"id": "1-11", "address": owner.address}], "structs": structs}))
    state, _ = genesis(load(str(path)), 100_000, version)
    told = [state.structs[struct_id].block_start_build for struct_id in ("5-1", "5-2", "5-3")]
    assert told == [anchor, 0, RIPE]


def test_an_unbuilt_struct_of_an_old_genesis_is_of_the_age_of_the_chain(world_of):
    world = world_of("v0.21")
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=0))
    result = world.complete(Action.BUILD, "5-1", 0)
    assert world.events(result, "EventHashSuccess")[0]["difficulty"] == "1"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_demo_begins_on_every_version(version):
    node = Devnet(scenario_name="demo", version=version)
    assert node.chain.state.planets["2-12"].block_start_raid == 99_940


# an upgrade


def test_at_an_upgrades_block_the_clocks_are_the_planets_and_no_event_tells_it(world_of):
    world = world_of("v0.20")
    world.stage(lambda stage: stage.add_struct("5-1", EXTRACTOR, "1-11", Condition.ONLINE, anchor=RIPE))
    world.chain.produce_block()
    world.chain.plan_upgrade("v0.21")
    assert world.chain.view().state.rules.release == "v0.20.0"
    block = world.chain.produce_block()
    state = world.chain.view().state
    assert state.rules.release == "v0.21.0"
    assert (state.planets["2-11"].block_start_ore_mine, state.planets["2-11"].active_rigs) == (block.height, 1)
    assert state.charter.anchor == block.height
    assert {event.type for event in block.events} == {"structs.structs.EventTime"}  # as in every block
    assert world.complete(Action.MINE, "5-1", RIPE).code == 1800


@pytest.mark.parametrize(
    ("before", "after"), [("v0.17", "v0.18"), ("v0.21", "v0.20"), ("v0.20", "v0.20"), ("v0.20", "v9")]
)
def test_an_upgrade_that_is_not_played_is_refused(world_of, before, after):
    with pytest.raises(InvalidInput, match=f"cannot go from {before} to '{after}'"):
        world_of(before).chain.plan_upgrade(after)
