"""The production client against the embedded chain: two implementations of one wire, written apart from each other."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest

from coordinator.chain.client import Account
from coordinator.chain.structsd import StructsdClient
from coordinator.submission import keys
from coordinator.submission.transaction import SignedTransaction, sign_completion
from coordinator.submission.verdict import Disposition, disposition, expected_sequence
from devnet.node import Devnet
from hashfleet.action import Action, Work
from hashfleet.difficulty import safe
from hashfleet.errors import KeyProblem, WorkGone
from hashfleet.proof import Proof, verify

#: The public test mnemonic; the demo scenario's player 1-11 has its address.
KEY = keys.from_mnemonic("abandon " * 11 + "about")
START = 100_000
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


@pytest.fixture
async def client(devnet: Devnet) -> AsyncIterator[StructsdClient]:
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


def signed(client: StructsdClient, work: Work, proof: Proof, account: Account) -> SignedTransaction:
    return sign_completion(
        work,
        proof,
        KEY,
        chain_id=client.chain_id,
        account_number=account.number,
        sequence=account.sequence,
        timeout_height=START + 100,
    )


@pytest.mark.parametrize("action", Action)
async def test_work_is_read_as_the_chain_holds_it(client: StructsdClient, action: Action) -> None:
    work = (await client.read_work(action, WORKS[action].object_id)).work
    assert (work.action, work.object_id, work.anchor, work.target_id) == (
        action,
        WORKS[action].object_id,
        WORKS[action].anchor,
        WORKS[action].target_id,
    )
    # The raid's range is the live shield of 2-12: base 25 and an ore bunker's 50.
    assert work.range == WORKS[action].range


@pytest.mark.parametrize("action", Action)
async def test_a_signed_completion_is_admitted_included_and_found(
    client: StructsdClient, devnet: Devnet, action: Action
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


async def test_the_same_bytes_sent_twice_are_told_as_already_sent(client: StructsdClient, devnet: Devnet) -> None:
    work = WORKS[Action.BUILD]
    transaction = signed(client, work, solved(work, devnet.height), await client.account(KEY.address))
    await client.broadcast(transaction.tx_bytes)
    assert disposition(await client.broadcast(transaction.tx_bytes)) is Disposition.ALREADY_SENT


async def test_a_wrong_sequence_is_told_with_the_expected_one(client: StructsdClient, devnet: Devnet) -> None:
    work = WORKS[Action.BUILD]
    account = await client.account(KEY.address)
    ahead = Account(account.address, account.number, account.sequence + 5)
    answer = await client.broadcast(signed(client, work, solved(work, devnet.height), ahead).tx_bytes)
    assert disposition(answer) is Disposition.RESYNC_SEQUENCE
    assert expected_sequence(answer.log) == account.sequence


async def test_a_proof_for_a_moved_anchor_is_included_and_told_to_be_mined_again(
    client: StructsdClient, devnet: Devnet
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


async def test_blocks_are_pushed_as_they_are_committed(client: StructsdClient, devnet: Devnet) -> None:
    async with contextlib.aclosing(client.blocks()) as blocks, asyncio.timeout(20):
        first = await anext(blocks)
        assert first.height == START
        await devnet.advance(3)
        heights = [(await anext(blocks)).height]
        while heights[-1] < START + 3:
            heights.append((await anext(blocks)).height)
        assert heights == sorted(set(heights))
        assert (await client.latest_block()).height == START + 3


async def test_an_object_that_is_not_there_is_gone(client: StructsdClient) -> None:
    for action, object_id in [(Action.BUILD, "5-999"), (Action.RAID, "9-999")]:
        with pytest.raises(WorkGone, match="does not exist"):
            await client.read_work(action, object_id)


async def test_a_stranger_may_not_sign_and_gets_an_account_problem(client: StructsdClient) -> None:
    stranger = keys.from_hex("11" * 32)
    with pytest.raises(KeyProblem, match="not registered"):
        await client.check_signer(stranger.address, Action.BUILD, "5-103")
    with pytest.raises(KeyProblem, match="does not exist"):
        await client.account(stranger.address)


async def test_a_key_may_not_sign_for_another_players_object_without_a_grant(client: StructsdClient) -> None:
    with pytest.raises(KeyProblem, match="player 1-11 lacks PermHashBuild"):
        await client.check_signer(KEY.address, Action.BUILD, "5-202")
