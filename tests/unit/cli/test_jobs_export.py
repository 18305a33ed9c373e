"""`hashfleet jobs export` against a real service and store."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.api.grpc_server import build_server
from coordinator.core.job import Job, JobState
from coordinator.service import Service
from coordinator.store.protocol import JobFilter, StoreError
from coordinator.store.sql import SqlStore, open_store
from coordinator.submission.keys import SigningKey
from hashfleet.action import Action
from hashfleet.cli import jobs_export
from hashfleet.cli.main import main
from hashfleet.job_request import JobRequest

Run = Callable[..., tuple[int, str, str]]
#: Jobs 0 to 24: every fifth failed, the others completed; those of odd numbers are player 1-9's.
JOBS = [
    Job(
        f"pow_{number:04d}",
        JobRequest(Action.BUILD, f"5-{number + 1}", "1-9" if number % 2 else "1-7"),
        JobState.FAILED if number % 5 == 0 else JobState.COMPLETED,
        1.7e9 + number,
        1.7e9 + number,
        completed_at=1.7e9 + number,
    )
    for number in range(25)
]


class Listing(Service):
    """A service that only lists what is stored; `between` is called before every page."""

    def __init__(self, store: SqlStore) -> None:
        super().__init__(None, store, SigningKey(bytes(range(1, 33))))  # type: ignore[arg-type]
        self.store = store
        self.between: Callable[[], Any] | None = None
        self.pages = 0

    async def jobs(self, which: JobFilter, limit: int, after: tuple[float, str] | None) -> Any:
        if self.between is not None and after is not None:
            await self.between()
        self.pages += 1
        return await super().jobs(which, limit, after)


@pytest.fixture
def call() -> Iterator[Callable[[Any], Any]]:
    """Runs a coroutine on an event loop beside the test, as the command has its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[Any], Any]) -> Iterator[Listing]:
    monkeypatch.setattr(jobs_export, "PAGE", 10)

    async def open_doors() -> tuple[Listing, Any]:
        store = await open_store(tmp_path / "jobs.db")
        await store.save_jobs(JOBS)
        service = Listing(store)
        server = await build_server(service)
        monkeypatch.setenv("HASHFLEET_COORDINATOR", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        return service, server

    service, server = call(open_doors())
    yield service
    call(server.stop(0))
    call(service.store.close())


@pytest.fixture
def run(listing: Listing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hashfleet", "jobs", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def ids(lines: str) -> list[str]:
    return [json.loads(line)["job_id"] for line in lines.splitlines()]


def test_every_job_is_a_line_newest_first_over_several_pages(run: Run, listing: Listing) -> None:
    status, out, _ = run("export")
    assert status == 0 and ids(out) == [job.job_id for job in reversed(JOBS)]
    assert listing.pages == 3


def test_a_line_is_what_show_prints(run: Run) -> None:
    _, out, _ = run("export")
    _, shown, _ = run("show", "pow_0024", "--json")
    assert json.loads(out.splitlines()[0]) == json.loads(shown)


def test_jobs_can_be_chosen_by_state_player_and_time(run: Run) -> None:
    _, out, _ = run("export", "--state", "failed", "--player", "1-9")
    assert ids(out) == ["pow_0015", "pow_0005"]
    _, out, _ = run("export", "--since", "2023-11-14T22:13:40+00:00")  # 1.7e9 + 20
    assert ids(out) == [f"pow_{number:04d}" for number in (24, 23, 22, 21, 20)]
    _, out, _ = run("export", "--since", "7d")
    assert out == ""


def test_a_time_that_is_none_is_refused_with_an_example(run: Run) -> None:
    status, _, err = run("export", "--since", "yesterday")
    assert status == 2 and "should be an age such as 12h or 7d" in err


def test_changes_meanwhile_neither_repeat_nor_skip_a_job(run: Run, listing: Listing) -> None:
    fresh = iter(range(100, 200))

    async def change() -> None:
        # New jobs come, listed ones change their state, and one that was not reached yet is forgotten.
        number = next(fresh)
        request = JobRequest(Action.BUILD, f"5-{number}", "1-7")
        await listing.store.save_jobs(
            [
                Job(f"pow_{number:04d}", request, JobState.QUEUED, 1.8e9 + number, 1.8e9),
                *(replace(job, state=JobState.CANCELLED) for job in JOBS[1:20]),
            ]
        )
        await listing.store.delete_jobs(["pow_0002"])

    listing.between = change
    _, out, _ = run("export")
    assert ids(out) == [job.job_id for job in reversed(JOBS) if job.job_id != "pow_0002"]


def test_a_file_takes_its_place_when_it_is_whole(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "jobs.jsonl"
    output.write_text("before")
    status, out, _ = run("export", "--output", str(output))
    assert (status, out) == (0, f"25 jobs are in {output}\n")
    assert len(ids(output.read_text())) == 25
    assert [path.name for path in tmp_path.glob("*jsonl*")] == ["jobs.jsonl"]


def test_a_file_of_an_export_that_fails_midway_is_left_as_it_was(run: Run, listing: Listing, tmp_path: Path) -> None:
    async def fail() -> None:
        raise RuntimeError("the second page")

    listing.between = fail
    output = tmp_path / "jobs.jsonl"
    output.write_text("before")
    status, _, err = run("export", "--output", str(output))
    assert status == 1 and err.startswith("hashfleet: ")
    assert output.read_text() == "before"
    assert [path.name for path in tmp_path.glob("*jsonl*")] == ["jobs.jsonl"]


def test_what_is_wrong_with_the_database_reaches_the_person_who_asked(run: Run, listing: Listing) -> None:
    async def fail() -> None:
        raise StoreError("the database jobs.db failed: another program holds it locked; close that program")

    listing.between = fail
    status, _, err = run("export")
    assert status == 1 and "another program holds it locked; close that program" in err


def test_a_file_that_cannot_be_written_is_said_in_one_sentence(run: Run, tmp_path: Path) -> None:
    status, _, err = run("export", "--output", str(tmp_path / "nowhere" / "jobs.jsonl"))
    assert status == 1
    assert "cannot be written (No such file or directory); its directory should exist" in err


@pytest.fixture
def held(listing: Listing, call: Callable[[Any], Any]) -> threading.Event:
    """Set when an export waits for its second page, which never comes."""
    more = [replace(JOBS[1], job_id=f"pow_9{number:03d}") for number in range(400)]
    call(listing.store.save_jobs(more))
    reached = threading.Event()

    async def hold() -> None:
        reached.set()
        await asyncio.sleep(3600)

    listing.between = hold
    return reached


def test_ctrl_c_stops_with_the_count_and_leaves_no_file(held: threading.Event, tmp_path: Path) -> None:
    output = tmp_path / "jobs.jsonl"
    command = [sys.executable, "-m", "hashfleet.cli.main", "jobs", "export", "--output", str(output)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as export:
        assert held.wait(30)
        export.send_signal(2)
        _, err = export.communicate(timeout=30)
    assert export.returncode == 130
    assert err == f"hashfleet: stopped after 200 jobs; {output} is left as it was\n"
    assert list(tmp_path.glob("*jsonl*")) == []


def test_a_reader_that_has_enough_is_no_error(listing: Listing) -> None:
    command = [sys.executable, "-m", "hashfleet.cli.main", "jobs", "export"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as export:
        assert export.stdout is not None and export.stderr is not None
        export.stdout.close()
        assert export.stderr.read() == ""
    assert export.returncode == 0
