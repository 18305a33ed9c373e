"""Taking turns: order, ratios, and contenders that fail."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.contender import take_turns
from bench.report import Hardware, Limit
from hashfleet.errors import EngineError


class Scripted:
    """Gives its rates one by one; None fails."""

    version = "1"
    limit: Limit | None = None

    def __init__(self, id: str, rates: Sequence[float | None], log: list[str], hardware: Hardware = "one core") -> None:
        self.id = id
        self.what = f"contender {id}"
        self.hardware = hardware
        self._rates = list(rates)
        self._log = log

    def measure(self, seconds: float) -> float:
        self._log.append(self.id)
        rate = self._rates.pop(0)
        if rate is None:
            raise EngineError("the device is gone")
        return rate


@pytest.fixture
def log() -> list[str]:
    return []


def test_every_other_round_runs_in_reverse_order(log: list[str]) -> None:
    take_turns([Scripted(name, [1.0] * 3, log) for name in "abc"], 3, 1.0)
    assert "".join(log) == "abccbaabc"


def test_ratios_are_taken_within_the_round(log: list[str]) -> None:
    figures, _ = take_turns([Scripted("hashlib", [1.0, 4.0], log), Scripted("cpu-1/T", [50.0, 200.0], log)], 2, 1.0)
    assert figures[1].ratios == {"hashlib": 50.0}
    assert figures[0].ratios == {}


def test_one_core_is_not_compared_with_all_of_them_nor_a_cpu_with_a_gpu(log: list[str]) -> None:
    contenders = [
        Scripted("hashcat-cpu", [100.0], log, "all cores"),
        Scripted("hashcat-gpu", [1000.0], log, "GPU"),
        Scripted("cpu-1/T", [70.0], log, "one core"),
        Scripted("cpu/T", [150.0], log, "all cores"),
        Scripted("cuda:0/T", [2000.0], log, "GPU"),
    ]
    figures, _ = take_turns(contenders, 1, 1.0)
    assert {figure.id: figure.ratios for figure in figures[2:]} == {
        "cpu-1/T": {},
        "cpu/T": {"hashcat-cpu": 1.5},
        "cuda:0/T": {"hashcat-gpu": 2.0},
    }


def test_a_contender_that_fails_is_out_and_named_and_the_others_go_on(log: list[str]) -> None:
    contenders = [Scripted("hashlib", [1.0, None], log), Scripted("cpu-1/T", [50.0, 60.0, 70.0], log)]
    figures, refused = take_turns(contenders, 3, 1.0)
    assert [(figure.id, figure.rounds) for figure in figures] == [("cpu-1/T", (50.0, 60.0, 70.0))]
    assert figures[0].ratios == {}
    assert [(each.what, each.reason) for each in refused] == [("contender hashlib", "the device is gone")]
    assert log.count("hashlib") == 2
