"""A job that has its proof, at the service's door: cancelled, hurried or past its deadline, with a real lane behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc.aio
import pytest

from coordinator.core.job import Job, JobState
from coordinator.store.protocol import StoreError
from hashfleet.action import Action
from hashfleet.errors import JobFinal, WorkPaused
from hashfleet.job_request import JobRequest, Priority
from hashfleet.rpc.hashfleet.v1 import job_service_pb2, job_service_pb2_grpc
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb

from .conftest import START, WORKS, Coordinator
from .test_service import solve

RAID = "the planet is under raid"


async def reach(coordinator: Coordinator, job_id: str, state: JobState, *, error: str | None = None) -> Job:
    async with asyncio.timeout(10):
        async for view in coordinator.service.watch(job_id):
            if view.job.state is state and (error is None or error in (view.job.error or "")):
                return view.job
    raise AssertionError(f"the job ended before it was {state.value}")


@contextlib.asynccontextmanager
async def proof_that_waits(coordinator: Coordinator, **asked: object) -> AsyncIterator[str]:
    """A job whose proof is found while its object takes none; within, the chain says so at each reading."""
    view, _ = await coordinator.service.submit(JobRequest(Action.BUILD, "5-1", "1-7", **asked))  # type: ignore[arg-type]
    job_id, read_work = view.job.job_id, coordinator.chain.read_work

    async def paused(action: Action, object_id: str) -> object:
        raise WorkPaused(RAID)

    async with coordinator.worker() as worker:
        lease = (await worker.hear("lease")).lease
        coordinator.chain.read_work = paused  # type: ignore[assignment, method-assign]
        await worker.say(hit=pb.Hit(lease_id=lease.lease_id, job_id=job_id, nonce=solve(lease)))
        await reach(coordinator, job_id, JobState.SUBMITTING, error=RAID)
        yield job_id
    coordinator.chain.read_work = read_work  # type: ignore[method-assign]


async def sent(coordinator: Coordinator) -> None:
    """Wait until a transaction is in the mempool."""
    async with asyncio.timeout(10):
        while not coordinator.chain.mempool:  # noqa: ASYNC110 - the fake chain has no event
            await asyncio.sleep(0.01)


async def test_a_proof_that_waits_is_cancelled_and_never_sent(coordinator: Coordinator) -> None:
    async with proof_that_waits(coordinator) as job_id:
        view = await coordinator.service.cancel(job_id)
        assert (view.job.state, view.job.error) == (JobState.CANCELLED, None)
        stored = await coordinator.disk._store.job(job_id)
        assert stored is not None and stored.state is JobState.CANCELLED
        assert (await coordinator.service.cancel(job_id)).job.state is JobState.CANCELLED
    for _ in range(3):
        coordinator.chain.make_block(frozenset())
        await asyncio.sleep(0.05)
    assert coordinator.chain.sent == []


async def test_the_work_of_a_proof_that_was_cancelled_may_be_asked_for_anew(coordinator: Coordinator) -> None:
    async with proof_that_waits(coordinator) as job_id:
        await coordinator.service.cancel(job_id)
    view, created = await coordinator.service.submit(JobRequest(Action.BUILD, "5-1", "1-7"))
    assert created and view.job.job_id != job_id


async def test_many_who_cancel_at_once_are_all_answered(coordinator: Coordinator) -> None:
    async with proof_that_waits(coordinator) as job_id:
        views = await asyncio.gather(*(coordinator.service.cancel(job_id) for _ in range(10)))
        assert {view.job.state for view in views} == {JobState.CANCELLED}


async def test_a_job_whose_transaction_may_land_is_not_cancelled_and_that_is_true(coordinator: Coordinator) -> None:
    view, _ = await coordinator.service.submit(JobRequest(Action.BUILD, "5-1", "1-7"))
    job_id = view.job.job_id
    async with coordinator.worker() as worker:
        lease = (await worker.hear("lease")).lease
        await worker.say(hit=pb.Hit(lease_id=lease.lease_id, job_id=job_id, nonce=solve(lease)))
        await sent(coordinator)
    with pytest.raises(JobFinal, match="its transaction is on its way; it cannot be cancelled while that may land"):
        await coordinator.service.cancel(job_id)
    coordinator.chain.make_block()
    await reach(coordinator, job_id, JobState.COMPLETED)
    with pytest.raises(JobFinal, match="completed; a finished job"):
        await coordinator.service.cancel(job_id)


async def test_the_refusal_reaches_a_caller_of_the_api_as_its_state(coordinator: Coordinator) -> None:
    view, _ = await coordinator.service.submit(JobRequest(Action.BUILD, "5-1", "1-7"))
    async with coordinator.worker() as worker:
        lease = (await worker.hear("lease")).lease
        await worker.say(hit=pb.Hit(lease_id=lease.lease_id, job_id=lease.job_id, nonce=solve(lease)))
        await sent(coordinator)
    stub = job_service_pb2_grpc.JobServiceStub(coordinator.channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.CancelJob(job_service_pb2.CancelJobRequest(job_id=view.job.job_id))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_where_the_ledger_cannot_be_read_the_job_goes_on_and_the_caller_is_told(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(job_id: str) -> object:
        raise StoreError("the disk is gone")

    async with proof_that_waits(coordinator) as job_id:
        with monkeypatch.context() as patched:
            patched.setattr(coordinator.disk._store, "attempts_of", fail)
            with pytest.raises(StoreError, match="the disk is gone"):
                await coordinator.service.cancel(job_id)
        assert (await coordinator.service.job(job_id)).job.state is JobState.SUBMITTING
        assert (await coordinator.service.cancel(job_id)).job.state is JobState.CANCELLED


async def test_a_proof_that_waits_past_its_deadline_fails_its_job_and_is_never_sent(coordinator: Coordinator) -> None:
    async with proof_that_waits(coordinator, deadline_height=START) as job_id:
        coordinator.chain.make_block(frozenset())
        job = await reach(coordinator, job_id, JobState.FAILED)
        assert job.error == (
            f"its deadline, height {START}, is past: the chain is at height {START + 1}; its proof is found, but {RAID}"
        )
    coordinator.chain.make_block(frozenset())
    await asyncio.sleep(0.1)
    assert coordinator.chain.sent == []


async def test_a_new_priority_reaches_the_lane(coordinator: Coordinator) -> None:
    async with proof_that_waits(coordinator, priority=Priority.BULK) as job_id:
        await coordinator.service.set_priority(job_id, Priority.CRITICAL)
        (lane,) = coordinator.service._submitter._lanes.values()  # type: ignore[attr-defined]
        submission = lane.submission_of(job_id)
        assert submission.priority == int(Priority.CRITICAL)
        assert submission.work == WORKS["5-1"]
