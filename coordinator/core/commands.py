"""What the core wants done. The shell stores every changed job first, then carries these out in order."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from coordinator.core.lease import Lease
from hashfleet.action import Work
from hashfleet.charter import Founding
from hashfleet.job_request import JobRequest
from hashfleet.proof import Proof


@dataclass(frozen=True, slots=True)
class ReadWork:
    """Ask the chain for the puzzle; answered by WorkRead or WorkNotRead, exactly once."""

    job_id: str
    request: JobRequest
    #: Also choose the key that is to sign for it, and check that it may: before hashing, not after.
    check_signer: bool


@dataclass(frozen=True, slots=True)
class GrantLease:
    worker_id: str
    lease: Lease


@dataclass(frozen=True, slots=True)
class CancelLease:
    worker_id: str
    lease_id: str


@dataclass(frozen=True, slots=True)
class RetargetLease:
    """Hits need only this many zeros (or need more of them) from now on."""

    worker_id: str
    lease_id: str
    zeros: int


class Rejection(enum.Enum):
    """Why a hit was not taken."""

    STALE = "stale"
    DUPLICATE = "duplicate"
    BELOW_TARGET = "below target"
    UNKNOWN_JOB = "unknown job"
    BAD_NONCE = "bad nonce"


@dataclass(frozen=True, slots=True)
class SendVerdict:
    """Tell the worker what became of its hit; None means accepted."""

    worker_id: str
    lease_id: str
    nonce: str
    rejection: Rejection | None


@dataclass(frozen=True, slots=True)
class SubmitProof:
    """Get this proof into the chain; answered by the Transaction... and Submission... events."""

    job_id: str
    work: Work
    proof: Proof
    priority: int
    #: Address of the key that was chosen for it; None where somebody else signs.
    signer: str | None = None
    #: Name of the clock that its success resets, where several works share one; else empty, or not known yet.
    clock: str = ""
    #: How the guild of a charter is founded; None for everything else.
    founding: Founding | None = None


@dataclass(frozen=True, slots=True)
class WithdrawProof:
    """Sign nothing for the job's proof any more; answered by ProofWithdrawn or WithdrawalRefused, exactly once."""

    job_id: str


@dataclass(frozen=True, slots=True)
class PrioritiseProof:
    """The job's proof that waits for its transaction has this priority from now on."""

    job_id: str
    priority: int


@dataclass(frozen=True, slots=True)
class DropWorker:
    """Close the stream of a worker that fell silent."""

    worker_id: str
    reason: str


Command = (
    ReadWork
    | GrantLease
    | CancelLease
    | RetargetLease
    | SendVerdict
    | SubmitProof
    | WithdrawProof
    | PrioritiseProof
    | DropWorker
)
