"""What can befall the database file, and what is then promised."""

# ruff: noqa: ASYNC220, ASYNC240 -- nothing else runs on these tests' event loop while they handle files

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.core.job import Job
from coordinator.store import engine
from coordinator.store.protocol import StoreError
from coordinator.store.sql import open_store

MakeJob = Callable[..., Job]


async def test_a_second_coordinator_on_the_same_database_is_refused_and_the_first_goes_on(
    database: Path, make_job: MakeJob
) -> None:
    first = await open_store(database)
    with pytest.raises(StoreError, match=f"in use by another coordinator \\(process {os.getpid()}\\); stop that one"):
        await open_store(database)
    await first.save_jobs([make_job(1)])
    await first.close()
    second = await open_store(database)
    assert await second.job("pow_000001") == make_job(1)
    await second.close()


async def test_a_link_to_the_database_is_the_same_database(database: Path) -> None:
    first = await open_store(database)
    link = database.with_name("link.sqlite")
    link.symlink_to(database)
    with pytest.raises(StoreError, match="in use by another coordinator"):
        await open_store(link)
    await first.close()


async def test_a_person_can_read_the_database_while_the_coordinator_runs(database: Path, make_job: MakeJob) -> None:
    store = await open_store(database)
    await store.save_jobs([make_job(1)])
    reader = sqlite3.connect(database)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
    await store.save_jobs([make_job(2)])  # an open reader does not hold the writer up
    reader.close()
    await store.close()


async def test_missing_directories_are_made(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "state" / "hashfleet" / "jobs.sqlite")
    await store.close()
    assert (tmp_path / "state" / "hashfleet" / "jobs.sqlite").is_file()


async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(database: Path) -> None:
    content = b"this is a diary, not a database\n" * 100
    database.write_bytes(content)
    with pytest.raises(StoreError, match="not a SQLite database, or its first page is damaged; move it away"):
        await open_store(database)
    assert database.read_bytes() == content


async def test_a_database_of_another_program_is_refused_and_left_as_it_is(database: Path) -> None:
    with sqlite3.connect(database) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    with pytest.raises(StoreError, match="belongs to another program"):
        await open_store(database)
    with sqlite3.connect(database) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]
    other.close()


async def test_a_refused_database_is_not_left_locked(database: Path) -> None:
    database.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError):
        await open_store(database)
    database.unlink()
    await (await open_store(database)).close()


async def test_a_database_of_a_newer_version_is_refused(database: Path) -> None:
    await (await open_store(database)).close()
    with sqlite3.connect(database) as newer:
        newer.execute("UPDATE alembic_version SET version_num = '9001'")
    newer.close()
    with pytest.raises(StoreError, match=r"newer hashfleet \(its schema is 9001, this version knows up to [0-9]{4}\)"):
        await open_store(database)


async def test_a_row_changed_by_hand_is_reported_with_its_key(database: Path, make_job: MakeJob) -> None:
    store = await open_store(database)
    await store.save_jobs([make_job(1)])
    with sqlite3.connect(database) as hand:
        hand.execute("UPDATE jobs SET object_id = 'five'")
    hand.close()
    with pytest.raises(StoreError, match="job_id pow_000001 holds what hashfleet never writes"):
        await store.unfinished_jobs()
    await store.close()


async def test_a_full_disk_is_reported_and_no_stored_job_is_lost(
    database: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SQLite answers "full" at this size exactly as it does when the file system has no block left.
    monkeypatch.setattr(engine, "PRAGMAS", (*engine.PRAGMAS, "PRAGMA max_page_count = 60"))
    store = await open_store(database)
    kept = [make_job(1), make_job(2)]
    await store.save_jobs(kept)
    with pytest.raises(StoreError, match="the disk is full; free some space"):
        await store.save_jobs([make_job(number, notes=("x" * 1000,)) for number in range(1000)])
    assert await store.unfinished_jobs() == kept
    more = make_job(3)
    await store.save_jobs([more])  # it goes on as soon as there is room
    await store.close()
    monkeypatch.undo()
    store = await open_store(database)
    assert await store.unfinished_jobs() == [*kept, more]
    await store.close()


@pytest.fixture
def without_privileges() -> Iterator[None]:
    """Run as a user whom file permissions bind: root may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.fixture
def closed_directory() -> Iterator[Path]:
    """A directory that everyone may read and nobody may write to."""
    directory = Path(tempfile.mkdtemp(prefix="hashfleet-"))
    directory.chmod(0o555)
    yield directory
    directory.chmod(0o755)
    shutil.rmtree(directory)


async def test_a_directory_that_may_not_be_written_is_reported(
    closed_directory: Path, without_privileges: None
) -> None:
    with pytest.raises(StoreError, match="this user should have write access"):
        await open_store(closed_directory / "jobs.sqlite")


async def test_a_directory_in_place_of_the_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").mkdir()
    with pytest.raises(StoreError, match=r"jobs\.sqlite failed: it cannot be opened"):
        await open_store(tmp_path / "jobs.sqlite")


WRITER = """
import asyncio, sys
from coordinator.core.job import Job, JobRequest, JobState
from coordinator.store.sql import open_store
from hashfleet.action import Action

async def main():
    store = await open_store(sys.argv[1])
    for number in range(1_000_000):
        request = JobRequest(Action.BUILD, f"5-{number}", "1-7")
        await store.save_jobs([Job(f"pow_{number:06d}", request, JobState.QUEUED, float(number), float(number))])
        print(number, flush=True)

asyncio.run(main())
"""


async def test_a_killed_coordinator_loses_no_job_that_it_acknowledged(database: Path, make_job: MakeJob) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(database)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) == 100:
                break
        writer.send_signal(signal.SIGKILL)
        acknowledged = [100, *(int(line) for line in writer.stdout.read().splitlines())][-1]
    store = await open_store(database)  # and the dead process's lock does not stand in the way
    stored = await store.unfinished_jobs()
    # One more may be there: saved, and killed before it could say so.
    assert len(stored) - 1 in (acknowledged, acknowledged + 1)
    assert stored == [make_job(number) for number in range(len(stored))]
    await store.close()
