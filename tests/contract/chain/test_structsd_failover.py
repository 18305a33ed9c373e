"""Two nodes as one: who is asked, what a switch may not change, and what an uncertain broadcast still means."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from coordinator.chain.client import TxAnswer
from coordinator.chain.endpoint_choice import EndpointState
from coordinator.chain.failover import FailoverClient
from hashfleet.action import Action
from hashfleet.errors import BadChainAnswer, ChainUnavailable, InvalidInput, KeyProblem, WorkGone
from hashfleet.rpc.cosmos.base.abci.v1beta1 import abci_pb2

ADDRESS = "structs19rl4cm2hmr8afy4kldpxz3fka4jguq0acpz60a"
TX = b"signed bytes"
TX_HASH = hashlib.sha256(TX).hexdigest().upper()
AWAY = (grpc.StatusCode.UNAVAILABLE, "restarting")


class Pair:
    """Two scripted nodes of one chain, the first over gRPC and the second over REST, and clients of both."""

    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second = first, second
        self._clients: list[FailoverClient] = []

    async def connected(self, *, chain_id: str | None = "devnet-1", rpcs: bool = False, **options: Any) -> Any:
        made = FailoverClient.of(
            [f"127.0.0.1:{self.first.grpc_port}"],
            [self.second.rest_url],
            [self.first.rpc_url, self.second.rpc_url] if rpcs else [],
            chain_id,
            **{"poll_seconds": 0.01, "silence_seconds": 5.0, "probe_seconds": 600.0, **options},
        )
        self._clients.append(made)
        await made.connect()
        return made

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


@pytest.fixture
async def pair(make_chain: Any) -> AsyncIterator[Pair]:
    made = Pair(await make_chain(), await make_chain())
    yield made
    await made.close()


def states(client: FailoverClient) -> list[EndpointState]:
    return [status.state for status in client.endpoints()]


async def until(client: FailoverClient, expected: list[EndpointState]) -> None:
    """Until probes have found these states; ten seconds at most."""
    for _ in range(1000):
        if states(client) == expected:
            return
        await asyncio.sleep(0.01)
    assert states(client) == expected


async def height_of(blocks: Any) -> int:
    async with asyncio.timeout(20):
        return int((await anext(blocks)).height)


# Who is asked


async def test_the_first_node_is_asked_while_it_is_well(pair: Pair) -> None:
    client = await pair.connected()
    pair.second.node.calls.clear()
    await client.read_work(Action.MINE, "5-14")
    await client.account(ADDRESS)
    assert pair.second.node.calls == []
    assert states(client) == [EndpointState.HEALTHY, EndpointState.HEALTHY]


async def test_a_call_that_fails_goes_on_to_the_next_node(pair: Pair) -> None:
    client = await pair.connected()
    await pair.first.stop_grpc()
    assert (await client.read_work(Action.MINE, "5-14")).work.anchor == 1290000
    assert states(client) == [EndpointState.FAILING, EndpointState.HEALTHY]
    assert "127.0.0.1" in client.endpoints()[0].error


async def test_a_node_that_hangs_costs_half_of_the_time_limit_once(pair: Pair) -> None:
    client = await pair.connected(call_timeout=0.4)
    pair.first.node.before["Struct"] = asyncio.Event().wait
    assert (await client.read_work(Action.BUILD, "5-28")).work.anchor == 1283950
    pair.first.node.calls.clear()
    await client.read_work(Action.BUILD, "5-28")
    assert "Struct" not in pair.first.node.calls


async def test_a_node_that_garbles_one_answer_is_passed_over_for_it(pair: Pair) -> None:
    client = await pair.connected()
    pair.first.node.structs["5-14"].Struct.type = 0
    assert (await client.read_work(Action.MINE, "5-14")).work.anchor == 1290000
    assert states(client) == [EndpointState.HEALTHY, EndpointState.HEALTHY]


async def test_what_a_node_says_about_the_object_is_an_answer(pair: Pair) -> None:
    client = await pair.connected()
    del pair.first.node.structs["5-28"]
    with pytest.raises(WorkGone):
        await client.read_work(Action.BUILD, "5-28")
    del pair.first.node.accounts[ADDRESS]
    with pytest.raises(KeyProblem):
        await client.account(ADDRESS)


async def test_if_no_node_answers_all_are_named(pair: Pair) -> None:
    client = await pair.connected()
    for chain in (pair.first, pair.second):
        chain.node.faults["Struct"] = AWAY
    with pytest.raises(ChainUnavailable) as failure:
        await client.read_work(Action.BUILD, "5-28")
    assert str(pair.first.grpc_port) in str(failure.value)
    assert str(pair.second.gateway.port) in str(failure.value)


async def test_a_node_that_came_back_is_found_by_a_probe_and_asked_first_again(pair: Pair) -> None:
    client = await pair.connected(probe_seconds=0.02)
    pair.first.node.faults["Struct"] = AWAY
    await client.read_work(Action.BUILD, "5-28")
    del pair.first.node.faults["Struct"]
    await until(client, [EndpointState.HEALTHY, EndpointState.HEALTHY])
    pair.second.node.calls.clear()
    await client.read_work(Action.BUILD, "5-28")
    assert "Struct" not in pair.second.node.calls


async def test_a_node_that_falls_behind_is_told_by_a_probe_and_asked_last(pair: Pair) -> None:
    client = await pair.connected(probe_seconds=0.02)
    pair.second.node.height += 2
    await until(client, [EndpointState.STALE, EndpointState.HEALTHY])
    pair.first.node.calls.clear()
    await client.read_work(Action.BUILD, "5-28")
    assert "Struct" not in pair.first.node.calls


async def test_a_node_that_begins_to_catch_up_is_told_by_a_probe_and_asked_last_until_it_has(pair: Pair) -> None:
    client = await pair.connected(probe_seconds=0.02)
    pair.first.node.syncing = True
    await until(client, [EndpointState.STALE, EndpointState.HEALTHY])
    assert "catching up" in client.endpoints()[0].error
    pair.first.node.calls.clear()
    await client.read_work(Action.BUILD, "5-28")
    assert "Struct" not in pair.first.node.calls
    pair.first.node.syncing = False
    await until(client, [EndpointState.HEALTHY, EndpointState.HEALTHY])
    assert client.endpoints()[0].error == ""


async def test_if_all_nodes_are_catching_up_nothing_is_read(pair: Pair) -> None:
    for chain in (pair.first, pair.second):
        chain.node.syncing = True
    client = await pair.connected()
    with pytest.raises(ChainUnavailable, match="is catching up with the chain"):
        await client.read_work(Action.BUILD, "5-28")
    assert states(client) == [EndpointState.STALE, EndpointState.STALE]


async def test_a_probe_needs_no_more_than_the_latest_block(pair: Pair) -> None:
    pair.first.node.faults["GetBlockHeight"] = (grpc.StatusCode.UNIMPLEMENTED, "unknown method")
    client = await pair.connected(probe_seconds=0.02)
    pair.second.node.height += 2
    await until(client, [EndpointState.STALE, EndpointState.HEALTHY])
    assert client.endpoints()[0].height == 1310000


async def test_one_node_that_answers_is_enough_to_connect(pair: Pair) -> None:
    await pair.first.stop_grpc()
    client = await pair.connected()
    assert client.chain_id == "devnet-1"
    assert (await client.latest_block()).height == 1310000


async def test_without_any_node_connecting_fails_and_can_be_tried_again(pair: Pair) -> None:
    for chain in (pair.first, pair.second):
        await chain.stop_grpc()
    with pytest.raises(ChainUnavailable):
        await pair.connected()
    for chain in (pair.first, pair.second):
        await chain.start_grpc()
    await pair.connected()


@pytest.mark.parametrize("count", [0, 17])
def test_none_and_too_many_nodes_are_refused(count: int) -> None:
    with pytest.raises(InvalidInput, match="1 to 16"):
        FailoverClient.of([f"127.0.0.1:{9000 + number}" for number in range(count)], [], [], None)


# One chain


@pytest.mark.parametrize("expected", ["devnet-1", None])
async def test_a_node_of_another_chain_is_refused_named_and_never_asked(pair: Pair, expected: str | None) -> None:
    pair.second.node.chain_id = "devnet-2"
    client = await pair.connected(chain_id=expected)
    assert client.chain_id == "devnet-1"
    assert states(client) == [EndpointState.HEALTHY, EndpointState.REFUSED]
    assert "'devnet-2'" in client.endpoints()[1].error
    pair.first.node.faults["Struct"] = AWAY
    pair.second.node.calls.clear()
    with pytest.raises(ChainUnavailable):
        await client.read_work(Action.BUILD, "5-28")
    assert pair.second.node.calls == []


async def test_a_node_that_answers_some_queries_only_stays_failing(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    client = await pair.connected()
    for chain in (pair.first, pair.second):
        chain.node.faults["Struct"] = AWAY
    for _ in range(3):
        with pytest.raises(ChainUnavailable):
            await client.read_work(Action.BUILD, "5-28")
    assert states(client) == [EndpointState.FAILING, EndpointState.FAILING]
    assert len([record for record in caplog.records if " fails: " in record.getMessage()]) == 2


async def test_if_every_node_is_of_another_chain_connecting_says_so(pair: Pair) -> None:
    with pytest.raises(BadChainAnswer, match=r"'devnet-1'.*'structstestnet-111'"):
        await pair.connected(chain_id="structstestnet-111")


async def test_a_node_that_comes_back_as_another_chain_is_refused(pair: Pair) -> None:
    client = await pair.connected()
    await pair.first.stop_grpc()
    await client.read_work(Action.BUILD, "5-28")
    pair.first.node.chain_id = "devnet-2"
    await pair.first.start_grpc()
    pair.second.node.faults["Struct"] = AWAY
    async with asyncio.timeout(20):
        while states(client)[0] is not EndpointState.REFUSED:
            with contextlib.suppress(ChainUnavailable):
                await client.read_work(Action.BUILD, "5-28")
            await asyncio.sleep(0.05)
    assert "Struct" not in pair.first.node.calls


async def test_a_node_swapped_for_one_of_another_chain_is_refused_though_no_call_failed(pair: Pair) -> None:
    client = await pair.connected(probe_seconds=0.02)
    pair.first.node.chain_id = "devnet-2"
    await until(client, [EndpointState.REFUSED, EndpointState.HEALTHY])
    pair.first.node.calls.clear()
    await client.read_work(Action.BUILD, "5-28")
    assert "Struct" not in pair.first.node.calls


async def test_of_several_rpcs_one_of_another_chain_is_not_used(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.first.rpc.network = "devnet-2"
    client = await pair.connected(rpcs=True)
    assert any("devnet-2" in record.getMessage() for record in caplog.records)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await height_of(blocks)
        await pair.second.rpc.wait_for_subscriptions(1)
    assert pair.first.rpc.subscriptions == 0


# Heights


async def test_heights_never_go_back_when_the_node_changes(pair: Pair) -> None:
    pair.second.node.height = 1309998
    client = await pair.connected()
    async with contextlib.aclosing(client.blocks()) as blocks:
        assert await height_of(blocks) == 1310000
        await pair.first.stop_grpc()
        assert (await client.latest_block()).height == 1310000
        waiting = asyncio.ensure_future(height_of(blocks))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        pair.second.node.height = 1310001
        assert await waiting == 1310001


async def test_nothing_is_read_from_a_node_that_has_not_reached_the_newest_block(pair: Pair) -> None:
    pair.second.node.height = 1309999
    client = await pair.connected()
    async with contextlib.aclosing(client.blocks()) as blocks:
        await height_of(blocks)
        await pair.first.stop_grpc()
        del pair.second.node.structs["5-28"]
        for call in (
            client.read_work(Action.MINE, "5-14"),
            client.read_work(Action.BUILD, "5-28"),  # gone there, or not there yet
            client.account(ADDRESS),
            client.account("structs1nobody"),
            client.find_transaction(TX_HASH),
        ):
            with pytest.raises(ChainUnavailable):
                await call


async def test_a_node_that_has_not_reached_the_newest_block_is_passed_over_and_stays_well(pair: Pair) -> None:
    client = await pair.connected(rpcs=True)
    await pair.first.rpc.stop()  # so that blocks are told by the second alone
    async with contextlib.aclosing(client.blocks()) as blocks:
        await height_of(blocks)
        waiting = asyncio.ensure_future(height_of(blocks))
        await pair.second.rpc.wait_for_subscriptions(1)
        await pair.second.rpc.announce(1310001)
        assert await waiting == 1310001
        read = await asyncio.gather(*(client.read_work(Action.BUILD, "5-28") for _ in range(8)))
    assert {reading.work.anchor for reading in read} == {1283950}
    assert states(client)[0] is EndpointState.HEALTHY
    assert "Struct" in pair.first.node.calls


async def test_a_node_whose_answers_change_while_they_are_read_stays_well(pair: Pair) -> None:
    client = await pair.connected()
    for chain in (pair.first, pair.second):
        chain.node.planet.locationListStart = ""
        chain.node.version = "v0.21.0"
        chain.node.clocks = {"blockStartOreMine": 1300100}

    async def new_shield() -> None:
        pair.first.node.shield += 1

    pair.first.node.before["PlanetAttribute"] = new_shield
    assert (await client.read_work(Action.MINE, "5-14")).work.anchor == 1300100
    assert states(client)[0] is EndpointState.HEALTHY


async def test_a_lost_subscription_goes_on_at_the_next_rpc(pair: Pair) -> None:
    client = await pair.connected(rpcs=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await height_of(blocks)
        await pair.first.rpc.wait_for_subscriptions(1)
        await pair.first.rpc.stop()
        pair.second.node.height = 1310001
        pair.first.node.height = 1310001
        assert await height_of(blocks) == 1310001
        waiting = asyncio.ensure_future(height_of(blocks))
        await pair.second.rpc.wait_for_subscriptions(1)
        await pair.second.rpc.announce(1310002)
        assert await waiting == 1310002


# Transactions


async def test_a_broadcast_goes_to_one_node_only_if_that_answers(pair: Pair) -> None:
    client = await pair.connected()
    assert await client.broadcast(TX) == TxAnswer(TX_HASH, 0, "", "")
    assert (pair.first.node.offered, pair.second.node.offered) == ([TX], [])


async def test_a_broadcast_without_an_answer_offers_the_same_bytes_to_the_next_node(pair: Pair) -> None:
    client = await pair.connected()
    pair.first.node.faults["BroadcastTx"] = AWAY
    assert (await client.broadcast(TX)).code == 0
    assert (pair.first.node.offered, pair.second.node.offered) == ([TX], [TX])


async def test_after_an_uncertain_answer_already_known_is_good_news(pair: Pair) -> None:
    client = await pair.connected()
    pair.first.node.faults["BroadcastTx"] = AWAY
    pair.second.node.broadcast_answer = (19, "sdk", "tx already in mempool")
    assert (await client.broadcast(TX)).code == 19


@pytest.mark.parametrize(("code", "codespace"), [(32, "sdk"), (2031, "structs-ante"), (30, "sdk")])
async def test_after_an_uncertain_answer_a_refusal_leaves_it_uncertain(pair: Pair, code: int, codespace: str) -> None:
    client = await pair.connected()
    pair.first.node.faults["BroadcastTx"] = AWAY
    pair.second.node.broadcast_answer = (code, codespace, "no")
    with pytest.raises(ChainUnavailable, match="does not tell that it cannot land"):
        await client.broadcast(TX)


async def test_a_refusal_by_the_first_node_is_final(pair: Pair) -> None:
    client = await pair.connected()
    pair.first.node.broadcast_answer = (32, "sdk", "account sequence mismatch, expected 42, got 41")
    assert (await client.broadcast(TX)).code == 32
    assert pair.second.node.offered == []


@pytest.mark.parametrize(("code", "codespace"), [(20, "sdk"), (2041, "structs-ante")])
async def test_a_node_without_room_is_passed_over(pair: Pair, code: int, codespace: str) -> None:
    client = await pair.connected()
    pair.first.node.broadcast_answer = (code, codespace, "full")
    assert (await client.broadcast(TX)).code == 0
    pair.second.node.broadcast_answer = (code, codespace, "full, too")
    assert (await client.broadcast(TX)).log == "full"


async def test_a_transaction_that_one_node_lacks_is_looked_for_at_the_other(pair: Pair) -> None:
    client = await pair.connected()
    assert await client.find_transaction(TX_HASH) is None
    pair.second.node.transactions[TX_HASH] = abci_pb2.TxResponse(txhash=TX_HASH, height=1310000)
    assert await client.find_transaction(TX_HASH) == TxAnswer(TX_HASH, 0, "", "", 1310000)
    pair.first.node.faults["GetTx"] = AWAY
    assert await client.find_transaction(TX_HASH) == TxAnswer(TX_HASH, 0, "", "", 1310000)


async def test_a_failed_second_lookup_does_not_undo_the_first(pair: Pair) -> None:
    client = await pair.connected()
    pair.second.node.faults["GetTx"] = AWAY
    assert await client.find_transaction(TX_HASH) is None


async def test_the_version_of_each_node_is_told_once_it_was_needed(pair: Pair) -> None:
    client = await pair.connected()
    await client.read_work(Action.MINE, "5-14")
    assert [status.version for status in client.endpoints()] == ["v0.20.0", ""]
    assert [status.name.split()[0] for status in client.endpoints()] == ["gRPC", "REST"]


async def test_closing_ends_calls_probes_and_blocks(pair: Pair) -> None:
    client = await pair.connected(probe_seconds=0.01)
    blocks = client.blocks()
    await height_of(blocks)
    waiting = asyncio.ensure_future(anext(blocks, None))
    await asyncio.sleep(0)
    await client.close()
    async with asyncio.timeout(20):
        assert await waiting is None
    with pytest.raises(ChainUnavailable):
        await client.latest_block()
    with pytest.raises(ChainUnavailable, match="closed"):
        await client.connect()
