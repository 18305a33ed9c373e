"""Statistics of repeated measurements on a machine that others use too: medians, and ratios within a round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def median(values: Sequence[float]) -> float:
    """The middle value; ValueError if there is none."""
    return statistics.median(_some(values))


def spread(values: Sequence[float]) -> float:
    """(largest - smallest) / median: how far single rounds lie apart."""
    return (max(_some(values)) - min(values)) / median(values)


def paired_ratio(values: Sequence[float], base: Sequence[float]) -> float:
    """Median of the ratios round by round.

    Both were measured in turns, so what slowed the machine in one round slowed both; the ratio of the medians would
    compare a quiet round of one with a busy round of the other.
    """
    return median([value / other for value, other in zip(values, base, strict=True)])


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank: the smallest value that at least `percent` % of the values do not exceed. Never interpolated."""
    if not 0 < percent <= 100:
        raise ValueError(f"percent is {percent}; it should be above 0 and at most 100")
    ranked = sorted(_some(values))
    return ranked[math.ceil(percent / 100 * len(ranked)) - 1]


def _some(values: Sequence[float]) -> Sequence[float]:
    if not values:
        raise ValueError("there is no value; at least one is needed")
    return values
