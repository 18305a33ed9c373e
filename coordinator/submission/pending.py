"""A proof on its way, and the live transaction that holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coordinator.submission.attempt import Attempt
from coordinator.submission.decision import Flight, volatility
from coordinator.submission.outcome import Claim, Submission, claim_of
from coordinator.submission.turns import Place

#: Blocks by which a work that took no proof is looked at later than one of the next higher class, where there are more
#: of them than a block has looks for.
LOOKED_AT_LATER: Final = 8


@dataclass(slots=True, eq=False)
class LiveTransaction:
    """A live transaction and what is known of its way. It holds one proof, or several."""

    proofs: list[PendingProof]
    #: Of the first of its rows; they differ in nothing that matters to its way.
    seen: Flight
    #: A node may hold it: a refusal proves nothing any more.
    maybe_sent: bool = False
    #: It is not to be sent again for now; its sequence is free for others.
    held: bool = False
    #: Height at which a look-up was asked for last.
    looked_up_at: int = -1

    @property
    def tx_hash(self) -> str:
        assert self.seen.attempt.tx_hash is not None
        return self.seen.attempt.tx_hash

    @property
    def sequence(self) -> int:
        assert self.seen.attempt.sequence is not None
        return self.seen.attempt.sequence

    @property
    def address(self) -> str:
        """The address that signed it."""
        return self.seen.attempt.address

    @property
    def wanted(self) -> bool:
        """Whether each of its proofs is still to land, as far as anybody knows."""
        return all(proof.wanted and proof.void is None for proof in self.proofs)

    @property
    def objects(self) -> set[str]:
        """Ids of the objects whose works it completes."""
        return {proof.attempt.work.object_id for proof in self.proofs if proof.attempt is not None}


@dataclass(slots=True, eq=False)
class PendingProof:
    """A proof on its way. Changed by the lane's task only, and by `submit`."""

    submission: Submission
    #: Order of arrival.
    arrival: int
    #: The live transaction, if there is one, and the proof's row in the ledger.
    transaction: LiveTransaction | None = None
    attempt: Attempt | None = None
    #: Why the proof is void although its transaction is live, and the height at which that was first seen.
    void: tuple[str, int] | None = None
    #: False once the coordinator was told that the proof is void: the ledger row alone is followed on.
    wanted: bool = True
    #: Tell the coordinator of the live transaction, which it may not know.
    announce: bool = False
    #: Nothing new is signed before this height: too few zeros yet, or a pause.
    not_before: int = 0
    #: Height at which its work was read last and took no proof, so that it stands in line for another look instead of
    #: for a transaction; None while nothing is known against one.
    put_off: int | None = None
    #: Refusals in a row that say something of this proof or its object; others of its kind go first.
    set_backs: int = 0
    #: Its transactions that failed in a block in a way that counts against it (`decision.counts`).
    failures: int = 0
    #: Refusals for a limit that it had together with others, since they were halved.
    shared_refusals: int = 0
    #: Pauses in a row that the chain's answers to its transactions made.
    pauses: int = 0
    #: Proofs that failed together with it; 0 for none.
    group: int = 0
    #: The clock that it shares with others, as read last.
    clock: str = ""
    #: The reason that was told last, so that it is told once.
    told: str = ""
    #: The ledger was asked whether a transaction of ours landed before (we may have crashed before telling).
    ledger_read: bool = False
    #: It is the lane's business no more.
    forgotten: bool = False
    filed: Place | None = None

    @property
    def claim(self) -> Claim:
        return claim_of(self.submission.work)

    @property
    def order(self) -> Place:
        """Of two that may be signed for now, the one with the lesser order goes first; so of two that are put off."""
        priority, soon = self.submission.priority, volatility(self.submission.work, self.clock or self.submission.clock)
        if self.put_off is not None:
            # Whoever was looked at longest ago: however many there are, each has its turn.
            return self.put_off + LOOKED_AT_LATER * priority, soon, self.arrival
        return priority, soon, min(self.set_backs, 1), self.arrival

    @property
    def has_a_turn(self) -> bool:
        return self.transaction is None and not self.forgotten
