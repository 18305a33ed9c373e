"""Every query that is asked of a node, by its gRPC method and its REST path. Source: interface notes 2.1 and 7.

Ids in paths are checked by whoever makes the request (`hashfleet.action`); what is free text is quoted here.
"""

from __future__ import annotations

import base64
from typing import Final
from urllib.parse import quote

from coordinator.chain.transport import Query
from hashfleet.rpc.cosmos.auth.v1beta1 import query_pb2 as auth_pb2
from hashfleet.rpc.cosmos.base.tendermint.v1beta1 import query_pb2 as node_pb2
from hashfleet.rpc.cosmos.tx.v1beta1 import service_pb2
from hashfleet.rpc.cosmos.upgrade.v1beta1 import query_pb2 as upgrade_pb2
from hashfleet.rpc.structs.structs import query_pb2

_STRUCTS: Final = "/structs.structs.Query/"
_NODE: Final = "/cosmos.base.tendermint.v1beta1.Service/"
_TX: Final = "/cosmos.tx.v1beta1.Service/"


def _quoted(text: str) -> str:
    return quote(text, safe="")


#: The one path of the chain's own module without the prefix ``/structs``.
BLOCK_HEIGHT: Final = Query[query_pb2.QueryBlockHeight, query_pb2.QueryBlockHeightResponse](
    f"{_STRUCTS}GetBlockHeight", query_pb2.QueryBlockHeightResponse, lambda _: "/blockheight"
)
STRUCT: Final = Query[query_pb2.QueryGetStructRequest, query_pb2.QueryGetStructResponse](
    f"{_STRUCTS}Struct", query_pb2.QueryGetStructResponse, lambda asked: f"/structs/struct/{_quoted(asked.id)}"
)
STRUCT_TYPE: Final = Query[query_pb2.QueryGetStructTypeRequest, query_pb2.QueryGetStructTypeResponse](
    f"{_STRUCTS}StructType", query_pb2.QueryGetStructTypeResponse, lambda asked: f"/structs/struct_type/{asked.id}"
)
PLANET: Final = Query[query_pb2.QueryGetPlanetRequest, query_pb2.QueryGetPlanetResponse](
    f"{_STRUCTS}Planet", query_pb2.QueryGetPlanetResponse, lambda asked: f"/structs/planet/{_quoted(asked.id)}"
)
PLANET_ATTRIBUTE: Final = Query[query_pb2.QueryGetPlanetAttributeRequest, query_pb2.QueryGetPlanetAttributeResponse](
    f"{_STRUCTS}PlanetAttribute",
    query_pb2.QueryGetPlanetAttributeResponse,
    lambda asked: f"/structs/planet_attribute/{_quoted(asked.planetId)}/{_quoted(asked.attributeType)}",
)
FLEET: Final = Query[query_pb2.QueryGetFleetRequest, query_pb2.QueryGetFleetResponse](
    f"{_STRUCTS}Fleet", query_pb2.QueryGetFleetResponse, lambda asked: f"/structs/fleet/{_quoted(asked.id)}"
)
GUILD: Final = Query[query_pb2.QueryGetGuildRequest, query_pb2.QueryGetGuildResponse](
    f"{_STRUCTS}Guild", query_pb2.QueryGetGuildResponse, lambda asked: f"/structs/guild/{_quoted(asked.id)}"
)
REACTOR: Final = Query[query_pb2.QueryGetReactorRequest, query_pb2.QueryGetReactorResponse](
    f"{_STRUCTS}Reactor", query_pb2.QueryGetReactorResponse, lambda asked: f"/structs/reactor/{_quoted(asked.id)}"
)
PLAYER: Final = Query[query_pb2.QueryGetPlayerRequest, query_pb2.QueryGetPlayerResponse](
    f"{_STRUCTS}Player", query_pb2.QueryGetPlayerResponse, lambda asked: f"/structs/player/{_quoted(asked.id)}"
)
ADDRESS: Final = Query[query_pb2.QueryGetAddressRequest, query_pb2.QueryAddressResponse](
    f"{_STRUCTS}Address", query_pb2.QueryAddressResponse, lambda asked: f"/structs/address/{_quoted(asked.address)}"
)
PERMISSION: Final = Query[query_pb2.QueryGetPermissionRequest, query_pb2.QueryGetPermissionResponse](
    f"{_STRUCTS}Permission",
    query_pb2.QueryGetPermissionResponse,
    lambda asked: f"/structs/permission/{quote(asked.permissionId, safe='@')}",
)
GUILD_CHARTER: Final = Query[query_pb2.QueryGuildCharter, query_pb2.QueryGuildCharterResponse](
    f"{_STRUCTS}GuildCharter", query_pb2.QueryGuildCharterResponse, lambda _: "/structs/structs/guild_charter"
)

ACCOUNT: Final = Query[auth_pb2.QueryAccountRequest, auth_pb2.QueryAccountResponse](
    "/cosmos.auth.v1beta1.Query/Account",
    auth_pb2.QueryAccountResponse,
    lambda asked: f"/cosmos/auth/v1beta1/accounts/{_quoted(asked.address)}",
)
NODE_INFO: Final = Query[node_pb2.GetNodeInfoRequest, node_pb2.GetNodeInfoResponse](
    f"{_NODE}GetNodeInfo", node_pb2.GetNodeInfoResponse, lambda _: "/cosmos/base/tendermint/v1beta1/node_info"
)
SYNCING: Final = Query[node_pb2.GetSyncingRequest, node_pb2.GetSyncingResponse](
    f"{_NODE}GetSyncing", node_pb2.GetSyncingResponse, lambda _: "/cosmos/base/tendermint/v1beta1/syncing"
)
LATEST_BLOCK: Final = Query[node_pb2.GetLatestBlockRequest, node_pb2.GetLatestBlockResponse](
    f"{_NODE}GetLatestBlock", node_pb2.GetLatestBlockResponse, lambda _: "/cosmos/base/tendermint/v1beta1/blocks/latest"
)
APPLIED_PLAN: Final = Query[upgrade_pb2.QueryAppliedPlanRequest, upgrade_pb2.QueryAppliedPlanResponse](
    "/cosmos.upgrade.v1beta1.Query/AppliedPlan",
    upgrade_pb2.QueryAppliedPlanResponse,
    lambda asked: f"/cosmos/upgrade/v1beta1/applied_plan/{_quoted(asked.name)}",
)
BROADCAST_TX: Final = Query[service_pb2.BroadcastTxRequest, service_pb2.BroadcastTxResponse](
    f"{_TX}BroadcastTx",
    service_pb2.BroadcastTxResponse,
    lambda _: "/cosmos/tx/v1beta1/txs",
    lambda offered: {
        "tx_bytes": base64.b64encode(offered.tx_bytes).decode("ascii"),
        "mode": service_pb2.BroadcastMode.Name(offered.mode),
    },
)
GET_TX: Final = Query[service_pb2.GetTxRequest, service_pb2.GetTxResponse](
    f"{_TX}GetTx", service_pb2.GetTxResponse, lambda asked: f"/cosmos/tx/v1beta1/txs/{_quoted(asked.hash)}"
)
