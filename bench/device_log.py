"""What an observed worker tells, and what follows from it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from bench.observed_worker import Observation, read_observation
from hashfleet.errors import HashfleetError


class DeviceLog:
    """Follows an observed worker's standard output."""

    def __init__(self, output: asyncio.StreamReader) -> None:
        self._output = output
        self.observations: list[Observation] = []
        self._changed = asyncio.Condition()
        self._ended = False

    async def follow(self) -> None:
        """Read until the worker ends."""
        while line := await self._output.readline():
            async with self._changed:
                self.observations.append(read_observation(line))
                self._changed.notify_all()
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def busy(self, time_limit: float) -> None:
        """Wait until the device hashes. Raises HashfleetError if it does not in time."""
        await self._wait_for(True, time_limit)

    async def idle(self, time_limit: float) -> float:
        """Wait until the device does not hash; since when. Raises HashfleetError if it still does in the end."""
        await self._wait_for(False, time_limit)
        return self.observations[-1].at

    async def _wait_for(self, hashing: bool, time_limit: float) -> None:
        def reached() -> bool:
            last = self.observations[-1].what if self.observations else "end"
            return self._ended or (last == "begin") == hashing

        try:
            async with asyncio.timeout(time_limit), self._changed:
                await self._changed.wait_for(reached)
        except TimeoutError:
            state = "does not hash" if hashing else "still hashes"
            raise HashfleetError(f"the device {state} after {time_limit:.0f} s") from None
        if self._ended:
            raise HashfleetError("the observed worker ended")


def gaps_between_leases(observations: Sequence[Observation]) -> list[float]:
    """Seconds from the end of each search to the beginning of the next one, where that is another lease's.

    A search that goes on within its lease (other zeros were asked for) is no gap between leases.
    """
    gaps = []
    for end, begin in pairwise(observations):
        if (end.what, begin.what) == ("end", "begin") and end.extranonce != begin.extranonce:
            gaps.append(begin.at - end.at)
    return gaps
