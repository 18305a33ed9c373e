"""Shapes T and S as every GPU engine launches them: which kernel, what it reads, and which lanes hold a stretch.

The kernels give each thread lanes (values of the counter's high digits) and a piece of the tails (the low digits); see
`kernels/multiply_add.h` for CUDA and `kernels/lane_search.cl` for OpenCL. What they read besides the lane's block is a
table with a row per tail, which is the same for every lane and so is made once per message length, here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpu_worker.kernel_parameters import digest_masks
from hashfleet.message import LOW_DIGITS, ROUND_CONSTANTS, NonceSpace
from hashfleet.proof import verify

#: Zeros that the kernels test at most: the digest's first word. hashlib tests the rest, of one nonce in 2**32.
_TESTED_ZEROS = 8
#: The first word of the schedule that the tails' digits vary, in shape T.
_FIRST_SHARED_ROUND = 12
#: Rows of the parameters: chaining value, block, mask.
_STATE_WORDS, PARAMETER_ROWS = 8, 25

Words: TypeAlias = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class LaneStretch:
    """Lanes and tails that cover the counters start .. start + count - 1."""

    first_lane: int
    lanes: int
    #: Nonces of the first lane that lie before `start`.
    skip: int
    count: int
    first_tail: int
    end_tail: int


def lane_stretch(start: int, count: int, tails: int) -> LaneStretch:
    """The lanes of `tails` nonces each that hold these counters.

    Within a single lane only its own tails are tried; else all tails of all lanes, up to two lanes' work too much.
    """
    first, last = start // tails, (start + count - 1) // tails
    skip = start - first * tails
    first_tail, end_tail = (skip, skip + count) if first == last else (0, tails)
    return LaneStretch(first, last - first + 1, skip, count, first_tail, end_tail)


@dataclass(frozen=True, slots=True)
class LaneProgram:
    """One of the kernels whose threads own lanes, and what it reads for one search."""

    kernel: str
    #: PARAMETER_ROWS words: the chaining value before the block with the high digits, that block with every digit "0",
    #: and the mask of the digest's first word.
    parameters: Words
    #: Leading zeros that the mask tests: as many as a hit needs, or fewer.
    tested_zeros: int
    #: One row per tail.
    table: Words
    #: The lane's digits stand in the four words of the block before this one.
    digits_end: int

    @property
    def table_key(self) -> tuple[str, bytes]:
        """Equal for equal tables: those of one kernel differ in their first row if they differ at all."""
        return self.kernel, self.table[0].tobytes()

    def is_hit(self, space: NonceSpace, counter: int, zeros: int) -> bool:
        """Whether what the kernel reports for a counter of that space has the zeros that the search asked for."""
        return self.tested_zeros == zeros or verify(space.prefix, space.nonce(counter)).zeros >= zeros


def lane_program(space: NonceSpace, zeros: int) -> LaneProgram | None:
    """The kernel for a space of shape T or S; None for any other."""
    tested = min(zeros, _TESTED_ZEROS)
    shared = space.shared
    if shared is not None:
        parameters = _parameters(shared.midstate, shared.lane_block, tested)
        table = shared_table(shared.tail_block)
        return LaneProgram("search_shared", parameters, tested, table, len(shared.lane_block))
    short = space.short
    if short is not None:
        parameters = _parameters(short.midstate, short.block, tested)
        table = short_table(short.block[short.word], short.low_digits)
        return LaneProgram(f"search_short_{short.word}", parameters, tested, table, short.word)
    return None


def _parameters(midstate: tuple[int, ...], block: tuple[int, ...], tested_zeros: int) -> Words:
    return np.array((*midstate, *block, digest_masks(tested_zeros)[0]), np.uint32)


def lane_columns(chosen: Sequence[tuple[LaneProgram, int, int]], multiple: int) -> Words:
    """The parameters of lanes that are given one by one, for a launch that holds lanes of many searches.

    `chosen` are programs of one kernel and one table, each with its first lane and the number of its lanes. Shape
    (PARAMETER_ROWS, columns): a column per lane, its digits written, in the order given; then columns that are not for
    use, up to a multiple of `multiple`, so that a work item may read a whole vector.
    """
    counts = np.array([lanes for _, _, lanes in chosen], np.int64)
    lanes = int(counts.sum())
    columns = np.zeros((PARAMETER_ROWS, -(-lanes // multiple) * multiple), np.uint32)
    programs = np.stack([program.parameters for program, _, _ in chosen], axis=1)
    columns[:, :lanes] = np.repeat(programs, counts, axis=1)
    # Lane numbers: each search's first one, and on from there.
    began = np.cumsum(counts) - counts
    firsts = np.array([first for _, first, _ in chosen], np.int64)
    numbers = np.arange(lanes) + np.repeat(firsts - began, counts)
    end = _STATE_WORDS + chosen[0][0].digits_end
    for place in range(1, 5):  # from the last four digits on
        numbers, digits = np.divmod(numbers, 10**4)
        columns[end - place, :lanes] += _four_digits(digits.astype(np.uint32))
    return columns


@lru_cache(maxsize=16)
def shared_table(tail_block: tuple[int, ...]) -> Words:
    """Shape T: for every tail word 12, then word + constant of rounds 13 to 63; shape (10**4, 52), 2 MB."""
    tails = 10**LOW_DIGITS
    schedule = [np.full(tails, word, np.uint32) for word in tail_block]
    schedule[_FIRST_SHARED_ROUND] = _text_words(tail_block[_FIRST_SHARED_ROUND], LOW_DIGITS)
    for i in range(16, 64):
        schedule.append(
            schedule[i - 16] + _small_sigma0(schedule[i - 15]) + schedule[i - 7] + _small_sigma1(schedule[i - 2])
        )
    # A lane has round 12's constant in it already.
    constants = np.array((0, *ROUND_CONSTANTS[_FIRST_SHARED_ROUND + 1 :]), np.uint32)
    return np.ascontiguousarray(np.stack(schedule[_FIRST_SHARED_ROUND:], axis=1) + constants)


@lru_cache(maxsize=4)
def short_table(word: int, low_digits: int) -> Words:
    """Shape S: the varying word and its small sigma 0, for every tail; shape (10**low_digits, 2)."""
    words = _text_words(word, low_digits)
    return np.ascontiguousarray(np.stack([words, _small_sigma0(words)], axis=1))


def _four_digits(values: Words) -> Words:
    """0 .. 9999 as four bytes 0 .. 9, the thousands in the highest: what is added to the text "0000"."""
    return _text_words(0, LOW_DIGITS)[values]


@lru_cache(maxsize=8)
def _text_words(word: int, digits: int) -> Words:
    """`word` with the decimal digits of 0, 1, 2 .. written over the "0"s in its first `digits` bytes."""
    values = np.arange(10**digits, dtype=np.uint32)
    words = np.full(10**digits, word, np.uint32)
    for place in range(digits):  # from the last digit on
        words += (values // np.uint32(10**place) % np.uint32(10)) << np.uint32(8 * (4 - digits + place))
    return words


def _rotr(words: Words, bits: int) -> Words:
    return words >> np.uint32(bits) | words << np.uint32(32 - bits)


def _small_sigma0(words: Words) -> Words:
    return _rotr(words, 7) ^ _rotr(words, 18) ^ words >> np.uint32(3)


def _small_sigma1(words: Words) -> Words:
    return _rotr(words, 17) ^ _rotr(words, 19) ^ words >> np.uint32(10)
