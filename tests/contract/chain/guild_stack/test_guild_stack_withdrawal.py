"""A proof for a guild stack is withdrawn, or hurried, as long as no row of the outbox stands for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from coordinator.store.protocol import StoreError
from coordinator.submission.attempt import Attempt, AttemptState
from hashfleet.action import Action


async def test_a_proof_without_a_row_is_withdrawn_and_gets_none(desk: Any, stack: Any) -> None:
    submission = await desk.submission(Action.MINE, "5-14")
    stack.set_ore("2-9", 0)  # the rig waits
    desk.submitter.submit(submission)
    await desk.block()
    assert await desk.submitter.withdraw("pow_1")
    stack.set_ore("2-9", 5)
    for _ in range(3):
        await desk.block()
    assert stack.rows() == []
    assert await desk.store.attempts_of("pow_1") == []
    assert desk.submitter.status()[0].waiting == 0


async def test_a_proof_that_a_row_stands_for_is_not_withdrawn(desk: Any, stack: Any) -> None:
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    assert not await desk.submitter.withdraw("pow_1")
    assert not await desk.new().withdraw("pow_1")  # nor by one that has not read the ledger yet
    assert len(stack.rows()) == 1


async def test_a_claim_for_which_a_row_may_have_been_made_counts_after_a_crash(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*arguments: object) -> None:
        raise StoreError("killed here")

    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    with monkeypatch.context() as patched:
        patched.setattr(desk.submitter._maker._outbox, "put", crash)
        with pytest.raises(StoreError):
            await desk.block()
    assert [attempt.state for attempt in await desk.store.attempts_of("pow_1")] == [AttemptState.PREPARED]
    assert not await desk.new().withdraw("pow_1")


@pytest.mark.parametrize("fails", [False, True], ids=["", "claimed but not known whether stored"])
@pytest.mark.parametrize(
    "at", ["before the claim", "as it is about to be stored", "while it is stored", "once it is stored"]
)
async def test_at_the_very_moment_a_withdrawn_proof_gets_no_row_and_any_other_does(
    desk: Any, stack: Any, monkeypatch: pytest.MonkeyPatch, at: str, fails: bool
) -> None:
    add, attempts_of = desk.store.add_attempt, desk.store.attempts_of
    asked: list[asyncio.Task[bool]] = []
    claimed = asyncio.Event()

    async def ask() -> bool:
        return await desk.submitter.withdraw("pow_1")  # type: ignore[no-any-return]

    async def add_attempt(attempt: Attempt) -> Attempt:
        if at == "as it is about to be stored" and not asked:
            asked.append(asyncio.create_task(ask()))
            await asked[0]
        if at == "while it is stored" and not asked:
            # It reads the rows as they are before, and goes on when the claim is there.
            asked.append(asyncio.create_task(ask()))
            await asyncio.sleep(0.05)
        stored = await add(attempt)
        if fails and not claimed.is_set():
            claimed.set()
            raise StoreError("it is stored, but nobody knows")
        claimed.set()
        return stored  # type: ignore[no-any-return]

    async def rows_of(job_id: str) -> list[Attempt]:
        rows = await attempts_of(job_id)
        if asked and asyncio.current_task() is asked[0] and at == "while it is stored":
            await claimed.wait()
        return rows  # type: ignore[no-any-return]

    async def block() -> None:
        try:
            await desk.block()
        except StoreError:
            assert fails

    monkeypatch.setattr(desk.store, "add_attempt", add_attempt)
    monkeypatch.setattr(desk.store, "attempts_of", rows_of)
    read = desk.chain.read_work

    async def read_work(action: Action, object_id: str) -> object:
        if at == "before the claim" and not asked:
            asked.append(asyncio.create_task(ask()))
            await asked[0]
        return await read(action, object_id)

    submission = await desk.submission(Action.MINE, "5-14")
    monkeypatch.setattr(desk.chain, "read_work", read_work)
    desk.submitter.submit(submission)
    await block()
    if at == "once it is stored":
        asked.append(asyncio.create_task(ask()))
    withdrawn = await asked[0]
    for _ in range(3):
        await block()
    assert withdrawn is (at == "before the claim")
    assert len(stack.rows()) == (0 if withdrawn else 1)


async def test_a_proof_that_is_hurried_gets_its_row_before_the_others(desk: Any, stack: Any) -> None:
    mine = replace(await desk.submission(Action.MINE, "5-14", "pow_1"), priority=2)
    refine = replace(await desk.submission(Action.REFINE, "5-15", "pow_2"), priority=3)
    desk.submitter.submit(mine)
    desk.submitter.submit(refine)
    desk.submitter.prioritise("pow_2", 0)
    await desk.block()
    assert [row["args"][0] for row in stack.rows()] == ["5-15", "5-14"]
