"""When others start to hash and when we do, and what each is to be expected to cost. Exact, no dice.

A policy without memory wants a hash that is good enough in the very block in which it is found: hits come at the rate
power * 16^-D and the rate changes with D. Ours keep the best hash; theirs is `coordinator.core.survival`'s formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from coordinator.core.schedule import Pace, start_height
from coordinator.core.survival import hashing_blocks, steps
from hashfleet.action import Action, Work
from hashfleet.difficulty import first_age
from hashfleet.job_request import JobRequest, StartMode

#: As measured on the chain; the table's seconds are these.
BLOCK_SECONDS = 5.3
ANCHOR = 1
RANGES = (200, 700, 5_000, 14_000, 28_000)
#: Hashes a second: a browser, a laptop's CPU, a good CPU, a small GPU, a large GPU, a rack.
RATES = (3e6, 30e6, 300e6, 3e9, 30e9, 100e9)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be expected of one job."""

    #: Age at which hashing starts, in blocks.
    start: int
    #: Mean age at which it is finished.
    finish: float
    #: Mean number of hashes.
    hashes: float


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule for when to start, and whether the best hash is kept."""

    name: str
    ours: bool
    keeps_best: bool
    #: (range, hashes a second) to the age at which hashing starts.
    start: Callable[[int, float], int]

    def outcome(self, difficulty_range: int, rate: float) -> Outcome:
        """What is to be expected for a job that is asked for when its clock starts, by a fleet that has no other."""
        start, power = self.start(difficulty_range, rate), rate * BLOCK_SECONDS
        if self.keeps_best:
            blocks = hashing_blocks(difficulty_range, start, power)
        else:
            blocks = memoryless_blocks(difficulty_range, start, power)
        return Outcome(start, start + blocks, blocks * power)


def memoryless_blocks(difficulty_range: int, start: int, power: float) -> float:
    """Expected blocks of hashing from age `start` if a hash counts only in the block in which it is found."""
    total, unfinished = 0.0, 1.0
    for begins, ends, zeros in steps(difficulty_range, start):
        mean = 16.0**zeros / power
        found = -math.expm1(-(ends - begins) / mean)
        total += unfinished * mean * found
        unfinished *= 1 - found
    return total


def _at(zeros: int) -> Callable[[int, float], int]:
    return lambda difficulty_range, rate: first_age(zeros, difficulty_range) - 1


def _mode(mode: StartMode) -> Callable[[int, float], int]:
    request = JobRequest(Action.REFINE, "5-1", "1-1", start_mode=mode)

    def start(difficulty_range: int, rate: float) -> int:
        work = Work(Action.REFINE, "5-1", ANCHOR, difficulty_range)
        return start_height(request, work, ANCHOR, Pace(rate, BLOCK_SECONDS)) - ANCHOR

    return start


CLI = Policy("CLI, D ≤ 3", False, False, _at(3))
DESKTOP = Policy("desktop, D ≤ 8", False, False, _at(8))
WEB = Policy("web client, D ≤ 10", False, False, _at(10))
ECONOMY = Policy("economy", True, True, _mode(StartMode.ECONOMY))
BALANCED = Policy("balanced", True, True, _mode(StartMode.BALANCED))
RACE = Policy("race", True, True, _mode(StartMode.RACE))
OTHERS = (CLI, DESKTOP, WEB)
OURS = (ECONOMY, BALANCED, RACE)
