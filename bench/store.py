"""What keeping jobs costs: `python -m bench.store [--rounds 30]`.

Every job is saved four times (accepted, running, submitting, completed), in rounds of 256 as the service saves them,
into a fresh database in a temporary folder: once with an idle event loop, once with one that is busy all the time and
leaves the store's thread what Python's lock leaves it. Then all jobs are read back, and the oldest are pruned.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from coordinator.core.job import FoundProof, Job, JobState, Transaction, TransactionState
from coordinator.server import set_up_process
from coordinator.service import ROUND_EVENTS
from coordinator.store.protocol import JobFilter
from coordinator.store.sql import SqlStore, open_store
from hashfleet.action import Action, Work
from hashfleet.job_request import JobRequest
from hashfleet.proof import Proof

SAVES = 4
#: Seconds for which the busy loop computes between two looks at its tasks.
_BURST = 0.002
_PROOF = FoundProof(Proof("1" * 30, "0" * 64), "w_1", 5000, 0.1)
_LANDED = Transaction("A" * 64, TransactionState.INCLUDED, 5, 77)


def lives(first: int) -> Iterator[list[Job]]:
    """The states in which so many jobs are saved, one round after the other."""
    at = 1.7e9 + first
    jobs = [
        Job(f"pow_{at:.0f}_{number:08x}", JobRequest(Action.BUILD, f"5-{number}", "1-7"), JobState.QUEUED, at, at)
        for number in range(first, first + ROUND_EVENTS)
    ]
    yield jobs
    jobs = [replace(j, state=JobState.RUNNING, work=Work(Action.BUILD, j.request.object_id, 1000, 700)) for j in jobs]
    yield jobs
    jobs = [replace(j, state=JobState.SUBMITTING, hashes=5000, hash_seconds=0.1, found=_PROOF) for j in jobs]
    yield jobs
    yield [replace(j, state=JobState.COMPLETED, completed_at=at, transaction=_LANDED) for j in jobs]


async def save_all(store: SqlStore, rounds: int) -> str:
    """Save so many rounds of jobs; what it cost, as a line."""
    batches = [jobs for number in range(rounds) for jobs in lives(number * ROUND_EVENTS)]
    took = []
    began, computed = time.perf_counter(), time.process_time()
    for jobs in batches:
        before = time.perf_counter()
        await store.save_jobs(jobs)
        took.append(time.perf_counter() - before)
    seconds, computed = time.perf_counter() - began, time.process_time() - computed
    took.sort()
    count = rounds * ROUND_EVENTS
    return (
        f"{count / seconds:,.0f} jobs/s, {1e6 * computed / (SAVES * count):.0f} us of processor time per save, "
        f"round p50 {1e3 * took[len(took) // 2]:.1f} ms, p99 {1e3 * took[int(0.99 * len(took))]:.1f} ms"
    )


async def keep_busy() -> None:
    """Compute until cancelled, and let others run between bursts only."""
    while True:
        until = time.perf_counter() + _BURST
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)


async def measure(rounds: int) -> None:
    """Print one line for each figure."""
    set_up_process()
    for loop in ("idle", "busy"):
        with tempfile.TemporaryDirectory() as folder:
            store = await open_store(Path(folder) / "jobs.db")
            work = asyncio.create_task(keep_busy()) if loop == "busy" else None
            click.echo(f"saving, event loop {loop}: {await save_all(store, rounds)}")
            if work is not None:
                work.cancel()
            else:
                before = time.perf_counter()
                read = len(await store.list_jobs(JobFilter(), rounds * ROUND_EVENTS, None))
                click.echo(f"reading: {read / (time.perf_counter() - before):,.0f} jobs/s")
            await store.close()


@click.command()
@click.option("--rounds", type=click.IntRange(1, 39), default=30, show_default=True, help="Rounds of 256 jobs.")
def main(rounds: int) -> None:
    """Measure how many jobs a second the store keeps."""
    asyncio.run(measure(rounds))


if __name__ == "__main__":
    main()
