"""A job that has its proof is stopped, or hurried, as long as no transaction of it may land."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator.core.commands import PrioritiseProof, ReadWork, SubmitProof, WithdrawProof
from coordinator.core.events import (
    CancelRequested,
    JobsRestored,
    PriorityRequested,
    ProofWithdrawn,
    SubmissionPaused,
    SubmissionStale,
    Ticked,
    TransactionIncluded,
    WithdrawalRefused,
)
from coordinator.core.job import JobState, Transaction, TransactionState
from hashfleet.action import Work
from hashfleet.job_request import Priority, StartMode

from .conftest import Play, grants, solve

INCLUDED = Transaction("AB" * 32, TransactionState.INCLUDED, 1, height=1200)
WITHDRAW = WithdrawProof("pow_1")
Submitting = Callable[..., None]


@pytest.fixture
def submitting(play: Play, work: Work) -> Submitting:
    """Bring a job to where its proof is with the lane, at height 1175."""

    def bring(**asked: object) -> None:
        play.block(1175)
        play.join()
        play.submit(work, start_mode=StartMode.RACE, **asked)
        lease = grants(play.read(work))[0]
        play.hit(lease, solve(lease, 3))
        assert play.job().state is JobState.SUBMITTING

    return bring


def withdrawals(play: Play) -> int:
    return play.commands.count(WITHDRAW)


# ---- cancelled ---------------------------------------------------------------------------------------------------


def test_a_cancelled_job_with_its_proof_ends_once_the_proof_is_withdrawn(play: Play, submitting: Submitting) -> None:
    submitting()
    assert play.tell(CancelRequested(play.now, "pow_1")) == [WITHDRAW]
    assert play.stored["pow_1"].state is JobState.SUBMITTING
    play.tell(ProofWithdrawn(play.now, "pow_1"))
    job = play.stored["pow_1"]
    assert (job.state, job.error) == (JobState.CANCELLED, None)
    assert job.found is not None
    assert not play.machine.state.entries


def test_a_job_whose_transaction_may_land_goes_on(play: Play, submitting: Submitting) -> None:
    submitting()
    play.tell(CancelRequested(play.now, "pow_1"))
    play.tell(WithdrawalRefused(play.now, "pow_1"))
    assert play.job().state is JobState.SUBMITTING
    play.tell(TransactionIncluded(play.now, "pow_1", INCLUDED))
    assert play.stored["pow_1"].state is JobState.COMPLETED


def test_after_a_refusal_it_may_be_asked_again(play: Play, submitting: Submitting) -> None:
    submitting()
    play.tell(CancelRequested(play.now, "pow_1"))
    play.tell(WithdrawalRefused(play.now, "pow_1"))
    assert play.tell(CancelRequested(play.now, "pow_1")) == [WITHDRAW]


def test_a_proof_is_withdrawn_once_however_often_a_cancel_is_asked_for(play: Play, submitting: Submitting) -> None:
    submitting()
    for _ in range(3):
        play.tell(CancelRequested(play.now, "pow_1"))
    assert withdrawals(play) == 1


def test_a_transaction_that_landed_before_the_answer_completes_the_job(play: Play, submitting: Submitting) -> None:
    submitting()
    play.tell(CancelRequested(play.now, "pow_1"))
    play.tell(TransactionIncluded(play.now, "pow_1", INCLUDED))
    play.tell(ProofWithdrawn(play.now, "pow_1"))
    assert play.stored["pow_1"].state is JobState.COMPLETED


def test_a_proof_that_comes_back_void_before_the_answer_is_not_searched_anew(
    play: Play, submitting: Submitting
) -> None:
    submitting()
    play.tell(CancelRequested(play.now, "pow_1"))
    commands = play.tell(SubmissionStale(play.now, "pow_1", "its anchor moved"))
    assert not [command for command in commands if isinstance(command, ReadWork)]
    assert play.stored["pow_1"].state is JobState.CANCELLED
    play.tell(ProofWithdrawn(play.now, "pow_1"))
    assert play.stored["pow_1"].state is JobState.CANCELLED


def test_an_answer_that_nobody_waits_for_ends_no_job(play: Play, submitting: Submitting) -> None:
    submitting()
    play.tell(ProofWithdrawn(play.now, "pow_1"))
    assert play.job().state is JobState.SUBMITTING


def test_a_cancel_that_a_crash_forgets_leaves_the_job_submitting(play: Play, submitting: Submitting) -> None:
    submitting()
    play.tell(CancelRequested(play.now, "pow_1"))
    again = Play(now=play.now, stored=dict(play.stored))
    commands = again.tell(JobsRestored(again.now, (play.stored["pow_1"],)))
    assert [type(command) for command in commands] == [SubmitProof]
    assert again.job().state is JobState.SUBMITTING


# ---- past its deadline -------------------------------------------------------------------------------------------


def test_a_proof_that_waits_past_its_deadline_is_withdrawn_and_the_job_fails(
    play: Play, submitting: Submitting
) -> None:
    submitting(deadline_height=1180)
    play.tell(SubmissionPaused(play.now, "pow_1", "the planet is under raid"))
    assert play.block(1180) == []
    assert play.block(1181) == [WITHDRAW]
    play.tell(ProofWithdrawn(play.now, "pow_1"))
    job = play.stored["pow_1"]
    assert job.state is JobState.FAILED
    assert job.error == (
        "its deadline, height 1180, is past: the chain is at height 1181; its proof is found, but the planet is under "
        "raid"
    )


def test_past_its_deadline_a_transaction_that_may_land_is_waited_for_block_by_block(
    play: Play, submitting: Submitting
) -> None:
    submitting(deadline_height=1180)
    for asked, height in enumerate(range(1181, 1184), start=1):
        play.block(height)
        play.tell(Ticked(play.now))
        assert withdrawals(play) == asked
        play.tell(WithdrawalRefused(play.now, "pow_1"))
    play.tell(TransactionIncluded(play.now, "pow_1", INCLUDED))
    assert play.stored["pow_1"].state is JobState.COMPLETED


def test_past_its_deadline_a_withdrawal_under_way_is_not_asked_for_again(play: Play, submitting: Submitting) -> None:
    submitting(deadline_height=1180)
    play.block(1181)
    play.block(1182)
    assert withdrawals(play) == 1


def test_who_cancels_a_job_past_its_deadline_finds_it_cancelled(play: Play, submitting: Submitting) -> None:
    submitting(deadline_height=1180)
    play.block(1181)
    play.tell(CancelRequested(play.now, "pow_1"))
    play.tell(ProofWithdrawn(play.now, "pow_1"))
    assert play.stored["pow_1"].state is JobState.CANCELLED
    assert withdrawals(play) == 1


def test_after_a_restart_a_deadline_that_is_past_still_counts(play: Play, submitting: Submitting) -> None:
    submitting(deadline_height=1180)
    again = Play(now=play.now, stored=dict(play.stored))
    again.tell(JobsRestored(again.now, (play.stored["pow_1"],)))
    assert WITHDRAW in again.block(1190)


# ---- hurried -----------------------------------------------------------------------------------------------------


def test_a_new_priority_reaches_the_proof_that_waits(play: Play, submitting: Submitting) -> None:
    submitting(priority=Priority.BULK)
    commands = play.tell(PriorityRequested(play.now, "pow_1", Priority.CRITICAL))
    assert commands == [PrioritiseProof("pow_1", int(Priority.CRITICAL))]
    assert play.stored["pow_1"].request.priority is Priority.CRITICAL
    assert play.tell(PriorityRequested(play.now, "pow_1", Priority.CRITICAL)) == []
