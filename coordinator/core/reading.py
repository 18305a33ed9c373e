"""Which works are read from the chain next. Readings under way are bounded, so a chain is never flooded by us.

A reading is asked for when somebody waits for it (a new job; one that ripens without a fresh reading), when the chain's
events name an object that the work hangs on, and otherwise, slowly and in turn, to be safe. While it is not known what
a block changed, each running job is read with every block, and the others in turn, sooner.
"""

from __future__ import annotations

import heapq

from coordinator.core.books import set_dependencies
from coordinator.core.clocks import join_clock
from coordinator.core.commands import ReadWork
from coordinator.core.events import WorkRead
from coordinator.core.job import JobState
from coordinator.core.state import Entry, Outbox, State, Urgency
from hashfleet.job_request import Mode

#: Readings asked for and not answered at most: enough that whoever carries them out is never idle.
READS_IN_FLIGHT = 192
#: While events tell what changed, each work is read again after so many blocks all the same (about an hour).
SAFETY_BLOCKS = 600
#: While they do not, after so many.
BLIND_BLOCKS = 10
#: Works that are read again only to be safe, per block at most: 100,000 jobs have their turn within 500 blocks.
SAFETY_READS_PER_BLOCK = 200
#: Seconds before the chain is asked again after it gave no work: doubled with each miss up to the last.
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 30.0
#: After so many misses in a row the job stands behind those that were not missed.
HOPEFUL_MISSES = 4
#: What a block touches where permissions changed ends so.
_PERMISSIONS = "@"


def ask(state: State, entry: Entry, urgency: Urgency = Urgency.NOW) -> None:
    """Have the job's work read; `read_next` sends the question when its turn comes."""
    if _is_settled(entry):
        return
    job_id = entry.job.job_id
    if job_id in state.asked:
        entry.ask_again = True
    elif entry.wanted is not urgency and entry.wanted is not Urgency.NOW:
        entry.wanted = urgency
        state.to_read[urgency].append(job_id)


def _is_settled(entry: Entry) -> bool:
    """The lane reads the work of a proof that is on its way; after a restart we read it once, to learn its clock."""
    return entry.job.state is JobState.SUBMITTING and entry.read_at > 0


def read_next(state: State, out: Outbox) -> None:
    """Send questions as long as there is room for them."""
    for urgency in Urgency:
        line = state.to_read[urgency]
        while line and len(state.asked) < READS_IN_FLIGHT:
            job_id = line.popleft()
            entry = state.entries.get(job_id)
            if entry is None or entry.wanted is not urgency:
                continue
            entry.wanted = None
            if _is_settled(entry) or job_id in state.asked:
                continue
            state.asked.add(job_id)
            entry.asked_at = state.head.height if state.head is not None else 0
            request = entry.job.request
            signer = (not entry.checked or entry.choose_signer) and request.mode is Mode.SUBMIT
            entry.choose_signer = False
            out.command(ReadWork(job_id, request, check_signer=signer))


def answered(state: State, job_id: str) -> Entry | None:
    """The chain answered: the job it was about, if that is unfinished."""
    state.asked.discard(job_id)
    entry = state.entries.get(job_id)
    if entry is None:
        return None
    entry.read_at = entry.asked_at
    state.readings[job_id] = None
    state.readings.move_to_end(job_id)
    if entry.ask_again:
        entry.ask_again = False
        ask(state, entry)
    return entry


def note_reading(state: State, entry: Entry, event: WorkRead) -> None:
    """Remember what a reading hangs on."""
    entry.misses, entry.retry_at = 0, 0.0
    note_dependencies(state, entry, event.depends_on)
    join_clock(state, entry, event.clock)


def note_dependencies(state: State, entry: Entry, depends_on: frozenset[str]) -> None:
    """Have the work read again when one of these objects, or its own, is touched."""
    set_dependencies(state, entry, tuple(sorted(depends_on | {entry.job.request.object_id})))


def is_fresh(state: State, entry: Entry) -> bool:
    """Whether events would have told if the reading that we have did not hold any more."""
    return (
        entry.checked
        and not entry.misses
        and entry.read_at >= state.blind_at > 0
        and entry.wanted is None
        and entry.job.job_id not in state.asked
    )


def ask_about_touched(state: State, touched: frozenset[str]) -> None:
    """A block changed these objects."""
    for object_id in sorted(touched):
        for job_id in sorted(state.dependents.get(object_id, ())):
            entry = state.entries[job_id]
            entry.misses = 0
            entry.choose_signer |= object_id.endswith(_PERMISSIONS)
            ask(state, entry)


def ask_in_turn(state: State, *, blind: bool) -> None:
    """With each block: the works that were read longest ago, and, if nobody tells what changes, the running ones."""
    assert state.head is not None
    if blind:
        for job_id in sorted(state.ripe):
            if state.entries[job_id].leases:
                ask(state, state.entries[job_id])
    oldest = state.head.height - (BLIND_BLOCKS if blind else SAFETY_BLOCKS)
    room = SAFETY_READS_PER_BLOCK - len(state.to_read[Urgency.SOME_TIME])
    while room > 0 and state.readings:
        job_id = next(iter(state.readings))
        entry = state.entries[job_id]
        if entry.read_at > oldest:
            return
        room -= 1
        state.readings.move_to_end(job_id)
        entry.choose_signer |= blind  # nobody tells of a key that lost its right
        entry.read_at = max(entry.read_at, oldest + 1)  # its turn is over; the answer sets it right
        ask(state, entry, Urgency.SOME_TIME)


def ask_about_unread(state: State) -> None:
    """The first block is seen: read every work that is not known yet, those that may be hashed at once first."""
    first = (JobState.SUBMITTING, JobState.RUNNING)
    unread = [entry for entry in state.entries.values() if not entry.checked or not entry.read_at]
    unread.sort(key=lambda entry: (entry.job.state not in first, entry.job.start_height or 0))
    for entry in unread:
        ask(state, entry)


def retry_later(state: State, entry: Entry, now: float) -> None:
    """The chain gave no work: ask again after a pause, which grows."""
    entry.misses += 1
    entry.choose_signer = True  # the reading may have missed a right that was lost
    entry.retry_at = now + min(FIRST_RETRY_SECONDS * 2.0 ** min(entry.misses - 1, 16), LAST_RETRY_SECONDS)
    heapq.heappush(state.retries, (entry.retry_at, entry.job.job_id))


def ask_about_missed(state: State, now: float) -> None:
    """Ask again about the jobs whose pause is over; to be called as time passes."""
    while state.retries and state.retries[0][0] <= now:
        due, job_id = heapq.heappop(state.retries)
        entry = state.entries.get(job_id)
        if entry is not None and entry.retry_at == due:
            entry.retry_at = 0.0
            ask(state, entry, Urgency.NOW if entry.misses <= HOPEFUL_MISSES else Urgency.SOME_TIME)
