"""/mcp and /healthz over a real HTTP server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import uvicorn
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from coordinator.api.http import MAX_BODY_BYTES, build_app
from hashfleet.client import FleetClient
from hashfleet.rpc.hashfleet.v1 import job_pb2

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"},
    },
}
MODERN_LIST = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/list",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}
ACCEPT = {"Accept": "application/json, text/event-stream"}
MODERN = ACCEPT | {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}


@asynccontextmanager
async def served(coordinator: Any, *allowed_hosts: str) -> AsyncIterator[str]:
    """The app on a free port of this machine; yields its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with FleetClient(coordinator.address) as fleet:
            config = uvicorn.Config(build_app(fleet, allowed_hosts), log_level="warning", lifespan="on")
            server = uvicorn.Server(config)
            running = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
                await running


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
async def test_a_proof_is_started_and_looked_at_over_http(scripted_coordinator: Any, mode: str) -> None:
    async with served(scripted_coordinator) as url, Client(streamable_http_client(f"{url}/mcp"), mode=mode) as client:
        listed = await client.list_tools()
        started = await client.call_tool(
            "structs_calculate_proof_of_work",
            {"action_type": "struct_build_complete", "entity_id": "5-28", "player_id": "1-11"},
        )
        assert started.structured_content is not None
        status = await client.call_tool(
            "structs_query_proof_of_work_status", {"job_id": started.structured_content["job_id"]}
        )
    assert len(listed.tools) == 9
    assert status.structured_content == {
        "job_id": "pow_0001",
        "status": "queued",
        "started_at": "2026-08-01T12:00:00.250Z",
    }


async def test_unknown_arguments_are_refused_over_http(scripted_coordinator: Any) -> None:
    async with served(scripted_coordinator) as url, Client(streamable_http_client(f"{url}/mcp")) as client:
        result = await client.call_tool("structs_fleet_status", {"verbose": True})
    assert result.is_error
    assert result.content[0].text == "unknown argument 'verbose'; structs_fleet_status takes no arguments"


async def posted(url: str, headers: dict[str, str], body: dict[str, Any]) -> httpx2.Response:
    async with httpx2.AsyncClient() as client:
        return await client.post(f"{url}/mcp", json=body, headers=headers)


@pytest.mark.parametrize(("headers", "body"), [(ACCEPT, INITIALIZE), (MODERN, MODERN_LIST)], ids=["legacy", "modern"])
@pytest.mark.parametrize(
    ("named", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:7338"}, 200),
        ({"Host": "[::1]:7338"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "fleet.example.com"}, 200),
        ({"Host": "evil.example.com:7338"}, 421),
        ({"Host": "localhost.evil.example.com:7338"}, 421),
        ({"Host": "fleet.example.com:7338"}, 421),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "https://fleet.example.com"}, 200),
        ({"Origin": "http://evil.example.com"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_only_known_hosts_and_origins_are_served(
    scripted_coordinator: Any, headers: dict[str, str], body: dict[str, Any], named: dict[str, str], status: int
) -> None:
    async with served(scripted_coordinator, "fleet.example.com") as url:
        response = await posted(url, headers | named, body)
    assert response.status_code == status, response.text


async def test_a_body_too_long_is_refused(scripted_coordinator: Any) -> None:
    async with served(scripted_coordinator) as url:
        response = await posted(url, ACCEPT, INITIALIZE | {"padding": "x" * MAX_BODY_BYTES})
    assert response.status_code == 413


async def test_an_agent_keeps_its_connection_over_a_restart(
    scripted_coordinator: Any, waiting_job: job_pb2.Job
) -> None:
    """No session is kept: what a first server promised, a second one on the same coordinator serves."""
    scripted_coordinator.put(waiting_job)
    call = {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "tools/call",
        "params": {"name": "structs_query_proof_of_work_status", "arguments": {"job_id": "pow_0001"}},
    }
    headers = ACCEPT | {"MCP-Protocol-Version": "2025-11-25"}
    async with served(scripted_coordinator) as url:
        first = await posted(url, ACCEPT, INITIALIZE)
    async with served(scripted_coordinator) as url:
        second = await posted(url, headers, call)
    assert first.status_code == 200
    assert second.json()["result"]["structuredContent"]["status"] == "waiting"


async def test_health_is_ok_while_the_coordinator_answers(scripted_coordinator: Any, busy_fleet: Any) -> None:
    scripted_coordinator.fleet = busy_fleet
    async with served(scripted_coordinator) as url, httpx2.AsyncClient() as client:
        response = await client.get(f"{url}/healthz", headers={"Host": "10.1.2.3:7338"})
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "version": "0.1.0", "chain_connected": True}


async def test_health_is_503_while_it_does_not(scripted_coordinator: Any) -> None:
    scripted_coordinator.stop()
    async with served(scripted_coordinator) as url, httpx2.AsyncClient() as client:
        response = await client.get(f"{url}/healthz")
    assert response.status_code == 503
    assert scripted_coordinator.address in response.json()["error"]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_a_wait_for_the_end_that_asks_for_progress_is_answered_over_http(
    scripted_coordinator: Any, completed_job: job_pb2.Job, mode: str
) -> None:
    scripted_coordinator.put(completed_job)

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        """An answer over HTTP is one JSON body, so there is nothing to hear; the call must not break on it."""

    async with served(scripted_coordinator) as url, Client(streamable_http_client(f"{url}/mcp"), mode=mode) as client:
        status = await client.call_tool(
            "structs_query_proof_of_work_status", {"job_id": "pow_0001", "wait_seconds": 9}, progress_callback=hear
        )
    assert status.structured_content is not None
    assert status.structured_content["status"] == "completed"
