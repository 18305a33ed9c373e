"""What every store promises, whatever it keeps its rows in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.core.job import FoundProof, Job, JobState, Transaction, TransactionState
from coordinator.store.protocol import JobFilter, KeyedRequest, LiveAttemptExists, Store, StoreError
from coordinator.submission.attempt import Attempt, AttemptState, RejectionCause
from hashfleet.action import MAX_HEIGHT, MAX_RANGE, Action, CharterTerms, Work
from hashfleet.charter import MAX_ENDPOINT_LENGTH, Consent, Founding
from hashfleet.difficulty import MAX_DIFFICULTY
from hashfleet.job_request import MAX_KEY_LENGTH, MAX_WEIGHT, JobRequest, Mode, Priority, StartMode
from hashfleet.proof import Proof

MakeJob = Callable[..., Job]
MakeAttempt = Callable[..., Attempt]
EVERYTHING = JobFilter()

# ---- arbitrary jobs ----------------------------------------------------------------------------------------------

times = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 10**60)
heights = st.integers(1, MAX_HEIGHT)
ranges = st.integers(2, MAX_RANGE)
# What databases cannot keep (NUL, lone surrogates) is tested apart.
sentences = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
proofs = st.builds(Proof, st.text("0123456789", min_size=1, max_size=200), hashes)
numbers = st.integers(0, 2**64 - 1)
keys = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=MAX_KEY_LENGTH)
found_proofs = st.builds(FoundProof, proofs, worker_id=sentences, hashes=counts, seconds=times)


chain_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}", fullmatch=True)
hex_digits = "0123456789abcdef"
consents = st.builds(
    Consent,
    st.just("structs19rl4cm2hmr8afy4kldpxz3fka4jguq0acpz60a"),
    st.text(hex_digits, min_size=64, max_size=64).map(lambda text: f"03{text}"),
    st.text(hex_digits, min_size=128, max_size=128),
)
foundings = st.builds(
    Founding,
    numbers.map(lambda number: f"3-{number}"),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=MAX_ENDPOINT_LENGTH),
    st.just("") | numbers.map(lambda number: f"4-{number}"),
    st.none() | consents,
)


@st.composite
def works(draw: st.DrawFn) -> Work:
    action = draw(st.sampled_from(Action))
    target = f"2-{draw(numbers)}" if action is Action.RAID else None
    charter = CharterTerms(draw(st.none() | chain_ids), f"1-{draw(numbers)}") if action is Action.CHARTER else None
    object_id = f"{action.object_type}-{draw(numbers)}"
    return Work(action, object_id, draw(heights), draw(ranges), target_id=target, charter=charter)


@st.composite
def requests(draw: st.DrawFn) -> JobRequest:
    action = draw(st.sampled_from(Action))
    return JobRequest(
        action,
        f"{action.object_type}-{draw(numbers)}",
        f"1-{draw(numbers)}",
        target_id=f"2-{draw(numbers)}" if action is Action.RAID and draw(st.booleans()) else None,
        anchor_hint=draw(st.none() | heights),
        range_hint=draw(st.none() | ranges),
        max_hashes=draw(st.none() | st.integers(1, 2**63 - 1)),
        priority=draw(st.sampled_from(Priority)),
        mode=draw(st.sampled_from(Mode)),
        start_mode=draw(st.sampled_from(StartMode)),
        start_difficulty=draw(st.none() | st.integers(1, MAX_DIFFICULTY)),
        deadline_height=draw(st.none() | heights),
        weight=draw(st.integers(1, MAX_WEIGHT)),
        idempotency_key=draw(st.none() | keys),
        founding=draw(foundings) if action is Action.CHARTER else None,
    )


jobs = st.builds(
    Job,
    job_id=st.uuids().map(lambda number: f"pow_{number.hex}"),
    request=requests(),
    state=st.sampled_from(JobState),
    created_at=times,
    updated_at=times,
    completed_at=st.none() | times,
    work=st.none() | works(),
    start_height=st.none() | heights,
    hashes=counts,
    hash_seconds=times,
    best=st.none() | found_proofs,
    found=st.none() | found_proofs,
    transaction=st.none()
    | st.builds(
        Transaction,
        hash=hashes.map(str.upper),
        state=st.sampled_from(TransactionState),
        ledger_id=st.integers(1, 2**63 - 1),
        height=st.none() | heights,
        message=sentences,
    ),
    error=st.none() | sentences,
    notes=st.lists(sentences, max_size=4).map(tuple),
)


@given(batch=st.lists(jobs, min_size=1, max_size=5, unique_by=lambda job: job.job_id))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_job_comes_back_exactly_as_it_was_saved(store: Store, batch: list[Job]) -> None:
    # two jobs for one key are refused, here and between examples
    batch = [
        replace(job, request=replace(job.request, idempotency_key=job.request.idempotency_key and job.job_id))
        for job in batch
    ]
    await store.save_jobs(batch)
    assert [await store.job(job.job_id) for job in batch] == batch


# ---- idempotency keys --------------------------------------------------------------------------------------------


@given(request=requests(), key=keys)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_request_with_a_key_comes_back_exactly_as_it_was_asked(
    store: Store, make_job: MakeJob, request: JobRequest, key: str
) -> None:
    known = await store.keyed_requests([key])  # an earlier example may have used it
    keyed = known.get(key) or KeyedRequest("pow_00001", replace(request, idempotency_key=key))
    await store.save_jobs([make_job(1)], [keyed])
    assert await store.keyed_requests([key]) == {key: keyed}


async def test_keys_that_nobody_used_are_absent(store: Store, make_job: MakeJob) -> None:
    keyed = [KeyedRequest("pow_00001", replace(make_job(1).request, idempotency_key=key)) for key in "ab"]
    await store.save_jobs([make_job(1)], keyed)
    assert await store.keyed_requests(["b", "c"]) == {"b": keyed[1]}


async def test_no_keys_are_no_answer(store: Store) -> None:
    assert await store.keyed_requests([]) == {}


async def test_a_key_stays_with_the_first_job_that_it_was_used_for(store: Store, make_job: MakeJob) -> None:
    first, second = (
        KeyedRequest(f"pow_0000{number}", replace(make_job(number).request, idempotency_key="k")) for number in (1, 2)
    )
    await store.save_jobs([make_job(1), make_job(2)], [first])
    await store.save_jobs([], [second])
    assert await store.keyed_requests(["k"]) == {"k": first}


async def test_a_key_is_saved_with_its_job_or_not_at_all(store: Store, make_job: MakeJob) -> None:
    nobody = KeyedRequest("pow_nobody", replace(make_job(1).request, idempotency_key="k"))
    with pytest.raises(StoreError):
        await store.save_jobs([make_job(1)], [nobody])
    assert await store.job("pow_00001") is None


async def test_the_store_refuses_a_second_job_for_a_key(store: Store, make_job: MakeJob) -> None:
    first, second = (
        replace(job, request=replace(job.request, idempotency_key="k")) for job in (make_job(1), make_job(2))
    )
    await store.save_jobs([first])
    with pytest.raises(StoreError):
        await store.save_jobs([second])


async def test_jobs_without_a_key_do_not_meet(store: Store, make_job: MakeJob) -> None:
    await store.save_jobs([make_job(1), make_job(2)])
    assert await store.count_jobs() == {JobState.QUEUED: 2}


async def test_keys_survive_a_restart_and_the_end_of_their_job(reopenable: Any, make_job: MakeJob) -> None:
    keyed = KeyedRequest("pow_00001", replace(make_job(1).request, idempotency_key="k"))
    await reopenable.store.save_jobs([make_job(1)], [keyed])
    await reopenable.store.save_jobs([make_job(1, state=JobState.COMPLETED)])
    assert await (await reopenable.reopen()).keyed_requests(["k"]) == {"k": keyed}


# ---- jobs --------------------------------------------------------------------------------------------------------


async def test_an_unknown_job_is_none(store: Store) -> None:
    assert await store.job("pow_nobody") is None


async def test_saving_again_replaces_the_whole_job(store: Store, make_job: MakeJob) -> None:
    first = replace(make_job(1), work=Work(Action.MINE, "5-1", 10, 700), error="held up", notes=("a",))
    await store.save_jobs([first])
    second = make_job(1, state=JobState.CANCELLED)
    await store.save_jobs([second])
    assert await store.job(second.job_id) == second


async def test_of_a_job_given_twice_in_one_call_the_later_one_lasts(store: Store, make_job: MakeJob) -> None:
    await store.save_jobs([make_job(1), make_job(1, state=JobState.WAITING)])
    assert await store.count_jobs() == {JobState.WAITING: 1}


async def test_a_job_with_attempts_can_be_saved_again(
    store: Store, make_job: MakeJob, make_attempt: MakeAttempt
) -> None:
    job = make_job(1)
    await store.save_jobs([job])
    kept = await store.add_attempt(make_attempt(job))
    await store.save_jobs([replace(job, state=JobState.SUBMITTING)])
    assert await store.attempts_of(job.job_id) == [kept]


async def test_all_jobs_of_a_call_are_saved_or_none(store: Store, make_job: MakeJob) -> None:
    good, bad = make_job(1), replace(make_job(2), created_at=None)
    with pytest.raises(StoreError):
        await store.save_jobs([good, bad])
    assert await store.job(good.job_id) is None


async def test_saving_no_jobs_is_allowed(store: Store) -> None:
    await store.save_jobs([])
    assert await store.count_jobs() == {}


async def test_unfinished_jobs_come_oldest_first_and_final_ones_not_at_all(store: Store, make_job: MakeJob) -> None:
    states = [JobState.RUNNING, JobState.COMPLETED, JobState.QUEUED, JobState.FAILED, JobState.SUBMITTING]
    made = [make_job(number, state=state) for number, state in enumerate([*states, JobState.CANCELLED])]
    await store.save_jobs(list(reversed(made)))
    assert await store.unfinished_jobs() == [made[0], made[2], made[4]]


async def test_completed_works_come_newest_first_and_only_those_of_our_transactions(
    store: Store, make_job: MakeJob
) -> None:
    sent = Transaction("AB" * 32, TransactionState.INCLUDED, 1, height=7)
    work = [Work(Action.BUILD, f"5-{number}", anchor=100 + number, range=700) for number in range(4)]
    completed = [replace(make_job(number, state=JobState.COMPLETED), work=work[number]) for number in range(3)]
    made = [
        replace(completed[0], transaction=sent, completed_at=10.0),
        replace(completed[1], transaction=sent, completed_at=30.0),
        replace(completed[2], transaction=None, completed_at=40.0),
        replace(make_job(3, state=JobState.FAILED), work=work[3], transaction=sent, completed_at=50.0),
    ]
    await store.save_jobs(made)
    assert await store.completed_works(10) == [work[1], work[0]]
    assert await store.completed_works(1) == [work[1]]


async def test_3000_jobs_are_saved_in_one_call_and_all_come_back(store: Store, make_job: MakeJob) -> None:
    made = [make_job(number) for number in range(3000)]
    await store.save_jobs(made)
    await store.save_jobs([replace(job, state=JobState.WAITING) for job in made])
    assert await store.unfinished_jobs() == [replace(job, state=JobState.WAITING) for job in made]


async def test_pages_show_every_job_once_newest_first(store: Store, make_job: MakeJob) -> None:
    made = [make_job(number, created_at=float(number // 4)) for number in range(23)]  # four jobs share each moment
    await store.save_jobs(made)
    seen: list[Job] = []
    after = None
    while page := await store.list_jobs(EVERYTHING, 5, after):
        assert len(page) <= 5
        seen += page
        after = (page[-1].created_at, page[-1].job_id)
    assert seen == sorted(made, key=lambda job: (job.created_at, job.job_id), reverse=True)


async def test_a_job_saved_while_pages_are_turned_shifts_no_page(store: Store, make_job: MakeJob) -> None:
    await store.save_jobs([make_job(number) for number in range(4)])
    first = await store.list_jobs(EVERYTHING, 2, None)
    await store.save_jobs([make_job(99)])
    second = await store.list_jobs(EVERYTHING, 2, (first[-1].created_at, first[-1].job_id))
    assert [job.job_id for job in first + second] == ["pow_00003", "pow_00002", "pow_00001", "pow_00000"]


async def test_a_listing_shows_the_states_and_the_player_that_were_asked_for(store: Store, make_job: MakeJob) -> None:
    mine = make_job(1, state=JobState.RUNNING, player_id="1-1")
    done = make_job(2, state=JobState.COMPLETED, player_id="1-1")
    other = make_job(3, state=JobState.RUNNING, player_id="1-2")
    await store.save_jobs([mine, done, other])
    assert await store.list_jobs(JobFilter(player_id="1-1"), 10, None) == [done, mine]
    assert await store.list_jobs(JobFilter(frozenset({JobState.RUNNING})), 10, None) == [other, mine]
    assert await store.list_jobs(JobFilter(frozenset({JobState.RUNNING}), "1-1"), 10, None) == [mine]


async def test_jobs_are_counted_by_state(store: Store, make_job: MakeJob) -> None:
    await store.save_jobs([make_job(1), make_job(2), make_job(3, state=JobState.FAILED)])
    assert await store.count_jobs() == {JobState.QUEUED: 2, JobState.FAILED: 1}


async def test_text_that_no_database_can_keep_is_stored_readably(store: Store, make_job: MakeJob) -> None:
    await store.save_jobs([replace(make_job(1), error="NUL \x00", notes=("lone \udc80",))])
    job = await store.job("pow_00001")
    assert job is not None
    assert (job.error, job.notes) == ("NUL \\x00", ("lone \\udc80",))


# ---- attempts ----------------------------------------------------------------------------------------------------


async def test_an_attempt_gets_a_ledger_id_and_comes_back_as_it_was(
    store: Store, make_job: MakeJob, make_attempt: MakeAttempt
) -> None:
    job = make_job(1)
    await store.save_jobs([job])
    attempt = make_attempt(job)
    stored = await store.add_attempt(attempt)
    assert stored.ledger_id is not None
    assert replace(stored, ledger_id=None) == attempt
    assert await store.live_attempts() == [stored]


@pytest.mark.parametrize("chain_id", ["structstestnet-111", None], ids=["prefixed", "unprefixed"])
async def test_an_attempt_at_a_charter_keeps_its_chain_and_solver(
    store: Store, make_job: MakeJob, make_attempt: MakeAttempt, chain_id: str | None
) -> None:
    job = make_job(1)
    await store.save_jobs([job])
    work = Work(Action.CHARTER, "1-7", 2283000, 2_500_000, charter=CharterTerms(chain_id, "1-42"))
    added = await store.add_attempt(replace(make_attempt(job), work=work))
    assert await store.attempts_of(job.job_id) == [added]
    assert added.work == work


async def test_one_anchor_has_one_live_attempt(store: Store, make_job: MakeJob, make_attempt: MakeAttempt) -> None:
    job = make_job(1)
    await store.save_jobs([job])
    first = await store.add_attempt(make_attempt(job))
    with pytest.raises(LiveAttemptExists, match=f"row {first.ledger_id}"):
        await store.add_attempt(make_attempt(job, sequence=4))
    assert await store.attempts_of(job.job_id) == [first]


async def test_a_live_attempt_of_another_job_holds_the_anchor_too(
    store: Store, make_job: MakeJob, make_attempt: MakeAttempt
) -> None:
    job = make_job(1)
    twin = replace(make_job(2), request=job.request)
    await store.save_jobs([job, twin])
    await store.add_attempt(make_attempt(job))
    with pytest.raises(LiveAttemptExists):
        await store.add_attempt(make_attempt(twin, sequence=4))


@pytest.mark.parametrize("end", [state for state in AttemptState if not state.live], ids=lambda state: state.value)
async def test_an_ended_attempt_frees_its_anchor(
    store: Store, make_job: MakeJob, make_attempt: MakeAttempt, end: AttemptState
) -> None:
    job = make_job(1)
    await store.save_jobs([job])
    first = await store.add_attempt(make_attempt(job))
    await store.update_attempt(replace(first, state=end))
    second = await store.add_attempt(make_attempt(job, sequence=4))
    assert await store.live_attempts() == [second]


async def test_an_ended_attempt_cannot_come_back_to_life_beside_a_live_one(
    store: Store, make_job: MakeJob, make_attempt: MakeAttempt
) -> None:
    job = make_job(1)
    await store.save_jobs([job])
    first = await store.add_attempt(make_attempt(job))
    await store.update_attempt(replace(first, state=AttemptState.SUPERSEDED))
    await store.add_attempt(make_attempt(job, sequence=4))
    with pytest.raises(LiveAttemptExists):
        await store.update_attempt(first)


async def test_an_attempt_holds_its_anchor_before_it_is_signed(
    store: Store, make_job: MakeJob, make_attempt: MakeAttempt
) -> None:
    job = make_job(1)
    await store.save_jobs([job])
    prepared = replace(
        make_attempt(job, state=AttemptState.PREPARED),
        account_number=None,
        sequence=None,
        tx_bytes=None,
        tx_hash=None,
        timeout_height=None,
    )
    stored = await store.add_attempt(prepared)
    assert replace(stored, ledger_id=None) == prepared
    assert await store.live_attempts() == [stored]
    with pytest.raises(LiveAttemptExists):
        await store.add_attempt(make_attempt(job, sequence=4))


async def test_attempts_that_are_added_together_are_stored_all_or_none(
    store: Store, make_job: MakeJob, make_attempt: MakeAttempt
) -> None:
    jobs = [make_job(number) for number in range(3)]
    await store.save_jobs(jobs)
    held = await store.add_attempt(make_attempt(jobs[1]))
    with pytest.raises(LiveAttemptExists):
        await store.add_attempts([make_attempt(job, sequence=4) for job in jobs])
    assert await store.live_attempts() == [held]


async def test_the_proofs_of_one_transaction_are_rows_that_share_its_hash(
    store: Store, make_job: MakeJob, make_attempt: MakeAttempt
) -> None:
    jobs = [make_job(number) for number in range(3)]
    await store.save_jobs(jobs)
    rows = [replace(make_attempt(job), message_index=place) for place, job in enumerate(jobs)]
    stored = await store.add_attempts(rows)
    assert [replace(row, ledger_id=None) for row in stored] == rows
    ended = [replace(row, state=AttemptState.REJECTED, cause=RejectionCause.DIFFICULTY) for row in stored]
    await store.update_attempts(ended)
    assert await store.live_attempts() == []
    assert [await store.attempts_of(job.job_id) for job in jobs] == [[row] for row in ended]


async def test_attempts_that_are_updated_together_change_all_or_none(
    store: Store, make_job: MakeJob, make_attempt: MakeAttempt
) -> None:
    job = make_job(1)
    await store.save_jobs([job])
    stored = await store.add_attempt(make_attempt(job))
    ended = replace(stored, state=AttemptState.REJECTED)
    with pytest.raises(StoreError):
        await store.update_attempts([ended, replace(ended, ledger_id=99)])
    assert await store.live_attempts() == [stored]


async def test_another_anchor_may_have_its_own_live_attempt(
    store: Store, make_job: MakeJob, make_attempt: MakeAttempt
) -> None:
    job = make_job(1)
    await store.save_jobs([job])
    both = [await store.add_attempt(make_attempt(job, anchor=anchor)) for anchor in (500, 501)]
    assert await store.live_attempts() == both


async def test_an_update_replaces_every_field_of_the_attempt(
    store: Store, make_job: MakeJob, make_attempt: MakeAttempt, landed: Callable[[Attempt], Attempt]
) -> None:
    job = make_job(1)
    await store.save_jobs([job])
    ended = replace(landed(await store.add_attempt(make_attempt(job))), log="nonce \x00")
    await store.update_attempt(ended)
    assert await store.attempts_of(job.job_id) == [replace(ended, log="nonce \\x00")]
    assert await store.live_attempts() == []


async def test_an_attempt_needs_its_job(store: Store, make_job: MakeJob, make_attempt: MakeAttempt) -> None:
    with pytest.raises(StoreError, match="save the job first"):
        await store.add_attempt(make_attempt(make_job(1)))


async def test_updating_an_attempt_that_was_never_added_is_refused(
    store: Store, make_job: MakeJob, make_attempt: MakeAttempt
) -> None:
    with pytest.raises(StoreError, match="add the attempt before updating it"):
        await store.update_attempt(replace(make_attempt(make_job(1)), ledger_id=7))


async def test_of_many_attempts_started_at_once_for_an_anchor_one_is_stored(
    store: Store, make_job: MakeJob, make_attempt: MakeAttempt
) -> None:
    job = make_job(1)
    await store.save_jobs([job])
    tries = [store.add_attempt(make_attempt(job, sequence=number)) for number in range(20)]
    results: list[Any] = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(result, Attempt) for result in results) == 1
    assert sum(isinstance(result, LiveAttemptExists) for result in results) == 19


# ---- life --------------------------------------------------------------------------------------------------------


async def test_jobs_and_attempts_survive_a_restart(
    reopenable: Any, make_job: MakeJob, make_attempt: MakeAttempt
) -> None:
    job = make_job(1, state=JobState.SUBMITTING)
    await reopenable.store.save_jobs([job])
    attempt = await reopenable.store.add_attempt(make_attempt(job))
    again = await reopenable.reopen()
    assert await again.unfinished_jobs() == [job]
    assert await again.live_attempts() == [attempt]


async def test_ledger_ids_go_on_after_a_restart(reopenable: Any, make_job: MakeJob, make_attempt: MakeAttempt) -> None:
    job = make_job(1)
    await reopenable.store.save_jobs([job])
    first = await reopenable.store.add_attempt(make_attempt(job, state=AttemptState.REJECTED))
    again = await reopenable.reopen()
    second = await again.add_attempt(make_attempt(job, sequence=4))
    assert second.ledger_id == first.ledger_id + 1


async def test_calls_take_effect_in_the_order_in_which_they_were_made(store: Store, make_job: MakeJob) -> None:
    states = [JobState.QUEUED, JobState.WAITING, JobState.RUNNING, JobState.SUBMITTING]
    await asyncio.gather(*(store.save_jobs([make_job(1, state=state)]) for state in states))
    assert await store.count_jobs() == {JobState.SUBMITTING: 1}


async def test_what_was_asked_before_closing_is_done_and_what_is_asked_after_is_refused(
    reopenable: Any, make_job: MakeJob
) -> None:
    saving = asyncio.ensure_future(reopenable.store.save_jobs([make_job(1)]))
    await asyncio.sleep(0)
    await reopenable.store.close()
    await saving
    with pytest.raises(StoreError, match="is closed"):
        await reopenable.store.count_jobs()
    assert await (await reopenable.open()).count_jobs() == {JobState.QUEUED: 1}


async def test_the_event_loop_runs_on_while_the_store_works(store: Store, make_job: MakeJob) -> None:
    saving = asyncio.ensure_future(store.save_jobs([make_job(number) for number in range(2000)]))
    turns = 0
    while not saving.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 10  # a blocking store would be done after one
