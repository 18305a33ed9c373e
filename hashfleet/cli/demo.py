"""The main job, shown: one MCP call, hashing, one included transaction; all of it asked over MCP, as agents do."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from rich.console import Console
from rich.markup import escape

from hashfleet.cli.quantity import show_rate
from hashfleet.errors import HashfleetError

#: The public test mnemonic of BIP-39; the demo scenario of the devnet registers its address. Never fund it.
DEMO_MNEMONIC = " ".join(["abandon"] * 11 + ["about"])
POLL_SECONDS = 0.5
#: A demo that takes longer has failed; the work is chosen to take seconds on one CPU core.
PATIENCE_SECONDS = 110.0
#: A coordinator that crashed is back within seconds.
RECONNECT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class DemoJob:
    """What the demo asks for."""

    action_type: str
    entity_id: str
    player_id: str


#: A starfighter that waits some blocks for difficulty 6, then takes a CPU core some seconds.
DEMO_JOB = DemoJob("struct_build_complete", "5-107", "1-11")


async def run_demo(job: DemoJob, mcp_url: str, rpc_url: str, console: Console) -> dict[str, Any]:
    """Start the job, follow it to the end, check the result independently; returns the final status.

    Raises HashfleetError if it does not complete, or if proof or transaction do not stand up.
    """
    arguments = {"action_type": job.action_type, "entity_id": job.entity_id, "player_id": job.player_id}
    _say(console, "→", f"structs_calculate_proof_of_work {json.dumps(arguments)}")
    started = await _call(mcp_url, "structs_calculate_proof_of_work", arguments)
    _say(console, "←", f"{started['job_id']} {started['status']}")
    status = await _follow(mcp_url, started["job_id"], console)
    if status["status"] != "completed":
        raise HashfleetError(f"the demo job is {status['status']}: {status.get('error', 'no reason given')}")
    await _show_result(status, rpc_url, console)
    return status


async def _call(mcp_url: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """One tool call over a connection of its own; tried again while the coordinator is being restarted."""
    deadline = asyncio.get_running_loop().time() + RECONNECT_SECONDS
    while True:
        try:
            async with Client(streamable_http_client(mcp_url)) as agent:
                result = await agent.call_tool(tool, arguments)
                break
        except BaseExceptionGroup as group:
            if group.split(httpx2.HTTPError)[1] is not None:
                raise
            if asyncio.get_running_loop().time() > deadline:
                raise HashfleetError(f"nothing answers at {mcp_url} for {RECONNECT_SECONDS:.0f} s") from group
        await asyncio.sleep(POLL_SECONDS)
    if result.is_error or result.structured_content is None:
        raise HashfleetError(f"{tool} failed: {result.content}")
    answer: dict[str, Any] = result.structured_content
    return answer


def _say(console: Console, arrow: str, text: str) -> None:
    console.print(f"[bold]agent {arrow}[/] {escape(text)}", soft_wrap=True)


async def _follow(mcp_url: str, job_id: str, console: Console) -> dict[str, Any]:
    """Poll the status tool until the job is over; show the state whenever it changes, the progress in between."""
    shown = ""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    with console.status("starting") as line:
        while asyncio.get_running_loop().time() < deadline:
            status = await _call(mcp_url, "structs_query_proof_of_work_status", {"job_id": job_id})
            if status["status"] != shown:
                shown = status["status"]
                _say(console, "←", _described(status))
            if shown in ("completed", "failed", "cancelled"):
                return status
            line.update(_described(status))
            await asyncio.sleep(POLL_SECONDS)
    raise HashfleetError(f"the demo job is still {shown} after {PATIENCE_SECONDS:.0f} s")


def _described(status: dict[str, Any]) -> str:
    words = [status["status"]]
    if waiting := status.get("waiting_info"):
        words.append(
            f"age {waiting['current_age']}, difficulty {waiting['difficulty']}; hashing starts at age "
            f"{waiting['target_age']}, difficulty {waiting['target_difficulty']}, "
            f"in {waiting['blocks_remaining']} blocks"
        )
    elif (progress := status.get("progress")) and status["status"] == "running":
        words.append(f"{progress['hashes']:,} hashes, {show_rate(progress['hash_rate'])}")
        if (eta := progress.get("eta_seconds")) is not None:
            words.append(f"expected in {eta:.0f} s")
    return ", ".join(words)


async def _show_result(status: dict[str, Any], rpc_url: str, console: Console) -> None:
    """Print proof and transaction, each after a check of our own: hashlib, and the chain's own answer."""
    proof, transaction = status["result"]["proof_of_work"], status["result"]["transaction"]
    tx_hash = transaction["transaction_hash"]
    async with httpx2.AsyncClient(timeout=5.0) as http:
        answer = (await http.get(f"{rpc_url}/tx", params={"hash": f"0x{tx_hash}"})).json()
    included = answer.get("result")
    if not included or included["tx_result"]["code"] != 0:
        raise HashfleetError(f"the chain does not show transaction {tx_hash} as successful: {answer}")
    if not proof["valid"]:
        raise HashfleetError("the proof does not hash to what the status says")
    console.print(f"proof        {proof['hash']}", soft_wrap=True)
    console.print(f"nonce        {proof['nonce']}  ({proof['iterations']:,} hashes, {proof['computation_time_ms']} ms)")
    console.print(f"transaction  {tx_hash}", soft_wrap=True)
    console.print(f"included     block {included['height']}, code {included['tx_result']['code']}")
