"""Which settings a device hashes fastest with: measured against its default settings, and chosen by a stated rule.

A room offers a `Tunable`: its default settings, the candidates, and how to open an engine with either. `tune` knows no
more of an engine than that::

    heats    each candidate against the default, HEAT_ROUNDS rounds; the FINALISTS best go on, unless they are HOPELESS
    duels    each finalist against the default, DUEL_ROUNDS rounds; only these decide
    shapes   the winner on shape T and on shape S, SHAPE_ROUNDS rounds, to be reported

There is no choice of a shape: T is used wherever it fits. A hash of T is one of S without its schedule: 514 slots
instead of 781 on NVIDIA, 775 operations instead of 1,118 on AMD, 822 instead of 1,262 on AVX-512 in OpenCL. The row of
the table that it reads instead has 208 bytes and serves all threads of a group: with 32 of them 7 bytes a hash.

A round measures both sides right after each other, in alternating order, and only the ratio within a round counts: on a
busy machine rates drift by a third within a minute, both sides of a round hardly. Duels measure anew, for the best of
many noisy heats owes its place in part to luck. Two engines are open at a time at most, so tuning a CPU of many cores
or a small GPU needs twice the memory of work and no more.

The rule (`beats`): a finalist wins if its median ratio to the default is at least 1 + LEAST_GAIN and it was faster in
11 of the 12 rounds: as many as chance gives an equal one with a probability of at most LUCK / FINALISTS, whatever the
noise looks like. Among those that win, the highest median ratio is taken; if none wins, the default stays.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import statistics
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar, cast

from hashfleet.difficulty import MAX_DIFFICULTY
from hashfleet.engine import Batch, EngineKind, HashEngine
from hashfleet.errors import EngineError, InvalidInput
from hashfleet.message import NonceSpace, lay_out
from hashfleet.proof import MAX_NONCE_DIGITS
from hashfleet.self_test import ORDINARY, self_test

logger = logging.getLogger(__name__)

HEAT_ROUNDS = 3
FINALISTS = 3
#: Below this ratio in its heat no noise of ours explains a candidate; it need not be measured longer.
HOPELESS = 0.9
#: The fewest rounds of which one may be lost at LUCK.
DUEL_ROUNDS = 12
SHAPE_ROUNDS = 3
#: A gain of less is not worth an entry, whatever the rounds say.
LEAST_GAIN = 0.01
#: Probability that any of the finalists wins by chance, were all of them equal to the default.
LUCK = 0.01

#: Nonces of shape S have at most this many digits, if the prefix leaves room for them in one block.
_SHORT_NONCE_DIGITS = 35
#: Like a lease's: the coordinator gives 14 digits of extranonce and 12 of counter.
_EXTRANONCE = "41720300001700"
_COUNTER_DIGITS = 12

SettingValue: TypeAlias = int | str | None
#: Of nonces; see `hashfleet.message`.
Shape: TypeAlias = Literal["T", "S"]


class Settings(Protocol):
    """A frozen dataclass whose fields are `SettingValue`s; its str is short, for people."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """What settings are measured for. Devices that agree in all of it share them: eight equal cards are tuned once."""

    kind: EngineKind
    #: As the driver names the model; for the CPU also the number of its cores.
    name: str
    #: Versions of driver and runtime.
    driver: str
    #: Digest of what is compiled for it (`digest_of`).
    kernels: str


@dataclass(frozen=True, slots=True)
class Tunable(Generic[S]):
    """What a room offers to tune on one device."""

    device_id: str
    model: DeviceModel
    default: S
    #: Other settings worth a try, the likeliest first; none of them equals the default.
    candidates: tuple[S, ...]
    #: Opens the device with these settings; the engine has not been tested yet.
    open: Callable[[S], HashEngine]

    def matching(self, values: dict[str, SettingValue]) -> S | None:
        """The default or candidate with exactly these values; None if there is none.

        So nothing that a file says reaches a device unless the code itself would have tried it.
        """
        return next((known for known in (self.default, *self.candidates) if values_of(known) == values), None)


@dataclass(frozen=True, slots=True)
class Trial(Generic[S]):
    """How one candidate did."""

    settings: S
    #: Hashes a second, the median of its rounds; None if it was refused.
    rate: float | None = None
    #: Median ratio to the default measured in the same round; None if it was refused.
    ratio: float | None = None
    rounds: int = 0
    #: Its ratios come from a duel, not from a heat.
    finalist: bool = False
    #: Why it did not take part to the end: one sentence.
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome(Generic[S]):
    """What tuning one device gave."""

    #: The default first, then every candidate in its order.
    trials: tuple[Trial[S], ...]
    #: None: nothing beat the default.
    winner: S | None
    #: Median ratio of the winner to the default; 1 for the default.
    ratio: float
    #: Hashes a second of the winner (or the default), by shape: "T" and "S".
    rates: dict[Shape, float]


#: progress(rounds done, rounds in all, what is measured)
Progress: TypeAlias = Callable[[int, int, str], None]


def values_of(settings: Settings) -> dict[str, SettingValue]:
    """The settings by name, for a file."""
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def describe(settings: S, default: S) -> str:
    """
    What these settings do unlike the default ones, for people.

    >>> from dataclasses import make_dataclass
    >>> Any = make_dataclass("Any", ["group_size", "width"], frozen=True)
    >>> describe(Any(64, 1), Any(32, 1)), describe(Any(32, 1), Any(32, 1))
    ('group size 64', 'the default settings')
    """
    usual = values_of(default)
    said = [f"{name.replace('_', ' ')} {value}" for name, value in values_of(settings).items() if value != usual[name]]
    return ", ".join(said) or "the default settings"


def digest_of(*texts: str) -> str:
    """16 hex digits that change when any of these texts does."""
    whole = hashlib.sha256()
    for text in texts:
        data = text.encode()
        whole.update(len(data).to_bytes(8, "big"))
        whole.update(data)
    return whole.hexdigest()[:16]


# --- the choice: pure


def ratios(rates: Sequence[float], base: Sequence[float]) -> list[float]:
    """Round by round, how much faster the first was. Raises ValueError unless both have the same rounds."""
    return [rate / other for rate, other in zip(rates, base, strict=True)]


def allowed_losses(rounds: int) -> int | None:
    """In how many of `rounds` rounds a winner may be slower; None if even a clean sweep may be chance."""
    chance, losses = 0.0, None
    for lost in range(rounds + 1):
        chance += math.comb(rounds, lost) / 2**rounds
        if chance > LUCK / FINALISTS:
            break
        losses = lost
    return losses


def beats(paired: Sequence[float]) -> bool:
    """Whether these ratios, one per round, show a gain that is neither noise nor negligible (see the module)."""
    losses = allowed_losses(len(paired))
    if losses is None:
        return False
    return sum(ratio <= 1 for ratio in paired) <= losses and statistics.median(paired) >= 1 + LEAST_GAIN


def finalists(heats: Sequence[Sequence[float]], most: int = FINALISTS) -> list[int]:
    """The candidates whose heats had the highest median ratio, best first; one without rounds was refused."""
    ran = [index for index, heat in enumerate(heats) if heat and statistics.median(heat) >= HOPELESS]
    return sorted(ran, key=lambda index: -statistics.median(heats[index]))[:most]


def choose(duels: Sequence[Sequence[float]]) -> int | None:
    """Which duel was won most clearly; None if none was won. The earlier of equals."""
    won = [index for index, paired in enumerate(duels) if beats(paired)]
    return max(won, key=lambda index: statistics.median(duels[index]), default=None)


# --- the measurement


def tune(
    tunable: Tunable[S],
    seconds: float,
    *,
    progress: Progress = lambda done, total, what: None,
    test: Callable[[HashEngine], None] = self_test,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome[S]:
    """Measure every candidate for about `seconds` in all; opening, compiling and testing engines comes on top.

    A candidate that does not open, fails, or does not pass `test` is refused. Raises EngineError if that happens to
    the default settings.
    """
    if not seconds > 0:  # nor NaN
        raise InvalidInput(f"the time for tuning is {seconds:g} s; it should be above 0")
    return _Tuning(tunable, seconds, progress, test, clock).run()


class _Tuning(Generic[S]):
    """One run of `tune`."""

    def __init__(
        self,
        tunable: Tunable[S],
        seconds: float,
        progress: Progress,
        test: Callable[[HashEngine], None],
        clock: Callable[[], float],
    ) -> None:
        self._tunable = tunable
        self._progress = progress
        self._test = test
        self._clock = clock
        final = min(FINALISTS, len(tunable.candidates))
        self._total = len(tunable.candidates) * HEAT_ROUNDS + final * DUEL_ROUNDS + SHAPE_ROUNDS
        # Two sides to a round, and as long as one side for warming up each engine that is opened.
        self._slice = seconds / (2 * self._total + len(tunable.candidates) + final + 2)
        self._done = 0
        self._shared = _space(MAX_NONCE_DIGITS)
        self._short = _space(_SHORT_NONCE_DIGITS)
        self._trials = [Trial(settings) for settings in tunable.candidates]
        self._default_rates: list[float] = []

    def run(self) -> Outcome[S]:
        with closing(self._opened(self._tunable.default)) as default:
            heats = [self._contest(index, default, HEAT_ROUNDS) for index in range(len(self._trials))]
            best = finalists(heats)
            self._done = len(self._trials) * HEAT_ROUNDS
            duels = [self._contest(index, default, DUEL_ROUNDS) for index in best]
            chosen = choose(duels)
            winner = None if chosen is None else self._trials[best[chosen]].settings
            self._done = self._total - SHAPE_ROUNDS
            if winner is None:
                shared, short = self._both_shapes(default)
        if winner is not None:
            with closing(self._opened(winner)) as engine:
                shared, short = self._both_shapes(engine)
        base = Trial(
            self._tunable.default, statistics.median(self._default_rates or shared), 1.0, len(self._default_rates)
        )
        return Outcome(
            (base, *self._trials),
            winner,
            1.0 if chosen is None else statistics.median(duels[chosen]),
            {"T": statistics.median(shared), "S": statistics.median(short)},
        )

    def _opened(self, settings: S) -> HashEngine:
        engine = self._tunable.open(settings)
        try:
            self._test(engine)
            self._rate(engine, self._shared)
        except BaseException:  # Ctrl-C too
            engine.close()
            raise
        return engine

    def _contest(self, index: int, default: HashEngine, rounds: int) -> list[float]:
        """Ratios of a candidate to the default, one per round; none if it was refused, now or before."""
        trial = self._trials[index]
        what = describe(trial.settings, self._tunable.default)
        mine: list[float] = []
        base: list[float] = []
        try:
            with closing(self._opened(trial.settings)) as engine:
                for turn in range(rounds):
                    self._progress(self._done, self._total, what)
                    for first in (turn % 2 == 0, turn % 2 == 1):
                        if first:
                            base.append(self._default_rate(default))
                        else:
                            mine.append(self._rate(engine, self._shared))
                    self._done += 1
        except _DefaultFailed as error:
            raise error.cause from None
        except (EngineError, InvalidInput) as error:
            logger.info("%s with %s is refused: %s", self._tunable.device_id, what, error)
            self._trials[index] = Trial(trial.settings, refused=str(error))
            return []
        self._default_rates += base
        paired = ratios(mine, base)
        self._trials[index] = Trial(
            trial.settings, statistics.median(mine), statistics.median(paired), rounds, rounds == DUEL_ROUNDS
        )
        return paired

    def _both_shapes(self, engine: HashEngine) -> tuple[list[float], list[float]]:
        """Rates on shape T and on shape S, round by round."""
        shared: list[float] = []
        short: list[float] = []
        self._rate(engine, self._short)
        for _ in range(SHAPE_ROUNDS):
            self._progress(self._done, self._total, "both shapes of nonces")
            shared.append(self._rate(engine, self._shared))
            short.append(self._rate(engine, self._short))
            self._done += 1
        self._progress(self._total, self._total, "done")
        return shared, short

    def _default_rate(self, engine: HashEngine) -> float:
        try:
            return self._rate(engine, self._shared)
        except EngineError as error:
            raise _DefaultFailed(error) from error

    def _rate(self, engine: HashEngine, space: NonceSpace) -> float:
        """Hashes a second over a slice of the time."""
        began, nonces = None, 0
        while True:
            search = engine.search(space, 0, space.capacity, MAX_DIFFICULTY)
            with closing(cast("Generator[Batch, None, None]", search)) as batches:  # close() stops the device
                for batch in batches:
                    now = self._clock()
                    if began is None:
                        began = now  # the first batch fills the queue of launches: not at the device's pace
                        continue
                    nonces += batch.count
                    if now - began >= self._slice:
                        return nonces / (now - began)


class _DefaultFailed(Exception):
    """The default settings failed while a candidate was measured: not the candidate's fault."""

    def __init__(self, cause: EngineError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _space(most_digits: int) -> NonceSpace:
    return lay_out(ORDINARY.prefix, _EXTRANONCE, _COUNTER_DIGITS, most_digits)
