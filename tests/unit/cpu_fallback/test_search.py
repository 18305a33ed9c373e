"""The hash loop of one lane."""

from __future__ import annotations

import hashlib

import pytest

from cpu_fallback.search import search_range


@pytest.mark.parametrize(
    ("digits", "start", "count"),
    [(1, 0, 10), (3, 0, 1000), (4, 0, 10_000), (5, 9_950, 100), (12, 19_999, 10_002), (18, 10**18 - 300, 300)],
)
def test_the_hits_are_those_of_hashlib_across_the_edges_of_the_digit_table(digits: int, start: int, count: int) -> None:
    wanted = tuple(
        counter
        for counter in range(start, start + count)
        if hashlib.sha256(b"5-30MINE7NONCE" + str(counter).zfill(digits).encode()).hexdigest().startswith("0")
    )

    assert wanted
    assert search_range(b"5-30MINE7NONCE", digits, start, count, 1) == wanted


def test_only_a_digest_of_zeros_has_64_of_them() -> None:
    assert search_range(b"5-30MINE7NONCE", 4, 0, 10_000, 64) == ()
