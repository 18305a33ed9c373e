"""Ranges searched by a compiled kernel give hashlib's hits, wherever they start and end."""

from __future__ import annotations

import hashlib
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu_fallback import kernel_search
from cpu_fallback.jit import find_target
from cpu_fallback.kernel_search import KernelSearch, SharedSearch, ShortSearch, compile_search
from cpu_fallback.search import search_range
from cpu_fallback.searcher import SHAPES, shape_of
from hashfleet.errors import EngineUnavailable, InvalidInput, SelfTestFailed
from hashfleet.message import NonceSpace, lay_out

NAMES = ("host", "avx512", "avx2", "sse2")
SPACES = {
    "T": lay_out(b"5-28BUILD679575NONCE", "417203000017", 12, 200),
    "S12": lay_out(b"5-28BUILD679575NONCE", "417203000017", 12, 35),
    "S13": NonceSpace(b"5-28BUILD679575NONCE", "00000417203000017", 18),
}


@cache
def opened(shape: str, name: str) -> KernelSearch:
    try:
        return compile_search(shape, find_target(name))
    except EngineUnavailable as error:
        pytest.skip(str(error))


def by_hashlib(space: NonceSpace, start: int, count: int, zeros: int) -> tuple[int, ...]:
    wanted = []
    for counter in range(start, start + count):
        if hashlib.sha256(space.message(counter)).hexdigest()[:zeros] == "0" * zeros:
            wanted.append(counter)
    return tuple(wanted)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("start", "count"),
    [
        (0, 1),
        (9_999, 2),
        (4_711, 40_000),
        (10**8 - 12_345, 24_690),
        (10**7 - 1_005, 2_010),
        (10**12 - 15_000, 15_000),
    ],
)
def test_a_range_gives_the_hits_of_hashlib_across_lanes_and_high_digits(
    shape: str, name: str, start: int, count: int
) -> None:
    assert opened(shape, name).search(SPACES[shape], start, count, 2) == by_hashlib(SPACES[shape], start, count, 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_hit_is_lost_or_doubled_where_every_sixteenth_nonce_is_one(shape: str) -> None:
    start, count = 95_000, 200_000

    assert opened(shape, "host").search(SPACES[shape], start, count, 1) == by_hashlib(SPACES[shape], start, count, 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("digits", [4, 5, 6, 7, 8, 9])
def test_few_high_digits_share_their_word_with_the_constant(shape: str, digits: int) -> None:
    if shape == "T" and digits < 8:
        pytest.skip("T has eight counter digits or more")
    end = {"T": 64 - digits + 4, "S12": 52 - digits, "S13": 55 - digits}[shape]
    space = NonceSpace(b"9-7@2-11RAID1283900NONCE", "7" * (end - 24), digits, 48 if shape == "T" else 0)
    assert shape_of(space) == shape
    start = (10**digits - 1) // 3
    count = min(12_345, 10**digits - start)

    assert opened(shape, "host").search(space, start, count, 2) == by_hashlib(space, start, count, 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_hits_beyond_the_first_word_of_the_digest_are_hashlibs_to_decide(shape: str) -> None:
    rare = {"T": 209_682_314, "S12": 8_271_841_307, "S13": 5_533_414_679}[shape]
    space = SPACES[shape]
    search = opened(shape, "host").search

    assert hashlib.sha256(space.message(rare)).hexdigest()[:9].count("0") == 8
    assert [search(space, rare - 5_000, 10_000, zeros) for zeros in (8, 9, 64)] == [(rare,), (), ()]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_kernel_hashes_whole_groups_but_no_more(shape: str) -> None:
    search = opened(shape, "host")

    assert search.hashes(0, 640_000 * 100) <= 640_000 * 103  # S at 55 has 1000 lanes: groups of 32 make 1024 of them
    assert search.hashes(5, 1) <= 64
    assert search.hashes(77, 10**6) >= 10**6


def test_tables_of_many_message_lengths_are_not_kept_for_ever() -> None:
    search = opened("T", "host")
    assert isinstance(search, SharedSearch)
    for blocks in range(1, 9):
        space = lay_out(b"x" * (64 * blocks - 20), "", 12, 200)
        assert search.search(space, 50_000, 3_000, 2) == by_hashlib(space, 50_000, 3_000, 2)

    assert len(search._tables) <= kernel_search._KEPT_TABLES


def test_a_space_of_another_shape_is_refused() -> None:
    plain = NonceSpace(b"5-28BUILD679575NONCE", "", 12)
    for shape in SHAPES:
        with pytest.raises(InvalidInput, match="does not have shape"):
            opened(shape, "host").search(plain, 0, 1, 1)


@pytest.mark.parametrize(("shape", "kind"), [("T", SharedSearch), ("S12", ShortSearch), ("S13", ShortSearch)])
def test_a_kernel_that_is_wrong_is_not_used(
    shape: str, kind: type[KernelSearch], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = kind.search

    def misses_some(self: KernelSearch, space: NonceSpace, start: int, count: int, zeros: int) -> tuple[int, ...]:
        return right(self, space, start, count, zeros)[::2]

    monkeypatch.setattr(kind, "search", misses_some)
    with pytest.raises(SelfTestFailed, match=f"shape {shape} does not compute SHA-256"):
        compile_search(shape, find_target("host"))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    name=st.sampled_from(NAMES),
    prefix=st.binary(max_size=150),
    extra=st.text("0123456789", max_size=30),
    digits=st.integers(8, 18),
    where=st.floats(0, 1),
    count=st.integers(1, 3_000),
    zeros=st.integers(1, 3),
)
def test_any_space_of_a_shape_gives_the_hits_of_hashlib(
    shape: str, name: str, prefix: bytes, extra: str, digits: int, where: float, count: int, zeros: int
) -> None:
    before = len(prefix) + len(extra) + digits - (4 if shape == "T" else 0)
    padding = "0" * (({"T": 0, "S12": 52, "S13": 55}[shape] - before) % 64)
    space = NonceSpace(prefix, padding + extra, digits, 48 if shape == "T" else 0)
    if shape_of(space) != shape:
        return  # a block before the counter's is missing, or the counter lies across two
    start = min(int(where * (space.capacity - count)), space.capacity - count)
    wanted = search_range(space.constant, digits, start, count, zeros, space.filler_digits)

    assert opened(shape, name).search(space, start, count, zeros) == wanted
