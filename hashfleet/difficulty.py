"""Age to difficulty, bit-exact with the chain, and back.

Difficulty counts leading hex zeros. It is 64 at age 0 and 1 and falls along a logarithm to 1 at ``age == range``::

    v0.16 to v0.21   max(1, 64 - trunc(log10(age) / log10(range) * 63))       in float64, as Go rounds it
    v0.22            64 - max{k in 0..63 : range**k <= age**63}               in integers

The two differ only where ``range**k == age**63`` exactly: there Go's logarithm may round down and the chain asks
for one zero more. `GO_ASKS_ONE_MORE` lists all such points up to range 3,000,000, as measured with the compiled Go
expression over every tie. `safe` asks for the larger of the two at every tie, listed or not, and is what decisions
use; `difficulty` says what one chain version really asks, and is what the devnet uses.
"""

from __future__ import annotations

import enum
from functools import lru_cache

#: Leading hex zeros asked at age 0 and 1: all of a SHA-256 digest.
MAX_DIFFICULTY = 64
#: Nothing is submitted or hashed before this age: agents know "waiting until age 10", and at a range of 25, the
#: smallest on the chain, age 10 still asks for 19 zeros.
MIN_AGE = 10

#: (range, age) at which the float rule of v0.16 to v0.21 asks one zero more than the integer rule.
GO_ASKS_ONE_MORE = frozenset(
    {
        (27, 3), (125, 5), (125, 25), (2187, 3), (2187, 243), (15625, 25), (15625, 625), (42875, 35), (42875, 1225),
        (512000, 80), (512000, 6400), (636056, 86), (636056, 7396), (857375, 95), (857375, 9025), (1092727, 103),
        (1092727, 10609), (1560896, 116), (1560896, 13456), (1953125, 5), (1953125, 25), (1953125, 625),
        (1953125, 3125), (1953125, 78125), (1953125, 390625), (2097152, 8192), (2146689, 129), (2146689, 16641),
        (2248091, 131), (2248091, 17161), (2406104, 134), (2406104, 17956), (2744000, 140), (2744000, 19600),
        (2924207, 143), (2924207, 20449),
    }
)  # fmt: skip


class Rule(enum.Enum):
    """Which arithmetic the chain's version uses."""

    FLOAT = "v0.16 to v0.21"
    EXACT = "v0.22"


def difficulty(age: int, difficulty_range: int, rule: Rule) -> int:
    """Leading hex zeros that a chain of this rule asks at `age` blocks after the anchor."""
    if rule is Rule.FLOAT:
        if difficulty_range == 1 and age > 1:
            return 1  # the ratio is +Inf, its conversion wraps, and the clamp makes it 1
        return _exact(age, difficulty_range) + ((difficulty_range, age) in GO_ASKS_ONE_MORE)
    return _exact(age, difficulty_range)


def safe(age: int, difficulty_range: int) -> int:
    """Leading hex zeros that are enough on every chain version, for ranges of 2 and more."""
    zeros = _exact(age, difficulty_range)
    k = MAX_DIFFICULTY - zeros
    return zeros + (0 < k < 63 and difficulty_range**k == age**63)


@lru_cache(maxsize=65536)
def first_age(zeros: int, difficulty_range: int) -> int:
    """The smallest age at which `zeros` leading zeros are enough by the `safe` rule.

    `zeros` is 1 to 64 and the range at least 2; the answer never exceeds the range (or 2, if that is more).
    """
    if not 1 <= zeros <= MAX_DIFFICULTY:
        raise ValueError(f"zeros is {zeros}, not 1 to {MAX_DIFFICULTY}")
    if zeros == MAX_DIFFICULTY:
        return 0
    low, high = 1, max(2, difficulty_range)  # safe(low) is 64; safe(high) is 1
    while high - low > 1:
        middle = (low + high) // 2
        if safe(middle, difficulty_range) <= zeros:
            high = middle
        else:
            low = middle
    return high


def expected_hashes(zeros: int) -> int:
    """Mean number of hashes until one has that many leading hex zeros: difficulty is base 16, never base 2."""
    return int(16**zeros)


@lru_cache(maxsize=65536)
def _exact(age: int, difficulty_range: int) -> int:
    if age <= 1 or difficulty_range <= 1:
        return MAX_DIFFICULTY
    work, k, power = age**63, 0, 1
    while k < 63 and power * difficulty_range <= work:
        power *= difficulty_range
        k += 1
    return MAX_DIFFICULTY - k
