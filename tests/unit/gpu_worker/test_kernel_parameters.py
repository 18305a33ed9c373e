"""The words that a kernel reads."""

from __future__ import annotations

import hashlib

import pytest

from gpu_worker.kernel_parameters import PARAMETER_WORDS, blocks_to_hash, digest_masks, kernel_parameters
from hashfleet.message import NonceSpace, compress


def test_the_parameters_stand_where_the_kernel_reads_them() -> None:
    space = NonceSpace(b"p" * 70, "", 5)  # one block of midstate; the counter's last digit is byte 6 + 5 - 1 = 10
    parameters = kernel_parameters(space.blocks, 9).tolist()

    assert len(parameters) == PARAMETER_WORDS == 50
    assert tuple(parameters[:16]) == space.blocks.words
    assert parameters[16:32] == [0] * 16
    assert tuple(parameters[32:40]) == space.blocks.midstate
    assert parameters[40:48] == [0xFFFFFFFF, 0xF0000000, 0, 0, 0, 0, 0, 0]
    assert parameters[48:] == [2, 8]


@pytest.mark.parametrize("zeros", range(1, 65))
def test_the_masks_cover_exactly_the_leading_zeros(zeros: int) -> None:
    digest = int("".join(f"{mask:08x}" for mask in digest_masks(zeros)), 16)

    assert f"{digest:064x}" == "f" * zeros + "0" * (64 - zeros)


@pytest.mark.parametrize(
    ("constant", "digits", "blocks"), [(54, 1, 1), (55, 1, 2), (63, 18, 2), (64, 18, 1), (37, 18, 1), (38, 18, 2)]
)
def test_a_message_has_a_second_block_when_digits_and_padding_do_not_fit_the_first(
    constant: int, digits: int, blocks: int
) -> None:
    assert blocks_to_hash(NonceSpace(b"p" * constant, "", digits).blocks) == blocks


@pytest.mark.parametrize("constant", [10, 60, 70])
def test_digits_added_at_the_stated_place_give_the_message(constant: int) -> None:
    space = NonceSpace(b"p" * constant, "", 7)
    parameters = [int(word) for word in kernel_parameters(space.blocks, 1)]
    words = parameters[: len(space.blocks.words)]
    for position, digit in enumerate(reversed("0031415")):
        bits = parameters[49] + 8 * position
        words[parameters[48] - bits // 32] += int(digit) << bits % 32
    state = tuple(parameters[32:40])
    for at in range(0, len(words), 16):
        state = compress(state, tuple(words[at : at + 16]))

    assert "".join(f"{word:08x}" for word in state) == hashlib.sha256(space.message(31415)).hexdigest()
