"""Works that share a clock: a success with one voids what was hashed for the others."""

from __future__ import annotations

from dataclasses import replace

from coordinator.core.commands import ReadWork, SubmitProof
from coordinator.core.events import (
    CancelRequested,
    JobsRestored,
    PriorityRequested,
    SubmissionGaveUp,
    TransactionIncluded,
    Trouble,
    WorkerLost,
    WorkNotRead,
    WorkRead,
)
from coordinator.core.job import JobState, Transaction, TransactionState
from coordinator.core.lease import Lease
from hashfleet.action import Action, Work
from hashfleet.job_request import Priority, StartMode

from .conftest import Play, grants, solve

CLOCK = "2-9/MINE"
INCLUDED = Transaction("AB" * 32, TransactionState.INCLUDED, 1, height=1177)


def miner(number: int, difficulty_range: int = 200) -> Work:
    return Work(Action.MINE, f"5-{number}", anchor=1000, range=difficulty_range)


def submit(play: Play, number: int, **asked: object) -> list[Lease]:
    work = miner(number)
    play.submit(work, f"pow_{number}", start_mode=StartMode.RACE, **asked)
    return read(play, number)


def read(play: Play, number: int, **moved: int) -> list[Lease]:
    work = replace(miner(number), **moved)  # type: ignore[arg-type]
    return grants(play.tell(WorkRead(play.now, f"pow_{number}", work, frozenset({"2-9"}), CLOCK)))


def two(play: Play) -> list[Lease]:
    """Two ripe jobs of one clock; gives the leases of the first."""
    play.block(1175)
    play.join()
    leases = submit(play, 1)
    assert not submit(play, 2)
    return leases


def test_of_two_works_that_share_a_clock_one_is_hashed(play: Play) -> None:
    two(play)
    assert (play.job("pow_1").state, play.job("pow_2").state) == (JobState.RUNNING, JobState.WAITING)


def test_the_other_one_says_whom_it_waits_for(play: Play) -> None:
    two(play)
    assert "pow_1" in (play.job("pow_2").error or "")
    assert CLOCK in (play.job("pow_2").error or "")


def test_works_without_a_shared_clock_are_hashed_side_by_side(play: Play) -> None:
    play.block(1175)
    play.join()
    for number in (1, 2):
        play.submit(miner(number), f"pow_{number}", start_mode=StartMode.RACE)
        play.read(miner(number), f"pow_{number}")
    assert {play.job("pow_1").state, play.job("pow_2").state} == {JobState.RUNNING}


def test_the_other_one_waits_on_while_the_first_is_submitted(play: Play) -> None:
    lease = two(play)[0]
    assert not grants(play.hit(lease, solve(lease, 3)))
    assert play.job("pow_2").state is JobState.WAITING


def test_after_a_success_the_other_one_waits_for_the_moved_clock(play: Play) -> None:
    lease = two(play)[0]
    play.hit(lease, solve(lease, 3))
    assert not grants(play.tell(TransactionIncluded(play.now, "pow_1", INCLUDED)))
    assert [c.job_id for c in play.block(1176) if isinstance(c, ReadWork)] == ["pow_2"]
    assert not read(play, 2), "the node lags: it shows the anchor that is used up"
    assert read(play, 2, anchor=1100)


def test_after_a_cancel_the_other_one_is_hashed(play: Play) -> None:
    two(play)
    leases = grants(play.tell(CancelRequested(play.now, "pow_1")))
    assert {lease.job_id for lease in leases} == {"pow_2"}


def test_after_a_hopeless_submission_the_other_one_is_hashed(play: Play) -> None:
    lease = two(play)[0]
    play.hit(lease, solve(lease, 3))
    play.tell(SubmissionGaveUp(play.now, "pow_1", "refused"))
    assert play.job("pow_2").state is JobState.RUNNING


def test_a_pause_of_the_first_lets_the_other_one_go(play: Play) -> None:
    two(play)
    play.tell(WorkNotRead(play.now, "pow_1", Trouble.PAUSED, "5-1 is offline"))
    assert play.job("pow_2").state is JobState.RUNNING


def test_a_job_of_a_higher_class_takes_the_clock(play: Play) -> None:
    two(play)
    play.tell(PriorityRequested(play.now, "pow_2", Priority.CRITICAL))
    assert (play.job("pow_1").state, play.job("pow_2").state) == (JobState.WAITING, JobState.RUNNING)


def test_a_higher_class_does_not_void_a_proof_on_its_way(play: Play) -> None:
    lease = two(play)[0]
    play.hit(lease, solve(lease, 3))
    play.tell(PriorityRequested(play.now, "pow_2", Priority.CRITICAL))
    assert play.job("pow_2").state is JobState.WAITING


def test_a_late_proof_of_the_other_one_is_kept_but_not_sent_beside_the_first(play: Play) -> None:
    first = two(play)[0]
    play.tell(PriorityRequested(play.now, "pow_2", Priority.CRITICAL))
    late = next(lease for lease in grants(play.commands) if lease.job_id == "pow_2")
    play.tell(PriorityRequested(play.now, "pow_2", Priority.BULK))
    play.tell(PriorityRequested(play.now, "pow_1", Priority.CRITICAL))
    read(play, 1)
    play.tell(WorkerLost(play.now, "w_1"))
    play.hit(first, solve(first, 3))
    play.hit(late, solve(late, 3))
    assert [c.job_id for c in play.commands if isinstance(c, SubmitProof)] == ["pow_1"]
    assert play.job("pow_2").best is not None


def test_the_kept_proof_is_sent_if_the_first_one_fails(play: Play) -> None:
    test_a_late_proof_of_the_other_one_is_kept_but_not_sent_beside_the_first(play)
    play.tell(SubmissionGaveUp(play.now, "pow_1", "refused"))
    assert [c.job_id for c in play.commands if isinstance(c, SubmitProof)] == ["pow_1", "pow_2"]


def test_after_a_restart_a_proof_on_its_way_still_holds_the_others_back(play: Play) -> None:
    lease = two(play)[0]
    play.hit(lease, solve(lease, 3))
    again = Play()
    again.tell(JobsRestored(again.now, tuple(play.stored.values())))
    assert {c.job_id for c in again.block(1176) if isinstance(c, ReadWork)} == {"pow_1", "pow_2"}
    again.join()
    read(again, 2)
    read(again, 1)
    assert (again.job("pow_1").state, again.job("pow_2").state) == (JobState.SUBMITTING, JobState.WAITING)
