"""The balanced start: the age that minimises expected finish + kappa * expected fleet time.

With H(s) the expected blocks of hashing from age s on (`survival.hashing_blocks`), a job that starts to hash at s
finishes at s + H(s) and takes H(s) of the fleet, so the cost, in blocks, is

    C(s) = s + (1 + kappa) * H(s)                  its slope: 1 - (1 + kappa) * sum over the later falls of f_i(s)
                                                   f_i(s) = exp(-n / 16^D before) - exp(-n / 16^D after)
                                                   n: hashes done from s until that fall

C has a minimum shortly before a fall (hashes done before it count fully after it), and often a second one where a step
begins, so it is not enough to follow the slope. But each f_i rises once and falls once, which bounds the slope between
two ages; where the bounds leave its sign open, the interval is halved. What is found is exact, whatever the range.

C does not depend on the present age: the best start from now on is the least C among the ages to come. So the minima
are found once for a schedule and a pace, and kept.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from coordinator.core.survival import falls, hashing_blocks

#: A fall at which a hash in hand becomes valid: P(unfinished) drops to 0. Finite, so that times 0 it stays 0.
_AT_ONCE = 1e300
#: Terms of the slope are left out where both exponents lie below or both beyond these: they cancel, or are nothing.
_NEGLIGIBLE, _OVER = 1e-18, 45.0


@dataclass(frozen=True, slots=True)
class Balance:
    """What is weighed: everything but the present age. All ages in blocks since the anchor."""

    difficulty_range: int
    #: Hashes per block.
    power: float
    #: 1 + kappa: what a block of hashing costs beside a block of waiting, its own waiting included.
    weight: float
    #: Starts are looked for from here on.
    first: int
    #: The latest start. At `end`, if that is given, starting means not to hash at all.
    last: int
    #: Age from which a hash in hand is good enough; infinity if there is none.
    end: float = math.inf

    def cost(self, start: int) -> float:
        """C(start), in blocks."""
        return start + self.weight * hashing_blocks(self.difficulty_range, start, self.power, self.end)


def best_start(balance: Balance, age: int) -> int:
    """The age in max(age, first) to max(age, last) with the least cost; of equals the earliest."""
    age = max(age, balance.first)
    if age >= balance.last:
        return age
    ages, costs = _minima(balance)
    index = bisect_left(ages, age)
    if ages[index] == age or balance.cost(age) <= costs[index]:
        return age
    return ages[index]


@lru_cache(maxsize=8192)
def _minima(balance: Balance) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The ages that are cheaper than every later one, of those where C can have a minimum, and their costs."""
    ages: list[int] = []
    costs: list[float] = []
    for age in reversed(_candidates(balance)):
        cost = balance.cost(age)
        if not costs or cost <= costs[-1]:
            ages.append(age)
            costs.append(cost)
    return tuple(reversed(ages)), tuple(reversed(costs))


def _candidates(balance: Balance) -> list[int]:
    """Ages, ascending, among which are all minima of C from first to last: C is monotone between any two of them."""
    falls_ahead = _falls_ahead(balance)
    marks = [fall.age for fall in falls_ahead if fall.age < balance.last]
    edges = [balance.first, *(int(age) for age in marks), balance.last]
    found = set(edges)
    intervals = list(pairwise(edges))
    while intervals:
        left, right = intervals.pop()
        if right - left > 1 and _may_turn(falls_ahead, balance.weight, left, right):
            middle = (left + right) // 2
            found.add(middle)
            intervals += ((left, middle), (middle, right))
    return sorted(found)


@dataclass(frozen=True, slots=True)
class _Fall:
    """A fall of the difficulty, or the moment a hash in hand becomes valid."""

    age: float
    #: Rate of P(unfinished) per block hashed, before it and after it.
    slow: float
    fast: float
    #: Blocks before it at which its term f is largest.
    peak: float

    def term(self, blocks: float) -> float:
        """f, for a start that many blocks before it."""
        return math.exp(-self.slow * blocks) - math.exp(-self.fast * blocks)


def _falls_ahead(balance: Balance) -> list[_Fall]:
    ages, zeros = falls(balance.difficulty_range)
    rates = [balance.power / 16.0**each for each in zeros]
    made = []
    for age, slow, fast in zip((*ages[1:], balance.end), rates, (*rates[1:], _AT_ONCE), strict=True):
        if age >= balance.end:
            fast = _AT_ONCE
        if balance.first < age < math.inf:
            made.append(_Fall(min(age, balance.end), slow, fast, (math.log(fast) - math.log(slow)) / (fast - slow)))
        if age >= balance.end:
            break
    return made


def _may_turn(falls_ahead: list[_Fall], weight: float, left: int, right: int) -> bool:
    """Whether C may both rise and fall between left and right, two ages between which no fall lies."""
    least = most = 0.0
    for fall in falls_ahead:
        if fall.age < right or fall.fast * (fall.age - left) < _NEGLIGIBLE:
            continue
        far, near = fall.age - left, fall.age - right
        if fall.slow * near > _OVER:
            break
        at_far, at_near = fall.term(far), fall.term(near)
        least += min(at_far, at_near)
        most += fall.term(fall.peak) if near < fall.peak < far else max(at_far, at_near)
    return weight * least < 1 < weight * most
