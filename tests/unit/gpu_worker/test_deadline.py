"""Waiting for a device ends, one way or the other."""

from __future__ import annotations

import pytest

from gpu_worker.deadline import wait_until
from hashfleet.errors import EngineError


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def test_a_device_that_is_done_is_not_waited_for() -> None:
    clock = Clock()
    wait_until(lambda: True, 1.0, "cuda:0", clock, clock.sleep)

    assert clock.pauses == []


def test_a_device_that_never_answers_is_an_error_after_the_limit() -> None:
    clock = Clock()
    with pytest.raises(EngineError, match=r"opencl:0\.1 did not answer within 30 s"):
        wait_until(lambda: False, 30.0, "opencl:0.1", clock, clock.sleep)

    assert 30.0 < clock.now < 30.01


@pytest.mark.parametrize("seconds", [0.001, 0.05, 1.0])
def test_the_end_of_a_batch_is_noticed_less_than_two_percent_late(seconds: float) -> None:
    clock = Clock()
    wait_until(lambda: clock.now >= seconds, 30.0, "cuda:0", clock, clock.sleep)

    assert clock.now < 1.02 * seconds + 2e-5


def test_what_the_device_raises_is_passed_on() -> None:
    def fail() -> bool:
        raise EngineError("cuda:0 fell off the bus")

    with pytest.raises(EngineError, match="fell off the bus"):
        wait_until(fail, 30.0, "cuda:0")
