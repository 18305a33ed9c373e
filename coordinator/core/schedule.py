"""When hashing pays, and when a proof is to be expected. Pure arithmetic on the falling difficulty.

Heights are committed heights and times are seconds. The formula under all of it stands in `survival`, the weighing of
the balanced start in `balance`; docs/start-decision.md explains both in plain words and shows what they gain.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from functools import lru_cache

from coordinator.core.balance import Balance, best_start
from coordinator.core.survival import hashing_blocks, quantile
from hashfleet.action import Work
from hashfleet.difficulty import MAX_DIFFICULTY, MIN_AGE, expected_hashes, first_age, safe
from hashfleet.job_request import JobRequest, StartMode

#: Hashes a second assumed while no worker is connected: one CPU core with hashlib.
ASSUMED_RATE = 1e6
#: Seconds per block assumed until two blocks are seen (the chain's configured timeout is 5 s, measured about 5.3).
ASSUMED_BLOCK_SECONDS = 5.3
#: ETAs beyond this are not shown as numbers: 100 years.
FAR_FUTURE_SECONDS = 3.2e9
#: How sure a start for the sake of a deadline or a budget is to be of a proof, and the expected hits that takes.
SURE = 0.9
SURE_HITS = math.log(10)
#: Rates and rivals that differ by less than a bucket's width share one decision: a factor of 1.1 and of 1.2.
_RATE_BUCKET = math.log(1.1)
_RIVALS_BUCKET = math.log(1.2)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the fleet hashes and the chain goes on."""

    #: Hashes a second.
    rate: float
    #: Measured seconds per block.
    block_seconds: float

    @property
    def power(self) -> float:
        """Hashes per block."""
        return self.rate * self.block_seconds


@dataclass(frozen=True, slots=True)
class Eta:
    """When a job will have its valid proof: seconds from now, and the block in which it can then be included."""

    #: The mean.
    seconds: float
    #: By then with probability 0.5, and the block.
    seconds_50: float
    block_50: int
    #: By then with probability 0.9, and the block.
    seconds_90: float
    block_90: int


class Cause(enum.Enum):
    """Which rule set a start height."""

    #: The job's start mode.
    MODE = "mode"
    #: The caller's start difficulty.
    START_DIFFICULTY = "start difficulty"
    #: The caller's budget of hashes would likely be spent without a proof before.
    BUDGET = "budget"
    #: The deadline asks for an earlier start than the mode.
    DEADLINE = "deadline"
    #: A hash in hand becomes valid, and hashing until then is not worth it.
    BEST = "best"


@dataclass(frozen=True, slots=True)
class Start:
    """A start height and what set it."""

    height: int
    cause: Cause


def age(work: Work, height: int) -> int:
    """Blocks since the anchor; 0 if the anchor is ahead of what the node has committed."""
    return max(0, height - work.anchor)


def zeros_needed(work: Work, height: int) -> int:
    """Leading zeros that a transaction needs to be valid in block height + 1, the first it can land in."""
    return safe(age(work, height) + 1, work.range)


def valid_height(work: Work, zeros: int) -> int:
    """The first committed height at which a hash with that many leading zeros (1 to 64) may be sent."""
    return work.anchor + max(0, first_age(zeros, work.range) - 1)


def start_height(request: JobRequest, work: Work, height: int, pace: Pace, *, rivals: int = 0, best: int = 0) -> int:
    """The committed height, `height` or later, at which hashing starts.

    `rivals` is the number of other runnable jobs of the same or a higher class; `best` the zeros of the best hash in
    hand, 0 for none. Equals `valid_height(work, best)` if it is not worth hashing on until then. See `start`.

    Decisions are kept by range, age and pace: one look-up or two per job, 40 to 70 ms for 100,000 jobs of 57 ranges
    (perf_counter around a loop of calls, CPython 3.11, one core). A new pace costs 1 to 2 ms per range, once.
    """
    mode = request.start_mode
    if (
        best
        or request.start_difficulty is not None
        or request.deadline_height is not None
        or request.max_hashes is not None
    ):
        return start(request, work, height, pace, rivals=rivals, best=best).height
    anchor, economy = work.anchor, mode is StartMode.ECONOMY
    if mode is StartMode.RACE:
        return max(height, anchor + MIN_AGE)
    first = _start_age(work.range, MIN_AGE, pace.rate, pace.block_seconds, rivals, economy)
    if height - anchor <= first:
        return anchor + first
    if economy:
        return height
    return anchor + _start_age(work.range, height - anchor, pace.rate, pace.block_seconds, rivals, economy)


def start(request: JobRequest, work: Work, height: int, pace: Pace, *, rivals: int = 0, best: int = 0) -> Start:
    """When hashing starts, and which rule says so.

    race      at once: every hash counts, because the best one is kept until the chain asks no more than it has.
    economy   once 16^D / rate is at most one block's seconds, or D is 1. A hash in hand that is valid by then is waited
              for; one that is valid later is weighed against hashing as in balanced: a fleet of many devices has one of
              some zeros less within moments, and waiting for that could take hours to save a second.
    balanced  where  E[finish] + kappa * E[seconds of the whole fleet]  is least, kappa = 1 + rivals: a second of the
              fleet costs as much as a second of waiting, and as much again for each job that could use it. Never later
              than economy: a job that takes the fleet for less than a block holds nobody up.

    A start difficulty replaces the mode. A budget holds the mode back until it suffices with probability 0.9. A
    deadline brings the start forward so that the proof is in the chain by then with probability 0.9, within the
    budget; if that cannot be reached, to now.

    Nothing starts before age 10. Rates are taken in buckets of 10 % and rivals in buckets of 20 %, so that one decision
    serves all jobs of a range and is kept between calls.
    """
    power = (pace.rate or ASSUMED_RATE) * pace.block_seconds
    now = max(height - work.anchor, 0)
    earliest = max(now, MIN_AGE)
    ends = max(earliest, first_age(best, work.range) - 1) if best else None
    if request.start_difficulty is not None:
        chosen, cause = max(earliest, first_age(request.start_difficulty, work.range) - 1), Cause.START_DIFFICULTY
    else:
        chosen, cause = _by_mode(request.start_mode, work.range, earliest, power, rivals, best), Cause.MODE
        if request.max_hashes is not None:
            affordable = first_age(_zeros_within(request.max_hashes / SURE_HITS), work.range) - 1
            if affordable > chosen:
                chosen, cause = affordable, Cause.BUDGET
    if request.deadline_height is not None:
        needed = _deadline_age(request, work, power, best)
        if needed is not None and needed < chosen:
            chosen, cause = max(earliest, needed), Cause.DEADLINE
    if ends is not None and ends <= chosen and ends > now:
        chosen, cause = ends, Cause.BEST
    return Start(max(height, work.anchor + chosen), cause)


def deadline_chance(request: JobRequest, work: Work, height: int, pace: Pace, *, best: int = 0) -> float:
    """Probability that a job that hashes from now on is in the chain by its deadline; 1 if it has none."""
    if request.deadline_height is None:
        return 1.0
    last = request.deadline_height - 1  # what is to be in block n is sent when n - 1 is committed
    if best and valid_height(work, best) <= last:
        return 1.0
    begins = max(height, work.anchor + MIN_AGE)
    hashes = max(0, last - begins) * (pace.rate or ASSUMED_RATE) * pace.block_seconds
    if request.max_hashes is not None:
        hashes = min(hashes, request.max_hashes)
    return -math.expm1(-hashes / expected_hashes(zeros_needed(work, last)))


def finish(work: Work, height: int, pace: Pace, *, best: int = 0, starts: int | None = None) -> Eta | None:
    """When a job that hashes from `starts` on (now, if None) will have a valid proof, counted from `height`.

    `best` is the zeros of the best hash in hand, 0 for none. None without a rate, unless a hash in hand settles it.
    """
    if pace.rate <= 0 and not best:
        return None
    now = height - work.anchor
    begins = max(now, 0 if starts is None else starts - work.anchor, 0)
    end = max(float(now), valid_height(work, best) - work.anchor) if best else math.inf
    power = max(0.0, pace.power)
    mean = min(float(begins), end) + hashing_blocks(work.range, begins, power, end) - now
    return Eta(
        _seconds(mean, pace),
        *_by(0.5, work, now, begins, power, end, pace),
        *_by(0.9, work, now, begins, power, end, pace),
    )


def expected_block(height: int, seconds: float, pace: Pace) -> int:
    """The block that can include a proof which is found `seconds` after `height` was committed."""
    return height + 1 + math.floor(min(seconds, FAR_FUTURE_SECONDS) / pace.block_seconds)


def chance_done(work: Work, height: int, hashes: int) -> float:
    """How likely it is, from 0 to 1, that this many hashes have found what is asked now: the progress of the search.

    It does not fall while anchor and range stay: hashes only grow and the difficulty only falls.
    """
    return -math.expm1(-hashes / expected_hashes(zeros_needed(work, height)))


def report_zeros(work: Work, height: int, lease_hashes: int, best: int) -> int:
    """Zeros from which a lease is asked to report a hash: what is needed now, or what would be a better one to keep.

    About log16 of the lease's hashes, so that it reports one to four such hits, and more than the best in hand.
    """
    likely = round(math.log2(max(1, lease_hashes)) / 4)
    return min(zeros_needed(work, height), max(best + 1, likely, 1))


def _by_mode(mode: StartMode, difficulty_range: int, earliest: int, power: float, rivals: int, best: int) -> int:
    """Age at which the mode alone would start, not before `earliest`."""
    if mode is StartMode.RACE:
        return earliest
    economy = max(earliest, first_age(_zeros_within(power), difficulty_range) - 1)
    last = max(earliest, first_age(best, difficulty_range) - 1) if best else economy
    if mode is StartMode.ECONOMY:
        earliest = min(economy, last)
    if earliest == last:
        return earliest
    rate_bucket = round(math.log(power) / _RATE_BUCKET)
    rivals_bucket = round(math.log(2 + rivals) / _RIVALS_BUCKET) if rivals > 3 else -rivals
    return min(last, _balanced(difficulty_range, rate_bucket, rivals_bucket, best, earliest))


@lru_cache(maxsize=65536)
def _start_age(
    difficulty_range: int, earliest: int, rate: float, block_seconds: float, rivals: int, economy: bool
) -> int:
    """Age at which a job without overrides and without a hash in hand starts."""
    mode = StartMode.ECONOMY if economy else StartMode.BALANCED
    return _by_mode(mode, difficulty_range, earliest, (rate or ASSUMED_RATE) * block_seconds, rivals, 0)


@lru_cache(maxsize=65536)
def _balanced(difficulty_range: int, rate_bucket: int, rivals_bucket: int, best: int, age: int) -> int:
    power = math.exp(rate_bucket * _RATE_BUCKET)
    weight = math.exp(rivals_bucket * _RIVALS_BUCKET) if rivals_bucket > 0 else 2.0 - rivals_bucket
    return best_start(balance(difficulty_range, power, weight, best), age)


def balance(difficulty_range: int, power: float, weight: float, best: int = 0) -> Balance:
    """What the balanced start of a job weighs: `power` hashes per block, weight 1 + kappa, `best` zeros in hand."""
    zeros = best or _zeros_within(power)
    last = max(MIN_AGE, first_age(zeros, difficulty_range) - 1)
    return Balance(difficulty_range, power, weight, MIN_AGE, last, float(last) if best else math.inf)


def _zeros_within(hashes: float) -> int:
    """The most zeros whose expected hashes are at most this many; at least 1."""
    zeros = 1
    while zeros < MAX_DIFFICULTY and expected_hashes(zeros + 1) <= hashes:
        zeros += 1
    return zeros


def _deadline_age(request: JobRequest, work: Work, power: float, best: int) -> int | None:
    """The latest age at which to start for the deadline's sake; None if a hash in hand will do."""
    assert request.deadline_height is not None
    last = request.deadline_height - 1
    if best and valid_height(work, best) <= last:
        return None
    hashes = expected_hashes(zeros_needed(work, last)) * SURE_HITS
    if request.max_hashes is not None:
        hashes = min(hashes, request.max_hashes)
    return math.floor(last - work.anchor - hashes / power)


def _by(share: float, work: Work, now: int, begins: int, power: float, end: float, pace: Pace) -> tuple[float, int]:
    """Seconds and block of a quantile."""
    reached = quantile(share, work.range, max(0, now), begins, power, end)
    seconds = _seconds(reached - now, pace)
    if seconds >= FAR_FUTURE_SECONDS:
        return seconds, expected_block(work.anchor + now, seconds, pace)
    return seconds, work.anchor + math.floor(reached) + 1


def _seconds(blocks: float, pace: Pace) -> float:
    return min(max(0.0, blocks) * pace.block_seconds, FAR_FUTURE_SECONDS)
