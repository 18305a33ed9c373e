"""What a job does at this height: `review` is the one place that decides it."""

from __future__ import annotations

import heapq
from dataclasses import replace

from coordinator.core.books import set_alarm, set_job
from coordinator.core.clocks import clock_holder, gives_way, release_clock, take_clock
from coordinator.core.commands import SubmitProof, WithdrawProof
from coordinator.core.job import FoundProof, Job, JobState
from coordinator.core.leasing import retarget_leases
from coordinator.core.order import ripen
from coordinator.core.reading import ask, is_fresh
from coordinator.core.schedule import ASSUMED_RATE, Pace, start_height, valid_height, zeros_needed
from coordinator.core.state import Circumstances, Entry, Outbox, State
from hashfleet.action import Action, Work
from hashfleet.job_request import Mode

#: Jobs decided anew with one block or tick at most (about 30 ms), and with any other event, which others wait behind.
REVIEW_SLICE, REVIEWS_AT_ONCE = 1_000, 100
#: Start heights recomputed with one tick or block, and when a worker joins: 0.13 ms each for a pace that is new.
REPLAN_SLICE, REPLAN_AT_ONCE = 500, 50
#: The rate and the pace of blocks have changed if by this factor, the number of rivals if by that.
_PACE_STEP, _RIVALS_STEP = 1.1, 1.5
#: A rate that changed by this factor is worth leaving a round of recomputing for the next.
_RESTART_STEP = 2.0
#: Solved puzzles that are remembered: a node that lags more than these is of no use anyway.
REMEMBERED_SOLVED = 10_000


# ---- decisions -----------------------------------------------------------------------------------------------------


def review(state: State, out: Outbox, entry: Entry, *, just_read: bool = False, best_is_new: bool = False) -> None:
    """Decide what the job does now: fail past its deadline, submit a hash that has become valid, hash, or wait.

    A proof that is with the lane is withdrawn past the deadline, unless a transaction of it may land.

    `just_read` says that its work was read a moment ago; else a job that ripens is read first, unless events would
    have told of any change. A running job is put back to waiting only if its new best hash makes more hashing
    worthless, if its budget is spent, or if a job of a higher class takes their clock.
    """
    job, now = entry.job, state.now
    if job.state.final or state.head is None:
        return
    height = state.head.height
    reason = deadline_missed(state, job)
    if job.state is JobState.SUBMITTING:
        if reason is None:
            set_alarm(state, entry)
        else:
            withdraw(out, entry, JobState.FAILED)
        return
    if reason is not None:
        set_job(state, out, entry, replace(job, state=JobState.FAILED, error=reason), now)
        return
    if job.work is None or not entry.checked:
        set_alarm(state, entry)
        return
    if is_solved(state, entry, job.work):
        park_solved(state, out, entry)
        return
    other = clock_holder(state, entry)
    blocked = other is not None and not gives_way(other, entry)
    valid = None if job.best is None else valid_height(job.work, job.best.proof.zeros)
    if job.best is not None and valid is not None and valid <= height:
        if other is None or other.job.state is not JobState.SUBMITTING:
            submit(state, out, entry, job.best)
        else:
            _wait(state, out, entry, height + 1, _held_by(entry, other), held=True)
        return
    spent = job.request.max_hashes is not None and job.hashes >= job.request.max_hashes
    if spent and valid is None:
        reason = f"the budget of {job.request.max_hashes} hashes is used up without a proof"
        set_job(state, out, entry, replace(job, state=JobState.FAILED, error=reason), now)
    elif spent and valid is not None:
        reason = "the budget of hashes is used up; the best of them is valid from the start height on"
        _wait(state, out, entry, valid, reason)
    elif job.state is JobState.RUNNING and not best_is_new and not blocked:
        _run(state, out, entry)
    else:
        starts = start_height(
            job.request, job.work, height, _planned_pace(state), rivals=state.rivals(job), best=_zeros(job.best)
        )
        if job.state is JobState.RUNNING and starts != valid:
            starts = height
        if starts > height:
            _wait(state, out, entry, starts, job.error if entry.misses else None, waits_for_best=starts == valid)
        elif blocked and other is not None:
            _wait(state, out, entry, height + 1, _held_by(entry, other), held=True)
        elif job.state is JobState.RUNNING or just_read or is_fresh(state, entry):
            _run(state, out, entry)
        else:
            ask(state, entry)


def _run(state: State, out: Outbox, entry: Entry) -> None:
    """Hash, or go on hashing."""
    take_clock(state, entry)
    job = entry.job
    error = job.error if entry.misses else None
    if job.state is not JobState.RUNNING or job.error != error:
        set_job(state, out, entry, replace(job, state=JobState.RUNNING, error=error), state.now)
    elif job.job_id not in state.ripe or entry.rank is not None:
        ripen(state, entry)
    retarget_leases(state, out, entry)
    set_alarm(state, entry)


def _wait(
    state: State,
    out: Outbox,
    entry: Entry,
    starts: int,
    error: str | None,
    *,
    held: bool = False,
    waits_for_best: bool = False,
) -> None:
    """Do not hash before the height `starts`; `error` is what else it waits for, `held` that nobody knows how long.

    A job that only waits until its best hash is valid keeps its clock: it is as good as done.
    """
    job = entry.job
    if job.state is not JobState.WAITING or job.error != error:
        set_job(state, out, entry, replace(job, state=JobState.WAITING, start_height=starts, error=error), state.now)
    elif job.start_height != starts and not held:
        # A forecast: it moves with every worker that comes, and nothing is lost if a crash forgets it.
        entry.job = replace(job, start_height=starts)
        out.progressed.add(job.job_id)
    if not waits_for_best:
        release_clock(state, entry)
    set_alarm(state, entry)


def _held_by(entry: Entry, other: Entry) -> str:
    return (
        f"it shares the clock {entry.clock} with {other.job.job_id}, whose success would void its hashes; "
        "it goes on when that job has ended"
    )


def submit(state: State, out: Outbox, entry: Entry, found: FoundProof) -> None:
    """A proof is valid: have it sent, or give it to the caller who wants to send it."""
    job = entry.job
    assert job.work is not None
    best = None if found == job.best else job.best
    if job.request.mode is Mode.RETURN_PROOF:
        job = replace(job, state=JobState.COMPLETED, found=found, best=best, error=None)
        set_job(state, out, entry, job, state.now)
        return
    take_clock(state, entry)
    job = replace(job, state=JobState.SUBMITTING, found=found, best=best, error=None)
    set_job(state, out, entry, job, state.now)
    out.command(submission(job, entry.clock))


def submission(job: Job, clock: str = "") -> SubmitProof:
    """The command that hands a submitting job's proof to the lane."""
    assert job.work is not None
    assert job.found is not None
    request = job.request
    return SubmitProof(
        job.job_id, job.work, job.found.proof, request.priority, job.signer, clock, founding=request.founding
    )


def withdraw(out: Outbox, entry: Entry, final: JobState) -> None:
    """Have the lane let go of a submitting job's proof, which is `final` then. A cancel goes before a deadline."""
    if entry.leaving is None:
        out.command(WithdrawProof(entry.job.job_id))
    if entry.leaving is not JobState.CANCELLED:
        entry.leaving = final


def deadline_missed(state: State, job: Job) -> str | None:
    """That the job's deadline is past, in one sentence; None if it is not, or if there is none."""
    deadline = job.request.deadline_height
    if deadline is None or state.head is None or state.head.height <= deadline:
        return None
    return f"its deadline, height {deadline}, is past: the chain is at height {state.head.height}"


def may_be_submitted(state: State, entry: Entry, zeros: int) -> bool:
    """Whether a proof with so many zeros can go on its way now."""
    if not entry.checked or entry.job.work is None or state.head is None:
        return False
    other = clock_holder(state, entry)
    if other is not None and other.job.state is JobState.SUBMITTING:
        return False
    return zeros >= zeros_needed(entry.job.work, state.head.height)


def _zeros(best: FoundProof | None) -> int:
    return 0 if best is None else best.proof.zeros


# ---- puzzles that are solved already -------------------------------------------------------------------------------


def remember_solved(state: State, work: Work, clock: str = "") -> None:
    """The chain took a proof for this puzzle. A node that lags may show it for a while all the same."""
    keys = [_key(work.action, work.object_id)] + ([("", clock)] if clock else [])
    for key in keys:
        state.solved[key] = work.anchor
        state.solved.move_to_end(key)
    while len(state.solved) > REMEMBERED_SOLVED:
        state.solved.popitem(last=False)


def is_solved(state: State, entry: Entry, work: Work) -> bool:
    """Whether this puzzle was completed before, by the job's object or under its clock."""
    if state.solved.get(_key(work.action, work.object_id)) == work.anchor:
        return True
    return bool(entry.clock) and state.solved.get(("", entry.clock)) == work.anchor


def park_solved(state: State, out: Outbox, entry: Entry) -> None:
    """Wait for the chain to show the next puzzle; it is read again with each block."""
    entry.checked, entry.solved = False, True
    reason = "the chain still shows a puzzle that was solved before; it is read again with the next block"
    if (entry.job.state, entry.job.error) != (JobState.QUEUED, reason):
        set_job(state, out, entry, replace(entry.job, state=JobState.QUEUED, error=reason), state.now)
    set_alarm(state, entry)


def _key(action: Action, object_id: str) -> tuple[str, str]:
    return action.value, object_id


# ---- slices of work ------------------------------------------------------------------------------------------------


def review_due(state: State, out: Outbox, room: int) -> None:
    """Decide anew what has come due, `room` jobs at most; what one event leaves over, the next takes up."""
    height = state.head.height if state.head is not None else -1
    while room and state.agenda and state.agenda[0][0] <= height:
        due, job_id = heapq.heappop(state.agenda)
        entry = state.entries.get(job_id)
        if entry is None or entry.wake_at != due:
            continue
        room -= 1
        entry.wake_at = 0
        if entry.solved:
            ask(state, entry)
        review(state, out, entry)
    while room and state.reviews:
        job_id = next(iter(state.reviews))
        del state.reviews[job_id]
        if (entry := state.entries.get(job_id)) is not None:
            room -= 1
            review(state, out, entry)


def replan(state: State, out: Outbox, slice_size: int) -> None:
    """Recompute start heights of waiting jobs if the fleet, the blocks or the rivals are not what they were."""
    if state.head is None:
        return
    now = _circumstances(state)
    if _has_moved(state.planned_for, now, halfway=bool(state.replanning)):
        state.planned_for = now
        # The agenda is a heap, so whoever wakes soon stands near its beginning; the list is worked off from its end.
        state.replanning = [job_id for _, job_id in reversed(state.agenda)]
    for _ in range(min(slice_size, len(state.replanning))):
        entry = state.entries.get(state.replanning.pop())
        if entry is not None and entry.job.state is JobState.WAITING and entry.checked:
            review(state, out, entry)


def _circumstances(state: State) -> Circumstances:
    return Circumstances(state.fleet_rate or ASSUMED_RATE, state.block_seconds, tuple(state.runnable))


def _planned_pace(state: State) -> Pace:
    """The pace that all start heights are computed for until it has changed by a step: its tables are kept."""
    planned = state.planned_for
    if planned is None:
        planned = state.planned_for = _circumstances(state)
    return Pace(planned.rate, planned.block_seconds)


def _has_moved(before: Circumstances | None, now: Circumstances, *, halfway: bool) -> bool:
    """Whether to begin anew; halfway through only for a large change, so that the end is reached some time."""
    if before is None:
        return True
    if halfway:
        return _differ(before.rate, now.rate, _RESTART_STEP)
    if _differ(before.rate, now.rate, _PACE_STEP) or _differ(before.block_seconds, now.block_seconds, _PACE_STEP):
        return True
    rivals = zip(before.runnable, now.runnable, strict=True)
    return any(_differ(1.0 + one, 1.0 + other, _RIVALS_STEP) for one, other in rivals)


def _differ(one: float, other: float, step: float) -> bool:
    return max(one, other) > step * min(one, other)
