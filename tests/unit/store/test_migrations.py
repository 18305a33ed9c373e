"""The steps from version to version."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from coordinator.core.job import Job, JobState
from coordinator.store import migrations
from coordinator.store.protocol import KeyedRequest
from coordinator.store.schema import attempts, jobs, metadata
from coordinator.store.sql import open_store
from coordinator.submission.attempt import AttemptState
from hashfleet.action import Action
from hashfleet.job_request import JobRequest


def schema_of(database: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(database) as reader:
        rows = reader.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    reader.close()
    return [(name, " ".join(sql.split())) for name, sql in rows if name not in ("alembic_version", "sqlite_sequence")]


async def test_all_steps_together_give_the_schema_of_the_code(database: Path, tmp_path: Path) -> None:
    await (await open_store(database)).close()
    direct = create_engine(f"sqlite:///{tmp_path / 'direct.sqlite'}")
    metadata.create_all(direct)
    direct.dispose()
    stepped, created = dict(schema_of(database)), dict(schema_of(tmp_path / "direct.sqlite"))
    assert stepped.keys() == created.keys()
    for index in (
        "jobs_by_age",
        "jobs_by_state",
        "jobs_by_player",
        "one_job_per_key",
        "keys_of_job",
        "attempts_of_job",
        "one_live_attempt_per_anchor",
    ):
        assert stepped[index] == created[index]
    migrated = create_engine(f"sqlite:///{database}")
    with migrated.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    migrated.dispose()


def test_every_step_is_named_by_a_sentence_and_follows_the_one_before() -> None:
    config = Config()
    config.set_main_option("script_location", "coordinator.store:migrations")
    steps = list(reversed(list(ScriptDirectory.from_config(config).walk_revisions())))
    assert [step.revision for step in steps] == [f"{number:04d}" for number in range(1, len(steps) + 1)]
    for step in steps:
        assert len(Path(step.path).stem.split("_")) >= 4, "name the step by a sentence"


async def test_opening_a_database_of_this_version_changes_nothing(database: Path) -> None:
    await (await open_store(database)).close()
    before = schema_of(database)
    await (await open_store(database)).close()
    assert schema_of(database) == before


async def test_a_step_that_fails_leaves_nothing_behind(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = migrations.upgrade

    def break_off(connection: Connection, path: Path) -> bool:
        whole(connection, path)
        connection.execute(text("INSERT INTO no_such_table VALUES (1)"))
        return True

    monkeypatch.setattr(migrations, "upgrade", break_off)
    with pytest.raises(Exception, match="no_such_table"):
        await open_store(database)
    assert schema_of(database) == []
    monkeypatch.undo()
    store = await open_store(database)
    assert await store.count_jobs() == {}
    await store.close()


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("SELECT * FROM jobs ORDER BY created_at DESC, job_id DESC LIMIT 50", "jobs_by_age"),
        (
            "SELECT * FROM jobs WHERE (created_at, job_id) < (5.0, 'x') ORDER BY created_at DESC, job_id DESC LIMIT 50",
            "jobs_by_age",
        ),
        ("SELECT * FROM jobs WHERE state = 'queued' ORDER BY created_at DESC, job_id DESC LIMIT 9", "jobs_by_state"),
        ("SELECT * FROM jobs WHERE player_id = '1-7' ORDER BY created_at DESC, job_id DESC LIMIT 9", "jobs_by_player"),
        ("SELECT * FROM attempts WHERE job_id = 'x' ORDER BY ledger_id", "attempts_of_job"),
    ],
)
async def test_listings_read_an_index_in_order_and_sort_nothing(database: Path, query: str, index: str) -> None:
    await (await open_store(database)).close()
    with sqlite3.connect(database) as reader:
        plan = " / ".join(row[3] for row in reader.execute(f"EXPLAIN QUERY PLAN {query}"))
    reader.close()
    assert index in plan
    assert "TEMP B-TREE" not in plan


async def test_a_job_of_an_older_version_asked_for_the_defaults(database: Path) -> None:
    _at_version("0002", database)
    with sqlite3.connect(database) as writer:
        writer.execute(
            "INSERT INTO jobs (job_id, state, created_at, updated_at, action, object_id, player_id, priority, hashes,"
            " hash_seconds, notes) VALUES ('pow_old', 'waiting', 5.0, 6.0, 'MINE', '5-1', '1-7', 2, '0', 0.0, '[]')"
        )
    writer.close()
    store = await open_store(database)
    asked = JobRequest(Action.MINE, "5-1", "1-7")
    assert await store.job("pow_old") == Job("pow_old", asked, JobState.WAITING, created_at=5.0, updated_at=6.0)
    await store.close()


async def test_a_job_that_is_deleted_takes_its_keys_with_it(database: Path) -> None:
    store = await open_store(database)
    request = JobRequest(Action.MINE, "5-1", "1-7", idempotency_key="k")
    job = Job("pow_1", request, JobState.CANCELLED, created_at=5.0, updated_at=6.0)
    await store.save_jobs([job], [KeyedRequest("pow_1", request)])
    await store.close()
    with sqlite3.connect(database) as writer:
        writer.execute("PRAGMA foreign_keys = ON")
        writer.execute("DELETE FROM jobs")
        assert writer.execute("SELECT count(*) FROM request_keys").fetchone() == (0,)
    writer.close()


def test_stepping_back_from_keys_leaves_the_schema_before_them(database: Path, tmp_path: Path) -> None:
    _at_version("0002", database)
    _at_version("0003", tmp_path / "there.sqlite")
    _at_version("0002", tmp_path / "there.sqlite", back=True)
    assert schema_of(tmp_path / "there.sqlite") == schema_of(database)


async def test_the_ledger_of_an_older_version_is_kept_with_its_ids(database: Path) -> None:
    _at_version("0004", database)
    with sqlite3.connect(database) as writer:
        writer.execute(
            "INSERT INTO jobs (job_id, state, created_at, updated_at, action, object_id, player_id, priority, hashes,"
            " hash_seconds, notes) VALUES ('pow_old', 'submitting', 5.0, 6.0, 'MINE', '5-1', '1-7', 2, '0', 0.0, '[]')"
        )
        for number, anchor in ((3, 400), (57, 500)):
            writer.execute(
                "INSERT INTO attempts (ledger_id, job_id, action, object_id, anchor, difficulty_range, nonce, hash,"
                " address, account_number, sequence, tx_bytes, tx_hash, timeout_height, state, created_at, updated_at,"
                f" log) VALUES ({number}, 'pow_old', 'MINE', '5-1', {anchor}, 700, '12', '{'0' * 64}', 'structs1x', 17,"
                f" 4, x'01', 'AB', 520, 'broadcast', 5.0, 6.0, '')"
            )
        writer.execute("DELETE FROM attempts WHERE ledger_id = 57")
    writer.close()
    store = await open_store(database)
    (kept,) = await store.live_attempts()
    assert (kept.ledger_id, kept.tx_bytes, kept.message_index, kept.cause) == (3, b"\x01", 0, None)
    added = await store.add_attempt(replace(kept, ledger_id=None, work=replace(kept.work, anchor=501)))
    assert added.ledger_id == 58  # an id is given once, even if its row is gone
    await store.close()


def test_stepping_back_from_prepared_attempts_leaves_the_schema_before_them(database: Path, tmp_path: Path) -> None:
    _at_version("0004", database)
    _at_version("0005", tmp_path / "there.sqlite")
    _at_version("0004", tmp_path / "there.sqlite", back=True)
    before, after = dict(schema_of(database)), dict(schema_of(tmp_path / "there.sqlite"))
    assert {name: sql for name, sql in after.items() if name != "jobs"} == {
        name: sql for name, sql in before.items() if name != "jobs"
    }


def test_stepping_back_from_charters_forgets_them_and_keeps_the_rest(database: Path) -> None:
    _at_version("0006", database)
    with sqlite3.connect(database) as writer:
        for job_id, action, object_id in (("pow_a", "MINE", "5-1"), ("pow_b", "GUILDCHARTER", "1-7")):
            writer.execute(
                "INSERT INTO jobs (job_id, state, created_at, updated_at, action, object_id, player_id, priority,"
                f" hashes, hash_seconds, notes) VALUES ('{job_id}', 'queued', 5.0, 6.0, '{action}', '{object_id}',"
                " '1-7', 2, '0', 0.0, '[]')"
            )
    writer.close()
    _at_version("0005", database, back=True)
    reader = sqlite3.connect(database)
    assert reader.execute("SELECT job_id FROM jobs").fetchall() == [("pow_a",)]
    reader.close()


def _at_version(revision: str, database: Path, *, back: bool = False) -> None:
    engine = create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "coordinator.store:migrations")
        config.attributes["connection"] = connection
        (command.downgrade if back else command.upgrade)(config, revision)
    engine.dispose()


def test_the_columns_are_wide_enough_for_every_state() -> None:
    for column, states in ((jobs.c.state, JobState), (attempts.c.state, AttemptState)):
        assert all(len(state.value) <= column.type.length for state in states)  # type: ignore[attr-defined]
