"""The lane of one signing account: found proofs in, exactly one transaction per (object, action, anchor) out.

The ledger in the store is the truth. A row takes the claim before anything is signed, the signed bytes are stored
before a node sees them; from then on they are followed by their hash, block after block, until they are in a block or
can no longer get into one, and only then may something else be signed for the same claim. So whatever happens in
between (a lost answer, a crash at any point), the same bytes are sent again, and the chain takes the same bytes once.

Per block the lane asks for the account, looks up what is in flight, then reads the work of the proofs whose turn it
is and sends as many transactions as a node takes. All of it is one task; what it decides stands in `decision`.

Where batching is on and more proofs are ready than transactions may be sent, independent ones share a transaction.
The chain takes all of its messages or none. When one is refused or fails, nobody says which proof it was: its proofs
are sent again in two halves, each apart from all others, until the one that fails stands alone.

A live transaction whose proof has become void (somebody else was faster) is not sent again, and the coordinator is
told at once, but its row is followed to the end: it may have been sent before, and the ledger should say what became
of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from coordinator.chain.client import Account, ChainClient, TxAnswer, WorkReading
from coordinator.store.protocol import LiveAttemptExists, Store, StoreDamaged, StoreError
from coordinator.submission.alarm import WINDOW, alarm_sentence, alarmed
from coordinator.submission.attempt import Attempt, AttemptState
from coordinator.submission.decision import (
    BATCH_TIMEOUT_BLOCKS,
    BLOCKS_IN_FLIGHT,
    MESSAGES_PER_PLAYER,
    MESSAGES_PER_TRANSACTION,
    SENDS_PER_BLOCK,
    After,
    Cargo,
    Fitness,
    Flight,
    Follow,
    after_failure,
    follow,
    halves,
    judge,
    may_surface,
    next_sequence,
    pack,
    pause_blocks,
    ripe_at,
    timeout_at,
    transaction_of,
    volatility,
)
from coordinator.submission.founding import GasPrice
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
from coordinator.submission.rejection import PROOF_REJECTED, cause_of, explain
from coordinator.submission.submitter import SignerStatus
from coordinator.submission.transaction import GAS_LIMIT, SignedTransaction, sign_completion, sign_completions
from coordinator.submission.turns import Place, Turns
from coordinator.submission.verdict import Disposition, concerns_whole, disposition, expected_sequence, is_too_large
from hashfleet.action import Work
from hashfleet.errors import BadChainAnswer, ChainError, HashfleetError, InvalidInput, KeyProblem, WorkGone, WorkPaused
from hashfleet.proof import verify

__all__ = ["Broadcast", "GaveUp", "Included", "Lane", "Outcome", "Paused", "Rejected", "Signed", "Stale", "Submission"]

logger = logging.getLogger(__name__)

#: Works read per block at most, so that a thousand paused proofs do not make a thousand queries each block; and those
#: read at the same time.
MAX_READS_PER_BLOCK: Final = 100
READS_AT_ONCE: Final = 8
#: New transactions refused in a row after which nothing more is tried in this block: then it is not the object.
MAX_REFUSALS_PER_BLOCK: Final = 2
#: How many transactions of others a node's word about the sequence may account for.
MAX_HINT: Final = 100
#: A proof that was found but whose job the ledger knows only, after a restart, goes before bulk work.
RECOVERED_PRIORITY: Final = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """How a lane sends."""

    #: A transaction may land within so many blocks after it is signed.
    timeout_blocks: int = 20
    #: Gas limit for each proof.
    gas_limit: int = GAS_LIMIT
    #: What a founding pays; nothing if None.
    gas_price: GasPrice | None = None
    #: New transactions per block: what the node takes from one address.
    sends_per_block: int = SENDS_PER_BLOCK
    #: Proofs in one transaction at most.
    batch: int = 1

    def __post_init__(self) -> None:
        if self.timeout_blocks < 1:
            raise InvalidInput(f"timeout_blocks is {self.timeout_blocks}; it should be 1 or more")
        if not 1 <= self.sends_per_block <= 1000:
            raise InvalidInput(f"the transactions per block are {self.sends_per_block}; they should be 1 to 1000")
        if not 1 <= self.batch <= MESSAGES_PER_TRANSACTION:
            raise InvalidInput(
                f"the proofs per transaction are {self.batch}; they should be 1 to {MESSAGES_PER_TRANSACTION}"
            )


class Company(Protocol):
    """What a lane has to know of the other lanes."""

    def has_lane(self, address: str) -> bool:
        """Whether some lane signs with this address."""
        ...

    def messages_left(self, lane: Lane) -> int:
        """Messages that the lane's player may still have on their way, over all of its keys."""
        ...

    async def reassign(self, submission: Submission, lane: Lane) -> None:
        """The chain says that the lane's key may not do this: let another lane have it.

        Raises KeyProblem if no other key may, and ChainError.
        """
        ...


class _Alone:
    """The company of a lane that is the only one."""

    def has_lane(self, address: str) -> bool:
        return False

    def messages_left(self, lane: Lane) -> int:
        return MESSAGES_PER_PLAYER - lane.messages

    async def reassign(self, submission: Submission, lane: Lane) -> None:
        raise KeyProblem(f"the key {lane.address} may not do it, and there is no other key")


@dataclass(slots=True, eq=False)
class _Transaction:
    """A live transaction and what is known of its way. It holds one proof, or several."""

    proofs: list[_Proof]
    #: Of the first of its rows; they differ in nothing that matters to its way.
    seen: Flight
    #: A node may hold it: a refusal proves nothing any more.
    maybe_sent: bool = False
    #: It is not to be sent again for now; its sequence is free for others.
    held: bool = False
    #: Height at which it was looked up last.
    looked_up_at: int = -1

    @property
    def tx_hash(self) -> str:
        assert self.seen.attempt.tx_hash is not None
        return self.seen.attempt.tx_hash

    @property
    def sequence(self) -> int:
        assert self.seen.attempt.sequence is not None
        return self.seen.attempt.sequence

    @property
    def wanted(self) -> bool:
        """Whether each of its proofs is still to land, as far as anybody knows."""
        return all(proof.wanted and proof.void is None for proof in self.proofs)


@dataclass(slots=True, eq=False)
class _Proof:
    """A proof on its way. Changed by the lane's task only, and by `submit`."""

    submission: Submission
    #: Order of arrival.
    arrival: int
    #: The live transaction, if there is one, and the proof's row in the ledger.
    transaction: _Transaction | None = None
    attempt: Attempt | None = None
    #: Why the proof is void although its transaction is live, and the height at which that was first seen.
    void: tuple[str, int] | None = None
    #: False once the coordinator was told that the proof is void: the ledger row alone is followed on.
    wanted: bool = True
    #: Tell the coordinator of the live transaction, which it may not know.
    announce: bool = False
    #: Nothing new is signed before this height: too few zeros yet, or a pause.
    not_before: int = 0
    #: Times that its turn came and led to no transaction; others of its priority go first.
    set_backs: int = 0
    #: Its transactions that failed in a block, those apart that came while the object took no proof.
    failures: int = 0
    #: Pauses in a row that the chain's answers to its transactions made.
    pauses: int = 0
    #: Proofs that failed together with it; 0 for none.
    group: int = 0
    #: The clock that it shares with others, as read last.
    clock: str = ""
    #: The reason that was told last, so that it is told once.
    told: str = ""
    #: The ledger was asked whether a transaction of ours landed before (we may have crashed before telling).
    ledger_read: bool = False
    #: It is the lane's business no more.
    forgotten: bool = False
    filed: Place | None = None

    @property
    def claim(self) -> Claim:
        return claim_of(self.submission.work)

    @property
    def order(self) -> Place:
        """Of two that may be signed for now, the one with the lesser order goes first."""
        soon = volatility(self.submission.work, self.clock or self.submission.clock)
        return self.submission.priority, self.set_backs, soon, self.arrival

    @property
    def has_a_turn(self) -> bool:
        return self.transaction is None and not self.forgotten


@dataclass(frozen=True, slots=True)
class _Ready:
    """A proof that may be sent now, with its work as read for it."""

    proof: _Proof
    submission: Submission
    reading: WorkReading

    @property
    def cargo(self) -> Cargo:
        objects = frozenset(each for each in self.reading.depends_on if not each.endswith("@"))
        work, proof = self.reading.work, self.proof
        alone = work.action.priced or proof.failures > 0 or proof.pauses > 0
        return Cargo(objects | {work.object_id}, self.reading.clock, proof.group, alone)


@dataclass(slots=True)
class _Record:
    """What became of this lane's transactions since it was made. Proofs are counted, but for `rejections`."""

    included: int = 0
    rejected: int = 0
    stale: int = 0
    last_error: str = ""
    #: Of the transactions that ended last, whether each was rejected.
    rejections: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    alarm: bool = False


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
        settings: Settings | None = None,
        company: Company | None = None,
        takes_orphans: bool = False,
    ) -> None:
        """`clock` gives Unix seconds. A lane that `takes_orphans` follows what was signed with keys that are gone."""
        self._chain = chain
        self._store = store
        self._key = key
        self._clock = clock
        self._on_outcome = on_outcome
        self._settings = settings or Settings()
        self._company: Company = company or _Alone()
        self._takes_orphans = takes_orphans
        #: Proofs in one transaction at most: less than was set once the chain said that it was too large.
        self._batch = self._settings.batch
        self._proofs: dict[Claim, _Proof] = {}
        #: Live transactions by hash; and the proofs without one, in the order of their turns.
        self._flying: dict[str, _Transaction] = {}
        self._turns: Turns[_Proof] = Turns()
        #: Proofs whose turn it is just now; they count as on their way.
        self._in_hand = 0
        #: The claim that each job is about now, and whether the coordinator said so or the ledger.
        self._claims: dict[str, tuple[Claim, bool]] = {}
        self._arrivals = 0
        self._groups = 0
        self._record = _Record()
        #: The highest committed height that was seen; -1 until one was.
        self._height = -1
        self._wake = asyncio.Event()
        #: The sequence after the highest one of ours that is in a block: a lagging node must not take us back.
        self._sequence_floor = 0
        #: The sequence that a node said it expects, and the height at which it did.
        self._hint, self._hinted_at = 0, -1
        #: The player that the key is registered to; empty until somebody asked.
        self.player_id = ""
        # Counted per block:
        self._counted_at = -1
        self._sends = 0
        self._reads = 0
        self._refusals = 0
        self._objects_sent: set[str] = set()

    @property
    def address(self) -> str:
        """The address that it signs with."""
        return self._key.address

    @property
    def waiting(self) -> int:
        """Proofs that have no live transaction."""
        return len(self._proofs) - sum(len(flying.proofs) for flying in self._flying.values())

    @property
    def in_flight(self) -> int:
        """Live transactions."""
        return len(self._flying)

    @property
    def messages(self) -> int:
        """Proofs on their way that the next block may hold."""
        return self._in_hand + sum(len(flying.proofs) for flying in self._flying.values() if not flying.held)

    def status(self) -> SignerStatus:
        """How it fares."""
        record = self._record
        return SignerStatus(
            address=self.address,
            player_id=self.player_id,
            in_flight=self.in_flight,
            waiting=self.waiting,
            included=record.included,
            rejected=record.rejected,
            stale=record.stale,
            last_error=record.last_error,
            alarm=alarm_sentence(tuple(record.rejections), record.last_error) if record.alarm else "",
        )

    def has(self, claim: Claim) -> bool:
        """Whether a live transaction of this lane is for that claim."""
        proof = self._proofs.get(claim)
        return proof is not None and proof.transaction is not None

    async def recover(self) -> None:
        """Take up the live attempts of this key from the ledger. May be called again. Raises StoreError."""
        live = [attempt for attempt in await self._store.live_attempts() if self._takes(attempt)]
        await self._close_prepared([attempt for attempt in live if attempt.state is AttemptState.PREPARED])
        self._adopt([attempt for attempt in live if attempt.state is not AttemptState.PREPARED])
        if self.in_flight:
            logger.info("Following %d transactions of an earlier run with %s.", self.in_flight, self.address)
        self._wake.set()

    def submit(self, submission: Submission) -> None:
        """Queue a proof; smaller priority goes first. A claim that is on its way already goes on as it is."""
        claim = claim_of(submission.work)
        self.let_go(submission.job_id, claim)
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
            known.announce = known.transaction is not None
        # By the range as it was: the chain is asked only when it is likely to say yes.
        known.not_before = ripe_at(submission.work, submission.proof)
        self._turns.file(known, self._height)
        self._wake.set()

    def let_go(self, job_id: str, but_for: Claim | None = None) -> None:
        """The job is about another claim now: forget its proof, but follow its transaction if one is live."""
        before, _ = self._claims.get(job_id, (None, False))
        if before is None or before == but_for:
            return
        proof = self._proofs.get(before)
        if proof is not None and proof.submission.job_id == job_id:
            self._let_go(before, proof)

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
                self._record.last_error = str(error)
                logger.warning("The lane of %s waits for the next block: %s", self.address, error)
            except KeyProblem as error:
                self._record.last_error = str(error)
                logger.error("The lane of %s cannot sign: %s", self.address, error)
                await self._pause_all(str(error))
            except StoreDamaged:
                raise  # what the ledger says cannot be relied upon
            except StoreError as error:
                self._record.last_error = str(error)
                logger.error("The lane of %s sends nothing while the ledger fails: %s", self.address, error)

    # ---- one round -----------------------------------------------------------------------------------------------

    async def _advance(self) -> None:
        """Everything that can be done at the present height."""
        if self._height < 0:
            self.block_seen((await self._chain.latest_block()).height)
        self._count_anew()
        await self._announce()
        flying = sorted(
            (flying for flying in self._flying.values() if flying.looked_up_at < self._height),
            key=lambda flying: flying.sequence,
        )
        if not flying and not (self._slots() and self._turns.first(self._height)):
            return
        # Accounts before look-ups: then a sequence that is used and a transaction that is not found fit together.
        addresses = {self.address, *(each.seen.attempt.address for each in flying)}
        accounts = {address: await self._chain.account(address) for address in sorted(addresses)}
        for each in flying:
            with _apart(each.proofs[0]):
                await self._follow(each, accounts)
        await self._send_new(accounts[self.address])

    def _count_anew(self) -> None:
        if self._counted_at != self._height:
            self._counted_at = self._height
            self._sends = self._reads = self._refusals = 0
            self._objects_sent = set()

    def _slots(self) -> int:
        """New transactions of ours that this block takes."""
        self._count_anew()
        if self._reads >= MAX_READS_PER_BLOCK or self._refusals >= MAX_REFUSALS_PER_BLOCK:
            return 0
        most = BLOCKS_IN_FLIGHT * self._settings.sends_per_block
        in_flight = sum(not flying.held for flying in self._flying.values())
        left = self._company.messages_left(self)
        return max(0, min(self._settings.sends_per_block - self._sends, most - in_flight, left))

    async def _send_new(self, account: Account) -> None:
        """Give their turns to as many proofs as this block takes."""
        tried: list[_Proof] = []
        try:
            while (slots := self._slots()) > 0:
                room = min(slots * self._batch, self._company.messages_left(self), MAX_READS_PER_BLOCK - self._reads)
                hand: list[_Proof] = []
                while len(hand) < room and (turn := self._turns.take(self._height)) is not None:
                    hand.append(turn)
                if not hand:
                    return
                tried += hand
                self._in_hand = len(hand)
                try:
                    ready = await self._look_all(hand)
                    for packed in pack(ready, lambda one: one.cargo, min(slots, self._slots_in_hand()), self._batch):
                        if self._slots_in_hand() < 1:
                            break
                        with _apart(packed[0].proof):
                            await self._take_turn(packed, account)
                        self._in_hand -= len(packed)
                finally:
                    self._in_hand = 0
        finally:
            # Only now, so that none has two turns in one round.
            for proof in tried:
                if proof.has_a_turn:
                    self._turns.file(proof, self._height)

    def _slots_in_hand(self) -> int:
        """As `_slots`, with those in hand not counted against themselves."""
        in_hand, self._in_hand = self._in_hand, 0
        slots = self._slots()
        self._in_hand = in_hand
        return slots

    # ---- following a live transaction ----------------------------------------------------------------------------

    async def _follow(self, flying: _Transaction, accounts: dict[str, Account]) -> None:
        height = self._height
        answer = await self._chain.find_transaction(flying.tx_hash)
        flying.looked_up_at = height
        if answer is not None:
            await self._land(flying, answer)
            return
        if accounts[flying.seen.attempt.address].sequence > flying.sequence and flying.seen.overtaken_at is None:
            flying.seen = replace(flying.seen, overtaken_at=height)
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

    async def _send_again(self, flying: _Transaction) -> None:
        """Offer the stored bytes once more, unless they could only fail by now."""
        if not self._may_send(flying):
            return
        held = False
        for proof in flying.proofs:
            held |= not await self._is_still_good(proof)
        flying.held = held
        if not held and flying.wanted and self._may_send(flying):
            logger.info("Sending transaction %s again, the same bytes.", flying.tx_hash)
            await self._send(flying)

    async def _is_still_good(self, proof: _Proof) -> bool:
        """Whether the proof of a live transaction could still be taken in the next block."""
        attempt = proof.attempt
        assert attempt is not None
        try:
            now = (await self._read_work(attempt.work)).work
        except WorkGone:
            # Perhaps because this very transaction completed it: nothing is told until it cannot land any more.
            return False
        except WorkPaused as error:
            await self._tell_paused(proof, str(error))
            return False
        judged = judge(attempt.work, attempt.proof, now, self._height)
        if now.prefix != attempt.work.prefix:
            # Not told yet: the anchor may have moved because this very transaction landed, and is not indexed yet.
            proof.void = judged.reason, self._height
        return judged.fitness is Fitness.GOOD

    async def _supersede(self, flying: _Transaction) -> None:
        """Close what can no longer land; the node that says it is in no block must have seen them all."""
        node_height = (await self._chain.latest_block()).height
        if follow(flying.seen, node_height) is not Follow.SUPERSEDE:
            return
        answer = await self._chain.find_transaction(flying.tx_hash)
        if answer is not None:
            await self._land(flying, answer)
            return
        proofs = flying.proofs
        await self._end(flying, lambda attempt: replace(attempt, state=AttemptState.SUPERSEDED))
        logger.info("Transaction %s can no longer land; a new one may be signed.", flying.tx_hash)
        for proof in proofs:
            if not proof.wanted:
                self._forget(proof)

    async def _land(self, flying: _Transaction, answer: TxAnswer) -> None:
        """A block holds the transaction."""
        if answer.height is None:
            raise BadChainAnswer(f"transaction {flying.tx_hash} was found without a height; it should have one")
        proofs = flying.proofs
        if answer.code == 0:
            ended = await self._end(flying, lambda attempt: _answered(attempt, AttemptState.INCLUDED, answer))
            self._record.included += len(ended)
            self._note_end(answer)
            for proof, attempt in zip(proofs, ended, strict=True):
                self._forget(proof)
                await self._tell_included(proof.submission.job_id, attempt)
            return
        ended = await self._end(flying, lambda attempt: _answered(attempt, AttemptState.REJECTED, answer))
        logger.warning(
            "Transaction %s failed in block %d with %s %d: %s",
            flying.tx_hash,
            answer.height,
            answer.codespace,
            answer.code,
            answer.log,
        )
        if len(proofs) == 1:
            proofs[0].failures += disposition(answer) is not Disposition.PAUSE
        await self._after_refusal(proofs, ended, answer)

    async def _close_void(self, proof: _Proof) -> None:
        """Tell that a proof is void whose live transaction is still in no block a block later."""
        assert proof.void is not None
        (reason, _), proof.void, proof.wanted = proof.void, None, False
        self._record.stale += 1
        await self._tell(Stale(proof.submission.job_id, reason))

    # ---- signing -------------------------------------------------------------------------------------------------

    async def _look_all(self, hand: Sequence[_Proof]) -> list[_Ready]:
        """Check proofs against the chain as it is now, a few at a time; those that may be sent, in their order."""
        gate = asyncio.Semaphore(READS_AT_ONCE)

        async def look(proof: _Proof) -> _Ready | None:
            async with gate:
                with _apart(proof):
                    return await self._look_at(proof)
            return None

        if len(hand) == 1:
            found: list[_Ready | None] = [await look(hand[0])]
        else:
            answers = await asyncio.gather(*map(look, hand), return_exceptions=True)
            found = []
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
                found.append(answer)
        return [ready for ready in found if ready is not None]

    async def _look_at(self, proof: _Proof) -> _Ready | None:
        """Check a proof against the chain as it is now; None if it cannot be sent."""
        submission = proof.submission
        if not self._is_mine(proof) or submission.work.object_id in self._objects_sent:
            return None
        if not proof.ledger_read:
            if await self._landed_before(proof, ask_chain=False):
                return None
            proof.ledger_read = True
        proof.set_backs += 1
        try:
            reading = await self._read_work(submission.work)
        except WorkGone as error:
            await self._close(proof, GaveUp(submission.job_id, str(error)))
            return None
        except (WorkPaused, BadChainAnswer) as error:
            proof.not_before = self._height + 1
            await self._tell_paused(proof, str(error))
            return None
        if proof.submission is not submission or not self._is_mine(proof):
            self._wake.set()  # replaced meanwhile; its turn comes again
            return None
        proof.clock = reading.clock
        judged = judge(submission.work, submission.proof, reading.work, self._height)
        if judged.fitness is Fitness.GOOD and verify(reading.work.prefix, submission.proof.nonce) != submission.proof:
            await self._close(proof, Stale(submission.job_id, "the proof does not hash as it says; a new search"))
            return None
        if judged.fitness is Fitness.VOID:
            await self._close(proof, Stale(submission.job_id, judged.reason))
            return None
        if judged.fitness is Fitness.EARLY:
            return None
        proof.set_backs -= 1
        return _Ready(proof, submission, reading)

    async def _take_turn(self, packed: Sequence[_Ready], account: Account) -> None:
        """Take the claims, sign, store and send one transaction for these proofs."""
        if any(one.proof.submission is not one.submission or not self._is_mine(one.proof) for one in packed):
            self._wake.set()  # replaced meanwhile; their turn comes again
            return
        if any(one.submission.work.object_id in self._objects_sent for one in packed):
            return
        for one in packed:
            one.proof.set_backs += 1  # until it is on its way for good: what is refused lets others of its kind pass
        try:
            prepared = await self._store.add_attempts([self._prepare(one, place) for place, one in enumerate(packed)])
        except LiveAttemptExists:
            await self._follow_existing(packed)
            return
        if not all(self._is_mine(one.proof) for one in packed):
            await self._close_prepared(prepared)
            self._wake.set()
            return
        height = self._height
        try:
            sequence = self._next_sequence(account)
            signed, timeout = self._sign(packed, account, sequence, height)
        except InvalidInput as error:
            await self._close_prepared(prepared)
            if len(packed) == 1:
                await self._close(packed[0].proof, Stale(packed[0].submission.job_id, str(error)))
            else:
                self._split([one.proof for one in packed])
            return
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
            for attempt in prepared
        ]
        await self._store.update_attempts(rows)
        flying = self._take_off(packed, rows)
        logger.info(
            "Signed transaction %s for %s, sequence %d.",
            signed.tx_hash,
            ", ".join(f"{row.work.action.value} {row.work.object_id}" for row in rows),
            sequence,
        )
        for proof, row in zip(flying.proofs, rows, strict=True):
            await self._tell(Signed(proof.submission.job_id, transaction_of(row)))
        await self._send(flying)

    def _take_off(self, packed: Sequence[_Ready], rows: Sequence[Attempt]) -> _Transaction:
        """The rows are signed and stored: whatever `submit` did meanwhile, they are followed."""
        flying = _Transaction([], Flight(rows[0]), looked_up_at=self._height)
        for one, row in zip(packed, rows, strict=True):
            proof = self._proofs.setdefault(claim_of(row.work), one.proof)
            proof.forgotten = False
            proof.transaction, proof.attempt, proof.told = flying, row, ""
            flying.proofs.append(proof)
        self._flying[flying.tx_hash] = flying
        return flying

    def _prepare(self, one: _Ready, place: int) -> Attempt:
        """The row that takes the claim."""
        now = self._clock()
        return Attempt(
            job_id=one.submission.job_id,
            work=one.reading.work,
            proof=one.submission.proof,
            address=self.address,
            account_number=None,
            sequence=None,
            tx_bytes=None,
            tx_hash=None,
            timeout_height=None,
            state=AttemptState.PREPARED,
            created_at=now,
            updated_at=now,
            message_index=place,
        )

    def _next_sequence(self, account: Account) -> int:
        taken = {
            flying.sequence
            for flying in self._flying.values()
            if not flying.held and flying.seen.attempt.address == self.address
        }
        hint = self._hint if self._hinted_at == self._height else 0
        return next_sequence(max(account.sequence, self._sequence_floor, hint), taken)

    def _sign(
        self, packed: Sequence[_Ready], account: Account, sequence: int, height: int
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

    async def _follow_existing(self, packed: Sequence[_Ready]) -> None:
        """The ledger has a live attempt for one of these claims that this lane did not know."""
        claims = {one.proof.claim: one.proof for one in packed}
        ours: list[Attempt] = []
        for attempt in await self._store.live_attempts():
            proof = claims.get(claim_of(attempt.work))
            if proof is None:
                continue
            if self._takes(attempt) or (attempt.address and not self._company.has_lane(attempt.address)):
                ours.append(attempt)
            else:
                proof.not_before = self._height + 1
                reason = f"row {attempt.ledger_id} of the ledger is on its way for it in another way; it is waited for"
                await self._tell_paused(proof, reason)
        # Prepared rows are of a turn that broke off: nothing of them was ever sent.
        await self._close_prepared([attempt for attempt in ours if attempt.state is AttemptState.PREPARED])
        followed = [attempt for attempt in ours if attempt.state is not AttemptState.PREPARED]
        for attempt in followed:
            logger.info("Following transaction %s, which is live for this anchor already.", attempt.tx_hash)
        self._adopt(followed)
        self._wake.set()

    # ---- sending -------------------------------------------------------------------------------------------------

    def _may_send(self, flying: _Transaction) -> bool:
        self._count_anew()
        return self._sends < self._settings.sends_per_block and self._objects_sent.isdisjoint(_objects(flying))

    async def _send(self, flying: _Transaction) -> None:
        """Offer the live transaction to a node. A ChainError means that nothing is known: it is looked up later."""
        attempt = flying.seen.attempt
        assert attempt.tx_bytes is not None
        self._count_anew()
        self._sends += 1
        self._objects_sent |= _objects(flying)
        # Noted before the call: if it is cancelled or fails, a node may have the transaction all the same.
        first, flying.maybe_sent = not flying.maybe_sent, True
        flying.seen = replace(flying.seen, sent_at=self._height)
        answer = await self._chain.broadcast(attempt.tx_bytes)
        what = disposition(answer)
        if what in (Disposition.SUCCESS, Disposition.ALREADY_SENT):
            if attempt.state is not AttemptState.BROADCAST:
                admitted = await self._note(flying, lambda row: replace(row, state=AttemptState.BROADCAST))
                for proof, row in zip(flying.proofs, admitted, strict=True):
                    await self._tell(Broadcast(proof.submission.job_id, transaction_of(row)))
            return
        self._refusals += 1
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
            await self._note(
                flying, lambda row: replace(row, code=answer.code, codespace=answer.codespace, log=answer.log)
            )
            return
        proofs = flying.proofs
        refused = await self._end(flying, lambda row: _answered(row, AttemptState.REJECTED, answer))
        again = what is Disposition.RESYNC_SEQUENCE and self._take_hint(flying.sequence, answer.log)
        if what is Disposition.RESYNC_SEQUENCE and not again:
            # Whatever else is signed in this block would build on the same wrong sequence.
            self._refusals = MAX_REFUSALS_PER_BLOCK
        await self._after_refusal(proofs, refused, answer)
        if again:
            self._objects_sent -= {row.work.object_id for row in refused}
            for proof in proofs:
                proof.not_before = min(proof.not_before, self._height)
            self._wake.set()

    def _take_hint(self, tried: int, log: str) -> bool:
        """Whether a node's answer says which sequence it expects instead; believed once a block, and not too far off.

        A lower one only says that the node forgot what we sent before: that is sent again with the next blocks.
        """
        hint = expected_sequence(log)
        if hint is None or not tried < hint <= tried + MAX_HINT or self._hinted_at == self._height:
            return False
        self._hinted_at, self._hint = self._height, hint
        return True

    # ---- after a refusal or a failure ----------------------------------------------------------------------------

    async def _after_refusal(self, proofs: Sequence[_Proof], ended: Sequence[Attempt], answer: TxAnswer) -> None:
        """A transaction with these proofs was refused or failed, and the ledger says so: what becomes of them."""
        self._record.rejected += len(proofs)
        self._record.last_error = f"{answer.codespace} {answer.code}: {answer.log}"
        self._note_end(answer)
        wanted = []
        for proof, attempt in zip(proofs, ended, strict=True):
            if not proof.wanted:
                self._forget(proof)
                continue
            wanted.append(proof)
            reason = _why(attempt, answer)
            await self._tell(Rejected(proof.submission.job_id, transaction_of(attempt), reason))
        if len(proofs) > 1:
            for proof in wanted:
                proof.not_before = self._height + 1
            if is_too_large(answer):
                self._batch = max(1, min(self._batch, len(proofs) // 2))
            if not concerns_whole(answer):
                self._split(wanted)
        elif wanted:
            await self._after(wanted[0], ended[0], answer)

    async def _after(self, proof: _Proof, ended: Attempt, answer: TxAnswer) -> None:
        """The transaction of this proof alone was refused or failed."""
        what = disposition(answer)
        reason = f"the chain answered {answer.codespace} {answer.code}: {answer.log}"
        if ended.cause is not None:
            reason = f"{reason} ({_why(ended, answer)})"
        if what is Disposition.ALERT:
            logger.error("The operator should look at this: %s (job %s).", reason, proof.submission.job_id)
        if what is Disposition.UNKNOWN_ANTE:
            what = await self._asked_for_the_right(proof)
        after = after_failure(what, proof.failures)
        if after is After.OTHER_KEY:
            told = f"the key {self.address} may not do it: {reason}"
            logger.error("The operator should look at this: %s (job %s).", told, ended.job_id)
            try:
                await self._company.reassign(proof.submission, self)
                return
            except KeyProblem as error:
                reason, after = f"{reason}; {error}", After.PAUSE
            except ChainError as error:
                logger.warning("No other key could be chosen for job %s: %s", ended.job_id, error)
                after = After.PAUSE
        match after:
            case After.GIVE_UP:
                await self._close(proof, GaveUp(proof.submission.job_id, reason))
            case After.PAUSE:
                proof.pauses += 1
                proof.not_before = self._height + pause_blocks(proof.pauses)
                await self._tell_paused(proof, reason)
            case _:
                proof.not_before = self._height + 1

    async def _asked_for_the_right(self, proof: _Proof) -> Disposition:
        """What an ante refusal of v0.16 means: a limit per block, or that the key lost its right."""
        work = proof.submission.work
        try:
            await self._chain.check_signer(self.address, work.action, work.object_id)
        except KeyProblem:
            return Disposition.OTHER_KEY
        except ChainError as error:
            logger.debug("The right of %s could not be asked for: %s", self.address, error)
        return Disposition.RETRY_NEXT_BLOCK

    def _split(self, proofs: Sequence[_Proof]) -> None:
        """These failed together: try each half by itself."""
        for half in halves(proofs):
            self._groups += 1
            for proof in half:
                proof.group = self._groups

    def _note_end(self, answer: TxAnswer) -> None:
        """Count the end of a transaction. What a limit per block or another sequence stops says nothing of proofs."""
        what = disposition(answer)
        if what in (Disposition.RETRY_NEXT_BLOCK, Disposition.RESYNC_SEQUENCE, Disposition.UNKNOWN_ANTE):
            return
        record = self._record
        record.rejections.append(what is not Disposition.SUCCESS)
        before, record.alarm = record.alarm, alarmed(tuple(record.rejections), record.alarm)
        if record.alarm and not before:
            told = alarm_sentence(tuple(record.rejections), record.last_error)
            logger.error("The operator should look at the lane of %s: %s.", self.address, told)
        elif before and not record.alarm:
            logger.info("The lane of %s has few rejections again.", self.address)

    # ---- the ledger and the coordinator --------------------------------------------------------------------------

    async def _close(self, proof: _Proof, outcome: Stale | GaveUp) -> None:
        """Be done with a proof that has no live transaction, unless it is one of ours that got there first."""
        if await self._landed_before(proof, ask_chain=True):
            return
        if may_surface(await self._ended_attempts(proof.submission), self._height):
            # Its sequence was used and the work moved on: most likely by itself, only that nobody indexed it yet.
            proof.not_before = self._height + 1
            return
        self._record.stale += isinstance(outcome, Stale)
        self._forget(proof)
        await self._tell(outcome)

    async def _landed_before(self, proof: _Proof, *, ask_chain: bool) -> bool:
        """Whether an ended attempt of this proof's job landed after all; then it is told and done with.

        The ledger knows if we crashed after the look-up; the chain, if it was late.
        """
        for attempt in await self._ended_attempts(proof.submission):
            landed = attempt if attempt.state is AttemptState.INCLUDED else None
            if landed is None and ask_chain and attempt.height is None and attempt.tx_hash is not None:
                answer = await self._chain.find_transaction(attempt.tx_hash)
                if answer is not None and answer.code == 0:
                    landed = _answered(attempt, AttemptState.INCLUDED, answer)
                    landed = replace(landed, updated_at=self._clock())
                    await self._store.update_attempt(landed)
            if landed is not None and landed.tx_hash is not None:
                self._forget(proof)
                await self._tell_included(proof.submission.job_id, landed)
                return True
        return False

    async def _ended_attempts(self, submission: Submission) -> list[Attempt]:
        """The job's attempts for the same claim that are no longer live."""
        claim = claim_of(submission.work)
        attempts = await self._store.attempts_of(submission.job_id)
        return [attempt for attempt in attempts if claim_of(attempt.work) == claim and not attempt.state.live]

    async def _close_prepared(self, attempts: Sequence[Attempt]) -> None:
        """Free the claims of rows for which nothing was signed."""
        now = self._clock()
        closed = [replace(attempt, state=AttemptState.SUPERSEDED, updated_at=now) for attempt in attempts]
        if closed:
            await self._store.update_attempts(closed)

    async def _end(self, flying: _Transaction, ended: Callable[[Attempt], Attempt]) -> list[Attempt]:
        """Store the end of a live transaction; only then it is no longer followed."""
        rows = await self._note(flying, ended)
        if rows[0].state is AttemptState.INCLUDED and rows[0].address == self.address:
            self._sequence_floor = max(self._sequence_floor, flying.sequence + 1)
        self._flying.pop(flying.tx_hash, None)
        for proof in flying.proofs:
            proof.transaction = proof.attempt = proof.void = None
            if not proof.forgotten:
                self._turns.file(proof, self._height)
        return rows

    async def _note(self, flying: _Transaction, change: Callable[[Attempt], Attempt]) -> list[Attempt]:
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

    def _takes(self, attempt: Attempt) -> bool:
        """Whether this lane looks after a live row."""
        if not attempt.address:
            return False  # a guild stack's: its outbox may hold a row even if the ledger does not know which
        return attempt.address == self.address or (self._takes_orphans and not self._company.has_lane(attempt.address))

    def _adopt(self, attempts: Sequence[Attempt]) -> None:
        """Follow live rows of the ledger, oldest first. Whether a node has seen them is unknown."""
        for attempt in attempts:
            if attempt.tx_hash is None or attempt.tx_bytes is None:
                logger.error("Row %s of the ledger is live without signed bytes; it is left alone.", attempt.ledger_id)
                continue
            flying = self._flying.get(attempt.tx_hash)
            proof = self._adopted(attempt)
            if proof.transaction is not None:
                continue
            if flying is None:
                flying = self._flying[attempt.tx_hash] = _Transaction([], Flight(attempt), maybe_sent=True)
            flying.proofs.append(proof)
            proof.transaction, proof.attempt, proof.announce = flying, attempt, True
            self._settle_claim(attempt, proof)

    def _adopted(self, attempt: Attempt) -> _Proof:
        claim = claim_of(attempt.work)
        proof = self._proofs.get(claim)
        if proof is None:
            self._arrivals += 1
            submission = Submission(attempt.job_id, attempt.work, attempt.proof, RECOVERED_PRIORITY, attempt.address)
            proof = self._proofs[claim] = _Proof(submission, self._arrivals)
        return proof

    def _settle_claim(self, attempt: Attempt, proof: _Proof) -> None:
        """A job may have an older void transaction that is still live: its news must not be taken for the newer's."""
        claim = claim_of(attempt.work)
        current, by_coordinator = self._claims.get(attempt.job_id, (claim, False))
        if by_coordinator and current != claim and proof.submission.job_id == attempt.job_id:
            self._let_go(claim, proof)
        elif not by_coordinator:
            self.let_go(attempt.job_id, claim)  # the ledger is read oldest first
            self._claims[attempt.job_id] = claim, False

    def _let_go(self, claim: Claim, proof: _Proof) -> None:
        """Forget the proof, but follow its transaction if one is live."""
        if proof.transaction is None:
            del self._proofs[claim]
            proof.forgotten = True
            if self._claims.get(proof.submission.job_id, (None, False))[0] == claim:
                del self._claims[proof.submission.job_id]
        else:
            proof.wanted, proof.announce = False, False
            proof.transaction.held = True

    def _forget(self, proof: _Proof) -> None:
        claim = proof.claim
        proof.forgotten = True
        if self._proofs.get(claim) is proof:
            del self._proofs[claim]
        if self._claims.get(proof.submission.job_id, (None, False))[0] == claim:
            del self._claims[proof.submission.job_id]

    def _is_mine(self, proof: _Proof) -> bool:
        return self._proofs.get(proof.claim) is proof and proof.wanted and proof.transaction is None

    async def _announce(self) -> None:
        for flying in list(self._flying.values()):
            for proof in flying.proofs:
                if proof.announce and proof.attempt is not None:
                    proof.announce = False
                    kind = Broadcast if proof.attempt.state is AttemptState.BROADCAST else Signed
                    await self._tell(kind(proof.submission.job_id, transaction_of(proof.attempt)))

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

    async def _read_work(self, work: Work) -> WorkReading:
        self._reads += 1
        if work.charter is not None:
            return await self._chain.read_charter(work.object_id, work.charter.solver_id)
        return await self._chain.read_work(work.action, work.object_id)


@contextmanager
def _apart(proof: _Proof) -> Iterator[None]:
    """An answer that cannot be read concerns one proof, or its transaction; the others go on."""
    try:
        yield
    except BadChainAnswer as error:
        logger.warning("Job %s waits for the next block: %s", proof.submission.job_id, error)


def _objects(flying: _Transaction) -> set[str]:
    return {proof.attempt.work.object_id for proof in flying.proofs if proof.attempt is not None}


def _answered(attempt: Attempt, state: AttemptState, answer: TxAnswer) -> Attempt:
    """The attempt with what the chain said about it."""
    cause = None
    if (answer.codespace, answer.code) == ("structs", PROOF_REJECTED):
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


def _why(attempt: Attempt, answer: TxAnswer) -> str:
    """Why a transaction was refused or failed, in one sentence."""
    if attempt.cause is None:
        return f"the chain answered {answer.codespace} {answer.code}: {answer.log}"
    return f"the chain rejected the proof: {explain(attempt.cause, attempt.work, attempt.proof, answer.log)}"
