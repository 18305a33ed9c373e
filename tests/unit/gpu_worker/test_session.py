"""The worker's stream against a real gRPC server that plays coordinator."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_coordinator import Link, ScriptedCoordinator, lease
from scripted_engine import BATCH, ScriptedEngine, best_hits, honest_hits

from gpu_worker.bundles import MOST_TAKEN, MOST_TAKEN_BYTES
from gpu_worker.conversation import Conversation, UnansweredHits
from gpu_worker.device_runner import ReadyEngine
from gpu_worker.lease import read_lease
from gpu_worker.session import Session
from gpu_worker.worker import Backoff, Worker
from hashfleet.errors import EngineUnavailable
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb


@pytest.fixture
async def work(coordinator: ScriptedCoordinator) -> AsyncIterator[Callable[..., Worker]]:
    """Starts a worker of the scripted coordinator; stopped after the test."""
    running: list[asyncio.Task[None]] = []

    def start(*engines: ScriptedEngine) -> Worker:
        worker = Worker(
            coordinator.address,
            "a test",
            [ReadyEngine(engine, 1000.0) for engine in engines],
            self_test=lambda _: None,
            backoff=Backoff(shortest=0.02, longest=0.1),
        )
        running.append(asyncio.create_task(worker.run()))
        return worker

    yield start
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def all_is_taken(link: Link) -> None:
    """Wait until the worker has dealt with everything said so far: it answers a lease for no device in its turn."""
    link.say(lease=lease("nowhere"))
    assert (await link.expect("lease_ended", "progress")).reason == pb.END_REASON_FAILED


async def in_thread(wait: Callable[[], None]) -> None:
    await asyncio.to_thread(wait)


async def test_hello_comes_before_anything_else_and_names_the_devices(
    coordinator: ScriptedCoordinator, work: Any, engine: ScriptedEngine
) -> None:
    worker = work(engine)
    link = await coordinator.next_link()
    message = await link.hear()
    assert message is not None
    assert message.hello.worker_id == worker.worker_id
    assert message.hello.worker_id.startswith("w_")
    assert [device.device_id for device in message.hello.devices] == ["fake:0"]


async def test_a_hit_is_sent_at_once_and_the_lease_goes_on(
    coordinator: ScriptedCoordinator, work: Any, stepped: ScriptedEngine
) -> None:
    work(stepped)
    link = await coordinator.next_link()
    await link.greet()
    granted = lease(count=2 * BATCH, zeros=1)
    (best, *_) = best_hits(read_lease(granted).space, 0, BATCH, 1)
    link.say(lease=granted)
    stepped.step()  # the second batch is not hashed before the hit of the first is here
    hit = await link.expect("hit")
    assert (hit.lease_id, hit.job_id) == (granted.lease_id, "pow_1")
    assert hit.nonce == read_lease(granted).space.nonce(best)
    stepped.step()
    ended = await link.expect("lease_ended", "hit")
    assert (ended.done, ended.reason) == (2 * BATCH, pb.END_REASON_EXHAUSTED)


async def test_two_leases_are_worked_off_in_order_of_arrival(
    coordinator: ScriptedCoordinator, work: Any, engine: ScriptedEngine
) -> None:
    work(engine)
    link = await coordinator.next_link()
    await link.greet()
    first, second = lease(), lease()
    link.say(lease=first)
    link.say(lease=second)
    assert (await link.expect("lease_ended")).lease_id == first.lease_id
    assert (await link.expect("lease_ended")).lease_id == second.lease_id


async def test_a_cancel_is_obeyed_and_answered_with_what_was_done(
    coordinator: ScriptedCoordinator, work: Any, stepped: ScriptedEngine
) -> None:
    work(stepped)
    link = await coordinator.next_link()
    await link.greet(progress_interval=0.02)
    granted = lease(count=10**12)
    link.say(lease=granted)
    stepped.step()
    await in_thread(stepped.wait_taken)
    link.say(cancel_lease=pb.CancelLease(lease_id=granted.lease_id))
    await all_is_taken(link)
    stepped.step()
    ended = await link.expect("lease_ended", "progress")
    assert (ended.lease_id, ended.reason) == (granted.lease_id, pb.END_REASON_CANCELLED)
    assert ended.done == 2 * BATCH
    assert await asyncio.to_thread(stepped.idle.wait, 20)


async def test_a_retarget_is_honoured_from_the_current_position_on(
    coordinator: ScriptedCoordinator, work: Any, stepped: ScriptedEngine
) -> None:
    work(stepped)
    link = await coordinator.next_link()
    await link.greet()
    granted = lease(count=10**12, zeros=60)
    link.say(lease=granted)
    stepped.step()
    await in_thread(stepped.wait_taken)
    link.say(retarget=pb.Retarget(lease_id=granted.lease_id, zeros=1))
    await all_is_taken(link)
    stepped.step(2)  # the batch under way still looks for the old target
    (best, *_) = best_hits(read_lease(granted).space, 2 * BATCH, BATCH, 1)
    hit = await link.expect("hit")
    assert hit.nonce == read_lease(granted).space.nonce(best)


async def test_progress_comes_by_time_while_the_device_hangs(
    coordinator: ScriptedCoordinator, work: Any, stepped: ScriptedEngine
) -> None:
    work(stepped)
    link = await coordinator.next_link()
    await link.greet(progress_interval=0.02)
    granted = lease()
    link.say(lease=granted)
    stepped.step()
    await in_thread(stepped.wait_taken)
    for _ in range(3):
        progress = await link.expect("progress")
        assert progress.lease_id == granted.lease_id
    assert progress.done == BATCH


async def test_an_idle_worker_keeps_itself_alive_with_heartbeats(
    coordinator: ScriptedCoordinator, work: Any, engine: ScriptedEngine
) -> None:
    work(engine)
    link = await coordinator.next_link()
    await link.greet(silence_limit=0.09)
    for _ in range(3):
        message = await link.hear()
        assert message is not None
        assert message.WhichOneof("message") == "heartbeat"


@pytest.mark.parametrize("how", ["hang up", "crash"])
async def test_after_a_break_it_comes_back_with_the_same_id_and_the_hit_that_had_no_answer(
    coordinator: ScriptedCoordinator, work: Any, stepped: ScriptedEngine, how: str
) -> None:
    worker = work(stepped)
    link = await coordinator.next_link()
    await link.greet()
    granted = lease(count=10**12, zeros=1)
    link.say(lease=granted)
    stepped.step()
    found = await link.expect("hit")
    if how == "hang up":
        link.hang_up()
    else:
        await coordinator.stop()
        await coordinator.serve()
    again = await coordinator.next_link()
    assert (await again.greet()).worker_id == worker.worker_id
    assert await again.expect("hit") == found


async def test_a_hit_that_was_answered_is_not_sent_again(
    coordinator: ScriptedCoordinator, work: Any, engine: ScriptedEngine
) -> None:
    work(engine)
    link = await coordinator.next_link()
    await link.greet()
    granted = lease(count=BATCH, zeros=2)
    space = read_lease(granted).space
    granted.start = next(counter for counter in range(10**6) if honest_hits(space, counter, 1, 2))
    granted.count = 1
    link.say(lease=granted)
    hit = await link.expect("hit")
    await link.expect("lease_ended")
    link.say(verdict=pb.HitVerdict(lease_id=hit.lease_id, nonce=hit.nonce))
    link.hang_up()
    again = await coordinator.next_link()
    await again.greet()
    another = lease(count=1)
    again.say(lease=another)
    assert (await again.expect("lease_ended")).lease_id == another.lease_id


async def test_leases_of_a_broken_stream_are_dropped_and_the_device_takes_new_ones(
    coordinator: ScriptedCoordinator, work: Any, stepped: ScriptedEngine
) -> None:
    work(stepped)
    link = await coordinator.next_link()
    await link.greet()
    link.say(lease=lease(count=10**12))
    link.say(lease=lease(count=10**12))
    stepped.step()
    await in_thread(stepped.wait_taken)
    link.hang_up()
    again = await coordinator.next_link()
    await again.greet()
    fresh = lease(count=BATCH)
    again.say(lease=fresh)
    stepped.let_go()
    assert (await again.expect("lease_ended")).lease_id == fresh.lease_id


async def test_an_unusable_welcome_ends_the_connection_and_the_worker_tries_again(
    coordinator: ScriptedCoordinator, work: Any, engine: ScriptedEngine
) -> None:
    work(engine)
    link = await coordinator.next_link()
    await link.greet(silence_limit=-1.0)
    again = await coordinator.next_link()
    await again.greet()


async def test_a_drain_of_the_coordinator_gives_the_leases_back_and_the_worker_returns_later(
    coordinator: ScriptedCoordinator, work: Any, stepped: ScriptedEngine
) -> None:
    worker = work(stepped)
    link = await coordinator.next_link()
    await link.greet()
    granted = lease(count=10**12)
    link.say(lease=granted)
    stepped.step()
    await in_thread(stepped.wait_taken)
    link.say(drain=pb.Drain(reason="a new version"))
    await link.expect("draining")
    stepped.let_go()
    ended = await link.expect("lease_ended")
    assert (ended.lease_id, ended.reason) == (granted.lease_id, pb.END_REASON_CANCELLED)
    assert await link.hear("heartbeat") is None
    again = await coordinator.next_link()
    assert (await again.greet()).worker_id == worker.worker_id


async def test_a_coordinator_that_says_why_it_goes_and_ends_the_stream_at_once_is_quoted_in_the_log(
    coordinator: ScriptedCoordinator, work: Any, stepped: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    work(stepped)
    link = await coordinator.next_link()
    await link.greet()
    link.say(lease=lease(count=10**12))
    with caplog.at_level(logging.INFO):
        link.say(drain=pb.Drain(reason="the job database is full"))
        link.hang_up()
        again = await coordinator.next_link()
    await again.greet()
    assert "disconnected as the coordinator asked: the job database is full" in caplog.text


async def test_a_session_that_is_to_drain_before_it_is_welcomed_drains_after_the_welcome(
    coordinator: ScriptedCoordinator,
) -> None:
    session = Session(coordinator.address, Conversation("w_1", "a test", [], UnansweredHits()))
    speaking = asyncio.create_task(session.run())
    link = await coordinator.next_link()
    session.drain()
    await link.greet()
    await link.expect("draining")
    assert await link.hear() is None
    await asyncio.wait_for(speaking, 20)


async def test_small_leases_that_come_in_one_bundle_end_with_a_hit_each_and_in_few_messages(
    coordinator: ScriptedCoordinator, work: Any, engine: ScriptedEngine
) -> None:
    work(engine)
    link = await coordinator.next_link()
    await link.greet()
    leases = [lease(zeros=1, ends_with_hit=True) for _ in range(300)]
    link.say(bundle=pb.CoordinatorBundle(messages=[pb.ConnectResponse(lease=one) for one in leases]))
    hits = {}
    for _ in leases:
        hit = await link.expect("hit")
        hits[hit.lease_id] = hit.nonce
        ended = await link.expect("lease_ended")
        assert (ended.lease_id, ended.reason) == (hit.lease_id, pb.END_REASON_CANCELLED)
    for granted in leases:
        space = read_lease(granted).space
        (first, *_) = honest_hits(space, 0, 1000, 1)
        assert hits[granted.lease_id] == space.nonce(first)
    assert max(link.sizes) > 1


@pytest.mark.parametrize("fault", ["too many messages", "too long", "a bundle within"])
async def test_a_bundle_out_of_bounds_ends_the_connection_with_a_clear_line_in_the_log_and_the_worker_returns(
    coordinator: ScriptedCoordinator, work: Any, engine: ScriptedEngine, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    work(engine)
    link = await coordinator.next_link()
    await link.greet()
    one = pb.ConnectResponse(retarget=pb.Retarget(lease_id="l_x", zeros=3))
    bundles = {
        "too many messages": [one] * (MOST_TAKEN + 1),
        "too long": [pb.ConnectResponse(retarget=pb.Retarget(lease_id="l" * MOST_TAKEN_BYTES, zeros=3))],
        "a bundle within": [pb.ConnectResponse(bundle=pb.CoordinatorBundle(messages=[one]))],
    }
    sentences = {
        "too many messages": f"sent {MOST_TAKEN + 1} messages in one bundle; it should be at most {MOST_TAKEN}",
        "too long": "message larger than max",
        "a bundle within": "bundles should not nest",
    }
    link.say(bundle=pb.CoordinatorBundle(messages=bundles[fault]))
    again = await coordinator.next_link()
    await again.greet()
    assert sentences[fault] in caplog.text


async def test_a_writer_cancelled_just_as_its_message_is_taken_ends() -> None:
    class OneMessage:
        def __init__(self) -> None:
            self.taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.asked = asyncio.Event()

        async def write(self, message: pb.ConnectRequest) -> None:
            self.asked.set()
            await self.taken

    session = Session("127.0.0.1:1", Conversation("w_1", "a test", [], UnansweredHits()))
    call = OneMessage()
    session.connected.set()
    session.drain()
    writing = asyncio.create_task(session._write(call))  # type: ignore[arg-type]
    await call.asked.wait()
    call.taken.set_result(None)
    writing.cancel()  # before the writer has heard that its message is taken
    done, _ = await asyncio.wait([writing], timeout=20)
    assert done
    assert writing.cancelled()


async def test_the_kernel_closes_a_connection_whose_data_is_not_acknowledged(
    coordinator: ScriptedCoordinator, work: Any, engine: ScriptedEngine
) -> None:
    work(engine)
    link = await coordinator.next_link()
    await link.greet()
    port = int(coordinator.address.rpartition(":")[2])
    limits = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            with socket.socket(fileno=os.dup(int(descriptor.name))) as found:
                if found.family in (socket.AF_INET, socket.AF_INET6) and found.getpeername()[1] == port:
                    limits.append(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
        except OSError:  # not a socket, or one that is not connected
            continue
    assert limits == [20_000]


async def test_a_device_taken_out_is_missing_from_the_next_hello_while_the_others_go_on(
    coordinator: ScriptedCoordinator, work: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = ScriptedEngine("fake:0"), ScriptedEngine("fake:1")
    broken.errors = [EngineUnavailable("it fell off the bus")]
    work(broken, sound)
    link = await coordinator.next_link()
    await link.greet()
    with caplog.at_level(logging.ERROR):
        link.say(lease=lease("fake:0", count=1))
        ended = await link.expect("lease_ended")
        assert (ended.reason, ended.error) == (pb.END_REASON_FAILED, "it fell off the bus")
        await link.expect("draining")
    again = await coordinator.next_link()
    assert [device.device_id for device in (await again.greet()).devices] == ["fake:1"]
    assert "fake:0 is taken out of service" in caplog.text
    again.say(lease=lease("fake:1", count=1))
    assert (await again.expect("lease_ended")).reason == pb.END_REASON_EXHAUSTED
