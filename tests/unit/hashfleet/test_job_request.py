"""The bounds of what a caller may ask, and that the wire changes nothing about it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashfleet.action import MAX_HEIGHT, MAX_RANGE, Action
from hashfleet.charter import MAX_ENDPOINT_LENGTH, Consent, Founding
from hashfleet.difficulty import MAX_DIFFICULTY
from hashfleet.errors import InvalidInput
from hashfleet.job_request import (
    LEAST_NONCE_DIGITS,
    MAX_BUDGET,
    MAX_KEY_LENGTH,
    MAX_WEIGHT,
    JobRequest,
    Mode,
    Priority,
    StartMode,
)
from hashfleet.job_spec import request_of, spec_of
from hashfleet.proof import MAX_NONCE_DIGITS
from hashfleet.rpc.hashfleet.v1 import job_pb2


def asked(**more: Any) -> JobRequest:
    return JobRequest(**({"action": Action.BUILD, "object_id": "5-1", "player_id": "1-7"} | more))


@pytest.mark.parametrize(
    "edge",
    [
        {"max_hashes": 1},
        {"max_hashes": MAX_BUDGET},
        {"max_nonce_digits": LEAST_NONCE_DIGITS},
        {"max_nonce_digits": MAX_NONCE_DIGITS},
        {"start_difficulty": 1},
        {"start_difficulty": MAX_DIFFICULTY},
        {"deadline_height": 1},
        {"deadline_height": MAX_HEIGHT},
        {"weight": 1},
        {"weight": MAX_WEIGHT},
        {"idempotency_key": " "},
        {"idempotency_key": "~" * MAX_KEY_LENGTH},
    ],
)
def test_the_edges_of_every_bound_are_taken(edge: dict[str, Any]) -> None:
    (name,) = edge
    assert getattr(asked(**edge), name) == edge[name]


@pytest.mark.parametrize(
    ("beyond", "said"),
    [
        ({"max_hashes": 0}, "max_iterations is 0"),
        ({"max_hashes": MAX_BUDGET + 1}, "max_iterations is"),
        ({"max_nonce_digits": LEAST_NONCE_DIGITS - 1}, "max_nonce_digits is 25; it should be 26 to 200"),
        ({"max_nonce_digits": MAX_NONCE_DIGITS + 1}, "max_nonce_digits is 201"),
        ({"start_difficulty": 0}, "start_difficulty is 0; it should be 1 to 64 leading hex zeros"),
        ({"start_difficulty": MAX_DIFFICULTY + 1}, "start_difficulty is 65"),
        ({"deadline_height": 0}, "deadline_height is 0; it should be a block height"),
        ({"deadline_height": MAX_HEIGHT + 1}, "deadline_height is"),
        ({"weight": 0}, "weight is 0; it should be 1 to 1000"),
        ({"weight": MAX_WEIGHT + 1}, "weight is 1001"),
        ({"idempotency_key": ""}, "idempotency_key should be 1 to 128 printable ASCII characters"),
        ({"idempotency_key": "x" * (MAX_KEY_LENGTH + 1)}, "idempotency_key should be"),
        ({"idempotency_key": "line\nbreak"}, "idempotency_key should be"),
        ({"idempotency_key": "d\u00fcrer"}, "idempotency_key should be"),
        ({"target_id": "2-1"}, "only a raid has a target"),
        ({"founding": Founding("3-1", "guild.example")}, "only a charter founds a guild"),
        ({"action": Action.CHARTER, "object_id": "1-7"}, "should name the reactor_id and the endpoint"),
        ({"action": Action.CHARTER, "object_id": "5-7"}, "it should be a player id"),
    ],
)
def test_what_lies_beyond_a_bound_is_refused_in_one_sentence(beyond: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        asked(**beyond)
    assert said in str(caught.value)


def test_what_is_not_said_is_balanced_submitted_and_of_weight_1() -> None:
    request = asked()
    assert (request.start_mode, request.mode, request.weight) == (StartMode.BALANCED, Mode.SUBMIT, 1)


def test_a_charter_whose_proof_is_returned_needs_no_terms() -> None:
    assert asked(action=Action.CHARTER, object_id="1-7", mode=Mode.RETURN_PROOF).founding is None


ids = st.integers(0, 2**64 - 1)
heights = st.integers(1, MAX_HEIGHT)


printable = st.characters(min_codepoint=32, max_codepoint=126)
hex_digits = st.characters(codec="ascii", categories=(), include_characters="0123456789abcdef")
consents = st.builds(
    Consent,
    st.just("structs19rl4cm2hmr8afy4kldpxz3fka4jguq0acpz60a"),
    st.text(hex_digits, min_size=64, max_size=64).map(lambda text: f"02{text}"),
    st.text(hex_digits, min_size=128, max_size=128),
)
foundings = st.builds(
    Founding,
    ids.map(lambda number: f"3-{number}"),
    st.text(printable, min_size=1, max_size=MAX_ENDPOINT_LENGTH),
    st.just("") | ids.map(lambda number: f"4-{number}"),
    st.none() | consents,
)


@st.composite
def requests(draw: st.DrawFn) -> JobRequest:
    action = draw(st.sampled_from(Action))
    founding = draw(foundings) if action is Action.CHARTER else None
    return JobRequest(
        action,
        f"{action.object_type}-{draw(ids)}",
        f"1-{draw(ids)}",
        target_id=f"2-{draw(ids)}" if action is Action.RAID and draw(st.booleans()) else None,
        anchor_hint=draw(st.none() | heights),
        range_hint=draw(st.none() | st.integers(2, MAX_RANGE)),
        max_hashes=draw(st.none() | st.integers(1, MAX_BUDGET)),
        priority=draw(st.sampled_from(Priority)),
        max_nonce_digits=draw(st.integers(LEAST_NONCE_DIGITS, MAX_NONCE_DIGITS)),
        mode=draw(st.sampled_from(Mode)),
        start_mode=draw(st.sampled_from(StartMode)),
        start_difficulty=draw(st.none() | st.integers(1, MAX_DIFFICULTY)),
        deadline_height=draw(st.none() | heights),
        weight=draw(st.integers(1, MAX_WEIGHT)),
        idempotency_key=draw(
            st.none() | st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=128)
        ),
        founding=founding,
    )


@given(request=requests())
def test_a_request_that_goes_over_the_wire_is_the_same_request(request: JobRequest) -> None:
    sent = spec_of(request).SerializeToString()
    assert request_of(job_pb2.JobSpec.FromString(sent)) == request


def test_a_spec_that_says_the_least_asks_for_the_defaults() -> None:
    spec = job_pb2.JobSpec(action=job_pb2.ACTION_BUILD, entity_id="5-1", player_id="1-7")
    assert request_of(spec) == asked()


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("action", "action is missing"),
        ("priority", "priority 99 is unknown; it should be critical, interactive or bulk"),
        ("start_mode", "start_mode 99 is unknown; it should be economy, balanced or race"),
        ("mode", "mode 99 is unknown; it should be submit or return_proof"),
    ],
)
def test_a_number_without_a_name_is_refused(field: str, said: str) -> None:
    spec = spec_of(asked())
    setattr(spec, field, 99)
    with pytest.raises(InvalidInput, match=said):
        request_of(spec)
