"""The machine: one event in, what it leads to out. Every arrow between job states is drawn by a function here::

    queued ──WorkRead──► waiting ──ripe──► running ──valid hit──► submitting ──included──► completed
       ▲                    │                 │                        │
       │                    └──── WorkRead ◄──┘ (anchor moved)         │
       └──────────────────────── stale: hash again ◄───────────────────┘

Any state before submitting goes to cancelled on request; any goes to failed when the chain says that the object will
never take the proof.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from coordinator.core.commands import DropWorker, ReadWork, SubmitProof
from coordinator.core.events import (
    BlockCommitted,
    CancelRequested,
    Event,
    HitReported,
    JobsRestored,
    JobSubmitted,
    LeaseEnded,
    LeaseProgressed,
    NothingToGrant,
    PriorityRequested,
    SignOfLife,
    SubmissionGaveUp,
    SubmissionPaused,
    SubmissionStale,
    Ticked,
    TransactionBroadcast,
    TransactionIncluded,
    TransactionSigned,
    Trouble,
    WorkerDraining,
    WorkerHeard,
    WorkerJoined,
    WorkerLost,
    WorkNotRead,
    WorkRead,
)
from coordinator.core.hits import take_hit
from coordinator.core.job import Job, JobState
from coordinator.core.leasing import (
    drop_ranges,
    end_lease,
    fill_devices,
    progress_lease,
    release_lease,
    retarget_leases,
)
from coordinator.core.roster import Device, Worker
from coordinator.core.schedule import start_height
from coordinator.core.state import Entry, Head, Outbox, State, look_again, set_job, want_lease
from hashfleet.action import Work
from hashfleet.errors import JobFinal, JobNotFound
from hashfleet.job_request import JobRequest

#: A worker that is silent for this long is taken for lost.
SILENCE_LIMIT_SECONDS = 15.0
#: A waiting job's work is read again after this many blocks, so that a moved anchor is noticed in time.
RECHECK_BLOCKS = 10
#: Seconds before the chain is asked again after it gave no answer: doubled with each miss up to the last.
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 30.0


class Machine:
    """The state of the fleet and the only way to change it: `handle`."""

    def __init__(self, salt: int) -> None:
        """`salt` is the random part of this run's extranonces: 0 to 9,999,999, new for every start."""
        self.state = State(salt)

    def handle(self, event: Event) -> Outbox:
        """Apply one event. Raises JobNotFound or JobFinal, with nothing changed, for a request that cannot be met."""
        out = Outbox()
        handler = cast("Callable[[State, Outbox, Event], None]", _HANDLERS[type(event)])
        if isinstance(event, SignOfLife) and (worker := self.state.workers.get(event.worker_id)):
            worker.last_heard = event.now
        handler(self.state, out, event)
        if not isinstance(event, NothingToGrant):
            fill_devices(self.state, out, event.now)
        return out

    def job(self, job_id: str) -> Job | None:
        """An unfinished job."""
        entry = self.state.entries.get(job_id)
        return entry.job if entry else None

    def claimant(self, request: JobRequest) -> Job | None:
        """The unfinished job that does this work."""
        found = self.state.claims.get(request.claim)
        return self.state.entries[found].job if found else None


# ---- jobs: asked for, cancelled, reprioritised -------------------------------------------------------------------


def _restore(state: State, out: Outbox, event: JobsRestored) -> None:
    for job in event.jobs:
        entry = Entry(job, checked=job.state is JobState.SUBMITTING)
        state.entries[job.job_id] = entry
        state.claims[job.request.claim] = job.job_id
        if job.state is JobState.SUBMITTING:
            _submit(out, job)
        else:
            look_again(state, entry, 0)


def _accept(state: State, out: Outbox, event: JobSubmitted) -> None:
    if event.request.claim in state.claims:
        return
    job = Job(event.job_id, event.request, JobState.QUEUED, created_at=event.now, updated_at=event.now)
    entry = Entry(job)
    state.entries[job.job_id] = entry
    state.claims[job.request.claim] = job.job_id
    out.changed[job.job_id] = job
    _ask_chain(state, out, entry)


def _cancel(state: State, out: Outbox, event: CancelRequested) -> None:
    entry = _entry(state, event.job_id)
    if entry.job.state is JobState.SUBMITTING:
        raise JobFinal(
            f"{event.job_id} has its proof and its transaction is on its way; it cannot be cancelled any more"
        )
    set_job(state, out, entry, replace(entry.job, state=JobState.CANCELLED, error=None), event.now)


def _prioritise(state: State, out: Outbox, event: PriorityRequested) -> None:
    entry = _entry(state, event.job_id)
    if entry.job.request.priority is not event.priority:
        request = replace(entry.job.request, priority=event.priority)
        set_job(state, out, entry, replace(entry.job, request=request), event.now)


def _entry(state: State, job_id: str) -> Entry:
    entry = state.entries.get(job_id)
    if entry is None:
        raise JobNotFound(f"there is no unfinished job {job_id}")
    return entry


# ---- the chain: blocks, and what it says about a job's work ------------------------------------------------------


def _advance(state: State, out: Outbox, event: BlockCommitted) -> None:
    last = state.head
    if last is not None and event.height <= last.height:
        return
    if last is not None and event.time > last.time:
        measured = (event.time - last.time) / (event.height - last.height)
        weight = 0.1 if state.block_seconds_measured else 1.0
        state.block_seconds += weight * (measured - state.block_seconds)
        state.block_seconds_measured = True
    state.head = Head(event.height, event.time)
    for job_id in sorted(state.ripe):
        ripe = state.entries[job_id]
        retarget_leases(state, out, ripe)
        if ripe.rank is not None:
            want_lease(state, ripe)
    while state.agenda and state.agenda[0][0] <= event.height:
        height, job_id = heapq.heappop(state.agenda)
        entry = state.entries.get(job_id)
        if entry is not None and entry.look_at == height:
            _ask_chain(state, out, entry)


def _ask_chain(state: State, out: Outbox, entry: Entry) -> None:
    if not entry.reading and entry.job.state is not JobState.SUBMITTING:
        entry.reading = True
        out.command(ReadWork(entry.job.job_id, entry.job.request, check_signer=not entry.checked))


def _plan(state: State, out: Outbox, event: WorkRead) -> None:
    """The chain told the puzzle: hash now, or wait for the height at which hashing pays."""
    entry = state.entries.get(event.job_id)
    if entry is None:
        return
    entry.reading, entry.misses, entry.retry_at = False, 0, 0.0
    state.missed.discard(event.job_id)
    if entry.job.state is JobState.SUBMITTING:
        return
    if state.head is None:
        look_again(state, entry, 0)
        return
    entry.checked = True
    before = entry.job.work
    if before != event.work:
        _change_work(state, out, entry, event.work, event.now)
    if entry.job.work == before and entry.job.state is JobState.RUNNING:
        _go_on(state, out, entry, event.now)
    else:
        _wait_or_run(state, out, entry, event.now)


def _change_work(state: State, out: Outbox, entry: Entry, work: Work, now: float) -> None:
    """The puzzle is new or another than before. The same prefix keeps its tried nonces: only the range moved."""
    job = entry.job
    if job.work is None or job.work.prefix != work.prefix:
        drop_ranges(state, out, entry)
        job = replace(job, work=work, hashes=0, hash_seconds=0.0, notes=_notes(job, work))
        set_job(state, out, entry, job, now)
    else:
        set_job(state, out, entry, replace(job, work=work), now)
        retarget_leases(state, out, entry)


def _notes(job: Job, work: Work) -> tuple[str, ...]:
    """Where the caller's picture of the chain differs from the chain."""
    asked, notes = job.request, []
    if asked.anchor_hint not in (None, work.anchor):
        notes.append(
            f"block_start {asked.anchor_hint} was given, but the chain's is {work.anchor}; the chain's is used"
        )
    if asked.range_hint not in (None, work.range):
        notes.append(f"difficulty range {asked.range_hint} was given, but the chain's is {work.range}; that is used")
    if asked.target_id not in (None, work.target_id):
        notes.append(f"target {asked.target_id} was given, but the fleet stands at {work.target_id}; that is used")
    return tuple(notes)


def _go_on(state: State, out: Outbox, entry: Entry, now: float) -> None:
    """Nothing changed: a job that runs is not put back to waiting only because the fleet became slower."""
    assert state.head is not None
    if entry.job.error:
        set_job(state, out, entry, replace(entry.job, error=None), now)
    elif entry.job.job_id not in state.ripe:
        state.ripe.add(entry.job.job_id)
        want_lease(state, entry)
    # A job in nobody's hands is read before much is spent on it; the lane reads it once more before it sends.
    look_again(state, entry, state.head.height + (1 if entry.leases else RECHECK_BLOCKS))


def _wait_or_run(state: State, out: Outbox, entry: Entry, now: float) -> None:
    assert state.head is not None
    assert entry.job.work is not None
    height = state.head.height
    starts = start_height(entry.job.request, entry.job.work, height, state.pace)
    if starts > height:
        if (entry.job.state, entry.job.start_height, entry.job.error) != (JobState.WAITING, starts, None):
            job = replace(entry.job, state=JobState.WAITING, start_height=starts, error=None)
            set_job(state, out, entry, job, now)
        look_again(state, entry, min(starts, height + RECHECK_BLOCKS))
    else:
        set_job(state, out, entry, replace(entry.job, state=JobState.RUNNING, error=None), now)
        look_again(state, entry, height + 1)


def _miss(state: State, out: Outbox, event: WorkNotRead) -> None:
    """The chain told no puzzle: fail if it never will, else say why and ask again."""
    entry = state.entries.get(event.job_id)
    if entry is None:
        return
    entry.reading = False
    if entry.job.state is JobState.SUBMITTING:
        return
    if event.trouble in (Trouble.GONE, Trouble.NOT_ALLOWED):
        set_job(state, out, entry, replace(entry.job, state=JobState.FAILED, error=event.reason), event.now)
        return
    state.missed.add(event.job_id)
    entry.misses += 1
    delay = min(FIRST_RETRY_SECONDS * 2 ** (entry.misses - 1), LAST_RETRY_SECONDS)
    entry.retry_at = event.now + delay
    if event.trouble is Trouble.PAUSED:
        _pause(state, out, entry, event)
    elif entry.job.error != event.reason:
        set_job(state, out, entry, replace(entry.job, error=event.reason), event.now)


def _pause(state: State, out: Outbox, entry: Entry, event: WorkNotRead) -> None:
    """The object takes no proof now: hashing stops, the tried nonces are kept, the next look decides."""
    entry.checked = False
    if (entry.job.state, entry.job.error) != (JobState.QUEUED, event.reason):
        set_job(state, out, entry, replace(entry.job, state=JobState.QUEUED, error=event.reason), event.now)


# ---- workers and time --------------------------------------------------------------------------------------------


def _join(state: State, out: Outbox, event: WorkerJoined) -> None:
    if event.worker_id in state.workers:
        _forget_worker(state, event.worker_id)
    devices = {offer.info.device_id: Device(offer) for offer in event.devices}
    state.workers[event.worker_id] = Worker(
        event.worker_id, event.name, event.version, connected_at=event.now, last_heard=event.now, devices=devices
    )
    _replan_waiting(state, out, event.now)


def _replan_waiting(state: State, out: Outbox, now: float) -> None:
    """More hash power makes harder work worth starting: bring forward what now pays earlier."""
    if state.head is None:
        return
    pace = state.pace
    for entry in list(state.entries.values()):
        job = entry.job
        if job.state is not JobState.WAITING or job.work is None or not entry.checked:
            continue
        starts = start_height(job.request, job.work, state.head.height, pace)
        if job.start_height is None or starts < job.start_height:
            starts = max(starts, state.head.height + 1)  # the look at the chain comes with the next block
            set_job(state, out, entry, replace(job, start_height=starts), now)
            look_again(state, entry, min(starts, entry.look_at))


def _hear(state: State, out: Outbox, event: WorkerHeard) -> None:
    """`handle` noted that the worker lives; there is nothing else to it."""


def _drain(state: State, out: Outbox, event: WorkerDraining) -> None:
    worker = state.workers.get(event.worker_id)
    if worker is not None:
        worker.draining = True


def _lose(state: State, out: Outbox, event: WorkerLost) -> None:
    _forget_worker(state, event.worker_id)


def _forget_worker(state: State, worker_id: str) -> None:
    worker = state.workers.pop(worker_id, None)
    if worker is not None:
        for device in worker.devices.values():
            for lease_id in list(device.leases):
                release_lease(state, lease_id)


def _tick(state: State, out: Outbox, event: Ticked) -> None:
    for worker in list(state.workers.values()):
        if event.now - worker.last_heard > SILENCE_LIMIT_SECONDS:
            _forget_worker(state, worker.worker_id)
            out.command(DropWorker(worker.worker_id, f"no sign of life for {SILENCE_LIMIT_SECONDS:.0f} s"))
    for job_id in sorted(state.missed):
        entry = state.entries[job_id]
        if entry.retry_at <= event.now:
            state.missed.discard(job_id)
            _ask_chain(state, out, entry)


# ---- submission --------------------------------------------------------------------------------------------------


def _submit(out: Outbox, job: Job) -> None:
    assert job.work is not None
    assert job.found is not None
    out.command(SubmitProof(job.job_id, job.work, job.found.proof, job.request.priority))


def _note_transaction(state: State, out: Outbox, event: TransactionSigned | TransactionBroadcast) -> None:
    entry = state.entries.get(event.job_id)
    if entry is not None:
        set_job(state, out, entry, replace(entry.job, transaction=event.transaction, error=None), event.now)


def _complete(state: State, out: Outbox, event: TransactionIncluded) -> None:
    entry = state.entries.get(event.job_id)
    if entry is not None:
        job = replace(entry.job, state=JobState.COMPLETED, transaction=event.transaction, error=None)
        set_job(state, out, entry, job, event.now)


def _hash_again(state: State, out: Outbox, event: SubmissionStale) -> None:
    entry = state.entries.get(event.job_id)
    if entry is None:
        return
    entry.checked = False
    job = replace(entry.job, state=JobState.QUEUED, found=None, transaction=None, error=event.reason)
    set_job(state, out, entry, job, event.now)
    _ask_chain(state, out, entry)


def _hold(state: State, out: Outbox, event: SubmissionPaused) -> None:
    entry = state.entries.get(event.job_id)
    if entry is not None and entry.job.error != event.reason:
        set_job(state, out, entry, replace(entry.job, error=event.reason), event.now)


def _give_up(state: State, out: Outbox, event: SubmissionGaveUp) -> None:
    entry = state.entries.get(event.job_id)
    if entry is not None:
        set_job(state, out, entry, replace(entry.job, state=JobState.FAILED, error=event.reason), event.now)


_HANDLERS: dict[type[Event], object] = {
    JobsRestored: _restore,
    JobSubmitted: _accept,
    CancelRequested: _cancel,
    PriorityRequested: _prioritise,
    BlockCommitted: _advance,
    WorkRead: _plan,
    WorkNotRead: _miss,
    WorkerJoined: _join,
    WorkerHeard: _hear,
    WorkerDraining: _drain,
    WorkerLost: _lose,
    LeaseProgressed: progress_lease,
    LeaseEnded: end_lease,
    HitReported: take_hit,
    TransactionSigned: _note_transaction,
    TransactionBroadcast: _note_transaction,
    TransactionIncluded: _complete,
    SubmissionStale: _hash_again,
    SubmissionPaused: _hold,
    SubmissionGaveUp: _give_up,
    Ticked: _tick,
}
