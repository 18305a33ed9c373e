"""When hashing pays and when a proof is to be expected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.schedule import Pace, expected_seconds, start_height, zeros_needed
from hashfleet.action import Action, Work
from hashfleet.difficulty import MIN_AGE, expected_hashes, first_age

ranges = st.integers(min_value=2, max_value=100_000)
rates = st.floats(min_value=1e3, max_value=1e12)


def work(difficulty_range: int) -> Work:
    return Work(Action.BUILD, "5-28", anchor=1000, range=difficulty_range)


@given(ranges, rates, st.integers(0, 200_000))
def test_hashing_never_starts_in_the_past_nor_before_age_10(difficulty_range: int, rate: float, ahead: int) -> None:
    start = start_height(work(difficulty_range), 1000 + ahead, Pace(rate, 5.0))
    assert start >= 1000 + max(ahead, MIN_AGE)


@given(ranges, rates)
def test_more_hash_power_never_starts_later(difficulty_range: int, rate: float) -> None:
    slow, fast = (start_height(work(difficulty_range), 1000, Pace(r, 5.0)) for r in (rate, 4 * rate))
    assert fast <= slow


@given(ranges, rates)
def test_a_start_once_chosen_is_chosen_again_when_it_comes(difficulty_range: int, rate: float) -> None:
    start = start_height(work(difficulty_range), 1000, Pace(rate, 5.0))
    assert start_height(work(difficulty_range), start, Pace(rate, 5.0)) == start


def test_difficulty_one_is_always_worth_hashing() -> None:
    assert start_height(work(200), 1300, Pace(1.0, 5.0)) == 1300


def test_hashing_starts_where_the_solve_beats_the_wait() -> None:
    """Range 200 at 1 MH/s and 5 s blocks: 16^6 takes 17 s, its span of 11 blocks 55 s; 16^7 takes 268 s, 55 s."""
    start = start_height(work(200), 1010, Pace(1e6, 5.0))
    assert start == 1000 + first_age(6, 200) - 1
    assert zeros_needed(work(200), start) == 6


def test_without_a_rate_nothing_is_expected() -> None:
    assert expected_seconds(work(200), 1150, Pace(0.0, 5.0)) is None


def test_at_constant_difficulty_the_mean_is_expected() -> None:
    assert expected_seconds(work(200), 1300, Pace(4.0, 5.0)) == pytest.approx(expected_hashes(1) / 4.0)


@given(ranges, rates, st.integers(10, 100_000))
def test_falling_difficulty_never_makes_it_later_than_hashing_at_todays(
    difficulty_range: int, rate: float, age: int
) -> None:
    pace = Pace(rate, 5.0)
    seconds = expected_seconds(work(difficulty_range), 1000 + age, pace)
    assert seconds is not None
    today = expected_hashes(zeros_needed(work(difficulty_range), 1000 + age)) / rate
    assert seconds <= today * (1 + 1e-9)
