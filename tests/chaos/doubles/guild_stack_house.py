"""One coordinator on a guild stack, in one process, with a block whenever all else is done.

The service, the guild stack's client and submitter, the core and the SQLite store are the real ones, and so is the
database server, which is reached over a `Wire`. As in `fault_house`, what stands between only watches.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fault_house import Life
from guild_stack_catalogue import Step

from bench.inline_worker import InlineWorker
from coordinator import service
from coordinator.chain.client import Block, ChainClient
from coordinator.chain.guild_stack import client as stack_client
from coordinator.chain.guild_stack import database as stack_database
from coordinator.chain.guild_stack.client import GuildStackClient
from coordinator.chain.guild_stack.database import Connection, Database
from coordinator.core.events import Ticked, WorkerHeard
from coordinator.core.machine import Machine
from coordinator.service import Service
from coordinator.store.sql import SqlStore
from coordinator.submission.attempt import Attempt, AttemptState
from coordinator.submission.guild_stack import GuildStackSubmitter
from coordinator.submission.outcome import Outcome

#: Real seconds: of one use of the database; between polls.
CALL_SECONDS, POLL_SECONDS = 0.25, 0.02
#: Turns of the event loop in which nothing happened, after which nothing more will before the next block.
QUIET_TURNS = 4
#: Real seconds after which a block is made although something is under way, and that a block is waited for to be seen.
PATIENCE_SECONDS, SIGHT_SECONDS = 0.1, 0.03
#: Hashes a second that the device says it makes.
RATE = 2000.0

for module, pauses in {
    stack_client: {"_FIRST_PAUSE": 0.005, "_LAST_PAUSE": 0.03, "_DRAIN_SECONDS": 0.001},
    stack_database: {"_FIRST_PAUSE": 0.005, "_LAST_PAUSE": 0.03},
    service: {"_FIRST_PAUSE": 0.005, "_LAST_PAUSE": 0.05},
}.items():
    for name, seconds in pauses.items():
        assert isinstance(getattr(module, name), float)
        setattr(module, name, seconds)


class WatchedDatabase(Database):
    """Every use is counted."""

    life: Life

    @contextlib.asynccontextmanager
    async def connection(self, what: str) -> AsyncIterator[Connection]:
        await self.life.still_alive()
        self.life.calls += 1
        self.life.under_way += 1
        try:
            async with super().connection(what) as connection:
                yield connection
        finally:
            self.life.under_way -= 1
        await self.life.still_alive()


class WatchedClient(GuildStackClient):
    """The real client; it is noted which block was seen."""

    def __init__(self, url: str, chain_id: str, node: ChainClient | None, life: Life) -> None:
        super().__init__(url, chain_id, node=node, call_timeout=CALL_SECONDS, poll_seconds=POLL_SECONDS)
        self.database = database = WatchedDatabase(self.database._target, CALL_SECONDS)
        self._life = database.life = life

    async def blocks(self) -> AsyncGenerator[Block, None]:
        async with contextlib.aclosing(super().blocks()) as blocks:
            async for block in blocks:
                await self._life.still_alive()
                self._life.seen = block.height
                self._life.sighted.set()
                yield block


class WatchedStore:
    """The real store; every call is counted, and a crash may fall before and after each that writes."""

    def __init__(self, store: SqlStore, life: Life) -> None:
        self._store, self._life = store, life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in ("save_jobs", "add_attempt", "update_attempt"):
            return lambda *arguments: self._life.call(lambda: found(*arguments))

        async def write(*arguments: Any) -> Any:
            if _numbers_row(arguments[0]):
                await self._life.reached(Step.ROW_MADE)  # type: ignore[arg-type]
            await self._life.reached(None)
            answer = await self._life.call(lambda: found(*arguments))
            await self._life.reached(None)
            if name == "add_attempt":
                await self._life.reached(Step.BEFORE_ROW)  # type: ignore[arg-type]
            return answer

        return write


def _numbers_row(written: object) -> bool:
    return isinstance(written, Attempt) and written.state is AttemptState.BROADCAST and written.tx_hash is None


class House:
    """The coordinator that lives now."""

    def __init__(
        self,
        folder: Path,
        database: str,
        chain_id: str,
        node: ChainClient | None,
        store: SqlStore,
        clock: Callable[[], float],
        reached: Callable[[Step | None], Awaitable[None]],
        salt: Callable[[], int],
    ) -> None:
        """`folder` holds the wire's socket."""
        self._url = f"postgresql://hashfleet@/{database}?host={quote(str(folder), safe='')}"
        self._chain_id, self._node, self.store, self._clock = chain_id, node, store, clock
        self._reached, self._salt = reached, salt
        self._tasks: list[asyncio.Task[None]] = []
        self.life: Life
        self.service: Service
        self._client: WatchedClient
        self._worker: InlineWorker
        #: What the submitter told, in all lives.
        self.told: list[Outcome] = []
        #: What a life ended of that should not have.
        self.failures: list[BaseException] = []

    async def move_in(self) -> None:
        """Start the coordinator on the database as it is."""
        self.life = life = Life(self._reached)  # type: ignore[arg-type]
        self._client = client = WatchedClient(self._url, self._chain_id, self._node, life)
        store: Any = WatchedStore(self.store, life)

        def submitter(on_outcome: Callable[[Outcome], Awaitable[None]]) -> GuildStackSubmitter:
            async def take(outcome: Outcome) -> None:
                self.told.append(outcome)
                await on_outcome(outcome)

            return GuildStackSubmitter(client, store, clock=self._clock, on_outcome=take)

        self.service = Service(client, store, (), submitter=submitter, clock=self._clock)
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

    async def settle(self) -> None:
        """Return when nothing more is to be done before the next block, or patience is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE_SECONDS
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
