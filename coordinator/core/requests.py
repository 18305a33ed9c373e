"""What callers ask: jobs asked for, cancelled, reprioritised; and the jobs of an earlier run, taken up again."""

from __future__ import annotations

from dataclasses import replace

from coordinator.core.books import set_alarm, set_dependencies, set_job
from coordinator.core.clocks import clock_holder
from coordinator.core.commands import PrioritiseProof
from coordinator.core.events import CancelRequested, JobsRestored, JobSubmitted, PriorityRequested
from coordinator.core.job import Job, JobState
from coordinator.core.planning import remember_solved, submission, withdraw
from coordinator.core.reading import ask, ask_about_unread
from coordinator.core.state import Entry, Outbox, State
from hashfleet.errors import JobNotFound


def restore(state: State, out: Outbox, event: JobsRestored) -> None:
    """Take up the jobs of an earlier run. Their works are read once the chain's height is known."""
    for work in reversed(event.completed):
        remember_solved(state, work)
    for job in event.jobs:
        _enter(state, job, checked=job.state is JobState.SUBMITTING)
        if job.state is JobState.SUBMITTING:
            out.command(submission(job))
    if state.head is not None:
        ask_about_unread(state)


def accept(state: State, out: Outbox, event: JobSubmitted) -> None:
    """Take a new job, unless the same work is under way; then a charter takes the newest terms of its founding."""
    known = state.claims.get(event.request.claim)
    if known is not None:
        _renew_founding(state, out, state.entries[known], event)
        return
    job = Job(event.job_id, event.request, JobState.QUEUED, created_at=event.now, updated_at=event.now)
    entry = _enter(state, job)
    out.changed[job.job_id] = job
    ask(state, entry)


def _renew_founding(state: State, out: Outbox, entry: Entry, event: JobSubmitted) -> None:
    """A charter that is asked for again is founded by the newest terms: so a void consent is renewed.

    None of them is hashed, so nothing is lost; but nothing is hashed before they are checked either.
    """
    job, asked = entry.job, event.request.founding
    before = job.request.founding
    if asked is None or before is None or job.state is JobState.SUBMITTING:
        return
    if asked == replace(before, consent=None):
        asked = before
    if asked != before:
        entry.checked = False
        set_job(state, out, entry, replace(job, request=replace(job.request, founding=asked)), event.now)
        ask(state, entry)


def _enter(state: State, job: Job, *, checked: bool = False) -> Entry:
    entry = state.entries[job.job_id] = Entry(job, checked=checked)
    state.claims[job.request.claim] = job.job_id
    set_dependencies(state, entry, (job.request.object_id,))
    set_alarm(state, entry)  # for its deadline
    return entry


def cancel(state: State, out: Outbox, event: CancelRequested) -> None:
    """Stop a job. One that has its proof ends when the lane has let go of it, if it does. Raises JobNotFound."""
    entry = _entry(state, event.job_id)
    if entry.job.state is JobState.SUBMITTING:
        withdraw(out, entry, JobState.CANCELLED)
        return
    set_job(state, out, entry, replace(entry.job, state=JobState.CANCELLED, error=None), event.now)


def prioritise(state: State, out: Outbox, event: PriorityRequested) -> None:
    """Put a job into another class. Raises JobNotFound."""
    entry = _entry(state, event.job_id)
    if entry.job.request.priority is not event.priority:
        request = replace(entry.job.request, priority=event.priority)
        set_job(state, out, entry, replace(entry.job, request=request), event.now)
        if clock_holder(state, entry) is not None:
            state.reviews[event.job_id] = None
        if entry.job.state is JobState.SUBMITTING:
            out.command(PrioritiseProof(event.job_id, event.priority))


def _entry(state: State, job_id: str) -> Entry:
    entry = state.entries.get(job_id)
    if entry is None:
        raise JobNotFound(f"there is no unfinished job {job_id}")
    return entry
