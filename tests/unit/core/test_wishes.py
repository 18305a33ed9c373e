"""What a caller may ask for beside the proof: who sends it, by when, from when on."""

from __future__ import annotations

from dataclasses import replace

from coordinator.core.commands import CancelLease, ReadWork, SubmitProof
from coordinator.core.events import JobsRestored, TransactionIncluded
from coordinator.core.job import JobState, Transaction, TransactionState
from coordinator.core.lease import Lease
from hashfleet.action import Work
from hashfleet.job_request import Mode, StartMode
from hashfleet.proof import verify

from .conftest import Play, grants, nonces, solve

INCLUDED = Transaction("AB" * 32, TransactionState.INCLUDED, 1, height=1177)


def hashing(play: Play, work: Work, **asked: object) -> Lease:
    play.block(1175)
    play.join()
    play.submit(work, start_mode=StartMode.RACE, **asked)
    return grants(play.read(work))[0]


def weak_nonce(lease: Lease) -> str:
    return next(nonce for nonce in nonces(lease) if verify(lease.space.prefix, nonce).zeros == 2)


def test_a_job_that_wants_its_proof_is_completed_with_it_and_nothing_is_sent(play: Play, work: Work) -> None:
    lease = hashing(play, work, mode=Mode.RETURN_PROOF)
    commands = play.hit(lease, solve(lease, 3))
    job = play.stored["pow_1"]
    assert job.state is JobState.COMPLETED
    assert job.found is not None and job.found.proof.zeros >= 3
    assert not [command for command in commands if isinstance(command, SubmitProof)]
    assert len([command for command in commands if isinstance(command, CancelLease)]) == 2


def test_a_job_that_wants_its_proof_needs_no_permission_of_our_key(play: Play, work: Work) -> None:
    job = play.submit(work, mode=Mode.RETURN_PROOF)
    assert play.commands == [ReadWork("pow_1", job.request, check_signer=False)]


def test_a_returned_proof_is_one_that_the_next_block_takes(play: Play, work: Work) -> None:
    lease = hashing(play, work, mode=Mode.RETURN_PROOF)
    nonce = weak_nonce(lease)
    play.machine.state.leases[lease.lease_id] = replace(lease, least_zeros=1)
    play.hit(lease, nonce)
    assert play.job().state is JobState.RUNNING
    play.block(1183)
    assert play.stored["pow_1"].state is JobState.COMPLETED


def test_work_whose_proof_was_returned_may_be_hashed_again(play: Play, work: Work) -> None:
    lease = hashing(play, work, mode=Mode.RETURN_PROOF)
    play.hit(lease, solve(lease, 3))
    play.submit(work, "pow_2", start_mode=StartMode.RACE)
    assert grants(play.read(work, "pow_2"))


def test_a_job_fails_once_its_deadline_is_past(play: Play, work: Work) -> None:
    hashing(play, work, deadline_height=1177)
    play.block(1177)
    assert play.job().state is JobState.RUNNING
    play.block(1178)
    assert play.job().state is JobState.FAILED
    assert "1177" in (play.job().error or "")


def test_a_waiting_job_fails_once_its_deadline_is_past(play: Play, work: Work) -> None:
    play.block(1020)
    play.submit(work, deadline_height=1030, start_difficulty=1)
    play.read(work)
    play.block(1031)
    assert play.job().state is JobState.FAILED


def test_a_job_whose_chain_is_silent_fails_at_its_deadline_too(play: Play, work: Work) -> None:
    play.block(1020)
    play.submit(work, deadline_height=1030)
    play.block(1031)
    assert play.job().state is JobState.FAILED


def test_a_deadline_does_not_touch_a_job_that_is_submitting(play: Play, work: Work) -> None:
    lease = hashing(play, work, deadline_height=1177)
    play.hit(lease, solve(lease, 3))
    play.block(1180)
    assert play.job().state is JobState.SUBMITTING


def test_a_race_begins_at_once(play: Play, work: Work) -> None:
    play.block(1050)
    play.join()
    play.submit(work, start_mode=StartMode.RACE)
    assert grants(play.read(work))


def test_a_start_difficulty_is_waited_for(play: Play, work: Work) -> None:
    play.block(1150)
    play.join(rate=1e9)
    play.submit(work, start_difficulty=2)
    play.read(work)
    assert play.job().start_height == 1183


def test_a_running_job_is_not_put_back_because_the_fleet_got_slower(play: Play, work: Work) -> None:
    play.block(1160)
    play.join("w_fast", rate=1e6)
    play.submit(work, start_mode=StartMode.ECONOMY)
    play.read(work)
    assert play.job().state is JobState.RUNNING
    play.join("w_fast", rate=10.0)
    for height in range(1161, 1168):
        play.block(height)
        play.read(work)
    assert play.job().state is JobState.RUNNING


def test_a_puzzle_that_was_completed_is_not_hashed_again(play: Play, work: Work) -> None:
    lease = hashing(play, work)
    play.hit(lease, solve(lease, 3))
    play.tell(TransactionIncluded(play.now, "pow_1", INCLUDED))
    play.submit(work, "pow_2")
    assert not grants(play.read(work, "pow_2"))
    assert play.job("pow_2").state is JobState.QUEUED
    assert "solved before" in (play.job("pow_2").error or "")


def test_a_puzzle_that_was_completed_is_read_again_with_each_block_until_it_changes(play: Play, work: Work) -> None:
    lease = hashing(play, work)
    play.hit(lease, solve(lease, 3))
    play.tell(TransactionIncluded(play.now, "pow_1", INCLUDED))
    play.submit(work, "pow_2", start_mode=StartMode.RACE)
    play.read(work, "pow_2")
    for height in (1176, 1177):
        assert [c.job_id for c in play.block(height) if isinstance(c, ReadWork)] == ["pow_2"]
        play.read(work, "pow_2")
    assert grants(play.read(replace(work, anchor=1100), "pow_2"))


def test_a_puzzle_that_was_completed_before_a_restart_is_not_hashed_again(play: Play, work: Work) -> None:
    play.tell(JobsRestored(play.now, (), (work,)))
    play.block(1175)
    play.join()
    play.submit(work, start_mode=StartMode.RACE)
    assert not grants(play.read(work))
    assert play.job().error is not None
