"""What the subcommands that talk to a coordinator share: the --coordinator option, and the way into asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from hashfleet.client import DEFAULT_ADDRESS, FleetClient

_ResultT = TypeVar("_ResultT")

coordinator_option = click.option(
    "--coordinator",
    metavar="HOST:PORT",
    envvar="HASHFLEET_COORDINATOR",
    default=DEFAULT_ADDRESS,
    show_default=True,
    show_envvar=True,
    help="Where the coordinator listens for gRPC.",
)


def ask(address: str, question: Callable[[FleetClient], Awaitable[_ResultT]]) -> _ResultT:
    """Open a client for `address`, await `question` with it, and close it. Raises what the question raises."""

    async def asked() -> _ResultT:
        async with FleetClient(address) as fleet:
            return await question(fleet)

    return asyncio.run(asked())
