"""The autopilot's tools: what becomes of their arguments, and what agents read."""

from __future__ import annotations

import pytest

from coordinator.api.mcp import TOOLS
from coordinator.api.mcp_autopilot import RuleArguments, rule_status
from hashfleet.action import Action
from hashfleet.autopilot_message import rule_message
from hashfleet.autopilot_rule import AutopilotRule
from hashfleet.errors import InvalidInput
from hashfleet.job_request import Mode, Priority, StartMode
from hashfleet.rpc.hashfleet.v1 import autopilot_service_pb2, job_pb2

SET = TOOLS["structs_set_autopilot_rule"]


def test_a_player_alone_makes_a_rule_for_all_his_work() -> None:
    asked = SET.checked({"player_id": "1-11"})
    assert isinstance(asked, RuleArguments) and asked.rule() == AutopilotRule("1-11")


def test_every_argument_gets_into_the_rule() -> None:
    asked = SET.checked(
        {
            "player_id": "1-11",
            "actions": ["ore_miner_complete", "planet_raid_complete"],
            "priority": "critical",
            "start_mode": "race",
            "mode": "return_proof",
            "weight": 3,
            "max_jobs": 2,
            "enabled": False,
        }
    )
    assert isinstance(asked, RuleArguments)
    assert asked.rule() == AutopilotRule(
        "1-11",
        frozenset({Action.MINE, Action.RAID}),
        Priority.CRITICAL,
        StartMode.RACE,
        Mode.RETURN_PROOF,
        3,
        2,
        enabled=False,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"player_id": "1-11", "actions": []},
        {"player_id": "1-11", "actions": ["mine"]},
        {"player_id": "1-11", "weight": 0},
        {"player_id": "1-11", "max_jobs": 0},
        {"player_id": "1-11", "enabled": "yes"},
        {"player_id": "1-11", "actoins": ["ore_miner_complete"]},
    ],
)
def test_a_wrong_argument_is_refused_in_one_sentence(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as caught:
        SET.checked(wrong)
    assert "\n" not in str(caught.value)


def test_a_player_id_that_is_none_is_refused_by_the_rule() -> None:
    asked = SET.checked({"player_id": "5-1"})
    assert isinstance(asked, RuleArguments)
    with pytest.raises(InvalidInput, match="it should be a player id"):
        asked.rule()


def test_a_fresh_rule_tells_no_look_and_no_trouble() -> None:
    status = autopilot_service_pb2.AutopilotStatus(rule=rule_message(AutopilotRule("1-11")))
    status.set_at.FromJsonString("2026-08-01T12:00:00Z")
    told = rule_status(status).model_dump(exclude_none=True)
    assert told == {
        "player_id": "1-11",
        "actions": ["struct_build_complete", "ore_miner_complete", "ore_refinery_complete", "planet_raid_complete"],
        "priority": "interactive",
        "start_mode": "balanced",
        "mode": "submit",
        "weight": 1,
        "enabled": True,
        "set_at": "2026-08-01T12:00:00.000Z",
        "outstanding": 0,
        "unfinished_jobs": 0,
        "jobs_made": 0,
        "queued": 0,
        "held": 0,
    }


def test_troubles_are_told_with_their_reasons_and_times() -> None:
    status = autopilot_service_pb2.AutopilotStatus(
        rule=rule_message(AutopilotRule("1-11", max_jobs=4)), looked_height=679_700, held=1, error="no node answers"
    )
    for stamp in (status.set_at, status.looked_at, status.error_at):
        stamp.FromJsonString("2026-08-01T12:00:00.5Z")
    held = status.held_first.add(action=job_pb2.ACTION_MINE, entity_id="5-2", reason="no ore", failures=3)
    held.until.FromJsonString("2026-08-01T13:00:00Z")
    status.refusals.add(action=job_pb2.ACTION_RAID, reason="the key lacks PermHashRaid")
    told = rule_status(status).model_dump(exclude_none=True)
    assert (told["max_jobs"], told["looked_height"], told["error"]) == (4, 679_700, "no node answers")
    assert told["looked_at"] == told["error_at"] == "2026-08-01T12:00:00.500Z"
    assert told["held_first"] == [
        {
            "action_type": "ore_miner_complete",
            "entity_id": "5-2",
            "reason": "no ore",
            "failures": 3,
            "until": "2026-08-01T13:00:00.000Z",
        }
    ]
    assert told["refusals"] == [{"action_type": "planet_raid_complete", "reason": "the key lacks PermHashRaid"}]
