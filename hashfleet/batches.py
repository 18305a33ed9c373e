"""How every engine cuts a search into batches of about 50 ms."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from hashfleet.difficulty import MAX_DIFFICULTY
from hashfleet.engine import Batch
from hashfleet.errors import InvalidInput
from hashfleet.message import NonceSpace

#: What `HashEngine.search` promises: short enough to stop or retarget at once, long enough that the fixed cost of a
#: launch (about 0.1 ms on a GPU, 1 ms across CPU processes) does not show.
BATCH_SECONDS = 0.05
#: A batch may grow or shrink by this factor at most, so that one odd measurement does not make the next batch hang.
_LARGEST_STEP = 4


def check_search(space: NonceSpace, start: int, count: int, zeros: int) -> None:
    """Raise InvalidInput unless an engine can be asked for this search."""
    space.check_range(start, count)
    if not 1 <= zeros <= MAX_DIFFICULTY:
        raise InvalidInput(f"zeros is {zeros}; it should be 1 to {MAX_DIFFICULTY} leading hex zeros")


class BatchSize:
    """The number of nonces that a device hashes in about `seconds`, learnt from the batches it has done.

    It lives as long as the engine: the next search starts at the size that the last one ended with.
    """

    def __init__(self, first: int, most: int, seconds: float = BATCH_SECONDS) -> None:
        self.nonces = min(first, most)
        self._most = most
        self._seconds = seconds

    def learn(self, nonces: int, seconds: float) -> None:
        """Take note that a batch of `nonces` took `seconds`."""
        if 2 * nonces < self.nonces:
            return  # the short rest of a range: mostly the fixed cost of a launch
        low, high = self.nonces // _LARGEST_STEP, self.nonces * _LARGEST_STEP
        fitting = int(nonces * self._seconds / seconds) if seconds > 0 else high
        self.nonces = max(1, min(max(fitting, low), high, self._most))


def run_batches(
    hash_range: Callable[[int, int], tuple[int, ...]],
    start: int,
    count: int,
    size: BatchSize,
    most: int,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Batch]:
    """Cover start .. start + count - 1 by batches of `size`, at most `most` nonces each.

    `hash_range(start, count)` returns the hits of that stretch, ascending. Nothing runs on the device while the
    iterator is suspended, so closing it leaves the device idle at once.
    """
    at, end = start, start + count
    while at < end:
        nonces = min(size.nonces, most, end - at)
        began = clock()
        hits = hash_range(at, nonces)
        size.learn(nonces, clock() - began)
        yield Batch(at, nonces, hits)
        at += nonces
