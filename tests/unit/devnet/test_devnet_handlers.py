"""What the completions demand and do."""

from __future__ import annotations

import hashlib

import pytest

from devnet.staging import Condition
from devnet.state import BASE_SHIELD, PERMISSION_HASH_BUILD, PERMISSION_HASH_RAID
from hashfleet.action import Action, prefix

RIPE = 100_000 - 50_000  # an anchor older than every range: difficulty 1
TANK, EXTRACTOR, REFINERY, BUNKER, FIELD_GENERATOR, COMMAND_SHIP = 9, 14, 15, 18, 20, 1


def code(result) -> tuple[str, int]:
    return result.codespace, result.code


@pytest.fixture
def rival(world, stranger):
    """Player 1-12 with its own key and 7 ore stored."""
    world.stage(lambda stage: stage.add_player("1-12", stranger.address, account_number=23, ore=7))
    return stranger


@pytest.fixture
def raid(world, rival):
    """The owner's fleet first in the queue at 2-12, the clock old."""
    world.stage(lambda stage: stage.send_fleet("9-11", "2-12", anchor=RIPE))


# build


def test_a_built_struct_is_built_and_online_and_its_ore_clock_starts(world):
    world.stage(lambda stage: stage.add_struct("5-1", EXTRACTOR, "1-11", anchor=RIPE))
    result = world.complete(Action.BUILD, "5-1", RIPE)
    struct = world.chain.state.structs["5-1"]
    assert result.code == 0, result.log
    assert (struct.built, struct.online, struct.block_start_ore_mine) == (True, True, 100_001)
    assert struct.block_start_build == RIPE  # completion leaves it


def test_a_struct_draws_power_while_it_is_online(world):
    loads = []
    for write in (
        lambda stage: stage.add_struct("5-1", TANK, "1-11", Condition.ONLINE),
        lambda stage: stage.set_condition("5-1", Condition.OFFLINE),
        lambda stage: stage.set_condition("5-1", Condition.ONLINE),
        lambda stage: stage.set_condition("5-1", Condition.DESTROYED),
    ):
        world.stage(write)
        loads.append(world.chain.state.players["1-11"].structs_load)
    assert loads == [50_000, 0, 50_000, 0]


def test_a_refinery_starts_the_refining_clock_only(world):
    world.stage(lambda stage: stage.add_struct("5-1", REFINERY, "1-11", anchor=RIPE))
    world.complete(Action.BUILD, "5-1", RIPE)
    struct = world.chain.state.structs["5-1"]
    assert (struct.block_start_ore_mine, struct.block_start_ore_refine) == (0, 100_001)


def test_a_build_tells_its_events_in_the_documented_shape(world, owner):
    world.stage(lambda stage: stage.add_struct("5-1", EXTRACTOR, "1-11", anchor=RIPE))
    result = world.complete(Action.BUILD, "5-1", RIPE)
    assert world.events(result, "EventHashSuccess") == [
        {"callerAddress": owner.address, "category": "build", "difficulty": "1", "objectId": "5-1", "planetId": ""}
    ]
    assert world.events(result, "EventStructAttribute") == [
        {"attributeId": "1-5-1", "value": "7"},
        {"attributeId": "3-5-1", "value": "100001"},
    ]


def test_a_struct_that_is_built_is_1250(world):
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", Condition.ONLINE))
    assert code(world.complete(Action.BUILD, "5-1", RIPE)) == ("structs", 1250)


def test_a_struct_that_is_not_there_is_1100(world):
    assert code(world.complete(Action.BUILD, "5-1", RIPE)) == ("structs", 1100)


def test_an_offline_owner_cannot_build_1201(world):
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    world.stage(lambda stage: stage.set_player("1-11", load=100_000_001))
    result = world.complete(Action.BUILD, "5-1", RIPE)
    assert code(result) == ("structs", 1201)
    assert "offline" in result.log


def test_an_owner_without_room_for_the_draw_cannot_build_1201(world):
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    world.stage(lambda stage: stage.set_player("1-11", load=100_000_000))
    result = world.complete(Action.BUILD, "5-1", RIPE)
    assert code(result) == ("structs", 1201)
    assert "capacity_exceeded" in result.log


def test_a_clock_in_the_future_is_1002(world):
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=200_000))
    assert code(world.complete(Action.BUILD, "5-1", 200_000)) == ("structs", 1002)


# the proof


def test_a_proof_for_another_anchor_is_1800_and_the_log_shows_the_chains_preimage(world):
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    result = world.complete(Action.BUILD, "5-1", RIPE - 1)
    assert code(result) == ("structs", 1800)
    assert f"work failure for input (5-1BUILD{RIPE}NONCE" in result.log
    assert "when trying to build on struct 5-1" in result.log


@pytest.mark.parametrize("spoil", [str.upper, lambda proof: "0x" + proof, lambda proof: proof[:-1]])
def test_a_proof_in_another_spelling_than_lower_case_hex_is_1800(world, owner, spoil):
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    proof, nonce = world.proof(Action.BUILD, "5-1", RIPE)
    result = world.include(owner.sign(owner.completion(Action.BUILD, "5-1", spoil(proof), nonce)))
    assert code(result) == ("structs", 1800)


def test_an_empty_nonce_is_hashed_like_any_other(world, owner):
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    result = world.include(owner.sign(owner.completion(Action.BUILD, "5-1", "0" * 64, "")))
    assert f"(5-1BUILD{RIPE}NONCE)" in result.log


def test_difficulty_is_that_of_the_including_block(world, owner):
    # Range 220 asks 4 zeros from age 171 on, and 5 before. At height 100,001 the age is 170.
    anchor = 100_001 - 170
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=anchor))
    proof, nonce = world.proof(Action.BUILD, "5-1", anchor, zeros=4)
    assert not proof.startswith("00000")
    too_early = world.include(owner.sign(owner.completion(Action.BUILD, "5-1", proof, nonce)))
    in_time = world.include(owner.sign(owner.completion(Action.BUILD, "5-1", proof, nonce)))
    assert (code(too_early), code(in_time)) == (("structs", 1800), ("", 0))


def test_a_raid_at_a_tie_wants_the_zero_more_that_go_asks(world, owner, raid, monkeypatch):
    """Range 125 at age 25: 23 zeros by Go, 22 by integers; a digest of 22 zeros is made up, as none can be found."""
    world.stage(lambda stage: stage.set_planet("2-12", shield=125))
    anchor = 100_001 - 25
    world.stage(lambda stage: stage.set_anchor(Action.RAID, "9-11", anchor))
    real = hashlib.sha256

    class TwentyTwo:
        def hexdigest(self):
            return "0" * 22 + "1" * 42

    def fake(data=b""):
        return TwentyTwo() if data == prefix(Action.RAID, "9-11", anchor, "2-12") + b"1" else real(data)

    monkeypatch.setattr("devnet.handlers.hashlib.sha256", fake)
    raw = owner.sign(owner.completion(Action.RAID, "9-11", "0" * 22 + "1" * 42, "1"))
    assert code(world.include(raw)) == ("structs", 1800)
    world.stage(lambda stage: stage.set_anchor(Action.RAID, "9-11", anchor))
    raw = owner.sign(owner.completion(Action.RAID, "9-11", "0" * 22 + "1" * 42, "1"))
    assert code(world.include(raw)) == ("", 0)  # age 26: 22 zeros are enough


# mine


def test_mining_moves_one_ore_and_resets_the_clock(world, owner):
    world.stage(lambda stage: stage.add_struct("5-1", EXTRACTOR, "1-11", Condition.ONLINE, anchor=RIPE))
    result = world.complete(Action.MINE, "5-1", RIPE)
    state = world.chain.state
    assert (state.planets["2-11"].ore, state.players["1-11"].ore) == (4, 3)
    assert state.structs["5-1"].block_start_ore_mine == 100_001
    assert world.events(result, "EventOreMine") == [
        {"playerId": "1-11", "primaryAddress": owner.address, "amount": "1"}
    ]
    assert world.events(result, "EventStructAttribute") == [{"attributeId": "3-5-1", "value": "100001"}]
    assert world.events(result, "EventGrid") == [
        {"attributeId": "0-2-11", "value": "4"},
        {"attributeId": "0-1-11", "value": "3"},
    ]


def test_the_same_proof_is_worth_nothing_after_the_clock_was_reset(world, owner):
    world.stage(lambda stage: stage.add_struct("5-1", EXTRACTOR, "1-11", Condition.ONLINE, anchor=RIPE))
    proof = world.proof(Action.MINE, "5-1", RIPE)
    first = world.include(owner.sign(owner.completion(Action.MINE, "5-1", *proof)))
    second = world.include(owner.sign(owner.completion(Action.MINE, "5-1", *proof)))
    assert (code(first), code(second)) == (("", 0), ("structs", 1800))


def test_an_offline_extractor_is_1250_and_its_clock_is_cleared(world):
    world.stage(lambda stage: stage.add_struct("5-1", EXTRACTOR, "1-11", Condition.ONLINE, anchor=RIPE))
    world.stage(lambda stage: stage.set_condition("5-1", Condition.OFFLINE))
    assert world.chain.state.structs["5-1"].block_start_ore_mine == 0
    assert code(world.complete(Action.MINE, "5-1", RIPE)) == ("structs", 1250)


def test_a_destroyed_extractor_is_1250(world):
    world.stage(lambda stage: stage.add_struct("5-1", EXTRACTOR, "1-11", Condition.ONLINE, anchor=RIPE))
    world.stage(lambda stage: stage.set_condition("5-1", Condition.DESTROYED))
    result = world.complete(Action.MINE, "5-1", RIPE)
    assert code(result) == ("structs", 1250)
    assert "destroyed" in result.log


def test_an_offline_owner_cannot_mine_1201(world):
    world.stage(lambda stage: stage.add_struct("5-1", EXTRACTOR, "1-11", Condition.ONLINE, anchor=RIPE))
    world.stage(lambda stage: stage.set_player("1-11", load=100_000_001))
    assert code(world.complete(Action.MINE, "5-1", RIPE)) == ("structs", 1201)


def test_a_struct_without_the_system_is_1260(world):
    world.stage(lambda stage: stage.add_struct("5-1", REFINERY, "1-11", Condition.ONLINE, anchor=RIPE))
    world.stage(lambda stage: stage.add_struct("5-2", EXTRACTOR, "1-11", Condition.ONLINE, anchor=RIPE))
    assert code(world.complete(Action.MINE, "5-1", RIPE)) == ("structs", 1260)
    assert code(world.complete(Action.REFINE, "5-2", RIPE)) == ("structs", 1260)


def test_an_empty_planet_is_1203(world):
    world.stage(lambda stage: stage.add_struct("5-1", EXTRACTOR, "1-11", Condition.ONLINE, anchor=RIPE))
    world.stage(lambda stage: stage.set_planet("2-11", ore=0))
    assert code(world.complete(Action.MINE, "5-1", RIPE)) == ("structs", 1203)


def test_a_complete_planet_is_1650(world):
    world.stage(lambda stage: stage.add_struct("5-1", EXTRACTOR, "1-11", Condition.ONLINE, anchor=RIPE))
    world.stage(lambda stage: stage.set_planet("2-11", complete=True))
    assert code(world.complete(Action.MINE, "5-1", RIPE)) == ("structs", 1650)


# refine


@pytest.mark.parametrize("version", ["v0.16", "v0.20", "v0.21", "v0.22"])
def test_refining_on_a_complete_planet_is_1650_as_mining_is(world_of, version):
    world = world_of(version)
    world.stage(lambda stage: stage.add_struct("5-1", REFINERY, "1-11", Condition.ONLINE, anchor=RIPE))
    world.stage(lambda stage: stage.set_planet("2-11", complete=True))
    assert code(world.complete(Action.REFINE, "5-1", RIPE)) == ("structs", 1650)
    assert world.chain.state.players["1-11"].ore == 2


def test_refining_turns_one_ore_into_alpha_for_the_primary_address_and_resets_the_clock(world, owner, stranger):
    world.stage(lambda stage: stage.add_struct("5-1", REFINERY, "1-11", Condition.ONLINE, anchor=RIPE))
    world.stage(lambda stage: stage.add_address(stranger.address, "1-11", 15_728_641, account_number=23))
    result = world.complete(Action.REFINE, "5-1", RIPE, wallet=stranger)
    state = world.chain.state
    assert state.players["1-11"].ore == 1
    assert (state.accounts[owner.address].ualpha, state.accounts[stranger.address].ualpha) == (1_000_000, 0)
    assert state.structs["5-1"].block_start_ore_refine == 100_001
    assert world.events(result, "EventAlphaRefine") == [
        {"playerId": "1-11", "primaryAddress": owner.address, "amount": "1"}
    ]


def test_a_player_without_ore_cannot_refine_1203(world):
    world.stage(lambda stage: stage.add_struct("5-1", REFINERY, "1-11", Condition.ONLINE, anchor=RIPE))
    world.stage(lambda stage: stage.set_player("1-11", ore=0))
    assert code(world.complete(Action.REFINE, "5-1", RIPE)) == ("structs", 1203)


# raid


def test_a_raid_takes_all_ore_sends_the_fleet_home_and_clears_the_clock(world, owner, rival, raid):
    result = world.complete(Action.RAID, "9-11", RIPE, "2-12")
    state = world.chain.state
    assert (state.players["1-11"].ore, state.players["1-12"].ore) == (9, 0)
    assert (state.fleets["9-11"].away, state.fleets["9-11"].location_id) == (False, "2-11")
    assert (state.planets["2-12"].queue, state.planets["2-12"].block_start_raid) == ((), 0)
    assert world.events(result, "EventRaid") == [
        {"fleetId": "9-11", "planetId": "2-12", "status": "raidSuccessful", "seized_ore": "7"}
    ]
    assert world.events(result, "EventHashSuccess")[0]["planetId"] == "2-12"
    assert world.events(result, "EventOreTheft") == [
        {
            "victimPrimaryAddress": rival.address,
            "victimPlayerId": "1-12",
            "thiefPrimaryAddress": owner.address,
            "thiefPlayerId": "1-11",
            "amount": "7",
        }
    ]
    assert {"attributeId": "10-2-12", "value": "0"} in world.events(result, "EventPlanetAttribute")


def test_a_fleet_at_home_is_1453(world, rival):
    result = world.complete(Action.RAID, "9-11", RIPE, "2-11")
    assert code(result) == ("structs", 1453)
    assert "on_station" in result.log


def test_a_fleet_behind_another_is_1453_until_it_is_promoted_and_inherits_the_clock(world, rival, raid):
    from_third = bytes(31) + b"\x09"
    third = type(world.owner)(from_third, number=31)
    world.stage(lambda stage: stage.add_player("1-13", third.address, account_number=31))
    world.stage(lambda stage: stage.send_fleet("9-13", "2-12"))
    blocked = world.complete(Action.RAID, "9-13", RIPE, "2-12", wallet=third)
    assert code(blocked) == ("structs", 1453)
    assert "not_first_in_queue" in blocked.log
    world.stage(lambda stage: stage.send_fleet("9-11", "2-11"))
    assert world.complete(Action.RAID, "9-13", RIPE, "2-12", wallet=third).code == 0


def test_an_offline_raider_is_1201(world, raid):
    world.stage(lambda stage: stage.set_player("1-11", load=100_000_001))
    assert code(world.complete(Action.RAID, "9-11", RIPE, "2-12")) == ("structs", 1201)


def test_shields_are_active_while_the_defenders_command_ship_is_online(world, raid):
    world.stage(lambda stage: stage.add_struct("5-9", COMMAND_SHIP, "1-12", Condition.ONLINE))
    assert world.chain.state.planets["2-12"].block_start_raid == 0
    result = world.complete(Action.RAID, "9-11", RIPE, "2-12")
    assert code(result) == ("structs", 1650)
    assert "shields_active" in result.log


def test_the_raid_clock_starts_when_the_command_ship_goes_off_line(world, raid):
    world.stage(lambda stage: stage.add_struct("5-9", COMMAND_SHIP, "1-12", Condition.ONLINE))
    world.chain.produce_block()
    world.stage(lambda stage: stage.set_condition("5-9", Condition.OFFLINE))
    assert world.chain.state.planets["2-12"].block_start_raid == 100_001


def test_a_defending_fleet_that_is_away_leaves_its_planet_vulnerable(world, raid):
    world.stage(lambda stage: stage.add_struct("5-9", COMMAND_SHIP, "1-12", Condition.ONLINE))
    world.stage(lambda stage: stage.send_fleet("9-12", "2-11"))
    assert world.chain.state.planets["2-12"].block_start_raid == 100_000


def test_a_raid_clock_that_is_not_set_is_1650(world, raid):
    world.stage(lambda stage: stage.set_anchor(Action.RAID, "9-11", 0))
    result = world.complete(Action.RAID, "9-11", 0, "2-12")
    assert code(result) == ("structs", 1650)
    assert "raid_clock_unset" in result.log


def test_the_shield_is_read_at_inclusion(world, owner, raid):
    """A bunker that comes online while the transaction waits makes the same proof too weak."""
    anchor = 100_001 - 25  # age 25 at inclusion: one zero for a shield of 25
    world.stage(lambda stage: stage.set_anchor(Action.RAID, "9-11", anchor))
    proof = world.proof(Action.RAID, "9-11", anchor, "2-12")
    hash_, _ = world.chain.broadcast(owner.sign(owner.completion(Action.RAID, "9-11", *proof)))
    world.stage(lambda stage: stage.add_struct("5-9", BUNKER, "1-12", Condition.ONLINE))
    assert world.chain.state.planets["2-12"].shield == BASE_SHIELD + 50
    world.chain.produce_block()
    assert code(world.chain.find(hash_).result) == ("structs", 1800)


# permissions and atomicity


def test_another_player_needs_a_grant_on_the_owner(world, rival):
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    refused = world.complete(Action.BUILD, "5-1", RIPE, wallet=rival)
    world.stage(lambda stage: stage.grant("1-11", "1-12", PERMISSION_HASH_RAID))
    still_refused = world.complete(Action.BUILD, "5-1", RIPE, wallet=rival)
    world.stage(lambda stage: stage.grant("1-11", "1-12", PERMISSION_HASH_BUILD))
    granted = world.complete(Action.BUILD, "5-1", RIPE, wallet=rival)
    assert [code(r) for r in (refused, still_refused, granted)] == [("structs", 1100), ("structs", 1100), ("", 0)]


def test_a_failed_completion_burns_the_sequence_and_the_objects_slot(world, owner):
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    bad = owner.sign(owner.completion(Action.BUILD, "5-1", "0" * 64, "1"))
    assert code(world.include(bad)) == ("structs", 1800)
    assert world.chain.state.accounts[owner.address].sequence == 1
    assert not world.chain.state.structs["5-1"].built


def test_one_bad_message_takes_the_whole_transaction_back(world, owner):
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    world.stage(lambda stage: stage.add_struct("5-2", TANK, "1-11", anchor=RIPE))
    good = owner.completion(Action.BUILD, "5-1", *world.proof(Action.BUILD, "5-1", RIPE))
    bad = owner.completion(Action.BUILD, "5-2", "0" * 64, "1")
    result = world.include(owner.sign(good, bad))
    assert code(result) == ("structs", 1800)
    assert "message index: 1" in result.log
    assert not world.chain.state.structs["5-1"].built
    assert world.events(result, "EventHashSuccess") == []
