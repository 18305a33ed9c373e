"""Reads the works of proofs anew before they are sent."""

from __future__ import annotations

from coordinator.chain.client import ChainClient, WorkReading
from coordinator.submission.limits import Limits
from hashfleet.action import Work
from hashfleet.charter import Founding


class WorkReader:
    """Counts what it reads."""

    def __init__(self, chain: ChainClient, limits: Limits) -> None:
        self._chain = chain
        self._limits = limits

    async def read(self, work: Work, founding: Founding | None = None) -> WorkReading:
        """The puzzle as it is now; of a charter also whether it may be founded so. Raises as the chain client does."""
        self._limits.note_read()
        if work.charter is not None:
            reactor = founding.reactor_id if founding is not None else ""
            return await self._chain.read_charter(work.object_id, work.charter.solver_id, reactor)
        return await self._chain.read_work(work.action, work.object_id)
