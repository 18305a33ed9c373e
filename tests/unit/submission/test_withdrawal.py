"""A proof is withdrawn, or hurried, as long as nothing is signed for it that may land, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from coordinator.chain.client import SigningRight
from coordinator.store.protocol import StoreError
from coordinator.submission.attempt import Attempt, AttemptState
from coordinator.submission.keys import SigningKey
from coordinator.submission.withdrawal import nothing_may_land
from hashfleet.action import Action
from hashfleet.errors import KeyProblem, WorkPaused

# A scene is what conftest.py sets up; pytest's importlib mode gives tests no way to name its type.
Scene = Any
FIRST, SECOND = (SigningKey(bytes(range(start, start + 32))) for start in (1, 2))
RAID = WorkPaused("the planet is under raid")


async def lands_nothing(scene: Scene) -> None:
    """Nothing is sent in any later block, and no row of the ledger holds the claim."""
    await scene.block(40)
    assert scene.chain.broadcasts == []
    assert not [row for row in scene.ledger.rows if row.state.live]


# ---- withdrawn ---------------------------------------------------------------------------------------------------


async def test_a_proof_that_waits_is_withdrawn_and_never_sent(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    proof = scene.pose(1)
    scene.chain.works[Action.MINE, "5-1"] = RAID
    await scene.submit(replace(proof, signer=SECOND.address))
    assert scene.of("pow_1") == ["Paused"]
    assert await scene.lane.withdraw("pow_1")
    scene.chain.works[Action.MINE, "5-1"] = proof.work
    await lands_nothing(scene)
    assert scene.of("pow_1") == ["Paused"]
    assert scene.lane.waiting == 0


async def test_a_proof_whose_transactions_were_refused_is_withdrawn_between_them(scene: Scene) -> None:
    await scene.run_lanes(FIRST)
    scene.chain.next_broadcasts.append(("structs-ante", 2014))
    await scene.submit(replace(scene.pose(1), signer=FIRST.address))
    assert len(scene.chain.broadcasts) == 1
    assert await scene.lane.withdraw("pow_1")
    await scene.block(40)
    assert len(scene.chain.broadcasts) == 1
    assert [row.state for row in scene.ledger.rows] == [AttemptState.REJECTED]


async def test_a_proof_that_no_key_may_sign_for_is_withdrawn(scene: Scene) -> None:
    await scene.run_lanes(FIRST)
    scene.chain.rights = {FIRST.address: KeyProblem("not registered")}
    await scene.submit(replace(scene.pose(1), signer="gone"))
    assert await scene.lane.withdraw("pow_1")
    scene.chain.rights.clear()
    await lands_nothing(scene)


async def test_another_job_has_the_claim_after_a_withdrawal(scene: Scene) -> None:
    await scene.run_lanes(FIRST)
    proof = scene.pose(1)
    scene.chain.works[Action.MINE, "5-1"] = RAID
    await scene.submit(replace(proof, signer=FIRST.address))
    assert await scene.lane.withdraw("pow_1")
    scene.chain.works[Action.MINE, "5-1"] = proof.work
    await scene.submit(replace(proof, job_id="pow_2", signer=FIRST.address))
    await scene.block(2)
    assert scene.included == ["pow_2"]


async def test_a_proof_that_is_not_here_is_withdrawn(scene: Scene) -> None:
    await scene.run_lanes(FIRST)
    assert await scene.lane.withdraw("pow_1")


# ---- refused -----------------------------------------------------------------------------------------------------


async def test_a_proof_whose_transaction_may_land_is_not_withdrawn_and_lands(scene: Scene) -> None:
    await scene.run_lanes(FIRST)
    scene.chain.includes = False
    await scene.submit(replace(scene.pose(1), signer=FIRST.address))
    assert not await scene.lane.withdraw("pow_1")
    scene.chain.includes = True
    await scene.block(2)
    assert scene.included == ["pow_1"]


async def test_a_transaction_of_an_earlier_run_counts_before_it_is_taken_up(scene: Scene) -> None:
    await scene.run_lanes(FIRST)
    scene.chain.includes = False
    await scene.submit(replace(scene.pose(1), signer=FIRST.address))
    await scene.stop()
    assert not await scene.make_lanes((FIRST,)).withdraw("pow_1")


async def test_a_success_that_a_crash_kept_from_being_told_counts(scene: Scene) -> None:
    await scene.run_lanes(FIRST)
    await scene.submit(replace(scene.pose(1), signer=FIRST.address))
    await scene.block(2)
    assert [row.state for row in scene.ledger.rows] == [AttemptState.INCLUDED]
    assert not await scene.make_lanes((FIRST,)).withdraw("pow_1")


@pytest.mark.parametrize(
    ("state", "address", "free"),
    [
        (AttemptState.PREPARED, "structs1key", True),
        (AttemptState.PREPARED, "", False),
        (AttemptState.SIGNED, "structs1key", False),
        (AttemptState.BROADCAST, "", False),
        (AttemptState.INCLUDED, "structs1key", False),
        (AttemptState.REJECTED, "structs1key", True),
        (AttemptState.SUPERSEDED, "structs1key", True),
    ],
)
def test_a_row_stands_in_the_way_only_if_something_of_it_may_land(
    scene: Scene, state: AttemptState, address: str, free: bool
) -> None:
    proof = scene.pose(1)
    row = Attempt("pow_1", proof.work, proof.proof, address, 1, 1, b"", "AB", 150, state, 0.0, 0.0)
    assert nothing_may_land([row], 152) is free


def test_a_sequence_that_was_used_may_have_been_used_by_the_transaction_itself(scene: Scene) -> None:
    proof = scene.pose(1)
    row = Attempt("pow_1", proof.work, proof.proof, "a", 1, 1, b"", "AB", 150, AttemptState.SUPERSEDED, 0.0, 0.0)
    assert not nothing_may_land([row], 151)


async def test_where_the_ledger_cannot_be_read_nothing_is_changed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.run_lanes(FIRST)
    proof = scene.pose(1)
    scene.chain.works[Action.MINE, "5-1"] = RAID
    await scene.submit(replace(proof, signer=FIRST.address))

    async def fail(job_id: str) -> list[Attempt]:
        raise StoreError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(scene.ledger, "attempts_of", fail)
        with pytest.raises(StoreError):
            await scene.lane.withdraw("pow_1")
    scene.chain.works[Action.MINE, "5-1"] = proof.work
    await scene.block(2)
    assert scene.included == ["pow_1"]


# ---- at the very moment ------------------------------------------------------------------------------------------


class Schedule:
    """Has every call take a turn of the loop, and reading rows take longer: they are as they were at first."""

    def __init__(self, scene: Scene, read_turns: int, *, store_fails: bool) -> None:
        self.read_turns = read_turns
        self.rows_of = scene.ledger.attempts_of
        self.update = scene.ledger.update_attempts
        self.store_fails = store_fails

    async def call(self, name: str) -> None:
        await asyncio.sleep(0)

    async def attempts_of(self, job_id: str) -> list[Attempt]:
        rows = await self.rows_of(job_id)
        for _ in range(self.read_turns):
            await asyncio.sleep(0)
        return rows  # type: ignore[no-any-return]

    async def update_attempts(self, attempts: Sequence[Attempt]) -> None:
        await self.update(attempts)
        if self.store_fails:
            self.store_fails = False
            raise StoreError("it is stored, but nobody knows")


@pytest.mark.parametrize("store_fails", [False, True], ids=["", "signed but not known whether stored"])
@pytest.mark.parametrize("read_turns", [0, 1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("begins", range(32))
async def test_whenever_it_is_asked_for_a_withdrawn_proof_is_never_sent_and_any_other_lands(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, begins: int, read_turns: int, store_fails: bool
) -> None:
    await scene.run_lanes(FIRST, SECOND)
    schedule = Schedule(scene, read_turns, store_fails=store_fails)
    monkeypatch.setattr(scene.ledger, "attempts_of", schedule.attempts_of)
    monkeypatch.setattr(scene.ledger, "update_attempts", schedule.update_attempts)
    monkeypatch.setattr(scene.chain, "interrupt", schedule.call)
    monkeypatch.setattr(scene.ledger, "interrupt", schedule.call)
    scene.lane.submit(replace(scene.pose(1), signer=FIRST.address))
    for _ in range(begins):
        await asyncio.sleep(0)
    if await scene.lane.withdraw("pow_1"):
        await scene.settle()
        await lands_nothing(scene)
    else:
        await scene.settle()
        await scene.block(4)
        assert scene.included == ["pow_1"]
    await scene.stop()
    await scene.start(scene.make_lanes((FIRST, SECOND)))
    await scene.block(2)
    assert not [row for row in scene.ledger.rows if row.state.live]
    assert len({sent.tx_hash for sent in scene.chain.sent()}) == len(scene.included)


async def test_a_withdrawn_proof_is_not_handed_to_another_key(scene: Scene) -> None:
    await scene.run_lanes(FIRST, SECOND)
    scene.chain.rights = {FIRST.address: KeyProblem("not registered"), SECOND.address: SigningRight("1-7", "1-7")}
    withdrawn: list[bool] = []

    async def withdraw(call: str) -> None:
        if call == "check_signer" and not withdrawn:
            withdrawn.append(False)
            withdrawn[0] = await scene.lane.withdraw("pow_1")

    scene.chain.interrupt = withdraw
    await scene.submit(replace(scene.pose(1), signer=FIRST.address))
    await scene.block(4)
    assert withdrawn == [True]
    assert {sent.address for sent in scene.chain.sent()} == {FIRST.address}
    assert scene.included == []
    assert scene.lane.waiting == 0


# ---- hurried -----------------------------------------------------------------------------------------------------


async def test_a_proof_that_is_hurried_is_sent_before_the_others(scene: Scene) -> None:
    await scene.run_lanes(FIRST, sends_per_block=1)
    proofs = [replace(scene.pose(number, priority=3), signer=FIRST.address) for number in range(1, 5)]
    await scene.submit(*proofs)
    assert scene.chain.sent_objects() == ["5-1"]
    scene.lane.prioritise("pow_4", 0)
    await scene.block(2)
    assert scene.chain.sent_objects()[:2] == ["5-1", "5-4"]


async def test_hurrying_a_proof_that_waits_costs_no_transaction(scene: Scene) -> None:
    await scene.run_lanes(FIRST)
    scene.chain.next_broadcasts.append(("structs-ante", 2014))
    await scene.submit(replace(scene.pose(1, priority=3), signer=FIRST.address))
    sent = len(scene.chain.broadcasts)
    scene.lane.prioritise("pow_1", 0)
    await scene.settle()
    assert len(scene.chain.broadcasts) == sent


async def test_a_proof_without_a_key_keeps_its_new_priority(scene: Scene) -> None:
    await scene.run_lanes(FIRST, sends_per_block=1)
    scene.chain.rights = {FIRST.address: KeyProblem("not registered")}
    proofs = [replace(scene.pose(number, priority=3), signer="gone") for number in (1, 2)]
    await scene.submit(*proofs)
    scene.lane.prioritise("pow_2", 0)
    scene.chain.rights.clear()
    await scene.block(2)
    assert scene.chain.sent_objects()[0] == "5-2"


async def test_hurrying_a_proof_that_is_not_here_is_no_error(scene: Scene) -> None:
    await scene.run_lanes(FIRST)
    scene.lane.prioritise("pow_1", 0)
