"""One coordinator in this process, with a block whenever all else is done: what both fault suites have of it.

The service, its submission, the core, the SQLite store and the chain's client are the real ones; a worker of one
device hashes in line. What stands between them here only watches: it counts what is under way, so that a block comes
when all is quiet, it says when a step of the submission is reached, and after a crash it lets nothing of the life
before through.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from bench.inline_worker import InlineWorker
from coordinator import service
from coordinator.chain.client import Block, ChainClient
from coordinator.core.events import Ticked, WorkerHeard
from coordinator.core.machine import Machine
from coordinator.service import Service
from coordinator.store.sql import SqlStore, open_store

#: Real seconds: of one call to the node or use of the database; between polls.
CALL_SECONDS, POLL_SECONDS = 0.25, 0.02
#: Turns of the event loop in which nothing happened, after which nothing more will before the next block.
QUIET_TURNS = 4
#: Real seconds that a block is waited for to be seen.
SIGHT_SECONDS = 0.03
#: Hashes a second that the device says it makes.
RATE = 2000.0


def shorten(pauses: dict[ModuleType, dict[str, float]]) -> None:
    """Blocks come some hundred times as fast as on a chain that people use, and so must the pauses between two tries
    pass."""
    for module, shorter in pauses.items():
        for name, seconds in shorter.items():
            assert isinstance(getattr(module, name), float)
            setattr(module, name, seconds)


shorten({service: {"_FIRST_PAUSE": 0.005, "_LAST_PAUSE": 0.05}})

#: Called at each step (each suite has its own), and before and after all that a crash could fall between (None).
Reached = Callable[[Any], Awaitable[None]]


class Life:
    """From one start of the coordinator to its end or crash."""

    def __init__(self, reached: Reached) -> None:
        self._reached = reached
        self.over = False
        #: Calls so far, and calls that are not answered yet.
        self.calls = self.under_way = 0
        #: Height of the newest block that the coordinator saw.
        self.seen = -1
        self.sighted = asyncio.Event()

    @contextlib.asynccontextmanager
    async def counted(self) -> AsyncIterator[None]:
        """Count what is done within."""
        await self.still_alive()
        self.calls += 1
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
        await self.still_alive()

    async def call(self, work: Callable[[], Awaitable[Any]]) -> Any:
        async with self.counted():
            return await work()

    async def reached(self, step: enum.Enum | None) -> None:
        await self._reached(step)
        await self.still_alive()

    async def sight(self, block: Block) -> None:
        """The coordinator is about to see this block."""
        await self.still_alive()
        self.seen = block.height
        self.sighted.set()

    async def still_alive(self) -> None:
        """Nothing of a life that is over goes on."""
        if self.over:
            await asyncio.Event().wait()


class WatchedStore:
    """The real store; every call is counted, and a crash may fall before and after each that writes."""

    def __init__(self, store: SqlStore, life: Life, writes: dict[str, enum.Enum | None]) -> None:
        """`writes` are the calls that write, each with the step that is reached after it."""
        self._store, self._life, self._writes = store, life, writes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in self._writes:
            return lambda *arguments: self._life.call(lambda: found(*arguments))

        async def write(*arguments: Any) -> Any:
            await self.about_to_write(arguments[0])
            await self._life.reached(None)
            answer = await self._life.call(lambda: found(*arguments))
            await self._life.reached(None)
            if (step := self._writes[name]) is not None:
                await self._life.reached(step)
            return answer

        return write

    async def about_to_write(self, written: object) -> None:
        """Called before each write, for a suite in which that is a step."""


class CommonHouse:
    """The coordinator that lives now, and its store."""

    #: Real seconds after which a block is made although something is under way.
    PATIENCE_SECONDS: ClassVar[float]

    def __init__(self, store: SqlStore, clock: Callable[[], float], reached: Reached, salt: Callable[[], int]) -> None:
        self.store, self._clock, self._reached, self._salt = store, clock, reached, salt
        self._tasks: list[asyncio.Task[None]] = []
        self.life = Life(reached)
        self.service: Service
        self._client: ChainClient
        self._worker: InlineWorker
        #: What a life ended of that should not have.
        self.failures: list[BaseException] = []

    def build(self, life: Life) -> tuple[ChainClient, Service]:
        """A coordinator's client and service, with what watches between them."""
        raise NotImplementedError

    async def move_in(self) -> None:
        """Start the coordinator on the database as it is."""
        self.life = life = Life(self._reached)
        self._client, self.service = self.build(life)
        self.service._machine = Machine(salt=self._salt())  # else a seed would not find the same nonces again
        self._worker = InlineWorker(self.service, self._clock, RATE)
        self._tasks = [asyncio.create_task(self.service.run()), asyncio.create_task(self._worker.run())]

    async def crash(self) -> None:
        """End the coordinator where it stands."""
        self.life.over = True
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, BaseException) and not isinstance(ended, asyncio.CancelledError):
                self.failures.append(ended)
        self._tasks.clear()
        await self._client.close()

    def ended_of(self) -> BaseException | None:
        """What the coordinator ended of, if it did."""
        for task in self._tasks:
            if task.done():
                return task.exception() or RuntimeError("the coordinator returned")
        return None

    async def end(self) -> BaseException:
        """Wait for a coordinator that is about to end; what it ended of."""
        while (ended := self.ended_of()) is None:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        return ended

    async def settle(self) -> None:
        """Return when nothing more is to be done before the next block, or patience is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.PATIENCE_SECONDS
        life, turns, seen = self.life, 0, -1
        while turns < QUIET_TURNS and loop.time() < end and not life.over:
            await asyncio.sleep(0.0003 if life.under_way else 0)
            quiet = life.calls == seen and not life.under_way and self._worker.idle and self.service._inbox.empty()
            turns, seen = turns + 1 if quiet else 0, life.calls

    async def see(self, height: int) -> None:
        """Give the coordinator a moment to see the block of this height."""
        now = self._clock()
        self.service.post_all([WorkerHeard(now, "w_1"), Ticked(now)])
        loop = asyncio.get_running_loop()
        end = loop.time() + SIGHT_SECONDS
        while self.life.seen < height and not self.life.over and (left := end - loop.time()) > 0:
            self.life.sighted.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.life.sighted.wait(), left)


def new_database(folder: Path) -> Path:
    """An empty database, the only one in its folder; it is made by copying, which saves the migrations."""
    template = folder / "template"
    if not template.exists():
        template.mkdir()
        asyncio.run(_make(template / "hashfleet.db"))
    shutil.rmtree(folder / "run", ignore_errors=True)
    return Path(shutil.copytree(template, folder / "run")) / "hashfleet.db"


async def _make(path: Path) -> None:
    await (await open_store(path)).close()


@contextlib.asynccontextmanager
async def opened_store(path: Path) -> AsyncIterator[SqlStore]:
    """The store on this database."""
    store = await open_store(path)
    try:
        yield store
    finally:
        await store.close()
