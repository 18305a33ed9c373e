"""A scripted node: real gRPC, REST and WebSocket servers in this process, whose answers a test writes down.

Every test of the fixture `chain` runs three times: against the node's gRPC, against its REST, and through a client of
several nodes, the first of which is away.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from coordinator.chain.failover import FailoverClient
from coordinator.chain.rest_transport import RestTransport
from coordinator.chain.structsd import StructsdClient
from hashfleet.rpc.cosmos.auth.v1beta1 import auth_pb2
from hashfleet.rpc.cosmos.auth.v1beta1 import query_pb2 as auth_query_pb2
from hashfleet.rpc.cosmos.auth.v1beta1 import query_pb2_grpc as auth_grpc
from hashfleet.rpc.cosmos.base.abci.v1beta1 import abci_pb2
from hashfleet.rpc.cosmos.base.tendermint.v1beta1 import query_pb2 as node_pb2
from hashfleet.rpc.cosmos.base.tendermint.v1beta1 import query_pb2_grpc as node_grpc
from hashfleet.rpc.cosmos.tx.v1beta1 import service_pb2, service_pb2_grpc
from hashfleet.rpc.cosmos.upgrade.v1beta1 import query_pb2 as upgrade_pb2
from hashfleet.rpc.cosmos.upgrade.v1beta1 import query_pb2_grpc as upgrade_grpc
from hashfleet.rpc.structs.structs import query_pb2, query_pb2_grpc, types_pb2
from hashfleet.rpc.tendermint.p2p import types_pb2 as p2p_pb2

# Test folders are no packages, so what stands beside this file is loaded by its path.
_spec = importlib.util.spec_from_file_location("scripted_gateway", Path(__file__).parent / "scripted_gateway.py")
assert _spec is not None
assert _spec.loader is not None
_gateway = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_gateway)

CHAIN_ID = "devnet-1"
START_TIME = 1_776_420_672
ADDRESS = "structs19rl4cm2hmr8afy4kldpxz3fka4jguq0acpz60a"


class ScriptedNode(query_pb2_grpc.QueryServicer):
    """Holds answers by id and gives them as structsd does: NOT_FOUND, silent fallback for attribute names, heights.

    It starts as v0.20 at height 1310000 with one rig (5-14 on 2-9), one fleet raiding it (9-3), and one player.
    """

    def __init__(self) -> None:
        self.chain_id = CHAIN_ID
        self.version = "v0.20.0"
        self.height = 1310000
        self.syncing = False
        self.structs = {
            "5-14": query_pb2.QueryGetStructResponse(
                Struct=types_pb2.Struct(
                    id="5-14", index=14, type=14, owner="1-7", locationType=types_pb2.planet, locationId="2-9"
                ),
                structAttributes=types_pb2.StructAttributes(
                    status=7,
                    isBuilt=True,
                    isOnline=True,
                    blockStartBuild=1283900,
                    blockStartOreMine=1290000,
                    blockStartOreRefine=1295000,
                ),
            ),
            "5-28": query_pb2.QueryGetStructResponse(
                Struct=types_pb2.Struct(
                    id="5-28", index=28, type=14, owner="1-7", locationType=types_pb2.planet, locationId="2-9"
                ),
                structAttributes=types_pb2.StructAttributes(status=1, blockStartBuild=1283950),
            ),
        }
        self.types = {14: types_pb2.StructType(
            id=14, buildDifficulty=700, oreMiningDifficulty=14000, oreRefiningDifficulty=28000
        )}  # fmt: skip
        self.planet_ore = 5
        self.planet = types_pb2.Planet(id="2-9", locationListStart="9-3", locationListLast="9-3")
        self.shield = 75
        self.raid_anchor = 1309000
        #: Attributes that the node knows by name beyond those of v0.20.
        self.clocks: dict[str, int] = {}
        self.fleets = {
            "9-3": types_pb2.Fleet(
                id="9-3", owner="1-3", locationType=types_pb2.planet, locationId="2-9", status=types_pb2.away
            )
        }
        self.players = {"1-7": 3}
        #: Player -> planetId and fleetId.
        self.homes: dict[str, dict[str, str]] = {}
        self.addresses = {ADDRESS: ("1-7", 15728641)}
        self.permissions: dict[str, int] = {}
        self.accounts: dict[str, auth_pb2.BaseAccount] = {
            ADDRESS: auth_pb2.BaseAccount(address=ADDRESS, account_number=17, sequence=42)
        }
        #: Upgrade -> the height it was applied at; None if the node does not serve that.
        self.applied_plans: dict[str, int] | None = None
        #: Included transactions by hash.
        self.transactions: dict[str, abci_pb2.TxResponse] = {}
        #: Transactions offered, in order.
        self.offered: list[bytes] = []
        #: (code, codespace, log) for the next broadcasts.
        self.broadcast_answer = (0, "", "")
        #: Method name -> what happens instead of the usual answer: a status to abort with.
        self.faults: dict[str, tuple[grpc.StatusCode, str]] = {}
        #: Method name -> what is awaited before the answer.
        self.before: dict[str, Callable[[], Awaitable[object]]] = {}
        self.calls: list[str] = []

    async def enter(self, name: str, context: Any) -> None:
        self.calls.append(name)
        if name in self.before:
            await self.before[name]()
        if name in self.faults:
            await context.abort(*self.faults[name])
        await context.send_initial_metadata((("x-cosmos-block-height", str(self.height)),))

    async def not_found(self, context: Any) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "not found")

    async def Struct(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.enter("Struct", context)
        return self.structs.get(request.id) or await self.not_found(context)

    async def StructType(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.enter("StructType", context)
        return query_pb2.QueryGetStructTypeResponse(StructType=self.types[request.id])

    async def Planet(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.enter("Planet", context)
        if request.id != self.planet.id:
            await self.not_found(context)
        return query_pb2.QueryGetPlanetResponse(
            Planet=self.planet,
            gridAttributes=types_pb2.GridAttributes(ore=self.planet_ore),
            planetAttributes=types_pb2.PlanetAttributes(planetaryShield=self.shield, blockStartRaid=self.raid_anchor),
        )

    async def PlanetAttribute(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.enter("PlanetAttribute", context)
        known = {"planetaryShield": self.shield, "blockStartRaid": self.raid_anchor, **self.clocks}
        return query_pb2.QueryGetPlanetAttributeResponse(attribute=known.get(request.attributeType, self.shield))

    async def Fleet(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.enter("Fleet", context)
        if request.id not in self.fleets:
            await self.not_found(context)
        return query_pb2.QueryGetFleetResponse(Fleet=self.fleets[request.id])

    async def Player(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.enter("Player", context)
        if request.id not in self.players:
            await self.not_found(context)
        return query_pb2.QueryGetPlayerResponse(
            Player=types_pb2.Player(id=request.id, **self.homes.get(request.id, {})),
            gridAttributes=types_pb2.GridAttributes(ore=self.players[request.id]),
        )

    async def Address(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.enter("Address", context)
        player, permissions = self.addresses.get(request.address, ("1-0", 0))
        return query_pb2.QueryAddressResponse(address=request.address, playerId=player, permissions=permissions)

    async def Permission(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.enter("Permission", context)
        if request.permissionId not in self.permissions:
            await self.not_found(context)
        return query_pb2.QueryGetPermissionResponse(
            permissionRecord=types_pb2.PermissionRecord(
                permissionId=request.permissionId, value=self.permissions[request.permissionId]
            )
        )

    async def GetBlockHeight(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.enter("GetBlockHeight", context)
        return query_pb2.QueryBlockHeightResponse(blockHeight=self.height)

    async def GuildCharter(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.enter("GuildCharter", context)
        return query_pb2.QueryGuildCharterResponse(anchor=1, difficultyRange=2_500_000)


class ScriptedAccounts(auth_grpc.QueryServicer):
    def __init__(self, node: ScriptedNode) -> None:
        self.node = node

    async def Account(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.node.enter("Account", context)
        if request.address not in self.node.accounts:
            await self.node.not_found(context)
        packed = AnyMessage(
            type_url="/cosmos.auth.v1beta1.BaseAccount",
            value=self.node.accounts[request.address].SerializeToString(),
        )
        return auth_query_pb2.QueryAccountResponse(account=packed)


class ScriptedBase(node_grpc.ServiceServicer):
    def __init__(self, node: ScriptedNode) -> None:
        self.node = node

    async def GetNodeInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.node.enter("GetNodeInfo", context)
        return node_pb2.GetNodeInfoResponse(
            default_node_info=p2p_pb2.DefaultNodeInfo(network=self.node.chain_id),
            application_version=node_pb2.VersionInfo(version=self.node.version),
        )

    async def GetSyncing(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.node.enter("GetSyncing", context)
        return node_pb2.GetSyncingResponse(syncing=self.node.syncing)

    async def GetLatestBlock(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.node.enter("GetLatestBlock", context)
        height = self.node.height
        return node_pb2.GetLatestBlockResponse(
            sdk_block=node_pb2.Block(
                header=node_pb2.Header(
                    chain_id=self.node.chain_id, height=height, time=Timestamp(seconds=START_TIME + height)
                )
            )
        )


class ScriptedUpgrades(upgrade_grpc.QueryServicer):
    def __init__(self, node: ScriptedNode) -> None:
        self.node = node

    async def AppliedPlan(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.node.enter("AppliedPlan", context)
        if self.node.applied_plans is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown service")
        return upgrade_pb2.QueryAppliedPlanResponse(height=self.node.applied_plans.get(request.name, 0))


class ScriptedTransactions(service_pb2_grpc.ServiceServicer):
    def __init__(self, node: ScriptedNode) -> None:
        self.node = node

    async def BroadcastTx(self, request: Any, context: Any) -> Any:  # noqa: N802
        assert request.mode == service_pb2.BROADCAST_MODE_SYNC
        self.node.offered.append(request.tx_bytes)
        await self.node.enter("BroadcastTx", context)
        code, codespace, log = self.node.broadcast_answer
        tx_hash = hashlib.sha256(request.tx_bytes).hexdigest().upper()
        return service_pb2.BroadcastTxResponse(
            tx_response=abci_pb2.TxResponse(txhash=tx_hash, code=code, codespace=codespace, raw_log=log)
        )

    async def GetTx(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.node.enter("GetTx", context)
        if request.hash not in self.node.transactions:
            await self.node.not_found(context)
        return service_pb2.GetTxResponse(tx_response=self.node.transactions[request.hash])


class ScriptedRpc:
    """CometBFT's RPC: `/status`, and a WebSocket that sends NewBlock events when the test says so."""

    def __init__(self, node: ScriptedNode) -> None:
        self.node = node
        self.network = node.chain_id
        self.port = 0
        self.refuse = False
        #: Height -> structs that changed there, as /block_results tells it; other heights it does not have.
        self.results: dict[int, tuple[str, ...]] = {}
        self.results_asked: list[int] = []
        self.connections: set[ServerConnection] = set()
        self.subscriptions = 0
        self.subscribed = asyncio.Condition()
        self._server: Server | None = None

    async def start(self) -> None:
        self._server = await serve(self._talk, "127.0.0.1", self.port, process_request=self._status, close_timeout=0.1)
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def _status(self, connection: ServerConnection, request: Request) -> Response | None:
        if found := re.fullmatch(r"/block_results\?height=([0-9]+)", request.path):
            return self._block_results(connection, int(found[1]))
        if request.path != "/status":
            return None
        block = {"latest_block_height": str(self.node.height), "latest_block_time": rfc3339(self.node.height)}
        return connection.respond(
            HTTPStatus.OK, json.dumps({"result": {"node_info": {"network": self.network}, "sync_info": block}})
        )

    def _block_results(self, connection: ServerConnection, height: int) -> Response:
        self.results_asked.append(height)
        if height not in self.results:
            error = {"code": -32603, "message": "Internal error", "data": "could not find results for height"}
            return connection.respond(HTTPStatus.INTERNAL_SERVER_ERROR, json.dumps({"error": error}))
        events = [struct_event(struct_id) for struct_id in self.results[height]]
        result = {"height": str(height), "txs_results": None, "finalize_block_events": events}
        return connection.respond(HTTPStatus.OK, json.dumps({"result": result}))

    async def _talk(self, connection: ServerConnection) -> None:
        asked = json.loads(await connection.recv())
        assert (asked["method"], asked["params"]) == ("subscribe", {"query": "tm.event='NewBlock'"})
        if self.refuse:
            await connection.send(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32603}}))
            return
        await connection.send(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {}}))
        self.connections.add(connection)
        async with self.subscribed:
            self.subscriptions += 1
            self.subscribed.notify_all()
        await connection.wait_closed()
        self.connections.discard(connection)

    async def wait_for_subscriptions(self, count: int) -> None:
        async with asyncio.timeout(20), self.subscribed:
            await self.subscribed.wait_for(lambda: self.subscriptions >= count)

    async def announce(self, height: int, touched: tuple[str, ...] | None = (), **changes: Any) -> None:
        """Commit a block and send the event of it, with the structs that it changed; None leaves the results out."""
        self.node.height = max(self.node.height, height)
        header = {"chain_id": self.node.chain_id, "height": str(height), "time": rfc3339(height), **changes}
        value: dict[str, Any] = {
            "block": {"header": header, "data": {"txs": None}, "last_commit": {"height": str(height - 1)}}
        }
        if touched is not None:
            value["result_finalize_block"] = {"events": [struct_event(struct_id) for struct_id in touched]}
        await self.send(value)

    async def send(self, value: object) -> None:
        event = {"id": 1, "result": {"data": {"type": "tendermint/event/NewBlock", "value": value}, "events": {}}}
        for connection in list(self.connections):
            await connection.send(json.dumps(event))

    async def cancel(self) -> None:
        """End every subscription as CometBFT does for a client that is too slow; the connections stay."""
        error = {"code": -32000, "message": "Server error", "data": "subscription was canceled (reason: slow client)"}
        for connection in list(self.connections):
            await connection.send(json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}))

    async def drop(self) -> None:
        """Lose every connection, without a closing handshake."""
        for connection in list(self.connections):
            connection.transport.abort()


class Proxy:
    """Stands between a client and a server, and can stop forwarding what it has connected, without a word."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.connections = 0
        self._forwarded = port
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        #: Set for connections that go dead; those of later have a new one.
        self._dead = asyncio.Event()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def go_dead(self) -> None:
        """From now on nothing goes through the connections that are there; new ones are as good as ever."""
        self._dead.set()
        self._dead = asyncio.Event()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for talk in list(self._talks):
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        self.connections += 1
        dead = self._dead
        there, back = await asyncio.open_connection("127.0.0.1", self._forwarded)
        try:
            await asyncio.gather(self._pump(reader, back, dead), self._pump(there, writer, dead))
        except (ConnectionError, asyncio.CancelledError):
            pass  # somebody hung up, or the test is over
        finally:
            self._talks.discard(task)
            writer.close()
            back.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dead: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if dead.is_set():
                continue
            writer.write(data)
            await writer.drain()
        writer.close()


def struct_event(struct_id: str) -> dict[str, Any]:
    """The event of a struct's status, in CometBFT's JSON."""
    value = json.dumps({"attributeId": f"1-{struct_id}", "value": "7"})
    attribute = {"key": "structAttributeRecord", "value": value, "index": True}
    return {"type": "structs.structs.EventStructAttribute", "attributes": [attribute]}


def rfc3339(height: int) -> str:
    return datetime.fromtimestamp(START_TIME + height, UTC).isoformat().replace("+00:00", "Z")


async def start_grpc(
    node: ScriptedNode, port: int, credentials: grpc.ServerCredentials | None
) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server()
    query_pb2_grpc.add_QueryServicer_to_server(node, server)
    auth_grpc.add_QueryServicer_to_server(ScriptedAccounts(node), server)
    node_grpc.add_ServiceServicer_to_server(ScriptedBase(node), server)
    upgrade_grpc.add_QueryServicer_to_server(ScriptedUpgrades(node), server)
    service_pb2_grpc.add_ServiceServicer_to_server(ScriptedTransactions(node), server)
    if credentials is None:
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
    else:
        bound = server.add_secure_port(f"localhost:{port}", credentials)
    await server.start()
    return server, bound


WAYS = ("grpc", "rest", "failover")


class Chain:
    """The scripted node, its REST, its RPC, and the addresses of all three."""

    def __init__(self, way: str = "grpc") -> None:
        self.way = way
        self.gateway = _gateway.ScriptedGateway()
        self.nobody = socket.socket()
        self.nobody.bind(("127.0.0.1", 0))  # and nobody listens there
        self.node = ScriptedNode()
        self.rpc = ScriptedRpc(self.node)
        self.grpc_port = 0
        self._server: grpc.aio.Server | None = None
        self._clients = AsyncExitStack()

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}"

    @property
    def rpc_url(self) -> str:
        return f"http://127.0.0.1:{self.rpc.port}"

    async def start_grpc(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self._server, self.grpc_port = await start_grpc(self.node, self.grpc_port, credentials)
        await self.gateway.start(self.grpc_port)

    async def stop_grpc(self) -> None:
        await self.gateway.stop()
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def client(
        self, *, rpc: bool = False, chain_id: str | None = CHAIN_ID, **options: Any
    ) -> StructsdClient | FailoverClient:
        """A client that is not connected yet; it is closed when the test ends."""
        usual = {"call_timeout": 5.0, "poll_seconds": 0.01, "silence_seconds": 5.0}
        options = {**usual, **options}
        rpc_url = self.rpc_url if rpc else None
        made: StructsdClient | FailoverClient
        if self.way == "failover":
            nobody = f"127.0.0.1:{self.nobody.getsockname()[1]}"
            made = FailoverClient.of(
                [nobody, f"127.0.0.1:{self.grpc_port}"],
                [],
                [rpc_url] if rpc_url else [],
                chain_id,
                # Each node gets half of it, so that a limit means the same by every way.
                **{"probe_seconds": 600.0, **options, "call_timeout": 2 * options["call_timeout"]},
            )
        elif self.way == "rest":
            rest = RestTransport(self.rest_url, timeout=options["call_timeout"])
            made = StructsdClient(rest, rpc_url, chain_id, **options)
        else:
            made = StructsdClient(f"127.0.0.1:{self.grpc_port}", rpc_url, chain_id, **options)
        self._clients.push_async_callback(made.close)
        return made

    async def connected(self, **options: Any) -> StructsdClient | FailoverClient:
        made = self.client(**options)
        await made.connect()
        return made

    async def connected_to_several(
        self, rpc_urls: list[str], *, before: Sequence[Chain] = (), **options: Any
    ) -> FailoverClient:
        """A client that prefers the nodes `before`, reads this one, and follows the blocks of these RPCs."""
        usual = {"call_timeout": 5.0, "poll_seconds": 0.01, "silence_seconds": 5.0, "probe_seconds": 600.0}
        nodes = [f"127.0.0.1:{each.grpc_port}" for each in (*before, self)]
        made = FailoverClient.of(nodes, [], rpc_urls, CHAIN_ID, **{**usual, **options})
        self._clients.push_async_callback(made.close)
        await made.connect()
        return made

    async def stop(self) -> None:
        await self._clients.aclose()
        await self.rpc.stop()
        await self.stop_grpc()
        self.nobody.close()


@pytest.fixture(params=WAYS)
async def chain(request: pytest.FixtureRequest) -> AsyncIterator[Chain]:
    """A scripted node that listens; tests change its script and make clients of it."""
    made = Chain(request.param)
    await made.start_grpc()
    await made.rpc.start()
    yield made
    await made.stop()


@pytest.fixture
async def rest_chain() -> AsyncIterator[Chain]:
    """A scripted node that listens, and whose clients use its REST."""
    made = Chain("rest")
    await made.start_grpc()
    await made.rpc.start()
    yield made
    await made.stop()


@pytest.fixture
async def make_chain() -> AsyncIterator[Callable[[], Awaitable[Chain]]]:
    """Makes scripted nodes that listen, each with its own script."""
    async with AsyncExitStack() as stack:

        async def make() -> Chain:
            made = Chain()
            stack.push_async_callback(made.stop)
            await made.start_grpc()
            await made.rpc.start()
            return made

        yield make


@pytest.fixture
async def make_proxy() -> AsyncIterator[Callable[[int], Awaitable[Proxy]]]:
    """Makes proxies before servers at these ports."""
    async with AsyncExitStack() as stack:

        async def make(port: int) -> Proxy:
            made = Proxy(port)
            stack.push_async_callback(made.stop)
            await made.start()
            return made

        yield make


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever proxy this machine has, nothing here goes through it."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield
