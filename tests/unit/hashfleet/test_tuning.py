"""Which candidate wins: by the rule for any measurements, and on made-up devices of known speed."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpu_fallback.search import search_range
from hashfleet.engine import Batch, DeviceInfo, EngineKind, Found, HashEngine, Search
from hashfleet.errors import EngineError, EngineUnavailable, InvalidInput, SelfTestFailed
from hashfleet.message import NonceSpace
from hashfleet.self_test import self_test
from hashfleet.tuning import (
    DUEL_ROUNDS,
    FINALISTS,
    HOPELESS,
    LEAST_GAIN,
    LUCK,
    DeviceModel,
    Outcome,
    Tunable,
    allowed_losses,
    beats,
    choose,
    describe,
    digest_of,
    finalists,
    tune,
    values_of,
)

ratio = st.floats(0.1, 10, allow_nan=False)
rounds = st.lists(ratio, min_size=DUEL_ROUNDS, max_size=DUEL_ROUNDS)
MODEL = DeviceModel(EngineKind.OPENCL, "a device", "1.0", "0123456789abcdef")


# --- the rule


def test_of_twelve_rounds_one_may_be_lost() -> None:
    assert [allowed_losses(n) for n in (0, 8, 9, 11, 12)] == [None, None, 0, 0, 1]


@given(st.integers(0, 60))
def test_a_win_by_chance_is_as_rare_as_promised(n: int) -> None:
    allowed = allowed_losses(n)
    chance = sum(math.comb(n, lost) for lost in range((-1 if allowed is None else allowed) + 1)) / 2**n

    assert chance <= LUCK / FINALISTS


@given(rounds)
def test_a_winner_was_faster_in_all_rounds_but_one_and_by_the_least_gain(paired: list[float]) -> None:
    faster = sum(value > 1 for value in paired) >= DUEL_ROUNDS - 1

    assert beats(paired) == (faster and statistics.median(paired) >= 1 + LEAST_GAIN)


@given(rounds, st.randoms())
def test_the_order_of_the_rounds_does_not_matter(paired: list[float], shuffler: random.Random) -> None:
    mixed = list(paired)
    shuffler.shuffle(mixed)

    assert beats(mixed) == beats(paired)


@given(rounds, st.floats(1, 10))
def test_a_faster_winner_still_wins(paired: list[float], factor: float) -> None:
    assert not beats(paired) or beats([value * factor for value in paired])


@given(rounds)
def test_a_candidate_and_the_default_never_both_beat_each_other(paired: list[float]) -> None:
    assert not (beats(paired) and beats([1 / value for value in paired]))


@given(st.lists(ratio, max_size=8))
def test_too_few_rounds_never_win(paired: list[float]) -> None:
    assert not beats(paired)


@given(st.lists(rounds, max_size=5))
def test_the_chosen_one_won_its_duel_and_no_other_winner_was_faster(duels: list[list[float]]) -> None:
    chosen = choose(duels)
    won = [statistics.median(paired) for paired in duels if beats(paired)]

    assert (chosen is None) == (not won)
    if chosen is not None:
        assert beats(duels[chosen])
        assert statistics.median(duels[chosen]) == max(won)


@given(st.lists(st.lists(ratio, max_size=5), max_size=9))
def test_finalists_ran_and_no_better_one_is_left_out(heats: list[list[float]]) -> None:
    best = finalists(heats)
    medians = {index: statistics.median(heat) for index, heat in enumerate(heats) if heat}
    hopeful = {index for index, median in medians.items() if median >= HOPELESS}

    assert set(best) <= hopeful
    assert len(best) == min(FINALISTS, len(hopeful))
    assert all(medians[one] >= medians[other] for one in best for other in hopeful - set(best))


# --- devices of known speed


@dataclass(frozen=True, slots=True)
class Speed:
    """Settings of a made-up device."""

    #: Nonces per batch, each of which takes a second of the device's clock.
    nonces: int = 1000
    note: str | None = None


@dataclass
class Device:
    """A device whose speed is what its settings say, on a clock of its own, with a noise that hits whole rounds."""

    noise: Callable[[], float] = lambda: 1.0
    test: Callable[[HashEngine], None] = lambda engine: None
    failures: dict[str, Exception] = field(default_factory=dict)
    now: float = 0.0
    open_engines: int = 0
    most_open: int = 0
    searched: list[str] = field(default_factory=list)

    def open(self, settings: Speed) -> SpeedyEngine:
        if settings.note == "does not open":
            raise EngineUnavailable("it does not compile")
        self.open_engines += 1
        self.most_open = max(self.most_open, self.open_engines)
        return SpeedyEngine(self, settings)

    def tune(self, *candidates: Speed, default: Speed = Speed(), seconds: float = 1e4) -> Outcome[Speed]:
        tunable = Tunable("opencl:0.0", MODEL, default, candidates, self.open)
        return tune(tunable, seconds, test=self.test, clock=lambda: self.now)


class SpeedyEngine:
    """An engine of that device."""

    device = DeviceInfo("opencl:0.0", "a device", EngineKind.OPENCL, "1.0")

    def __init__(self, machine: Device, settings: Speed) -> None:
        self.machine = machine
        self.settings = settings

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
        self.machine.searched.append(str(self.settings.note))
        failure = self.machine.failures.get(str(self.settings.note))
        shape = 1.0 if space.shared is not None else 0.5
        while True:
            if failure is not None and len(self.machine.searched) > 12:
                raise failure
            self.machine.now += 1 / shape / self.machine.noise()
            yield Batch(start, self.settings.nonces, ())
            start += self.settings.nonces

    def search_many(self, searches: Sequence[Search]) -> Iterator[Found]:
        raise AssertionError("tuning makes long searches")

    def close(self) -> None:
        self.machine.open_engines -= 1


def test_the_fastest_candidate_wins_with_its_gain() -> None:
    outcome = Device().tune(Speed(1100), Speed(1500), Speed(500), Speed(1400), Speed(1300))

    assert outcome.winner == Speed(1500)
    assert outcome.ratio == pytest.approx(1.5)
    assert [trial.settings.nonces for trial in outcome.trials] == [1000, 1100, 1500, 500, 1400, 1300]
    assert [trial.finalist for trial in outcome.trials] == [False, False, True, False, True, True]


def test_a_gain_below_the_least_is_not_worth_an_entry() -> None:
    outcome = Device().tune(Speed(1009))

    assert (outcome.winner, outcome.ratio) == (None, 1.0)


def test_noise_that_hits_both_sides_of_a_round_hides_no_winner() -> None:
    rough = random.Random(1)
    drift = [1.0]

    def noise() -> float:
        drift[0] = min(2.0, max(0.5, drift[0] * rough.uniform(0.995, 1.005)))
        return drift[0]

    assert Device(noise).tune(Speed(1100)).winner == Speed(1100)


def test_noise_alone_makes_a_winner_no_more_often_than_promised() -> None:
    equals = [Speed(1000, f"equal {n}") for n in range(6)]
    winners = 0
    for seed in range(100):
        rough = random.Random(seed)
        outcome = Device(partial(rough.uniform, 0.3, 3.0)).tune(*equals, seconds=1000)
        winners += outcome.winner is not None

    assert winners <= 100 * 3 * LUCK


def test_a_candidate_that_does_not_open_is_refused_with_the_reason_and_the_others_go_on() -> None:
    outcome = Device().tune(Speed(9000, "does not open"), Speed(1200))

    assert outcome.winner == Speed(1200)
    assert outcome.trials[1].refused == "it does not compile"
    assert outcome.trials[1].rate is None


def test_a_candidate_that_fails_while_it_is_measured_is_refused() -> None:
    machine = Device(failures={"breaks": EngineError("the launch failed")})
    outcome = machine.tune(Speed(1200), Speed(9000, "breaks"))

    assert outcome.winner == Speed(1200)
    assert outcome.trials[2].refused == "the launch failed"


def test_a_failure_of_the_default_is_an_error_and_blamed_on_no_candidate() -> None:
    machine = Device(failures={"None": EngineError("the device is gone")})
    with pytest.raises(EngineError, match="the device is gone"):
        machine.tune(Speed(1200, "a"), Speed(1300, "b"))
    assert machine.open_engines == 0


def test_default_settings_that_compute_wrongly_are_an_error() -> None:
    def test(engine: HashEngine) -> None:
        raise SelfTestFailed("it missed a hit")

    with pytest.raises(SelfTestFailed):
        Device(test=test).tune(Speed(1200))


def test_two_engines_are_open_at_most_and_none_in_the_end() -> None:
    machine = Device()
    machine.tune(*(Speed(900 + 50 * n) for n in range(6)))

    assert (machine.most_open, machine.open_engines) == (2, 0)


def test_the_winner_is_measured_in_both_shapes() -> None:
    rates = Device().tune(Speed(1200)).rates

    assert rates["T"] == pytest.approx(2 * rates["S"])


def test_the_time_asked_for_is_about_the_time_measured() -> None:
    machine = Device()
    machine.tune(*(Speed(1000 + 100 * n) for n in range(1, 5)), seconds=1e5)

    assert 0.9e5 < machine.now < 1.1e5


def test_a_device_with_nothing_to_choose_is_measured_all_the_same() -> None:
    outcome = Device().tune()

    assert outcome.winner is None
    assert outcome.trials[0].rate == pytest.approx(1000)


@pytest.mark.parametrize("seconds", [0, -1, math.nan])
def test_no_time_at_all_is_an_error(seconds: float) -> None:
    with pytest.raises(InvalidInput, match="above 0"):
        Device().tune(seconds=seconds)


# --- a candidate that computes wrongly


class HashingEngine(SpeedyEngine):
    """Hashes in this process where it is asked for what can be hashed here; misses what its settings make it miss."""

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
        if zeros == 64:
            yield from super().search(space, start, count, zeros)
            return
        hits = search_range(space.constant, space.counter_digits, start, count, zeros, space.filler_digits)
        shape = "T" if space.shared is not None else "S" if space.short is not None else "plain"
        wrong = self.settings.note == f"wrong in {shape}"
        yield Batch(start, count, hits[1:] if wrong else hits)


class HashingDevice(Device):
    def open(self, settings: Speed) -> HashingEngine:
        self.open_engines += 1
        return HashingEngine(self, settings)


def test_a_candidate_that_computes_wrongly_in_any_shape_never_wins() -> None:
    machine = HashingDevice(test=self_test)
    wrong = [Speed(9000, f"wrong in {shape}") for shape in ("T", "S", "plain")]
    outcome = machine.tune(*wrong, Speed(1300))

    assert outcome.winner == Speed(1300)
    assert all(trial.refused and "does not compute SHA-256" in trial.refused for trial in outcome.trials[1:4])
    assert machine.open_engines == 0


# --- settings


def test_settings_are_found_again_by_their_values_and_nothing_else_is() -> None:
    tunable = Tunable("opencl:0.0", MODEL, Speed(), (Speed(8), Speed(16, "x")), Device().open)

    assert tunable.matching(values_of(Speed(16, "x"))) == Speed(16, "x")
    assert tunable.matching(values_of(Speed())) == Speed()
    assert tunable.matching({"nonces": 10**9, "note": None}) is None
    assert tunable.matching({"nonces": 8}) is None


def test_settings_are_described_by_what_they_do_unlike_the_default() -> None:
    assert describe(Speed(8), Speed()) == "nonces 8"
    assert describe(Speed(), Speed()) == "the default settings"


def test_a_digest_changes_with_any_of_its_texts_and_with_where_they_end() -> None:
    assert len({digest_of("ab", "c"), digest_of("a", "bc"), digest_of("abc"), digest_of("ab", "d")}) == 4
    assert digest_of("ab", "c") == digest_of("ab", "c")
