"""How every engine cuts a search into batches of about 50 ms, and makes many small searches one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import cast

from hashfleet.difficulty import MAX_DIFFICULTY, expected_hashes
from hashfleet.engine import Batch, Found, HashEngine, Search
from hashfleet.errors import InvalidInput
from hashfleet.message import NonceSpace

#: What `HashEngine.search` promises: short enough to stop or retarget at once, long enough that the fixed cost of a
#: launch (about 0.1 ms on a GPU, 1 ms across CPU processes) does not show.
BATCH_SECONDS = 0.05
#: A batch may grow or shrink by this factor at most, so that one odd measurement does not make the next batch hang.
_LARGEST_STEP = 4
#: Of a small search, this many times the hashes that a hit takes on average are asked of the device at a time: 98 of
#: 100 searches end with the first launch, and an easy one does not fill a batch of 50 ms.
_EXPECTATIONS = 4


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


def expected_work(count: int, zeros: int) -> int:
    """Hashes that a search of `count` counters is to be expected to take if it ends with its first hit.

    An upper bound of the mean, at most 58 % above it (where `count` is just the hashes that a hit takes on average).
    """
    return min(count, expected_hashes(zeros))


def search_each(engine: HashEngine, searches: Sequence[Search]) -> Iterator[Found]:
    """`HashEngine.search_many` by one `search` after another, for engines with no better way."""
    for search in searches:
        check_search(search.space, search.start, search.count, search.zeros)
    return _search_each(engine, searches)


def _search_each(engine: HashEngine, searches: Sequence[Search]) -> Iterator[Found]:
    for index, search in enumerate(searches):
        yield from _search_to_hit(engine, index, search)


def _search_to_hit(engine: HashEngine, index: int, search: Search) -> Iterator[Found]:
    at, end = search.start, search.start + search.count
    while at < end:
        most = min(end - at, _EXPECTATIONS * expected_hashes(search.zeros))
        found = engine.search(search.space, at, most, search.zeros)
        # engines answer with a generator, whose close() stops the device
        with closing(cast("Generator[Batch, None, None]", found)) as batches:
            for batch in batches:
                if batch.hits:
                    yield Found(index, batch.hits[0] - search.start + 1, batch.hits[0])
                    return
                at = batch.start + batch.count
                yield Found(index, at - search.start, None)
