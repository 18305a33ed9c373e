"""What others do on the machine meanwhile: waiting until it is idle, and telling which measurements they disturbed.

Cores in use by others are the kernel's busy time less that of our own processes, so the choice between two measurements
of the same thing can be made by how much each was disturbed, and never by what it gave.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

#: Cores in use by others that do not spoil a measurement.
IDLE_CORES = 0.15
#: A disturbed measurement is made again, so many times in all.
_TRIES = 4
_LOOK_SECONDS = 0.25
_PROC = Path("/proc")

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class CpuUse:
    """CPU seconds since the machine started."""

    #: time.monotonic()
    at: float
    #: Of all processes and interrupts, on all cores.
    machine: float
    #: Of this process and its descendants, those that ended and were waited for included.
    ours: float

    def others_since(self, before: CpuUse) -> float:
        """Cores that others used on average between the two."""
        others = (self.machine - before.machine) - (self.ours - before.ours)
        return max(0.0, others / max(1e-3, self.at - before.at))


def cpu_use() -> CpuUse:
    """Now; all zeros but the time where the kernel does not tell, so that nobody seems to disturb us there."""
    line = _text(_PROC / "stat").partition("\n")[0]
    if not line:
        return CpuUse(time.monotonic(), 0.0, 0.0)
    stats = [text for path in _PROC.glob("[0-9]*/stat") if (text := _text(path))]
    return CpuUse(time.monotonic(), machine_seconds(line), our_seconds(stats, os.getpid()))


def machine_seconds(line: str) -> float:
    """From the first line of /proc/stat: everything but idling and waiting for disks."""
    ticks = [int(field) for field in line.split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def our_seconds(stats: list[str], root: int) -> float:
    """From all /proc/PID/stat: of `root` and its descendants, with their ended children."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for stat in stats:
        fields = stat.rpartition(")")[2].split()  # what stands before may hold spaces
        pid = int(stat.partition(" ")[0])
        parents[pid] = int(fields[1])
        ticks[pid] = sum(map(int, fields[11:15]))
    ours = {root}
    while more := {pid for pid, parent in parents.items() if parent in ours and pid not in ours}:
        ours |= more
    return sum(ticks.get(pid, 0) for pid in ours) / os.sysconf("SC_CLK_TCK")


def wait_until_quiet(
    patience: float,
    look: Callable[[], float] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Wait until others use less than IDLE_CORES, at most `patience` seconds; whether it is quiet then."""
    look = look or _look
    give_up_at = clock() + patience
    while patience > 0 and look() >= IDLE_CORES:
        if clock() >= give_up_at:
            return False
    return True


def undisturbed(
    measure: Callable[[], _Result],
    patience: float,
    use: Callable[[], CpuUse] = cpu_use,
    wait: Callable[[float], bool] = wait_until_quiet,
) -> tuple[_Result, float]:
    """Measure once the machine is quiet, and again if others disturbed it: the least disturbed result.

    Beside it stand the cores that others used meanwhile. Without patience the first result is taken as it is.
    """
    results: list[tuple[float, _Result]] = []
    for _ in range(_TRIES if patience > 0 else 1):
        wait(patience)
        before = use()
        result = measure()
        others = use().others_since(before)
        results.append((others, result))
        if others < IDLE_CORES:
            break
    others, result = min(results, key=lambda pair: pair[0])
    return result, others


def _look() -> float:
    before = cpu_use()
    time.sleep(_LOOK_SECONDS)
    return cpu_use().others_since(before)


def _text(path: Path) -> str:
    """Empty if there is no such file: no /proc, or a process that ended since the folder was listed."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
