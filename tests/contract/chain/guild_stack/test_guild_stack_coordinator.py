"""A whole coordinator on a guild stack: from the request over a real worker to the agent's transaction."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from hashfleet.action import Action
from hashfleet.client import FleetClient
from hashfleet.rpc.hashfleet.v1 import job_pb2

PASSWORD = "planted-secret-7f3a"


class Fleet:
    """Coordinator and worker as processes, and the stack, whose blocks come at once."""

    def __init__(self, folder: Path, url: str, stack: Any, agent: Any) -> None:
        self.folder, self.stack, self.agent = folder, stack, agent
        # Unix sockets with "trust" take any password; what matters is that it goes nowhere else.
        self._url = url.replace("hashfleet@", f"hashfleet:{PASSWORD}@")
        self._processes: list[asyncio.subprocess.Process] = []
        self.announced = ""

    async def _run(self, log: str, *arguments: str) -> asyncio.subprocess.Process:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HASHFLEET_")}
        with (self.folder / log).open("ab") as said:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "hashfleet.cli.main",
                *arguments,
                stdout=asyncio.subprocess.PIPE,
                stderr=said,
                cwd=self.folder,
                env=environment | {"HASHFLEET_GUILD_STACK": self._url},
            )
        self._processes.append(process)
        return process

    async def start(self) -> str:
        options = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--json", "-v"]
        coordinator = await self._run("coordinator.log", "coordinator", *options)
        assert coordinator.stdout is not None
        self.announced = (await asyncio.wait_for(coordinator.stdout.readline(), 60)).decode()
        assert self.announced, (self.folder / "coordinator.log").read_text()
        grpc: str = json.loads(self.announced)["grpc"]
        await self._run("worker.log", "worker", "--coordinator", grpc, "--engine", "cpu")
        return grpc

    async def stop(self) -> None:
        for process in reversed(self._processes):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(asyncio.gather(*(process.communicate() for process in self._processes)), 60)


@pytest_asyncio.fixture
async def fleet(tmp_path: Path, stack: Any, stack_url: str, agent: Any) -> AsyncIterator[Fleet]:
    made = Fleet(tmp_path, stack_url, stack, agent)
    yield made
    await made.stop()


async def test_a_request_becomes_a_row_that_the_agent_signs_and_a_completed_job(fleet: Fleet) -> None:
    grpc = await fleet.start()
    async with FleetClient(grpc) as client:
        answer = await client.submit_job(Action.BUILD, "5-1", player_id="1-7")
        height, job = 1000, answer.job
        async with asyncio.timeout(90):
            while job.state not in (job_pb2.JOB_STATE_COMPLETED, job_pb2.JOB_STATE_FAILED):
                height += 1
                fleet.stack.index(height)
                if fleet.agent.step():
                    fleet.stack.set_struct("1-5-1", 7)
                await asyncio.sleep(0.2)
                job = await client.get_job(answer.job.job_id)
    assert job.state == job_pb2.JOB_STATE_COMPLETED, job.error
    (row,) = fleet.stack.rows()
    assert (row["args"], row["status"]) == (["5-1", job.proof.hash, job.proof.nonce], "broadcast")
    assert job.transaction.hash == f"{row['id']:064X}"
    await fleet.stop()
    assert json.loads(fleet.announced)["signer"] is None
    for written in fleet.folder.rglob("*"):
        if written.is_file():
            assert PASSWORD.encode() not in written.read_bytes(), written
