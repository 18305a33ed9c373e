"""What a lane promises, one promise per test."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from coordinator.core.job import TransactionState
from coordinator.store.protocol import StoreError
from coordinator.submission.aftermath import PAID
from coordinator.submission.attempt import AttemptState
from coordinator.submission.lane import Broadcast, GaveUp, Included, Lane, Paused, Rejected, Settings, Signed, Stale
from hashfleet.action import Action
from hashfleet.errors import BadChainAnswer, ChainUnavailable, InvalidInput, KeyProblem, WorkPaused

# A scene is what conftest.py sets up; pytest's importlib mode gives tests no way to name its type.
Scene = Any
#: The height at which a scene starts.
START = 130


# ---- the plain way -----------------------------------------------------------------------------------------------


async def test_a_proof_is_signed_stored_sent_and_confirmed(scene: Scene) -> None:
    await scene.submit(scene.pose(1))
    assert scene.of("pow_1") == ["Signed", "Broadcast"]
    await scene.block()
    assert scene.of("pow_1") == ["Signed", "Broadcast", "Included"]
    (row,) = scene.ledger.rows
    assert (row.state, row.height, row.code) == (AttemptState.INCLUDED, scene.chain.height, 0)
    told = scene.told[-1]
    assert told == Included("pow_1", told.transaction, scene.chain.height)
    assert (told.transaction.hash, told.transaction.state) == (row.tx_hash, TransactionState.INCLUDED)


async def test_the_signed_bytes_are_in_the_ledger_before_a_node_sees_them(scene: Scene) -> None:
    seen = []

    async def look(call: str) -> None:
        if call == "broadcast":
            seen.append([(row.state, row.tx_bytes) for row in scene.ledger.rows])

    scene.chain.interrupt = look
    await scene.submit(scene.pose(1))
    assert seen == [[(AttemptState.SIGNED, scene.chain.broadcasts[0])]]


async def test_a_proof_in_the_chain_is_not_sent_again(scene: Scene) -> None:
    await scene.submit(scene.pose(1))
    await scene.block(30)
    assert len(scene.chain.broadcasts) == 1
    assert (scene.lane.waiting, scene.lane.in_flight) == (0, 0)


async def test_an_inclusion_that_is_indexed_a_block_late_is_not_sent_again(scene: Scene) -> None:
    scene.chain.index_lag = 1
    await scene.submit(scene.pose(1))
    await scene.block(4)
    assert scene.included == ["pow_1"]
    assert len(scene.chain.broadcasts) == 1


async def test_the_same_submission_twice_is_one_transaction(scene: Scene) -> None:
    submission = scene.pose(1)
    await scene.submit(submission, submission)
    await scene.submit(submission)
    await scene.block(3)
    assert scene.chain.sent_objects() == ["5-1"]
    assert scene.included == ["pow_1"]


# ---- before signing ----------------------------------------------------------------------------------------------


async def test_a_moved_anchor_is_reported_stale_and_nothing_is_sent(scene: Scene) -> None:
    submission = scene.pose(1)
    scene.chain.rival_completes(Action.MINE, "5-1")
    await scene.submit(submission)
    assert scene.told == [Stale("pow_1", "the anchor of 5-1 moved from 100 to 130; a new search")]
    assert scene.chain.broadcasts == scene.ledger.rows == []


async def test_a_proof_below_the_present_difficulty_waits_for_its_block(scene: Scene) -> None:
    # At range 25 three zeros are enough from age 23 on: block 146, so the proof may be sent once 145 is committed.
    await scene.submit(scene.pose(1, zeros=3, anchor=123))
    while scene.chain.height < 144:
        await scene.block()
    assert scene.chain.broadcasts == []
    await scene.block()
    assert len(scene.chain.broadcasts) == 1
    await scene.block()
    assert scene.included == ["pow_1"]


async def test_a_range_that_rose_beyond_the_proof_is_reported_stale(scene: Scene) -> None:
    submission = scene.pose(1)
    scene.chain.works[Action.MINE, "5-1"] = replace(submission.work, range=5000)
    await scene.submit(submission)
    assert scene.of("pow_1") == ["Stale"]
    assert scene.chain.broadcasts == []


async def test_a_range_that_changed_but_still_takes_the_proof_is_sent(scene: Scene) -> None:
    submission = scene.pose(1)
    scene.chain.works[Action.MINE, "5-1"] = replace(submission.work, range=30)
    await scene.submit(submission)
    await scene.block()
    assert scene.included == ["pow_1"]
    assert scene.ledger.rows[0].work.range == 30


async def test_a_proof_of_other_work_is_void_and_nothing_is_sent(scene: Scene) -> None:
    await scene.submit(replace(scene.pose(1), proof=scene.pose(2).proof))
    assert scene.of("pow_1") == ["Stale"]
    assert scene.chain.broadcasts == []


async def test_work_that_is_gone_is_given_up(scene: Scene) -> None:
    submission = scene.pose(1, action=Action.BUILD)
    scene.chain.rival_completes(Action.BUILD, "5-1")
    await scene.submit(submission)
    assert scene.told == [GaveUp("pow_1", "5-1 is no more")]


async def test_paused_work_keeps_its_proof_and_is_tried_with_every_block(scene: Scene) -> None:
    submission = scene.pose(1)
    scene.chain.works[Action.MINE, "5-1"] = WorkPaused("5-1 is under raid")
    await scene.submit(submission)
    await scene.block(3)
    assert scene.told == [Paused("pow_1", "5-1 is under raid")]  # told once
    assert len(scene.chain.reads) == 4
    scene.chain.works[Action.MINE, "5-1"] = submission.work
    await scene.block(2)
    assert scene.included == ["pow_1"]


async def test_an_unreadable_answer_about_one_object_holds_up_no_other(scene: Scene) -> None:
    broken, sound = scene.pose(1), scene.pose(2)
    scene.chain.works[Action.MINE, "5-1"] = BadChainAnswer("the anchor of 5-1 is missing")
    await scene.submit(broken, sound)
    await scene.block()
    assert scene.included == ["pow_2"]
    assert scene.of("pow_1") == ["Paused"]


# ---- order and limits --------------------------------------------------------------------------------------------


async def test_five_are_sent_in_one_block_and_the_sixth_waits(scene: Scene) -> None:
    await scene.submit(*(scene.pose(number) for number in range(6)))
    assert scene.chain.sent_objects() == ["5-0", "5-1", "5-2", "5-3", "5-4"]
    assert [row.sequence for row in scene.ledger.rows] == [7, 8, 9, 10, 11]
    await scene.block()
    assert scene.chain.sent_objects()[5:] == ["5-5"]
    await scene.block()
    assert len(scene.included) == 6


async def test_40_ripe_proofs_are_in_the_chain_after_8_blocks(scene: Scene) -> None:
    await scene.submit(*(scene.pose(number) for number in range(40)))
    await scene.block(8)
    assert len(set(scene.included)) == 40
    assert len(scene.chain.broadcasts) == 40


async def test_the_smaller_priority_goes_first(scene: Scene) -> None:
    await scene.submit(*(scene.pose(number, priority=3) for number in range(6)))
    await scene.submit(scene.pose(6, priority=1))
    await scene.block()
    assert scene.chain.sent_objects()[5:] == ["5-6", "5-5"]


async def test_an_object_is_tried_once_per_block(scene: Scene) -> None:
    scene.chain.next_broadcasts.append(("structs-ante", 2031))
    await scene.submit(scene.pose(1))
    await scene.submit(scene.pose(1))
    assert len(scene.chain.broadcasts) == 1
    await scene.block()
    assert len(scene.chain.broadcasts) == 2


async def test_an_object_that_is_refused_again_and_again_does_not_hold_up_the_others(scene: Scene) -> None:
    scene.chain.next_broadcasts.extend([("structs-ante", 2031), ""])
    await scene.submit(scene.pose(1), scene.pose(2))
    await scene.block()
    assert scene.included == ["pow_2"]


async def test_objects_that_are_always_crowded_out_let_others_of_their_priority_pass(scene: Scene) -> None:
    scene.chain.crowded = {"5-0", "5-1", "5-2"}
    await scene.submit(*(scene.pose(number) for number in range(6)))
    await scene.block(4)
    assert set(scene.included) == {"pow_3", "pow_4", "pow_5"}


async def test_a_node_that_refuses_everything_is_asked_twice_a_block(scene: Scene) -> None:
    scene.chain.next_broadcasts.extend([("sdk", 20)] * 4)  # mempool full
    await scene.submit(*(scene.pose(number) for number in range(10)))
    assert len(scene.chain.broadcasts) == 2
    await scene.block()
    assert len(scene.chain.broadcasts) == 4
    await scene.block(3)
    assert len(set(scene.included)) == 10


# ---- uncertain answers and crashes -------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["lost before", "lost after"])
async def test_an_uncertain_broadcast_is_looked_up_and_then_sent_again_with_the_same_bytes(
    scene: Scene, lost: str
) -> None:
    scene.chain.includes = False
    scene.chain.next_broadcasts.append(lost)
    await scene.submit(scene.pose(1))
    await scene.block()
    assert len(scene.chain.broadcasts) == 2
    assert len(set(scene.chain.broadcasts)) == 1
    scene.chain.includes = True
    await scene.block()
    assert scene.included == ["pow_1"]
    assert len(scene.ledger.rows) == 1


async def test_an_uncertain_broadcast_that_landed_is_not_sent_again(scene: Scene) -> None:
    scene.chain.next_broadcasts.append("lost after")
    await scene.submit(scene.pose(1))
    await scene.block()
    assert scene.included == ["pow_1"]
    assert len(scene.chain.broadcasts) == 1


async def test_a_transaction_that_the_mempool_forgot_is_sent_again_with_the_same_bytes(scene: Scene) -> None:
    await scene.submit(scene.pose(1))
    scene.chain.mempool.clear()
    await scene.block(3)
    assert scene.included == ["pow_1"]
    assert len(scene.chain.broadcasts) == 2
    assert len(set(scene.chain.broadcasts)) == 1


async def test_an_admitted_transaction_is_given_two_blocks_before_it_is_offered_again(scene: Scene) -> None:
    scene.chain.includes = False
    await scene.submit(scene.pose(1))
    await scene.block()
    assert len(scene.chain.broadcasts) == 1
    await scene.block()
    assert len(scene.chain.broadcasts) == 2
    assert scene.of("pow_1") == ["Signed", "Broadcast"]


async def test_an_unreadable_look_up_of_one_transaction_holds_up_no_other(scene: Scene) -> None:
    await scene.submit(scene.pose(1), scene.pose(2))
    look_ups = []

    async def garble_the_first(call: str) -> None:
        if call == "find_transaction":
            look_ups.append(call)
            if len(look_ups) == 1:
                raise BadChainAnswer("the code is missing")

    scene.chain.interrupt = garble_the_first
    await scene.block()
    assert scene.included == ["pow_2"]
    await scene.block()
    assert scene.included == ["pow_2", "pow_1"]


async def test_a_crash_between_signing_and_broadcast_sends_the_stored_bytes(scene: Scene) -> None:
    class Crash(BaseException):
        pass

    async def crash(call: str) -> None:
        if call == "broadcast":
            raise Crash

    scene.chain.interrupt = crash
    with pytest.raises(Crash):
        await scene.submit(scene.pose(1))
    del scene.chain.interrupt
    scene.chain.interrupt = scene.ledger.interrupt
    (row,) = scene.ledger.rows
    assert scene.chain.broadcasts == []
    await scene.start()
    await scene.settle()
    assert scene.chain.broadcasts == [row.tx_bytes]
    await scene.block()
    assert scene.included == ["pow_1"]


async def test_after_a_restart_a_transaction_that_landed_meanwhile_is_reported(scene: Scene) -> None:
    await scene.submit(scene.pose(1))
    await scene.stop()
    scene.chain.commit()
    await scene.start()
    await scene.settle()
    assert scene.of("pow_1")[-1] == "Included"
    assert len(scene.chain.broadcasts) == 1


async def test_after_a_restart_the_coordinator_hears_of_the_live_transaction_again(scene: Scene) -> None:
    scene.chain.includes = False
    submission = scene.pose(1)
    await scene.submit(submission)
    scene.told.clear()
    await scene.restart()
    await scene.submit(submission)
    assert set(scene.of("pow_1")) == {"Broadcast"}
    assert len(set(scene.chain.broadcasts)) == 1


async def test_a_crash_between_ledger_and_coordinator_still_reports_the_inclusion(scene: Scene) -> None:
    submission = scene.pose(1)
    await scene.submit(submission)
    await scene.block()
    scene.told.clear()  # the coordinator crashed before it stored this
    await scene.restart()
    await scene.submit(submission)
    assert scene.of("pow_1") == ["Included"]
    assert len(scene.chain.broadcasts) == 1


async def test_the_ledger_is_believed_before_a_node_that_lags(scene: Scene) -> None:
    submission = scene.pose(1)
    await scene.submit(submission)
    await scene.block()
    scene.told.clear()
    scene.chain.works[Action.MINE, "5-1"] = submission.work  # a node that does not know of the inclusion yet
    await scene.restart()
    await scene.submit(submission)
    assert scene.of("pow_1") == ["Included"]
    assert len(scene.chain.broadcasts) == 1


async def test_after_a_restart_a_refusal_proves_nothing_about_the_stored_bytes(scene: Scene) -> None:
    scene.chain.includes = False
    scene.chain.next_broadcasts.append("lost after")
    await scene.submit(scene.pose(1))
    await scene.stop()
    scene.chain.next_broadcasts.append(("structs-ante", 2031))
    await scene.start()
    await scene.settle()
    assert [row.state.live for row in scene.ledger.rows] == [True]
    scene.chain.includes = True
    await scene.block()
    assert scene.included == ["pow_1"]


async def test_a_live_attempt_of_another_job_for_the_same_anchor_is_followed(scene: Scene) -> None:
    """One live attempt per anchor, whoever asked."""
    scene.chain.includes = False
    submission = scene.pose(1)
    await scene.submit(submission)
    await scene.stop()
    hidden, scene.ledger.live_attempts = scene.ledger.live_attempts, scene.ledger.attempts_of

    async def none() -> list[Any]:
        return []

    scene.ledger.live_attempts = none  # the lane starts without knowing of it, as with a key that was changed
    await scene.start()
    scene.ledger.live_attempts = hidden
    await scene.submit(replace(submission, job_id="pow_twin"))
    scene.chain.includes = True
    await scene.block()
    assert scene.included == ["pow_twin"]
    assert len(scene.ledger.rows) == 1
    assert len(set(scene.chain.broadcasts)) == 1


async def test_a_chain_that_does_not_answer_is_asked_again_with_the_next_block(scene: Scene) -> None:
    submission = scene.pose(1)
    scene.chain.trouble = ChainUnavailable("no endpoint answered")
    await scene.submit(submission)
    assert scene.told == []
    scene.chain.trouble = None
    await scene.block(2)
    assert scene.included == ["pow_1"]


async def test_a_ledger_that_cannot_be_written_stops_all_sending_until_it_can(scene: Scene) -> None:
    async def full(call: str) -> None:
        if call == "add_attempts":
            raise StoreError("the disk is full")

    healthy, scene.ledger.interrupt = scene.ledger.interrupt, full
    await scene.submit(scene.pose(1))
    await scene.block(2)
    assert scene.chain.broadcasts == []
    scene.ledger.interrupt = healthy
    await scene.block(2)
    assert scene.included == ["pow_1"]


async def test_an_account_that_does_not_exist_pauses_every_proof(scene: Scene) -> None:
    submission = scene.pose(1)
    scene.chain.trouble = KeyProblem("the account does not exist")
    await scene.submit(submission)
    await scene.block()
    assert scene.told == [Paused("pow_1", "the account does not exist")]
    scene.chain.trouble = None
    await scene.block(2)
    assert scene.included == ["pow_1"]


# ---- sequences ---------------------------------------------------------------------------------------------------


async def test_a_sequence_mismatch_resyncs_and_signs_anew(scene: Scene) -> None:
    scene.chain.foreign_pending = 1  # the owner plays with the same key
    await scene.submit(scene.pose(1))
    assert scene.of("pow_1") == ["Signed", "Rejected", "Signed", "Broadcast"]
    assert [(row.state, row.sequence) for row in scene.ledger.rows] == [
        (AttemptState.REJECTED, 7),
        (AttemptState.BROADCAST, 8),
    ]
    await scene.block()
    assert scene.included == ["pow_1"]


async def test_a_node_is_believed_once_a_block_about_the_sequence(scene: Scene) -> None:
    scene.chain.next_broadcasts.extend(["expect 8", "expect 9", "expect 10"])
    await scene.submit(*(scene.pose(number) for number in range(5)))
    assert [row.sequence for row in scene.ledger.rows] == [7, 8]
    await scene.block(3)
    assert len(scene.included) == 5


@pytest.mark.parametrize("order", ["expect 6", "expect 5000000"])
async def test_a_sequence_that_a_node_cannot_rightly_expect_is_not_believed(scene: Scene, order: str) -> None:
    scene.chain.next_broadcasts.append(order)
    await scene.submit(scene.pose(1))
    assert len(scene.chain.broadcasts) == 1
    await scene.block(2)
    assert [row.sequence for row in scene.ledger.rows] == [7, 7]
    assert scene.included == ["pow_1"]


async def test_after_a_sequence_mismatch_without_a_hint_nothing_more_is_signed_in_that_block(scene: Scene) -> None:
    scene.chain.next_broadcasts.append(("sdk", 32))
    await scene.submit(*(scene.pose(number) for number in range(5)))
    assert len(scene.chain.broadcasts) == 1
    await scene.block(2)
    assert len(scene.included) == 5


async def test_a_stolen_sequence_supersedes_the_attempt_and_signs_anew(scene: Scene) -> None:
    await scene.submit(scene.pose(1))
    scene.chain.mempool.clear()
    scene.chain.sequence += 1  # another transaction of this account landed in its place
    await scene.block(2)
    assert [(row.state, row.sequence) for row in scene.ledger.rows] == [
        (AttemptState.SUPERSEDED, 7),
        (AttemptState.BROADCAST, 8),
    ]
    await scene.block()
    assert scene.included == ["pow_1"]


async def test_a_refusal_of_bytes_that_a_node_may_hold_proves_nothing(scene: Scene) -> None:
    scene.chain.includes = False
    scene.chain.next_broadcasts.extend(["lost after", ("sdk", 32)])
    await scene.submit(scene.pose(1))
    await scene.block()
    assert scene.ledger.rows[0].state.live
    assert scene.ledger.rows[0].code == 32
    scene.chain.includes = True
    await scene.block()
    assert scene.included == ["pow_1"]
    assert len(scene.ledger.rows) == 1


async def test_a_gap_in_the_sequences_is_filled_first(scene: Scene) -> None:
    scene.chain.next_broadcasts.append(("structs-ante", 2031))
    await scene.submit(scene.pose(1), scene.pose(2))
    assert [(row.work.object_id, row.sequence) for row in scene.ledger.rows] == [("5-1", 7), ("5-2", 7)]


async def test_a_node_that_lags_does_not_take_the_sequence_back(scene: Scene) -> None:
    await scene.submit(scene.pose(1))
    await scene.block()
    scene.chain.sequence -= 1
    await scene.submit(scene.pose(2))
    assert scene.ledger.rows[-1].sequence == 8


# ---- the end of an attempt ---------------------------------------------------------------------------------------


async def test_a_timeout_that_passed_without_inclusion_supersedes_the_attempt_and_signs_anew(scene: Scene) -> None:
    await scene.submit(scene.pose(1))
    (first,) = scene.ledger.rows
    assert first.timeout_height == START + 20
    scene.chain.includes = False
    while scene.chain.height < START + 21:
        await scene.block()
        assert scene.ledger.rows[0].state.live
    assert len(set(scene.chain.broadcasts)) == 1
    scene.chain.includes = True
    await scene.block()
    assert [row.state for row in scene.ledger.rows] == [AttemptState.SUPERSEDED, AttemptState.BROADCAST]
    await scene.block()
    assert scene.included == ["pow_1"]


async def test_transactions_that_nodes_take_and_no_block_holds_raise_the_alarm_and_tell_the_job(scene: Scene) -> None:
    scene.chain.includes = False
    await scene.submit(*(scene.pose(number) for number in range(5)))
    await scene.block(22)
    told = [each for each in scene.told if isinstance(each, Rejected)]
    assert {each.job_id for each in told} == {f"pow_{number}" for number in range(5)}
    assert all(f"no block until its timeout at height {START + 20} holds it" in each.reason for each in told)
    (status,) = (scene.lane.status(),)
    assert (status.alarm, status.last_error) == ("", told[-1].reason)
    await scene.block(22)
    assert "10 of the last 10 transactions were rejected" in scene.lane.status().alarm


async def test_a_transaction_that_no_node_took_is_no_rejection(scene: Scene) -> None:
    scene.chain.next_broadcasts.extend(["lost before"] * 99)
    await scene.submit(scene.pose(1))
    await scene.block(22)
    assert scene.ledger.rows[0].state is AttemptState.SUPERSEDED
    assert not [each for each in scene.told if isinstance(each, Rejected)]


async def test_a_lagging_node_does_not_make_an_attempt_superseded(scene: Scene) -> None:
    await scene.submit(scene.pose(1))
    scene.chain.includes = False
    await scene.block(19)
    scene.lane.block_seen(START + 30)  # told by another node; the one that is asked is behind
    await scene.settle()
    assert [row.state for row in scene.ledger.rows] == [AttemptState.BROADCAST]


async def test_an_inclusion_that_shows_only_in_the_last_look_up_counts(scene: Scene) -> None:
    submission = scene.pose(1)
    await scene.submit(submission)
    scene.chain.index_lag = 99
    await scene.block()
    scene.chain.works[Action.MINE, "5-1"] = submission.work  # and the work is read from a node that lags

    async def indexed(call: str) -> None:
        if call == "latest_block":
            scene.chain.index_lag = 0

    scene.chain.interrupt = indexed
    await scene.block()
    assert scene.of("pow_1") == ["Signed", "Broadcast", "Included"]
    assert [row.state for row in scene.ledger.rows] == [AttemptState.INCLUDED]


async def test_a_transaction_that_lands_in_its_last_block_counts(scene: Scene) -> None:
    await scene.submit(scene.pose(1))
    scene.chain.includes = False
    await scene.block(19)
    scene.chain.includes = True
    await scene.block()
    assert scene.chain.height == scene.ledger.rows[0].timeout_height
    assert scene.included == ["pow_1"]


async def test_a_rival_that_was_faster_is_told_once_our_transaction_is_surely_not_the_cause(scene: Scene) -> None:
    scene.chain.next_broadcasts.append("lost before")
    await scene.submit(scene.pose(1))
    scene.chain.rival_completes(Action.MINE, "5-1")
    await scene.block()
    assert scene.of("pow_1") == ["Signed"]  # it may be our own success, not indexed yet
    await scene.block()
    assert scene.of("pow_1") == ["Signed", "Stale"]
    assert len(scene.chain.broadcasts) == 1  # a void proof is not sent again
    await scene.block(21)
    assert [row.state for row in scene.ledger.rows] == [AttemptState.SUPERSEDED]
    assert scene.lane.in_flight == 0


async def test_a_clock_that_our_own_transaction_moved_is_not_told_as_stale_however_late_the_index_is(
    scene: Scene,
) -> None:
    scene.chain.next_broadcasts.append("lost after")  # so that the work is read again before the bytes are sent again
    scene.chain.includes = False
    scene.chain.index_lag = 5
    await scene.submit(scene.pose(1))

    async def included_between_account_and_work(call: str) -> None:
        if call == "read_work" and not scene.chain.includes:
            scene.chain.includes = True
            scene.chain.commit()

    scene.chain.interrupt = included_between_account_and_work
    await scene.block(12)
    assert "Stale" not in scene.of("pow_1")
    assert scene.included == ["pow_1"]


async def test_a_void_transaction_does_not_hold_its_sequence(scene: Scene) -> None:
    scene.chain.next_broadcasts.append("lost before")
    await scene.submit(scene.pose(1))
    scene.chain.rival_completes(Action.MINE, "5-1")
    await scene.block()
    await scene.submit(scene.pose(2))
    await scene.block()
    assert scene.included == ["pow_2"]


async def test_the_job_of_a_void_transaction_can_be_submitted_with_its_new_anchor(scene: Scene) -> None:
    scene.chain.next_broadcasts.append("lost before")
    await scene.submit(scene.pose(1))
    scene.chain.rival_completes(Action.MINE, "5-1")
    await scene.block(2)
    await scene.submit(scene.pose(1, anchor=101))
    await scene.block(30)
    assert scene.of("pow_1") == ["Signed", "Stale", "Signed", "Broadcast", "Included"]


@pytest.mark.parametrize("known", ["before", "after", "never"])
async def test_after_a_restart_an_old_void_transaction_does_not_make_its_jobs_new_proof_stale(
    scene: Scene, known: str
) -> None:
    scene.chain.includes = False
    await scene.submit(scene.pose(1))
    scene.chain.mempool.clear()
    await scene.block(2)
    newer = scene.pose(1, anchor=101)
    scene.chain.mempool.clear()
    await scene.submit(newer)
    await scene.block()
    assert [row.state.live for row in scene.ledger.rows] == [True, True]
    await scene.stop()
    scene.chain.mempool.clear()
    scene.told.clear()
    lane = scene.make_lane()
    if known == "before":
        lane.submit(newer)
    await scene.start(lane)
    if known == "after":
        lane.submit(newer)
    await scene.block(6)
    scene.chain.includes = True
    await scene.block(3)
    assert "Stale" not in scene.of("pow_1")
    assert scene.included == ["pow_1"]


async def test_gone_work_is_reported_included_if_a_transaction_of_ours_did_it(scene: Scene) -> None:
    submission = scene.pose(1, action=Action.BUILD)
    scene.chain.index_lag = 10  # the look-ups learn of it long after its sequence was seen used
    await scene.submit(submission)
    await scene.block(9)
    assert [row.state for row in scene.ledger.rows] == [AttemptState.SUPERSEDED]
    await scene.block(2)
    assert scene.of("pow_1") == ["Signed", "Broadcast", "Included"]
    assert [row.state for row in scene.ledger.rows] == [AttemptState.INCLUDED]


# ---- what the chain says of a transaction ------------------------------------------------------------------------


async def test_a_proof_rejected_in_its_block_is_tried_again_while_the_anchor_stands(scene: Scene) -> None:
    scene.chain.next_results.append(("structs", 1800))
    await scene.submit(scene.pose(1))
    await scene.block(3)
    assert scene.of("pow_1") == ["Signed", "Broadcast", "Rejected", "Signed", "Broadcast", "Included"]
    first = scene.ledger.rows[0]
    assert (first.state, first.code, first.codespace, first.log) == (
        AttemptState.REJECTED,
        1800,
        "structs",
        "as executed",
    )


async def test_a_proof_rejected_in_its_block_is_stale_if_the_anchor_moved(scene: Scene) -> None:
    await scene.submit(scene.pose(1))
    scene.chain.rival_completes(Action.MINE, "5-1")
    await scene.block(2)
    assert scene.of("pow_1") == ["Signed", "Broadcast", "Rejected", "Stale"]


async def test_a_proof_that_fails_in_five_blocks_is_given_up(scene: Scene) -> None:
    scene.chain.next_results.extend([("structs", 1800)] * 9)
    await scene.submit(scene.pose(1))
    await scene.block(30)
    assert len(scene.chain.broadcasts) == 5
    assert scene.told[-1] == GaveUp(
        "pow_1",
        "the chain answered structs 1800: as executed (the chain rejected the proof: the chain did not say what it "
        "hashed)",
    )


@pytest.mark.parametrize(("codespace", "code"), [("structs-ante", 2040), ("structs-ante", 2031), ("sdk", 32)])
async def test_a_limit_per_block_or_a_sequence_never_costs_a_good_proof(
    scene: Scene, codespace: str, code: int
) -> None:
    scene.chain.next_results.extend([(codespace, code)] * 7)
    await scene.submit(scene.pose(1))
    await scene.block(80)
    assert len(scene.chain.broadcasts) == 6  # at growing distances
    assert scene.told[-1] == Paused("pow_1", f"the chain answered {codespace} {code}: as executed")
    await scene.block(130)
    assert scene.included == ["pow_1"]


async def test_a_chain_that_hashes_another_form_is_a_persons_matter_and_tried_once_more(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    submission = scene.pose(1)
    theirs = f"CHAINscripted-1|5-1MINE100NONCE{submission.proof.nonce}"
    scene.chain.logs["5-1"] = f"work failure for input ({theirs}) when trying to mine on struct 5-1"
    scene.chain.next_results.extend([("structs", 1800)] * 9)
    await scene.submit(submission)
    await scene.block()
    assert scene.of("pow_1")[-2:] == ["Rejected", "Paused"]
    with_reason = [line for line in caplog.messages if line.startswith("The operator should look at this")]
    assert len(with_reason) == 1
    assert "the chain hashes another form of preimage: CHAINscripted-1|5-1MINE100NONCE" in with_reason[0]
    assert "another form of preimage" in scene.lane.status().last_error
    await scene.block(40)
    assert len(scene.chain.broadcasts) == 2
    assert scene.of("pow_1")[-1] == "GaveUp"


@pytest.mark.parametrize(("codespace", "code"), [("structs", 1800), ("structs", 1600), ("structs", 1201), ("sdk", 11)])
async def test_a_founding_that_failed_in_a_block_is_paid_for_once(scene: Scene, codespace: str, code: int) -> None:
    scene.chain.next_results.extend([(codespace, code)] * 9)
    await scene.submit(scene.pose_charter("1-7", "1-7", ""))
    await scene.block(200)
    assert len(scene.chain.executed) == 1
    assert scene.told[-1] == GaveUp("pow_guild", scene.told[-1].reason)
    assert scene.told[-1].reason.startswith(f"the chain answered {codespace} {code}: as executed")
    assert scene.told[-1].reason.endswith(PAID)


@pytest.mark.parametrize(("codespace", "code"), [("sdk", 30), ("sdk", 32), ("structs-ante", 2040)])
async def test_a_founding_that_failed_before_its_fee_was_taken_is_sent_again(
    scene: Scene, codespace: str, code: int
) -> None:
    scene.chain.next_results.extend([(codespace, code)] * 6)
    await scene.submit(scene.pose_charter("1-7", "1-7", ""))
    await scene.block(400)
    assert scene.included == ["pow_guild"]


async def test_a_proof_is_not_given_up_however_often_its_transaction_comes_too_late(scene: Scene) -> None:
    scene.chain.next_results.extend([("sdk", 30)] * 9)
    await scene.submit(scene.pose(1))
    await scene.block(30)
    assert scene.included == ["pow_1"]


async def test_a_founding_that_came_too_early_is_sent_in_the_next_block(scene: Scene) -> None:
    submission = scene.pose_charter("1-7", "1-7", "")
    theirs = f"{submission.work.prefix.decode()}{submission.proof.nonce}"
    scene.chain.logs[""] = f"work failure for input ({theirs}) when trying to guild_charter on player 1-7"
    scene.chain.next_results.append(("structs", 1800))
    await scene.submit(submission)
    await scene.block(3)
    assert scene.included == ["pow_guild"]


async def test_a_founding_that_a_rival_outran_is_stale_and_not_paid_for_again(scene: Scene) -> None:
    submission = scene.pose_charter("1-7", "1-7", "")
    theirs = f"{submission.work.prefix.decode()}{submission.proof.nonce}".replace("CHARTER100", "CHARTER131")
    scene.chain.logs[""] = f"work failure for input ({theirs}) when trying to guild_charter on player 1-7"
    await scene.submit(submission)
    scene.chain.rival_completes(Action.CHARTER, "1-7")
    await scene.block(3)
    assert len(scene.chain.executed) == 1
    assert scene.of("pow_guild")[-1] == "Stale"


async def test_a_founding_that_failed_before_a_crash_is_not_paid_for_again(scene: Scene) -> None:
    submission = scene.pose_charter("1-7", "1-7", "")
    scene.chain.next_results.extend([("structs", 1600)] * 9)

    async def crash(call: str) -> None:
        if scene.chain.executed and call == "update_attempts done":
            raise ChainUnavailable("and the process is gone")

    await scene.submit(submission)
    scene.ledger.interrupt = crash
    await scene.block()
    assert scene.ledger.rows[0].state is AttemptState.REJECTED
    assert scene.of("pow_guild")[-1] == "Broadcast"
    scene.ledger.interrupt = scene.chain.interrupt
    await scene.restart()
    await scene.submit(submission)
    await scene.block(200)
    assert len(scene.chain.executed) == 1
    assert scene.told[-1].reason.endswith(PAID)


async def test_a_founding_that_failed_while_an_earlier_one_might_surface_is_not_paid_for_again(scene: Scene) -> None:
    scene.chain.includes = False
    await scene.submit(scene.pose_charter("1-7", "1-7", ""))
    scene.chain.mempool.clear()
    scene.chain.sequence += 1  # used by somebody else with the same key
    await scene.block(2)
    assert scene.ledger.rows[0].state is AttemptState.SUPERSEDED
    scene.chain.includes = True
    scene.chain.next_results.extend([("structs", 1600)] * 9)
    await scene.block(200)
    assert len(scene.chain.executed) == 1
    assert scene.told[-1].reason.endswith(PAID)


async def test_a_founding_that_fails_for_a_rival_after_a_restart_is_stale(scene: Scene) -> None:
    submission = scene.pose_charter("1-7", "1-7", "")
    theirs = f"{submission.work.prefix.decode()}{submission.proof.nonce}".replace("CHARTER100", "CHARTER131")
    scene.chain.logs[""] = f"work failure for input ({theirs}) when trying to guild_charter on player 1-7"
    await scene.submit(submission)
    await scene.restart()
    await scene.submit(submission)
    scene.chain.rival_completes(Action.CHARTER, "1-7")
    await scene.block(3)
    assert len(scene.chain.executed) == 1
    assert scene.of("pow_guild")[-1] == "Stale"


async def test_a_transaction_that_was_withheld_for_a_void_proof_raises_no_alarm(scene: Scene) -> None:
    scene.chain.includes = False
    await scene.submit(*(scene.pose(number) for number in range(10)))
    await scene.block()
    scene.chain.mempool.clear()
    for number in range(10):
        scene.chain.rival_completes(Action.MINE, f"5-{number}")
    await scene.block(30)
    assert {scene.of(f"pow_{number}")[-1] for number in range(10)} == {"Stale"}
    assert (scene.lane.status().alarm, scene.lane.status().last_error) == ("", "")


async def test_what_ran_out_of_time_while_nobody_ran_raises_no_alarm(scene: Scene) -> None:
    submissions = [scene.pose(number) for number in range(10)]
    scene.chain.includes = False
    await scene.submit(*submissions)
    await scene.block()
    await scene.stop()
    scene.chain.mempool.clear()
    scene.chain.height += 100
    scene.chain.includes = True
    await scene.start()
    await scene.submit(*submissions)
    assert AttemptState.SUPERSEDED in {row.state for row in scene.ledger.rows}
    assert scene.lane.status().alarm == ""
    await scene.block(3)
    assert len(set(scene.included)) == 10


async def test_a_refusal_for_good_gives_up(scene: Scene) -> None:
    scene.chain.next_results.append(("structs", 1250))
    await scene.submit(scene.pose(1))
    await scene.block(2)
    assert scene.of("pow_1") == ["Signed", "Broadcast", "Rejected", "GaveUp"]
    assert scene.lane.waiting == 0


async def test_an_object_that_cannot_take_the_proof_now_is_tried_after_growing_pauses(scene: Scene) -> None:
    scene.chain.next_results.extend([("structs", 1201)] * 3)
    await scene.submit(scene.pose(1))
    heights = []
    while not scene.included:
        sent = len(scene.chain.broadcasts)
        await scene.block()
        if len(scene.chain.broadcasts) > sent:
            heights.append(scene.chain.height)
    assert heights == [START + 1 + 2, START + 3 + 1 + 4, START + 8 + 1 + 8]
    assert [outcome for outcome in scene.told if isinstance(outcome, Paused)] == [
        Paused("pow_1", "the chain answered structs 1201: as executed")
    ] * 3


async def test_a_key_without_permission_keeps_the_proof_and_alerts_the_operator(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.chain.next_broadcasts.append(("structs-ante", 2011))
    with caplog.at_level(logging.ERROR):
        await scene.submit(scene.pose(1))
    assert "The operator should look at this" in caplog.text
    assert scene.of("pow_1") == ["Signed", "Rejected", "Paused"]
    await scene.block(3)
    assert scene.included == ["pow_1"]  # once it is granted


async def test_logs_and_outcomes_never_hold_the_key(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.chain.next_broadcasts.extend([("sdk", 4), "lost before"])
    with caplog.at_level(logging.DEBUG):
        await scene.submit(scene.pose(1))
        await scene.block(6)
    secret = bytes(range(1, 33))
    shown = caplog.text + repr(scene.told) + repr(scene.ledger.rows)
    assert secret.hex() not in shown.lower()
    assert repr(secret)[2:-1] not in shown


async def test_an_outcome_that_the_coordinator_refuses_does_not_stop_the_lane(scene: Scene) -> None:
    told, hear = [], scene._hear

    async def refuse(outcome: Any) -> None:
        told.append(outcome)
        raise InvalidInput("no such job")

    scene._hear = refuse
    await scene.restart()
    await scene.submit(scene.pose(1))
    await scene.block()
    assert [type(outcome) for outcome in told] == [Signed, Broadcast, Included]
    scene._hear = hear


def test_a_lane_needs_a_timeout(scene: Scene) -> None:
    with pytest.raises(InvalidInput, match="timeout_blocks is 0"):
        Lane(
            scene.chain,
            scene.store,
            scene.lane._key,
            clock=float,
            on_outcome=scene._hear,
            settings=Settings(timeout_blocks=0),
        )


async def test_a_rejected_transaction_is_shown_with_what_the_chain_said(scene: Scene) -> None:
    scene.chain.next_broadcasts.append(("structs-ante", 2031))
    await scene.submit(scene.pose(1))
    told = scene.told[-1]
    assert isinstance(told, Rejected)
    assert (told.transaction.state, told.transaction.message) == (TransactionState.REJECTED, "refused")
