"""How likely a job is still unfinished: the one formula behind ETAs, progress and the start decision.

Hashes that fall short of today's difficulty are kept, so a job is finished as soon as its best hash so far has as many
zeros as the next block asks. A hash has D zeros with probability 16^-D, hence

    P(unfinished at age t) = exp(-N(t) * 16^-D(t))        N(t): hashes done by then, D(t): zeros asked then

and 0 from the age on at which a hash in hand is good enough. D falls in steps, so the curve is an exponential within a
step and drops at each fall, and every integral over it has a closed form.

All times here are ages: blocks since the anchor, at a pace of `power` hashes per block. Heights and seconds are
`schedule`'s.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache

from hashfleet.difficulty import MAX_DIFFICULTY, first_age

#: exp(-_OVER) is nothing beside 1.
_OVER = 60.0


@lru_cache(maxsize=4096)
def falls(difficulty_range: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The steps of the schedule: the committed ages at which they begin, from 0, and the zeros then asked."""
    ages: list[int] = []
    zeros: list[int] = []
    for wanted in range(MAX_DIFFICULTY, 0, -1):
        begins = max(0, first_age(wanted, difficulty_range) - 1)
        if ages and ages[-1] == begins:
            zeros[-1] = wanted
        else:
            ages.append(begins)
            zeros.append(wanted)
    return tuple(ages), tuple(zeros)


def steps(difficulty_range: int, age: int, end: float = math.inf) -> Iterator[tuple[float, float, int]]:
    """(from, to, zeros) of each step from `age` to `end`; the last one of an endless schedule ends at infinity."""
    ages, zeros = falls(difficulty_range)
    index = bisect_right(ages, age) - 1
    begins = float(age)
    while begins < end:
        last = index + 1 == len(ages)
        ends = end if last else min(end, ages[index + 1])
        yield begins, ends, zeros[index]
        begins, index = ends, index + 1


def unfinished(difficulty_range: int, start: int, power: float, at: float, end: float = math.inf) -> float:
    """Probability that hashing from age `start` has not finished the job at age `at`.

    `end` is the age from which a hash in hand is good enough.
    """
    if at >= end:
        return 0.0
    ages, zeros = falls(difficulty_range)
    hashes = power * max(0.0, at - start)
    return math.exp(-hashes / 16.0 ** zeros[bisect_right(ages, at) - 1])


def hashing_blocks(difficulty_range: int, start: int, power: float, end: float = math.inf) -> float:
    """Expected blocks of hashing until the job is finished, if it starts at age `start`.

    The integral of `unfinished` from there on. Without power it is what is left until `end`.
    """
    total = 0.0
    for begins, ends, zeros in steps(difficulty_range, start, end):
        mean = 16.0**zeros / power if power else math.inf
        if mean == math.inf:
            total += ends - begins
        elif begins - start > _OVER * mean:
            break
        else:
            total += mean * math.exp(-(begins - start) / mean) * -math.expm1(-(ends - begins) / mean)
    return total


def quantile(share: float, difficulty_range: int, age: int, start: int, power: float, end: float = math.inf) -> float:
    """The age, `age` or later, by which the job is finished with probability `share` (0 to below 1).

    Hashing starts at age `start`; infinity if it never gets that far.
    """
    needed = -math.log1p(-share)
    for begins, ends, zeros in steps(difficulty_range, age, end):
        reached = max(begins, start + needed * 16.0**zeros / power) if power else math.inf
        if reached < ends:
            return reached
    return max(float(age), end)
