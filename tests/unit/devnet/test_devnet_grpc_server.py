"""structsd's gRPC, asked by the generated stubs."""

from __future__ import annotations

from base64 import b64decode

import grpc
import pytest

from devnet.node import Devnet
from devnet.staging import Condition
from hashfleet.action import Action
from hashfleet.rpc.cosmos.auth.v1beta1 import auth_pb2
from hashfleet.rpc.cosmos.auth.v1beta1 import query_pb2 as auth_query_pb2
from hashfleet.rpc.cosmos.auth.v1beta1 import query_pb2_grpc as auth_query_grpc
from hashfleet.rpc.cosmos.base.abci.v1beta1 import abci_pb2
from hashfleet.rpc.cosmos.base.tendermint.v1beta1 import query_pb2 as comet_pb2
from hashfleet.rpc.cosmos.base.tendermint.v1beta1 import query_pb2_grpc as comet_grpc
from hashfleet.rpc.cosmos.tx.v1beta1 import service_pb2, service_pb2_grpc
from hashfleet.rpc.structs.structs import query_pb2, query_pb2_grpc, types_pb2

RIPE = 50_000
TANK, EXTRACTOR = 9, 14
Code = grpc.StatusCode


@pytest.fixture
async def channel(served):
    async with grpc.aio.insecure_channel(served.node.grpc_address) as channel:
        yield channel


@pytest.fixture
def query(channel):
    return query_pb2_grpc.QueryStub(channel)


@pytest.fixture
def txs(channel):
    return service_pb2_grpc.ServiceStub(channel)


async def status(call) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return failed.value.code()


async def test_the_height_is_that_of_the_last_block(served, query):
    await served.node.advance(3)
    assert (await query.GetBlockHeight(query_pb2.QueryBlockHeight())).blockHeight == 100_003


async def test_a_struct_reads_as_the_state_holds_it(served, query):
    served.stage(lambda stage: stage.add_struct("5-14", EXTRACTOR, "1-11", Condition.ONLINE, anchor=RIPE))
    answer = await query.Struct(query_pb2.QueryGetStructRequest(id="5-14"))
    assert (answer.Struct.id, answer.Struct.index, answer.Struct.type) == ("5-14", 14, 14)
    assert (answer.Struct.owner, answer.Struct.locationId) == ("1-11", "2-11")
    assert answer.Struct.locationType == types_pb2.planet
    attributes = answer.structAttributes
    assert (attributes.status, attributes.blockStartOreMine) == (7, RIPE)
    assert (attributes.isBuilt, attributes.isOnline, attributes.isDestroyed) == (True, True, False)


async def test_the_struct_types_have_the_published_ranges(query):
    kinds = [(await query.StructType(query_pb2.QueryGetStructTypeRequest(id=n))).StructType for n in (9, 14, 15)]
    shown = [(k.buildDifficulty, k.oreMiningDifficulty, k.oreRefiningDifficulty) for k in kinds]
    assert shown == [(220, 0, 0), (700, 14_000, 0), (700, 0, 28_000)]


async def test_a_raided_planet_and_the_fleets_in_its_queue(served, query, stranger):
    served.stage(lambda stage: stage.add_player("1-12", stranger.address, ore=7))
    served.stage(lambda stage: stage.send_fleet("9-11", "2-12", anchor=RIPE))
    planet = await query.Planet(query_pb2.QueryGetPlanetRequest(id="2-12"))
    fleet = (await query.Fleet(query_pb2.QueryGetFleetRequest(id="9-11"))).Fleet
    assert (planet.Planet.locationListStart, planet.gridAttributes.ore) == ("9-11", 5)
    assert (planet.planetAttributes.planetaryShield, planet.planetAttributes.blockStartRaid) == (25, RIPE)
    assert (fleet.status, fleet.locationId, fleet.locationListForward) == (types_pb2.away, "2-12", "")


async def test_a_player_reads_with_its_ore_and_power(served, query, owner):
    answer = await query.Player(query_pb2.QueryGetPlayerRequest(id="1-11"))
    assert (answer.Player.primaryAddress, answer.Player.planetId, answer.Player.fleetId) == (
        owner.address,
        "2-11",
        "9-11",
    )
    assert (answer.gridAttributes.ore, answer.gridAttributes.capacity) == (2, 100_000_000)


async def test_an_address_reads_with_its_player_and_bits(query, owner):
    answer = await query.Address(query_pb2.QueryGetAddressRequest(address=owner.address))
    assert (answer.playerId, answer.permissions) == ("1-11", 33_554_431)


async def test_an_address_that_is_nobodys_is_player_1_0_without_permissions(query, stranger):
    answer = await query.Address(query_pb2.QueryGetAddressRequest(address=stranger.address))
    assert (answer.playerId, answer.permissions) == ("1-0", 0)


async def test_permissions_of_a_key_and_of_a_grant_by_id(served, query, owner, stranger):
    served.stage(lambda stage: stage.add_player("1-12", stranger.address))
    served.stage(lambda stage: stage.grant("1-11", "1-12", 1 << 20))
    values = [
        (await query.Permission(query_pb2.QueryGetPermissionRequest(permissionId=name))).permissionRecord.value
        for name in (f"8-{owner.address}@0", "1-11@1-12", "1-12@1-11")
    ]
    assert values == [33_554_431, 1 << 20, 0]


async def test_attributes_by_name(served, query):
    served.stage(lambda stage: stage.add_struct("5-14", TANK, "1-11", anchor=RIPE))
    struct = await query.StructAttribute(
        query_pb2.QueryGetStructAttributeRequest(structId="5-14", attributeType="blockStartBuild")
    )
    planet = await query.PlanetAttribute(
        query_pb2.QueryGetPlanetAttributeRequest(planetId="2-11", attributeType="blockStartRaid")
    )
    assert (struct.attribute, planet.attribute) == (RIPE, 0)


async def test_a_misspelt_attribute_name_reads_attribute_0(served, query):
    served.stage(lambda stage: stage.add_struct("5-14", TANK, "1-11", anchor=RIPE))
    struct = await query.StructAttribute(
        query_pb2.QueryGetStructAttributeRequest(structId="5-14", attributeType="blockstartbuild")
    )
    planet = await query.PlanetAttribute(
        query_pb2.QueryGetPlanetAttributeRequest(planetId="2-11", attributeType="blockStartOreMine")
    )
    assert (struct.attribute, planet.attribute) == (3, 25)  # health and shield


async def test_missing_objects_are_not_found(query):
    assert await status(query.Struct(query_pb2.QueryGetStructRequest(id="5-1"))) is Code.NOT_FOUND
    assert await status(query.Planet(query_pb2.QueryGetPlanetRequest(id="2-1"))) is Code.NOT_FOUND
    assert await status(query.Fleet(query_pb2.QueryGetFleetRequest(id="9-1"))) is Code.NOT_FOUND
    assert await status(query.Player(query_pb2.QueryGetPlayerRequest(id="1-1"))) is Code.NOT_FOUND
    assert await status(query.StructType(query_pb2.QueryGetStructTypeRequest(id=99))) is Code.NOT_FOUND


async def test_what_v021_added_is_unimplemented(query):
    assert await status(query.GuildCharter(query_pb2.QueryGuildCharter())) is Code.UNIMPLEMENTED
    assert await status(query.Params(query_pb2.QueryParamsRequest())) is Code.UNIMPLEMENTED


async def test_an_account_reads_with_number_sequence_and_key(served, channel, owner):
    stub = auth_query_grpc.QueryStub(channel)
    served.include(owner.sign(owner.completion(Action.BUILD, "5-1", "0", "1")))
    answer = await stub.Account(auth_query_pb2.QueryAccountRequest(address=owner.address))
    assert answer.account.type_url == "/cosmos.auth.v1beta1.BaseAccount"
    account = auth_pb2.BaseAccount.FromString(answer.account.value)
    assert (account.address, account.account_number, account.sequence) == (owner.address, 17, 1)
    assert account.pub_key.value[2:] == owner.public_key


async def test_an_unknown_account_is_not_found_and_no_address_is_invalid(channel, stranger):
    stub = auth_query_grpc.QueryStub(channel)
    unknown = stub.Account(auth_query_pb2.QueryAccountRequest(address=stranger.address))
    invalid = stub.Account(auth_query_pb2.QueryAccountRequest(address="me"))
    assert (await status(unknown), await status(invalid)) == (Code.NOT_FOUND, Code.INVALID_ARGUMENT)


async def test_a_broadcast_transaction_is_executed_and_found(served, txs, owner):
    served.stage(lambda stage: stage.add_struct("5-14", TANK, "1-11", anchor=RIPE))
    raw = owner.sign(owner.completion(Action.BUILD, "5-14", *served.proof(Action.BUILD, "5-14", RIPE)))
    mode = service_pb2.BROADCAST_MODE_SYNC
    sent = (await txs.BroadcastTx(service_pb2.BroadcastTxRequest(tx_bytes=raw, mode=mode))).tx_response
    assert sent.code == 0
    assert await status(txs.GetTx(service_pb2.GetTxRequest(hash=sent.txhash))) is Code.NOT_FOUND
    await served.node.advance()
    found = await txs.GetTx(service_pb2.GetTxRequest(hash=sent.txhash.lower()))
    assert (found.tx_response.height, found.tx_response.code, found.tx_response.txhash) == (100_001, 0, sent.txhash)
    assert found.tx.body.messages[0].type_url == "/structs.structs.MsgStructBuildComplete"
    data = abci_pb2.TxMsgData.FromString(bytes.fromhex(found.tx_response.data))
    assert data.msg_responses[0].type_url == "/structs.structs.MsgStructStatusResponse"
    types = [event.type for event in found.tx_response.events]
    assert "structs.structs.EventHashSuccess" in types


async def test_the_same_bytes_twice_are_code_19(txs, owner):
    raw = owner.sign(owner.completion(Action.BUILD, "5-1", "0", "1"))
    request = service_pb2.BroadcastTxRequest(tx_bytes=raw, mode=service_pb2.BROADCAST_MODE_SYNC)
    first, second = [(await txs.BroadcastTx(request)).tx_response for _ in range(2)]
    assert (first.code, second.code, second.codespace) == (0, 19, "sdk")
    assert first.txhash == second.txhash


async def test_an_asynchronous_broadcast_answers_before_anything_is_checked(txs):
    request = service_pb2.BroadcastTxRequest(tx_bytes=b"junk", mode=service_pb2.BROADCAST_MODE_ASYNC)
    assert (await txs.BroadcastTx(request)).tx_response.code == 0


async def test_a_broadcast_needs_a_mode(txs):
    request = service_pb2.BroadcastTxRequest(tx_bytes=b"junk")
    assert await status(txs.BroadcastTx(request)) is Code.INVALID_ARGUMENT


async def test_junk_is_sdk_2_and_more_than_the_node_reads_is_exhausted(txs):
    mode = service_pb2.BROADCAST_MODE_SYNC
    junk = (await txs.BroadcastTx(service_pb2.BroadcastTxRequest(tx_bytes=b"\xff", mode=mode))).tx_response
    assert (junk.codespace, junk.code) == ("sdk", 2)
    large = service_pb2.BroadcastTxRequest(tx_bytes=bytes(3_000_000), mode=mode)
    assert await status(txs.BroadcastTx(large)) is Code.RESOURCE_EXHAUSTED


async def test_a_hash_that_is_none_is_invalid(txs):
    assert await status(txs.GetTx(service_pb2.GetTxRequest(hash="xyz"))) is Code.INVALID_ARGUMENT


async def test_a_simulation_that_fails_is_a_status_and_one_that_works_tells_gas(served, txs, owner):
    served.stage(lambda stage: stage.add_struct("5-14", TANK, "1-11", anchor=RIPE))
    good = owner.completion(Action.BUILD, "5-14", *served.proof(Action.BUILD, "5-14", RIPE))
    bad = owner.completion(Action.BUILD, "5-14", "0", "1")
    answer = await txs.Simulate(service_pb2.SimulateRequest(tx_bytes=owner.sign(good, sequence=0)))
    assert 0 < answer.gas_info.gas_used < answer.gas_info.gas_wanted
    failing = txs.Simulate(service_pb2.SimulateRequest(tx_bytes=owner.sign(bad, sequence=0)))
    assert await status(failing) is Code.UNKNOWN


async def test_the_node_tells_its_chain_version_and_latest_block(served, channel):
    stub = comet_grpc.ServiceStub(channel)
    info = await stub.GetNodeInfo(comet_pb2.GetNodeInfoRequest())
    latest = await stub.GetLatestBlock(comet_pb2.GetLatestBlockRequest())
    assert info.default_node_info.network == "hashfleet-devnet-1"
    assert info.application_version.version == "v0.20.0"
    assert not (await stub.GetSyncing(comet_pb2.GetSyncingRequest())).syncing
    header = latest.sdk_block.header
    assert (header.height, header.chain_id) == (100_000, "hashfleet-devnet-1")
    assert header.time.ToNanoseconds() == served.chain.last_block.time_ns


async def test_a_fault_in_a_method_is_internal_and_the_server_goes_on(served, query, monkeypatch):
    monkeypatch.setattr(type(served.chain), "height", property(lambda chain: 1 // 0))
    assert await status(query.GetBlockHeight(query_pb2.QueryBlockHeight())) is Code.INTERNAL
    monkeypatch.undo()
    assert (await query.GetBlockHeight(query_pb2.QueryBlockHeight())).blockHeight == 100_000


@pytest.mark.parametrize("number", range(4))
async def test_the_signed_vectors_are_admitted_byte_for_byte_over_grpc(vectors, owner, number):
    vector = vectors["tx"]["vectors"][number]
    async with Devnet(chain_id=vector["chain_id"], start_height=1_298_900) as node:
        with node.edit() as stage:
            stage.add_player("1-7", owner.address, account_number=17, sequence=vector["sequence"])
        async with grpc.aio.insecure_channel(node.grpc_address) as channel:
            request = service_pb2.BroadcastTxRequest(
                tx_bytes=b64decode(vector["tx_bytes_base64"]), mode=service_pb2.BROADCAST_MODE_SYNC
            )
            answer = (await service_pb2_grpc.ServiceStub(channel).BroadcastTx(request)).tx_response
    assert (answer.code, answer.txhash) == (0, vector["tx_hash"])
