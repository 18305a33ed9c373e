"""What became of a proof that was handed to the lane."""

from __future__ import annotations

from dataclasses import replace

from coordinator.core.books import set_alarm, set_job
from coordinator.core.events import (
    ProofWithdrawn,
    SignerChanged,
    SubmissionGaveUp,
    SubmissionPaused,
    SubmissionStale,
    TransactionBroadcast,
    TransactionIncluded,
    TransactionSigned,
    WithdrawalRefused,
)
from coordinator.core.job import JobState
from coordinator.core.planning import deadline_missed, remember_solved
from coordinator.core.reading import ask
from coordinator.core.state import Entry, Outbox, Refused, State


def note_transaction(state: State, out: Outbox, event: TransactionSigned | TransactionBroadcast) -> None:
    """There is news of the job's transaction."""
    entry = state.entries.get(event.job_id)
    if entry is not None:
        error = event.error if isinstance(event, TransactionBroadcast) else None
        set_job(state, out, entry, replace(entry.job, transaction=event.transaction, error=error), event.now)


def change_signer(state: State, out: Outbox, event: SignerChanged) -> None:
    """Another key signs from now on."""
    entry = state.entries.get(event.job_id)
    if entry is not None and entry.job.signer != event.signer:
        set_job(state, out, entry, replace(entry.job, signer=event.signer), event.now)


def complete(state: State, out: Outbox, event: TransactionIncluded) -> None:
    """The proof is in the chain. The works that share its clock start anew; the chain may take a moment to say so."""
    entry = state.entries.get(event.job_id)
    if entry is None:
        return
    if entry.job.work is not None:
        remember_solved(state, entry.job.work, entry.clock)
    job = replace(entry.job, state=JobState.COMPLETED, transaction=event.transaction, error=None)
    set_job(state, out, entry, job, event.now)


def hash_again(state: State, out: Outbox, event: SubmissionStale) -> None:
    """The lane gave the proof back: its anchor moved, or its range rose. The next reading tells which.

    Until then the proof is kept as the best hash: if only the range changed, it is still a hash of this prefix and
    becomes valid later. For the same anchor and range it is not tried a second time.
    """
    entry = state.entries.get(event.job_id)
    if entry is None or entry.job.state is not JobState.SUBMITTING:
        return
    if entry.leaving is not None:
        _leave(state, out, entry, entry.leaving)  # it was to be withdrawn, and the lane has let go of it by itself
        return
    job = entry.job
    assert job.found is not None
    assert job.work is not None
    entry.checked = False
    entry.refused = Refused(job.found.proof.nonce, job.work.range, job.best)
    job = replace(job, state=JobState.QUEUED, best=job.found, found=None, transaction=None, error=event.reason)
    set_job(state, out, entry, job, event.now)
    ask(state, entry)


def hold(state: State, out: Outbox, event: SubmissionPaused) -> None:
    """The lane keeps the proof and tries again."""
    entry = state.entries.get(event.job_id)
    if entry is not None and entry.job.error != event.reason:
        set_job(state, out, entry, replace(entry.job, error=event.reason), event.now)


def give_up(state: State, out: Outbox, event: SubmissionGaveUp) -> None:
    """Nothing will get the proof into the chain."""
    entry = state.entries.get(event.job_id)
    if entry is not None:
        set_job(state, out, entry, replace(entry.job, state=JobState.FAILED, error=event.reason), event.now)


def withdrawn(state: State, out: Outbox, event: ProofWithdrawn) -> None:
    """The lane has let go of the proof: the job ends as was asked."""
    entry = state.entries.get(event.job_id)
    if entry is not None and entry.leaving is not None:
        _leave(state, out, entry, entry.leaving)


def not_withdrawn(state: State, out: Outbox, event: WithdrawalRefused) -> None:
    """A transaction of the proof may land, so the job goes on; past its deadline it is asked again a block later."""
    entry = state.entries.get(event.job_id)
    if entry is not None:
        entry.leaving = None
        set_alarm(state, entry)


def _leave(state: State, out: Outbox, entry: Entry, final: JobState) -> None:
    job, error = entry.job, None
    if final is JobState.FAILED:
        error = deadline_missed(state, job)
        if job.error is not None:
            error = f"{error}; its proof is found, but {job.error}"
    set_job(state, out, entry, replace(job, state=final, error=error), state.now)
