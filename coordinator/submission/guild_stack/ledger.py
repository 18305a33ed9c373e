"""The rows of the ledger that stand for rows of the outbox. Each change is stored before anything follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from coordinator.store.protocol import LiveAttemptExists, Store
from coordinator.submission.attempt import Attempt, prepared
from coordinator.submission.guild_stack.proofs import OutboxBook, OutboxProof
from coordinator.submission.outcome import claim_of
from coordinator.submission.withdrawal import BeingStored
from hashfleet.action import Work


class OutboxLedger:
    """Those without an address are ours: the agent's key is not known beforehand. Methods raise StoreError."""

    def __init__(self, store: Store, book: OutboxBook, clock: Callable[[], float]) -> None:
        """`clock` gives Unix seconds."""
        self._store = store
        self._book = book
        self._clock = clock
        #: Jobs for which it is being stored that a row of the outbox is about to be made.
        self.being_claimed = BeingStored()

    async def recover(self) -> None:
        """Take up what is live."""
        for attempt in await self._store.live_attempts():
            if not attempt.address:
                self._book.adopt(attempt)

    async def of(self, proof: OutboxProof) -> list[Attempt]:
        """All that the ledger holds of this proof's job for its claim."""
        claim = claim_of(proof.submission.work)
        return [
            attempt
            for attempt in await self._store.attempts_of(proof.submission.job_id)
            if claim_of(attempt.work) == claim and not attempt.address
        ]

    async def of_job(self, job_id: str) -> list[Attempt]:
        """All that the ledger holds of a job."""
        return await self._store.attempts_of(job_id)

    async def ended_rows(self, attempt: Attempt) -> frozenset[int]:
        """Rows of the outbox that have come to nothing for this attempt's claim, as far as its job tells."""
        claim = claim_of(attempt.work)
        return frozenset(
            one.signer_row
            for one in await self._store.attempts_of(attempt.job_id)
            if one.signer_row is not None and not one.state.live and claim_of(one.work) == claim
        )

    async def take_claim(self, proof: OutboxProof, now: Work) -> bool:
        """Store that a row is about to be made; False if the claim is taken, or the proof not wanted any more. Then the
        proof may have got its attempt from the ledger."""
        if not proof.wanted:
            return False
        submission = proof.submission
        attempt = prepared(submission.job_id, now, submission.proof, address="", now=self._clock())
        try:
            with self.being_claimed.of({attempt.job_id}):
                proof.attempt = await self._store.add_attempt(attempt)
        except LiveAttemptExists:
            for other in await self._store.live_attempts():
                if claim_of(other.work) == claim_of(now) and not other.address:
                    self._book.adopt(other)
            return False
        return True

    async def note(self, proof: OutboxProof, changed: Attempt) -> Attempt:
        """Store what is new of the live attempt."""
        changed = replace(changed, updated_at=self._clock())
        await self._store.update_attempt(changed)
        proof.attempt = changed
        return changed

    async def end(self, proof: OutboxProof, ended: Attempt) -> Attempt:
        """Store the end of the live attempt; only then it is no longer followed."""
        ended = await self.note(proof, ended)
        proof.attempt = proof.void_since = proof.missing_since = None
        return ended
