"""A lane's rows of the ledger: taken up, changed and ended together with the transactions in its book."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from coordinator.store.protocol import Store
from coordinator.submission.attempt import Attempt, AttemptState
from coordinator.submission.outcome import Submission, claim_of
from coordinator.submission.pending import LiveTransaction
from coordinator.submission.proof_book import ProofBook
from coordinator.submission.withdrawal import BeingStored


class LaneLedger:
    """What is stored of one lane. Every call raises StoreError."""

    def __init__(
        self,
        store: Store,
        book: ProofBook,
        *,
        clock: Callable[[], float],
        address: str,
        has_lane: Callable[[str], bool],
        takes_orphans: bool,
    ) -> None:
        """`has_lane` tells whether some lane signs with an address. One that `takes_orphans` has their rows, too."""
        self._store = store
        self._book = book
        self._clock = clock
        self._address = address
        self._has_lane = has_lane
        self._takes_orphans = takes_orphans
        #: Jobs for which a transaction is signed that is not in the book yet.
        self.being_signed = BeingStored()

    # ---- rows that are live already ------------------------------------------------------------------------------

    async def live(self) -> list[Attempt]:
        """The live rows of everybody, oldest first."""
        return await self._store.live_attempts()

    def takes(self, attempt: Attempt) -> bool:
        """Whether this lane looks after a live row."""
        if not attempt.address:
            return False  # a guild stack's: its outbox may hold a row even if the ledger does not know which
        return attempt.address == self._address or (self._takes_orphans and self.is_orphan(attempt))

    def is_orphan(self, attempt: Attempt) -> bool:
        """Whether no lane signs with the row's key any more."""
        return bool(attempt.address) and not self._has_lane(attempt.address)

    async def take_up(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Follow live rows from now on; those that are. For prepared ones nothing was signed: they are closed."""
        await self.close_prepared([attempt for attempt in attempts if attempt.state is AttemptState.PREPARED])
        signed = [attempt for attempt in attempts if attempt.state is not AttemptState.PREPARED]
        self._book.adopt(signed)
        return signed

    # ---- from the claim to the end -------------------------------------------------------------------------------

    async def take_claims(self, prepared: Sequence[Attempt]) -> list[Attempt]:
        """Store new rows, all or none. Raises LiveAttemptExists, too."""
        return await self._store.add_attempts(prepared)

    async def store_signed(self, rows: Sequence[Attempt]) -> None:
        """Store rows with what was signed for them."""
        with self.being_signed.of({row.job_id for row in rows}):
            await self._store.update_attempts(rows)

    async def close_prepared(self, attempts: Sequence[Attempt]) -> None:
        """Free the claims of rows for which nothing was signed."""
        now = self._clock()
        closed = [replace(attempt, state=AttemptState.SUPERSEDED, updated_at=now) for attempt in attempts]
        if closed:
            await self._store.update_attempts(closed)

    async def note(self, flying: LiveTransaction, change: Callable[[Attempt], Attempt]) -> list[Attempt]:
        """Store a change of all rows of a live transaction."""
        before = [proof.attempt for proof in flying.proofs if proof.attempt is not None]
        rows = [change(attempt) for attempt in before]
        if rows != before:
            now = self._clock()
            rows = [replace(row, updated_at=now) for row in rows]
            await self._store.update_attempts(rows)
            flying.seen = replace(flying.seen, attempt=rows[0])
            for proof, row in zip(flying.proofs, rows, strict=True):
                proof.attempt = row
        return rows

    async def end(self, flying: LiveTransaction, ended: Callable[[Attempt], Attempt]) -> list[Attempt]:
        """Store the end of a live transaction; only then it is no longer followed."""
        rows = await self.note(flying, ended)
        self._book.touch_down(flying)
        return rows

    # ---- rows that ended -----------------------------------------------------------------------------------------

    async def ended_attempts(self, submission: Submission) -> list[Attempt]:
        """The job's attempts for the same claim that are no longer live."""
        claim = claim_of(submission.work)
        attempts = await self._store.attempts_of(submission.job_id)
        return [attempt for attempt in attempts if claim_of(attempt.work) == claim and not attempt.state.live]

    async def store_found(self, landed: Attempt) -> Attempt:
        """Store what became of an attempt that had ended without it."""
        landed = replace(landed, updated_at=self._clock())
        await self._store.update_attempt(landed)
        return landed
