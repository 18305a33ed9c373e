"""One coordinator on one devnet, in one process and over real sockets, with a block whenever all else is done.

The service, its lanes, the core, the SQLite store and the chain client are the real ones; a worker of one device hashes
in line. What stands between them here only watches: it counts what is under way, so that a block comes when all is
quiet, it says when a step of the submission is reached, and after a crash it lets nothing of the life before through.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpcore2
from fault_catalogue import Step, Way

from bench.inline_worker import InlineWorker
from coordinator import service
from coordinator.chain import block_feed, endpoint_choice, node_facts, reading, rights
from coordinator.chain.client import Account, Block, ChainClient, TxAnswer
from coordinator.chain.failover import FailoverClient
from coordinator.chain.rest_transport import RestTransport
from coordinator.chain.structsd import StructsdClient
from coordinator.core.events import Ticked, WorkerHeard
from coordinator.core.machine import Machine
from coordinator.service import Service
from coordinator.store.sql import SqlStore, open_store
from coordinator.submission.keys import SigningKey
from coordinator.submission.lane import Settings
from devnet.node import Devnet

BLOCK_SECONDS = 6.0
#: Real seconds: of one call to the node; between polls; after which a silent subscription is checked.
CALL_SECONDS, POLL_SECONDS, SILENCE_SECONDS, PROBE_SECONDS = 0.25, 0.02, 0.1, 0.05
#: Turns of the event loop in which nothing happened, after which nothing more will before the next block.
QUIET_TURNS = 4
#: Real seconds after which a block is made although something is under way, and that a block is waited for to be seen.
PATIENCE_SECONDS, SIGHT_SECONDS = 0.06, 0.03
#: Hashes a second that the device says it makes.
RATE = 2000.0

# Blocks come some hundred times as fast as on a chain that people use, and so must the pauses between two tries pass.
for module, pauses in {
    endpoint_choice: {"FIRST_PAUSE": 0.005, "LONGEST_PAUSE": 0.03, "REFUSED_PAUSE": 0.03},
    block_feed: {"_FIRST_PAUSE": 0.01, "_LONGEST_PAUSE": 0.1, "_RESULTS_PAUSE": 0.1},
    reading: {"_READ_AGAIN_SECONDS": 0.003},
    node_facts: {"FACTS_SECONDS": 0.1},
    rights: {"RIGHT_SECONDS": 0.1, "OWNER_SECONDS": 0.02},
    service: {"_FIRST_PAUSE": 0.005, "_LAST_PAUSE": 0.05},
}.items():
    for name, seconds in pauses.items():
        assert isinstance(getattr(module, name), float)
        setattr(module, name, seconds)
# Each HTTP client loads all root certificates anew, for 30 ms, though nothing here is encrypted.
httpcore2.default_ssl_context = functools.cache(httpcore2.default_ssl_context)

#: Called at each step (with the step's name), and before and after all that a crash could fall between (None).
Reached = Callable[[Step | None], Awaitable[None]]


class Life:
    """From one start of the coordinator to its end or crash."""

    def __init__(self, reached: Reached) -> None:
        self._reached = reached
        self.over = False
        #: Calls so far, and calls that are not answered yet.
        self.calls = self.under_way = 0
        self.seen = -1
        self.sighted = asyncio.Event()

    async def call(self, work: Callable[[], Awaitable[Any]]) -> Any:
        await self.still_alive()
        self.calls += 1
        self.under_way += 1
        try:
            answer = await work()
        finally:
            self.under_way -= 1
        await self.still_alive()
        return answer

    async def reached(self, step: Step | None) -> None:
        await self._reached(step)
        await self.still_alive()

    async def still_alive(self) -> None:
        """Nothing of a life that is over goes on."""
        if self.over:
            await asyncio.Event().wait()


class WatchedChain:
    """The real chain client; every call is counted."""

    def __init__(self, client: ChainClient, life: Life) -> None:
        self._client, self._life = client, life

    @property
    def chain_id(self) -> str:
        return self._client.chain_id

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return lambda *arguments: self._life.call(lambda: found(*arguments))

    async def account(self, address: str) -> Account:
        await self._life.reached(Step.BEFORE_ACCOUNT)
        answer: Account = await self._life.call(lambda: self._client.account(address))
        return answer

    async def broadcast(self, tx_bytes: bytes) -> TxAnswer:
        await self._life.reached(Step.BEFORE_BROADCAST)
        await self._life.reached(None)
        answer: TxAnswer = await self._life.call(lambda: self._client.broadcast(tx_bytes))
        await self._life.reached(Step.AFTER_BROADCAST)
        await self._life.reached(None)
        return answer

    async def blocks(self) -> AsyncIterator[Block]:
        async for block in self._client.blocks():
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
        if name not in ("save_jobs", "add_attempts", "update_attempts"):
            return lambda *arguments: self._life.call(lambda: found(*arguments))

        async def write(*arguments: Any) -> Any:
            await self._life.reached(None)
            answer = await self._life.call(lambda: found(*arguments))
            await self._life.reached(None)
            if name == "add_attempts":
                await self._life.reached(Step.BEFORE_SIGNING)
            return answer

        return write


class House:
    """The devnet, the database, and the coordinator that lives now."""

    def __init__(
        self,
        devnet: Devnet,
        store: SqlStore,
        keys: tuple[SigningKey, ...],
        way: Way,
        by_rest: tuple[bool, bool],
        settings: Settings,
        reached: Reached,
        salt: Callable[[], int],
    ) -> None:
        """`by_rest` says of each of two nodes whether it is reached over REST."""
        self.devnet, self.store, self._salt = devnet, store, salt
        self._by_rest = by_rest
        self._keys, self._way, self._settings, self._reached = keys, way, settings, reached
        self._tasks: list[asyncio.Task[None]] = []
        self._began, self._began_at = devnet.chain.last_block.time_ns / 1e9, devnet.height
        self.life = Life(reached)
        self.service: Service
        self._client: ChainClient
        self._worker: InlineWorker
        #: What a life ended of that should not have.
        self.failures: list[BaseException] = []

    def clock(self) -> float:
        """Unix seconds, by the height."""
        return self._began + BLOCK_SECONDS * (self.devnet.height - self._began_at)

    async def move_in(self) -> None:
        """Start the coordinator on the database as it is."""
        self.life = life = Life(self._reached)
        self._client = self._make_client()
        self.service = Service(
            WatchedChain(self._client, life),
            WatchedStore(self.store, life),  # type: ignore[arg-type]
            self._keys,
            lanes=self._settings,
            clock=self.clock,
        )
        self.service._machine = Machine(salt=self._salt())  # else a seed would not find the same nonces again
        self._worker = InlineWorker(self.service, self.clock, RATE)
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
        end = loop.time() + PATIENCE_SECONDS
        life, turns, seen = self.life, 0, -1
        while turns < QUIET_TURNS and loop.time() < end and not life.over:
            await asyncio.sleep(0.0003 if life.under_way else 0)
            quiet = life.calls == seen and not life.under_way and self._worker.idle and self.service._inbox.empty()
            turns, seen = turns + 1 if quiet else 0, life.calls

    async def block(self) -> None:
        """Make a block, and give the coordinator a moment to see it."""
        self.life.sighted.clear()
        height = self.devnet.height + 1
        self.devnet.chain.produce_block()
        now = self.clock()
        self.service.post_all([WorkerHeard(now, "w_1"), Ticked(now)])
        loop = asyncio.get_running_loop()
        end = loop.time() + SIGHT_SECONDS
        while self.life.seen < height and not self.life.over and (left := end - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.life.sighted.wait(), left)
            self.life.sighted.clear()

    def _make_client(self) -> ChainClient:
        node = self.devnet
        chain_id = node.chain_id
        limits = {"call_timeout": CALL_SECONDS, "poll_seconds": POLL_SECONDS, "silence_seconds": SILENCE_SECONDS}
        assert node.rest_url is not None
        match self._way:
            case Way.GRPC:
                return StructsdClient(node.grpc_address, node.rpc_url, chain_id, **limits)
            case Way.REST:
                transport = RestTransport(node.rest_url, timeout=CALL_SECONDS)
                return StructsdClient(transport, node.rpc_url, chain_id, **limits)
            case Way.FAILOVER:
                return FailoverClient.of(
                    [node.grpc_address],
                    [node.rest_url],
                    [node.rpc_url],
                    chain_id,
                    probe_seconds=PROBE_SECONDS,
                    **limits,
                )
            case Way.TWO_NODES:
                nodes = list(zip(node.nodes, self._by_rest, strict=True))
                return FailoverClient.of(
                    [each.grpc_address for each, by_rest in nodes if not by_rest],
                    [each.rest_url for each, by_rest in nodes if by_rest and each.rest_url],
                    [each.rpc_url for each in node.nodes],
                    chain_id,
                    probe_seconds=PROBE_SECONDS,
                    **limits,
                )


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


def keys_of(rng: random.Random) -> tuple[SigningKey, ...]:
    """One key, or two."""
    every = (SigningKey(bytes(range(1, 33))), SigningKey(bytes(range(2, 34))))
    return every[: rng.randint(1, 2)]
