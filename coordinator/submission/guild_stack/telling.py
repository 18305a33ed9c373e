"""What the coordinator is told of a proof that goes through the outbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from coordinator.core.job import Transaction, TransactionState
from coordinator.submission.attempt import Attempt, AttemptState
from coordinator.submission.guild_stack.proofs import OutboxProof
from coordinator.submission.outcome import Broadcast, GaveUp, Included, Outcome, Rejected, Stale
from coordinator.submission.reporter import Reporter

#: A row's transaction has no state of its own before the agent has sent it: it counts as signed from the claim on.
_SHOWN: Final = {
    AttemptState.PREPARED: TransactionState.SIGNED,
    AttemptState.SIGNED: TransactionState.SIGNED,
    AttemptState.BROADCAST: TransactionState.BROADCAST,
    AttemptState.INCLUDED: TransactionState.INCLUDED,
    AttemptState.REJECTED: TransactionState.REJECTED,
    AttemptState.SUPERSEDED: TransactionState.REJECTED,
}


class Teller:
    """One for each submitter. A proof that is not wanted any more is told of only where a row of it ended well."""

    def __init__(self, on_outcome: Callable[[Outcome], Awaitable[None]]) -> None:
        self._reporter = Reporter(on_outcome)

    async def broadcast(self, proof: OutboxProof, attempt: Attempt) -> None:
        """The row is made, or its transaction's hash is known."""
        await self._reporter.tell(Broadcast(proof.submission.job_id, _shown(attempt)))

    async def included(self, job_id: str, attempt: Attempt) -> None:
        """The proof is in the chain."""
        assert attempt.height is not None
        await self._reporter.tell(Included(job_id, _shown(attempt), attempt.height))

    async def rejected(self, proof: OutboxProof, attempt: Attempt, reason: str) -> None:
        """The row came to nothing."""
        await self._reporter.tell(Rejected(proof.submission.job_id, _shown(attempt), reason))

    async def over(self, outcome: Stale | GaveUp) -> None:
        """Nothing more is done for the proof."""
        await self._reporter.tell(outcome)

    async def paused(self, proof: OutboxProof, reason: str) -> None:
        """Why the proof waits, unless that was told last."""
        if proof.wanted:
            await self._reporter.tell_paused(proof, reason)


def _shown(attempt: Attempt) -> Transaction:
    """A stored attempt as its job shows it; its hash is empty until the agent has told it."""
    assert attempt.ledger_id is not None, "only a stored attempt is shown"
    return Transaction(attempt.tx_hash or "", _SHOWN[attempt.state], attempt.ledger_id, attempt.height, attempt.log)
