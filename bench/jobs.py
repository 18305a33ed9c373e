"""How many small jobs a second the fleet solves: everything but hashing is what is measured here.

Twice, each time with processes of its own: jobs submitted in batches, each with its reading of the chain; and jobs that
were submitted before, and wait until one block makes them all ripe. The devnet and the client that asks run on the same
cores, so what each process takes of them is told beside.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.house import PLAYER, START_HEIGHT, House, Struct, house
from bench.machine import made_now
from bench.one_device import Choice
from bench.report import JobsReport, RipeJobs
from hashfleet.action import Action
from hashfleet.client import MAX_BATCH, FleetClient
from hashfleet.difficulty import first_age
from hashfleet.errors import HashfleetError
from hashfleet.job_request import JobRequest, StartMode
from hashfleet.rpc.hashfleet.v1 import fleet_service_pb2

logger = logging.getLogger(__name__)

#: A World Engine (type 22): the longest build range of the chain.
BUILDING, BUILD_RANGE = 22, 5000
DIFFICULTIES = (1, 2, 3, 4, 5)
BLOCK_SECONDS = 1.0
#: Calls of `submit_jobs` under way at once, as from so many agents.
AGENTS = 2
#: Jobs that are to wait for one block have this many seconds until it comes, and one more for each so many jobs.
SETTLE_SECONDS, SETTLED_PER_SECOND = 20, 200
_POLL_SECONDS = 0.02
#: A fleet that solves none for so long has stopped.
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Ripening:
    """Jobs that all become ripe with one block: what the stage holds and what is asked."""

    structs: tuple[Struct, ...]
    requests: tuple[JobRequest, ...]
    #: The committed height at which they are to be hashed, and not before.
    height: int


def small_jobs(count: int, difficulties: Sequence[int] = DIFFICULTIES) -> list[Struct]:
    """Builds that ask for the difficulties in turn; the ages lie within each difficulty's span."""
    return [
        Struct(f"5-{n + 1}", BUILDING, first_age(difficulties[n % len(difficulties)], BUILD_RANGE))
        for n in range(count)
    ]


def ripening_jobs(count: int, difficulties: Sequence[int], blocks: int) -> Ripening:
    """Builds that ask for the difficulties in turn, from `blocks` blocks after the chain's start on."""
    asked = [difficulties[n % len(difficulties)] for n in range(count)]
    # A proof is for the next block: at an age of first_age - 1, that is.
    structs = tuple(
        Struct(f"5-{n + 1}", BUILDING, first_age(zeros, BUILD_RANGE) - 1 - blocks) for n, zeros in enumerate(asked)
    )
    requests = tuple(
        JobRequest(Action.BUILD, struct.id, PLAYER, start_difficulty=zeros)
        for struct, zeros in zip(structs, asked, strict=True)
    )
    return Ripening(structs, requests, START_HEIGHT + blocks)


async def measure_jobs(choice: Choice, count: int, difficulties: Sequence[int] = DIFFICULTIES) -> JobsReport:
    """Solve `count` jobs submitted in batches, then as many that wait for one block."""
    report = await _in_batches(choice, count, difficulties)
    _, ripe = await ripe_at_once(choice, count, difficulties)
    return report.model_copy(update={"ripe": ripe})


async def _in_batches(choice: Choice, count: int, difficulties: Sequence[int]) -> JobsReport:
    """Submit jobs at once and wait until each has a proof that the coordinator has checked."""
    structs = small_jobs(count, difficulties)
    requests = [JobRequest(Action.BUILD, each.id, PLAYER, start_mode=StartMode.RACE) for each in structs]
    async with house() as place:
        await place.start_chain_and_coordinator(structs, BLOCK_SECONDS)
        await place.start_worker(choice)
        async with FleetClient(place.coordinator, timeout=60.0) as client:
            device = await place.worker_device(client)
            made = made_now()
            before = place.cpu_seconds()
            began = time.perf_counter()
            submitting = asyncio.create_task(submit_all(client, requests))
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
                difficulties=tuple(difficulties),
                block_seconds=BLOCK_SECONDS,
                submitting_seconds=ended - began,
                solved=_with_proof(jobs),
                solving_seconds=solving_seconds,
                included=jobs.completed,
                cpu_seconds=used_since(before, place.cpu_seconds()),
            )


async def ripe_at_once(choice: Choice, count: int, difficulties: Sequence[int]) -> tuple[str, RipeJobs]:
    """Solve jobs that wait until one block makes all of them ripe; the device, and what was measured.

    Raises HashfleetError if they are not all waiting by then: the machine is too slow for the measurement.
    """
    blocks = round((SETTLE_SECONDS + count / SETTLED_PER_SECOND) / BLOCK_SECONDS)
    stage = ripening_jobs(count, difficulties, blocks)
    async with house() as place:
        await place.start_chain_and_coordinator(stage.structs, BLOCK_SECONDS)
        await place.start_worker(choice)
        async with FleetClient(place.coordinator, timeout=60.0) as client:
            device = await place.worker_device(client)
            await submit_all(client, stage.requests)
            await _wait_for_block(client, stage, count)
            before = place.cpu_seconds()
            began = time.perf_counter()
            jobs = await _solved(client, place, count)
            return device, RipeJobs(
                jobs=count,
                difficulties=tuple(difficulties),
                block_seconds=BLOCK_SECONDS,
                solving_seconds=time.perf_counter() - began,
                included=jobs.completed,
                cpu_seconds=used_since(before, place.cpu_seconds()),
            )


async def submit_all(client: FleetClient, requests: Sequence[JobRequest]) -> float:
    """When the last one was stored (perf_counter). Raises the first error."""
    batches = iter([requests[at : at + MAX_BATCH] for at in range(0, len(requests), MAX_BATCH)])

    async def agent() -> None:
        for batch in batches:
            for answer in await client.submit_jobs(batch):
                if isinstance(answer, HashfleetError):
                    raise answer

    async with asyncio.TaskGroup() as group:
        for _ in range(AGENTS):
            group.create_task(agent())
    return time.perf_counter()


async def _wait_for_block(client: FleetClient, stage: Ripening, count: int) -> None:
    """Return as soon as the coordinator has seen the block that makes the jobs ripe."""
    waiting = 0
    while True:
        status = await client.fleet_status()
        if status.chain.height >= stage.height:
            break
        waiting = status.jobs.waiting
        # Each look counts the jobs in the store, so only the last moments are looked at closely.
        near = status.chain.height + 2 >= stage.height
        await asyncio.sleep(_POLL_SECONDS / 4 if near else BLOCK_SECONDS / 4)
    if waiting != count:
        raise HashfleetError(f"{waiting} of {count} jobs were waiting when their block came; all should have been")


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


def used_since(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    """Processor seconds that each process took between two looks."""
    return {name: now[name] - before.get(name, 0.0) for name in now}


def _with_proof(jobs: fleet_service_pb2.JobCounts) -> int:
    return jobs.submitting + jobs.completed
