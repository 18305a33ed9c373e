"""What a launch with lanes of many searches reads."""

from __future__ import annotations

import pytest

from gpu_worker.kernel_parameters import digest_masks
from gpu_worker.lanes import LaneProgram, lane_columns, lane_program
from hashfleet.message import NonceSpace, lay_out


def program(space: NonceSpace, zeros: int) -> LaneProgram:
    made = lane_program(space, zeros)
    assert made is not None
    return made


@pytest.mark.parametrize("longest", [137, 35], ids=["T", "S"])
def test_each_column_is_the_block_of_its_own_lane(longest: int) -> None:
    spaces = [lay_out(b"5-28BUILD679575NONCE", f"{n:014d}", 16, longest) for n in (7, 1234)]
    programs = [program(space, zeros) for space, zeros in zip(spaces, (3, 5), strict=True)]
    chosen = [(programs[0], 99_999_999, 3), (programs[1], 123_456_789_012, 1)]
    columns = lane_columns(chosen, 16)

    assert columns.shape == (25, 16)
    owners = [(spaces[0], 99_999_999), (spaces[0], 10**8), (spaces[0], 10**8 + 1), (spaces[1], 123_456_789_012)]
    for column, (space, lane) in zip(columns.T.tolist(), owners, strict=False):
        message = space.message(lane * len(programs[0].table))
        end = len(message) // 64 * 64 if longest == 137 else len(message) - 4
        begin = (end - 1) // 64 * 64
        words = [int.from_bytes(message[at : at + 4], "big") for at in range(begin, end, 4)]
        assert column[8 : 8 + len(words)] == words
        assert column[:8] == programs[0].parameters[:8].tolist()
    assert columns[24, :4].tolist() == [digest_masks(3)[0]] * 3 + [digest_masks(5)[0]]


def test_columns_are_filled_up_to_whole_vectors() -> None:
    one = program(lay_out(b"5-28BUILD679575NONCE", "1", 12, 137), 3)

    assert [lane_columns([(one, 0, lanes)], 16).shape[1] for lanes in (1, 16, 17)] == [16, 16, 32]
    assert lane_columns([(one, 0, 5)], 1).shape[1] == 5


@pytest.mark.parametrize(("zeros", "tested"), [(1, 1), (8, 8), (9, 8), (64, 8)])
def test_the_mask_tests_the_first_word_only(zeros: int, tested: int) -> None:
    made = program(lay_out(b"5-28BUILD679575NONCE", "1", 12, 137), zeros)

    assert (made.tested_zeros, int(made.parameters[24])) == (tested, digest_masks(tested)[0])
