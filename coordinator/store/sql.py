"""`Store` on a SQL database.

One thread owns the only connection: the event loop never waits for a disk, and calls take effect in the order in
which they were made. Each call is one transaction, committed and on the disk when it returns. A call that is
cancelled while it waits may or may not have taken effect, as with any crash.

Measured by `python -m bench.store` on two cores and a local disk, each job saved four times in rounds of 256: 15,000
jobs a second, 15 us of processor time for each save, 4 ms for a round with its fsync.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, RowMapping, delete, exists, func, insert, select, tuple_, update
from sqlalchemy.dialects.sqlite import insert as insert_or_update
from sqlalchemy.exc import IntegrityError

from coordinator.core.job import Job, JobState
from coordinator.store import migrations
from coordinator.store.autopilot_rules import autopilot_rules, rule_of, rule_row
from coordinator.store.engine import FileIdentity, FileLock, check_pages, explained, open_engine, prepare_directory
from coordinator.store.protocol import (
    EndedJob,
    JobFilter,
    KeyedRequest,
    LiveAttemptExists,
    StoreDamaged,
    StoredRule,
    StoreError,
)
from coordinator.store.rows import attempt_of, attempt_row, job_of, job_values, keyed_of, keyed_row
from coordinator.store.schema import attempts, jobs, request_keys
from coordinator.submission.attempt import Attempt, AttemptState
from hashfleet.action import Work

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")
#: The most jobs that one listing gives, whatever was asked: a page is read by a person or an agent.
MAX_PAGE: Final = 10_000
#: Rows in one statement: a round of the service. Python's lock changes hands with every statement, which may cost
#: milliseconds each time beside a busy event loop: row by row a round was seen to take nine seconds. SQLite takes
#: 32,766 values in one.
MAX_ROWS: Final = 256

_UNFINISHED: Final = [state.value for state in JobState if not state.final]
_LIVE: Final = [state.value for state in AttemptState if state.live]


@functools.cache
def _upsert_jobs(count: int) -> str:
    """The statement that inserts or replaces so many jobs, as text: SQLAlchemy would convert every value again."""
    # INSERT .. ON CONFLICT .. DO UPDATE, as SQLite and PostgreSQL both write it. A REPLACE would delete the old row
    # first, and the ledger refers to it.
    names = jobs.columns.keys()
    row = f"({', '.join('?' * len(names))})"
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name != "job_id")
    return (
        f"INSERT INTO jobs ({', '.join(names)}) VALUES {', '.join([row] * count)} "
        f"ON CONFLICT (job_id) DO UPDATE SET {changes}"
    )


def _save_rows(connection: Connection, rows: list[tuple[object, ...]]) -> None:
    done = 0
    while done < len(rows):
        # MAX_ROWS, then what is left in powers of two, so that few statements are made and all are kept prepared.
        count = min(MAX_ROWS, 1 << (len(rows) - done).bit_length() - 1)
        values = tuple(itertools.chain.from_iterable(rows[done : done + count]))
        connection.exec_driver_sql(_upsert_jobs(count), values)
        done += count


async def open_store(path: str | Path) -> SqlStore:
    """Open the database at `path`, create it if there is none, and bring it to this version.

    Raises StoreError if another coordinator uses it, if a newer version or another program wrote it, or if it
    cannot be read and written.
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
    try:
        database, lock, engine = await asyncio.get_running_loop().run_in_executor(thread, _open, Path(path))
    except BaseException:
        thread.shutdown(wait=False)
        raise
    return SqlStore(database, lock, engine, thread)


class SqlStore:
    """Jobs and attempts in a SQL database; made by `open_store`."""

    def __init__(self, database: Path, lock: FileLock, engine: Engine, thread: ThreadPoolExecutor) -> None:
        self._database = database
        self._identity = FileIdentity(database)
        self._lock = lock
        self._engine = engine
        self._thread = thread
        self._closed = False

    async def save_jobs(self, jobs: Sequence[Job], keyed: Sequence[KeyedRequest] = ()) -> None:
        """Insert or replace these jobs and remember these keys, all or none. A key that is known stays as it is."""
        # A job may stand in the list twice: the later one is what was meant to last.
        rows = [job_values(job) for job in {job.job_id: job for job in jobs}.values()]
        keys = [keyed_row(one) for one in keyed]

        def write(connection: Connection) -> None:
            if rows:
                _save_rows(connection, rows)
            if keys:
                connection.execute(insert_or_update(request_keys).on_conflict_do_nothing(), keys)

        if rows or keys:
            await self._run(write)

    async def keyed_requests(self, keys: Collection[str]) -> dict[str, KeyedRequest]:
        """What these idempotency keys stand for, by key; keys that nobody used are absent."""
        query = select(request_keys).where(request_keys.c.idempotency_key.in_(sorted(keys)))

        def read(connection: Connection) -> dict[str, KeyedRequest]:
            rows = connection.execute(query).mappings()
            return {row["idempotency_key"]: _read(keyed_of, row, "idempotency_key") for row in rows}

        return await self._run(read) if keys else {}

    async def unfinished_jobs(self) -> list[Job]:
        """Every job whose state is not final, oldest first."""
        query = select(jobs).where(jobs.c.state.in_(_UNFINISHED)).order_by(jobs.c.created_at, jobs.c.job_id)
        return await self._run(
            lambda connection: [_read(job_of, row, "job_id") for row in connection.execute(query).mappings()]
        )

    async def completed_works(self, limit: int) -> list[Work]:
        """The puzzles that transactions of ours completed last, newest first."""
        query = (
            select(jobs)
            .where(
                jobs.c.state == JobState.COMPLETED.value, jobs.c.tx_hash.is_not(None), jobs.c.work_action.is_not(None)
            )
            .order_by(jobs.c.completed_at.desc(), jobs.c.job_id.desc())
            .limit(max(0, limit))
        )

        def read(connection: Connection) -> list[Work]:
            done = [_read(job_of, row, "job_id") for row in connection.execute(query).mappings()]
            return [job.work for job in done if job.work is not None]

        return await self._run(read)

    async def job(self, job_id: str) -> Job | None:
        """One job in any state."""
        query = select(jobs).where(jobs.c.job_id == job_id)

        def read(connection: Connection) -> Job | None:
            row = connection.execute(query).mappings().one_or_none()
            return None if row is None else _read(job_of, row, "job_id")

        return await self._run(read)

    async def list_jobs(self, which: JobFilter, limit: int, after: tuple[float, str] | None) -> list[Job]:
        """Jobs, newest first by (created_at, job_id), strictly after that key in this order."""
        query = (
            select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.job_id.desc()).limit(max(0, min(limit, MAX_PAGE)))
        )
        if which.states:
            query = query.where(jobs.c.state.in_(sorted(state.value for state in which.states)))
        if which.player_id is not None:
            query = query.where(jobs.c.player_id == which.player_id)
        if after is not None:
            query = query.where(tuple_(jobs.c.created_at, jobs.c.job_id) < tuple_(*after))
        return await self._run(
            lambda connection: [_read(job_of, row, "job_id") for row in connection.execute(query).mappings()]
        )

    async def count_jobs(self) -> dict[JobState, int]:
        """Number of jobs by state; states without jobs are absent."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        return await self._run(
            lambda connection: {JobState(state): count for state, count in connection.execute(query)}
        )

    async def add_attempt(self, attempt: Attempt) -> Attempt:
        """Store a new attempt and return it with its ledger_id. Raises LiveAttemptExists."""
        (stored,) = await self.add_attempts([attempt])
        return stored

    async def update_attempt(self, attempt: Attempt) -> None:
        """Replace the stored attempt of the same ledger_id."""
        await self.update_attempts([attempt])

    async def add_attempts(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Store new attempts, all or none, and return them with their ledger_ids. Raises LiveAttemptExists."""
        for attempt in attempts:
            if attempt.ledger_id is not None:
                raise StoreError(f"the attempt is stored already as row {attempt.ledger_id} of the ledger; update it")

        def write(connection: Connection) -> list[Attempt]:
            return [_add(connection, attempt) for attempt in attempts]

        return await self._run(write) if attempts else []

    async def update_attempts(self, attempts: Sequence[Attempt]) -> None:
        """Replace the stored attempts of the same ledger_ids, all or none."""

        def write(connection: Connection) -> None:
            for attempt in attempts:
                _replace(connection, attempt)

        if attempts:
            await self._run(write)

    async def live_attempts(self) -> list[Attempt]:
        """Attempts that may still land, oldest first."""
        query = select(attempts).where(attempts.c.state.in_(_LIVE)).order_by(attempts.c.ledger_id)
        return await self._run(
            lambda connection: [_read(attempt_of, row, "ledger_id") for row in connection.execute(query).mappings()]
        )

    async def attempts_of(self, job_id: str) -> list[Attempt]:
        """Every attempt of a job, oldest first."""
        query = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.ledger_id)
        return await self._run(
            lambda connection: [_read(attempt_of, row, "ledger_id") for row in connection.execute(query).mappings()]
        )

    async def save_rule(self, stored: StoredRule) -> None:
        """Insert the autopilot's rule for a player, or replace the one that he has."""
        row = rule_row(stored)
        statement = insert_or_update(autopilot_rules).values(row)
        statement = statement.on_conflict_do_update(index_elements=["player_id"], set_=row)
        await self._run(lambda connection: connection.execute(statement))

    async def rules(self) -> list[StoredRule]:
        """Every rule of the autopilot."""
        query = select(autopilot_rules)
        return await self._run(
            lambda connection: [_read(rule_of, row, "player_id") for row in connection.execute(query).mappings()]
        )

    async def remove_rule(self, player_id: str) -> bool:
        """Delete a player's rule; False if he has none."""
        statement = delete(autopilot_rules).where(autopilot_rules.c.player_id == player_id)
        return await self._run(lambda connection: connection.execute(statement).rowcount > 0)

    async def ended_jobs(self, created_before: float, limit: int, after: tuple[float, str] | None) -> list[EndedJob]:
        """Jobs in a final state, oldest first by (created_at, job_id), strictly after that key."""
        own = attempts.c.job_id == jobs.c.job_id
        query = (
            select(
                jobs.c.job_id,
                jobs.c.created_at,
                func.coalesce(jobs.c.completed_at, jobs.c.updated_at),
                exists().where(own, attempts.c.state.in_(_LIVE)),
                select(func.max(attempts.c.timeout_height)).where(own).scalar_subquery(),
            )
            .where(jobs.c.state.not_in(_UNFINISHED), jobs.c.created_at < created_before)
            .order_by(jobs.c.created_at, jobs.c.job_id)
            .limit(limit)
        )
        if after is not None:
            query = query.where(tuple_(jobs.c.created_at, jobs.c.job_id) > tuple_(*after))
        return await self._run(lambda connection: [EndedJob(*row) for row in connection.execute(query)])

    async def delete_jobs(self, job_ids: Sequence[str]) -> None:
        """Delete those of these jobs that are in a final state, with their attempts and their keys."""
        ended = select(jobs.c.job_id).where(jobs.c.job_id.in_(job_ids), jobs.c.state.not_in(_UNFINISHED))

        def write(connection: Connection) -> None:
            connection.execute(delete(attempts).where(attempts.c.job_id.in_(ended)))
            # keys go with their job by themselves (ON DELETE CASCADE)
            connection.execute(delete(jobs).where(jobs.c.job_id.in_(ended)))

        if job_ids:
            await self._run(write)

    async def close(self) -> None:
        """Finish what was asked, then let another coordinator have the database. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        # Behind every call that was made before, because the thread takes them in order.
        await loop.run_in_executor(self._thread, self._release)
        self._thread.shutdown(wait=False)

    def _release(self) -> None:
        try:
            self._engine.dispose()
        finally:
            self._lock.release()

    async def _run(self, work: Callable[[Connection], _Answer]) -> _Answer:
        if self._closed:
            raise StoreError(f"the database {self._database} is closed; open it again")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)

    def _transact(self, work: Callable[[Connection], _Answer]) -> _Answer:
        self._identity.check()
        with explained(self._database), self._engine.begin() as connection:
            return work(connection)


def _open(path: Path) -> tuple[Path, FileLock, Engine]:
    # resolved, so that one database has one lock whatever link led to it
    database = path.expanduser().resolve()
    prepare_directory(database)
    lock = FileLock(database)
    engine = open_engine(database)
    try:
        with explained(database), engine.begin() as connection:
            check_pages(connection, database)
            upgraded = migrations.upgrade(connection, database)
    except BaseException:
        engine.dispose()
        lock.release()
        raise
    if upgraded:
        logger.info("The database %s is at this version's schema now.", database)
    return database, lock, engine


def _add(connection: Connection, attempt: Attempt) -> Attempt:
    with _claims_checked(connection, attempt):
        key = connection.execute(insert(attempts).values(attempt_row(attempt))).inserted_primary_key
    assert key is not None
    stored = connection.execute(select(attempts).where(attempts.c.ledger_id == key[0])).mappings().one()
    return _read(attempt_of, stored, "ledger_id")


def _replace(connection: Connection, attempt: Attempt) -> None:
    statement = update(attempts).where(attempts.c.ledger_id == attempt.ledger_id).values(attempt_row(attempt))
    with _claims_checked(connection, attempt):
        changed = connection.execute(statement).rowcount
    if changed != 1:
        raise StoreError(f"the ledger has no row {attempt.ledger_id}; add the attempt before updating it")


@contextmanager
def _claims_checked(connection: Connection, attempt: Attempt) -> Iterator[None]:
    """Name the rule that an attempt breaks, instead of passing on the database's words."""
    try:
        with connection.begin_nested():
            yield
    except IntegrityError as error:
        work = attempt.work
        # Which rule it was is asked of the tables, as they are without the failed statement, not of the error's text.
        live = select(attempts.c.ledger_id).where(
            attempts.c.state.in_(_LIVE),
            attempts.c.object_id == work.object_id,
            attempts.c.action == work.action.value,
            attempts.c.anchor == work.anchor,
            attempts.c.ledger_id.is_distinct_from(attempt.ledger_id),
        )
        other = connection.execute(live).scalar_one_or_none()
        if attempt.state.live and other is not None:
            raise LiveAttemptExists(
                f"{work.action.value} {work.object_id} at anchor {work.anchor} has a live attempt already "
                f"(row {other} of the ledger); follow that one"
            ) from error
        if connection.execute(select(jobs.c.job_id).where(jobs.c.job_id == attempt.job_id)).one_or_none() is None:
            raise StoreError(f"job {attempt.job_id} of the attempt is not stored; save the job first") from error
        raise


def _read(convert: Callable[[RowMapping], _Answer], row: RowMapping, key: str) -> _Answer:
    try:
        return convert(row)
    except (ValueError, TypeError) as error:
        raise StoreDamaged(
            f"the row with {key} {row[key]} holds what hashfleet never writes ({error}); "
            "it was changed by hand or the file is damaged: restore a backup"
        ) from error
