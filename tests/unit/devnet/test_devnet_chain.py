"""Mempool, blocks, indexes and simulation."""

from __future__ import annotations

import json

import pytest

import devnet.chain
from devnet.chain import Chain, MempoolRefusal
from devnet.scenario import genesis, load
from devnet.staging import Condition
from hashfleet.action import Action
from hashfleet.errors import InvalidInput

RIPE = 50_000
TANK, EXTRACTOR = 9, 14


@pytest.fixture
def tank(world):
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    return world


def solved(world, wallet):
    return wallet.completion(Action.BUILD, "5-1", *world.proof(Action.BUILD, "5-1", RIPE))


def test_admission_says_nothing_about_the_proof(tank, owner):
    _, admitted = tank.chain.broadcast(owner.sign(owner.completion(Action.BUILD, "5-1", "nonsense", "1")))
    assert admitted.code == 0


def test_a_transaction_is_found_by_its_hash_only_once_a_block_holds_it(tank, owner):
    hash_, _ = tank.chain.broadcast(owner.sign(solved(tank, owner)))
    assert tank.chain.find(hash_) is None
    tank.chain.produce_block()
    found = tank.chain.find(hash_)
    assert (found.height, found.index, found.result.code) == (100_001, 0, 0)


def test_the_same_bytes_twice_are_sdk_19_while_pending_and_after_success(tank, owner):
    raw = owner.sign(solved(tank, owner))
    tank.chain.broadcast(raw)
    with pytest.raises(MempoolRefusal) as pending:
        tank.chain.broadcast(raw)
    tank.chain.produce_block()
    with pytest.raises(MempoolRefusal) as committed:
        tank.chain.broadcast(raw)
    assert (pending.value.code, committed.value.code) == (19, 19)


def test_a_refused_transaction_may_be_offered_again(tank, owner):
    raw = owner.sign(solved(tank, owner), sequence=1)
    assert tank.chain.broadcast(raw)[1].code == 32
    assert tank.chain.broadcast(owner.sign(owner.completion(Action.BUILD, "5-9", "0", "1"), sequence=0))[1].code == 0
    assert tank.chain.broadcast(raw)[1].code == 0


def test_a_full_mempool_is_sdk_20(tank, owner, monkeypatch):
    monkeypatch.setattr(devnet.chain, "MEMPOOL_SIZE", 1)
    tank.chain.broadcast(owner.sign(solved(tank, owner)))
    with pytest.raises(MempoolRefusal) as refused:
        tank.chain.broadcast(b"another")
    assert (refused.value.codespace, refused.value.code) == ("sdk", 20)


def test_a_transaction_too_large_for_the_mempool_is_sdk_21(tank):
    with pytest.raises(MempoolRefusal) as refused:
        tank.chain.broadcast(bytes(1_048_577))
    assert (refused.value.codespace, refused.value.code) == ("sdk", 21)


def test_simulation_works_at_the_committed_height_and_keeps_nothing(world, owner):
    # Range 220 wants 4 zeros from age 171: reached by the next block, not yet by the last one.
    anchor = 100_001 - 171
    world.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=anchor))
    proof = world.proof(Action.BUILD, "5-1", anchor, zeros=4)
    raw = owner.sign(owner.completion(Action.BUILD, "5-1", *proof))
    assert world.chain.simulate(raw).code == 1800
    assert world.chain.state.accounts[owner.address].sequence == 0
    assert world.include(raw).code == 0


def test_simulation_needs_no_valid_signature_but_the_right_sequence(tank, owner):
    message = solved(tank, owner)
    assert tank.chain.simulate(owner.sign(message, chain_id="elsewhere", sequence=0)).code == 0
    assert tank.chain.simulate(owner.sign(message, sequence=5)).code == 32


def test_every_block_tells_its_time(world):
    world.chain.produce_block()  # carries what the stage was set with
    block = world.chain.produce_block()
    (event,) = block.events
    assert event.type == "structs.structs.EventTime"
    assert json.loads(event.attributes[0][1]) == {"blockHeight": "100002", "blockTime": block.time}


def test_header_times_rise_even_if_the_clock_runs_backwards():
    ticks = iter([100.0, 50.0, 50.0])
    state, height = genesis(load("empty"))
    chain = Chain("c-1", state, height, clock=lambda: next(ticks))
    times = [chain.last_block.time_ns, chain.produce_block().time_ns, chain.produce_block().time_ns]
    assert times == sorted(set(times))


def test_blocks_are_chained_by_hash(world):
    first, second = world.chain.produce_block(), world.chain.produce_block()
    assert second.last_hash == first.hash
    assert len({first.hash, second.hash}) == 2


def test_old_blocks_and_their_transactions_are_forgotten_together(tank, owner, monkeypatch):
    hash_, _ = tank.chain.broadcast(owner.sign(solved(tank, owner)))
    tank.chain.produce_block()
    monkeypatch.setattr(devnet.chain, "BLOCKS_KEPT", 2)
    tank.chain.produce_block()
    tank.chain.produce_block()
    assert (tank.chain.lowest_height, tank.chain.find(hash_)) == (100_002, None)


def test_an_edit_is_seen_at_once_and_its_events_come_with_the_next_block(world):
    world.stage(lambda stage: stage.add_struct("5-1", EXTRACTOR, "1-11", Condition.ONLINE, anchor=RIPE))
    world.chain.produce_block()
    world.stage(lambda stage: stage.set_anchor(Action.MINE, "5-1", 77_777))
    assert world.chain.state.structs["5-1"].block_start_ore_mine == 77_777
    told = [event.attributes[0][1] for event in world.chain.produce_block().events[1:]]
    assert [json.loads(text) for text in told] == [{"attributeId": "3-5-1", "value": "77777"}]


def test_an_edit_that_fails_leaves_nothing_behind(world):
    def half(stage):
        stage.add_struct("5-1", TANK, "1-11")
        stage.add_struct("5-1", TANK, "1-11")

    with pytest.raises(InvalidInput, match="5-1 is there already"):
        world.stage(half)
    assert "5-1" not in world.chain.state.structs


def test_an_edit_keeps_the_sequences_of_pending_transactions(tank, owner):
    tank.chain.broadcast(owner.sign(solved(tank, owner)))
    tank.stage(lambda stage: stage.set_player("1-11", ore=9))
    assert tank.chain.broadcast(owner.sign(owner.completion(Action.BUILD, "5-2", "0", "1")))[1].code == 0


def test_a_fault_in_a_handler_is_a_recovered_panic_and_the_chain_goes_on(tank, owner, monkeypatch):
    def broken(changes, message):
        raise ZeroDivisionError

    raw = owner.sign(solved(tank, owner))
    monkeypatch.setattr(devnet.chain, "execute", broken)
    result = tank.include(raw)
    assert (result.codespace, result.code) == ("undefined", 111222)
    assert tank.chain.produce_block().height == 100_002


@pytest.mark.parametrize("height", [0, -1, 2**31])
def test_a_start_height_out_of_bounds_is_refused(height):
    state, _ = genesis(load("empty"))
    with pytest.raises(InvalidInput, match="start height"):
        Chain("c-1", state, height)
