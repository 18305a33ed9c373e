"""Rules of the autopilot: checked when made, and the same at both ends of the wire."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashfleet.action import MAX_UINT64, Action
from hashfleet.autopilot_message import rule_message, rule_of
from hashfleet.autopilot_rule import MAX_JOBS, PICKED_UP, AutopilotRule
from hashfleet.errors import InvalidInput
from hashfleet.job_request import MAX_WEIGHT, JobRequest, Mode, Priority, StartMode
from hashfleet.rpc.hashfleet.v1 import autopilot_service_pb2

rules = st.builds(
    AutopilotRule,
    st.integers(0, MAX_UINT64).map(lambda number: f"1-{number}"),
    st.frozensets(st.sampled_from(sorted(PICKED_UP, key=str)), min_size=1),
    st.sampled_from(Priority),
    st.sampled_from(StartMode),
    st.sampled_from(Mode),
    st.integers(1, MAX_WEIGHT),
    st.none() | st.integers(1, MAX_JOBS),
    st.booleans(),
)


@given(rules)
def test_a_rule_survives_the_wire(rule: AutopilotRule) -> None:
    sent = rule_message(rule).SerializeToString()
    assert rule_of(autopilot_service_pb2.AutopilotRule.FromString(sent)) == rule


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"player_id": "11"}, "player_id"),
        ({"actions": frozenset()}, "names no action"),
        ({"actions": frozenset(Action)}, "a charter is not picked up by rule"),
        ({"weight": 0}, "weight is 0"),
        ({"weight": MAX_WEIGHT + 1}, "weight"),
        ({"max_jobs": 0}, "max_jobs is 0"),
        ({"max_jobs": MAX_JOBS + 1}, "max_jobs"),
    ],
)
def test_what_cannot_be_right_is_refused_when_made(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        AutopilotRule(**{"player_id": "1-11", **wrong})


def test_a_request_of_the_rule_carries_what_the_rule_says() -> None:
    rule = AutopilotRule("1-11", PICKED_UP, Priority.BULK, StartMode.RACE, Mode.RETURN_PROOF, 9)
    assert rule.request(Action.RAID, "9-11") == JobRequest(
        Action.RAID,
        "9-11",
        "1-11",
        priority=Priority.BULK,
        start_mode=StartMode.RACE,
        mode=Mode.RETURN_PROOF,
        weight=9,
    )
