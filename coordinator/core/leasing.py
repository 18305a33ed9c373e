"""Which device hashes what next: granting, growing, returning and losing leases."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import replace

from coordinator.core.commands import GrantLease, RetargetLease
from coordinator.core.events import LeaseEnd, LeaseEnded, LeaseProgressed
from coordinator.core.job import JobState
from coordinator.core.lease import COUNTER_DIGITS, Lease, NonceRange, fresh_range
from coordinator.core.roster import Device, Worker
from coordinator.core.schedule import zeros_needed
from coordinator.core.state import Entry, Outbox, State, cancel_leases, set_job, want_lease
from hashfleet.difficulty import expected_hashes
from hashfleet.message import lay_out

#: A lease is sized to about this much hashing: long beside a round trip, short beside a block.
LEASE_SECONDS = 5.0
#: A job that a device is expected to solve within this is small: it gets one lease, which ends with its first hit.
SMALL_SECONDS = 0.05
#: Such a lease holds this many times the expected hashes: one in e**8 = 3,000 ends without a hit.
SMALL_SPARE = 8
#: A device whose lease failed rests this long, times the failures in a row.
REST_SECONDS = 5.0


def fill_devices(state: State, out: Outbox, now: float) -> None:
    """Grant leases, to the device with the least in hand first, until every device has enough or nobody wants more."""
    if not state.ripe or state.head is None:
        return
    room = [
        (device.large, device.small_seconds, number, worker, device)
        for number, (worker, device) in enumerate(_takers(state, now))
    ]
    heapq.heapify(room)
    while room and (entry := _first_in_queue(state)) is not None:
        _, _, number, worker, device = heapq.heappop(room)
        small = _is_small(state, entry, device)
        if not device.has_room(small):
            continue
        _grant(state, out, entry, worker, device, small, now)
        heapq.heappush(room, (device.large, device.small_seconds, number, worker, device))


def _takers(state: State, now: float) -> Iterator[tuple[Worker, Device]]:
    """Devices that may be granted something."""
    for worker in state.workers.values():
        if not worker.draining:
            for device in worker.devices.values():
                if device.resting_until <= now and (device.has_room(small=True) or device.has_room(small=False)):
                    yield worker, device


def _first_in_queue(state: State) -> Entry | None:
    """The ripe job of the best rank that wants a lease and may be given one."""
    while state.queue:
        rank, job_id = state.queue[0]
        entry = state.entries.get(job_id)
        if entry is not None and entry.rank == rank:
            if _budget_left(state, entry) != 0:
                return entry
            entry.rank = None  # until a lease ends short of what it was granted
        heapq.heappop(state.queue)
    return None


def _is_small(state: State, entry: Entry, device: Device) -> bool:
    """Whether this device is expected to solve the job at once, so that many such jobs ride together."""
    assert entry.job.work is not None
    assert state.head is not None
    zeros = zeros_needed(entry.job.work, state.head.height)
    return not entry.leases and expected_hashes(zeros) <= device.best_rate * SMALL_SECONDS


def _budget_left(state: State, entry: Entry) -> int | None:
    """Hashes that may still be leased out; None means any number."""
    most = entry.job.request.max_hashes
    if most is None:
        return None
    out = sum(lease.range.count - lease.done for lease in map(state.leases.__getitem__, entry.leases))
    return max(0, most - entry.job.hashes - out)


def _grant(state: State, out: Outbox, entry: Entry, worker: Worker, device: Device, small: bool, now: float) -> None:
    job = entry.job
    assert job.work is not None
    assert state.head is not None
    zeros = zeros_needed(job.work, state.head.height)
    expected = expected_hashes(zeros)
    size = SMALL_SPARE * expected if small else max(1, int(device.best_rate * LEASE_SECONDS))
    budget = _budget_left(state, entry)
    if budget is not None:
        size = min(size, budget)
    number, state.next_lease = state.next_lease, state.next_lease + 1
    taken = _take_range(state, entry, number, size)
    lease = Lease(
        lease_id=f"l_{state.salt}_{number}",
        worker_id=worker.worker_id,
        device_id=device.offer.info.device_id,
        job_id=job.job_id,
        space=lay_out(job.work.prefix, taken.extranonce, COUNTER_DIGITS, job.request.max_nonce_digits),
        range=taken,
        zeros=zeros,
        granted_at=now,
        seconds=min(taken.count, expected) / device.best_rate,
        ends_with_hit=small,
    )
    state.leases[lease.lease_id] = lease
    entry.leases.add(lease.lease_id)
    device.leases[lease.lease_id] = None
    device.book(lease, 1)
    if small:
        entry.rank = None  # one is enough; it wants another when this one ends without a proof
    else:
        want_lease(state, entry)
    out.progressed.add(job.job_id)
    out.command(GrantLease(worker.worker_id, lease))


def _take_range(state: State, entry: Entry, number: int, size: int) -> NonceRange:
    """Ranges that came back go out first, so that nothing is skipped for good."""
    if entry.returned:
        taken, rest = entry.returned.pop(0).split(size)
        if rest:
            entry.returned.insert(0, rest)
        return taken
    return fresh_range(state.salt, number, size)


def progress_lease(state: State, out: Outbox, event: LeaseProgressed) -> None:
    """A worker reports how far it is."""
    lease = _held_by(state, event.worker_id, event.lease_id)
    if lease is None:
        return
    device = state.workers[lease.worker_id].devices[lease.device_id]
    device.rate = event.rate
    if not lease.ends_with_hit and event.rate > 0:
        device.large_rate = event.rate
    state.leases[lease.lease_id] = replace(lease, rate=event.rate)
    count_hashes(state, out, lease.lease_id, event.done, event.now)
    _check_budget(state, out, lease.job_id, event.now)


def count_hashes(state: State, out: Outbox, lease_id: str, done: int, now: float) -> None:
    """Book that `done` counters of a lease are searched; a report that goes backwards books nothing."""
    lease = state.leases[lease_id]
    done = min(max(done, lease.done), lease.range.count)
    fresh = done - lease.done
    state.leases[lease_id] = replace(lease, done=done)
    state.workers[lease.worker_id].devices[lease.device_id].hashes += fresh
    entry = state.entries.get(lease.job_id)
    if entry is None or not _of_this_work(entry, lease):
        return
    seconds = max(0.0, now - max(entry.counted_until, lease.granted_at))
    entry.counted_until = max(entry.counted_until, now)
    entry.job = replace(
        entry.job, hashes=entry.job.hashes + fresh, hash_seconds=entry.job.hash_seconds + seconds, updated_at=now
    )
    out.progressed.add(lease.job_id)


def _check_budget(state: State, out: Outbox, job_id: str, now: float) -> None:
    """Fail a job that spent what its caller allowed."""
    entry = state.entries.get(job_id)
    if entry is None:
        return
    most = entry.job.request.max_hashes
    if most is not None and entry.job.hashes >= most and entry.job.state is JobState.RUNNING:
        reason = f"the budget of {most} hashes is used up without a proof"
        set_job(state, out, entry, replace(entry.job, state=JobState.FAILED, error=reason), now)


def end_lease(state: State, out: Outbox, event: LeaseEnded) -> None:
    """A device is done with a lease, or gives it back."""
    lease = _held_by(state, event.worker_id, event.lease_id)
    if lease is None:
        return
    count_hashes(state, out, lease.lease_id, event.done, event.now)
    device = state.workers[lease.worker_id].devices[lease.device_id]
    if event.end is LeaseEnd.FAILED:
        device.failures += 1
        device.resting_until = event.now + REST_SECONDS * device.failures
    elif event.done:
        device.failures = 0
    release_lease(state, lease.lease_id)
    _check_budget(state, out, lease.job_id, event.now)


def release_lease(state: State, lease_id: str) -> None:
    """Take a lease off the books; what it did not search of a live job's work goes out again."""
    lease = state.leases.pop(lease_id)
    worker = state.workers.get(lease.worker_id)
    if worker is not None:
        device = worker.devices[lease.device_id]
        del device.leases[lease_id]
        if not lease.cancelled:
            device.book(lease, -1)
        if not device.leases:
            device.rate = 0.0
    entry = state.entries.get(lease.job_id)
    if entry is None:
        return
    entry.leases.discard(lease_id)
    left = lease.range.after(lease.done)
    if left is not None and _of_this_work(entry, lease):
        entry.returned.append(left)
    if lease.job_id in state.ripe:
        want_lease(state, entry)


def retarget_leases(state: State, out: Outbox, entry: Entry) -> None:
    """Tell the devices on this job how many zeros the next block asks, where that changed."""
    assert entry.job.work is not None
    assert state.head is not None
    zeros = zeros_needed(entry.job.work, state.head.height)
    for lease_id in sorted(entry.leases):
        lease = state.leases[lease_id]
        if not lease.cancelled and lease.zeros != zeros:
            state.leases[lease_id] = replace(lease, zeros=zeros)
            out.command(RetargetLease(lease.worker_id, lease_id, zeros))


def drop_ranges(state: State, out: Outbox, entry: Entry) -> None:
    """The prefix changed: stop everybody and forget which nonces were tried."""
    entry.returned.clear()
    cancel_leases(state, out, entry)


def _held_by(state: State, worker_id: str, lease_id: str) -> Lease | None:
    """The lease, if it is this worker's; a lease it lost before is no longer its to speak for."""
    lease = state.leases.get(lease_id)
    return lease if lease is not None and lease.worker_id == worker_id else None


def _of_this_work(entry: Entry, lease: Lease) -> bool:
    return entry.job.work is not None and entry.job.work.prefix == lease.space.prefix
