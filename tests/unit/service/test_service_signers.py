"""Who signs, as the service sees it: no key at all, and how each key fares."""

from __future__ import annotations

import asyncio
from pathlib import Path

from coordinator.chain.client import Account
from coordinator.core.job import JobState
from coordinator.service import Service
from coordinator.store.sql import open_store
from coordinator.submission.keys import SigningKey
from hashfleet.action import Action
from hashfleet.errors import KeyProblem
from hashfleet.job_request import JobRequest

from .conftest import KEY, WORKS, Coordinator, OneNodeChain

OTHER_KEY = SigningKey(bytes(range(2, 34)))


async def test_a_coordinator_without_keys_lets_jobs_wait_and_says_why(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "jobs.db")
    service = Service(OneNodeChain(), store, ())
    running = asyncio.create_task(service.run())
    view, _ = await service.submit(JobRequest(Action.BUILD, "5-1", "1-7"))
    async with asyncio.timeout(10):
        async for seen in service.watch(view.job.job_id):
            if seen.job.error is not None:
                break
    assert seen.job.state is JobState.QUEUED
    assert "no key may sign" in (seen.job.error or "")
    assert (await service.fleet()).signers == ()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


async def test_a_job_whose_key_has_no_account_is_held_before_hashing_and_goes_on_once_there_is_one(
    coordinator: Coordinator,
) -> None:
    plain, missing = coordinator.chain.account, True

    async def account(address: str) -> Account:
        if missing:
            raise KeyProblem("the account does not exist; it should have received something")
        return await plain(address)

    coordinator.chain.account = account  # type: ignore[method-assign]
    view, _ = await coordinator.service.submit(JobRequest(Action.BUILD, "5-1", "1-7"))
    async with asyncio.timeout(10):
        async for seen in coordinator.service.watch(view.job.job_id):
            if seen.job.error is not None:
                break
        assert (seen.job.state, seen.job.work) == (JobState.QUEUED, None)
        assert seen.job.error == "the account does not exist; it should have received something"
        missing = False
        async for seen in coordinator.service.watch(view.job.job_id):
            if seen.job.work is not None:
                break
    assert (seen.job.signer, seen.job.error) == (KEY.address, None)


async def test_a_job_keeps_which_key_was_chosen_for_it(coordinator: Coordinator) -> None:
    view, _ = await coordinator.service.submit(JobRequest(Action.BUILD, "5-1", "1-7"))
    async with asyncio.timeout(10):
        async for seen in coordinator.service.watch(view.job.job_id):
            if seen.job.work is not None:
                break
    assert (seen.job.work, seen.job.signer) == (WORKS["5-1"], KEY.address)
    (signer,) = (await coordinator.service.fleet()).signers
    assert (signer.address, signer.player_id) == (KEY.address, "1-7")


async def test_two_equal_keys_share_the_jobs_and_keep_them(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "jobs.db")
    chain = OneNodeChain()
    service = Service(chain, store, (KEY, OTHER_KEY))
    choices: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()
    choose = service._submitter.choose_signer

    async def noted(action: Action, object_id: str, current: str = "") -> str:
        choices.put_nowait((object_id, current, chosen := await choose(action, object_id, current)))
        return chosen

    service._submitter.choose_signer = noted  # type: ignore[method-assign]
    running = asyncio.create_task(service.run())
    first = {}
    async with asyncio.timeout(10):
        for object_id in ("5-1", "5-2"):
            view, _ = await service.submit(JobRequest(Action.BUILD, object_id, "1-7"))
            async for seen in service.watch(view.job.job_id):
                if seen.job.work is not None:
                    first[object_id] = seen.job.signer or ""
                    break
        while not choices.empty():
            choices.get_nowait()
        chain.make_block(touched=frozenset({"1-7@"}))
        again = [await choices.get() for _ in first]
    assert sorted(first.values()) == sorted((KEY.address, OTHER_KEY.address))
    assert sorted(again) == [(object_id, key, key) for object_id, key in first.items()]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()
