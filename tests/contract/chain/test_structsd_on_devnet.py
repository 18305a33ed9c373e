"""The production client against the embedded chain: two implementations of one wire, written apart from each other."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable

import pytest

from coordinator.chain.client import Account, Block, ChainClient
from coordinator.chain.failover import FailoverClient
from coordinator.chain.rest_transport import RestTransport
from coordinator.chain.structsd import StructsdClient
from coordinator.submission import keys
from coordinator.submission.consent import sign_consent
from coordinator.submission.transaction import SignedTransaction, sign_completion
from coordinator.submission.verdict import Disposition, disposition, expected_sequence
from devnet.node import Devnet
from devnet.staging import Condition, Stage
from hashfleet.action import Action, Work
from hashfleet.charter import Founding
from hashfleet.difficulty import safe
from hashfleet.errors import KeyProblem, WorkGone, WorkPaused
from hashfleet.proof import Proof, verify

#: The public test mnemonic; the demo scenario's player 1-11 has its address.
KEY = keys.from_mnemonic("abandon " * 11 + "about")
START = 100_000
#: Where nobody listens: a port that is never given out.
NOBODY = "127.0.0.1:1"
#: The demo's objects, and ages at which the difficulty has fallen to 2 zeros or less.
WORKS = {
    Action.BUILD: Work(Action.BUILD, "5-103", START - 210, 220),
    Action.MINE: Work(Action.MINE, "5-104", START - 14_000, 14_000),
    Action.REFINE: Work(Action.REFINE, "5-105", START - 28_000, 28_000),
    Action.RAID: Work(Action.RAID, "9-11", START - 75, 75, "2-12"),
}


@pytest.fixture
async def devnet() -> AsyncIterator[Devnet]:
    """The demo chain with ripe clocks; blocks come only when a test asks for them."""
    async with Devnet(scenario_name="demo", start_height=START) as made:
        for work in WORKS.values():
            made.set_anchor(work.action, work.object_id, work.anchor)
        yield made


@pytest.fixture(params=["grpc", "rest", "failover"])
async def client(devnet: Devnet, request: pytest.FixtureRequest) -> AsyncIterator[ChainClient]:
    """A client by each way; the third has lost its preferred node."""
    if request.param == "rest":
        assert devnet.rest_url is not None
        made: ChainClient = StructsdClient(RestTransport(devnet.rest_url, timeout=5.0), devnet.rpc_url, devnet.chain_id)
    elif request.param == "failover":
        made = FailoverClient.of([NOBODY, devnet.grpc_address], [], [devnet.rpc_url], devnet.chain_id)
    else:
        made = StructsdClient(devnet.grpc_address, devnet.rpc_url, devnet.chain_id)
    await made.connect()
    yield made
    await made.close()


def solved(work: Work, height: int) -> Proof:
    """The first proof that is valid in the block after `height`."""
    wanted = safe(height + 1 - work.anchor, work.range)
    for number in itertools.count():
        proof = verify(work.prefix, str(number))
        if proof.zeros >= wanted:
            return proof
    raise AssertionError


def signed(client: ChainClient, work: Work, proof: Proof, account: Account) -> SignedTransaction:
    return sign_completion(
        work,
        proof,
        KEY,
        chain_id=client.chain_id,
        account_number=account.number,
        sequence=account.sequence,
        timeout_height=START + 100,
    )


@pytest.mark.parametrize("action", WORKS)
async def test_work_is_read_as_the_chain_holds_it(client: ChainClient, action: Action) -> None:
    work = (await client.read_work(action, WORKS[action].object_id)).work
    assert (work.action, work.object_id, work.anchor, work.target_id) == (
        action,
        WORKS[action].object_id,
        WORKS[action].anchor,
        WORKS[action].target_id,
    )
    # The raid's range is the live shield of 2-12: base 25 and an ore bunker's 50.
    assert work.range == WORKS[action].range


@pytest.mark.parametrize("action", WORKS)
async def test_a_signed_completion_is_admitted_included_and_found(
    client: ChainClient, devnet: Devnet, action: Action
) -> None:
    object_id = WORKS[action].object_id
    work = (await client.read_work(action, object_id)).work
    await client.check_signer(KEY.address, action, object_id)
    account = await client.account(KEY.address)
    assert account.number == 17
    transaction = signed(client, work, solved(work, devnet.height), account)

    admitted = await client.broadcast(transaction.tx_bytes)
    assert disposition(admitted) is Disposition.SUCCESS
    assert await client.find_transaction(transaction.tx_hash) is None

    await devnet.advance()
    found = await client.find_transaction(transaction.tx_hash)
    assert found is not None
    assert (found.code, found.height) == (0, START + 1)
    assert (await client.account(KEY.address)).sequence == account.sequence + 1
    if action in (Action.MINE, Action.REFINE):
        assert (await client.read_work(action, object_id)).work.anchor == START + 1
    else:
        with pytest.raises(WorkGone):
            await client.read_work(action, object_id)


@pytest.mark.parametrize("version", ["v0.20", "v0.21"])
async def test_refining_on_a_complete_planet_waits_at_the_client_as_it_fails_on_the_chain(version: str) -> None:
    async with Devnet(scenario_name="demo", start_height=START, version=version) as devnet:
        devnet.set_anchor(Action.REFINE, "5-105", START - 28_000)
        client = StructsdClient(devnet.grpc_address, devnet.rpc_url, devnet.chain_id)
        await client.connect()
        work = (await client.read_work(Action.REFINE, "5-105")).work
        with devnet.edit() as stage:
            stage.set_planet("2-11", complete=True)
        with pytest.raises(WorkPaused, match="planet 2-11 is complete") as paused:
            await client.read_work(Action.REFINE, "5-105")
        assert "2-11" in paused.value.depends_on
        assert (Action.REFINE, "5-105") not in await client.outstanding_work("1-11")
        sent = signed(client, work, solved(work, devnet.height), await client.account(KEY.address))
        await client.broadcast(sent.tx_bytes)
        await devnet.advance()
        refused = await client.find_transaction(sent.tx_hash)
        assert refused is not None
        assert (refused.codespace, refused.code) == ("structs", 1650)

        with devnet.edit() as stage:
            stage.set_planet("2-11", complete=False)
        assert (await client.read_work(Action.REFINE, "5-105")).work == work
        await client.close()


async def test_the_same_bytes_sent_twice_are_told_as_already_sent(client: ChainClient, devnet: Devnet) -> None:
    work = WORKS[Action.BUILD]
    transaction = signed(client, work, solved(work, devnet.height), await client.account(KEY.address))
    await client.broadcast(transaction.tx_bytes)
    assert disposition(await client.broadcast(transaction.tx_bytes)) is Disposition.ALREADY_SENT


async def test_a_wrong_sequence_is_told_with_the_expected_one(client: ChainClient, devnet: Devnet) -> None:
    work = WORKS[Action.BUILD]
    account = await client.account(KEY.address)
    ahead = Account(account.address, account.number, account.sequence + 5)
    answer = await client.broadcast(signed(client, work, solved(work, devnet.height), ahead).tx_bytes)
    assert disposition(answer) is Disposition.RESYNC_SEQUENCE
    assert expected_sequence(answer.log) == account.sequence


async def test_a_proof_for_a_moved_anchor_is_included_and_told_to_be_mined_again(
    client: ChainClient, devnet: Devnet
) -> None:
    work = WORKS[Action.BUILD]
    transaction = signed(client, work, solved(work, devnet.height), await client.account(KEY.address))
    devnet.set_anchor(Action.BUILD, work.object_id, work.anchor + 1)
    assert (await client.broadcast(transaction.tx_bytes)).code == 0
    await devnet.advance()
    found = await client.find_transaction(transaction.tx_hash)
    assert found is not None
    assert (found.codespace, found.code) == ("structs", 1800)
    assert disposition(found) is Disposition.REMINE


async def test_blocks_are_pushed_as_they_are_committed(client: ChainClient, devnet: Devnet) -> None:
    async with contextlib.aclosing(client.blocks()) as blocks, asyncio.timeout(20):
        first = await anext(blocks)
        assert first.height == START
        await devnet.advance(3)
        heights = [(await anext(blocks)).height]
        while heights[-1] < START + 3:
            heights.append((await anext(blocks)).height)
        assert heights == sorted(set(heights))
        assert (await client.latest_block()).height == START + 3


async def test_an_object_that_is_not_there_is_gone(client: ChainClient) -> None:
    for action, object_id in [(Action.BUILD, "5-999"), (Action.RAID, "9-999")]:
        with pytest.raises(WorkGone, match="does not exist"):
            await client.read_work(action, object_id)


async def test_a_stranger_may_not_sign_and_gets_an_account_problem(client: ChainClient) -> None:
    stranger = keys.from_hex("11" * 32)
    with pytest.raises(KeyProblem, match="not registered"):
        await client.check_signer(stranger.address, Action.BUILD, "5-103")
    with pytest.raises(KeyProblem, match="does not exist"):
        await client.account(stranger.address)


async def test_a_key_may_not_sign_for_another_players_object_without_a_grant(client: ChainClient) -> None:
    with pytest.raises(KeyProblem, match="player 1-11 lacks PermHashBuild"):
        await client.check_signer(KEY.address, Action.BUILD, "5-202")


# What blocks tell


async def next_block(blocks: AsyncIterator[Block], height: int) -> Block:
    """The block of this height; those before it are passed over."""
    async with asyncio.timeout(20):
        while True:
            block = await anext(blocks)
            if block.height >= height:
                assert block.height == height
                return block


CHANGES: list[tuple[str, Callable[[Stage], None], Action, str]] = [
    ("a build clock moves", lambda s: s.set_anchor(Action.BUILD, "5-103", 90_000), Action.BUILD, "5-103"),
    ("a building is destroyed", lambda s: s.set_condition("5-103", Condition.DESTROYED), Action.BUILD, "5-103"),
    ("a mine clock moves", lambda s: s.set_anchor(Action.MINE, "5-104", 80_000), Action.MINE, "5-104"),
    ("a rig goes off line", lambda s: s.set_condition("5-104", Condition.OFFLINE), Action.MINE, "5-104"),
    ("the last ore is mined", lambda s: s.set_planet("2-11", ore=0), Action.MINE, "5-104"),
    ("the planet is complete", lambda s: s.set_planet("2-11", complete=True), Action.MINE, "5-104"),
    ("the refinery's planet is complete", lambda s: s.set_planet("2-11", complete=True), Action.REFINE, "5-105"),
    ("a refine clock moves", lambda s: s.set_anchor(Action.REFINE, "5-105", 70_000), Action.REFINE, "5-105"),
    ("the stored ore is stolen", lambda s: s.set_player("1-11", ore=0), Action.REFINE, "5-105"),
    ("the raid clock moves", lambda s: s.set_anchor(Action.RAID, "9-11", 90_000), Action.RAID, "9-11"),
    ("the shield rises", lambda s: s.set_planet("2-12", shield=99), Action.RAID, "9-11"),
    ("a shield structure is destroyed", lambda s: s.set_condition("5-202", Condition.DESTROYED), Action.RAID, "9-11"),
    ("the defender is safe", lambda s: s.set_condition("5-201", Condition.ONLINE), Action.RAID, "9-11"),
    ("the fleet goes home", lambda s: s.send_fleet("9-11", "2-11"), Action.RAID, "9-11"),
    ("the owner grants rights", lambda s: s.grant("1-11", "1-12", 1 << 20), Action.BUILD, "5-103"),
]


@pytest.mark.parametrize("client", ["grpc"], indirect=True)  # what blocks tell comes from the RPC by every way
@pytest.mark.parametrize(("change", "action", "object_id"), [case[1:] for case in CHANGES], ids=[c[0] for c in CHANGES])
async def test_a_change_that_concerns_a_work_touches_what_the_work_hangs_on(
    client: ChainClient, devnet: Devnet, change: Callable[[Stage], None], action: Action, object_id: str
) -> None:
    async with contextlib.aclosing(client.blocks()) as blocks:
        await next_block(blocks, START)
        depends_on = (await client.read_work(action, object_id)).depends_on
        await devnet.advance()  # the events of the demo's own setting
        await next_block(blocks, START + 1)
        await devnet.advance()
        assert (await next_block(blocks, START + 2)).touched == frozenset()
        with devnet.edit() as stage:
            change(stage)
        await devnet.advance()
        touched = (await next_block(blocks, START + 3)).touched
        assert touched is not None
        assert touched & depends_on


@pytest.mark.parametrize("action", WORKS)
async def test_a_completed_proof_touches_its_own_work(client: ChainClient, devnet: Devnet, action: Action) -> None:
    reading = await client.read_work(action, WORKS[action].object_id)
    await devnet.advance()
    async with contextlib.aclosing(client.blocks()) as blocks:
        await next_block(blocks, START + 1)
        account = await client.account(KEY.address)
        transaction = signed(client, reading.work, solved(reading.work, devnet.height), account)
        await client.broadcast(transaction.tx_bytes)
        await devnet.advance()
        touched = (await next_block(blocks, START + 2)).touched
    assert touched is not None
    assert touched & reading.depends_on
    assert not any("@" in one for one in touched)


async def test_a_key_that_loses_its_rights_is_touched(client: ChainClient, devnet: Devnet) -> None:
    async with contextlib.aclosing(client.blocks()) as blocks:
        await next_block(blocks, START)
        with devnet.edit() as stage:
            stage.add_address(keys.from_hex("22" * 32).address, "1-11", 1)
        await devnet.advance()
        touched = (await next_block(blocks, START + 1)).touched
    assert touched is not None
    assert f"8-{keys.from_hex('22' * 32).address}@" in touched


async def test_blocks_missed_while_the_subscription_was_away_are_made_up_for(
    client: StructsdClient | FailoverClient, devnet: Devnet
) -> None:
    """The devnet's own /block_results, in the shape that the client reads."""
    async with contextlib.aclosing(client.blocks()) as blocks:
        await next_block(blocks, START)
    for number in (1, 2):
        devnet.set_anchor(Action.BUILD, "5-103", 90_000 + number)
        devnet.set_anchor(Action.BUILD, "5-107", 90_000 + number)
        await devnet.advance()
    block = await client.latest_block()
    assert block.touched is None
    touched = await client._feed._touched_since(START, block)
    assert touched is not None
    assert touched >= {"5-103", "5-107"}


# All of a player's work


async def test_the_demos_work_is_all_found(client: ChainClient, devnet: Devnet) -> None:
    builds = ["5-101", "5-102", "5-103", "5-107", "5-108", "5-109", "5-110"]
    mines, refines = ["5-104", "5-106"], ["5-105"]
    found = await client.outstanding_work("1-11")
    assert found[-1] == (Action.RAID, "9-11")
    assert sorted(found, key=str) == sorted(
        [
            *((Action.BUILD, struct_id) for struct_id in builds),
            *((Action.MINE, struct_id) for struct_id in mines),
            *((Action.REFINE, struct_id) for struct_id in refines),
            (Action.RAID, "9-11"),
        ],
        key=str,
    )
    for action, object_id in found:
        await client.read_work(action, object_id)
    assert await client.outstanding_work("1-12") == []


async def test_new_work_is_found_and_touches_its_owner(client: ChainClient, devnet: Devnet) -> None:
    async with contextlib.aclosing(client.blocks()) as blocks:
        await next_block(blocks, START)
        devnet.add_struct("5-300", 1, "1-11")  # a Command Ship
        devnet.add_struct("5-301", 14, "1-12", Condition.ONLINE)
        await devnet.advance()
        touched = (await next_block(blocks, START + 1)).touched
    assert touched is not None
    assert touched >= {"1-11", "9-11", "1-12", "2-12"}
    assert (Action.BUILD, "5-300") in await client.outstanding_work("1-11")
    assert await client.outstanding_work("1-12") == [(Action.MINE, "5-301")]


# v0.21: the ore clocks of planets


@pytest.fixture
async def v21() -> AsyncIterator[tuple[Devnet, StructsdClient]]:
    """The demo on v0.21: planet 2-11 has two rigs and a refinery, and nobody raids it."""
    async with Devnet(scenario_name="demo", start_height=START, version="v0.21") as node:
        node.set_anchor(Action.MINE, "5-104", START - 14_000)
        node.set_anchor(Action.REFINE, "5-105", START - 28_000)
        made = StructsdClient(node.grpc_address, node.rpc_url, node.chain_id)
        await made.connect()
        yield node, made
        await made.close()


async def test_the_rigs_of_a_planet_share_a_clock_from_v21_on(v21: tuple[Devnet, StructsdClient]) -> None:
    devnet, client = v21
    first, second = [await client.read_work(Action.MINE, struct_id) for struct_id in ("5-104", "5-106")]
    assert first.clock == second.clock == "2-11/MINE"
    assert first.work.anchor == second.work.anchor == START - 14_000
    assert (await client.read_work(Action.REFINE, "5-105")).clock == "2-11/REFINE"

    await devnet.advance()
    async with contextlib.aclosing(client.blocks()) as blocks:
        await next_block(blocks, START + 1)
        account = await client.account(KEY.address)
        transaction = signed(client, first.work, solved(first.work, devnet.height), account)
        await client.broadcast(transaction.tx_bytes)
        await devnet.advance()
        touched = (await next_block(blocks, START + 2)).touched
    found = await client.find_transaction(transaction.tx_hash)
    assert found is not None
    assert found.code == 0
    assert touched is not None
    assert touched & second.depends_on
    assert (await client.read_work(Action.MINE, "5-106")).work.anchor == START + 2
    assert (await client.read_work(Action.REFINE, "5-105")).work.anchor == START - 28_000


async def test_a_proof_for_a_clock_that_another_rig_reset_is_to_be_mined_again(
    v21: tuple[Devnet, StructsdClient],
) -> None:
    devnet, client = v21
    works = [(await client.read_work(Action.MINE, struct_id)).work for struct_id in ("5-104", "5-106")]
    account = await client.account(KEY.address)
    sent = []
    for number, work in enumerate(works):
        at = Account(account.address, account.number, account.sequence + number)
        sent.append(signed(client, work, solved(work, devnet.height), at))
        assert (await client.broadcast(sent[-1].tx_bytes)).code == 0
    await devnet.advance()
    results = [await client.find_transaction(transaction.tx_hash) for transaction in sent]
    assert [disposition(result) for result in results if result] == [Disposition.SUCCESS, Disposition.REMINE]


async def test_a_raid_pauses_the_ore_clocks_and_moves_them_on(v21: tuple[Devnet, StructsdClient]) -> None:
    devnet, client = v21
    with devnet.edit() as stage:
        stage.send_fleet("9-12", "2-11")
    with pytest.raises(WorkPaused, match="under raid by fleet 9-12") as paused:
        await client.read_work(Action.MINE, "5-104")
    assert "2-11" in paused.value.depends_on
    assert (Action.MINE, "5-104") not in await client.outstanding_work("1-11")
    await devnet.advance(40)
    async with contextlib.aclosing(client.blocks()) as blocks:
        await next_block(blocks, START + 40)
        with devnet.edit() as stage:
            stage.send_fleet("9-12", "2-12")
        await devnet.advance()
        touched = (await next_block(blocks, START + 41)).touched
    assert touched is not None
    assert "2-11" in touched
    assert (await client.read_work(Action.MINE, "5-104")).work.anchor == START - 14_000 + 40
    assert (await client.read_work(Action.REFINE, "5-105")).work.anchor == START - 28_000 + 40


async def test_a_proof_for_a_planet_under_raid_is_refused_for_now(v21: tuple[Devnet, StructsdClient]) -> None:
    devnet, client = v21
    work = (await client.read_work(Action.MINE, "5-104")).work
    transaction = signed(client, work, solved(work, devnet.height), await client.account(KEY.address))
    with devnet.edit() as stage:
        stage.send_fleet("9-12", "2-11")
    await client.broadcast(transaction.tx_bytes)
    await devnet.advance()
    found = await client.find_transaction(transaction.tx_hash)
    assert found is not None
    assert (found.codespace, found.code) == ("structs", 1650)
    assert "under_raid" in found.log
    assert disposition(found) is Disposition.PAUSE


# The guild charter


#: A founder beside player 1-11, whose key solves.
FOUNDER = keys.from_hex("33" * 32)
FOUNDING = Founding("3-1", "guild.example", "4-1")


async def founded(client: ChainClient, work: Work, founding: Founding, height: int) -> SignedTransaction:
    account = await client.account(KEY.address)
    return sign_completion(
        work,
        solved(work, height),
        KEY,
        chain_id=client.chain_id,
        account_number=account.number,
        sequence=account.sequence,
        timeout_height=START + 100,
        founding=founding,
    )


@pytest.mark.parametrize("founder", ["1-11", "1-13"], ids=["the solver", "another player"])
async def test_a_charter_is_read_signed_and_founds_a_guild(v21: tuple[Devnet, StructsdClient], founder: str) -> None:
    devnet, client = v21
    with devnet.edit() as stage:
        stage.add_player("1-13", FOUNDER.address)
        stage.set_charter(anchor=START - 600)
    work = (await client.read_charter(founder, "1-11")).work
    assert (work.anchor, work.range) == (START - 600, 600)
    consent = sign_consent(FOUNDER, client.chain_id, founder, FOUNDING, work.anchor) if founder == "1-13" else None
    founding = Founding(FOUNDING.reactor_id, FOUNDING.endpoint, FOUNDING.entry_substation_id, consent)
    transaction = await founded(client, work, founding, devnet.height)
    assert disposition(await client.broadcast(transaction.tx_bytes)) is Disposition.SUCCESS
    await devnet.advance()
    found = await client.find_transaction(transaction.tx_hash)
    assert found is not None
    assert (found.code, found.log) == (0, "")
    assert (await client.read_charter("1-12", "1-11")).work.anchor == START + 1


async def test_a_charter_that_another_guild_voided_is_to_be_mined_again(v21: tuple[Devnet, StructsdClient]) -> None:
    devnet, client = v21
    work = (await client.read_charter("1-11", "1-11")).work
    transaction = await founded(client, work, FOUNDING, devnet.height)
    devnet.set_anchor(Action.CHARTER, "1-11", START)
    await client.broadcast(transaction.tx_bytes)
    await devnet.advance()
    found = await client.find_transaction(transaction.tx_hash)
    assert found is not None
    assert f"GUILDCHARTER{START}NONCE" in found.log
    assert disposition(found) is Disposition.REMINE


async def test_no_charter_is_read_before_v21(client: ChainClient) -> None:
    with pytest.raises(WorkGone, match="founds no guild by proof of work"):
        await client.read_charter("1-11", "1-11")
