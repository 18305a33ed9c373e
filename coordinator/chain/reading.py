"""A reading of several queries, taken again when a block came in between, until all of it stems from one height.

The node tells with each answer the height that it read (`HeightWitness`), and a node that does not tell is taken at
its word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from coordinator.chain.node import Node
from coordinator.chain.object_state import PlanetState, PlayerState
from coordinator.chain.transport import HeightWitness, Lagging, OtherChain
from hashfleet.action import Action
from hashfleet.errors import BadChainAnswer, WorkGone, WorkPaused

#: How often a reading is taken again because a block came in between; at 6 s a block once is rare.
_READINGS: Final = 3
_READ_AGAIN_SECONDS: Final = 0.05

_T = TypeVar("_T")


class Reading(HeightWitness):
    """One reading of several queries: the heights it was taken at, what it hangs on, and what is known already."""

    def __init__(self, newest: int) -> None:
        super().__init__()
        self._newest = newest
        self.depends_on: set[str] = set()
        #: Whose object it is; empty until that is read.
        self.owner = ""
        #: Answers that several works of one reading share, by id.
        self.planets: dict[str, PlanetState] = {}
        self.players: dict[str, PlayerState] = {}
        #: Ore clocks by planet, where planets have them.
        self.clocks: dict[tuple[str, Action], int] = {}

    @property
    def usable(self) -> bool:
        """False if answers are known to be of different heights, or older than the newest block."""
        return self.consistent and not self.before(self._newest)


async def at_one_height(node: Node, read: Callable[[Reading], Awaitable[_T]], what: str) -> _T:
    """Read until all answers of a reading stem from one height, at most `_READINGS` times.

    That height may not be below the newest block that was passed on: whoever reads because of that block would
    take the state before it for the one after it.
    """
    await node.check_caught_up()
    for attempt in range(_READINGS):
        if attempt:
            await asyncio.sleep(_READ_AGAIN_SECONDS)
        reading = Reading(node.newest)
        try:
            result = await read(reading)
        except (WorkGone, WorkPaused) as error:
            if reading.usable:
                error.depends_on = frozenset(reading.depends_on)
                raise
        except OtherChain:
            raise  # its heights are none of ours
        except BadChainAnswer:
            if reading.usable:
                raise
        else:
            if reading.usable:
                return result
    raise Lagging(f"the node {node.shown} answers about {what} from changing or old heights; try again")
