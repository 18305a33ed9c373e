"""One attempt to get a proof into the chain: a row of the submission ledger. Values only."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hashfleet.action import Work
from hashfleet.proof import Proof


class AttemptState(enum.Enum):
    """Where an attempt stands. Each state is stored before what follows from it is done."""

    #: The claim is taken; nothing is signed. After a crash it is closed: no node can have seen anything of it.
    PREPARED = "prepared"
    #: Signed bytes and hash are stored; whether any node has seen them is unknown.
    SIGNED = "signed"
    #: A node admitted it to its mempool, or a guild stack's signing agent was given it.
    BROADCAST = "broadcast"
    #: In a block with code 0.
    INCLUDED = "included"
    #: Refused by a node before it could land, or in a block with another code.
    REJECTED = "rejected"
    #: It can no longer land: nothing was signed for it, its timeout height passed, or its sequence was used by another
    #: transaction.
    SUPERSEDED = "superseded"

    @property
    def live(self) -> bool:
        """True while a transaction may still land for it; at most one live attempt per (object, action, anchor)."""
        return self in (AttemptState.PREPARED, AttemptState.SIGNED, AttemptState.BROADCAST)


class RejectionCause(enum.Enum):
    """Why the chain rejected a proof (structs 1800), from the preimage that it says it hashed."""

    #: It hashed with another anchor (or another target of a raid) than ours: the puzzle changed under way.
    ANCHOR_MOVED = "anchor moved"
    #: It hashed what we hashed: at that height it asked for more zeros than the proof has.
    DIFFICULTY = "difficulty too high at that height"
    #: It hashed something of another form: this version of the chain builds its preimages in another way.
    OTHER_FORM = "other form of preimage"
    #: The log names no preimage.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One proof in one transaction. A transaction with several proofs has a row for each, with the same hash."""

    job_id: str
    work: Work
    proof: Proof
    #: bech32 address of the signing key; empty where a guild stack chooses the key.
    address: str
    #: None until signed, and where a guild stack signs.
    account_number: int | None
    sequence: int | None
    #: TxRaw bytes, exactly as (re)broadcast; None until signed, and where a guild stack signs.
    tx_bytes: bytes | None
    #: Uppercase hex SHA-256 of tx_bytes; None until it is known.
    tx_hash: str | None
    #: Last height at which it may land; None until signed, and where that is not known.
    timeout_height: int | None
    state: AttemptState
    created_at: float
    updated_at: float
    #: Given by the ledger when first stored.
    ledger_id: int | None = None
    #: Block of inclusion.
    height: int | None = None
    code: int | None = None
    codespace: str | None = None
    #: Raw log of the node, for people only; never searched for meaning.
    log: str = ""
    #: Which message of its transaction completes this work.
    message_index: int = 0
    #: Why the chain rejected the proof, if it did.
    cause: RejectionCause | None = None
    #: Row of the guild stack's `signer.tx` that stands for it; None where we sign.
    signer_row: int | None = None


def prepared(job_id: str, work: Work, proof: Proof, *, address: str, now: float, message_index: int = 0) -> Attempt:
    """The row that takes the claim, before anything is signed."""
    return Attempt(
        job_id=job_id,
        work=work,
        proof=proof,
        address=address,
        account_number=None,
        sequence=None,
        tx_bytes=None,
        tx_hash=None,
        timeout_height=None,
        state=AttemptState.PREPARED,
        created_at=now,
        updated_at=now,
        message_index=message_index,
    )
