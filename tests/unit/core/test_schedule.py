"""When hashing starts: each mode by its own rule, the balanced one against every height there is."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from coordinator.core.balance import best_start
from coordinator.core.schedule import (
    ASSUMED_RATE,
    Cause,
    Pace,
    balance,
    deadline_chance,
    finish,
    start,
    start_height,
    valid_height,
    zeros_needed,
)
from coordinator.core.survival import unfinished
from hashfleet.action import Action, Work
from hashfleet.difficulty import MIN_AGE, expected_hashes
from hashfleet.job_request import JobRequest, StartMode

ANCHOR = 1000
ranges = st.integers(min_value=2, max_value=30_000)
rates = st.floats(min_value=1e3, max_value=1e12)
ages = st.integers(0, 40_000)
modes = st.sampled_from(StartMode)
rivals = st.integers(0, 5000)


def work(difficulty_range: int) -> Work:
    return Work(Action.BUILD, "5-28", anchor=ANCHOR, range=difficulty_range)


def request(mode: StartMode = StartMode.BALANCED, **asked: Any) -> JobRequest:
    return JobRequest(Action.BUILD, "5-28", "1-11", start_mode=mode, **asked)


# ---- the balanced start is the cheapest one ----------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 1500),
    st.floats(0, 12),
    st.sampled_from([2.0, 3.0, 10.0, 300.0]),
    st.integers(0, 10),
    st.lists(st.integers(0, 1600), min_size=1, max_size=5),
)
def test_the_balanced_start_is_the_cheapest_of_all_heights(
    difficulty_range: int, magnitude: float, weight: float, best: int, looked_at: list[int]
) -> None:
    weighed = balance(difficulty_range, 10**magnitude, weight, best)
    costs = [weighed.cost(age) for age in range(weighed.last + 1)]
    for now in [0, *looked_at]:
        earliest = max(now, MIN_AGE)
        if earliest > weighed.last:
            assert best_start(weighed, now) == earliest
        else:
            chosen = best_start(weighed, now)
            assert earliest <= chosen <= weighed.last
            assert costs[chosen] <= min(costs[earliest:]) + 1e-9 * max(costs[earliest:])


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 60), st.floats(0, 7), st.integers(0, 6), st.integers(10, 60))
def test_the_cost_is_expected_finish_and_hashing_as_a_walk_in_small_steps_gives_them(
    difficulty_range: int, magnitude: float, best: int, first: int
) -> None:
    weighed = balance(difficulty_range, 10**magnitude, 5.0, best)
    assume(first <= weighed.last)
    parts, upto = 50, first + 300
    walked = sum(
        unfinished(difficulty_range, first, weighed.power, first + (part + 0.5) / parts, weighed.end) / parts
        for part in range((upto - first) * parts)
    )
    assume(unfinished(difficulty_range, first, weighed.power, upto, weighed.end) < 1e-9)
    assert weighed.cost(first) == pytest.approx(first + 5.0 * walked, rel=1e-3, abs=5.0 / parts)


@settings(max_examples=40, deadline=None)
@example(15, 13341884128.0, 0, 0)
@given(st.integers(2, 5000), st.floats(1e3, 1e11), rivals, st.integers(0, 5000))
def test_sharing_decisions_between_similar_paces_costs_next_to_nothing(
    difficulty_range: int, rate: float, others: int, age: int
) -> None:
    pace = Pace(rate, 5.0)
    exact = balance(difficulty_range, pace.power, 2.0 + others)
    chosen = start_height(request(), work(difficulty_range), ANCHOR + age, pace, rivals=others) - ANCHOR
    optimum = best_start(exact, age)
    # what is still to come, waiting and hashing, is at most 2 % more than with the exact figures; ranges that no chain
    # has, where all is over within a dozen blocks, may lose half a block: a start moves by whole ones
    slack = 0.5 if difficulty_range < 50 else 1e-6
    assert exact.cost(chosen) - age <= 1.02 * (exact.cost(optimum) - age) + slack


def test_hashing_starts_shortly_before_a_fall_because_what_is_hashed_before_it_counts_after_it() -> None:
    """One rival less or more does not matter; 3 MH/s, range 700: the start lies within its step, at no edge of it."""
    puzzle, pace = work(700), Pace(3e6, 5.3)
    starts = start_height(request(), puzzle, ANCHOR, pace)
    zeros = zeros_needed(puzzle, starts)
    assert valid_height(puzzle, zeros) < starts < valid_height(puzzle, zeros - 1)


# ---- what holds for every mode -----------------------------------------------------------------------------------


@given(ranges, rates, ages, modes, rivals, st.integers(0, 12))
def test_hashing_never_starts_in_the_past_nor_before_age_10(
    difficulty_range: int, rate: float, age: int, mode: StartMode, others: int, best: int
) -> None:
    chosen = start_height(
        request(mode), work(difficulty_range), ANCHOR + age, Pace(rate, 5.0), rivals=others, best=best
    )
    assert chosen >= ANCHOR + age
    if not best:
        assert chosen >= ANCHOR + MIN_AGE


@given(ranges, rates, ages, rivals, st.integers(0, 12))
def test_race_starts_no_later_than_balanced_and_balanced_no_later_than_economy(
    difficulty_range: int, rate: float, age: int, others: int, best: int
) -> None:
    race, balanced, economy = (
        start_height(request(mode), work(difficulty_range), ANCHOR + age, Pace(rate, 5.0), rivals=others, best=best)
        for mode in (StartMode.RACE, StartMode.BALANCED, StartMode.ECONOMY)
    )
    assert race <= balanced <= economy


@settings(deadline=None)
@given(ranges, rates, modes, rivals, st.integers(0, 12))
def test_a_start_once_chosen_is_chosen_again_when_it_comes(
    difficulty_range: int, rate: float, mode: StartMode, others: int, best: int
) -> None:
    pace, puzzle = Pace(rate, 5.0), work(difficulty_range)
    chosen = start_height(request(mode), puzzle, ANCHOR, pace, rivals=others, best=best)
    assert start_height(request(mode), puzzle, chosen, pace, rivals=others, best=best) == chosen


@given(ranges, st.integers(0, 40_000), rates, modes, rivals)
def test_the_quick_answer_is_the_thorough_one(
    difficulty_range: int, age: int, rate: float, mode: StartMode, others: int
) -> None:
    """`start_height` looks up what `start` decides."""
    asked = (request(mode), work(difficulty_range), ANCHOR + age, Pace(rate, 5.0))
    assert start_height(*asked, rivals=others) == start(*asked, rivals=others).height


def test_race_starts_at_once() -> None:
    assert start_height(request(StartMode.RACE), work(28_000), ANCHOR + 11, Pace(1.0, 5.0)) == ANCHOR + 11


@given(ranges, rates, ages)
def test_economy_starts_once_a_solve_takes_one_block(difficulty_range: int, rate: float, age: int) -> None:
    puzzle, height = work(difficulty_range), ANCHOR + age
    chosen = start_height(request(StartMode.ECONOMY), puzzle, height, Pace(rate, 5.0))

    def cheap(at: int) -> bool:
        return expected_hashes(zeros_needed(puzzle, at)) / rate <= 5.0 or zeros_needed(puzzle, at) == 1

    assert cheap(chosen)
    assert chosen in (height, ANCHOR + MIN_AGE) or not cheap(chosen - 1)


@given(ranges, rates, ages, st.integers(1, 12))
def test_economy_hashes_nothing_before_its_height_and_waits_for_a_hash_in_hand_that_is_valid_by_then(
    difficulty_range: int, rate: float, age: int, best: int
) -> None:
    puzzle, height, pace = work(difficulty_range), ANCHOR + age, Pace(rate, 5.0)
    assume(best < zeros_needed(puzzle, height))
    assume(valid_height(puzzle, best) >= ANCHOR + MIN_AGE)
    without = start_height(request(StartMode.ECONOMY), puzzle, height, pace)
    chosen = start(request(StartMode.ECONOMY), puzzle, height, pace, best=best)
    if valid_height(puzzle, best) <= without:
        assert (chosen.height, chosen.cause) == (valid_height(puzzle, best), Cause.BEST)
    else:
        assert without <= chosen.height <= valid_height(puzzle, best)


def test_economy_does_not_wait_hours_for_a_hash_in_hand_to_save_a_second_of_hashing() -> None:
    puzzle, pace = work(28_000), Pace(3e9, 5.3)
    begins = valid_height(puzzle, 8)
    assert valid_height(puzzle, 7) - begins > 1500
    assert start_height(request(StartMode.ECONOMY), puzzle, begins, pace, best=7) == begins


def test_balanced_waits_for_a_hash_in_hand_that_is_nearly_valid_and_hashes_on_if_that_is_far_off() -> None:
    puzzle, pace = work(5000), Pace(3e9, 5.3)
    valid = valid_height(puzzle, 8)
    assert start(request(), puzzle, valid - 1, pace, best=8).cause is Cause.BEST
    far = valid_height(puzzle, 9) + 5
    assert start(request(), puzzle, far, pace, best=5).height == far


def test_more_rivals_never_make_a_job_start_earlier() -> None:
    starts = [
        start_height(request(), work(14_000), ANCHOR, Pace(3e8, 5.3), rivals=n) for n in (0, 1, 3, 10, 100, 10**4)
    ]
    assert starts == sorted(starts)
    assert starts[0] < starts[-1]


def test_without_workers_one_core_is_assumed() -> None:
    waiting, assumed = (start_height(request(), work(700), ANCHOR, Pace(rate, 5.0)) for rate in (0.0, ASSUMED_RATE))
    assert waiting == assumed


def test_difficulty_one_is_always_worth_hashing() -> None:
    assert start_height(request(), work(200), ANCHOR + 300, Pace(1.0, 5.0), rivals=10**5) == ANCHOR + 300


# ---- overrides ---------------------------------------------------------------------------------------------------


@given(ranges, ages, rates, modes, st.integers(1, 64))
def test_a_start_difficulty_replaces_the_mode(
    difficulty_range: int, age: int, rate: float, mode: StartMode, zeros: int
) -> None:
    puzzle, height = work(difficulty_range), ANCHOR + age
    chosen = start(request(mode, start_difficulty=zeros), puzzle, height, Pace(rate, 5.0))
    assert chosen.height == max(height, ANCHOR + MIN_AGE, valid_height(puzzle, zeros))
    assert chosen.cause is Cause.START_DIFFICULTY


@given(st.integers(50, 30_000), rates, modes, st.integers(0, 20_000), st.integers(20, 20_000))
def test_a_deadline_is_met_with_90_percent_or_hashing_starts_at_once(
    difficulty_range: int, rate: float, mode: StartMode, age: int, ahead: int
) -> None:
    puzzle, height, pace = work(difficulty_range), ANCHOR + age, Pace(rate, 5.0)
    asked = request(mode, deadline_height=height + ahead)
    chosen = start(asked, puzzle, height, pace)
    plain = start(request(mode), puzzle, height, pace)
    assert chosen.height <= plain.height
    earliest = max(height, ANCHOR + MIN_AGE)
    chance = deadline_chance(asked, puzzle, chosen.height, pace)
    assert chance >= 0.9 * (1 - 1e-9) or chosen.height == earliest
    if chosen.cause is Cause.DEADLINE and chosen.height > earliest:
        assert deadline_chance(asked, puzzle, chosen.height + 1, pace) < 0.9  # no earlier than need be


@given(st.integers(50, 30_000), st.floats(1e4, 1e11), st.integers(0, 20_000), st.integers(20, 20_000))
def test_the_chance_of_a_deadline_is_the_etas(difficulty_range: int, rate: float, age: int, ahead: int) -> None:
    puzzle, height, pace = work(difficulty_range), ANCHOR + max(age, MIN_AGE), Pace(rate, 5.0)
    asked = request(deadline_height=height + ahead)
    eta = finish(puzzle, height, pace)
    assert eta is not None
    chance = deadline_chance(asked, puzzle, height, pace)
    if chance >= 0.9 * (1 + 1e-9):
        assert eta.block_90 <= height + ahead
    elif chance < 0.9 * (1 - 1e-9):
        assert eta.seconds_90 >= (ahead - 1) * 5.0 * (1 - 1e-9)


def test_a_hash_in_hand_that_will_be_valid_in_time_satisfies_the_deadline() -> None:
    puzzle = work(5000)
    asked = request(StartMode.ECONOMY, deadline_height=valid_height(puzzle, 7) + 1)
    assert deadline_chance(asked, puzzle, ANCHOR + 20, Pace(1e3, 5.0), best=7) == 1.0
    assert start(asked, puzzle, ANCHOR + 20, Pace(1e3, 5.0), best=7).height == valid_height(puzzle, 7)
    late = request(StartMode.ECONOMY, deadline_height=valid_height(puzzle, 7))
    assert deadline_chance(late, puzzle, ANCHOR + 20, Pace(1e3, 5.0), best=7) < 0.9


@given(ranges, ages, rates, modes, st.integers(1, 10**13))
def test_a_budget_holds_hashing_back_until_it_suffices(
    difficulty_range: int, age: int, rate: float, mode: StartMode, budget: int
) -> None:
    puzzle, height = work(difficulty_range), ANCHOR + age
    chosen = start(request(mode, max_hashes=budget), puzzle, height, Pace(rate, 5.0))
    plain = start(request(mode), puzzle, height, Pace(rate, 5.0))
    zeros = zeros_needed(puzzle, chosen.height)
    assert chosen.height >= plain.height
    assert zeros == 1 or expected_hashes(zeros) * math.log(10) <= budget
    if chosen.cause is Cause.BUDGET:
        assert expected_hashes(zeros_needed(puzzle, chosen.height - 1)) * math.log(10) > budget


def test_a_deadline_starts_no_earlier_than_the_budget_allows() -> None:
    """A deadline that asks for 16^9 hashes and a budget of 16^8: the budget's last hash falls to the deadline."""
    puzzle, pace = work(28_000), Pace(1e8, 5.0)
    asked = request(StartMode.ECONOMY, deadline_height=valid_height(puzzle, 9) + 1, max_hashes=16**8)
    chosen = start(asked, puzzle, ANCHOR + 20, pace)
    assert chosen.cause is Cause.DEADLINE
    assert 16**8 <= pace.power * (valid_height(puzzle, 9) - chosen.height) < 16**8 + pace.power
