"""The real service with a real database in this process, among a chain that stands still and workers that do not hash.

What is simulated is only what would take a thousand machines: every event goes through the service's rounds, is stored
where a real one is, and every command is handed to the stream that would send it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import cast

from coordinator.chain.client import Block, ChainClient, WorkReading
from coordinator.core.commands import CancelLease, GrantLease
from coordinator.core.events import HitReported, LeaseEnd, LeaseEnded, LeaseProgressed, WorkerJoined
from coordinator.core.lease import Lease
from coordinator.core.roster import LEASES_PER_DEVICE, DeviceOffer
from coordinator.service import WORKER_BACKLOG, Service, WorkerCommand, WorkerSession
from coordinator.store.sql import open_store
from coordinator.submission.keys import SigningKey
from hashfleet.action import Action, Work
from hashfleet.difficulty import first_age
from hashfleet.engine import DeviceInfo, EngineKind
from hashfleet.errors import HashfleetError
from hashfleet.job_request import JobRequest, Mode, StartMode
from hashfleet.proof import verify

HEIGHT = 100_000
PLAYER = "1-11"
RANGE = 5000
BLOCK_SECONDS = 5.0
#: Hashes a second of a simulated device: slow, so that a puzzle which hashlib solves at once is a large one for it.
RATE = 1_000.0
_PATIENCE_SECONDS, _POLL_SECONDS = 30.0, 0.01


class StillChain:
    """A chain at one height, on which every struct poses a build of one difficulty. As much of a ChainClient as jobs
    need whose proofs are given back."""

    chain_id = "bench-1"

    def __init__(self, zeros: int) -> None:
        self._anchor = HEIGHT + 1 - first_age(zeros, RANGE)

    async def connect(self) -> None:
        """It is there."""

    async def latest_block(self) -> Block:
        return Block(HEIGHT, time.time() - BLOCK_SECONDS, frozenset())

    async def blocks(self) -> AsyncIterator[Block]:
        yield Block(HEIGHT + 1, time.time(), frozenset())
        await asyncio.Event().wait()

    async def read_work(self, action: Action, object_id: str) -> WorkReading:
        return WorkReading(Work(action, object_id, self._anchor, RANGE), frozenset({object_id}))


class _Noted(asyncio.Queue[WorkerCommand | None]):
    """What a stream is to send, told at once to whoever plays the worker."""

    def __init__(self, tell: Callable[[WorkerCommand], None]) -> None:
        super().__init__(WORKER_BACKLOG)
        self._tell = tell

    def put_nowait(self, item: WorkerCommand | None) -> None:
        if item is not None:
            self._tell(item)  # and is not kept: there is no stream that would take it


class SimulatedWorker:
    """One device that holds leases and never hashes."""

    def __init__(self, service: Service, number: int, fleet: SimulatedFleet) -> None:
        self.worker_id = f"w_{number}"
        self.leases: dict[str, Lease] = {}
        self._service = service
        self._fleet = fleet
        self.session: WorkerSession = service.open_session(self.worker_id)
        self.session.outgoing = _Noted(self._hear)
        #: When it ended a lease and waits for another (perf_counter); None if it does not.
        self.ended_at: float | None = None

    async def join(self) -> None:
        """Say hello."""
        offer = DeviceOffer(DeviceInfo("cpu", "simulated", EngineKind.CPU, "1"), RATE)
        await self._service.apply(WorkerJoined(time.time(), self.worker_id, self.worker_id, "bench", (offer,)))

    def end_oldest(self) -> None:
        """Report the oldest lease as searched without a hit."""
        lease_id, lease = next(iter(self.leases.items()))
        del self.leases[lease_id]
        self.ended_at = time.perf_counter()
        self._service.post_all(
            [LeaseEnded(time.time(), self.worker_id, lease_id, lease.range.count, LeaseEnd.EXHAUSTED)]
        )

    def report(self) -> None:
        """Tell some progress on the oldest lease."""
        lease_id, lease = next(iter(self.leases.items()))
        done = min(lease.range.count, lease.done + 1)
        self._service.post_all([LeaseProgressed(time.time(), self.worker_id, lease_id, done, RATE)])

    def _hear(self, command: WorkerCommand) -> None:
        match command:
            case GrantLease():
                self.leases[command.lease.lease_id] = command.lease
                if self.ended_at is not None:
                    self._fleet.granted(time.perf_counter() - self.ended_at)
                    self.ended_at = None
                self._fleet.heard()
            case CancelLease():
                del self.leases[command.lease_id]
                self._fleet.cancelled(LeaseEnded(time.time(), self.worker_id, command.lease_id, 0, LeaseEnd.CANCELLED))
            case _:
                pass


class SimulatedFleet:
    """Many workers of one service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.workers: list[SimulatedWorker] = []
        self.grants: list[float] = []
        self._to_end: list[LeaseEnded] = []
        self._last_cancel = 0.0
        self._changed = asyncio.Event()
        self._structs = itertools.count(1)

    async def join(self, count: int) -> None:
        """Connect so many workers."""
        self.workers = [SimulatedWorker(self.service, number, self) for number in range(count)]
        for worker in self.workers:
            await worker.join()

    async def submit(self, count: int) -> list[str]:
        """Ask for builds that are to be hashed at once; their ids."""
        requests = [
            JobRequest(
                Action.BUILD, f"5-{next(self._structs)}", PLAYER, mode=Mode.RETURN_PROOF, start_mode=StartMode.RACE
            )
            for _ in range(count)
        ]
        ids = []
        for answer in await self.service.submit_all(requests):
            if isinstance(answer, HashfleetError):
                raise answer
            ids.append(answer[0].job.job_id)
        return ids

    async def all_hold(self, leases: int) -> None:
        """Wait until every worker holds so many leases."""
        await self._until(lambda: all(len(worker.leases) == leases for worker in self.workers))

    async def measure_grants(self, samples: int, ends_per_second: float) -> tuple[float, ...]:
        """Seconds from the report of a lease's end to the next lease of that worker, while all report progress."""
        self.grants.clear()
        turns, reporting = itertools.cycle(self.workers), itertools.cycle(self.workers)
        # every worker reports once a second
        reports = max(1, round(len(self.workers) / ends_per_second))
        for _ in range(samples):
            next(turns).end_oldest()
            for worker in itertools.islice(reporting, reports):
                if worker.leases:
                    worker.report()
            await asyncio.sleep(1 / ends_per_second)
        await self._until(lambda: len(self.grants) == samples)
        return tuple(self.grants)

    async def measure_stops(self, zeros: int, samples: int) -> tuple[float, ...]:
        """Seconds from a hit to the last order to stop, with every device on the job, which asks for so many zeros."""
        seconds = []
        for _ in range(samples):
            await self.submit(1)
            await self.all_hold(LEASES_PER_DEVICE)
            self._to_end.clear()
            hit = solution(next(iter(self.workers[0].leases.values())), self.workers[0].worker_id, zeros)
            began = time.perf_counter()
            self.service.post_all([hit])
            await self._until(lambda: not any(worker.leases for worker in self.workers))
            seconds.append(self._last_cancel - began)
            await self.service.post_all(self._to_end)
        return tuple(seconds)

    def granted(self, seconds: float) -> None:
        """A worker has the lease that it waited for."""
        self.grants.append(seconds)

    def cancelled(self, ended: LeaseEnded) -> None:
        """A worker was told to stop a lease; it will say so."""
        self._to_end.append(ended)
        self._last_cancel = time.perf_counter()
        self.heard()

    def heard(self) -> None:
        """Something reached a worker."""
        self._changed.set()

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not reached():
                self._changed.clear()
                await self._changed.wait()


def solution(lease: Lease, worker_id: str, zeros: int) -> HitReported:
    """A hit of this lease's extranonce with so many zeros."""
    nonce = solve(lease.space.prefix, map(lease.space.nonce, range(10**9)), zeros)
    return HitReported(time.time(), worker_id, lease.lease_id, lease.job_id, nonce)


def solve(prefix: bytes, nonces: Iterable[str], zeros: int) -> str:
    """The first of these nonces with so many zeros."""
    return next(nonce for nonce in nonces if verify(prefix, nonce).zeros >= zeros)


@contextlib.asynccontextmanager
async def service_on(zeros: int) -> AsyncIterator[Service]:
    """A service with a database of its own, where every build asks for so many zeros."""
    with tempfile.TemporaryDirectory(prefix="hashfleet-bench-") as folder:
        store = await open_store(Path(folder) / "jobs.db")
        # All that jobs of mode return_proof ask of a chain.
        service = Service(cast("ChainClient", StillChain(zeros)), store, SigningKey(bytes(range(1, 33))))
        running = asyncio.create_task(service.run())
        try:
            await _connected(service)
            yield service
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await store.close()


async def _connected(service: Service) -> None:
    """Wait until the service has seen the chain's last block."""
    for _ in range(round(_PATIENCE_SECONDS / _POLL_SECONDS)):
        if (await service.fleet()).height > HEIGHT:
            return
        await asyncio.sleep(_POLL_SECONDS)
    raise HashfleetError(f"the service did not see a block within {_PATIENCE_SECONDS:.0f} s")
