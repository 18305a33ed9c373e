"""The turn of a proof: checked against the chain as it is now, its claim taken, its transaction signed and stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from coordinator.chain.client import Account, ChainClient, WorkReading
from coordinator.store.protocol import LiveAttemptExists
from coordinator.submission.aftermath import Aftermath
from coordinator.submission.attempt import Attempt, AttemptState, prepared
from coordinator.submission.block_loop import BlockLoop
from coordinator.submission.decision import BATCH_TIMEOUT_BLOCKS, Cargo, Fitness, judge, timeout_at, transaction_of
from coordinator.submission.keys import SigningKey
from coordinator.submission.lane_ledger import LaneLedger
from coordinator.submission.limits import Limits, Settings
from coordinator.submission.outcome import GaveUp, Signed, Stale, Submission, claim_of
from coordinator.submission.pending import LiveTransaction, PendingProof
from coordinator.submission.proof_book import ProofBook
from coordinator.submission.reporter import Reporter
from coordinator.submission.sequences import Sequences
from coordinator.submission.transaction import SignedTransaction, sign_completion, sign_completions
from coordinator.submission.work_reader import WorkReader
from hashfleet.action import CharterTerms
from hashfleet.errors import BadChainAnswer, InvalidInput, KeyProblem, WorkGone, WorkPaused
from hashfleet.proof import verify

logger = logging.getLogger(__name__)

#: Works read at the same time.
READS_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Ready:
    """A proof that may be sent now, with its work as read for it."""

    proof: PendingProof
    submission: Submission
    reading: WorkReading

    @property
    def cargo(self) -> Cargo:
        objects = frozenset(each for each in self.reading.depends_on if not each.endswith("@"))
        work, proof = self.reading.work, self.proof
        alone = work.action.priced or proof.failures > 0 or proof.pauses > 0 or proof.set_backs > 0
        return Cargo(objects | {work.object_id}, self.reading.clock, proof.group, alone)


class Signer:
    """Checks and signs for one lane. What cannot be sent is told or put off here."""

    def __init__(
        self,
        chain: ChainClient,
        key: SigningKey,
        settings: Settings,
        ledger: LaneLedger,
        book: ProofBook,
        loop: BlockLoop,
        limits: Limits,
        sequences: Sequences,
        works: WorkReader,
        aftermath: Aftermath,
        reporter: Reporter,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._chain = chain
        self._key = key
        self._settings = settings
        self._ledger = ledger
        self._book = book
        self._loop = loop
        self._limits = limits
        self._sequences = sequences
        self._works = works
        self._aftermath = aftermath
        self._reporter = reporter
        self._clock = clock

    # ---- check ---------------------------------------------------------------------------------------------------

    async def look_all(self, hand: Sequence[PendingProof]) -> list[Ready]:
        """Check proofs against the chain as it is now, a few at a time; those that may be sent, in their order."""
        gate = asyncio.Semaphore(READS_AT_ONCE)

        async def look(proof: PendingProof) -> Ready | None:
            async with gate:
                with apart(proof):
                    return await self._look_at(proof)
                self._put_off(proof)
            return None

        if len(hand) == 1:
            found: list[Ready | None] = [await look(hand[0])]
        else:
            answers = await asyncio.gather(*map(look, hand), return_exceptions=True)
            found = []
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
                found.append(answer)
        return [ready for ready in found if ready is not None]

    async def _look_at(self, proof: PendingProof) -> Ready | None:
        """Check a proof against the chain as it is now; None if it cannot be sent."""
        submission = proof.submission
        if not self._book.may_be_signed(proof) or self._limits.was_sent(submission.work.object_id):
            return None
        if not proof.ledger_read:
            if await self._aftermath.landed_before(proof, ask_chain=False):
                return None
            proof.ledger_read = True
        if await self._aftermath.failed_before(proof):
            return None
        if submission.work.charter is not None and not await self._is_solvers(proof, submission.work.charter):
            return None
        try:
            reading = await self._works.read(submission.work, submission.founding)
        except WorkGone as error:
            self._put_off(proof)
            await self._aftermath.close(proof, GaveUp(submission.job_id, str(error)))
            return None
        except (WorkPaused, BadChainAnswer) as error:
            self._put_off(proof)
            await self._reporter.tell_paused(proof, str(error))
            return None
        if proof.submission is not submission or not self._book.may_be_signed(proof):
            self._loop.wake()  # replaced meanwhile; its turn comes again
            return None
        proof.clock = reading.clock
        judged = judge(submission.work, submission.proof, reading.work, self._loop.height)
        if judged.fitness is Fitness.GOOD and verify(reading.work.prefix, submission.proof.nonce) != submission.proof:
            self._put_off(proof)
            await self._aftermath.close(
                proof, Stale(submission.job_id, "the proof does not hash as it says; a new search")
            )
            return None
        if judged.fitness is Fitness.VOID:
            self._put_off(proof)
            await self._aftermath.close(proof, Stale(submission.job_id, judged.reason))
            return None
        if judged.fitness is Fitness.EARLY:
            self._put_off(proof)
            return None
        proof.put_off = None
        return Ready(proof, submission, reading)

    def _put_off(self, proof: PendingProof) -> None:
        """Nothing can be signed for it now: it is looked at again from the next block on, and holds up no other."""
        proof.put_off = self._loop.height
        proof.not_before = self._loop.height + 1

    async def _is_solvers(self, proof: PendingProof, terms: CharterTerms) -> bool:
        """Whether our key is of the player whom a charter's puzzle names; under another's its proof is none.

        Each failure would cost the fee, so it is asked each time. If it is not, the proof is handed on.
        """
        work, address = proof.submission.work, self._key.address
        try:
            player = (await self._chain.check_signer(address, work.action, work.object_id)).player_id
        except KeyProblem as error:
            reason = str(error)
        else:
            if player == terms.solver_id:
                return True
            reason = f"player {terms.solver_id} solved the charter, but the key {address} is of player {player}"
        kept = await self._aftermath.hand_on(proof)
        if kept is not None:
            self._put_off(proof)
            await self._reporter.tell_paused(proof, f"{reason}; {kept}")
        return False

    # ---- sign ----------------------------------------------------------------------------------------------------

    async def sign(self, packed: Sequence[Ready], account: Account) -> LiveTransaction | None:
        """Take the claims, sign and store one transaction for these proofs, to be sent now; None if none came of it."""
        if any(one.proof.submission is not one.submission or not self._book.may_be_signed(one.proof) for one in packed):
            self._loop.wake()  # replaced meanwhile; their turn comes again
            return None
        if any(self._limits.was_sent(one.submission.work.object_id) for one in packed):
            return None
        try:
            claimed = await self._ledger.take_claims([self._prepare(one, place) for place, one in enumerate(packed)])
        except LiveAttemptExists:
            await self._follow_existing(packed)
            return None
        if not all(self._book.may_be_signed(one.proof) for one in packed):
            await self._ledger.close_prepared(claimed)
            self._loop.wake()
            return None
        height = self._loop.height
        try:
            sequence = self._sequences.next(account)
            signed, timeout = self._signed(packed, account, sequence, height)
        except InvalidInput as error:
            await self._ledger.close_prepared(claimed)
            if len(packed) == 1:
                await self._aftermath.close(packed[0].proof, Stale(packed[0].submission.job_id, str(error)))
            else:
                self._book.split([one.proof for one in packed])
            return None
        now = self._clock()
        rows = [
            replace(
                attempt,
                state=AttemptState.SIGNED,
                account_number=account.number,
                sequence=sequence,
                tx_bytes=signed.tx_bytes,
                tx_hash=signed.tx_hash,
                timeout_height=timeout,
                updated_at=now,
            )
            for attempt in claimed
        ]
        await self._ledger.store_signed(rows)
        flying = self._book.take_off([one.proof for one in packed], rows)
        logger.info(
            "Signed transaction %s for %s, sequence %d.",
            signed.tx_hash,
            ", ".join(f"{row.work.action.value} {row.work.object_id}" for row in rows),
            sequence,
        )
        for proof, row in zip(flying.proofs, rows, strict=True):
            await self._reporter.tell(Signed(proof.submission.job_id, transaction_of(row)))
        return flying

    def _prepare(self, one: Ready, place: int) -> Attempt:
        """The row that takes the claim."""
        return prepared(
            one.submission.job_id,
            one.reading.work,
            one.submission.proof,
            address=self._key.address,
            now=self._clock(),
            message_index=place,
        )

    def _signed(
        self, packed: Sequence[Ready], account: Account, sequence: int, height: int
    ) -> tuple[SignedTransaction, int]:
        """The transaction, and the last height at which it may land."""
        blocks = self._settings.timeout_blocks
        if len(packed) == 1:
            timeout = timeout_at(height, blocks)
            (one,) = packed
            signed = sign_completion(
                one.reading.work,
                one.submission.proof,
                self._key,
                chain_id=self._chain.chain_id,
                account_number=account.number,
                sequence=sequence,
                timeout_height=timeout,
                gas_limit=self._settings.gas_limit,
                founding=one.submission.founding,
                gas_price=self._settings.gas_price,
            )
            return signed, timeout
        timeout = timeout_at(height, min(blocks, BATCH_TIMEOUT_BLOCKS))
        signed = sign_completions(
            [(one.reading.work, one.submission.proof) for one in packed],
            self._key,
            chain_id=self._chain.chain_id,
            account_number=account.number,
            sequence=sequence,
            timeout_height=timeout,
            gas_limit=self._settings.gas_limit,
        )
        return signed, timeout

    async def _follow_existing(self, packed: Sequence[Ready]) -> None:
        """The ledger has a live attempt for one of these claims that this lane did not know."""
        claims = {one.proof.claim: one.proof for one in packed}
        ours: list[Attempt] = []
        for attempt in await self._ledger.live():
            proof = claims.get(claim_of(attempt.work))
            if proof is None:
                continue
            if self._ledger.takes(attempt) or self._ledger.is_orphan(attempt):
                ours.append(attempt)
            else:
                proof.not_before = self._loop.height + 1
                reason = f"row {attempt.ledger_id} of the ledger is on its way for it in another way; it is waited for"
                await self._reporter.tell_paused(proof, reason)
        for attempt in await self._ledger.take_up(ours):
            logger.info("Following transaction %s, which is live for this anchor already.", attempt.tx_hash)
        self._loop.wake()


@contextmanager
def apart(proof: PendingProof) -> Iterator[None]:
    """An answer that cannot be read concerns one proof, or its transaction; the others go on."""
    try:
        yield
    except BadChainAnswer as error:
        logger.warning("Job %s waits for the next block: %s", proof.submission.job_id, error)
