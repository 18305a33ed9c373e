"""Which device hashes what next: granting, growing, returning and losing leases."""

from __future__ import annotations

import heapq
from dataclasses import replace

from coordinator.core.books import book, cancel_leases, next_fall
from coordinator.core.commands import GrantLease, RetargetLease
from coordinator.core.events import LeaseEnd, LeaseEnded, LeaseProgressed
from coordinator.core.lease import COUNTER_DIGITS, Lease, NonceRange, fresh_range
from coordinator.core.order import first_in_queue, note_grant, want_lease, want_no_lease
from coordinator.core.roster import Device
from coordinator.core.schedule import report_zeros, zeros_needed
from coordinator.core.state import Entry, Outbox, QueueKey, Rank, State
from hashfleet.difficulty import expected_hashes
from hashfleet.message import lay_out

#: A lease is sized to about this much hashing: long beside a round trip, short beside a block.
LEASE_SECONDS = 5.0
#: Near a fall of the difficulty it ends about there, because then the order of the jobs changes and a hash in hand
#: may become valid; but it is never shorter than this, which is still long beside a round trip.
SHORTEST_LEASE_SECONDS = 1.0
#: The lease of a small job holds this many times the expected hashes: one in e**8 = 3,000 ends without a hit.
SMALL_SPARE = 8
#: A device whose lease failed rests this long, times the failures in a row.
REST_SECONDS = 5.0


def fill_devices(state: State, out: Outbox, now: float) -> None:
    """Grant leases, best job first and to the device with the least in hand, until nobody has room or wants more."""
    while not state.room.none and (choice := _next_grant(state)) is not None:
        entry, device, small = choice
        _grant(state, out, entry, device, small, now)


def _next_grant(state: State) -> tuple[Entry, Device, bool] | None:
    """The job of the best rank for which there is room, where, and whether it is small there.

    A small job may find room where a large one of a better rank does not: small leases have room of their own.
    """
    best: tuple[Entry, Device, bool] | None = None
    for key in sorted(state.queues):
        entry = _first_with_budget(state, key)
        if entry is None or (best is not None and _rank(entry) > _rank(best[0])):
            continue
        zeros, helped = key
        place = state.room.emptiest(zeros, may_be_small=not helped)
        if place is not None:
            best = (entry, *place)
    return best


def _rank(entry: Entry) -> Rank:
    assert entry.rank is not None
    return entry.rank


def _first_with_budget(state: State, key: QueueKey) -> Entry | None:
    while key in state.queues and (entry := first_in_queue(state, key)) is not None:
        if _budget_left(state, entry) != 0:
            return entry
        want_no_lease(entry)  # until a lease ends short of what it was granted
    return None


def _budget_left(state: State, entry: Entry) -> int | None:
    """Hashes that may still be leased out; None means any number."""
    most = entry.job.request.max_hashes
    if most is None:
        return None
    out = sum(lease.range.count - lease.done for lease in map(state.leases.__getitem__, entry.leases))
    return max(0, most - entry.job.hashes - out)


def _grant(state: State, out: Outbox, entry: Entry, device: Device, small: bool, now: float) -> None:
    job = entry.job
    assert job.work is not None
    assert state.head is not None
    zeros = zeros_needed(job.work, state.head.height)
    expected = expected_hashes(zeros)
    size = SMALL_SPARE * expected if small else max(1, int(device.best_rate * _lease_seconds(state, entry)))
    budget = _budget_left(state, entry)
    if budget is not None:
        size = min(size, budget)
    number, state.next_lease = state.next_lease, state.next_lease + 1
    taken = _take_range(state, entry, number, size)
    asked = zeros if small else _report_zeros(state, entry, taken.count)
    lease = Lease(
        lease_id=f"l_{state.salt}_{number}",
        worker_id=device.worker_id,
        device_id=device.offer.info.device_id,
        job_id=job.job_id,
        space=lay_out(job.work.prefix, taken.extranonce, COUNTER_DIGITS, job.request.max_nonce_digits),
        range=taken,
        zeros=asked,
        granted_at=now,
        seconds=min(taken.count, expected) / device.best_rate,
        ends_with_hit=small,
        least_zeros=asked,
    )
    state.leases[lease.lease_id] = lease
    entry.hold(lease.lease_id)
    device.leases[lease.lease_id] = None
    book(state, lease, 1)
    note_grant(state, entry, lease.seconds)
    if small:
        want_no_lease(entry)  # one is enough; it wants another when this one ends without a proof
    else:
        want_lease(state, entry)
    out.progressed.add(job.job_id)
    out.command(GrantLease(device.worker_id, lease))


def _lease_seconds(state: State, entry: Entry) -> float:
    """Seconds that a large lease of this job should last."""
    assert state.head is not None
    falls = next_fall(entry, state.head.height)
    if falls is None:
        return LEASE_SECONDS
    since_block = max(0.0, state.now - state.head.seen_at)
    left = (falls - state.head.height) * state.block_seconds - since_block
    return min(LEASE_SECONDS, max(SHORTEST_LEASE_SECONDS, left))


def _report_zeros(state: State, entry: Entry, lease_hashes: int) -> int:
    """Zeros from which a large lease reports a hash: what is needed, or what would be a better one to keep."""
    job = entry.job
    assert job.work is not None
    assert state.head is not None
    best = 0 if job.best is None else job.best.proof.zeros
    return report_zeros(job.work, state.head.height, lease_hashes, best)


def _take_range(state: State, entry: Entry, number: int, size: int) -> NonceRange:
    """Ranges that came back go out first, so that nothing is skipped for good."""
    if entry.returned:
        taken, rest = entry.returned[0].split(size)
        entry.returned = entry.returned[1:] if rest is None else (rest, *entry.returned[1:])
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
    _check_budget(state, lease.job_id)


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


def _check_budget(state: State, job_id: str) -> None:
    """Have a job decided anew that spent what its caller allowed."""
    entry = state.entries.get(job_id)
    if entry is not None:
        most = entry.job.request.max_hashes
        if most is not None and entry.job.hashes >= most:
            state.reviews[job_id] = None


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
        heapq.heappush(state.resting, (device.resting_until, lease.worker_id, lease.device_id))
        state.room.file(device, open_to_leases=False)
    elif event.done:
        device.failures = 0
    release_lease(state, lease.lease_id)
    _check_budget(state, lease.job_id)


def release_lease(state: State, lease_id: str) -> None:
    """Take a lease off the books; what it did not search of a live job's work goes out again."""
    lease = state.leases.pop(lease_id)
    worker = state.workers.get(lease.worker_id)
    if worker is not None:
        device = worker.devices[lease.device_id]
        del device.leases[lease_id]
        if not lease.cancelled:
            book(state, lease, -1)
        if not device.leases:
            device.rate = 0.0
    entry = state.entries.get(lease.job_id)
    if entry is None:
        return
    entry.let_go(lease_id)
    left = lease.range.after(lease.done)
    if left is not None and _of_this_work(entry, lease):
        entry.returned = (*entry.returned, left)
    if lease.job_id in state.ripe:
        want_lease(state, entry)


def retarget_leases(state: State, out: Outbox, entry: Entry) -> None:
    """Tell the devices on this job from how many zeros on they report now, where that changed."""
    assert entry.job.work is not None
    assert state.head is not None
    needed = zeros_needed(entry.job.work, state.head.height)
    for lease_id in sorted(entry.leases):
        lease = state.leases[lease_id]
        if lease.cancelled or not _of_this_work(entry, lease):
            continue
        zeros = needed if lease.ends_with_hit else _report_zeros(state, entry, lease.range.count)
        if lease.zeros != zeros:
            least = min(zeros, lease.least_zeros)
            state.leases[lease_id] = replace(lease, zeros=zeros, least_zeros=least)
            out.command(RetargetLease(lease.worker_id, lease_id, zeros))


def drop_ranges(state: State, out: Outbox, entry: Entry) -> None:
    """The prefix changed: stop everybody and forget which nonces were tried."""
    entry.returned = ()
    entry.granted = 0.0
    cancel_leases(state, out, entry)


def _held_by(state: State, worker_id: str, lease_id: str) -> Lease | None:
    """The lease, if it is this worker's; a lease it lost before is no longer its to speak for."""
    lease = state.leases.get(lease_id)
    return lease if lease is not None and lease.worker_id == worker_id else None


def _of_this_work(entry: Entry, lease: Lease) -> bool:
    return entry.job.work is not None and entry.job.work.prefix == lease.space.prefix
