"""The chance of being done, against simulations that know nothing of the formula: they keep the best hash and look."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.schedule import (
    FAR_FUTURE_SECONDS,
    Pace,
    chance_done,
    expected_block,
    finish,
    report_zeros,
    start_height,
    valid_height,
    zeros_needed,
)
from coordinator.core.survival import hashing_blocks, quantile, steps, unfinished
from hashfleet.action import Action, Work
from hashfleet.difficulty import safe
from hashfleet.job_request import JobRequest, StartMode

ANCHOR = 1000
BLOCK_SECONDS = 5.0


def work(difficulty_range: int) -> Work:
    return Work(Action.BUILD, "5-28", anchor=ANCHOR, range=difficulty_range)


@dataclass(frozen=True)
class Situation:
    """A job that hashes from age `start` on, with `best` zeros in hand (0 for none), looked at from age `now`."""

    difficulty_range: int
    now: int
    start: int
    power: float
    best: int

    @property
    def end(self) -> float:
        if not self.best:
            return math.inf
        return next(age for age in range(self.now, 10**6) if safe(age + 1, self.difficulty_range) <= self.best)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    difficulty_range = draw(st.integers(2, 400))
    now = draw(st.integers(0, 500))
    start = now + draw(st.integers(0, 100))
    power = 10 ** draw(st.floats(0, 9))
    zeros = safe(now + 1, difficulty_range)
    best = draw(st.integers(0, min(zeros - 1, 12)))
    return Situation(difficulty_range, now, start, power, best)


PARTS = 4  #: Looks per block of the brute-force walk.


def walk(job: Situation, until: float) -> list[float]:
    """P(unfinished) at ages now, now + 1/PARTS, ...: the distribution of the best hash, moved on part by part.

    A job is taken out once its best hash has what the next block asks. `alive[z]` is the probability that it is still
    in and its best has z zeros; after n more hashes the best of those is below z with probability (1 - 16^-z)^n.
    """
    alive = [0.0] * 65
    alive[job.best] = 1.0
    curve: list[float] = []
    part = 0
    while (at := job.now + part / PARTS) <= until:
        asked = safe(math.floor(at) + 1, job.difficulty_range)
        alive = [mass if zeros < asked else 0.0 for zeros, mass in enumerate(alive)]
        curve.append(sum(alive))
        if at >= job.start:
            hashes = job.power / PARTS
            below = [0.0, *(math.exp(hashes * math.log1p(-(16.0**-z))) for z in range(1, 65)), 1.0]
            up_to = [math.fsum(alive[: z + 1]) for z in range(65)]
            reached = [below[z + 1] * up_to[z] for z in range(65)]
            alive = [reached[0], *(reached[z] - reached[z - 1] for z in range(1, 65))]
        part += 1
    return curve


@settings(max_examples=30, deadline=None)
@given(situations())
def test_the_chance_of_being_unfinished_is_what_a_walk_that_keeps_the_best_hash_gives(job: Situation) -> None:
    for part, expected in enumerate(walk(job, job.now + 40.0)):
        at = job.now + part / PARTS
        # a hash or two of a part may be the one too many: the walk takes hashes whole, the formula as a stream
        assert unfinished(job.difficulty_range, job.start, job.power, at, job.end) == pytest.approx(
            expected, abs=0.05 if job.power < 1000 else 1e-3
        )


@settings(max_examples=30, deadline=None)
@given(situations())
def test_the_expected_hashing_is_the_area_under_the_curve(job: Situation) -> None:
    parts, upper, area = 100, job.start + 400.0, 0.0
    edges = sorted({job.start, upper, *(a for a, _, _ in steps(job.difficulty_range, job.start) if a < upper)})
    for left, right in pairwise(edges):
        width = (right - left) / parts
        area += width * sum(
            unfinished(job.difficulty_range, job.start, job.power, left + (i + 0.5) * width, job.end)
            for i in range(parts)
        )
    tail = job.end - upper if job.end > upper else 0.0
    if unfinished(job.difficulty_range, job.start, job.power, upper, job.end) < 1e-9:
        blocks = hashing_blocks(job.difficulty_range, job.start, job.power, job.end)
        # the sum may miss by half a cell where the curve falls at once within its first cell
        assert blocks == pytest.approx(area, rel=1e-3, abs=width + 1e-9)
    assert tail >= 0


@settings(max_examples=200, deadline=None)
@given(situations(), st.sampled_from([0.1, 0.5, 0.9, 0.99]))
def test_a_quantile_is_the_first_age_at_which_the_chance_is_reached(job: Situation, share: float) -> None:
    at = quantile(share, job.difficulty_range, job.now, job.start, job.power, job.end)
    after, before = at * (1 + 1e-12) + 1e-9, at - 1e-6
    assert unfinished(job.difficulty_range, job.start, job.power, after, job.end) <= (1 - share) * (1 + 1e-6)
    if before >= job.now:
        assert unfinished(job.difficulty_range, job.start, job.power, before, job.end) >= (1 - share) * (1 - 1e-6)


def test_a_schedule_is_walked_without_gap_or_overlap_to_difficulty_one() -> None:
    walked = list(steps(700, 25))
    assert walked[0][0] == 25
    assert all(a[1] == b[0] and a[2] > b[2] for a, b in pairwise(walked))
    assert walked[-1][1:] == (math.inf, 1)
    for begins, ends, zeros in walked[:-1]:
        assert safe(int(begins) + 1, 700) == zeros == safe(int(ends), 700)


@given(st.integers(2, 5000), st.integers(1, 64))
def test_a_hash_may_be_sent_from_the_first_height_that_asks_no_more_zeros(difficulty_range: int, zeros: int) -> None:
    first = valid_height(work(difficulty_range), zeros)
    assert zeros_needed(work(difficulty_range), first) <= zeros
    assert first == ANCHOR or zeros_needed(work(difficulty_range), first - 1) > zeros


@given(
    st.integers(2, 30_000),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 10**12)), min_size=1, max_size=30),
)
def test_progress_never_falls_while_blocks_pass_and_hashes_are_booked(
    difficulty_range: int, history: list[tuple[int, int]]
) -> None:
    height, hashes, last = ANCHOR, 0, 0.0
    for blocks, more in history:
        height, hashes = height + blocks, hashes + more
        fraction = chance_done(work(difficulty_range), height, hashes)
        assert last <= fraction <= 1
        last = fraction


def test_progress_is_the_chance_of_a_hit() -> None:
    assert chance_done(work(200), ANCHOR + 300, 0) == 0
    assert chance_done(work(200), ANCHOR + 300, 16) == pytest.approx(1 - math.exp(-1))


# ---- ETA ---------------------------------------------------------------------------------------------------------


def test_without_a_rate_nothing_is_expected() -> None:
    assert finish(work(200), ANCHOR + 150, Pace(0.0, 5.0)) is None


def test_without_a_rate_a_hash_in_hand_is_still_expected_at_its_block() -> None:
    eta = finish(work(200), ANCHOR + 100, Pace(0.0, 5.0), best=5)
    blocks = valid_height(work(200), 5) - ANCHOR - 100
    assert eta is not None
    assert eta.seconds == eta.seconds_50 == eta.seconds_90 == blocks * 5.0
    assert eta.block_50 == eta.block_90 == valid_height(work(200), 5) + 1


def test_at_constant_difficulty_the_quantiles_are_the_exponentials() -> None:
    eta = finish(work(200), ANCHOR + 300, Pace(4.0, 5.0))
    assert eta is not None
    assert eta.seconds == pytest.approx(16 / 4.0)
    assert eta.seconds_50 == pytest.approx(math.log(2) * 16 / 4.0)
    assert eta.seconds_90 == pytest.approx(math.log(10) * 16 / 4.0)
    assert (eta.block_50, eta.block_90) == (ANCHOR + 301, ANCHOR + 302)


def test_a_hopeless_eta_stays_a_number() -> None:
    eta = finish(work(2**31 - 1), ANCHOR, Pace(1e-9, 5.0))
    assert eta is not None
    assert eta.seconds == eta.seconds_90 == FAR_FUTURE_SECONDS
    assert eta.block_90 == expected_block(ANCHOR, FAR_FUTURE_SECONDS, Pace(1e-9, 5.0))


@given(st.integers(2, 30_000), st.integers(0, 40_000), st.floats(1, 1e12), st.integers(0, 500), st.integers(0, 12))
def test_an_eta_is_ordered_and_lies_ahead(range_: int, age: int, rate: float, wait: int, best: int) -> None:
    height = ANCHOR + age
    best = best if best < zeros_needed(work(range_), height) else 0
    eta = finish(work(range_), height, Pace(rate, BLOCK_SECONDS), best=best, starts=height + wait)
    assert eta is not None
    assert 0 <= eta.seconds_50 <= eta.seconds_90
    assert height < eta.block_50 <= eta.block_90
    assert eta.seconds <= FAR_FUTURE_SECONDS
    if best:
        assert eta.seconds_90 <= max(0, valid_height(work(range_), best) - height) * BLOCK_SECONDS * (1 + 1e-9)


@given(st.integers(2, 30_000), st.integers(0, 30_000), st.floats(1e3, 1e11), st.integers(0, 300))
def test_a_later_start_never_finishes_earlier(range_: int, age: int, rate: float, wait: int) -> None:
    height, pace = ANCHOR + age, Pace(rate, BLOCK_SECONDS)
    now, later = (finish(work(range_), height, pace, starts=height + w) for w in (0, wait))
    assert now is not None and later is not None
    assert now.seconds <= later.seconds * (1 + 1e-9)
    assert now.seconds_90 <= later.seconds_90 * (1 + 1e-9)


# ---- what a lease reports ----------------------------------------------------------------------------------------


@given(st.integers(2, 30_000), st.integers(0, 40_000), st.integers(1, 10**14), st.integers(0, 12))
def test_a_report_is_valid_now_or_better_than_the_best_in_hand(range_: int, age: int, hashes: int, best: int) -> None:
    asked = report_zeros(work(range_), ANCHOR + age, hashes, best)
    needed = zeros_needed(work(range_), ANCHOR + age)
    assert 1 <= asked <= needed
    assert asked == needed or asked > best
    if best + 1 < asked < needed:
        assert 1 / 4.01 <= hashes / 16**asked <= 4.01  # a handful of hits at most


# ---- calibration -------------------------------------------------------------------------------------------------


def simulated_age(job: Situation, dice: random.Random) -> float:
    """The age at which one job is finished: hits drawn step by step, the best one kept in hand."""
    best = job.best
    for begins, ends, zeros in steps(job.difficulty_range, job.now):
        if best >= zeros:
            return begins
        begins = max(begins, float(job.start))
        if begins >= ends:
            continue
        waited = dice.expovariate(job.power / 16.0**zeros)
        if begins + waited < ends:
            return begins + waited
        # no hash had `zeros`; P(best of the n others has fewer than z) = exp(-n (16^-z - 16^-zeros))
        hashes, drawn = job.power * (ends - begins), dice.random()
        lucky = next(z for z in range(1, zeros + 1) if drawn < math.exp(-hashes * (16.0**-z - 16.0**-zeros)))
        best = max(best, lucky - 1)
    raise AssertionError("the last step has no end")


@dataclass
class Tally:
    """How many of so many jobs were done by their quantile."""

    jobs: int = 0
    by_50: int = 0
    by_90: int = 0

    @property
    def shares(self) -> tuple[float, float]:
        return self.by_50 / self.jobs, self.by_90 / self.jobs


def simulate(modes: list[StartMode], by_lot: bool, jobs: int = 1000) -> Tally:
    """Jobs of mixed ranges, rates and ages, each compared with the ETA it was shown at first.

    A job that keeps its best hash often finishes exactly when the difficulty falls, and then a quantile is that moment:
    less than 90 % are done before it and more than 90 % with it. `by_lot` counts such a job as done by its quantile
    with the probability that makes up exactly the share, which is what a calibrated forecast of such a moment means.
    """
    dice, tally = random.Random(20_261_123), Tally(jobs)
    for _ in range(jobs):
        puzzle = work(round(10 ** dice.uniform(1.5, 4.5)))
        pace = Pace(10 ** dice.uniform(5, 11), BLOCK_SECONDS)
        height = ANCHOR + dice.randint(0, puzzle.range)
        request = JobRequest(puzzle.action, puzzle.object_id, "1-11", start_mode=dice.choice(modes))
        starts = start_height(request, puzzle, height, pace)
        eta = finish(puzzle, height, pace, starts=starts)
        assert eta is not None
        job = Situation(puzzle.range, height - ANCHOR, starts - ANCHOR, pace.power, 0)
        seconds = (simulated_age(job, dice) - job.now) * BLOCK_SECONDS

        def counts(quantile: float, share: float, job: Situation = job, seconds: float = seconds) -> bool:
            if not by_lot or not math.isclose(seconds, quantile, rel_tol=1e-9):
                return seconds <= quantile * (1 + 1e-9)
            at = job.now + quantile / BLOCK_SECONDS
            before, after = (
                1 - unfinished(job.difficulty_range, job.start, job.power, at * (1 + sign * 1e-9)) for sign in (-1, 1)
            )
            return dice.random() * (after - before) < share - before

        tally.by_50 += counts(eta.seconds_50, 0.5)
        tally.by_90 += counts(eta.seconds_90, 0.9)
    return tally


@pytest.mark.parametrize("mode", [StartMode.BALANCED, StartMode.ECONOMY])
def test_the_eta_quantiles_hold_as_often_as_they_say(mode: StartMode) -> None:
    by_50, by_90 = simulate([mode], by_lot=False).shares
    assert 0.45 <= by_50 <= 0.55
    assert 0.85 <= by_90 <= 0.95


def test_the_eta_quantiles_of_jobs_that_finish_at_a_fall_hold_as_often_as_they_say() -> None:
    by_50, by_90 = simulate(list(StartMode), by_lot=True).shares
    assert 0.45 <= by_50 <= 0.55
    assert 0.85 <= by_90 <= 0.95


def test_a_quantile_is_never_kept_less_often_than_it_says() -> None:
    by_50, by_90 = simulate([StartMode.RACE], by_lot=False).shares
    assert by_50 >= 0.45
    assert by_90 >= 0.85


def decided_age(puzzle: Work, request: JobRequest, starts: int, pace: Pace, devices: int, dice: random.Random) -> float:
    """As the fleet goes about it: leases report what is worth keeping, and each such hash is decided upon anew."""
    at, best = float(starts - ANCHOR), 0
    ages = [begins for begins, _, _ in steps(puzzle.range, 0)]
    while True:
        height = ANCHOR + math.floor(at)
        needed = zeros_needed(puzzle, height)
        if best >= needed:
            return at
        reported = report_zeros(puzzle, height, int(pace.rate * 5 / devices), best)
        falls = next((age for age in ages if age > at), math.inf)
        found = at + dice.expovariate(pace.power / 16.0**reported)
        if found >= falls:
            at = falls
            continue
        at, zeros = found, reported
        while dice.random() < 1 / 16:
            zeros += 1
        if zeros >= needed:
            return at
        best = zeros
        valid = valid_height(puzzle, best)
        if start_height(request, puzzle, ANCHOR + math.floor(at), pace, best=best) == valid:
            return max(at, float(valid - ANCHOR))


@pytest.mark.parametrize("mode", [StartMode.BALANCED, StartMode.ECONOMY])
@pytest.mark.parametrize("devices", [64])
def test_the_eta_holds_where_jobs_stop_for_a_hash_in_hand_and_devices_are_many(mode: StartMode, devices: int) -> None:
    dice, tally = random.Random(7), Tally(500)
    request = JobRequest(Action.BUILD, "5-28", "1-11", start_mode=mode)
    for _ in range(tally.jobs):
        puzzle, pace = work(round(10 ** dice.uniform(2, 4.5))), Pace(10 ** dice.uniform(6, 11), BLOCK_SECONDS)
        height = ANCHOR + dice.randint(0, puzzle.range // 2)
        starts = start_height(request, puzzle, height, pace)
        eta = finish(puzzle, height, pace, starts=starts)
        assert eta is not None
        seconds = (decided_age(puzzle, request, starts, pace, devices, dice) - (height - ANCHOR)) * BLOCK_SECONDS
        tally.by_50 += seconds <= eta.seconds_50 * (1 + 1e-9)
        tally.by_90 += seconds <= eta.seconds_90 * (1 + 1e-9)
    by_50, by_90 = tally.shares
    assert 0.45 <= by_50 <= 0.6  # ties at a fall count as done, see `simulate`
    assert 0.85 <= by_90 <= 0.95
