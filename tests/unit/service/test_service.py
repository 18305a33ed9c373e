"""The shell around the core: what is stored when, and what reaches whom."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from coordinator.api.messages import job_message
from coordinator.core.job import JobState, TransactionState
from coordinator.store.protocol import JobFilter
from hashfleet.action import Action
from hashfleet.errors import JobFinal, JobNotFound
from hashfleet.job_request import JobRequest, Mode, Priority
from hashfleet.message import NonceSpace
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb

from .conftest import START, Coordinator


def request(object_id: str = "5-1", **more: object) -> JobRequest:
    return JobRequest(Action.BUILD, object_id, "1-11", **more)  # type: ignore[arg-type]


def solve(lease: pb.Lease) -> str:
    space = NonceSpace(lease.prefix, lease.extranonce, lease.counter_digits, lease.filler_digits)
    for counter in range(lease.start, lease.start + lease.count):
        if hashlib.sha256(space.message(counter)).hexdigest().startswith("0" * lease.zeros):
            return space.nonce(counter)
    raise AssertionError("no hit in this lease")


async def until(coordinator: Coordinator, job_id: str, state: JobState) -> None:
    async with asyncio.timeout(10):
        async for view in coordinator.service.watch(job_id):
            if view.job.state is state:
                return
    raise AssertionError(f"the job ended before it was {state.value}")


async def test_a_hit_becomes_an_included_transaction(coordinator: Coordinator) -> None:
    view, created = await coordinator.service.submit(request())
    assert created
    async with coordinator.worker() as worker:
        lease = (await worker.hear("lease")).lease
        await worker.say(hit=pb.Hit(lease_id=lease.lease_id, job_id=lease.job_id, nonce=solve(lease)))
        assert (await worker.hear("verdict")).verdict.rejected == pb.REJECT_REASON_UNSPECIFIED
    await until(coordinator, view.job.job_id, JobState.SUBMITTING)
    async with asyncio.timeout(10):
        while not coordinator.chain.mempool:  # noqa: ASYNC110 - the fake chain has no event
            await asyncio.sleep(0.01)
    coordinator.chain.make_block()
    await until(coordinator, view.job.job_id, JobState.COMPLETED)
    job = (await coordinator.service.job(view.job.job_id)).job
    assert job.transaction is not None
    assert (job.transaction.state, job.transaction.height) == (TransactionState.INCLUDED, 1191)
    assert coordinator.chain.sent == [job.transaction.hash]


async def test_a_proof_that_is_to_be_returned_is_told_and_never_sent(coordinator: Coordinator) -> None:
    view, _ = await coordinator.service.submit(request(mode=Mode.RETURN_PROOF))
    async with coordinator.worker() as worker:
        lease = (await worker.hear("lease")).lease
        nonce = solve(lease)
        await worker.say(hit=pb.Hit(lease_id=lease.lease_id, job_id=lease.job_id, nonce=nonce))
        await until(coordinator, view.job.job_id, JobState.COMPLETED)
    done = job_message(await coordinator.service.job(view.job.job_id))
    assert done.proof.nonce == nonce
    assert done.proof.valid_from_height <= START
    assert not done.HasField("transaction")
    assert coordinator.chain.sent == []


async def test_a_submission_is_answered_only_when_it_is_stored(coordinator: Coordinator) -> None:
    coordinator.disk.full = True
    asking = asyncio.create_task(coordinator.service.submit(request()))
    await coordinator.disk.refused.wait()
    assert not asking.done()
    coordinator.disk.full = False
    view, _ = await asyncio.wait_for(asking, 10)
    assert coordinator.disk.saved[view.job.job_id][0] is JobState.QUEUED


async def test_nothing_is_leased_or_sent_while_the_store_refuses(coordinator: Coordinator) -> None:
    view, _ = await coordinator.service.submit(request())
    async with coordinator.worker() as worker:
        lease = (await worker.hear("lease")).lease
        coordinator.disk.full = True
        await worker.say(hit=pb.Hit(lease_id=lease.lease_id, job_id=lease.job_id, nonce=solve(lease)))
        await coordinator.disk.refused.wait()
        assert coordinator.chain.sent == []
        coordinator.disk.full = False
        await worker.hear("verdict")
    await until(coordinator, view.job.job_id, JobState.SUBMITTING)


async def test_every_state_a_job_went_through_was_stored(coordinator: Coordinator) -> None:
    view, _ = await coordinator.service.submit(request())
    async with coordinator.worker() as worker:
        await worker.hear("lease")
    assert coordinator.disk.saved[view.job.job_id] == [JobState.QUEUED, JobState.RUNNING]


async def test_a_submission_does_not_wait_for_the_chain(coordinator: Coordinator) -> None:
    coordinator.chain.reachable = False
    view, created = await asyncio.wait_for(coordinator.service.submit(request()), 5)
    assert created and view.job.state is JobState.QUEUED


async def test_the_same_work_asked_at_the_same_time_is_one_job(coordinator: Coordinator) -> None:
    answers = await asyncio.gather(*(coordinator.service.submit(request()) for _ in range(20)))
    assert len({view.job.job_id for view, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1


async def test_a_watcher_sees_the_job_now_and_its_end(coordinator: Coordinator) -> None:
    view, _ = await coordinator.service.submit(request("5-999"))
    states = [seen.job.state async for seen in coordinator.service.watch(view.job.job_id)]
    assert states[-1] is JobState.FAILED


async def test_a_finished_job_is_still_told(coordinator: Coordinator) -> None:
    view, _ = await coordinator.service.submit(request())
    await coordinator.service.cancel(view.job.job_id)
    assert (await coordinator.service.job(view.job.job_id)).job.state is JobState.CANCELLED
    listed = await coordinator.service.jobs(JobFilter(), 10, None)
    assert [seen.job.job_id for seen in listed] == [view.job.job_id]


async def test_cancelling_twice_is_no_error(coordinator: Coordinator) -> None:
    view, _ = await coordinator.service.submit(request())
    await coordinator.service.cancel(view.job.job_id)
    assert (await coordinator.service.cancel(view.job.job_id)).job.state is JobState.CANCELLED


async def test_a_failed_job_cannot_be_cancelled(coordinator: Coordinator) -> None:
    view, _ = await coordinator.service.submit(request("5-999"))
    await until(coordinator, view.job.job_id, JobState.FAILED)
    with pytest.raises(JobFinal, match="failed"):
        await coordinator.service.cancel(view.job.job_id)


async def test_an_unknown_job_is_told_to_be_unknown(coordinator: Coordinator) -> None:
    with pytest.raises(JobNotFound):
        await coordinator.service.job("pow_9")
    with pytest.raises(JobNotFound):
        await coordinator.service.set_priority("pow_9", Priority.BULK)


async def test_a_changed_priority_is_stored(coordinator: Coordinator) -> None:
    view, _ = await coordinator.service.submit(request())
    await coordinator.service.set_priority(view.job.job_id, Priority.CRITICAL)
    stored = await coordinator.disk._store.job(view.job.job_id)
    assert stored is not None and stored.request.priority is Priority.CRITICAL


async def test_a_chain_that_comes_back_is_asked_again(coordinator: Coordinator) -> None:
    coordinator.chain.reachable = False
    view, _ = await coordinator.service.submit(request())
    async with asyncio.timeout(10):
        async for seen in coordinator.service.watch(view.job.job_id):
            if seen.job.error:
                coordinator.chain.reachable = True
            if seen.job.state is JobState.RUNNING:
                break


async def test_the_fleet_shows_its_workers_and_what_they_work_on(coordinator: Coordinator) -> None:
    view, _ = await coordinator.service.submit(request())
    async with coordinator.worker() as worker:
        await worker.hear("lease")
        fleet = await coordinator.service.fleet()
        (shown,) = fleet.workers
        assert shown.worker_id == "w_1"
        assert set(fleet.lease_jobs.values()) == {view.job.job_id}
        assert fleet.jobs == {JobState.RUNNING: 1}
