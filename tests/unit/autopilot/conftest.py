"""An autopilot over a chain, a store and a service that tests play by hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from coordinator.autopilot import Autopilot, RuleView
from coordinator.chain.client import Block, WorkReading
from coordinator.core.autopilot import Claim
from coordinator.core.job import Job, JobState
from coordinator.core.view import JobView
from coordinator.store.protocol import Store
from coordinator.store.sql import open_store
from hashfleet.action import Action, Work
from hashfleet.errors import HashfleetError
from hashfleet.job_request import JobRequest

ADDRESS = "structs1signer"


@dataclass
class ListedChain:
    """Tells each player's outstanding work as a test set it. The part of a ChainClient that the autopilot asks."""

    works: dict[str, list[Claim]] = field(default_factory=dict)
    #: Raised instead of the next answers.
    trouble: HashfleetError | None = None
    #: What the key may not do.
    forbidden: dict[Action, HashfleetError] = field(default_factory=dict)
    #: Of every puzzle.
    anchor: int = 50
    #: Players asked about, in order, and rights asked about.
    asked: list[str] = field(default_factory=list)
    rights: list[tuple[str, Action, str]] = field(default_factory=list)
    #: Cleared, it holds back every answer.
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    async def outstanding_work(self, player_id: str) -> list[Claim]:
        self.asked.append(player_id)
        await self.answers.wait()
        if self.trouble is not None:
            raise self.trouble
        return list(self.works.get(player_id, ()))

    async def read_work(self, action: Action, object_id: str) -> WorkReading:
        return WorkReading(Work(action, object_id, self.anchor, 700), frozenset({object_id}))

    @property
    def addresses(self) -> tuple[str, ...]:
        return (ADDRESS,)

    async def who_may_sign(self, action: Action, object_id: str) -> tuple[str, ...]:
        self.rights.append((ADDRESS, action, object_id))
        if action in self.forbidden:
            raise self.forbidden[action]
        return (ADDRESS,)


@dataclass
class Desk:
    """What the service does with requests: stores a job for each, or joins the unfinished one of the same work."""

    store: Store
    pilot: Autopilot
    jobs: dict[str, Job] = field(default_factory=dict)
    asked: list[JobRequest] = field(default_factory=list)
    now: float = 1000.0
    #: Of the puzzle of every job that ends.
    anchor: int = 50
    _landed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def submit_all(self, requests: Sequence[JobRequest]) -> list[tuple[JobView, bool] | HashfleetError]:
        answers: list[tuple[JobView, bool] | HashfleetError] = []
        for request in requests:
            self.asked.append(request)
            job = self.unfinished(request.action, request.object_id)
            made = job is None
            if job is None:
                job = Job(f"pow_{len(self.jobs):04d}", request, JobState.QUEUED, self.now, self.now)
                await self.put(job)
            answers.append((JobView(job), made))
        async with self._landed:
            self._landed.notify_all()
        return answers

    def unfinished(self, action: Action, object_id: str) -> Job | None:
        for job in self.jobs.values():
            if (job.request.action, job.request.object_id) == (action, object_id) and not job.state.final:
                return job
        return None

    async def put(self, job: Job) -> None:
        self.jobs[job.job_id] = job
        await self.store.save_jobs([job])
        self.pilot.jobs_changed([job])

    async def end(self, action: Action, object_id: str, state: JobState, error: str | None = None) -> None:
        job = self.unfinished(action, object_id)
        assert job is not None
        work = Work(action, object_id, self.anchor, 700)
        ended = replace(job, state=state, updated_at=self.now, completed_at=self.now, error=error, work=work)
        await self.put(ended)

    async def asked_for(self, count: int) -> list[JobRequest]:
        """Every request so far, once there are so many."""
        async with asyncio.timeout(10), self._landed:
            await self._landed.wait_for(lambda: len(self.asked) >= count)
        return self.asked


@dataclass
class Cockpit:
    """What a test holds in its hands."""

    pilot: Autopilot
    chain: ListedChain
    desk: Desk
    store: Store
    running: asyncio.Task[None]
    height: int = 100

    def block(self, *touched: str, unknown: bool = False) -> None:
        self.height += 1
        self.pilot.block_seen(Block(self.height, 5.0 * self.height, None if unknown else frozenset(touched)))

    async def settled(self) -> None:
        """Nothing is being looked at any more: store calls go through a thread, so this polls."""
        async with asyncio.timeout(10):
            quiet = 0
            while quiet < 3:
                await asyncio.sleep(0.005)
                busy = self.pilot._wake.is_set() or any(player.looking for player in self.pilot._players.values())
                quiet = 0 if busy else quiet + 1

    async def rule(self, player_id: str = "1-11") -> RuleView:
        view = await self.pilot.rule(player_id)
        assert view is not None
        return view


@contextlib.asynccontextmanager
async def opened(path: Path, chain: ListedChain) -> AsyncIterator[Cockpit]:
    store = await open_store(path)
    desk: Desk

    async def submit_all(requests: Sequence[JobRequest]) -> list[tuple[JobView, bool] | HashfleetError]:
        return await desk.submit_all(requests)

    pilot = Autopilot(chain, store, chain, submit_all, clock=lambda: desk.now)  # type: ignore[arg-type]
    desk = Desk(store, pilot)
    running = asyncio.create_task(pilot.run())
    try:
        yield Cockpit(pilot, chain, desk, store, running)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()


@pytest.fixture
async def cockpit(tmp_path: Path) -> AsyncIterator[Cockpit]:
    chain = ListedChain()
    chain.answers.set()
    async with opened(tmp_path / "jobs.db", chain) as cockpit:
        yield cockpit
