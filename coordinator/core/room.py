"""Which devices have room for another lease, the emptiest first, without looking at all of them each time."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

from coordinator.core.roster import Device

#: A job that a device is expected to solve within this is small: it gets one lease, which ends with its first hit.
SMALL_SECONDS = 0.05
#: Dead items that a heap may hold beside each live one before it is swept.
_SPARE_ITEMS = 4

#: (large leases, seconds of small leases, number of the device): the least goes first.
_Key = tuple[int, float, int]


@dataclass(slots=True)
class _Bucket:
    """Devices that take the same jobs for small."""

    large: list[tuple[_Key, Device]] = field(default_factory=list)
    small: list[tuple[_Key, Device]] = field(default_factory=list)
    devices: int = 0


@dataclass(slots=True)
class Room:
    """An index of the devices that may be granted a lease. `file` a device whenever something of it has changed."""

    #: By the most zeros of a job that is small for the device.
    _buckets: dict[int, _Bucket] = field(default_factory=dict)

    def file(self, device: Device, *, open_to_leases: bool) -> None:
        """Put a device where it belongs now; `open_to_leases` is False for one that rests, drains or is gone."""
        self._take_out(device)
        if not open_to_leases or not (device.has_room(small=True) or device.has_room(small=False)):
            return
        zeros = small_zeros(device.best_rate)
        key = (device.large, device.small_seconds, device.number)
        device.filed = (zeros, key)
        bucket = self._buckets.setdefault(zeros, _Bucket())
        bucket.devices += 1
        if device.has_room(small=False):
            _push(bucket.large, (key, device), bucket)
        if device.has_room(small=True):
            _push(bucket.small, (key, device), bucket)

    def emptiest(self, zeros: int, *, may_be_small: bool) -> tuple[Device, bool] | None:
        """The device that takes a job of this difficulty next, and whether it is small there; None if none does."""
        best: tuple[_Key, Device, bool] | None = None
        for small_up_to, bucket in self._buckets.items():
            small = may_be_small and zeros <= small_up_to
            head = _head(bucket.small if small else bucket.large, small_up_to)
            if head is not None and (best is None or head[0] < best[0]):
                best = (*head, small)
        return None if best is None else best[1:]

    @property
    def none(self) -> bool:
        """True if no device takes anything."""
        return not self._buckets

    def _take_out(self, device: Device) -> None:
        if device.filed is None:
            return
        zeros = device.filed[0]
        device.filed = None
        bucket = self._buckets[zeros]
        bucket.devices -= 1
        if not bucket.devices:
            del self._buckets[zeros]


def small_zeros(rate: float) -> int:
    """The most zeros of a job that a device of this rate (hashes a second) solves within SMALL_SECONDS."""
    hashes = rate * SMALL_SECONDS
    if hashes < 1:
        return 0
    zeros = int(math.log2(hashes) / 4)
    # the logarithm may be off by one in its last place
    while 16 ** (zeros + 1) <= hashes:
        zeros += 1
    while zeros and 16**zeros > hashes:
        zeros -= 1
    return zeros


def _push(heap: list[tuple[_Key, Device]], item: tuple[_Key, Device], bucket: _Bucket) -> None:
    if len(heap) > 64 + _SPARE_ITEMS * bucket.devices:
        filed = item[1].filed
        assert filed is not None
        heap[:] = {key: (key, device) for key, device in heap if device.filed == (filed[0], key)}.values()
        heapq.heapify(heap)
    heapq.heappush(heap, item)


def _head(heap: list[tuple[_Key, Device]], zeros: int) -> tuple[_Key, Device] | None:
    while heap:
        key, device = heap[0]
        if device.filed == (zeros, key):
            return heap[0]
        heapq.heappop(heap)
    return None
