"""One rule, and no request after it: a player's work is found, hashed and completed as it appears."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from .conftest import HASHFLEET, SCENARIO, Agent, House

#: The player's work, ripe for a CPU core: what it is done on, and the tool's name of the action.
WORKS = {
    "5-1": "struct_build_complete",
    "5-2": "ore_miner_complete",
    "5-3": "ore_refinery_complete",
    "9-11": "planet_raid_complete",
}


@pytest.fixture
def world() -> dict[str, Any]:
    """The usual world without its long works: they would be picked up, too."""
    short = [struct for struct in SCENARIO["structs"] if struct["id"] in (*WORKS, "5-201", "5-202")]
    others = {"id": "5-301", "type": 22, "owner": "1-12", "age": 3400}
    return SCENARIO | {"structs": [*short, others]}


async def hashfleet(house: House, *arguments: str) -> str:
    """What the command prints."""
    process = await asyncio.create_subprocess_exec(
        *HASHFLEET, *arguments, "--coordinator", house.grpc, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    return out.decode()


async def jobs(agent: Agent) -> list[dict[str, Any]]:
    """The player's jobs, oldest first."""
    return list(reversed((await agent.call("structs_list_proof_of_work", player_id="1-11", limit=500))["jobs"]))


async def until_completed(agent: Agent, entities: set[str]) -> None:
    async with asyncio.timeout(60):
        while True:
            if entities <= {job["entity_id"] for job in await jobs(agent) if job["status"] == "completed"}:
                return
            await asyncio.sleep(0.1)


async def until_asked_again(agent: Agent, entity: str, action_type: str) -> None:
    """Until there is an unfinished job for a work that was completed before."""
    async with asyncio.timeout(30):
        while True:
            of_entity = [
                job for job in await jobs(agent) if (job["entity_id"], job["action_type"]) == (entity, action_type)
            ]
            if len(of_entity) > 1 and of_entity[-1]["status"] in ("queued", "waiting", "running"):
                return
            await asyncio.sleep(0.1)


async def test_one_rule_has_all_work_of_a_player_done_and_done_again_across_a_restart(house: House) -> None:
    printed = await hashfleet(house, "autopilot", "--player", "1-11", "--priority", "bulk", "--json")
    (rule,) = json.loads(printed)["rules"]
    assert rule["rule"]["player_id"] == "1-11"
    # what it found before a crash and what it finds afterwards is all the same to the player
    await house.coordinator.kill()
    await house.restart_coordinator()
    await house.worker()
    async with house.agent("http") as agent:
        await until_completed(agent, set(WORKS))
        # the rig and the refinery go on with the next ore, under a clock of its own
        await until_asked_again(agent, "5-2", "ore_miner_complete")
        await until_asked_again(agent, "5-3", "ore_refinery_complete")
        assert {job["priority"] for job in await jobs(agent)} == {"bulk"}
        assert [job for job in await jobs(agent) if job["status"] == "failed"] == []
        (status,) = (await agent.call("structs_list_autopilot_rules"))["rules"]
        assert status["jobs_made"] >= 2 and status["looked_height"] > 0
        assert "refusals" not in status and "error" not in status
        removed = await agent.call("structs_remove_autopilot_rule", player_id="1-11")
        assert removed == {"player_id": "1-11", "removed": True}
    done = [tx["objects"] for tx in await house.transactions() if tx["code"] == 0]
    assert sorted(done) == sorted([entity] for entity in WORKS)
    assert "no rules" in await hashfleet(house, "autopilot", "list")


async def test_what_the_key_may_not_do_for_a_player_is_said_and_not_asked_for(house: House) -> None:
    async with house.agent("http") as agent:
        for player_id in ("1-12", "1-99"):
            await agent.call("structs_set_autopilot_rule", player_id=player_id)
        async with asyncio.timeout(20):
            while True:
                others, nobodys = (await agent.call("structs_list_autopilot_rules"))["rules"]
                if "error" in nobodys and "looked_height" in others:
                    break
                await asyncio.sleep(0.1)
        assert (await agent.call("structs_list_proof_of_work"))["jobs"] == []
    (refusal,) = others["refusals"]
    assert refusal["action_type"] == "struct_build_complete"
    assert "1-11 lacks PermHashBuild" in refusal["reason"]
    assert (others["outstanding"], others["jobs_made"]) == (1, 0)
    assert "1-99" in nobodys["error"]
    listed = await hashfleet(house, "autopilot", "list")
    assert "player 1-12: may not build: player 1-11 lacks PermHashBuild" in listed
