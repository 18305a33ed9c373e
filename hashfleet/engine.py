"""The one seam between the fleet and the devices that hash.

CUDA, OpenCL and CPU each implement `HashEngine`; the contract suite in tests/contract runs against all of them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
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

    def close(self) -> None:
        """Free the device. The engine is not used afterwards."""
        ...
