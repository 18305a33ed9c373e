"""CometBFT's JSON-RPC and WebSocket, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from base64 import b64decode, b64encode

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import devnet.rpc_server
from hashfleet.action import Action

RIPE = 50_000
TANK = 9


@pytest.fixture
async def http(served):
    async with httpx2.AsyncClient(base_url=served.node.rpc_url, timeout=10) as client:
        yield client


@pytest.fixture
async def websocket(served):
    async with connect(served.node.rpc_url.replace("http", "ws") + "/websocket") as socket:
        yield socket


async def post(http, method, **params):
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    return (await http.post("/", json=body)).json()


async def ask(websocket, method, id_="1", **params):
    await websocket.send(json.dumps({"jsonrpc": "2.0", "id": id_, "method": method, "params": params}))
    return json.loads(await websocket.recv())


async def test_status_tells_chain_and_height_by_get_and_post(served, http):
    await served.node.advance(2)
    by_get = (await http.get("/status")).json()
    by_post = await post(http, "status")
    assert by_get["result"] == by_post["result"]
    assert by_post["id"] == 7
    assert by_post["result"]["node_info"]["network"] == "hashfleet-devnet-1"
    sync = by_post["result"]["sync_info"]
    assert (sync["latest_block_height"], sync["catching_up"]) == ("100002", False)


async def test_health_is_an_empty_answer(http):
    assert (await http.get("/health")).json()["result"] == {}


async def test_a_block_and_its_results(served, http, owner):
    served.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    raw = owner.sign(owner.completion(Action.BUILD, "5-1", *served.proof(Action.BUILD, "5-1", RIPE)))
    served.include(raw)
    block = (await post(http, "block", height="100001"))["result"]
    assert block["block"]["header"]["height"] == "100001"
    assert b64decode(block["block"]["data"]["txs"][0]) == raw
    assert block["block_id"]["hash"] == served.chain.last_block.hash
    results = (await http.get("/block_results?height=100001")).json()["result"]
    assert (results["height"], results["txs_results"][0]["code"]) == ("100001", 0)
    assert results["txs_results"][0]["gas_wanted"] == "20000000"
    assert results["finalize_block_events"][0]["type"] == "structs.structs.EventTime"


async def test_heights_that_there_are_not_are_errors(http):
    future = (await post(http, "block", height="100009"))["error"]
    past = (await post(http, "block", height="5"))["error"]
    assert "must be less than or equal to the current blockchain height 100000" in future["data"]
    assert "lowest height is 100000" in past["data"]


async def test_a_broadcast_is_admitted_then_pending_then_found(served, http, owner):
    raw = owner.sign(owner.completion(Action.BUILD, "5-1", "0", "1"))
    sent = (await post(http, "broadcast_tx_sync", tx=b64encode(raw).decode()))["result"]
    assert sent["code"] == 0
    pending = (await http.get("/unconfirmed_txs")).json()["result"]
    assert (pending["n_txs"], pending["total"], b64decode(pending["txs"][0])) == ("1", "1", raw)
    assert (await http.get("/num_unconfirmed_txs")).json()["result"]["total"] == "1"
    missing = await http.get(f"/tx?hash=0x{sent['hash']}")
    assert missing.status_code == 500  # as CometBFT answers GET
    assert "not found" in missing.json()["error"]["data"]
    await served.node.advance()
    for answer in (
        (await http.get(f"/tx?hash=0x{sent['hash'].lower()}")).json(),
        await post(http, "tx", hash=b64encode(bytes.fromhex(sent["hash"])).decode()),
    ):
        assert (answer["result"]["hash"], answer["result"]["height"]) == (sent["hash"], "100001")
        assert answer["result"]["tx_result"]["codespace"] == "structs"
        assert b64decode(answer["result"]["tx"]) == raw


async def test_a_refused_broadcast_is_an_answer_and_a_known_one_is_an_error(http, owner):
    refused = (await post(http, "broadcast_tx_sync", tx=b64encode(b"\xff").decode()))["result"]
    assert (refused["codespace"], refused["code"]) == ("sdk", 2)
    tx = b64encode(owner.sign(owner.completion(Action.BUILD, "5-1", "0", "1"))).decode()
    await post(http, "broadcast_tx_sync", tx=tx)
    again = (await post(http, "broadcast_tx_sync", tx=tx))["error"]
    assert (again["code"], again["data"]) == (-32603, "tx already exists in cache")


async def test_search_finds_by_height_by_hash_and_by_event(served, http, owner):
    served.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    served.complete(Action.BUILD, "5-1", RIPE)
    served.complete(Action.BUILD, "5-2", RIPE)
    (first, second) = served.chain.transactions()
    for query, found in (
        ("tx.height=100001", [first]),
        (f"tx.hash='{second.hash}'", [second]),
        ("structs.structs.EventHashSuccess.eventHashSuccessDetail CONTAINS '5-1'", [first]),
        ("tx.height>100000", [first, second]),
        ("tx.height>200000", []),
    ):
        answer = (await post(http, "tx_search", query=query))["result"]
        assert [tx["hash"] for tx in answer["txs"]] == [tx.hash for tx in found]
        assert answer["total_count"] == str(len(found))
    quoted = (await http.get('/tx_search?query="tx.height=100001"&per_page=1')).json()["result"]
    assert quoted["txs"][0]["hash"] == first.hash


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700),
        (b"[" * 100_000, -32700),
        (b"3", -32600),
        (b'{"method": 3}', -32600),
        (b'{"method": "status", "params": [1]}', -32602),
        (b'{"method": "unknown"}', -32601),
        (b'{"method": "subscribe", "params": {"query": "tm.event=\'Tx\'"}}', -32601),
        (b'{"method": "block", "params": {"height": "x"}}', -32602),
        (b'{"method": "block", "params": {"height": 1e400}}', -32602),
        (b'{"method": "tx", "params": {"hash": "zz"}}', -32602),
        (b'{"method": "broadcast_tx_sync", "params": {"tx": "!"}}', -32602),
        (b'{"method": "broadcast_tx_sync", "params": {"tx": 5}}', -32602),
        (b'{"method": "tx_search", "params": {"query": "nonsense"}}', -32603),
        (b'{"method": "tx_search", "params": {"query": "a=1", "page": 0}}', -32602),
        (b"x" * 1_000_001, -32600),
    ],
)
async def test_a_bad_request_is_an_error_answer_and_the_server_goes_on(http, body, code):
    answer = (await http.post("/", content=body)).json()
    assert answer["error"]["code"] == code
    assert (await http.get("/health")).status_code == 200


async def test_an_unknown_path_is_404(http):
    assert (await http.get("/nothing")).status_code == 404


async def test_a_batch_is_answered_in_order_and_may_not_be_long(http):
    batch = [{"id": n, "method": "health"} for n in range(3)]
    assert [one["id"] for one in (await http.post("/", json=batch)).json()] == [0, 1, 2]
    assert (await http.post("/", json=batch * 10)).json()["error"]["code"] == -32600


async def test_a_subscriber_gets_every_new_block(served, websocket):
    query = "tm.event='NewBlock'"
    assert await ask(websocket, "subscribe", query=query) == {"jsonrpc": "2.0", "id": "1", "result": {}}
    await served.node.advance(2)
    told = [json.loads(await websocket.recv()) for _ in range(2)]
    assert [one["id"] for one in told] == ["1", "1"]
    assert told[0]["result"]["query"] == query
    assert told[0]["result"]["data"]["type"] == "tendermint/event/NewBlock"
    values = [one["result"]["data"]["value"] for one in told]
    assert [value["block"]["header"]["height"] for value in values] == ["100001", "100002"]
    assert values[0]["result_finalize_block"]["events"][0]["type"] == "structs.structs.EventTime"
    assert told[0]["result"]["events"]["tm.event"] == ["NewBlock"]


async def test_a_subscriber_gets_the_transaction_it_waits_for_and_no_other(served, websocket, owner):
    raws = [owner.sign(owner.completion(Action.BUILD, f"5-{n}", "0", "1")) for n in range(2)]
    hashes = [served.chain.broadcast(raw)[0] for raw in raws]
    await ask(websocket, "subscribe", query=f"tm.event='Tx' AND tx.hash='{hashes[1]}'")
    await ask(websocket, "subscribe", "blocks", query="tm.event='NewBlockHeader'")
    await served.node.advance()
    told = {one["id"]: one["result"] for one in [json.loads(await websocket.recv()) for _ in range(2)]}
    result = told["1"]["data"]["value"]["TxResult"]
    assert (result["height"], result["result"]["codespace"]) == ("100001", "structs")
    assert b64decode(result["tx"]) == raws[1]
    assert told["1"]["events"]["tx.hash"] == [hashes[1]]
    assert told["blocks"]["data"]["value"]["header"]["height"] == "100001"


async def test_an_edited_clock_reaches_subscribers_of_block_events(served, websocket):
    served.stage(lambda stage: stage.add_struct("5-1", TANK, "1-11", anchor=RIPE))
    await served.node.advance()
    await ask(websocket, "subscribe", query="tm.event='NewBlockEvents'")
    served.node.set_anchor(Action.BUILD, "5-1", 60_000)
    await served.node.advance()
    events = json.loads(await websocket.recv())["result"]["events"]
    told = events["structs.structs.EventStructAttribute.structAttributeRecord"]
    assert [json.loads(one) for one in told] == [{"attributeId": "2-5-1", "value": "60000"}]


async def test_a_sixth_subscription_a_second_of_the_same_and_a_bad_one_are_errors(websocket):
    for n in range(4):
        assert "result" in await ask(websocket, "subscribe", query=f"tx.height={n}")
    assert "already subscribed" in (await ask(websocket, "subscribe", query="tx.height=0"))["error"]["data"]
    assert "parse" in (await ask(websocket, "subscribe", query="nonsense"))["error"]["data"]
    assert "result" in await ask(websocket, "subscribe", query="tx.height=4")
    assert "reached" in (await ask(websocket, "subscribe", query="tx.height=5"))["error"]["data"]


async def test_an_ended_subscription_is_silent_and_leaves_room(served, websocket):
    query = "tm.event='NewBlock'"
    await ask(websocket, "subscribe", query=query)
    assert (await ask(websocket, "unsubscribe", query=query))["result"] == {}
    assert "not found" in (await ask(websocket, "unsubscribe", query=query))["error"]["data"]
    await served.node.advance()
    assert "sync_info" in (await ask(websocket, "status"))["result"]  # the next message, so no block came before it
    await ask(websocket, "subscribe", query=query)
    assert (await ask(websocket, "unsubscribe_all"))["result"] == {}


async def test_junk_on_a_websocket_is_an_error_answer(websocket):
    await websocket.send("{")
    assert json.loads(await websocket.recv())["error"]["code"] == -32700
    await websocket.send(b"\xff\xfe")
    assert json.loads(await websocket.recv())["error"]["code"] == -32700


async def test_a_client_that_does_not_read_is_closed(served, websocket, monkeypatch):
    connection = next(iter(_connections(served)))
    for n in range(devnet.rpc_server.MAX_WAITING + 1):
        connection.send({"n": n})
    with pytest.raises(ConnectionClosed):
        while True:
            await asyncio.wait_for(websocket.recv(), 10)
    assert not _connections(served)


async def test_a_hundred_clients_may_listen_and_the_next_one_when_one_of_them_leaves(served):
    url = served.node.rpc_url.replace("http", "ws") + "/websocket"
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connect(url)) for _ in range(100)]
        with pytest.raises(InvalidStatus):
            await connect(url)
        await ask(sockets[-1], "subscribe", query="tm.event='NewBlock'")
        await served.node.advance()
        assert "NewBlock" in await asyncio.wait_for(sockets[-1].recv(), 10)
        await sockets[0].close()
        async with asyncio.timeout(10):
            while len(_connections(served)) == 100:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)
        await stack.enter_async_context(connect(url))


async def test_a_client_that_leaves_is_forgotten(served):
    socket = await connect(served.node.rpc_url.replace("http", "ws") + "/websocket")
    await ask(socket, "subscribe", query="tm.event='NewBlock'")
    assert len(_connections(served)) == 1
    await socket.close()
    async with asyncio.timeout(10):
        while _connections(served):
            await served.node.advance()


async def test_stopping_the_node_closes_its_clients(served, websocket):
    await ask(websocket, "subscribe", query="tm.event='NewBlock'")
    await served.node.stop()
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(websocket.recv(), 10)


async def test_a_fault_in_a_method_is_an_internal_error_without_its_text(served, http, monkeypatch):
    monkeypatch.setattr(type(served.chain), "pending", lambda chain: 1 // 0)
    answer = await post(http, "num_unconfirmed_txs")
    assert answer["error"]["code"] == -32603
    assert "division" not in json.dumps(answer)


def _connections(served):
    return served.node.nodes[0]._rpc_app.subscriptions.connections
