"""The machine: one event in, what it leads to out. `books.set_job` draws every arrow between job states::

    queued ──WorkRead──► waiting ──ripe──► running ──valid hit──► submitting ──included──► completed
       ▲                  ▲   │               │  │                     │
       │                  │   └─best hash becomes valid───────────────►│
       │                  └───best hash will do, clock, budget──┘      │
       ├── paused, solved before ◄┴───────────┘                        │
       └──────────────────────── stale: hash again ◄───────────────────┘

Any goes to cancelled on request, and to failed when the chain says that the object will never take the proof, or when
its deadline is past; from submitting only once the proof is withdrawn, while no transaction of it may land. A job that
only wants its proof goes to completed without being submitted. What decides stands in `planning`; which event leads
where, below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from coordinator.core.anchors import advance, take_no_reading, take_reading
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
    ProofWithdrawn,
    SignerChanged,
    SignOfLife,
    SubmissionGaveUp,
    SubmissionPaused,
    SubmissionStale,
    Ticked,
    TransactionBroadcast,
    TransactionIncluded,
    TransactionSigned,
    WithdrawalRefused,
    WorkerDraining,
    WorkerHeard,
    WorkerJoined,
    WorkerLost,
    WorkNotRead,
    WorkRead,
)
from coordinator.core.fleet import SILENCE_LIMIT_SECONDS, drain, drop_silent, hear, join, lose, measure, wake_rested
from coordinator.core.hits import take_hit
from coordinator.core.job import Job
from coordinator.core.leasing import end_lease, fill_devices, progress_lease
from coordinator.core.order import let_age
from coordinator.core.outcomes import (
    change_signer,
    complete,
    give_up,
    hash_again,
    hold,
    not_withdrawn,
    note_transaction,
    withdrawn,
)
from coordinator.core.planning import (
    REPLAN_AT_ONCE,
    REPLAN_SLICE,
    REVIEW_SLICE,
    REVIEWS_AT_ONCE,
    replan,
    review_due,
)
from coordinator.core.reading import ask_about_missed, read_next
from coordinator.core.requests import accept, cancel, prioritise, restore
from coordinator.core.state import Outbox, State
from hashfleet.job_request import JobRequest

__all__ = ["SILENCE_LIMIT_SECONDS", "Machine"]


class Machine:
    """The state of the fleet and the only way to change it: `handle`."""

    def __init__(self, salt: int) -> None:
        """`salt` is the random part of this run's extranonces: 0 to 9,999,999, new for every start."""
        self.state = State(salt)

    def handle(self, event: Event) -> Outbox:
        """Apply one event. Raises JobNotFound, with nothing changed, for a request that cannot be met."""
        state, out = self.state, Outbox()
        state.now = event.now
        handler = cast("Callable[[State, Outbox, Event], None]", _HANDLERS[type(event)])
        if isinstance(event, SignOfLife) and (worker := state.workers.get(event.worker_id)):
            worker.last_heard = event.now
        handler(state, out, event)
        if not isinstance(event, NothingToGrant) or state.reviews:
            review_due(state, out, REVIEW_SLICE if isinstance(event, BlockCommitted | Ticked) else REVIEWS_AT_ONCE)
            read_next(state, out)
            fill_devices(state, out, event.now)
        return out

    def job(self, job_id: str) -> Job | None:
        """An unfinished job."""
        entry = self.state.entries.get(job_id)
        return entry.job if entry else None

    def claimant(self, request: JobRequest) -> Job | None:
        """The unfinished job that does this work."""
        found = self.state.claims.get(request.claim)
        return self.state.entries[found].job if found else None


def _tick(state: State, out: Outbox, event: Ticked) -> None:
    drop_silent(state, out, event.now)
    wake_rested(state)
    measure(state)
    let_age(state)
    ask_about_missed(state, event.now)
    replan(state, out, REPLAN_SLICE)


def _join(state: State, out: Outbox, event: WorkerJoined) -> None:
    join(state, out, event)
    replan(state, out, REPLAN_AT_ONCE)


_HANDLERS: dict[type[Event], object] = {
    JobsRestored: restore,
    JobSubmitted: accept,
    CancelRequested: cancel,
    PriorityRequested: prioritise,
    BlockCommitted: advance,
    WorkRead: take_reading,
    WorkNotRead: take_no_reading,
    WorkerJoined: _join,
    WorkerHeard: hear,
    WorkerDraining: drain,
    WorkerLost: lose,
    LeaseProgressed: progress_lease,
    LeaseEnded: end_lease,
    HitReported: take_hit,
    SignerChanged: change_signer,
    TransactionSigned: note_transaction,
    TransactionBroadcast: note_transaction,
    TransactionIncluded: complete,
    SubmissionStale: hash_again,
    SubmissionPaused: hold,
    SubmissionGaveUp: give_up,
    ProofWithdrawn: withdrawn,
    WithdrawalRefused: not_withdrawn,
    Ticked: _tick,
}
