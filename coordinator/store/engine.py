"""Everything that is particular to SQLite: how a file is locked and opened, and what its errors mean to a person.

Settings, and why::

    journal_mode=WAL     readers (a backup, a person with sqlite3) do not stop the coordinator
    synchronous=FULL     a commit is on the disk when it returns; NORMAL may lose the last ones when the power fails
    busy_timeout         a backup may hold the file for a moment
    foreign_keys=ON      no attempt without its job
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from coordinator.store.protocol import StoreError

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_MS: Final = 10_000
PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
)

#: Primary result code -> what a person should do. Extended codes carry the primary one in their low byte.
_ADVICE: Final = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space, then it goes on, and nothing that was stored is lost",
    sqlite3.SQLITE_READONLY: "it may not be written; give this user write access to the file and its directory",
    sqlite3.SQLITE_PERM: "it may not be opened; give this user access to the file and its directory",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; the directory should exist and this user may write to it",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database; move it away or name another file",
    sqlite3.SQLITE_CORRUPT: "it is damaged; stop the coordinator and restore a backup, or save what can be read "
    'with `sqlite3 FILE ".recover"`',
    sqlite3.SQLITE_BUSY: "another program holds it locked; close that program",
    sqlite3.SQLITE_LOCKED: "another program holds it locked; close that program",
    sqlite3.SQLITE_IOERR: "the disk reports an error; check the disk and the file system",
}


class FileLock:
    """The right to run on a database file: one coordinator at a time.

    An advisory lock on a file beside the database, and not SQLite's own lock, so that a person or a backup may read
    the database meanwhile. The kernel frees it when the process ends, however it ends, so it is never stale; the
    file itself stays.
    """

    def __init__(self, database: Path) -> None:
        """Take the lock or raise StoreError."""
        self._path = database.with_name(database.name + ".lock")
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _unopenable(database, error) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            if not isinstance(error, BlockingIOError):
                raise StoreError(
                    f"the database {database} cannot be locked ({error.strerror}); "
                    "it should lie on a local disk, not on a network file system without locks"
                ) from error
            raise StoreError(
                f"the database {database} is in use by another coordinator"
                + (f" (process {holder})" if holder.isdigit() else "")
                + "; stop that one, or give this one a database of its own"
            ) from error
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        except OSError as error:
            # The number is for people only; the lock holds without it (on a full disk, say).
            logger.warning("The process number cannot be written to %s: %s.", self._path, error.strerror)

    def release(self) -> None:
        """Let another coordinator have the database."""
        os.close(self._descriptor)


def prepare_directory(database: Path) -> None:
    """Make the directory of the database if it is missing. Raises StoreError."""
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unopenable(database, error) from error


def open_engine(database: Path) -> Engine:
    """An engine with one connection to the file. Nothing is opened before its first use."""
    engine = sqlalchemy.create_engine(
        sqlalchemy.URL.create("sqlite+pysqlite", database=str(database)),
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


@contextmanager
def explained(database: Path) -> Iterator[None]:
    """Turn an error of the database into a StoreError that says what to do."""
    try:
        yield
    except DBAPIError as error:
        original = error.orig
        code = getattr(original, "sqlite_errorcode", None)
        advice = _ADVICE.get(code & 0xFF) if isinstance(code, int) else None
        if advice is None:
            advice = "this is a defect of hashfleet or of the disk; please report it"
        raise StoreError(f"the database {database} failed: {advice} ({original})") from error


def _set_up(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # Transactions are begun by `_begin` alone: the driver would begin them before some statements only, and never
    # before DDL, so that a failed migration could leave half a schema.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    # IMMEDIATE: waiting for a lock happens here, under the busy timeout, and never fails halfway.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _unopenable(database: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"the database {database} cannot be created: the disk is full; free some space")
    return StoreError(
        f"the database {database} cannot be opened ({error.strerror}); "
        "its directory should exist, and this user should have write access to it"
    )
