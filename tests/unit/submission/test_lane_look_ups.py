"""What is in flight is looked up at the same time, and a node that is slow with it keeps nothing new back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coordinator.chain.client import TxAnswer
from coordinator.submission import lane as lane_module
from hashfleet.action import Action
from hashfleet.errors import ChainUnavailable

# A scene is what conftest.py sets up; pytest's importlib mode gives tests no way to name its type.
Scene = Any


async def ten_in_flight(scene: Scene) -> None:
    """Have ten transactions on their way."""
    scene.chain.includes = False
    await scene.submit(*(scene.pose(number) for number in range(10)))
    await scene.block()
    assert scene.lane.in_flight == 10


async def test_all_that_is_in_flight_is_looked_up_at_the_same_time(scene: Scene) -> None:
    await ten_in_flight(scene)
    started: list[str] = []
    answers = asyncio.Event()

    async def wait(call: str) -> None:
        if call == "find_transaction":
            started.append(call)
            await answers.wait()

    scene.chain.interrupt = wait
    scene.chain.includes = True
    await scene.block()
    assert len(started) == 10
    answers.set()
    await scene.settle()
    assert len(scene.included) == 10


async def test_no_more_look_ups_than_ten_are_under_way_at_once(scene: Scene) -> None:
    await scene.stop()
    scene.settings = lane_module.Settings(sends_per_block=30)
    await scene.start()
    scene.chain.includes = False
    await scene.submit(*(scene.pose(number) for number in range(30)))
    under_way, most = 0, 0
    plain = scene.chain.find_transaction

    async def slow(tx_hash: str) -> TxAnswer | None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        answer: TxAnswer | None = await plain(tx_hash)
        return answer

    scene.chain.find_transaction = slow
    scene.chain.includes = True
    await scene.block()
    assert most == 10
    assert len(scene.included) == 30


async def test_whichever_answer_comes_first_they_are_acted_upon_by_sequence(scene: Scene) -> None:
    await ten_in_flight(scene)
    plain = scene.chain.find_transaction
    order = [sent.tx_hash for sent in scene.chain.sent()]

    async def the_last_first(tx_hash: str) -> TxAnswer | None:
        for _ in range(10 - order.index(tx_hash)):
            await asyncio.sleep(0)
        answer: TxAnswer | None = await plain(tx_hash)
        return answer

    scene.chain.find_transaction = the_last_first
    scene.chain.includes = True
    await scene.block()
    assert scene.included == [f"pow_{number}" for number in range(10)]


async def test_a_new_proof_is_sent_although_a_look_up_is_never_answered(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "LOOK_UP_SECONDS", 0.01)
    await scene.submit(scene.pose(1))
    sent = asyncio.Event()

    async def never(call: str) -> None:
        if call == "find_transaction":
            await asyncio.Event().wait()
        elif call == "broadcast answered":
            sent.set()

    scene.chain.interrupt = never
    scene.chain.commit()
    scene.lane.block_seen(scene.chain.height)
    await scene.submit(scene.pose(2, priority=0))
    await asyncio.wait_for(sent.wait(), 10)
    assert scene.chain.sent_objects() == ["5-1", "5-2"]


async def test_a_new_proof_is_sent_although_an_account_to_follow_by_is_never_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "ACCOUNT_SECONDS", 0.01)
    await scene.submit(scene.pose(1))
    sent = asyncio.Event()
    asked: list[str] = []

    async def never_at_first(call: str) -> None:
        if call == "account":
            asked.append(call)
            if len(asked) == 1:
                await asyncio.Event().wait()
        elif call == "broadcast answered":
            sent.set()

    scene.chain.interrupt = never_at_first
    scene.chain.commit()
    scene.lane.block_seen(scene.chain.height)
    await scene.submit(scene.pose(2))
    await asyncio.wait_for(sent.wait(), 10)
    await scene.settle()
    assert scene.included == ["pow_1"]
    assert scene.chain.sent_objects() == ["5-1", "5-2"]


async def test_a_failed_look_up_keeps_neither_the_others_nor_what_is_new(scene: Scene) -> None:
    await scene.submit(scene.pose(1), scene.pose(2))
    first = scene.chain.sent()[0].tx_hash
    plain = scene.chain.find_transaction

    async def fail_the_first(tx_hash: str) -> TxAnswer | None:
        if tx_hash == first:
            raise ChainUnavailable("no endpoint answered")
        answer: TxAnswer | None = await plain(tx_hash)
        return answer

    scene.chain.find_transaction = fail_the_first
    await scene.block()
    await scene.submit(scene.pose(3))
    assert scene.included == ["pow_2"]
    assert scene.chain.sent_objects() == ["5-1", "5-2", "5-3"]
    assert scene.lane.status().last_error == "no endpoint answered"
    scene.chain.find_transaction = plain
    await scene.block()
    assert sorted(scene.included) == ["pow_1", "pow_2", "pow_3"]


async def test_a_transaction_whose_work_cannot_be_read_keeps_no_other_from_being_followed(scene: Scene) -> None:
    scene.chain.next_broadcasts.append("lost after")  # so that the work is read before the bytes are sent again
    await scene.submit(scene.pose(1))
    await scene.submit(scene.pose(2))
    first = scene.chain.sent()[0].tx_hash
    plain = scene.chain.find_transaction

    async def indexed_late(tx_hash: str) -> TxAnswer | None:
        answer: TxAnswer | None = await plain(tx_hash)
        return answer if tx_hash != first else None

    scene.chain.find_transaction = indexed_late
    scene.chain.commit()
    scene.chain.works[Action.MINE, "5-1"] = ChainUnavailable("no endpoint answered")
    scene.lane.block_seen(scene.chain.height)
    await scene.settle()
    assert scene.included == ["pow_2"]


async def test_a_look_up_that_failed_is_made_again_with_the_next_block_and_not_with_each_proof(scene: Scene) -> None:
    await scene.submit(scene.pose(1))
    look_ups: list[str] = []

    async def fail(call: str) -> None:
        if call == "find_transaction":
            look_ups.append(call)
            raise ChainUnavailable("no endpoint answered")

    scene.chain.interrupt = fail
    await scene.block()
    await scene.submit(scene.pose(2))
    await scene.submit(scene.pose(3))
    assert len(look_ups) == 1
    await scene.block()
    assert len(look_ups) == 4
