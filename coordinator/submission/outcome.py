"""What a lane takes, and what it tells about it. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.core.events import (
    Event,
    SignerChanged,
    SubmissionGaveUp,
    SubmissionPaused,
    SubmissionStale,
    TransactionBroadcast,
    TransactionIncluded,
    TransactionSigned,
)
from coordinator.core.job import Transaction
from hashfleet.action import Action, Work
from hashfleet.charter import Founding
from hashfleet.proof import Proof

#: What at most one live transaction may be for: (object id, action, anchor).
Claim = tuple[str, Action, int]


def claim_of(work: Work) -> Claim:
    """The claim of a puzzle: the range may change under it, the anchor not."""
    return work.object_id, work.action, work.anchor


@dataclass(frozen=True, slots=True)
class Submission:
    """A found proof that wants to get into the chain."""

    job_id: str
    #: The puzzle that the proof was found for.
    work: Work
    proof: Proof
    #: Smaller goes first.
    priority: int
    #: Address of the key that was chosen for it; None where that is not known.
    signer: str | None = None
    #: Name of the clock that its success resets, where several works share one; else empty, or not known.
    clock: str = ""
    #: How the guild of a charter is founded; None for everything else, and where that is not known.
    founding: Founding | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """A transaction is signed and stored; no node has seen it yet, as far as we know."""

    job_id: str
    transaction: Transaction


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A node holds the transaction, which promises nothing."""

    job_id: str
    transaction: Transaction


@dataclass(frozen=True, slots=True)
class Rejected:
    """A node refused the transaction, or it failed in its block; another outcome says what comes of the proof."""

    job_id: str
    transaction: Transaction
    #: Why, in one sentence.
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Included:
    """The proof is in the chain. The lane is done with it."""

    job_id: str
    transaction: Transaction
    height: int


@dataclass(frozen=True, slots=True)
class Stale:
    """The proof is void or too weak now: search again. The lane is done with it."""

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Paused:
    """The lane keeps the proof and tries again in later blocks."""

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class GaveUp:
    """Nothing will get this proof into the chain. The lane is done with it."""

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reassigned:
    """The key that was chosen for the job may not sign for it any more; another one does."""

    job_id: str
    signer: str


Outcome = Signed | Broadcast | Rejected | Included | Stale | Paused | GaveUp | Reassigned


def outcome_event(outcome: Outcome, now: float) -> Event:
    """The event by which the core hears of an outcome."""
    match outcome:
        case Signed():
            return TransactionSigned(now, outcome.job_id, outcome.transaction)
        case Broadcast() | Rejected():
            # For the core both are news about the job's transaction; which, its state says.
            reason = outcome.reason or None if isinstance(outcome, Rejected) else None
            return TransactionBroadcast(now, outcome.job_id, outcome.transaction, reason)
        case Included():
            return TransactionIncluded(now, outcome.job_id, outcome.transaction)
        case Stale():
            return SubmissionStale(now, outcome.job_id, outcome.reason)
        case Paused():
            return SubmissionPaused(now, outcome.job_id, outcome.reason)
        case GaveUp():
            return SubmissionGaveUp(now, outcome.job_id, outcome.reason)
        case Reassigned():
            return SignerChanged(now, outcome.job_id, outcome.signer)
