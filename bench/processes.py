"""What a process takes of the machine, by /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def tree_seconds(pid: int) -> float:
    """Processor seconds of a process and of its living descendants; 0 for one that is gone."""
    return cpu_seconds(pid) + sum(tree_seconds(child) for child in _children(pid))


def cpu_seconds(pid: int) -> float:
    """Processor seconds of all threads of a process, to a hundredth; 0 for one that is gone."""
    try:
        # the name, in parentheses, may hold anything
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident(pid: int) -> int:
    """Bytes of memory that a process holds: its resident set."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return found
    for task in tasks:
        try:
            found += map(int, (task / "children").read_text(encoding="ascii").split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that ended meanwhile
    return found
