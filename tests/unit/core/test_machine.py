"""The life of a job, one promise per test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from coordinator.core.commands import (
    CancelLease,
    DropWorker,
    GrantLease,
    ReadWork,
    Rejection,
    RetargetLease,
    SendVerdict,
    SubmitProof,
)
from coordinator.core.events import (
    BlockCommitted,
    CancelRequested,
    JobsRestored,
    JobSubmitted,
    LeaseEnd,
    LeaseEnded,
    LeaseProgressed,
    PriorityRequested,
    SubmissionGaveUp,
    SubmissionStale,
    Ticked,
    TransactionIncluded,
    TransactionSigned,
    Trouble,
    WorkerDraining,
    WorkerHeard,
    WorkerLost,
    WorkNotRead,
    WorkRead,
)
from coordinator.core.job import JobState, Transaction, TransactionState
from coordinator.core.lease import Lease
from coordinator.core.machine import SILENCE_LIMIT_SECONDS
from coordinator.core.roster import SMALL_LEASES_PER_DEVICE
from hashfleet.action import Action, Work
from hashfleet.errors import JobNotFound
from hashfleet.job_request import JobRequest, Priority
from hashfleet.proof import verify

from .conftest import Play, grants, nonces, solve

Running = Callable[[], Lease]


def of_kind(commands: list[object], kind: type) -> list[object]:
    return [command for command in commands if isinstance(command, kind)]


# ---- asking ------------------------------------------------------------------------------------------------------


def test_a_submitted_job_is_queued_and_the_chain_is_asked(play: Play, work: Work) -> None:
    job = play.submit(work)
    assert job.state is JobState.QUEUED
    assert of_kind(play.commands, ReadWork) == [ReadWork("pow_1", job.request, check_signer=True)]


def test_the_same_unfinished_work_asked_twice_is_one_job(play: Play, work: Work) -> None:
    first = play.submit(work)
    play.tell(JobSubmitted(play.now, "pow_2", replace(first.request, player_id="1-12")))
    assert play.machine.job("pow_2") is None
    claimant = play.machine.claimant(first.request)
    assert claimant is not None and claimant.job_id == "pow_1"


def test_finished_work_can_be_asked_for_again(play: Play, work: Work) -> None:
    play.submit(work)
    play.tell(CancelRequested(play.now, "pow_1"))
    assert play.submit(work, "pow_2").state is JobState.QUEUED


def test_nothing_is_leased_before_the_chain_told_the_work(play: Play, work: Work) -> None:
    play.block(1175)
    play.join()
    play.submit(work)
    assert not of_kind(play.commands, GrantLease)


# ---- waiting -----------------------------------------------------------------------------------------------------


def test_work_that_is_too_hard_waits_for_the_height_at_which_hashing_pays(play: Play, work: Work) -> None:
    play.block(1020)
    play.join(rate=1e6)
    play.submit(work)
    play.read(work)
    job = play.job()
    assert job.state is JobState.WAITING
    assert job.start_height is not None and 1020 < job.start_height < 1200
    assert not of_kind(play.commands, GrantLease)


def test_no_work_is_hashed_before_age_10(play: Play) -> None:
    easy = Work(Action.BUILD, "5-28", anchor=1000, range=9)
    play.block(1003)
    play.join(rate=1e12)
    play.submit(easy)
    play.read(easy)
    assert play.job().start_height == 1010


def test_a_ripe_job_is_read_again_before_it_runs(play: Play, work: Work) -> None:
    play.block(1020)
    play.join()
    play.submit(work)
    play.read(work)
    start = play.job().start_height
    assert start is not None
    assert of_kind(play.block(start), ReadWork)
    assert play.job().state is JobState.WAITING
    assert grants(play.read(work))
    assert play.job().state is JobState.RUNNING


def test_more_hash_power_brings_a_waiting_job_forward(play: Play, work: Work) -> None:
    play.block(1020)
    play.join("w_slow", rate=1e4)
    play.submit(work)
    play.read(work)
    before = play.job().start_height
    play.join("w_fast", rate=1e10)
    after = play.job().start_height
    assert before is not None and after is not None and after < before


def test_a_moved_anchor_is_noticed_while_waiting(play: Play, work: Work) -> None:
    play.block(1020)
    play.submit(work)
    play.read(work)
    play.block(1031)
    moved = replace(work, anchor=1030)
    play.read(moved)
    assert play.job().work == moved
    assert play.job().state is JobState.WAITING


# ---- running -----------------------------------------------------------------------------------------------------


def test_a_device_gets_one_lease_in_work_and_one_in_hand(play: Play, running: Running) -> None:
    running()
    assert len(of_kind(play.commands, GrantLease)) == 2


def test_no_two_leases_share_an_extranonce(play: Play, work: Work) -> None:
    play.block(1175)
    play.join(devices=8)
    play.submit(work)
    leases = grants(play.read(work))
    assert len({lease.range.extranonce for lease in leases}) == len(leases) == 16


def test_a_valid_hit_stops_every_lease_and_submits_the_proof(play: Play, running: Running) -> None:
    lease = running()
    nonce = solve(lease, 3)
    commands = play.hit(lease, nonce)
    assert len(of_kind(commands, CancelLease)) == 2
    submitted = of_kind(commands, SubmitProof)
    assert len(submitted) == 1
    assert SendVerdict("w_1", lease.lease_id, nonce, None) in commands
    job = play.job()
    assert job.state is JobState.SUBMITTING
    assert job.found is not None and job.found.hashes == (lease.space.counter_of(nonce) or 0) + 1


def test_the_job_is_stored_as_submitting_in_the_round_that_submits_it(play: Play, running: Running) -> None:
    lease = running()
    play.hit(lease, solve(lease, 3))
    assert play.stored["pow_1"].state is JobState.SUBMITTING


@pytest.mark.parametrize(
    ("nonce", "rejection"),
    [("123", Rejection.BELOW_TARGET), ("-1", Rejection.BAD_NONCE), ("", Rejection.BAD_NONCE)],
)
def test_a_false_hit_is_rejected_with_its_reason(
    play: Play, running: Running, nonce: str, rejection: Rejection
) -> None:
    lease = running()
    assert play.hit(lease, nonce) == [SendVerdict("w_1", lease.lease_id, nonce, rejection)]
    assert play.job().state is JobState.RUNNING


def test_a_hit_one_zero_short_is_below_target(play: Play, running: Running) -> None:
    lease = running()
    short = next(nonce for nonce in nonces(lease) if verify(lease.space.prefix, nonce).zeros == lease.zeros - 1)
    assert play.hit(lease, short) == [SendVerdict("w_1", lease.lease_id, short, Rejection.BELOW_TARGET)]
    assert play.job().state is JobState.RUNNING


def test_false_hits_are_counted_against_the_device(play: Play, running: Running) -> None:
    lease = running()
    play.hit(lease, "123")
    assert play.machine.state.workers["w_1"].devices["cpu0"].invalid == 1


def test_the_same_nonce_twice_is_a_duplicate(play: Play, running: Running) -> None:
    lease = running()
    nonce = solve(lease, 3)
    play.hit(lease, nonce)
    assert play.hit(lease, nonce) == [SendVerdict("w_1", lease.lease_id, nonce, Rejection.DUPLICATE)]


def test_a_second_proof_of_a_solved_job_is_stale(play: Play, running: Running) -> None:
    lease = running()
    play.hit(lease, solve(lease, 3))
    other = solve(play.machine.state.leases["l_1234567_2"], 3)
    assert Rejection.STALE in [c.rejection for c in play.hit(lease, other) if isinstance(c, SendVerdict)]


def test_a_hit_for_a_job_nobody_knows_is_told_so(play: Play, running: Running) -> None:
    lease = replace(running(), job_id="pow_9")
    assert play.hit(lease, "1") == [SendVerdict("w_1", lease.lease_id, "1", Rejection.UNKNOWN_JOB)]


def test_a_late_hit_of_a_lost_lease_still_counts(play: Play, running: Running) -> None:
    lease = running()
    play.tell(WorkerLost(play.now, "w_1"))
    play.join("w_1")
    assert of_kind(play.hit(lease, solve(lease, 3)), SubmitProof)


def test_falling_difficulty_retargets_the_leases(play: Play, running: Running) -> None:
    lease = running()
    assert lease.zeros == 3
    commands = of_kind(play.block(1183), RetargetLease)
    assert commands and all(c.zeros == 2 for c in commands if isinstance(c, RetargetLease))


def test_a_moved_anchor_drops_the_leases_and_starts_anew(play: Play, running: Running, work: Work) -> None:
    running()
    moved = replace(work, anchor=1174)
    commands = play.read(moved)
    assert len(of_kind(commands, CancelLease)) == 2
    assert play.job().state is JobState.WAITING
    assert play.job().hashes == 0


def test_a_raid_whose_shield_moves_keeps_its_position(play: Play) -> None:
    raid = Work(Action.RAID, "9-11", anchor=1000, range=125, target_id="2-1")
    play.block(1110)
    play.join()
    play.submit(raid)
    lease = grants(play.read(raid))[0]
    play.tell(LeaseProgressed(play.now, "w_1", lease.lease_id, 1000, 1e6))
    commands = play.read(replace(raid, range=137))
    assert not of_kind(commands, CancelLease)
    assert of_kind(commands, RetargetLease)
    assert play.job().hashes == 1000


def test_an_object_that_is_gone_fails_the_job_with_the_reason(play: Play, running: Running) -> None:
    running()
    play.tell(WorkNotRead(play.now, "pow_1", Trouble.GONE, "5-28 is built already"))
    assert (play.job().state, play.job().error) == (JobState.FAILED, "5-28 is built already")


def test_a_paused_object_stops_the_hashing_and_goes_on_later(play: Play, running: Running, work: Work) -> None:
    running()
    commands = play.tell(WorkNotRead(play.now, "pow_1", Trouble.PAUSED, "5-28 is offline"))
    assert len(of_kind(commands, CancelLease)) == 2
    assert play.job().error == "5-28 is offline"
    play.now += 2
    assert of_kind(play.tell(Ticked(play.now)), ReadWork)
    play.read(work)
    assert (play.job().state, play.job().error) == (JobState.RUNNING, None)


def test_a_silent_chain_does_not_stop_the_hashing(play: Play, running: Running) -> None:
    running()
    commands = play.tell(WorkNotRead(play.now, "pow_1", Trouble.UNAVAILABLE, "no node answers"))
    assert not of_kind(commands, CancelLease)
    assert play.job().state is JobState.RUNNING


def test_a_key_that_may_not_complete_it_fails_the_job_before_hashing(play: Play, work: Work) -> None:
    play.block(1175)
    play.join()
    play.submit(work)
    play.tell(WorkNotRead(play.now, "pow_1", Trouble.NOT_ALLOWED, "the key lacks PermHashBuild"))
    assert play.job().state is JobState.FAILED
    assert not of_kind(play.commands, GrantLease)


def test_hints_that_differ_from_the_chain_become_notes(play: Play, work: Work) -> None:
    play.block(1175)
    play.submit(work, anchor_hint=999, range_hint=250)
    play.read(work)
    assert len(play.job().notes) == 2
    assert "999" in play.job().notes[0]


# ---- workers -----------------------------------------------------------------------------------------------------


def test_a_lost_lease_is_issued_again_once(play: Play, running: Running) -> None:
    lease = running()
    play.tell(LeaseProgressed(play.now, "w_1", lease.lease_id, 400, 1e6))
    play.tell(WorkerLost(play.now, "w_1"))
    again = [g for g in grants(play.join("w_2", devices=4)) if g.range.extranonce == lease.range.extranonce]
    assert len(again) == 1
    assert again[0].range.start == 400
    assert again[0].range.generation == 1


def test_a_finished_lease_is_followed_by_the_next_at_once(play: Play, running: Running) -> None:
    lease = running()
    ended = LeaseEnded(play.now, "w_1", lease.lease_id, lease.range.count, LeaseEnd.EXHAUSTED)
    assert len(grants(play.tell(ended))) == 1


def test_a_silent_worker_is_dropped_and_its_leases_issued_again(play: Play, running: Running) -> None:
    lease = running()
    play.join("w_2")
    play.now += SILENCE_LIMIT_SECONDS + 1
    play.tell(WorkerHeard(play.now, "w_2"))
    assert of_kind(play.tell(Ticked(play.now)), DropWorker)
    assert "w_1" not in play.machine.state.workers
    entry = play.machine.state.entries["pow_1"]
    assert lease.range.extranonce in {r.extranonce for r in entry.returned}


def test_a_draining_worker_gets_no_new_lease(play: Play, running: Running) -> None:
    lease = running()
    play.tell(WorkerDraining(play.now, "w_1"))
    ended = LeaseEnded(play.now, "w_1", lease.lease_id, 10, LeaseEnd.CANCELLED)
    assert not grants(play.tell(ended))


def test_a_failing_device_rests(play: Play, running: Running) -> None:
    lease = running()
    play.tell(LeaseEnded(play.now, "w_1", lease.lease_id, 0, LeaseEnd.FAILED, "hung"))
    assert len(play.machine.state.workers["w_1"].devices["cpu0"].leases) == 1
    play.now += 14
    assert grants(play.tell(Ticked(play.now)))


def test_nobody_can_report_on_another_workers_lease(play: Play, running: Running) -> None:
    lease = running()
    play.join("w_2")
    play.tell(LeaseProgressed(play.now, "w_2", lease.lease_id, 5000, 1e9))
    assert play.job().hashes == 0


def test_progress_never_goes_backwards(play: Play, running: Running) -> None:
    lease = running()
    play.tell(LeaseProgressed(play.now, "w_1", lease.lease_id, 5000, 1e6))
    play.tell(LeaseProgressed(play.now, "w_1", lease.lease_id, 3000, 1e6))
    assert play.job().hashes == 5000


def test_a_lease_is_sized_to_seconds_of_the_devices_rate(play: Play, work: Work) -> None:
    play.block(1175)
    play.join(rate=2e4)
    play.submit(work)
    assert grants(play.read(work))[0].range.count == 100_000


def test_jobs_nobody_works_on_go_before_helping_with_a_job(play: Play, work: Work) -> None:
    play.block(1175)
    other = replace(work, object_id="5-29")
    for job_id, one in (("pow_1", work), ("pow_2", other)):
        play.submit(one, job_id)
        play.read(one, job_id)
    assert {lease.job_id for lease in grants(play.join())} == {"pow_1", "pow_2"}


def test_critical_jobs_go_first(play: Play, work: Work) -> None:
    play.block(1175)
    other = replace(work, object_id="5-29")
    for job_id, one in (("pow_1", work), ("pow_2", other)):
        play.submit(one, job_id)
        play.read(one, job_id)
    play.tell(PriorityRequested(play.now, "pow_2", Priority.CRITICAL))
    assert grants(play.join())[0].job_id == "pow_2"


# ---- small jobs ---------------------------------------------------------------------------------------------------


def many_small_jobs(play: Play, count: int) -> list[Lease]:
    """Jobs that the device expects to solve in a millisecond or so, all ripe before it joins."""
    play.block(1195)
    for n in range(count):
        work = Work(Action.BUILD, f"5-{n}", anchor=1000, range=200)
        play.submit(work, f"pow_{n}")
        play.read(work, f"pow_{n}")
    return grants(play.join(rate=1e7))


def test_many_small_jobs_are_in_hand_of_one_device_each_with_one_lease(play: Play) -> None:
    leases = many_small_jobs(play, 40)
    assert sorted(lease.job_id for lease in leases) == sorted(f"pow_{n}" for n in range(40))
    assert all(lease.ends_with_hit for lease in leases)


def test_the_small_jobs_in_hand_are_bounded(play: Play) -> None:
    assert len(many_small_jobs(play, SMALL_LEASES_PER_DEVICE + 50)) == SMALL_LEASES_PER_DEVICE


def test_the_overhead_of_small_jobs_says_nothing_of_the_device(play: Play) -> None:
    lease = many_small_jobs(play, 40)[0]
    device = play.machine.state.workers["w_1"].devices["cpu0"]
    play.tell(LeaseProgressed(play.now, "w_1", lease.lease_id, 10, 2e5))
    assert (device.rate, device.best_rate) == (2e5, 1e7)


def test_a_solved_small_job_needs_no_cancel_and_makes_room_for_the_next(play: Play) -> None:
    lease = many_small_jobs(play, SMALL_LEASES_PER_DEVICE + 50)[0]
    commands = play.hit(lease, solve(lease, lease.zeros))
    assert not of_kind(commands, CancelLease)
    assert len(grants(commands)) == 1


def test_a_small_job_that_was_missed_is_leased_again(play: Play) -> None:
    lease = many_small_jobs(play, 1)[0]
    ended = LeaseEnded(play.now, "w_1", lease.lease_id, lease.range.count, LeaseEnd.EXHAUSTED)
    (again,) = grants(play.tell(ended))
    assert again.job_id == lease.job_id
    assert again.range.extranonce != lease.range.extranonce


def test_small_jobs_ride_beside_a_large_one(play: Play, work: Work) -> None:
    play.block(1100)
    large = Work(Action.BUILD, "5-500", anchor=1000, range=200)
    play.submit(large, "pow_large")
    play.read(large, "pow_large")
    play.block(1132)
    play.read(large, "pow_large")
    leases = grants(play.join(rate=1e6))
    assert [lease.ends_with_hit for lease in leases] == [False, False]
    small = Work(Action.BUILD, "5-501", anchor=932, range=200)
    play.submit(small, "pow_small")
    (lease,) = grants(play.read(small, "pow_small"))
    assert (lease.job_id, lease.ends_with_hit) == ("pow_small", True)


# ---- budget, cancel ----------------------------------------------------------------------------------------------


def test_a_budget_is_never_leased_beyond_and_fails_the_job_when_spent(play: Play, work: Work) -> None:
    play.block(1190)
    play.join()
    play.submit(work, max_hashes=1000)
    (lease,) = grants(play.read(work))
    assert lease.range.count == 1000
    play.tell(LeaseEnded(play.now, "w_1", lease.lease_id, 1000, LeaseEnd.EXHAUSTED))
    assert play.job().state is JobState.FAILED
    assert "1000" in (play.job().error or "")


def test_a_cancelled_job_stops_at_once(play: Play, running: Running) -> None:
    running()
    commands = play.tell(CancelRequested(play.now, "pow_1"))
    assert len(of_kind(commands, CancelLease)) == 2
    assert play.job().state is JobState.CANCELLED


def test_an_unknown_job_cannot_be_cancelled(play: Play) -> None:
    with pytest.raises(JobNotFound):
        play.tell(CancelRequested(play.now, "pow_9"))


# ---- submission and restart --------------------------------------------------------------------------------------

SIGNED = Transaction("AB" * 32, TransactionState.SIGNED, 1)
INCLUDED = Transaction("AB" * 32, TransactionState.INCLUDED, 1, height=1177)


def test_an_included_transaction_completes_the_job(play: Play, running: Running) -> None:
    lease = running()
    play.hit(lease, solve(lease, 3))
    play.tell(TransactionSigned(play.now, "pow_1", SIGNED))
    assert play.job().transaction == SIGNED
    play.tell(TransactionIncluded(play.now, "pow_1", INCLUDED))
    job = play.job()
    assert (job.state, job.transaction, job.completed_at) == (JobState.COMPLETED, INCLUDED, play.now)
    assert play.machine.job("pow_1") is None


def test_a_stale_proof_is_hashed_anew(play: Play, running: Running, work: Work) -> None:
    lease = running()
    play.hit(lease, solve(lease, 3))
    commands = play.tell(SubmissionStale(play.now, "pow_1", "the anchor moved"))
    assert of_kind(commands, ReadWork)
    assert play.job().state is JobState.QUEUED
    play.read(replace(work, anchor=1174))
    assert play.job().found is None
    assert play.job().state is JobState.WAITING


def test_a_hopeless_submission_fails_the_job_with_the_reason(play: Play, running: Running) -> None:
    lease = running()
    play.hit(lease, solve(lease, 3))
    play.tell(SubmissionGaveUp(play.now, "pow_1", "the struct was destroyed"))
    assert (play.job().state, play.job().error) == (JobState.FAILED, "the struct was destroyed")


def test_a_restart_goes_on_with_a_running_job_once_the_chain_confirms_it(
    play: Play, running: Running, work: Work
) -> None:
    running()
    stored = play.stored["pow_1"]
    again = Play()
    again.tell(JobsRestored(again.now, (stored,)))
    again.join()
    assert of_kind(again.block(1180), ReadWork)
    assert not of_kind(again.commands, GrantLease)
    assert grants(again.read(work))


def test_a_restart_takes_a_submission_up_again(play: Play, running: Running) -> None:
    lease = running()
    play.hit(lease, solve(lease, 3))
    again = Play()
    commands = again.tell(JobsRestored(again.now, (play.stored["pow_1"],)))
    assert of_kind(commands, SubmitProof) == of_kind(play.commands, SubmitProof)


def test_a_restart_does_not_search_the_same_nonces_again(play: Play, running: Running, work: Work) -> None:
    lease = running()
    again = Play()
    again.machine.state.salt = 7654321
    again.tell(JobsRestored(again.now, (play.stored["pow_1"],)))
    again.block(1180)
    again.join()
    assert grants(again.read(work))[0].range.extranonce != lease.range.extranonce


def test_a_request_must_fit_its_action() -> None:
    with pytest.raises(ValueError, match="target"):
        JobRequest(Action.BUILD, "5-28", "1-11", target_id="2-1")


# ---- which key signs ---------------------------------------------------------------------------------------------


def test_the_key_chosen_with_the_first_reading_is_kept_and_told_with_the_proof(play: Play, work: Work) -> None:
    play.block(1190)
    play.join()
    play.submit(work)
    play.tell(WorkRead(play.now, "pow_1", work, signer="structs1one"))
    assert play.job().signer == "structs1one"
    (lease,) = grants(play.commands)
    (submitted,) = of_kind(play.hit(lease, solve(lease, 3)), SubmitProof)
    assert submitted.signer == "structs1one"


def test_a_key_is_chosen_anew_when_a_permission_of_the_work_was_touched(play: Play, work: Work) -> None:
    play.block(1190)
    play.submit(work)
    play.tell(WorkRead(play.now, "pow_1", work, frozenset({"1-7@"}), signer="structs1one"))
    play.commands.clear()
    play.tell(BlockCommitted(play.now, 1191, play.now, frozenset({"1-7@"})))
    assert [read.check_signer for read in of_kind(play.commands, ReadWork)] == [True]
    play.tell(WorkRead(play.now, "pow_1", work, frozenset({"1-7@"}), signer="structs1two"))
    assert play.job().signer == "structs1two"


def test_a_job_whose_key_lost_its_right_is_held_and_goes_on_with_another(play: Play, work: Work) -> None:
    play.block(1190)
    play.submit(work)
    play.tell(WorkRead(play.now, "pow_1", work, signer="structs1one"))
    play.tell(WorkNotRead(play.now, "pow_1", Trouble.NOT_ALLOWED, "no key may do it any more"))
    assert (play.job().state, play.job().error) == (JobState.QUEUED, "no key may do it any more")
    play.tell(WorkRead(play.now, "pow_1", work, signer="structs1two"))
    assert (play.job().state is not JobState.QUEUED, play.job().signer) == (True, "structs1two")
