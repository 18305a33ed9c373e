"""Tells the coordinator what becomes of submissions."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from coordinator.submission.outcome import Outcome, Paused, Submission
from hashfleet.errors import HashfleetError

logger = logging.getLogger(__name__)


class Told(Protocol):
    """A proof as far as it is told of."""

    submission: Submission
    #: Why it waits, as was told last, so that it is told once.
    told: str


class Reporter:
    """One for each submitter."""

    def __init__(self, on_outcome: Callable[[Outcome], Awaitable[None]]) -> None:
        self._on_outcome = on_outcome

    async def tell(self, outcome: Outcome) -> None:
        """Pass an outcome on; the coordinator may refuse it."""
        try:
            await self._on_outcome(outcome)
        except HashfleetError as error:
            # The ledger holds it; a coordinator that does not know the job must not stop the others' submissions.
            logger.error("The coordinator did not take an outcome of job %s: %s", outcome.job_id, error)

    async def tell_paused(self, proof: Told, reason: str) -> None:
        """Say why a proof waits, unless that was said last."""
        if proof.told != reason:
            proof.told = reason
            await self.tell(Paused(proof.submission.job_id, reason))
