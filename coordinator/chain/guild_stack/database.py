"""Connections to the guild stack's database: a few that are kept and renewed, every use limited in time.

Where nobody said otherwise, the server has to prove who it is (``sslmode=verify-full`` against the system's
authorities), except over a Unix socket and on this machine, where nobody stands in between. A password is never part
of what is shown, logged or raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import errors as pg_errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hashfleet.errors import BadChainAnswer, ChainUnavailable, InvalidInput

logger = logging.getLogger(__name__)

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

#: Connections for queries at most; LISTEN has one of its own.
MAX_CONNECTIONS: Final = 4
#: Limit of one use of a connection, in seconds, waiting for a connection not counted.
CALL_TIMEOUT: Final = 10.0
#: Waiting for a connection that others use, in seconds.
TURN_TIMEOUT: Final = 20.0
_CONNECT_SECONDS: Final = 5
_FIRST_PAUSE, _LAST_PAUSE = 0.5, 30.0
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_SCHEMES: Final = ("postgresql://", "postgres://")
_MAX_MESSAGE: Final = 400


@dataclass(frozen=True, slots=True)
class Target:
    """Where the database is, checked; made by `parse_url`."""

    #: What libpq is given, the password among it: never shown.
    parameters: Mapping[str, str]
    #: For people: no password.
    shown: str

    def __repr__(self) -> str:
        return f"Target({self.shown})"


def parse_url(url: str) -> Target:
    """Where a ``postgresql://`` URL leads. Raises InvalidInput, which does not repeat the URL: it may hold a password.

    Multiple hosts, services and files with passwords are as libpq has them.
    """
    if not url.startswith(_SCHEMES):
        raise InvalidInput("the guild stack's database should be given as postgresql://USER@HOST:PORT/DATABASE")
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        raise InvalidInput(
            "the URL of the guild stack's database cannot be read; it should be postgresql://USER@HOST:PORT/DATABASE, "
            "with special characters of user and password percent-encoded"
        ) from None
    parameters = {name: str(value) for name, value in given.items() if value is not None}
    hosts = [host for host in (parameters.get("hostaddr") or parameters.get("host", "")).split(",") if host]
    local = all(host.startswith(("/", "@")) or host in _LOCAL for host in hosts)
    if "sslmode" not in parameters and not local:
        parameters["sslmode"] = "verify-full"
    if parameters.get("sslmode") == "verify-full":
        parameters.setdefault("sslrootcert", "system")
    parameters.setdefault("connect_timeout", str(_CONNECT_SECONDS))
    parameters.setdefault("application_name", "hashfleet")
    where = ",".join(hosts) or "the local socket"
    port = f":{parameters['port']}" if "port" in parameters else ""
    return Target(parameters, f"{where}{port}/{parameters.get('dbname', parameters.get('user', ''))}")


class Database:
    """Lends connections. Used from one event loop."""

    def __init__(self, target: Target, call_timeout: float = CALL_TIMEOUT) -> None:
        """Nothing is connected yet."""
        self._target = target
        self._timeout = call_timeout
        self._turns = asyncio.Semaphore(MAX_CONNECTIONS)
        self._idle: list[Connection] = []
        self._closed = False
        self._not_before = 0.0
        self._pause = _FIRST_PAUSE
        self._refusal = ""

    @property
    def shown(self) -> str:
        """Where the database is, for people."""
        return self._target.shown

    @contextlib.asynccontextmanager
    async def connection(self, what: str) -> AsyncIterator[Connection]:
        """A connection in autocommit mode, for at most the call timeout; `what` is asked for, in words.

        Raises ChainUnavailable, or BadChainAnswer where the database is not as it should be.
        """
        try:
            async with asyncio.timeout(TURN_TIMEOUT):
                await self._turns.acquire()
        except TimeoutError:
            raise ChainUnavailable(f"the guild stack's database {self.shown} is too busy to tell {what}") from None
        try:
            with self.explained(what):
                async with asyncio.timeout(self._timeout):
                    connection = await self._take()
                    try:
                        yield connection
                    except BaseException:
                        # What it is in the midst of is not known: the server rolls back.
                        await _drop(connection)
                        raise
                    self._idle.append(connection)
        finally:
            self._turns.release()
        if self._closed:
            await self.close()

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return await self.open()

    async def open(self) -> Connection:
        """A new connection that the caller closes. After a failure nothing is tried for a while, longer each time."""
        if self._closed:
            raise ChainUnavailable("this client of the guild stack is closed; make a new one")
        now = asyncio.get_running_loop().time()
        if now < self._not_before:
            raise ChainUnavailable(self._refusal)
        try:
            connection: Connection = await psycopg.AsyncConnection.connect(
                make_conninfo(**self._target.parameters), autocommit=True, prepare_threshold=None
            )
            limit = f"{int(self._timeout * 1000)}ms"
            await connection.execute(
                "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false), "
                "set_config('idle_in_transaction_session_timeout', %s, false)",
                (limit, limit, limit),
            )
        except psycopg.Error as error:
            self._not_before = asyncio.get_running_loop().time() + self._pause
            self._pause = min(2 * self._pause, _LAST_PAUSE)
            self._refusal = f"the guild stack's database {self.shown} cannot be reached: {_one_line(error)}"
            raise ChainUnavailable(self._refusal) from None
        self._pause = _FIRST_PAUSE
        return connection

    @contextlib.contextmanager
    def explained(self, what: str) -> Any:
        """Turn what the driver raises into a ChainError that says what to do."""
        try:
            yield
        except TimeoutError:
            raise ChainUnavailable(
                f"the guild stack's database {self.shown} did not tell {what} within {self._timeout:g} s"
            ) from None
        except pg_errors.InsufficientPrivilege as error:
            raise BadChainAnswer(
                f"the guild stack's database {self.shown} refuses this role {what}: {_one_line(error)}; "
                "grant it what docs/chain.md lists"
            ) from error
        except (pg_errors.UndefinedTable, pg_errors.UndefinedColumn, pg_errors.UndefinedFunction) as error:
            raise BadChainAnswer(
                f"the database {self.shown} lacks what a guild stack has ({what}): {_one_line(error)}"
            ) from error
        except psycopg.OperationalError as error:
            raise ChainUnavailable(
                f"the guild stack's database {self.shown} did not tell {what}: {_one_line(error)}"
            ) from error
        except psycopg.Error as error:
            raise BadChainAnswer(
                f"the guild stack's database {self.shown} failed at {what}: {_one_line(error)}"
            ) from error

    async def one(self, query: str, parameters: Mapping[str, object], what: str) -> dict[str, object]:
        """The JSON object that a query of one row and one column gives. Raises ChainError."""
        async with self.connection(what) as connection:
            cursor = await connection.execute(query.encode(), parameters)
            row = await cursor.fetchone()
        if row is None or not isinstance(row[0], dict):
            raise BadChainAnswer(f"the guild stack's database {self.shown} gave no object for {what}")
        return row[0]

    async def close(self) -> None:
        """Close what is idle now; what is lent is closed when it comes back."""
        self._closed = True
        while self._idle:
            await _drop(self._idle.pop())


async def _drop(connection: Connection) -> None:
    with contextlib.suppress(psycopg.Error):
        await connection.close()


def _one_line(error: psycopg.Error) -> str:
    """The server's or libpq's words, which hold no password, on one line."""
    message = error.diag.message_primary or str(error)
    return " ".join(message.split())[:_MAX_MESSAGE] or type(error).__name__
