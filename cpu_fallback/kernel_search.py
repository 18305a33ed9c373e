"""From a range of counters to calls of a compiled kernel, and from its hits back to counters.

A kernel hashes whole groups of lanes, so a range is widened to them and hits outside it are dropped: at most one group
per range and one per 10**8 counters is hashed in part. `SharedSearch` and `ShortSearch` differ only in which digits
make a lane and which a row (see graph.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Protocol

from cpu_fallback.graph import shared_graph, short_graph
from cpu_fallback.jit import Hits, Kernel, Target, Words
from hashfleet.errors import InvalidInput, SelfTestFailed
from hashfleet.message import BLOCK_BYTES, NonceSpace, SharedTemplate, ShortTemplate

#: Four digits: one word of the message.
_WORD_DIGITS = 4
_WORD_VALUES: int = 10**_WORD_DIGITS
#: Hits of one call, each up to one per group and row: 2.5 MB, touched only as far as there are hits. T hashes 16 groups
#: with 10**4 rows at a time (5 million hashes, 30 ms with AVX-512).
_MOST_HITS = 16 * _WORD_VALUES
#: Tables of rows that T keeps, one per length of message and 2 MB each; the jobs of a fleet have one or two lengths.
_KEPT_TABLES = 4
#: Leading zeros that the first digest word shows.
_WORD_ZEROS = 8


class KernelSearch(Protocol):
    """A compiled kernel that searches the spaces of its shape."""

    @property
    def whole(self) -> int:
        """Ranges of a multiple of this many counters, from a multiple of it on, are hashed without being widened."""
        ...

    def hashes(self, start: int, count: int) -> int:
        """How many hashes a search of that range computes: `count` and what the range is widened by."""
        ...

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> tuple[int, ...]:
        """The counters of the range whose hash has that many leading hex zeros, ascending."""
        ...


class SharedSearch:
    """Shape T: lanes are counter // 10**4, rows are the last four digits."""

    def __init__(self, target: Target) -> None:
        """Compile. Raises EngineUnavailable if LLVM cannot."""
        self.kernel = Kernel(shared_graph(), target)
        self._group: int = self.kernel.form.group
        self._most_groups = _MOST_HITS // _WORD_VALUES
        #: The words of four digits. The last lanes of a group may go past the table's end; their hits are dropped.
        self.digits = Words(_WORD_VALUES + self._group, map(_digit_word, range(_WORD_VALUES)))
        self._lanes = self.kernel.lane_words(self._most_groups)
        self.hits = Hits(_MOST_HITS)
        self._tables: dict[tuple[int, ...], Words] = {}

    @property
    def whole(self) -> int:
        """See KernelSearch."""
        return self._group * _WORD_VALUES

    def hashes(self, start: int, count: int) -> int:
        """See KernelSearch."""
        lanes, rows = _split(start, count, _WORD_VALUES)
        return _rounded_up(len(lanes), self._group) * len(rows)

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> tuple[int, ...]:
        """See KernelSearch."""
        template = _shared(space)
        table = self.table(template)
        lanes, rows = _split(start, count, _WORD_VALUES)
        found: list[int] = []
        for part in _parts(lanes, self._most_groups * self._group):
            groups = range(-(-len(part) // self._group))
            block = _with_digits(template.lane_block, BLOCK_BYTES, part.start, template.high_digits)
            inputs = Words(40, (*template.midstate, *block, *template.tail_block))
            self.kernel.fill_lanes(inputs, self.digits, part.start % _WORD_VALUES, len(groups), self._lanes)
            hits = self.kernel.search(self._lanes, groups, table, rows, _mask(zeros), self.hits)
            for group, row, bits in self.hits.read(hits):
                for lane in _set_bits(bits):
                    high = part.start + group * self._group + lane
                    if high < part.stop:
                        found.append(high * _WORD_VALUES + rows.start + row)
        return _selected(space, found, start, count, zeros)

    def table(self, template: SharedTemplate) -> Words:
        """W + K of every tail: 1 ms, once per length of message."""
        table = self._tables.get(template.tail_block)
        if table is None:
            if len(self._tables) == _KEPT_TABLES:
                del self._tables[next(iter(self._tables))]
            table = self.kernel.row_words(_WORD_VALUES)
            inputs = Words(40, (*template.midstate, *template.lane_block, *template.tail_block))
            self.kernel.fill_rows(inputs, self.digits, 0, _WORD_VALUES, table)
            self._tables[template.tail_block] = table
        return table


class ShortSearch:
    """Shape S: lanes are the digits in the varying word, rows are the counter without them."""

    def __init__(self, word: int, target: Target) -> None:
        """Compile for the varying word 12 or 13. Raises EngineUnavailable if LLVM cannot."""
        self._kernel = Kernel(short_graph(word), target)
        self._group = self._kernel.form.group
        # Word 13 holds three digits and the padding's first byte.
        low_words = [_digit_word(low) if word == 12 else _digit_word(10 * low) & ~0xFF | 0x80 for low in _lows(word)]
        self._low_values = len(low_words)
        groups = -(-self._low_values // self._group)
        self._most_rows = _MOST_HITS // groups
        self._digits = Words(_WORD_VALUES, map(_digit_word, range(_WORD_VALUES)))
        self._lanes = self._kernel.lane_words(groups)
        self._rows = self._kernel.row_words(self._most_rows)
        self._hits = Hits(_MOST_HITS)
        inputs = Words(len(self._kernel.graph.inputs))  # what is kept per lane depends on the varying word alone
        self._kernel.fill_lanes(inputs, Words(groups * self._group, low_words), 0, groups, self._lanes)

    @property
    def whole(self) -> int:
        """See KernelSearch."""
        return self._low_values

    def hashes(self, start: int, count: int) -> int:
        """See KernelSearch."""
        highs, lows = _split(start, count, self._low_values)
        return len(highs) * len(self._groups(lows)) * self._group

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> tuple[int, ...]:
        """See KernelSearch."""
        template = _short(space)
        highs, lows = _split(start, count, self._low_values)
        groups = self._groups(lows)
        found: list[int] = []
        for part in _parts(highs, self._most_rows):
            digits, first = self._row_digits(template, part)
            inputs = Words(24, (*template.midstate, *_short_block(template, part.start)))
            self._kernel.fill_rows(inputs, digits, first, len(part), self._rows)
            hits = self._kernel.search(self._lanes, groups, self._rows, range(len(part)), _mask(zeros), self._hits)
            for group, row, bits in self._hits.read(hits):
                for lane in _set_bits(bits):
                    low = (groups.start + group) * self._group + lane
                    if low < self._low_values:
                        found.append((part.start + row) * self._low_values + low)
        return _selected(space, found, start, count, zeros)

    def first_hit(self, space: NonceSpace, start: int, count: int, zeros: int) -> int | None:
        """The first counter of the range whose hash has that many leading hex zeros, at most 8; None if none has.

        For few zeros: the row of 10**4 hashes is cut into calls of a quarter of what a hit takes on average (with 3
        zeros 6 us of hashing each, and 2 us to make the call), so that little is hashed behind the hit.
        """
        template = _short(space)
        highs, lows = _split(start, count, self._low_values)
        groups = self._groups(lows)
        step = max(1, 16**zeros // (4 * self._group))
        mask, end = _mask(zeros), start + count
        for high in highs:
            digits, first = self._row_digits(template, range(high, high + 1))
            inputs = Words(24, (*template.midstate, *_short_block(template, high)))
            self._kernel.fill_rows(inputs, digits, first, 1, self._rows)
            for at in range(groups.start, groups.stop, step):
                part = range(at, min(at + step, groups.stop))
                hits = self._kernel.search(self._lanes, part, self._rows, range(1), mask, self._hits)
                for group, _, bits in self._hits.read(hits):
                    for lane in _set_bits(bits):
                        low = (at + group) * self._group + lane
                        counter = high * self._low_values + low
                        if low < self._low_values and start <= counter < end:
                            return counter
                if high * self._low_values + part.stop * self._group >= end:
                    return None
        return None

    def _groups(self, lows: range) -> range:
        return range(lows.start // self._group, -(-lows.stop // self._group))

    def _row_digits(self, template: ShortTemplate, highs: range) -> tuple[Words, int]:
        """The word before the varying one for each of these high digits: a table, and where in it they start."""
        if template.high_digits >= _WORD_DIGITS:
            return self._digits, highs.start % _WORD_VALUES
        # It holds constant bytes as well: at most 1000 words.
        return Words(len(highs), (_short_block(template, high)[template.word - 1] for high in highs)), 0


def compile_search(shape: str, target: Target) -> KernelSearch:
    """Compile the kernel of a shape ("T", "S12", "S13"), and hold it against hashlib before it is used.

    Raises EngineUnavailable if it does not compile, SelfTestFailed if it is wrong.
    """
    search: KernelSearch = SharedSearch(target) if shape == "T" else ShortSearch(int(shape[1:]), target)
    space = _CHECKED_SPACES[shape]
    # Every lane of the first groups with eight tails of T, every lane of S.
    counters = range(64 * _WORD_VALUES) if shape == "T" else range(_WORD_VALUES)
    found = set(search.search(space, counters.start, len(counters), 1))
    for counter in counters:
        if counter % _WORD_VALUES < 8 or shape != "T":
            is_hit = hashlib.sha256(space.message(counter)).digest() < b"\x10"
            if is_hit != (counter in found):
                raise SelfTestFailed(f"the {target.name} code for shape {shape} does not compute SHA-256 rightly")
    return search


@lru_cache(maxsize=16)
def _shared(space: NonceSpace) -> SharedTemplate:
    template = space.shared
    if template is None:
        raise InvalidInput("the space does not have shape T, which this kernel searches")
    return template


@lru_cache(maxsize=16)
def _short(space: NonceSpace) -> ShortTemplate:
    template = space.short
    if template is None:
        raise InvalidInput("the space does not have shape S, which this kernel searches")
    return template


#: A space of each shape, searched once before a kernel is used.
_CHECKED_SPACES = {
    "T": NonceSpace(b"5-28BUILD679575NONCE", "0" * 32, 16, 48),
    "S12": NonceSpace(b"5-28BUILD679575NONCE", "0" * 16, 16),
    "S13": NonceSpace(b"5-28BUILD679575NONCE", "0" * 19, 16),
}


def _digit_word(value: int) -> int:
    """Four digits as a big-endian word."""
    return int.from_bytes(b"%04d" % value, "big")


def _lows(word: int) -> range:
    return range(10**4 if word == 12 else 10**3)


def _split(start: int, count: int, low_values: int) -> tuple[range, range]:
    """The high and the low parts of counters that must be combined to cover a range."""
    first, first_low = divmod(start, low_values)
    last, last_low = divmod(start + count - 1, low_values)
    return range(first, last + 1), range(first_low, last_low + 1) if first == last else range(low_values)


def _parts(highs: range, most: int) -> Iterator[range]:
    """Cut so that only the last four digits change within a part, and no part is longer than `most`."""
    at = highs.start
    while at < highs.stop:
        end = min(highs.stop, at + most, (at // _WORD_VALUES + 1) * _WORD_VALUES)
        yield range(at, end)
        at = end


def _with_digits(block: Sequence[int], end: int, value: int, digits: int) -> tuple[int, ...]:
    """The block with `value` in so many digits that end before byte `end`."""
    data = bytearray(b"".join(word.to_bytes(4, "big") for word in block))
    if digits:
        data[end - digits : end] = b"%0*d" % (digits, value)
    return tuple(int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4))


def _short_block(template: ShortTemplate, high: int) -> tuple[int, ...]:
    return _with_digits(template.block, template.high_offset + template.high_digits, high, template.high_digits)


def _mask(zeros: int) -> int:
    """The bits of the first digest word that are 0 in a hit."""
    return 0xFFFFFFFF << (32 - 4 * min(zeros, _WORD_ZEROS)) & 0xFFFFFFFF


def _set_bits(bits: int) -> Iterator[int]:
    while bits:
        yield (bits & -bits).bit_length() - 1
        bits &= bits - 1


def _rounded_up(count: int, step: int) -> int:
    return -(-count // step) * step


def _selected(space: NonceSpace, found: list[int], start: int, count: int, zeros: int) -> tuple[int, ...]:
    """Those of the range, ascending; hashlib looks at the digest beyond its first word."""
    inside = sorted(counter for counter in found if start <= counter < start + count)
    if zeros <= _WORD_ZEROS:
        return tuple(inside)
    bound = (1 << (256 - 4 * zeros)).to_bytes(32, "big")
    return tuple(counter for counter in inside if hashlib.sha256(space.message(counter)).digest() < bound)
