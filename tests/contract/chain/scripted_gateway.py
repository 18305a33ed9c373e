"""A grpc-gateway before the scripted node: what a REST server of a node does, written apart from the client's table."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf import json_format

from hashfleet.rpc.cosmos.auth.v1beta1 import query_pb2 as auth
from hashfleet.rpc.cosmos.base.tendermint.v1beta1 import query_pb2 as node
from hashfleet.rpc.cosmos.tx.v1beta1 import service_pb2 as tx
from hashfleet.rpc.cosmos.upgrade.v1beta1 import query_pb2 as upgrade
from hashfleet.rpc.structs.structs import query_pb2 as structs

_STRUCTS, _BASE = "/structs.structs.Query/", "/cosmos.base.tendermint.v1beta1.Service/"
#: Verb and path, gRPC method, its request (named groups are members), its answer.
ROUTES: list[tuple[str, str, type[Any], type[Any]]] = [
    ("GET /blockheight", _STRUCTS + "GetBlockHeight", structs.QueryBlockHeight, structs.QueryBlockHeightResponse),
    ("GET /structs/struct/(?P<id>[^/]+)", _STRUCTS + "Struct", structs.QueryGetStructRequest,
     structs.QueryGetStructResponse),
    ("GET /structs/struct_type/(?P<id>[0-9]+)", _STRUCTS + "StructType", structs.QueryGetStructTypeRequest,
     structs.QueryGetStructTypeResponse),
    ("GET /structs/planet/(?P<id>[^/]+)", _STRUCTS + "Planet", structs.QueryGetPlanetRequest,
     structs.QueryGetPlanetResponse),
    ("GET /structs/planet_attribute/(?P<planetId>[^/]+)/(?P<attributeType>[^/]+)", _STRUCTS + "PlanetAttribute",
     structs.QueryGetPlanetAttributeRequest, structs.QueryGetPlanetAttributeResponse),
    ("GET /structs/fleet/(?P<id>[^/]+)", _STRUCTS + "Fleet", structs.QueryGetFleetRequest,
     structs.QueryGetFleetResponse),
    ("GET /structs/player/(?P<id>[^/]+)", _STRUCTS + "Player", structs.QueryGetPlayerRequest,
     structs.QueryGetPlayerResponse),
    ("GET /structs/address/(?P<address>[^/]+)", _STRUCTS + "Address", structs.QueryGetAddressRequest,
     structs.QueryAddressResponse),
    ("GET /structs/permission/(?P<permissionId>[^/]+)", _STRUCTS + "Permission", structs.QueryGetPermissionRequest,
     structs.QueryGetPermissionResponse),
    ("GET /structs/structs/guild_charter", _STRUCTS + "GuildCharter", structs.QueryGuildCharter,
     structs.QueryGuildCharterResponse),
    ("GET /cosmos/auth/v1beta1/accounts/(?P<address>[^/]+)", "/cosmos.auth.v1beta1.Query/Account",
     auth.QueryAccountRequest, auth.QueryAccountResponse),
    ("GET /cosmos/base/tendermint/v1beta1/node_info", _BASE + "GetNodeInfo", node.GetNodeInfoRequest,
     node.GetNodeInfoResponse),
    ("GET /cosmos/base/tendermint/v1beta1/syncing", _BASE + "GetSyncing", node.GetSyncingRequest,
     node.GetSyncingResponse),
    ("GET /cosmos/base/tendermint/v1beta1/blocks/latest", _BASE + "GetLatestBlock", node.GetLatestBlockRequest,
     node.GetLatestBlockResponse),
    ("GET /cosmos/upgrade/v1beta1/applied_plan/(?P<name>[^/]+)", "/cosmos.upgrade.v1beta1.Query/AppliedPlan",
     upgrade.QueryAppliedPlanRequest, upgrade.QueryAppliedPlanResponse),
    ("POST /cosmos/tx/v1beta1/txs", "/cosmos.tx.v1beta1.Service/BroadcastTx", tx.BroadcastTxRequest,
     tx.BroadcastTxResponse),
    ("GET /cosmos/tx/v1beta1/txs/(?P<hash>[^/]+)", "/cosmos.tx.v1beta1.Service/GetTx", tx.GetTxRequest,
     tx.GetTxResponse),
]  # fmt: skip
#: grpc-gateway's mapping of codes; 500 for the rest.
_STATUS = {3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 11: 400, 12: 501, 14: 503, 16: 401}


class ScriptedGateway:
    """Speaks HTTP/1.1 with kept connections; each request becomes one gRPC call to the scripted node."""

    def __init__(self) -> None:
        self.port = 0
        self.grpc_port = 0
        #: What is answered instead, as it goes over the wire: status line's number and body.
        self.instead: tuple[int, bytes] | None = None
        #: Whether answers tell their height.
        self.tells_height = True
        self.asked: list[str] = []
        self._server: asyncio.Server | None = None
        self._channel: grpc.aio.Channel | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def start(self, grpc_port: int, tls: ssl.SSLContext | None = None) -> None:
        self.grpc_port = grpc_port
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}")
        host = "localhost" if tls else "127.0.0.1"
        self._server = await asyncio.start_server(self._talk, host, self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is None or self._channel is None:
            return
        self._server.close()
        for talk in list(self._talks):
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await self._channel.close()
        self._server = None

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                verb, path, _ = head.decode("latin-1").split(" ", 2)
                length = re.search(rb"content-length: *([0-9]+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b""
                status, headers, data = await self._answer(verb, path, body)
                lines = [f"HTTP/1.1 {status} whatever", f"Content-Length: {len(data)}", *headers]
                writer.write("\r\n".join([*lines, "", ""]).encode() + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._talks.discard(task)
            writer.close()

    async def _answer(self, verb: str, path: str, body: bytes) -> tuple[int, list[str], bytes]:
        self.asked.append(path)
        if self.instead is not None:
            return self.instead[0], [], self.instead[1]
        for route, method, request, answer in ROUTES:
            if found := re.fullmatch(route, f"{verb} {unquote(path)}"):
                members: dict[str, Any] = {**found.groupdict(), **(json.loads(body) if body else {})}
                if request is tx.BroadcastTxRequest:
                    members["tx_bytes"] = base64.b64decode(members["tx_bytes"], validate=True)
                elif request is structs.QueryGetStructTypeRequest:
                    members["id"] = int(members["id"])
                return await self._call(method, request(**members), answer)
        return 501, [], json.dumps({"code": 12, "message": "Not Implemented", "details": []}).encode()

    async def _call(self, method: str, request: Any, answer: type[Any]) -> tuple[int, list[str], bytes]:
        assert self._channel is not None
        call = self._channel.unary_unary(
            method, request_serializer=lambda sent: sent.SerializeToString(), response_deserializer=answer.FromString
        )(request)
        try:
            found = await call
        except grpc.aio.AioRpcError as error:
            code = error.code().value[0]
            told = {"code": code, "message": error.details(), "details": []}
            return _STATUS.get(code, 500), [], json.dumps(told).encode()
        heights = dict(await call.initial_metadata() or ())
        height = heights.get("x-cosmos-block-height")
        headers = [f"Grpc-Metadata-X-Cosmos-Block-Height: {height}"] if height and self.tells_height else []
        printed = json_format.MessageToDict(
            found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return 200, headers, json.dumps(printed).encode()
