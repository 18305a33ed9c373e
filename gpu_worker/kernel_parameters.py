"""What a kernel reads about a search, packed as `kernels/nonce_search.h` lays it out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hashfleet.message import BLOCK_BYTES, BlockTemplate

WORDS_PER_BLOCK = BLOCK_BYTES // 4
_MIDSTATE = 2 * WORDS_PER_BLOCK
_MASKS = _MIDSTATE + 8
_LAST_DIGIT_WORD = _MASKS + 8
_LAST_DIGIT_SHIFT = _LAST_DIGIT_WORD + 1
PARAMETER_WORDS = _LAST_DIGIT_SHIFT + 1


def blocks_to_hash(template: BlockTemplate) -> int:
    """1 or 2: how many blocks each nonce costs."""
    return len(template.words) // WORDS_PER_BLOCK


def digest_masks(zeros: int) -> tuple[int, ...]:
    """For each of the digest's 8 words, the bits that must be 0 for `zeros` leading hex zeros.

    >>> [f"{mask:08x}" for mask in digest_masks(9)[:3]]
    ['ffffffff', 'f0000000', '00000000']
    """
    bits = (16**zeros - 1) << (256 - 4 * zeros)
    return tuple(bits >> (224 - 32 * word) & 0xFFFFFFFF for word in range(8))


def kernel_parameters(template: BlockTemplate, zeros: int) -> NDArray[np.uint32]:
    """The parameter words of one search; shape (PARAMETER_WORDS,)."""
    parameters = np.zeros(PARAMETER_WORDS, dtype=np.uint32)
    last_digit = template.counter_offset + template.counter_digits - 1
    parameters[: len(template.words)] = template.words
    parameters[_MIDSTATE:_MASKS] = template.midstate
    parameters[_MASKS:_LAST_DIGIT_WORD] = digest_masks(zeros)
    parameters[_LAST_DIGIT_WORD] = last_digit // 4
    parameters[_LAST_DIGIT_SHIFT] = 8 * (3 - last_digit % 4)
    return parameters
