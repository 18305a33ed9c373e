"""How many blocks the proofs of a thousand players take: `python -m bench.players`.

Each player has three objects that are ripe at once (a building, a rig and a refinery), and has let a hash-only key of
somebody else hand in proofs for them: as an operator works for many. The chain is the devnet with the limits of a real
one; the coordinator's service, lanes, database and chain client are the real ones, over real sockets. Blocks are made
by hand, whenever the coordinator has nothing left to do, so what is counted is blocks and not seconds; how long the
coordinator took over each is told, too, because a chain does not wait.

The least number of blocks is what the chain's limits leave: 5 free transactions of an address in a node's mempool per
block, 40 messages in a transaction, 40 of a player in a block, one proof for an object in a block.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import math
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import click

from bench.inline_worker import InlineWorker
from bench.machine import made_now
from bench.report import PlayersFigure, PlayersReport, as_json
from coordinator.chain.client import Block, ChainClient
from coordinator.chain.structsd import StructsdClient
from coordinator.core.events import Ticked, WorkerHeard
from coordinator.core.job import JobState
from coordinator.server import set_up_process
from coordinator.service import Service
from coordinator.store.protocol import Store
from coordinator.store.sql import SqlStore, open_store
from coordinator.submission.decision import MESSAGES_PER_PLAYER, SENDS_PER_BLOCK
from coordinator.submission.keys import SigningKey
from coordinator.submission.lane import Settings
from devnet.node import Devnet
from devnet.staging import Condition
from hashfleet.action import Action
from hashfleet.errors import HashfleetError
from hashfleet.job_request import JobRequest, StartMode

logger = logging.getLogger(__name__)

PLAYERS: Final = 1000
START: Final = 100_000
#: What runs on the public test network.
VERSION: Final = "v0.21"
BLOCK_SECONDS: Final = 6.0
#: To play, and the four bits for proofs: what docs/keys.md advises for a key that only hashes. And what is granted.
HASH_ONLY, HASH_BITS = 15_728_641, 15_728_640
#: Struct types of the chain, the action that each waits for, and the blocks after which one zero is enough.
OBJECTS: Final = ((9, Action.BUILD, 220), (14, Action.MINE, 14_000), (15, Action.REFINE, 28_000))
RATE: Final = 1e6
_AT_ONCE: Final = 500
#: Turns of the event loop without anything new, after which nothing more will happen before the next block.
_QUIET_TURNS: Final = 5
_PATIENCE_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Case:
    """One way to sign."""

    name: str
    #: Keys, each of a player of its own that an equal share of the owners let do it, or all of them if it is `shared`.
    keys: int
    #: Proofs in one transaction at most.
    batch: int
    shared: bool = False


CASES: Final = (
    Case("one key", 1, 1),
    Case("one key, batching", 1, 8),
    Case("eight keys", 8, 1),
    Case("eight keys, batching", 8, 8),
    Case("eight keys for everybody", 8, 1, shared=True),
)


def least_blocks(proofs: int, keys: int, batch: int) -> int:
    """The fewest blocks that the chain's limits allow for so many proofs, if each key has an equal share of them.

    >>> least_blocks(3000, 1, 1), least_blocks(3000, 1, 8), least_blocks(3000, 8, 1), least_blocks(3000, 8, 8)
    (600, 75, 75, 10)
    """
    per_key = min(SENDS_PER_BLOCK * batch, MESSAGES_PER_PLAYER)
    return max(1, math.ceil(math.ceil(proofs / keys) / per_key))


class _Counted:
    """A chain client or a store whose calls are counted, so that it is known when none is under way."""

    def __init__(self, counted: StructsdClient | SqlStore) -> None:
        self._counted = counted
        self.calls = self.under_way = 0
        self.seen = asyncio.Event()
        #: Of the newest block that was passed on.
        self.height = -1

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._counted, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*arguments: Any) -> Any:
            self.calls += 1
            self.under_way += 1
            try:
                return await found(*arguments)
            finally:
                self.under_way -= 1

        return call

    async def blocks(self) -> AsyncIterator[Block]:
        assert isinstance(self._counted, StructsdClient)
        async for block in self._counted.blocks():
            self.height = block.height
            self.seen.set()
            yield block


class _House:
    """One devnet, and one coordinator on it."""

    def __init__(self, devnet: Devnet, service: Service, chain: _Counted, store: _Counted) -> None:
        self.devnet, self.service, self.chain, self.store = devnet, service, chain, store
        self._began = devnet.chain.last_block.time_ns / 1e9
        self.worker = InlineWorker(service, self.clock, RATE)

    def clock(self) -> float:
        """Unix seconds, by the height."""
        return self._began + BLOCK_SECONDS * (self.devnet.height - START)

    async def settle(self) -> None:
        """Return when the coordinator has nothing left to do before the next block."""
        turns, before = 0, -1
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while turns < _QUIET_TURNS:
                await self.service.apply(Ticked(self.clock()))  # what came before is handled then
                under_way = self.chain.under_way + self.store.under_way
                await asyncio.sleep(0.001 if under_way else 0)
                calls = self.chain.calls + self.store.calls
                turns = turns + 1 if calls == before and not under_way and self.worker.idle else 0
                before = calls

    async def block(self) -> None:
        """Make the next block, and wait until the coordinator has seen it."""
        await self.devnet.advance()
        self.service.post_all([WorkerHeard(self.clock(), "w_1")])
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while self.chain.height < self.devnet.height:
                self.chain.seen.clear()
                await self.chain.seen.wait()


@contextlib.asynccontextmanager
async def _coordinator(devnet: Devnet, keys: Sequence[SigningKey], batch: int) -> AsyncIterator[_House]:
    """A coordinator with these keys, in a database of its own."""
    with tempfile.TemporaryDirectory(prefix="hashfleet-players-") as folder:
        store = await open_store(Path(folder) / "hashfleet.db")
        client = StructsdClient(devnet.grpc_address, devnet.rpc_url, devnet.chain_id, call_timeout=60.0)
        chain, counted_store = _Counted(client), _Counted(store)
        clock: list[Callable[[], float]] = [time.time]
        service = Service(
            cast("ChainClient", chain),
            cast("Store", counted_store),
            keys,
            lanes=Settings(batch=batch),
            clock=lambda: clock[0](),
        )
        house = _House(devnet, service, chain, counted_store)
        clock[0] = house.clock
        tasks = [asyncio.create_task(service.run()), asyncio.create_task(house.worker.run())]
        try:
            yield house
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            await client.close()
            await store.close()
        for each in ended:
            if isinstance(each, Exception):
                raise each


def _pose(devnet: Devnet, players: int, keys: Sequence[SigningKey], *, shared: bool) -> list[JobRequest]:
    """Players with their objects, who let one of the keys' players work for them, or all; and what is asked for."""
    requests = []
    with devnet.edit() as stage:
        for number, key in enumerate(keys, 1):
            stage.add_player(f"1-{number}", key.address, permissions=HASH_ONLY)
        for number in range(players):
            index = 100 + number
            owner = SigningKey((1_000_000 + number).to_bytes(32, "big"))
            stage.add_player(f"1-{index}", owner.address, ore=1)
            for place in range(len(keys)) if shared else (number % len(keys),):
                stage.grant(f"1-{index}", f"1-{1 + place}", HASH_BITS)
            for place, (kind, action, blocks) in enumerate(OBJECTS):
                object_id = f"5-{len(OBJECTS) * index + place}"
                condition = Condition.BUILDING if action is Action.BUILD else Condition.ONLINE
                stage.add_struct(object_id, kind, f"1-{index}", condition, anchor=START - blocks)
                requests.append(JobRequest(action, object_id, f"1-{index}", start_mode=StartMode.RACE))
    return requests


async def measure_case(case: Case, players: int) -> PlayersFigure:
    """All proofs of so many players, from the moment at which all are ripe. Raises HashfleetError if one is lost."""
    keys = [SigningKey(number.to_bytes(32, "big")) for number in range(1, case.keys + 1)]
    async with Devnet(scenario_name="empty", start_height=START, version=VERSION, rest_port=None) as devnet:
        requests = _pose(devnet, players, keys, shared=case.shared)
        least = least_blocks(len(requests), case.keys, case.batch)
        async with _coordinator(devnet, keys, case.batch) as house:
            began = time.perf_counter()
            for first in range(0, len(requests), _AT_ONCE):
                for answer in await house.service.submit_all(requests[first : first + _AT_ONCE]):
                    if isinstance(answer, HashfleetError):
                        raise answer
            await house.settle()
            found, took = time.perf_counter() - began, []
            while (counts := (await house.service.fleet()).jobs).get(JobState.COMPLETED, 0) < len(requests):
                if devnet.height - START > 2 * least + 20:
                    raise HashfleetError(f"{case.name}: after {devnet.height - START} blocks the jobs are {counts}")
                before = time.perf_counter()
                await house.block()
                await house.settle()
                took.append(time.perf_counter() - before)
            signers = (await house.service.fleet()).signers
        sent = devnet.transactions()
        logger.info("%s: %d proofs in %d blocks, %d at least.", case.name, len(requests), len(took), least)
        return PlayersFigure(
            name=case.name,
            keys=case.keys,
            shared=case.shared,
            batch=case.batch,
            players=players,
            proofs=len(requests),
            included=sum(signer.included for signer in signers),
            stale=sum(signer.stale for signer in signers),
            rejected=sum(signer.rejected for signer in signers),
            transactions=len(sent),
            failed=sum(each.result.code != 0 for each in sent),
            blocks=max(each.height for each in sent) - START,
            least_blocks=least,
            found_seconds=found,
            block_seconds=tuple(took),
        )


async def measure_players(players: int, cases: Sequence[Case] = CASES) -> PlayersReport:
    """Every case, one after the other."""
    set_up_process()
    made = made_now()
    return PlayersReport(
        made=made, version=VERSION, figures=tuple([await measure_case(case, players) for case in cases])
    )


@click.command()
@click.option("--players", type=click.IntRange(1, 10_000), default=PLAYERS, show_default=True)
@click.option("--case", "names", type=click.Choice([case.name for case in CASES]), multiple=True, help="Only these.")
def main(players: int, names: tuple[str, ...]) -> None:
    """Print the blocks that the ripe proofs of many players took, as JSON."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    cases = [case for case in CASES if not names or case.name in names]
    click.echo(as_json(asyncio.run(measure_players(players, cases))))


if __name__ == "__main__":
    main()
