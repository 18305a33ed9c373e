"""`hashfleet bench core`: what the coordinator takes and how soon it acts, with very many jobs and workers."""

from __future__ import annotations

from bench.core_height import measure_heights
from bench.core_idle import measure_idle
from bench.core_leases import measure_grants, measure_stops, measure_stops_on_the_wire
from bench.jobs import ripe_at_once
from bench.machine import made_now
from bench.one_device import Choice
from bench.report import CoreReport, Times
from coordinator.server import set_up_process

WAITING_JOBS, IDLE_SECONDS = 100_000, 20.0
RIPE_JOBS, RIPE_DIFFICULTY = 3_000, 3
WORKERS, WIRE_WORKERS = 1_000, 8
HEIGHTS, GRANTS, STOPS = 30, 4_000, 100


async def measure_core(
    choice: Choice, rounds: int, *, waiting: int = WAITING_JOBS, ripe: int = RIPE_JOBS, workers: int = WORKERS
) -> CoreReport:
    """All of it, one after the other; what takes long is measured once, solving ripe jobs so many rounds."""
    set_up_process()
    made = made_now()
    heights = measure_heights(waiting, HEIGHTS)
    grant = await measure_grants(workers, GRANTS)
    stop = await measure_stops(workers, STOPS)
    wire = await measure_stops_on_the_wire(WIRE_WORKERS, STOPS)
    solved = [await ripe_at_once(choice, ripe, (RIPE_DIFFICULTY,)) for _ in range(rounds)]
    idle = await measure_idle(waiting, IDLE_SECONDS)
    return CoreReport(
        made=made,
        device=solved[0][0],
        heights=heights,
        height_jobs=waiting,
        workers=workers,
        grant=Times(seconds=grant),
        stop=Times(seconds=stop),
        wire_workers=WIRE_WORKERS,
        wire_stop=Times(seconds=wire),
        ripe=tuple(figure for _, figure in solved),
        idle=idle,
    )
