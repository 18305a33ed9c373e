"""Real processes: a devnet, a coordinator, workers, and an agent that speaks MCP. Nothing is faked here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

MNEMONIC = " ".join(["abandon"] * 11 + ["about"])
PLAYER_ADDRESS = "structs19rl4cm2hmr8afy4kldpxz3fka4jguq0acpz60a"
HASHFLEET = (sys.executable, "-m", "hashfleet.cli.main")
BLOCK_SECONDS = 0.3
START_HEIGHT = 100_000

#: Work of every action that a CPU core does in a moment (difficulty 4 or less): the tool's action, the object.
RIPE = {
    "struct_build_complete": "5-1",
    "ore_miner_complete": "5-2",
    "ore_refinery_complete": "5-3",
    "planet_raid_complete": "9-11",
}
#: Ages just past the first at which difficulty 6, 7 and 8 are enough, by the kind of work; it stays so for a minute.
LONG_AGES = {
    "build": {6: 2550, 7: 2230, 8: 1950},
    "mine": {6: 6600, 7: 5650, 8: 4860},
    "refine": {6: 12500, 7: 10600, 8: 9000},
}
#: Struct types whose build, mining and refining fall that slowly: ranges 5,000, 14,000 and 28,000.
LONG_TYPES = {"build": 22, "mine": 14, "refine": 15}
LONG_ACTIONS = {"build": "struct_build_complete", "mine": "ore_miner_complete", "refine": "ore_refinery_complete"}
#: After a job is leased, this long makes sure that it is partly hashed.
HASHING_SECONDS = 0.3
#: How many works of each kind and difficulty there are.
LONG_WORKS = 4


def long_work(kind: str, zeros: int, number: int) -> str:
    """The object of one of the long works."""
    return f"5-{list(LONG_TYPES).index(kind) + 1}{zeros}{number}"


LONG_STRUCTS = [
    {
        "id": long_work(kind, zeros, number),
        "type": LONG_TYPES[kind],
        "owner": "1-11",
        "condition": "building" if kind == "build" else "online",
        "age": age,
    }
    for kind, ages in LONG_AGES.items()
    for zeros, age in ages.items()
    for number in range(LONG_WORKS)
]


SCENARIO = {
    "start_height": START_HEIGHT,
    "players": [
        {"id": "1-11", "address": PLAYER_ADDRESS, "planet_ore": 20, "ore": 3},
        {"id": "1-12", "address": "structs1hy3hr8c7n9h2rlunjg4jc9l9vquavt0e9qlx5k", "planet_ore": 5, "ore": 7},
    ],
    "structs": [
        {"id": "5-1", "type": 22, "owner": "1-11", "age": 3400},
        {"id": "5-2", "type": 14, "owner": "1-11", "condition": "online", "age": 9000},
        {"id": "5-3", "type": 15, "owner": "1-11", "condition": "online", "age": 17500},
        *LONG_STRUCTS,
        {"id": "5-201", "type": 1, "owner": "1-12", "condition": "offline"},
        {"id": "5-202", "type": 18, "owner": "1-12", "condition": "online"},
    ],
    "raids": [{"fleet": "9-11", "planet": "2-12", "age": 66}],
}


@dataclass
class Process:
    """One `hashfleet` subcommand as a real process."""

    arguments: list[str]
    log: Path
    announces: bool = True
    #: The HASHFLEET_ variables that it is started with; none of this process's reach it.
    environment: dict[str, str] = field(default_factory=lambda: {"HASHFLEET_MNEMONIC": MNEMONIC})
    process: asyncio.subprocess.Process | None = None
    announced: dict[str, Any] = field(default_factory=dict)

    async def start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HASHFLEET_")}
        environment |= self.environment
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *HASHFLEET,
                *self.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if self.announces else log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        if self.announces:
            assert self.process.stdout is not None
            line = await asyncio.wait_for(self.process.stdout.readline(), 30)
            assert line, self.log.read_text()
            self.announced = json.loads(line)

    async def kill(self) -> None:
        """As a crash would: SIGKILL to it and all it started."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self) -> int:
        assert self.process is not None
        return await asyncio.wait_for(self.process.wait(), 20)


@dataclass
class House:
    """The whole fleet on this machine, in parts that a test may kill and start again."""

    folder: Path
    stack: contextlib.AsyncExitStack
    devnet: Process
    coordinator: Process

    @property
    def grpc(self) -> str:
        return str(self.coordinator.announced["grpc"])

    @property
    def mcp_url(self) -> str:
        return str(self.coordinator.announced["mcp"])

    async def worker(self, *options: str) -> Process:
        number = len(list(self.folder.glob("worker*.log")))
        options = options or ("--engine", "cpu", "--cpu-processes", "1")
        log = self.folder / f"worker{number}.log"
        worker = Process(["worker", "--coordinator", self.grpc, *options], log, announces=False)
        await self._own(worker)
        return worker

    async def restart_coordinator(self) -> None:
        """Start it again on the same database and ports."""
        for option, value in (("--listen", self.grpc), ("--http", self.mcp_url.split("/")[2])):
            at = self.coordinator.arguments.index(option) + 1
            self.coordinator.arguments[at] = value
        await self.coordinator.start()

    async def _own(self, process: Process) -> None:
        await process.start()
        self.stack.push_async_callback(process.kill)

    @contextlib.asynccontextmanager
    async def agent(self, transport: str) -> AsyncIterator[Agent]:
        """An MCP client: over HTTP to the coordinator, or over stdio to a front end process of its own."""
        if transport == "http":
            connection = streamable_http_client(self.mcp_url)
        else:
            connection = stdio_client(
                StdioServerParameters(
                    command=HASHFLEET[0], args=[*HASHFLEET[1:], "mcp", "--coordinator", self.grpc], env=dict(os.environ)
                )
            )
        async with Client(connection) as client:
            yield Agent(client)

    async def transactions(self) -> list[dict[str, Any]]:
        """Every transaction in the chain: the completing message's object and whether it succeeded, in order."""
        found: list[dict[str, Any]] = []
        rpc = self.devnet.announced["rpc_url"]
        async with httpx2.AsyncClient(timeout=10) as http:
            status = (await http.get(f"{rpc}/status")).json()
            height = int(status["result"]["sync_info"]["latest_block_height"])
            for at in range(START_HEIGHT + 1, height + 1):
                results = (await http.get(f"{rpc}/block_results", params={"height": str(at)})).json()["result"]
                for tx in results["txs_results"] or []:
                    found.append({"height": at, "code": tx["code"], "objects": completed_objects(tx["events"])})
        return found

    async def transactions_of(self, entity: str) -> int:
        """How many transactions completed this object; none may have failed on the way."""
        transactions = await self.transactions()
        assert all(tx["code"] == 0 for tx in transactions), transactions
        return sum(tx["objects"] == [entity] for tx in transactions)


def completed_objects(events: list[dict[str, Any]]) -> list[str]:
    """Objects of the EventHashSuccess events of a transaction."""
    return [
        json.loads(attribute["value"])["objectId"]
        for event in events
        if event["type"] == "structs.structs.EventHashSuccess"
        for attribute in event["attributes"]
        if attribute["key"] == "eventHashSuccessDetail"
    ]


@dataclass
class Agent:
    """What an AI agent does over MCP."""

    client: Client

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        assert result.structured_content is not None
        return result.structured_content

    async def start(self, action: str, entity: str, **more: Any) -> str:
        arguments = {"action_type": action, "entity_id": entity, "player_id": "1-11", **more}
        return str((await self.call("structs_calculate_proof_of_work", **arguments))["job_id"])

    async def status(self, job_id: str) -> dict[str, Any]:
        return await self.call("structs_query_proof_of_work_status", job_id=job_id)

    async def until(self, job_id: str, holds: Callable[[dict[str, Any]], bool], seconds: float = 90) -> dict[str, Any]:
        """Poll until something holds for the job's status, or it is final."""
        async with asyncio.timeout(seconds):
            while True:
                status = await self.status(job_id)
                if holds(status) or status["status"] in ("completed", "failed", "cancelled"):
                    return status
                await asyncio.sleep(0.05)

    async def until_any(self, job_ids: Collection[str], holds: Callable[[dict[str, Any]], bool]) -> None:
        """Poll until something holds for the status of one of these jobs."""
        async with asyncio.timeout(60):
            while True:
                for job_id in job_ids:
                    if holds(await self.status(job_id)):
                        return
                await asyncio.sleep(0.05)

    async def long_zeros(self) -> int:
        """The difficulty that takes the connected workers one second or more, sixteen or so at most."""
        async with asyncio.timeout(30):
            while True:
                rate = (await self.call("structs_fleet_status"))["nominal_rate"]
                if rate:
                    break
                await asyncio.sleep(0.05)
        return next((zeros for zeros in (6, 7) if 16**zeros >= rate), 8)

    async def midway(self) -> tuple[str, str]:
        """Start a job and return it, with its object, once some of it is hashed and before it is solved.

        A search may be lucky at once: then the next long work is tried.
        """
        zeros = await self.long_zeros()
        for number in range(LONG_WORKS):
            entity = long_work("build", zeros, number)
            job_id = await self.start(LONG_ACTIONS["build"], entity)
            await self.until(job_id, running)
            await asyncio.sleep(HASHING_SECONDS)
            if running(await self.status(job_id)):
                return job_id, entity
            await self.completed(job_id)
        raise AssertionError("every long work was solved at once")

    async def until_idle(self) -> None:
        """Poll until no device holds a lease."""
        async with asyncio.timeout(10):
            while any(  # noqa: ASYNC110 - the tool has no event to wait for
                device.get("job_id")
                for worker in (await self.call("structs_fleet_status"))["workers"]
                for device in worker["devices"]
            ):
                await asyncio.sleep(0.05)

    async def completed(self, job_id: str) -> dict[str, Any]:
        status = await self.until(job_id, lambda _: False)
        assert status["status"] == "completed", status
        return status


def running(status: dict[str, Any]) -> bool:
    """The job is leased to a worker."""
    return bool(status["status"] == "running")


Builder = Callable[[], Awaitable[House]]


@pytest.fixture
def world() -> dict[str, Any]:
    """How the devnet begins; a test file may begin it otherwise."""
    return SCENARIO


@pytest.fixture
def chain_version() -> str:
    """The structsd release that the devnet behaves like; a test file may choose another."""
    return "v0.20"


@pytest.fixture
async def house(tmp_path: Path, world: dict[str, Any], chain_version: str) -> AsyncIterator[House]:
    """A devnet and a coordinator as processes; no worker yet."""
    scenario = tmp_path / "scenario.json"
    scenario.write_text(json.dumps(world))
    async with contextlib.AsyncExitStack() as stack:
        devnet = Process(
            shlex.split(
                f"devnet --json --scenario {scenario} --interval {BLOCK_SECONDS} --grpc-port 0 --rpc-port 0 "
                f"--state {tmp_path / 'chain.json'} --version {chain_version}"
            ),
            tmp_path / "devnet.log",
        )
        await devnet.start()
        stack.push_async_callback(devnet.kill)
        coordinator = Process(
            shlex.split(
                f"coordinator --json --listen 127.0.0.1:0 --http 127.0.0.1:0 --database {tmp_path / 'hashfleet.db'} "
                f"--chain-grpc {devnet.announced['grpc_address']} --chain-rpc {devnet.announced['rpc_url']} "
                f"--chain-id {devnet.announced['chain_id']}"
            ),
            tmp_path / "coordinator.log",
        )
        await coordinator.start()
        stack.push_async_callback(coordinator.kill)
        yield House(tmp_path, stack, devnet, coordinator)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A failed end-to-end test shows what the processes said."""
    outcome = yield
    report = outcome.get_result()
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and folder is not None:
        for log in sorted(folder.glob("*.log")):
            report.sections.append((log.name, log.read_text(errors="replace")[-4000:]))
