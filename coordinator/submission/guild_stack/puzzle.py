"""Whether a puzzle still is the one that a proof is for, by the guild stack's tables."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from coordinator.chain.guild_stack.client import GuildStackClient
from coordinator.submission.guild_stack.proofs import OutboxBook
from coordinator.submission.guild_stack.telling import Teller
from coordinator.submission.outcome import GaveUp, Stale, claim_of
from hashfleet.action import Work
from hashfleet.errors import WorkGone, WorkPaused

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Void:
    """The puzzle is not what the proof is for any more."""

    outcome: Stale | GaveUp


class PuzzleReader:
    """Reads puzzles for one submitter."""

    def __init__(self, chain: GuildStackClient, book: OutboxBook, teller: Teller) -> None:
        self._chain = chain
        self._book = book
        self._teller = teller

    async def read(self, work: Work, job_id: str) -> Work | Void | None:
        """The puzzle as it is now, if it still is the one of `work`; None while the object takes no proof.

        Raises ChainError, NotIndexed.
        """
        try:
            now = (await self._chain.read_work(work.action, work.object_id)).work
        except WorkGone as error:
            return Void(GaveUp(job_id, str(error)))
        except WorkPaused as error:
            # A clock that does not run may be what a success leaves behind: a raid that is over, say.
            logger.debug("%s %s is paused: %s", work.action.value, work.object_id, error)
            claim = self._book.of(claim_of(work))
            if claim is not None:
                await self._teller.paused(claim, str(error))
            return None
        if now.prefix != work.prefix:
            reason = f"the anchor of {work.object_id} moved from {work.anchor} to {now.anchor}; a new search"
            if now.anchor == work.anchor:
                reason = f"{work.object_id} works on {now.target_id} now, not on {work.target_id}"
            return Void(Stale(job_id, reason))
        return now
