"""Medians, ratios and percentiles of measurements."""

from __future__ import annotations

import pytest

from bench.samples import median, paired_ratio, percentile, spread


def test_the_median_is_the_middle_value_and_not_the_mean() -> None:
    assert median([1.0, 100.0, 2.0]) == 2.0


def test_the_median_of_two_values_lies_between_them() -> None:
    assert median([1.0, 2.0]) == 1.5


def test_the_spread_is_told_in_medians() -> None:
    assert spread([9.0, 10.0, 12.0]) == pytest.approx(0.3)


def test_a_slow_round_does_not_change_a_ratio_taken_within_rounds() -> None:
    # the machine was half as fast in rounds 2 and 3 for one, and in none for the median of the other
    assert paired_ratio([30.0, 15.0, 16.0], [10.0, 5.0, 4.0]) == pytest.approx(3.0)
    assert median([30.0, 15.0, 16.0]) / median([10.0, 5.0, 4.0]) != pytest.approx(3.0)


def test_a_ratio_needs_as_many_rounds_of_both() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_ratio([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("percent", "value"), [(99, 99), (99.5, 100), (100, 100), (50, 50), (0.5, 1)])
def test_a_percentile_of_a_hundred_values_is_one_of_them(percent: float, value: int) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], percent) == value


def test_the_99th_percentile_of_few_values_is_the_largest() -> None:
    assert percentile([3.0, 1.0, 2.0], 99) == 3.0


@pytest.mark.parametrize("percent", [0, -1, 101])
def test_a_percentile_outside_of_0_to_100_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="percent"):
        percentile([1.0], percent)


@pytest.mark.parametrize("statistic", [median, spread, lambda values: percentile(values, 99)])
def test_nothing_measured_has_no_statistic(statistic) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="no value"):
        statistic([])
