"""The gRPC door: bounds, statuses, pages, and the streams of workers."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest

from hashfleet.rpc.hashfleet.v1 import fleet_service_pb2, fleet_service_pb2_grpc, job_pb2, job_service_pb2
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb
from hashfleet.rpc.hashfleet.v1.job_service_pb2_grpc import JobServiceStub
from hashfleet.rpc.hashfleet.v1.worker_service_pb2_grpc import WorkerServiceStub

from .conftest import Coordinator


def spec(object_id: str = "5-1", **more: object) -> job_pb2.JobSpec:
    fields = {"action": job_pb2.ACTION_BUILD, "entity_id": object_id, "player_id": "1-11", **more}
    return job_pb2.JobSpec(**fields)  # type: ignore[arg-type]


async def refusal(call: object) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"action": 0}, "action"),
        ({"action": 99}, "action"),
        ({"entity_id": "9-1"}, "struct id"),
        ({"entity_id": "5-01"}, "struct id"),
        ({"player_id": "5-1"}, "player id"),
        ({"target_id": "2-1"}, "raid"),
        ({"anchor": 0}, "block_start"),
        ({"anchor": 2**40}, "block_start"),
        ({"range": 0}, "range"),
        ({"range": 1}, "range"),
        ({"priority": 9}, "priority"),
        ({"start_mode": 9}, "start_mode"),
        ({"mode": 9}, "mode"),
        ({"start_difficulty": 65}, "start_difficulty"),
        ({"deadline_height": 2**63}, "deadline_height"),
        ({"weight": 1001}, "weight"),
        ({"idempotency_key": "k" * 129}, "idempotency_key"),
    ],
)
async def test_a_bad_spec_is_refused_in_one_sentence(
    coordinator: Coordinator, wrong: dict[str, object], said: str
) -> None:
    jobs = JobServiceStub(coordinator.channel)
    asked = spec(**wrong) if "entity_id" not in wrong else spec(str(wrong["entity_id"]))
    error = await refusal(jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=asked)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said in (error.details() or "")
    assert "\n" not in (error.details() or "")


async def test_everything_that_was_asked_is_told_again(coordinator: Coordinator) -> None:
    asked = spec(
        max_hashes=9,
        priority=job_pb2.PRIORITY_BULK,
        max_nonce_digits=99,
        start_mode=job_pb2.START_MODE_RACE,
        mode=job_pb2.MODE_RETURN_PROOF,
        start_difficulty=4,
        deadline_height=5000,
        weight=7,
        idempotency_key="k",
    )
    jobs = JobServiceStub(coordinator.channel)
    answer = await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=asked))
    assert answer.job.spec == asked


async def test_a_key_used_for_another_request_is_an_invalid_argument(coordinator: Coordinator) -> None:
    jobs = JobServiceStub(coordinator.channel)
    await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec("5-1", idempotency_key="k")))
    error = await refusal(jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec("5-2", idempotency_key="k"))))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "entity_id 5-1 (now 5-2)" in (error.details() or "")


async def test_each_spec_of_a_call_gets_its_own_job_or_error(coordinator: Coordinator) -> None:
    jobs = JobServiceStub(coordinator.channel)
    specs = [spec("5-1"), spec("9-1"), spec("5-2"), spec("5-1"), spec("5-3", weight=1001)]
    results = (await jobs.SubmitJobs(job_service_pb2.SubmitJobsRequest(specs=specs))).results
    assert [result.WhichOneof("outcome") for result in results] == [
        "accepted",
        "error",
        "accepted",
        "accepted",
        "error",
    ]
    assert [results[n].accepted.job.spec.entity_id for n in (0, 2, 3)] == ["5-1", "5-2", "5-1"]
    assert [results[n].accepted.created for n in (0, 2, 3)] == [True, True, False]
    assert [results[n].error.code for n in (1, 4)] == [grpc.StatusCode.INVALID_ARGUMENT.value[0]] * 2
    assert "struct id" in results[1].error.message


@pytest.mark.parametrize("count", [0, 501])
async def test_a_call_with_no_spec_or_too_many_is_refused(coordinator: Coordinator, count: int) -> None:
    jobs = JobServiceStub(coordinator.channel)
    specs = [spec(f"5-{number}") for number in range(count)]
    error = await refusal(jobs.SubmitJobs(job_service_pb2.SubmitJobsRequest(specs=specs)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == f"{count} specs are given; one call takes 1 to 500"


async def test_the_largest_specs_fit_into_one_call(coordinator: Coordinator) -> None:
    jobs = JobServiceStub(coordinator.channel)
    big = 2**63
    specs = [
        spec(f"5-{big + number}", player_id=f"1-{big}", idempotency_key=f"{number:0128}", deadline_height=2**31 - 1)
        for number in range(500)
    ]
    results = (await jobs.SubmitJobs(job_service_pb2.SubmitJobsRequest(specs=specs))).results
    assert all(result.accepted.created for result in results)


async def test_an_unknown_job_is_not_found(coordinator: Coordinator) -> None:
    jobs = JobServiceStub(coordinator.channel)
    for call in (
        jobs.GetJob(job_service_pb2.GetJobRequest(job_id="pow_9")),
        jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id="pow_9")),
        jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id="pow_9")).read(),
    ):
        assert (await refusal(call)).code() is grpc.StatusCode.NOT_FOUND


async def test_a_finished_job_cannot_be_reprioritised(coordinator: Coordinator) -> None:
    jobs = JobServiceStub(coordinator.channel)
    job_id = (await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec()))).job.job_id
    await jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))
    request = job_service_pb2.SetJobPriorityRequest(job_id=job_id, priority=job_pb2.PRIORITY_BULK)
    assert (await refusal(jobs.SetJobPriority(request))).code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_pages_list_every_job_once_newest_first(coordinator: Coordinator) -> None:
    jobs = JobServiceStub(coordinator.channel)
    made = []
    for n in range(1, 6):
        answer = await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec(f"5-{n}")))
        made.append(answer.job.job_id)
    seen: list[str] = []
    token = ""
    while True:
        page = await jobs.ListJobs(job_service_pb2.ListJobsRequest(page_size=2, page_token=token))
        seen += [job.job_id for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]


@pytest.mark.parametrize("token", ["x", "AAAA", "\x7f" * 9, "AAAAAAAAAAD_"])
async def test_a_made_up_page_token_is_refused(coordinator: Coordinator, token: str) -> None:
    jobs = JobServiceStub(coordinator.channel)
    error = await refusal(jobs.ListJobs(job_service_pb2.ListJobsRequest(page_token=token)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_page_too_large_is_refused(coordinator: Coordinator) -> None:
    jobs = JobServiceStub(coordinator.channel)
    error = await refusal(jobs.ListJobs(job_service_pb2.ListJobsRequest(page_size=501)))
    assert "500" in (error.details() or "")


def device(device_id: str = "cpu", rate: float = 1e6, engine: int = pb.ENGINE_KIND_CPU) -> pb.Device:
    return pb.Device(device_id=device_id, engine=engine, nominal_rate=rate)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "hello",
    [
        pb.Hello(worker_id="", devices=[device()]),
        pb.Hello(worker_id="x" * 300, devices=[device()]),
        pb.Hello(worker_id="w_1"),
        pb.Hello(worker_id="w_1", devices=[device(), device()]),
        pb.Hello(worker_id="w_1", devices=[device(rate=0.0)]),
        pb.Hello(worker_id="w_1", devices=[device(rate=float("nan"))]),
        pb.Hello(worker_id="w_1", devices=[device(rate=float("inf"))]),
        pb.Hello(worker_id="w_1", devices=[device(engine=0)]),
        pb.Hello(worker_id="w_1", devices=[device("")]),
    ],
)
async def test_a_bad_hello_is_refused(coordinator: Coordinator, hello: pb.Hello) -> None:
    stream = WorkerServiceStub(coordinator.channel).Connect()
    await stream.write(pb.ConnectRequest(hello=hello))
    assert (await refusal(stream.read())).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await coordinator.service.fleet()).workers == ()


async def test_whoever_does_not_say_hello_first_is_refused(coordinator: Coordinator) -> None:
    stream = WorkerServiceStub(coordinator.channel).Connect()
    await stream.write(pb.ConnectRequest(heartbeat=pb.Heartbeat()))
    assert (await refusal(stream.read())).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_worker_that_hangs_up_is_gone_and_its_lease_goes_to_the_next(coordinator: Coordinator) -> None:
    await JobServiceStub(coordinator.channel).SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec()))
    async with coordinator.worker("w_1") as worker:
        first = (await worker.hear("lease")).lease
        progress = pb.LeaseProgress(lease_id=first.lease_id, done=1000, hash_rate=1e6)
        await worker.say(progress=progress)
    async with coordinator.worker("w_2") as worker:
        leases = [(await worker.hear("lease")).lease for _ in range(2)]
    again = [lease for lease in leases if lease.extranonce == first.extranonce]
    assert [(lease.start, lease.generation) for lease in again] == [(1000, 1)]


async def test_the_same_worker_on_a_new_stream_replaces_its_old_one(coordinator: Coordinator) -> None:
    async with coordinator.worker("w_1") as old, coordinator.worker("w_1"):
        (goodbye,) = await old.ended()
        assert "again" in goodbye.drain.reason
        assert len((await coordinator.service.fleet()).workers) == 1


@pytest.mark.parametrize(
    "message",
    [
        {"hello": pb.Hello(worker_id="w_1", devices=[device()])},
        {"progress": pb.LeaseProgress(lease_id="l", hash_rate=float("nan"))},
        {"progress": pb.LeaseProgress(lease_id="l", hash_rate=-1.0)},
        {"lease_ended": pb.LeaseEnded(lease_id="l")},
        {},
    ],
)
async def test_a_worker_that_talks_nonsense_is_sent_away_with_the_reason(
    coordinator: Coordinator, message: dict[str, object]
) -> None:
    async with coordinator.worker() as worker:
        await worker.say(**message)
        assert (await worker.ended())[-1].drain.reason


async def test_many_small_leases_come_in_one_bundle(coordinator: Coordinator) -> None:
    jobs = JobServiceStub(coordinator.channel)
    for n in range(1, 6):
        await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec(f"5-{n}")))
    async with coordinator.worker(rate=1e8) as worker:
        message = await worker.stream.read()
        leases = [one.lease for one in message.bundle.messages]
        assert len({lease.job_id for lease in leases}) == 5
        assert all(lease.ends_with_hit for lease in leases)


async def test_what_comes_in_one_bundle_is_taken_in_order(coordinator: Coordinator) -> None:
    await JobServiceStub(coordinator.channel).SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec()))
    async with coordinator.worker() as worker:
        lease = (await worker.hear("lease")).lease
        progress = [pb.LeaseProgress(lease_id=lease.lease_id, done=done, hash_rate=1e3) for done in (10, 20, 30)]
        await worker.say(bundle=pb.WorkerBundle(messages=[pb.ConnectRequest(progress=one) for one in progress]))
        await worker.say(hit=pb.Hit(lease_id=lease.lease_id, job_id=lease.job_id, nonce="1"))
        await worker.hear("verdict")
    assert (await coordinator.service.job(lease.job_id)).job.hashes == 30


async def test_a_bundle_too_large_and_a_bundle_in_a_bundle_are_refused(coordinator: Coordinator) -> None:
    beat = pb.ConnectRequest(heartbeat=pb.Heartbeat())
    nested = pb.ConnectRequest(bundle=pb.WorkerBundle(messages=[beat]))
    for messages in ([beat] * 257, [nested]):
        async with coordinator.worker() as worker:
            await worker.say(bundle=pb.WorkerBundle(messages=messages))
            assert (await worker.ended())[-1].drain.reason


async def test_a_worker_reports_on_its_leases_only(coordinator: Coordinator) -> None:
    await JobServiceStub(coordinator.channel).SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec()))
    async with coordinator.worker("w_1") as worker, coordinator.worker("w_2") as other:
        lease = (await worker.hear("lease")).lease
        await other.say(progress=pb.LeaseProgress(lease_id=lease.lease_id, done=5000, hash_rate=1e6))
        await other.say(hit=pb.Hit(lease_id="l_0", job_id="pow_0", nonce="1"))
        assert (await other.hear("verdict")).verdict.rejected == pb.REJECT_REASON_UNKNOWN_JOB
        view = await coordinator.service.job(lease.job_id)
        assert view.job.hashes == 0


async def test_watching_ends_when_the_watcher_leaves(coordinator: Coordinator) -> None:
    jobs = JobServiceStub(coordinator.channel)
    job_id = (await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec()))).job.job_id
    stream = jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id))
    assert (await stream.read()).job.job_id == job_id
    stream.cancel()
    async with asyncio.timeout(10):
        while coordinator.service._watchers:  # noqa: ASYNC110 - a stream that is left has no event
            await asyncio.sleep(0.01)


async def test_the_fleet_status_counts_jobs_and_devices(coordinator: Coordinator) -> None:
    await JobServiceStub(coordinator.channel).SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec()))
    async with coordinator.worker(rate=2e6) as worker:
        await worker.hear("lease")
        stub = fleet_service_pb2_grpc.FleetServiceStub(coordinator.channel)
        status = await stub.GetFleetStatus(fleet_service_pb2.GetFleetStatusRequest())
    assert status.jobs.running == 1
    assert status.nominal_rate == 2e6
    assert status.chain.chain_id == "test-1"
