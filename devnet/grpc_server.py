"""structsd's gRPC: the game's queries and the SDK services that a transaction sender uses.

All answers are of the last committed height. The chain's quirks are kept: a misspelt attribute name reads attribute 0,
an unregistered address belongs to player 1-0, and what v0.21 added is UNIMPLEMENTED.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as ProtoAny
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from devnet import records
from devnet.block import IncludedTx, TxResult
from devnet.chain import Chain, MempoolRefusal
from devnet.state import NO_PLAYER
from devnet.transactions import ADDRESS_PREFIX, PUBLIC_KEY_URL, address_bytes, tx_hash
from hashfleet.difficulty import Rule, difficulty
from hashfleet.errors import HashfleetError, InvalidInput
from hashfleet.rpc.cosmos.auth.v1beta1 import auth_pb2
from hashfleet.rpc.cosmos.auth.v1beta1 import query_pb2 as auth_query_pb2
from hashfleet.rpc.cosmos.auth.v1beta1 import query_pb2_grpc as auth_query_grpc
from hashfleet.rpc.cosmos.base.abci.v1beta1 import abci_pb2
from hashfleet.rpc.cosmos.base.tendermint.v1beta1 import query_pb2 as comet_pb2
from hashfleet.rpc.cosmos.base.tendermint.v1beta1 import query_pb2_grpc as comet_grpc
from hashfleet.rpc.cosmos.crypto.secp256k1 import keys_pb2
from hashfleet.rpc.cosmos.tx.v1beta1 import service_pb2, service_pb2_grpc, tx_pb2
from hashfleet.rpc.structs.structs import query_pb2, query_pb2_grpc, types_pb2
from hashfleet.rpc.tendermint.abci import types_pb2 as abci_types_pb2

logger = logging.getLogger(__name__)

#: Larger than any transaction; larger requests are RESOURCE_EXHAUSTED before they reach us.
MAX_REQUEST_BYTES = 2 * 1024 * 1024
#: The charter clock of v0.21: no guild was founded by a proof yet, and the range is the chain's default.
CHARTER_ANCHOR = 1
CHARTER_RANGE = 2_500_000
_HASH = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_V = TypeVar("_V")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only


class StructsQuery(query_pb2_grpc.QueryServicer):
    """`structs.structs.Query`."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def GetBlockHeight(  # noqa: N802
        self, request: query_pb2.QueryBlockHeight, context: Context
    ) -> query_pb2.QueryBlockHeightResponse:
        return query_pb2.QueryBlockHeightResponse(blockHeight=self._chain.height)

    async def GuildCharter(  # noqa: N802
        self, request: query_pb2.QueryGuildCharter, context: Context
    ) -> query_pb2.QueryGuildCharterResponse:
        if not self._chain.state.planet_clocks:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method GuildCharter for v0.20")
        age = self._chain.height - CHARTER_ANCHOR
        return query_pb2.QueryGuildCharterResponse(
            anchor=CHARTER_ANCHOR,
            age=age,
            difficulty=difficulty(age, CHARTER_RANGE, Rule.FLOAT),
            difficultyRange=CHARTER_RANGE,
        )

    async def Params(  # noqa: N802
        self, request: query_pb2.QueryParamsRequest, context: Context
    ) -> query_pb2.QueryParamsResponse:
        if not self._chain.state.planet_clocks:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method Params for v0.20")
        return query_pb2.QueryParamsResponse(params=types_pb2.Params(guildCharterDifficultyRange=CHARTER_RANGE))

    async def Address(  # noqa: N802
        self, request: query_pb2.QueryGetAddressRequest, context: Context
    ) -> query_pb2.QueryAddressResponse:
        found = self._chain.state.addresses.get(request.address)
        if found is None:
            return query_pb2.QueryAddressResponse(address=request.address, playerId=NO_PLAYER, permissions=0)
        return query_pb2.QueryAddressResponse(
            address=found.address, playerId=found.player_id, permissions=found.permissions
        )

    async def Fleet(  # noqa: N802
        self, request: query_pb2.QueryGetFleetRequest, context: Context
    ) -> query_pb2.QueryGetFleetResponse:
        state = self._chain.state
        fleet = await _found(context, state.fleets, request.id)
        return query_pb2.QueryGetFleetResponse(Fleet=records.fleet_record(state, fleet))

    async def Planet(  # noqa: N802
        self, request: query_pb2.QueryGetPlanetRequest, context: Context
    ) -> query_pb2.QueryGetPlanetResponse:
        state = self._chain.state
        planet = await _found(context, state.planets, request.id)
        return query_pb2.QueryGetPlanetResponse(
            Planet=records.planet_record(state, planet),
            gridAttributes=types_pb2.GridAttributes(ore=planet.ore),
            planetAttributes=records.planet_attributes(planet),
        )

    async def PlanetAttribute(  # noqa: N802
        self, request: query_pb2.QueryGetPlanetAttributeRequest, context: Context
    ) -> query_pb2.QueryGetPlanetAttributeResponse:
        planet = self._chain.state.planets.get(request.planetId)
        values = records.planet_attribute_values(planet) if planet else {}
        number = records.planet_attribute_number(self._chain.state, request.attributeType)
        return query_pb2.QueryGetPlanetAttributeResponse(attribute=values.get(number, 0))

    async def Player(  # noqa: N802
        self, request: query_pb2.QueryGetPlayerRequest, context: Context
    ) -> query_pb2.QueryGetPlayerResponse:
        player = await _found(context, self._chain.state.players, request.id)
        return query_pb2.QueryGetPlayerResponse(
            Player=records.player_record(player), gridAttributes=records.player_grid(player)
        )

    async def Struct(  # noqa: N802
        self, request: query_pb2.QueryGetStructRequest, context: Context
    ) -> query_pb2.QueryGetStructResponse:
        state = self._chain.state
        struct = await _found(context, state.structs, request.id)
        return query_pb2.QueryGetStructResponse(
            Struct=records.struct_record(state, struct),
            structAttributes=records.struct_attributes(struct),
            gridAttributes=types_pb2.GridAttributes(),
        )

    async def StructAttribute(  # noqa: N802
        self, request: query_pb2.QueryGetStructAttributeRequest, context: Context
    ) -> query_pb2.QueryGetStructAttributeResponse:
        struct = self._chain.state.structs.get(request.structId)
        values = records.struct_attribute_values(struct) if struct else {}
        number = records.STRUCT_ATTRIBUTE_NAMES.get(request.attributeType, 0)
        return query_pb2.QueryGetStructAttributeResponse(attribute=values.get(number, 0))

    async def StructType(  # noqa: N802
        self, request: query_pb2.QueryGetStructTypeRequest, context: Context
    ) -> query_pb2.QueryGetStructTypeResponse:
        kind = await _found(context, self._chain.state.struct_types, request.id)
        return query_pb2.QueryGetStructTypeResponse(StructType=records.struct_type_record(kind))

    async def Permission(  # noqa: N802
        self, request: query_pb2.QueryGetPermissionRequest, context: Context
    ) -> query_pb2.QueryGetPermissionResponse:
        state = self._chain.state
        wanted = request.permissionId
        of_key = re.fullmatch(r"8-(\w{1,100})@0", wanted, re.ASCII)
        address = state.addresses.get(of_key[1]) if of_key else None
        value = address.permissions if address else state.grants.get(wanted, 0)
        return query_pb2.QueryGetPermissionResponse(
            permissionRecord=types_pb2.PermissionRecord(permissionId=wanted, value=value)
        )


class AuthQuery(auth_query_grpc.QueryServicer):
    """`cosmos.auth.v1beta1.Query`."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def Account(  # noqa: N802
        self, request: auth_query_pb2.QueryAccountRequest, context: Context
    ) -> auth_query_pb2.QueryAccountResponse:
        try:
            address_bytes(request.address)
        except InvalidInput as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        account = self._chain.state.accounts.get(request.address)
        if account is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"account {request.address} not found")
        base = auth_pb2.BaseAccount(address=account.address, account_number=account.number, sequence=account.sequence)
        if account.public_key is not None:
            key = keys_pb2.PubKey(key=account.public_key)
            base.pub_key.CopyFrom(ProtoAny(type_url=PUBLIC_KEY_URL, value=key.SerializeToString()))
        return auth_query_pb2.QueryAccountResponse(account=_packed(base))


class TxService(service_pb2_grpc.ServiceServicer):
    """`cosmos.tx.v1beta1.Service`."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def Simulate(  # noqa: N802
        self, request: service_pb2.SimulateRequest, context: Context
    ) -> service_pb2.SimulateResponse:
        result = self._chain.simulate(request.tx_bytes)
        if result.code:
            told = f"{result.log} with gas used: '{result.gas_used}'"
            await context.abort(grpc.StatusCode.UNKNOWN, told)
        gas = abci_pb2.GasInfo(gas_wanted=result.gas_wanted, gas_used=result.gas_used)
        return service_pb2.SimulateResponse(gas_info=gas)

    async def GetTx(  # noqa: N802
        self, request: service_pb2.GetTxRequest, context: Context
    ) -> service_pb2.GetTxResponse:
        if not _HASH.fullmatch(request.hash):
            told = "invalid hash; it should be 64 hex digits"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, told)
        found = self._chain.find(request.hash.upper())
        if found is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"tx not found: {request.hash}")
        response = self._included(found)
        return service_pb2.GetTxResponse(tx=tx_pb2.Tx.FromString(response.tx.value), tx_response=response)

    async def BroadcastTx(  # noqa: N802
        self, request: service_pb2.BroadcastTxRequest, context: Context
    ) -> service_pb2.BroadcastTxResponse:
        if request.mode not in (service_pb2.BROADCAST_MODE_SYNC, service_pb2.BROADCAST_MODE_ASYNC):
            told = "unsupported return type; supported types: sync, async"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, told)
        try:
            hash_, result = self._chain.broadcast(request.tx_bytes)
        except MempoolRefusal as error:
            hash_, result = tx_hash(request.tx_bytes), TxResult(error.code, error.codespace, error.log)
        if request.mode == service_pb2.BROADCAST_MODE_ASYNC:  # answers before CheckTx has run
            result = TxResult()
        return service_pb2.BroadcastTxResponse(
            tx_response=abci_pb2.TxResponse(
                txhash=hash_, code=result.code, codespace=result.codespace, raw_log=result.log
            )
        )

    def _included(self, tx: IncludedTx) -> abci_pb2.TxResponse:
        block = self._chain.block(tx.height)
        assert block is not None  # the index drops a transaction with its block
        raw = tx_pb2.TxRaw.FromString(tx.raw)  # CheckTx decoded it before it came into a block
        shown = tx_pb2.Tx(
            body=tx_pb2.TxBody.FromString(raw.body_bytes),
            auth_info=tx_pb2.AuthInfo.FromString(raw.auth_info_bytes),
            signatures=raw.signatures,
        )
        result = tx.result
        return abci_pb2.TxResponse(
            height=tx.height,
            txhash=tx.hash,
            codespace=result.codespace,
            code=result.code,
            data=result.data.hex().upper(),
            raw_log=result.log,
            gas_wanted=result.gas_wanted,
            gas_used=result.gas_used,
            tx=_packed(shown),
            timestamp=block.time[:19] + "Z",
            events=[
                abci_types_pb2.Event(
                    type=event.type,
                    attributes=[
                        abci_types_pb2.EventAttribute(key=key, value=value, index=True)
                        for key, value in event.attributes
                    ],
                )
                for event in result.events
            ],
        )


class CometService(comet_grpc.ServiceServicer):
    """`cosmos.base.tendermint.v1beta1.Service`."""

    def __init__(self, chain: Chain, version: str) -> None:
        self._chain = chain
        self._version = version

    async def GetNodeInfo(  # noqa: N802
        self, request: comet_pb2.GetNodeInfoRequest, context: Context
    ) -> comet_pb2.GetNodeInfoResponse:
        answer = comet_pb2.GetNodeInfoResponse()
        answer.default_node_info.network = self._chain.chain_id
        answer.default_node_info.moniker = "hashfleet-devnet"
        answer.default_node_info.version = "0.38.21"
        answer.application_version.name = ADDRESS_PREFIX
        answer.application_version.app_name = "structsd"
        answer.application_version.version = self._version
        answer.application_version.cosmos_sdk_version = "v0.53.5"
        return answer

    async def GetSyncing(  # noqa: N802
        self, request: comet_pb2.GetSyncingRequest, context: Context
    ) -> comet_pb2.GetSyncingResponse:
        return comet_pb2.GetSyncingResponse(syncing=False)

    async def GetLatestBlock(  # noqa: N802
        self, request: comet_pb2.GetLatestBlockRequest, context: Context
    ) -> comet_pb2.GetLatestBlockResponse:
        block = self._chain.last_block
        seconds, nanos = divmod(block.time_ns, 1_000_000_000)
        answer = comet_pb2.GetLatestBlockResponse()
        answer.block_id.hash = bytes.fromhex(block.hash)
        answer.sdk_block.header.chain_id = self._chain.chain_id
        answer.sdk_block.header.height = block.height
        answer.sdk_block.header.time.CopyFrom(Timestamp(seconds=seconds, nanos=nanos))
        answer.sdk_block.data.txs.extend(tx.raw for tx in block.txs)
        return answer


def make_server(chain: Chain, version: str) -> grpc.aio.Server:
    """A server with all services registered, bound to nothing yet."""
    server = grpc.aio.server(
        interceptors=[_Backstop()],
        options=[
            ("grpc.so_reuseport", 0),  # else a second devnet on the same port would share it silently
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        ],
    )
    query_pb2_grpc.add_QueryServicer_to_server(StructsQuery(chain), server)
    auth_query_grpc.add_QueryServicer_to_server(AuthQuery(chain), server)
    service_pb2_grpc.add_ServiceServicer_to_server(TxService(chain), server)
    comet_grpc.add_ServiceServicer_to_server(CometService(chain, version), server)
    return server


def bind(server: grpc.aio.Server, host: str, port: int) -> int:
    """Bind to host:port (0 picks a free one) and return the port. Raises HashfleetError if it is taken."""
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise HashfleetError(f"cannot listen for gRPC on {host}:{port}; is another node using the port?")
    return bound


class _Backstop(grpc.aio.ServerInterceptor):
    """Turns an exception that a method let through into INTERNAL, and logs it."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        method: Any = handler.unary_unary

        async def guarded(request: Message, context: Context) -> Message:
            try:
                answer: Message = await method(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception:
                logger.exception("%s failed", handler_call_details.method)
                await context.abort(grpc.StatusCode.INTERNAL, "internal error of the devnet")
            return answer

        return grpc.unary_unary_rpc_method_handler(
            guarded,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


async def _found(context: Context, table: Mapping[Any, _V], key: str | int) -> _V:
    value = table.get(key)
    if value is None:
        await context.abort(grpc.StatusCode.NOT_FOUND, f"{str(key)[:60]!r}: object not found")
    return value


def _packed(message: Message) -> ProtoAny:
    packed = ProtoAny()
    packed.Pack(message, type_url_prefix="/")
    return packed
