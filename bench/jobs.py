"""How many small jobs a second the fleet solves: everything but hashing is what is measured here."""

from __future__ import annotations

import asyncio
import logging
import time

from bench.house import PLAYER, House, Struct, house
from bench.machine import made_now
from bench.one_device import Choice
from bench.report import JobsReport
from hashfleet.action import Action
from hashfleet.client import FleetClient
from hashfleet.difficulty import first_age
from hashfleet.errors import HashfleetError
from hashfleet.rpc.hashfleet.v1 import fleet_service_pb2

logger = logging.getLogger(__name__)

#: A World Engine (type 22): the longest build range of the chain.
BUILDING, BUILD_RANGE = 22, 5000
DIFFICULTIES = (1, 2, 3, 4, 5)
BLOCK_SECONDS = 1.0
#: Calls of `submit_job` under way at once, as from so many agents.
AGENTS = 32
_POLL_SECONDS = 0.02
#: A fleet that solves none for so long has stopped.
_PATIENCE_SECONDS = 60.0


def small_jobs(count: int) -> list[Struct]:
    """Builds that ask for the difficulties in turn; the ages lie within each difficulty's span."""
    return [
        Struct(f"5-{n + 1}", BUILDING, first_age(DIFFICULTIES[n % len(DIFFICULTIES)], BUILD_RANGE))
        for n in range(count)
    ]


async def measure_jobs(choice: Choice, count: int) -> JobsReport:
    """Submit `count` jobs at once and wait until each has a proof that the coordinator has checked."""
    structs = small_jobs(count)
    async with house() as place:
        await place.start_chain_and_coordinator(structs, BLOCK_SECONDS)
        await place.start(
            "worker", "hashfleet.cli.main", "worker", "--coordinator", place.coordinator, "--engine", choice
        )
        async with FleetClient(place.coordinator, timeout=30.0) as client:
            device = await place.worker_device(client)
            made = made_now()
            began = time.perf_counter()
            submitting = asyncio.create_task(_submit_all(client, structs))
            try:
                jobs = await _solved(client, place, count)
                solving_seconds = time.perf_counter() - began
            finally:
                submitting.cancel()
                (ended,) = await asyncio.gather(submitting, return_exceptions=True)
            if isinstance(ended, BaseException):
                raise ended
            return JobsReport(
                made=made,
                device=device,
                jobs=count,
                difficulties=DIFFICULTIES,
                block_seconds=BLOCK_SECONDS,
                submitting_seconds=ended - began,
                solved=_with_proof(jobs),
                solving_seconds=solving_seconds,
                included=jobs.completed,
            )


async def _submit_all(client: FleetClient, structs: list[Struct]) -> float:
    """When the last one was stored."""
    waiting = iter(structs)

    async def agent() -> None:
        for struct in waiting:
            await client.submit_job(Action.BUILD, struct.id, PLAYER)

    async with asyncio.TaskGroup() as group:
        for _ in range(AGENTS):
            group.create_task(agent())
    return time.perf_counter()


async def _solved(client: FleetClient, place: House, count: int) -> fleet_service_pb2.JobCounts:
    """The counts as soon as every job has a proof."""
    most, moved = -1, time.perf_counter()
    while True:
        jobs = (await client.fleet_status()).jobs
        if jobs.failed:
            raise HashfleetError(f"{jobs.failed} jobs failed; all should be solved")
        solved = _with_proof(jobs)
        if solved == count:
            return jobs
        if solved > most:
            most, moved = solved, time.perf_counter()
        elif time.perf_counter() - moved > _PATIENCE_SECONDS:
            raise HashfleetError(
                f"{solved} of {count} jobs are solved, and none in {_PATIENCE_SECONDS:.0f} s; the worker says: "
                f"{place.last_words('worker')}; the coordinator says: {place.last_words('coordinator')}"
            )
        await asyncio.sleep(_POLL_SECONDS)


def _with_proof(jobs: fleet_service_pb2.JobCounts) -> int:
    return jobs.submitting + jobs.completed
