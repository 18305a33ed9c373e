"""What the node answers, apart from any transport: gRPC and REST ask the same table of methods.

A method takes the view that it reads and a protobuf request, and returns a protobuf answer or raises QueryError. The
chain's quirks are kept: a misspelt attribute name reads attribute 0, an unregistered address belongs to player 1-0, and
what v0.21 added is UNIMPLEMENTED before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as ProtoAny
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from devnet import charter, records
from devnet.block import Block, IncludedTx, TxResult
from devnet.chain import MempoolRefusal, View
from devnet.state import NO_PLAYER
from devnet.transactions import ADDRESS_PREFIX, PUBLIC_KEY_URL, address_bytes, tx_hash
from hashfleet.errors import InvalidInput
from hashfleet.rpc.cosmos.auth.v1beta1 import auth_pb2
from hashfleet.rpc.cosmos.auth.v1beta1 import query_pb2 as auth_query_pb2
from hashfleet.rpc.cosmos.base.abci.v1beta1 import abci_pb2
from hashfleet.rpc.cosmos.base.tendermint.v1beta1 import query_pb2 as comet_pb2
from hashfleet.rpc.cosmos.crypto.secp256k1 import keys_pb2
from hashfleet.rpc.cosmos.tx.v1beta1 import service_pb2, tx_pb2
from hashfleet.rpc.structs.structs import query_pb2, types_pb2
from hashfleet.rpc.tendermint.abci import types_pb2 as abci_types_pb2

#: Header with which a client asks for a height, and with which each answer tells the height that was read.
HEIGHT_HEADER: Final = "x-cosmos-block-height"

_HASH = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_V = TypeVar("_V")

STRUCTS: Final = "structs.structs.Query"
AUTH: Final = "cosmos.auth.v1beta1.Query"
TX: Final = "cosmos.tx.v1beta1.Service"
COMET: Final = "cosmos.base.tendermint.v1beta1.Service"


class QueryError(Exception):
    """An answer that is an error."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service."""

    service: str
    name: str
    request: type[Message]
    answer: Callable[[View, Any], Message]


def _block_height(view: View, request: query_pb2.QueryBlockHeight) -> Message:
    return query_pb2.QueryBlockHeightResponse(blockHeight=view.height)


def _guild_charter(view: View, request: query_pb2.QueryGuildCharter) -> Message:
    _since_charter(view, "GuildCharter")
    found = view.state.charter
    return query_pb2.QueryGuildCharterResponse(
        anchor=found.anchor,
        age=found.age(view.height),
        difficulty=charter.asked_zeros(view.state, view.height),
        difficultyRange=found.range,
    )


def _params(view: View, request: query_pb2.QueryParamsRequest) -> Message:
    _since_charter(view, "Params")
    found = view.state.charter
    return query_pb2.QueryParamsResponse(
        params=types_pb2.Params(
            guildCharterDifficultyRange=found.stored_range, guildCharterReactorAge=found.reactor_age
        )
    )


def _address(view: View, request: query_pb2.QueryGetAddressRequest) -> Message:
    found = view.state.addresses.get(request.address)
    if found is None:
        return query_pb2.QueryAddressResponse(address=request.address, playerId=NO_PLAYER, permissions=0)
    return query_pb2.QueryAddressResponse(
        address=found.address, playerId=found.player_id, permissions=found.permissions
    )


def _fleet(view: View, request: query_pb2.QueryGetFleetRequest) -> Message:
    fleet = _found(view.state.fleets, request.id)
    return query_pb2.QueryGetFleetResponse(Fleet=records.fleet_record(view.state, fleet))


def _guild(view: View, request: query_pb2.QueryGetGuildRequest) -> Message:
    guild = _found(view.state.guilds, request.id)
    return query_pb2.QueryGetGuildResponse(Guild=types_pb2.Guild(id=guild.id, owner=guild.owner))


def _reactor(view: View, request: query_pb2.QueryGetReactorRequest) -> Message:
    reactor = _found(view.state.reactors, request.id)
    return query_pb2.QueryGetReactorResponse(Reactor=types_pb2.Reactor(id=reactor.id))


def _planet(view: View, request: query_pb2.QueryGetPlanetRequest) -> Message:
    planet = _found(view.state.planets, request.id)
    return query_pb2.QueryGetPlanetResponse(
        Planet=records.planet_record(view.state, planet),
        gridAttributes=types_pb2.GridAttributes(ore=planet.ore),
        planetAttributes=records.planet_attributes(planet),
    )


def _planet_attribute(view: View, request: query_pb2.QueryGetPlanetAttributeRequest) -> Message:
    planet = view.state.planets.get(request.planetId)
    values = records.planet_attribute_values(planet) if planet else {}
    number = records.planet_attribute_number(view.state, request.attributeType)
    return query_pb2.QueryGetPlanetAttributeResponse(attribute=values.get(number, 0))


def _player(view: View, request: query_pb2.QueryGetPlayerRequest) -> Message:
    player = _found(view.state.players, request.id)
    return query_pb2.QueryGetPlayerResponse(
        Player=records.player_record(player), gridAttributes=records.player_grid(player)
    )


def _struct(view: View, request: query_pb2.QueryGetStructRequest) -> Message:
    struct = _found(view.state.structs, request.id)
    return query_pb2.QueryGetStructResponse(
        Struct=records.struct_record(view.state, struct),
        structAttributes=records.struct_attributes(struct),
        gridAttributes=types_pb2.GridAttributes(),
    )


def _struct_attribute(view: View, request: query_pb2.QueryGetStructAttributeRequest) -> Message:
    struct = view.state.structs.get(request.structId)
    values = records.struct_attribute_values(struct) if struct else {}
    number = records.STRUCT_ATTRIBUTE_NAMES.get(request.attributeType, 0)
    return query_pb2.QueryGetStructAttributeResponse(attribute=values.get(number, 0))


def _struct_type(view: View, request: query_pb2.QueryGetStructTypeRequest) -> Message:
    kind = _found(view.state.struct_types, request.id)
    return query_pb2.QueryGetStructTypeResponse(StructType=records.struct_type_record(kind))


def _permission(view: View, request: query_pb2.QueryGetPermissionRequest) -> Message:
    wanted = request.permissionId
    of_key = re.fullmatch(r"8-(\w{1,100})@0", wanted, re.ASCII)
    address = view.state.addresses.get(of_key[1]) if of_key else None
    value = address.permissions if address else view.state.grants.get(wanted, 0)
    return query_pb2.QueryGetPermissionResponse(
        permissionRecord=types_pb2.PermissionRecord(permissionId=wanted, value=value)
    )


def _account(view: View, request: auth_query_pb2.QueryAccountRequest) -> Message:
    try:
        address_bytes(request.address)
    except InvalidInput as error:
        raise QueryError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
    account = view.state.accounts.get(request.address)
    if account is None:
        raise QueryError(grpc.StatusCode.NOT_FOUND, f"account {request.address} not found")
    base = auth_pb2.BaseAccount(address=account.address, account_number=account.number, sequence=account.sequence)
    if account.public_key is not None:
        key = keys_pb2.PubKey(key=account.public_key)
        base.pub_key.CopyFrom(ProtoAny(type_url=PUBLIC_KEY_URL, value=key.SerializeToString()))
    return auth_query_pb2.QueryAccountResponse(account=_packed(base))


def _simulate(view: View, request: service_pb2.SimulateRequest) -> Message:
    result = view.chain.simulate(request.tx_bytes)
    if result.code:
        raise QueryError(grpc.StatusCode.UNKNOWN, f"{result.log} with gas used: '{result.gas_used}'")
    gas = abci_pb2.GasInfo(gas_wanted=result.gas_wanted, gas_used=result.gas_used)
    return service_pb2.SimulateResponse(gas_info=gas)


def _get_tx(view: View, request: service_pb2.GetTxRequest) -> Message:
    if not _HASH.fullmatch(request.hash):
        raise QueryError(grpc.StatusCode.INVALID_ARGUMENT, "invalid hash; it should be 64 hex digits")
    found = view.find(request.hash.upper())
    if found is None:
        raise QueryError(grpc.StatusCode.NOT_FOUND, f"tx not found: {request.hash}")
    response = _included(view, found)
    return service_pb2.GetTxResponse(tx=tx_pb2.Tx.FromString(response.tx.value), tx_response=response)


def _broadcast_tx(view: View, request: service_pb2.BroadcastTxRequest) -> Message:
    if request.mode not in (service_pb2.BROADCAST_MODE_SYNC, service_pb2.BROADCAST_MODE_ASYNC):
        told = "unsupported return type; supported types: sync, async"
        raise QueryError(grpc.StatusCode.INVALID_ARGUMENT, told)
    try:
        hash_, result = view.chain.broadcast(request.tx_bytes, view.faults)
    except MempoolRefusal as error:
        hash_, result = tx_hash(request.tx_bytes), TxResult(error.code, error.codespace, error.log)
    if request.mode == service_pb2.BROADCAST_MODE_ASYNC:  # answers before CheckTx has run
        result = TxResult()
    return service_pb2.BroadcastTxResponse(
        tx_response=abci_pb2.TxResponse(txhash=hash_, code=result.code, codespace=result.codespace, raw_log=result.log)
    )


def _included(view: View, tx: IncludedTx) -> abci_pb2.TxResponse:
    block = view.chain.block(tx.height)
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
                    abci_types_pb2.EventAttribute(key=key, value=value, index=True) for key, value in event.attributes
                ],
            )
            for event in result.events
        ],
    )


def _node_info(view: View, request: comet_pb2.GetNodeInfoRequest) -> Message:
    answer = comet_pb2.GetNodeInfoResponse()
    answer.default_node_info.network = view.chain_id
    answer.default_node_info.moniker = "hashfleet-devnet"
    answer.default_node_info.version = "0.38.21"
    answer.application_version.name = ADDRESS_PREFIX
    answer.application_version.app_name = "structsd"
    answer.application_version.version = view.state.rules.release
    answer.application_version.cosmos_sdk_version = "v0.53.5"
    return answer


def _syncing(view: View, request: comet_pb2.GetSyncingRequest) -> Message:
    return comet_pb2.GetSyncingResponse(syncing=False)


def _latest_block(view: View, request: comet_pb2.GetLatestBlockRequest) -> Message:
    return shown_block(view, view.last_block)


def shown_block(view: View, block: Block) -> comet_pb2.GetLatestBlockResponse:
    """A block in the SDK's form."""
    seconds, nanos = divmod(block.time_ns, 1_000_000_000)
    answer = comet_pb2.GetLatestBlockResponse()
    answer.block_id.hash = bytes.fromhex(block.hash)
    answer.sdk_block.header.chain_id = view.chain_id
    answer.sdk_block.header.height = block.height
    answer.sdk_block.header.time.CopyFrom(Timestamp(seconds=seconds, nanos=nanos))
    answer.sdk_block.data.txs.extend(tx.raw for tx in block.txs)
    return answer


#: All methods by name; no two services have one of the same name.
METHODS: Final[Mapping[str, Method]] = {
    method.name: method
    for method in (
        Method(STRUCTS, "GetBlockHeight", query_pb2.QueryBlockHeight, _block_height),
        Method(STRUCTS, "GuildCharter", query_pb2.QueryGuildCharter, _guild_charter),
        Method(STRUCTS, "Params", query_pb2.QueryParamsRequest, _params),
        Method(STRUCTS, "Address", query_pb2.QueryGetAddressRequest, _address),
        Method(STRUCTS, "Fleet", query_pb2.QueryGetFleetRequest, _fleet),
        Method(STRUCTS, "Guild", query_pb2.QueryGetGuildRequest, _guild),
        Method(STRUCTS, "Reactor", query_pb2.QueryGetReactorRequest, _reactor),
        Method(STRUCTS, "Planet", query_pb2.QueryGetPlanetRequest, _planet),
        Method(STRUCTS, "PlanetAttribute", query_pb2.QueryGetPlanetAttributeRequest, _planet_attribute),
        Method(STRUCTS, "Player", query_pb2.QueryGetPlayerRequest, _player),
        Method(STRUCTS, "Struct", query_pb2.QueryGetStructRequest, _struct),
        Method(STRUCTS, "StructAttribute", query_pb2.QueryGetStructAttributeRequest, _struct_attribute),
        Method(STRUCTS, "StructType", query_pb2.QueryGetStructTypeRequest, _struct_type),
        Method(STRUCTS, "Permission", query_pb2.QueryGetPermissionRequest, _permission),
        Method(AUTH, "Account", auth_query_pb2.QueryAccountRequest, _account),
        Method(TX, "Simulate", service_pb2.SimulateRequest, _simulate),
        Method(TX, "GetTx", service_pb2.GetTxRequest, _get_tx),
        Method(TX, "BroadcastTx", service_pb2.BroadcastTxRequest, _broadcast_tx),
        Method(COMET, "GetNodeInfo", comet_pb2.GetNodeInfoRequest, _node_info),
        Method(COMET, "GetSyncing", comet_pb2.GetSyncingRequest, _syncing),
        Method(COMET, "GetLatestBlock", comet_pb2.GetLatestBlockRequest, _latest_block),
    )
}


def not_served(what: str, release: str) -> NoReturn:
    raise QueryError(grpc.StatusCode.UNIMPLEMENTED, f"unknown method {what} for {release}")


def _since_charter(view: View, what: str) -> None:
    if not view.state.rules.charter:
        not_served(what, view.state.rules.release)


def _found(table: Mapping[Any, _V], key: str | int) -> _V:
    value = table.get(key)
    if value is None:
        raise QueryError(grpc.StatusCode.NOT_FOUND, f"{str(key)[:60]!r}: object not found")
    return value


def _packed(message: Message) -> ProtoAny:
    packed = ProtoAny()
    packed.Pack(message, type_url_prefix="/")
    return packed
