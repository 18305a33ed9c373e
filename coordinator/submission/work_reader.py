"""Reads the works of proofs anew before they are sent."""

from __future__ import annotations

from coordinator.chain.client import ChainClient, WorkReading
from coordinator.submission.limits import Limits
from hashfleet.action import Work


class WorkReader:
    """Counts what it reads."""

    def __init__(self, chain: ChainClient, limits: Limits) -> None:
        self._chain = chain
        self._limits = limits

    async def read(self, work: Work) -> WorkReading:
        """The puzzle as it is now. Raises what the chain client raises."""
        self._limits.note_read()
        if work.charter is not None:
            return await self._chain.read_charter(work.object_id, work.charter.solver_id)
        return await self._chain.read_work(work.action, work.object_id)
