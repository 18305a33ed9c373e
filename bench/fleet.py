"""What of a device's rate arrives at the coordinator, and how fast the fleet stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from bench.device_log import DeviceLog, gaps_between_leases
from bench.engines import search_rate, space_of
from bench.house import PLAYER, Struct, house
from bench.machine import made_now
from bench.one_device import Choice, open_device
from bench.quiet import IDLE_CORES, cpu_use, wait_until_quiet
from bench.report import FleetReport, Times
from coordinator.core.schedule import ASSUMED_BLOCK_SECONDS, Pace, start_height
from hashfleet.action import Action, Work
from hashfleet.client import FINAL_STATES, FleetClient, state_name
from hashfleet.difficulty import MAX_DIFFICULTY, first_age
from hashfleet.engine import EngineKind, HashEngine
from hashfleet.errors import HashfleetError
from hashfleet.job_request import JobRequest
from hashfleet.rpc.hashfleet.v1 import job_pb2

logger = logging.getLogger(__name__)

#: An ore refinery (type 15): the longest range of the chain, so a difficulty lasts for many blocks.
REFINERY, REFINE_RANGE = 15, 28_000
#: The chain's own pace.
BLOCK_SECONDS = 5.0
#: The device may turn out slower in the fleet than it was alone; the job must be hashed all the same.
_RATE_MARGIN = 3.0
#: From submission to hashing: the chain is asked about the job. From the call to an idle device.
_BUSY_SECONDS, _IDLE_SECONDS = 30.0, 30.0
#: After a cancel the device may begin the lease it had in hand before that one's cancel arrives too.
_QUIET_SECONDS = 0.25
#: Hashes are booked once a second; a window begins and ends with a booking.
_LEAST_WINDOW = 3.0
#: Ends of first searches that are not counted: kernels, batch sizes and lease sizes settle.
_WARM_UP_SECONDS = 2.0
_REFINERIES = 20
#: Rounds measured for each that counts, at most, if others disturb them.
_TRIES = 3

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Booking:
    """What a job's progress said once."""

    #: Hashes of the job so far.
    hashes: int
    #: When the coordinator booked them, in seconds of its clock.
    at: float


def booked_rate(bookings: Sequence[Booking]) -> float:
    """Hashes a second from the first booking to the last. Raises HashfleetError if there are not two."""
    if len(bookings) < 2 or bookings[-1].at <= bookings[0].at:
        raise HashfleetError("the coordinator booked hashes less than twice; give more seconds")
    first, last = bookings[0], bookings[-1]
    return (last.hashes - first.hashes) / (last.at - first.at)


def hardest_zeros(rate: float) -> int:
    """The hardest refining that a fleet of this rate hashes rather than waiting for it to become easier."""
    height, pace = 10**6, Pace(rate / _RATE_MARGIN, ASSUMED_BLOCK_SECONDS)
    for zeros in range(MAX_DIFFICULTY - 1, 1, -1):
        work = Work(Action.REFINE, "5-1", height + 1 - first_age(zeros, REFINE_RANGE), REFINE_RANGE)
        if start_height(JobRequest(work.action, work.object_id, "1-1"), work, height, pace) == height:
            return zeros
    return 1


async def measure_fleet(
    choice: Choice, rounds: int, seconds: float, cancels: int, patience: float = 0.0
) -> FleetReport:
    """`rounds` windows of `seconds` with the fleet and with the engine alone, in turns; then `cancels` cancels.

    Before each the machine may take `patience` seconds to become idle.
    """
    seconds = max(seconds, _LEAST_WINDOW)
    with closing(await asyncio.to_thread(open_device, choice)) as alone:
        first = await asyncio.to_thread(search_rate, alone, space_of("T"), 1.0)
        zeros = hardest_zeros(first)
        logger.info("the device does %.4g hashes a second; the job asks for %d zeros", first, zeros)
        age = first_age(zeros, REFINE_RANGE)
        structs = [Struct(f"5-{n}", REFINERY, age, online=True) for n in range(1, _REFINERIES + 1)]
        async with house() as place:
            await place.start_chain_and_coordinator(structs, BLOCK_SECONDS)
            worker = await place.start(
                "worker", "bench.observed_worker", "--coordinator", place.coordinator, "--engine", choice
            )
            assert worker.stdout is not None
            log = DeviceLog(worker.stdout)
            following = asyncio.create_task(log.follow())
            try:
                async with FleetClient(place.coordinator) as client:
                    logger.info("connected: %s", await place.worker_device(client))
                    measurement = _Measurement(client, log, [struct.id for struct in structs], patience)
                    return await measurement.run(alone, rounds, seconds, cancels)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)


class _Measurement:
    """One run against a fleet that stands."""

    def __init__(self, client: FleetClient, log: DeviceLog, refineries: list[str], patience: float) -> None:
        self._client = client
        self._log = log
        self._refineries = refineries
        self._patience = patience

    async def run(self, alone: HashEngine, rounds: int, seconds: float, cancels: int) -> FleetReport:
        booked: list[float] = []
        raw: list[float] = []
        gaps: list[float] = []
        tries = 0
        made = made_now((alone.device.name,) if alone.device.kind is EngineKind.CUDA else ())
        while len(booked) < rounds:
            before = len(self._log.observations)
            window, disturbed = await self._undisturbed(partial(self._window, seconds))
            if window is None:
                continue  # the job was solved
            gaps += gaps_between_leases(self._log.observations[before:])
            measure_alone = partial(asyncio.to_thread, search_rate, alone, space_of("T"), seconds)
            rate, also_disturbed = await self._undisturbed(measure_alone)
            tries += 1
            if max(disturbed, also_disturbed) >= IDLE_CORES and self._patience > 0 and tries < _TRIES * rounds:
                logger.info("others used %.2f and %.2f cores; this round does not count", disturbed, also_disturbed)
                continue
            booked.append(window)
            raw.append(rate)
            logger.info("round %d: %.4g booked, %.4g alone", len(booked), booked[-1], raw[-1])
        if not gaps:
            raise HashfleetError("no lease followed another in the windows; give more seconds")
        stops = [await self._cancel_latency() for _ in range(cancels)]
        return FleetReport(
            made=made,
            device=alone.device.name,
            driver=alone.device.driver,
            booked=tuple(booked),
            raw=tuple(raw),
            cancel=Times(seconds=tuple(stops)),
            between_leases=Times(seconds=tuple(gaps)),
        )

    async def _undisturbed(self, measure: Callable[[], Awaitable[_Result]]) -> tuple[_Result, float]:
        """Measure once the machine is quiet; the cores that others used meanwhile."""
        await asyncio.to_thread(wait_until_quiet, self._patience)
        before = cpu_use()
        result = await measure()
        return result, cpu_use().others_since(before)

    async def _window(self, seconds: float) -> float | None:
        """The rate booked over about `seconds`; None if the job was solved meanwhile."""
        async with self._job() as job_id:
            await asyncio.sleep(_WARM_UP_SECONDS)
            bookings: list[Booking] = []
            watch = self._client.watch_job(job_id)
            async with asyncio.timeout(seconds + _BUSY_SECONDS), aclosing(watch) as changes:
                async for job in changes:
                    if job.state in FINAL_STATES or job.state == job_pb2.JOB_STATE_SUBMITTING:
                        return None
                    booking = Booking(job.progress.hashes, job.updated_at.ToNanoseconds() / 1e9)
                    if not bookings or booking.hashes > bookings[-1].hashes:
                        bookings.append(booking)
                    # the first answer is the state now, whenever its hashes were booked
                    if len(bookings) > 2 and booking.at - bookings[1].at >= seconds:
                        return booked_rate(bookings[1:])
        raise HashfleetError("the coordinator ended the watch of a job that goes on")

    async def _cancel_latency(self) -> float:
        """Seconds from a cancel call to the device being idle."""
        while True:
            async with self._job() as job_id:
                await asyncio.sleep(random.uniform(0.1, 0.3))  # any moment within a batch
                called = time.monotonic()
                try:
                    await self._client.cancel_job(job_id)
                except HashfleetError as error:  # solved in this very moment
                    logger.info("not cancelled: %s", error)
                    continue
            await self._quiet()
            return self._log.observations[-1].at - called

    @contextlib.asynccontextmanager
    async def _job(self) -> AsyncIterator[str]:
        """A job that is being hashed; cancelled in the end, unless it is over by then."""
        while True:
            answer = await self._client.submit_job(Action.REFINE, self._refineries[0], PLAYER)
            if answer.created:
                break
            self._refineries.pop(0)  # its last job was solved and is being submitted
            if not self._refineries:
                raise HashfleetError("every job was solved before it was measured; give fewer rounds")
        job_id = answer.job.job_id
        try:
            await self._log.busy(_BUSY_SECONDS)
        except HashfleetError as error:
            job = await self._client.get_job(job_id)
            why = job.error or job.waiting.reason or f"its work is {job.work}"
            raise HashfleetError(f"{error}: the job is {state_name(job.state)}, {why}") from error
        try:
            yield job_id
        finally:
            try:
                await self._client.cancel_job(job_id)
            except HashfleetError as error:
                logger.info("job %s is over: %s", job_id, error)
                self._refineries.pop(0)
            await self._quiet()

    async def _quiet(self) -> None:
        """Wait until the device is idle and stays so."""
        while True:
            since = await self._log.idle(_IDLE_SECONDS)
            await asyncio.sleep(max(0.0, since + _QUIET_SECONDS - time.monotonic()))
            if self._log.observations[-1].what == "end":
                return
