"""A way to the PostgreSQL server on which things go wrong, between the driver and it, as connections do.

A client's message and the server's answer to it are passed on whole, so a fault falls before a statement (it was never
read) or after it (it was done, a COMMIT too, and only its answer is lost).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

#: The name of a server's socket within its folder.
SOCKET = ".s.PGSQL.5432"
#: How an answer ends: ready for the next statement, whatever became of a transaction.
_ENDS = (b"Z\x00\x00\x00\x05I", b"Z\x00\x00\x00\x05T", b"Z\x00\x00\x00\x05E")


class Moment(enum.Enum):
    """When a connection is lost."""

    BEFORE = "before"
    AFTER = "after"
    #: Not lost: the statement is done, and its answer does not come.
    NO_ANSWER = "no answer"


@dataclass
class _Cut:
    moment: Moment
    #: A statement that holds this text.
    text: bytes
    times: int


class _Answers:
    """The way back of one connection."""

    def __init__(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._server, self._to_client = server, to_client
        #: Keep what comes.
        self.hold = False
        self._held = b""
        #: The answer that is kept is whole.
        self.whole = asyncio.Event()

    async def pass_on(self) -> None:
        """Until the server hangs up."""
        while told := await self._server.read(1 << 20):
            if not self.hold:
                self._to_client.write(told)
                continue
            self._held += told
            if self._held.endswith(_ENDS):
                self.whole.set()
        self.whole.set()
        self._to_client.close()

    def let_go(self) -> None:
        """Pass on what was kept, and all that comes."""
        self._to_client.write(self._held)
        self.hold, self._held = False, b""


class Wire:
    """Listens in `folder` for clients of the server whose socket is `server`."""

    def __init__(self, folder: Path, server: Path, wrote: Callable[[], Awaitable[None]]) -> None:
        """`wrote` is called before and after each statement that makes a row, or may; it need not return."""
        self.folder, self._server, self._wrote = folder, server, wrote
        self._cuts: list[_Cut] = []
        self._down = False
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        #: How often something was cut, refused or left without an answer.
        self.happened = 0

    async def open(self) -> None:
        (self.folder / SOCKET).unlink(missing_ok=True)
        self._listener = await asyncio.start_unix_server(self._accept, str(self.folder / SOCKET))

    async def close(self) -> None:
        assert self._listener is not None
        self._listener.close()
        await self.hang_up()

    async def hang_up(self) -> None:
        """Lose every connection."""
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def cut(self, moment: Moment, text: bytes, times: int) -> None:
        """Let that go wrong with the next statements that hold this text."""
        self._cuts.append(_Cut(moment, text, times))

    def go_down(self) -> None:
        """The server cannot be reached until `clear`, and what was connected is lost."""
        self._down = True
        for task in self._open:
            task.cancel()

    def clear(self) -> None:
        """All is well again."""
        self._down = False
        self._cuts.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._down:
            self.happened += 1
            writer.close()
            return
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            server, to_server = await asyncio.open_unix_connection(str(self._server))
        except OSError:
            to_client.close()
            return
        answers = _Answers(server, to_client)
        passing_on = asyncio.ensure_future(answers.pass_on())
        try:
            while statement := await client.read(1 << 20):
                writes = b"signer.tx_" in statement or b"COMMIT" in statement
                moment = self._take(statement)
                if writes:
                    await self._wrote()
                if moment is Moment.BEFORE:
                    return
                # Where a crash may fall behind it, the answer waits until it is known whether one does.
                answers.hold = answers.hold or writes or moment is not None
                answers.whole.clear()
                to_server.write(statement)
                if not answers.hold:
                    continue
                await answers.whole.wait()
                if writes:
                    await self._wrote()
                if moment is Moment.AFTER:
                    return
                if moment is None:
                    answers.let_go()
        except OSError:
            return  # one of the two sides is gone
        finally:
            passing_on.cancel()
            for side in (to_server, to_client):
                side.close()
                with contextlib.suppress(OSError):
                    await side.wait_closed()

    def _take(self, statement: bytes) -> Moment | None:
        for cut in self._cuts:
            if cut.text in statement:
                cut.times -= 1
                if not cut.times:
                    self._cuts.remove(cut)
                self.happened += 1
                return cut.moment
        return None
