"""Follows rows of the outbox, block after block, until a transaction is in a block or can no longer get there."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from coordinator.chain.client import ChainClient, TxAnswer
from coordinator.chain.guild_stack.agent_output import Unreadable, read_output
from coordinator.chain.guild_stack.outbox import Outbox, OutboxRow
from coordinator.submission.attempt import Attempt
from coordinator.submission.block_loop import BlockLoop
from coordinator.submission.guild_stack.aftermath import OutboxAftermath
from coordinator.submission.guild_stack.ledger import OutboxLedger
from coordinator.submission.guild_stack.proofs import OutboxProof
from coordinator.submission.guild_stack.putting_in import SILENT_SECONDS
from coordinator.submission.guild_stack.puzzle import PuzzleReader, Void
from coordinator.submission.guild_stack.telling import Teller
from coordinator.submission.verdict import Disposition, disposition

#: Seconds after which it is said that nothing happens; the stock agent sleeps for up to 30.
PENDING_SECONDS: Final = 120.0
CLAIMED_SECONDS: Final = 180.0
LANDING_SECONDS: Final = 120.0
#: Blocks after which a changed object is believed to have been changed by somebody else; and the same where the tables
#: contradict each other, or look as if the row's own transaction had done it, which the node does not find: both lag.
VOID_BLOCKS: Final = 2
LOOKUP_BLOCKS: Final = 20


class RowFollower:
    """Follows for one submitter."""

    def __init__(
        self,
        node: ChainClient | None,
        outbox: Outbox,
        ledger: OutboxLedger,
        loop: BlockLoop,
        puzzles: PuzzleReader,
        aftermath: OutboxAftermath,
        teller: Teller,
    ) -> None:
        """Transactions are looked up on the node, if there is one."""
        self._node = node
        self._outbox = outbox
        self._ledger = ledger
        self._loop = loop
        self._puzzles = puzzles
        self._aftermath = aftermath
        self._teller = teller

    async def follow(self, proof: OutboxProof, row: OutboxRow | None) -> None:
        """See what became of the row; None if it is gone. Raises ChainError, NotIndexed, StoreError."""
        attempt = proof.attempt
        assert attempt is not None
        answer = read_output(row.output) if row is not None and row.status == "broadcast" else None
        told = answer if isinstance(answer, TxAnswer) else None
        if told is not None and told.tx_hash != attempt.tx_hash:
            attempt = await self._ledger.note(proof, replace(attempt, tx_hash=told.tx_hash))
            if told.code == 0:
                proof.set_backs = 0
                await self._teller.broadcast(proof, attempt)
        if self._node is not None and attempt.tx_hash is not None:
            found = await self._node.find_transaction(attempt.tx_hash)
            if found is not None:
                await self._aftermath.of_block(proof, attempt, found)
                return
        refused = told is not None and disposition(told) not in (Disposition.SUCCESS, Disposition.ALREADY_SENT)
        if told is not None and refused:
            await self._aftermath.of_refusal(proof, attempt, told)
            return
        now = await self._puzzles.read(attempt.work, proof.submission.job_id)
        if isinstance(now, Void):
            await self._see_void(proof, attempt, row, now)
            return
        proof.void_since = None
        if now is not None:
            await self._wait(proof, attempt, row, answer)

    async def _see_void(self, proof: OutboxProof, attempt: Attempt, row: OutboxRow | None, void: Void) -> None:
        """The object is not what it was: because of this very row, or of something else."""
        if proof.void_since is None:
            proof.void_since = self._loop.height
        touched = row is None or row.status != "pending"
        by_hash = self._node is not None and attempt.tx_hash is not None
        doubt, patience = "", VOID_BLOCKS
        if touched:
            trace = await self._outbox.trace(attempt.work)
            if trace.taken is None:
                patience = LOOKUP_BLOCKS  # the tables are being written
            elif by_hash:
                patience = LOOKUP_BLOCKS if trace.taken or not trace.sure else VOID_BLOCKS
            elif trace.taken:
                words = f"seen in the guild stack's tables, not by a transaction: {trace.words}"
                seen = replace(attempt, height=trace.height or self._loop.height, log=words)
                await self._aftermath.of_success(proof, seen)
                return
            elif not trace.sure:
                doubt = (
                    f" (whether by row {attempt.signer_row} of the guild stack's outbox, its tables do not tell; "
                    "with --chain-grpc the transaction is looked up)"
                )
        # The node, or the agent's word, may come a block or two after the tables.
        if self._loop.height - proof.void_since < patience:
            return
        reason = void.outcome.reason
        await self._aftermath.of_void(proof, replace(attempt, log=reason), replace(void.outcome, reason=reason + doubt))

    async def _wait(
        self, proof: OutboxProof, attempt: Attempt, row: OutboxRow | None, answer: TxAnswer | Unreadable | None
    ) -> None:
        """The puzzle is as it was: nothing has landed. Wait for the row, unless it cannot land any more."""
        number = attempt.signer_row
        if row is None:
            proof.missing_since = self._loop.height if proof.missing_since is None else proof.missing_since
            if (self._loop.height - proof.missing_since) * 6 >= SILENT_SECONDS:
                reason = f"row {number} was deleted from the guild stack's outbox"
                await self._aftermath.of_loss(proof, attempt, reason)
            return
        if row.is_silent:
            await self._after_silence(proof, attempt, row)
        elif row.status == "pending" and row.age > PENDING_SECONDS:
            await self._teller.paused(
                proof,
                f"row {number} of the guild stack's outbox waits for its signing agent; the agent should run, and hold "
                "an available key that may sign for the player",
            )
        elif row.status != "pending" and row.age > (CLAIMED_SECONDS if row.status == "claimed" else LANDING_SECONDS):
            if await self._is_overtaken(attempt, row):
                reason = f"row {number} was overtaken by a later transaction of its account, so it cannot land any more"
                await self._aftermath.of_loss(proof, attempt, reason)
                return
            await self._teller.paused(proof, _stuck(row, answer, self._node is not None))

    async def _after_silence(self, proof: OutboxProof, attempt: Attempt, row: OutboxRow) -> None:
        if row.age <= SILENT_SECONDS:
            return
        said = f": {' '.join((row.output or '').split())[:200]}" if row.status == "error" and row.output else ""
        what = (
            "was ended with an error" if row.status == "error" else "has no output: the signing agent's command failed"
        )
        reason = f"row {row.id} of the guild stack's outbox {what}{said}"
        await self._aftermath.of_silence(proof, attempt, reason, by_agent=row.status != "error")

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
