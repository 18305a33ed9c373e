"""A store on a file, and how to open it again; jobs and attempts to put in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from coordinator.core.job import Job, JobState
from coordinator.store.protocol import Store
from coordinator.store.sql import open_store
from coordinator.submission.attempt import Attempt, AttemptState
from hashfleet.action import Action, Work
from hashfleet.job_request import JobRequest
from hashfleet.proof import verify

#: Every implementation of Store: name -> how it is opened in a directory. Opened twice it is the same store.
IMPLEMENTATIONS: dict[str, Callable[[Path], Awaitable[Store]]] = {
    "sqlite": lambda directory: open_store(directory / "jobs.sqlite"),
}


class Reopenable:
    """A store that can be closed and opened again, as a restart does."""

    def __init__(self, name: str, directory: Path) -> None:
        self._open, self._directory = IMPLEMENTATIONS[name], directory
        self.store: Store

    async def open(self) -> Store:
        self.store = await self._open(self._directory)
        return self.store

    async def reopen(self) -> Store:
        await self.store.close()
        return await self.open()


@pytest_asyncio.fixture(params=sorted(IMPLEMENTATIONS))
async def reopenable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Reopenable]:
    place = Reopenable(request.param, tmp_path)
    await place.open()
    yield place
    await place.store.close()


@pytest.fixture
def store(reopenable: Reopenable) -> Store:
    return reopenable.store


@pytest.fixture
def make_job() -> Callable[..., Job]:
    def make(
        number: int, *, state: JobState = JobState.QUEUED, player_id: str = "1-7", created_at: float | None = None
    ) -> Job:
        at = 1000.0 + number if created_at is None else created_at
        request = JobRequest(Action.MINE, f"5-{number}", player_id)
        return Job(f"pow_{number:05d}", request, state, created_at=at, updated_at=at)

    return make


@pytest.fixture
def make_attempt() -> Callable[..., Attempt]:
    def make(job: Job, *, anchor: int = 500, sequence: int = 3, state: AttemptState = AttemptState.SIGNED) -> Attempt:
        work = Work(job.request.action, job.request.object_id, anchor, 700)
        return Attempt(
            job_id=job.job_id,
            work=work,
            proof=verify(work.prefix, "0012345"),
            address="structs1worker",
            account_number=17,
            sequence=sequence,
            tx_bytes=bytes(range(256)) + job.job_id.encode(),
            tx_hash=f"{sequence:064X}",
            timeout_height=anchor + 20,
            state=state,
            created_at=2000.5,
            updated_at=2000.5,
        )

    return make


@pytest.fixture
def landed() -> Callable[[Attempt], Attempt]:
    def land(attempt: Attempt) -> Attempt:
        return replace(attempt, state=AttemptState.INCLUDED, height=510, code=0, codespace="", updated_at=2010.0)

    return land
