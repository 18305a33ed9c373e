"""What a damaged, full, locked or vanished database leads to: one sentence that says what to do, and nothing lost."""

# ruff: noqa: ASYNC240 -- nothing else runs on these tests' event loop while they handle files

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.core.job import Job, JobState
from coordinator.store import engine
from coordinator.store.protocol import StoreDamaged, StoreError
from coordinator.store.sql import open_store

MakeJob = Callable[..., Job]
PAGE = 4096


@pytest.fixture
async def filled(database: Path, make_job: MakeJob) -> Path:
    """A database of two thousand jobs, closed."""
    store = await open_store(database)
    await store.save_jobs([make_job(number) for number in range(2000)])
    await store.close()
    return database


def spoil(database: Path, pages: range) -> None:
    with database.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE)
            file.write(b"\xff" * PAGE)


# ---- damage --------------------------------------------------------------------------------------------------------


async def test_a_damaged_page_is_found_before_anything_is_done(filled: Path) -> None:
    last = filled.stat().st_size // PAGE
    spoil(filled, range(last // 2, last // 2 + 1))
    before = filled.read_bytes()
    with pytest.raises(StoreDamaged, match=r"is damaged; stop the coordinator, then restore a backup \(and delete"):
        await open_store(filled)
    assert filled.read_bytes() == before


async def test_any_damaged_page_is_reported_or_harms_no_job(filled: Path, tmp_path: Path, make_job: MakeJob) -> None:
    # Any page at all: of rows, of indexes, of the schema, of the header.
    whole, rng = filled.read_bytes(), random.Random(4)
    expected = [make_job(number) for number in range(2000)]
    reported = 0
    for page in rng.sample(range(len(whole) // PAGE), 40):
        copy = tmp_path / f"damaged-{page}.sqlite"
        copy.write_bytes(whole[: page * PAGE] + rng.randbytes(PAGE) + whole[(page + 1) * PAGE :])
        try:
            store = await open_store(copy)
        except StoreError:
            reported += 1
            continue
        try:
            assert await store.unfinished_jobs() == expected
        except StoreDamaged:
            reported += 1
        finally:
            await store.close()
    assert reported >= 38


async def test_a_damaged_header_says_that_it_may_be_the_first_page(filled: Path) -> None:
    spoil(filled, range(1))
    with pytest.raises(StoreDamaged, match="or its first page is damaged; move it away and restore a backup"):
        await open_store(filled)


async def test_a_database_cut_short_is_reported(filled: Path) -> None:
    os.truncate(filled, filled.stat().st_size // PAGE // 2 * PAGE)
    with pytest.raises(StoreDamaged, match="is damaged"):
        await open_store(filled)


async def test_damage_met_while_running_is_told_from_what_passes(
    filled: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CHECK_SECONDS", -1.0)  # as with a database that is too large to be checked whole
    monkeypatch.setattr(engine, "_STEPS_PER_LOOK", 1)
    spoil(filled, range(20, filled.stat().st_size // PAGE))
    store = await open_store(filled)
    with pytest.raises(StoreDamaged, match="is damaged"):
        await store.unfinished_jobs()
    await store.close()


async def test_of_a_cut_write_ahead_log_whole_rounds_are_there_or_not_at_all(
    database: Path, tmp_path: Path, make_job: MakeJob
) -> None:
    # What a power failure or a kill in the middle of a commit leaves: a log that ends anywhere.
    store = await open_store(database)
    rounds = [[make_job(10 * number + part, notes=("n" * 900,)) for part in range(10)] for number in range(8)]
    for jobs in rounds:
        await store.save_jobs(jobs)
    log = database.with_name(database.name + "-wal").read_bytes()
    main = database.read_bytes()
    await store.close()
    seen = set()
    for number, length in enumerate(sorted(random.Random(7).sample(range(len(log)), 24))):
        copy = tmp_path / f"cut-{number}.sqlite"
        copy.write_bytes(main)
        copy.with_name(copy.name + "-wal").write_bytes(log[:length])
        cut = await open_store(copy)
        stored = await cut.unfinished_jobs()
        whole, rest = divmod(len(stored), 10)
        assert rest == 0, "half a round was stored"
        assert stored == [job for jobs in rounds[:whole] for job in jobs]
        await cut.save_jobs(rounds[0])  # and it goes on
        await cut.close()
        seen.add(whole)
    assert len(seen) > 4


async def test_a_write_ahead_log_with_flipped_bits_ends_before_them(
    database: Path, tmp_path: Path, make_job: MakeJob
) -> None:
    store = await open_store(database)
    for number in range(20):
        await store.save_jobs([make_job(number)])
    log = bytearray(database.with_name(database.name + "-wal").read_bytes())
    main = database.read_bytes()
    await store.close()
    log[-PAGE // 2] ^= 1
    copy = tmp_path / "flipped.sqlite"
    copy.write_bytes(main)
    copy.with_name(copy.name + "-wal").write_bytes(log)
    flipped = await open_store(copy)
    assert await flipped.unfinished_jobs() == [make_job(number) for number in range(19)]
    await flipped.close()


# ---- no room -------------------------------------------------------------------------------------------------------

FILLER = """
import asyncio, sys
from coordinator.core.job import Job, JobRequest, JobState
from coordinator.store.protocol import StoreError
from coordinator.store.sql import open_store
from hashfleet.action import Action

async def main():
    store = await open_store(sys.argv[1])
    saved = 0
    try:
        for number in range(100_000):
            request = JobRequest(Action.BUILD, f"5-{number}", "1-7")
            job = Job(f"pow_{number:06d}", request, JobState.QUEUED, float(number), float(number), notes=("x" * 2000,))
            await store.save_jobs([job])
            saved += 1
    except StoreError as error:
        print(error, file=sys.stderr)
        assert len(await store.unfinished_jobs()) == saved  # it reads on
    await store.close()
    print(saved)

asyncio.run(main())
"""


def limited(most_bytes: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Run it where no file may grow beyond that: the write fails as with a quota."""
    return subprocess.run(
        [sys.executable, *command],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY)),
        capture_output=True,
        text=True,
        timeout=60,
    )


async def test_when_files_may_not_grow_every_saved_job_is_kept_and_the_reason_said(database: Path) -> None:
    done = limited(1_000_000, "-c", FILLER, str(database))
    assert "the disk does not take what is written: it or a quota" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    saved = int(done.stdout)
    assert saved > 20
    store = await open_store(database)
    assert [job.job_id for job in await store.unfinished_jobs()] == [f"pow_{number:06d}" for number in range(saved)]
    await store.close()


async def test_a_database_that_cannot_even_be_begun_leaves_nothing_half_made(database: Path) -> None:
    done = limited(3000, "-c", FILLER, str(database))
    assert done.returncode == 1 and "the disk does not take what is written" in done.stderr
    store = await open_store(database)  # with room it is made as if nothing had been
    assert await store.count_jobs() == {}
    await store.close()


# ---- others --------------------------------------------------------------------------------------------------------


async def test_a_database_that_another_program_holds_locked_is_reported_and_nothing_is_lost(
    filled: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PRAGMAS", (*engine.PRAGMAS, "PRAGMA busy_timeout = 20"))
    store = await open_store(filled)
    holder = sqlite3.connect(filled, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another program holds it locked; close that program"):
        await store.save_jobs([make_job(3000)])
    holder.execute("ROLLBACK")
    holder.close()
    await store.save_jobs([make_job(3000)])
    assert await store.count_jobs() == {JobState.QUEUED: 2001}
    await store.close()


async def test_a_lock_held_at_the_start_is_reported(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PRAGMAS", ("PRAGMA busy_timeout = 20", *engine.PRAGMAS[1:]))
    holder = sqlite3.connect(filled, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="another program holds it locked; close that program"):
        await open_store(filled)
    holder.close()
    await (await open_store(filled)).close()


async def test_a_database_that_was_moved_away_takes_no_job_until_it_is_back(filled: Path, make_job: MakeJob) -> None:
    store = await open_store(filled)
    elsewhere = filled.with_name("elsewhere.sqlite")
    filled.rename(elsewhere)
    with pytest.raises(StoreError, match="was moved, deleted or replaced while the coordinator runs"):
        await store.save_jobs([make_job(3000)])
    shutil.copy(elsewhere, filled)  # a copy is not the file that is open
    with pytest.raises(StoreError, match="was moved, deleted or replaced"):
        await store.save_jobs([make_job(3000)])
    elsewhere.rename(filled)
    await store.save_jobs([make_job(3000)])
    await store.close()
    store = await open_store(filled)
    assert await store.job("pow_003000") == make_job(3000)
    await store.close()


async def test_what_is_durable_when_it_returns_stands_on_these_settings(database: Path) -> None:
    store = await open_store(database)
    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    found = await store._run(
        lambda connection: {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}
    )
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": engine.BUSY_TIMEOUT_MS}
    await store.close()
