"""What becomes of a claimed nonce. The coordinator hashes it itself; nothing a worker says is believed."""

from __future__ import annotations

from dataclasses import replace

from coordinator.core.commands import Rejection, SendVerdict, SubmitProof
from coordinator.core.events import HitReported
from coordinator.core.job import FoundProof, JobState
from coordinator.core.leasing import count_hashes
from coordinator.core.schedule import zeros_needed
from coordinator.core.state import Entry, Outbox, State, count_as_stopping, set_job
from hashfleet.errors import InvalidInput
from hashfleet.proof import Proof, verify


def take_hit(state: State, out: Outbox, event: HitReported) -> None:
    """Judge a hit, tell the worker, and submit the proof if it is the job's first valid one.

    A hit is judged by its hash alone: one that comes late, from a lease that was lost meanwhile, still counts if
    its anchor is still the job's.
    """
    judged = _judge(state, event)
    rejection = judged if isinstance(judged, Rejection) else None
    _count(state, event, rejection)
    out.command(SendVerdict(event.worker_id, event.lease_id, event.nonce, rejection))
    if isinstance(judged, Rejection):
        return
    entry = state.entries[event.job_id]
    _book_position(state, out, event)
    job, work = entry.job, entry.job.work
    assert work is not None
    found = FoundProof(judged, event.worker_id, job.hashes, job.hash_seconds)
    lease = state.leases.get(event.lease_id)
    if lease is not None and lease.ends_with_hit and lease.worker_id == event.worker_id and not lease.cancelled:
        count_as_stopping(state, lease)  # the worker stops it by itself
    job = replace(job, state=JobState.SUBMITTING, found=found, error=None)
    set_job(state, out, entry, job, event.now)
    out.command(SubmitProof(job.job_id, work, judged, job.request.priority))


def _judge(state: State, event: HitReported) -> Proof | Rejection:
    entry = state.entries.get(event.job_id)
    if entry is None:
        return Rejection.STALE if event.job_id in state.over else Rejection.UNKNOWN_JOB
    job = entry.job
    if job.work is None or state.head is None:
        return Rejection.STALE
    try:
        proof = verify(job.work.prefix, event.nonce)
    except InvalidInput:
        return Rejection.BAD_NONCE
    if job.found is not None and job.found.proof.nonce == event.nonce:
        return Rejection.DUPLICATE
    if job.state is JobState.SUBMITTING or not entry.checked:
        return Rejection.STALE
    if proof.zeros < zeros_needed(job.work, state.head.height):
        return Rejection.STALE if _hashed_for_another_anchor(state, entry, event) else Rejection.BELOW_TARGET
    return proof


def _hashed_for_another_anchor(state: State, entry: Entry, event: HitReported) -> bool:
    lease = state.leases.get(event.lease_id)
    return lease is not None and entry.job.work is not None and lease.space.prefix != entry.job.work.prefix


def _count(state: State, event: HitReported, rejection: Rejection | None) -> None:
    lease, worker = state.leases.get(event.lease_id), state.workers.get(event.worker_id)
    if lease is None or worker is None or lease.worker_id != event.worker_id:
        return
    device = worker.devices[lease.device_id]
    if rejection is None:
        device.accepted += 1
    elif rejection in (Rejection.BELOW_TARGET, Rejection.BAD_NONCE):
        device.invalid += 1
    elif rejection is not Rejection.DUPLICATE:
        device.stale += 1


def _book_position(state: State, out: Outbox, event: HitReported) -> None:
    """An accepted hit tells how far the lease is: batches come in order, so all before its batch is searched.

    Good enough for what the caller is shown; of a lease that goes on, LeaseProgressed and LeaseEnded tell exactly.
    """
    lease = state.leases.get(event.lease_id)
    if lease is None or lease.worker_id != event.worker_id:
        return
    counter = lease.space.counter_of(event.nonce)
    if counter is not None and lease.range.start <= counter < lease.range.start + lease.range.count:
        count_hashes(state, out, lease.lease_id, counter - lease.range.start + 1, event.now)
