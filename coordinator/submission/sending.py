"""Offers signed transactions to a node, and takes up what it answers."""

from __future__ import annotations

import logging
from dataclasses import replace

from coordinator.chain.client import ChainClient
from coordinator.submission.aftermath import Aftermath, answered
from coordinator.submission.attempt import AttemptState
from coordinator.submission.block_loop import BlockLoop
from coordinator.submission.decision import set_back_blocks, transaction_of
from coordinator.submission.lane_ledger import LaneLedger
from coordinator.submission.limits import Limits
from coordinator.submission.outcome import Broadcast
from coordinator.submission.pending import LiveTransaction
from coordinator.submission.reporter import Reporter
from coordinator.submission.sequences import Sequences
from coordinator.submission.verdict import Disposition, concerns_whole, disposition

logger = logging.getLogger(__name__)


class Sender:
    """Sends for one lane."""

    def __init__(
        self,
        chain: ChainClient,
        ledger: LaneLedger,
        loop: BlockLoop,
        limits: Limits,
        sequences: Sequences,
        aftermath: Aftermath,
        reporter: Reporter,
    ) -> None:
        self._chain = chain
        self._ledger = ledger
        self._loop = loop
        self._limits = limits
        self._sequences = sequences
        self._aftermath = aftermath
        self._reporter = reporter

    async def send(self, flying: LiveTransaction) -> None:
        """Offer the live transaction to a node. A ChainError means that nothing is known: it is looked up later."""
        attempt = flying.seen.attempt
        assert attempt.tx_bytes is not None
        self._limits.note_send(flying)
        # Noted before the call: if it is cancelled or fails, a node may have the transaction all the same.
        first, flying.maybe_sent = not flying.maybe_sent, True
        flying.seen = replace(flying.seen, sent_at=self._loop.height)
        answer = await self._chain.broadcast(attempt.tx_bytes)
        what = disposition(answer)
        if what in (Disposition.SUCCESS, Disposition.ALREADY_SENT):
            for proof in flying.proofs:
                proof.set_backs = 0
            if attempt.state is not AttemptState.BROADCAST:
                admitted = await self._ledger.note(flying, lambda row: replace(row, state=AttemptState.BROADCAST))
                for proof, row in zip(flying.proofs, admitted, strict=True):
                    await self._reporter.tell(Broadcast(proof.submission.job_id, transaction_of(row)))
            return
        self._limits.note_refusal()
        logger.warning(
            "A node refused transaction %s with %s %d: %s", flying.tx_hash, answer.codespace, answer.code, answer.log
        )
        if not first:
            # Another node, or a block that is not indexed yet, may hold it: the look-ups decide, not this refusal.
            flying.held = what not in (
                Disposition.RESYNC_SEQUENCE,
                Disposition.RETRY_NEXT_BLOCK,
                Disposition.UNKNOWN_ANTE,
            )
            await self._ledger.note(
                flying, lambda row: replace(row, code=answer.code, codespace=answer.codespace, log=answer.log)
            )
            return
        proofs = flying.proofs
        alone = len(proofs) == 1
        refused = await self._ledger.end(flying, lambda row: answered(row, AttemptState.REJECTED, answer, alone=alone))
        again = what is Disposition.RESYNC_SEQUENCE and self._sequences.take_hint(flying.sequence, answer.log)
        if what is Disposition.RESYNC_SEQUENCE and not again:
            # Whatever else is signed in this block would build on the same wrong sequence.
            self._limits.stop()
        await self._aftermath.of_refusal(proofs, refused, answer)
        if len(proofs) == 1 and not concerns_whole(answer):
            # What is refused again and again lets others pass, of its kind and of lower classes.
            (proof,) = proofs
            proof.set_backs += 1
            proof.not_before = max(proof.not_before, self._loop.height + set_back_blocks(proof.set_backs))
        if again:
            self._limits.send_anew({row.work.object_id for row in refused})
            for proof in proofs:
                proof.not_before = min(proof.not_before, self._loop.height)
            self._loop.wake()
