"""Everything that is particular to SQLite: how a file is locked and opened, and what its errors mean to a person.

Settings, and why::

    journal_mode=WAL     readers (a backup, a person with sqlite3) do not stop the coordinator
    synchronous=FULL     a commit is on the disk when it returns; NORMAL may lose the last ones when the power fails
    busy_timeout         a backup may hold the file for a moment
    foreign_keys=ON      no attempt without its job

What is damaged is found when the file is opened, as far as it can be read within `CHECK_SECONDS`, and otherwise when
it is read: then the coordinator ends, because nothing that it would write could be relied upon.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from coordinator.store.protocol import StoreDamaged, StoreError

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_MS: Final = 10_000
PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
)

#: Seconds for which a start may look for damage. A hundred thousand jobs take a third of one; a database of years is
#: checked in part, from its beginning.
CHECK_SECONDS: Final = 3.0
#: Steps of SQLite's machine between two looks at the clock.
_STEPS_PER_LOOK: Final = 10_000

_DAMAGED: Final = (
    "it is damaged; stop the coordinator, then restore a backup (and delete the files that end with -wal and -shm), or "
    'save what can be read with `sqlite3 FILE ".recover"`'
)
_CANNOT_WRITE: Final = (
    "the disk does not take what is written: it or a quota or a limit on the size of files is used up, or the disk "
    "fails; make room, then it goes on, and nothing that was stored is lost"
)
#: Result code -> what a person should do: an extended code where it tells more, else the primary one in its low byte.
_ADVICE: Final = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space, then it goes on, and nothing that was stored is lost",
    sqlite3.SQLITE_READONLY: "it may not be written; give this user write access to the file and its directory",
    sqlite3.SQLITE_PERM: "it may not be opened; give this user access to the file and its directory",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; the directory should exist and this user may write to it",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database, or its first page is damaged; move it away and restore a "
    "backup, or name another file",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_BUSY: "another program holds it locked; close that program",
    sqlite3.SQLITE_LOCKED: "another program holds it locked; close that program",
    sqlite3.SQLITE_IOERR: "the disk reports an error; check the disk and the file system",
    # SQLite calls a disk full only if the system says ENOSPC: a quota and a limit on file sizes come out here.
    sqlite3.SQLITE_IOERR_WRITE: _CANNOT_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC: _CANNOT_WRITE,
    sqlite3.SQLITE_IOERR_SHMSIZE: _CANNOT_WRITE,
    sqlite3.SQLITE_IOERR_SHMOPEN: _CANNOT_WRITE,
}
#: Result codes after which nothing that the file says can be relied upon.
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


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
    """Turn an error of the database into a StoreError that says what to do; StoreDamaged if waiting cannot help."""
    try:
        yield
    except DBAPIError as error:
        raise _said(database, error.orig) from error
    except sqlite3.Error as error:
        raise _said(database, error) from error


def _said(database: Path, error: BaseException | None) -> StoreError:
    code = getattr(error, "sqlite_errorcode", None)
    advice, kind = None, StoreError
    if isinstance(code, int):
        advice = _ADVICE.get(code) or _ADVICE.get(code & 0xFF)
        kind = StoreDamaged if code & 0xFF in _DAMAGE else StoreError
    if advice is None:
        advice = "this is a defect of hashfleet or of the disk; please report it"
    return kind(f"the database {database} failed: {advice} ({error})")


def check_pages(connection: Connection, database: Path) -> None:
    """Look for damage for `CHECK_SECONDS` at most. Raises StoreDamaged."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    give_up_at = time.monotonic() + CHECK_SECONDS
    driver.set_progress_handler(lambda: time.monotonic() > give_up_at, _STEPS_PER_LOOK)
    try:
        found = driver.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        logger.info("The database %s is too large to be checked whole; no damage in its first part.", database)
        return
    finally:
        driver.set_progress_handler(None, 0)
    if found != "ok":
        raise StoreDamaged(f"the database {database} failed: {_DAMAGED} ({' '.join(str(found).split())})")


class FileIdentity:
    """Notices that the database was moved away, deleted or replaced while it is open.

    SQLite would go on writing to the file that nobody can find any more, and all of it would be gone at the end.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._opened = self._seen()

    def check(self) -> None:
        """Raise StoreError unless the path still leads to the file that was opened."""
        if self._seen() != self._opened:
            raise StoreError(
                f"the database {self._database} was moved, deleted or replaced while the coordinator runs; "
                "move the same file back, and it goes on, or restart the coordinator to begin with what is there"
            )

    def _seen(self) -> tuple[int, int] | None:
        try:
            found = self._database.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


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
    if error.errno == errno.EROFS:
        return StoreError(
            f"the database {database} cannot be opened: its file system is read-only; make that writable, or name a "
            "file elsewhere"
        )
    return StoreError(
        f"the database {database} cannot be opened ({error.strerror}); "
        "its directory should exist, and this user should have write access to it"
    )
