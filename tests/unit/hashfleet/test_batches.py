"""How searches are cut into batches."""

from __future__ import annotations

import pytest

from hashfleet.batches import BatchSize, check_search, run_batches
from hashfleet.engine import Batch
from hashfleet.errors import InvalidInput
from hashfleet.message import NonceSpace


class Device:
    """Hashes `rate` nonces a second by its own clock, plus a fixed cost per launch."""

    def __init__(self, rate: float, launch_seconds: float = 0.0) -> None:
        self.rate, self.launch_seconds = rate, launch_seconds
        self.now = 0.0

    def hash_range(self, start: int, count: int) -> tuple[int, ...]:
        self.now += self.launch_seconds + count / self.rate
        return (start,)

    def clock(self) -> float:
        return self.now


def batches(device: Device, size: BatchSize, start: int, count: int, most: int = 2**31) -> list[Batch]:
    return list(run_batches(device.hash_range, start, count, size, most, device.clock))


@pytest.mark.parametrize("rate", [1e3, 1e6, 1e9, 2e10])
def test_a_batch_comes_to_take_50_milliseconds_at_any_speed(rate: float) -> None:
    size = BatchSize(first=2**18, most=2**31)
    batches(Device(rate), size, 0, int(rate * 5) + 2**21)

    assert size.nonces == pytest.approx(0.05 * rate, rel=0.02)


def test_one_batch_changes_the_size_by_four_times_at_most() -> None:
    size = BatchSize(first=1000, most=2**31)
    size.learn(1000, 1e-9)
    assert size.nonces == 4000
    size.learn(4000, 1e9)
    assert size.nonces == 1000


def test_a_clock_that_did_not_move_makes_the_batch_grow() -> None:
    size = BatchSize(first=1000, most=2**31)
    size.learn(1000, 0.0)

    assert size.nonces == 4000


def test_the_size_never_leaves_1_to_its_most() -> None:
    size = BatchSize(first=10, most=20)
    size.learn(10, 1e-9)
    assert size.nonces == 20
    for _ in range(5):
        size.learn(size.nonces, 1e9)
    assert size.nonces == 1


def test_the_short_rest_of_a_range_teaches_nothing() -> None:
    size = BatchSize(first=1000, most=2**31)
    size.learn(400, 5.0)

    assert size.nonces == 1000


def test_the_next_search_starts_at_the_size_the_last_one_ended_with() -> None:
    device, size = Device(1e8), BatchSize(first=1000, most=2**31)
    batches(device, size, 0, 10**8)

    assert batches(device, size, 0, 10**8)[0].count == pytest.approx(5e6, rel=0.02)


def test_no_batch_exceeds_what_one_launch_may_have() -> None:
    found = batches(Device(1e9), BatchSize(first=10**6, most=10**9), 0, 10**7, most=3 * 10**6)

    assert max(batch.count for batch in found) == 3 * 10**6
    assert sum(batch.count for batch in found) == 10**7


def test_batches_follow_each_other_and_carry_the_hits_of_their_stretch() -> None:
    found = batches(Device(1e6), BatchSize(first=1000, most=1000), 7, 2500)

    assert found == [Batch(7, 1000, (7,)), Batch(1007, 1000, (1007,)), Batch(2007, 500, (2007,))]


def test_nothing_is_hashed_before_the_first_batch_is_asked_for() -> None:
    device = Device(1e6)
    run_batches(device.hash_range, 0, 10**6, BatchSize(1000, 1000), 1000, device.clock)

    assert device.now == 0.0


@pytest.mark.parametrize("zeros", [0, 65, -1])
def test_zeros_outside_1_to_64_are_refused(zeros: int) -> None:
    with pytest.raises(InvalidInput, match="1 to 64 leading hex zeros"):
        check_search(NonceSpace(b"p", "", 3), 0, 10, zeros)


def test_a_range_outside_the_space_is_refused() -> None:
    with pytest.raises(InvalidInput, match="do not lie within 0 to 999"):
        check_search(NonceSpace(b"p", "", 3), 995, 6, 1)
