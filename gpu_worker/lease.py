"""What a device is to hash: leases as read from the wire, and the queue in which one device holds them.

No I/O, no thread and no clock here; `device_runner` adds the thread, `conversation` the messages.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, replace

from hashfleet.batches import check_search
from hashfleet.errors import InvalidInput
from hashfleet.message import NonceSpace
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb

#: One lease runs and one waits, so that a device never idles for a round trip to the coordinator.
MAX_HELD = 2
#: Ids are the coordinator's; the bound only keeps a bad message from costing memory and log lines.
MAX_ID_LENGTH = 128


@dataclass(frozen=True, slots=True)
class Lease:
    """A part of one job's nonce space, checked when read."""

    lease_id: str
    device_id: str
    job_id: str
    space: NonceSpace
    #: First counter value.
    start: int
    #: Number of counter values.
    count: int
    #: Leading hex zeros that a hit needs.
    zeros: int


def read_lease(message: pb.Lease) -> Lease:
    """The lease of a message. Raises InvalidInput, naming what is wrong, unless all of it can be hashed as asked."""
    for what, text in (("lease_id", message.lease_id), ("job_id", message.job_id)):
        if not 1 <= len(text) <= MAX_ID_LENGTH:
            raise InvalidInput(f"the lease's {what} has {len(text)} characters; it should be 1 to {MAX_ID_LENGTH}")
    space = NonceSpace(message.prefix, message.extranonce, message.counter_digits, message.filler_digits)
    check_search(space, message.start, message.count, message.zeros)
    return Lease(
        lease_id=message.lease_id,
        device_id=message.device_id,
        job_id=message.job_id,
        space=space,
        start=message.start,
        count=message.count,
        zeros=message.zeros,
    )


class EndReason(enum.Enum):
    """Why a device is done with a lease."""

    #: The whole range is searched.
    EXHAUSTED = "exhausted"
    #: The coordinator cancelled it, or the worker gives it back because it stops.
    CANCELLED = "cancelled"
    #: The device failed, or the lease cannot be hashed.
    FAILED = "failed"


class Stop(enum.Enum):
    """What the running lease has been told."""

    #: Stop, and say how far it came.
    CANCEL = "cancel"
    #: Stop, and say nothing: the stream it came from is gone, and the coordinator issues it again.
    DROP = "drop"


class LeaseQueue:
    """The leases of one device, in order of arrival: at most one running and the others waiting.

    A lease that was told to stop may still be winding down on the device; it no longer counts as held, so that the
    next one can be granted together with the cancellation.
    """

    def __init__(self) -> None:
        #: The lease being hashed, None between leases.
        self.running: Lease | None = None
        #: Counter values of the running lease searched so far, from its start, without a gap.
        self.done = 0
        #: Zeros that hits of the running lease need now; differs from running.zeros after a retarget.
        self.zeros = 0
        #: Set exactly while the running lease is to stop.
        self.stop: Stop | None = None
        self._waiting: deque[Lease] = deque()

    @property
    def held(self) -> tuple[Lease, ...]:
        """All leases that the coordinator counts on, the running one first."""
        running = () if self.running is None or self.stop is not None else (self.running,)
        return (*running, *self._waiting)

    def offer(self, lease: Lease) -> None:
        """Take a lease. Raises InvalidInput if the device holds as many as it may."""
        if len(self.held) >= MAX_HELD:
            raise InvalidInput(f"{lease.device_id} holds {MAX_HELD} leases already; it takes another when one ends")
        self._waiting.append(lease)

    def start_next(self) -> Lease | None:
        """Move the longest waiting lease to running and return it; None if none waits."""
        assert self.running is None
        if not self._waiting:
            return None
        self.running = self._waiting.popleft()
        self.done, self.zeros, self.stop = 0, self.running.zeros, None
        return self.running

    def advance(self, count: int) -> None:
        """The next `count` counter values of the running lease are searched."""
        self.done += count

    def finish(self) -> None:
        """The running lease is over, for whatever reason."""
        self.running, self.stop = None, None

    def cancel(self, lease_id: str) -> Lease | None:
        """Stop a lease. Returns it if it was still waiting: it is gone now, with nothing done.

        A running lease is told to stop and ends with the device's batch; an unknown one has ended before.
        """
        if self.running is not None and self.running.lease_id == lease_id:
            self.stop = self.stop or Stop.CANCEL
            return None
        for lease in self._waiting:
            if lease.lease_id == lease_id:
                self._waiting.remove(lease)
                return lease
        return None

    def retarget(self, lease_id: str, zeros: int) -> None:
        """From now on hits of that lease need `zeros`; an unknown lease has ended before."""
        if self.running is not None and self.running.lease_id == lease_id:
            self.zeros = zeros
        self._waiting = deque(
            replace(lease, zeros=zeros) if lease.lease_id == lease_id else lease for lease in self._waiting
        )

    def clear_waiting(self) -> tuple[Lease, ...]:
        """Remove and return all leases that have not begun."""
        waiting = tuple(self._waiting)
        self._waiting.clear()
        return waiting

    def drop(self) -> None:
        """Forget every lease: the stream they came from is gone."""
        self._waiting.clear()
        if self.running is not None:
            self.stop = Stop.DROP
