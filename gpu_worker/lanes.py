"""Shapes T and S as every GPU engine launches them: which kernel, what it reads, and which lanes hold a stretch.

The kernels give each thread lanes (values of the counter's high digits) and a piece of the tails (the low digits); see
`kernels/multiply_add.h` for CUDA and `kernels/lane_search.cl` for OpenCL. What they read besides the lane's block is a
table with a row per tail, which is the same for every lane and so is made once per message length, here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hashfleet.message import LOW_DIGITS, ROUND_CONSTANTS, NonceSpace, SharedTemplate, ShortTemplate

#: The first word of the schedule that the tails' digits vary, in shape T.
_FIRST_SHARED_ROUND = 12

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
    """One of the kernels whose threads own lanes, and what it reads for one space."""

    kernel: str
    #: 24 words: the chaining value before the block with the high digits, and that block.
    parameters: Words
    #: One row per tail.
    table: Words


def lane_program(space: NonceSpace) -> LaneProgram | None:
    """The kernel for a space of shape T or S; None for any other."""
    shared = space.shared
    if shared is not None:
        return _shared_program(shared)
    short = space.short
    return None if short is None else _short_program(short)


def _shared_program(template: SharedTemplate) -> LaneProgram:
    parameters = np.array(template.midstate + template.lane_block, np.uint32)
    return LaneProgram("search_shared", parameters, shared_table(template.tail_block))


def _short_program(template: ShortTemplate) -> LaneProgram:
    parameters = np.array(template.midstate + template.block, np.uint32)
    table = short_table(template.block[template.word], template.low_digits)
    return LaneProgram(f"search_short_{template.word}", parameters, table)


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
