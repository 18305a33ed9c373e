"""The self-test refuses a device that drops, invents, repeats or skips anything, and passes one that is right."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import pytest

from cpu_fallback.search import search_range
from hashfleet.engine import Batch, DeviceInfo, EngineKind
from hashfleet.errors import EngineError, SelfTestFailed
from hashfleet.message import LOW_DIGITS, NonceSpace
from hashfleet.self_test import (
    _CASES,
    ORDINARY,
    RARE,
    SHARED,
    SHORT,
    SHORT_13,
    _Case,
    measure_rate,
    self_test,
)

Spoil = Callable[[list[Batch]], list[Batch]]


class SpoiltEngine:
    """An engine in this process whose right answers pass through `spoil` first."""

    device = DeviceInfo("opencl:0.0", "Spoilt GPU", EngineKind.OPENCL, "1.0")

    def __init__(self, spoil: Spoil) -> None:
        self.spoil = spoil

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
        half = max(1, count // 2)
        edges = [(start, half), (start + half, count - half)] if count > half else [(start, half)]
        batches = [
            Batch(at, n, search_range(space.constant, space.counter_digits, at, n, zeros, space.filler_digits))
            for at, n in edges
        ]
        yield from self.spoil(batches)

    def close(self) -> None:
        pass


def drop_the_last_hit(batches: list[Batch]) -> list[Batch]:
    last = batches[-1]
    return [*batches[:-1], Batch(last.start, last.count, last.hits[:-1])]


def invent_a_hit(batches: list[Batch]) -> list[Batch]:
    last = batches[-1]
    return [*batches[:-1], Batch(last.start, last.count, tuple(sorted({*last.hits, last.start})))]


def repeat_a_hit(batches: list[Batch]) -> list[Batch]:
    return [Batch(b.start, b.count, b.hits[:1] + b.hits) for b in batches]


def reverse_the_hits(batches: list[Batch]) -> list[Batch]:
    return [Batch(b.start, b.count, b.hits[::-1]) for b in batches]


def leave_out_a_batch(batches: list[Batch]) -> list[Batch]:
    return batches[1:]


def stop_early(batches: list[Batch]) -> list[Batch]:
    return batches[:-1]


def go_on_too_far(batches: list[Batch]) -> list[Batch]:
    last = batches[-1]
    return [*batches, Batch(last.start + last.count, 1, ())]


def test_an_engine_that_is_right_passes() -> None:
    self_test(SpoiltEngine(lambda batches: batches))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_the_last_hit, r"opencl:0\.0 \(Spoilt GPU\) .* missed 1 hit \(nonce \d+\)"),
        (invent_a_hit, r"invented 1 hit \(nonce \d+\)"),
        (repeat_a_hit, "twice or out of order"),
        (reverse_the_hits, "twice or out of order"),
        (leave_out_a_batch, "batches should continue at 4711"),
        (stop_early, "ended its search at nonce 5711"),
        (go_on_too_far, "end before 6711"),
    ],
)
def test_an_engine_that_is_wrong_is_refused_with_what_it_did(spoil: Spoil, message: str) -> None:
    with pytest.raises(SelfTestFailed, match=message):
        self_test(SpoiltEngine(spoil))


def test_an_engine_that_looks_at_the_first_digest_word_only_is_refused() -> None:
    class OneWord(SpoiltEngine):
        def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
            return super().search(space, start, count, min(zeros, 8))

    with pytest.raises(SelfTestFailed, match="for nine zeros it invented"):
        self_test(OneWord(lambda batches: batches))


def test_an_engine_that_counts_in_32_bits_is_refused() -> None:
    class Narrow(SpoiltEngine):
        def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
            for batch in super().search(space, start % 2**32, count, zeros):
                yield Batch(start - start % 2**32 + batch.start, batch.count, batch.hits)

    with pytest.raises(SelfTestFailed):
        self_test(Narrow(lambda batches: batches))


@pytest.mark.parametrize("long", [case for case in _CASES if case.count > 2**16], ids=lambda case: case.what)
def test_the_known_hits_are_those_of_hashlib(long: _Case) -> None:
    zeros = b"\0" * (long.zeros // 2)
    head = hashlib.sha256(long.space.constant)
    filler, low = b"0" * long.space.filler_digits, 10**LOW_DIGITS
    found = []
    for counter in range(long.start, long.start + long.count):
        message = head.copy()
        high, tail = divmod(counter, low)
        message.update(b"%08d%b%04d" % (high, filler, tail))
        if message.digest().startswith(zeros):
            found.append(counter)

    assert tuple(found) == long.hits


def test_both_shapes_are_tested_in_each_of_their_forms() -> None:
    shapes = {(case.space.shared is not None, case.space.short and case.space.short.word) for case in _CASES}

    assert shapes >= {(True, None), (False, 12), (False, 13), (False, None)}


@pytest.mark.parametrize("space", [SHARED, SHORT, SHORT_13])
def test_an_engine_that_is_wrong_in_one_kernel_is_refused(space: NonceSpace) -> None:
    class OneKernelIsWrong(SpoiltEngine):
        def search(self, searched: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
            wrong = (searched.short, searched.shared) == (space.short, space.shared)
            for batch in super().search(searched, start, count, zeros):
                yield Batch(batch.start, batch.count, batch.hits[:-1]) if wrong else batch

    with pytest.raises(SelfTestFailed, match="missed"):
        self_test(OneKernelIsWrong(lambda batches: batches))


def test_the_rare_nonce_has_eight_zeros_and_no_more() -> None:
    digest = hashlib.sha256(ORDINARY.message(RARE)).hexdigest()

    assert digest.startswith("00000000") and digest[8] != "0"


class Timed:
    """An engine whose batches take a quarter of a second by its own clock."""

    device = SpoiltEngine.device

    def __init__(self, batches: int = 1000) -> None:
        self.now = 0.0
        self.batches = batches
        self.closed = 0

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
        try:
            for number in range(self.batches):
                self.now += 0.25
                # The warming up is slow and must not count.
                nonces = 10 if number < 4 else 500
                yield Batch(start, nonces, ())
                start += nonces
        finally:
            self.closed += 1

    def close(self) -> None:
        pass


def test_the_rate_is_nonces_by_seconds_after_the_warming_up() -> None:
    engine = Timed()

    assert measure_rate(engine, 1.0, clock=lambda: engine.now) == 2000.0


def test_measuring_leaves_no_search_behind() -> None:
    engine = Timed()
    measure_rate(engine, 0.5, clock=lambda: engine.now)

    assert engine.closed == 1


def test_an_engine_that_ends_an_endless_search_is_an_error() -> None:
    engine = Timed(batches=3)
    with pytest.raises(EngineError, match="ended a search"):
        measure_rate(engine, 1.0, clock=lambda: engine.now)
