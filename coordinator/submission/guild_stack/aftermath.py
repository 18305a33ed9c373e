"""What becomes of a proof whose row of the outbox came to its end: included, refused, of no use, or tried again."""

from __future__ import annotations

import logging
from dataclasses import replace

from coordinator.chain.client import TxAnswer
from coordinator.submission.attempt import Attempt, AttemptState
from coordinator.submission.block_loop import BlockLoop
from coordinator.submission.decision import After, after_failure, pause_blocks
from coordinator.submission.guild_stack.ledger import OutboxLedger
from coordinator.submission.guild_stack.proofs import OutboxBook, OutboxProof
from coordinator.submission.guild_stack.telling import Teller
from coordinator.submission.outcome import GaveUp, Stale
from coordinator.submission.record import Record
from coordinator.submission.verdict import Disposition, disposition
from hashfleet.errors import BadChainAnswer

logger = logging.getLogger(__name__)


class OutboxAftermath:
    """Decides and tells it, for one submitter."""

    def __init__(self, ledger: OutboxLedger, book: OutboxBook, loop: BlockLoop, record: Record, teller: Teller) -> None:
        self._ledger = ledger
        self._book = book
        self._loop = loop
        self._record = record
        self._teller = teller

    async def of_block(self, proof: OutboxProof, attempt: Attempt, found: TxAnswer) -> None:
        """A block holds the transaction."""
        if found.height is None:
            raise BadChainAnswer(f"transaction {found.tx_hash} was found without a height; it should have one")
        if found.code == 0:
            landed = replace(attempt, height=found.height, code=0, codespace=found.codespace, log=found.log)
            await self.of_success(proof, landed)
            return
        await self.of_refusal(proof, replace(attempt, height=found.height), found)

    async def of_success(self, proof: OutboxProof, attempt: Attempt) -> None:
        """The proof is in the chain; `attempt` tells in which block."""
        included = await self._ledger.end(proof, replace(attempt, state=AttemptState.INCLUDED))
        self._record.included += 1
        self._book.forget(proof)
        logger.info(
            "Row %s of the guild stack's outbox is in block %s: %s.",
            included.signer_row,
            included.height,
            included.tx_hash or included.log,
        )
        await self._teller.included(proof.submission.job_id, included)

    async def of_refusal(self, proof: OutboxProof, attempt: Attempt, answer: TxAnswer) -> None:
        """A node refused the transaction, or it failed in its block."""
        reason = f"the chain answered {answer.codespace} {answer.code}: {answer.log}"
        what = disposition(answer)
        proof.failures += what is not Disposition.PAUSE
        if what is Disposition.ALERT:
            logger.error("The operator should look at this: %s (job %s).", reason, proof.submission.job_id)
        rejected = replace(attempt, code=answer.code, codespace=answer.codespace, log=answer.log)
        await self.of_failure(proof, rejected, reason, after_failure(what, proof.failures))

    async def of_failure(self, proof: OutboxProof, attempt: Attempt, reason: str, what_next: After) -> None:
        """The row has come to nothing for certain; say so, and decide about the proof."""
        ended = await self._ledger.end(proof, replace(attempt, state=AttemptState.REJECTED))
        self._record.rejected += 1
        self._record.last_error = reason
        logger.warning("Row %s of the guild stack's outbox failed: %s", ended.signer_row, reason)
        if not proof.wanted:
            self._book.forget(proof)
            return
        await self._teller.rejected(proof, ended)
        match what_next:
            case After.GIVE_UP:
                await self.close(proof, GaveUp(proof.submission.job_id, reason))
            case After.PAUSE | After.OTHER_KEY:  # the agent chooses the key
                proof.not_before = self._loop.height + pause_blocks(max(1, proof.failures))
                await self._teller.paused(proof, reason)
            case After.AGAIN:
                proof.not_before = self._loop.height + 1

    async def of_void(self, proof: OutboxProof, attempt: Attempt, outcome: Stale | GaveUp) -> None:
        """The puzzle is another one, and not by this row."""
        await self._ledger.end(proof, replace(attempt, state=AttemptState.SUPERSEDED))
        await self.close(proof, outcome)

    async def close(self, proof: OutboxProof, outcome: Stale | GaveUp) -> None:
        """Be done with the proof."""
        self._book.forget(proof)
        if not proof.wanted:
            return
        self._record.stale += isinstance(outcome, Stale)
        await self._teller.over(outcome)
