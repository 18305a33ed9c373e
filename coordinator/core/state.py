"""Everything the core remembers between two events. Changed only by `machine` and the rules that it calls."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field, replace

from coordinator.core.commands import CancelLease, Command
from coordinator.core.job import Job, JobState
from coordinator.core.lease import Lease, NonceRange
from coordinator.core.roster import Worker, fleet_rate
from coordinator.core.schedule import ASSUMED_BLOCK_SECONDS, Pace, zeros_needed
from hashfleet.action import Action

#: Finished jobs whose ids are remembered, so that a late hit is told "stale" and not "unknown job".
REMEMBERED_JOBS = 10_000


#: Who is leased first: by priority, then jobs that nobody works on, then the easier, then the older.
Rank = tuple[int, int, int, float, str]


@dataclass(slots=True)
class Entry:
    """An unfinished job and what is known about it only while the coordinator runs."""

    job: Job
    #: The work was read from the chain since the coordinator started; nothing is leased before.
    checked: bool = False
    #: A ReadWork command is not answered yet.
    reading: bool = False
    #: Height at which the chain is asked again.
    look_at: int = 0
    #: Time before which the chain is not asked again, after it gave no answer.
    retry_at: float = 0.0
    #: Answers missed in a row.
    misses: int = 0
    #: Ranges that came back unfinished, to be issued first.
    returned: list[NonceRange] = field(default_factory=list)
    #: Leases out, by id.
    leases: set[str] = field(default_factory=set)
    #: Until when hashing time is counted in job.hash_seconds.
    counted_until: float = 0.0
    #: Its place in `State.queue`; None while it wants no lease.
    rank: Rank | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The chain's last committed block."""

    height: int
    time: float


@dataclass(slots=True)
class State:
    """The fleet, its jobs and the chain as seen so far."""

    #: Random part of this run's extranonces.
    salt: int
    entries: dict[str, Entry] = field(default_factory=dict)
    #: Which unfinished job works on which clock.
    claims: dict[tuple[Action, str], str] = field(default_factory=dict)
    #: Ids of jobs that are ripe, checked and may be leased.
    ripe: set[str] = field(default_factory=set)
    #: Ripe jobs that want a lease, best rank first. Items whose rank is not the job's are dead.
    queue: list[tuple[Rank, str]] = field(default_factory=list)
    #: (height, job id): when to look at which job again. Entries whose height is not the job's look_at are dead.
    agenda: list[tuple[int, str]] = field(default_factory=list)
    #: Ids of jobs about which the chain gave no usable answer; they have a retry_at.
    missed: set[str] = field(default_factory=set)
    #: Ids of finished jobs, oldest first.
    over: OrderedDict[str, None] = field(default_factory=OrderedDict)
    workers: dict[str, Worker] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    next_lease: int = 1
    head: Head | None = None
    #: Smoothed seconds per block.
    block_seconds: float = ASSUMED_BLOCK_SECONDS
    #: True once block_seconds is a measurement.
    block_seconds_measured: bool = False

    @property
    def pace(self) -> Pace:
        """How fast the fleet and the chain are now."""
        return Pace(fleet_rate(self.workers), self.block_seconds)


@dataclass(slots=True)
class Outbox:
    """What one event leads to: jobs to store, then commands to carry out."""

    changed: dict[str, Job] = field(default_factory=dict)
    #: Jobs whose progress moved; watchers hear of it, the store does not.
    progressed: set[str] = field(default_factory=set)
    commands: list[Command] = field(default_factory=list)

    def command(self, command: Command) -> None:
        self.commands.append(command)


def set_job(state: State, out: Outbox, entry: Entry, job: Job, now: float) -> None:
    """Give a job its new value. The one place where a job changes; a final state takes it off the books."""
    if job.state is not JobState.WAITING:
        job = replace(job, start_height=None)
    entry.job = job = replace(job, updated_at=now, completed_at=now if job.state.final else None)
    out.changed[job.job_id] = job
    if job.state is JobState.RUNNING and entry.checked:
        state.ripe.add(job.job_id)
        want_lease(state, entry)
    else:
        state.ripe.discard(job.job_id)
        entry.rank = None
        cancel_leases(state, out, entry)
    if job.state.final:
        del state.entries[job.job_id]
        del state.claims[job.request.claim]
        state.missed.discard(job.job_id)
        state.over[job.job_id] = None
        while len(state.over) > REMEMBERED_JOBS:
            state.over.popitem(last=False)


def cancel_leases(state: State, out: Outbox, entry: Entry) -> None:
    """Tell every device that works on this job to stop."""
    for lease_id in sorted(entry.leases):
        lease = state.leases[lease_id]
        if not lease.cancelled:
            count_as_stopping(state, lease)
            out.command(CancelLease(lease.worker_id, lease_id))


def count_as_stopping(state: State, lease: Lease) -> None:
    """The device is about to stop this lease: its place is free for another."""
    state.leases[lease.lease_id] = replace(lease, cancelled=True)
    state.workers[lease.worker_id].devices[lease.device_id].book(lease, -1)


def want_lease(state: State, entry: Entry) -> None:
    """Put a ripe job where its rank belongs; to be called whenever something of it that ranks has changed."""
    job = entry.job
    assert job.work is not None
    assert state.head is not None
    zeros = zeros_needed(job.work, state.head.height)
    rank = (int(job.request.priority), len(entry.leases), zeros, job.created_at, job.job_id)
    if entry.rank != rank:
        entry.rank = rank
        heapq.heappush(state.queue, (rank, job.job_id))


def look_again(state: State, entry: Entry, height: int) -> None:
    """Ask the chain about this job again once `height` is committed."""
    entry.look_at = height
    heapq.heappush(state.agenda, (height, entry.job.job_id))
