"""One coordinator on a guild stack, in one process.

The service, the guild stack's client and submitter, the core and the store are the real ones, and so is the database
server, which is reached over a `Wire`; what watches them stands in `common_house`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

from common_house import CALL_SECONDS, POLL_SECONDS, CommonHouse, Life, Reached, WatchedStore, shorten
from guild_stack_catalogue import Step
from guild_stack_wire import Wire

from coordinator.chain.client import Block, ChainClient
from coordinator.chain.guild_stack import client as stack_client
from coordinator.chain.guild_stack import database as stack_database
from coordinator.chain.guild_stack.client import GuildStackClient
from coordinator.chain.guild_stack.database import Connection, Database
from coordinator.service import Service
from coordinator.store.sql import SqlStore
from coordinator.submission.attempt import Attempt, AttemptState
from coordinator.submission.guild_stack import GuildStackSubmitter
from coordinator.submission.outcome import Outcome

shorten(
    {
        stack_client: {"_FIRST_PAUSE": 0.005, "_LAST_PAUSE": 0.03, "_DRAIN_SECONDS": 0.001},
        stack_database: {"_FIRST_PAUSE": 0.005, "_LAST_PAUSE": 0.03},
    }
)


class WatchedDatabase(Database):
    """Every use is counted."""

    life: Life

    @contextlib.asynccontextmanager
    async def connection(self, what: str) -> AsyncIterator[Connection]:
        async with self.life.counted(), super().connection(what) as connection:
            yield connection


class WatchedClient(GuildStackClient):
    """The real client; it is noted which block was seen."""

    def __init__(self, url: str, chain_id: str, node: ChainClient | None, life: Life) -> None:
        super().__init__(url, chain_id, node=node, call_timeout=CALL_SECONDS, poll_seconds=POLL_SECONDS)
        self.database = database = WatchedDatabase(self.database._target, CALL_SECONDS)
        self._life = database.life = life

    async def blocks(self) -> AsyncGenerator[Block, None]:
        async with contextlib.aclosing(super().blocks()) as blocks:
            async for block in blocks:
                await self._life.sight(block)
                yield block


class WatchedLedger(WatchedStore):
    """The real store, and the step before a row's number is stored."""

    async def about_to_write(self, written: object) -> None:
        if isinstance(written, Attempt) and written.state is AttemptState.BROADCAST and written.tx_hash is None:
            await self._life.reached(Step.ROW_MADE)


class House(CommonHouse):
    """The coordinator that lives now, and the wire to its database."""

    PATIENCE_SECONDS = 0.1

    def __init__(
        self,
        wire: Wire,
        database: str,
        chain_id: str,
        node: ChainClient | None,
        store: SqlStore,
        clock: Callable[[], float],
        reached: Reached,
        salt: Callable[[], int],
    ) -> None:
        super().__init__(store, clock, reached, salt)
        self._wire = wire
        self._url = f"postgresql://hashfleet@/{database}?host={quote(str(wire.folder), safe='')}"
        self._chain_id, self._node = chain_id, node
        #: What the submitter told, in all lives.
        self.told: list[Outcome] = []

    def build(self, life: Life) -> tuple[ChainClient, Service]:
        client = WatchedClient(self._url, self._chain_id, self._node, life)
        writes = {"save_jobs": None, "add_attempt": Step.BEFORE_ROW, "update_attempt": None}
        store: Any = WatchedLedger(self.store, life, writes)

        def submitter(on_outcome: Callable[[Outcome], Awaitable[None]]) -> GuildStackSubmitter:
            async def take(outcome: Outcome) -> None:
                self.told.append(outcome)
                await on_outcome(outcome)

            return GuildStackSubmitter(client, store, clock=self._clock, on_outcome=take)

        return client, Service(client, store, (), submitter=submitter, clock=self._clock)

    async def crash(self) -> None:
        await super().crash()
        await self._wire.hang_up()
