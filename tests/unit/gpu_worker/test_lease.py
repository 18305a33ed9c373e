"""The leases of one device, without device or network."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_coordinator import lease as message

from gpu_worker.lease import MAX_HELD, Lease, LeaseQueue, Stop, read_lease
from hashfleet.errors import InvalidInput


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"zeros": 0}, "zeros"),
        ({"zeros": 65}, "zeros"),
        ({"count": 0}, "counters"),
        ({"start": 10**12, "count": 1}, "counters"),
        ({"counter_digits": 0}, "counter_digits"),
        ({"counter_digits": 19}, "counter_digits"),
        ({"extranonce": "12x"}, "extranonce"),
        ({"extranonce": "1" * 129}, "extranonce"),
        ({"prefix": b"p" * 1025}, "prefix"),
        ({"lease_id": ""}, "lease_id"),
        ({"lease_id": "l" * 129}, "lease_id"),
        ({"job_id": ""}, "job_id"),
    ],
)
def test_a_lease_that_cannot_be_hashed_is_refused_by_naming_what_is_wrong(changes: dict[str, Any], wrong: str) -> None:
    with pytest.raises(InvalidInput, match=wrong):
        read_lease(message(**changes))


def small(**changes: Any) -> Lease:
    """A lease that ends with its first hit, of 16**3 expected hashes."""
    fields: dict[str, Any] = {"zeros": 3, "count": 10 * 16**3, "ends_with_hit": True}
    return read_lease(message(**(fields | changes)))


def large() -> Lease:
    return read_lease(message())


def start(queue: LeaseQueue, most: int = 10**6) -> tuple[Lease, ...]:
    return tuple(work.lease for work in queue.start_next(most))


def finish_all(queue: LeaseQueue) -> None:
    while (work := queue.first_in_work) is not None:
        queue.finish(work)


@pytest.mark.parametrize(("zeros", "count", "work"), [(3, 10**6, 4096), (3, 4095, 4095), (64, 1000, 1000)])
def test_the_work_of_a_lease_is_that_of_its_first_hit_or_of_its_range(zeros: int, count: int, work: int) -> None:
    assert small(zeros=zeros, count=count).work == work


def test_leases_are_started_in_order_of_arrival() -> None:
    queue = LeaseQueue()
    first, second = large(), large()
    queue.offer(first)
    queue.offer(second)
    assert start(queue) == (first,)
    finish_all(queue)
    assert start(queue) == (second,)


def test_small_leases_that_wait_one_behind_the_other_are_started_together() -> None:
    queue = LeaseQueue()
    leases = [small(), small(), small(zeros=1), large(), small()]
    for lease in leases:
        queue.offer(lease)
    assert start(queue) == tuple(leases[:3])
    finish_all(queue)
    assert start(queue) == (leases[3],)
    finish_all(queue)
    assert start(queue) == (leases[4],)


def test_small_leases_started_together_take_no_more_work_than_asked() -> None:
    queue = LeaseQueue()
    leases = [small() for _ in range(5)]
    for lease in leases:
        queue.offer(lease)
    assert start(queue, most=2 * 4096) == tuple(leases[:2])


def test_a_lease_that_ends_with_its_hit_but_is_not_small_is_started_alone() -> None:
    queue = LeaseQueue()
    leases = [small(zeros=9, count=10**12), small()]
    for lease in leases:
        queue.offer(lease)
    assert start(queue) == (leases[0],)


def test_a_device_holds_so_many_leases_and_no_more() -> None:
    queue = LeaseQueue()
    queue.offer(large())
    queue.start_next(0)
    for _ in range(MAX_HELD - 1):
        queue.offer(small())
    assert len(queue.held) == MAX_HELD
    with pytest.raises(InvalidInput, match=f"holds {MAX_HELD} leases already"):
        queue.offer(small())


def test_a_lease_that_is_held_is_not_taken_a_second_time() -> None:
    queue = LeaseQueue()
    lease = large()
    queue.offer(lease)
    with pytest.raises(InvalidInput, match="each should have its own id"):
        queue.offer(lease)
    queue.start_next(0)
    with pytest.raises(InvalidInput, match="each should have its own id"):
        queue.offer(lease)


def test_dropped_leases_make_room_while_they_wind_down() -> None:
    queue = LeaseQueue()
    for _ in range(MAX_HELD):
        queue.offer(small())
    group = queue.start_next(10 * 4096)
    assert len(group) == 10
    queue.drop()
    assert {work.stop for work in group} == {Stop.DROP}
    assert queue.all_stopped
    assert queue.held == ()
    for _ in range(MAX_HELD):
        queue.offer(small())
    assert len(queue.held) == MAX_HELD


def test_a_cancelled_lease_makes_room_while_it_winds_down_and_only_once() -> None:
    queue = LeaseQueue()
    cancelled = large()
    queue.offer(cancelled)
    (work,) = queue.start_next(0)
    for _ in range(MAX_HELD - 1):
        queue.offer(small())
    queue.cancel(cancelled.lease_id)
    queue.cancel(cancelled.lease_id)
    queue.offer(small())
    with pytest.raises(InvalidInput, match=f"holds {MAX_HELD} leases already"):
        queue.offer(small())
    queue.finish(work)
    assert len(queue.held) == MAX_HELD


def test_cancelling_a_waiting_lease_takes_it_out_and_leaves_the_one_in_work() -> None:
    queue = LeaseQueue()
    running, waiting = large(), large()
    queue.offer(running)
    (work,) = queue.start_next(0)
    queue.offer(waiting)
    assert queue.cancel(waiting.lease_id) == waiting
    assert queue.held == (running,)
    assert work.stop is None


def test_a_group_is_stopped_as_a_whole_once_each_of_it_is_over_or_cancelled() -> None:
    queue = LeaseQueue()
    for _ in range(3):
        queue.offer(small())
    first, second, third = queue.start_next(10**6)
    queue.cancel(second.lease.lease_id)
    queue.finish(first)
    assert not queue.all_stopped
    queue.cancel(third.lease.lease_id)
    assert queue.all_stopped
    queue.finish(second)
    assert queue.all_stopped


def test_a_late_cancel_does_not_turn_a_dropped_lease_into_a_reported_one() -> None:
    queue = LeaseQueue()
    lease = large()
    queue.offer(lease)
    (work,) = queue.start_next(0)
    queue.drop()
    assert queue.cancel(lease.lease_id) is None
    assert work.stop is Stop.DROP


def test_a_retarget_reaches_leases_that_wait_and_leases_in_work() -> None:
    queue = LeaseQueue()
    lease = read_lease(message(zeros=9))
    queue.offer(lease)
    queue.retarget(lease.lease_id, 8)
    (work,) = queue.start_next(0)
    assert work.zeros == 8
    queue.retarget(lease.lease_id, 7)
    assert work.zeros == 7


def test_a_retargeted_lease_keeps_its_place() -> None:
    queue = LeaseQueue()
    first, second = read_lease(message(zeros=9)), read_lease(message(zeros=9))
    queue.offer(first)
    queue.offer(second)
    queue.retarget(first.lease_id, 8)
    assert [lease.lease_id for lease in queue.held] == [first.lease_id, second.lease_id]
