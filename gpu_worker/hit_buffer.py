"""Hits come back through a small buffer on the device; this keeps them all when it runs over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from hashfleet.errors import EngineError

#: Hits that fit a device's buffer: 256 KiB, and room for zeros = 1 in launches that are still worth their cost.
HIT_CAPACITY = 65_536
#: Kernels count work items in 32 bits.
MAX_LAUNCH = 2**31

#: launch(start, count) hashes that stretch and returns how many hits there were and, as far as the buffer holds
#: them, each hit's distance from `start`, in any order.
Launch: TypeAlias = Callable[[int, int], tuple[int, Sequence[int]]]


def largest_launch(zeros: int, capacity: int) -> int:
    """Nonces per launch such that a buffer of that capacity is expected to be half full at most."""
    return int(min(MAX_LAUNCH, max(1, capacity * 16**zeros // 2)))


def all_hits(launch: Launch, start: int, count: int, capacity: int) -> tuple[int, ...]:
    """Every hit of start .. start + count - 1, ascending; a stretch with too many is searched again in halves."""
    found, distances = launch(start, count)
    if found <= capacity:
        if len(distances) != found or any(not 0 <= distance < count for distance in distances):
            raise EngineError(f"the device reported {found} hits in {count} nonces, and they do not fit together")
        return tuple(sorted(start + int(distance) for distance in distances))
    if found > count:
        raise EngineError(f"the device reported {found} hits in {count} nonces, which cannot be")
    middle = count // 2
    return all_hits(launch, start, middle, capacity) + all_hits(launch, start + middle, count - middle, capacity)
