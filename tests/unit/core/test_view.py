"""What a caller is told of a job: why it waits and until when, how far it is, when it is expected."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import count

import pytest

from coordinator.core.job import FoundProof, Job, JobState
from coordinator.core.schedule import Pace, finish, start_height, valid_height, zeros_needed
from coordinator.core.state import Entry, Head, State
from coordinator.core.view import JobView, view_job
from hashfleet.action import Action, Work
from hashfleet.job_request import JobRequest, Priority, StartMode
from hashfleet.proof import Proof, verify

WORK = Work(Action.REFINE, "5-28", 1000, 14_000)
HEIGHT = 2000
RATE = 3e9
NOW = 1_700_000_000.0


def state_at(height: int, rate: float = RATE) -> State:
    state = State(salt=1, head=Head(height, NOW, NOW), block_seconds=5.0)
    state.fleet_rate = rate
    return state


def waiting(state: State, work: Work = WORK, error: str | None = None, best: int = 0, **asked: object) -> Job:
    """A job that waits as long as the rules say, entered into the state."""
    assert state.head is not None
    request = JobRequest(work.action, work.object_id, "1-11", **asked)  # type: ignore[arg-type]
    found = FoundProof(proof_with(best), "w_1", 10**6, 1.0) if best else None
    starts = start_height(request, work, state.head.height, state.pace, rivals=sum(state.runnable), best=best)
    job = Job("pow_1", request, JobState.WAITING, 1.0, 1.0, None, work, starts, best=found, error=error)
    state.entries[job.job_id] = Entry(job, checked=True)
    return job


def proof_with(zeros: int) -> Proof:
    """Any proof with exactly that many zeros; few enough to be hashed here."""
    for nonce in map(str, count()):
        if hashlib.sha256(WORK.prefix + nonce.encode()).hexdigest().startswith("0" * zeros):
            proof = verify(WORK.prefix, nonce)
            if proof.zeros == zeros:
                return proof
    raise AssertionError


def reason(view: JobView) -> str:
    assert view.waiting is not None
    return view.waiting.reason


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "waiting for the difficulty to fall costs less than the fleet's time"),
        ({"start_mode": StartMode.ECONOMY}, "economy waits until the expected search takes about one block"),
        ({"start_difficulty": 7}, "start_difficulty 7 was asked for"),
        ({"max_hashes": 10**9}, "1000000000 hashes, the budget, will probably not suffice"),
        (
            {"start_mode": StartMode.ECONOMY, "deadline_height": 4700},
            "early enough to meet the deadline, height 4700, with a chance of 90 %",
        ),
    ],
    ids=["balanced", "economy", "start difficulty", "budget", "deadline"],
)
def test_a_waiting_job_says_why_and_until_when(asked: dict[str, object], said: str) -> None:
    state = state_at(HEIGHT)
    job = waiting(state, **asked)
    assert job.start_height is not None
    view = view_job(state, job)
    blocks = job.start_height - HEIGHT
    assert view.waiting is not None
    assert view.waiting.blocks_remaining == blocks > 0
    assert view.waiting.seconds_remaining == blocks * 5.0
    assert view.waiting.target_difficulty == zeros_needed(WORK, job.start_height) < view.waiting.difficulty
    assert said in view.waiting.reason
    assert f"at height {job.start_height}, in {blocks} blocks" in view.waiting.reason
    assert f"at difficulty {view.waiting.target_difficulty}" in view.waiting.reason


def test_a_race_only_waits_for_age_10() -> None:
    state = state_at(WORK.anchor + 3)
    said = reason(view_job(state, waiting(state, start_mode=StartMode.RACE)))
    assert said.startswith(f"hashing starts at height {WORK.anchor + 10}, in 7 blocks (about 35 s)")
    assert said.endswith("nothing is hashed before age 10")


def test_a_job_says_how_many_others_could_use_the_fleet() -> None:
    state = state_at(HEIGHT)
    state.runnable[Priority.INTERACTIVE] = 12
    assert reason(view_job(state, waiting(state))).endswith("the fleet's time and 12 other jobs could use it")


def test_a_job_with_a_good_hash_in_hand_says_from_when_it_is_valid() -> None:
    valid = valid_height(WORK, 4)
    state = state_at(valid - 2, rate=1e4)
    view = view_job(state, waiting(state, best=4))
    assert reason(view).startswith(
        f"a hash with 4 zeros is in hand and valid at height {valid}, in 2 blocks (about 10 s)"
    )
    assert view.eta is not None
    assert view.eta.seconds == view.eta.seconds_90 == 10.0
    assert view.eta.block_90 == valid + 1


def test_a_job_that_another_holds_up_gives_that_reason_and_no_eta() -> None:
    state = state_at(HEIGHT)
    view = view_job(state, waiting(state, error="it shares the clock 2-9 with pow_2"))
    assert reason(view) == "it shares the clock 2-9 with pow_2"
    assert view.eta is None


def test_a_missed_reading_is_not_what_a_job_waits_for() -> None:
    state = state_at(HEIGHT)
    job = waiting(state, error="the node did not answer")
    state.entries[job.job_id].misses = 1
    view = view_job(state, job)
    assert "costs less than the fleet's time" in reason(view)
    assert view.job.error == "the node did not answer"
    assert view.eta is not None


def test_a_waiting_jobs_eta_counts_from_its_start() -> None:
    state = state_at(HEIGHT)
    job = waiting(state)
    view = view_job(state, job)
    assert view.eta == finish(WORK, HEIGHT, Pace(RATE, 5.0), starts=job.start_height)
    assert view.waiting is not None
    assert view.eta is not None
    assert view.eta.seconds_50 >= view.waiting.seconds_remaining


def test_without_workers_a_waiting_job_has_no_eta() -> None:
    state = state_at(HEIGHT, rate=0.0)
    assert view_job(state, waiting(state)).eta is None


def test_a_deadline_that_will_probably_be_missed_is_told() -> None:
    state = state_at(HEIGHT)
    view = view_job(state, running(state, deadline_height=HEIGHT + 20))
    assert view.job.notes == (
        f"the deadline, height {HEIGHT + 20}, will probably be missed: the chance to meet it is less than 1 %",
    )


def test_a_deadline_that_will_be_met_is_not_remarked() -> None:
    state = state_at(HEIGHT)
    assert view_job(state, waiting(state, start_mode=StartMode.ECONOMY, deadline_height=4700)).job.notes == ()


def running(state: State, hashes: int = 0, **asked: object) -> Job:
    job = replace(waiting(state, **asked), state=JobState.RUNNING, start_height=None, hashes=hashes)
    state.entries[job.job_id] = Entry(job, checked=True)
    state.ripe.add(job.job_id)
    return job


def test_a_running_job_nobody_reports_on_yet_is_expected_at_its_share_of_the_fleet() -> None:
    state = state_at(HEIGHT)
    state.ripe |= {"pow_2", "pow_3"}
    view = view_job(state, running(state))
    assert view.eta == finish(WORK, HEIGHT, Pace(RATE / 3, 5.0))
    assert view.progress is not None
    assert view.progress.eta_seconds == view.eta.seconds if view.eta else None


def test_progress_is_the_chance_that_this_many_hashes_suffice() -> None:
    state = state_at(WORK.anchor + WORK.range)
    view = view_job(state, running(state, hashes=16))
    assert view.progress is not None
    assert view.progress.fraction == pytest.approx(1 - 0.36788, abs=1e-5)


def test_a_found_proof_is_all_of_the_progress() -> None:
    state = state_at(HEIGHT)
    job = replace(running(state, hashes=16), state=JobState.SUBMITTING, found=FoundProof(proof_with(2), "w_1", 16, 1.0))
    view = view_job(state, job)
    assert view.progress is not None
    assert view.progress.fraction == 1.0
    assert view.eta is None
