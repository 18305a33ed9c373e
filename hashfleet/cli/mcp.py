"""`hashfleet mcp`: the MCP tools over stdio, for an agent that starts its tools as child processes."""

from __future__ import annotations

import logging
import sys

import click
from mcp.server.stdio import stdio_server

from coordinator.api.mcp import build_server
from hashfleet.cli.connection import ask, coordinator_option
from hashfleet.client import FleetClient


@click.command("mcp")
@coordinator_option
def command(coordinator: str) -> None:
    """Serve MCP over stdin and stdout until stdin is closed; messages for people go to stderr.

    The coordinator need not run yet: while it cannot be reached, the tools say so.
    """
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    ask(coordinator, _serve)


async def _serve(fleet: FleetClient) -> None:
    server = build_server(fleet)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())
