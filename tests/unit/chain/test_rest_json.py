"""REST answers as protobuf messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.chain.rest_json import UNREAD_ENUMS, error_of, read_answer
from hashfleet.errors import BadChainAnswer
from hashfleet.rpc.cosmos.auth.v1beta1 import auth_pb2
from hashfleet.rpc.cosmos.auth.v1beta1 import query_pb2 as auth_query_pb2
from hashfleet.rpc.cosmos.base.tendermint.v1beta1 import query_pb2 as node_pb2
from hashfleet.rpc.cosmos.tx.v1beta1 import service_pb2
from hashfleet.rpc.structs.structs import query_pb2, types_pb2

#: As the interface notes print it (2.1), with what a newer version might add.
STRUCT = {
    "Struct": {
        "id": "5-14", "index": "14", "type": "14", "creator": "structs1abc", "owner": "1-7", "locationType": "planet",
        "locationId": "2-9", "operatingAmbit": "land", "slot": "0", "newMember": {"a": [1]},
    },
    "structAttributes": {
        "health": "3", "status": "7", "blockStartBuild": "1283900", "blockStartOreMine": "1290000",
        "isMaterialized": True, "isBuilt": True, "isOnline": True,
    },
    "gridAttributes": {}, "structDefenders": [], "unknown": None,
}  # fmt: skip


def read(value: object, kind: type = query_pb2.QueryGetStructResponse) -> object:
    return read_answer(json.dumps(value).encode(), kind, "the node here", "struct 5-14")


def test_the_answer_of_the_notes_is_read_as_grpc_would_bring_it() -> None:
    assert read(STRUCT) == query_pb2.QueryGetStructResponse(
        Struct=types_pb2.Struct(
            id="5-14", index=14, type=14, creator="structs1abc", owner="1-7", locationType=types_pb2.planet,
            locationId="2-9", operatingAmbit=types_pb2.land,
        ),
        structAttributes=types_pb2.StructAttributes(
            health=3, status=7, blockStartBuild=1283900, blockStartOreMine=1290000, isMaterialized=True, isBuilt=True,
            isOnline=True,
        ),
        gridAttributes=types_pb2.GridAttributes(),
    )  # fmt: skip


@pytest.mark.parametrize("told", ["orbit", 99, True, {}, ["land"]])
def test_a_new_name_in_a_member_that_nobody_reads_costs_nothing(told: object) -> None:
    struct = {**STRUCT, "Struct": {**STRUCT["Struct"], "operatingAmbit": told}}
    answer = read(struct)
    assert isinstance(answer, query_pb2.QueryGetStructResponse)
    assert (answer.Struct.owner, answer.Struct.locationId) == ("1-7", "2-9")
    kind = {"StructType": {"id": "14", "category": told, "buildDifficulty": "700"}}
    answer = read(kind, query_pb2.QueryGetStructTypeResponse)
    assert isinstance(answer, query_pb2.QueryGetStructTypeResponse)
    assert answer.StructType.buildDifficulty == 700


def test_nobody_reads_what_is_passed_over(root: Path) -> None:
    sources = "\n".join(path.read_text() for path in (root / "coordinator" / "chain").rglob("*.py"))
    for name in UNREAD_ENUMS:
        assert name.count(".") == 3
        assert f".{name.rpartition('.')[2]}" not in sources.replace(name, ""), name


def test_a_message_that_is_left_out_or_null_is_missing_and_an_empty_one_is_not() -> None:
    answer = read({"Struct": {"id": "5-14"}, "structAttributes": {}, "gridAttributes": None})
    assert isinstance(answer, query_pb2.QueryGetStructResponse)
    assert answer.HasField("structAttributes")
    assert not answer.HasField("gridAttributes")


def test_the_largest_number_keeps_every_digit() -> None:
    answer = read({"attribute": str(2**64 - 1)}, query_pb2.QueryGetPlanetAttributeResponse)
    assert answer == query_pb2.QueryGetPlanetAttributeResponse(attribute=2**64 - 1)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"Struct": {"id": "5-14", "locationType": "moon"}}, query_pb2.QueryGetStructResponse),
        ({"Planet": {"status": "abandoned"}}, query_pb2.QueryGetPlanetResponse),
        ({"Planet": {"status": True}}, query_pb2.QueryGetPlanetResponse),
        ({"attribute": "-1"}, query_pb2.QueryGetPlanetAttributeResponse),
        ({"attribute": str(2**64)}, query_pb2.QueryGetPlanetAttributeResponse),
        ({"attribute": 1.5}, query_pb2.QueryGetPlanetAttributeResponse),
        ({"attribute": "12 "}, query_pb2.QueryGetPlanetAttributeResponse),
        ({"attribute": {}}, query_pb2.QueryGetPlanetAttributeResponse),
        ({"Struct": []}, query_pb2.QueryGetStructResponse),
        ({"Struct": {"id": 5}}, query_pb2.QueryGetStructResponse),
        ({"structDefenders": "5-1"}, query_pb2.QueryGetStructResponse),
        ({"syncing": "no"}, node_pb2.GetSyncingResponse),
        ({"account": "text"}, auth_query_pb2.QueryAccountResponse),
        ({"account": {"address": "structs1abc"}}, auth_query_pb2.QueryAccountResponse),
        ({}, query_pb2.QueryBlockHeightResponse),
        ({"error": "all is well"}, query_pb2.QueryBlockHeightResponse),
        ([], query_pb2.QueryBlockHeightResponse),
        ("text", query_pb2.QueryBlockHeightResponse),
        (None, query_pb2.QueryBlockHeightResponse),
    ],
)
def test_what_cannot_be_read_is_a_bad_answer_and_never_a_zero(value: object, kind: type) -> None:
    with pytest.raises(BadChainAnswer, match="the REST answer of the node here about struct 5-14 cannot be read"):
        read(value, kind)


@pytest.mark.parametrize("data", [b"", b"<html>", b"\xff\xfe", b'{"blockHeight":', b"[" * 100_000])
def test_what_is_no_json_is_a_bad_answer(data: bytes) -> None:
    with pytest.raises(BadChainAnswer, match="cannot be read"):
        read_answer(data, query_pb2.QueryBlockHeightResponse, "the node here", "the height")


def test_an_account_is_read_whatever_key_it_has() -> None:
    account = {
        "@type": "/cosmos.auth.v1beta1.BaseAccount",
        "address": "structs1abc",
        "pub_key": {"@type": "/cosmos.crypto.multisig.LegacyAminoPubKey", "threshold": 2},
        "account_number": "17",
        "sequence": "42",
    }
    answer = read({"account": account}, auth_query_pb2.QueryAccountResponse)
    assert isinstance(answer, auth_query_pb2.QueryAccountResponse)
    unpacked = auth_pb2.BaseAccount()
    assert answer.account.Unpack(unpacked)
    assert unpacked == auth_pb2.BaseAccount(address="structs1abc", account_number=17, sequence=42)


def test_an_account_of_another_kind_keeps_its_type() -> None:
    answer = read({"account": {"@type": "/cosmos.auth.v1beta1.ModuleAccount"}}, auth_query_pb2.QueryAccountResponse)
    assert isinstance(answer, auth_query_pb2.QueryAccountResponse)
    assert answer.account.type_url == "/cosmos.auth.v1beta1.ModuleAccount"


def test_a_transaction_is_read_without_the_messages_of_other_modules() -> None:
    told = {
        "tx": {"body": {"messages": [{"@type": "/structs.structs.MsgFuture"}]}},
        "tx_response": {
            "height": "1310001", "txhash": "AB" * 32, "codespace": "structs", "code": 1800, "raw_log": "work failure",
            "tx": {"@type": "/cosmos.tx.v1beta1.Tx"}, "timestamp": "2026-04-17T10:11:12Z",
            "events": [{"type": "tx", "attributes": [{"key": "fee", "value": None, "index": True}]}],
        },
    }  # fmt: skip
    answer = read(told, service_pb2.GetTxResponse)
    assert isinstance(answer, service_pb2.GetTxResponse)
    assert (answer.tx_response.height, answer.tx_response.code) == (1310001, 1800)


def test_times_have_nine_digits_and_any_zone() -> None:
    header = {"chain_id": "c", "height": "7", "time": "2026-04-17T10:11:12.123456789Z"}
    answer = read({"block_id": {"hash": "q83v"}, "sdk_block": {"header": header}}, node_pb2.GetLatestBlockResponse)
    assert isinstance(answer, node_pb2.GetLatestBlockResponse)
    assert answer.sdk_block.header.time.nanos == 123456789


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"code":5,"message":"not found","details":[]}', (5, "not found")),
        (b'{"code":12,"error":"Not Implemented"}', (12, "Not Implemented")),
        (b'{"code":"5","message":7}', (None, "")),
        (b'{"code":99,"message":"x"}', (None, "x")),
        (b'{"code":true}', (None, "")),
        (b"404 page not found", (None, "")),
        (b"[]", (None, "")),
    ],
)
def test_the_body_of_an_error_tells_a_code_of_grpc_or_none(data: bytes, told: tuple[int | None, str]) -> None:
    assert error_of(data) == told
