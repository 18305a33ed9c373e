"""Which outstanding works are asked for: the whole decision, without a clock."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.autopilot import (
    FIRST_HOLD_SECONDS,
    LAST_HOLD_SECONDS,
    Claim,
    Failure,
    actions_to_ask_for,
    choose,
    failure_after,
)
from coordinator.core.job import Job, JobState
from hashfleet.action import Action
from hashfleet.autopilot_rule import PICKED_UP, AutopilotRule
from hashfleet.job_request import JobRequest, Mode, Priority, StartMode

BUILD, MINE, REFINE, RAID = Action.BUILD, Action.MINE, Action.REFINE, Action.RAID
RULE = AutopilotRule("1-11")
NOW = 10_000.0


def ended(state: JobState, at: float = NOW, error: str | None = None) -> Job:
    return Job("pow_1", JobRequest(MINE, "5-2", "1-11"), state, 1.0, at, completed_at=at, error=error)


claims = st.builds(
    lambda action, number: (action, f"{action.object_type}-{number}"),
    st.sampled_from(sorted(PICKED_UP, key=str)),
    st.integers(1, 12),
)
failures = st.builds(Failure, st.just("gone"), st.integers(0, 10**9), st.floats(0, 2 * NOW))
rules = st.builds(
    AutopilotRule,
    st.just("1-11"),
    st.frozensets(st.sampled_from(sorted(PICKED_UP, key=str)), min_size=1),
    st.sampled_from(Priority),
    st.sampled_from(StartMode),
    st.sampled_from(Mode),
    st.integers(1, 1000),
    st.none() | st.integers(1, 8),
    st.booleans(),
)


@given(
    rules,
    st.lists(claims, max_size=30),
    st.frozensets(claims),
    st.dictionaries(claims, failures),
    st.frozensets(st.sampled_from(sorted(PICKED_UP, key=str))),
)
def test_a_request_is_wanted_outstanding_free_allowed_and_asked_once(
    rule: AutopilotRule,
    outstanding: list[Claim],
    active: frozenset[Claim],
    failed: dict[Claim, Failure],
    refused: frozenset[Action],
) -> None:
    choice = choose(rule, outstanding, active, failed, refused, NOW)
    asked = [(request.action, request.object_id) for request in choice.requests]
    assert len(set(asked)) == len(asked)
    for claim in asked:
        assert rule.enabled
        assert claim in outstanding and claim not in active
        assert claim[0] in rule.actions and claim[0] not in refused
        assert claim not in failed or failed[claim].until <= NOW
    if rule.max_jobs is not None:
        assert not asked or len(active) + len(asked) <= rule.max_jobs
    for request in choice.requests:
        assert (request.player_id, request.priority, request.mode) == ("1-11", rule.priority, rule.mode)
        assert (request.start_mode, request.weight) == (rule.start_mode, rule.weight)


@given(
    rules, st.lists(claims, max_size=30), st.frozensets(claims), st.dictionaries(claims, failures), st.floats(0, NOW)
)
def test_every_work_that_is_wanted_and_free_is_asked_held_or_queued(
    rule: AutopilotRule,
    outstanding: list[Claim],
    active: frozenset[Claim],
    failed: dict[Claim, Failure],
    now: float,
) -> None:
    choice = choose(rule, outstanding, active, failed, frozenset(), now)
    free = {claim for claim in outstanding if claim[0] in rule.actions and claim not in active}
    told = len(choice.requests) + len(choice.held) + choice.queued
    assert told == (len(free) if rule.enabled else 0)


@given(rules, st.lists(claims, max_size=30), st.frozensets(claims), st.dictionaries(claims, failures))
def test_in_the_end_no_failure_holds_anything_back(
    rule: AutopilotRule, outstanding: list[Claim], active: frozenset[Claim], failed: dict[Claim, Failure]
) -> None:
    rule = replace(rule, enabled=True, max_jobs=None)
    choice = choose(rule, outstanding, active, failed, frozenset(), 2 * NOW)
    assert choice.held == ()
    assert len(choice.requests) == len({c for c in outstanding if c[0] in rule.actions and c not in active})


def test_a_work_whose_job_failed_is_held_back_twice_as_long_each_time_up_to_an_hour() -> None:
    failure: Failure | None = None
    waits = []
    for _ in range(9):
        failure = failure_after(ended(JobState.FAILED, error="the key lacks PermHashMine"), failure)
        assert failure is not None
        waits.append(failure.until - NOW)
        assert choose(RULE, [(MINE, "5-2")], (), {(MINE, "5-2"): failure}, (), failure.until - 1).requests == ()
        assert len(choose(RULE, [(MINE, "5-2")], (), {(MINE, "5-2"): failure}, (), failure.until).requests) == 1
    assert waits[:3] == [FIRST_HOLD_SECONDS, 2 * FIRST_HOLD_SECONDS, 4 * FIRST_HOLD_SECONDS]
    assert waits[-1] == LAST_HOLD_SECONDS == 3600


def test_a_completed_job_forgets_the_failures_before_it_and_holds_nothing_back() -> None:
    failure = failure_after(ended(JobState.FAILED, error="no"), None)
    assert failure_after(ended(JobState.COMPLETED), failure) is None


def test_a_cancelled_work_is_not_asked_for_again_within_the_hour() -> None:
    failure = failure_after(ended(JobState.CANCELLED), None)
    assert failure is not None and failure.until == NOW + LAST_HOLD_SECONDS
    assert "cancelled" in failure.reason


def test_where_jobs_are_limited_raids_go_first_and_mining_last() -> None:
    outstanding: list[Claim] = [(MINE, "5-2"), (BUILD, "5-10"), (REFINE, "5-3"), (RAID, "9-11"), (BUILD, "5-9")]
    requests = choose(RULE, outstanding, (), {}, (), NOW).requests
    assert [(r.action, r.object_id) for r in requests] == [
        (RAID, "9-11"),
        (BUILD, "5-9"),
        (BUILD, "5-10"),
        (REFINE, "5-3"),
        (MINE, "5-2"),
    ]
    choice = choose(replace(RULE, max_jobs=3), outstanding, [(MINE, "5-2")], {}, (), NOW)
    assert [(r.action, r.object_id) for r in choice.requests] == [(RAID, "9-11"), (BUILD, "5-9")]
    assert choice.queued == 2


def test_a_proof_that_was_returned_is_not_asked_for_again() -> None:
    outstanding: list[Claim] = [(MINE, "5-2"), (BUILD, "5-10")]
    choice = choose(RULE, outstanding, (), {}, (), NOW, proven=[(MINE, "5-2")])
    assert [(r.action, r.object_id) for r in choice.requests] == [(BUILD, "5-10")]


def test_a_right_is_checked_by_one_object_of_each_action_that_would_be_asked_for() -> None:
    outstanding: list[Claim] = [(MINE, "5-2"), (MINE, "5-4"), (BUILD, "5-10"), (RAID, "9-11")]
    rule = AutopilotRule("1-11", frozenset({MINE, BUILD}))
    assert actions_to_ask_for(rule, outstanding, [(MINE, "5-2")]) == {MINE: "5-4", BUILD: "5-10"}


@given(failures, st.sampled_from([JobState.FAILED, JobState.CANCELLED]))
def test_the_longest_hold_is_an_hour_whatever_failed(before: Failure, state: JobState) -> None:
    failure = failure_after(ended(state), before)
    assert failure is not None and NOW < failure.until <= NOW + LAST_HOLD_SECONDS
