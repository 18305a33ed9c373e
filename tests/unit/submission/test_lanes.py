"""Several signing accounts: who signs for what, and what happens when a key loses its right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coordinator.chain.client import SigningRight
from coordinator.submission.attempt import AttemptState
from coordinator.submission.keys import SigningKey
from coordinator.submission.lanes import NO_KEY
from coordinator.submission.outcome import GaveUp, Paused, Reassigned, Stale
from hashfleet.action import Action
from hashfleet.errors import InvalidInput, KeyProblem, WorkPaused

# A scene is what conftest.py sets up; pytest's importlib mode gives tests no way to name its type.
Scene = Any
FIRST, SECOND, THIRD = (SigningKey(bytes(range(start, start + 32))) for start in (1, 2, 3))
OWNER, DELEGATE = SigningRight("1-7", "1-7"), SigningRight("1-9", "1-7")
NO_SOLVER = "player 1-7 solved the charter, but no key of player 1-7 may sign any more; a new search"


# ---- the choice --------------------------------------------------------------------------------------------------


async def test_a_key_that_may_is_chosen(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND, THIRD)
    scene.chain.rights = {FIRST.address: KeyProblem("not registered")}
    assert await scene.lane.choose_signer(Action.MINE, "5-1") == SECOND.address


async def test_the_owners_key_goes_before_a_delegates(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND, THIRD)
    scene.chain.rights = {FIRST.address: DELEGATE, SECOND.address: DELEGATE, THIRD.address: OWNER}
    assert await scene.lane.choose_signer(Action.MINE, "5-1") == THIRD.address


@pytest.mark.parametrize("right", [OWNER, DELEGATE], ids=["owners", "delegates"])
async def test_keys_with_an_equal_right_take_turns(scene: Scene, right: SigningRight) -> None:
    await scene.run_lanes(FIRST, SECOND, THIRD)
    scene.chain.rights = {FIRST.address: right, SECOND.address: KeyProblem("not registered"), THIRD.address: right}
    chosen = [await scene.lane.choose_signer(Action.MINE, f"5-{number}") for number in range(4)]
    assert chosen == [FIRST.address, THIRD.address] * 2


async def test_asking_who_may_sign_is_no_turn(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    assert await scene.lane.who_may_sign(Action.MINE, "5-1") == (FIRST.address, SECOND.address)
    assert await scene.lane.choose_signer(Action.MINE, "5-1") == FIRST.address


async def test_a_work_keeps_its_key_as_long_as_no_other_goes_before_it(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND, THIRD)
    scene.chain.rights = {FIRST.address: DELEGATE, SECOND.address: DELEGATE, THIRD.address: KeyProblem("no right")}
    kept = [await scene.lane.choose_signer(Action.MINE, "5-1", SECOND.address) for _ in range(3)]
    assert kept == [SECOND.address] * 3
    scene.chain.rights[THIRD.address] = OWNER
    assert await scene.lane.choose_signer(Action.MINE, "5-1", SECOND.address) == THIRD.address


async def test_a_key_of_another_player_is_not_asked_about_once_the_owners_is_found(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    scene.chain.rights = {FIRST.address: OWNER, SECOND.address: DELEGATE}
    await scene.lane.who_may_sign(Action.MINE, "5-1")
    scene.chain.rights[SECOND.address] = AssertionError("it is known whose key it is")
    assert await scene.lane.who_may_sign(Action.MINE, "5-2") == (FIRST.address,)


async def test_where_no_key_may_the_reason_of_each_is_told(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    scene.chain.rights = {FIRST.address: KeyProblem("one lacks it"), SECOND.address: KeyProblem("two as well")}
    with pytest.raises(KeyProblem, match="no key may do it: one lacks it; two as well"):
        await scene.lane.choose_signer(Action.MINE, "5-1")


async def test_without_keys_work_waits_and_says_why(scene: Scene) -> None:
    await scene.stop()
    await scene.start(scene.make_lanes(()))
    with pytest.raises(WorkPaused, match="no key may sign"):
        await scene.lane.choose_signer(Action.MINE, "5-1")
    await scene.submit(scene.pose(1))
    assert scene.told == [Paused("pow_1", NO_KEY)]
    assert scene.chain.broadcasts == scene.ledger.rows == []


async def test_a_key_without_an_account_is_not_chosen_and_another_is(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    scene.chain.rights = {FIRST.address: OWNER, SECOND.address: DELEGATE}
    del scene.chain.sequences[FIRST.address]
    assert await scene.lane.who_may_sign(Action.MINE, "5-1") == (SECOND.address,)


async def test_a_work_whose_keys_have_no_account_yet_waits_and_says_why(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    scene.chain.rights = {SECOND.address: KeyProblem("not registered")}
    sequence = scene.chain.sequences.pop(FIRST.address)
    with pytest.raises(WorkPaused, match=f"^the account {FIRST.address} does not exist$"):
        await scene.lane.choose_signer(Action.MINE, "5-1")
    scene.chain.sequences[FIRST.address] = sequence
    assert await scene.lane.choose_signer(Action.MINE, "5-1") == FIRST.address


async def test_an_account_is_asked_for_once_and_not_for_each_job(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    calls: list[str] = []

    async def note(call: str) -> None:
        calls.append(call)

    scene.chain.interrupt = note
    for number in range(100):
        await scene.lane.choose_signer(Action.MINE, f"5-{number}")
    assert calls.count("account") == 2


def test_a_key_is_given_once(scene: Scene) -> None:
    with pytest.raises(InvalidInput, match="given twice"):
        scene.make_lanes((FIRST, FIRST))


# ---- a lane each -------------------------------------------------------------------------------------------------


async def test_each_proof_is_signed_by_the_key_that_was_chosen_for_it(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    await scene.submit(replace(scene.pose(1), signer=FIRST.address), replace(scene.pose(2), signer=SECOND.address))
    assert {sent.objects[0]: sent.address for sent in scene.chain.sent()} == {
        "5-1": FIRST.address,
        "5-2": SECOND.address,
    }
    await scene.block()
    assert sorted(scene.included) == ["pow_1", "pow_2"]


async def test_each_key_sends_its_five_per_block(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND, THIRD)
    for start, key in ((0, FIRST), (10, SECOND), (20, THIRD)):
        await scene.submit(*(replace(scene.pose(start + n), signer=key.address) for n in range(6)))
    assert len(scene.chain.broadcasts) == 15


async def test_keys_of_one_player_share_its_40_messages(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND, batch=40)
    await scene.lane.choose_signer(Action.MINE, "5-0")
    scene.chain.includes = False
    for start, key in ((0, FIRST), (100, SECOND)):
        await scene.submit(*(replace(scene.pose(start + n), signer=key.address) for n in range(30)))
    await scene.block(2)
    assert len(set(scene.chain.sent_objects())) == 40


async def test_keys_of_two_players_have_40_messages_each(scene: Scene) -> None:
    scene.chain.rights = {FIRST.address: OWNER, SECOND.address: DELEGATE}
    await scene.run_lanes(SECOND, FIRST, batch=40)
    await scene.lane.choose_signer(Action.MINE, "5-0")
    scene.chain.includes = False
    for start, key in ((0, FIRST), (100, SECOND)):
        await scene.submit(*(replace(scene.pose(start + n), signer=key.address) for n in range(30)))
    await scene.block(2)
    assert len(set(scene.chain.sent_objects())) == 60


async def test_a_proof_whose_key_is_gone_is_given_to_another(scene: Scene) -> None:
    await scene.run_lanes(SECOND)
    await scene.submit(replace(scene.pose(1), signer=FIRST.address))
    await scene.block()
    assert Reassigned("pow_1", SECOND.address) in scene.told
    assert scene.included == ["pow_1"]


async def test_a_live_transaction_of_a_key_that_is_gone_is_followed_and_nothing_else_is_signed(scene: Scene) -> None:
    scene.chain.includes = False
    submission = scene.pose(1)
    await scene.submit(submission)
    await scene.run_lanes(SECOND)
    await scene.submit(replace(submission, signer=SECOND.address))
    scene.chain.includes = True
    await scene.block(2)
    assert scene.included == ["pow_1"]
    assert {sent.address for sent in scene.chain.sent()} == {FIRST.address}
    assert len(set(scene.chain.broadcasts)) == 1


@pytest.mark.parametrize("known", [True, False], ids=["job restored", "in the ledger only"])
@pytest.mark.parametrize("failed", [True, False], ids=["failed in its block", "never in a block"])
async def test_a_proof_whose_key_is_gone_is_signed_by_one_that_may_once_its_transaction_has_ended(
    scene: Scene, failed: bool, known: bool
) -> None:
    submission = scene.pose(1)
    scene.chain.includes = False
    await scene.submit(submission)
    scene.chain.rights = {SECOND.address: KeyProblem("not registered"), THIRD.address: DELEGATE}
    await scene.run_lanes(SECOND, THIRD)
    if known:
        await scene.submit(submission)
    if failed:
        scene.chain.next_results.append(("structs", 1002))
    else:
        scene.chain.mempool.clear()
        scene.chain.sequence += 1
    scene.chain.includes = True
    await scene.block(6)
    assert Reassigned("pow_1", THIRD.address) in scene.told
    assert scene.included == ["pow_1"]
    assert [row.address for row in scene.ledger.rows] == [FIRST.address, THIRD.address]
    assert scene.lane.waiting == 0


async def test_a_proof_whose_key_is_gone_is_given_on_although_the_first_lane_has_no_account(scene: Scene) -> None:
    submission = scene.pose(1)
    scene.chain.includes = False
    await scene.submit(submission)
    scene.chain.sequences.pop(SECOND.address)
    scene.chain.rights = {SECOND.address: KeyProblem("not registered")}
    await scene.run_lanes(SECOND, THIRD)
    scene.chain.mempool.clear()
    scene.chain.sequence += 1
    scene.chain.includes = True
    await scene.block(6)
    assert scene.included == ["pow_1"]
    assert {row.address for row in scene.ledger.rows} == {FIRST.address, THIRD.address}


async def test_a_claim_that_is_on_its_way_under_one_key_is_not_signed_by_another(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    scene.chain.includes = False
    submission = replace(scene.pose(1), signer=FIRST.address)
    await scene.submit(submission)
    await scene.submit(replace(submission, signer=SECOND.address))
    scene.chain.includes = True
    await scene.block(2)
    assert scene.included == ["pow_1"]
    assert [sent.address for sent in scene.chain.sent()] == [FIRST.address]


async def test_a_key_that_lost_its_right_is_replaced_by_another_that_has_it(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    submission = replace(scene.pose(1), signer=FIRST.address)
    scene.chain.rights = {FIRST.address: KeyProblem("withdrawn")}
    await scene.submit(submission)
    await scene.block(2)
    assert Reassigned("pow_1", SECOND.address) in scene.told
    assert scene.included == ["pow_1"]
    assert [row.state for row in scene.ledger.rows] == [AttemptState.REJECTED, AttemptState.INCLUDED]


async def test_a_key_that_lost_its_right_keeps_the_proof_if_there_is_no_other(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    submission = replace(scene.pose(1), signer=FIRST.address)
    scene.chain.rights = {key.address: KeyProblem("withdrawn") for key in (FIRST, SECOND)}
    await scene.submit(submission)
    assert scene.of("pow_1")[-1] == "Paused"
    scene.chain.rights = {}
    await scene.block(4)
    assert scene.included == ["pow_1"]


async def test_v016s_one_code_for_every_refusal_means_another_key_if_the_right_is_gone(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    submission = replace(scene.pose(1), signer=FIRST.address)
    scene.chain.rights = {FIRST.address: KeyProblem("withdrawn")}
    scene.chain.next_broadcasts.append(("undefined", 1))
    await scene.submit(submission)
    await scene.block(2)
    assert scene.included == ["pow_1"]
    assert [row.code for row in scene.ledger.rows] == [1, 0]
    assert scene.ledger.rows[1].address == SECOND.address


async def test_v016s_one_code_for_every_refusal_means_the_next_block_if_the_right_is_there(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    scene.chain.next_broadcasts.append(("undefined", 1))
    await scene.submit(replace(scene.pose(1), signer=FIRST.address))
    await scene.block(2)
    assert scene.included == ["pow_1"]
    assert {row.address for row in scene.ledger.rows} == {FIRST.address}


async def test_a_prepared_row_of_a_crash_is_closed_and_the_proof_is_signed_anew(scene: Scene) -> None:
    class Crash(BaseException):
        pass

    async def crash(call: str) -> None:
        if call == "add_attempts done":
            raise Crash

    scene.ledger.interrupt = crash
    submission = scene.pose(1)
    with pytest.raises(Crash):
        await scene.submit(submission)
    assert [(row.state, row.tx_bytes) for row in scene.ledger.rows] == [(AttemptState.PREPARED, None)]
    scene.ledger.interrupt = scene.chain.interrupt
    await scene.start(scene.make_lanes((FIRST, SECOND)))
    await scene.submit(replace(submission, signer=SECOND.address))
    await scene.block()
    assert [row.state for row in scene.ledger.rows] == [AttemptState.SUPERSEDED, AttemptState.INCLUDED]
    assert scene.included == ["pow_1"]


# ---- charters: the puzzle names the player of the key --------------------------------------------------------------


async def test_a_charter_is_signed_by_a_key_of_the_player_who_solved_it(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    scene.chain.rights = {FIRST.address: OWNER, SECOND.address: DELEGATE}
    await scene.submit(scene.pose_charter("1-7", "1-7", FIRST.address))
    await scene.block()
    assert scene.included == ["pow_guild"]
    assert [sent.address for sent in scene.chain.sent()] == [FIRST.address]


async def test_a_charter_whose_key_lost_its_right_is_given_back_and_not_to_a_key_of_another_player(
    scene: Scene,
) -> None:
    await scene.run_lanes(FIRST, SECOND)
    scene.chain.rights = {FIRST.address: KeyProblem("withdrawn"), SECOND.address: DELEGATE}
    await scene.submit(scene.pose_charter("1-7", "1-7", FIRST.address))
    await scene.block(3)
    assert scene.told == [Stale("pow_guild", NO_SOLVER)]
    assert scene.chain.broadcasts == []
    assert await scene.lane.choose_signer(Action.CHARTER, "1-7", FIRST.address) == SECOND.address


async def test_a_charter_that_the_chain_refuses_its_key_is_given_back(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    scene.chain.rights = {FIRST.address: OWNER, SECOND.address: DELEGATE}

    async def withdrawn(call: str) -> None:
        if call == "broadcast":
            scene.chain.rights[FIRST.address] = KeyProblem("withdrawn")

    scene.chain.interrupt = withdrawn
    await scene.submit(scene.pose_charter("1-7", "1-7", FIRST.address))
    await scene.block(3)
    assert scene.of("pow_guild") == ["Signed", "Rejected", "Stale"]
    assert {sent.address for sent in scene.chain.sent()} == {FIRST.address}


async def test_a_charter_goes_to_another_key_of_its_solver(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND, THIRD)
    scene.chain.rights = {FIRST.address: KeyProblem("withdrawn"), SECOND.address: DELEGATE, THIRD.address: OWNER}
    await scene.submit(scene.pose_charter("1-7", "1-7", FIRST.address))
    await scene.block(2)
    assert Reassigned("pow_guild", THIRD.address) in scene.told
    assert scene.included == ["pow_guild"]
    assert {sent.address for sent in scene.chain.sent()} == {THIRD.address}


async def test_a_charter_goes_to_its_solvers_key_before_the_founders(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    scene.chain.rights = {FIRST.address: OWNER, SECOND.address: DELEGATE}
    await scene.submit(scene.pose_charter("1-7", "1-9", THIRD.address))
    await scene.block()
    assert Reassigned("pow_guild", SECOND.address) in scene.told


async def test_a_charter_whose_key_is_gone_is_given_back_where_no_key_of_its_solver_is_left(scene: Scene) -> None:
    await scene.run_lanes(SECOND)
    scene.chain.rights = {SECOND.address: DELEGATE}
    await scene.submit(scene.pose_charter("1-7", "1-7", FIRST.address))
    await scene.block(3)
    assert scene.told == [Stale("pow_guild", NO_SOLVER)]
    assert scene.chain.broadcasts == []
    assert scene.lane.waiting == 0


async def test_a_charter_that_landed_before_a_crash_is_told_although_its_key_is_gone(scene: Scene) -> None:
    scene.chain.rights = {FIRST.address: OWNER, SECOND.address: DELEGATE}
    submission = scene.pose_charter("1-7", "1-7", FIRST.address)
    await scene.run_lanes(FIRST)
    await scene.submit(submission)
    await scene.block()
    scene.told.clear()
    await scene.run_lanes(SECOND)
    await scene.submit(submission)
    await scene.block()
    assert scene.of("pow_guild") == ["Included"]


async def test_a_charter_whose_reactor_is_gone_is_given_up_before_it_is_paid_for(scene: Scene) -> None:
    await scene.run_lanes(FIRST)
    submission = scene.pose_charter("1-7", "1-7", FIRST.address)
    scene.chain.no_reactors = {submission.founding.reactor_id}
    await scene.submit(submission)
    assert scene.told == [GaveUp("pow_guild", "reactor 3-1 is no more")]
    assert scene.chain.broadcasts == []


async def test_a_charter_is_kept_while_no_key_at_all_may_sign_and_sent_once_its_own_may_again(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    scene.chain.rights = {key.address: KeyProblem("withdrawn") for key in (FIRST, SECOND)}
    await scene.submit(scene.pose_charter("1-7", "1-7", FIRST.address))
    assert scene.of("pow_guild") == ["Paused"]
    scene.chain.rights = {FIRST.address: OWNER, SECOND.address: DELEGATE}
    await scene.block(2)
    assert scene.included == ["pow_guild"]
    assert {sent.address for sent in scene.chain.sent()} == {FIRST.address}


# ---- the status --------------------------------------------------------------------------------------------------


async def test_the_status_counts_what_became_of_each_keys_proofs(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    assert await scene.lane.choose_signer(Action.MINE, "5-1") == FIRST.address
    scene.chain.next_results.append(("structs", 1250))
    await scene.submit(*(replace(scene.pose(n), signer=FIRST.address) for n in range(7)))
    one, other = scene.lane.status()
    assert (one.address, one.player_id, one.in_flight, one.waiting) == (FIRST.address, "1-7", 5, 2)
    await scene.block(3)
    one, other = scene.lane.status()
    assert (one.included, one.rejected, one.in_flight, one.waiting) == (6, 1, 0, 0)
    assert "1250" in one.last_error
    assert (other.included, other.rejected, other.last_error) == (0, 0, "")


async def test_many_rejections_raise_an_alarm_that_is_logged_once_and_withdrawn(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.run_lanes(FIRST)
    scene.chain.next_results.extend([("structs", 1250)] * 12)
    await scene.submit(*(replace(scene.pose(n), signer=FIRST.address) for n in range(15)))
    await scene.block(3)
    (status,) = scene.lane.status()
    assert status.alarm.startswith("12 of the last 15 transactions were rejected")
    assert caplog.text.count("The operator should look at the lane") == 1
    await scene.submit(*(replace(scene.pose(n), signer=FIRST.address) for n in range(20, 40)))
    await scene.block(5)
    (status,) = scene.lane.status()
    assert status.alarm == ""


async def test_a_rejected_proof_is_told_and_kept_with_its_cause(scene: Scene) -> None:
    await scene.run_lanes(FIRST)
    submission = replace(scene.pose(1), signer=FIRST.address)
    scene.chain.logs["5-1"] = (
        f"work failure for input ({submission.work.prefix.decode()}{submission.proof.nonce}) when trying to mine on "
        "struct 5-1"
    )
    scene.chain.next_results.append(("structs", 1800))
    await scene.submit(submission)
    await scene.block()
    (rejected,) = [one for one in scene.told if type(one).__name__ == "Rejected"]
    assert rejected.reason == (
        "the chain rejected the proof: the difficulty was too high at that height for a proof of 1 zeros"
    )
    assert scene.ledger.rows[0].cause.value == "difficulty too high at that height"
