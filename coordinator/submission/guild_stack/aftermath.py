"""What becomes of a proof whose row of the outbox came to its end: included, refused, of no use, or tried again."""

from __future__ import annotations

import logging
from dataclasses import replace

from coordinator.chain.client import TxAnswer
from coordinator.submission.aftermath import answered, why, why_by_code
from coordinator.submission.attempt import Attempt, AttemptState
from coordinator.submission.block_loop import BlockLoop
from coordinator.submission.decision import (
    MAX_FAILURES,
    After,
    after_failure,
    counts,
    pause_blocks,
    set_back_blocks,
    weigh,
)
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
            await self.of_success(proof, answered(attempt, AttemptState.INCLUDED, found, alone=True))
            return
        await self.of_refusal(proof, attempt, found)

    async def of_success(self, proof: OutboxProof, attempt: Attempt) -> None:
        """The proof is in the chain; `attempt` tells in which block."""
        included = await self._ledger.end(proof, replace(attempt, state=AttemptState.INCLUDED))
        self._record.included += 1
        self._record.ended(rejected=False)
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
        refused = answered(attempt, AttemptState.REJECTED, answer, alone=True)
        what, reason = weigh(disposition(answer), refused.cause), why_by_code(refused, answer)
        if what is Disposition.ALERT:
            logger.error("The operator should look at this: %s (job %s).", reason, proof.submission.job_id)
        proof.failures += counts_against(refused)
        ended = await self._end(proof, refused, reason)
        self._record.rejected += 1
        self._record.transaction_ended(answer)
        in_block = answer.height is not None
        after = after_failure(what, proof.failures, in_block=in_block, cause=refused.cause)
        await self._go_on(proof, ended, why(ended, answer), reason, after)
        if not in_block:
            # A row of the outbox for each block in which a node refuses it would be too many.
            proof.set_backs += 1
            proof.not_before = max(proof.not_before, self._loop.height + set_back_blocks(proof.set_backs))

    async def of_silence(self, proof: OutboxProof, attempt: Attempt, reason: str, *, by_agent: bool) -> None:
        """The row has come to nothing for certain, and no chain said why: its agent's command failed, or somebody ended
        it."""
        silent = replace(attempt, state=AttemptState.REJECTED, log=reason)
        proof.failures += counts_against(silent)
        ended = await self._end(proof, silent, reason)
        self._record.rejected += 1
        if by_agent:
            self._record.ended(rejected=True)
        after = After.GIVE_UP if proof.failures >= MAX_FAILURES else After.PAUSE
        await self._go_on(proof, ended, reason, reason, after)

    async def of_loss(self, proof: OutboxProof, attempt: Attempt, reason: str) -> None:
        """The row can no longer land, by nothing that says anything of the proof."""
        ended = await self._end(proof, replace(attempt, state=AttemptState.SUPERSEDED, log=reason), reason)
        await self._go_on(proof, ended, reason, reason, After.AGAIN)

    async def _end(self, proof: OutboxProof, ended: Attempt, reason: str) -> Attempt:
        """Store that the row has come to nothing."""
        ended = await self._ledger.end(proof, ended)
        self._record.last_error = reason
        logger.warning("Row %s of the guild stack's outbox failed: %s", ended.signer_row, reason)
        return ended

    async def _go_on(self, proof: OutboxProof, ended: Attempt, why_ended: str, reason: str, after: After) -> None:
        """Say that the row came to nothing, and do what follows for the proof, for this reason."""
        if not proof.wanted:
            self._book.forget(proof)
            return
        await self._teller.rejected(proof, ended, why_ended)
        match after:
            case After.GIVE_UP:
                await self.close(proof, GaveUp(proof.submission.job_id, reason))
            case After.PAUSE | After.OTHER_KEY:  # the agent chooses the key
                proof.pauses += 1
                proof.not_before = self._loop.height + pause_blocks(proof.pauses)
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


def counts_against(ended: Attempt) -> bool:
    """Whether an attempt that ended is one of the few that a proof is given up after: silent, or failed in a block in
    a way that counts. What a node refuses is no word about the proof."""
    if ended.state is not AttemptState.REJECTED:
        return False
    if ended.code is None:
        return True
    assert ended.codespace is not None and ended.tx_hash is not None, "an answer has both"
    answer = TxAnswer(ended.tx_hash, ended.code, ended.codespace, ended.log, ended.height)
    return ended.height is not None and counts(disposition(answer))
