"""Whose turn it is: proofs without a live transaction, in the order in which one is signed for them. Pure.

Thousands of proofs may queue while five are sent per block, so finding the next one must not take a look at all.
"""

from __future__ import annotations

import heapq
from typing import Generic, Protocol, TypeVar

#: Who goes first: the least. The last part differs for any two.
Place = tuple[int, ...]


class Waiting(Protocol):
    """What takes its turn. All of it may change at any time; what makes a turn come earlier asks for `file` again."""

    #: Its place in the line; None while it stands in none. The line's own.
    filed: Place | None

    @property
    def order(self) -> Place: ...

    @property
    def not_before(self) -> int:
        """Height before which its turn does not come."""
        ...

    @property
    def has_a_turn(self) -> bool:
        """False for one that wants none, now or any more."""
        ...


_WaitingT = TypeVar("_WaitingT", bound=Waiting)


class Turns(Generic[_WaitingT]):
    """The line. An item whose place is not the one that its owner is filed under is dead."""

    def __init__(self) -> None:
        #: By (height from which it may go, order), and those whose height has come by order.
        self._later: list[tuple[Place, _WaitingT]] = []
        self._now: list[tuple[Place, _WaitingT]] = []

    def file(self, one: _WaitingT, height: int) -> None:
        """Put one where it belongs at this height."""
        later = one.not_before > height
        place = (one.not_before, *one.order) if later else one.order
        if one.filed != place:
            one.filed = place
            heapq.heappush(self._later if later else self._now, (place, one))

    def first(self, height: int) -> _WaitingT | None:
        """Whose turn comes first at this height; it stays in line."""
        while self._later and self._later[0][0][0] <= height:
            place, one = heapq.heappop(self._later)
            if one.filed == place:
                self._file_again(one, height)
        while self._now:
            place, one = self._now[0]
            if one.filed == place and one.has_a_turn and one.not_before <= height and one.order == place:
                return one
            heapq.heappop(self._now)
            if one.filed == place:
                self._file_again(one, height)
        return None

    def take(self, height: int) -> _WaitingT | None:
        """As `first`, and out of the line."""
        one = self.first(height)
        if one is not None:
            heapq.heappop(self._now)
            one.filed = None
        return one

    def _file_again(self, one: _WaitingT, height: int) -> None:
        one.filed = None
        if one.has_a_turn:
            self.file(one, height)
