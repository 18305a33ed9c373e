"""A job and everything that is remembered about it. Values only: no I/O, no clock.

Times are Unix seconds (float), given by events; heights are the chain's committed heights.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from hashfleet.action import (
    PLANET_TYPE,
    PLAYER_TYPE,
    Action,
    Work,
    check_anchor,
    check_object_id,
    check_range,
)
from hashfleet.errors import InvalidInput
from hashfleet.proof import Proof


class JobState(enum.Enum):
    """Where a job stands; see docs/architecture.md for the arrows between them."""

    #: Accepted and stored; anchor and range are not read from the chain yet.
    QUEUED = "queued"
    #: Known, but not worth hashing yet.
    WAITING = "waiting"
    #: Ripe: leased to workers, or first in line for one.
    RUNNING = "running"
    #: A valid proof is found; its transaction is on its way.
    SUBMITTING = "submitting"
    #: The transaction is included and succeeded.
    COMPLETED = "completed"
    #: It will not be completed; `Job.error` says why.
    FAILED = "failed"
    #: Cancelled on request before a transaction was sent.
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True for the states that nothing leaves."""
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class Priority(enum.IntEnum):
    """Who goes first; smaller goes first."""

    CRITICAL = 1
    INTERACTIVE = 2
    BULK = 3


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a caller asked for. Checked when made."""

    action: Action
    #: Struct id, or fleet id for a raid.
    object_id: str
    #: On whose behalf the transaction is signed.
    player_id: str
    #: Planet of a raid, if the caller named one.
    target_id: str | None = None
    #: What the caller believes the anchor and range are; the chain's own values win.
    anchor_hint: int | None = None
    range_hint: int | None = None
    #: Give up after this many hashes; None means never.
    max_hashes: int | None = None
    priority: Priority = Priority.INTERACTIVE

    def __post_init__(self) -> None:
        check_object_id(self.object_id, self.action.object_type, "entity_id")
        check_object_id(self.player_id, PLAYER_TYPE, "player_id")
        if self.target_id is not None and self.action is not Action.RAID:
            raise InvalidInput("target_id is given, but only a raid has a target; leave it out")
        if self.target_id is not None:
            check_object_id(self.target_id, PLANET_TYPE, "target_id")
        if self.anchor_hint is not None:
            check_anchor(self.anchor_hint)
        if self.range_hint is not None:
            check_range(self.range_hint)
        if self.max_hashes is not None and not 1 <= self.max_hashes <= 2**63 - 1:
            raise InvalidInput(f"max_iterations is {self.max_hashes}; it should be 1 or more, or left out for no limit")

    @property
    def claim(self) -> tuple[Action, str]:
        """What two unfinished jobs may not share: an object has one clock per action."""
        return self.action, self.object_id


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
    found: FoundProof | None = None
    transaction: Transaction | None = None
    #: One sentence: why it failed, or what holds it up.
    error: str | None = None
    #: Sentences for the caller, e.g. that a hint differed from the chain.
    notes: tuple[str, ...] = field(default=())
