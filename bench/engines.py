"""How fast every hash engine of this machine is: the same search, the same clock, several rounds each."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from cpu_fallback.engine import CpuEngine
from gpu_worker.discovery import find_devices, open_engine
from hashfleet.engine import DeviceInfo, HashEngine
from hashfleet.errors import EngineError, EngineUnavailable
from hashfleet.self_test import measure_rate, self_test

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineResult:
    """One device, measured after its self-test."""

    device: DeviceInfo
    #: Hashes a second, one value a round.
    rates: tuple[float, ...]

    def as_json(self) -> dict[str, object]:
        """Rates in hashes a second; spread is (largest - smallest) / median."""
        median = statistics.median(self.rates)
        return {
            "device_id": self.device.device_id,
            "name": self.device.name,
            "engine": self.device.kind.value,
            "driver": self.device.driver,
            "rate": round(median),
            "spread": round((max(self.rates) - min(self.rates)) / median, 4),
            "rounds": [round(rate) for rate in self.rates],
        }


@dataclass(frozen=True, slots=True)
class EngineRefusal:
    """A kind of engine or a device that could not be measured: said, not left out."""

    what: str
    reason: str

    def as_json(self) -> dict[str, object]:
        """What was not measured, and why."""
        return {"not_measured": self.what, "reason": self.reason}


def measure(kinds: Sequence[str], rounds: int, seconds: float) -> list[EngineResult | EngineRefusal]:
    """Measure each device of these kinds ("cuda", "opencl", "cpu"), `rounds` times for `seconds` each."""
    results: list[EngineResult | EngineRefusal] = []
    for kind in kinds:
        if kind == "cpu":
            results.append(_measure_one("cpu", CpuEngine, rounds, seconds))
            continue
        try:
            devices = find_devices(kind)
        except EngineUnavailable as error:
            results.append(EngineRefusal(kind, str(error)))
            continue
        for device in devices:
            results.append(_measure_one(device.device_id, _opener(device.device_id), rounds, seconds))
    return results


def _opener(device_id: str) -> Callable[[], HashEngine]:
    return lambda: open_engine(device_id)


def _measure_one(
    device_id: str, opened: Callable[[], HashEngine], rounds: int, seconds: float
) -> EngineResult | EngineRefusal:
    logger.info("measuring %s", device_id)
    try:
        with closing(opened()) as engine:
            self_test(engine)
            return EngineResult(engine.device, tuple(measure_rate(engine, seconds) for _ in range(rounds)))
    except EngineError as error:
        return EngineRefusal(device_id, str(error))
