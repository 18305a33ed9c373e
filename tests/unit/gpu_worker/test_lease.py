"""The leases of one device, without device or network."""

from __future__ import annotations

import pytest
from scripted_coordinator import lease as message

from gpu_worker.lease import MAX_HELD, LeaseQueue, Stop, read_lease
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
def test_a_lease_that_cannot_be_hashed_is_refused_by_naming_what_is_wrong(
    changes: dict[str, object], wrong: str
) -> None:
    with pytest.raises(InvalidInput, match=wrong):
        read_lease(message(**changes))


def test_leases_are_started_in_order_of_arrival() -> None:
    queue = LeaseQueue()
    first, second = read_lease(message()), read_lease(message())
    queue.offer(first)
    queue.offer(second)
    assert queue.start_next() == first
    queue.finish()
    assert queue.start_next() == second


def test_a_device_holds_one_running_and_one_waiting_lease_and_no_third() -> None:
    queue = LeaseQueue()
    queue.offer(read_lease(message()))
    queue.start_next()
    queue.offer(read_lease(message()))
    assert len(queue.held) == MAX_HELD == 2
    with pytest.raises(InvalidInput, match="holds 2 leases already"):
        queue.offer(read_lease(message()))


def test_a_dropped_lease_makes_room_while_it_winds_down() -> None:
    queue = LeaseQueue()
    queue.offer(read_lease(message()))
    queue.start_next()
    queue.offer(read_lease(message()))
    queue.drop()
    assert queue.stop is Stop.DROP
    assert queue.held == ()
    queue.offer(read_lease(message()))
    queue.offer(read_lease(message()))
    assert len(queue.held) == 2


def test_a_cancelled_lease_makes_room_while_it_winds_down() -> None:
    queue = LeaseQueue()
    cancelled, waiting, following = (read_lease(message()) for _ in range(3))
    queue.offer(cancelled)
    queue.start_next()
    queue.offer(waiting)
    queue.cancel(cancelled.lease_id)
    queue.offer(following)
    assert queue.held == (waiting, following)
    with pytest.raises(InvalidInput, match="holds 2 leases already"):
        queue.offer(read_lease(message()))


def test_cancelling_a_waiting_lease_takes_it_out_and_leaves_the_running_one() -> None:
    queue = LeaseQueue()
    running, waiting = read_lease(message()), read_lease(message())
    queue.offer(running)
    queue.start_next()
    queue.offer(waiting)
    assert queue.cancel(waiting.lease_id) == waiting
    assert queue.held == (running,)
    assert queue.stop is None


def test_a_late_cancel_does_not_turn_a_dropped_lease_into_a_reported_one() -> None:
    queue = LeaseQueue()
    lease = read_lease(message())
    queue.offer(lease)
    queue.start_next()
    queue.drop()
    assert queue.cancel(lease.lease_id) is None
    assert queue.stop is Stop.DROP


def test_a_retarget_reaches_a_lease_that_still_waits() -> None:
    queue = LeaseQueue()
    lease = read_lease(message(zeros=9))
    queue.offer(lease)
    queue.retarget(lease.lease_id, 8)
    queue.start_next()
    assert queue.zeros == 8
