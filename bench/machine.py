"""Where, when and of what something was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.report import Machine, Made
from hashfleet.version import __version__

CHECKOUT = Path(__file__).resolve().parent.parent
_GIT_SECONDS = 10.0


def made_now(gpus: tuple[str, ...] = ()) -> Made:
    """This machine, now."""
    return Made(
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        hashfleet=__version__,
        commit=commit(CHECKOUT),
        machine=Machine(
            cpu=_cpu_name(),
            cores=len(os.sched_getaffinity(0)),
            gpus=gpus,
            platform=f"{platform.system()} {platform.release()}, {platform.machine()}",
            python=platform.python_version(),
        ),
        load=os.getloadavg()[0],
    )


#: What a run writes, left out in git's way of naming paths.
_RECORDED: Final = (":!bench/results", ":!docs/benchmarks.md")


def commit(checkout: Path) -> str | None:
    """git's short hash of a checkout, "+changes" behind it if tracked files differ; None outside one.

    What a run of several kinds has just recorded changes nothing of what it measures, so results do not count.
    """
    try:
        if _git(checkout, "rev-parse", "--show-toplevel") != str(checkout):
            return None  # an installed package within somebody else's checkout
        changed = _git(checkout, "status", "--porcelain", "--untracked-files=no", "--", ".", *_RECORDED)
        return _git(checkout, "rev-parse", "--short=10", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=checkout, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True
    )
    return done.stdout.strip()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []  # not Linux
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or "unknown"
