"""Which pieces of many small searches share a launch, and what becomes of each."""

from __future__ import annotations

import pytest

from gpu_worker.lanes import lane_program
from gpu_worker.small_searches import MOST_COLUMNS, Piece, Small, Waiting, told_apart
from hashfleet.engine import Search
from hashfleet.message import lay_out

PREFIX = b"5-28BUILD679575NONCE"


def small(
    index: int, size: int, start: int = 0, count: int = 10**6, *, zeros: int = 3, prefix: bytes = PREFIX
) -> Small:
    search = Search(lay_out(prefix, f"{index:014d}", 12, 137), start, count, zeros)
    program = lane_program(search.space, zeros)
    assert program is not None
    return Small(index, search, program, size, start)


def waiting(*searches: Small) -> Waiting:
    made = Waiting()
    for each in searches:
        made.add(each)
    return made


def indices(pieces: list[Piece]) -> list[int]:
    return [piece.small.index for piece in pieces]


@pytest.mark.parametrize(
    ("size", "start", "count", "lane", "lanes", "tails"),
    [
        (4_000, 0, 10**6, 0, 1, (0, 4_000)),
        (4_000, 8_000, 10**6, 0, 1, (8_000, 10_000)),
        (4_000, 123_456, 10**6, 12, 1, (3_456, 7_456)),
        (32_768, 0, 10**6, 0, 4, (0, 10_000)),
        (32_768, 9_990, 10**6, 0, 1, (9_990, 10_000)),
        (32_768, 20_000, 10_001, 2, 2, (0, 10_000)),
        (4_000, 0, 1, 0, 1, (0, 4_000)),
    ],
)
def test_a_piece_is_some_tails_of_one_lane_or_whole_lanes(
    size: int, start: int, count: int, lane: int, lanes: int, tails: tuple[int, int]
) -> None:
    piece = small(0, size, start, count).next_piece()

    assert (piece.first_lane, piece.lanes, (piece.first_tail, piece.end_tail)) == (lane, lanes, tails)


def test_pieces_of_other_tails_or_other_lengths_share_no_launch() -> None:
    searches = [small(0, 100), small(1, 100, 100), small(2, 100), small(3, 100, prefix=b"x" * 100), small(4, 100)]
    pieces = waiting(*searches)

    assert [indices(pieces.take(9, 10**9, 1e9)) for _ in range(3)] == [[0, 2, 4], [1], [3]]
    assert not pieces


def test_the_lanes_of_other_numbers_share_a_launch() -> None:
    pieces = waiting(small(0, 100, 40_000), small(1, 100, 10_000, zeros=2))

    assert indices(pieces.take(9, 10**9, 1e9)) == [0, 1]


def test_a_launch_takes_no_more_than_it_may_but_one_piece_always() -> None:
    def taken(most: int, hashes: int, hits: float) -> list[int]:
        return indices(waiting(*(small(n, 100, zeros=1) for n in range(5))).take(most, hashes, hits))

    assert taken(3, 10**9, 1e9) == [0, 1, 2]
    assert taken(9, 250, 1e9) == [0, 1]
    assert taken(9, 10**9, 13) == [0, 1]
    assert taken(9, 1, 0.0) == [0]


def test_a_launch_has_no_more_lanes_than_its_parameters_have_room_for() -> None:
    half = (MOST_COLUMNS // 2 + 1) * 10_000

    assert indices(waiting(small(0, half, count=half), small(1, half, count=half)).take(9, 10**12, 1e9)) == [0]


def test_each_search_gets_its_first_hit_within_its_own_range() -> None:
    # Two lanes, one lane, one lane; 10,000 distances to a lane. Zeros are those of the mask, so hits are believed.
    searches = [small(0, 20_000, 50_000), small(1, 20_000, 0, 40), small(2, 20_000, 10_000, 300)]
    pieces = [each.next_piece() for each in searches]
    assert [piece.lanes for piece in pieces] == [2, 1, 1]

    answers = told_apart(pieces, [12_345, 12_346, 20_040, 30_007])
    found = {each.index: (answer.done, answer.hit) for each, answer in answers}

    assert found == {0: (12_346, 62_345), 1: (40, None), 2: (8, 10_007)}


def test_a_search_without_a_hit_goes_on_behind_its_piece() -> None:
    search = small(0, 4_000, 123_456)
    list(told_apart([search.next_piece()], []))

    assert (search.at, search.next_piece().first_tail) == (127_456, 7_456)
