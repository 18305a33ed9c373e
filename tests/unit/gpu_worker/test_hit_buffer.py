"""No hit is lost, however small the device's buffer is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gpu_worker.hit_buffer import MAX_LAUNCH, all_hits, largest_launch
from hashfleet.errors import EngineError


class Buffer:
    """A device that hits every counter of `hits` and has room for `capacity` of them, in no order."""

    def __init__(self, hits: set[int], capacity: int) -> None:
        self.hits, self.capacity = hits, capacity
        self.launches: list[tuple[int, int]] = []

    def launch(self, start: int, count: int) -> tuple[int, Sequence[int]]:
        self.launches.append((start, count))
        found = sorted((hit - start for hit in self.hits if start <= hit < start + count), reverse=True)
        return len(found), found[: self.capacity] if len(found) <= self.capacity else []


@pytest.mark.parametrize("capacity", [1, 2, 3, 64])
def test_all_hits_come_back_ascending_even_if_every_nonce_is_one(capacity: int) -> None:
    device = Buffer(set(range(100, 150)), capacity)

    assert all_hits(device.launch, 100, 50, capacity) == tuple(range(100, 150))


def test_hits_that_fit_cost_one_launch() -> None:
    device = Buffer({3, 99}, 2)

    assert all_hits(device.launch, 0, 100, 2) == (3, 99)
    assert device.launches == [(0, 100)]


def test_too_many_hits_are_searched_again_in_halves() -> None:
    device = Buffer({3, 60, 99}, 2)

    assert all_hits(device.launch, 0, 100, 2) == (3, 60, 99)
    assert device.launches == [(0, 100), (0, 50), (50, 50)]


def test_more_hits_than_nonces_are_a_fault_of_the_device() -> None:
    with pytest.raises(EngineError, match="11 hits in 10 nonces"):
        all_hits(lambda start, count: (11, []), 0, 10, 2)


def test_a_hit_outside_the_stretch_is_a_fault_of_the_device() -> None:
    with pytest.raises(EngineError, match="do not fit together"):
        all_hits(lambda start, count: (1, [count]), 0, 10, 2)


def test_fewer_hits_than_counted_are_a_fault_of_the_device() -> None:
    with pytest.raises(EngineError, match="do not fit together"):
        all_hits(lambda start, count: (2, [1]), 0, 10, 4)


@pytest.mark.parametrize(
    ("zeros", "capacity", "nonces"), [(1, 65_536, 524_288), (2, 100, 12_800), (64, 65_536, MAX_LAUNCH), (1, 1, 8)]
)
def test_a_launch_is_small_enough_that_half_a_buffer_is_expected(zeros: int, capacity: int, nonces: int) -> None:
    assert largest_launch(zeros, capacity) == nonces
