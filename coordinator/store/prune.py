"""History is kept for a set time: which jobs are forgotten when, and how without holding anybody up.

A job goes with its attempts and its idempotency keys, once it has ended that long ago and none of its transactions may
still land. Nothing that is deleted could have been needed again:

* an unfinished job is never deleted, so whoever asks for work under way still gets that job;
* an attempt that may still land (it is live, or its timeout height is not past at the present head) keeps its job;
* the ledger's word that an anchor was completed is needed while a node may still show that anchor. An anchor is a
  block height, set anew (or gone with its object) in the block that holds the proof, and never comes back; only a node
  that lags behind shows an older one, and a coordinator that follows a node does so for minutes at most. History is
  kept for a day at least.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from coordinator.store.protocol import EndedJob, Store, StoreDamaged, StoreError

logger = logging.getLogger(__name__)

SECONDS_PER_DAY: Final = 86_400.0
#: The shortest history; see above.
LEAST_DAYS: Final = 1
#: Seconds between two rounds of pruning.
ROUND_SECONDS: Final = 3600.0
#: Jobs looked at, and deleted at most, in one go: about as long as one round of the service takes to be saved.
BATCH: Final = 256
#: Seconds between two batches: what is to be saved goes first.
PAUSE_SECONDS: Final = 0.1
#: Seconds before the chain's height is asked for again, while it is not known.
_NO_HEIGHT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Horizon:
    """What is too old to be kept."""

    #: Unix seconds: what ended before has been kept for long enough.
    ended_before: float
    #: The last committed height: what could land in a later block has to stay.
    height: int

    def passed_by(self, job: EndedJob) -> bool:
        """Whether the job may be forgotten."""
        if job.ended_at >= self.ended_before or job.has_live_attempt:
            return False
        # One block of grace: a node indexes a block after it has committed it.
        return job.last_timeout_height is None or job.last_timeout_height + 1 < self.height


async def prune(store: Store, horizon: Horizon) -> int:
    """Delete what the horizon has passed by, batch by batch; how many jobs. Raises StoreError."""
    after, deleted = None, 0
    while batch := await store.ended_jobs(horizon.ended_before, BATCH, after):
        expired = [job.job_id for job in batch if horizon.passed_by(job)]
        if expired:
            await store.delete_jobs(expired)
            deleted += len(expired)
        after = batch[-1].created_at, batch[-1].job_id
        if len(batch) < BATCH:
            break
        await asyncio.sleep(PAUSE_SECONDS)
    return deleted


async def keep_pruned(
    store: Store, keep_seconds: float, clock: Callable[[], float], height: Callable[[], int | None]
) -> None:
    """Prune now and then, until cancelled. `height` gives the last committed one, None while it is not known.

    Raises StoreDamaged.
    """
    while True:
        now = height()
        if now is None:
            await asyncio.sleep(_NO_HEIGHT_SECONDS)
            continue
        try:
            deleted = await prune(store, Horizon(clock() - keep_seconds, now))
            if deleted:
                logger.info(
                    "Forgot %d jobs that ended more than %.0f days ago.", deleted, keep_seconds / SECONDS_PER_DAY
                )
        except StoreDamaged:
            raise
        except StoreError as error:
            logger.error("Old jobs cannot be deleted now: %s", error)
        await asyncio.sleep(ROUND_SECONDS)
