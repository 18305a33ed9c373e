"""Many small searches of shape T, their lanes side by side in vectors."""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import count as count_up
from itertools import islice

import pytest

from cpu_fallback.first_hits import FirstHits
from cpu_fallback.jit import find_target
from cpu_fallback.kernel_search import SharedSearch, compile_search
from cpu_fallback.packed_lanes import MOST_ZEROS, PackedLanes
from cpu_fallback.searcher import Searcher
from hashfleet.engine import Found, Search
from hashfleet.errors import EngineUnavailable, InvalidInput
from hashfleet.message import NonceSpace, lay_out

PREFIX = b"5-28BUILD679575NONCE"


@cache
def compiled(target: str) -> SharedSearch:
    try:
        search = compile_search("T", find_target(target))
    except EngineUnavailable as error:
        pytest.skip(str(error))
    assert isinstance(search, SharedSearch)
    return search


@pytest.fixture(params=["host", "avx512", "avx2", "sse2"])
def packed(request: pytest.FixtureRequest) -> PackedLanes:
    """Side by side in vectors of every length."""
    return PackedLanes(compiled(request.param))


def space_of(number: int, prefix: bytes = PREFIX) -> NonceSpace:
    return lay_out(prefix, f"{number:014d}", 12, 137)


def is_hit(search: Search, counter: int) -> bool:
    return hashlib.sha256(search.space.message(counter)).hexdigest().startswith("0" * search.zeros)


def answers(packed: PackedLanes, searches: list[Search]) -> dict[int, Found]:
    """The last word on each search; each must be over once."""
    over: dict[int, Found] = {}
    for founds in packed.search(enumerate(searches)):
        for found in founds:
            search = searches[found.index]
            assert found.index not in over
            if found.hit is not None or found.done == search.count:
                over[found.index] = found
            # what is done holds no hit but the one reported
            done = range(search.start, search.start + found.done)
            assert {counter for counter in done if is_hit(search, counter)} <= {found.hit}
    assert len(over) == len(searches)
    return over


@pytest.mark.parametrize("number", [1, 2, 7, 50, 130])
def test_searches_few_or_many_end_with_a_hit_each(packed: PackedLanes, number: int) -> None:
    searches = [Search(space_of(n), 0, 8 * 16**2, 2) for n in range(number)]
    for index, found in answers(packed, searches).items():
        assert found.hit is not None
        assert found.hit < 8 * 16**2
        assert is_hit(searches[index], found.hit)


@pytest.mark.parametrize(
    ("start", "count"),
    [(0, 1), (9_999, 1), (9_999, 2), (123, 25_000), (9_998, 10_003), (10**8 - 10_001, 20_002), (10**12 - 3, 3)],
)
def test_ranges_without_a_hit_are_searched_to_their_last_counter_wherever_they_begin_and_end(
    packed: PackedLanes, start: int, count: int
) -> None:
    searches = (Search(space_of(n), start, count, 4) for n in count_up())
    without = list(islice((s for s in searches if not any(is_hit(s, c) for c in range(start, start + count))), 3))
    for index, found in answers(packed, without).items():
        assert found == Found(index, count, None)


def test_the_only_hit_of_a_range_is_found_at_its_first_and_at_its_last_counter(packed: PackedLanes) -> None:
    probe = Search(space_of(0), 0, 10**6, 4)
    hit = next(counter for counter in range(30_000, 10**6) if is_hit(probe, counter))
    searches = [Search(probe.space, hit, 5, 4), Search(probe.space, hit - 5, 6, 4), Search(probe.space, hit - 5, 5, 4)]
    found = answers(packed, searches)
    assert [found[n].hit for n in range(3)] == [hit, hit, None]


def test_searches_of_several_difficulties_and_message_lengths_are_not_mixed_up(packed: PackedLanes) -> None:
    searches = [
        Search(space_of(length, b"p" * length), 3 * length, 8 * 16**zeros, zeros)
        for length in (1, 20, 50, 64, 90, 128)
        for zeros in (1, 2, 3)
    ]
    for index, found in answers(packed, searches).items():
        if found.hit is not None:
            assert is_hit(searches[index], found.hit)


def test_other_shapes_and_more_zeros_are_refused() -> None:
    lanes = PackedLanes(compiled("host"))
    for search in (Search(NonceSpace(PREFIX, "1", 12), 0, 10, 1), Search(space_of(1), 0, 10, MOST_ZEROS + 1)):
        with pytest.raises(InvalidInput, match="not of shape T and at most"):
            list(lanes.search([(0, search)]))


@pytest.mark.parametrize("target", ["host", "hashlib"])
def test_every_space_is_searched_by_the_code_there_is(target: str) -> None:
    searcher = Searcher(target)
    for shape in ("T", "S12", "S13"):
        searcher.wait_for(shape)
    spaces = [lay_out(PREFIX, f"{n:014d}", 12, digits) for n in range(10) for digits in (137, 35, 32, 26)]
    searches = [Search(space, 17, 2000, 2) for space in spaces]
    over = {}
    for founds in FirstHits(searcher).search(list(enumerate(searches))):
        for found in founds:
            if found.hit is not None or found.done == 2000:
                over[found.index] = found
    for index, search in enumerate(searches):
        found = over[index]
        hits = [counter for counter in range(17, 2017) if is_hit(search, counter)]
        assert (found.hit in hits) if hits else found == Found(index, 2000, None)
