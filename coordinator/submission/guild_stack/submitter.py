"""The loop: each block, follow what is in the outbox, then put in what is ready. See the package."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from coordinator.chain.guild_stack.client import GuildStackClient
from coordinator.chain.guild_stack.outbox import COMMANDS, Outbox
from coordinator.chain.guild_stack.tables import NotIndexed
from coordinator.store.protocol import Store
from coordinator.submission.block_loop import BlockLoop
from coordinator.submission.guild_stack.aftermath import OutboxAftermath
from coordinator.submission.guild_stack.following import RowFollower
from coordinator.submission.guild_stack.ledger import OutboxLedger
from coordinator.submission.guild_stack.proofs import OutboxBook, OutboxProof
from coordinator.submission.guild_stack.putting_in import RowMaker
from coordinator.submission.guild_stack.puzzle import PuzzleReader
from coordinator.submission.guild_stack.telling import Teller
from coordinator.submission.outcome import Outcome, Submission
from coordinator.submission.record import Record
from coordinator.submission.submitter import SignerStatus
from coordinator.submission.withdrawal import nothing_may_land
from hashfleet.action import Action
from hashfleet.errors import BadChainAnswer, ChainError, ChainUnavailable, KeyProblem

logger = logging.getLogger(__name__)

#: Rows of ours that no agent has claimed, at most: the agent takes the oldest first, so what waits here keeps its
#: order by priority.
MAX_PENDING: Final = 20
#: Works read per block at most.
MAX_READS_PER_BLOCK: Final = 100
_NAME: Final = "guild stack"


class GuildStackSubmitter:
    """See the package. `recover`, then `run`; used from one event loop."""

    def __init__(
        self,
        chain: GuildStackClient,
        store: Store,
        *,
        clock: Callable[[], float],
        on_outcome: Callable[[Outcome], Awaitable[None]],
    ) -> None:
        """`clock` gives Unix seconds. Transactions are looked up on the chain's node, if it has one."""
        self._chain = chain
        self._outbox = outbox = Outbox(chain.database)
        self._record = record = Record(_NAME)
        self._teller = teller = Teller(on_outcome)
        self._loop = loop = BlockLoop("The guild stack's outbox", record)
        self._book = book = OutboxBook()
        self._ledger = ledger = OutboxLedger(store, book, clock)
        puzzles = PuzzleReader(chain, book, teller)
        aftermath = OutboxAftermath(ledger, book, loop, record, teller)
        self._maker = RowMaker(outbox, ledger, book, loop, puzzles, aftermath, teller)
        self._follower = RowFollower(chain.node, outbox, ledger, loop, puzzles, aftermath, teller)

    @property
    def addresses(self) -> tuple[str, ...]:
        """None: the agent holds the keys."""
        return ()

    async def who_may_sign(self, action: Action, object_id: str) -> tuple[str, ...]:
        """Check that one of the agent's accounts may sign, as far as the tables tell; which one, it chooses itself.

        Raises KeyProblem, WorkGone, ChainUnavailable.
        """
        if action not in COMMANDS:
            raise KeyProblem(
                f"a guild stack's agent cannot submit a {action.value}: its outbox asks for a right on the reactor "
                "that founders do not have; use a coordinator with a key of its own"
            )
        try:
            found = await self._outbox.check_signer(action, object_id)
        except NotIndexed as missing:
            raise ChainUnavailable(f"the guild stack does not know {missing.object_id} yet; try again") from missing
        except BadChainAnswer as error:
            logger.warning("Whether the guild stack's agent may sign for %s cannot be told: %s.", object_id, error)
        else:
            logger.debug("For %s %s, %s.", action.value, object_id, found)
        return ()

    async def choose_signer(self, action: Action, object_id: str, current: str = "") -> str:
        """None of ours: see `who_may_sign`, whose errors it raises."""
        await self.who_may_sign(action, object_id)
        return ""

    def status(self) -> tuple[SignerStatus, ...]:
        """How it fares, as one entry under the name of the stack."""
        return (self._record.status(in_flight=self._book.in_flight, waiting=self._book.waiting),)

    async def recover(self) -> None:
        """Take up the live attempts that have no address, which are ours. May be called again. Raises StoreError."""
        await self._ledger.recover()
        self._loop.wake()

    def submit(self, submission: Submission) -> None:
        """Queue a proof; smaller priority goes first. A claim that is on its way already goes on as it is."""
        self._book.submit(submission)
        self._loop.wake()

    def prioritise(self, job_id: str, priority: int) -> None:
        """The job's proof has this priority from now on; a row that is made keeps its place."""
        self._book.prioritise(job_id, priority)
        self._loop.wake()

    async def withdraw(self, job_id: str) -> bool:
        """Let go of the job's proof, unless a row of the outbox may stand for it; see `Submitter.withdraw`."""
        claiming = self._ledger.being_claimed
        failed = claiming.failures
        attempts = await self._ledger.of_job(job_id)
        if not nothing_may_land(attempts, self._loop.height) or claiming.failures != failed:
            return False
        if job_id in claiming or self._book.is_on_its_way(job_id):
            return False
        self._book.let_go(job_id)
        return True

    def block_seen(self, height: int) -> None:
        """A block of this height is indexed."""
        self._loop.block_seen(height)

    async def run(self) -> None:
        """Work until cancelled. What fails is tried again with a later block; raises StoreDamaged."""
        await self._loop.run(self._advance)

    # ---- one round -----------------------------------------------------------------------------------------------

    async def _advance(self) -> None:
        if self._loop.height < 0:
            self._loop.height = (await self._chain.latest_block()).height
        await self._announce()
        live = [proof for proof in self._book.proofs if proof.attempt and proof.looked_at < self._loop.height]
        rows = await self._outbox.rows([number for proof in live if (number := proof.row) is not None])
        reads = 0
        for proof in live:
            proof.looked_at = self._loop.height
            number = proof.row
            await self._apart(
                proof,
                self._maker.put_again(proof) if number is None else self._follower.follow(proof, rows.get(number)),
            )
            reads += 1
        pending = sum(row.status == "pending" for row in rows.values())
        for proof in self._book.ready(self._loop.height):
            if pending >= MAX_PENDING or reads >= MAX_READS_PER_BLOCK:
                break
            reads += 1
            await self._apart(proof, self._maker.take_turn(proof))
            pending += proof.attempt is not None

    async def _announce(self) -> None:
        """Tell of live rows that the coordinator may not know."""
        for proof in self._book.proofs:
            if proof.announce and proof.attempt is not None and proof.row is not None:
                proof.announce = False
                await self._teller.broadcast(proof, proof.attempt)

    async def _apart(self, proof: OutboxProof, step: Awaitable[None]) -> None:
        """What fails for one proof does not hold up the others."""
        try:
            await step
        except NotIndexed as missing:
            await self._teller.paused(proof, f"the guild stack does not know {missing.object_id} at present")
        except ChainError as error:
            self._record.last_error = str(error)
            logger.warning("Job %s waits for the next block: %s", proof.submission.job_id, error)
            await self._teller.paused(proof, str(error))
