"""Whether a job's proof may be withdrawn: only while nothing is signed for it that may land.

The ledger says so, but for what is being stored at that very moment. So whoever withdraws reads the job's rows, then
asks whether something was stored for it meanwhile, and lets go of the proof without a pause in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from coordinator.submission.attempt import Attempt, AttemptState
from coordinator.submission.decision import may_surface


def nothing_may_land(attempts: Collection[Attempt], height: int) -> bool:
    """Whether, by all rows of a job, no transaction for it is in a block or may get into one."""
    return not may_surface(attempts, height) and not any(map(_stands, attempts))


def _stands(attempt: Attempt) -> bool:
    if attempt.state is AttemptState.PREPARED:
        # Nothing is signed: its lane closes it. Without an address, a guild stack's outbox may hold a row for it.
        return not attempt.address
    return attempt.state.live or attempt.state is AttemptState.INCLUDED


class BeingStored:
    """What is being stored just now of which something may land. Used from one event loop."""

    def __init__(self) -> None:
        self._jobs: set[str] = set()
        #: Times that a store failed: then it is not known whether the ledger holds it, until it is read again.
        self.failures = 0

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    @contextmanager
    def of(self, job_ids: Collection[str]) -> Iterator[None]:
        """While it is stored for these jobs."""
        self._jobs.update(job_ids)
        stored = False
        try:
            yield
            stored = True
        finally:
            self.failures += not stored
            self._jobs.difference_update(job_ids)
