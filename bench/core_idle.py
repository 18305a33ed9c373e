"""What a coordinator takes of a machine while very many jobs wait: real processes, idle."""

from __future__ import annotations

import asyncio
import time

from bench.core_height import AGES, RANGES
from bench.house import Struct, house
from bench.jobs import submit_all
from bench.report import IdleFigure
from hashfleet.action import Action
from hashfleet.client import FleetClient
from hashfleet.errors import HashfleetError
from hashfleet.job_request import JobRequest

#: Struct types (the chain's numbers) by build range.
_TYPES = {5000: 22, 3600: 18, 2880: 17, 1440: 21}
#: Nobody has a hundred thousand; these are of so many a player.
_STRUCTS_EACH = 100
BLOCK_SECONDS = 3.0
#: Between the last reading and the measurement.
_REST_SECONDS = 5.0
_POLL_SECONDS = 1.0
#: The coordinator stops reading for so long only if something is wrong.
_PATIENCE_SECONDS = 60.0


async def measure_idle(jobs: int, seconds: float) -> IdleFigure:
    """Submit so many jobs that are not worth hashing yet, and look on for some seconds."""
    structs = [
        Struct(f"5-{n + 1}", _TYPES[RANGES[n % len(RANGES)]], AGES[n % len(AGES)], owner=f"1-{11 + n // _STRUCTS_EACH}")
        for n in range(jobs)
    ]
    async with house() as place:
        await place.start_chain_and_coordinator(structs, BLOCK_SECONDS)
        async with FleetClient(place.coordinator, timeout=60.0) as client:
            await _connected(client)
            empty = place.memory("coordinator")
            began = time.perf_counter()
            await submit_all(client, [JobRequest(Action.BUILD, struct.id, struct.owner) for struct in structs])
            await _all_wait(client, jobs)
            settling = time.perf_counter() - began
            await asyncio.sleep(_REST_SECONDS)
            before, height = place.cpu_seconds()["coordinator"], (await client.fleet_status()).chain.height
            began = time.perf_counter()
            await asyncio.sleep(seconds)
            elapsed = time.perf_counter() - began
            used = place.cpu_seconds()["coordinator"] - before
            return IdleFigure(
                jobs=jobs,
                empty_bytes=empty,
                full_bytes=place.memory("coordinator"),
                settling_seconds=settling,
                seconds=elapsed,
                cpu_seconds=used,
                blocks=(await client.fleet_status()).chain.height - height,
            )


async def _connected(client: FleetClient) -> None:
    for _ in range(round(_PATIENCE_SECONDS / _POLL_SECONDS)):
        if (await client.fleet_status()).chain.height:
            return
        await asyncio.sleep(_POLL_SECONDS)
    raise HashfleetError(f"the coordinator did not reach the devnet within {_PATIENCE_SECONDS:.0f} s")


async def _all_wait(client: FleetClient, jobs: int) -> None:
    most, moved = -1, time.perf_counter()
    while (waiting := (await client.fleet_status()).jobs.waiting) < jobs:
        if waiting > most:
            most, moved = waiting, time.perf_counter()
        elif time.perf_counter() - moved > _PATIENCE_SECONDS:
            raise HashfleetError(f"{waiting} of {jobs} jobs wait, and no more in {_PATIENCE_SECONDS:.0f} s")
        await asyncio.sleep(_POLL_SECONDS)
