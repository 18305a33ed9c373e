"""Who is leased next, to which device, and for how long."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.commands import Command
from coordinator.core.events import (
    BlockCommitted,
    JobSubmitted,
    LeaseEnd,
    LeaseEnded,
    LeaseProgressed,
    PriorityRequested,
    Ticked,
    WorkerHeard,
    WorkRead,
)
from coordinator.core.lease import Lease
from coordinator.core.leasing import LEASE_SECONDS, SHORTEST_LEASE_SECONDS
from coordinator.core.order import AGING_SECONDS
from coordinator.core.room import SMALL_SECONDS, small_zeros
from coordinator.core.roster import LEASES_PER_DEVICE
from hashfleet.action import Action, Work
from hashfleet.job_request import JobRequest, Priority, StartMode

from .conftest import Play, grants

EASIER = Work(Action.BUILD, "5-1", anchor=1000, range=1000)  # 5 zeros at height 1645, 4 from 1719 on
HARDER = Work(Action.BUILD, "5-2", anchor=1300, range=1000)


def submit(play: Play, job_id: str, work: Work, **asked: object) -> list[Lease]:
    play.submit(work, job_id, start_mode=StartMode.RACE, **asked)
    return grants(play.read(work, job_id))


def finish_one(play: Play, lease: Lease, seconds: float = LEASE_SECONDS) -> list[Lease]:
    """The lease ends without a hit after so many seconds; gives what is granted in its place."""
    play.now += seconds
    play.tell(Ticked(play.now))
    return grants(
        play.tell(LeaseEnded(play.now, lease.worker_id, lease.lease_id, lease.range.count, LeaseEnd.EXHAUSTED))
    )


def granted_in_turn(play: Play, count: int) -> list[str]:
    """Job ids of the next `count` leases, as those in hand end one after the other."""
    turns: list[str] = []
    while len(turns) < count:
        oldest = min(play.machine.state.leases.values(), key=lambda lease: (lease.granted_at, lease.lease_id))
        for worker in play.machine.state.workers.values():
            worker.last_heard = play.now + LEASE_SECONDS
        turns += [lease.job_id for lease in finish_one(play, oldest)]
    return turns[:count]


def test_within_a_class_the_easier_job_goes_first(play: Play) -> None:
    play.block(1645)
    submit(play, "pow_hard", HARDER)
    submit(play, "pow_easy", EASIER)
    assert {lease.job_id for lease in grants(play.join(rate=1e4))} == {"pow_easy"}


def test_a_hard_job_of_a_higher_class_goes_before_an_easier_one(play: Play) -> None:
    play.block(1645)
    submit(play, "pow_hard", HARDER, priority=Priority.CRITICAL)
    submit(play, "pow_easy", EASIER)
    assert {lease.job_id for lease in grants(play.join(rate=1e4))} == {"pow_hard"}


def test_jobs_that_tie_share_the_fleet_by_weight(play: Play) -> None:
    play.block(1645)
    submit(play, "pow_1", EASIER, weight=1)
    submit(play, "pow_3", replace(EASIER, object_id="5-3"), weight=3)
    play.join(rate=1e4)
    turns = granted_in_turn(play, 40)
    assert turns.count("pow_3") == 30


def test_a_job_that_got_no_lease_rises_by_a_class_with_time(play: Play) -> None:
    play.block(1645)
    play.join(rate=1e4)
    submit(play, "pow_easy", EASIER)
    submit(play, "pow_hard", HARDER)
    leases = math.ceil(2 * AGING_SECONDS / LEASE_SECONDS) + 2
    assert "pow_hard" in granted_in_turn(play, leases)


def test_a_changed_priority_counts_at_once(play: Play) -> None:
    play.block(1645)
    play.join(rate=1e4)
    submit(play, "pow_easy", EASIER)
    submit(play, "pow_hard", HARDER)
    play.tell(PriorityRequested(play.now, "pow_hard", Priority.CRITICAL))
    assert granted_in_turn(play, 1) == ["pow_hard"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.floats(0.2, 3.0))
def test_a_stream_of_better_jobs_holds_no_job_back_beyond_the_bound(seed: int, devices: int, load: float) -> None:
    """The bound of `order`: a class for each AGING_SECONDS, then one lease for each job that was ripe by then."""
    rng = random.Random(seed)
    play = Play()
    play.now += 5.0
    play.machine.handle(BlockCommitted(play.now, 1645, play.now, frozenset()))
    play.join(rate=1e4, devices=devices)
    began = play.now
    play.submit(HARDER, "pow_hard", start_mode=StartMode.RACE, priority=Priority.BULK)
    number = 0
    ripe_when_overdue: int | None = None

    def tell(event: object) -> list[Command]:
        return play.machine.handle(event).commands  # type: ignore[arg-type]

    def better() -> list[Command]:
        nonlocal number
        number += 1
        work = Work(Action.BUILD, f"5-{number + 10}", anchor=rng.choice([1000, 1100]), range=1000)
        request = JobRequest(
            work.action, work.object_id, "1-11", priority=rng.choice(list(Priority)), start_mode=StartMode.RACE
        )
        tell(JobSubmitted(play.now, f"pow_{number}", request))
        return tell(WorkRead(play.now, f"pow_{number}", work))

    for _ in range(4):
        better()
    done = {lease.job_id for lease in grants(tell(WorkRead(play.now, "pow_hard", HARDER)))}
    while "pow_hard" not in done:
        play.now += LEASE_SECONDS / 2
        tell(WorkerHeard(play.now, "w_1"))
        granted = grants(tell(Ticked(play.now)))
        for lease in list(play.machine.state.leases.values()):
            if not lease.cancelled and play.now - lease.granted_at >= LEASE_SECONDS:
                ended = LeaseEnded(play.now, lease.worker_id, lease.lease_id, lease.range.count, LeaseEnd.EXHAUSTED)
                granted += grants(tell(ended))
        for _ in range(rng.randint(0, round(2 * load))):
            granted += grants(better())
        done |= {lease.job_id for lease in granted}
        waited = play.now - began
        if ripe_when_overdue is None and waited >= Priority.BULK * AGING_SECONDS:
            ripe_when_overdue = len(play.machine.state.ripe)
        if ripe_when_overdue is not None:
            rounds = ripe_when_overdue / (devices * LEASES_PER_DEVICE) + 2
            assert waited <= Priority.BULK * AGING_SECONDS + rounds * 1.5 * LEASE_SECONDS, "the job starves"


# ---- devices -------------------------------------------------------------------------------------------------------


def test_the_device_with_the_least_in_hand_is_served_first(play: Play) -> None:
    play.block(1645)
    play.join("w_1", rate=1e4)
    play.join("w_2", rate=1e4)
    leases = submit(play, "pow_1", EASIER)
    assert [lease.worker_id for lease in leases] == ["w_1", "w_2", "w_1", "w_2"]


def test_small_jobs_find_room_while_a_harder_critical_one_waits_for_a_device(play: Play) -> None:
    play.block(1645)
    play.join(rate=1e6)
    assert len(submit(play, "pow_hard", HARDER, priority=Priority.CRITICAL)) == LEASES_PER_DEVICE
    small = Work(Action.BUILD, "5-9", anchor=1000, range=650)
    (lease,) = submit(play, "pow_small", small)
    assert lease.ends_with_hit


@pytest.mark.parametrize("zeros", range(1, 12))
def test_a_job_is_small_exactly_if_its_expected_hashes_fit_the_time(zeros: int) -> None:
    rate = 16**zeros / SMALL_SECONDS
    assert small_zeros(rate * 1.0001) == zeros
    assert small_zeros(rate * 0.9999) == zeros - 1


# ---- size of leases ------------------------------------------------------------------------------------------------


def test_leases_follow_the_rate_that_the_device_reports(play: Play) -> None:
    play.block(1645)
    play.join(rate=1e4)
    lease = submit(play, "pow_1", EASIER)[0]
    assert lease.range.count == LEASE_SECONDS * 1e4
    play.tell(LeaseProgressed(play.now, "w_1", lease.lease_id, 100, 3e4))
    (after,) = finish_one(play, lease, seconds=1.0)
    assert after.range.count == LEASE_SECONDS * 3e4


def test_a_lease_near_a_fall_of_the_difficulty_ends_about_there(play: Play) -> None:
    play.block(1717)
    play.block(1718)
    play.join(rate=1e4)
    play.now += 2.5
    lease = submit(play, "pow_1", EASIER)[0]
    assert SHORTEST_LEASE_SECONDS * 1e4 <= lease.range.count < LEASE_SECONDS * 1e4


def test_a_lease_far_from_a_fall_has_its_full_size(play: Play) -> None:
    play.block(1645)
    play.join(rate=1e4)
    assert submit(play, "pow_1", EASIER)[0].range.count == LEASE_SECONDS * 1e4
