"""`hashfleet coordinator` and `hashfleet up` on a database that they cannot use: one sentence, exit status 1."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from coordinator.store import engine
from coordinator.store.engine import FileLock

KEY = "01" * 32


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASHFLEET_PRIVATE_KEY", KEY)
    for name in ("HASHFLEET_MNEMONIC", "HASHFLEET_KEY_FILE", "HASHFLEET_CHAIN_RPC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def coordinator(
    environment: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Path], tuple[int, str]]:
    """Runs `hashfleet coordinator` on a database in this process; gives its exit status and stderr."""
    from hashfleet.cli.main import main

    def run(database: Path) -> tuple[int, str]:
        arguments = ["coordinator", "--database", str(database), "--chain-grpc", "127.0.0.1:1"]
        arguments += ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        monkeypatch.setattr(sys, "argv", ["hashfleet", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


def made(database: Path, script: str) -> None:
    with closing(sqlite3.connect(database)) as writer:
        writer.executescript(script)


def damaged(database: Path) -> None:
    made(
        database,
        "CREATE TABLE t (x); WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 200) "
        "INSERT INTO t SELECT zeroblob(900) FROM n",
    )
    with database.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xff" * 4096)


NEWER = "CREATE TABLE alembic_version (version_num VARCHAR(32)); INSERT INTO alembic_version VALUES ('9001')"
CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no database": (lambda path: path.write_bytes(b"a diary\n" * 500), "is not a SQLite database"),
    "damaged": (damaged, "is damaged; stop the coordinator, then restore a backup"),
    "newer": (lambda path: made(path, NEWER), "was written by a newer hashfleet"),
    "another program's": (lambda path: made(path, "CREATE TABLE recipes (name)"), "belongs to another program"),
    "in use": (FileLock, "is in use by another coordinator"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_database_that_cannot_be_used_is_said_in_one_sentence(
    case: str, coordinator: Callable[[Path], tuple[int, str]], tmp_path: Path
) -> None:
    prepare, sentence = CASES[case]
    database = tmp_path / "hashfleet.db"
    _kept = prepare(database)
    status, err = coordinator(database)
    assert status == 1
    (line,) = [line for line in err.splitlines() if line.startswith("hashfleet: ")]
    assert f"the database {database} " in line and sentence in line
    assert "Traceback" not in err


def test_a_database_that_stays_locked_is_said_in_one_sentence(
    coordinator: Callable[[Path], tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PRAGMAS", ("PRAGMA busy_timeout = 20", *engine.PRAGMAS[1:]))
    database = tmp_path / "hashfleet.db"
    made(database, "PRAGMA journal_mode = WAL; CREATE TABLE t (x)")
    with closing(sqlite3.connect(database, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        status, err = coordinator(database)
    assert status == 1 and "another program holds it locked; close that program" in err


def test_up_says_why_its_coordinator_cannot_use_the_database(environment: None, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    damaged(data / "hashfleet.db")
    command = [sys.executable, "-m", "hashfleet.cli.main", "up", "--chain-grpc", "127.0.0.1:1", "--data", str(data)]
    command += ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1
    assert (
        f"hashfleet: coordinator did not start: the database {data / 'hashfleet.db'} failed: it is damaged"
        in done.stderr
    )
    assert "Traceback" not in done.stderr + (data / "logs" / "coordinator.log").read_text()
