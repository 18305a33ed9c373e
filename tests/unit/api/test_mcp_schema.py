"""The published tools, held as they are: agents out there already call them by these names."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from mcp.client import Client

from coordinator.api.mcp import TOOLS, build_server
from hashfleet.client import FleetClient

STATUSES = ["queued", "waiting", "running", "submitting", "completed", "failed", "cancelled"]
ACTION_TYPES = [
    "struct_build_complete",
    "ore_miner_complete",
    "ore_refinery_complete",
    "planet_raid_complete",
    "guild_create",
]
#: What only a guild_create is asked with, and tells again.
FOUNDING = {"reactor_id", "endpoint", "entry_substation_id"}
RECORD = {
    "job_id",
    "status",
    "started_at",
    "completed_at",
    "error",
    "waiting_info",
    "difficulty_info",
    "progress",
    "result",
    "action_type",
    "entity_id",
    "player_id",
    "target_id",
    "priority",
    "mode",
    "start_mode",
    "start_difficulty",
    "deadline_height",
    "weight",
    "idempotency_key",
    "notes",
    "eta",
    "best",
    *FOUNDING,
}
RECORD_REQUIRED = {
    "job_id",
    "status",
    "started_at",
    "action_type",
    "entity_id",
    "player_id",
    "priority",
    "mode",
    "start_mode",
    "weight",
}
#: What a status answer leaves out of a record: what was asked for.
ASKED = RECORD_REQUIRED - {"job_id", "status", "started_at"} | {
    "target_id",
    "start_difficulty",
    "deadline_height",
    "idempotency_key",
    "notes",
    *FOUNDING,
}

#: Tool -> type of each argument, which are required, result members, which of those are always there,
#: (reads only, destroys, idempotent, open world).
PUBLISHED: dict[str, tuple[dict[str, str], set[str], set[str], set[str], tuple[Any, ...]]] = {
    "structs_calculate_proof_of_work": (
        {
            "action_type": "string",
            "entity_id": "string",
            "player_id": "string",
            "target_id": "string",
            "block_start": "integer",
            "difficulty": "integer",
            "age": "number",
            "max_iterations": "integer",
            "priority": "string",
            "start_mode": "string",
            "start_difficulty": "integer",
            "deadline_height": "integer",
            "weight": "integer",
            "mode": "string",
            "idempotency_key": "string",
            "reactor_id": "string",
            "endpoint": "string",
            "entry_substation_id": "string",
            "consent_address": "string",
            "consent_pub_key": "string",
            "consent_signature": "string",
        },
        {"action_type", "entity_id", "player_id"},
        {"job_id", "status", "message", "note"},
        {"job_id", "status", "message", "note"},
        (False, False, True, True),
    ),
    "structs_query_proof_of_work_status": (
        {"job_id": "string", "wait_seconds": "integer"},
        {"job_id"},
        RECORD - ASKED,
        {"job_id", "status", "started_at"},
        (True, None, None, False),
    ),
    "structs_cancel_proof_of_work": (
        {"job_id": "string"},
        {"job_id"},
        RECORD,
        RECORD_REQUIRED,
        (False, True, True, False),
    ),
    "structs_list_proof_of_work": (
        {"status": "string", "player_id": "string", "limit": "integer", "page_token": "string"},
        set(),
        {"jobs", "next_page_token"},
        {"jobs"},
        (True, None, None, False),
    ),
    "structs_set_proof_of_work_priority": (
        {"job_id": "string", "priority": "string"},
        {"job_id", "priority"},
        RECORD,
        RECORD_REQUIRED,
        (False, False, True, False),
    ),
    "structs_fleet_status": (
        {},
        set(),
        {"hash_rate", "nominal_rate", "jobs", "chain", "signers", "workers", "coordinator_version"},
        {"hash_rate", "nominal_rate", "jobs", "chain", "signers", "workers", "coordinator_version"},
        (True, None, None, False),
    ),
}


RULE = {
    "player_id",
    "actions",
    "priority",
    "start_mode",
    "mode",
    "weight",
    "max_jobs",
    "enabled",
    "set_at",
    "looked_height",
    "looked_at",
    "outstanding",
    "unfinished_jobs",
    "jobs_made",
    "queued",
    "held",
    "held_first",
    "refusals",
    "error",
    "error_at",
}
RULE_OPTIONAL = {"max_jobs", "looked_height", "looked_at", "held_first", "refusals", "error", "error_at"}
PUBLISHED |= {
    "structs_set_autopilot_rule": (
        {
            "player_id": "string",
            "actions": "array",
            "priority": "string",
            "start_mode": "string",
            "mode": "string",
            "weight": "integer",
            "max_jobs": "integer",
            "enabled": "boolean",
        },
        {"player_id"},
        RULE,
        RULE - RULE_OPTIONAL,
        (False, False, True, True),
    ),
    "structs_list_autopilot_rules": (
        {"player_id": "string", "limit": "integer", "page_token": "string"},
        set(),
        {"rules", "next_page_token"},
        {"rules"},
        (True, None, None, False),
    ),
    "structs_remove_autopilot_rule": (
        {"player_id": "string"},
        {"player_id"},
        {"player_id", "removed"},
        {"player_id", "removed"},
        (False, True, True, False),
    ),
}


async def test_exactly_these_tools_are_listed_with_these_schemas() -> None:
    async with FleetClient() as fleet, Client(build_server(fleet)) as client:
        tools = (await client.list_tools()).tools
    published = {}
    for tool in tools:
        assert tool.input_schema["additionalProperties"] is False
        assert tool.output_schema is not None and tool.annotations is not None
        hints = tool.annotations
        published[tool.name] = (
            {name: member["type"] for name, member in tool.input_schema["properties"].items()},
            set(tool.input_schema.get("required", ())),
            set(tool.output_schema["properties"]),
            set(tool.output_schema.get("required", ())),
            (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint),
        )
    assert published == PUBLISHED


@pytest.mark.parametrize("tool", TOOLS.values(), ids=list(TOOLS))
def test_schemas_are_valid_and_know_no_null_and_no_reference_in_arguments(tool: Any) -> None:
    published = tool.published()
    for schema in (published.input_schema, published.output_schema):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert "null" not in str(schema).lower().replace("nullable", "")
        assert "None" not in str(schema)
    assert "$ref" not in str(published.input_schema)


@pytest.mark.parametrize("tool", TOOLS.values(), ids=list(TOOLS))
def test_every_tool_and_every_argument_is_described(tool: Any) -> None:
    published = tool.published()
    assert published.description.endswith(".")
    assert all(member["description"] for member in published.input_schema["properties"].values())


def test_the_choices_are_published() -> None:
    start = TOOLS["structs_calculate_proof_of_work"].published().input_schema["properties"]
    listing = TOOLS["structs_list_proof_of_work"].published().input_schema["properties"]
    priority = TOOLS["structs_set_proof_of_work_priority"].published().input_schema["properties"]
    assert start["action_type"]["enum"] == ACTION_TYPES
    assert listing["status"]["enum"] == STATUSES
    assert priority["priority"]["enum"] == start["priority"]["enum"] == ["critical", "interactive", "bulk"]
    assert start["start_mode"]["enum"] == ["economy", "balanced", "race"]
    assert start["mode"]["enum"] == ["submit", "return_proof"]


def test_the_members_of_a_status_answer_are_these() -> None:
    schema = TOOLS["structs_query_proof_of_work_status"].published().output_schema
    members = {name: set(shape["properties"]) for name, shape in schema["$defs"].items()}
    assert members == {
        "WaitingInfo": {
            "current_age",
            "target_age",
            "blocks_remaining",
            "difficulty",
            "target_difficulty",
            "seconds_remaining",
            "reason",
        },
        "DifficultyInfo": {"current_difficulty", "current_age", "difficulty_range"},
        "Progress": {"hashes", "hash_rate", "eta_seconds", "expected_block", "fraction"},
        "Eta": {"seconds", "seconds_50", "block_50", "seconds_90", "block_90"},
        "BestHash": {"hash", "nonce", "zeros", "valid_from_height"},
        "JobResult": {"job_id", "status", "proof_of_work", "transaction"},
        "ProofOfWork": {
            "hash",
            "nonce",
            "zeros",
            "valid_from_height",
            "iterations",
            "valid",
            "difficulty_met",
            "computation_time_ms",
        },
        "TransactionResult": {"transaction_hash", "transaction_id", "status", "message"},
    }
