"""The turn of a proof: checked against the tables as they are now, its claim taken, its row made or found."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from coordinator.chain.guild_stack.outbox import Outbox
from coordinator.submission.attempt import AttemptState
from coordinator.submission.block_loop import BlockLoop
from coordinator.submission.decision import Fitness, judge
from coordinator.submission.guild_stack.aftermath import OutboxAftermath, counts_against
from coordinator.submission.guild_stack.ledger import OutboxLedger
from coordinator.submission.guild_stack.proofs import OutboxBook, OutboxProof
from coordinator.submission.guild_stack.puzzle import PuzzleReader, Void
from coordinator.submission.guild_stack.telling import Teller
from coordinator.submission.outcome import Stale

logger = logging.getLogger(__name__)

#: Seconds after which a row without output is taken for a command that failed: ten usual blocks.
SILENT_SECONDS: Final = 60.0


class RowMaker:
    """Puts in for one submitter."""

    def __init__(
        self,
        outbox: Outbox,
        ledger: OutboxLedger,
        book: OutboxBook,
        loop: BlockLoop,
        puzzles: PuzzleReader,
        aftermath: OutboxAftermath,
        teller: Teller,
    ) -> None:
        self._outbox = outbox
        self._ledger = ledger
        self._book = book
        self._loop = loop
        self._puzzles = puzzles
        self._aftermath = aftermath
        self._teller = teller

    async def take_turn(self, proof: OutboxProof) -> None:
        """Put the proof in, if it may be now. Raises ChainError, NotIndexed, StoreError."""
        submission = proof.submission
        if not proof.ledger_read and await self._ended_before(proof):
            return
        proof.not_before = self._loop.height + 1
        now = await self._puzzles.read(submission.work, submission.job_id)
        if isinstance(now, Void):
            await self._aftermath.close(proof, now.outcome)
            return
        if now is None:
            return
        judged = judge(submission.work, submission.proof, now, self._loop.height - 1)
        if judged.fitness is Fitness.VOID:
            await self._aftermath.close(proof, Stale(submission.job_id, judged.reason))
            return
        if judged.fitness is Fitness.EARLY:
            return
        if not await self._ledger.take_claim(proof, now):
            if proof.attempt is None:
                await self._teller.paused(proof, "a transaction of another signer is on its way for this work")
            return
        proof.void_since = proof.missing_since = None
        proof.looked_at = self._loop.height
        await self._put(proof)

    async def put_again(self, proof: OutboxProof) -> None:
        """A claim without a row: we were interrupted. The row is looked for before the puzzle is asked about."""
        attempt = proof.attempt
        assert attempt is not None
        if not any(row.may_land for row in await self._outbox.find(attempt.work)):
            now = await self._puzzles.read(attempt.work, proof.submission.job_id)
            if isinstance(now, Void):
                await self._aftermath.of_void(proof, attempt, now.outcome)
                return
            if now is None:
                return
        await self._put(proof)

    async def _put(self, proof: OutboxProof) -> None:
        """Make the row, or find it. After a ChainError it is not known whether it is there: it is tried again."""
        attempt = proof.attempt
        assert attempt is not None
        ended = await self._ledger.ended_rows(attempt)
        row = await self._outbox.put(attempt.work, attempt.proof, ended, SILENT_SECONDS)
        proof.told = ""
        noted = await self._ledger.note(proof, replace(attempt, state=AttemptState.BROADCAST, signer_row=row.id))
        logger.info(
            "Row %d of the guild stack's outbox stands for %s %s.",
            row.id,
            attempt.work.action.value,
            attempt.work.object_id,
        )
        await self._teller.broadcast(proof, noted)

    async def _ended_before(self, proof: OutboxProof) -> bool:
        """Whether the ledger knows an attempt for this claim that was included; then it is told. Counts failures."""
        failed = 0
        for attempt in await self._ledger.of(proof):
            if attempt.state is AttemptState.INCLUDED and attempt.height is not None:
                self._book.forget(proof)
                await self._teller.included(attempt.job_id, attempt)
                return True
            failed += counts_against(attempt)
        proof.failures = max(proof.failures, failed)
        proof.ledger_read = True
        return False
