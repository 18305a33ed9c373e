"""`hashfleet up --demo`: one command brings everything up, one Ctrl-C takes everything down."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import httpx2
import pytest

from hashfleet.action import Action
from hashfleet.client import FleetClient
from hashfleet.errors import CoordinatorUnavailable

from .conftest import Process


def group(folder: Path) -> Process:
    arguments = ["up", "--demo", "--json", "--data", str(folder / "data"), "--engine", "cpu"]
    return Process([*arguments, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"], folder / "up.log")


def children(process_id: int) -> set[int]:
    """Every process below this one, as the kernel tells."""
    below: set[int] = set()
    for task in Path(f"/proc/{process_id}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            below |= {child} | children(child)
    return below


def alive(process_id: int) -> bool:
    status = Path(f"/proc/{process_id}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


async def test_ctrl_c_stops_all_of_it_within_five_seconds(tmp_path: Path) -> None:
    up = group(tmp_path)
    await up.start()
    try:
        assert up.process is not None
        below = children(up.process.pid)
        assert len(below) >= 3
        up.signal(signal.SIGINT)
        async with asyncio.timeout(5):
            assert await up.ended() == 0
        assert not [child for child in below if alive(child)]
    finally:
        await up.kill()


async def test_a_job_is_still_there_after_the_next_start(tmp_path: Path) -> None:
    up = group(tmp_path)
    await up.start()
    try:
        async with FleetClient(up.announced["coordinator"]["grpc"]) as fleet:
            job_id = (await fleet.submit_job(Action.BUILD, "5-110", "1-11")).job.job_id
        up.signal(signal.SIGINT)
        await up.ended()
        up = group(tmp_path)
        await up.start()
        async with FleetClient(up.announced["coordinator"]["grpc"]) as fleet:
            assert (await fleet.get_job(job_id)).spec.entity_id == "5-110"
    finally:
        await up.kill()


async def test_a_crashed_coordinator_is_started_again_where_it_was(tmp_path: Path) -> None:
    up = group(tmp_path)
    await up.start()
    try:
        async with FleetClient(up.announced["coordinator"]["grpc"]) as fleet:
            await fleet.fleet_status()
            assert up.process is not None
            (coordinator,) = (
                child for child in children(up.process.pid) if b"coordinator\0--json" in commandline(child)
            )
            os.kill(coordinator, signal.SIGKILL)
            async with asyncio.timeout(30):
                while not await answers(fleet):  # noqa: ASYNC110 - a process that comes back has no event
                    await asyncio.sleep(0.2)
    finally:
        await up.kill()


def commandline(process_id: int) -> bytes:
    return Path(f"/proc/{process_id}/cmdline").read_bytes()


async def answers(fleet: FleetClient) -> bool:
    try:
        return (await fleet.fleet_status()).chain.connected
    except CoordinatorUnavailable:
        return False


async def test_the_configuration_it_prints_names_a_running_server(tmp_path: Path) -> None:
    up = group(tmp_path)
    await up.start()
    try:
        url = up.announced["mcp_configuration"]["mcpServers"]["hashfleet"]["url"]
        async with httpx2.AsyncClient() as http:
            answer = await http.get(url.replace("/mcp", "/healthz"))
        assert answer.status_code == 200
        assert answer.json()["status"] == "ok"
    finally:
        await up.kill()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--demo"),
        (["--demo", "--chain-grpc", "127.0.0.1:1"], "leave"),
        (["--once", "--chain-grpc", "127.0.0.1:1"], "--demo"),
    ],
)
async def test_a_wrong_combination_is_one_clear_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    up = Process(["up", *arguments], tmp_path / "up.log", announces=False)
    await up.start()
    assert await up.ended() == 1
    assert said in (tmp_path / "up.log").read_text()
    assert "Traceback" not in (tmp_path / "up.log").read_text()


async def test_the_demo_ends_with_an_included_transaction(tmp_path: Path) -> None:
    demo = Process(["up", "--demo", "--once", "--engine", "cpu"], tmp_path / "demo.log", announces=False)
    await demo.start()
    try:
        async with asyncio.timeout(110):
            assert demo.process is not None
            assert await demo.process.wait() == 0
    finally:
        await demo.kill()
    shown = (tmp_path / "demo.log").read_text()
    assert "agent ← completed" in shown
    assert "code 0" in shown
    assert json.dumps("5-107") in shown
