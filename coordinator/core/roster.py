"""The roster: connected workers and their devices."""

from __future__ import annotations

from dataclasses import dataclass, field

from coordinator.core.lease import Lease
from hashfleet.engine import DeviceInfo

#: Leases a device holds at most: one in work and one in hand, so that it never idles for a round trip.
LEASES_PER_DEVICE = 2
#: Leases of small jobs that a device holds beside those: together some seconds of hashing, in bundles.
SMALL_LEASES_PER_DEVICE = 512
SMALL_SECONDS_PER_DEVICE = 2.0


@dataclass(frozen=True, slots=True)
class DeviceOffer:
    """A device as a worker presents it."""

    info: DeviceInfo
    #: Hashes a second, measured by the worker's self-test.
    nominal_rate: float


@dataclass(slots=True)
class Device:
    """A device of a connected worker."""

    offer: DeviceOffer
    worker_id: str = ""
    #: Counts devices up in the order in which they came; no two have the same.
    number: int = 0
    #: Leases it holds, in the order granted; the first is in work.
    leases: dict[str, None] = field(default_factory=dict)
    #: Of these, the ones that were not told to stop: large ones, small ones, and what the small ones take in seconds.
    large: int = 0
    small: int = 0
    small_seconds: float = 0.0
    #: Hashes a second by its progress reports; 0 while idle.
    rate: float = 0.0
    #: The same as last reported of a large lease; small ones are mostly overhead and say little of the device.
    large_rate: float = 0.0
    hashes: int = 0
    #: Hits that were of use, that came too late, and that did not hash as claimed.
    accepted: int = 0
    stale: int = 0
    invalid: int = 0
    #: Failures in a row; a device that fails is left alone until `resting_until`.
    failures: int = 0
    resting_until: float = 0.0
    #: Where it stands in the index of devices with room (`room`); None if it has none.
    filed: tuple[int, tuple[int, float, int]] | None = None

    @property
    def best_rate(self) -> float:
        """Hashes a second on work that is worth the name: as measured on it, else what the device was rated at."""
        return self.large_rate or self.offer.nominal_rate

    def has_room(self, small: bool) -> bool:
        """Whether it may be granted one more small or large lease."""
        if small:
            return self.small < SMALL_LEASES_PER_DEVICE and self.small_seconds < SMALL_SECONDS_PER_DEVICE
        return self.large < LEASES_PER_DEVICE

    def book(self, lease: Lease, sign: int) -> None:
        """Count a lease that was granted (1), or that ended or was told to stop (-1)."""
        if lease.ends_with_hit:
            self.small += sign
            self.small_seconds = max(0.0, self.small_seconds + sign * lease.seconds) if self.small else 0.0
        else:
            self.large += sign


@dataclass(slots=True)
class Worker:
    """A connected worker process."""

    worker_id: str
    name: str
    version: str
    connected_at: float
    last_heard: float
    devices: dict[str, Device]
    draining: bool = False


def fleet_rate(workers: dict[str, Worker]) -> float:
    """Hashes a second that the fleet can bring to bear: devices of workers that still take leases."""
    return sum(d.best_rate for w in workers.values() if not w.draining for d in w.devices.values())
