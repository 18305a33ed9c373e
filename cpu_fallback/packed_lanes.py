"""Many small searches of shape T side by side: the lanes of a vector belong to different searches.

A lane of T is a chaining value and the rows are the same for all, so a kernel does not mind whose lanes it hashes::

    vector      | search 0 | search 1 | search 2 | .. | search 63 |      one lane each: 10**4 of its counters
    row 0000    ->  hash      hash       hash              hash
    row 0001    ->   ..
    row 1023    ->   ..      then drop the searches that have a hit, move the others together, and go on

Searches of three zeros have 3 lanes in range, of two zeros a fifth of one: alone they would leave most of a vector's
64 lanes (AVX-512, four streams) idle. When searches are few, each gets several of its lanes.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence

from cpu_fallback.jit import Words
from cpu_fallback.kernel_search import SharedSearch
from hashfleet.engine import Found, Search
from hashfleet.errors import InvalidInput
from hashfleet.message import BLOCK_BYTES, LOW_DIGITS, SharedTemplate

_ROWS: int = 10**LOW_DIGITS
#: Groups of lanes that are hashed side by side: 1,024 searches with AVX-512.
_MOST_GROUPS = 16
#: Rows between two looks at the hits are a quarter of what a hit takes on average: 12 % are hashed behind a hit. They
#: are so few at least that a call is worth making, and so many at most that a call takes 8 ms (AVX-512).
_FEWEST_ROWS, _MOST_ROWS = 16, 2_500
#: With more zeros a search fills the vectors by itself, see `SharedSearch.search`.
MOST_ZEROS = 4


class _Packed:
    """A search, and how far it is."""

    __slots__ = ("at", "data", "hit", "index", "search", "template")

    def __init__(self, index: int, search: Search, template: SharedTemplate) -> None:
        self.index = index
        self.search = search
        self.template = template
        #: Everything before this counter is searched.
        self.at = search.start
        self.hit: int | None = None
        #: The message up to the high digits.
        self.data = search.space.constant

    @property
    def end(self) -> int:
        return self.search.start + self.search.count

    @property
    def lanes_left(self) -> int:
        return (self.end - 1) // _ROWS - self.at // _ROWS + 1

    def found(self) -> Found:
        return Found(self.index, self.at - self.search.start, self.hit)


class _Column:
    """One lane of a search in a pass."""

    __slots__ = ("base", "high", "low", "packed")

    def __init__(self, packed: _Packed, lane: int) -> None:
        self.packed = packed
        #: The lane's first counter, and the rows that lie in the search's range.
        self.base = lane * _ROWS
        self.low = max(packed.at - self.base, 0)
        self.high = min(packed.end - self.base, _ROWS)


class PackedLanes:
    """Makes many searches with the kernel of T. Used by one thread."""

    def __init__(self, shared: SharedSearch) -> None:
        self._shared = shared
        kernel = shared.kernel
        self._vector = kernel.form.lanes
        self._group = kernel.form.group
        self._slots = len(kernel.graph.lane_slots)
        self._inputs = Words(len(kernel.graph.inputs))
        #: Where the lanes of one search are worked out, before the wanted one is copied to its column.
        self._fresh = kernel.lane_words(1)
        self._lanes = kernel.lane_words(_MOST_GROUPS)

    def takes(self, search: Search) -> bool:
        """Whether a search of shape T is one for `search`."""
        return search.zeros <= MOST_ZEROS

    def search(self, searches: Iterable[tuple[int, Search]]) -> Iterator[list[Found]]:
        """Make these searches of shape T and at most MOST_ZEROS zeros, given with their numbers.

        Yields what is found every few milliseconds, the last of all when every search is over. A search's hit may not
        be its first, but what is `done` holds no other.
        """
        alike: dict[tuple[tuple[int, ...], int], list[_Packed]] = {}
        for index, search in searches:
            template = search.space.shared
            if template is None or not self.takes(search):
                raise InvalidInput(f"search {index} is not of shape T and at most {MOST_ZEROS} zeros")
            alike.setdefault((template.tail_block, search.zeros), []).append(_Packed(index, search, template))
        for (_, zeros), waiting in alike.items():
            while waiting:
                batch = waiting[: _MOST_GROUPS * self._group]
                yield from self._pass(batch, zeros)
                waiting = [packed for packed in batch if packed.hit is None and packed.at < packed.end] + waiting[
                    len(batch) :
                ]

    def _pass(self, batch: Sequence[_Packed], zeros: int) -> Iterator[list[Found]]:
        """Hash the next lane of each search, or several if searches are few, until it has a hit or the lanes end."""
        kernel, hits = self._shared.kernel, self._shared.hits
        table = self._shared.table(batch[0].template)
        columns = self._columns(batch)
        mask = 0xFFFFFFFF << (32 - 4 * zeros) & 0xFFFFFFFF
        step = min(max(16**zeros // 4, _FEWEST_ROWS), _MOST_ROWS)
        row = min(column.low for column in columns)
        while columns:
            stop = min(row + step, _ROWS)
            groups = range(-(-len(columns) // self._group))
            count = kernel.search(self._lanes, groups, table, range(row, stop), mask, hits)
            over = self._take_hits(hits.read(count), columns, row)
            row = stop
            left = [n for n, column in enumerate(columns) if column.packed.hit is None and column.high > row]
            for to, come in enumerate(left):
                if to != come:
                    self._move(come, to)
            columns = [columns[n] for n in left]
            yield over
        ended = [packed for packed in batch if packed.hit is None]
        for packed in ended:
            lanes = min(packed.lanes_left, self._lanes_each(batch))
            packed.at = min((packed.at // _ROWS + lanes) * _ROWS, packed.end)
        yield [packed.found() for packed in ended]

    def _take_hits(
        self, hits: Iterable[tuple[int, int, int]], columns: Sequence[_Column], first_row: int
    ) -> list[Found]:
        """Note each search's hit. Hits come so that of one lane, and of lanes in one group, lower rows are first."""
        over: list[Found] = []
        for group, number, bits in hits:
            row = first_row + number
            while bits:
                at = group * self._group + (bits & -bits).bit_length() - 1
                bits &= bits - 1
                if at >= len(columns):
                    break
                column = columns[at]
                packed = column.packed
                if packed.hit is None and column.low <= row < column.high:
                    packed.hit = column.base + row
                    # Of its first lane all rows up to this one are searched, of the others it does not matter.
                    first = packed.at // _ROWS * _ROWS
                    packed.at = min(max(packed.at, first + row + 1), first + _ROWS, packed.end)
                    over.append(packed.found())
        return over

    def _lanes_each(self, batch: Sequence[_Packed]) -> int:
        return max(1, self._group // len(batch))

    def _columns(self, batch: Sequence[_Packed]) -> list[_Column]:
        """Lay out the lanes of a pass, those of one search side by side and in order."""
        columns: list[_Column] = []
        each = self._lanes_each(batch)
        for packed in batch:
            first = packed.at // _ROWS
            for lane in range(first, first + min(packed.lanes_left, each)):
                self._work_out(packed, lane)
                self._copy(self._fresh.view, 0, self._lanes.view, len(columns))
                columns.append(_Column(packed, lane))
        return columns

    def _work_out(self, packed: _Packed, lane: int) -> None:
        """Fill the first of the fresh lanes."""
        template = packed.template
        digits = b"%0*d" % (template.high_digits, lane) if template.high_digits else b""
        block = struct.unpack(">16I", (packed.data + digits)[-BLOCK_BYTES:])
        words = array("I", (*template.midstate, *block, *template.tail_block))
        self._inputs.view[:] = memoryview(words)
        self._shared.kernel.fill_lanes(self._inputs, self._shared.digits, lane % _ROWS, 1, self._fresh)

    def _move(self, come: int, to: int) -> None:
        self._copy(self._lanes.view, come, self._lanes.view, to)

    def _copy(self, source: memoryview, come: int, target: memoryview, to: int) -> None:
        """Copy a lane's slots, which lie a vector's length apart."""
        vector, size = self._vector, self._vector * self._slots
        vector_come, lane_come = divmod(come, vector)
        vector_to, lane_to = divmod(to, vector)
        begin, end = vector_to * size + lane_to, (vector_to + 1) * size
        target[begin:end:vector] = source[vector_come * size + lane_come : (vector_come + 1) * size : vector]
