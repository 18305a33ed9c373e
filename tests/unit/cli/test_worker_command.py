"""`hashfleet worker` as a command of its own, on one CPU core, against a scripted coordinator."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from hashfleet.proof import verify
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb

sys.path.append(str(Path(__file__).parents[1] / "gpu_worker" / "doubles"))

from scripted_coordinator import Link, ScriptedCoordinator, lease

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def listening() -> AsyncIterator[ScriptedCoordinator]:
    """A coordinator that listens."""
    async with ScriptedCoordinator() as made:
        yield made


@pytest.fixture
async def run() -> AsyncIterator[Start]:
    """Runs the command; killed after the test if it still runs."""
    started: list[asyncio.subprocess.Process] = []

    async def start(*arguments: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hashfleet.cli.main", "worker", *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def connect(listening: ScriptedCoordinator, run: Start) -> tuple[asyncio.subprocess.Process, Link, pb.Hello]:
    process = await run(
        "--coordinator", listening.address, "--name", "cellar", "--engine", "cpu", "--cpu-processes", "1"
    )
    link = await listening.next_link()
    return process, link, await link.greet(progress_interval=0.05)


async def end(process: asyncio.subprocess.Process) -> tuple[str, str]:
    out, err = await asyncio.wait_for(process.communicate(), 30)
    return out.decode(), err.decode()


async def test_it_says_hello_with_a_measured_rate_and_finds_proofs(listening: ScriptedCoordinator, run: Start) -> None:
    _, link, hello = await connect(listening, run)
    (device,) = hello.devices
    assert (hello.name, device.device_id, device.engine) == ("cellar", "cpu", pb.ENGINE_KIND_CPU)
    assert device.nominal_rate > 1000
    granted = lease("cpu", count=10**6, zeros=3)
    link.say(lease=granted)
    hit = await link.expect("hit", "progress")
    assert verify(granted.prefix, hit.nonce).zeros >= 3
    ended = await link.expect("lease_ended", "hit", "progress")
    assert (ended.done, ended.reason) == (10**6, pb.END_REASON_EXHAUSTED)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_it_gives_back_the_lease_and_exits_with_0(
    listening: ScriptedCoordinator, run: Start, number: signal.Signals
) -> None:
    process, link, _ = await connect(listening, run)
    granted = lease("cpu", count=10**12)
    link.say(lease=granted)
    await link.expect("progress")
    process.send_signal(number)
    await link.expect("draining", "progress")
    ended = await link.expect("lease_ended", "progress")
    assert (ended.lease_id, ended.reason) == (granted.lease_id, pb.END_REASON_CANCELLED)
    assert 0 < ended.done < 10**12
    _, err = await end(process)
    assert process.returncode == 0
    assert f"stopping: {number.name} received" in err
    assert "Traceback" not in err


async def test_a_signal_ends_it_while_no_coordinator_is_there(listening: ScriptedCoordinator, run: Start) -> None:
    await listening.stop()
    process = await run("--coordinator", listening.address, "--engine", "cpu", "--cpu-processes", "1")
    assert process.stderr is not None
    async with asyncio.timeout(60):
        async for line in process.stderr:
            if b"no coordinator answers" in line:
                break
    process.send_signal(signal.SIGTERM)
    await end(process)
    assert process.returncode == 0


async def test_a_second_signal_ends_it_at_once(listening: ScriptedCoordinator, run: Start) -> None:
    process, link, _ = await connect(listening, run)
    link.say(lease=lease("cpu", count=10**12))
    await link.expect("progress")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    try:
        for child in children:  # a device that hangs, so that draining has to wait
            os.kill(int(child), signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        await link.expect("draining", "progress")
        process.send_signal(signal.SIGINT)
        await end(process)
    finally:
        for child in children:
            os.kill(int(child), signal.SIGKILL)
    assert process.returncode == 130


async def test_devices_are_listed_as_json(run: Start) -> None:
    process = await run("--list-devices", "--json", "--engine", "cpu", "--cpu-processes", "1")
    out, _ = await end(process)
    assert process.returncode == 0
    (row,) = json.loads(out)
    assert (row["device_id"], row["engine"], row["refused"]) == ("cpu", "cpu", None)
    assert row["rate"] > 1000


async def test_devices_are_listed_as_a_table(run: Start) -> None:
    process = await run("--list-devices", "--engine", "cpu", "--cpu-processes", "1")
    out, _ = await end(process)
    assert process.returncode == 0
    assert "measured rate" in out
    assert "H/s" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--coordinator", "nowhere"], "HOST:PORT"),
        (["--name", ""], "the worker's name"),
        (["--name", "x" * 101], "the worker's name"),
        (["--devices", "gpu0"], "device ids are such as cuda:0"),
        (["--engine", "cpu", "--devices", "cuda:0"], "--engine is cpu"),
        (["--json"], "--list-devices"),
    ],
)
async def test_options_that_cannot_be_right_are_one_clear_sentence(
    run: Start, arguments: list[str], sentence: str
) -> None:
    process = await run(*arguments)
    out, err = await end(process)
    assert process.returncode == 1
    assert out == ""
    assert sentence in err.splitlines()[-1]
    assert "Traceback" not in err
