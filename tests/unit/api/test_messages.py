"""What the coordinator knows of a job, as callers are told it on the wire."""

from __future__ import annotations

import pytest

from coordinator.api.messages import job_message
from coordinator.core.job import FoundProof, Job, JobState
from coordinator.core.schedule import Eta
from coordinator.core.view import JobView, Progress
from hashfleet.action import Action, Work
from hashfleet.difficulty import safe
from hashfleet.job_request import JobRequest, Mode
from hashfleet.job_spec import request_of
from hashfleet.proof import Proof
from hashfleet.rpc.hashfleet.v1 import job_pb2

WORK = Work(Action.BUILD, "5-1", anchor=1000, range=700)


def found(zeros: int) -> FoundProof:
    return FoundProof(Proof("0012", "0" * zeros + "f" * (64 - zeros)), worker_id="w_1", hashes=99, seconds=1.5)


def job(state: JobState = JobState.RUNNING, **more: object) -> Job:
    request = JobRequest(Action.BUILD, "5-1", "1-7", mode=Mode.RETURN_PROOF, weight=3, idempotency_key="k")
    return Job("pow_1", request, state, created_at=5.0, updated_at=6.0, work=WORK, **more)  # type: ignore[arg-type]


def test_a_job_is_told_with_the_request_it_was_made_for() -> None:
    assert request_of(job_message(JobView(job())).spec) == job().request


def test_an_eta_is_told_whole() -> None:
    message = job_message(JobView(job(), eta=Eta(9.0, 7.5, 1101, 20.5, 1104)))
    assert message.eta == job_pb2.Eta(seconds=9.0, seconds_50=7.5, block_50=1101, seconds_90=20.5, block_90=1104)


def test_without_a_rate_there_is_no_eta() -> None:
    assert not job_message(JobView(job())).HasField("eta")


def test_the_fraction_of_the_search_is_told() -> None:
    progress = Progress(5, 1.0, None, None, 1, fraction=0.375)
    assert job_message(JobView(job(), progress=progress)).progress.fraction == 0.375


@pytest.mark.parametrize("zeros", [1, 3, 8])
def test_a_best_hash_is_told_with_the_first_height_at_which_it_can_be_sent(zeros: int) -> None:
    best = job_message(JobView(job(best=found(zeros)))).best
    lands_first = best.valid_from_height + 1
    assert (best.nonce, best.zeros, best.hashes, best.seconds, best.worker_id) == ("0012", zeros, 99, 1.5, "w_1")
    assert safe(lands_first - WORK.anchor, WORK.range) <= zeros < safe(lands_first - 1 - WORK.anchor, WORK.range)


def test_a_proof_is_told_with_the_first_height_at_which_it_can_be_sent() -> None:
    best = job_message(JobView(job(best=found(4)))).best
    assert job_message(JobView(job(JobState.COMPLETED, found=found(4)))).proof == best


def test_a_job_without_a_best_hash_has_none() -> None:
    assert not job_message(JobView(job())).HasField("best")
