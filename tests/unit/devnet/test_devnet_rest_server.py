"""structsd's REST, asked over HTTP and compared with the shapes in the interface notes."""

from __future__ import annotations

import socket
from base64 import b64decode, b64encode

import httpx2
import pytest

from devnet.node import Devnet
from devnet.staging import Condition
from hashfleet.action import Action

RIPE = 50_000
TANK, EXTRACTOR = 9, 14
COMET = "/cosmos/base/tendermint/v1beta1"
TX = "/cosmos/tx/v1beta1"


@pytest.fixture
async def rest(served):
    async with httpx2.AsyncClient(base_url=served.node.rest_url, timeout=10) as client:
        yield client


async def get(rest, path, **headers):
    answer = await rest.get(path, headers=headers)
    return answer.status_code, answer.json()


async def test_the_height_has_no_prefix(rest):
    assert await get(rest, "/blockheight") == (200, {"blockHeight": "100000"})
    assert (await get(rest, "/structs/blockheight"))[0] == 501


async def test_a_struct_is_printed_as_the_notes_show_it(served, rest, owner):
    served.stage(lambda stage: stage.add_struct("5-14", EXTRACTOR, "1-11", Condition.ONLINE, anchor=RIPE))
    status, answer = await get(rest, "/structs/struct/5-14")
    assert status == 200
    assert answer["Struct"] == {
        "id": "5-14",
        "index": "14",
        "type": "14",
        "creator": owner.address,
        "owner": "1-11",
        "locationType": "planet",
        "locationId": "2-11",
        "operatingAmbit": "land",
        "slot": "0",
    }
    assert answer["structAttributes"] == {
        "health": "3",
        "status": "7",
        "blockStartBuild": "0",
        "blockStartOreMine": str(RIPE),
        "blockStartOreRefine": "0",
        "protectedStructIndex": "0",
        "typeCount": "0",
        "isMaterialized": True,
        "isBuilt": True,
        "isOnline": True,
        "isHidden": False,
        "isDestroyed": False,
        "isLocked": False,
    }
    assert set(answer["gridAttributes"].values()) == {"0"}
    assert answer["structDefenders"] == []


async def test_planets_fleets_players_and_types_read_as_over_grpc(served, rest, stranger, owner):
    served.stage(lambda stage: stage.add_player("1-12", stranger.address, ore=7))
    served.stage(lambda stage: stage.send_fleet("9-11", "2-12", anchor=RIPE))
    planet = (await get(rest, "/structs/planet/2-12"))[1]
    assert (planet["Planet"]["locationListStart"], planet["Planet"]["status"]) == ("9-11", "active")
    assert planet["gridAttributes"]["ore"] == "5"
    assert (planet["planetAttributes"]["planetaryShield"], planet["planetAttributes"]["blockStartRaid"]) == (
        "25",
        "50000",
    )
    fleet = (await get(rest, "/structs/fleet/9-11"))[1]
    assert (fleet["Fleet"]["status"], fleet["Fleet"]["locationListForward"]) == ("away", "")
    assert (await get(rest, "/structs/fleet_by_index/11"))[1] == fleet
    assert (await get(rest, "/structs/player/1-12"))[1]["gridAttributes"]["ore"] == "7"
    kind = (await get(rest, "/structs/struct_type/14"))[1]["StructType"]
    assert (kind["buildDifficulty"], kind["oreMiningDifficulty"], kind["category"]) == ("700", "14000", "planet")
    assert (await get(rest, "/structs/grid/0-2-12"))[1]["gridRecord"] == {"attributeId": "0-2-12", "value": "5"}


async def test_addresses_and_permissions(served, rest, owner, stranger):
    served.stage(lambda stage: stage.add_player("1-12", stranger.address))
    served.stage(lambda stage: stage.grant("1-11", "1-12", 1 << 20))
    mine = {"address": owner.address, "playerId": "1-11", "permissions": "33554431"}
    assert (await get(rest, f"/structs/address/{owner.address}"))[1] == mine
    assert (await get(rest, "/structs/address/nobody"))[1]["playerId"] == "1-0"
    assert (await get(rest, "/structs/address_by_player/1-11"))[1]["address"] == [mine]
    granted = {"permissionId": "1-11@1-12", "value": "1048576"}
    assert (await get(rest, "/structs/permission/1-11@1-12"))[1] == {"permissionRecord": granted}
    assert (await get(rest, "/structs/permission/1-11%401-12"))[1] == {"permissionRecord": granted}
    assert (await get(rest, "/structs/permission/object/1-11"))[1]["permissionRecords"] == [granted]


async def test_attributes_by_name_and_the_misspelt_one(served, rest):
    served.stage(lambda stage: stage.add_struct("5-14", TANK, "1-11", anchor=RIPE))
    assert await get(rest, "/structs/struct_attribute/5-14/blockStartBuild") == (200, {"attribute": "50000"})
    assert await get(rest, "/structs/struct_attribute/5-14/blockstartbuild") == (200, {"attribute": "3"})
    assert await get(rest, "/structs/planet_attribute/2-11/planetaryShield") == (200, {"attribute": "25"})


async def test_what_is_missing_is_404_with_code_5(rest, stranger):
    for path in ("/structs/struct/5-1", f"/cosmos/auth/v1beta1/accounts/{stranger.address}", f"{TX}/txs/{'0' * 64}"):
        status, answer = await get(rest, path)
        assert (status, answer["code"], answer["details"]) == (404, 5, [])
        assert "not found" in answer["message"]


async def test_what_is_no_argument_is_400_with_code_3(rest):
    for path in ("/structs/struct_type/x", f"{TX}/txs/xyz", f"{COMET}/blocks/9999999"):
        status, answer = await get(rest, path)
        assert (status, answer["code"]) == (400, 3)


async def test_a_path_that_this_version_lacks_is_501_with_code_12(rest):
    for path in ("/structs/structs/guild_charter", "/structs/structs/params", "/structs/no_such_thing"):
        status, answer = await get(rest, path)
        assert (status, answer["code"], answer["details"]) == (501, 12, [])


async def test_the_charter_and_the_parameters_are_served_from_v021_on():
    async with (
        Devnet(scenario_name="demo", version="v0.21") as node,
        httpx2.AsyncClient(base_url=node.rest_url, timeout=10) as rest,
    ):
        status, answer = await get(rest, "/structs/structs/guild_charter")
        params = (await get(rest, "/structs/structs/params"))[1]
    assert status == 200
    assert answer == {"anchor": "99600", "age": "400", "difficulty": 5, "difficultyRange": "600"}
    assert params == {"params": {"guildCharterDifficultyRange": "600", "guildCharterReactorAge": "432000"}}


async def test_the_address_answer_has_a_proof_nonce_from_v022_on(owner):
    async with (
        Devnet(scenario_name="demo", version="v0.22") as node,
        httpx2.AsyncClient(base_url=node.rest_url, timeout=10) as rest,
    ):
        assert (await get(rest, f"/structs/address/{owner.address}"))[1]["proofNonce"] == "0"


async def test_an_account_with_and_without_a_key(served, rest, owner):
    path = f"/cosmos/auth/v1beta1/accounts/{owner.address}"
    account = {
        "@type": "/cosmos.auth.v1beta1.BaseAccount",
        "address": owner.address,
        "pub_key": None,
        "account_number": "17",
        "sequence": "0",
    }
    assert await get(rest, path) == (200, {"account": account})
    served.include(owner.sign(owner.completion(Action.BUILD, "5-1", "0", "1")))
    key = {"@type": "/cosmos.crypto.secp256k1.PubKey", "key": b64encode(owner.public_key).decode()}
    assert await get(rest, path) == (200, {"account": account | {"pub_key": key, "sequence": "1"}})


async def test_a_transaction_is_broadcast_executed_and_found(served, rest, owner):
    served.stage(lambda stage: stage.add_struct("5-14", TANK, "1-11", anchor=RIPE))
    raw = owner.sign(owner.completion(Action.BUILD, "5-14", *served.proof(Action.BUILD, "5-14", RIPE)))
    body = {"tx_bytes": b64encode(raw).decode(), "mode": "BROADCAST_MODE_SYNC"}
    sent = (await rest.post(f"{TX}/txs", json=body)).json()["tx_response"]
    assert (sent["code"], sent["height"], sent["codespace"], sent["raw_log"]) == (0, "0", "", "")
    assert (await get(rest, f"{TX}/txs/{sent['txhash']}"))[0] == 404
    await served.node.advance()
    status, found = await get(rest, f"{TX}/txs/{sent['txhash']}")
    told = found["tx_response"]
    assert (status, told["height"], told["code"], told["txhash"]) == (200, "100001", 0, sent["txhash"])
    assert found["tx"]["body"]["messages"][0]["@type"] == "/structs.structs.MsgStructBuildComplete"
    assert found["tx"]["body"]["messages"][0]["structId"] == "5-14"
    assert found["tx"]["auth_info"]["signer_infos"][0]["mode_info"]["single"]["mode"] == "SIGN_MODE_DIRECT"
    assert told["tx"]["@type"] == "/cosmos.tx.v1beta1.Tx"
    types = {event["type"]: event["attributes"][0] for event in told["events"]}
    assert set(types["structs.structs.EventHashSuccess"]) == {"key", "value", "index"}
    assert told["gas_wanted"] == "20000000"


async def test_refusals_are_told_in_the_answer_of_a_broadcast(rest, owner):
    async def sent(raw):
        body = {"tx_bytes": b64encode(raw).decode(), "mode": "BROADCAST_MODE_SYNC"}
        answer = (await rest.post(f"{TX}/txs", json=body)).json()["tx_response"]
        return answer["codespace"], answer["code"]

    good = owner.sign(owner.completion(Action.BUILD, "5-1", "0", "1"))
    assert [await sent(good), await sent(good), await sent(b"\xff")] == [("", 0), ("sdk", 19), ("sdk", 2)]


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"tx_bytes": "?"}', b'{"other": 1}', b'{"tx_bytes": "AA=="}'],
    ids=["no JSON", "no object", "no base64", "unknown member", "no mode"],
)  # fmt: skip
async def test_a_broadcast_that_is_none_is_400(rest, body):
    answer = await rest.post(f"{TX}/txs", content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, 3)


async def test_a_simulation_tells_gas_or_why_not(served, rest, owner):
    served.stage(lambda stage: stage.add_struct("5-14", TANK, "1-11", anchor=RIPE))
    good = owner.sign(owner.completion(Action.BUILD, "5-14", *served.proof(Action.BUILD, "5-14", RIPE)), sequence=0)
    bad = owner.sign(owner.completion(Action.BUILD, "5-14", "0", "1"), sequence=0)
    answer = await rest.post(f"{TX}/simulate", json={"tx_bytes": b64encode(good).decode()})
    assert int(answer.json()["gas_info"]["gas_used"]) > 0
    answer = await rest.post(f"{TX}/simulate", json={"tx_bytes": b64encode(bad).decode()})
    assert (answer.status_code, answer.json()["code"]) == (500, 2)


async def test_the_node_tells_version_sync_and_blocks(served, rest):
    await served.node.advance()
    info = (await get(rest, f"{COMET}/node_info"))[1]
    assert info["application_version"]["version"] == "v0.20.0"
    assert info["default_node_info"]["network"] == "hashfleet-devnet-1"
    assert await get(rest, f"{COMET}/syncing") == (200, {"syncing": False})
    latest = (await get(rest, f"{COMET}/blocks/latest"))[1]
    header = latest["block"]["header"]
    assert (header["height"], header["chain_id"]) == ("100001", "hashfleet-devnet-1")
    assert header["time"].endswith("Z")
    assert b64decode(latest["block_id"]["hash"]).hex().upper() == served.chain.last_block.hash
    assert (await get(rest, f"{COMET}/blocks/100001"))[1] == latest
    assert await get(rest, "/cosmos/upgrade/v1beta1/applied_plan/v0.21.0") == (200, {"height": "0"})


async def test_a_query_at_a_height_reads_that_height_and_says_which_it_read(served, rest, owner):
    served.stage(lambda stage: stage.add_struct("5-14", TANK, "1-11", anchor=1))
    await served.node.advance()
    served.stage(lambda stage: stage.set_anchor(Action.BUILD, "5-14", 2))
    await served.node.advance()
    header = "x-cosmos-block-height"
    for height, anchor in ((100_000, "1"), (100_002, "2")):
        answer = await rest.get("/structs/struct/5-14", headers={header: str(height)})
        assert answer.json()["structAttributes"]["blockStartBuild"] == anchor
        assert answer.headers[f"grpc-metadata-{header}"] == str(height)
    status, answer = await get(rest, "/structs/struct/5-14", **{header: "7"})
    assert (status, answer["code"]) == (400, 3)
    assert "version does not exist" in answer["message"]


async def test_sparse_answers_leave_zero_members_of_nested_messages_out():
    async with (
        Devnet(scenario_name="demo", sparse_json=True) as node,
        httpx2.AsyncClient(base_url=node.rest_url, timeout=10) as rest,
    ):
        answer = (await get(rest, "/structs/planet/2-11"))[1]
    assert answer["planetAttributes"] == {"planetaryShield": "25"}
    assert "locationListStart" not in answer["Planet"]


async def test_without_a_port_there_is_no_rest():
    async with Devnet(rest_port=None) as node:
        assert node.rest_url is None


@pytest.mark.parametrize(("version", "shown", "total"), [("v0.21", 120, "120"), ("v0.22", 100, "0")])
async def test_lists_are_bare_and_capped_from_v022_on(owner, version, shown, total):
    async with (
        Devnet(version=version) as node,
        httpx2.AsyncClient(base_url=node.rest_url, timeout=10) as rest,
    ):
        node.add_player("1-11", owner.address)
        with node.edit() as stage:
            for number in range(120):
                stage.add_struct(f"5-{number + 1}", TANK, "1-11")
        answer = (await get(rest, "/structs/struct"))[1]
    assert (len(answer["Struct"]), answer["pagination"]) == (shown, {"next_key": None, "total": total})
    assert "structAttributes" not in answer["Struct"][0]


async def test_small_answers_are_sent_at_once(served, rest):
    await rest.get("/blockheight")
    (connection,) = served.node.nodes[0]._rest._state.connections
    assert connection.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
