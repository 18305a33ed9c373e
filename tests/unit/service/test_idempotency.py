"""What an idempotency key promises: one job for one request, however often, at once, or after what it is asked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coordinator.core.job import JobState
from coordinator.service import Service
from coordinator.store.sql import open_store
from hashfleet.action import Action
from hashfleet.errors import HashfleetError, InvalidInput
from hashfleet.job_request import JobRequest, Priority, StartMode

from .conftest import KEY, Coordinator, OneNodeChain


def request(object_id: str = "5-1", key: str | None = "k", **more: object) -> JobRequest:
    return JobRequest(Action.BUILD, object_id, "1-11", idempotency_key=key, **more)  # type: ignore[arg-type]


async def test_the_same_request_with_its_key_is_the_same_job(coordinator: Coordinator) -> None:
    first, made = await coordinator.service.submit(request())
    again, made_again = await coordinator.service.submit(request())
    assert (made, made_again) == (True, False)
    assert again.job.job_id == first.job.job_id


async def test_a_key_finds_its_job_after_the_job_ended(coordinator: Coordinator) -> None:
    first, _ = await coordinator.service.submit(request())
    await coordinator.service.cancel(first.job.job_id)
    again, made = await coordinator.service.submit(request())
    assert (again.job.job_id, again.job.state, made) == (first.job.job_id, JobState.CANCELLED, False)


async def test_without_a_key_a_finished_job_is_no_answer(coordinator: Coordinator) -> None:
    first, _ = await coordinator.service.submit(request(key=None))
    await coordinator.service.cancel(first.job.job_id)
    again, made = await coordinator.service.submit(request(key=None))
    assert made
    assert again.job.job_id != first.job.job_id


async def test_a_key_finds_its_job_after_a_restart(tmp_path: Path) -> None:
    ids = set()
    for _ in range(2):
        store = await open_store(tmp_path / "jobs.db")
        service = Service(OneNodeChain(), store, KEY)
        running = asyncio.create_task(service.run())
        view, _ = await service.submit(request())
        ids.add(view.job.job_id)
        if not view.job.state.final:
            await service.cancel(view.job.job_id)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()
    assert len(ids) == 1


async def test_another_request_with_the_key_is_refused_by_what_differs(coordinator: Coordinator) -> None:
    first, _ = await coordinator.service.submit(request())
    with pytest.raises(InvalidInput) as caught:
        await coordinator.service.submit(request("5-2", start_mode=StartMode.RACE, max_hashes=9))
    assert str(caught.value) == (
        f"idempotency_key 'k' was used for job {first.job.job_id} with entity_id 5-1 (now 5-2), "
        "max_iterations left out (now 9), start_mode balanced (now race); "
        "repeat that request as it was, or take a new key for another one"
    )


async def test_a_refused_request_makes_no_job(coordinator: Coordinator) -> None:
    await coordinator.service.submit(request())
    with pytest.raises(InvalidInput):
        await coordinator.service.submit(request("5-2"))
    _, made = await coordinator.service.submit(request("5-2", "another"))
    assert made


async def test_a_priority_changed_since_does_not_make_it_another_request(coordinator: Coordinator) -> None:
    first, _ = await coordinator.service.submit(request())
    await coordinator.service.set_priority(first.job.job_id, Priority.BULK)
    again, _ = await coordinator.service.submit(request())
    assert again.job.job_id == first.job.job_id


async def test_a_job_joined_while_under_way_is_found_by_the_joiners_key_too(coordinator: Coordinator) -> None:
    first, _ = await coordinator.service.submit(request(key="first"))
    joined, made = await coordinator.service.submit(request(key="second"))
    await coordinator.service.cancel(first.job.job_id)
    again, _ = await coordinator.service.submit(request(key="second"))
    assert not made
    assert {joined.job.job_id, again.job.job_id} == {first.job.job_id}


async def test_a_joiner_is_held_to_what_he_asked_himself(coordinator: Coordinator) -> None:
    await coordinator.service.submit(request(key="first"))
    await coordinator.service.submit(request(key="second", priority=Priority.BULK))
    with pytest.raises(InvalidInput, match=r"priority bulk \(now interactive\)"):
        await coordinator.service.submit(request(key="second"))


async def test_one_key_asked_many_times_at_once_is_one_job(coordinator: Coordinator) -> None:
    answers = await asyncio.gather(*(coordinator.service.submit(request()) for _ in range(20)))
    assert len({view.job.job_id for view, _ in answers}) == 1
    assert sum(made for _, made in answers) == 1


async def test_of_two_requests_with_one_key_at_once_one_is_refused(coordinator: Coordinator) -> None:
    answers = await asyncio.gather(
        *(coordinator.service.submit(request(name)) for name in ("5-1", "5-2")), return_exceptions=True
    )
    assert sorted(isinstance(answer, InvalidInput) for answer in answers) == [False, True]


async def test_a_caller_that_goes_away_leaves_its_key_with_its_job(coordinator: Coordinator) -> None:
    coordinator.disk.full = True
    asking = asyncio.create_task(coordinator.service.submit(request()))
    await coordinator.disk.refused.wait()
    asking.cancel()
    again = asyncio.create_task(coordinator.service.submit(request()))
    await asyncio.gather(asking, return_exceptions=True)
    coordinator.disk.full = False
    _, made = await asyncio.wait_for(again, 10)
    assert not made


async def test_a_key_is_stored_in_the_transaction_that_stores_its_job(coordinator: Coordinator) -> None:
    view, _ = await coordinator.service.submit(request())
    keyed = await coordinator.disk.keyed_requests(["k"])  # type: ignore[operator]
    assert keyed["k"].job_id == view.job.job_id
    assert coordinator.disk.keyed_with[view.job.job_id] == ["k"]


async def test_a_batch_gives_each_request_its_own_answer(coordinator: Coordinator) -> None:
    await coordinator.service.submit(request("5-3", "used"))
    answers = await coordinator.service.submit_all(
        [request("5-1", None), request("5-2", "new"), request("5-4", "used"), request("5-1", None)]
    )
    assert [isinstance(answer, HashfleetError) or answer[1] for answer in answers] == [True, True, True, False]
    assert isinstance(answers[2], InvalidInput)


async def test_a_key_given_twice_in_a_batch_is_one_job(coordinator: Coordinator) -> None:
    first, second = await coordinator.service.submit_all([request(), request()])
    assert not isinstance(first, HashfleetError)
    assert not isinstance(second, HashfleetError)
    assert (first[0].job.job_id, first[1]) == (second[0].job.job_id, True)
    assert second[1] is False


async def test_a_key_given_to_two_requests_of_a_batch_is_the_firsts(coordinator: Coordinator) -> None:
    first, second = await coordinator.service.submit_all([request("5-1"), request("5-2")])
    assert not isinstance(first, HashfleetError)
    assert isinstance(second, InvalidInput)


async def test_batches_that_hold_each_others_keys_do_not_wait_for_ever(coordinator: Coordinator) -> None:
    a, b = request("5-1", "a"), request("5-2", "b")
    async with asyncio.timeout(10):
        answers = await asyncio.gather(
            *(coordinator.service.submit_all(pair) for pair in ([a, b], [b, a], [a, b], [b, a]))
        )
    ids = {answer[0].job.job_id for batch in answers for answer in batch if not isinstance(answer, HashfleetError)}
    assert len(ids) == 2


async def test_a_batch_is_stored_in_one_transaction(coordinator: Coordinator) -> None:
    coordinator.disk.batches.clear()
    await coordinator.service.submit_all([request(f"5-{number}", None) for number in range(1, 101)])
    assert max(coordinator.disk.batches) >= 100
