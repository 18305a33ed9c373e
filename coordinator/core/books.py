"""Where a job changes: `set_job` gives it its new value and brings every index into line with it."""

from __future__ import annotations

import heapq
from dataclasses import replace

from coordinator.core.clocks import leave_clock, release_clock
from coordinator.core.commands import CancelLease
from coordinator.core.job import Job, JobState
from coordinator.core.lease import Lease
from coordinator.core.order import ripen, unripen
from coordinator.core.schedule import valid_height, zeros_needed
from coordinator.core.state import Entry, Outbox, State
from hashfleet.difficulty import first_age

#: Finished jobs whose ids are remembered, so that a late hit is told "stale" and not "unknown job".
REMEMBERED_JOBS = 10_000
#: Dead items that the agenda may hold beside each live one before it is swept.
_SPARE_ITEMS = 3


def set_job(state: State, out: Outbox, entry: Entry, job: Job, now: float) -> None:
    """Give a job its new value. The one place where a job changes; a final state takes it off the books."""
    if job.state is not JobState.WAITING and job.start_height is not None:
        job = replace(job, start_height=None)
    job = replace(job, updated_at=now, completed_at=now if job.state.final else None)
    runs = job.state is JobState.RUNNING and entry.checked
    if entry.job.job_id in state.ripe and (not runs or entry.job.request.priority is not job.request.priority):
        unripen(state, entry)
    entry.job = out.changed[job.job_id] = job
    if runs:
        ripen(state, entry)
    else:
        unripen(state, entry)
        cancel_leases(state, out, entry)
    if job.state is JobState.QUEUED:
        release_clock(state, entry)
    if job.state.final:
        _close(state, entry)
    else:
        set_alarm(state, entry)


def _close(state: State, entry: Entry) -> None:
    job_id = entry.job.job_id
    leave_clock(state, entry)
    set_dependencies(state, entry, ())
    state.readings.pop(job_id, None)
    state.reviews.pop(job_id, None)
    del state.entries[job_id]
    del state.claims[entry.job.request.claim]
    state.over[job_id] = None
    while len(state.over) > REMEMBERED_JOBS:
        state.over.popitem(last=False)


def set_dependencies(state: State, entry: Entry, objects: tuple[str, ...]) -> None:
    """Note the objects whose change makes the job's reading doubtful."""
    if objects == entry.depends_on:
        return
    for object_id in entry.depends_on:
        dependents = state.dependents[object_id]
        dependents.discard(entry.job.job_id)
        if not dependents:
            del state.dependents[object_id]
    entry.depends_on = objects
    for object_id in objects:
        state.dependents.setdefault(object_id, set()).add(entry.job.job_id)


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
    book(state, lease, -1)


def book(state: State, lease: Lease, sign: int) -> None:
    """Count a lease into (1) or out of (-1) its device's room."""
    worker = state.workers[lease.worker_id]
    device = worker.devices[lease.device_id]
    device.book(lease, sign)
    state.room.file(device, open_to_leases=not worker.draining and device.resting_until <= state.now)


def set_alarm(state: State, entry: Entry) -> None:
    """Find the next height at which something about the job is to be decided, and put it on the agenda."""
    height = state.head.height if state.head is not None else 0
    wakes = _next_change(entry, height)
    if wakes and wakes != entry.wake_at:
        agenda = state.agenda
        if len(agenda) > 1024 + _SPARE_ITEMS * len(state.entries):
            agenda[:] = [item for item in agenda if _alive(state, item)]
            heapq.heapify(agenda)
        heapq.heappush(agenda, (wakes, entry.job.job_id))
    entry.wake_at = wakes


def _alive(state: State, item: tuple[int, str]) -> bool:
    entry = state.entries.get(item[1])
    return entry is not None and entry.wake_at == item[0]


def _next_change(entry: Entry, height: int) -> int:
    """The next height at which time alone changes something for the job; 0 if none will."""
    job, work = entry.job, entry.job.work
    changes = []
    if job.request.deadline_height is not None:
        changes.append(max(job.request.deadline_height, height) + 1)
    if job.state is JobState.SUBMITTING:
        return min(changes, default=0)
    if entry.solved:
        changes.append(height + 1)
    if entry.checked and work is not None:
        if job.best is not None:
            valid = valid_height(work, job.best.proof.zeros)
            if valid > height:
                changes.append(valid)
        if job.state is JobState.RUNNING:
            falls = next_fall(entry, height)
            if falls is not None:
                changes.append(falls)
        elif job.start_height is not None and job.start_height > height:
            changes.append(job.start_height)
    return min(changes, default=0)


def next_fall(entry: Entry, height: int) -> int | None:
    """The first height after `height` at which fewer zeros are asked; None once it is one."""
    work = entry.job.work
    assert work is not None
    zeros = zeros_needed(work, height)
    return None if zeros <= 1 else work.anchor + first_age(zeros - 1, work.range) - 1
