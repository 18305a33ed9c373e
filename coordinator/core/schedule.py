"""When hashing pays, and when a proof is to be expected. Pure arithmetic on the falling difficulty."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hashfleet.action import Work
from hashfleet.difficulty import MIN_AGE, expected_hashes, first_age, safe

#: Hashes a second assumed while no worker is connected: one CPU core with hashlib.
ASSUMED_RATE = 1e6
#: Seconds per block assumed until two blocks are seen (the chain's configured timeout is 5 s, measured about 5.3).
ASSUMED_BLOCK_SECONDS = 5.3
#: ETAs beyond this are not shown as numbers: 100 years.
FAR_FUTURE_SECONDS = 3.2e9


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the fleet hashes and the chain goes on."""

    #: Hashes a second.
    rate: float
    #: Measured seconds per block.
    block_seconds: float


def age(work: Work, height: int) -> int:
    """Blocks since the anchor; 0 if the anchor is ahead of what the node has committed."""
    return max(0, height - work.anchor)


def zeros_needed(work: Work, height: int) -> int:
    """Leading zeros that a transaction needs to be valid in block height + 1, the first it can land in."""
    return safe(age(work, height) + 1, work.range)


def start_height(work: Work, height: int, pace: Pace) -> int:
    """The committed height, `height` or later, at which hashing this work starts to pay.

    Difficulty D holds for a span of blocks. Hashing at D pays if its expected solve ends before one that waits for
    the next lower digit would: 16^D / rate <= seconds until the fall + 16^(D-1) / rate. Within a span the time left
    only shrinks, so each span is judged at its beginning, or now if now lies within it. At D = 1 hashing always pays.
    """
    rate = pace.rate or ASSUMED_RATE
    earliest = max(height, work.anchor + MIN_AGE)
    zeros = zeros_needed(work, earliest)
    while zeros > 1:
        falls_at = work.anchor + first_age(zeros - 1, work.range) - 1  # the first height that needs fewer zeros
        seconds_left = (falls_at - earliest) * pace.block_seconds
        if (expected_hashes(zeros) - expected_hashes(zeros - 1)) / rate <= seconds_left:
            return earliest
        earliest = falls_at
        zeros = zeros_needed(work, earliest)
    return earliest


def expected_seconds(work: Work, height: int, pace: Pace) -> float | None:
    """Seconds of hashing from now until one valid hash is to be expected, given that the difficulty falls meanwhile.

    The time at which the expected number of valid hashes reaches one; for a constant difficulty this is the mean.
    None without a rate.
    """
    if pace.rate <= 0:
        return None
    missing, seconds, at = 1.0, 0.0, height
    zeros = zeros_needed(work, at)
    while zeros > 1:
        falls_at = work.anchor + first_age(zeros - 1, work.range) - 1
        span = (falls_at - at) * pace.block_seconds
        hits = span * pace.rate / expected_hashes(zeros)
        if hits >= missing:
            break
        missing, seconds, at = missing - hits, seconds + span, falls_at
        zeros = zeros_needed(work, at)
    return min(seconds + missing * expected_hashes(zeros) / pace.rate, FAR_FUTURE_SECONDS)


def expected_height(height: int, seconds: float, pace: Pace) -> int:
    """The block in which something that takes `seconds` from now is to be expected."""
    return height + max(1, math.ceil(seconds / pace.block_seconds))
