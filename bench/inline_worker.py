"""A worker of one device in the coordinator's own process, which hashes by hashlib: for puzzles of a few zeros."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from typing import Final

from coordinator.core.commands import CancelLease, GrantLease, RetargetLease
from coordinator.core.events import HitReported, LeaseEnd, LeaseEnded, LeaseProgressed, WorkerJoined
from coordinator.core.lease import Lease
from coordinator.core.roster import DeviceOffer
from coordinator.service import Service
from hashfleet.engine import DeviceInfo, EngineKind

_ID: Final = "w_1"
#: Hashes between two looks at what was ordered meanwhile.
_AT_ONCE: Final = 2000


class InlineWorker:
    """Takes leases from the service and searches them one after the other."""

    def __init__(self, service: Service, clock: Callable[[], float], rate: float) -> None:
        """`clock` gives Unix seconds; `rate` is what the device says it hashes in a second."""
        self._service, self._clock, self._rate = service, clock, rate
        self._session = service.open_session(_ID)
        self._leases: deque[Lease] = deque()
        #: Zeros that each lease asks for now; a lease that is missing here was told to stop.
        self._zeros: dict[str, int] = {}
        self._busy = self._sent_away = False

    @property
    def idle(self) -> bool:
        """Whether it waits for leases, and none is on its way to it."""
        return not self._busy and self._session.outgoing.empty()

    async def run(self) -> None:
        """Work until cancelled. Comes back when it is sent away."""
        while True:
            await self._join()
            while not self._sent_away:
                if not self._leases:
                    self._busy = False
                    self._hear(await self._session.outgoing.get())
                    self._busy = True
                self._hear_all()
                if self._leases:
                    await self._search(self._leases.popleft())
            self._session = self._service.open_session(_ID)

    async def _join(self) -> None:
        self._leases.clear()
        self._zeros.clear()
        self._sent_away = False
        device = DeviceOffer(DeviceInfo("cpu", "in line", EngineKind.CPU, ""), self._rate)
        await self._service.apply(WorkerJoined(self._clock(), _ID, _ID, "bench", (device,)))

    async def _search(self, lease: Lease) -> None:
        done, end = 0, LeaseEnd.EXHAUSTED
        for counter in range(lease.range.start, lease.range.start + lease.range.count):
            if done % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
                self._hear_all()
            zeros = self._zeros.get(lease.lease_id)
            if zeros is None:
                end = LeaseEnd.CANCELLED
                break
            digest = hashlib.sha256(lease.space.message(counter)).hexdigest()
            done += 1
            if digest.startswith("0" * zeros):
                nonce = lease.space.nonce(counter)
                await self._service.apply(HitReported(self._clock(), _ID, lease.lease_id, lease.job_id, nonce))
                self._hear_all()
                if lease.ends_with_hit:
                    end = LeaseEnd.CANCELLED
                    break
        self._zeros.pop(lease.lease_id, None)
        now = self._clock()
        if end is LeaseEnd.EXHAUSTED:
            await self._service.apply(LeaseProgressed(now, _ID, lease.lease_id, done, self._rate))
        await self._service.apply(LeaseEnded(now, _ID, lease.lease_id, done, end))

    def _hear_all(self) -> None:
        while not self._session.outgoing.empty():
            self._hear(self._session.outgoing.get_nowait())

    def _hear(self, command: object) -> None:
        match command:
            case GrantLease():
                self._leases.append(command.lease)
                self._zeros[command.lease.lease_id] = command.lease.zeros
            case CancelLease():
                self._zeros.pop(command.lease_id, None)
            case None:
                self._sent_away = True
                self._zeros.clear()
            case RetargetLease() if command.lease_id in self._zeros:
                self._zeros[command.lease_id] = command.zeros
            case _:
                pass
