"""The best hash so far: what is kept, when it is submitted, and what becomes of it when the puzzle changes.

The work of these tests (anchor 1000, range 200) asks for 3 zeros from height 1169 on, 2 from 1183 on, 1 from 1199 on.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.commands import CancelLease, ReadWork, Rejection, RetargetLease, SendVerdict, SubmitProof
from coordinator.core.events import (
    JobsRestored,
    LeaseEnd,
    LeaseEnded,
    SubmissionStale,
    Trouble,
    WorkerLost,
    WorkNotRead,
)
from coordinator.core.job import JobState
from coordinator.core.lease import Lease
from coordinator.core.schedule import valid_height
from hashfleet.action import Action, Work
from hashfleet.job_request import StartMode
from hashfleet.proof import verify

from .conftest import Play, grants, nonces

FALLS = 1183


def exactly(lease: Lease, zeros: int, skip: int = 0) -> str:
    """A nonce of this lease with that many zeros and no more."""
    found = (nonce for nonce in nonces(lease) if verify(lease.space.prefix, nonce).zeros == zeros)
    for _ in range(skip):
        next(found)
    return next(found)


def submissions(commands: list[object]) -> list[SubmitProof]:
    return [command for command in commands if isinstance(command, SubmitProof)]


def verdicts(commands: list[object]) -> list[Rejection | None]:
    return [command.rejection for command in commands if isinstance(command, SendVerdict)]


@pytest.fixture
def hashing(play: Play, work: Work) -> Lease:
    """One slow device on one job that hashes from the first; gives the lease in work."""
    play.block(1175)
    play.join(rate=5e3)
    play.submit(work, start_mode=StartMode.RACE)
    return grants(play.read(work))[0]


def best_zeros(play: Play) -> int:
    best = play.job().best
    return 0 if best is None else best.proof.zeros


def test_a_large_lease_is_asked_for_fewer_zeros_than_the_chain(play: Play, hashing: Lease) -> None:
    play.block(1176)
    hard = Work(Action.BUILD, "5-77", anchor=1100, range=2000)
    play.submit(hard, "pow_hard", start_mode=StartMode.RACE)
    play.tell(WorkerLost(play.now, "w_1"))
    play.read(hard, "pow_hard")
    zeros = {lease.zeros for lease in grants(play.join("w_2", rate=1e5, devices=4)) if lease.job_id == "pow_hard"}
    assert zeros and all(zeros_asked <= 6 for zeros_asked in zeros)


def test_a_hit_that_is_too_weak_yet_is_stored_as_the_best(play: Play, hashing: Lease) -> None:
    nonce = exactly(hashing, 2)
    play.tell(WorkerLost(play.now, hashing.worker_id))  # then the hit is judged by its hash alone
    assert verdicts(play.hit(hashing, nonce)) == [None]
    assert play.stored["pow_1"].best is not None
    assert best_zeros(play) == 2


def keep_two_zeros(play: Play, lease: Lease) -> str:
    """A late hit of a lease whose worker was lost for a moment."""
    nonce = exactly(lease, 2)
    play.tell(WorkerLost(play.now, lease.worker_id))
    play.hit(lease, nonce)
    play.join(rate=5e3)
    return nonce


def test_a_weaker_hash_than_the_best_is_stale_and_changes_nothing(play: Play, hashing: Lease) -> None:
    keep_two_zeros(play, hashing)
    assert verdicts(play.hit(hashing, exactly(hashing, 1))) == [Rejection.STALE]
    assert best_zeros(play) == 2


def test_the_best_hash_sent_again_is_a_duplicate(play: Play, hashing: Lease) -> None:
    nonce = keep_two_zeros(play, hashing)
    assert verdicts(play.hit(hashing, nonce)) == [Rejection.DUPLICATE]


def test_a_better_hash_replaces_the_best(play: Play, hashing: Lease) -> None:
    play.tell(WorkerLost(play.now, "w_1"))
    play.hit(hashing, exactly(hashing, 1))
    assert best_zeros(play) == 1
    play.hit(hashing, exactly(hashing, 2))
    assert best_zeros(play) == 2


def test_a_hit_with_fewer_zeros_than_its_lease_was_asked_for_is_false(play: Play, hashing: Lease) -> None:
    assert verdicts(play.hit(hashing, exactly(hashing, 1))) == [Rejection.BELOW_TARGET]
    assert best_zeros(play) == 0


def test_thresholds_rise_with_the_best(play: Play) -> None:
    hard = Work(Action.BUILD, "5-77", anchor=1000, range=2000)
    play.block(1200)
    play.join(rate=4e4)
    play.submit(hard, start_mode=StartMode.RACE)
    lease = grants(play.read(hard))[0]
    assert lease.zeros == 4
    commands = play.hit(lease, exactly(lease, 4))
    retargets = [command for command in commands if isinstance(command, RetargetLease)]
    assert {command.lease_id for command in retargets} == set(play.machine.state.entries["pow_1"].leases)
    assert {command.zeros for command in retargets} == {5}


def test_the_best_is_submitted_at_the_block_at_which_it_becomes_valid(play: Play, hashing: Lease) -> None:
    keep_two_zeros(play, hashing)
    assert not submissions(play.block(FALLS - 1))
    (sent,) = submissions(play.block(FALLS))
    assert sent.proof.zeros == 2
    assert play.job().state is JobState.SUBMITTING


def test_a_waiting_job_is_submitted_when_its_best_becomes_valid(play: Play, work: Work) -> None:
    play.block(1175)
    play.join(rate=400)
    play.submit(work, start_mode=StartMode.RACE)
    lease = grants(play.read(work))[0]
    nonce = exactly(lease, 2)
    play.tell(WorkNotRead(play.now, "pow_1", Trouble.PAUSED, "offline"))
    play.tell(WorkerLost(play.now, "w_1"))
    play.hit(lease, nonce)
    play.join(rate=400)
    play.machine.state.entries["pow_1"].job = replace(
        play.job(), request=replace(play.job().request, start_mode=StartMode.ECONOMY)
    )
    play.read(work)
    assert (play.job().state, play.job().start_height) == (JobState.WAITING, FALLS)
    assert submissions(play.block(FALLS))


def test_a_job_whose_best_makes_more_hashing_worthless_stops_and_waits_for_its_block(play: Play, work: Work) -> None:
    """Economy hashes nothing more once a hash in hand becomes valid by itself."""
    play.block(1160)
    play.join(rate=2e3)
    play.submit(work, start_mode=StartMode.ECONOMY, deadline_height=1161)
    lease = grants(play.read(work))[0]
    entry = play.machine.state.entries["pow_1"]
    entry.job = replace(entry.job, request=replace(entry.job.request, deadline_height=None))
    commands = play.hit(lease, exactly(lease, lease.zeros))
    assert any(isinstance(command, CancelLease) for command in commands)
    job = play.job()
    assert job.best is not None and job.work is not None
    assert (job.state, job.start_height) == (JobState.WAITING, valid_height(job.work, job.best.proof.zeros))


def test_the_best_survives_a_restart_and_is_submitted_at_its_block(play: Play, hashing: Lease, work: Work) -> None:
    keep_two_zeros(play, hashing)
    again = Play()
    again.tell(JobsRestored(again.now, (play.stored["pow_1"],)))
    again.block(FALLS + 1)
    assert not submissions(again.commands), "the chain has not confirmed the anchor yet"
    assert len(submissions(again.read(work))) == 1


def test_a_moved_anchor_drops_the_best(play: Play, hashing: Lease, work: Work) -> None:
    keep_two_zeros(play, hashing)
    play.read(replace(work, anchor=1174))
    assert play.stored["pow_1"].best is None


def test_a_changed_range_keeps_the_best(play: Play, hashing: Lease, work: Work) -> None:
    keep_two_zeros(play, hashing)
    play.read(replace(work, range=210))
    assert best_zeros(play) == 2


def test_a_range_that_shrinks_submits_the_best_at_once(play: Play, hashing: Lease, work: Work) -> None:
    keep_two_zeros(play, hashing)
    (sent,) = submissions(play.read(replace(work, range=180)))
    assert sent.work.range == 180


def test_a_hit_for_a_paused_job_is_kept_and_submitted_when_it_goes_on(play: Play, hashing: Lease, work: Work) -> None:
    play.tell(WorkNotRead(play.now, "pow_1", Trouble.PAUSED, "offline"))
    commands = play.hit(hashing, exactly(hashing, 3))
    assert verdicts(commands) == [None]
    assert not submissions(commands)
    assert len(submissions(play.read(work))) == 1


def test_a_proof_that_a_raised_range_voided_is_kept_for_later(play: Play, hashing: Lease, work: Work) -> None:
    play.hit(hashing, exactly(hashing, 3))
    play.tell(SubmissionStale(play.now, "pow_1", "the range rose"))
    assert not submissions(play.read(replace(work, range=260)))
    assert best_zeros(play) == 3


def test_a_proof_given_back_for_the_same_puzzle_is_not_sent_again(play: Play, hashing: Lease, work: Work) -> None:
    nonce = exactly(hashing, 3)
    play.hit(hashing, nonce)
    play.tell(SubmissionStale(play.now, "pow_1", "it does not fit"))
    play.read(work)
    assert play.job().state is JobState.RUNNING
    assert verdicts(play.hit(hashing, nonce)) == [Rejection.DUPLICATE]
    assert len(submissions(play.commands)) == 1


def test_the_lesser_best_is_used_when_the_proof_was_given_back(play: Play, hashing: Lease, work: Work) -> None:
    keep_two_zeros(play, hashing)
    play.hit(hashing, exactly(hashing, 3))
    play.tell(SubmissionStale(play.now, "pow_1", "it does not fit"))
    play.read(work)
    assert best_zeros(play) == 2
    assert [sent.proof.zeros for sent in submissions(play.block(FALLS))] == [2]


def test_a_spent_budget_waits_for_the_best_instead_of_failing(play: Play, work: Work) -> None:
    play.block(1175)
    play.join()
    play.submit(work, max_hashes=2000, start_difficulty=3)
    (lease,) = grants(play.read(work))
    play.hit(lease, exactly(lease, lease.zeros if lease.zeros < 3 else 3))
    if play.job().state is not JobState.SUBMITTING:
        play.tell(LeaseEnded(play.now, "w_1", lease.lease_id, lease.range.count, LeaseEnd.EXHAUSTED))
        assert (play.job().state, play.job().start_height) == (JobState.WAITING, FALLS)
        assert submissions(play.block(FALLS))


def test_a_small_lease_asks_for_exactly_what_the_chain_asks(play: Play, work: Work) -> None:
    play.block(1175)
    play.join(rate=1e7)
    play.submit(work, start_mode=StartMode.RACE)
    (lease,) = grants(play.read(work))
    assert (lease.ends_with_hit, lease.zeros) == (True, 3)


def test_no_work_is_read_to_submit_the_best(play: Play, hashing: Lease) -> None:
    """The lane reads it before it sends anything."""
    keep_two_zeros(play, hashing)
    play.tell(WorkerLost(play.now, "w_1"))
    commands = play.block(FALLS)
    assert submissions(commands)
    assert not [c for c in commands if isinstance(c, ReadWork)]
