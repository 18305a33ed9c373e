"""A job and everything that is remembered about it. Values only: no I/O, no clock.

Times are Unix seconds (float), given by events; heights are the chain's committed heights.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from hashfleet.action import Work
from hashfleet.job_request import JobRequest
from hashfleet.proof import Proof


class JobState(enum.Enum):
    """Where a job stands; see docs/architecture.md for the arrows between them."""

    #: Accepted and stored; anchor and range are not read from the chain yet.
    QUEUED = "queued"
    #: Known, but not worth hashing yet.
    WAITING = "waiting"
    #: Ripe: leased to workers, or first in line for one.
    RUNNING = "running"
    #: A valid proof is found; its transaction is on its way, or `Job.error` says what it waits for.
    SUBMITTING = "submitting"
    #: The transaction is included and succeeded; or the proof is found, if the caller wanted it returned.
    COMPLETED = "completed"
    #: It will not be completed; `Job.error` says why.
    FAILED = "failed"
    #: Cancelled on request while no transaction was signed that may land.
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True for the states that nothing leaves."""
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class TransactionState(enum.Enum):
    """Where the completing transaction stands."""

    #: Signed and stored; the broadcast is not answered yet.
    SIGNED = "signed"
    #: Admitted to a node's mempool, which promises nothing.
    BROADCAST = "broadcast"
    #: In a block, and it succeeded.
    INCLUDED = "included"
    #: Refused by a node, or in a block but failed.
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Transaction:
    """The completing transaction as the job shows it; the ledger holds the rest."""

    #: Uppercase hex.
    hash: str
    state: TransactionState
    #: Row of the submission ledger.
    ledger_id: int
    #: Block of inclusion; None until included.
    height: int | None = None
    #: What the chain said, for people.
    message: str = ""


@dataclass(frozen=True, slots=True)
class FoundProof:
    """A proof that the coordinator hashed itself, and what it cost."""

    proof: Proof
    worker_id: str
    #: Hashes reported for the job when the proof arrived.
    hashes: int
    #: Seconds during which at least one lease of the job was being hashed; waiting not counted.
    seconds: float


@dataclass(frozen=True, slots=True)
class Job:
    """One proof of work and its whole life."""

    #: "pow_..."
    job_id: str
    request: JobRequest
    state: JobState
    created_at: float
    updated_at: float
    #: When a final state was reached.
    completed_at: float | None = None
    #: The puzzle as the chain posed it last; None while queued.
    work: Work | None = None
    #: Height at which hashing starts; set exactly while waiting.
    start_height: int | None = None
    #: Hashes reported for the current anchor.
    hashes: int = 0
    #: Seconds of hashing for the current anchor.
    hash_seconds: float = 0.0
    #: The hash with the most zeros for this prefix, while the chain still asks for more: valid once it asks no more.
    best: FoundProof | None = None
    found: FoundProof | None = None
    transaction: Transaction | None = None
    #: One sentence: why it failed, or what holds it up.
    error: str | None = None
    #: Sentences for the caller, e.g. that a hint differed from the chain.
    notes: tuple[str, ...] = field(default=())
    #: Address of the key that is to sign for it, as chosen when the work was first read; None until then, and where
    #: somebody else signs.
    signer: str | None = None
