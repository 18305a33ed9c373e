"""structsd's REST (LCD): the paths of grpc-gateway over the same methods as gRPC, and the few that only REST has here.

Errors are ``{"code":5,"message":"...","details":[]}`` with the HTTP status of the gRPC code; a path that this version
does not serve is 501 with code 12. What only REST has (lists, fleets by index, grid, applied plans) has the shapes of
the SDK's conventions; the interface notes do not tell them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import grpc
from google.protobuf import json_format
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from devnet import records
from devnet.chain import Chain, View
from devnet.faults import Door, Dropped, Faults
from devnet.gateway_json import Json, printed
from devnet.grpc_server import MAX_REQUEST_BYTES, asked_height
from devnet.queries import HEIGHT_HEADER, METHODS, QueryError, shown_block
from devnet.rules import LIST_CAP
from devnet.web_server import cut
from hashfleet.errors import InvalidInput

logger = logging.getLogger(__name__)

#: Base64 and JSON make a request larger than gRPC's.
MAX_BODY_BYTES: Final = 2 * MAX_REQUEST_BYTES
_STATUS: Final[Mapping[grpc.StatusCode, int]] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
}
_TX = "/cosmos/tx/v1beta1"
_COMET = "/cosmos/base/tendermint/v1beta1"

#: (HTTP method, path with the request's members, gRPC method).
_ROUTES: Final = (
    ("GET", "/blockheight", "GetBlockHeight"),
    ("GET", "/structs/structs/params", "Params"),
    ("GET", "/structs/structs/guild_charter", "GuildCharter"),
    ("GET", "/structs/struct/{id}", "Struct"),
    ("GET", "/structs/struct_attribute/{structId}/{attributeType}", "StructAttribute"),
    ("GET", "/structs/struct_type/{id}", "StructType"),
    ("GET", "/structs/fleet/{id}", "Fleet"),
    ("GET", "/structs/guild/{id}", "Guild"),
    ("GET", "/structs/reactor/{id}", "Reactor"),
    ("GET", "/structs/planet/{id}", "Planet"),
    ("GET", "/structs/planet_attribute/{planetId}/{attributeType}", "PlanetAttribute"),
    ("GET", "/structs/player/{id}", "Player"),
    ("GET", "/structs/address/{address}", "Address"),
    ("GET", "/structs/permission/{permissionId}", "Permission"),
    ("GET", "/cosmos/auth/v1beta1/accounts/{address}", "Account"),
    ("GET", f"{_TX}/txs/{{hash}}", "GetTx"),
    ("POST", f"{_TX}/txs", "BroadcastTx"),
    ("POST", f"{_TX}/simulate", "Simulate"),
    ("GET", f"{_COMET}/node_info", "GetNodeInfo"),
    ("GET", f"{_COMET}/syncing", "GetSyncing"),
    ("GET", f"{_COMET}/blocks/latest", "GetLatestBlock"),
)


def _fleet_by_index(view: View, index: str) -> Json:
    fleet = view.state.fleets.get(f"9-{index}")
    if fleet is None:
        raise QueryError(grpc.StatusCode.NOT_FOUND, f"{index[:60]!r}: object not found")
    return {"Fleet": printed(records.fleet_record(view.state, fleet))}


def _address_by_player(view: View, player: str) -> Json:
    state = view.state
    keys = [
        {"address": found.address, "playerId": found.player_id, "permissions": str(found.permissions)}
        for found in state.addresses.values()
        if found.player_id == player
    ]
    return _listed(view, "address", keys)


def _permission_by_object(view: View, wanted: str) -> Json:
    state = view.state
    shown = [
        {"permissionId": permission, "value": str(value)}
        for permission, value in state.grants.items()
        if permission.partition("@")[0] == wanted
    ]
    return _listed(view, "permissionRecords", shown)


def _grid(view: View, attribute: str) -> Json:
    number, _, of = attribute.partition("-")
    value = 0
    if (planet := view.state.planets.get(of)) and number == str(records.GRID_ORE):
        value = planet.ore
    elif player := view.state.players.get(of):
        grid = records.player_grid(player)
        values = {records.GRID_ORE: grid.ore, records.GRID_CAPACITY: grid.capacity, records.GRID_LOAD: grid.load,
                  records.GRID_STRUCTS_LOAD: grid.structsLoad}  # fmt: skip
        value = next((found for key, found in values.items() if str(key) == number), 0)
    return {"gridRecord": {"attributeId": attribute, "value": str(value)}}


def _structs(view: View) -> Json:
    shown = [printed(records.struct_record(view.state, struct)) for struct in view.state.structs.values()]
    return _listed(view, "Struct", shown)


def _planets(view: View) -> Json:
    shown = [printed(records.planet_record(view.state, planet)) for planet in view.state.planets.values()]
    return _listed(view, "Planet", shown)


def _block(view: View, height: str) -> Json:
    block = view.block(int(height)) if re.fullmatch(r"[0-9]{1,18}", height, re.ASCII) else None
    if block is None:
        told = f"requested block height {height[:40]} is not available; the latest is {view.height}"
        raise QueryError(grpc.StatusCode.INVALID_ARGUMENT, told)
    return _with_block(printed(shown_block(view, block)))


def _applied_plan(view: View, name: str) -> Json:
    return {"height": "0"}  # no upgrade ever ran here


def _listed(view: View, name: str, found: list[Json]) -> Json:
    """A list, whole: there are no pages here."""
    capped = view.state.rules.capped_lists
    shown = found[:LIST_CAP] if capped else found
    return {name: shown, "pagination": {"next_key": None, "total": "0" if capped else str(len(found))}}


def _with_block(answer: Json) -> Json:
    """A node still prints the block in CometBFT's form too; here the same."""
    return {"block_id": answer["block_id"], "block": answer["sdk_block"], "sdk_block": answer["sdk_block"]}


#: (path, name, what answers). REST alone serves these.
_ONLY_REST: Final[tuple[tuple[str, str, Callable[..., Json]], ...]] = (
    ("/structs/fleet_by_index/{index}", "FleetByIndex", _fleet_by_index),
    ("/structs/address_by_player/{player}", "AddressAllByPlayer", _address_by_player),
    ("/structs/permission/object/{wanted}", "PermissionByObject", _permission_by_object),
    ("/structs/grid/{attribute}", "Grid", _grid),
    ("/structs/struct", "StructAll", _structs),
    ("/structs/planet", "PlanetAll", _planets),
    (f"{_COMET}/blocks/{{height}}", "GetBlockByHeight", _block),
    ("/cosmos/upgrade/v1beta1/applied_plan/{name}", "AppliedPlan", _applied_plan),
)


@dataclass(frozen=True, slots=True)
class _Route:
    verb: str
    path: re.Pattern[str]
    name: str
    #: None: the gRPC method of that name.
    answer: Callable[..., Json] | None = None


def _routes() -> tuple[_Route, ...]:
    """Fixed parts before members, so that /blocks/latest is no height."""
    shared = [_Route(verb, _pattern(path), name) for verb, path, name in _ROUTES]
    return (*shared, *(_Route("GET", _pattern(path), name, answer) for path, name, answer in _ONLY_REST))


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))


class RestApp:
    """The ASGI app."""

    def __init__(self, chain: Chain, faults: Faults, *, sparse: bool = False) -> None:
        self._chain = chain
        self._faults = faults
        self._sparse = sparse
        self._routes = _routes()

    def asgi(self) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                request = Request(scope, receive)
                await (await self._respond(request))(scope, receive, send)

        return app

    async def _respond(self, request: Request) -> Response:
        raw_path = (
            bytes(request.scope.get("raw_path") or request.url.path.encode()).partition(b"?")[0].decode("latin-1")
        )
        found = next(
            (
                (route, members)
                for route in self._routes
                if route.verb == request.method and (members := route.path.fullmatch(raw_path))
            ),
            None,
        )
        if found is None:
            return _failure(grpc.StatusCode.UNIMPLEMENTED, "Not Implemented")
        route, members = found
        try:
            await self._faults.arriving(Door.REST, route.name)
            body = await _body(request)
            view = self._chain.view(_wanted_height(request), faults=self._faults)
            answer = self._answer(route, view, {k: unquote(v) for k, v in members.groupdict().items()}, body)
            await self._faults.answering(Door.REST, route.name)
        except Dropped:
            return cut(request)
        except ClientDisconnect:
            return Response(status_code=400)
        except QueryError as error:
            return _failure(error.code, error.message)
        except InvalidInput as error:
            return _failure(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Exception:
            logger.exception("%s failed", route.name)
            return _failure(grpc.StatusCode.INTERNAL, "internal error of the devnet")
        return JSONResponse(answer, headers={f"Grpc-Metadata-{HEIGHT_HEADER.title()}": str(view.height)})

    def _answer(self, route: _Route, view: View, members: dict[str, str], body: bytes) -> Json:
        if route.answer is not None:
            return route.answer(view, **members)
        method = METHODS[route.name]
        request = method.request()
        try:
            if route.verb == "POST":
                json_format.Parse(body, request)
            else:
                json_format.ParseDict(members, request)
        except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
            raise QueryError(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:300]) from error
        answer = printed(method.answer(view, request), sparse=self._sparse)
        if route.name == "GetLatestBlock":
            return _with_block(answer)
        if route.name == "Address" and view.state.rules.proof_nonce:
            answer["proofNonce"] = "0"
        return answer


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise QueryError(grpc.StatusCode.INVALID_ARGUMENT, "http: request body too large")
    return bytes(body)


def _wanted_height(request: Request) -> int | None:
    """The height that the client wants to read, if it says so. Raises InvalidInput."""
    text = request.headers.get(HEIGHT_HEADER) or request.headers.get(f"grpc-metadata-{HEIGHT_HEADER}")
    return asked_height(text) if text else None


def _failure(code: grpc.StatusCode, message: str) -> Response:
    number: int = code.value[0]
    return JSONResponse({"code": number, "message": message, "details": []}, _STATUS.get(code, 500))
