"""What a lane decides, table by table."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.submission.attempt import Attempt, AttemptState, RejectionCause
from coordinator.submission.decision import (
    MAX_FAILURES,
    MAX_PAUSE_BLOCKS,
    After,
    Cargo,
    Fitness,
    Flight,
    Follow,
    Volatility,
    after_failure,
    counts,
    follow,
    halves,
    judge,
    may_surface,
    next_sequence,
    pack,
    pause_blocks,
    ripe_at,
    timeout_at,
    transaction_of,
    volatility,
    weigh,
)
from coordinator.submission.verdict import Disposition
from hashfleet.action import MAX_HEIGHT, Action, CharterTerms, Work
from hashfleet.difficulty import safe
from hashfleet.proof import Proof

WORK = Work(Action.MINE, "5-1", anchor=1000, range=700)


def proof_of(zeros: int) -> Proof:
    return Proof("1", "0" * zeros + "f" * (64 - zeros))


def attempt(state: AttemptState = AttemptState.BROADCAST) -> Attempt:
    return Attempt("pow_1", WORK, proof_of(5), "structs1", 17, 7, b"tx", "AB", 1520, state, 1.0, 1.0, ledger_id=3)


@given(zeros=st.integers(1, 20), height=st.integers(1001, 3000), range_=st.integers(2, 5000))
def test_a_proof_is_good_exactly_when_the_next_block_asks_for_no_more_than_it_has(
    zeros: int, height: int, range_: int
) -> None:
    work = replace(WORK, range=range_)
    expected = Fitness.GOOD if safe(height + 1 - work.anchor, range_) <= zeros else Fitness.EARLY
    assert judge(work, proof_of(zeros), work, height).fitness is expected


@given(zeros=st.integers(1, 20), range_=st.integers(2, 5000))
def test_ripe_at_is_the_first_height_at_which_a_proof_is_good(zeros: int, range_: int) -> None:
    work = replace(WORK, range=range_)
    ripe = ripe_at(work, proof_of(zeros))
    assert judge(work, proof_of(zeros), work, ripe).fitness is Fitness.GOOD
    assert judge(work, proof_of(zeros), work, ripe - 1).fitness is Fitness.EARLY


def test_an_age_that_a_lagging_node_makes_negative_is_early() -> None:
    assert judge(WORK, proof_of(30), WORK, 10).fitness is Fitness.EARLY


@pytest.mark.parametrize(
    ("now", "height", "fitness"),
    [
        (replace(WORK, anchor=1001), 1700, Fitness.VOID),
        (replace(WORK, range=701), 1700, Fitness.GOOD),
        (replace(WORK, range=9000), 1500, Fitness.VOID),
        (replace(WORK, range=600), 1005, Fitness.EARLY),
    ],
    ids=[
        "anchor moved",
        "range rose, still enough",
        "range rose beyond the proof",
        "range fell, too early all the same",
    ],
)
def test_a_puzzle_that_changed_is_judged_as_it_is_now(now: Work, height: int, fitness: Fitness) -> None:
    assert judge(WORK, proof_of(5), now, height).fitness is fitness


def test_a_charter_of_the_other_form_is_void() -> None:
    charter = Work(Action.CHARTER, "1-7", 1000, 700, charter=CharterTerms("test-1", "1-9"))
    judged = judge(charter, proof_of(5), replace(charter, charter=CharterTerms(None, "1-9")), 1700)
    told = "begins with 1-9@1-7GUILDCHARTER1000NONCE now, not with CHAINtest-1|1-9@1-7GUILDCHARTER1000NONCE"
    assert (judged.fitness, judged.reason) == (Fitness.VOID, f"the preimage of 1-7 {told}")


def test_a_raid_whose_fleet_moved_on_is_void() -> None:
    raid = Work(Action.RAID, "9-1", 1000, 700, target_id="2-1")
    judged = judge(raid, proof_of(5), replace(raid, target_id="2-2"), 1700)
    assert (judged.fitness, judged.reason) == (Fitness.VOID, "9-1 works on 2-2 now, not on 2-1")


def test_a_hash_without_a_zero_is_void() -> None:
    assert judge(WORK, proof_of(0), WORK, 9999).fitness is Fitness.VOID
    assert ripe_at(WORK, proof_of(0)) == 0


SIGNED, BROADCAST = AttemptState.SIGNED, AttemptState.BROADCAST


@pytest.mark.parametrize(
    ("state", "sent_at", "overtaken_at", "height", "expected"),
    [
        (SIGNED, None, None, 1505, Follow.SEND),  # stored, then a crash
        (SIGNED, 1505, None, 1505, Follow.WAIT),
        (SIGNED, 1505, None, 1506, Follow.SEND),  # its broadcast was not answered
        (BROADCAST, 1505, None, 1506, Follow.WAIT),
        (BROADCAST, 1505, None, 1507, Follow.SEND),  # the mempool may have forgotten it
        (BROADCAST, 1505, None, 1519, Follow.SEND),  # it may land in 1520 still
        (SIGNED, None, None, 1520, Follow.WAIT),  # it may have landed in 1520; 1521 is too late
        (SIGNED, None, None, 1521, Follow.WAIT),  # one block for the index
        (SIGNED, None, None, 1522, Follow.SUPERSEDE),
        (BROADCAST, 1505, 1507, 1507, Follow.WAIT),  # its sequence was used, perhaps by itself
        (BROADCAST, 1505, 1507, 1508, Follow.SUPERSEDE),
    ],
)
def test_a_live_attempt_that_no_block_holds(
    state: AttemptState, sent_at: int | None, overtaken_at: int | None, height: int, expected: Follow
) -> None:
    assert follow(Flight(attempt(state), sent_at, overtaken_at), height) is expected


@given(committed=st.integers(0, 50), taken=st.sets(st.integers(0, 50)))
def test_the_next_sequence_is_the_lowest_free_one(committed: int, taken: set[int]) -> None:
    sequence = next_sequence(committed, taken)
    assert sequence >= committed
    assert sequence not in taken
    assert all(lower in taken for lower in range(committed, sequence))


def test_only_an_attempt_superseded_before_its_timeout_may_surface() -> None:
    superseded = attempt(AttemptState.SUPERSEDED)
    assert may_surface([superseded], 1521)
    assert not may_surface([superseded], 1522)
    assert not may_surface([attempt(AttemptState.REJECTED)], 1500)


#: Of a limit per block, of a sequence, or of the object as it is now.
OF_THE_MOMENT = [
    Disposition.PAUSE,
    Disposition.RETRY_NEXT_BLOCK,
    Disposition.RESYNC_SEQUENCE,
    Disposition.UNKNOWN_ANTE,
]


@pytest.mark.parametrize(
    "what", [what for what in Disposition if what not in OF_THE_MOMENT], ids=lambda what: what.name
)
def test_what_is_refused_for_ever_does_not_run_for_ever(what: Disposition) -> None:
    assert counts(what)
    assert after_failure(what, MAX_FAILURES) is After.GIVE_UP


@pytest.mark.parametrize("what", OF_THE_MOMENT, ids=lambda what: what.name)
def test_what_says_nothing_of_the_proof_never_gives_it_up(what: Disposition) -> None:
    assert not counts(what)
    assert after_failure(what, 10 * MAX_FAILURES) is not After.GIVE_UP
    # What fails in block after block does so at growing distances.
    assert after_failure(what, 10 * MAX_FAILURES, in_block=True) is After.PAUSE


def test_another_form_of_preimage_is_a_persons_matter_and_tried_once_more() -> None:
    what = weigh(Disposition.REMINE, RejectionCause.OTHER_FORM)
    assert what is Disposition.ALERT
    tries = [after_failure(what, failures, cause=RejectionCause.OTHER_FORM) for failures in (1, 2)]
    assert tries == [After.PAUSE, After.GIVE_UP]


@pytest.mark.parametrize("cause", [None, *(each for each in RejectionCause if each is not RejectionCause.OTHER_FORM)])
def test_any_other_cause_changes_nothing_that_is_done(cause: RejectionCause | None) -> None:
    for what in Disposition:
        assert weigh(what, cause) is what
        for failures in range(MAX_FAILURES + 1):
            assert after_failure(what, failures, cause=cause) is after_failure(what, failures)


@pytest.mark.parametrize(
    "what",
    [what for what in Disposition if what not in OF_THE_MOMENT] + [Disposition.PAUSE],
    ids=lambda what: what.name,
)
def test_what_was_paid_for_and_failed_in_a_block_is_given_up(what: Disposition) -> None:
    for cause in (None, RejectionCause.UNKNOWN, RejectionCause.OTHER_FORM):
        assert after_failure(what, 1, in_block=True, paid=True, cause=cause) is After.GIVE_UP


@pytest.mark.parametrize("cause", [RejectionCause.DIFFICULTY, RejectionCause.ANCHOR_MOVED])
def test_what_was_paid_for_is_tried_again_where_the_next_block_is_another_matter(cause: RejectionCause) -> None:
    assert after_failure(Disposition.REMINE, 1, in_block=True, paid=True, cause=cause) is After.AGAIN


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (Disposition.RETRY_NEXT_BLOCK, After.AGAIN),
        (Disposition.RESYNC_SEQUENCE, After.AGAIN),
        (Disposition.REMINE, After.AGAIN),
        (Disposition.PAUSE, After.PAUSE),
        (Disposition.ALERT, After.PAUSE),
        (Disposition.GIVE_UP, After.GIVE_UP),
    ],
    ids=lambda value: value.name,
)
def test_a_first_failure(what: Disposition, expected: After) -> None:
    assert after_failure(what, 0) is expected


def test_pauses_double_up_to_a_bound() -> None:
    assert [pause_blocks(count) for count in (1, 2, 3, 6, 7, 10**9)] == [2, 4, 8, 64, 64, MAX_PAUSE_BLOCKS]


def test_a_timeout_never_exceeds_what_a_transaction_can_hold() -> None:
    assert timeout_at(1500, 20) == 1520
    assert timeout_at(MAX_HEIGHT - 1, 20) == MAX_HEIGHT


@pytest.mark.parametrize(
    "state", [state for state in AttemptState if state is not AttemptState.PREPARED], ids=lambda state: state.value
)
def test_every_state_of_a_signed_attempt_can_be_shown(state: AttemptState) -> None:
    shown = transaction_of(replace(attempt(state), height=1510, log="said"))
    assert (shown.hash, shown.ledger_id, shown.height, shown.message) == ("AB", 3, 1510, "said")


# ---- several proofs in one transaction ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Parcel:
    """A proof to be packed, by what it hangs on."""

    number: int
    cargo: Cargo


parcels = st.lists(
    st.builds(
        Cargo,
        objects=st.frozensets(st.sampled_from("abcdefgh"), max_size=2),
        clock=st.sampled_from(["", "", "x", "y"]),
        group=st.sampled_from([0, 0, 0, 1]),
        alone=st.sampled_from([False, False, False, True]),
    ),
    max_size=30,
).map(lambda cargos: [Parcel(number, cargo) for number, cargo in enumerate(cargos)])


@given(ready=parcels, slots=st.integers(0, 6), most=st.integers(1, 40))
def test_what_is_packed_together_is_independent_and_within_the_limits(
    ready: list[Parcel], slots: int, most: int
) -> None:
    packed = pack(ready, lambda one: one.cargo, slots, most)
    assert len(packed) <= slots
    assert all(1 <= len(together) <= most for together in packed)
    numbers = [one.number for together in packed for one in together]
    assert len(set(numbers)) == len(numbers)
    for together in packed:
        for one, other in itertools.combinations(together, 2):
            assert one.cargo.goes_with(other.cargo)


@given(ready=parcels, slots=st.integers(1, 6), most=st.integers(1, 40))
def test_the_first_in_line_are_sent_and_stand_alone_while_there_is_room(
    ready: list[Parcel], slots: int, most: int
) -> None:
    packed = pack(ready, lambda one: one.cargo, slots, most)
    assert [together[0] for together in packed] == ready[:slots]
    if len(ready) <= slots:
        assert all(len(together) == 1 for together in packed)


@pytest.mark.parametrize(
    ("action", "clock", "expected"),
    [
        (Action.RAID, "", Volatility.RAID),
        (Action.MINE, "2-9/MINE", Volatility.SHARED_CLOCK),
        (Action.REFINE, "", Volatility.OWN_CLOCK),
        (Action.BUILD, "", Volatility.BUILD),
    ],
)
def test_what_others_void_soonest_goes_first(action: Action, clock: str, expected: Volatility) -> None:
    object_id, target = ("9-1", "2-1") if action is Action.RAID else ("5-1", None)
    assert volatility(Work(action, object_id, 100, 700, target_id=target), clock) is expected
    assert list(Volatility) == sorted(Volatility)


@given(st.lists(st.integers(), min_size=2, max_size=40))
def test_halves_lose_nothing_and_get_smaller(proofs: list[int]) -> None:
    first, second = halves(proofs)
    assert [*first, *second] == proofs
    assert 1 <= len(second) <= len(first) < len(proofs)
