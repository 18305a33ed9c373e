"""When a person is told that too many transactions are rejected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.submission.alarm import LEAST_ENDED, RAISED_ABOVE, WINDOW, WITHDRAWN_AT, alarm_sentence, alarmed


@pytest.mark.parametrize(("rejected", "expected"), [(4, False), (5, True)])
def test_the_alarm_is_raised_above_a_fifth_of_the_last_twenty(rejected: int, expected: bool) -> None:
    assert alarmed([True] * rejected + [False] * (WINDOW - rejected), before=False) is expected


@pytest.mark.parametrize(("rejected", "expected"), [(3, True), (2, False)])
def test_a_raised_alarm_is_withdrawn_at_a_tenth(rejected: int, expected: bool) -> None:
    assert alarmed([True] * rejected + [False] * (WINDOW - rejected), before=True) is expected


def test_only_the_last_twenty_count() -> None:
    assert not alarmed([True] * 100 + [False] * WINDOW, before=False)


@pytest.mark.parametrize("before", [False, True])
def test_a_few_transactions_say_nothing(before: bool) -> None:
    assert alarmed([True] * (LEAST_ENDED - 1), before=before) is before


@given(st.lists(st.booleans(), min_size=LEAST_ENDED, max_size=60))
def test_a_share_between_the_bounds_changes_nothing(rejected: list[bool]) -> None:
    last = rejected[-WINDOW:]
    share = sum(last) / len(last)
    raised, kept = alarmed(rejected, before=False), alarmed(rejected, before=True)
    assert raised <= kept
    assert (raised is kept) == (not WITHDRAWN_AT < share <= RAISED_ABOVE)


def test_the_sentence_says_how_many_and_why() -> None:
    told = alarm_sentence([True, False, True], "structs 1800: no")
    assert told == "2 of the last 3 transactions were rejected, the last one because structs 1800: no"
