"""The lane of one signing account: found proofs in, exactly one transaction per (object, action, anchor) out.

The ledger in the store is the truth. A row takes the claim before anything is signed, the signed bytes are stored
before a node sees them; from then on they are followed by their hash, block after block, until they are in a block or
can no longer get into one, and only then may something else be signed for the same claim. So whatever happens in
between (a lost answer, a crash at any point), the same bytes are sent again, and the chain takes the same bytes once.

Per block the lane looks up what is in flight, then asks for its account, reads the work of the proofs whose turn it
is and sends as many transactions as a node takes. All of it is one task; what it decides stands in `decision`, what it
does in modules that import downwards only::

    lane                     the loop: each block, look at what is in flight, then send what is ready
    signing, following       the turn of a proof: check, sign, store; a live transaction until it is in a block
    sending                  a node is offered a transaction, and answers
    aftermath                what becomes of a proof whose transaction failed, or that is void
    lane_ledger              the rows in the store
    limits, sequences        how much may be sent in this block, and with which sequence
    proof_book, pending      the proofs that the lane has, and what a proof on its way is
    record, reporter         what is counted, and what the coordinator is told
    asking                   several questions to the chain at the same time
    block_loop               the height, and when there is something to do

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
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol

from coordinator.chain.client import Account, ChainClient, TxAnswer
from coordinator.store.protocol import Store
from coordinator.submission.aftermath import Aftermath
from coordinator.submission.asking import ask_each
from coordinator.submission.attempt import AttemptState
from coordinator.submission.block_loop import BlockLoop
from coordinator.submission.decision import (
    BLOCKS_IN_FLIGHT,
    MESSAGES_PER_PLAYER,
    SENDS_PER_BLOCK,
    pack,
    transaction_of,
)
from coordinator.submission.following import Follower
from coordinator.submission.keys import SigningKey
from coordinator.submission.lane_ledger import LaneLedger
from coordinator.submission.limits import Limits, Settings
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
)
from coordinator.submission.pending import LiveTransaction, PendingProof
from coordinator.submission.proof_book import ProofBook
from coordinator.submission.record import Record
from coordinator.submission.reporter import Reporter
from coordinator.submission.sending import Sender
from coordinator.submission.sequences import Sequences
from coordinator.submission.signing import Signer, apart
from coordinator.submission.submitter import SignerStatus
from coordinator.submission.work_reader import WorkReader
from hashfleet.errors import ChainError, KeyProblem

__all__ = [
    "Broadcast",
    "GaveUp",
    "Included",
    "Lane",
    "Outcome",
    "Paused",
    "Rejected",
    "Settings",
    "Signed",
    "Stale",
    "Submission",
]

logger = logging.getLogger(__name__)

#: Transactions looked up at the same time: as many as are in flight unless a node takes more of one address.
LOOK_UPS_AT_ONCE: Final = BLOCKS_IN_FLIGHT * SENDS_PER_BLOCK
#: How long accounts and look-ups are waited for before something new is sent: about a block's time together. A call to
#: a node ends after five seconds, so that a slow node's answers are not lost.
ACCOUNT_SECONDS: Final = 1.0
LOOK_UP_SECONDS: Final = 5.0


class Company(Protocol):
    """What a lane has to know of the other lanes."""

    def has_lane(self, address: str) -> bool:
        """Whether some lane signs with this address."""
        ...

    def messages_left(self, lane: Lane) -> int:
        """Messages that the lane's player may still have on their way, over all of its keys."""
        ...

    def submit(self, submission: Submission) -> None:
        """Give a proof to the lane of its key, and have a key chosen if that is gone."""
        ...

    async def reassign(self, submission: Submission, lane: Lane) -> Stale | None:
        """The chain says that the lane's key may not do this: let another lane have it.

        What is returned says that the proof is of no use under the keys that may. Raises KeyProblem if no other key
        may, and ChainError.
        """
        ...


class _Alone:
    """The company of a lane that is the only one."""

    def has_lane(self, address: str) -> bool:
        return False

    def messages_left(self, lane: Lane) -> int:
        return MESSAGES_PER_PLAYER - lane.messages

    def submit(self, submission: Submission) -> None:
        """There is no other lane: it stays where it is."""

    async def reassign(self, submission: Submission, lane: Lane) -> Stale | None:
        raise KeyProblem(f"the key {lane.address} may not do it, and there is no other key")


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
        settings = settings or Settings()
        company = company or _Alone()
        address = key.address
        self._company = company
        self._chain = chain
        self._key = key
        #: The player that the key is registered to; empty until somebody asked.
        self.player_id = ""
        self._record = record = Record(address)
        self._reporter = reporter = Reporter(on_outcome)
        self._loop = loop = BlockLoop(f"The lane of {address}", record)
        self._book = book = ProofBook(loop, address)
        self._limits = limits = Limits(settings, book, loop, partial(company.messages_left, self), address=address)
        self._ledger = ledger = LaneLedger(
            store, book, clock=clock, address=address, has_lane=company.has_lane, takes_orphans=takes_orphans
        )
        works = WorkReader(chain, limits)
        sequences = Sequences(book, loop, address)
        aftermath = Aftermath(
            chain,
            ledger,
            book,
            loop,
            limits,
            record,
            reporter,
            address=address,
            reassign=partial(company.reassign, lane=self),
        )
        self._signer = Signer(
            chain, key, settings, ledger, book, loop, limits, sequences, works, aftermath, reporter, clock=clock
        )
        self._sender = sender = Sender(chain, ledger, loop, limits, sequences, aftermath, reporter)
        self._follower = Follower(
            chain,
            ledger,
            book,
            loop,
            limits,
            sequences,
            works,
            sender,
            aftermath,
            record,
            reporter,
            address=address,
        )

    @property
    def address(self) -> str:
        """The address that it signs with."""
        return self._key.address

    @property
    def waiting(self) -> int:
        """Proofs that have no live transaction."""
        return self._book.waiting

    @property
    def in_flight(self) -> int:
        """Live transactions."""
        return self._book.in_flight

    @property
    def messages(self) -> int:
        """Proofs on their way that the next block may hold."""
        return self._book.messages

    def status(self) -> SignerStatus:
        """How it fares."""
        return self._record.status(in_flight=self.in_flight, waiting=self.waiting, player_id=self.player_id)

    def has(self, claim: Claim) -> bool:
        """Whether a live transaction of this lane is for that claim."""
        return self._book.has_live(claim)

    async def recover(self) -> None:
        """Take up the live attempts of this key from the ledger. May be called again. Raises StoreError."""
        await self._ledger.take_up([attempt for attempt in await self._ledger.live() if self._ledger.takes(attempt)])
        if self.in_flight:
            logger.info("Following %d transactions of an earlier run with %s.", self.in_flight, self.address)
        self._loop.wake()

    def submit(self, submission: Submission) -> None:
        """Queue a proof; smaller priority goes first. A claim that is on its way already goes on as it is."""
        self._book.submit(submission)
        self._loop.wake()

    def prioritise(self, job_id: str, priority: int) -> None:
        """The job's proof, if it is with this lane, has this priority from now on."""
        self._book.prioritise(job_id, priority)
        self._loop.wake()

    def submission_of(self, job_id: str) -> Submission | None:
        """What the job is about now, if it is with this lane."""
        return self._book.submission_of(job_id)

    def is_on_its_way(self, job_id: str) -> bool:
        """Whether a transaction for the job's proof is live, or just being stored with what was signed."""
        return self._book.is_on_its_way(job_id) or job_id in self._ledger.being_signed

    @property
    def failed_signings(self) -> int:
        """Times that the ledger failed to take what was signed, so that only it knows whether it holds that."""
        return self._ledger.being_signed.failures

    def let_go(self, job_id: str) -> None:
        """The job is no longer this lane's: forget its proof, but follow its transaction if one is live."""
        self._book.let_go(job_id)

    def block_seen(self, height: int) -> None:
        """A block of this height is committed."""
        self._loop.block_seen(height)

    async def run(self) -> None:
        """Work until cancelled. A chain or a store that fails is tried again with the next block."""
        await self._loop.run(self._round)

    # ---- one round -----------------------------------------------------------------------------------------------

    async def _round(self) -> None:
        try:
            await self._advance()
        except KeyProblem as error:
            self._record.last_error = str(error)
            logger.error("The lane of %s cannot sign: %s", self.address, error)
            for proof in self._book.proofs:
                if self._book.may_be_signed(proof):
                    await self._reporter.tell_paused(proof, str(error))

    async def _advance(self) -> None:
        """Everything that can be done at the present height."""
        if self._loop.height < 0:
            self._loop.block_seen((await self._chain.latest_block()).height)
        self._limits.count_anew()
        await self._announce()
        accounts = await self._follow()
        for stray in self._book.take_strays():
            self._company.submit(stray)
        if self._limits.slots() and (self._book.has_turn or self._book.has_look):
            account = accounts.get(self.address) or await self._chain.account(self.address)
            await self._look_again()
            await self._send_new(account)

    async def _follow(self) -> dict[str, Account]:
        """Look up what is in flight and do what is due, in about a block's time: what is new waits no longer for it.

        Returns the accounts that were read for it.
        """
        height = self._loop.height
        # Whatever was not asked for in its block comes first in the next one.
        flying = sorted(
            (each for each in self._book.flying if each.looked_up_at < height),
            key=lambda each: (each.looked_up_at, each.sequence),
        )
        until = asyncio.get_running_loop().time() + ACCOUNT_SECONDS + LOOK_UP_SECONDS
        accounts = await self._accounts_of(sorted({each.address for each in flying}))

        async def look_up(each: LiveTransaction) -> TxAnswer | None:
            each.looked_up_at = height  # noted before: a node that is slow is asked once in a block
            return await self._chain.find_transaction(each.tx_hash)

        answers = await ask_each(
            {each: partial(look_up, each) for each in flying}, at_once=LOOK_UPS_AT_ONCE, seconds=LOOK_UP_SECONDS
        )
        for each in sorted(flying, key=lambda each: each.sequence):
            answer = answers[each]
            try:
                if isinstance(answer, ChainError):
                    raise answer
                assert not isinstance(answer, KeyProblem), "a look-up is under no key"
                if answer is not None or asyncio.get_running_loop().time() < until:
                    await self._follower.follow(each, answer, accounts.get(each.address))
            except ChainError as error:
                self._record.last_error = str(error)
                logger.warning("Transaction %s waits for the next block: %s", each.tx_hash, error)
        return accounts

    async def _accounts_of(self, addresses: Sequence[str]) -> dict[str, Account]:
        """The accounts that signed what is followed, without those that cannot be read.

        Transactions are followed by their hashes all the same; only what is to be signed needs an account for certain.
        """
        answers = await ask_each(
            {address: partial(self._chain.account, address) for address in addresses},
            at_once=LOOK_UPS_AT_ONCE,
            seconds=ACCOUNT_SECONDS,
        )
        accounts: dict[str, Account] = {}
        for address, answer in answers.items():
            if isinstance(answer, Account):
                accounts[address] = answer
            else:
                logger.warning("What %s signed is followed without its account: %s", address, answer)
        return accounts

    async def _announce(self) -> None:
        """Tell of live transactions that the coordinator may not know."""
        for flying in self._book.flying:
            for proof in flying.proofs:
                if proof.announce and proof.attempt is not None:
                    proof.announce = False
                    kind = Broadcast if proof.attempt.state is AttemptState.BROADCAST else Signed
                    await self._reporter.tell(kind(proof.submission.job_id, transaction_of(proof.attempt)))

    async def _look_again(self) -> None:
        """Look at works that took no proof; where one takes it now, the proof stands in line for its turn again."""
        hand: list[PendingProof] = []
        room = self._limits.room_to_look_again()
        while len(hand) < room and (proof := self._book.take_look()) is not None:
            hand.append(proof)
        self._limits.note_looks_again(len(hand))
        try:
            await self._signer.look_all(hand)
        finally:
            for proof in hand:
                if proof.has_a_turn:
                    self._book.file(proof)

    async def _send_new(self, account: Account) -> None:
        """Give their turns to as many proofs as this block takes."""
        tried: list[PendingProof] = []
        try:
            while (slots := self._limits.slots()) > 0:
                room = self._limits.room(slots)
                hand: list[PendingProof] = []
                while len(hand) < room and (turn := self._book.take_turn()) is not None:
                    tried.append(turn)
                    if turn.set_backs and not self._limits.may_try_again:
                        turn.not_before = self._loop.height + 1
                    else:
                        hand.append(turn)
                if not hand:
                    return
                self._book.in_hand = len(hand)
                try:
                    await self._send_hand(hand, slots, account)
                finally:
                    self._book.in_hand = 0
        finally:
            # Only now, so that none has two turns in one round.
            for proof in tried:
                if proof.has_a_turn:
                    self._book.file(proof)

    async def _send_hand(self, hand: list[PendingProof], slots: int, account: Account) -> None:
        """Send those of these proofs that may be sent, in at most so many transactions."""
        ready = await self._signer.look_all(hand)
        slots = min(slots, self._limits.slots_in_hand())
        for packed in pack(ready, lambda one: one.cargo, slots, self._limits.batch):
            if self._limits.slots_in_hand() < 1:
                break
            if packed[0].proof.set_backs and not self._limits.may_try_again:
                packed[0].proof.not_before = self._loop.height + 1
                continue
            with apart(packed[0].proof):
                signed = await self._signer.sign(packed, account)
                if signed is not None:
                    await self._sender.send(signed)
            self._book.in_hand -= len(packed)
