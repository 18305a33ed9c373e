"""The devnet as one object, and as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from itertools import count

import grpc
import httpx2
import pytest
from click.testing import CliRunner
from websockets.asyncio.client import connect

from devnet import state_file
from devnet.node import Devnet
from hashfleet.action import Action, prefix
from hashfleet.cli.devnet import command as devnet_command
from hashfleet.difficulty import safe
from hashfleet.errors import HashfleetError, InvalidInput
from hashfleet.proof import verify
from hashfleet.rpc.cosmos.tx.v1beta1 import service_pb2, service_pb2_grpc
from hashfleet.rpc.structs.structs import query_pb2, query_pb2_grpc


async def test_blocks_come_by_themselves_when_an_interval_is_set():
    async with (
        Devnet(interval=0.05) as node,
        connect(node.rpc_url.replace("http", "ws") + "/websocket") as socket,
    ):
        await socket.send(json.dumps({"id": 1, "method": "subscribe", "params": {"query": "tm.event='NewBlock'"}}))
        await socket.recv()
        heights = []
        for _ in range(3):
            told = json.loads(await asyncio.wait_for(socket.recv(), 10))
            heights.append(int(told["result"]["data"]["value"]["block"]["header"]["height"]))
    assert heights == [heights[0], heights[0] + 1, heights[0] + 2]


async def test_without_an_interval_only_advance_makes_blocks():
    async with Devnet(start_height=50) as node:
        assert node.height == 50
        assert await node.advance(7) == 57


async def test_a_chain_goes_on_at_the_same_height_after_a_restart(tmp_path, owner):
    path = tmp_path / "chain.json"
    async with Devnet(chain_id="kept-1", state_path=path) as node:
        node.add_player("1-11", owner.address)
        node.add_struct("5-1", 9, "1-11", anchor=5)
        await node.advance(3)
    async with Devnet(state_path=path, scenario_name="demo") as again:
        assert (again.height, again.chain_id) == (100_003, "kept-1")
        assert again.chain.state.structs["5-1"].block_start_build == 5
        assert await again.advance() == 100_004
    assert state_file.read(path).blocks[-1].height == 100_004


def test_another_chain_id_than_the_files_is_refused(tmp_path):
    path = tmp_path / "chain.json"
    state_file.write(path, Devnet(chain_id="kept-1").chain)
    with pytest.raises(InvalidInput, match="kept-1"):
        Devnet(chain_id="other-1", state_path=path)


async def test_a_state_file_that_cannot_be_written_stops_the_start(tmp_path):
    node = Devnet(state_path=tmp_path / "no" / "such" / "folder.json")
    with pytest.raises(HashfleetError, match="cannot write the state file"):
        await node.start()


async def test_a_clock_that_fails_is_told_to_whoever_runs_the_node(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    async with Devnet(state_path=folder / "chain.json", interval=0.05) as node:
        (folder / "chain.json").unlink()
        folder.rmdir()
        with pytest.raises(HashfleetError, match="cannot write the state file"):
            await asyncio.wait_for(node.run(), 10)


async def test_a_port_that_is_taken_is_one_clear_sentence():
    async with Devnet() as node:
        grpc_port = int(node.grpc_address.rsplit(":", 1)[1])
        rpc_port = int(node.rpc_url.rsplit(":", 1)[1])
        with pytest.raises(HashfleetError, match=f"cannot listen for gRPC on 127.0.0.1:{grpc_port}"):
            await Devnet(grpc_port=grpc_port).start()
        with pytest.raises(HashfleetError, match=f"cannot listen for RPC on 127.0.0.1:{rpc_port}"):
            await Devnet(rpc_port=rpc_port).start()


async def test_stopping_twice_and_before_starting_does_no_harm():
    node = Devnet()
    await node.stop()
    await node.start()
    await node.stop()
    await node.stop()


@pytest.mark.parametrize("interval", [0, -1, 1e9, float("nan")])
def test_an_interval_out_of_bounds_is_refused(interval):
    with pytest.raises(InvalidInput, match="interval"):
        Devnet(interval=interval)


async def test_the_demos_ripe_build_is_completed_by_a_client_that_knows_only_the_wire(owner):
    async with (
        Devnet(scenario_name="demo") as node,
        grpc.aio.insecure_channel(node.grpc_address) as channel,
    ):
        query = query_pb2_grpc.QueryStub(channel)
        read = await query.Struct(query_pb2.QueryGetStructRequest(id="5-101"))
        anchor = read.structAttributes.blockStartBuild
        kind = (await query.StructType(query_pb2.QueryGetStructTypeRequest(id=read.Struct.type))).StructType
        height = (await query.GetBlockHeight(query_pb2.QueryBlockHeight())).blockHeight
        zeros = safe(height + 1 - anchor, kind.buildDifficulty)
        before = prefix(Action.BUILD, "5-101", anchor)
        nonce = next(n for n in map(str, count()) if verify(before, n).zeros >= zeros)
        raw = owner.sign(owner.completion(Action.BUILD, "5-101", verify(before, nonce).hash, nonce))
        mode = service_pb2.BROADCAST_MODE_SYNC
        await service_pb2_grpc.ServiceStub(channel).BroadcastTx(service_pb2.BroadcastTxRequest(tx_bytes=raw, mode=mode))
        await node.advance()
        built = await query.Struct(query_pb2.QueryGetStructRequest(id="5-101"))
    assert zeros == 4
    assert (built.structAttributes.isBuilt, built.structAttributes.blockStartOreMine) == (True, height + 1)


async def command(*arguments):
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hashfleet.cli.main",
        "devnet",
        "--grpc-port=0",
        "--rpc-port=0",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_tells_its_addresses_serves_and_stops_on_a_signal(how):
    process = await command("--json", "--interval=0.2", "--chain-id=told-1", "--start-height=123456")
    try:
        told = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        assert (told["chain_id"], told["height"]) == ("told-1", 123_456)
        async with grpc.aio.insecure_channel(told["grpc_address"]) as channel:
            answer = await query_pb2_grpc.QueryStub(channel).Player(query_pb2.QueryGetPlayerRequest(id="1-11"))
            assert answer.Player.planetId == "2-11"
        process.send_signal(how)
        _, errors = await asyncio.wait_for(process.communicate(), 10)
    finally:
        if process.returncode is None:
            process.kill()
    assert (process.returncode, errors) == (0, b"")


async def test_the_process_refuses_a_bad_scenario_in_one_sentence(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text('{"heigth": 5}')
    process = await command(f"--scenario={path}")
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert errors.decode().startswith("hashfleet: scenario")
    assert errors.count(b"\n") == 1


async def test_the_process_serves_rest_where_it_is_told_and_behaves_like_the_version_asked_for():
    process = await command("--json", "--rest=127.0.0.1:0", "--version=v0.22")
    try:
        told = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        async with httpx2.AsyncClient(base_url=told["rest_url"], timeout=10) as rest:
            info = (await rest.get("/cosmos/base/tendermint/v1beta1/node_info")).json()
            charter = (await rest.get("/structs/structs/guild_charter")).json()
        process.terminate()
        await asyncio.wait_for(process.wait(), 10)
    finally:
        if process.returncode is None:
            process.kill()
    assert info["application_version"]["version"] == "v0.22.0"
    assert charter["difficultyRange"] == "600"


@pytest.mark.parametrize("where", ["1317", "127.0.0.1:x", ":99", "127.0.0.1:99999"])
def test_a_rest_address_that_is_none_is_refused(where):
    answer = CliRunner().invoke(devnet_command, ["--rest", where])
    assert answer.exit_code == 2
    assert "HOST:PORT" in answer.output
