"""The one seam between the fleet and the devices that hash.

CUDA, OpenCL and CPU each implement `HashEngine`; the contract suite in tests/contract runs against all of them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hashfleet.message import NonceSpace


class EngineKind(enum.Enum):
    """What drives a device."""

    CUDA = "cuda"
    OPENCL = "opencl"
    CPU = "cpu"


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One device, as the fleet names it."""

    #: Unique within the host: "cuda:0", "opencl:0.1" (platform.device), "cpu".
    device_id: str
    #: As the driver names it.
    name: str
    kind: EngineKind
    #: Driver or runtime version, for people.
    driver: str


@dataclass(frozen=True, slots=True)
class Batch:
    """A searched stretch of counters: start .. start + count - 1, every one hashed exactly once."""

    start: int
    count: int
    #: Counter values whose hash has the zeros asked for, ascending.
    hits: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """One of many small searches: the counters start .. start + count - 1, until the first hit."""

    space: NonceSpace
    start: int
    count: int
    #: Leading hex zeros that a hit needs, 1 to 64.
    zeros: int


@dataclass(frozen=True, slots=True)
class Found:
    """How far one of many searches is. It is over with a hit, or when `done` is the search's whole count."""

    #: Which search: its place in the sequence that was asked for.
    index: int
    #: Counters from the search's start on that are hashed and hold no hit but `hit`; with a hit perhaps fewer than are.
    done: int
    #: A counter whose hash has the zeros asked for; None if there is none so far.
    hit: int | None


class HashEngine(Protocol):
    """A device that searches nonce spaces. Not safe for use by two threads at once."""

    @property
    def device(self) -> DeviceInfo: ...

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
        """Hash the counters start .. start + count - 1 and yield what was found, batch after batch.

        Batches follow each other without gap or overlap, in ascending order, and together cover the range exactly.
        A batch takes about 50 ms, so that whoever iterates can report progress, ask for other zeros (by a new
        search from where it is) or stop, by closing the iterator: the device is idle within one batch after that.

        `zeros` is 1 to 64 leading hex zeros; a hit has at least that many. Hits are unchecked claims.
        Raises InvalidInput for a range outside the space, EngineError if the device fails or does not answer.
        """
        ...

    def search_many(self, searches: Sequence[Search]) -> Iterator[Found]:
        """Search many small ranges, each until its first hit, and yield what was found, in any order.

        Small means less than about 50 ms each. Every search is over exactly once, with a hit or exhausted; before
        that it may be heard of with what is done so far. Something is yielded about every 50 ms, so that whoever
        iterates can stop by closing the iterator: the device is idle within about 50 ms after that. An engine that
        has no better way answers with `hashfleet.batches.search_each`. Hits are unchecked claims. No other search is
        begun before this one is over or closed.

        Raises InvalidInput if any of the ranges lies outside its space, EngineError as `search` does.
        """
        ...

    def close(self) -> None:
        """Free the device. The engine is not used afterwards."""
        ...
