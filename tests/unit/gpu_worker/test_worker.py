"""The life of a worker: starting without a coordinator, stopping, losing its devices."""

from __future__ import annotations

import asyncio
import logging

import pytest
from scripted_coordinator import ScriptedCoordinator, lease
from scripted_engine import BATCH, ScriptedEngine

from gpu_worker.device_runner import ReadyEngine
from gpu_worker.worker import Backoff, Worker
from hashfleet.errors import EngineUnavailable
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb


def make(coordinator: ScriptedCoordinator, *engines: ScriptedEngine, failed: asyncio.Event | None = None) -> Worker:
    """A worker that tries again almost at once; `failed` is set when it could not connect."""

    def pause(low: float, high: float) -> float:
        if failed is not None:
            failed.set()
        return low

    return Worker(
        coordinator.address,
        "a test",
        [ReadyEngine(engine, 1000.0) for engine in engines],
        self_test=lambda _: None,
        backoff=Backoff(shortest=0.02, longest=0.1, uniform=pause),
    )


async def test_a_drained_worker_gives_back_what_it_holds_and_frees_its_devices(
    coordinator: ScriptedCoordinator, stepped: ScriptedEngine
) -> None:
    worker = make(coordinator, stepped)
    run = asyncio.create_task(worker.run())
    link = await coordinator.next_link()
    await link.greet()
    running, waiting = lease(count=10**12), lease()
    link.say(lease=running)
    link.say(lease=waiting)
    stepped.step()
    await asyncio.to_thread(stepped.wait_taken)
    worker.drain("the test says so")
    await link.expect("draining")
    stepped.let_go()
    ended = {message.lease_id: message for message in [await link.expect("lease_ended") for _ in range(2)]}
    assert {message.reason for message in ended.values()} == {pb.END_REASON_CANCELLED}
    assert ended[running.lease_id].done == 2 * BATCH
    assert ended[waiting.lease_id].done == 0
    await asyncio.wait_for(run, 20)
    assert await link.hear() is None
    assert stepped.closed.is_set()


async def test_a_worker_that_has_no_coordinator_yet_stops_when_told(
    coordinator: ScriptedCoordinator, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    await coordinator.stop()
    failed = asyncio.Event()
    worker = make(coordinator, engine, failed=failed)
    with caplog.at_level(logging.WARNING):
        run = asyncio.create_task(worker.run())
        await asyncio.wait_for(failed.wait(), 20)
    assert f"no coordinator answers at {coordinator.address}" in caplog.text
    worker.drain("the test says so")
    await asyncio.wait_for(run, 20)
    assert engine.closed.is_set()


async def test_a_worker_finds_a_coordinator_that_comes_later(
    coordinator: ScriptedCoordinator, engine: ScriptedEngine
) -> None:
    await coordinator.stop()
    failed = asyncio.Event()
    worker = make(coordinator, engine, failed=failed)
    run = asyncio.create_task(worker.run())
    await asyncio.wait_for(failed.wait(), 20)
    await coordinator.serve()
    link = await coordinator.next_link()
    await link.greet()
    worker.drain("the test says so")
    await asyncio.wait_for(run, 20)


async def test_a_worker_without_any_device_left_ends_with_an_error(
    coordinator: ScriptedCoordinator, engine: ScriptedEngine
) -> None:
    engine.errors = [EngineUnavailable("the card is gone")]
    run = asyncio.create_task(make(coordinator, engine).run())
    link = await coordinator.next_link()
    await link.greet()
    link.say(lease=lease())
    assert (await link.expect("lease_ended")).error == "the card is gone"
    with pytest.raises(EngineUnavailable, match="every device was taken out of service"):
        await asyncio.wait_for(run, 20)


def test_pauses_double_up_to_the_longest_and_start_again_after_a_reset() -> None:
    backoff = Backoff(uniform=lambda low, high: high)
    pauses = [backoff.next() for _ in range(8)]
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0])
    backoff.reset()
    assert backoff.next() == pytest.approx(0.2)


def test_pauses_never_overflow_however_long_the_coordinator_stays_away() -> None:
    backoff = Backoff(uniform=lambda low, high: high)
    assert [backoff.next() for _ in range(3000)][-1] == 10.0


def test_pauses_are_spread_over_half_their_length() -> None:
    asked: list[tuple[float, float]] = []

    def spy(low: float, high: float) -> float:
        asked.append((low, high))
        return low

    Backoff(uniform=spy).next()
    assert asked == [(0.1, 0.2)]
