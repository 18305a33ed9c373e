"""The proofs that are to go, or have gone, into the outbox. Memory only."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coordinator.submission.attempt import Attempt
from coordinator.submission.decision import ripe_at
from coordinator.submission.outcome import Claim, Submission, claim_of
from coordinator.submission.proof_book import RECOVERED_PRIORITY


@dataclass(slots=True)
class OutboxProof:
    """A proof on its way. Changed by the submitter's task only, and by `submit`."""

    submission: Submission
    arrival: int
    #: The live attempt, if there is one.
    attempt: Attempt | None = None
    #: Tell the coordinator of the live attempt, which it may not know.
    announce: bool = False
    #: Height at which it was looked at last.
    looked_at: int = -1
    #: Nothing is put in before this height.
    not_before: int = 0
    #: Attempts that failed in a block in a way that counts against the proof (`decision.counts`), or in silence; those
    #: of earlier runs among them.
    failures: int = 0
    #: Pauses that answers to its transactions, or silence, made.
    pauses: int = 0
    #: Refusals by nodes since one admitted it last.
    set_backs: int = 0
    ledger_read: bool = False
    #: Height at which the puzzle was first seen to be another one, or gone.
    void_since: int | None = None
    #: Height at which the row was first found missing.
    missing_since: int | None = None
    #: False once the job's proof is withdrawn, or a newer one came: the row alone is followed to its end.
    wanted: bool = True
    told: str = ""

    @property
    def row(self) -> int | None:
        """Number of the row that stands for it; None if there is none, or none is known."""
        return self.attempt.signer_row if self.attempt is not None else None


class OutboxBook:
    """The proofs on their way, by claim."""

    def __init__(self) -> None:
        self._proofs: dict[Claim, OutboxProof] = {}
        self._arrivals = 0

    @property
    def proofs(self) -> list[OutboxProof]:
        """All of them."""
        return list(self._proofs.values())

    @property
    def in_flight(self) -> int:
        """Proofs with a live attempt."""
        return sum(proof.attempt is not None for proof in self._proofs.values())

    @property
    def waiting(self) -> int:
        """Proofs without one."""
        return len(self._proofs) - self.in_flight

    def of(self, claim: Claim) -> OutboxProof | None:
        """The proof on its way for this claim."""
        return self._proofs.get(claim)

    def ready(self, height: int) -> list[OutboxProof]:
        """Those that may be put in at this height, the first first."""
        ready = [proof for proof in self._proofs.values() if not proof.attempt and proof.not_before <= height]
        return sorted(ready, key=lambda proof: (proof.submission.priority, proof.arrival))

    def submit(self, submission: Submission) -> None:
        """Take a proof. A claim that is on its way already goes on as it is."""
        claim = claim_of(submission.work)
        self.let_go(submission.job_id, claim)
        known = self._proofs.get(claim)
        if known is None:
            known = self._add(submission)
        else:
            known.submission, known.wanted, known.told = submission, True, ""
            known.ledger_read = False
            known.announce = known.attempt is not None
        # One block later than it may be sent: the agent simulates on the state before the next block.
        known.not_before = max(known.not_before, ripe_at(submission.work, submission.proof) + 1)

    def let_go(self, job_id: str, but_for: Claim | None = None) -> None:
        """Forget the job's proofs, but follow their rows, if there are any."""
        for claim, proof in list(self._proofs.items()):
            if claim != but_for and proof.submission.job_id == job_id:
                proof.wanted = False
                if proof.attempt is None:
                    del self._proofs[claim]

    def prioritise(self, job_id: str, priority: int) -> None:
        """The job's proofs have this priority from now on."""
        for proof in self._proofs.values():
            if proof.submission.job_id == job_id:
                proof.submission = replace(proof.submission, priority=priority)

    def is_on_its_way(self, job_id: str) -> bool:
        """Whether a live attempt stands for a proof of the job."""
        return any(proof.attempt is not None and proof.submission.job_id == job_id for proof in self._proofs.values())

    def adopt(self, attempt: Attempt) -> None:
        """Follow a live attempt of the ledger."""
        proof = self._proofs.get(claim_of(attempt.work))
        if proof is None:
            proof = self._add(Submission(attempt.job_id, attempt.work, attempt.proof, RECOVERED_PRIORITY))
        if proof.attempt is None:
            proof.attempt, proof.announce, proof.looked_at = attempt, True, -1
            proof.void_since = proof.missing_since = None

    def forget(self, proof: OutboxProof) -> None:
        """Be done with a proof."""
        claim = claim_of(proof.submission.work)
        if self._proofs.get(claim) is proof:
            del self._proofs[claim]

    def _add(self, submission: Submission) -> OutboxProof:
        self._arrivals += 1
        proof = self._proofs[claim_of(submission.work)] = OutboxProof(submission, self._arrivals)
        return proof
