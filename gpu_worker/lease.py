"""What a device is to hash: leases as read from the wire, and the queue in which one device holds them.

No I/O, no thread and no clock here; `device_runner` adds the thread, `conversation` the messages.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from hashfleet.batches import check_search, expected_work
from hashfleet.errors import InvalidInput
from hashfleet.message import NonceSpace
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb

#: Leases of one device: one in work and one in hand, and besides those some seconds' worth of small ones, which may be
#: over in a fraction of a millisecond each. The bound only keeps a bad coordinator from costing memory.
MAX_HELD = 1024
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
    #: The lease ends with its first hit, without being cancelled.
    ends_with_hit: bool = False

    @property
    def work(self) -> int:
        """Hashes that it is expected to take, as one that ends with its first hit."""
        return expected_work(self.count, self.zeros)


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
        ends_with_hit=message.ends_with_hit,
    )


class EndReason(enum.Enum):
    """Why a device is done with a lease."""

    #: The whole range is searched.
    EXHAUSTED = "exhausted"
    #: It was to end with its first hit, or the coordinator cancelled it, or the worker gives it back because it stops.
    CANCELLED = "cancelled"
    #: The device failed, or the lease cannot be hashed.
    FAILED = "failed"


class Stop(enum.Enum):
    """What a lease in work has been told."""

    #: Stop, and say how far it came.
    CANCEL = "cancel"
    #: Stop, and say nothing: the stream it came from is gone, and the coordinator issues it again.
    DROP = "drop"


@dataclass(slots=True)
class InWork:
    """A lease that a device hashes."""

    lease: Lease
    #: Zeros that its hits need now; differs from lease.zeros after a retarget.
    zeros: int
    #: Counter values searched so far, from its start, without a gap.
    done: int = 0
    #: Set once the lease is to stop.
    stop: Stop | None = None
    #: Set once the device is done with it.
    over: bool = False


class LeaseQueue:
    """The leases of one device, in order of arrival: one in work, or a group of small ones, and the others waiting.

    A lease that was told to stop may still be winding down on the device; it no longer counts as held, so that the
    next one can be granted together with the cancellation. What concerns one lease takes the same time however many
    there are.
    """

    def __init__(self) -> None:
        #: By lease id, in order of arrival.
        self._waiting: dict[str, Lease] = {}
        self._in_work: dict[str, InWork] = {}
        #: How many of those in work were told to stop.
        self._stopped = 0

    @property
    def held(self) -> tuple[Lease, ...]:
        """All leases that the coordinator counts on, those in work first."""
        return (*(work.lease for work in self._in_work.values() if work.stop is None), *self._waiting.values())

    @property
    def first_in_work(self) -> InWork | None:
        """The lease in work that is not over, the oldest of a group; None if the device has none."""
        return next(iter(self._in_work.values()), None)

    @property
    def all_stopped(self) -> bool:
        """Whether nothing that is in work is still wanted."""
        return self._stopped == len(self._in_work)

    def offer(self, lease: Lease) -> None:
        """Take a lease. Raises InvalidInput if the device holds as many as it may, or this one already."""
        if len(self._waiting) + len(self._in_work) - self._stopped >= MAX_HELD:
            raise InvalidInput(f"{lease.device_id} holds {MAX_HELD} leases already; it takes another when one ends")
        if lease.lease_id in self._waiting or lease.lease_id in self._in_work:
            raise InvalidInput(f"{lease.device_id} holds lease {lease.lease_id} already; each should have its own id")
        self._waiting[lease.lease_id] = lease

    def start_next(self, most: int) -> tuple[InWork, ...]:
        """Put the longest waiting lease in work and return it; empty if none waits.

        If it ends with its first hit and is expected to take at most `most` hashes, those of its kind that wait right
        behind it come along, as long as they take no more than that together.
        """
        assert not self._in_work
        total = 0
        for lease in self._waiting.values():
            # the zeros of a small lease may have been retargeted, so its work is worked out only now
            total += lease.work if lease.ends_with_hit else most + 1
            if total > most and self._in_work:
                break
            self._in_work[lease.lease_id] = InWork(lease, lease.zeros)
            if total > most:
                break
        for lease_id in self._in_work:
            del self._waiting[lease_id]
        self._stopped = 0
        return tuple(self._in_work.values())

    def finish(self, work: InWork) -> None:
        """A lease in work is over, for whatever reason."""
        del self._in_work[work.lease.lease_id]
        self._stopped -= work.stop is not None
        work.over = True

    def cancel(self, lease_id: str) -> Lease | None:
        """Stop a lease. Returns it if it was still waiting: it is gone now, with nothing done.

        One in work is told to stop and ends with the device's batch; an unknown one has ended before.
        """
        work = self._in_work.get(lease_id)
        if work is None:
            return self._waiting.pop(lease_id, None)
        if work.stop is None:
            work.stop = Stop.CANCEL
            self._stopped += 1
        return None

    def retarget(self, lease_id: str, zeros: int) -> None:
        """From now on hits of that lease need `zeros`; an unknown lease has ended before."""
        work = self._in_work.get(lease_id)
        if work is not None:
            work.zeros = zeros
        elif lease_id in self._waiting:
            self._waiting[lease_id] = replace(self._waiting[lease_id], zeros=zeros)

    def clear_waiting(self) -> tuple[Lease, ...]:
        """Remove and return all leases that have not begun."""
        waiting = tuple(self._waiting.values())
        self._waiting.clear()
        return waiting

    def drop(self) -> None:
        """Forget every lease: the stream they came from is gone."""
        self._waiting.clear()
        for work in self._in_work.values():
            work.stop = Stop.DROP
        self._stopped = len(self._in_work)
