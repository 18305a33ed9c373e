"""One attempt to get a proof into the chain: a row of the submission ledger. Values only."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hashfleet.action import Work
from hashfleet.proof import Proof


class AttemptState(enum.Enum):
    """Where an attempt stands."""

    #: Signed bytes and hash are stored; whether any node has seen them is unknown.
    SIGNED = "signed"
    #: A node admitted it to its mempool.
    BROADCAST = "broadcast"
    #: In a block with code 0.
    INCLUDED = "included"
    #: Refused by a node before it could land, or in a block with another code.
    REJECTED = "rejected"
    #: It can no longer land: its timeout height passed, or its sequence was used by another transaction.
    SUPERSEDED = "superseded"

    @property
    def live(self) -> bool:
        """True while the transaction may still land; at most one live attempt per (object, action, anchor)."""
        return self in (AttemptState.SIGNED, AttemptState.BROADCAST)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One signed transaction for one proof."""

    job_id: str
    work: Work
    proof: Proof
    #: bech32 address of the signing key.
    address: str
    account_number: int
    sequence: int
    #: TxRaw bytes, exactly as (re)broadcast.
    tx_bytes: bytes
    #: Uppercase hex SHA-256 of tx_bytes.
    tx_hash: str
    #: Last height at which it may land.
    timeout_height: int
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
