"""What a caller is shown of a job and of the fleet: the stored value plus what only holds now."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.core.job import Job, JobState
from coordinator.core.schedule import Pace, age, expected_height, expected_seconds, zeros_needed
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


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as it stands now."""

    job: Job
    #: Age and difficulty at the chain's committed height; None before the work or the height is known.
    current_age: int | None = None
    current_difficulty: int | None = None
    waiting: Waiting | None = None
    progress: Progress | None = None


def view_job(state: State, job: Job) -> JobView:
    """The view of an unfinished or a finished job."""
    if job.work is None or state.head is None:
        return JobView(job)
    height = state.head.height
    entry = state.entries.get(job.job_id)
    progress = None
    if job.state is JobState.RUNNING and entry is not None:
        progress = _progress(state, entry, height)
    elif job.found is not None or job.hashes:
        progress = Progress(job.hashes, 0.0, None, None, 0)
    return JobView(
        job,
        current_age=age(job.work, height),
        current_difficulty=zeros_needed(job.work, height),
        waiting=_waiting(state, job, height) if job.state is JobState.WAITING else None,
        progress=progress,
    )


def _progress(state: State, entry: Entry, height: int) -> Progress:
    assert entry.job.work is not None
    leases = [state.leases[lease_id] for lease_id in entry.leases]
    pace = Pace(sum(lease.rate for lease in leases), state.block_seconds)
    seconds = expected_seconds(entry.job.work, height, pace)
    return Progress(
        hashes=entry.job.hashes,
        hash_rate=pace.rate,
        eta_seconds=seconds,
        expected_block=None if seconds is None else expected_height(height, seconds, pace),
        workers=len({lease.worker_id for lease in leases}),
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
