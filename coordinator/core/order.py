"""Who is leased next: the order of ripe jobs.

Classes go before each other: critical, interactive, bulk. Within a class the job with the least expected work left goes
first (the mean time to finish is least that way; the search has no memory, so what is left is 16^D), then the one with
the least hashing granted for its weight, then the older.

Nothing starves: a ripe job rises by one class for each AGING_SECONDS in which it got no lease, in the end above the
critical ones into a class that is served in the order of the last lease. A job that got there waits only for those
that were there before it, so a ripe job of priority p gets a lease after p * AGING_SECONDS and, at the latest, one
lease more for each job that was ripe by then.
"""

from __future__ import annotations

import heapq

from coordinator.core.schedule import zeros_needed
from coordinator.core.state import Entry, QueueKey, Rank, State

#: A ripe job without a lease rises by one class each time that so much time has passed: many leases, few minutes.
AGING_SECONDS = 60.0
#: The class that everything rises to.
OVERDUE = 0
#: Jobs that rise in one event at most, so that an event stays short.
AGING_SLICE = 2_000
#: Dead items that a queue may hold beside each ripe job before it is swept.
_SPARE_ITEMS = 4


def ripen(state: State, entry: Entry) -> None:
    """The job may be leased from now on."""
    job = entry.job
    if job.job_id not in state.ripe:
        state.ripe.add(job.job_id)
        state.runnable[job.request.priority] += 1
        entry.idle_since = state.now
    _watch_age(state, entry)
    want_lease(state, entry)


def note_grant(state: State, entry: Entry, seconds: float) -> None:
    """The job was granted a lease of so much hashing; whether it wants another is said apart."""
    entry.granted += seconds
    entry.idle_since = state.now
    _watch_age(state, entry)


def _watch_age(state: State, entry: Entry) -> None:
    if not entry.aging:
        entry.aging = True
        heapq.heappush(state.aging, (entry.idle_since + AGING_SECONDS, entry.job.job_id))


def unripen(state: State, entry: Entry) -> None:
    """The job is not to be leased any more; to be called before its priority changes."""
    job = entry.job
    if job.job_id in state.ripe:
        state.ripe.discard(job.job_id)
        state.runnable[job.request.priority] -= 1
    entry.rank = entry.queue = None


def effective_class(state: State, entry: Entry) -> int:
    """The class of a ripe job now: its priority, less one for each AGING_SECONDS without a lease."""
    risen = int(max(0.0, state.now - entry.idle_since) // AGING_SECONDS)
    return max(OVERDUE, int(entry.job.request.priority) - risen)


def want_lease(state: State, entry: Entry) -> None:
    """Put a ripe job where its rank belongs; to be called whenever something of it that ranks has changed."""
    job = entry.job
    assert job.work is not None
    assert state.head is not None
    zeros = zeros_needed(job.work, state.head.height)
    rank: Rank
    effective = effective_class(state, entry)
    if effective == OVERDUE:
        rank = (OVERDUE, 0, entry.idle_since, job.created_at, job.job_id)
    else:
        rank = (effective, zeros, entry.granted / job.request.weight, job.created_at, job.job_id)
    key = (zeros, bool(entry.leases))
    if entry.rank == rank and entry.queue == key:
        return
    entry.rank, entry.queue = rank, key
    queue = state.queues.setdefault(key, [])
    if len(queue) > 64 + _SPARE_ITEMS * len(state.ripe):
        queue[:] = [item for item in queue if _alive(state, key, item)]
        heapq.heapify(queue)
    heapq.heappush(queue, (rank, job.job_id))


def want_no_lease(entry: Entry) -> None:
    """A ripe job needs no further lease for now."""
    entry.rank = entry.queue = None


def first_in_queue(state: State, key: QueueKey) -> Entry | None:
    """The job of the best rank in one queue."""
    queue = state.queues[key]
    while queue:
        if _alive(state, key, queue[0]):
            return state.entries[queue[0][1]]
        heapq.heappop(queue)
    del state.queues[key]
    return None


def let_age(state: State) -> None:
    """Let the jobs rise whose time has come; to be called as time passes."""
    for _ in range(AGING_SLICE):
        if not state.aging or state.aging[0][0] > state.now:
            return
        due, job_id = heapq.heappop(state.aging)
        entry = state.entries.get(job_id)
        if entry is None:
            continue
        entry.aging = False
        if job_id not in state.ripe:
            continue
        if entry.rank is not None:
            want_lease(state, entry)
        if effective_class(state, entry) > OVERDUE or entry.rank is None:
            # not before it can have risen again; a lease since then starts the count anew
            risen = int(max(0.0, state.now - entry.idle_since) // AGING_SECONDS)
            entry.aging = True
            again = max(entry.idle_since + (risen + 1) * AGING_SECONDS, due + 1.0)
            heapq.heappush(state.aging, (again, job_id))


def _alive(state: State, key: QueueKey, item: tuple[Rank, str]) -> bool:
    entry = state.entries.get(item[1])
    return entry is not None and entry.rank == item[0] and entry.queue == key
