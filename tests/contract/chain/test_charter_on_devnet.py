"""Charters between the production client and the embedded chain of v0.21: read, priced, founded, voided."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from coordinator.chain import queries
from coordinator.chain.block_events import CHARTER
from coordinator.chain.client import SigningRight, TxAnswer
from coordinator.chain.failover import FailoverClient
from coordinator.chain.rest_transport import RestTransport
from coordinator.chain.structsd import StructsdClient
from coordinator.chain.transport import NotServed
from coordinator.submission import keys
from coordinator.submission.consent import sign_consent
from coordinator.submission.founding import GasPrice, parse_gas_price
from coordinator.submission.keys import SigningKey
from coordinator.submission.transaction import sign_completion
from devnet.node import Devnet
from devnet.staging import Stage
from hashfleet.action import Action, CharterTerms, Work
from hashfleet.charter import Founding
from hashfleet.difficulty import safe
from hashfleet.errors import InvalidInput, KeyProblem, WorkGone
from hashfleet.proof import Proof, verify

#: The demo's player 1-11 has this key; the other belongs to nobody until a test says so.
KEY = keys.from_mnemonic("abandon " * 11 + "about")
FOUNDER = keys.from_hex("11" * 32)
START = 100_000
RANGE = 37
FOUNDING = Founding("3-7", "guild.example", "4-1")


def arranged(stage: Stage) -> None:
    stage.add_player("1-77", FOUNDER.address)
    stage.add_reactor("3-7", "1-12")
    stage.set_charter(anchor=START - RANGE, difficulty_range=RANGE)
    stage.set_balance(KEY.address, 1_000_000)


@pytest.fixture
async def devnet(request: pytest.FixtureRequest) -> AsyncIterator[Devnet]:
    """The demo chain of v0.21 with a ripe charter; blocks come only when a test asks for them."""
    price = getattr(request, "param", 0.0)
    async with Devnet(scenario_name="demo", start_height=START, version="v0.21", min_gas_price=price) as made:
        with made.edit() as stage:
            arranged(stage)
        await made.advance()
        yield made


@pytest.fixture
async def client(devnet: Devnet) -> AsyncIterator[StructsdClient]:
    made = StructsdClient(devnet.grpc_address, devnet.rpc_url, devnet.chain_id)
    await made.connect()
    yield made
    await made.close()


def solved(work: Work, height: int) -> Proof:
    wanted = safe(height + 1 - work.anchor, work.range)
    return next(proof for number in itertools.count() if (proof := verify(work.prefix, str(number))).zeros >= wanted)


async def founded(
    client: StructsdClient | FailoverClient,
    devnet: Devnet,
    work: Work,
    key: SigningKey,
    founding: Founding = FOUNDING,
    price: GasPrice | None = None,
) -> TxAnswer:
    """The node's refusal, or what the next block says."""
    account = await client.account(key.address)
    signed = sign_completion(
        work,
        solved(work, devnet.height),
        key,
        chain_id=client.chain_id,
        account_number=account.number,
        sequence=account.sequence,
        timeout_height=devnet.height + 100,
        founding=founding,
        gas_price=price,
    )
    answer = await client.broadcast(signed.tx_bytes)
    if answer.code:
        return answer
    await devnet.advance()
    landed = await client.find_transaction(signed.tx_hash)
    assert landed is not None
    return landed


async def test_a_charter_is_one_puzzle_that_names_chain_solver_and_founder(
    client: StructsdClient, devnet: Devnet
) -> None:
    reading = await client.read_charter("1-77", "1-11")
    terms = CharterTerms(devnet.chain_id, "1-11")
    assert reading.work == Work(Action.CHARTER, "1-77", START - RANGE, RANGE, charter=terms)
    assert (reading.clock, reading.depends_on) == ("CHARTER", frozenset({CHARTER}))
    assert (await client.read_charter("1-11", "1-11")).clock == reading.clock


@pytest.mark.parametrize("names_chain", [True, False], ids=["prefixed", "unprefixed"])
async def test_a_guild_is_founded_in_whichever_form_the_chain_hashes_and_in_no_other(
    devnet: Devnet, names_chain: bool
) -> None:
    with devnet.edit() as stage:
        stage.set_charter(names_chain=names_chain)
    for told, code in ((not names_chain, 1800), (names_chain, 0)):
        client = FailoverClient.of(
            [devnet.grpc_address], [], [devnet.rpc_url], devnet.chain_id, charters_name_chain=told
        )
        await client.connect()
        work = (await client.read_charter("1-11", "1-11")).work
        assert (await founded(client, devnet, work, KEY)).code == code
        await client.close()


async def test_a_founder_who_is_nobody_and_a_charter_without_solver_are_refused(client: StructsdClient) -> None:
    with pytest.raises(WorkGone, match="player 1-999"):
        await client.read_charter("1-999", "1-11")
    with pytest.raises(InvalidInput, match="names its solver"):
        await client.read_work(Action.CHARTER, "1-11")


async def test_before_v21_a_charter_is_refused_in_one_sentence() -> None:
    async with Devnet(scenario_name="demo", start_height=START, version="v0.20") as older:
        client = StructsdClient(older.grpc_address, older.rpc_url, older.chain_id)
        await client.connect()
        with pytest.raises(WorkGone, match=r"version 'v0\.20.*', which founds no guild by proof of work; .* v0\.21"):
            await client.read_charter("1-11", "1-11")
        await client.close()


async def test_any_registered_player_may_solve_for_any_founder(client: StructsdClient) -> None:
    assert await client.check_signer(KEY.address, Action.CHARTER, "1-77") == SigningRight("1-11", "1-77")
    assert (await client.check_signer(FOUNDER.address, Action.CHARTER, "1-77")).owns
    with pytest.raises(KeyProblem, match="not registered"):
        await client.check_signer(keys.from_hex("33" * 32).address, Action.CHARTER, "1-77")


async def test_a_founding_touches_every_charter_and_starts_all_of_them_anew(
    client: StructsdClient, devnet: Devnet
) -> None:
    mine, other = [(await client.read_charter(founder, founder)) for founder in ("1-11", "1-77")]
    async with contextlib.aclosing(client.blocks()) as blocks:
        await anext(blocks)
        landed = await founded(client, devnet, mine.work, KEY)
        async for block in blocks:
            if block.height == landed.height:
                break
    assert (landed.code, landed.height) == (0, devnet.height)
    assert block.touched is not None
    assert block.touched & other.depends_on
    assert (await client.read_charter("1-77", "1-77")).work.anchor == devnet.height


@pytest.fixture(params=["grpc", "rest"])
async def either(request: pytest.FixtureRequest, devnet: Devnet) -> AsyncIterator[StructsdClient]:
    """A client over gRPC, or over REST."""
    node = devnet.grpc_address if request.param == "grpc" else RestTransport(devnet.rest_url, timeout=10)
    made = StructsdClient(node, devnet.rpc_url, devnet.chain_id)
    await made.connect()
    yield made
    await made.close()


async def test_a_founder_who_owns_a_guild_is_told_before_anything_is_hashed(
    either: StructsdClient, devnet: Devnet
) -> None:
    assert (await founded(either, devnet, (await either.read_charter("1-11", "1-11")).work, KEY)).code == 0
    with pytest.raises(WorkGone, match=r"^player 1-11 owns guild 0-1 already; who owns a guild founds no other$"):
        await either.read_charter("1-11", "1-11")
    for _ in range(RANGE):
        await devnet.advance()
    work = (await either.read_charter("1-77", "1-77")).work
    own = dataclasses.replace(work, object_id="1-11", charter=CharterTerms(devnet.chain_id, "1-11"))
    again = await founded(either, devnet, own, KEY)
    assert (again.codespace, again.code) == ("structs", 1501)


async def test_who_belongs_to_another_players_guild_may_found_one(either: StructsdClient, devnet: Devnet) -> None:
    assert (await founded(either, devnet, (await either.read_charter("1-11", "1-11")).work, KEY)).code == 0
    with devnet.edit() as stage:
        stage.join_guild("1-77", "0-1")
    await devnet.advance()
    assert (await either.read_charter("1-77", "1-77")).work.object_id == "1-77"


async def test_a_reactor_that_is_not_there_is_told_before_anything_is_hashed(either: StructsdClient) -> None:
    assert (await either.read_charter("1-77", "1-77", "3-7")).work.object_id == "1-77"
    with pytest.raises(WorkGone, match=r"^reactor 3-99 does not exist"):
        await either.read_charter("1-77", "1-77", "3-99")
    with pytest.raises(InvalidInput, match="reactor_id"):
        await either.read_charter("1-77", "1-77", "5-99")


async def test_a_node_that_tells_of_no_guilds_and_reactors_leaves_them_to_the_chain(
    client: StructsdClient, devnet: Devnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await founded(client, devnet, (await client.read_charter("1-11", "1-11")).work, KEY)).code == 0
    find = client._node._transport.find

    async def without(query: Any, *asked: Any) -> Any:
        if query in (queries.GUILD, queries.REACTOR):
            raise NotServed("unknown method")
        return await find(query, *asked)

    monkeypatch.setattr(client._node._transport, "find", without)
    assert (await client.read_charter("1-11", "1-11", "3-99")).work.object_id == "1-11"


async def test_another_players_guild_takes_a_consent_at_the_present_anchor(
    client: StructsdClient, devnet: Devnet
) -> None:
    work = (await client.read_charter("1-77", "1-11")).work
    void = sign_consent(FOUNDER, devnet.chain_id, "1-77", FOUNDING, work.anchor - 1)
    refused = await founded(client, devnet, work, KEY, dataclasses.replace(FOUNDING, consent=void))
    assert (refused.codespace, refused.code) == ("structs", 1750)
    agreed = sign_consent(FOUNDER, devnet.chain_id, "1-77", FOUNDING, work.anchor)
    assert (await founded(client, devnet, work, KEY, dataclasses.replace(FOUNDING, consent=agreed))).code == 0


@pytest.mark.parametrize("devnet", [0.01], indirect=True)
async def test_a_node_with_a_price_takes_a_founding_that_pays_it(client: StructsdClient, devnet: Devnet) -> None:
    work = (await client.read_charter("1-11", "1-11")).work
    for price in (None, parse_gas_price("0.009ualpha")):
        refused = await founded(client, devnet, work, KEY, price=price)
        assert (refused.codespace, refused.code) == ("sdk", 13)
    assert (await founded(client, devnet, work, KEY, price=parse_gas_price("0.01ualpha"))).code == 0
