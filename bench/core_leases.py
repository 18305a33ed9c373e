"""How soon leases are granted and stopped: by the real service in this process, and over gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import grpc.aio

from bench.simulated import PLAYER, RATE, service_on, solve
from bench.simulated import SimulatedFleet as Fleet
from coordinator.api.grpc_server import build_server
from coordinator.core.roster import LEASES_PER_DEVICE
from hashfleet.action import Action
from hashfleet.job_request import JobRequest, Mode, StartMode
from hashfleet.message import NonceSpace
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb
from hashfleet.rpc.hashfleet.v1.worker_service_pb2_grpc import WorkerServiceStub

#: Hard enough that no simulated device is expected to solve it, and easy enough for hashlib.
HARD, EASY = 12, 3
#: Jobs that the devices could be granted leases of.
JOBS = 100
#: A lease lasts five seconds.
ENDS_PER_WORKER_AND_SECOND = 0.2
_PATIENCE_SECONDS = 30.0


async def measure_grants(workers: int, samples: int) -> tuple[float, ...]:
    """Seconds from the message that a lease has ended to the next lease in the worker's stream."""
    async with service_on(HARD) as service:
        fleet = Fleet(service)
        await fleet.submit(JOBS)
        await fleet.join(workers)
        await fleet.all_hold(LEASES_PER_DEVICE)
        return await fleet.measure_grants(samples, ENDS_PER_WORKER_AND_SECOND * workers)


async def measure_stops(devices: int, samples: int) -> tuple[float, ...]:
    """Seconds from the message of a hit to the last order to stop in the streams of all devices on the job."""
    async with service_on(EASY) as service:
        fleet = Fleet(service)
        await fleet.join(devices)
        return await fleet.measure_stops(EASY, samples)


async def measure_stops_on_the_wire(workers: int, samples: int) -> tuple[float, ...]:
    """Seconds from a worker's writing a hit to when every other worker has read the order to stop, over gRPC."""
    async with service_on(EASY) as service:
        server = await build_server(service)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        changed = asyncio.Event()
        fleet = [_WireWorker(address, number, changed) for number in range(workers)]
        try:
            for worker in fleet:
                await worker.connect()
            seconds = []
            for number in range(samples):
                request = JobRequest(
                    Action.BUILD, f"5-{number + 1}", PLAYER, mode=Mode.RETURN_PROOF, start_mode=StartMode.RACE
                )
                await service.submit(request)
                await _until(changed, lambda: all(len(worker.leases) == LEASES_PER_DEVICE for worker in fleet))
                lease = next(iter(fleet[0].leases.values()))
                space = NonceSpace(lease.prefix, lease.extranonce, lease.counter_digits, lease.filler_digits)
                nonce = solve(lease.prefix, map(space.nonce, range(10**9)), EASY)
                hit = pb.Hit(lease_id=lease.lease_id, job_id=lease.job_id, nonce=nonce)
                began = time.perf_counter()
                await fleet[0].say(pb.ConnectRequest(hit=hit))
                await _until(changed, lambda: not any(worker.leases for worker in fleet))
                seconds.append(max(worker.stopped_at for worker in fleet) - began)
                for worker in fleet:
                    await worker.give_back()
            return tuple(seconds)
        finally:
            for worker in fleet:
                await worker.close()
            await server.stop(0)


class _WireWorker:
    """A worker's stream without the worker."""

    def __init__(self, address: str, number: int, changed: asyncio.Event) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._call = WorkerServiceStub(self._channel).Connect()
        self._number = number
        self._changed = changed
        self._reading: asyncio.Task[None] | None = None
        self.leases: dict[str, pb.Lease] = {}
        self.stopped_at = 0.0
        self._stopped: list[str] = []

    async def connect(self) -> None:
        device = pb.Device(device_id="cpu", name="simulated", engine=pb.ENGINE_KIND_CPU, nominal_rate=RATE, driver="1")
        worker_id = f"w_{self._number}"
        await self.say(
            pb.ConnectRequest(hello=pb.Hello(worker_id=worker_id, name=worker_id, version="bench", devices=[device]))
        )
        await self._call.read()
        self._reading = asyncio.create_task(self._read())

    async def say(self, message: pb.ConnectRequest) -> None:
        await self._call.write(message)

    async def give_back(self) -> None:
        """Tell of what was stopped."""
        ended = [
            pb.ConnectRequest(lease_ended=pb.LeaseEnded(lease_id=lease_id, reason=pb.END_REASON_CANCELLED))
            for lease_id in self._stopped
        ]
        self._stopped.clear()
        if ended:
            await self.say(pb.ConnectRequest(bundle=pb.WorkerBundle(messages=ended)))

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._call.cancel()
        await self._channel.close()

    async def _read(self) -> None:
        while isinstance(message := await self._call.read(), pb.ConnectResponse):
            for one in message.bundle.messages if message.WhichOneof("message") == "bundle" else [message]:
                kind = one.WhichOneof("message")
                if kind == "lease":
                    self.leases[one.lease.lease_id] = one.lease
                elif kind == "cancel_lease":
                    del self.leases[one.cancel_lease.lease_id]
                    self._stopped.append(one.cancel_lease.lease_id)
                    self.stopped_at = time.perf_counter()
            self._changed.set()


async def _until(changed: asyncio.Event, reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while not reached():
            changed.clear()
            await changed.wait()
