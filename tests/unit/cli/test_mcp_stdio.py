"""`hashfleet mcp` as an agent starts it: a child process that speaks MCP over stdio."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client


def server(address: str) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable, args=["-m", "hashfleet.cli.main", "mcp"], env={"HASHFLEET_COORDINATOR": address}
    )


async def test_a_proof_is_started_over_stdio_and_an_outage_is_told(scripted_coordinator: Any) -> None:
    async with Client(stdio_client(server(scripted_coordinator.address))) as client:
        started = await client.call_tool(
            "structs_calculate_proof_of_work",
            {"action_type": "struct_build_complete", "entity_id": "5-28", "player_id": "1-11"},
        )
        scripted_coordinator.stop()
        outage = await client.call_tool("structs_fleet_status")
    assert started.structured_content is not None
    assert started.structured_content["job_id"] == "pow_0001"
    assert outage.is_error
    assert f"no coordinator answers at {scripted_coordinator.address}" in outage.content[0].text


def test_it_ends_when_stdin_is_closed() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "hashfleet.cli.main", "mcp"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (0, "")


def test_an_address_that_cannot_be_right_is_told_at_once() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "hashfleet.cli.main", "mcp", "--coordinator", "nowhere"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert (
        ended.stderr
        == "hashfleet: the coordinator's address is 'nowhere'; it should be HOST:PORT such as 127.0.0.1:7337\n"
    )
