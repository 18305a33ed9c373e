"""Age to difficulty is bit-exact with the chain, and `safe` and `first_age` can be relied on for every decision."""

from __future__ import annotations

from math import gcd
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashfleet.action import MAX_RANGE
from hashfleet.difficulty import (
    GO_ASKS_ONE_MORE,
    MAX_DIFFICULTY,
    Rule,
    difficulty,
    expected_hashes,
    first_age,
    safe,
)

RANGES = st.one_of(st.integers(2, 5_000), st.integers(2, MAX_RANGE))
AGES = st.one_of(st.integers(0, 5_000), st.integers(0, 2 * MAX_RANGE))


def ties(most: int) -> list[tuple[int, int]]:
    """Every (range, age) with range**k == age**63 for a 0 < k < 63, range at most `most`.

    With g = gcd(k, 63) such a pair is (t ** (63 / g), t ** (k / g)) for a whole t.
    """
    found = set()
    for k in range(1, 63):
        root, power = 63 // gcd(k, 63), k // gcd(k, 63)
        t = 2
        while t**root <= most:
            found.add((t**root, t**power))
            t += 1
    return sorted(found)


def test_every_row_of_the_vectors_is_exact_under_both_rules(vectors: dict[str, Any]) -> None:
    rows = vectors["difficulty"]
    assert len(rows) == 300
    wrong = [
        row
        for row in rows
        if difficulty(row["age"], row["range"], Rule.FLOAT) != row["v016_to_v021"]
        or difficulty(row["age"], row["range"], Rule.EXACT) != row["v022_exact"]
    ]
    assert wrong == []


def test_safe_is_enough_under_both_rules_for_every_row_of_the_vectors(vectors: dict[str, Any]) -> None:
    rows = vectors["difficulty"]
    assert len(rows) == 300
    for row in rows:
        assert safe(row["age"], row["range"]) >= max(row["v016_to_v021"], row["v022_exact"])


def test_every_threshold_of_the_vectors_is_the_first_age_under_both_rules(vectors: dict[str, Any]) -> None:
    checked = 0
    for range_text, ages in vectors["thresholds_first_age_for_difficulty"].items():
        for zeros_text, age in ages.items():
            zeros, difficulty_range = int(zeros_text), int(range_text)
            assert first_age(zeros, difficulty_range) == age
            for rule in Rule:
                assert difficulty(age, difficulty_range, rule) <= zeros < difficulty(age - 1, difficulty_range, rule)
            checked += 1
    assert checked == 180


def test_every_proof_of_the_vectors_ripens_at_its_first_height(vectors: dict[str, Any]) -> None:
    rows = vectors["proofs"]
    assert len(rows) == 13
    for row in rows:
        age, difficulty_range = row["min_age"], row["range"]
        assert first_age(row["leading_zero_nibbles"], difficulty_range) == age
        assert row["block_start"] + age == row["min_height"]
        for rule in Rule:
            assert difficulty(age, difficulty_range, rule) == row["difficulty_at_min_age"]
            assert difficulty(age - 1, difficulty_range, rule) == row["difficulty_one_block_earlier"]


def test_the_two_rules_differ_at_ties_only_and_safe_asks_the_larger_at_each() -> None:
    every_tie = ties(3_000_000)
    assert len(every_tie) == 364
    assert set(every_tie) >= GO_ASKS_ONE_MORE
    for difficulty_range, age in every_tie:
        exact = difficulty(age, difficulty_range, Rule.EXACT)
        go = difficulty(age, difficulty_range, Rule.FLOAT)
        assert go - exact == ((difficulty_range, age) in GO_ASKS_ONE_MORE)
        assert safe(age, difficulty_range) == exact + 1


def test_go_rounds_down_at_the_ties_where_the_vectors_say_so(vectors: dict[str, Any]) -> None:
    measured = {
        (row["range"], row["age"])
        for row in vectors["difficulty"]
        if row["range"] >= 2 and row["v016_to_v021"] != row["v022_exact"]
    }
    assert len(measured) == 21
    assert measured <= GO_ASKS_ONE_MORE


@pytest.mark.parametrize("age", [0, 1])
@pytest.mark.parametrize("difficulty_range", [0, 1, 2, 25, 28_000])
def test_no_digest_is_good_enough_in_the_first_two_blocks_but_all_zeros(age: int, difficulty_range: int) -> None:
    assert all(difficulty(age, difficulty_range, rule) == MAX_DIFFICULTY for rule in Rule)


@pytest.mark.parametrize("difficulty_range", [2, 25, 125, 700, 28_000, 2_500_000, MAX_RANGE])
def test_one_zero_is_asked_from_the_range_on_and_never_none(difficulty_range: int) -> None:
    for age in (difficulty_range, difficulty_range + 1, 10 * difficulty_range, 2**64 - 1):
        assert safe(age, difficulty_range) == 1
        assert all(difficulty(age, difficulty_range, rule) == 1 for rule in Rule)


@given(age=AGES, difficulty_range=RANGES)
def test_safe_is_never_below_either_rule_and_at_most_one_above(age: int, difficulty_range: int) -> None:
    asked = max(difficulty(age, difficulty_range, rule) for rule in Rule)
    assert asked <= safe(age, difficulty_range) <= asked + 1


@given(age=AGES, later=st.integers(0, MAX_RANGE), difficulty_range=RANGES)
def test_safe_never_rises_as_time_passes(age: int, later: int, difficulty_range: int) -> None:
    assert safe(age + later, difficulty_range) <= safe(age, difficulty_range)


@given(zeros=st.integers(1, MAX_DIFFICULTY - 1), difficulty_range=RANGES)
def test_first_age_is_the_first_at_which_that_many_zeros_are_enough(zeros: int, difficulty_range: int) -> None:
    age = first_age(zeros, difficulty_range)
    assert safe(age, difficulty_range) <= zeros < safe(age - 1, difficulty_range)
    assert age <= max(2, difficulty_range)


@given(age=st.one_of(st.integers(2, 5_000), st.integers(2, MAX_RANGE)), difficulty_range=RANGES)
def test_what_is_safe_at_an_age_was_not_asked_for_later_than_that(age: int, difficulty_range: int) -> None:
    assert first_age(safe(age, difficulty_range), difficulty_range) <= age


@pytest.mark.parametrize("difficulty_range", [2, 3, 8, 25, 27, 125, 200, 700])
def test_first_age_is_what_a_walk_over_every_age_finds(difficulty_range: int) -> None:
    walked: dict[int, int] = {}
    for age in range(difficulty_range + 2):
        for zeros in range(safe(age, difficulty_range), MAX_DIFFICULTY + 1):
            walked.setdefault(zeros, age)
    assert walked == {zeros: first_age(zeros, difficulty_range) for zeros in range(1, MAX_DIFFICULTY + 1)}


def test_all_zeros_are_enough_from_the_anchor_on() -> None:
    assert first_age(MAX_DIFFICULTY, 700) == 0


@pytest.mark.parametrize("zeros", [0, -1, MAX_DIFFICULTY + 1])
def test_a_number_of_zeros_that_no_digest_has_is_refused(zeros: int) -> None:
    with pytest.raises(ValueError, match=f"zeros is {zeros}, not 1 to 64"):
        first_age(zeros, 700)


def test_each_zero_more_costs_sixteen_times_the_hashes() -> None:
    assert [expected_hashes(zeros) for zeros in (1, 2, 8)] == [16, 256, 2**32]
    assert all(expected_hashes(z + 1) == 16 * expected_hashes(z) for z in range(1, MAX_DIFFICULTY))
