"""The autopilot through its doors, in one loop: client and gRPC over the real service, store and core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from hashfleet.action import Action
from hashfleet.autopilot_rule import AutopilotRule
from hashfleet.client import FleetClient
from hashfleet.errors import InvalidInput
from hashfleet.job_request import Mode, Priority, StartMode
from hashfleet.rpc.hashfleet.v1 import autopilot_service_pb2, autopilot_service_pb2_grpc, job_pb2

from .conftest import Coordinator

RULE = AutopilotRule(
    "1-11", frozenset({Action.BUILD}), Priority.BULK, StartMode.ECONOMY, Mode.RETURN_PROOF, 7, max_jobs=3
)


@pytest.fixture
async def fleet(coordinator: Coordinator) -> AsyncIterator[FleetClient]:
    async with FleetClient(coordinator.address) as client:
        yield client


async def jobs_of(fleet: FleetClient, count: int) -> list[job_pb2.Job]:
    async with asyncio.timeout(10):
        while True:
            jobs = (await fleet.list_jobs(player_id="1-11")).jobs
            if len(jobs) >= count:
                return list(jobs)
            await asyncio.sleep(0.02)


async def test_a_rule_comes_back_as_it_was_set(fleet: FleetClient) -> None:
    status = await fleet.set_autopilot_rule(RULE)
    assert (await fleet.list_autopilot_rules()).rules[0].rule == status.rule
    assert status.rule == autopilot_service_pb2.AutopilotRule(
        player_id="1-11",
        actions=[job_pb2.ACTION_BUILD],
        priority=job_pb2.PRIORITY_BULK,
        start_mode=job_pb2.START_MODE_ECONOMY,
        mode=job_pb2.MODE_RETURN_PROOF,
        weight=7,
        max_jobs=3,
        enabled=True,
    )


async def test_the_jobs_of_a_rule_are_asked_for_as_it_says(fleet: FleetClient) -> None:
    await fleet.set_autopilot_rule(RULE)
    jobs = await jobs_of(fleet, 3)
    assert {job.spec.entity_id for job in jobs} == {"5-1", "5-2", "5-3"}
    for job in jobs:
        assert (job.spec.priority, job.spec.weight) == (job_pb2.PRIORITY_BULK, 7)
        assert (job.spec.mode, job.spec.start_mode) == (job_pb2.MODE_RETURN_PROOF, job_pb2.START_MODE_ECONOMY)


async def test_every_default_is_what_is_left_out(coordinator: Coordinator) -> None:
    stub = autopilot_service_pb2_grpc.AutopilotServiceStub(coordinator.channel)
    rule = autopilot_service_pb2.AutopilotRule(player_id="1-9")
    status = (await stub.SetRule(autopilot_service_pb2.SetRuleRequest(rule=rule))).status
    told = status.rule
    assert list(told.actions) == [
        job_pb2.ACTION_BUILD,
        job_pb2.ACTION_MINE,
        job_pb2.ACTION_REFINE,
        job_pb2.ACTION_RAID,
    ]
    assert (told.priority, told.start_mode, told.mode) == (
        job_pb2.PRIORITY_INTERACTIVE,
        job_pb2.START_MODE_BALANCED,
        job_pb2.MODE_SUBMIT,
    )
    assert (told.weight, told.max_jobs, told.enabled) == (1, 0, True)
    assert status.looked_height == 0 and not status.HasField("looked_at") and status.HasField("set_at")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"player_id": ""}, "player_id"),
        ({"player_id": "5-1"}, "player_id"),
        ({"actions": [99]}, "action 99"),
        ({"priority": 9}, "priority"),
        ({"start_mode": 9}, "start_mode"),
        ({"mode": 9}, "mode"),
        ({"weight": 1001}, "weight"),
        ({"max_jobs": 100_001}, "max_jobs"),
    ],
)
async def test_a_bad_rule_is_refused_in_one_sentence(
    coordinator: Coordinator, wrong: dict[str, object], said: str
) -> None:
    stub = autopilot_service_pb2_grpc.AutopilotServiceStub(coordinator.channel)
    rule = autopilot_service_pb2.AutopilotRule(**{"player_id": "1-11", **wrong})  # type: ignore[arg-type]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SetRule(autopilot_service_pb2.SetRuleRequest(rule=rule))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said in (caught.value.details() or "")
    assert "\n" not in (caught.value.details() or "")


@pytest.mark.parametrize(
    "request_",
    [
        autopilot_service_pb2.ListRulesRequest(page_size=501),
        autopilot_service_pb2.ListRulesRequest(page_token="x"),
        autopilot_service_pb2.ListRulesRequest(player_id="5-1"),
    ],
)
async def test_a_bad_listing_is_refused(
    coordinator: Coordinator, request_: autopilot_service_pb2.ListRulesRequest
) -> None:
    stub = autopilot_service_pb2_grpc.AutopilotServiceStub(coordinator.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListRules(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_pages_show_every_rule_once_by_player(fleet: FleetClient) -> None:
    for number in (10, 9, 100, 2, 1):
        await fleet.set_autopilot_rule(AutopilotRule(f"1-{number}", enabled=False))
    seen: list[str] = []
    token = ""
    while True:
        page = await fleet.list_autopilot_rules(page_size=2, page_token=token)
        seen += [status.rule.player_id for status in page.rules]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["1-1", "1-2", "1-9", "1-10", "1-100"]
    (one,) = (await fleet.list_autopilot_rules(player_id="1-9")).rules
    assert one.rule.player_id == "1-9" and not one.rule.enabled
    assert not (await fleet.list_autopilot_rules(player_id="1-3")).rules


async def test_a_rule_is_removed_once_and_its_jobs_go_on(fleet: FleetClient) -> None:
    await fleet.set_autopilot_rule(RULE)
    jobs = await jobs_of(fleet, 3)
    assert await fleet.remove_autopilot_rule("1-11") is True
    assert await fleet.remove_autopilot_rule("1-11") is False
    assert not (await fleet.list_autopilot_rules()).rules
    for job in jobs:
        assert (await fleet.get_job(job.job_id)).state not in (job_pb2.JOB_STATE_CANCELLED, job_pb2.JOB_STATE_FAILED)


async def test_a_wrong_player_is_refused_before_anything_is_sent() -> None:
    async with FleetClient("127.0.0.1:1") as fleet:
        with pytest.raises(InvalidInput):
            await fleet.remove_autopilot_rule("11")
        with pytest.raises(InvalidInput):
            await fleet.list_autopilot_rules(player_id="5-1")
        with pytest.raises(InvalidInput):
            await fleet.list_autopilot_rules(page_size=0)
