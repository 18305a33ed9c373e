"""Proofs through a guild stack's outbox, signed by an agent that behaves, and misbehaves, as the stock one does."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from coordinator.chain.guild_stack.client import GuildStackClient
from coordinator.chain.guild_stack.outbox import Outbox
from coordinator.submission import keys
from coordinator.submission.attempt import AttemptState, RejectionCause
from coordinator.submission.decision import MAX_PAUSE_BLOCKS
from coordinator.submission.guild_stack import SILENT_SECONDS
from coordinator.submission.lanes import Lanes
from coordinator.submission.outcome import Broadcast, GaveUp, Included, Paused, Rejected
from hashfleet.action import Action
from hashfleet.difficulty import first_age
from hashfleet.errors import BadChainAnswer, ChainUnavailable, KeyProblem
from hashfleet.proof import verify

Admit = Callable[..., str]


async def states(desk: Any, job_id: str = "pow_1") -> list[AttemptState]:
    return [attempt.state for attempt in await desk.store.attempts_of(job_id)]


@pytest.mark.parametrize(
    ("action", "object_id", "command", "bits"),
    [
        (Action.BUILD, "5-1", "struct-build-complete", 1048576),
        (Action.MINE, "5-14", "struct-ore-mine-complete", 2097152),
        (Action.REFINE, "5-15", "struct-ore-refine-complete", 4194304),
        (Action.RAID, "9-7", "planet-raid-complete", 8388608),
    ],
)
async def test_a_proof_becomes_one_row_of_the_owner(
    desk: Any, stack: Any, action: Action, object_id: str, command: str, bits: int
) -> None:
    submission = await desk.submission(action, object_id)
    desk.submitter.submit(submission)
    for _ in range(3):
        await desk.block()
    (row,) = stack.rows()
    assert row["args"] == [object_id, submission.proof.hash, submission.proof.nonce]
    assert (row["command"], row["object_id"], row["permission_requirement"]) == (command, "1-7", bits)
    (attempt,) = await desk.store.attempts_of("pow_1")
    assert (attempt.state, attempt.signer_row, attempt.tx_hash) == (AttemptState.BROADCAST, row["id"], None)


async def test_the_agents_hash_is_followed_on_the_node_to_its_block(
    desk_with_node: Any, agent: Any, node: Any, stack: Any
) -> None:
    desk = desk_with_node
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    row = agent.step()
    await desk.block()
    assert isinstance(desk.told[-1], Broadcast) and desk.told[-1].transaction.hash == row["txhash"]
    # the tables are ahead of the node's answer: nothing is told of the object alone
    stack.set_planet("12-2-9", 1002)
    await desk.block()
    node.include(row["txhash"], 1002)
    await desk.block()
    assert desk.told[-1] == Included("pow_1", desk.told[-1].transaction, 1002)
    (attempt,) = await desk.store.attempts_of("pow_1")
    assert (attempt.state, attempt.height, attempt.tx_hash) == (AttemptState.INCLUDED, 1002, row["txhash"])
    assert len(stack.rows()) == 1


async def test_without_a_node_a_finished_build_is_success_and_said_to_be_seen_in_the_tables(
    desk: Any, agent: Any, stack: Any
) -> None:
    desk.submitter.submit(await desk.submission(Action.BUILD, "5-1"))
    await desk.block()
    agent.step()
    stack.set_struct("1-5-1", 7)
    await desk.block()
    assert isinstance(desk.told[-1], Included)
    assert "guild stack's tables" in desk.told[-1].transaction.message


async def test_without_a_node_a_clock_that_started_anew_is_success_and_tells_the_block(
    desk: Any, agent: Any, stack: Any
) -> None:
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    agent.step()
    stack.set_planet("12-2-9", 1002)
    await desk.block()
    assert isinstance(desk.told[-1], Included) and desk.told[-1].height == 1002


async def test_without_a_node_a_raid_that_is_won_is_success(desk: Any, agent: Any, stack: Any) -> None:
    desk.submitter.submit(await desk.submission(Action.RAID, "9-7"))
    await desk.block()
    agent.step()
    stack.do("UPDATE structs.fleet SET status = 'onStation', location_id = '2-9' WHERE id = '9-7'")
    stack.do("INSERT INTO structs.planet_raid (planet_id, fleet_id, status) VALUES ('2-20', '9-7', 'raidSuccessful')")
    await desk.block()
    assert isinstance(desk.told[-1], Included)


async def test_without_a_node_a_raid_that_ended_otherwise_is_no_success(desk: Any, agent: Any, stack: Any) -> None:
    desk.submitter.submit(await desk.submission(Action.RAID, "9-7"))
    await desk.block()
    agent.step()
    stack.do("UPDATE structs.fleet SET status = 'onStation', location_id = '2-9' WHERE id = '9-7'")
    stack.do("INSERT INTO structs.planet_raid (planet_id, fleet_id, status) VALUES ('2-20', '9-7', 'attackerDefeated')")
    for _ in range(4):
        await desk.block()
    assert desk.kinds()[-1] == "GaveUp"
    assert await states(desk) == [AttemptState.SUPERSEDED]


async def test_a_clock_that_other_rigs_share_is_never_taken_for_success(desk: Any, agent: Any, stack: Any) -> None:
    stack.add_struct("5-16", 14, status=7)
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    agent.step()
    stack.set_planet("12-2-9", 1002)
    for _ in range(4):
        await desk.block()
    assert desk.kinds()[-1] == "Stale"
    assert "do not tell" in desk.told[-1].reason


async def test_a_row_that_nobody_claimed_has_not_won_what_somebody_else_did(desk: Any, stack: Any) -> None:
    desk.submitter.submit(await desk.submission(Action.BUILD, "5-1"))
    await desk.block()
    stack.set_struct("1-5-1", 7)
    for _ in range(4):
        await desk.block()
    assert desk.kinds() == ["Broadcast", "GaveUp"]


async def test_a_transaction_that_fails_in_its_block_is_put_in_again(
    desk_with_node: Any, agent: Any, node: Any, stack: Any
) -> None:
    desk = desk_with_node
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    node.include(agent.step()["txhash"], 1002, 2031, "structs-ante", "had its attempt in this block")
    for _ in range(3):  # others fill the blocks: it pauses
        await desk.block()
    assert [row["status"] for row in stack.rows()] == ["broadcast", "pending"]
    node.include(agent.step()["txhash"], 1005)
    await desk.block()
    assert desk.kinds()[-1] == "Included"
    assert await states(desk) == [AttemptState.REJECTED, AttemptState.INCLUDED]


async def test_a_refusal_by_code_decides_about_the_proof(desk: Any, agent: Any, stack: Any, admit: Admit) -> None:
    desk.submitter.submit(await desk.submission(Action.BUILD, "5-1"))
    await desk.block()
    agent.step(lambda row: admit(row, 1250, "structs", "already built"))
    await desk.block()
    assert desk.kinds()[-2:] == ["Rejected", "GaveUp"]
    for _ in range(3):
        await desk.block()
    assert len(stack.rows()) == 1


async def test_a_refusal_that_needs_a_person_pauses(desk: Any, agent: Any, stack: Any, admit: Admit) -> None:
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    agent.step(lambda row: admit(row, 2011, "structs-ante", "address lacks permission"))
    await desk.block()
    assert isinstance(desk.told[-1], Paused) and "2011" in desk.told[-1].reason
    assert len(stack.rows()) == 1


async def test_silence_is_not_answered_before_it_is_certain(desk: Any, agent: Any, stack: Any) -> None:
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    agent.step(lambda row: "")
    for _ in range(5):
        await desk.block()
    assert len(stack.rows()) == 1
    stack.let_pass(SILENT_SECONDS + 1)
    await desk.block()
    assert await states(desk) == [AttemptState.REJECTED]
    assert "no output" in desk.told[-1].reason
    for _ in range(2):
        await desk.block()
    assert [row["status"] for row in stack.rows()] == ["broadcast", "pending"]


async def test_a_silent_row_that_landed_all_the_same_is_success(desk: Any, agent: Any, stack: Any) -> None:
    desk.submitter.submit(await desk.submission(Action.BUILD, "5-1"))
    await desk.block()
    agent.step(lambda row: "\n")  # its node took the transaction, but the answer was lost
    stack.set_struct("1-5-1", 7)
    stack.let_pass(SILENT_SECONDS + 1)
    await desk.block()
    assert desk.kinds()[-1] == "Included"
    assert len(stack.rows()) == 1


async def test_an_agent_that_stays_silent_is_given_up_after_five_rows(desk: Any, agent: Any, stack: Any) -> None:
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    for _ in range(120):
        await desk.block()
        if agent.step(lambda row: ""):
            stack.let_pass(SILENT_SECONDS + 1)
        if desk.kinds()[-1:] == ["GaveUp"]:
            break
    assert desk.kinds()[-1] == "GaveUp"
    assert len(stack.rows()) == agent.sent == 5


@pytest.mark.parametrize("has_node", [False, True], ids=["without a node", "with a node"])
async def test_a_row_that_an_agent_claimed_and_left_is_reported_and_never_doubled(
    desk: Any, desk_with_node: Any, agent: Any, stack: Any, has_node: bool
) -> None:
    desk = desk_with_node if has_node else desk
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    agent.claim_account(agent.claim()["id"])  # and the agent is gone
    stack.let_pass(10_000)
    for _ in range(20):
        await desk.block()
    assert isinstance(desk.told[-1], Paused) and "crash" in desk.told[-1].reason
    assert [row["status"] for row in stack.rows()] == ["claimed"]
    assert await states(desk) == [AttemptState.BROADCAST]


async def test_a_stuck_row_is_replaced_once_a_later_transaction_of_its_account_is_in_a_block(
    desk_with_node: Any, agent: Any, node: Any, stack: Any
) -> None:
    desk = desk_with_node
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    stuck = agent.claim()["id"]
    agent.claim_account(stuck)
    stack.do("UPDATE signer.account SET status = 'available'")  # an operator frees the key
    stack.let_pass(10_000)
    await desk.block()
    desk.submitter.submit(await desk.submission(Action.BUILD, "5-1", "pow_2"))
    await desk.block()
    later = agent.step()
    await desk.block()
    assert len(stack.rows()) == 2  # the later one is in no block yet
    node.include(later["txhash"], desk.height)
    await desk.block()
    await desk.block()
    assert [row["args"][0] for row in stack.rows()] == ["5-14", "5-1", "5-14"]
    assert await states(desk) == [AttemptState.SUPERSEDED, AttemptState.BROADCAST]


async def test_an_admitted_transaction_that_lands_in_no_block_is_waited_for(
    desk_with_node: Any, agent: Any, stack: Any
) -> None:
    desk = desk_with_node
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    agent.step()
    stack.let_pass(10_000)
    for _ in range(10):
        await desk.block()
    assert isinstance(desk.told[-1], Paused) and "in no block" in desk.told[-1].reason
    assert len(stack.rows()) == 1


async def test_an_output_that_cannot_be_read_is_never_answered_with_a_second_row(
    desk: Any, agent: Any, stack: Any
) -> None:
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    agent.step(lambda row: "panic: runtime error")
    stack.let_pass(10_000)
    for _ in range(10):
        await desk.block()
    assert isinstance(desk.told[-1], Paused) and "panic" in desk.told[-1].reason
    assert len(stack.rows()) == 1


async def test_an_operator_may_end_a_stuck_row(desk: Any, agent: Any, stack: Any) -> None:
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    stuck = agent.claim()["id"]
    await desk.block()
    stack.do("SELECT signer.transaction_error(%(i)s, 'the agent was restarted')", i=stuck)
    stack.let_pass(SILENT_SECONDS + 1)
    for _ in range(4):
        await desk.block()
    assert [row["status"] for row in stack.rows()] == ["error", "pending"]


async def test_a_row_that_nobody_claims_is_told_of(desk: Any, stack: Any) -> None:
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    stack.let_pass(121)
    await desk.block()
    assert isinstance(desk.told[-1], Paused) and "signing agent" in desk.told[-1].reason


async def test_a_row_of_another_tool_for_the_same_puzzle_is_followed_instead(desk: Any, agent: Any, stack: Any) -> None:
    submission = await desk.submission(Action.BUILD, "5-1")
    other = next(
        proof
        for n in range(10**6)
        if (proof := verify(submission.work.prefix, f"7{n}")).zeros >= 2 and proof != submission.proof
    )
    stack.do(
        "SELECT signer.tx_struct_build_complete('1-7', '5-1', %(p)s::varchar, %(n)s::varchar)",
        p=other.hash,
        n=other.nonce,
    )
    desk.submitter.submit(submission)
    await desk.block()
    assert [row["args"][2] for row in stack.rows()] == [other.nonce]
    agent.step()
    stack.set_struct("1-5-1", 7)
    await desk.block()
    assert desk.kinds()[-1] == "Included"


async def test_a_row_for_an_older_anchor_does_not_stand_for_the_present_one(desk: Any, stack: Any) -> None:
    stack.do("SELECT signer.tx_struct_ore_mine_complete('1-7', '5-14', '00aa', '1')")
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    assert len(stack.rows()) == 2


# ---- crashes ---------------------------------------------------------------------------------------------------------


async def test_after_a_crash_before_the_row_it_is_made_once(desk: Any, stack: Any, monkeypatch: Any) -> None:
    async def fail(*_: object) -> None:
        raise ChainUnavailable("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "put", fail)
        desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
        await desk.block()
    assert await states(desk) == [AttemptState.PREPARED]
    desk.new()
    await desk.submitter.recover()
    for _ in range(3):
        await desk.block()
    assert len(stack.rows()) == 1
    assert await states(desk) == [AttemptState.BROADCAST]


async def test_a_lane_of_our_own_leaves_alone_what_the_outbox_may_hold(desk: Any, monkeypatch: Any) -> None:
    async def fail(*_: object) -> None:
        raise ChainUnavailable("the connection is lost")

    async def hear(_: object) -> None: ...

    monkeypatch.setattr(Outbox, "put", fail)
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    lanes = Lanes(desk.chain, desk.store, (keys.from_hex("11" * 32),), clock=lambda: 2.0, on_outcome=hear)
    await lanes.recover()
    assert await states(desk) == [AttemptState.PREPARED]


@pytest.mark.parametrize("output", [None, ""], ids=["admitted", "silent"])
async def test_after_a_crash_behind_the_row_it_is_found_whatever_the_agent_did_meanwhile(
    desk: Any, stack: Any, agent: Any, monkeypatch: Any, output: str | None
) -> None:
    put = Outbox.put

    async def put_and_lose_the_answer(self: Outbox, *arguments: Any) -> None:
        await put(self, *arguments)
        raise ChainUnavailable("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "put", put_and_lose_the_answer)
        desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
        await desk.block()
    assert await states(desk) == [AttemptState.PREPARED]
    agent.step(None if output is None else lambda row: output)
    desk.new()
    await desk.submitter.recover()
    for _ in range(3):
        await desk.block()
    (row,) = stack.rows()
    (attempt,) = await desk.store.attempts_of("pow_1")
    assert (attempt.state, attempt.signer_row) == (AttemptState.BROADCAST, row["id"])


async def test_a_row_is_followed_on_after_a_restart(desk_with_node: Any, agent: Any, node: Any, stack: Any) -> None:
    desk = desk_with_node
    submission = await desk.submission(Action.MINE, "5-14")
    desk.submitter.submit(submission)
    await desk.block()
    desk.new()
    await desk.submitter.recover()
    desk.submitter.submit(submission)  # the coordinator restores its job, too
    node.include(agent.step()["txhash"], 1003)
    await desk.block()
    assert desk.kinds()[-1] == "Included"
    assert len(stack.rows()) == 1


async def test_an_inclusion_that_was_stored_but_not_told_is_told_after_a_restart(
    desk_with_node: Any, agent: Any, node: Any, stack: Any
) -> None:
    desk = desk_with_node
    submission = await desk.submission(Action.MINE, "5-14")
    desk.submitter.submit(submission)
    await desk.block()
    node.include(agent.step()["txhash"], 1002)
    await desk.block()
    desk.told.clear()
    desk.new().submit(submission)
    await desk.block()
    assert desk.kinds() == ["Included"]
    assert len(stack.rows()) == 1


async def test_a_node_that_is_down_holds_up_nothing_and_loses_nothing(
    desk_with_node: Any, agent: Any, node: Any, stack: Any
) -> None:
    desk = desk_with_node
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    row = agent.step()
    node.down = True
    desk.submitter.submit(await desk.submission(Action.BUILD, "5-1", "pow_2"))
    for _ in range(3):
        await desk.block()
    assert len(stack.rows()) == 2
    node.down = False
    node.include(row["txhash"], 1003)
    await desk.block()
    assert "Included" in desk.kinds()


async def test_a_success_that_the_node_finds_late_is_no_loss(
    desk_with_node: Any, agent: Any, node: Any, stack: Any
) -> None:
    desk = desk_with_node
    desk.submitter.submit(await desk.submission(Action.BUILD, "5-1"))
    await desk.block()
    row = agent.step()
    stack.set_struct("1-5-1", 7)
    for _ in range(10):
        await desk.block()
    node.include(row["txhash"], 1002)
    await desk.block()
    assert desk.kinds()[-1] == "Included"
    assert await states(desk) == [AttemptState.INCLUDED]


async def test_a_success_that_no_node_ever_finds_was_somebody_elses(
    desk_with_node: Any, agent: Any, stack: Any
) -> None:
    desk = desk_with_node
    desk.submitter.submit(await desk.submission(Action.BUILD, "5-1"))
    await desk.block()
    agent.step()
    stack.set_struct("1-5-1", 7)
    for _ in range(30):
        await desk.block()
    assert desk.kinds()[-1] == "GaveUp"
    assert await states(desk) == [AttemptState.SUPERSEDED]


@pytest.mark.parametrize("how", ["is_destroyed = true", "is_destroyed = NULL"], ids=["by its row", "by its status"])
async def test_a_rig_that_is_destroyed_ends_its_row_though_the_planets_clock_goes_on(
    desk: Any, agent: Any, stack: Any, how: str
) -> None:
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    await desk.block()
    agent.step(lambda row: "")
    stack.do(f"UPDATE structs.struct SET {how} WHERE id = '5-14'")
    stack.set_struct("1-5-14", 35)
    for _ in range(4):
        await desk.block()
    assert desk.kinds()[-1] == "GaveUp"
    assert await states(desk) == [AttemptState.SUPERSEDED]


async def test_nothing_is_put_in_while_the_index_lags(desk: Any, stack: Any) -> None:
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    stack.index(1001, status="syncing")
    desk.submitter.block_seen(1001)
    await desk.submitter._advance()
    assert stack.rows() == []
    await desk.block(1002)
    assert len(stack.rows()) == 1


async def test_a_proof_is_not_put_in_before_the_agents_simulation_would_take_it(desk: Any, stack: Any) -> None:
    # range 150: 3 zeros are enough from age 129 on (anchor 900: block 1029), so from the state at 1029 on
    stack.set_planet("12-2-9", 900)
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14", zeros=3))
    first = None
    for height in range(1001, 1060):
        await desk.block(height)
        if stack.rows():
            first = height
            break
    assert first == 900 + first_age((await desk.store.attempts_of("pow_1"))[0].proof.zeros, 150)


async def test_a_puzzle_that_moved_before_the_row_was_made_makes_none(desk: Any, stack: Any) -> None:
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    stack.set_planet("12-2-9", 999)
    await desk.block()
    assert (desk.kinds(), stack.rows()) == (["Stale"], [])


# ---- the outbox itself -----------------------------------------------------------------------------------------------


async def test_coordinators_that_put_in_at_once_make_one_row(
    client: GuildStackClient, stack: Any, stack_url: str, desk: Any
) -> None:
    submission = await desk.submission(Action.MINE, "5-14")
    others = [GuildStackClient(stack_url) for _ in range(3)]
    put = [
        Outbox(one.database).put(submission.work, submission.proof, frozenset(), 60)
        for one in (client, *others)
        for _ in "123"
    ]
    rows = await asyncio.gather(*put)
    assert {row.id for row in rows} == {stack.rows()[0]["id"]}
    assert len(stack.rows()) == 1
    for one in others:
        await one.close()


async def test_a_put_in_that_is_still_under_way_elsewhere_is_waited_for(
    client: GuildStackClient, stack: Any, stack_url: str, desk: Any
) -> None:
    submission = await desk.submission(Action.BUILD, "5-1")
    proof = submission.proof
    async with await psycopg.AsyncConnection.connect(stack_url) as slow:
        lock = "hashfleet/struct-build-complete/5-1"
        await slow.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (lock,))
        await slow.execute(
            "SELECT signer.tx_struct_build_complete('1-7', '5-1', %s::varchar, %s::varchar)", (proof.hash, proof.nonce)
        )
        waiting = asyncio.ensure_future(Outbox(client.database).put(submission.work, proof, frozenset(), 60))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await slow.commit()
        assert (await waiting).args[2] == proof.nonce
    assert len(stack.rows()) == 1


async def test_a_role_with_the_documented_grants_alone_puts_in_and_follows(
    stack: Any, granted_url: str, store: Any, agent: Any, make_desk: Any
) -> None:
    client = GuildStackClient(granted_url, poll_seconds=60)
    await client.connect()
    desk = make_desk(stack, client, store)
    assert await desk.submitter.choose_signer(Action.BUILD, "5-1") == ""
    desk.submitter.submit(await desk.submission(Action.BUILD, "5-1"))
    await desk.block()
    with pytest.raises(BadChainAnswer, match="grant"):
        await client.database.one("SELECT to_jsonb(t) FROM signer.tx t FOR UPDATE", {}, "what is not granted")
    agent.step()
    stack.set_struct("1-5-1", 7)
    await desk.block()
    assert desk.kinds() == ["Broadcast", "Broadcast", "Included"]
    await client.close()


# ---- who may sign ----------------------------------------------------------------------------------------------------


async def test_the_agents_key_of_the_owner_may_sign(desk: Any) -> None:
    assert await desk.submitter.choose_signer(Action.MINE, "5-14") == ""
    assert desk.submitter.addresses == ()


async def test_nobody_may_sign_for_a_player_whose_key_the_agent_does_not_hold(desk: Any, stack: Any) -> None:
    stack.add_struct("5-50", 14, status=1, build_anchor=500, owner="1-8")
    with pytest.raises(KeyProblem, match="1-8"):
        await desk.submitter.choose_signer(Action.BUILD, "5-50")
    stack.grant("1-8", "1-7", 1048576)
    assert await desk.submitter.choose_signer(Action.BUILD, "5-50") == ""


async def test_a_key_that_is_still_being_made_is_waited_for(desk: Any, stack: Any) -> None:
    stack.do("DELETE FROM structs.permission; UPDATE signer.account SET status = 'generating'")
    assert await desk.submitter.choose_signer(Action.MINE, "5-14") == ""


async def test_where_the_agents_tables_cannot_be_read_it_is_trusted_and_that_is_said(
    desk: Any, stack: Any, caplog: Any
) -> None:
    stack.do("ALTER TABLE signer.account RENAME TO accounts")
    assert await desk.submitter.choose_signer(Action.MINE, "5-14") == ""
    assert "cannot be told" in caplog.text


async def test_a_charter_is_refused_because_the_outbox_asks_for_a_right_that_founders_lack(desk: Any) -> None:
    with pytest.raises(KeyProblem, match="reactor"):
        await desk.submitter.choose_signer(Action.CHARTER, "1-7")


async def test_how_it_fares_is_counted(desk: Any, agent: Any, stack: Any) -> None:
    desk.submitter.submit(await desk.submission(Action.BUILD, "5-1"))
    await desk.block()
    (status,) = desk.submitter.status()
    assert (status.in_flight, status.included) == (1, 0)
    agent.step()
    stack.set_struct("1-5-1", 7)
    await desk.block()
    (status,) = desk.submitter.status()
    assert (status.in_flight, status.included, status.rejected) == (0, 1, 0)


# ---- what is told of rejections, and how often a proof is put in again -----------------------------------------------


async def play(desk: Any, agent: Any, blocks: int, output: Callable[[dict[str, Any]], str]) -> list[int]:
    """Let blocks pass, the agent's command printing the same each time; the heights at which it ran."""
    ran = []
    for _ in range(blocks):
        await desk.block()
        if agent.step(output) is not None:
            ran.append(desk.height)
    return ran


async def test_many_rejections_raise_the_guild_stacks_alarm_once_and_successes_withdraw_it(
    desk: Any, agent: Any, stack: Any, admit: Admit, caplog: Any
) -> None:
    builds = [f"5-{number}" for number in range(20, 50)]
    for number, struct in enumerate(builds):
        stack.add_struct(struct, 14, status=1, build_anchor=320)
        if number < 12:
            desk.submitter.submit(await desk.submission(Action.BUILD, struct, f"pow_{struct}"))
    await desk.block()
    while agent.step(lambda row: admit(row, 1250, "structs", "already built")):
        pass
    await desk.block()
    (status,) = desk.submitter.status()
    assert status.alarm.startswith(
        "12 of the last 12 transactions were rejected, the last one because the chain answered"
    )
    assert caplog.text.count("The operator should look at the lane of guild stack") == 1
    for struct in builds[12:]:
        desk.submitter.submit(await desk.submission(Action.BUILD, struct, f"pow_{struct}"))
    await desk.block()
    while agent.step():
        pass
    for struct in builds[12:]:
        stack.set_struct(f"1-{struct}", 7)
    await desk.block()
    (status,) = desk.submitter.status()
    assert (status.included, status.rejected, status.alarm) == (18, 12, "")


async def test_an_agent_whose_command_fails_raises_the_alarm(desk: Any, agent: Any, stack: Any) -> None:
    for number in range(20, 30):
        stack.add_struct(f"5-{number}", 14, status=1, build_anchor=320)
        desk.submitter.submit(await desk.submission(Action.BUILD, f"5-{number}", f"pow_{number}"))
    await desk.block()
    while agent.step(lambda row: ""):
        pass
    stack.let_pass(SILENT_SECONDS + 1)
    await desk.block()
    (status,) = desk.submitter.status()
    assert status.alarm.startswith("10 of the last 10 transactions were rejected, the last one because row ")
    assert status.alarm.endswith("has no output: the signing agent's command failed")


async def test_the_rejection_of_a_row_is_told_and_kept_with_its_cause(
    desk_with_node: Any, agent: Any, node: Any, stack: Any
) -> None:
    desk = desk_with_node
    submission = await desk.submission(Action.MINE, "5-14")
    desk.submitter.submit(submission)
    await desk.block()
    hashed = submission.work.prefix.decode() + submission.proof.nonce
    log = f"work failure for input ({hashed}) when trying to mine on struct 5-14"
    node.include(agent.step()["txhash"], 1002, 1800, "structs", log)
    await desk.block()
    (rejected,) = [one for one in desk.told if isinstance(one, Rejected)]
    assert rejected.reason.startswith("the chain rejected the proof: the difficulty was too high at that height")
    (attempt,) = await desk.store.attempts_of("pow_1")
    assert (attempt.cause, attempt.height) == (RejectionCause.DIFFICULTY, 1002)


async def test_a_row_in_another_form_of_preimage_is_a_persons_matter_and_put_in_once_more(
    desk_with_node: Any, agent: Any, node: Any, stack: Any, caplog: Any
) -> None:
    desk = desk_with_node
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    for _ in range(40):
        await desk.block()
        if (row := agent.step()) is not None:
            log = "work failure for input (NEW/5-14/MINE/7) when trying to mine on struct 5-14"
            node.include(row["txhash"], desk.height + 1, 1800, "structs", log)
    assert agent.sent == 2
    assert isinstance(desk.told[-1], GaveUp) and "another form of preimage" in desk.told[-1].reason
    assert "The operator should look at this" in caplog.text


@pytest.mark.parametrize(
    ("code", "codespace"), [(2011, "structs-ante"), (1201, "structs")], ids=["needs a person", "takes no proof now"]
)
async def test_a_refusal_that_stays_has_rows_made_ever_more_rarely(
    desk: Any, agent: Any, stack: Any, admit: Admit, code: int, codespace: str
) -> None:
    desk.submitter.submit(await desk.submission(Action.MINE, "5-14"))
    ran = await play(desk, agent, 240, lambda row: admit(row, code, codespace, "no"))
    apart = [after - before for before, after in itertools.pairwise(ran)]
    assert apart == sorted(apart) and apart[-1] > MAX_PAUSE_BLOCKS
    assert desk.kinds()[-1] == "Paused"


@pytest.mark.parametrize("restarts", [False, True], ids=["", "restarted after each"])
@pytest.mark.parametrize(("code", "codespace"), [(20, "sdk"), (32, "sdk"), (2041, "structs-ante"), (1, "undefined")])
async def test_no_limit_or_sequence_that_a_node_refuses_a_row_for_costs_a_good_proof(
    desk: Any, agent: Any, stack: Any, admit: Admit, code: int, codespace: str, restarts: bool
) -> None:
    submission = await desk.submission(Action.BUILD, "5-1")
    desk.submitter.submit(submission)
    for _ in range(8):
        ran = await play(desk, agent, 12, lambda row: admit(row, code, codespace, "not now"))
        assert 1 <= len(ran) <= 5
        if restarts:
            desk.new()
            await desk.submitter.recover()
            desk.submitter.submit(submission)
    while agent.step(lambda row: "") is None:  # and the first failure that may say something of the proof
        await desk.block()
    stack.let_pass(SILENT_SECONDS + 1)
    await desk.block()
    while agent.step() is None:
        await desk.block()
    stack.set_struct("1-5-1", 7)
    await desk.block()
    assert desk.kinds()[-1] == "Included" and "GaveUp" not in desk.kinds()


@pytest.mark.parametrize("restarts", [False, True], ids=["", "restarted after each"])
async def test_no_limit_per_block_that_a_row_meets_in_its_block_costs_a_good_proof(
    desk_with_node: Any, agent: Any, node: Any, stack: Any, restarts: bool
) -> None:
    desk = desk_with_node
    submission = await desk.submission(Action.BUILD, "5-1")
    desk.submitter.submit(submission)
    for _ in range(7):
        while (row := agent.step()) is None:
            await desk.block()
        node.include(row["txhash"], desk.height + 1, 2031, "structs-ante", "had its attempt in this block")
        await desk.block()
        if restarts:
            desk.new().submit(submission)
    for code in (1800, 0):  # and the first failure that says something of the proof
        while (row := agent.step()) is None:
            await desk.block()
        node.include(row["txhash"], desk.height + 1, code, "structs" if code else "", "")
        await desk.block()
    assert desk.kinds()[-1] == "Included" and "GaveUp" not in desk.kinds()


async def test_what_says_something_of_the_proof_is_counted_over_restarts(
    desk_with_node: Any, agent: Any, node: Any, stack: Any
) -> None:
    desk = desk_with_node
    submission = await desk.submission(Action.BUILD, "5-1")
    desk.submitter.submit(submission)
    for _ in range(60):
        await desk.block()
        if (row := agent.step()) is not None:
            node.include(row["txhash"], desk.height + 1, 1800, "structs", "the proof is rejected")
            await desk.block()
            if desk.kinds()[-1] == "GaveUp":
                break
            desk.new().submit(submission)
    assert desk.kinds()[-1] == "GaveUp" and agent.sent == 5


async def test_rows_that_others_ended_do_not_count_against_a_proof_after_a_restart(
    desk: Any, agent: Any, stack: Any
) -> None:
    submission = await desk.submission(Action.MINE, "5-14")
    desk.submitter.submit(submission)
    for _ in range(5):
        while not stack.rows():
            await desk.block()
        stack.do("DELETE FROM signer.tx")
        while (await states(desk))[-1].live:
            await desk.block()
        desk.new().submit(submission)
    while agent.step(lambda row: "") is None:
        await desk.block()
    stack.let_pass(SILENT_SECONDS + 1)
    await desk.block()
    assert desk.kinds()[-1] == "Paused"
