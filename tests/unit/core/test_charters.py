"""Charters in the core: one puzzle for everybody, and terms that may be renewed while nothing is on its way."""

from __future__ import annotations

from dataclasses import replace

from coordinator.core.commands import CancelLease, ReadWork, SubmitProof
from coordinator.core.events import BlockCommitted, JobSubmitted, Trouble, WorkNotRead, WorkRead
from coordinator.core.job import JobState
from hashfleet.action import Action, CharterTerms, Work
from hashfleet.charter import Consent, Founding
from hashfleet.job_request import JobRequest, StartMode

from .conftest import Play, grants, solve

FOUNDING = Founding("3-1", "guild.example", "4-1")
CONSENT = Consent("structs19rl4cm2hmr8afy4kldpxz3fka4jguq0acpz60a", f"02{'a' * 64}", "b" * 128)
AGREED = replace(FOUNDING, consent=CONSENT)
ANCHOR = 1000
#: What a block touches in which a guild was founded.
CHARTER = "charter"


def puzzle(founder: str = "1-7", anchor: int = ANCHOR) -> Work:
    return Work(Action.CHARTER, founder, anchor, 200, charter=CharterTerms("devnet-1", "1-42"))


def ask(play: Play, founding: Founding = AGREED, founder: str = "1-7", job_id: str = "pow_1") -> list[object]:
    request = JobRequest(Action.CHARTER, founder, "1-42", start_mode=StartMode.RACE, founding=founding)
    return list(play.tell(JobSubmitted(play.now, job_id, request)))


def told(play: Play, founder: str = "1-7", anchor: int = ANCHOR, job_id: str = "pow_1") -> list[object]:
    return list(play.tell(WorkRead(play.now, job_id, puzzle(founder, anchor), frozenset({CHARTER}), "CHARTER")))


def hashed(play: Play) -> None:
    """A charter that is being hashed by one worker."""
    play.block(1180)
    play.join()
    ask(play)
    told(play)
    assert play.job().state is JobState.RUNNING


def test_the_proof_of_a_charter_goes_on_its_way_with_the_terms_of_the_guild(play: Play) -> None:
    hashed(play)
    lease = grants(play.commands)[0]
    (sent,) = (command for command in play.hit(lease, solve(lease, 3)) if isinstance(command, SubmitProof))
    assert (sent.founding, sent.clock, sent.work) == (AGREED, "CHARTER", puzzle())


def test_a_guild_that_somebody_else_founds_voids_what_was_hashed(play: Play) -> None:
    hashed(play)
    before = grants(play.commands)[0]
    play.tell(BlockCommitted(play.now + 5, 1181, play.now + 5, frozenset({CHARTER, "0-4"})))
    commands = told(play, anchor=1181)
    assert CancelLease(before.worker_id, before.lease_id) in commands
    job = play.job()
    assert (job.work, job.hashes, job.best) == (puzzle(anchor=1181), 0, None)


def test_two_founders_are_hashed_one_at_a_time_because_the_first_voids_the_second(play: Play) -> None:
    hashed(play)
    ask(play, founder="1-8", job_id="pow_2")
    told(play, founder="1-8", job_id="pow_2")
    assert play.job("pow_2").state is JobState.WAITING
    assert "it shares the clock CHARTER with pow_1" in (play.job("pow_2").error or "")


def test_a_charter_asked_for_again_takes_the_newest_terms_and_checks_them_before_more_is_hashed(play: Play) -> None:
    hashed(play)
    play.tell(WorkNotRead(play.now, "pow_1", Trouble.PAUSED, "the consent is void", frozenset({CHARTER})))
    fresh = replace(FOUNDING, consent=replace(CONSENT, proof_signature="c" * 128))
    commands = ask(play, fresh, job_id="pow_2")
    assert [command.request.founding for command in commands if isinstance(command, ReadWork)] == [fresh]
    told(play)
    assert play.job().request.founding == fresh
    assert play.job().state is JobState.RUNNING
    assert "pow_2" not in play.stored


def test_a_running_charter_stops_until_its_new_terms_are_checked(play: Play) -> None:
    hashed(play)
    lease = grants(play.commands)[0]
    commands = ask(play, replace(AGREED, endpoint="other.example"), job_id="pow_2")
    assert CancelLease(lease.worker_id, lease.lease_id) in commands
    assert grants(told(play))  # type: ignore[arg-type]


def test_the_same_terms_without_their_consent_keep_the_consent(play: Play) -> None:
    hashed(play)
    ask(play, FOUNDING, job_id="pow_2")
    assert play.job().request.founding == AGREED


def test_a_proof_on_its_way_keeps_its_terms(play: Play) -> None:
    hashed(play)
    lease = grants(play.commands)[0]
    play.hit(lease, solve(lease, 3))
    assert play.job().state is JobState.SUBMITTING
    ask(play, replace(AGREED, endpoint="other.example"), job_id="pow_2")
    assert play.job().request.founding == AGREED
