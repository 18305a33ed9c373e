"""A `Submitter` that puts proofs into a guild stack's outbox, whose agent signs and sends them.

The ledger in the store is the truth here as well. The claim is stored before a row is made (`prepared`), the row's
number as soon as it is known (`broadcast`), and from then on the row is followed, block after block::

    pending                     wait; say so if nobody claims it
    claimed                     wait; an agent that crashed leaves it so for ever, with or without having sent it
    broadcast, code 0           follow the transaction's hash on the node, or else the object in the tables
    broadcast, another code     a node refused it: decide by the code, as a lane does
    broadcast, no output        the agent's command failed and its reason is lost: once a while has passed and the
                                puzzle is still as it was, put it in again
    error, or row deleted       an operator ended it: the same

A second row is made only when the first cannot land any more: refused by code, failed in a block, silent for
`SILENT_SECONDS` while the object did not change, or overtaken: a later transaction of the same account is in a block
and ours is in none, so that its sequence is used. Everything else waits, and says for what.

Without a node a success is seen in the tables (the struct is built, its clock started anew, the raid is won), which
is said in the transaction's message; where the tables leave it open, the proof counts as void, never as taken.

The agent simulates on the last committed state, so a proof is put in a block later than a lane would send it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from coordinator.chain.client import ChainClient, TxAnswer
from coordinator.chain.guild_stack.agent_output import Unreadable, read_output
from coordinator.chain.guild_stack.client import GuildStackClient
from coordinator.chain.guild_stack.outbox import COMMANDS, Outbox, OutboxRow
from coordinator.chain.guild_stack.tables import NotIndexed
from coordinator.core.job import Transaction, TransactionState
from coordinator.store.protocol import LiveAttemptExists, Store
from coordinator.submission.attempt import Attempt, AttemptState
from coordinator.submission.block_loop import BlockLoop
from coordinator.submission.decision import (
    MAX_FAILURES,
    After,
    Fitness,
    after_failure,
    judge,
    pause_blocks,
    ripe_at,
)
from coordinator.submission.outcome import (
    Broadcast,
    Claim,
    GaveUp,
    Included,
    Outcome,
    Rejected,
    Stale,
    Submission,
    claim_of,
)
from coordinator.submission.record import Record
from coordinator.submission.reporter import Reporter
from coordinator.submission.submitter import SignerStatus
from coordinator.submission.verdict import Disposition, disposition
from hashfleet.action import Action, Work
from hashfleet.errors import (
    BadChainAnswer,
    ChainError,
    ChainUnavailable,
    KeyProblem,
    WorkGone,
    WorkPaused,
)

logger = logging.getLogger(__name__)

#: Rows of ours that no agent has claimed, at most: the agent takes the oldest first, so what waits here keeps its
#: order by priority.
MAX_PENDING: Final = 20
#: Seconds after which it is said that nothing happens; the stock agent sleeps for up to 30.
PENDING_SECONDS: Final = 120.0
CLAIMED_SECONDS: Final = 180.0
LANDING_SECONDS: Final = 120.0
#: Seconds after which a row without output is taken for a command that failed: ten usual blocks.
SILENT_SECONDS: Final = 60.0
#: Blocks after which a changed object is believed to have been changed by somebody else.
VOID_BLOCKS: Final = 2
#: Works read per block at most.
MAX_READS_PER_BLOCK: Final = 100
#: A proof whose job the ledger knows only, after a restart, goes before bulk work.
_RECOVERED_PRIORITY: Final = 2
_NAME: Final = "guild stack"

_SHOWN: Final = {
    AttemptState.PREPARED: TransactionState.SIGNED,
    AttemptState.SIGNED: TransactionState.SIGNED,
    AttemptState.BROADCAST: TransactionState.BROADCAST,
    AttemptState.INCLUDED: TransactionState.INCLUDED,
    AttemptState.REJECTED: TransactionState.REJECTED,
    AttemptState.SUPERSEDED: TransactionState.REJECTED,
}


@dataclass(slots=True)
class _Proof:
    """A proof on its way. Changed by the submitter's task only, and by `submit`."""

    submission: Submission
    arrival: int
    #: The live attempt, if there is one.
    attempt: Attempt | None = None
    #: Tell the coordinator of the live attempt, which it may not know.
    announce: bool = False
    #: Height at which it was looked at last.
    looked_at: int = -1
    #: Nothing is put in before this height.
    not_before: int = 0
    #: Attempts that failed, those of earlier runs among them.
    failures: int = 0
    ledger_read: bool = False
    #: Height at which the puzzle was first seen to be another one, or gone.
    void_since: int | None = None
    #: Height at which the row was first found missing.
    missing_since: int | None = None
    #: False once the coordinator has a newer proof for the job: the row alone is followed to its end.
    wanted: bool = True
    told: str = ""


@dataclass(frozen=True, slots=True)
class _Void:
    """The puzzle is not what the proof is for any more."""

    outcome: Stale | GaveUp


class GuildStackSubmitter:
    """See the module. `recover`, then `run`; used from one event loop."""

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
        self._node: ChainClient | None = chain.node
        self._outbox = Outbox(chain.database)
        self._store = store
        self._clock = clock
        self._proofs: dict[Claim, _Proof] = {}
        self._arrivals = 0
        self._record = Record(_NAME)
        self._reporter = Reporter(on_outcome)
        self._loop = BlockLoop("The guild stack's outbox", self._record)

    # ---- what the service asks -----------------------------------------------------------------------------------

    @property
    def addresses(self) -> tuple[str, ...]:
        """None: the agent holds the keys."""
        return ()

    async def choose_signer(self, action: Action, object_id: str) -> str:
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
        return ""

    def status(self) -> tuple[SignerStatus, ...]:
        """How it fares, as one entry under the name of the stack."""
        live = sum(proof.attempt is not None for proof in self._proofs.values())
        return (self._record.status(in_flight=live, waiting=len(self._proofs) - live),)

    async def recover(self) -> None:
        """Take up the live attempts that have no address, which are ours. May be called again. Raises StoreError."""
        for attempt in await self._store.live_attempts():
            if not attempt.address:
                self._adopt(attempt)
        self._loop.wake()

    def submit(self, submission: Submission) -> None:
        """Queue a proof; smaller priority goes first. A claim that is on its way already goes on as it is."""
        claim = claim_of(submission.work)
        for other, proof in list(self._proofs.items()):
            if other != claim and proof.submission.job_id == submission.job_id:
                proof.wanted = False
                if proof.attempt is None:
                    del self._proofs[other]
        known = self._proofs.get(claim)
        if known is None:
            self._arrivals += 1
            known = self._proofs[claim] = _Proof(submission, self._arrivals)
        else:
            known.submission, known.wanted, known.told = submission, True, ""
            known.ledger_read = False
            known.announce = known.attempt is not None
        # One block later than it may be sent: the agent simulates on the state before the next block.
        known.not_before = max(known.not_before, ripe_at(submission.work, submission.proof) + 1)
        self._loop.wake()

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
        for proof in list(self._proofs.values()):
            if proof.announce and proof.attempt is not None and proof.attempt.signer_row is not None:
                proof.announce = False
                await self._reporter.tell(Broadcast(proof.submission.job_id, _shown(proof.attempt)))
        live = [proof for proof in self._proofs.values() if proof.attempt and proof.looked_at < self._loop.height]
        rows = await self._outbox.rows([number for proof in live if (number := _row_of(proof)) is not None])
        reads = 0
        for proof in live:
            proof.looked_at = self._loop.height
            number = _row_of(proof)
            await self._apart(
                proof, self._put_again(proof) if number is None else self._follow(proof, rows.get(number))
            )
            reads += 1
        pending = sum(row.status == "pending" for row in rows.values())
        for proof in self._ready():
            if pending >= MAX_PENDING or reads >= MAX_READS_PER_BLOCK:
                break
            reads += 1
            await self._apart(proof, self._take_turn(proof))
            pending += proof.attempt is not None

    def _ready(self) -> list[_Proof]:
        ready = [
            proof for proof in self._proofs.values() if not proof.attempt and proof.not_before <= self._loop.height
        ]
        return sorted(ready, key=lambda proof: (proof.submission.priority, proof.arrival))

    async def _apart(self, proof: _Proof, step: Awaitable[None]) -> None:
        """What fails for one proof does not hold up the others."""
        try:
            await step
        except NotIndexed as missing:
            await self._tell_paused(proof, f"the guild stack does not know {missing.object_id} at present")
        except ChainError as error:
            self._record.last_error = str(error)
            logger.warning("Job %s waits for the next block: %s", proof.submission.job_id, error)
            await self._tell_paused(proof, str(error))

    # ---- putting in ----------------------------------------------------------------------------------------------

    async def _take_turn(self, proof: _Proof) -> None:
        """Check the proof against the tables as they are now; store the claim, and put it in."""
        submission = proof.submission
        if not proof.ledger_read and await self._ended_before(proof):
            return
        proof.not_before = self._loop.height + 1
        now = await self._read(submission.work, submission.job_id)
        if isinstance(now, _Void):
            await self._close(proof, now.outcome)
            return
        if now is None:
            return
        judged = judge(submission.work, submission.proof, now, self._loop.height - 1)
        if judged.fitness is Fitness.VOID:
            await self._close(proof, Stale(submission.job_id, judged.reason))
            return
        if judged.fitness is Fitness.EARLY:
            return
        at = self._clock()
        attempt = Attempt(
            job_id=submission.job_id,
            work=now,
            proof=submission.proof,
            address="",
            account_number=None,
            sequence=None,
            tx_bytes=None,
            tx_hash=None,
            timeout_height=None,
            state=AttemptState.PREPARED,
            created_at=at,
            updated_at=at,
        )
        try:
            proof.attempt = await self._store.add_attempt(attempt)
        except LiveAttemptExists:
            for other in await self._store.live_attempts():
                if claim_of(other.work) == claim_of(now) and not other.address:
                    self._adopt(other)
            if proof.attempt is None:
                await self._tell_paused(proof, "a transaction of another signer is on its way for this work")
            return
        proof.void_since = proof.missing_since = None
        proof.looked_at = self._loop.height
        await self._put(proof)

    async def _put(self, proof: _Proof) -> None:
        """Make the row, or find it. After a ChainError it is not known whether it is there: it is tried again."""
        attempt = proof.attempt
        assert attempt is not None
        claim = claim_of(attempt.work)
        ended = frozenset(
            one.signer_row
            for one in await self._store.attempts_of(attempt.job_id)
            if one.signer_row is not None and not one.state.live and claim_of(one.work) == claim
        )
        row = await self._outbox.put(attempt.work, attempt.proof, ended, SILENT_SECONDS)
        proof.told = ""
        await self._note(proof, replace(attempt, state=AttemptState.BROADCAST, signer_row=row.id))
        logger.info(
            "Row %d of the guild stack's outbox stands for %s %s.",
            row.id,
            attempt.work.action.value,
            attempt.work.object_id,
        )
        assert proof.attempt is not None
        await self._reporter.tell(Broadcast(proof.submission.job_id, _shown(proof.attempt)))

    async def _put_again(self, proof: _Proof) -> None:
        """A claim without a row: we were interrupted. The row is looked for before the puzzle is asked about."""
        attempt = proof.attempt
        assert attempt is not None
        if not any(row.may_land for row in await self._outbox.find(attempt.work)):
            now = await self._read(attempt.work, proof.submission.job_id)
            if isinstance(now, _Void):
                await self._end(proof, replace(attempt, state=AttemptState.SUPERSEDED))
                await self._close(proof, now.outcome)
                return
            if now is None:
                return
        await self._put(proof)

    # ---- following -----------------------------------------------------------------------------------------------

    async def _follow(self, proof: _Proof, row: OutboxRow | None) -> None:
        attempt = proof.attempt
        assert attempt is not None
        answer = read_output(row.output) if row is not None and row.status == "broadcast" else None
        told = answer if isinstance(answer, TxAnswer) else None
        if told is not None and told.tx_hash != attempt.tx_hash:
            attempt = await self._note(proof, replace(attempt, tx_hash=told.tx_hash))
            if told.code == 0:
                await self._reporter.tell(Broadcast(proof.submission.job_id, _shown(attempt)))
        if self._node is not None and attempt.tx_hash is not None:
            found = await self._node.find_transaction(attempt.tx_hash)
            if found is not None:
                await self._land(proof, attempt, found)
                return
        refused = told is not None and disposition(told) not in (Disposition.SUCCESS, Disposition.ALREADY_SENT)
        if told is not None and refused:
            await self._refused(proof, attempt, told)
            return
        now = await self._read(attempt.work, proof.submission.job_id)
        if isinstance(now, _Void):
            await self._see_void(proof, attempt, row, now)
            return
        proof.void_since = None
        if now is not None:
            await self._wait(proof, attempt, row, answer)

    async def _land(self, proof: _Proof, attempt: Attempt, found: TxAnswer) -> None:
        """A block holds the transaction."""
        if found.height is None:
            raise BadChainAnswer(f"transaction {found.tx_hash} was found without a height; it should have one")
        if found.code == 0:
            await self._include(
                proof, replace(attempt, height=found.height, code=0, codespace=found.codespace, log=found.log)
            )
            return
        await self._refused(proof, replace(attempt, height=found.height), found)

    async def _include(self, proof: _Proof, attempt: Attempt) -> None:
        included = await self._end(proof, replace(attempt, state=AttemptState.INCLUDED))
        assert included.height is not None
        self._record.included += 1
        self._forget(proof)
        logger.info(
            "Row %s of the guild stack's outbox is in block %d: %s.",
            included.signer_row,
            included.height,
            included.tx_hash or included.log,
        )
        await self._reporter.tell(Included(proof.submission.job_id, _shown(included), included.height))

    async def _refused(self, proof: _Proof, attempt: Attempt, answer: TxAnswer) -> None:
        """A node refused the transaction, or it failed in its block."""
        reason = f"the chain answered {answer.codespace} {answer.code}: {answer.log}"
        what = disposition(answer)
        proof.failures += what is not Disposition.PAUSE
        if what is Disposition.ALERT:
            logger.error("The operator should look at this: %s (job %s).", reason, proof.submission.job_id)
        rejected = replace(attempt, code=answer.code, codespace=answer.codespace, log=answer.log)
        await self._reject(proof, rejected, reason, after_failure(what, proof.failures))

    async def _reject(self, proof: _Proof, attempt: Attempt, reason: str, what_next: After) -> None:
        """The row has come to nothing for certain; say so, and decide about the proof."""
        ended = await self._end(proof, replace(attempt, state=AttemptState.REJECTED))
        self._record.rejected += 1
        self._record.last_error = reason
        logger.warning("Row %s of the guild stack's outbox failed: %s", ended.signer_row, reason)
        if not proof.wanted:
            self._forget(proof)
            return
        await self._reporter.tell(Rejected(proof.submission.job_id, _shown(ended)))
        match what_next:
            case After.GIVE_UP:
                await self._close(proof, GaveUp(proof.submission.job_id, reason))
            case After.PAUSE | After.OTHER_KEY:  # the agent chooses the key
                proof.not_before = self._loop.height + pause_blocks(max(1, proof.failures))
                await self._tell_paused(proof, reason)
            case After.AGAIN:
                proof.not_before = self._loop.height + 1

    async def _see_void(self, proof: _Proof, attempt: Attempt, row: OutboxRow | None, void: _Void) -> None:
        """The object is not what it was: because of this very row, or of something else."""
        if proof.void_since is None:
            proof.void_since = self._loop.height
        touched = row is None or row.status != "pending"
        by_hash = self._node is not None and attempt.tx_hash is not None
        doubt = ""
        if touched and not by_hash:
            trace = await self._outbox.trace(attempt.work)
            if trace.taken:
                words = f"seen in the guild stack's tables, not by a transaction: {trace.words}"
                await self._include(proof, replace(attempt, height=trace.height or self._loop.height, log=words))
                return
            if trace.taken is None:
                return  # the tables are being written
            if not trace.sure:
                doubt = (
                    f" (whether by row {attempt.signer_row} of the guild stack's outbox, its tables do not tell; "
                    "with --chain-grpc the transaction is looked up)"
                )
        # The node, or the agent's word, may come a block or two after the tables.
        if self._loop.height - proof.void_since < VOID_BLOCKS:
            return
        ended = replace(attempt, state=AttemptState.SUPERSEDED, log=void.outcome.reason)
        await self._end(proof, ended)
        await self._close(proof, replace(void.outcome, reason=void.outcome.reason + doubt))

    async def _wait(
        self, proof: _Proof, attempt: Attempt, row: OutboxRow | None, answer: TxAnswer | Unreadable | None
    ) -> None:
        """The puzzle is as it was: nothing has landed. Wait for the row, unless it cannot land any more."""
        number = attempt.signer_row
        if row is None:
            proof.missing_since = self._loop.height if proof.missing_since is None else proof.missing_since
            if (self._loop.height - proof.missing_since) * 6 >= SILENT_SECONDS:
                reason = f"row {number} was deleted from the guild stack's outbox"
                await self._reject(proof, attempt, reason, After.AGAIN)
            return
        if row.is_silent:
            await self._after_silence(proof, attempt, row)
        elif row.status == "pending" and row.age > PENDING_SECONDS:
            await self._tell_paused(
                proof,
                f"row {number} of the guild stack's outbox waits for its signing agent; the agent should run, and hold "
                "an available key that may sign for the player",
            )
        elif row.status != "pending" and row.age > (CLAIMED_SECONDS if row.status == "claimed" else LANDING_SECONDS):
            if await self._is_overtaken(attempt, row):
                reason = f"row {number} was overtaken by a later transaction of its account, so it cannot land any more"
                await self._reject(proof, attempt, reason, After.AGAIN)
                return
            await self._tell_paused(proof, _stuck(row, answer, self._node is not None))

    async def _after_silence(self, proof: _Proof, attempt: Attempt, row: OutboxRow) -> None:
        if row.age <= SILENT_SECONDS:
            return
        proof.failures += 1
        said = f": {' '.join((row.output or '').split())[:200]}" if row.status == "error" and row.output else ""
        what = (
            "was ended with an error" if row.status == "error" else "has no output: the signing agent's command failed"
        )
        reason = f"row {row.id} of the guild stack's outbox {what}{said}"
        await self._reject(proof, attempt, reason, After.GIVE_UP if proof.failures >= MAX_FAILURES else After.PAUSE)

    async def _is_overtaken(self, attempt: Attempt, row: OutboxRow) -> bool:
        """Whether a later transaction of the row's account is in a block, and ours, looked up after it, in none."""
        if self._node is None:
            return False
        for later in await self._outbox.sent_after(row.id):
            answer = read_output(later.output)
            if not isinstance(answer, TxAnswer) or answer.code != 0:
                continue
            if await self._node.find_transaction(answer.tx_hash) is None:
                continue
            return attempt.tx_hash is None or await self._node.find_transaction(attempt.tx_hash) is None
        return False

    # ---- the ledger and the coordinator --------------------------------------------------------------------------

    async def _read(self, work: Work, job_id: str) -> Work | _Void | None:
        """The puzzle as it is now, if it still is the one of `work`; None while the object takes no proof."""
        try:
            now = (await self._chain.read_work(work.action, work.object_id)).work
        except WorkGone as error:
            return _Void(GaveUp(job_id, str(error)))
        except WorkPaused as error:
            # A clock that does not run may be what a success leaves behind: a raid that is over, say.
            logger.debug("%s %s is paused: %s", work.action.value, work.object_id, error)
            claim = self._proofs.get(claim_of(work))
            if claim is not None:
                await self._tell_paused(claim, str(error))
            return None
        if now.prefix != work.prefix:
            reason = f"the anchor of {work.object_id} moved from {work.anchor} to {now.anchor}; a new search"
            if now.anchor == work.anchor:
                reason = f"{work.object_id} works on {now.target_id} now, not on {work.target_id}"
            return _Void(Stale(job_id, reason))
        return now

    async def _ended_before(self, proof: _Proof) -> bool:
        """Whether the ledger knows an attempt for this claim that was included; then it is told. Counts failures."""
        claim = claim_of(proof.submission.work)
        failed = 0
        for attempt in await self._store.attempts_of(proof.submission.job_id):
            if claim_of(attempt.work) != claim or attempt.address:
                continue
            if attempt.state is AttemptState.INCLUDED and attempt.height is not None:
                self._forget(proof)
                await self._reporter.tell(Included(attempt.job_id, _shown(attempt), attempt.height))
                return True
            failed += attempt.state is AttemptState.REJECTED
        proof.failures = max(proof.failures, failed)
        proof.ledger_read = True
        return False

    async def _note(self, proof: _Proof, changed: Attempt) -> Attempt:
        changed = replace(changed, updated_at=self._clock())
        await self._store.update_attempt(changed)
        proof.attempt = changed
        return changed

    async def _end(self, proof: _Proof, ended: Attempt) -> Attempt:
        """Store the end of the live attempt; only then it is no longer followed."""
        ended = await self._note(proof, ended)
        proof.attempt = proof.void_since = proof.missing_since = None
        return ended

    async def _close(self, proof: _Proof, outcome: Stale | GaveUp) -> None:
        self._forget(proof)
        if not proof.wanted:
            return
        self._record.stale += isinstance(outcome, Stale)
        await self._reporter.tell(outcome)

    def _adopt(self, attempt: Attempt) -> None:
        claim = claim_of(attempt.work)
        proof = self._proofs.get(claim)
        if proof is None:
            self._arrivals += 1
            submission = Submission(attempt.job_id, attempt.work, attempt.proof, _RECOVERED_PRIORITY)
            proof = self._proofs[claim] = _Proof(submission, self._arrivals)
        if proof.attempt is None:
            proof.attempt, proof.announce, proof.looked_at = attempt, True, -1
            proof.void_since = proof.missing_since = None

    def _forget(self, proof: _Proof) -> None:
        claim = claim_of(proof.submission.work)
        if self._proofs.get(claim) is proof:
            del self._proofs[claim]

    async def _tell_paused(self, proof: _Proof, reason: str) -> None:
        if proof.wanted:
            await self._reporter.tell_paused(proof, reason)


def _row_of(proof: _Proof) -> int | None:
    return proof.attempt.signer_row if proof.attempt is not None else None


def _shown(attempt: Attempt) -> Transaction:
    """A stored attempt as its job shows it; its hash is empty until the agent has told it."""
    assert attempt.ledger_id is not None, "only a stored attempt is shown"
    return Transaction(attempt.tx_hash or "", _SHOWN[attempt.state], attempt.ledger_id, attempt.height, attempt.log)


def _stuck(row: OutboxRow, answer: TxAnswer | Unreadable | None, has_node: bool) -> str:
    """Why nothing is done about a row that does not get on."""
    if row.status == "claimed":
        what = f"is claimed by the signing agent since {row.age:.0f} s without a result, as after a crash"
    elif isinstance(answer, TxAnswer):
        what = f"was admitted by a node as {answer.tx_hash} {row.age:.0f} s ago and is in no block"
    else:
        shown = answer.shown if isinstance(answer, Unreadable) else "nothing"
        what = f"has an output that cannot be read ({shown})"
    hint = "" if has_node else "; with --chain-grpc it could be looked up"
    return (
        f"row {row.id} of the guild stack's outbox {what}; no second one is made while it may still land{hint}. If it "
        f"was never sent, end it with signer.transaction_error({row.id}, 'reason')"
    )
