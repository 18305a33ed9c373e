"""What the chain tells: blocks, and the puzzle of each job as it is posed now."""

from __future__ import annotations

from dataclasses import replace

from coordinator.core.books import set_job
from coordinator.core.clocks import take_clock
from coordinator.core.events import BlockCommitted, Trouble, WorkNotRead, WorkRead
from coordinator.core.fleet import measure
from coordinator.core.job import FoundProof, Job, JobState
from coordinator.core.leasing import drop_ranges
from coordinator.core.planning import REPLAN_SLICE, is_solved, park_solved, replan, review
from coordinator.core.reading import (
    answered,
    ask_about_touched,
    ask_about_unread,
    ask_in_turn,
    note_dependencies,
    note_reading,
    retry_later,
)
from coordinator.core.state import Entry, Head, Outbox, State
from hashfleet.action import Work


def advance(state: State, out: Outbox, event: BlockCommitted) -> None:
    """A block is committed: some works may have changed, and what waited for this height is due (`review_due`)."""
    last = state.head
    if last is not None and event.height <= last.height:
        return
    if last is not None and event.time > last.time:
        measured = (event.time - last.time) / (event.height - last.height)
        weight = 0.1 if state.block_seconds_measured else 1.0
        state.block_seconds += weight * (measured - state.block_seconds)
        state.block_seconds_measured = True
    state.head = Head(event.height, event.time, event.now)
    measure(state)
    if event.touched is None:
        state.blind_at = event.height
    else:
        ask_about_touched(state, event.touched)
    if last is None:
        ask_about_unread(state)
    ask_in_turn(state, blind=event.touched is None)
    replan(state, out, REPLAN_SLICE)


def take_reading(state: State, out: Outbox, event: WorkRead) -> None:
    """The chain told the puzzle."""
    entry = answered(state, event.job_id)
    if entry is None:
        return
    note_reading(state, entry, event)
    if entry.job.state is JobState.SUBMITTING:
        take_clock(state, entry)
        return
    if state.head is None:
        return  # without a height nothing can be decided; it is read again with the first block
    if is_solved(state, entry, event.work):
        park_solved(state, out, entry)
        return
    entry.checked, entry.solved = True, False
    signer = event.signer or entry.job.signer
    if entry.job.work != event.work:
        _change_work(state, out, entry, event.work, signer, event.now)
    elif entry.job.signer != signer:
        set_job(state, out, entry, replace(entry.job, signer=signer), event.now)
    _drop_refused(state, out, entry, event.now)
    review(state, out, entry, just_read=True)


def _change_work(state: State, out: Outbox, entry: Entry, work: Work, signer: str | None, now: float) -> None:
    """The puzzle is new or another than before.

    The same prefix keeps its tried nonces and its best hash: only the range moved.
    """
    job = entry.job
    if job.work is None or job.work.prefix != work.prefix:
        drop_ranges(state, out, entry)
        entry.refused = None
        # A running job loses its place: whether the new puzzle is worth hashing already is decided like a new job's.
        begun = JobState.QUEUED if job.state is JobState.RUNNING else job.state
        job = replace(job, state=begun, best=None, hashes=0, hash_seconds=0.0, notes=_notes(job, work))
    set_job(state, out, entry, replace(job, work=work, signer=signer), now)


def _drop_refused(state: State, out: Outbox, entry: Entry, now: float) -> None:
    """A proof that the lane gave back is of no use for the very puzzle for which it did, only if the range changes."""
    job, refused = entry.job, entry.refused
    if refused is None or job.best is None or job.work is None or job.best.proof.nonce != refused.nonce:
        return
    if refused.range == job.work.range:
        best: FoundProof | None = refused.fallback
        set_job(state, out, entry, replace(job, best=best), now)


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


def take_no_reading(state: State, out: Outbox, event: WorkNotRead) -> None:
    """The chain told no puzzle: fail if it never will, else say why and ask again."""
    entry = answered(state, event.job_id)
    if entry is None or entry.job.state is JobState.SUBMITTING:
        return
    # A key that had the right may get it back, or another one may: only a job that nobody may sign for from the
    # beginning fails.
    refused = event.trouble is Trouble.NOT_ALLOWED
    if event.trouble is Trouble.GONE or (refused and entry.job.signer is None):
        set_job(state, out, entry, replace(entry.job, state=JobState.FAILED, error=event.reason), event.now)
        return
    retry_later(state, entry, event.now)
    if event.depends_on:
        note_dependencies(state, entry, event.depends_on)  # else what it hung on before it was paused
    if refused or event.trouble is Trouble.PAUSED:
        _pause(state, out, entry, event)
    elif entry.job.error != event.reason:
        set_job(state, out, entry, replace(entry.job, error=event.reason), event.now)


def _pause(state: State, out: Outbox, entry: Entry, event: WorkNotRead) -> None:
    """The object takes no proof now: hashing stops, tried nonces and best hash are kept, the next look decides."""
    entry.checked = entry.solved = False
    if (entry.job.state, entry.job.error) != (JobState.QUEUED, event.reason):
        set_job(state, out, entry, replace(entry.job, state=JobState.QUEUED, error=event.reason), event.now)
