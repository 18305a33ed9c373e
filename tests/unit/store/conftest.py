"""A database file and jobs to keep in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.core.job import Job, JobState
from hashfleet.action import Action
from hashfleet.job_request import JobRequest


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


@pytest.fixture
def make_job() -> Callable[..., Job]:
    def make(number: int, *, notes: tuple[str, ...] = ()) -> Job:
        request = JobRequest(Action.BUILD, f"5-{number}", "1-7")
        return Job(f"pow_{number:06d}", request, JobState.QUEUED, float(number), float(number), notes=notes)

    return make
