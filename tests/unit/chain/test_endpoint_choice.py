"""Which node is asked first: properties over whatever may be known of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.chain.endpoint_choice import (
    LONGEST_PAUSE,
    MAX_BEHIND,
    EndpointState,
    Health,
    answered,
    failed,
    highest_of,
    order,
    refused,
    state_of,
    told_progress,
)

SECONDS = st.floats(0, 100)
TOLD = st.builds(Health, checked=st.just(True), height=st.integers(0, 12), seconds=SECONDS)
ANY = st.one_of(
    TOLD,
    st.just(Health()),
    st.builds(
        lambda health, now, times: [
            health := failed(health, now + LONGEST_PAUSE * nth, "away") for nth in range(times)
        ][-1],
        TOLD,
        SECONDS,
        st.integers(1, 8),
    ),
    st.builds(lambda health, now: refused(health, now, "another chain"), TOLD, SECONDS),
)
MANY = st.lists(ANY, min_size=1, max_size=6)


def states(healths: list[Health]) -> list[EndpointState]:
    return [state_of(health, highest_of(healths)) for health in healths]


@given(MANY, SECONDS)
def test_every_node_of_our_chain_is_tried_once_and_no_other(healths: list[Health], now: float) -> None:
    assert sorted(order(healths, now)) == [i for i, health in enumerate(healths) if not health.refused]


@given(MANY, SECONDS)
def test_a_node_behind_by_more_than_a_block_never_comes_before_a_fresh_one(healths: list[Health], now: float) -> None:
    fresh = [i for i, state in enumerate(states(healths)) if state is EndpointState.HEALTHY]
    if fresh:
        first = order(healths, now)[0]
        assert healths[first].height == 0 or healths[first].height >= highest_of(healths) - MAX_BEHIND


def test_a_node_that_told_no_height_yet_is_not_stale() -> None:
    assert states([Health(checked=True), Health(checked=True, height=100)]) == [EndpointState.HEALTHY] * 2


@given(MANY, SECONDS)
def test_who_failed_comes_after_everybody_who_did_not(healths: list[Health], now: float) -> None:
    failing = [bool(healths[i].failures) for i in order(healths, now)]
    assert failing == sorted(failing)


@given(st.lists(TOLD, min_size=1, max_size=6), SECONDS)
def test_nodes_that_are_equally_well_keep_the_order_of_the_configuration(healths: list[Health], now: float) -> None:
    same = [Health(checked=True, height=7, seconds=0.1) for _ in healths]
    assert order(same, now) == list(range(len(same)))


def test_a_node_that_is_catching_up_is_asked_after_fresh_ones_and_before_those_that_failed() -> None:
    catching_up = told_progress(Health(checked=True, height=100), True)
    fresh, away = Health(checked=True, height=100), failed(Health(), 0.0, "away")
    assert order([away, catching_up, fresh], 0.0) == [2, 1, 0]
    assert state_of(answered(catching_up, 101), 101) is EndpointState.STALE
    assert state_of(told_progress(catching_up, False), 100) is EndpointState.HEALTHY


def test_a_node_that_told_a_newer_block_first_is_not_preferred() -> None:
    behind, ahead = Health(checked=True, height=100), Health(checked=True, height=101)
    assert order([behind, ahead], 0.0) == [0, 1]
    assert order([ahead, behind], 0.0) == [0, 1]


def test_a_height_far_above_the_newest_block_makes_no_other_node_stale() -> None:
    healths = [
        Health(checked=True, height=100),
        Health(checked=True, height=98),
        Health(checked=True, height=2**31 - 1),
    ]
    highest = highest_of(healths, newest=100)
    assert [state_of(health, highest) for health in healths[:2]] == [EndpointState.HEALTHY, EndpointState.STALE]
    assert order(healths, 0.0, newest=100)[0] == 0


def test_nodes_may_be_ahead_of_a_newest_block_that_comes_late() -> None:
    healths = [Health(checked=True, height=100), Health(checked=True, height=103)]
    assert order(healths, 0.0, newest=100) == [1, 0]
    everybody = [Health(checked=True, height=200), Health(checked=True, height=200)]
    assert [state_of(health, highest_of(everybody, newest=100)) for health in everybody] == [EndpointState.HEALTHY] * 2


@given(MANY, SECONDS, st.integers(0, 20))
def test_an_answer_makes_a_node_well_at_the_height_that_it_tells(
    healths: list[Health], now: float, height: int
) -> None:
    after = answered(healths[0], height, 0.1)
    assert after.height == height
    assert answered(after).height == height
    assert after.failures == 0
    assert after.error == ""
    assert state_of(after, after.height) is EndpointState.HEALTHY


@given(MANY, SECONDS)
def test_a_failure_puts_a_node_behind_all_that_are_well_and_its_chain_is_checked_anew(
    healths: list[Health], now: float
) -> None:
    first = order(healths, now)[:1]
    for index in first:
        left = [*healths[:index], failed(healths[index], now, "away"), *healths[index + 1 :]]
        assert not left[index].checked
        well = [i for i, health in enumerate(left) if not health.failures and not health.refused]
        assert all(place < order(left, now).index(index) for place in map(order(left, now).index, well))


def test_pauses_double_up_to_a_bound() -> None:
    health, pauses, now = Health(), [], 100.0
    for _ in range(10):
        health = failed(health, now, "away")
        pauses.append(health.not_before - now)
        now = health.not_before
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert max(pauses) == pauses[-1] == LONGEST_PAUSE


def test_calls_that_fail_at_once_are_one_failure() -> None:
    health = Health(checked=True, height=7)
    for nth in range(32):
        health = failed(health, 100.0 + nth / 100, "away")
    assert (health.failures, health.not_before) == (1, 101.0)
    assert failed(health, 101.0, "still away").failures == 2


def test_of_two_that_failed_the_one_whose_pause_is_over_comes_first() -> None:
    resting = failed(failed(Health(), 99.0, "away"), 100.0, "away")
    rested = failed(Health(), 90.0, "away")
    assert order([resting, rested], 100.0) == [1, 0]
    assert order([resting, rested], 103.0) == [0, 1]


def test_a_node_that_is_much_slower_is_asked_after_a_quick_one() -> None:
    slow, quick = Health(checked=True, height=7, seconds=2.0), Health(checked=True, height=7, seconds=0.1)
    assert order([slow, quick], 0.0) == [1, 0]
    hardly = Health(checked=True, height=7, seconds=0.3)
    assert order([hardly, quick], 0.0) == [0, 1]


def test_what_another_chain_counts_is_nothing_to_ours() -> None:
    other = refused(Health(checked=True, height=9_000_000), 0.0, "another chain")
    ours = Health(checked=True, height=7)
    assert highest_of([other, ours]) == 7
    assert states([other, ours]) == [EndpointState.REFUSED, EndpointState.HEALTHY]
