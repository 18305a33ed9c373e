"""Waiting for an idle machine, and not for ever; choosing the measurement that others disturbed least."""

from __future__ import annotations

import os
from itertools import count, repeat

import pytest

from bench.quiet import CpuUse, cpu_use, machine_seconds, our_seconds, undisturbed, wait_until_quiet

TICK = os.sysconf("SC_CLK_TCK")


def stat(pid: int, parent: int, *ticks: int, name: str = "python") -> str:
    """A line of /proc/PID/stat: user and system ticks, its own and those of its ended children."""
    return f"{pid} ({name}) S {parent} 1 1 0 -1 4194304 0 0 0 0 {' '.join(map(str, ticks))} 20 0 1 0 100 0 0\n"


def test_it_waits_while_others_compute() -> None:
    busy = iter([1.9, 0.4, 0.05])
    assert wait_until_quiet(10.0, lambda: next(busy), lambda: 0.0)
    assert list(busy) == []


def test_its_patience_has_an_end() -> None:
    busy, clock = repeat(2.0), count()
    assert not wait_until_quiet(10.0, lambda: next(busy), lambda: float(next(clock)))
    assert next(clock) == 11


def test_without_patience_it_does_not_even_look() -> None:
    assert wait_until_quiet(0.0, lambda: 1 / 0)


def test_idling_and_waiting_for_disks_is_no_use_of_the_machine() -> None:
    assert machine_seconds("cpu  100 20 30 9999 8888 4 5 6 0 0") == pytest.approx(165 / TICK)


def test_our_time_is_that_of_all_descendants_and_of_nobody_else() -> None:
    stats = [
        stat(10, 1, 100, 10, 5, 1),
        stat(11, 10, 200, 20, 0, 0, name="a name) with (brackets"),
        stat(12, 11, 300, 30, 0, 0),
        stat(13, 1, 9000, 900, 0, 0),
    ]
    assert our_seconds(stats, 10) == pytest.approx((116 + 220 + 330) / TICK)


def test_others_use_what_the_machine_does_and_we_do_not() -> None:
    assert CpuUse(12.0, 108.0, 55.0).others_since(CpuUse(10.0, 105.0, 53.0)) == pytest.approx(0.5)


def test_rounding_never_gives_less_than_nobody() -> None:
    assert CpuUse(12.0, 107.0, 55.1).others_since(CpuUse(10.0, 105.0, 53.0)) == 0.0


def test_our_own_computing_is_seen_as_ours() -> None:
    before = cpu_use()
    while (now := cpu_use()).ours <= before.ours:
        sum(range(10**6))
    assert now.machine > before.machine


class Machine:
    """Others use so many cores during each measurement of one second."""

    def __init__(self, others: list[float]) -> None:
        self._others = others
        self._looks = 0
        self._used = 0.0

    def use(self) -> CpuUse:
        if self._looks % 2:
            self._used += self._others[self._looks // 2]
        self._looks += 1
        return CpuUse(float(self._looks), self._used, 0.0)


@pytest.mark.parametrize(
    ("others", "chosen"),
    [([0.0], 1), ([0.9, 0.1], 2), ([0.9, 0.3, 0.5, 0.4], 2), ([0.2, 1.0, 1.0, 1.0], 1)],
)
def test_the_least_disturbed_measurement_counts_whatever_it_gave(others: list[float], chosen: int) -> None:
    results = count(1)
    measured = undisturbed(lambda: next(results), 10.0, Machine(others).use, lambda patience: True)
    assert measured == (chosen, pytest.approx(others[chosen - 1]))
    assert next(results) == len(others) + 1


def test_without_patience_the_first_measurement_counts() -> None:
    results = count(1)
    assert undisturbed(lambda: next(results), 0.0, Machine([0.9]).use) == (1, pytest.approx(0.9))
