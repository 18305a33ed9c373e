"""Two nodes of one devnet: one chain and one mempool, two sets of doors, and what goes wrong at one of them only."""

from __future__ import annotations

import grpc
import httpx2
import pytest

from devnet.chain import MempoolRefusal
from devnet.doors import Doors
from devnet.faults import Moment
from devnet.node import Devnet
from hashfleet.action import Action


@pytest.fixture
async def world(served):
    return served


@pytest.fixture
async def second(world):
    """The second node of the world's devnet; both are open."""
    node = world.node.add_node(seed=1)
    await node.open()
    return node


async def height_at(node: Doors | Devnet) -> int:
    async with httpx2.AsyncClient(timeout=10) as http:
        return int((await http.get(f"{node.rest_url}/blockheight")).json()["blockHeight"])


async def announced_at(node: Doors | Devnet) -> int:
    async with httpx2.AsyncClient(timeout=10) as http:
        answer = (await http.get(f"{node.rpc_url}/status")).json()
        return int(answer["result"]["sync_info"]["latest_block_height"])


def attempt(world) -> bytes:
    return world.owner.sign(world.owner.completion(Action.BUILD, "5-1", "0", "1"))


async def test_both_nodes_tell_the_same_chain_at_addresses_of_their_own(world, second):
    await world.node.advance(3)
    assert await height_at(world.node) == await height_at(second) == await announced_at(second) == world.node.height
    first = world.node.nodes[0]
    assert len({first.grpc_address, second.grpc_address, first.rpc_url, second.rpc_url}) == 4


async def test_a_node_that_fell_behind_leaves_the_other_at_the_newest_block(world, second):
    await world.node.advance(3)
    second.faults.fall_behind(2)
    assert await height_at(world.node) == world.node.height
    assert await height_at(second) == await announced_at(second) == world.node.height - 2


async def test_only_the_node_that_was_told_to_drops_connections(world, second):
    world.node.faults.drop(Moment.BEFORE, times=None)
    assert await height_at(second) == world.node.height
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        await height_at(world.node)
    assert second.faults.happened == {}


async def test_what_one_node_admitted_the_other_has_too(world, second):
    raw = attempt(world)
    assert world.chain.broadcast(raw)[1].code == 0
    with pytest.raises(MempoolRefusal, match="already exists in cache"):
        world.chain.broadcast(raw, second.faults)


async def test_what_is_isolated_at_one_node_lands_once_the_other_is_offered_it(world, second):
    world.node.faults.isolate()
    raw = attempt(world)
    world.chain.broadcast(raw)
    await world.node.advance(2)
    assert world.chain.pending() == (raw,)
    assert world.chain.broadcast(raw, second.faults)[1].code == 0
    await world.node.advance()
    assert [tx.raw for tx in world.node.transactions()] == [raw]


async def test_a_node_that_goes_down_takes_only_what_nobody_else_knows(world, second):
    raw = attempt(world)
    world.chain.broadcast(raw)
    await world.node.restart(second)
    assert world.chain.pending() == (raw,)
    second.faults.isolate()
    other = world.owner.sign(world.owner.completion(Action.BUILD, "5-2", "0", "1"), sequence=1)
    assert world.chain.broadcast(other, second.faults)[1].code == 0
    await world.node.restart(second)
    assert world.chain.pending() == (raw,)


async def test_one_node_is_down_while_the_other_answers(world, second):
    await world.node.go_down(second)
    assert await height_at(world.node) == world.node.height
    async with grpc.aio.insecure_channel(world.node.grpc_address) as channel:
        await channel.channel_ready()
    with pytest.raises(httpx2.ConnectError):
        await height_at(second)
    await world.node.come_back(second)
    assert await height_at(second) == world.node.height
