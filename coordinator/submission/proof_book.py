"""Which proofs a lane has, which of them are in a live transaction, and whose turn comes next. Memory only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from coordinator.submission.attempt import Attempt
from coordinator.submission.block_loop import BlockLoop
from coordinator.submission.decision import Flight, halves, ripe_at
from coordinator.submission.outcome import Claim, Submission, claim_of
from coordinator.submission.pending import LiveTransaction, PendingProof
from coordinator.submission.turns import Turns

logger = logging.getLogger(__name__)

#: A proof that was found but whose job the ledger knows only, after a restart, goes before bulk work.
RECOVERED_PRIORITY: Final = 2


class ProofBook:
    """The proofs of one lane, by claim."""

    def __init__(self, loop: BlockLoop, address: str) -> None:
        """`address` is the one that the lane signs with."""
        self._loop = loop
        self._address = address
        self._proofs: dict[Claim, PendingProof] = {}
        #: Live transactions by hash; and the proofs without one, in the order of their turns.
        self._flying: dict[str, LiveTransaction] = {}
        self._turns: Turns[PendingProof] = Turns()
        #: Those whose works took no proof when they were read last.
        self._put_off: Turns[PendingProof] = Turns()
        #: Proofs that another key was chosen for, and whose transaction has ended.
        self._strays: list[PendingProof] = []
        #: Proofs whose turn it is just now; they count as on their way.
        self.in_hand = 0
        #: The claim that each job is about now, and whether the coordinator said so or the ledger.
        self._claims: dict[str, tuple[Claim, bool]] = {}
        self._arrivals = 0
        self._groups = 0

    @property
    def proofs(self) -> list[PendingProof]:
        """All of them."""
        return list(self._proofs.values())

    @property
    def flying(self) -> list[LiveTransaction]:
        """The live transactions."""
        return list(self._flying.values())

    @property
    def waiting(self) -> int:
        """Proofs that have no live transaction."""
        return len(self._proofs) - sum(len(flying.proofs) for flying in self._flying.values())

    @property
    def in_flight(self) -> int:
        """Live transactions."""
        return len(self._flying)

    @property
    def messages(self) -> int:
        """Proofs on their way that the next block may hold."""
        return self.in_hand + sum(len(flying.proofs) for flying in self._flying.values() if not flying.held)

    def has_live(self, claim: Claim) -> bool:
        """Whether a live transaction is for that claim."""
        proof = self._proofs.get(claim)
        return proof is not None and proof.transaction is not None

    def may_be_signed(self, proof: PendingProof) -> bool:
        """Whether a transaction for this proof is wanted, and none is live."""
        return self._proofs.get(proof.claim) is proof and proof.wanted and proof.transaction is None

    # ---- whose turn it is ----------------------------------------------------------------------------------------

    @property
    def has_turn(self) -> bool:
        """Whether it is some proof's turn at this height."""
        return self._turns.first(self._loop.height) is not None

    def take_turn(self) -> PendingProof | None:
        """The proof whose turn it is; it is in nobody's line until it is filed."""
        return self._turns.take(self._loop.height)

    def take_strays(self) -> list[Submission]:
        """What was followed here to the end of its transaction, but is not this lane's to sign: another key was chosen.

        Each is told once, and as long as something is still to be signed for it.
        """
        strays, self._strays = self._strays, []
        return [proof.submission for proof in strays if self.may_be_signed(proof)]

    @property
    def has_look(self) -> bool:
        """Whether some work that took no proof is to be looked at again at this height."""
        return self._put_off.first(self._loop.height) is not None

    def take_look(self) -> PendingProof | None:
        """The proof whose work is to be looked at again; it is in nobody's line until it is filed."""
        return self._put_off.take(self._loop.height)

    def file(self, proof: PendingProof) -> None:
        """Put a proof where it belongs in its line."""
        (self._turns if proof.put_off is None else self._put_off).file(proof, self._loop.height)

    def split(self, proofs: Sequence[PendingProof]) -> None:
        """These failed together: try each half by itself."""
        for half in halves(proofs):
            self._groups += 1
            for proof in half:
                proof.group = self._groups

    # ---- what the coordinator says -------------------------------------------------------------------------------

    def submit(self, submission: Submission) -> None:
        """Take a proof. A claim that is on its way already goes on as it is."""
        claim = claim_of(submission.work)
        self.let_go(submission.job_id, claim)
        self._claims[submission.job_id] = claim, True
        known = self._proofs.get(claim)
        if known is None:
            known = self._add(claim, submission)
        else:
            if known.submission.job_id != submission.job_id:
                self._claims.pop(known.submission.job_id, None)
            # Where the coordinator does not know the key, the ledger does.
            known.submission = replace(submission, signer=submission.signer or known.submission.signer)
            known.wanted, known.void = True, None
            known.ledger_read = False
            known.told = ""
            known.announce = known.transaction is not None
        # By the range as it was: the chain is asked only when it is likely to say yes.
        known.not_before = ripe_at(submission.work, submission.proof)
        self.file(known)

    def prioritise(self, job_id: str, priority: int) -> None:
        """The job's proof, if there is one, has this priority from now on."""
        proof = self._of_job(job_id)
        if proof is not None:
            proof.submission = replace(proof.submission, priority=priority)
            self.file(proof)

    def submission_of(self, job_id: str) -> Submission | None:
        """What the job is about now, if it is this lane's."""
        proof = self._of_job(job_id)
        return proof.submission if proof is not None else None

    def is_on_its_way(self, job_id: str) -> bool:
        """Whether a live transaction holds the job's proof."""
        proof = self._of_job(job_id)
        return proof is not None and proof.transaction is not None

    def let_go(self, job_id: str, but_for: Claim | None = None) -> None:
        """The job is about another claim now: forget its proof, but follow its transaction if one is live."""
        before, _ = self._claims.get(job_id, (None, False))
        if before is None or before == but_for:
            return
        proof = self._proofs.get(before)
        if proof is not None and proof.submission.job_id == job_id:
            self._let_go(before, proof)

    def forget(self, proof: PendingProof) -> None:
        """Be done with a proof."""
        claim = proof.claim
        proof.forgotten = True
        if self._proofs.get(claim) is proof:
            del self._proofs[claim]
        if self._claims.get(proof.submission.job_id, (None, False))[0] == claim:
            del self._claims[proof.submission.job_id]

    # ---- live transactions ---------------------------------------------------------------------------------------

    def take_off(self, proofs: Sequence[PendingProof], rows: Sequence[Attempt]) -> LiveTransaction:
        """The rows are signed and stored: whatever `submit` did meanwhile, they are followed."""
        flying = LiveTransaction([], Flight(rows[0]), looked_up_at=self._loop.height)
        for signed, row in zip(proofs, rows, strict=True):
            proof = self._proofs.setdefault(claim_of(row.work), signed)
            proof.forgotten = False
            proof.transaction, proof.attempt, proof.told = flying, row, ""
            flying.proofs.append(proof)
        self._flying[flying.tx_hash] = flying
        return flying

    def touch_down(self, flying: LiveTransaction) -> None:
        """The end of a transaction is stored: it is no longer followed, and its proofs may have another."""
        self._flying.pop(flying.tx_hash, None)
        for proof in flying.proofs:
            proof.transaction = proof.attempt = proof.void = None
            if not proof.forgotten:
                self.file(proof)
                if proof.submission.signer not in (None, self._address):
                    self._strays.append(proof)

    def adopt(self, attempts: Sequence[Attempt]) -> None:
        """Follow live rows of the ledger, oldest first. Whether a node has seen them is unknown."""
        for attempt in attempts:
            if attempt.tx_hash is None or attempt.tx_bytes is None:
                logger.error("Row %s of the ledger is live without signed bytes; it is left alone.", attempt.ledger_id)
                continue
            flying = self._flying.get(attempt.tx_hash)
            proof = self._adopted(attempt)
            if proof.transaction is not None:
                continue
            if flying is None:
                flying = self._flying[attempt.tx_hash] = LiveTransaction([], Flight(attempt), maybe_sent=True)
            flying.proofs.append(proof)
            proof.transaction, proof.attempt, proof.announce = flying, attempt, True
            self._settle_claim(attempt, proof)

    def _adopted(self, attempt: Attempt) -> PendingProof:
        claim = claim_of(attempt.work)
        proof = self._proofs.get(claim)
        if proof is None:
            submission = Submission(attempt.job_id, attempt.work, attempt.proof, RECOVERED_PRIORITY, attempt.address)
            proof = self._add(claim, submission)
        return proof

    def _settle_claim(self, attempt: Attempt, proof: PendingProof) -> None:
        """A job may have an older void transaction that is still live: its news must not be taken for the newer's."""
        claim = claim_of(attempt.work)
        current, by_coordinator = self._claims.get(attempt.job_id, (claim, False))
        if by_coordinator and current != claim and proof.submission.job_id == attempt.job_id:
            self._let_go(claim, proof)
        elif not by_coordinator:
            self.let_go(attempt.job_id, claim)  # the ledger is read oldest first
            self._claims[attempt.job_id] = claim, False

    def _of_job(self, job_id: str) -> PendingProof | None:
        claim, _ = self._claims.get(job_id, (None, False))
        proof = self._proofs.get(claim) if claim is not None else None
        return proof if proof is not None and proof.submission.job_id == job_id else None

    def _add(self, claim: Claim, submission: Submission) -> PendingProof:
        self._arrivals += 1
        proof = self._proofs[claim] = PendingProof(submission, self._arrivals)
        return proof

    def _let_go(self, claim: Claim, proof: PendingProof) -> None:
        """Forget the proof, but follow its transaction if one is live."""
        if proof.transaction is None:
            del self._proofs[claim]
            proof.forgotten = True
            if self._claims.get(proof.submission.job_id, (None, False))[0] == claim:
                del self._claims[proof.submission.job_id]
        else:
            proof.wanted, proof.announce = False, False
            proof.transaction.held = True
