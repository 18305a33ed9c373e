"""Follows live transactions by their hash, block after block, until one is in a block or can no longer get there."""

from __future__ import annotations

import logging
from dataclasses import replace

from coordinator.chain.client import Account, ChainClient, TxAnswer
from coordinator.submission.aftermath import Aftermath, answered
from coordinator.submission.attempt import AttemptState
from coordinator.submission.block_loop import BlockLoop
from coordinator.submission.decision import Fitness, Follow, counts, follow, judge, transaction_of
from coordinator.submission.lane_ledger import LaneLedger
from coordinator.submission.limits import Limits
from coordinator.submission.outcome import Rejected, Stale
from coordinator.submission.pending import LiveTransaction, PendingProof
from coordinator.submission.proof_book import ProofBook
from coordinator.submission.record import Record
from coordinator.submission.reporter import Reporter
from coordinator.submission.sending import Sender
from coordinator.submission.sequences import Sequences
from coordinator.submission.verdict import disposition, is_late
from coordinator.submission.work_reader import WorkReader
from hashfleet.errors import BadChainAnswer, WorkGone, WorkPaused

logger = logging.getLogger(__name__)


class Follower:
    """Follows what one lane signed."""

    def __init__(
        self,
        chain: ChainClient,
        ledger: LaneLedger,
        book: ProofBook,
        loop: BlockLoop,
        limits: Limits,
        sequences: Sequences,
        works: WorkReader,
        sender: Sender,
        aftermath: Aftermath,
        record: Record,
        reporter: Reporter,
        *,
        address: str,
    ) -> None:
        self._chain = chain
        self._ledger = ledger
        self._book = book
        self._loop = loop
        self._limits = limits
        self._sequences = sequences
        self._works = works
        self._sender = sender
        self._aftermath = aftermath
        self._record = record
        self._reporter = reporter
        self._address = address

    async def follow(self, flying: LiveTransaction, answer: TxAnswer | None, account: Account | None) -> None:
        """Do what is due, `answer` being what a look-up said; None if no block is known to hold the transaction.

        `account` is the one that signed it, read before the look-up: then a sequence that is used and a transaction
        that is not found fit together. None if it cannot be read, so that its sequence tells nothing.
        """
        height = self._loop.height
        if answer is not None:
            await self._land(flying, answer)
            return
        if account is not None and account.sequence > flying.sequence and flying.seen.overtaken_at is None:
            flying.seen = replace(flying.seen, overtaken_at=height)
        # A transaction whose sequence is used may have moved the anchor itself, and not be indexed yet: then nothing is
        # told before it can no longer surface (`may_surface`).
        if flying.seen.overtaken_at is None:
            for proof in flying.proofs:
                if proof.void is not None and height > proof.void[1]:
                    await self._close_void(proof)
        match follow(flying.seen, height):
            case Follow.SUPERSEDE:
                await self._supersede(flying)
            case Follow.SEND if flying.wanted:
                await self._send_again(flying)
            case _:
                pass

    async def _send_again(self, flying: LiveTransaction) -> None:
        """Offer the stored bytes once more, unless they could only fail by now."""
        if not self._limits.may_send(flying):
            return
        held = False
        for proof in flying.proofs:
            held |= not await self._is_still_good(proof)
        flying.held = held
        if not held and flying.wanted and self._limits.may_send(flying):
            logger.info("Sending transaction %s again, the same bytes.", flying.tx_hash)
            await self._sender.send(flying)

    async def _is_still_good(self, proof: PendingProof) -> bool:
        """Whether the proof of a live transaction could still be taken in the next block."""
        attempt = proof.attempt
        assert attempt is not None
        try:
            now = (await self._works.read(attempt.work)).work
        except WorkGone:
            # Perhaps because this very transaction completed it: nothing is told until it cannot land any more.
            return False
        except WorkPaused as error:
            await self._reporter.tell_paused(proof, str(error))
            return False
        judged = judge(attempt.work, attempt.proof, now, self._loop.height)
        if now.prefix != attempt.work.prefix:
            # Not told yet: the anchor may have moved because this very transaction landed, and is not indexed yet.
            proof.void = judged.reason, self._loop.height
        return judged.fitness is Fitness.GOOD

    async def _supersede(self, flying: LiveTransaction) -> None:
        """Close what can no longer land; the node that says it is in no block must have seen them all."""
        node_height = (await self._chain.latest_block()).height
        if follow(flying.seen, node_height) is not Follow.SUPERSEDE:
            return
        answer = await self._chain.find_transaction(flying.tx_hash)
        if answer is not None:
            await self._land(flying, answer)
            return
        proofs, seen = flying.proofs, flying.seen
        reason = ""
        if seen.overtaken_at is None and seen.attempt.state is AttemptState.BROADCAST:
            # Were it not told, a node whose transactions no validator takes would have us sign for ever unheard.
            reason = (
                f"a node took transaction {flying.tx_hash}, but no block until its timeout at height "
                f"{seen.attempt.timeout_height} holds it; it is signed anew"
            )
        if reason and flying.wanted and seen.sent_at is not None:
            # Not what we withheld, nor what ran out of time while we did not run: that says nothing of the chain.
            self._record.last_error = reason
            self._record.ended(rejected=True)
        ended = await self._ledger.end(flying, lambda attempt: replace(attempt, state=AttemptState.SUPERSEDED))
        logger.info("Transaction %s can no longer land; a new one may be signed.", flying.tx_hash)
        for proof, attempt in zip(proofs, ended, strict=True):
            if not proof.wanted:
                self._book.forget(proof)
            elif reason and proof.void is None:
                await self._reporter.tell(Rejected(proof.submission.job_id, transaction_of(attempt), reason))

    async def _land(self, flying: LiveTransaction, answer: TxAnswer) -> None:
        """A block holds the transaction."""
        if answer.height is None:
            raise BadChainAnswer(f"transaction {flying.tx_hash} was found without a height; it should have one")
        proofs = flying.proofs
        state = AttemptState.INCLUDED if answer.code == 0 else AttemptState.REJECTED
        alone = len(proofs) == 1
        ended = await self._ledger.end(flying, lambda attempt: answered(attempt, state, answer, alone=alone))
        if answer.code == 0:
            if ended[0].address == self._address:
                self._sequences.landed(flying.sequence)
            self._record.included += len(ended)
            self._record.transaction_ended(answer)
            for proof, attempt in zip(proofs, ended, strict=True):
                await self._aftermath.land(proof, attempt)
            return
        logger.warning(
            "Transaction %s failed in block %d with %s %d: %s",
            flying.tx_hash,
            answer.height,
            answer.codespace,
            answer.code,
            answer.log,
        )
        if alone:
            proofs[0].failures += counts(disposition(answer)) and not is_late(answer)
        await self._aftermath.of_refusal(proofs, ended, answer)

    async def _close_void(self, proof: PendingProof) -> None:
        """Tell that a proof is void whose live transaction is still in no block a block later."""
        assert proof.void is not None
        (reason, _), proof.void, proof.wanted = proof.void, None, False
        self._record.stale += 1
        await self._reporter.tell(Stale(proof.submission.job_id, reason))
