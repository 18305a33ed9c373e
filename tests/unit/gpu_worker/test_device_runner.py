"""The thread of one device."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
from scripted_coordinator import lease as message
from scripted_engine import BATCH, ScriptedEngine, best_hits, honest_hits

from gpu_worker.device_runner import MAX_FAILURES, DeviceOut, DeviceRunner, HitFound, LeaseOver, ReadyEngine, Report
from gpu_worker.lease import EndReason, Lease, read_lease
from hashfleet.engine import Found, HashEngine, Search
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


def make_small(**changes: Any) -> Lease:
    """A lease that ends with its first hit and is expected to take 16 of the 50 hashes that a group may take."""
    return make(**({"count": 3000, "zeros": 1, "ends_with_hit": True} | changes))


def first_hit(lease: Lease) -> int:
    zeros = lease.zeros
    return next(c for c in range(lease.start, lease.start + lease.count) if honest_hits(lease.space, c, 1, zeros))


class Many(ScriptedEngine):
    """A stepped device that hears of each group and answers it as `answer` says, one answer a step."""

    def __init__(self, answer: Callable[[Sequence[Search]], Iterable[Found]]) -> None:
        super().__init__(stepped=True)
        self.groups: list[int] = []
        self._answer = answer

    def search_many(self, searches: Sequence[Search]) -> Iterator[Found]:
        self.groups.append(len(searches))
        try:
            for found in self._answer(searches):
                assert self._steps is not None
                self._steps.acquire()
                yield found
                self._taken.release()
        finally:
            self.idle.set()


def hits_backwards(searches: Sequence[Search]) -> Iterator[Found]:
    """The right answers, the last search's first."""
    for index, search in reversed(list(enumerate(searches))):
        hit = honest_hits(search.space, search.start, search.count, search.zeros)[0]
        yield Found(index, hit - search.start + 1, hit)


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


def test_a_bug_in_an_engine_takes_its_device_out_and_is_never_silent(watch: Any, caplog: Any) -> None:
    class Broken(ScriptedEngine):
        def search(self, space: Any, start: int, count: int, zeros: int) -> Any:
            raise ZeroDivisionError("a bug")

    device = watch(Broken())
    device.runner.offer(make())
    out = device.next()
    assert isinstance(out, DeviceOut)
    assert "ZeroDivisionError: a bug" in out.reason
    assert "nobody foresaw" in caplog.text


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


def test_a_small_lease_ends_with_its_first_hit_and_says_what_was_done(engine: ScriptedEngine, watch: Any) -> None:
    lease = make_small()
    device = watch(engine)
    device.runner.offer(lease)
    counter = first_hit(lease)
    assert device.next() == HitFound(lease.lease_id, "pow_1", lease.space.nonce(counter))
    assert device.next() == LeaseOver(lease.lease_id, counter + 1, EndReason.CANCELLED)
    assert device.nothing_more()


def test_a_small_lease_without_a_hit_ends_exhausted(engine: ScriptedEngine, watch: Any) -> None:
    space = make_small().space
    start = next(c for c in range(1000) if not honest_hits(space, c, 3, 1))
    lease = make_small(extranonce=space.extranonce, start=start, count=3)
    device = watch(engine)
    device.runner.offer(lease)
    assert device.next() == LeaseOver(lease.lease_id, 3, EndReason.EXHAUSTED)


def test_a_lease_too_hard_for_a_group_still_ends_with_its_first_hit(engine: ScriptedEngine, watch: Any) -> None:
    lease = make_small(zeros=2)  # 256 hashes
    device = watch(engine)
    device.runner.offer(lease)
    (hit, *_) = best_hits(lease.space, 0, 3000, 2)
    assert device.next() == HitFound(lease.lease_id, "pow_1", lease.space.nonce(hit))
    over = device.next()
    assert over == LeaseOver(lease.lease_id, (hit // BATCH + 1) * BATCH, EndReason.CANCELLED)
    assert device.nothing_more()
    assert engine.searches == [(0, 3000, 2)]


def test_small_leases_are_hashed_together_and_reported_in_the_order_of_their_hits(watch: Any) -> None:
    engine = Many(hits_backwards)
    leases = [make_small() for _ in range(4)]
    device = watch(engine)
    for lease in leases:
        device.runner.offer(lease)
    engine.let_go()
    heard = [device.next() for _ in range(8)]
    for lease in leases:
        hit = HitFound(lease.lease_id, "pow_1", lease.space.nonce(first_hit(lease)))
        assert heard[heard.index(hit) + 1] == LeaseOver(lease.lease_id, first_hit(lease) + 1, EndReason.CANCELLED)
    assert sum(engine.groups) == 4
    assert max(engine.groups) <= 3  # 16 hashes each, and a group takes 50


def test_progress_tells_of_one_lease_of_a_group_and_of_all_that_the_device_hashed(watch: Any) -> None:
    engine = Many(lambda searches: [Found(0, 12, None), Found(1, 25, None), Found(1, 26, None)])
    blocked, first, second = make(count=1), make_small(), make_small(count=30, zeros=60)
    device = watch(engine)
    for lease in (blocked, first, second):  # so that the two are in hand when the group is made
        device.runner.offer(lease)
    engine.step(3)
    assert device.next().lease_id == blocked.lease_id
    engine.wait_taken()
    engine.wait_taken()
    progress = device.runner.progress()
    assert (progress.lease_id, progress.done, progress.hashed) == (first.lease_id, 12, 1 + 12 + 25)


def test_a_group_stops_once_all_of_it_is_cancelled_and_each_is_reported(watch: Any) -> None:
    engine = Many(lambda searches: (Found(0, done, None) for done in range(1, 3000)))
    leases = [make_small(), make_small()]
    device = watch(engine)
    device.runner.offer(leases[0])
    engine.step(5)
    for _ in range(5):
        engine.wait_taken()
    device.runner.cancel(leases[0].lease_id)
    engine.step()
    assert device.next() == LeaseOver(leases[0].lease_id, 6, EndReason.CANCELLED)
    assert engine.idle.wait(20)
    assert device.runner.progress().hashed == 6


def test_small_leases_of_a_lost_connection_are_not_reported(watch: Any) -> None:
    engine = Many(lambda searches: (Found(0, done, None) for done in range(1, 3000)))
    device = watch(engine)
    device.runner.offer(make_small())
    engine.step()
    engine.wait_taken()
    device.runner.drop_all()
    assert device.runner.progress().lease_id is None
    engine.step()
    assert engine.idle.wait(20)
    device.runner.stop()
    assert device.runner.join(20)
    assert device.nothing_more()


def test_a_retarget_upwards_is_applied_to_the_hit_that_a_small_lease_ends_with(watch: Any) -> None:
    engine = Many(hits_backwards)
    lease = make_small()
    device = watch(engine)
    device.runner.offer(lease)
    while not engine.groups:  # until the search has begun, for the old target
        device.runner.progress()
    device.runner.retarget(lease.lease_id, 60)
    engine.step()
    assert device.next() == LeaseOver(lease.lease_id, first_hit(lease) + 1, EndReason.CANCELLED)
    assert device.nothing_more()


def test_a_false_hit_of_a_small_lease_is_not_reported_and_fails_it(watch: Any) -> None:
    def lie(searches: Sequence[Search]) -> Iterator[Found]:
        honest = set(honest_hits(searches[0].space, 0, 100, 1))
        yield Found(0, 100, next(c for c in range(100) if c not in honest))

    engine = Many(lie)
    engine.let_go()
    lease = make_small()
    device = watch(engine)
    device.runner.offer(lease)
    over = device.next()
    assert (over.lease_id, over.reason) == (lease.lease_id, EndReason.FAILED)
    assert "false hit 1 of 3" in over.error


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([Found(1, 1, None)], id="of no search"),
        pytest.param([Found(-1, 1, None)], id="of a search before the first"),
        pytest.param([Found(0, 9, None), Found(0, 8, None)], id="backwards"),
        pytest.param([Found(0, 3001, None)], id="of more than there is"),
        pytest.param([Found(0, 3000, -7)], id="with a hit outside the range"),
        pytest.param([Found(0, 7, None)], id="and then no more"),
    ],
)
def test_answers_that_do_not_fit_the_searches_fail_the_lease(watch: Any, answers: list[Found]) -> None:
    engine = Many(lambda searches: answers)
    engine.let_go()
    lease = make_small()
    device = watch(engine)
    device.runner.offer(lease)
    over = device.next()
    assert (over.lease_id, over.reason) == (lease.lease_id, EndReason.FAILED)
    assert "fake:0" in over.error


def test_of_a_group_only_the_leases_fail_that_the_engine_cannot_hash(watch: Any) -> None:
    class Choosy(ScriptedEngine):
        def search_many(self, searches: Sequence[Search]) -> Iterator[Found]:
            if any(search.space.filler_digits for search in searches):
                raise InvalidInput("the counter is in two pieces")
            return super().search_many(searches)

    engine = Choosy(stepped=True)
    blocked, sound, odd, last = make(count=1), make_small(), make_small(filler_digits=3), make_small()
    device = watch(engine)
    for lease in (blocked, sound, odd, last):
        device.runner.offer(lease)
    engine.let_go()
    overs = [over for over in (device.next() for _ in range(6)) if isinstance(over, LeaseOver)]
    reasons = {over.lease_id: over.reason for over in overs}
    assert reasons == {
        blocked.lease_id: EndReason.EXHAUSTED,
        sound.lease_id: EndReason.CANCELLED,
        odd.lease_id: EndReason.FAILED,
        last.lease_id: EndReason.CANCELLED,
    }


def test_a_device_that_fails_gives_back_the_whole_group_and_goes_on(watch: Any) -> None:
    engine = ScriptedEngine(stepped=True)
    leases = [make(count=1), make_small(), make_small()]
    device = watch(engine)
    for lease in leases:
        device.runner.offer(lease)
    engine.step()
    assert device.next().reason is EndReason.EXHAUSTED
    engine.errors = [EngineError("the driver hung")]
    engine.let_go()
    failed = [device.next(), device.next()]
    assert [over.lease_id for over in failed] == [lease.lease_id for lease in leases[1:]]
    assert {over.error for over in failed} == {"the driver hung"}
    following = make_small()
    device.runner.offer(following)
    assert device.next().lease_id == following.lease_id


def test_a_device_is_busy_only_while_it_has_a_lease_in_work(engine: ScriptedEngine) -> None:
    reports: queue.Queue[Report] = queue.Queue()
    ticks = itertools.count()
    runner = DeviceRunner(ReadyEngine(engine, 1000.0), reports.put, lambda _: None, clock=lambda: float(next(ticks)))
    assert runner.progress().busy_seconds == 0.0
    runner.start()
    runner.offer(make(count=1050))
    reports.get(timeout=20)
    runner.stop()
    assert runner.join(20)
    idle = runner.progress()
    assert idle.hashed == 1050
    assert idle.busy_seconds > 0
    assert runner.progress() == idle
