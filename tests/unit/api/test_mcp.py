"""The MCP tools as a real MCP client sees them, in memory, in both protocol eras."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult

from coordinator.api.mcp import TOOLS, build_server
from coordinator.api.mcp_schema import StatusArguments
from hashfleet.client import FleetClient
from hashfleet.rpc.hashfleet.v1 import job_pb2

START = "structs_calculate_proof_of_work"
STATUS = "structs_query_proof_of_work_status"
SOMEBODY = "structs19rl4cm2hmr8afy4kldpxz3fka4jguq0acpz60a"
CHARTER = {"action_type": "guild_create", "entity_id": "1-7", "reactor_id": "3-1", "endpoint": "guild.example"}
BUILD = {"action_type": "struct_build_complete", "entity_id": "5-28", "player_id": "1-11"}


@dataclass(frozen=True)
class Agent:
    """Calls tools as an agent does. Each call has its own connection, opened and closed by the task of the test."""

    address: str
    mode: str

    async def call_tool(self, name: str, arguments: dict[str, Any] | None = None) -> CallToolResult:
        async with FleetClient(self.address) as fleet, Client(build_server(fleet), mode=self.mode) as client:
            try:
                answer: CallToolResult | MCPError = await client.call_tool(name, arguments)
            except MCPError as error:  # raised outside, where no task group wraps it
                answer = error
        if isinstance(answer, MCPError):
            raise answer
        return answer


@pytest.fixture(params=["legacy", "2026-07-28"])
def agent(request: Any, scripted_coordinator: Any) -> Agent:
    """An agent of either protocol era, whose coordinator is scripted."""
    return Agent(scripted_coordinator.address, request.param)


def told(result: Any) -> dict[str, Any]:
    """The structured content of a good answer; its text must say the same."""
    assert not result.is_error, result.content
    assert json.loads(result.content[0].text) == result.structured_content
    return dict(result.structured_content)


def complaint(result: Any) -> str:
    assert result.is_error
    return str(result.content[0].text)


async def test_the_start_call_returns_a_queued_job_and_sends_what_was_asked(
    agent: Agent, scripted_coordinator: Any
) -> None:
    answer = told(
        await agent.call_tool(
            START,
            {
                "action_type": "planet_raid_complete",
                "entity_id": "9-11",
                "player_id": "1-11",
                "target_id": "2-1",
                "block_start": 679575,
                "difficulty": 220,
                "age": 100,
                "max_iterations": 10**12,
            },
        )
    )
    assert set(answer) == {"job_id", "status", "message", "note"}
    assert (answer["job_id"], answer["status"]) == ("pow_0001", "queued")
    assert [request.spec for request in scripted_coordinator.requests] == [
        job_pb2.JobSpec(
            action=job_pb2.ACTION_RAID,
            entity_id="9-11",
            player_id="1-11",
            target_id="2-1",
            anchor=679575,
            range=220,
            max_hashes=10**12,
            priority=job_pb2.PRIORITY_INTERACTIVE,
            max_nonce_digits=200,
            start_mode=job_pb2.START_MODE_BALANCED,
            mode=job_pb2.MODE_SUBMIT,
            weight=1,
        )
    ]


async def test_the_start_call_sends_how_the_job_is_to_be_done(agent: Agent, scripted_coordinator: Any) -> None:
    how = {
        "start_mode": "race",
        "mode": "return_proof",
        "start_difficulty": 7,
        "deadline_height": 700000,
        "weight": 3,
        "priority": "critical",
        "idempotency_key": "raid of tonight",
    }
    answer = told(await agent.call_tool(START, BUILD | how))
    assert "submits nothing" in answer["note"]
    assert scripted_coordinator.requests[0].spec == job_pb2.JobSpec(
        action=job_pb2.ACTION_BUILD,
        entity_id="5-28",
        player_id="1-11",
        priority=job_pb2.PRIORITY_CRITICAL,
        max_nonce_digits=200,
        start_mode=job_pb2.START_MODE_RACE,
        mode=job_pb2.MODE_RETURN_PROOF,
        start_difficulty=7,
        deadline_height=700000,
        weight=3,
        idempotency_key="raid of tonight",
    )


async def test_the_start_call_of_a_charter_sends_how_the_guild_is_founded(
    agent: Agent, scripted_coordinator: Any
) -> None:
    consent = {"consent_address": SOMEBODY, "consent_pub_key": f"02{'a' * 64}", "consent_signature": "b" * 128}
    told(await agent.call_tool(START, BUILD | CHARTER | {"entry_substation_id": "4-1"} | consent))
    spec = scripted_coordinator.requests[0].spec
    assert (spec.action, spec.entity_id, spec.player_id) == (job_pb2.ACTION_CHARTER, "1-7", "1-11")
    assert spec.founding == job_pb2.Founding(
        reactor_id="3-1",
        endpoint="guild.example",
        entry_substation_id="4-1",
        consent=job_pb2.Consent(address=SOMEBODY, proof_pub_key=f"02{'a' * 64}", proof_signature="b" * 128),
    )


async def test_a_key_of_a_finished_job_says_how_to_ask_anew(
    agent: Agent, scripted_coordinator: Any, completed_job: job_pb2.Job
) -> None:
    scripted_coordinator.put(completed_job)
    answer = told(await agent.call_tool(START, BUILD | {"idempotency_key": "k"}))
    assert (answer["job_id"], answer["status"]) == ("pow_0001", "completed")
    assert "take another key" in answer["message"]


@pytest.mark.parametrize(
    ("action_type", "action"),
    [
        ("struct_build_complete", job_pb2.ACTION_BUILD),
        ("ore_miner_complete", job_pb2.ACTION_MINE),
        ("ore_refinery_complete", job_pb2.ACTION_REFINE),
    ],
)
async def test_each_action_type_is_its_action(
    agent: Agent, scripted_coordinator: Any, action_type: str, action: int
) -> None:
    told(await agent.call_tool(START, BUILD | {"action_type": action_type}))
    assert scripted_coordinator.requests[0].spec.action == action


async def test_the_same_work_asked_twice_says_that_no_second_job_was_made(
    agent: Agent, scripted_coordinator: Any, waiting_job: job_pb2.Job
) -> None:
    scripted_coordinator.put(waiting_job)
    answer = told(await agent.call_tool(START, BUILD))
    assert (answer["job_id"], answer["status"]) == ("pow_0001", "waiting")
    assert "no second job" in answer["message"]
    assert "differs from the chain's 1000" in answer["note"]


async def test_a_null_argument_is_taken_as_left_out(agent: Agent, scripted_coordinator: Any) -> None:
    told(await agent.call_tool(START, BUILD | {"block_start": None, "target_id": None}))
    assert not scripted_coordinator.requests[0].spec.HasField("anchor")


async def test_an_unknown_argument_is_refused_by_name_with_the_known_ones(
    agent: Agent, scripted_coordinator: Any
) -> None:
    result = await agent.call_tool(START, BUILD | {"blockstart": 5})
    assert complaint(result) == (
        "unknown argument 'blockstart'; structs_calculate_proof_of_work takes the arguments action_type, entity_id, "
        "player_id, target_id, block_start, difficulty, age, max_iterations, priority, start_mode, start_difficulty, "
        "deadline_height, weight, mode, idempotency_key, reactor_id, endpoint, entry_substation_id, consent_address, "
        "consent_pub_key, consent_signature"
    )
    assert scripted_coordinator.requests == []


@pytest.mark.parametrize("name", list(TOOLS))
async def test_every_tool_refuses_an_unknown_argument(agent: Agent, scripted_coordinator: Any, name: str) -> None:
    result = await agent.call_tool(name, {"surprise": 1})
    assert complaint(result).startswith(f"unknown argument 'surprise'; {name} takes ")
    assert scripted_coordinator.requests == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"entity_id": "28"}, "entity_id is '28'; it should be a struct id such as 5-28"),
        ({"player_id": "2-1"}, "player_id is '2-1'; it should be a player id such as 1-28"),
        ({"target_id": "2-1"}, "target_id is given, but only a raid has a target; leave it out"),
        ({"block_start": "679575"}, "block_start is '679575'; it should be a valid integer"),
        ({"block_start": True}, "block_start is True; it should be a valid integer"),
        ({"block_start": 0}, "block_start is 0; it should be greater than or equal to 1"),
        ({"difficulty": 2**40}, "difficulty is 1099511627776; it should be less than or equal to 2147483647"),
        ({"max_iterations": 0}, "max_iterations is 0; it should be greater than or equal to 1"),
        ({"entity_id": 5}, "entity_id is 5; it should be a valid string"),
        ({"entity_id": "5" * 100}, f"entity_id is '{'5' * 56}...; it should have at most 40 characters"),
        (
            {"action_type": "mine"},
            "action_type is 'mine'; it should be 'struct_build_complete', 'ore_miner_complete', "
            "'ore_refinery_complete', 'planet_raid_complete' or 'guild_create'",
        ),
        (
            {"reactor_id": "3-1", "endpoint": "guild.example"},
            "reactor_id and endpoint are given, but only a charter founds a guild; leave them out",
        ),
        (
            {"action_type": "guild_create", "entity_id": "1-7"},
            "a charter should name the reactor_id and the endpoint of the guild that is founded",
        ),
        (
            {"action_type": "guild_create", "entity_id": "1-7", "reactor_id": "3-1"},
            "reactor_id and endpoint should both be given, to say how the guild is founded",
        ),
        (
            CHARTER | {"consent_address": SOMEBODY},
            "the consent's proof_pub_key should be 66 lowercase hex digits that begin with 02 or 03; make one with "
            "hashfleet charter consent",
        ),
        ({"age": "old"}, "age is 'old'; it should be a valid number"),
    ],
)
async def test_a_bad_value_is_one_clear_sentence(
    agent: Agent, scripted_coordinator: Any, changed: dict[str, Any], sentence: str
) -> None:
    assert complaint(await agent.call_tool(START, BUILD | changed)) == sentence
    assert scripted_coordinator.requests == []


async def test_a_missing_argument_is_named(agent: Agent) -> None:
    result = await agent.call_tool(START, {"action_type": "struct_build_complete", "entity_id": "5-28"})
    assert complaint(result) == "the argument player_id is missing"


async def test_the_coordinators_refusal_is_passed_on_as_it_is(agent: Agent, scripted_coordinator: Any) -> None:
    scripted_coordinator.refusal = (grpc.StatusCode.INVALID_ARGUMENT, "target_id should be where the fleet stands")
    assert complaint(await agent.call_tool(START, BUILD)) == "target_id should be where the fleet stands"


async def test_a_waiting_job_tells_how_long(agent: Agent, scripted_coordinator: Any, waiting_job: job_pb2.Job) -> None:
    scripted_coordinator.put(waiting_job)
    assert told(await agent.call_tool(STATUS, {"job_id": "pow_0001"})) == {
        "job_id": "pow_0001",
        "status": "waiting",
        "started_at": "2026-08-01T12:00:00.250Z",
        "waiting_info": {
            "current_age": 4,
            "target_age": 10,
            "blocks_remaining": 6,
            "difficulty": 47,
            "target_difficulty": 38,
            "seconds_remaining": 31.7,
            "reason": "hashing starts at age 10",
        },
        "eta": {"seconds": 40.0, "seconds_50": 36.0, "block_50": 1011, "seconds_90": 70.0, "block_90": 1018},
        "difficulty_info": {"current_difficulty": 47, "current_age": 4, "difficulty_range": 220},
    }


async def test_a_queued_job_has_no_optional_members(agent: Agent) -> None:
    told(await agent.call_tool(START, BUILD))
    assert told(await agent.call_tool(STATUS, {"job_id": "pow_0001"})) == {
        "job_id": "pow_0001",
        "status": "queued",
        "started_at": "2026-08-01T12:00:00.250Z",
    }


async def test_a_running_job_tells_progress(agent: Agent, scripted_coordinator: Any, running_job: job_pb2.Job) -> None:
    scripted_coordinator.put(running_job)
    answer = told(await agent.call_tool(STATUS, {"job_id": "pow_0001"}))
    assert answer["progress"] == {
        "hashes": 2**40,
        "hash_rate": 33e9,
        "eta_seconds": 12.5,
        "expected_block": 1134,
        "fraction": 0.25,
    }
    assert answer["eta"] == {
        "seconds": 12.5,
        "seconds_50": 8.5,
        "block_50": 1133,
        "seconds_90": 29.0,
        "block_90": 1137,
    }


async def test_the_best_hash_so_far_is_told_with_the_height_from_which_it_is_valid(
    agent: Agent, scripted_coordinator: Any, running_job: job_pb2.Job
) -> None:
    scripted_coordinator.put(running_job)
    assert told(await agent.call_tool(STATUS, {"job_id": "pow_0001"}))["best"] == {
        "hash": running_job.best.hash,
        "nonce": "0",
        "zeros": 7,
        "valid_from_height": 1150,
    }


async def test_a_best_hash_is_not_told_beside_a_proof(
    agent: Agent, scripted_coordinator: Any, running_job: job_pb2.Job
) -> None:
    running_job.proof.CopyFrom(running_job.best)
    scripted_coordinator.put(running_job)
    answer = told(await agent.call_tool(STATUS, {"job_id": "pow_0001"}))
    assert "best" not in answer
    assert answer["result"]["proof_of_work"]["valid_from_height"] == 1150


async def test_waiting_for_the_end_answers_at_the_end(
    agent: Agent, scripted_coordinator: Any, running_job: job_pb2.Job, completed_job: job_pb2.Job
) -> None:
    scripted_coordinator.put(running_job)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(agent.call_tool(STATUS, {"job_id": "pow_0001", "wait_seconds": 50}))
        await asyncio.to_thread(scripted_coordinator.wait_for_stream)
        scripted_coordinator.put(completed_job)
    assert told(asking.result())["status"] == "completed"


async def test_waiting_longer_than_asked_answers_as_the_job_stands(
    agent: Agent, scripted_coordinator: Any, running_job: job_pb2.Job
) -> None:
    scripted_coordinator.put(running_job)
    answer = told(await agent.call_tool(STATUS, {"job_id": "pow_0001", "wait_seconds": 1}))
    assert answer["status"] == "running"


async def test_waiting_for_an_unknown_job_is_a_tool_error(agent: Agent) -> None:
    assert complaint(await agent.call_tool(STATUS, {"job_id": "pow_9", "wait_seconds": 9})) == "there is no job pow_9"


async def test_a_caller_with_a_progress_token_is_told_of_progress(
    agent: Agent, scripted_coordinator: Any, completed_job: job_pb2.Job
) -> None:
    scripted_coordinator.put(completed_job)
    heard = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    async with FleetClient(agent.address) as fleet, Client(build_server(fleet), mode=agent.mode) as client:
        await client.call_tool(STATUS, {"job_id": "pow_0001", "wait_seconds": 9}, progress_callback=hear)
    assert heard == [(1.0, 1.0, "completed")]


async def test_progress_never_goes_backwards(running_job: job_pb2.Job, completed_job: job_pb2.Job) -> None:
    class Watched:
        """A job whose anchor moves: its search starts anew."""

        async def watch_job(self, job_id: str) -> AsyncGenerator[job_pb2.Job]:
            for fraction in (0.2, 0.6, 0.1, 0.3, 0.6, 0.7):
                running_job.progress.fraction = fraction
                yield running_job
            yield completed_job

    heard = []

    async def report(fraction: float, words: str) -> None:
        heard.append(fraction)

    await TOOLS[STATUS].call(
        Watched(),  # type: ignore[arg-type]
        StatusArguments(job_id="pow_0001", wait_seconds=9),
        report,
    )
    assert heard == [0.2, 0.6, 0.7, 1.0]


async def test_progress_without_a_rate_has_no_estimate(
    agent: Agent, scripted_coordinator: Any, running_job: job_pb2.Job
) -> None:
    running_job.progress.CopyFrom(job_pb2.Progress(hashes=5))
    scripted_coordinator.put(running_job)
    answer = told(await agent.call_tool(STATUS, {"job_id": "pow_0001"}))
    assert answer["progress"] == {"hashes": 5, "hash_rate": 0.0, "fraction": 0.0}


async def test_an_endless_estimate_is_left_out(
    agent: Agent, scripted_coordinator: Any, running_job: job_pb2.Job
) -> None:
    running_job.progress.eta_seconds = math.inf
    scripted_coordinator.put(running_job)
    assert "eta_seconds" not in told(await agent.call_tool(STATUS, {"job_id": "pow_0001"}))["progress"]


async def test_a_completed_job_tells_proof_and_transaction(
    agent: Agent, scripted_coordinator: Any, completed_job: job_pb2.Job
) -> None:
    scripted_coordinator.put(completed_job)
    answer = told(await agent.call_tool(STATUS, {"job_id": "pow_0001"}))
    assert answer["completed_at"] == "2026-08-01T12:20:01.000Z"
    assert answer["result"] == {
        "job_id": "pow_0001",
        "status": "completed",
        "proof_of_work": {
            "hash": completed_job.proof.hash,
            "nonce": completed_job.proof.nonce,
            "zeros": 3,
            "valid_from_height": 1180,
            "iterations": 4500,
            "valid": True,
            "difficulty_met": True,
            "computation_time_ms": 1250,
        },
        "transaction": {
            "transaction_hash": "AB" * 32,
            "transaction_id": 7,
            "status": "included",
            "message": "Included in block 1200.",
        },
    }


async def proof_of(agent: Agent, coordinator: Any, job: job_pb2.Job) -> Any:
    coordinator.put(job)
    return told(await agent.call_tool(STATUS, {"job_id": "pow_0001"}))["result"]["proof_of_work"]


@pytest.mark.parametrize("nonce", ["1", "", "not digits"])
async def test_a_nonce_that_does_not_hash_as_claimed_is_not_valid(
    agent: Agent, scripted_coordinator: Any, completed_job: job_pb2.Job, nonce: str
) -> None:
    completed_job.proof.nonce = nonce
    proof = await proof_of(agent, scripted_coordinator, completed_job)
    assert (proof["valid"], proof["difficulty_met"]) == (False, False)


async def test_a_proof_of_another_anchor_is_not_valid(
    agent: Agent, scripted_coordinator: Any, completed_job: job_pb2.Job
) -> None:
    completed_job.work.prefix = "5-28BUILD1001NONCE"
    assert (await proof_of(agent, scripted_coordinator, completed_job))["valid"] is False


async def test_difficulty_met_is_judged_at_the_block_of_inclusion_not_now(
    agent: Agent, scripted_coordinator: Any, completed_job: job_pb2.Job
) -> None:
    completed_job.transaction.height = 1010  # age 10 asks for far more than 3 zeros, though by now 1 would do
    proof = await proof_of(agent, scripted_coordinator, completed_job)
    assert (proof["valid"], proof["difficulty_met"]) == (True, False)


@pytest.mark.parametrize(("asked", "met"), [(3, True), (4, False)])
async def test_before_inclusion_difficulty_met_is_judged_for_the_next_block(
    agent: Agent, scripted_coordinator: Any, completed_job: job_pb2.Job, asked: int, met: bool
) -> None:
    completed_job.state = job_pb2.JOB_STATE_SUBMITTING
    completed_job.ClearField("transaction")
    completed_job.work.current_difficulty = asked
    proof = await proof_of(agent, scripted_coordinator, completed_job)
    assert (proof["valid"], proof["difficulty_met"]) == (True, met)


async def test_a_proof_without_its_work_is_an_error_not_a_guess(
    agent: Agent, scripted_coordinator: Any, completed_job: job_pb2.Job
) -> None:
    completed_job.ClearField("work")
    scripted_coordinator.put(completed_job)
    assert "without the work" in complaint(await agent.call_tool(STATUS, {"job_id": "pow_0001"}))


async def test_a_failed_job_says_why(agent: Agent, scripted_coordinator: Any, waiting_job: job_pb2.Job) -> None:
    waiting_job.state = job_pb2.JOB_STATE_FAILED
    waiting_job.error = "the struct was destroyed"
    scripted_coordinator.put(waiting_job)
    answer = told(await agent.call_tool(STATUS, {"job_id": "pow_0001"}))
    assert (answer["status"], answer["error"]) == ("failed", "the struct was destroyed")


async def test_an_unknown_job_is_a_tool_error(agent: Agent) -> None:
    assert complaint(await agent.call_tool(STATUS, {"job_id": "pow_9"})) == "there is no job pow_9"


async def test_cancelling_returns_the_cancelled_job(
    agent: Agent, scripted_coordinator: Any, waiting_job: job_pb2.Job
) -> None:
    scripted_coordinator.put(waiting_job)
    answer = told(await agent.call_tool("structs_cancel_proof_of_work", {"job_id": "pow_0001"}))
    assert (answer["job_id"], answer["status"]) == ("pow_0001", "cancelled")


async def test_cancelling_a_finished_job_is_a_tool_error(
    agent: Agent, scripted_coordinator: Any, completed_job: job_pb2.Job
) -> None:
    scripted_coordinator.put(completed_job)
    result = await agent.call_tool("structs_cancel_proof_of_work", {"job_id": "pow_0001"})
    assert complaint(result) == "job pow_0001 is over; it cannot be cancelled"


async def test_a_priority_is_set(agent: Agent, scripted_coordinator: Any, waiting_job: job_pb2.Job) -> None:
    scripted_coordinator.put(waiting_job)
    answer = told(
        await agent.call_tool("structs_set_proof_of_work_priority", {"job_id": "pow_0001", "priority": "critical"})
    )
    assert answer["priority"] == "critical"
    assert scripted_coordinator.requests[0].priority == job_pb2.PRIORITY_CRITICAL


async def test_a_listing_is_filtered_and_paged(
    agent: Agent, scripted_coordinator: Any, waiting_job: job_pb2.Job, completed_job: job_pb2.Job
) -> None:
    for number in range(3):
        waiting_job.job_id = f"pow_{number}"
        scripted_coordinator.put(waiting_job)
    completed_job.job_id = "pow_done"
    scripted_coordinator.put(completed_job)
    first = told(
        await agent.call_tool("structs_list_proof_of_work", {"status": "waiting", "player_id": "1-11", "limit": 2})
    )
    assert [job["job_id"] for job in first["jobs"]] == ["pow_2", "pow_1"]
    assert first["jobs"][0]["action_type"] == "struct_build_complete"
    assert first["jobs"][0]["priority"] == "bulk"
    assert first["jobs"][0]["notes"] == ["block_start 999 differs from the chain's 1000; the chain's is used"]
    second = told(
        await agent.call_tool(
            "structs_list_proof_of_work", {"status": "waiting", "page_token": first["next_page_token"]}
        )
    )
    assert [job["job_id"] for job in second["jobs"]] == ["pow_0"]
    assert "next_page_token" not in second


async def test_the_fleet_is_shown(agent: Agent, scripted_coordinator: Any, busy_fleet: Any) -> None:
    scripted_coordinator.fleet = busy_fleet
    answer = told(await agent.call_tool("structs_fleet_status"))
    assert answer["hash_rate"] == 32.5e9
    assert answer["jobs"]["waiting"] == 3
    assert answer["chain"] == {
        "chain_id": "structstestnet-111",
        "height": 679700,
        "block_interval_seconds": 5.28,
        "connected": True,
    }
    gpu, cpu = answer["workers"][0]["devices"]
    assert (gpu["engine"], gpu["job_id"], gpu["accepted"], gpu["stale"]) == ("cuda", "pow_0001", 5, 1)
    assert "job_id" not in cpu


async def test_an_unreachable_coordinator_is_a_tool_error_that_names_the_address(
    agent: Agent, scripted_coordinator: Any
) -> None:
    scripted_coordinator.stop()
    result = await agent.call_tool("structs_fleet_status")
    assert f"no coordinator answers at {scripted_coordinator.address}" in complaint(result)


async def test_an_unknown_tool_is_a_protocol_error_that_lists_the_tools(agent: Agent) -> None:
    with pytest.raises(MCPError, match="there is no tool 'structs_guess'; there are structs_calculate"):
        await agent.call_tool("structs_guess")


async def test_a_bug_of_ours_does_not_reach_the_agent_but_the_log(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(self: FleetClient) -> None:
        raise RuntimeError("an inner secret")

    monkeypatch.setattr(FleetClient, "fleet_status", broken)
    with pytest.raises(MCPError) as caught:
        await agent.call_tool("structs_fleet_status")
    assert "an inner secret" not in str(caught.value)
    assert "an inner secret" in caplog.text
