"""The autopilot's shell: when it looks, what it asks for, what it says, and what outlasts a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coordinator import autopilot
from coordinator.core.job import Job, JobState
from hashfleet.action import Action
from hashfleet.autopilot_rule import AutopilotRule
from hashfleet.errors import ChainUnavailable, HashfleetError, InvalidInput, KeyProblem
from hashfleet.job_request import JobRequest, Mode, Priority

from .conftest import Cockpit, ListedChain, opened

BUILD, MINE, REFINE, RAID = Action.BUILD, Action.MINE, Action.REFINE, Action.RAID
RULE = AutopilotRule("1-11", priority=Priority.BULK)


def asked(cockpit: Cockpit) -> list[tuple[Action, str]]:
    return [(request.action, request.object_id) for request in cockpit.desk.asked]


async def test_all_outstanding_work_of_a_ruled_player_is_asked_for_by_the_rule(cockpit: Cockpit) -> None:
    cockpit.chain.works = {"1-11": [(BUILD, "5-1"), (MINE, "5-2"), (REFINE, "5-3"), (RAID, "9-11")]}
    cockpit.block()
    await cockpit.pilot.set_rule(RULE)
    requests = await cockpit.desk.asked_for(4)
    assert set(asked(cockpit)) == set(cockpit.chain.works["1-11"])
    assert {(request.player_id, request.priority) for request in requests} == {("1-11", Priority.BULK)}
    await cockpit.settled()
    view = await cockpit.rule()
    assert (view.outstanding, view.unfinished, view.jobs_made, view.looked_height) == (4, 4, 4, 101)
    assert view.error is None and view.refusals == ()


async def test_nothing_is_asked_of_the_chain_before_its_height_is_known(cockpit: Cockpit) -> None:
    await cockpit.pilot.set_rule(RULE)
    await cockpit.settled()
    assert cockpit.chain.asked == []
    assert (await cockpit.rule()).looked_height is None


async def test_work_is_picked_up_when_a_block_touches_the_player(cockpit: Cockpit) -> None:
    cockpit.block()
    await cockpit.pilot.set_rule(RULE)
    await cockpit.settled()
    assert cockpit.chain.asked == ["1-11"]
    cockpit.chain.works = {"1-11": [(BUILD, "5-1")]}
    cockpit.block("1-12", "5-9")
    await cockpit.settled()
    assert cockpit.chain.asked == ["1-11"]
    cockpit.block("5-1", "1-11")
    await cockpit.desk.asked_for(1)


@pytest.mark.parametrize("touched", ["1-11", "9-11", "5-2", "1-11@", "8-structs1signer@"])
async def test_a_player_is_looked_at_when_he_or_what_is_his_is_touched(cockpit: Cockpit, touched: str) -> None:
    cockpit.chain.works = {"1-11": [(MINE, "5-2")]}
    cockpit.block()
    await cockpit.pilot.set_rule(RULE)
    await cockpit.settled()
    cockpit.block(touched)
    await cockpit.settled()
    assert len(cockpit.chain.asked) == 2


async def test_a_block_that_may_have_touched_anything_is_a_reason_to_look(cockpit: Cockpit) -> None:
    cockpit.block()
    await cockpit.pilot.set_rule(RULE)
    await cockpit.settled()
    cockpit.block(unknown=True)
    await cockpit.settled()
    assert len(cockpit.chain.asked) == 2


async def test_a_player_whom_no_block_touches_is_looked_at_nevertheless(cockpit: Cockpit) -> None:
    cockpit.block()
    await cockpit.pilot.set_rule(RULE)
    await cockpit.settled()
    for _ in range(autopilot.LOOK_BLOCKS - 1):
        cockpit.block()
    await cockpit.settled()
    assert len(cockpit.chain.asked) == 1
    cockpit.block()
    await cockpit.settled()
    assert len(cockpit.chain.asked) == 2


async def test_a_completed_work_that_is_outstanding_again_is_asked_for_again(cockpit: Cockpit) -> None:
    cockpit.chain.works = {"1-11": [(MINE, "5-2")]}
    cockpit.block()
    await cockpit.pilot.set_rule(RULE)
    for times in range(1, 4):
        await cockpit.desk.asked_for(times)
        await cockpit.settled()
        await cockpit.desk.end(MINE, "5-2", JobState.COMPLETED)
    await cockpit.desk.asked_for(4)
    assert asked(cockpit) == [(MINE, "5-2")] * 4


async def test_a_work_that_has_a_job_is_not_asked_for_whoever_asked_for_that(cockpit: Cockpit) -> None:
    await cockpit.desk.put(Job("pow_x", JobRequest(MINE, "5-2", "1-11"), JobState.RUNNING, 1.0, 1.0))
    cockpit.chain.works = {"1-11": [(MINE, "5-2"), (BUILD, "5-1")]}
    cockpit.block()
    await cockpit.pilot.set_rule(RULE)
    await cockpit.desk.asked_for(1)
    await cockpit.settled()
    assert asked(cockpit) == [(BUILD, "5-1")]
    assert (await cockpit.rule()).unfinished == 2


async def test_work_that_ended_while_the_chain_was_read_is_not_asked_for_by_that_reading(cockpit: Cockpit) -> None:
    await cockpit.desk.put(Job("pow_x", JobRequest(BUILD, "5-1", "1-11"), JobState.SUBMITTING, 1.0, 1.0))
    cockpit.chain.works = {"1-11": [(BUILD, "5-1")]}
    cockpit.chain.answers.clear()
    cockpit.block()
    await cockpit.pilot.set_rule(RULE)
    async with asyncio.timeout(10):
        while not cockpit.chain.asked:  # noqa: ASYNC110 - the chain's answer is held back here
            await asyncio.sleep(0.005)
    await cockpit.desk.end(BUILD, "5-1", JobState.COMPLETED)

    async def nothing(player_id: str) -> list[tuple[Action, str]]:
        cockpit.chain.asked.append(player_id)
        return []

    cockpit.chain.outstanding_work = nothing  # type: ignore[method-assign]
    cockpit.chain.answers.set()
    await cockpit.settled()
    assert cockpit.chain.asked == ["1-11", "1-11"]  # the end of the job was a reason to look again
    assert asked(cockpit) == []


async def test_a_failed_work_is_held_back_told_and_asked_for_when_its_time_comes(cockpit: Cockpit) -> None:
    cockpit.chain.works = {"1-11": [(MINE, "5-2")]}
    cockpit.block()
    await cockpit.pilot.set_rule(RULE)
    await cockpit.desk.asked_for(1)
    await cockpit.settled()
    await cockpit.desk.end(MINE, "5-2", JobState.FAILED, "the planet has no ore")
    await cockpit.settled()
    cockpit.block("5-2")
    await cockpit.settled()
    view = await cockpit.rule()
    ((claim, failure),) = view.held_first
    assert (claim, failure.reason, view.held) == ((MINE, "5-2"), "the planet has no ore", 1)
    assert len(cockpit.desk.asked) == 1
    cockpit.desk.now = failure.until
    cockpit.block()
    await cockpit.desk.asked_for(2)


async def test_setting_the_rule_again_asks_at_once_for_what_was_held_back(cockpit: Cockpit) -> None:
    cockpit.chain.works = {"1-11": [(MINE, "5-2")]}
    cockpit.block()
    await cockpit.pilot.set_rule(RULE)
    await cockpit.desk.asked_for(1)
    await cockpit.settled()
    await cockpit.desk.end(MINE, "5-2", JobState.CANCELLED)
    await cockpit.settled()
    assert len(cockpit.desk.asked) == 1
    cockpit.desk.now += 1
    await cockpit.pilot.set_rule(RULE)
    await cockpit.desk.asked_for(2)
    await cockpit.settled()
    assert (await cockpit.rule()).jobs_made == 2


async def test_what_the_key_may_not_do_is_said_and_not_asked_for_until_it_may(cockpit: Cockpit) -> None:
    cockpit.chain.works = {"1-11": [(MINE, "5-2"), (MINE, "5-4"), (BUILD, "5-1")]}
    cockpit.chain.forbidden = {MINE: KeyProblem("player 1-9 lacks PermHashMine on player 1-11")}
    cockpit.block()
    await cockpit.pilot.set_rule(RULE)
    await cockpit.desk.asked_for(1)
    await cockpit.settled()
    assert asked(cockpit) == [(BUILD, "5-1")]
    assert (await cockpit.rule()).refusals == ((MINE, "player 1-9 lacks PermHashMine on player 1-11"),)
    assert [right[1] for right in cockpit.chain.rights] == [MINE, BUILD]
    cockpit.chain.forbidden.clear()
    cockpit.block("1-11@")
    await cockpit.desk.asked_for(3)
    await cockpit.settled()
    assert (await cockpit.rule()).refusals == ()


async def test_a_proof_that_is_returned_needs_no_right_to_sign(cockpit: Cockpit) -> None:
    cockpit.chain.works = {"1-11": [(MINE, "5-2")]}
    cockpit.chain.forbidden = {MINE: KeyProblem("no")}
    cockpit.block()
    await cockpit.pilot.set_rule(AutopilotRule("1-11", mode=Mode.RETURN_PROOF))
    (request,) = await cockpit.desk.asked_for(1)
    assert request.mode is Mode.RETURN_PROOF
    assert cockpit.chain.rights == []


async def test_a_returned_proof_is_not_asked_for_again_until_the_puzzle_is_another(tmp_path: Path) -> None:
    chain = ListedChain({"1-11": [(MINE, "5-2")]})
    chain.answers.set()
    async with opened(tmp_path / "jobs.db", chain) as cockpit:
        cockpit.block()
        await cockpit.pilot.set_rule(AutopilotRule("1-11", mode=Mode.RETURN_PROOF))
        await cockpit.desk.asked_for(1)
        await cockpit.settled()
        await cockpit.desk.end(MINE, "5-2", JobState.COMPLETED)
        cockpit.block("5-2")
        await cockpit.settled()
        assert len(cockpit.desk.asked) == 1
    async with opened(tmp_path / "jobs.db", chain) as cockpit:
        cockpit.block()
        await cockpit.settled()
        assert cockpit.desk.asked == []
        chain.anchor = 90
        cockpit.block("5-2")
        await cockpit.desk.asked_for(1)


async def test_a_look_that_failed_is_told_and_taken_again_in_later_blocks(cockpit: Cockpit) -> None:
    cockpit.chain.works = {"1-11": [(MINE, "5-2")]}
    cockpit.chain.trouble = ChainUnavailable("no node answers")
    cockpit.block()
    await cockpit.pilot.set_rule(RULE)
    await cockpit.settled()
    view = await cockpit.rule()
    assert (view.error, view.error_at, view.looked_height) == ("no node answers", 1000.0, None)
    for _ in range(8):
        cockpit.block()
        await cockpit.settled()
    assert len(cockpit.chain.asked) == 4  # one block later, then two, then four
    cockpit.chain.trouble = None
    for _ in range(8):
        cockpit.block()
    await cockpit.desk.asked_for(1)
    await cockpit.settled()
    assert (await cockpit.rule()).error is None


async def test_a_defect_is_not_swallowed(tmp_path: Path) -> None:
    chain = ListedChain(trouble=ZeroDivisionError("a defect"))  # type: ignore[arg-type]
    chain.answers.set()
    async with opened(tmp_path / "jobs.db", chain) as cockpit:
        cockpit.block()
        await cockpit.pilot.set_rule(RULE)
        with pytest.raises(ExceptionGroup):
            await asyncio.wait_for(cockpit.running, 10)


async def test_a_paused_rule_is_kept_and_its_player_left_alone(cockpit: Cockpit) -> None:
    cockpit.chain.works = {"1-11": [(MINE, "5-2")]}
    cockpit.block()
    await cockpit.pilot.set_rule(AutopilotRule("1-11", enabled=False))
    cockpit.block("1-11")
    await cockpit.settled()
    assert cockpit.chain.asked == []
    assert (await cockpit.rule()).rule.enabled is False


async def test_a_removed_rule_serves_nobody_and_is_gone_after_a_restart(tmp_path: Path) -> None:
    chain = ListedChain()
    chain.answers.set()
    async with opened(tmp_path / "jobs.db", chain) as cockpit:
        await cockpit.pilot.set_rule(RULE)
        assert await cockpit.pilot.remove_rule("1-11") is True
        assert await cockpit.pilot.remove_rule("1-11") is False
        cockpit.block("1-11")
        await cockpit.settled()
    async with opened(tmp_path / "jobs.db", chain) as cockpit:
        assert await cockpit.pilot.rules() == []
    assert chain.asked == []


async def test_rules_and_what_failed_outlast_a_restart(tmp_path: Path) -> None:
    chain = ListedChain({"1-11": [(MINE, "5-2"), (BUILD, "5-1"), (REFINE, "5-3")]})
    chain.answers.set()
    async with opened(tmp_path / "jobs.db", chain) as cockpit:
        cockpit.block()
        await cockpit.pilot.set_rule(RULE)
        await cockpit.desk.asked_for(3)
        await cockpit.settled()
        cockpit.desk.now += 10
        await cockpit.desk.end(MINE, "5-2", JobState.FAILED, "no ore")
        await cockpit.desk.end(REFINE, "5-3", JobState.COMPLETED)
        await cockpit.settled()
        jobs = dict(cockpit.desk.jobs)
    async with opened(tmp_path / "jobs.db", chain) as cockpit:
        cockpit.desk.jobs, cockpit.desk.now = jobs, 1020.0
        cockpit.block()
        await cockpit.settled()
        view = await cockpit.rule()
        assert view.rule == RULE
        # the build and the second refining are under way, the mine is held back
        assert (view.unfinished, view.held, asked(cockpit)) == (2, 1, [])


async def test_a_limit_of_jobs_is_kept_and_the_next_work_follows_when_one_ends(cockpit: Cockpit) -> None:
    cockpit.chain.works = {"1-11": [(BUILD, f"5-{n}") for n in range(1, 6)]}
    cockpit.block()
    await cockpit.pilot.set_rule(AutopilotRule("1-11", max_jobs=2))
    await cockpit.desk.asked_for(2)
    await cockpit.settled()
    view = await cockpit.rule()
    assert (len(cockpit.desk.asked), view.queued) == (2, 3)
    cockpit.chain.works["1-11"].remove((BUILD, "5-1"))
    await cockpit.desk.end(BUILD, "5-1", JobState.COMPLETED)
    await cockpit.desk.asked_for(3)
    await cockpit.settled()
    assert asked(cockpit) == [(BUILD, "5-1"), (BUILD, "5-2"), (BUILD, "5-3")]


async def test_looks_are_bounded_per_block_and_everybody_has_his_turn(cockpit: Cockpit) -> None:
    players = [f"1-{n}" for n in range(1, 3 * autopilot.LOOKS_PER_BLOCK)]
    for player_id in players:
        await cockpit.pilot.set_rule(AutopilotRule(player_id))
    for block in range(1, 4):
        cockpit.block(unknown=True)
        await cockpit.settled()
        assert len(cockpit.chain.asked) == block * autopilot.LOOKS_PER_BLOCK
    assert set(cockpit.chain.asked) == set(players)


async def test_a_slow_look_at_one_player_does_not_hold_up_another(cockpit: Cockpit) -> None:
    cockpit.chain.works = {"1-12": [(BUILD, "5-1")]}
    first = asyncio.Event()
    listed = cockpit.chain.outstanding_work

    async def slow_for_one(player_id: str) -> list[tuple[Action, str]]:
        if player_id == "1-11":
            await first.wait()
        return await listed(player_id)

    cockpit.chain.outstanding_work = slow_for_one  # type: ignore[method-assign]
    cockpit.block()
    await cockpit.pilot.set_rule(RULE)
    await cockpit.pilot.set_rule(AutopilotRule("1-12"))
    await cockpit.desk.asked_for(1)
    first.set()


async def test_too_many_rules_are_refused(cockpit: Cockpit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autopilot, "MAX_RULES", 1)
    await cockpit.pilot.set_rule(RULE)
    await cockpit.pilot.set_rule(RULE)
    with pytest.raises(InvalidInput, match="remove one first"):
        await cockpit.pilot.set_rule(AutopilotRule("1-12"))


async def test_a_request_that_is_refused_is_told_and_the_others_are_made(cockpit: Cockpit) -> None:
    cockpit.chain.works = {"1-11": [(MINE, "5-2"), (BUILD, "5-1")]}
    submit_all = cockpit.desk.submit_all

    async def refusing(requests):  # type: ignore[no-untyped-def]
        answers = await submit_all(requests)
        answers[0] = HashfleetError("not this one")
        return answers

    cockpit.desk.submit_all = refusing  # type: ignore[method-assign]
    cockpit.block()
    await cockpit.pilot.set_rule(RULE)
    await cockpit.settled()
    view = await cockpit.rule()
    assert (view.error, view.jobs_made) == ("not this one", 1)
