"""From one MCP call to one included transaction, with every part a real process."""

from __future__ import annotations

import asyncio
import hashlib
import signal

import pytest

from .conftest import HASHING_SECONDS, LONG_ACTIONS, RIPE, Agent, House, long_work, running


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_every_action_goes_from_one_call_to_one_included_transaction(house: House, transport: str) -> None:
    await house.worker()
    async with house.agent(transport) as agent:
        jobs = {entity: await agent.start(action, entity) for action, entity in RIPE.items()}
        for entity, job_id in jobs.items():
            status = await agent.completed(job_id)
            proof, transaction = status["result"]["proof_of_work"], status["result"]["transaction"]
            assert proof["valid"] and proof["difficulty_met"]
            assert transaction["status"] == "included" and len(transaction["transaction_hash"]) == 64, entity
    transactions = await house.transactions()
    assert sorted(tx["objects"] for tx in transactions) == sorted([entity] for entity in RIPE.values())
    assert all(tx["code"] == 0 for tx in transactions)


async def test_the_shown_proof_hashes_to_what_it_says(house: House) -> None:
    await house.worker()
    async with house.agent("http") as agent:
        status = await agent.completed(await agent.start("struct_build_complete", "5-1"))
    proof = status["result"]["proof_of_work"]
    message = f"5-1BUILD{100_000 - 3400}NONCE{proof['nonce']}"
    assert hashlib.sha256(message.encode()).hexdigest() == proof["hash"]


async def test_an_opencl_worker_completes_a_job(house: House) -> None:
    await house.worker("--engine", "opencl")
    async with house.agent("http") as agent:
        await agent.completed(await agent.start("struct_build_complete", "5-1"))
        (worker,) = (await agent.call("structs_fleet_status"))["workers"]
        assert worker["devices"][0]["device_id"].startswith("opencl:")


async def start_all_and_wait_until_midway(agent: Agent) -> dict[str, str]:
    """Job by object, for every action, with at least one of them partly hashed."""
    zeros = await agent.long_zeros()
    works = {long_work(kind, zeros, 0): action for kind, action in LONG_ACTIONS.items()}
    works["9-11"] = "planet_raid_complete"
    jobs = {entity: await agent.start(action, entity) for entity, action in works.items()}
    await agent.until_any(jobs.values(), running)
    await asyncio.sleep(HASHING_SECONDS)
    return jobs


@pytest.mark.timeout(300)
async def test_a_worker_killed_midway_costs_nothing_but_time(house: House) -> None:
    worker = await house.worker()
    async with house.agent("http") as agent:
        jobs = await start_all_and_wait_until_midway(agent)
        await worker.kill()
        await house.worker()
        for job_id in jobs.values():
            await agent.completed(job_id)
    for entity in jobs:
        assert await house.transactions_of(entity) == 1


@pytest.mark.timeout(300)
async def test_a_coordinator_killed_midway_goes_on_after_its_restart(house: House) -> None:
    await house.worker()
    async with house.agent("http") as agent:
        jobs = await start_all_and_wait_until_midway(agent)
    await house.coordinator.kill()
    await house.restart_coordinator()
    async with house.agent("http") as agent:
        for job_id in jobs.values():
            await agent.completed(job_id)
    for entity in jobs:
        assert await house.transactions_of(entity) == 1


async def test_a_coordinator_killed_while_submitting_sends_no_second_transaction(house: House) -> None:
    await house.worker()
    async with house.agent("http") as agent:
        job_id = await agent.start("struct_build_complete", "5-1")
        status = await agent.until(job_id, lambda s: s["status"] == "submitting")
    await house.coordinator.kill()
    await house.restart_coordinator()
    async with house.agent("http") as agent:
        status = await agent.completed(job_id)
    transactions = await house.transactions()
    assert [tx["objects"] for tx in transactions] == [["5-1"]]
    assert status["result"]["transaction"]["status"] == "included"


async def test_the_same_work_asked_twice_is_one_job_and_one_transaction(house: House) -> None:
    await house.worker()
    async with house.agent("http") as agent, house.agent("stdio") as other:
        first = await agent.start("struct_build_complete", "5-1")
        assert await other.start("struct_build_complete", "5-1") == first
        await agent.completed(first)
    assert len(await house.transactions()) == 1


async def test_the_start_call_answers_while_the_chain_does_not(house: House) -> None:
    await house.worker()
    async with house.agent("http") as agent:
        house.devnet.signal(signal.SIGSTOP)
        try:
            job_id = await asyncio.wait_for(agent.start("struct_build_complete", "5-1"), 5)
            assert (await agent.status(job_id))["status"] == "queued"
        finally:
            house.devnet.signal(signal.SIGCONT)
        await agent.completed(job_id)


async def test_a_cancelled_job_leaves_the_worker_idle_and_the_chain_untouched(house: House) -> None:
    await house.worker()
    async with house.agent("http") as agent:
        job_id, entity = await agent.midway()
        cancelled = await agent.call("structs_cancel_proof_of_work", job_id=job_id)
        assert cancelled["status"] == "cancelled"
        await agent.until_idle()
    assert await house.transactions_of(entity) == 0


async def test_a_job_that_the_chain_does_not_know_fails_with_the_reason(house: House) -> None:
    async with house.agent("http") as agent:
        job_id = await agent.start("struct_build_complete", "5-999")
        status = await agent.until(job_id, lambda _: False, seconds=20)
        assert status["status"] == "failed"
        assert "5-999" in status["error"]


async def test_a_worker_drains_on_sigterm(house: House) -> None:
    worker = await house.worker()
    async with house.agent("http") as agent:
        job_id, _ = await agent.midway()
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
        assert (await agent.status(job_id))["status"] == "running"
