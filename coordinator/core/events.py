"""What can happen. Every event carries the time at which it was seen (Unix seconds), so the core needs no clock."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from coordinator.core.job import Job, Transaction
from coordinator.core.roster import DeviceOffer
from hashfleet.action import Work
from hashfleet.job_request import JobRequest, Priority


@dataclass(frozen=True, slots=True)
class JobsRestored:
    """The coordinator started: these jobs were not finished when it stopped."""

    now: float
    jobs: tuple[Job, ...]
    #: Puzzles that were completed last, newest first: a node that lags may still show one of them.
    completed: tuple[Work, ...] = ()


@dataclass(frozen=True, slots=True)
class JobSubmitted:
    """Somebody asks for a proof. `job_id` is used unless the same work is already under way."""

    now: float
    job_id: str
    request: JobRequest


@dataclass(frozen=True, slots=True)
class CancelRequested:
    now: float
    job_id: str


@dataclass(frozen=True, slots=True)
class PriorityRequested:
    now: float
    job_id: str
    priority: Priority


@dataclass(frozen=True, slots=True)
class BlockCommitted:
    """The chain committed a block. `time` is its header's time."""

    now: float
    height: int
    time: float
    #: Objects that changed since the block seen before it; None if that is not known, so that any may have.
    touched: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class WorkRead:
    """The chain's answer to a ReadWork command."""

    now: float
    job_id: str
    work: Work
    #: Objects whose change can move, end or pause this work: its struct or fleet, planet, players.
    depends_on: frozenset[str] = frozenset()
    #: Name of the clock that a success resets. Works with the same clock are voided by each other's success; empty if
    #: the work has its clock for itself.
    clock: str = ""
    #: Address of the key that is to sign for it, if that was to be chosen; empty if not, or if somebody else signs.
    signer: str = ""


class Trouble(enum.Enum):
    """Why a ReadWork command brought no work."""

    #: The object will never take this proof.
    GONE = "gone"
    #: Not now, but maybe later.
    PAUSED = "paused"
    #: No signing key may do this.
    NOT_ALLOWED = "not allowed"
    #: No usable answer from the chain.
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class WorkNotRead:
    """A ReadWork command brought no work."""

    now: float
    job_id: str
    trouble: Trouble
    reason: str
    #: Objects whose change may end the trouble, as in WorkRead; empty if that is not known.
    depends_on: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A worker said hello. One that is still listed under the same id is lost first."""

    now: float
    worker_id: str
    name: str
    version: str
    devices: tuple[DeviceOffer, ...]


@dataclass(frozen=True, slots=True)
class WorkerHeard:
    """A heartbeat: the worker lives and has nothing to report."""

    now: float
    worker_id: str


@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """The worker takes no new lease."""

    now: float
    worker_id: str


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """The worker's stream ended or fell silent; whatever it held is issued again."""

    now: float
    worker_id: str


@dataclass(frozen=True, slots=True)
class LeaseProgressed:
    """`done` counters of the lease are searched, without a gap, at `rate` hashes a second."""

    now: float
    worker_id: str
    lease_id: str
    done: int
    rate: float


class LeaseEnd(enum.Enum):
    """Why a device is done with a lease."""

    EXHAUSTED = "exhausted"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    now: float
    worker_id: str
    lease_id: str
    done: int
    end: LeaseEnd
    error: str = ""


@dataclass(frozen=True, slots=True)
class HitReported:
    """A worker claims a nonce. Nothing about it is believed."""

    now: float
    worker_id: str
    lease_id: str
    job_id: str
    nonce: str


@dataclass(frozen=True, slots=True)
class TransactionSigned:
    now: float
    job_id: str
    transaction: Transaction


@dataclass(frozen=True, slots=True)
class TransactionBroadcast:
    now: float
    job_id: str
    transaction: Transaction
    #: Why it was refused or failed, if it was; the job shows it until the next transaction is signed.
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TransactionIncluded:
    """The proof is in the chain."""

    now: float
    job_id: str
    transaction: Transaction


@dataclass(frozen=True, slots=True)
class SubmissionStale:
    """The proof will not be taken any more: its anchor moved, or it was rejected. Hash again."""

    now: float
    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SubmissionPaused:
    """The lane keeps the proof and tries again in later blocks."""

    now: float
    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SignerChanged:
    """The key that was chosen for the job may not sign for it any more; another one does."""

    now: float
    job_id: str
    signer: str


@dataclass(frozen=True, slots=True)
class SubmissionGaveUp:
    """Nothing will get this proof into the chain."""

    now: float
    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ProofWithdrawn:
    """The answer to a WithdrawProof command: nothing is signed that may land, and nothing will be."""

    now: float
    job_id: str


@dataclass(frozen=True, slots=True)
class WithdrawalRefused:
    """The answer to a WithdrawProof command: a transaction that may land is signed, or it cannot be told."""

    now: float
    job_id: str


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passes: once a second or so."""

    now: float


#: Whatever a worker sends shows that it lives.
SignOfLife = WorkerHeard | WorkerDraining | LeaseProgressed | LeaseEnded | HitReported

#: After these nobody has more room or more work than before; they are the most frequent ones.
NothingToGrant = (
    WorkerHeard
    | LeaseProgressed
    | TransactionSigned
    | TransactionBroadcast
    | SubmissionPaused
    | SignerChanged
    | WithdrawalRefused
)

Event = (
    JobsRestored
    | JobSubmitted
    | CancelRequested
    | PriorityRequested
    | BlockCommitted
    | WorkRead
    | WorkNotRead
    | WorkerJoined
    | WorkerHeard
    | WorkerDraining
    | WorkerLost
    | LeaseProgressed
    | LeaseEnded
    | HitReported
    | TransactionSigned
    | TransactionBroadcast
    | TransactionIncluded
    | SubmissionStale
    | SubmissionPaused
    | SubmissionGaveUp
    | SignerChanged
    | ProofWithdrawn
    | WithdrawalRefused
    | Ticked
)
