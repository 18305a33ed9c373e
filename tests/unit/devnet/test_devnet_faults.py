"""Every fault that can be ordered takes place, where and as often as it was ordered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from base64 import b64encode

import grpc
import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from devnet.chain import MempoolRefusal
from devnet.faults import Door, Faults, Moment
from devnet.node import Devnet
from devnet.transactions import decode
from hashfleet.action import Action
from hashfleet.errors import InvalidInput
from hashfleet.rpc.cosmos.base.tendermint.v1beta1 import query_pb2 as comet_pb2
from hashfleet.rpc.cosmos.base.tendermint.v1beta1 import query_pb2_grpc as comet_grpc
from hashfleet.rpc.cosmos.tx.v1beta1 import service_pb2, service_pb2_grpc
from hashfleet.rpc.structs.structs import query_pb2, query_pb2_grpc

Code = grpc.StatusCode
SYNC = service_pb2.BROADCAST_MODE_SYNC
GONE = (httpx2.RemoteProtocolError, httpx2.ReadError)
CUT = (ConnectionClosed, InvalidHandshake, ConnectionError, EOFError)


class Client:
    """Asks one devnet at all of its doors."""

    def __init__(self, world, channel, http) -> None:
        self.world, self.node, self.chain, self.faults = world, world.node, world.chain, world.node.faults
        self._channel, self._http = channel, http

    def attempt(self, object_id="5-1", wallet=None) -> bytes:
        wallet = wallet or self.world.owner
        return wallet.sign(wallet.completion(Action.BUILD, object_id, "0", "1"))

    async def broadcast(self, raw: bytes):
        stub = service_pb2_grpc.ServiceStub(self._channel)
        return (await stub.BroadcastTx(service_pb2.BroadcastTxRequest(tx_bytes=raw, mode=SYNC))).tx_response

    async def found(self, hash_: str) -> bool:
        try:
            await service_pb2_grpc.ServiceStub(self._channel).GetTx(service_pb2.GetTxRequest(hash=hash_))
        except grpc.aio.AioRpcError as error:
            assert error.code() is Code.NOT_FOUND
            return False
        return True

    async def height(self) -> int:
        return (await query_pb2_grpc.QueryStub(self._channel).GetBlockHeight(query_pb2.QueryBlockHeight())).blockHeight

    async def rest_height(self) -> int:
        return int((await self._http.get(f"{self.node.rest_url}/blockheight")).json()["blockHeight"])

    async def rpc_height(self) -> int:
        answer = (await self._http.get(f"{self.node.rpc_url}/status")).json()
        return int(answer["result"]["sync_info"]["latest_block_height"])

    def websocket(self):
        return connect(self.node.rpc_url.replace("http", "ws") + "/websocket")

    @contextlib.asynccontextmanager
    async def blocks(self):
        """Reads announced heights."""
        async with self.websocket() as socket:
            request = {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": {"query": "tm.event='NewBlock'"}}
            await socket.send(json.dumps(request))
            assert json.loads(await socket.recv())["result"] == {}

            async def next_height() -> int:
                value = json.loads(await asyncio.wait_for(socket.recv(), 10))["result"]["data"]["value"]
                return int(value["block"]["header"]["height"])

            yield next_height


@pytest.fixture
async def client(served):
    async with grpc.aio.insecure_channel(served.node.grpc_address) as channel, httpx2.AsyncClient(timeout=10) as http:
        yield Client(served, channel, http)


# connections


async def test_a_grpc_request_is_dropped_before_it_is_read(client):
    client.faults.drop(doors=[Door.GRPC], calls=["BroadcastTx"])
    raw = client.attempt()
    assert await client.height() == 100_000  # another call
    with pytest.raises(grpc.aio.AioRpcError) as lost:
        await client.broadcast(raw)
    assert lost.value.code() is Code.UNAVAILABLE
    assert client.chain.pending() == ()
    assert (await client.broadcast(raw)).code == 0  # once was ordered
    assert client.faults.happened == {"drop": 1}


async def test_an_answer_over_grpc_is_dropped_after_the_work(client):
    client.faults.drop(Moment.AFTER, doors=[Door.GRPC], calls=["BroadcastTx"])
    raw = client.attempt()
    with pytest.raises(grpc.aio.AioRpcError):
        await client.broadcast(raw)
    assert client.chain.pending() == (raw,)
    assert ((await client.broadcast(raw)).codespace, (await client.broadcast(raw)).code) == ("sdk", 19)


@pytest.mark.parametrize(("moment", "pending"), [(Moment.BEFORE, 0), (Moment.AFTER, 1)])
async def test_rest_and_rpc_connections_are_cut_without_an_answer(client, moment, pending):
    raw = b64encode(client.attempt()).decode()
    client.faults.drop(moment, doors=[Door.REST], calls=["BroadcastTx"])
    with pytest.raises(GONE):
        body = {"tx_bytes": raw, "mode": "BROADCAST_MODE_SYNC"}
        await client._http.post(f"{client.node.rest_url}/cosmos/tx/v1beta1/txs", json=body)
    assert len(client.chain.pending()) == pending
    client.chain.forget_mempool()
    client.faults.drop(moment, doors=[Door.RPC], calls=["broadcast_tx_sync"])
    with pytest.raises(GONE):
        body = {"jsonrpc": "2.0", "id": 1, "method": "broadcast_tx_sync", "params": {"tx": raw}}
        await client._http.post(client.node.rpc_url, json=body)
    assert len(client.chain.pending()) == pending
    client.faults.drop(moment, doors=[Door.RPC])
    with pytest.raises(GONE):
        await client.rpc_height()
    assert await client.rpc_height() == await client.rest_height() == 100_000
    assert client.faults.happened["drop"] == 3


async def test_a_websocket_is_cut_when_it_connects_subscribes_or_is_told_a_block(client):
    client.faults.drop(doors=[Door.WEBSOCKET], calls=["connect"])
    with pytest.raises(CUT):
        async with client.websocket():
            pass
    client.faults.drop(doors=[Door.WEBSOCKET], calls=["subscribe"])
    with pytest.raises(CUT):
        async with client.blocks():
            pass
    client.faults.drop(doors=[Door.WEBSOCKET], calls=["event"])
    async with client.blocks() as next_height:
        await client.node.advance()
        with pytest.raises(CUT):
            await next_height()
    client.faults.drop(Moment.AFTER, doors=[Door.WEBSOCKET], calls=["event"])
    async with client.blocks() as next_height:
        await client.node.advance()
        assert await next_height() == 100_002
        with pytest.raises(CUT):
            await next_height()


async def test_open_websockets_can_be_cut_at_once(client):
    async with client.blocks() as next_height:
        client.node.cut(Door.WEBSOCKET)
        with pytest.raises(CUT):
            await next_height()
    assert client.node.nodes[0]._rpc_app.subscriptions.connections == set()


async def test_a_door_that_cannot_be_cut_says_so(client):
    with pytest.raises(InvalidInput, match="go_down"):
        client.node.cut(Door.GRPC)


async def test_a_slow_answer_comes_when_the_fault_is_cleared(client):
    client.faults.slow_down(doors=[Door.GRPC], calls=["GetBlockHeight"])
    slow = asyncio.create_task(client.height())
    await client.faults.occurred("slow_down")
    assert await client.rest_height() == 100_000
    assert not slow.done()
    client.faults.clear()
    assert await slow == 100_000


async def test_a_slow_answer_outlasts_the_clients_limit_but_the_work_is_done(client):
    client.faults.slow_down(doors=[Door.GRPC], calls=["BroadcastTx"])
    raw = client.attempt()
    stub = service_pb2_grpc.ServiceStub(client._channel)
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await stub.BroadcastTx(service_pb2.BroadcastTxRequest(tx_bytes=raw, mode=SYNC), timeout=0.2)
    assert late.value.code() is Code.DEADLINE_EXCEEDED
    assert client.chain.pending() == (raw,)


async def test_an_answer_can_be_slow_by_seconds(client):
    client.faults.slow_down(0.01, times=2)
    assert await client.height() == await client.rest_height() == 100_000
    assert client.faults.happened == {"slow_down": 2}


# the mempool


async def test_a_transaction_is_held_back_for_blocks(client):
    client.faults.hold_back(3)
    sent = await client.broadcast(client.attempt())
    for _ in range(3):
        await client.node.advance()
        assert not await client.found(sent.txhash)
    await client.node.advance()
    assert await client.found(sent.txhash)
    assert client.chain.find(sent.txhash).height == 100_004


async def test_what_follows_a_transaction_that_is_held_back_waits_for_it(client):
    client.faults.hold_back(2)
    first = await client.broadcast(client.attempt("5-1"))
    second = await client.broadcast(client.attempt("5-2"))
    await client.node.advance(2)
    assert client.node.transactions() == ()
    await client.node.advance()
    assert [tx.hash for tx in client.node.transactions()] == [first.txhash, second.txhash]


async def test_a_held_transaction_that_times_out_is_forgotten(client):
    owner = client.world.owner
    raw = owner.sign(owner.completion(Action.BUILD, "5-1", "0", "1"), body={"timeout_height": 100_001}, sequence=0)
    client.faults.hold_back(5)
    assert (await client.broadcast(raw)).code == 0
    await client.node.advance(2)
    assert client.chain.pending() == ()
    assert ((await client.broadcast(raw)).codespace, (await client.broadcast(raw)).code) == ("sdk", 30)


async def test_a_lost_transaction_is_answered_with_0_and_in_no_block_and_no_cache(client):
    client.faults.lose()
    raw = client.attempt()
    assert (await client.broadcast(raw)).code == 0
    await client.node.advance(2)
    assert client.node.transactions() == ()
    assert (await client.broadcast(raw)).code == 0  # not 19
    await client.node.advance()
    assert len(client.node.transactions()) == 1


async def test_what_follows_a_lost_transaction_is_thrown_out(client):
    client.faults.lose()
    await client.broadcast(client.attempt("5-1"))
    assert (await client.broadcast(client.attempt("5-2"))).code == 0
    await client.node.advance()
    assert (client.node.transactions(), client.chain.pending()) == ((), ())


async def test_an_isolated_transaction_stays_in_the_mempool_until_the_fault_is_cleared(client):
    client.faults.isolate()
    raw = client.attempt()
    sent = await client.broadcast(raw)
    await client.node.advance(5)
    assert client.chain.pending() == (raw,)
    assert (await client.broadcast(raw)).code == 19
    client.faults.clear()
    await client.node.advance()
    assert client.chain.find(sent.txhash).height == 100_006


async def test_the_mempool_is_full_for_everybody_until_it_is_cleared(client):
    client.faults.fill_mempool()
    raw = client.attempt()
    for _ in range(3):
        sent = await client.broadcast(raw)
        assert (sent.codespace, sent.code) == ("sdk", 20)
    client.faults.clear()
    assert (await client.broadcast(raw)).code == 0


async def test_a_full_mempool_is_an_error_of_the_rpc(client):
    client.faults.fill_mempool(times=1)
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "broadcast_tx_sync",
        "params": {"tx": b64encode(client.attempt()).decode()},
    }
    answer = (await client._http.post(client.node.rpc_url, json=body)).json()
    assert "mempool is full" in answer["error"]["data"]


async def test_any_answer_of_check_tx_can_be_ordered(client):
    client.faults.refuse(2041, "structs-ante", "too many", times=2)
    answers = [await client.broadcast(client.attempt("5-1")) for _ in range(2)]
    assert [(a.codespace, a.code, a.raw_log) for a in answers] == [("structs-ante", 2041, "too many")] * 2
    assert client.chain.pending() == ()


# sequences


async def test_another_client_with_the_key_makes_the_next_sequence_wrong(client, owner):
    client.node.use_sequence(owner.address)
    sent = await client.broadcast(client.attempt())
    assert (sent.codespace, sent.code) == ("sdk", 32)
    assert "expected 1, got 0" in sent.raw_log


async def test_what_waited_is_thrown_out_when_another_client_used_its_sequence(client, owner):
    raw = client.attempt()
    await client.broadcast(raw)
    client.node.use_sequence(owner.address, 2)
    assert client.chain.pending() == ()
    await client.node.advance()
    assert client.node.transactions() == ()
    assert "expected 2" in (await client.broadcast(raw)).raw_log


async def test_another_clients_transaction_may_stand_before_ours_in_the_block(client, owner):
    await client.broadcast(client.attempt())
    client.node.use_sequence(owner.address, evict=False)
    await client.node.advance()
    (tx,) = client.node.transactions()
    assert (tx.result.codespace, tx.result.code) == ("sdk", 32)
    assert client.chain.state.accounts[owner.address].sequence == 1


# what a node knows, and tells


async def test_a_stale_node_answers_from_blocks_ago_at_every_door(client, owner):
    await client.node.advance(5)
    sent = await client.broadcast(client.attempt())
    await client.node.advance()
    client.faults.fall_behind(2)
    assert [await client.height(), await client.rest_height(), await client.rpc_height()] == [100_004] * 3
    assert not await client.found(sent.txhash)
    await client.node.advance(2)
    assert await client.height() == 100_006
    assert await client.found(sent.txhash)
    client.faults.fall_behind(0)
    assert await client.height() == 100_008


async def test_a_stale_node_reads_the_state_of_then(client):
    client.world.stage(lambda stage: stage.set_player("1-11", ore=5))
    await client.node.advance()
    client.world.stage(lambda stage: stage.set_player("1-11", ore=6))
    client.faults.fall_behind(1)
    stub = query_pb2_grpc.QueryStub(client._channel)
    answer = await stub.Player(query_pb2.QueryGetPlayerRequest(id="1-11"))
    assert answer.gridAttributes.ore == 5


async def test_a_stale_node_announces_blocks_late(client):
    await client.node.advance(2)
    client.faults.fall_behind(2)
    async with client.blocks() as next_height:
        await client.node.advance(2)
        assert [await next_height() for _ in range(2)] == [100_001, 100_002]


async def test_a_transaction_is_found_late_if_the_index_lags(client):
    client.faults.lag_index(2)
    sent = await client.broadcast(client.attempt())
    await client.node.advance(2)
    assert not await client.found(sent.txhash)
    assert (await client._http.get(f"{client.node.rpc_url}/tx?hash=0x{sent.txhash}")).status_code == 500
    assert await client.height() == 100_002
    await client.node.advance()
    assert await client.found(sent.txhash)


async def test_another_chain_id_is_told_at_every_door(client):
    client.faults.tell_chain_id("other-7")
    stub = comet_grpc.ServiceStub(client._channel)
    info = await stub.GetNodeInfo(comet_pb2.GetNodeInfoRequest())
    latest = await stub.GetLatestBlock(comet_pb2.GetLatestBlockRequest())
    status = (await client._http.get(f"{client.node.rpc_url}/status")).json()
    path = "/cosmos/base/tendermint/v1beta1/node_info"
    rest = (await client._http.get(client.node.rest_url + path)).json()
    assert {
        info.default_node_info.network,
        latest.sdk_block.header.chain_id,
        status["result"]["node_info"]["network"],
        rest["default_node_info"]["network"],
    } == {"other-7"}
    client.faults.tell_chain_id(None)
    info = await stub.GetNodeInfo(comet_pb2.GetNodeInfoRequest())
    assert info.default_node_info.network == "hashfleet-devnet-1"


async def test_a_block_is_announced_again(client):
    client.faults.repeat_blocks()
    async with client.blocks() as next_height:
        await client.node.advance(2)
        assert [await next_height() for _ in range(3)] == [100_001, 100_001, 100_002]
        client.faults.repeat_blocks(back=2)
        await client.node.advance()
        assert [await next_height() for _ in range(2)] == [100_003, 100_001]


async def test_a_block_is_announced_to_nobody(client):
    client.faults.skip_blocks()
    async with client.blocks() as next_height:
        await client.node.advance(2)
        assert await next_height() == 100_002


async def test_blocks_are_announced_in_another_order(client):
    client.faults.shuffle_blocks(3)
    async with client.blocks() as next_height:
        await client.node.advance(3)
        heights = [await next_height() for _ in range(3)]
        assert heights != sorted(heights)
        assert sorted(heights) == [100_001, 100_002, 100_003]
        await client.node.advance(2)
        client.faults.clear()
        await client.node.advance()
        assert [await next_height() for _ in range(3)] == [100_004, 100_005, 100_006]


# the node itself


async def test_a_restart_loses_the_mempool_and_keeps_addresses_and_chain(client):
    await client.node.advance()
    await client.broadcast(client.attempt())
    before = client.node.grpc_address, client.node.rpc_url, client.node.rest_url
    await client.node.restart(blocks_meanwhile=2)
    assert (client.node.grpc_address, client.node.rpc_url, client.node.rest_url) == before
    assert client.chain.pending() == ()
    assert await client.rest_height() == await client.rpc_height() == 100_003


async def test_a_node_that_is_down_cannot_be_reached_until_it_is_back(client):
    await client.node.go_down()
    with pytest.raises(httpx2.ConnectError):
        await client.rest_height()
    with pytest.raises(httpx2.ConnectError):
        await client.rpc_height()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.height()
    assert refused.value.code() is Code.UNAVAILABLE
    await client.node.come_back()
    assert await client.rest_height() == await client.rpc_height() == 100_000
    stub = query_pb2_grpc.QueryStub(client._channel)
    assert (await stub.GetBlockHeight(query_pb2.QueryBlockHeight(), wait_for_ready=True)).blockHeight == 100_000


# chance


def test_the_same_seed_makes_the_same_faults():
    def history(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.lose(times=None, chance=0.3)
        return [faults.loses() for _ in range(200)]

    assert history(5) == history(5)
    assert history(5) != history(6)
    assert 30 < sum(history(5)) < 90


def test_a_fault_of_little_chance_is_not_used_up_by_luck():
    faults = Faults(1)
    faults.lose(times=3, chance=0.1)
    assert sum(faults.loses() for _ in range(1_000)) == 3


async def test_faults_take_the_devnets_seed():
    assert Devnet(seed=9).faults.random.random() == Faults(9).random.random()


async def test_who_waits_for_a_slow_answer_of_a_node_that_stops_gets_none(client):
    client.faults.slow_down(times=None)
    slow = [asyncio.create_task(ask()) for ask in (client.height, client.rest_height, client.rpc_height)]
    await client.faults.occurred("slow_down", 3)
    client.faults.hang_up()  # the first thing that stopping does
    results = await asyncio.gather(*slow, return_exceptions=True)
    assert all(isinstance(result, (grpc.aio.AioRpcError, *GONE)) for result in results)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_mempool_does_no_transaction_is_in_two_blocks_and_sequences_count_those_in_order(
    world, owner, seed
):
    """A careless sender: it signs with the committed sequence plus what it believes to be pending, and sends again."""
    chain, faults = world.chain, world.chain.faults
    dice = random.Random(seed)
    faults.seed(seed)
    for order in (faults.lose, faults.isolate):
        order(times=None, chance=0.1)
    faults.hold_back(2, times=None, chance=0.2)
    faults.fill_mempool(chance=0.1)
    sent: list[bytes] = []
    foreign = 0
    for number in range(60):
        sequence = chain.state.accounts[owner.address].sequence + len(chain.pending())
        sent.append(owner.sign(owner.completion(Action.BUILD, f"5-{number}", "0", "1"), sequence=sequence))
        for raw in (sent[-1], dice.choice(sent)):
            with contextlib.suppress(MempoolRefusal):
                chain.broadcast(raw)
        if dice.random() < 0.05:
            chain.use_sequence(owner.address)
            foreign += 1
        if dice.random() < 0.6:
            chain.produce_block()
    faults.clear()
    for _ in range(4):
        chain.produce_block()
    included = [tx for block in chain.blocks() for tx in block.txs]
    assert len({tx.hash for tx in included}) == len(included) > 5
    used = [decode(tx.raw).signers[0].sequence for tx in included if tx.result.codespace == "structs"]
    assert used == sorted(set(used))
    assert chain.state.accounts[owner.address].sequence == len(used) + foreign
    assert chain.pending() == ()
    assert set(faults.happened) == {"lose", "isolate", "hold_back", "fill_mempool"}
