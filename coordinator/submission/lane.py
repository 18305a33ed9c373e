"""The lane of one signing account: found proofs in, exactly one transaction per (object, action, anchor) out.

The ledger in the store is the truth. A transaction is stored before a node sees it; from then on it is followed by
its hash, block after block, until it is in a block or can no longer get into one, and only then may another one be
signed for the same claim. So whatever happens in between (a lost answer, a crash at any point), the same bytes are
sent again, and the chain takes the same bytes once.

Per block the lane asks for the account, looks up what is in flight, then reads the work of the proofs whose turn it
is and sends at most five. All of it is one task; what it decides stands in `decision`.

A live attempt whose proof has become void (somebody else was faster) is not sent again, and the coordinator is told
at once, but its row is followed to the end: it may have been sent before, and the ledger should say what became of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from coordinator.chain.client import Account, ChainClient, TxAnswer
from coordinator.store.protocol import LiveAttemptExists, Store, StoreDamaged, StoreError
from coordinator.submission.attempt import Attempt, AttemptState
from coordinator.submission.decision import (
    MAX_IN_FLIGHT,
    SENDS_PER_BLOCK,
    After,
    Fitness,
    Flight,
    Follow,
    after_failure,
    follow,
    judge,
    may_surface,
    next_sequence,
    pause_blocks,
    ripe_at,
    timeout_at,
    transaction_of,
)
from coordinator.submission.keys import SigningKey
from coordinator.submission.outcome import (
    Broadcast,
    Claim,
    GaveUp,
    Included,
    Outcome,
    Paused,
    Rejected,
    Signed,
    Stale,
    Submission,
    claim_of,
)
from coordinator.submission.transaction import sign_completion
from coordinator.submission.turns import Place, Turns
from coordinator.submission.verdict import Disposition, disposition
from hashfleet.action import Work
from hashfleet.errors import BadChainAnswer, ChainError, HashfleetError, InvalidInput, KeyProblem, WorkGone, WorkPaused

__all__ = ["Broadcast", "GaveUp", "Included", "Lane", "Outcome", "Paused", "Rejected", "Signed", "Stale", "Submission"]

logger = logging.getLogger(__name__)

#: Works read per block at most, so that a thousand paused proofs do not make a thousand queries each block.
MAX_READS_PER_BLOCK: Final = 100
#: New transactions refused in a row after which nothing more is tried in this block: then it is not the object.
MAX_REFUSALS_PER_BLOCK: Final = 2
#: A proof that was found but whose job the ledger knows only, after a restart, goes before bulk work.
RECOVERED_PRIORITY: Final = 2


@dataclass(slots=True)
class _Proof:
    """A proof on its way. Changed by the lane's task only, and by `submit`."""

    submission: Submission
    #: Order of arrival.
    arrival: int
    #: The live transaction, if there is one.
    flight: Flight | None = None
    #: A node may hold the live transaction: a refusal proves nothing any more.
    maybe_sent: bool = False
    #: The live transaction is not to be sent again for now; its sequence is free for others.
    held: bool = False
    #: Why the proof is void although its transaction is live, and the height at which that was first seen.
    void: tuple[str, int] | None = None
    #: False once the coordinator was told that the proof is void: the ledger row alone is followed on.
    wanted: bool = True
    #: Tell the coordinator of the live transaction, which it may not know.
    announce: bool = False
    #: Height at which the live transaction was looked up last.
    looked_up_at: int = -1
    #: Nothing new is signed before this height: too few zeros yet, or a pause.
    not_before: int = 0
    #: Times that its turn came and led to no transaction; others of its priority go first.
    set_backs: int = 0
    #: Its transactions that failed in a block, those apart that came while the object took no proof.
    failures: int = 0
    #: Pauses in a row that the chain's answers to its transactions made.
    pauses: int = 0
    #: The reason that was told last, so that it is told once.
    told: str = ""
    #: The ledger was asked whether a transaction of ours landed before (we may have crashed before telling).
    ledger_read: bool = False
    #: It is the lane's business no more.
    forgotten: bool = False
    filed: Place | None = None

    @property
    def order(self) -> Place:
        """Of two that may be signed for now, the one with the lesser order goes first."""
        return self.submission.priority, self.set_backs, self.arrival

    @property
    def has_a_turn(self) -> bool:
        return self.flight is None and not self.forgotten


class Lane:
    """Gets proofs into the chain under one key. `recover`, then `run`; used from one event loop."""

    def __init__(
        self,
        chain: ChainClient,
        store: Store,
        key: SigningKey,
        *,
        clock: Callable[[], float],
        on_outcome: Callable[[Outcome], Awaitable[None]],
        timeout_blocks: int = 20,
        gas_limit: int = 500_000,
    ) -> None:
        """`clock` gives Unix seconds. A transaction may land within `timeout_blocks` blocks after it is signed."""
        if timeout_blocks < 1:
            raise InvalidInput(f"timeout_blocks is {timeout_blocks}; it should be 1 or more")
        self._chain = chain
        self._store = store
        self._key = key
        self._clock = clock
        self._on_outcome = on_outcome
        self._timeout_blocks = timeout_blocks
        self._gas_limit = gas_limit
        self._proofs: dict[Claim, _Proof] = {}
        #: Those with a live transaction, by arrival; and those without, in the order of their turns.
        self._flying: dict[int, _Proof] = {}
        self._turns: Turns[_Proof] = Turns()
        #: The claim that each job is about now, and whether the coordinator said so or the ledger.
        self._claims: dict[str, tuple[Claim, bool]] = {}
        self._arrivals = 0
        #: The highest committed height that was seen; -1 until one was.
        self._height = -1
        self._wake = asyncio.Event()
        #: The sequence after the highest one of ours that is in a block: a lagging node must not take us back.
        self._sequence_floor = 0
        # Counted per block:
        self._counted_at = -1
        self._sends = 0
        self._reads = 0
        self._refusals = 0
        self._objects_sent: set[str] = set()

    @property
    def waiting(self) -> int:
        """Proofs that have no live transaction."""
        return len(self._proofs) - len(self._flying)

    @property
    def in_flight(self) -> int:
        """Live transactions."""
        return len(self._flying)

    async def recover(self) -> None:
        """Take up the live attempts of this key from the ledger. May be called again. Raises StoreError."""
        for attempt in await self._store.live_attempts():
            if attempt.address == self._key.address:
                self._adopt(attempt)
        if self.in_flight:
            logger.info("Following %d transactions of an earlier run.", self.in_flight)
        self._wake.set()

    def submit(self, submission: Submission) -> None:
        """Queue a proof; smaller priority goes first. A claim that is on its way already goes on as it is."""
        claim = claim_of(submission.work)
        self._let_go_of_other(submission.job_id, claim)
        self._claims[submission.job_id] = claim, True
        known = self._proofs.get(claim)
        if known is None:
            self._arrivals += 1
            known = self._proofs[claim] = _Proof(submission, self._arrivals)
        else:
            if known.submission.job_id != submission.job_id:
                self._claims.pop(known.submission.job_id, None)
            known.submission = submission
            known.wanted, known.void = True, None
            known.ledger_read = False
            known.told = ""
            known.announce = known.flight is not None
        # By the range as it was: the chain is asked only when it is likely to say yes.
        known.not_before = ripe_at(submission.work, submission.proof)
        self._turns.file(known, self._height)
        self._wake.set()

    def block_seen(self, height: int) -> None:
        """A block of this height is committed."""
        if height > self._height:
            self._height = height
            self._wake.set()

    async def run(self) -> None:
        """Work until cancelled. A chain or a store that fails is tried again with the next block."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._advance()
            except ChainError as error:
                logger.warning("The lane of %s waits for the next block: %s", self._key.address, error)
            except KeyProblem as error:
                logger.error("The lane of %s cannot sign: %s", self._key.address, error)
                await self._pause_all(str(error))
            except StoreDamaged:
                raise  # what the ledger says cannot be relied upon
            except StoreError as error:
                logger.error("The lane of %s sends nothing while the ledger fails: %s", self._key.address, error)

    # ---- one round -----------------------------------------------------------------------------------------------

    async def _advance(self) -> None:
        """Everything that can be done at the present height."""
        if self._height < 0:
            self.block_seen((await self._chain.latest_block()).height)
        self._count_anew()
        await self._announce()
        flying = sorted(
            (proof for proof in self._flying.values() if proof.looked_up_at < self._height),
            key=_sequence_of,
        )
        if not flying and not (self._may_sign() and self._turns.first(self._height)):
            return
        # Accounts before look-ups: then a sequence that is used and a transaction that is not found fit together.
        addresses = {self._key.address, *(proof.flight.attempt.address for proof in flying if proof.flight)}
        accounts = {address: await self._chain.account(address) for address in sorted(addresses)}
        for proof in flying:
            with _apart(proof):
                await self._follow(proof, accounts)
        tried: list[_Proof] = []
        try:
            while self._may_sign() and (turn := self._turns.take(self._height)) is not None:
                tried.append(turn)
                with _apart(turn):
                    await self._take_turn(turn, accounts[self._key.address])
        finally:
            # Only now, so that none has two turns in one round.
            for proof in tried:
                if proof.has_a_turn:
                    self._turns.file(proof, self._height)

    def _count_anew(self) -> None:
        if self._counted_at != self._height:
            self._counted_at = self._height
            self._sends = self._reads = self._refusals = 0
            self._objects_sent = set()

    def _may_sign(self) -> bool:
        """Whether this block takes one more new transaction of ours."""
        self._count_anew()
        return (
            self._sends < SENDS_PER_BLOCK
            and self._reads < MAX_READS_PER_BLOCK
            and self._refusals < MAX_REFUSALS_PER_BLOCK
            and sum(not proof.held for proof in self._flying.values()) < MAX_IN_FLIGHT
        )

    # ---- following a live transaction ----------------------------------------------------------------------------

    async def _follow(self, proof: _Proof, accounts: dict[str, Account]) -> None:
        flight, height = proof.flight, self._height
        assert flight is not None
        answer = await self._chain.find_transaction(flight.attempt.tx_hash)
        proof.looked_up_at = height
        if answer is not None:
            await self._land(proof, flight.attempt, answer)
            return
        if accounts[flight.attempt.address].sequence > flight.attempt.sequence and flight.overtaken_at is None:
            flight = proof.flight = replace(flight, overtaken_at=height)
        if proof.void is not None and height > proof.void[1]:
            await self._close_void(proof)
        match follow(flight, height):
            case Follow.SUPERSEDE:
                await self._supersede(proof, flight)
            case Follow.SEND if proof.void is None and proof.wanted:
                await self._send_again(proof, flight)
            case _:
                pass

    async def _send_again(self, proof: _Proof, flight: Flight) -> None:
        """Offer the stored bytes once more, unless they could only fail by now."""
        attempt = flight.attempt
        work = attempt.work
        if not self._may_send(work.object_id):
            return
        try:
            now = await self._read_work(work)
        except WorkGone:
            # Perhaps because this very transaction completed it: nothing is told until it cannot land any more.
            proof.held = True
            return
        except WorkPaused as error:
            proof.held = True
            await self._tell_paused(proof, str(error))
            return
        judged = judge(work, attempt.proof, now, self._height)
        if now.prefix != work.prefix:
            # Not told yet: the anchor may have moved because this very transaction landed, and is not indexed yet.
            proof.held, proof.void = True, (judged.reason, self._height)
            return
        proof.held = judged.fitness is not Fitness.GOOD
        if judged.fitness is Fitness.GOOD and self._may_send(work.object_id):
            logger.info("Sending transaction %s again, the same bytes.", attempt.tx_hash)
            await self._send(proof)

    async def _supersede(self, proof: _Proof, flight: Flight) -> None:
        """Close an attempt that can no longer land; the node that says it is in no block must have seen them all."""
        node_height = (await self._chain.latest_block()).height
        if follow(flight, node_height) is not Follow.SUPERSEDE:
            return
        attempt = flight.attempt
        answer = await self._chain.find_transaction(attempt.tx_hash)
        if answer is not None:
            await self._land(proof, attempt, answer)
            return
        await self._end(proof, replace(attempt, state=AttemptState.SUPERSEDED))
        logger.info("Transaction %s can no longer land; a new one may be signed.", attempt.tx_hash)
        if not proof.wanted:
            self._forget(proof)

    async def _land(self, proof: _Proof, attempt: Attempt, answer: TxAnswer) -> None:
        """A block holds the transaction."""
        if answer.height is None:
            raise BadChainAnswer(f"transaction {attempt.tx_hash} was found without a height; it should have one")
        if answer.code == 0:
            included = _answered(attempt, AttemptState.INCLUDED, answer)
            await self._end(proof, included)
            self._forget(proof)
            await self._tell_included(proof.submission.job_id, included)
            return
        failed = _answered(attempt, AttemptState.REJECTED, answer)
        await self._end(proof, failed)
        proof.failures += disposition(answer) is not Disposition.PAUSE
        logger.warning(
            "Transaction %s failed in block %d with %s %d: %s",
            attempt.tx_hash,
            answer.height,
            answer.codespace,
            answer.code,
            answer.log,
        )
        if not proof.wanted:
            self._forget(proof)
            return
        await self._tell(Rejected(proof.submission.job_id, transaction_of(failed)))
        await self._after(proof, answer)

    async def _close_void(self, proof: _Proof) -> None:
        """Tell that a proof is void whose live transaction is still in no block a block later."""
        assert proof.void is not None
        (reason, _), proof.void, proof.wanted = proof.void, None, False
        await self._tell(Stale(proof.submission.job_id, reason))

    # ---- signing -------------------------------------------------------------------------------------------------

    async def _take_turn(self, proof: _Proof, account: Account) -> None:
        """Check the proof against the chain as it is now; sign, store and send."""
        submission = proof.submission
        claim = claim_of(submission.work)
        if self._proofs.get(claim) is not proof or not self._may_send(submission.work.object_id):
            return
        if not proof.ledger_read:
            if await self._landed_before(proof, ask_chain=False):
                return
            proof.ledger_read = True
        proof.set_backs += 1
        try:
            now = await self._read_work(submission.work)
        except WorkGone as error:
            await self._close(proof, GaveUp(submission.job_id, str(error)))
            return
        except (WorkPaused, BadChainAnswer) as error:
            proof.not_before = self._height + 1
            await self._tell_paused(proof, str(error))
            return
        if proof.submission is not submission or self._proofs.get(claim) is not proof:
            self._wake.set()  # replaced meanwhile; its turn comes again
            return
        judged = judge(submission.work, submission.proof, now, self._height)
        if judged.fitness is Fitness.VOID:
            await self._close(proof, Stale(submission.job_id, judged.reason))
            return
        if judged.fitness is Fitness.EARLY or not self._may_send(now.object_id):
            return
        try:
            attempt = self._sign(submission, now, account)
        except InvalidInput as error:
            await self._close(proof, Stale(submission.job_id, str(error)))
            return
        try:
            stored = await self._store.add_attempt(attempt)
        except LiveAttemptExists:
            await self._follow_existing(claim)
            return
        # Whatever `submit` did meanwhile: this row is live now, so it is followed.
        proof = self._proofs.setdefault(claim, proof)
        proof.forgotten = False
        proof.flight, proof.maybe_sent, proof.held, proof.looked_up_at = Flight(stored), False, False, self._height
        self._flying[proof.arrival] = proof
        proof.told = ""
        logger.info(
            "Signed transaction %s for %s %s, sequence %d.",
            stored.tx_hash,
            now.action.value,
            now.object_id,
            stored.sequence,
        )
        await self._tell(Signed(proof.submission.job_id, transaction_of(stored)))
        await self._send(proof)

    def _sign(self, submission: Submission, work: Work, account: Account) -> Attempt:
        taken = {
            proof.flight.attempt.sequence
            for proof in self._flying.values()
            if proof.flight is not None and not proof.held and proof.flight.attempt.address == self._key.address
        }
        sequence = next_sequence(max(account.sequence, self._sequence_floor), taken)
        timeout_height = timeout_at(self._height, self._timeout_blocks)
        signed = sign_completion(
            work,
            submission.proof,
            self._key,
            chain_id=self._chain.chain_id,
            account_number=account.number,
            sequence=sequence,
            timeout_height=timeout_height,
            gas_limit=self._gas_limit,
        )
        now = self._clock()
        return Attempt(
            job_id=submission.job_id,
            work=work,
            proof=submission.proof,
            address=self._key.address,
            account_number=account.number,
            sequence=sequence,
            tx_bytes=signed.tx_bytes,
            tx_hash=signed.tx_hash,
            timeout_height=timeout_height,
            state=AttemptState.SIGNED,
            created_at=now,
            updated_at=now,
        )

    async def _follow_existing(self, claim: Claim) -> None:
        """The ledger has a live attempt for this claim that this lane did not know: follow that one."""
        for attempt in await self._store.live_attempts():
            if claim_of(attempt.work) == claim:
                logger.info("Following transaction %s, which is live for this anchor already.", attempt.tx_hash)
                self._adopt(attempt)
        self._wake.set()

    # ---- sending -------------------------------------------------------------------------------------------------

    def _may_send(self, object_id: str) -> bool:
        self._count_anew()
        return self._sends < SENDS_PER_BLOCK and object_id not in self._objects_sent

    async def _send(self, proof: _Proof) -> None:
        """Offer the live transaction to a node. A ChainError means that nothing is known: it is looked up later."""
        flight = proof.flight
        assert flight is not None
        self._count_anew()
        self._sends += 1
        self._objects_sent.add(flight.attempt.work.object_id)
        # Noted before the call: if it is cancelled or fails, a node may have the transaction all the same.
        first, proof.maybe_sent = not proof.maybe_sent, True
        proof.flight = replace(flight, sent_at=self._height)
        answer = await self._chain.broadcast(flight.attempt.tx_bytes)
        what = disposition(answer)
        if what in (Disposition.SUCCESS, Disposition.ALREADY_SENT):
            if flight.attempt.state is not AttemptState.BROADCAST:
                admitted = await self._note(proof, replace(flight.attempt, state=AttemptState.BROADCAST))
                await self._tell(Broadcast(proof.submission.job_id, transaction_of(admitted)))
            return
        self._refusals += 1
        logger.warning(
            "A node refused transaction %s with %s %d: %s",
            flight.attempt.tx_hash,
            answer.codespace,
            answer.code,
            answer.log,
        )
        if not first:
            # Another node, or a block that is not indexed yet, may hold it: the look-ups decide, not this refusal.
            proof.held = what not in (Disposition.RESYNC_SEQUENCE, Disposition.RETRY_NEXT_BLOCK)
            await self._note(
                proof, replace(flight.attempt, code=answer.code, codespace=answer.codespace, log=answer.log)
            )
            return
        refused = _answered(flight.attempt, AttemptState.REJECTED, answer)
        await self._end(proof, refused)
        if what is Disposition.RESYNC_SEQUENCE:
            # Whatever else is signed in this block would build on the same wrong sequence.
            self._refusals = MAX_REFUSALS_PER_BLOCK
        await self._tell(Rejected(proof.submission.job_id, transaction_of(refused)))
        await self._after(proof, answer)

    async def _after(self, proof: _Proof, answer: TxAnswer) -> None:
        """A transaction of this proof was refused or failed: what becomes of the proof."""
        what = disposition(answer)
        reason = f"the chain answered {answer.codespace} {answer.code}: {answer.log}"
        if what is Disposition.ALERT:
            logger.error("The operator should look at this: %s (job %s).", reason, proof.submission.job_id)
        match after_failure(what, proof.failures):
            case After.GIVE_UP:
                await self._close(proof, GaveUp(proof.submission.job_id, reason))
            case After.PAUSE:
                proof.pauses += 1
                proof.not_before = self._height + pause_blocks(proof.pauses)
                await self._tell_paused(proof, reason)
            case After.AGAIN:
                proof.not_before = self._height + 1

    # ---- the ledger and the coordinator --------------------------------------------------------------------------

    async def _close(self, proof: _Proof, outcome: Stale | GaveUp) -> None:
        """Be done with a proof that has no live transaction, unless it is one of ours that got there first."""
        if await self._landed_before(proof, ask_chain=True):
            return
        if may_surface(await self._ended_attempts(proof.submission), self._height):
            # Its sequence was used and the work moved on: most likely by itself, only that nobody indexed it yet.
            proof.not_before = self._height + 1
            return
        self._forget(proof)
        await self._tell(outcome)

    async def _landed_before(self, proof: _Proof, *, ask_chain: bool) -> bool:
        """Whether an ended attempt of this proof's job landed after all; then it is told and done with.

        The ledger knows if we crashed after the look-up; the chain, if it was late.
        """
        for attempt in await self._ended_attempts(proof.submission):
            landed = attempt if attempt.state is AttemptState.INCLUDED else None
            if landed is None and ask_chain and attempt.height is None:
                answer = await self._chain.find_transaction(attempt.tx_hash)
                if answer is not None and answer.code == 0:
                    landed = _answered(attempt, AttemptState.INCLUDED, answer)
                    landed = replace(landed, updated_at=self._clock())
                    await self._store.update_attempt(landed)
            if landed is not None:
                self._forget(proof)
                await self._tell_included(proof.submission.job_id, landed)
                return True
        return False

    async def _ended_attempts(self, submission: Submission) -> list[Attempt]:
        """The job's attempts for the same claim that are no longer live."""
        claim = claim_of(submission.work)
        attempts = await self._store.attempts_of(submission.job_id)
        return [attempt for attempt in attempts if claim_of(attempt.work) == claim and not attempt.state.live]

    async def _end(self, proof: _Proof, ended: Attempt) -> None:
        """Store the end of the live attempt; only then it is no longer followed."""
        await self._note(proof, ended)
        if ended.state is AttemptState.INCLUDED and ended.address == self._key.address:
            self._sequence_floor = max(self._sequence_floor, ended.sequence + 1)
        proof.flight, proof.maybe_sent, proof.held, proof.void = None, False, False, None
        self._flying.pop(proof.arrival, None)
        self._turns.file(proof, self._height)

    async def _note(self, proof: _Proof, changed: Attempt) -> Attempt:
        """Store a change of the live attempt."""
        flight = proof.flight
        assert flight is not None
        if replace(changed, updated_at=flight.attempt.updated_at) != flight.attempt:
            changed = replace(changed, updated_at=self._clock())
            await self._store.update_attempt(changed)
            proof.flight = replace(flight, attempt=changed)
        return changed

    def _adopt(self, attempt: Attempt) -> None:
        """Follow a live attempt of the ledger. Whether a node has seen it is unknown."""
        claim = claim_of(attempt.work)
        proof = self._proofs.get(claim)
        if proof is None:
            self._arrivals += 1
            submission = Submission(attempt.job_id, attempt.work, attempt.proof, RECOVERED_PRIORITY)
            proof = self._proofs[claim] = _Proof(submission, self._arrivals)
        if proof.flight is None:
            proof.flight, proof.maybe_sent, proof.announce = Flight(attempt), True, True
            self._flying[proof.arrival] = proof
            proof.looked_up_at = -1
        # A job may have an older void transaction that is still live: its news must not be taken for the newer's.
        current, by_coordinator = self._claims.get(attempt.job_id, (claim, False))
        if by_coordinator and current != claim and proof.submission.job_id == attempt.job_id:
            self._let_go(claim, proof)
        elif not by_coordinator:
            self._let_go_of_other(attempt.job_id, claim)  # the ledger is read oldest first
            self._claims[attempt.job_id] = claim, False

    def _let_go_of_other(self, job_id: str, claim: Claim) -> None:
        """The job is about `claim` now: let go of the one that it was about before."""
        before, _ = self._claims.get(job_id, (claim, False))
        proof = self._proofs.get(before)
        if before != claim and proof is not None and proof.submission.job_id == job_id:
            self._let_go(before, proof)

    def _let_go(self, claim: Claim, proof: _Proof) -> None:
        """Its job has another anchor now: forget the proof, but follow its transaction if one is live."""
        if proof.flight is None:
            del self._proofs[claim]
            proof.forgotten = True
        else:
            proof.wanted, proof.held, proof.announce = False, True, False

    def _forget(self, proof: _Proof) -> None:
        claim = claim_of(proof.submission.work)
        proof.forgotten = True
        self._flying.pop(proof.arrival, None)
        if self._proofs.get(claim) is proof:
            del self._proofs[claim]
        if self._claims.get(proof.submission.job_id, (None, False))[0] == claim:
            del self._claims[proof.submission.job_id]

    async def _announce(self) -> None:
        for proof in list(self._flying.values()):
            if proof.announce and proof.flight is not None:
                proof.announce = False
                attempt = proof.flight.attempt
                kind = Broadcast if attempt.state is AttemptState.BROADCAST else Signed
                await self._tell(kind(proof.submission.job_id, transaction_of(attempt)))

    async def _pause_all(self, reason: str) -> None:
        for proof in list(self._proofs.values()):
            if proof.wanted:
                await self._tell_paused(proof, reason)

    async def _tell_paused(self, proof: _Proof, reason: str) -> None:
        if proof.told != reason:
            proof.told = reason
            await self._tell(Paused(proof.submission.job_id, reason))

    async def _tell_included(self, job_id: str, attempt: Attempt) -> None:
        assert attempt.height is not None
        logger.info("Transaction %s is in block %d.", attempt.tx_hash, attempt.height)
        await self._tell(Included(job_id, transaction_of(attempt), attempt.height))

    async def _tell(self, outcome: Outcome) -> None:
        try:
            await self._on_outcome(outcome)
        except HashfleetError as error:
            # The ledger holds it; a coordinator that does not know the job must not stop the lane for the others.
            logger.error("The coordinator did not take an outcome of job %s: %s", outcome.job_id, error)

    async def _read_work(self, work: Work) -> Work:
        self._reads += 1
        return (await self._chain.read_work(work.action, work.object_id)).work


@contextmanager
def _apart(proof: _Proof) -> Iterator[None]:
    """An answer that cannot be read concerns one proof; the others go on."""
    try:
        yield
    except BadChainAnswer as error:
        logger.warning("Job %s waits for the next block: %s", proof.submission.job_id, error)


def _sequence_of(proof: _Proof) -> int:
    assert proof.flight is not None
    return proof.flight.attempt.sequence


def _answered(attempt: Attempt, state: AttemptState, answer: TxAnswer) -> Attempt:
    """The attempt with what the chain said about it."""
    return replace(
        attempt, state=state, height=answer.height, code=answer.code, codespace=answer.codespace, log=answer.log
    )
