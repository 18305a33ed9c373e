"""What becomes of a proof whose transaction was refused or failed, or that no transaction may be signed for.

It is tried again, by itself or with half of those it failed with; it waits; another key is chosen for it; or the lane
is done with it, unless one of its own transactions got there first.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from coordinator.chain.client import ChainClient, TxAnswer
from coordinator.submission.attempt import Attempt, AttemptState
from coordinator.submission.block_loop import BlockLoop
from coordinator.submission.decision import (
    After,
    after_failure,
    halves_after,
    may_surface,
    pause_blocks,
    transaction_of,
    weigh,
)
from coordinator.submission.lane_ledger import LaneLedger
from coordinator.submission.limits import Limits
from coordinator.submission.outcome import GaveUp, Included, Rejected, Stale, Submission
from coordinator.submission.pending import PendingProof
from coordinator.submission.proof_book import ProofBook
from coordinator.submission.record import Record
from coordinator.submission.rejection import PROOF_REJECTED, cause_of, explain, names
from coordinator.submission.reporter import Reporter
from coordinator.submission.verdict import (
    Disposition,
    concerns_whole,
    disposition,
    is_too_large,
    may_pass_in_part,
    took_fee,
)
from hashfleet.errors import ChainError, KeyProblem

logger = logging.getLogger(__name__)

#: Said of a founding that failed in a block.
PAID: Final = "its fee is paid and would be paid again, so it is not sent again by itself"


class Aftermath:
    """Decides and tells it, for one lane."""

    def __init__(
        self,
        chain: ChainClient,
        ledger: LaneLedger,
        book: ProofBook,
        loop: BlockLoop,
        limits: Limits,
        record: Record,
        reporter: Reporter,
        *,
        address: str,
        reassign: Callable[[Submission], Awaitable[Stale | None]],
    ) -> None:
        """`reassign` lets another key have a proof, or says that it is of no use under the keys that may. It raises
        KeyProblem if no other may, and ChainError.
        """
        self._chain = chain
        self._ledger = ledger
        self._book = book
        self._loop = loop
        self._limits = limits
        self._record = record
        self._reporter = reporter
        self._address = address
        self._reassign = reassign

    # ---- a transaction was refused or failed ---------------------------------------------------------------------

    async def of_refusal(self, proofs: Sequence[PendingProof], ended: Sequence[Attempt], answer: TxAnswer) -> None:
        """A transaction with these proofs was refused or failed, and the ledger says so: what becomes of them."""
        self._record.rejected += len(proofs)
        self._record.last_error = f"{answer.codespace} {answer.code}: {answer.log}"
        self._record.transaction_ended(answer)
        wanted = []
        for proof, attempt in zip(proofs, ended, strict=True):
            if not proof.wanted:
                self._book.forget(proof)
                continue
            wanted.append(proof)
            reason = why(attempt, answer) if len(ended) == 1 else _why_together(attempt, ended, answer)
            await self._reporter.tell(Rejected(proof.submission.job_id, transaction_of(attempt), reason))
        if len(proofs) > 1:
            await self._after_sharing(wanted, answer)
        elif wanted:
            await self._after(wanted[0], ended[0], answer)

    async def _after_sharing(self, proofs: Sequence[PendingProof], answer: TxAnswer) -> None:
        """The transaction that these proofs shared was refused or failed."""
        for proof in proofs:
            proof.not_before = self._loop.height + 1
        if is_too_large(answer):
            self._limits.batch = max(1, min(self._limits.batch, len(proofs) // 2))
        what = disposition(answer)
        if what is not Disposition.UNKNOWN_ANTE and not concerns_whole(answer):
            self._book.split(proofs)
            return
        ours = []
        for proof in proofs:
            if what is Disposition.OTHER_KEY or (
                what is Disposition.UNKNOWN_ANTE and await self._asked_for_the_right(proof) is Disposition.OTHER_KEY
            ):
                await self._to_other_key(proof, _said(answer))
            else:
                ours.append(proof)
        if may_pass_in_part(answer) and len(ours) > 1:
            self._count_shared_refusal(ours)

    def _count_shared_refusal(self, proofs: Sequence[PendingProof]) -> None:
        """A limit that is met again and again is halved after all: it may be that of one object, or of fewer proofs."""
        for proof in proofs:
            proof.shared_refusals += 1
        if halves_after(max(proof.shared_refusals for proof in proofs)):
            for proof in proofs:
                proof.shared_refusals = 0
            self._book.split(proofs)

    async def _after(self, proof: PendingProof, ended: Attempt, answer: TxAnswer) -> None:
        """The transaction of this proof alone was refused or failed."""
        what = weigh(disposition(answer), ended.cause)
        reason = why_by_code(ended, answer)
        if ended.cause is not None:
            self._record.last_error = reason
        if what is Disposition.ALERT:
            logger.error("The operator should look at this: %s (job %s).", reason, proof.submission.job_id)
        if what is Disposition.UNKNOWN_ANTE:
            what = await self._asked_for_the_right(proof)
        in_block, paid = ended.height is not None, ended.work.action.priced and took_fee(answer)
        match after_failure(what, proof.failures, in_block=in_block, paid=paid, cause=ended.cause):
            case After.GIVE_UP:
                reason = f"{reason}; {PAID}" if paid else reason
                await self.close(proof, GaveUp(proof.submission.job_id, reason))
            case After.OTHER_KEY:
                await self._to_other_key(proof, reason)
            case After.PAUSE:
                await self._pause(proof, reason)
            case After.AGAIN:
                proof.not_before = self._loop.height + 1

    async def _pause(self, proof: PendingProof, reason: str) -> None:
        proof.pauses += 1
        proof.not_before = self._loop.height + pause_blocks(proof.pauses)
        await self._reporter.tell_paused(proof, reason)

    async def _to_other_key(self, proof: PendingProof, reason: str) -> None:
        """The chain says that our key may not do it."""
        told = f"the key {self._address} may not do it: {reason}"
        logger.error("The operator should look at this: %s (job %s).", told, proof.submission.job_id)
        kept = await self.hand_on(proof)
        if kept is not None:
            await self._pause(proof, f"{reason}; {kept}")

    async def hand_on(self, proof: PendingProof) -> str | None:
        """Let another key have a proof that ours may not sign for; why it has to wait here instead, else None."""
        try:
            void = await self._reassign(proof.submission)
        except KeyProblem as error:
            return str(error)
        except ChainError as error:
            return f"no other key could be chosen: {error}"
        if void is not None:
            await self.close(proof, void)
        return None

    async def _asked_for_the_right(self, proof: PendingProof) -> Disposition:
        """What an ante refusal of v0.16 means: a limit per block, or that the key lost its right."""
        work = proof.submission.work
        try:
            await self._chain.check_signer(self._address, work.action, work.object_id)
        except KeyProblem:
            return Disposition.OTHER_KEY
        except ChainError as error:
            logger.debug("The right of %s could not be asked for: %s", self._address, error)
        return Disposition.RETRY_NEXT_BLOCK

    # ---- the lane is done with a proof ---------------------------------------------------------------------------

    async def close(self, proof: PendingProof, outcome: Stale | GaveUp) -> None:
        """Be done with a proof that has no live transaction, unless it is one of ours that got there first."""
        if await self.landed_before(proof, ask_chain=True):
            return
        if may_surface(await self._ledger.ended_attempts(proof.submission), self._loop.height):
            # Its sequence was used and the work moved on: most likely by itself, only that nobody indexed it yet.
            proof.not_before = self._loop.height + 1
            return
        self._record.stale += isinstance(outcome, Stale)
        self._book.forget(proof)
        await self._reporter.tell(outcome)

    async def landed_before(self, proof: PendingProof, *, ask_chain: bool) -> bool:
        """Whether an ended attempt of this proof's job landed after all; then it is told and done with.

        The ledger knows if we crashed after the look-up; the chain, if it was late.
        """
        for attempt in await self._ledger.ended_attempts(proof.submission):
            landed = attempt if attempt.state is AttemptState.INCLUDED else None
            if landed is None and ask_chain and attempt.height is None and attempt.tx_hash is not None:
                answer = await self._chain.find_transaction(attempt.tx_hash)
                if answer is not None and answer.code == 0:
                    landed = await self._ledger.store_found(
                        answered(attempt, AttemptState.INCLUDED, answer, alone=True)
                    )
            if landed is not None and landed.tx_hash is not None:
                await self.land(proof, landed)
                return True
        return False

    async def failed_before(self, proof: PendingProof) -> bool:
        """Whether what is priced failed in a block before, so that it is not paid for again; then it is given up.

        Only the ledger knows if we crashed after it had ended, or while an earlier one might still have landed.
        """
        if not proof.submission.work.action.priced:
            return False
        ended = await self._ledger.ended_attempts(proof.submission)
        paid = [(attempt, answer) for attempt in ended if (answer := _failure_of(attempt)) and took_fee(answer)]
        if not paid:
            return False
        proof.failures = max(proof.failures, len(paid))
        attempt, answer = paid[-1]
        what = weigh(disposition(answer), attempt.cause)
        after = after_failure(what, proof.failures, in_block=True, paid=True, cause=attempt.cause)
        if after is not After.GIVE_UP:
            return False
        await self.close(proof, GaveUp(proof.submission.job_id, f"{why_by_code(attempt, answer)}; {PAID}"))
        return True

    async def land(self, proof: PendingProof, attempt: Attempt) -> None:
        """The proof is in the chain."""
        assert attempt.height is not None
        job_id = proof.submission.job_id
        self._book.forget(proof)
        logger.info("Transaction %s is in block %d.", attempt.tx_hash, attempt.height)
        await self._reporter.tell(Included(job_id, transaction_of(attempt), attempt.height))


def answered(attempt: Attempt, state: AttemptState, answer: TxAnswer, *, alone: bool) -> Attempt:
    """The attempt with what the chain said about it, or about the transaction that it shared if it was not alone."""
    cause = None
    rejected = (answer.codespace, answer.code) == ("structs", PROOF_REJECTED)
    if rejected and (alone or names(attempt.work, answer.log)):
        cause = cause_of(attempt.work, attempt.proof, answer.log)
    return replace(
        attempt,
        state=state,
        height=answer.height,
        code=answer.code,
        codespace=answer.codespace,
        log=answer.log,
        cause=cause,
    )


def _failure_of(attempt: Attempt) -> TxAnswer | None:
    """What the chain said of an attempt that was refused or failed."""
    if attempt.state is not AttemptState.REJECTED or attempt.tx_hash is None or attempt.code is None:
        return None
    return TxAnswer(attempt.tx_hash, attempt.code, attempt.codespace or "", attempt.log, attempt.height)


def why(attempt: Attempt, answer: TxAnswer) -> str:
    """Why a transaction was refused or failed, in one sentence."""
    if attempt.cause is not None:
        return f"the chain rejected the proof: {explain(attempt.cause, attempt.work, attempt.proof, answer.log)}"
    return _said(answer)


def why_by_code(attempt: Attempt, answer: TxAnswer) -> str:
    """As `why`, beginning with the code that decides what is done."""
    return _said(answer) if attempt.cause is None else f"{_said(answer)} ({why(attempt, answer)})"


def _said(answer: TxAnswer) -> str:
    return f"the chain answered {answer.codespace} {answer.code}: {answer.log}"


def _why_together(attempt: Attempt, ended: Sequence[Attempt], answer: TxAnswer) -> str:
    """As `why`, for one of several proofs of a transaction: it may have been another that failed."""
    reason = why(attempt, answer)
    if attempt.cause is not None or concerns_whole(answer):
        return reason
    which = "another proof" if any(other.cause is not None for other in ended) else "one of the proofs"
    return f"{which} of the same transaction failed: {reason}"
