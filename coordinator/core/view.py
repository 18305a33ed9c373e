"""What a caller is shown of a job and of the fleet: the stored value plus what only holds now."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coordinator.core.job import Job, JobState
from coordinator.core.schedule import (
    SURE,
    Cause,
    Eta,
    Pace,
    age,
    chance_done,
    deadline_chance,
    expected_block,
    finish,
    start,
    valid_height,
    zeros_needed,
)
from coordinator.core.state import Entry, State
from hashfleet.action import Work
from hashfleet.job_request import StartMode


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a job waits and until when."""

    current_age: int
    target_age: int
    blocks_remaining: int
    difficulty: int
    target_difficulty: int
    seconds_remaining: float
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the search has come."""

    hashes: int
    #: Hashes a second, now, on this job.
    hash_rate: float
    eta_seconds: float | None
    expected_block: int | None
    #: Workers that hold a lease of the job.
    workers: int
    #: Chance, 0 to 1, that this many hashes find what is asked now. Never falls while anchor and range stay.
    fraction: float = 0.0


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as it stands now."""

    job: Job
    #: Age and difficulty at the chain's committed height; None before the work or the height is known.
    current_age: int | None = None
    current_difficulty: int | None = None
    waiting: Waiting | None = None
    progress: Progress | None = None
    #: When the proof is expected; while waiting and running, if the fleet has a rate.
    eta: Eta | None = None


def view_job(state: State, job: Job) -> JobView:
    """The view of an unfinished or a finished job."""
    work = job.work
    if work is None or state.head is None:
        return JobView(job)
    height = state.head.height
    entry = state.entries.get(job.job_id)
    eta, waiting, progress = None, None, None
    if job.state is JobState.RUNNING and entry is not None:
        pace = _pace_of(state, entry)
        eta = finish(work, height, pace, best=_best_zeros(job))
        progress = _progress(state, entry, work, height, eta)
        job = _with_deadline(job, work, height, pace)
    elif job.found is not None or job.hashes:
        fraction = 1.0 if job.found is not None else chance_done(work, height, job.hashes)
        progress = Progress(job.hashes, 0.0, None, None, 0, fraction)
    if job.state is JobState.WAITING and job.start_height is not None:
        held = _held(job, entry)
        waiting = _waiting(state, job, work, height, job.start_height, job.error if held else None)
        if not held or job.start_height == _valid(job, work):
            eta = finish(work, height, state.pace, best=_best_zeros(job), starts=job.start_height)
        job = _with_deadline(job, work, max(height, job.start_height), state.pace)
    return JobView(
        job,
        current_age=age(work, height),
        current_difficulty=zeros_needed(work, height),
        waiting=waiting,
        progress=progress,
        eta=eta,
    )


def _best_zeros(job: Job) -> int:
    return job.best.proof.zeros if job.best is not None else 0


def _valid(job: Job, work: Work) -> int | None:
    """Height at which the best hash in hand becomes valid; None without one."""
    return valid_height(work, job.best.proof.zeros) if job.best is not None else None


def _held(job: Job, entry: Entry | None) -> bool:
    """Whether the job waits for something that its error names: another job's clock, or that its budget is spent.

    An error of a job whose last reading was missed is not what it waits for.
    """
    return job.error is not None and entry is not None and not entry.misses


def _with_deadline(job: Job, work: Work, begins: int, pace: Pace) -> Job:
    """The job with a note if hashing from height `begins` on is not likely to meet its deadline."""
    chance = deadline_chance(job.request, work, begins, pace, best=_best_zeros(job))
    if chance >= SURE * 0.99 or pace.rate <= 0:  # a start for the deadline's sake is rounded to a block
        return job
    shown = f"about {chance:.0%}" if chance >= 0.01 else "less than 1 %"
    note = (
        f"the deadline, height {job.request.deadline_height}, will probably be missed: the chance to meet it is {shown}"
    )
    return replace(job, notes=(*job.notes, note))


def _pace_of(state: State, entry: Entry) -> Pace:
    """How fast a running job is hashed: as its devices report, else by an even share of the fleet among ripe jobs."""
    rate = sum(state.leases[lease_id].rate for lease_id in entry.leases)
    return Pace(rate or state.pace.rate / max(1, len(state.ripe)), state.block_seconds)


def _progress(state: State, entry: Entry, work: Work, height: int, eta: Eta | None) -> Progress:
    leases = [state.leases[lease_id] for lease_id in entry.leases]
    return Progress(
        hashes=entry.job.hashes,
        hash_rate=sum(lease.rate for lease in leases),
        eta_seconds=None if eta is None else eta.seconds,
        expected_block=None if eta is None else expected_block(height, eta.seconds, state.pace),
        workers=len({lease.worker_id for lease in leases}),
        fraction=chance_done(work, height, entry.job.hashes),
    )


def _waiting(state: State, job: Job, work: Work, height: int, starts: int, held: str | None) -> Waiting:
    remaining = max(0, starts - height)
    seconds = remaining * state.block_seconds
    return Waiting(
        current_age=age(work, height),
        target_age=age(work, starts),
        blocks_remaining=remaining,
        difficulty=zeros_needed(work, height),
        target_difficulty=zeros_needed(work, starts),
        seconds_remaining=seconds,
        reason=held or _reason(state, job, work, height, starts),
    )


def _reason(state: State, job: Job, work: Work, height: int, starts: int) -> str:
    """Why it waits until then, in one sentence: what happens, when, at which difficulty, and by which rule."""
    request, remaining = job.request, max(0, starts - height)
    when = f"at height {starts}, in {remaining} blocks (about {_duration(remaining * state.block_seconds)})"
    zeros = zeros_needed(work, starts)
    if job.best is not None and starts == _valid(job, work):
        return (
            f"a hash with {job.best.proof.zeros} zeros is in hand and valid {when}, when the difficulty has fallen "
            f"from {zeros_needed(work, height)} to {zeros}; hashing on until then is not worth it"
        )
    cause = start(request, work, height, state.pace, rivals=state.rivals(job), best=_best_zeros(job)).cause
    begins = f"hashing starts {when}, at difficulty {zeros}"
    if cause is Cause.START_DIFFICULTY:
        return f"{begins}: start_difficulty {request.start_difficulty} was asked for"
    if cause is Cause.BUDGET:
        return f"{begins}: before that, {request.max_hashes} hashes, the budget, will probably not suffice"
    if cause is Cause.DEADLINE:
        return f"{begins}: early enough to meet the deadline, height {request.deadline_height}, with a chance of 90 %"
    if request.start_mode is StartMode.ECONOMY:
        return f"{begins}: economy waits until the expected search takes about one block"
    if request.start_mode is StartMode.RACE:
        return f"{begins}: nothing is hashed before age 10"
    rivals = state.rivals(job)
    others = f" and {rivals} other job{'s' if rivals > 1 else ''} could use it" if rivals else ""
    return f"{begins}: before that, waiting for the difficulty to fall costs less than the fleet's time{others}"


def _duration(seconds: float) -> str:
    for length, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
