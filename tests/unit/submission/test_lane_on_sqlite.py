"""The lane on the store that it runs on: one transaction per proof across a restart of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coordinator.core.job import Job, JobState
from coordinator.store.sql import SqlStore, open_store
from coordinator.submission.attempt import AttemptState
from hashfleet.job_request import JobRequest


class Heard:
    """Outcomes as they come, and a way to wait for some."""

    def __init__(self, scene: Any) -> None:
        self.scene, self.news = scene, asyncio.Event()
        scene._hear = self.hear

    async def hear(self, outcome: Any) -> None:
        self.scene.told.append(outcome)
        self.news.set()

    async def until(self, count: int, *kinds: str) -> None:
        """Wait until that many jobs had an outcome of one of these kinds."""
        while len({one.job_id for one in self.scene.told if type(one).__name__ in kinds}) < count:
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 30)


async def test_a_restart_of_lane_and_store_in_mid_flight_sends_no_second_transaction(
    make_scene: Callable[[], Any], tmp_path: Path
) -> None:
    scene = make_scene()
    heard = Heard(scene)
    store: SqlStore = await open_store(tmp_path / "jobs.sqlite")
    submissions = [scene.pose(number) for number in range(5)]
    requests = [JobRequest(one.work.action, one.work.object_id, "1-7") for one in submissions]
    await store.save_jobs(
        [
            Job(one.job_id, request, JobState.SUBMITTING, 1.0, 1.0, work=one.work)
            for one, request in zip(submissions, requests, strict=True)
        ]
    )
    scene.store = store
    scene.chain.includes = False
    await scene.start()
    for submission in submissions:
        scene.lane.submit(submission)
    await heard.until(2, "Broadcast")
    await scene.stop()  # wherever it is with the third
    await store.close()

    scene.chain.includes = True
    scene.chain.commit()  # what was sent lands while nobody looks
    scene.told.clear()
    scene.store = store = await open_store(tmp_path / "jobs.sqlite")
    lane = scene.make_lane()
    for submission in submissions:  # the coordinator submits what its jobs say, before the ledger is read
        lane.submit(submission)
    await scene.start(lane)
    await heard.until(2, "Included")
    await heard.until(5, "Included", "Broadcast")
    scene.chain.commit()
    scene.lane.block_seen(scene.chain.height)
    await heard.until(5, "Included")
    assert sorted(scene.chain.sent_objects()) == ["5-0", "5-1", "5-2", "5-3", "5-4"]
    for submission in submissions:
        rows = await store.attempts_of(submission.job_id)
        # What was only prepared when it stopped is closed; nothing of it was ever sent.
        assert [row.state for row in rows if row.tx_hash is not None] == [AttemptState.INCLUDED]
        assert {row.state for row in rows if row.tx_hash is None} <= {AttemptState.SUPERSEDED}
    assert await store.live_attempts() == []
    await scene.stop()
    await store.close()
