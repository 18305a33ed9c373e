"""Connections that go dead without a word, and readings that would take for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from coordinator.chain.rest_transport import RestTransport
from coordinator.chain.structsd import StructsdClient
from hashfleet.action import Action
from hashfleet.errors import ChainUnavailable

ADDRESS = "structs19rl4cm2hmr8afy4kldpxz3fka4jguq0acpz60a"
LIMIT = 0.5


@pytest.fixture
async def made() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def client_of(way: str, port: int, made: AsyncExitStack) -> StructsdClient:
    node = f"127.0.0.1:{port}" if way == "grpc" else RestTransport(f"http://127.0.0.1:{port}", timeout=LIMIT)
    client = StructsdClient(node, None, "devnet-1", call_timeout=LIMIT)
    made.push_async_callback(client.close)
    await client.connect()
    return client


async def until_it_answers(ask: Callable[[], Awaitable[object]]) -> int:
    """How many calls failed before one was answered; twenty at most."""
    for failed in range(20):
        try:
            await ask()
        except ChainUnavailable:
            continue
        return failed
    raise AssertionError("no call was answered")


@pytest.mark.parametrize("way", ["grpc", "rest"])
async def test_a_connection_that_goes_dead_without_a_word_is_made_anew(
    way: str, make_chain: Any, make_proxy: Any, made: AsyncExitStack
) -> None:
    chain = await make_chain()
    proxy = await make_proxy(chain.grpc_port if way == "grpc" else chain.gateway.port)
    client = await client_of(way, proxy.port, made)
    for _ in range(2):
        before = proxy.connections
        proxy.go_dead()
        assert await until_it_answers(lambda: client.read_work(Action.BUILD, "5-28")) <= 3
        assert proxy.connections > before


async def test_calls_that_fail_together_on_a_dead_connection_make_one_anew(
    make_chain: Any, make_proxy: Any, made: AsyncExitStack
) -> None:
    chain = await make_chain()
    proxy = await make_proxy(chain.grpc_port)
    client = await client_of("grpc", proxy.port, made)
    assert proxy.connections == 1
    proxy.go_dead()
    calls = (client.read_work(Action.BUILD, "5-28") for _ in range(16))
    assert all(isinstance(told, ChainUnavailable) for told in await asyncio.gather(*calls, return_exceptions=True))
    await client.read_work(Action.BUILD, "5-28")
    assert proxy.connections == 2


async def test_a_query_that_hangs_while_others_are_answered_does_not_cost_the_connection(
    make_chain: Any, make_proxy: Any, made: AsyncExitStack
) -> None:
    chain = await make_chain()
    proxy = await make_proxy(chain.grpc_port)
    client = await client_of("grpc", proxy.port, made)
    chain.node.before["Struct"] = asyncio.Event().wait
    for _ in range(3):
        with pytest.raises(ChainUnavailable):
            await client.read_work(Action.BUILD, "5-28")
        await client.latest_block()
    assert proxy.connections == 1


async def test_closing_ends_calls_on_a_connection_that_was_replaced(
    make_chain: Any, make_proxy: Any, made: AsyncExitStack
) -> None:
    chain = await make_chain()
    proxy = await make_proxy(chain.grpc_port)
    client = await client_of("grpc", proxy.port, made)
    proxy.go_dead()
    calls = []
    for _ in range(5):  # the first two get the channel replaced while the last are on the old one
        calls.append(asyncio.ensure_future(client.read_work(Action.BUILD, "5-28")))
        await asyncio.sleep(LIMIT / 3)
    async with asyncio.timeout(20):
        await client.close()
        told = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in told[:4]] == [ChainUnavailable] * 4
    with pytest.raises(ChainUnavailable):
        await client.latest_block()
    assert not [task for task in asyncio.all_tasks() if "old connection" in task.get_name()]


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.read_work(Action.MINE, "5-14"),
        lambda client: client.read_charter("1-7", "1-7"),
        lambda client: client.check_signer(ADDRESS, Action.RAID, "9-3"),
    ],
    ids=["work", "charter", "signer"],
)
async def test_a_reading_of_many_slow_answers_has_a_limit_of_its_own(
    ask: Callable[[StructsdClient], Awaitable[object]], make_chain: Any, made: AsyncExitStack
) -> None:
    chain = await make_chain()
    chain.node.version = "v0.21.0"
    chain.node.planet.locationListStart = ""
    chain.node.clocks = {"blockStartOreMine": 1300100}
    chain.node.permissions["1-3@1-7"] = 2**32 - 1
    client = await client_of("grpc", chain.grpc_port, made)
    for method in ("Struct", "StructType", "Planet", "Fleet", "Player", "PlanetAttribute", "GetNodeInfo",
                   "GuildCharter", "Address", "Permission"):  # fmt: skip
        chain.node.before[method] = lambda: asyncio.sleep(0.8 * LIMIT)
    with pytest.raises(ChainUnavailable):
        await ask(client)
    chain.node.before.clear()
    await ask(client)
