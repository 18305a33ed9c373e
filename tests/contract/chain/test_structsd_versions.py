"""The client against every generation of the chain, and over the block at which one becomes the next."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from coordinator.chain.client import ChainClient
from coordinator.chain.rest_transport import RestTransport
from coordinator.chain.structsd import StructsdClient
from coordinator.submission import keys
from coordinator.submission.transaction import sign_completion
from devnet.node import Devnet
from devnet.staging import Condition
from hashfleet.action import Action, Work
from hashfleet.difficulty import safe
from hashfleet.errors import WorkGone, WorkPaused
from hashfleet.proof import Proof, verify

KEY = keys.from_mnemonic("abandon " * 11 + "about")
START = 100_000
VERSIONS = ("v0.16", "v0.20", "v0.21", "v0.22")
#: The demo's objects, and anchors from which the difficulty has fallen to a zero or two.
ANCHORS = {
    Action.BUILD: ("5-103", START - 210),
    Action.MINE: ("5-104", START - 14_000),
    Action.REFINE: ("5-105", START - 28_000),
    Action.RAID: ("9-11", START - 30_000),
}


@pytest.fixture(params=VERSIONS)
async def devnet(request: pytest.FixtureRequest) -> AsyncIterator[Devnet]:
    async with Devnet(
        scenario_name="demo", start_height=START, version=request.param, sparse_json=request.param == "v0.21"
    ) as made:
        for action, (object_id, anchor) in ANCHORS.items():
            made.set_anchor(action, object_id, anchor)
        yield made


@pytest.fixture(params=["grpc", "rest"])
async def client(devnet: Devnet, request: pytest.FixtureRequest) -> AsyncIterator[ChainClient]:
    assert devnet.rest_url is not None
    node = devnet.grpc_address if request.param == "grpc" else RestTransport(devnet.rest_url, timeout=5.0)
    made = StructsdClient(node, devnet.rpc_url, devnet.chain_id)
    await made.connect()
    yield made
    await made.close()


def solved(work: Work, height: int) -> Proof:
    """The first proof that is valid in the block after `height`."""
    wanted = safe(height + 1 - work.anchor, work.range)
    return next(proof for n in itertools.count() if (proof := verify(work.prefix, str(n))).zeros >= wanted)


@pytest.mark.parametrize("action", ANCHORS)
async def test_each_work_is_read_with_the_clock_that_the_chain_hashes(
    client: ChainClient, devnet: Devnet, action: Action
) -> None:
    object_id, anchor = ANCHORS[action]
    work = (await client.read_work(action, object_id)).work
    assert work.anchor == anchor
    account = await client.account(KEY.address)
    transaction = sign_completion(
        work,
        solved(work, devnet.height),
        KEY,
        chain_id=client.chain_id,
        account_number=account.number,
        sequence=account.sequence,
        timeout_height=START + 100,
    )
    await client.broadcast(transaction.tx_bytes)
    await devnet.advance()
    found = await client.find_transaction(transaction.tx_hash)
    assert found is not None
    assert (found.code, found.log) == (0, "")


async def test_ore_clocks_are_shared_by_a_planet_from_v21_on(client: ChainClient, devnet: Devnet) -> None:
    shared = {(await client.read_work(Action.MINE, rig)).clock for rig in ("5-104", "5-106")}
    assert shared == ({"2-11/MINE"} if devnet.chain.state.rules.planet_clocks else {""})


async def test_shields_that_are_up_stop_the_raid_clock_from_v18_on(client: ChainClient, devnet: Devnet) -> None:
    with devnet.edit() as stage:
        stage.set_condition("5-201", Condition.ONLINE)  # the defender's Command Ship
        stage.send_fleet("9-12", "2-12")
    await devnet.advance()
    if devnet.chain.state.rules.gated_raid_clock:
        with pytest.raises(WorkPaused, match="its shields are up"):
            await client.read_work(Action.RAID, "9-11")
    else:
        assert (await client.read_work(Action.RAID, "9-11")).work.anchor == ANCHORS[Action.RAID][1]


async def test_a_charter_can_be_had_from_v21_on(client: ChainClient, devnet: Devnet) -> None:
    if devnet.chain.state.rules.charter:
        assert (await client.read_charter("1-11", "1-11")).work.range >= 2
    else:
        with pytest.raises(WorkGone, match="founds no guild by proof"):
            await client.read_charter("1-11", "1-11")


async def test_a_complete_planet_cannot_be_raided_from_v22_on(client: ChainClient, devnet: Devnet) -> None:
    with devnet.edit() as stage:
        stage.set_planet("2-12", complete=True)
    if devnet.chain.state.rules.raid_needs_active_planet:
        with pytest.raises(WorkGone, match="only an active planet"):
            await client.read_work(Action.RAID, "9-11")
    else:
        await client.read_work(Action.RAID, "9-11")


# An upgrade


@pytest.fixture
def before_v21(chain: Any) -> Any:
    """A scripted node of v0.20, whose planets already know clocks by name; nobody raids."""
    chain.node.planet.locationListStart = chain.node.planet.locationListLast = ""
    chain.node.clocks = {"blockStartOreMine": 1300100, "blockStartOreRefine": 1300200}
    return chain


async def test_an_upgrade_is_noticed_at_its_first_block_without_any_outage(before_v21: Any) -> None:
    client = await before_v21.connected()
    assert (await client.read_work(Action.MINE, "5-14")).work.anchor == 1290000
    before_v21.node.version = "v0.21.0"
    before_v21.node.height += 1
    assert (await client.read_work(Action.MINE, "5-14")).work.anchor == 1300100


async def test_an_upgrade_is_noticed_at_its_first_block_by_a_node_that_tells_no_heights(rest_chain: Any) -> None:
    rest_chain.node.planet.locationListStart = ""
    rest_chain.node.clocks = {"blockStartOreMine": 1300100}
    rest_chain.gateway.tells_height = False
    client = await rest_chain.connected()
    async with contextlib.aclosing(client.blocks()) as blocks:
        await anext(blocks)
        assert (await client.read_work(Action.MINE, "5-14")).work.anchor == 1290000
        rest_chain.node.version = "v0.21.0"
        rest_chain.node.height += 1
        await anext(blocks)
        assert (await client.read_work(Action.MINE, "5-14")).work.anchor == 1300100


async def test_at_the_block_of_an_upgrade_anything_may_have_changed_though_nothing_is_read(before_v21: Any) -> None:
    client = await before_v21.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await anext(blocks)
        for version, touched in (("v0.20.0", frozenset()), ("v0.21.0", None), ("v0.21.0", frozenset())):
            before_v21.node.version = version
            await before_v21.rpc.announce(before_v21.node.height + 1)
            assert (await anext(blocks)).touched == touched


async def test_an_upgrade_that_a_node_does_not_tell_at_once_is_noticed_when_it_does(before_v21: Any) -> None:
    client = await before_v21.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await anext(blocks)
        before_v21.node.version = "v0.21.0"
        before_v21.node.faults["GetNodeInfo"] = (grpc.StatusCode.UNAVAILABLE, "restarting")
        await before_v21.rpc.announce(1310001)
        assert (await anext(blocks)).touched == frozenset()
        before_v21.node.faults.clear()
        await before_v21.rpc.announce(1310002)
        assert (await anext(blocks)).touched is None


async def test_an_upgrade_is_noticed_at_its_block_though_the_first_node_stopped_before_it(make_chain: Any) -> None:
    stopped, goes_on = await make_chain(), await make_chain()
    client = await goes_on.connected_to_several([goes_on.rpc_url], before=[stopped])
    async with contextlib.aclosing(client.blocks()) as blocks:
        await anext(blocks)
        goes_on.node.version = "v0.21.0"
        await goes_on.rpc.announce(1310001)
        assert (await anext(blocks)).touched is None


async def test_following_blocks_asks_for_the_version_once_a_block_whether_work_is_read_or_not(before_v21: Any) -> None:
    client = await before_v21.connected(rpc=True)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await anext(blocks)
        for readings in (0, 4):
            before_v21.node.calls.clear()
            await before_v21.rpc.announce(before_v21.node.height + 1)
            await anext(blocks)
            for _ in range(readings):
                await client.read_work(Action.MINE, "5-14")
            assert before_v21.node.calls.count("GetNodeInfo") == 1


async def test_the_version_is_asked_for_once_a_block_however_many_works_are_read(before_v21: Any) -> None:
    client = await before_v21.connected()
    for _ in range(3):
        before_v21.node.height += 1
        before_v21.node.calls.clear()
        for _ in range(4):
            await client.read_work(Action.MINE, "5-14")
        assert before_v21.node.calls.count("GetNodeInfo") == 1


@pytest.mark.parametrize(
    ("applied", "anchor"),
    [
        ({"v0.21.0": 1300000, "v0.20.0": 1200000}, 1300100),
        ({"v0.20.0": 1200000}, 1290000),
        ({}, 1300100),  # never upgraded: it serves the charter
    ],
)
async def test_a_build_without_a_readable_version_is_judged_by_the_upgrades_that_were_applied(
    before_v21: Any, applied: dict[str, int], anchor: int
) -> None:
    before_v21.node.version = "main-abcdef"
    before_v21.node.applied_plans = applied
    client = await before_v21.connected()
    assert (await client.read_work(Action.MINE, "5-14")).work.anchor == anchor


async def test_a_new_version_has_its_own_spelling_of_clocks_found_out(before_v21: Any) -> None:
    before_v21.node.version = "v0.21.0"
    client = await before_v21.connected()
    await client.read_work(Action.MINE, "5-14")
    before_v21.node.clocks = {"planetBlockStartOreMine": 1305000}
    before_v21.node.version = "v0.21.1"
    before_v21.node.height += 1
    assert (await client.read_work(Action.MINE, "5-14")).work.anchor == 1305000


async def test_a_node_that_refuses_to_tell_its_upgrades_is_judged_by_the_charter(before_v21: Any) -> None:
    before_v21.node.version = "main-abcdef"
    before_v21.node.faults["AppliedPlan"] = (grpc.StatusCode.INVALID_ARGUMENT, "no such plan")
    before_v21.node.faults["GuildCharter"] = (grpc.StatusCode.UNIMPLEMENTED, "unknown method")
    client = await before_v21.connected()
    assert (await client.read_work(Action.MINE, "5-14")).work.anchor == 1290000
