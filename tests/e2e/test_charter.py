"""Guilds that are founded by charter, through MCP and into the chain: alone, with a consent, and against a rival."""

from __future__ import annotations

import asyncio
import itertools
import re
import signal
from typing import Any

import grpc.aio
import pytest

from coordinator.chain.structsd import StructsdClient
from coordinator.submission import keys
from coordinator.submission.transaction import sign_completion
from hashfleet.action import Work
from hashfleet.charter import Founding, read_consent
from hashfleet.difficulty import safe
from hashfleet.proof import Proof, verify
from hashfleet.rpc.structs.structs import query_pb2
from hashfleet.rpc.structs.structs.query_pb2_grpc import QueryStub

from .conftest import HASHFLEET, PLAYER_ADDRESS, START_HEIGHT, House, running

#: A founder who has no coordinator, and somebody else who is faster than ours.
FOUNDER = keys.from_hex("11" * 32)
RIVAL = keys.from_hex("22" * 32)
#: The charter's range, and an age at which it asks for 4 zeros: after a dozen blocks it asks for one.
RANGE, AGE = 37, 32
TERMS = {"reactor_id": "3-1", "endpoint": "guild.example"}


@pytest.fixture
def names_chain() -> bool:
    """Whether the chain hashes the released form of a charter."""
    return True


@pytest.fixture
def world(names_chain: bool) -> dict[str, Any]:
    return {
        "start_height": START_HEIGHT,
        "players": [
            {"id": "1-11", "address": PLAYER_ADDRESS},
            {"id": "1-12", "address": FOUNDER.address},
            {"id": "1-13", "address": RIVAL.address},
        ],
        "reactors": [{"id": "3-1", "owner": "1-13"}],
        "charter": {"age": AGE, "range": RANGE, "names_chain": names_chain},
    }


@pytest.fixture
def chain_version(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "v0.21")


async def guild_of(house: House, player_id: str) -> str:
    """The guild that a player belongs to; empty if none."""
    async with grpc.aio.insecure_channel(house.devnet.announced["grpc_address"]) as channel:
        answer = await QueryStub(channel).Player(query_pb2.QueryGetPlayerRequest(id=player_id), timeout=10)
    return str(answer.Player.guildId)


async def consent_of_the_founder(house: House, reason: str) -> dict[str, str]:
    """Do what the job asks for: run the command that its error names, with the founder's key."""
    found = re.search(r"run hashfleet (charter consent .*) with the founder's key", reason)
    assert found, reason
    ran = await asyncio.create_subprocess_exec(
        *HASHFLEET,
        *found[1].split(),
        env={"HASHFLEET_PRIVATE_KEY": "11" * 32, "PATH": ""},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(ran.communicate(), 60)
    consent = read_consent(out.decode())
    return {
        "consent_address": consent.address,
        "consent_pub_key": consent.proof_pub_key,
        "consent_signature": consent.proof_signature,
    }


def waits_for_consent(status: dict[str, Any]) -> bool:
    return status["status"] == "queued" and "has to consent" in status.get("error", "")


async def test_a_player_founds_a_guild_with_his_own_key(house: House) -> None:
    await house.worker()
    async with house.agent("http") as agent:
        job_id = await agent.start("guild_create", "1-11", **TERMS)
        done = await agent.completed(job_id)
    assert done["result"]["transaction"]["status"] == "included"
    assert await guild_of(house, "1-11") == "0-1"
    assert [tx["code"] for tx in await house.transactions()] == [0]


async def test_a_guild_is_founded_for_another_player_once_he_consents(house: House) -> None:
    await house.worker()
    async with house.agent("stdio") as agent:
        job_id = await agent.start("guild_create", "1-12", **TERMS)
        waiting = await agent.until(job_id, waits_for_consent)
        consent = await consent_of_the_founder(house, waiting["error"])
        assert await agent.start("guild_create", "1-12", **TERMS, **consent) == job_id
        await agent.completed(job_id)
    assert (await guild_of(house, "1-12"), await guild_of(house, "1-11")) == ("0-1", "")
    assert [tx["code"] for tx in await house.transactions()] == [0]


async def test_a_rivals_guild_voids_the_work_and_the_consent_and_the_next_anchor_is_hashed(house: House) -> None:
    worker = await house.worker()
    async with house.agent("http") as agent:
        await agent.long_zeros()  # the worker is there
        worker.signal(signal.SIGSTOP)  # so that it stays in the midst of its lease
        own = await agent.start("guild_create", "1-11", **TERMS)
        await agent.until(own, running)
        for_another = await agent.start("guild_create", "1-12", **TERMS)
        old = await consent_of_the_founder(house, (await agent.until(for_another, waits_for_consent))["error"])
        assert await agent.start("guild_create", "1-12", **TERMS, **old) == for_another

        founded_at = await found_as_rival(house)

        def moved(status: dict[str, Any]) -> bool:
            return bool(status.get("difficulty_info", {}).get("current_age", AGE) < AGE / 2)

        await agent.until(own, moved)
        voided = await agent.until(for_another, waits_for_consent)
        assert "is not for this founding" in voided["error"]
        assert f"--anchor {founded_at}" in voided["error"]
        worker.signal(signal.SIGCONT)
        await agent.completed(own)
    assert (await guild_of(house, "1-13"), await guild_of(house, "1-11")) == ("0-1", "0-2")
    assert [tx["code"] for tx in await house.transactions()] == [0, 0]


async def found_as_rival(house: House) -> int:
    """Found a guild with a key and a proof of one's own; the height at which the chain took it."""
    chain = StructsdClient(house.devnet.announced["grpc_address"], None, None)
    await chain.connect()
    try:
        work = (await chain.read_charter("1-13", "1-13")).work
        height = (await chain.latest_block()).height
        account = await chain.account(RIVAL.address)
        signed = sign_completion(
            work,
            solved(work, height),
            RIVAL,
            chain_id=chain.chain_id,
            account_number=account.number,
            sequence=account.sequence,
            timeout_height=height + 200,
            founding=Founding("3-1", "rival.example"),
        )
        answer = await chain.broadcast(signed.tx_bytes)
        assert answer.code == 0, answer
        async with asyncio.timeout(20):
            while (landed := await chain.find_transaction(signed.tx_hash)) is None:  # noqa: ASYNC110 - a node tells no event
                await asyncio.sleep(0.1)
        assert landed.code == 0, landed
        assert landed.height is not None
        return landed.height
    finally:
        await chain.close()


def solved(work: Work, height: int) -> Proof:
    wanted = safe(height + 1 - work.anchor, work.range)
    return next(proof for number in itertools.count() if (proof := verify(work.prefix, str(number))).zeros >= wanted)


@pytest.mark.parametrize("chain_version", ["v0.20"], indirect=True)
async def test_a_charter_on_a_chain_without_them_fails_with_the_reason(house: House) -> None:
    async with house.agent("http") as agent:
        job_id = await agent.start("guild_create", "1-11", **TERMS)
        status = await agent.until(job_id, lambda _: False, seconds=20)
    assert status["status"] == "failed"
    assert "founds no guild by proof of work; that takes v0.21 or newer" in status["error"]


@pytest.mark.parametrize("names_chain", [False])
async def test_on_a_chain_that_hashes_the_other_form_a_charter_names_the_option_and_is_founded_with_it(
    house: House,
) -> None:
    worker = await house.worker()
    async with house.agent("http") as agent:
        job_id = await agent.start("guild_create", "1-11", **TERMS)
        failed = await agent.until(job_id, lambda _: False)
    assert failed["status"] == "failed", failed
    assert "start the coordinator with --charter-form unprefixed, and submit the job again" in failed["error"]
    rejected = [tx["code"] for tx in await house.transactions()]
    assert rejected == [1800]  # it is paid for once

    await worker.kill()
    await house.coordinator.kill()
    house.coordinator.arguments += ["--charter-form", "unprefixed"]
    await house.restart_coordinator()
    await house.worker()
    async with house.agent("http") as agent:
        await agent.completed(await agent.start("guild_create", "1-11", **TERMS))
    assert await guild_of(house, "1-11") == "0-1"
    assert [tx["code"] for tx in await house.transactions()] == [*rejected, 0]


async def test_a_charter_on_a_reactor_that_is_not_there_fails_before_it_is_hashed_or_paid_for(house: House) -> None:
    await house.worker()
    async with house.agent("http") as agent:
        job_id = await agent.start("guild_create", "1-11", **TERMS | {"reactor_id": "3-99"})
        status = await agent.until(job_id, lambda _: False, seconds=20)
    assert status["status"] == "failed"
    assert "reactor 3-99 does not exist" in status["error"]
    assert await house.transactions() == []
