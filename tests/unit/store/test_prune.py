"""What is forgotten, and what never."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.core.job import Job, JobState
from coordinator.store import prune as pruning
from coordinator.store.protocol import EndedJob, KeyedRequest, StoreDamaged, StoreError
from coordinator.store.prune import Horizon, keep_pruned, prune
from coordinator.store.sql import SqlStore, open_store
from coordinator.submission.attempt import Attempt, AttemptState
from hashfleet.action import Action, Work
from hashfleet.proof import verify

MakeJob = Callable[..., Job]
ENDED = EndedJob("pow_1", 10.0, 20.0, has_live_attempt=False, last_timeout_height=None)


def attempt(job: Job, state: AttemptState, timeout_height: int = 120) -> Attempt:
    work = Work(Action.BUILD, job.request.object_id, 100, 700)
    proof, number = verify(work.prefix, "0012345"), int(job.job_id[-6:])
    return Attempt(
        job.job_id, work, proof, "structs1worker", 17, 3, b"tx", f"{number:064X}", timeout_height, state, 1.0, 1.0
    )


def ended(job: Job, state: JobState = JobState.COMPLETED, at: float = 50.0) -> Job:
    return replace(job, state=state, completed_at=at)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "PAUSE_SECONDS", 0.0)


@pytest.mark.parametrize(
    ("job", "forgotten"),
    [
        (ENDED, True),
        (replace(ENDED, ended_at=99.0), True),
        (replace(ENDED, ended_at=100.0), False),
        (replace(ENDED, has_live_attempt=True, last_timeout_height=1), False),
        (replace(ENDED, last_timeout_height=498), True),
        (replace(ENDED, last_timeout_height=499), False),
        (replace(ENDED, last_timeout_height=600), False),
    ],
)
def test_a_job_is_forgotten_once_it_ended_long_ago_and_nothing_of_it_may_land(job: EndedJob, forgotten: bool) -> None:
    assert Horizon(ended_before=100.0, height=500).passed_by(job) is forgotten


async def test_jobs_go_with_their_attempts_and_keys_and_the_others_stay(database: Path, make_job: MakeJob) -> None:
    store = await open_store(database)
    old = [ended(make_job(1)), ended(make_job(2), JobState.FAILED), ended(make_job(3), JobState.CANCELLED)]
    kept = [
        make_job(4),
        replace(make_job(5), state=JobState.SUBMITTING),
        ended(make_job(6), at=200.0),
        ended(make_job(7)),
        ended(make_job(8)),
    ]
    keyed = [KeyedRequest(job.job_id, replace(job.request, idempotency_key=f"k{job.job_id}")) for job in (*old, *kept)]
    await store.save_jobs([*old, *kept], keyed)
    for job in old:
        await store.add_attempt(attempt(job, AttemptState.INCLUDED))
    live = await store.add_attempt(attempt(kept[3], AttemptState.BROADCAST))
    late = await store.add_attempt(attempt(kept[4], AttemptState.SUPERSEDED, timeout_height=499))
    assert await prune(store, Horizon(100.0, 500)) == 3
    for job in old:
        assert await store.job(job.job_id) is None
        assert await store.attempts_of(job.job_id) == []
    assert [await store.job(job.job_id) for job in kept] == kept
    assert await store.attempts_of(kept[3].job_id) == [live] and await store.attempts_of(kept[4].job_id) == [late]
    keys = await store.keyed_requests([one.request.idempotency_key or "" for one in keyed])
    assert sorted(one.job_id for one in keys.values()) == [job.job_id for job in kept]
    await store.close()


class Watched:
    """The real store, and how much each call moved."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.looked: list[int] = []
        self.deleted: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def ended_jobs(self, *arguments: Any) -> list[EndedJob]:
        found = await self._store.ended_jobs(*arguments)
        self.looked.append(len(found))
        return found

    async def delete_jobs(self, job_ids: Sequence[str]) -> None:
        self.deleted.append(len(job_ids))
        await self._store.delete_jobs(job_ids)


async def test_no_batch_is_larger_than_a_round_of_the_service(
    database: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "BATCH", 10)
    store = await open_store(database)
    # Every third one ended too recently: they are passed over once and not looked at again.
    await store.save_jobs([ended(make_job(number), at=500.0 if number % 3 == 0 else 90.0) for number in range(95)])
    watched = Watched(store)
    assert await prune(watched, Horizon(100.0, 500)) == 63
    assert sum(watched.looked) == 95 and max(watched.looked) == 10 and max(watched.deleted) <= 10
    assert len(await store.ended_jobs(1000.0, 1000, None)) == 32
    await store.close()


async def test_a_job_under_way_is_not_deleted_even_if_it_is_named(database: Path, make_job: MakeJob) -> None:
    store = await open_store(database)
    await store.save_jobs([make_job(1)])
    await store.delete_jobs(["pow_000001"])
    assert await store.job("pow_000001") == make_job(1)
    await store.close()


async def test_nothing_is_forgotten_while_the_height_is_not_known(
    database: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_NO_HEIGHT_SECONDS", 0.0)
    store = await open_store(database)
    await store.save_jobs([ended(make_job(1))])
    known: list[int | None] = [None]
    asked = asyncio.Semaphore(0)

    def height() -> int | None:
        asked.release()
        return known[0]

    keeping = asyncio.create_task(keep_pruned(store, 100.0, lambda: 1000.0, height))
    for _ in range(5):
        await asked.acquire()
    assert await store.job("pow_000001") is not None
    known[0] = 500
    while await store.job("pow_000001") is not None:
        pass
    keeping.cancel()
    await store.close()


class Refusing:
    """A store that refuses in different ways, one after the other."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)

    async def ended_jobs(self, *arguments: object) -> list[EndedJob]:
        raise self._errors.pop(0)


async def test_a_full_disk_only_postpones_pruning_and_damage_ends_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pruning, "ROUND_SECONDS", 0.0)
    store: Any = Refusing(StoreError("the disk is full"), StoreDamaged("it is damaged"))
    with caplog.at_level(logging.ERROR), pytest.raises(StoreDamaged):
        await keep_pruned(store, 100.0, lambda: 1000.0, lambda: 500)
    assert "cannot be deleted now: the disk is full" in caplog.text
