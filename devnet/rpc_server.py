"""CometBFT's JSON-RPC over HTTP (GET with a query string, POST) and its WebSocket with subscriptions.

Events are pushed as they are committed and never replayed. A connection may hold five subscriptions; one that does not
read its events is closed, as a node does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from devnet import comet_json
from devnet.block import Block
from devnet.chain import Chain
from devnet.comet_json import Json
from devnet.event_query import EventMap, EventQuery, block_events, parse, tx_events
from devnet.faults import Door, Dropped, Faults
from devnet.rpc_methods import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    RpcError,
    RpcMethods,
)
from devnet.web_server import cut
from hashfleet.errors import InvalidInput

logger = logging.getLogger(__name__)

#: A node's defaults. A base64 transaction of the largest size does not fit; free ones are 32 KiB at most.
MAX_BODY_BYTES = 1_000_000
MAX_BATCH = 20
MAX_CLIENTS = 100
MAX_SUBSCRIPTIONS = 5
#: Messages that may wait for a connection before it counts as too slow.
MAX_WAITING = 200


class Subscriptions:
    """Who listens to what. One per server; fed by the chain after every commit."""

    def __init__(self, chain: Chain, faults: Faults) -> None:
        self._chain = chain
        self._faults = faults
        self.connections: set[Connection] = set()
        chain.on_commit(self._committed)

    def _committed(self, block: Block) -> None:
        for height in self._faults.announced(block.height):
            announced = self._chain.block(height)
            if announced is not None:
                self._publish(announced)

    def _publish(self, block: Block) -> None:
        """Offer a block and its transactions to all connections."""
        if not self.connections:
            return
        chain_id = self._faults.other_chain_id or self._chain.chain_id
        whole = {
            "block": comet_json.block_json(chain_id, block),
            "block_id": comet_json.block_id(block.hash),
            "result_finalize_block": {
                "events": comet_json.events_json(block.events),
                "tx_results": [comet_json.result_json(tx.result) for tx in block.txs],
            },
        }
        only_header = {"header": comet_json.header(chain_id, block)}
        only_events = {
            "height": str(block.height),
            "events": comet_json.events_json(block.events),
            "num_txs": str(len(block.txs)),
        }
        kinds = (("NewBlock", whole), ("NewBlockEvents", only_events), ("NewBlockHeader", only_header))
        for kind, value in kinds:
            self._offer(kind, value, block_events(block, kind))
        for tx in block.txs:
            shown = comet_json.included_json(tx)
            result = {"height": shown["height"], "tx": shown["tx"], "result": shown["tx_result"]}
            result |= {"index": tx.index} if tx.index else {}  # CometBFT leaves a zero out here
            self._offer("Tx", {"TxResult": result}, tx_events(tx))

    def cut(self) -> None:
        """Cut all connections without a word."""
        for connection in self.connections:
            connection.cut = True
            connection.ended.set()

    def close(self) -> None:
        """End all connections."""
        for connection in self.connections:
            connection.end(1001)

    def _offer(self, kind: str, value: Json, events: EventMap) -> None:
        data = {"type": f"tendermint/event/{kind}", "value": value}
        for connection in self.connections:
            connection.offer(data, events)


class Connection:
    """One WebSocket client."""

    def __init__(self) -> None:
        self.queries: dict[str, tuple[EventQuery, Any]] = {}
        self.ended = asyncio.Event()
        self.close_code = 1000
        self.cut = False
        self._waiting: asyncio.Queue[Json] = asyncio.Queue(MAX_WAITING)

    def offer(self, data: Json, events: EventMap) -> None:
        """Queue an event for every subscription that it matches."""
        for text, (query, id_) in self.queries.items():
            if query.matches(events):
                self.send(_answer(id_, {"query": text, "data": data, "events": events}))

    def send(self, message: Json) -> None:
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            self.end(1013)

    def end(self, close_code: int) -> None:
        """Have the connection closed: 1013 if the client is too slow, 1001 when the node stops."""
        self.close_code = close_code
        self.ended.set()

    async def next(self) -> Json:
        """The next message to write."""
        return await self._waiting.get()

    def subscribe(self, params: Mapping[str, Any], id_: Any) -> Json:
        text = params.get("query")
        if not isinstance(text, str):
            raise RpcError(INVALID_PARAMS, "Invalid params", "query should be text such as tm.event='NewBlock'")
        if len(self.queries) >= MAX_SUBSCRIPTIONS:
            told = f"max_subscriptions_per_client {MAX_SUBSCRIPTIONS} reached"
            raise RpcError(INTERNAL_ERROR, "Internal error", told)
        if text in self.queries:
            raise RpcError(INTERNAL_ERROR, "Internal error", "already subscribed")
        try:
            self.queries[text] = (parse(text), id_)
        except InvalidInput as error:
            raise RpcError(INTERNAL_ERROR, "Internal error", f"failed to parse query: {error}") from error
        return {}

    def unsubscribe(self, params: Mapping[str, Any], id_: Any) -> Json:
        if self.queries.pop(str(params.get("query")), None) is None:
            raise RpcError(INTERNAL_ERROR, "Internal error", "subscription not found")
        return {}

    def unsubscribe_all(self, params: Mapping[str, Any], id_: Any) -> Json:
        self.queries.clear()
        return {}


class RpcApp:
    """The HTTP and WebSocket endpoints."""

    def __init__(self, chain: Chain, faults: Faults) -> None:
        self._faults = faults
        self._methods = RpcMethods(chain, faults)
        self.subscriptions = Subscriptions(chain, faults)

    def asgi(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._post, methods=["POST"]),
                WebSocketRoute("/websocket", self._websocket),
                Route("/{method}", self._get, methods=["GET"]),
            ]
        )

    async def _get(self, request: Request) -> Response:
        name = request.path_params["method"]
        if name not in self._methods.names:
            return JSONResponse(_failure(-1, RpcError(METHOD_NOT_FOUND, "Method not found", name[:100])), 404)
        try:
            answer = await self._call(Door.RPC, name, _uri_params(request.query_params), -1)
        except Dropped:
            return cut(request)
        return JSONResponse(answer, 500 if "error" in answer else 200)

    async def _post(self, request: Request) -> Response:
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    return JSONResponse(_failure(None, RpcError(INVALID_REQUEST, "request body too large")), 413)
        except ClientDisconnect:
            return Response(status_code=400)
        try:
            parsed = json.loads(bytes(body))
        except (ValueError, RecursionError):
            return JSONResponse(_failure(None, RpcError(PARSE_ERROR, "Parse error. Invalid JSON")), 500)
        if isinstance(parsed, list) and len(parsed) > MAX_BATCH:
            told = RpcError(INVALID_REQUEST, "Invalid Request", f"a batch holds at most {MAX_BATCH} requests")
            return JSONResponse(_failure(None, told), 500)
        requests = parsed if isinstance(parsed, list) else [parsed]
        try:
            answers = [await self._dispatch(one, None) for one in requests]
        except Dropped:
            return cut(request)
        return JSONResponse(answers if isinstance(parsed, list) else answers[0])

    async def _websocket(self, websocket: WebSocket) -> None:
        if len(self.subscriptions.connections) >= MAX_CLIENTS:
            await websocket.close(1013)
            return
        try:
            await self._faults.arriving(Door.WEBSOCKET, "connect")
            await websocket.accept()
            await self._faults.answering(Door.WEBSOCKET, "connect")
        except Dropped:
            cut(websocket)
            return
        connection = Connection()
        self.subscriptions.connections.add(connection)
        parts = [
            asyncio.create_task(self._read(websocket, connection)),
            asyncio.create_task(self._write(websocket, connection)),
            asyncio.create_task(connection.ended.wait()),
        ]
        done: set[asyncio.Task[Any]] = set()
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.subscriptions.connections.discard(connection)
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            if connection.cut or any(isinstance(part.exception(), Dropped) for part in done):
                cut(websocket)
            elif websocket.application_state is WebSocketState.CONNECTED:
                with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):  # it may be gone already
                    await websocket.close(connection.close_code)

    async def _read(self, websocket: WebSocket, connection: Connection) -> None:
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                message = await websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                try:
                    request = json.loads(message.get("text") or message.get("bytes") or b"")
                except (ValueError, RecursionError):
                    connection.send(_failure(None, RpcError(PARSE_ERROR, "Parse error. Invalid JSON")))
                    continue
                connection.send(await self._dispatch(request, connection))

    async def _write(self, websocket: WebSocket, connection: Connection) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):  # the client is gone: the reader ends it
            while True:
                message = await connection.next()
                is_event = "data" in message.get("result", ())
                if is_event:
                    await self._faults.arriving(Door.WEBSOCKET, "event")
                await websocket.send_json(message)
                if is_event:
                    await self._faults.answering(Door.WEBSOCKET, "event")

    async def _dispatch(self, request: object, connection: Connection | None) -> Json:
        """The answer to one request of a POST or of a WebSocket."""
        if not isinstance(request, dict):
            return _failure(None, RpcError(INVALID_REQUEST, "Invalid Request", "a request should be an object"))
        id_, name, params = request.get("id"), request.get("method"), request.get("params") or {}
        if not isinstance(id_, str | int | None) or not isinstance(name, str):
            told = RpcError(INVALID_REQUEST, "Invalid Request", "id should be text or a number, method should be text")
            return _failure(None, told)
        if not isinstance(params, dict):
            return _failure(id_, RpcError(INVALID_PARAMS, "Invalid params", "params should be an object"))
        return await self._call(Door.WEBSOCKET if connection else Door.RPC, name, params, id_, connection)

    async def _call(
        self, door: Door, name: str, params: Mapping[str, Any], id_: Any, connection: Connection | None = None
    ) -> Json:
        """The answer of one method. Raises Dropped."""
        await self._faults.arriving(door, name)
        answer = self._answered(name, params, id_, connection)
        await self._faults.answering(door, name)
        return answer

    def _answered(self, name: str, params: Mapping[str, Any], id_: Any, connection: Connection | None) -> Json:
        try:
            if connection and name in ("subscribe", "unsubscribe", "unsubscribe_all"):
                return _answer(id_, getattr(connection, name)(params, id_))
            return _answer(id_, self._methods.call(name, params))
        except RpcError as error:
            return _failure(id_, error)
        except Exception:
            logger.exception("RPC method %r failed", name[:100])
            return _failure(id_, RpcError(INTERNAL_ERROR, "Internal error", "a fault of the devnet; see its log"))


def _uri_params(query: Mapping[str, str]) -> dict[str, Any]:
    """Parameters of a GET: text in double quotes, bytes as 0x and hex, numbers bare."""
    params: dict[str, Any] = {}
    for name, value in query.items():
        if len(value) >= 2 and value[0] == value[-1] == '"':
            params[name] = value[1:-1].encode() if name == "tx" else value[1:-1]
        elif value[:2] in ("0x", "0X") and name in ("tx", "hash"):
            with contextlib.suppress(ValueError):  # then it is missing, and the method says what it should be
                params[name] = bytes.fromhex(value[2:])
        else:
            params[name] = value
    return params


def _answer(id_: Any, result: Json) -> Json:
    return {"jsonrpc": "2.0", "id": id_, "result": result}


def _failure(id_: Any, error: RpcError) -> Json:
    return {"jsonrpc": "2.0", "id": id_, "error": error.body}
