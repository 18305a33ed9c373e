"""The thread of one device."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scripted_coordinator import lease as message
from scripted_engine import BATCH, ScriptedEngine, best_hits

from gpu_worker.device_runner import MAX_FAILURES, DeviceOut, DeviceRunner, HitFound, LeaseOver, ReadyEngine, Report
from gpu_worker.lease import EndReason, Lease, read_lease
from hashfleet.engine import HashEngine
from hashfleet.errors import EngineError, EngineUnavailable, InvalidInput, SelfTestFailed


class Watched:
    """A running device and what it reports."""

    def __init__(self, runner: DeviceRunner, reports: queue.Queue[Report]) -> None:
        self.runner = runner
        self._reports = reports

    def next(self) -> Report:
        return self._reports.get(timeout=20)

    def nothing_more(self) -> bool:
        return self._reports.empty()


@pytest.fixture
def watch() -> Iterator[Callable[..., Watched]]:
    """Starts a runner on an engine; stopped at the end of the test."""
    runners: list[DeviceRunner] = []

    def start(engine: ScriptedEngine, self_test: Callable[[HashEngine], None] = lambda _: None, **kw: Any) -> Watched:
        reports: queue.Queue[Report] = queue.Queue()
        ready = ReadyEngine(engine, 1000.0, kw.get("reopen"))
        runner = DeviceRunner(ready, reports.put, self_test, recovery_pause_seconds=0.0)
        runner.start()
        runners.append(runner)
        return Watched(runner, reports)

    yield start
    for runner in runners:
        runner.stop()


def make(**changes: Any) -> Lease:
    return read_lease(message(**changes))


def test_a_lease_is_searched_whole_and_the_best_hit_of_each_batch_reported(engine: ScriptedEngine, watch: Any) -> None:
    lease = make(count=1050, zeros=1)
    device = watch(engine)
    device.runner.offer(lease)
    wanted = best_hits(lease.space, 0, 1050, 1)
    assert len(wanted) > 1
    for counter in wanted:
        assert device.next() == HitFound(lease.lease_id, "pow_1", lease.space.nonce(counter))
    assert device.next() == LeaseOver(lease.lease_id, 1050, EndReason.EXHAUSTED)
    assert device.nothing_more()


def test_a_cancelled_lease_stops_within_one_batch_and_says_how_far_it_came(stepped: ScriptedEngine, watch: Any) -> None:
    lease = make(count=10 * BATCH)
    device = watch(stepped)
    device.runner.offer(lease)
    stepped.step()
    stepped.wait_taken()
    device.runner.cancel(lease.lease_id)
    stepped.step()
    over = device.next()
    assert over == LeaseOver(lease.lease_id, 2 * BATCH, EndReason.CANCELLED)
    assert stepped.idle.wait(20)


def test_a_cancelled_waiting_lease_ends_with_nothing_done(stepped: ScriptedEngine, watch: Any) -> None:
    running, waiting = make(), make()
    device = watch(stepped)
    device.runner.offer(running)
    device.runner.offer(waiting)
    device.runner.cancel(waiting.lease_id)
    assert device.next() == LeaseOver(waiting.lease_id, 0, EndReason.CANCELLED)


def test_a_retarget_restarts_the_search_at_the_current_position(stepped: ScriptedEngine, watch: Any) -> None:
    lease = make(count=5 * BATCH, zeros=60)
    device = watch(stepped)
    device.runner.offer(lease)
    stepped.step()
    stepped.wait_taken()
    device.runner.retarget(lease.lease_id, 1)
    stepped.let_go()
    # the batch that was under way when the retarget came still looks for the old target
    for counter in best_hits(lease.space, 2 * BATCH, 3 * BATCH, 1):
        assert device.next() == HitFound(lease.lease_id, "pow_1", lease.space.nonce(counter))
    assert device.next() == LeaseOver(lease.lease_id, 5 * BATCH, EndReason.EXHAUSTED)
    assert stepped.searches == [(0, 5 * BATCH, 60), (2 * BATCH, 3 * BATCH, 1)]


def test_a_dropped_lease_is_never_heard_of_again_and_the_next_one_is_taken(stepped: ScriptedEngine, watch: Any) -> None:
    dropped, following = make(count=10 * BATCH), make(count=BATCH)
    device = watch(stepped)
    device.runner.offer(dropped)
    stepped.step()
    stepped.wait_taken()
    device.runner.drop_all()
    device.runner.offer(following)
    stepped.let_go()
    assert device.next() == LeaseOver(following.lease_id, BATCH, EndReason.EXHAUSTED)
    assert device.nothing_more()


def test_a_false_hit_is_not_reported_and_fails_its_lease(engine: ScriptedEngine, watch: Any) -> None:
    lease = make()
    engine.lies = [7]
    device = watch(engine)
    device.runner.offer(lease)
    over = device.next()
    assert (over.lease_id, over.done, over.reason) == (lease.lease_id, 0, EndReason.FAILED)
    assert "hashlib refutes" in over.error


def test_a_hit_outside_of_its_batch_is_the_fault_of_the_device(engine: ScriptedEngine, watch: Any) -> None:
    engine.lies = [-5]
    device = watch(engine)
    device.runner.offer(make())
    assert "false hit 1 of 3" in device.next().error


def test_a_true_hit_is_reported_even_beside_a_false_one(engine: ScriptedEngine, watch: Any) -> None:
    lease = make(zeros=1)
    (best, *_) = best_hits(lease.space, 0, BATCH, 1)
    engine.lies = [BATCH + 5]
    device = watch(engine)
    device.runner.offer(lease)
    assert device.next() == HitFound(lease.lease_id, "pow_1", lease.space.nonce(best))
    assert device.next().reason is EndReason.FAILED


def test_a_device_is_taken_out_at_its_third_false_hit_and_gives_back_the_waiting_lease(
    engine: ScriptedEngine, watch: Any
) -> None:
    device = watch(engine)
    for _ in range(2):
        engine.lies = [7]
        device.runner.offer(make())
        assert device.next().reason is EndReason.FAILED
    engine.lies = [7]
    device.runner.offer(make(count=300))
    assert device.next().reason is EndReason.FAILED
    out = device.next()
    assert isinstance(out, DeviceOut)
    assert "false" in out.reason
    assert engine.closed.wait(20)
    with pytest.raises(InvalidInput, match="out of service"):
        device.runner.offer(make())


def test_a_device_that_fails_passes_its_self_test_again_before_the_next_lease(
    engine: ScriptedEngine, watch: Any
) -> None:
    tested: list[HashEngine] = []
    engine.errors = [EngineError("the driver hung")]
    device = watch(engine, tested.append)
    failed, following = make(), make()
    device.runner.offer(failed)
    over = device.next()
    assert over == LeaseOver(failed.lease_id, 0, EndReason.FAILED, "the driver hung")
    device.runner.offer(following)
    assert device.next() == LeaseOver(following.lease_id, 1000, EndReason.EXHAUSTED)
    assert tested == [engine]


def test_an_engine_that_cannot_recover_by_itself_is_opened_anew(engine: ScriptedEngine, watch: Any) -> None:
    other = ScriptedEngine()
    engine.errors = [EngineError("its processes died")]
    device = watch(engine, reopen=lambda: other)
    device.runner.offer(make())
    assert device.next().reason is EndReason.FAILED
    device.runner.offer(make())
    assert device.next().reason is EndReason.EXHAUSTED
    assert engine.closed.is_set()
    assert len(other.searches) == 1


@pytest.mark.parametrize("error", [SelfTestFailed("it computes wrongly"), EngineUnavailable("it is gone")])
def test_a_device_that_does_not_pass_its_self_test_after_a_failure_is_taken_out(
    engine: ScriptedEngine, watch: Any, error: EngineError
) -> None:
    def fail(_: HashEngine) -> None:
        raise error

    engine.errors = [EngineError("the driver hung")]
    device = watch(engine, fail)
    device.runner.offer(make())
    assert device.next().reason is EndReason.FAILED
    assert device.next() == DeviceOut("fake:0", str(error))


def test_a_device_that_fails_again_and_again_is_taken_out(engine: ScriptedEngine, watch: Any) -> None:
    engine.errors = [EngineError(f"failure {n}") for n in range(MAX_FAILURES)]
    device = watch(engine)
    for _ in range(MAX_FAILURES):
        device.runner.offer(make())
        assert device.next().reason is EndReason.FAILED
    out = device.next()
    assert isinstance(out, DeviceOut)
    assert f"failed {MAX_FAILURES} times in a row" in out.reason


def test_an_engine_that_skips_counters_fails_its_lease(watch: Any) -> None:
    class Skipping(ScriptedEngine):
        def search(self, space: Any, start: int, count: int, zeros: int) -> Any:
            for batch in super().search(space, start, count, zeros):
                if batch.start != 2 * BATCH:
                    yield batch

    device = watch(Skipping())
    device.runner.offer(make())
    over = device.next()
    assert (over.done, over.reason) == (2 * BATCH, EndReason.FAILED)
    assert "instead of going on from 200" in over.error


def test_an_engine_that_ends_early_fails_its_lease(watch: Any) -> None:
    class Short(ScriptedEngine):
        def search(self, space: Any, start: int, count: int, zeros: int) -> Any:
            yield from super().search(space, start, BATCH, zeros)

    device = watch(Short())
    device.runner.offer(make())
    over = device.next()
    assert (over.done, over.reason) == (BATCH, EndReason.FAILED)


def test_stopping_closes_the_engine_and_ends_the_thread(engine: ScriptedEngine, watch: Any) -> None:
    device = watch(engine)
    device.runner.offer(make(count=10**12))
    device.runner.stop()
    assert device.runner.join(20)
    assert engine.closed.is_set()
