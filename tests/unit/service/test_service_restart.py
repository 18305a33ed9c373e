"""What a service does with what it finds in the store, and with a store that turns out to be damaged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from coordinator import service as service_module
from coordinator.core.job import Job, JobState
from coordinator.service import Service
from coordinator.store import prune as pruning
from coordinator.store.protocol import StoreDamaged, StoreError
from coordinator.store.sql import SqlStore, open_store
from hashfleet.action import Action
from hashfleet.job_request import JobRequest

from .conftest import KEY, Coordinator, OneNodeChain

REQUEST = JobRequest(Action.BUILD, "5-1", "1-11")
UNDER_WAY = Job("pow_before", REQUEST, JobState.QUEUED, 1.0, 1.0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    store = await open_store(tmp_path / "jobs.db")
    yield store
    await store.close()


class Slow:
    """The store; reading the jobs under way takes until it is allowed."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.reading, self.allowed = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def unfinished_jobs(self) -> list[Job]:
        self.reading.set()
        await self.allowed.wait()
        return await self._store.unfinished_jobs()


async def test_a_request_that_comes_while_a_restart_reads_its_jobs_finds_them(store: SqlStore) -> None:
    await store.save_jobs([UNDER_WAY])
    slow = Slow(store)
    service = Service(OneNodeChain(), slow, KEY)
    running = asyncio.create_task(service.run())
    await slow.reading.wait()
    asking = asyncio.create_task(service.submit(REQUEST))
    cancelling = asyncio.create_task(service.cancel("pow_before"))
    await asyncio.sleep(0)
    slow.allowed.set()
    view, created = await asyncio.wait_for(asking, 10)
    assert (view.job.job_id, created) == ("pow_before", False)
    assert (await asyncio.wait_for(cancelling, 10)).job.state is JobState.CANCELLED
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


class Damaged:
    """The store; what it is given to save meets a damaged page."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def save_jobs(self, *arguments: object) -> None:
        raise StoreDamaged("the database is damaged; restore a backup")


async def test_a_service_whose_store_is_damaged_ends_with_the_reason(store: SqlStore) -> None:
    service = Service(OneNodeChain(), Damaged(store), KEY)
    running = asyncio.create_task(service.run())
    asking = asyncio.create_task(service.submit(REQUEST))
    with pytest.raises(BaseExceptionGroup) as ended:
        await asyncio.wait_for(running, 10)
    assert ended.group_contains(StoreDamaged, match="restore a backup")
    asking.cancel()


async def test_a_caller_is_told_why_the_store_takes_nothing_and_may_ask_again(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "REFUSAL_SECONDS", 0.01)
    coordinator.disk.full = True
    for _ in range(2):
        with pytest.raises(StoreError, match="not stored yet, because the disk is full; make room; asking again is"):
            await coordinator.service.submit(REQUEST)
    coordinator.disk.full = False
    monkeypatch.setattr(service_module, "REFUSAL_SECONDS", 10.0)
    view, created = await asyncio.wait_for(coordinator.service.submit(REQUEST), 10)
    assert not created  # it was stored as soon as there was room
    assert [job.job_id for job in await coordinator.disk._store.unfinished_jobs()] == [view.job.job_id]


async def test_a_service_forgets_what_ended_long_ago(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "_NO_HEIGHT_SECONDS", 0.0)
    old = Job("pow_old", REQUEST, JobState.COMPLETED, 1.0, 2.0, completed_at=2.0)
    new = Job("pow_new", REQUEST, JobState.COMPLETED, 1.0, 950.0, completed_at=950.0)
    await store.save_jobs([old, new, UNDER_WAY])
    service = Service(OneNodeChain(), store, KEY, clock=lambda: 1000.0, keep_seconds=100.0)
    running = asyncio.create_task(service.run())
    async with asyncio.timeout(10):
        while await store.job("pow_old") is not None:
            pass
    assert await store.job("pow_new") == new and await store.job("pow_before") is not None
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
