"""Many small searches on one core: which code makes each of them, and in which portions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cpu_fallback.searcher import Searcher, shape_of
from hashfleet.batches import BatchSize
from hashfleet.difficulty import expected_hashes
from hashfleet.engine import Found, Search

if TYPE_CHECKING:
    from cpu_fallback.packed_lanes import PackedLanes

#: What is found is handed on this often: a message to the engine costs 17 us, and 2 us for each answer in it.
_PORTION_SECONDS = 0.002
#: A search is looked at this often, once it is too large for that: it may be stopped then.
_STEP_SECONDS = 0.02
_FIRST_STEP, _LONGEST_STEP = 50_000, 10_000_000
#: With more zeros than this, a call hashes whole rows of 10**4 and `Searcher.search` makes it as well.
_MOST_ZEROS_WITHIN_ROWS = 3


class FirstHits:
    """Makes many searches, each until its first hit. Used by the searcher's thread."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self._packed: PackedLanes | None = None
        #: By shape, and whether its kernel is ready.
        self._sizes: dict[tuple[str, bool], BatchSize] = {}

    def search(self, searches: Sequence[tuple[int, Search]]) -> Iterator[list[Found]]:
        """Make these searches, given with their numbers; see `HashEngine.search_many` for the answers.

        Yields what was found, perhaps nothing, every few milliseconds, or after 20 of a search that is not small.
        """
        packed: list[tuple[int, Search]] = []
        single: list[tuple[int, Search, str]] = []
        lanes = self._packed_lanes()
        for index, search in searches:
            shape = shape_of(search.space)
            if shape == "T" and lanes is not None and lanes.takes(search):
                packed.append((index, search))
            else:
                single.append((index, search, shape))
        if lanes is not None and packed:
            yield from lanes.search(packed)
        founds: list[Found] = []
        handed_on = time.monotonic()
        for index, search, shape in single:
            for found in self._single(index, search, shape):
                founds.append(found)
                if time.monotonic() - handed_on >= _PORTION_SECONDS:
                    yield founds
                    founds = []
                    handed_on = time.monotonic()
        yield founds

    def _packed_lanes(self) -> PackedLanes | None:
        """None until the kernel of T is compiled."""
        kernel = self._searcher.kernel("T")
        if kernel is not None and self._packed is None:
            # Not at the top: these load LLVM, see Searcher.
            from cpu_fallback.kernel_search import SharedSearch
            from cpu_fallback.packed_lanes import PackedLanes

            assert isinstance(kernel, SharedSearch)
            self._packed = PackedLanes(kernel)
        return self._packed

    def _single(self, index: int, search: Search, shape: str) -> Iterator[Found]:
        if shape in ("S12", "S13") and search.zeros <= _MOST_ZEROS_WITHIN_ROWS and search.count <= _FIRST_STEP:
            kernel = self._searcher.kernel(shape)
            if kernel is not None:
                from cpu_fallback.kernel_search import ShortSearch

                assert isinstance(kernel, ShortSearch)
                hit = kernel.first_hit(search.space, search.start, search.count, search.zeros)
                yield Found(index, search.count if hit is None else hit - search.start + 1, hit)
                return
        at, end = search.start, search.start + search.count
        while at < end:
            count = min(self._step(shape, search.zeros), end - at)
            size = self._size(shape)
            began = time.monotonic()
            hits = self._searcher.search(search.space, at, count, search.zeros)
            size.learn(count, time.monotonic() - began)
            if hits:
                yield Found(index, hits[0] - search.start + 1, hits[0])
                return
            at += count
            yield Found(index, at - search.start, None)

    def _step(self, shape: str, zeros: int) -> int:
        """Nonces of a call: a quarter of what a hit takes on average, in whole groups of the kernel."""
        kernel = self._searcher.kernel(shape)
        whole = 1 if kernel is None else kernel.whole
        wanted = min(expected_hashes(zeros) // 4, self._size(shape).nonces)
        return max(wanted // whole, 1) * whole

    def _size(self, shape: str) -> BatchSize:
        key = shape, self._searcher.kernel(shape) is not None
        if key not in self._sizes:
            self._sizes[key] = BatchSize(_FIRST_STEP, _LONGEST_STEP, _STEP_SECONDS)
        return self._sizes[key]
