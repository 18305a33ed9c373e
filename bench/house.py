"""A whole fleet on this machine for the length of a measurement: devnet, coordinator and worker, as real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.one_device import Choice
from bench.processes import resident, tree_seconds
from coordinator.submission.keys import SigningKey
from hashfleet.client import FleetClient
from hashfleet.errors import HashfleetError

PLAYER = "1-11"
#: The public test mnemonic of BIP-39 and its address: anyone can sign for it, never fund it.
_MNEMONIC = " ".join(["abandon"] * 11 + ["about"])
_ADDRESS = "structs19rl4cm2hmr8afy4kldpxz3fka4jguq0acpz60a"
#: The permission to hash for somebody, as guilds grant it.
_HASH_FOR_ME = 15_728_641
#: More milliwatts than any number of structures draws.
_CAPACITY = 2**50
START_HEIGHT = 100_000
#: A devnet with a hundred thousand structures takes some ten seconds, or more on a busy machine.
_READY_SECONDS = 120.0
_STOP_SECONDS = 5.0
#: Of a worker: drivers load, kernels compile, the self-test runs.
_CONNECT_SECONDS = 120.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Struct:
    """A structure on the stage; its clock has run for `age` blocks when the chain begins."""

    id: str
    #: The chain's number.
    type: int
    age: int
    #: A built structure that mines or refines, rather than one being built.
    online: bool = False
    owner: str = PLAYER


class House:
    """Starts processes; all of them end with the `async with` of `house`."""

    def __init__(self, folder: Path, stack: contextlib.AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        #: HOST:PORT of the coordinator's gRPC.
        self.coordinator = ""

    async def start_chain_and_coordinator(self, structs: Sequence[Struct], block_seconds: float) -> None:
        """A devnet with these structures, and a coordinator that signs for PLAYER, who may hash for all others."""
        scenario = self._folder / "scenario.json"
        scenario.write_text(json.dumps(scenario_of(structs)))
        ports = ("--grpc-port", "0", "--rpc-port", "0")
        chain = await self._hashfleet(
            "devnet", "--json", "--scenario", str(scenario), "--interval", str(block_seconds), *ports
        )
        addresses = ("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--database", str(self._folder / "jobs.db"))
        node = ("--chain-grpc", chain["grpc_address"], "--chain-rpc", chain["rpc_url"])
        told = await self._hashfleet("coordinator", "--json", *addresses, *node)
        self.coordinator = told["grpc"]

    async def start_worker(self, engine: Choice) -> None:
        """A worker with the best device of this kind."""
        arguments = ("worker", "--coordinator", self.coordinator, "--engine", engine)
        await self.start("worker", "hashfleet.cli.main", *arguments)

    async def _hashfleet(self, name: str, *arguments: str) -> dict[str, str]:
        """Start a subcommand that announces itself with one JSON line."""
        process = await self.start(name, "hashfleet.cli.main", name, *arguments)
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), _READY_SECONDS)
            return {key: str(value) for key, value in json.loads(line).items()}
        except (TimeoutError, ValueError) as error:
            raise HashfleetError(f"{name} did not start: {self.last_words(name)}") from error

    async def start(self, name: str, module: str, *arguments: str) -> asyncio.subprocess.Process:
        """Run a module of ours; its standard output is a pipe, its log goes to the folder."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HASHFLEET_")}
        with self._log(name).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**environment, "HASHFLEET_MNEMONIC": _MNEMONIC},
                start_new_session=True,  # Ctrl-C stops the benchmark, which then stops these in order
            )
        self._processes[name] = process
        self._stack.push_async_callback(_stop, process)
        return process

    def cpu_seconds(self) -> dict[str, float]:
        """Processor seconds that each process and its children took so far, by name; this one is "client"."""
        taken = {name: tree_seconds(process.pid) for name, process in self._processes.items()}
        return {**taken, "client": time.process_time()}

    def memory(self, name: str) -> int:
        """Bytes of memory that a process holds now (its resident set)."""
        return resident(self._processes[name].pid)

    async def worker_device(self, client: FleetClient) -> str:
        """The name of the first worker's device, once it is connected. Raises HashfleetError if it does not come."""
        give_up_at = time.monotonic() + _CONNECT_SECONDS
        while time.monotonic() < give_up_at:
            workers = (await client.fleet_status()).workers
            if workers:
                return workers[0].devices[0].device.name
            await asyncio.sleep(_POLL_SECONDS)
        raise HashfleetError(f"the worker did not connect within {_CONNECT_SECONDS:.0f} s: {self.last_words('worker')}")

    def last_words(self, name: str) -> str:
        """The last line of a process's log."""
        lines = self._log(name).read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it says nothing")

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


@contextlib.asynccontextmanager
async def house() -> AsyncIterator[House]:
    """A fresh folder and the processes that will be started; nothing of them is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="hashfleet-bench-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            yield House(Path(folder), stack)


def scenario_of(structs: Sequence[Struct]) -> dict[str, object]:
    """The devnet's scenario file."""
    others = sorted({struct.owner for struct in structs} - {PLAYER})
    addresses = {PLAYER: _ADDRESS, **{owner: _address_of(number) for number, owner in enumerate(others, 1)}}
    return {
        "about": "a benchmark's stage",
        "start_height": START_HEIGHT,
        "players": [
            {"id": owner, "address": address, "capacity": _CAPACITY, "planet_ore": 1000, "ore": 1000}
            for owner, address in addresses.items()
        ],
        "grants": [{"owner": owner, "player": PLAYER, "permissions": _HASH_FOR_ME} for owner in others],
        "structs": [
            {
                "id": struct.id,
                "type": struct.type,
                "owner": struct.owner,
                "age": struct.age,
                "condition": "online" if struct.online else "building",
            }
            for struct in structs
        ],
    }


def _address_of(number: int) -> str:
    """The address of some key; anyone can have it."""
    return SigningKey(number.to_bytes(32)).address


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.communicate(), _STOP_SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
