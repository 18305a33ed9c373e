"""FleetClient against a scripted coordinator over real sockets."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import Any

import grpc
import pytest

import hashfleet
from hashfleet.action import Action
from hashfleet.client import MAX_BATCH, FleetClient, action_of, priority_name, state_name
from hashfleet.errors import (
    CoordinatorError,
    CoordinatorUnavailable,
    HashfleetError,
    InvalidInput,
    JobFinal,
    JobNotFound,
)
from hashfleet.job_request import JobRequest
from hashfleet.rpc.hashfleet.v1 import job_pb2


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_importing_hashfleet_does_not_import_grpc() -> None:
    code = (
        "import sys, hashfleet; assert 'grpc' not in sys.modules; hashfleet.FleetClient; assert 'grpc' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_exported_name_exists() -> None:
    for name in hashfleet.__all__:
        assert getattr(hashfleet, name) is not None


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = hashfleet.Nothing


async def test_a_submission_carries_every_argument(scripted_coordinator: Any) -> None:
    async with FleetClient(scripted_coordinator.address) as fleet:
        answer = await fleet.submit_job(
            Action.RAID,
            "9-11",
            "1-11",
            target_id="2-1",
            anchor=679575,
            difficulty_range=220,
            max_hashes=10**12,
            priority="critical",
            max_nonce_digits=100,
            mode="return_proof",
            start_mode="race",
            start_difficulty=7,
            deadline_height=700000,
            weight=3,
            idempotency_key="raid of tonight",
        )
    assert answer.created
    assert answer.job.job_id == "pow_0001"
    assert scripted_coordinator.requests[0].spec == job_pb2.JobSpec(
        action=job_pb2.ACTION_RAID,
        entity_id="9-11",
        player_id="1-11",
        target_id="2-1",
        anchor=679575,
        range=220,
        max_hashes=10**12,
        priority=job_pb2.PRIORITY_CRITICAL,
        max_nonce_digits=100,
        mode=job_pb2.MODE_RETURN_PROOF,
        start_mode=job_pb2.START_MODE_RACE,
        start_difficulty=7,
        deadline_height=700000,
        weight=3,
        idempotency_key="raid of tonight",
    )


async def test_hints_that_are_not_given_are_not_sent(scripted_coordinator: Any) -> None:
    async with FleetClient(scripted_coordinator.address) as fleet:
        await fleet.submit_job(Action.BUILD, "5-28", "1-11")
    spec = scripted_coordinator.requests[0].spec
    assert not spec.HasField("anchor")
    assert not spec.HasField("range")
    assert spec.max_hashes == 0


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"entity_id": "9-1"}, "entity_id is '9-1'; it should be a struct id"),
        ({"player_id": "11"}, "player_id is '11'; it should be a player id"),
        ({"target_id": "2-1"}, "only a raid has a target"),
        ({"anchor": 0}, "block_start is 0"),
        ({"anchor": 2**64}, "block_start is"),
        ({"difficulty_range": 1}, "the difficulty range is 1"),
        ({"max_hashes": 0}, "max_iterations is 0"),
        ({"max_hashes": 2**64}, "max_iterations is"),
        ({"priority": "urgent"}, "priority is 'urgent'; it should be one of critical, interactive, bulk"),
        ({"mode": "keep"}, "mode is 'keep'; it should be one of submit, return_proof"),
        ({"start_mode": "now"}, "start_mode is 'now'; it should be one of economy, balanced, race"),
        ({"start_difficulty": 0}, "start_difficulty is 0"),
        ({"deadline_height": 0}, "deadline_height is 0"),
        ({"weight": 0}, "weight is 0"),
        ({"idempotency_key": ""}, "idempotency_key should be 1 to 128 printable ASCII"),
    ],
)
async def test_a_wrong_argument_is_refused_before_anything_is_sent(
    scripted_coordinator: Any, wrong: dict[str, Any], sentence: str
) -> None:
    async with FleetClient(scripted_coordinator.address) as fleet:
        with pytest.raises(InvalidInput, match=sentence):
            await fleet.submit_job(Action.BUILD, **({"entity_id": "5-28", "player_id": "1-11"} | wrong))
    assert scripted_coordinator.requests == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidInput),
        (grpc.StatusCode.NOT_FOUND, JobNotFound),
        (grpc.StatusCode.FAILED_PRECONDITION, JobFinal),
    ],
)
async def test_the_coordinators_own_sentence_is_kept(
    scripted_coordinator: Any, code: grpc.StatusCode, expected: type[HashfleetError]
) -> None:
    scripted_coordinator.refusal = (code, "a sentence of the coordinator")
    async with FleetClient(scripted_coordinator.address) as fleet:
        with pytest.raises(expected) as caught:
            await fleet.cancel_job("pow_0001")
    assert str(caught.value) == "a sentence of the coordinator"


async def test_a_failure_of_another_kind_names_the_address_and_the_code(scripted_coordinator: Any) -> None:
    scripted_coordinator.refusal = (grpc.StatusCode.INTERNAL, "disk full")
    async with FleetClient(scripted_coordinator.address) as fleet:
        with pytest.raises(CoordinatorError) as caught:
            await fleet.fleet_status()
    assert not isinstance(caught.value, CoordinatorUnavailable)
    assert str(caught.value) == f"the coordinator at {scripted_coordinator.address} failed with INTERNAL: disk full"


async def test_no_listener_is_coordinator_unavailable_and_names_the_address(unused_port: int) -> None:
    async with FleetClient(f"127.0.0.1:{unused_port}") as fleet:
        with pytest.raises(CoordinatorUnavailable, match=f"no coordinator answers at 127.0.0.1:{unused_port}"):
            await fleet.get_job("pow_0001")


async def test_a_silent_listener_is_coordinator_unavailable_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with FleetClient(address, timeout=0.3) as fleet:
            with pytest.raises(CoordinatorUnavailable, match=f"at {address} did not answer within 0.3 seconds"):
                await fleet.get_job("pow_0001")


@pytest.mark.parametrize(
    "address", ["", "localhost", "http://localhost:7337", "localhost:0", "localhost:70000", "a b:1"]
)
def test_an_address_that_cannot_be_right_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="it should be HOST:PORT"):
        FleetClient(address)


@pytest.mark.parametrize("address", ["localhost:7337", "[::1]:7337", "coordinator-0.fleet_a.svc:7337"])
def test_the_usual_forms_of_an_address_are_taken(address: str) -> None:
    assert FleetClient(address).address == address


async def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(HashfleetError, match="async with"):
        await FleetClient().get_job("pow_0001")


def mines(count: int, player_id: str = "1-7") -> list[JobRequest]:
    return [JobRequest(Action.MINE, f"5-{number}", player_id) for number in range(count)]


async def test_many_jobs_are_answered_in_order(scripted_coordinator: Any) -> None:
    async with FleetClient(scripted_coordinator.address) as fleet:
        answers = await fleet.submit_jobs(mines(3))
    assert [answer.job.spec.entity_id for answer in answers] == ["5-0", "5-1", "5-2"]


async def test_a_refused_job_of_many_is_its_own_error(scripted_coordinator: Any) -> None:
    scripted_coordinator.refused["1-8"] = (grpc.StatusCode.INVALID_ARGUMENT, "a sentence of the coordinator")
    async with FleetClient(scripted_coordinator.address) as fleet:
        bad, good = await fleet.submit_jobs(mines(1, "1-8") + mines(1))
    assert (type(bad), str(bad)) == (InvalidInput, "a sentence of the coordinator")
    assert good.created


async def test_an_error_of_another_kind_names_the_address_and_the_code(scripted_coordinator: Any) -> None:
    scripted_coordinator.refused["1-7"] = (grpc.StatusCode.UNAVAILABLE, "the disk is full")
    async with FleetClient(scripted_coordinator.address) as fleet:
        (answer,) = await fleet.submit_jobs(mines(1))
    assert type(answer) is CoordinatorError
    assert str(answer) == f"the coordinator at {scripted_coordinator.address} failed with status 14: the disk is full"


async def test_many_jobs_are_sent_as_calls_of_bounded_size(scripted_coordinator: Any) -> None:
    async with FleetClient(scripted_coordinator.address) as fleet:
        await fleet.submit_jobs(mines(MAX_BATCH + 1))
    assert [len(request.specs) for request in scripted_coordinator.requests] == [MAX_BATCH, 1]


async def test_no_jobs_are_no_call(scripted_coordinator: Any) -> None:
    async with FleetClient(scripted_coordinator.address) as fleet:
        assert await fleet.submit_jobs([]) == []
    assert scripted_coordinator.requests == []


async def test_a_listing_is_paged_and_filtered(scripted_coordinator: Any, waiting_job: job_pb2.Job) -> None:
    for number in range(5):
        waiting_job.job_id = f"pow_{number}"
        scripted_coordinator.put(waiting_job)
    async with FleetClient(scripted_coordinator.address) as fleet:
        first = await fleet.list_jobs(states=["waiting"], player_id="1-11", page_size=3)
        second = await fleet.list_jobs(page_size=3, page_token=first.next_page_token)
    assert [job.job_id for job in first.jobs] == ["pow_4", "pow_3", "pow_2"]
    assert [job.job_id for job in second.jobs] == ["pow_1", "pow_0"]
    assert second.next_page_token == ""
    assert list(scripted_coordinator.requests[0].states) == [job_pb2.JOB_STATE_WAITING]


@pytest.mark.parametrize("wrong", [{"page_size": 0}, {"page_size": 501}, {"states": ["done"]}, {"page_token": "a b"}])
async def test_a_wrong_listing_is_refused(scripted_coordinator: Any, wrong: dict[str, Any]) -> None:
    async with FleetClient(scripted_coordinator.address) as fleet:
        with pytest.raises(InvalidInput):
            await fleet.list_jobs(**wrong)
    assert scripted_coordinator.requests == []


async def test_a_priority_is_changed(scripted_coordinator: Any, waiting_job: job_pb2.Job) -> None:
    scripted_coordinator.put(waiting_job)
    async with FleetClient(scripted_coordinator.address) as fleet:
        job = await fleet.set_job_priority("pow_0001", "critical")
    assert priority_name(job.spec.priority) == "critical"


async def test_a_watch_yields_each_change_and_ends_after_the_final_state(
    scripted_coordinator: Any, waiting_job: job_pb2.Job, running_job: job_pb2.Job, completed_job: job_pb2.Job
) -> None:
    following = iter([running_job, completed_job])
    scripted_coordinator.put(waiting_job)
    seen = []
    async with FleetClient(scripted_coordinator.address) as fleet:
        async for job in fleet.watch_job("pow_0001"):
            seen.append(state_name(job.state))
            if (change := next(following, None)) is not None:
                scripted_coordinator.put(change)
    assert seen == ["waiting", "running", "completed"]


async def test_a_watch_of_a_finished_job_yields_it_once(scripted_coordinator: Any, completed_job: job_pb2.Job) -> None:
    scripted_coordinator.put(completed_job)
    async with FleetClient(scripted_coordinator.address) as fleet:
        assert [job async for job in fleet.watch_job("pow_0001")] == [completed_job]


async def test_a_watch_survives_a_broken_stream_without_repeating_itself(
    scripted_coordinator: Any, waiting_job: job_pb2.Job, completed_job: job_pb2.Job
) -> None:

    scripted_coordinator.put(waiting_job)
    seen = []

    async with FleetClient(scripted_coordinator.address) as fleet:

        async def watch() -> None:
            seen.extend([state_name(job.state) async for job in fleet.watch_job("pow_0001")])

        watching = asyncio.create_task(watch())
        await asyncio.to_thread(scripted_coordinator.wait_for_stream, 1)
        scripted_coordinator.break_streams()
        await asyncio.to_thread(scripted_coordinator.wait_for_stream, 2)
        scripted_coordinator.put(completed_job)
        await watching
    assert seen == ["waiting", "completed"]


async def test_a_watch_survives_a_restart_of_the_coordinator(
    scripted_coordinator: Any, waiting_job: job_pb2.Job, completed_job: job_pb2.Job
) -> None:
    scripted_coordinator.put(waiting_job)
    seen = []
    async with FleetClient(scripted_coordinator.address) as fleet:
        async for job in fleet.watch_job("pow_0001", patience=30):
            seen.append(state_name(job.state))
            if len(seen) == 1:
                scripted_coordinator.stop()
                scripted_coordinator.put(completed_job)
                scripted_coordinator.start()
    assert seen == ["waiting", "completed"]


async def test_a_watch_gives_up_when_its_patience_is_over(scripted_coordinator: Any, waiting_job: job_pb2.Job) -> None:
    scripted_coordinator.put(waiting_job)
    async with FleetClient(scripted_coordinator.address) as fleet:
        with pytest.raises(CoordinatorUnavailable):
            async for _ in fleet.watch_job("pow_0001", patience=0.2):
                scripted_coordinator.stop()


async def test_a_watch_of_an_unknown_job_is_job_not_found(scripted_coordinator: Any) -> None:
    async with FleetClient(scripted_coordinator.address) as fleet:
        with pytest.raises(JobNotFound, match="there is no job pow_9"):
            _ = [job async for job in fleet.watch_job("pow_9")]


@pytest.mark.parametrize("job_id", ["", "a b", "\ud800", "x" * 600])
async def test_a_job_id_that_cannot_be_right_is_refused(scripted_coordinator: Any, job_id: str) -> None:
    async with FleetClient(scripted_coordinator.address) as fleet:
        with pytest.raises(InvalidInput, match="job_id"):
            await fleet.get_job(job_id)


def test_a_number_of_a_newer_coordinator_is_an_error_not_a_crash() -> None:
    with pytest.raises(CoordinatorError, match="job state 99, which is not known here; update hashfleet"):
        state_name(99)


def test_the_action_of_a_spec_is_told() -> None:
    assert action_of(job_pb2.JobSpec(action=job_pb2.ACTION_REFINE)) is Action.REFINE
    with pytest.raises(CoordinatorError):
        action_of(job_pb2.JobSpec())
