"""Estimates of the height, for display."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.chain.height_estimate import estimated_height


def test_it_counts_whole_blocks_since_the_last_one_was_seen() -> None:
    assert estimated_height(100, 1000.0, 6.0, 1005.9) == 100
    assert estimated_height(100, 1000.0, 6.0, 1018.0) == 103


def test_without_a_block_or_a_pace_nothing_is_estimated() -> None:
    assert estimated_height(0, 0.0, 6.0, 1e9) == 0
    assert estimated_height(100, 1000.0, 0.0, 2000.0) == 100


@given(st.integers(0, 2**31 - 1), st.floats(0, 2e9), st.floats(0, 3600), st.floats(0, 2e9))
def test_it_is_never_below_what_is_committed(height: int, seen_at: float, pace: float, now: float) -> None:
    assert height <= estimated_height(height, seen_at, pace, now) <= 2**31 - 1
