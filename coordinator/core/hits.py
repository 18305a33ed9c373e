"""What becomes of a claimed nonce. The coordinator hashes it itself; nothing a worker says is believed."""

from __future__ import annotations

from dataclasses import replace

from coordinator.core.books import count_as_stopping, set_job
from coordinator.core.commands import Rejection, SendVerdict
from coordinator.core.events import HitReported
from coordinator.core.job import FoundProof, JobState
from coordinator.core.lease import Lease
from coordinator.core.leasing import count_hashes
from coordinator.core.planning import may_be_submitted, review, submit
from coordinator.core.state import Entry, Outbox, State
from hashfleet.errors import InvalidInput
from hashfleet.proof import Proof, verify


def take_hit(state: State, out: Outbox, event: HitReported) -> None:
    """Judge a hit, tell the worker, and submit the proof if the chain takes it now; else keep it if it is the best.

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
    found = FoundProof(judged, event.worker_id, entry.job.hashes, entry.job.hash_seconds)
    lease = _lease_of(state, event)
    if lease is not None and lease.ends_with_hit and not lease.cancelled:
        count_as_stopping(state, lease)  # the worker stops it by itself
    if may_be_submitted(state, entry, judged.zeros):
        submit(state, out, entry, found)
    else:
        set_job(state, out, entry, replace(entry.job, best=found), event.now)
        review(state, out, entry, best_is_new=True)


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
    if _is_known(entry, event.nonce):
        return Rejection.DUPLICATE
    if job.state is JobState.SUBMITTING:
        return Rejection.STALE
    if may_be_submitted(state, entry, proof.zeros):
        return proof
    lease = _lease_of(state, event)
    if lease is not None and lease.space.prefix != job.work.prefix:
        return Rejection.STALE  # hashed for another anchor
    if lease is not None and proof.zeros < lease.least_zeros:
        return Rejection.BELOW_TARGET
    if proof.zeros <= (job.best.proof.zeros if job.best is not None else 0):
        return Rejection.STALE if proof.zeros else Rejection.BELOW_TARGET
    return proof


def _is_known(entry: Entry, nonce: str) -> bool:
    job, refused = entry.job, entry.refused
    if refused is not None and refused.nonce == nonce and job.work is not None and refused.range == job.work.range:
        return True
    return any(known is not None and known.proof.nonce == nonce for known in (job.found, job.best))


def _lease_of(state: State, event: HitReported) -> Lease | None:
    """The lease that the hit is said to come from, if it is in the worker's hands."""
    lease = state.leases.get(event.lease_id)
    return lease if lease is not None and lease.worker_id == event.worker_id else None


def _count(state: State, event: HitReported, rejection: Rejection | None) -> None:
    lease = _lease_of(state, event)
    if lease is None:
        return
    device = state.workers[lease.worker_id].devices[lease.device_id]
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
    lease = _lease_of(state, event)
    if lease is None or lease.job_id != event.job_id:
        return
    counter = lease.space.counter_of(event.nonce)
    if counter is not None and lease.range.start <= counter < lease.range.start + lease.range.count:
        count_hashes(state, out, lease.lease_id, counter - lease.range.start + 1, event.now)
