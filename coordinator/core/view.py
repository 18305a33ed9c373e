"""What a caller is shown of a job and of the fleet: the stored value plus what only holds now."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.core.job import Job, JobState
from coordinator.core.schedule import Eta, Pace, age, chance_done, expected_block, finish, zeros_needed
from coordinator.core.state import Entry, State


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
    if job.work is None or state.head is None:
        return JobView(job)
    height = state.head.height
    entry = state.entries.get(job.job_id)
    eta, progress = None, None
    if job.state is JobState.RUNNING and entry is not None:
        eta = finish(job.work, height, _pace_of(state, entry), best=_best_zeros(job))
        progress = _progress(state, entry, height, eta)
    elif job.found is not None or job.hashes:
        fraction = 1.0 if job.found is not None else chance_done(job.work, height, job.hashes)
        progress = Progress(job.hashes, 0.0, None, None, 0, fraction)
    if job.state is JobState.WAITING:
        eta = finish(job.work, height, state.pace, best=_best_zeros(job), starts=job.start_height)
    return JobView(
        job,
        current_age=age(job.work, height),
        current_difficulty=zeros_needed(job.work, height),
        waiting=_waiting(state, job, height) if job.state is JobState.WAITING else None,
        progress=progress,
        eta=eta,
    )


def _best_zeros(job: Job) -> int:
    return job.best.proof.zeros if job.best is not None else 0


def _pace_of(state: State, entry: Entry) -> Pace:
    """How fast a running job is hashed: as its devices report, else by an even share of the fleet among ripe jobs."""
    rate = sum(state.leases[lease_id].rate for lease_id in entry.leases)
    return Pace(rate or state.pace.rate / max(1, len(state.ripe)), state.block_seconds)


def _progress(state: State, entry: Entry, height: int, eta: Eta | None) -> Progress:
    job = entry.job
    assert job.work is not None
    leases = [state.leases[lease_id] for lease_id in entry.leases]
    return Progress(
        hashes=job.hashes,
        hash_rate=sum(lease.rate for lease in leases),
        eta_seconds=None if eta is None else eta.seconds,
        expected_block=None if eta is None else expected_block(height, eta.seconds, state.pace),
        workers=len({lease.worker_id for lease in leases}),
        fraction=chance_done(job.work, height, job.hashes),
    )


def _waiting(state: State, job: Job, height: int) -> Waiting | None:
    if job.work is None or job.start_height is None:
        return None
    remaining = max(0, job.start_height - height)
    target = zeros_needed(job.work, job.start_height)
    seconds = remaining * state.block_seconds
    return Waiting(
        current_age=age(job.work, height),
        target_age=age(job.work, job.start_height),
        blocks_remaining=remaining,
        difficulty=zeros_needed(job.work, height),
        target_difficulty=target,
        seconds_remaining=seconds,
        reason=(
            f"hashing starts at difficulty {target} in {remaining} blocks (about {seconds:.0f} s): "
            "before that, waiting for the difficulty to fall is quicker than hashing"
        ),
    )
