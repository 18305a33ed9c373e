"""Waiting for a machine that others use too to be idle, so that fewer rounds measure somebody else's work."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

_STAT = Path("/proc/stat")
_LOOK_SECONDS = 0.25
#: Cores in use by others that do not spoil a measurement.
_IDLE_CORES = 0.15


def wait_until_quiet(
    patience: float,
    busy_cores: Callable[[float], float] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Wait until less than 0.15 cores are in use, at most `patience` seconds; whether it is quiet then.

    Called while nothing of ours runs. True at once where the machine does not tell (no /proc/stat).
    """
    look = busy_cores or _busy_cores
    give_up_at = clock() + patience
    while patience > 0 and look(_LOOK_SECONDS) >= _IDLE_CORES:
        if clock() >= give_up_at:
            return False
    return True


def _busy_cores(seconds: float) -> float:
    """Cores in use, on average over that time."""
    before = _busy_ticks()
    if before is None:
        return 0.0
    time.sleep(seconds)
    after = _busy_ticks()
    assert after is not None
    # both counters are sums over all cores: their ratio is a share of the machine
    busy, total = after[0] - before[0], after[1] - before[1]
    return after[2] * busy / max(1, total)


def _busy_ticks() -> tuple[int, int, int] | None:
    """Ticks that were not idle, all ticks, and the number of cores; None where the kernel does not tell."""
    try:
        lines = _STAT.read_text().splitlines()
    except OSError:
        return None
    ticks = [int(field) for field in lines[0].split()[1:9]]
    cores = sum(line.startswith("cpu") for line in lines) - 1
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks), cores
