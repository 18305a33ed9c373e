"""Several proofs in one transaction: what a lane promises when batching is on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coordinator.chain.client import TxAnswer, WorkReading
from coordinator.submission.attempt import AttemptState, RejectionCause
from coordinator.submission.keys import SigningKey
from coordinator.submission.lane import GaveUp, Rejected, Settings
from hashfleet.action import Action
from hashfleet.errors import InvalidInput, KeyProblem

# A scene is what conftest.py sets up; pytest's importlib mode gives tests no way to name its type.
Scene = Any
FIRST, SECOND = (SigningKey(bytes(range(start, start + 32))) for start in (1, 2))


async def batching(scene: Scene, most: int, **settings: int) -> None:
    await scene.stop()
    scene.settings = Settings(batch=most, **settings)
    await scene.start()


async def test_proofs_share_a_transaction_only_when_more_are_ready_than_may_be_sent(scene: Scene) -> None:
    await batching(scene, 8)
    await scene.submit(*(scene.pose(number) for number in range(5)))
    assert [len(sent.proofs) for sent in scene.chain.sent()] == [1, 1, 1, 1, 1]


async def test_40_proofs_are_in_the_chain_after_one_block(scene: Scene) -> None:
    await batching(scene, 8)
    await scene.submit(*(scene.pose(number) for number in range(40)))
    assert [len(sent.proofs) for sent in scene.chain.sent()] == [8, 8, 8, 8, 8]
    await scene.block()
    assert len(set(scene.included)) == 40


async def test_a_player_has_40_messages_on_their_way_at_most(scene: Scene) -> None:
    await batching(scene, 40)
    scene.chain.includes = False
    await scene.submit(*(scene.pose(number) for number in range(100)))
    await scene.block(3)
    assert len(set(scene.chain.sent_objects())) == 40


async def test_each_proof_has_a_row_with_the_hash_of_their_transaction(scene: Scene) -> None:
    await batching(scene, 8, sends_per_block=1)
    await scene.submit(*(scene.pose(number) for number in range(3)))
    (sent,) = scene.chain.sent()
    assert {row.tx_hash for row in scene.ledger.rows} == {sent.tx_hash}
    assert [(row.message_index, row.work.object_id) for row in scene.ledger.rows] == list(enumerate(sent.objects))
    await scene.block()
    assert {row.state for row in scene.ledger.rows} == {AttemptState.INCLUDED}


async def test_works_that_hang_on_one_object_do_not_share_a_transaction(scene: Scene) -> None:
    await batching(scene, 8, sends_per_block=1)
    plain = scene.chain.read_work

    async def on_one_planet(action: Action, object_id: str) -> WorkReading:
        reading = await plain(action, object_id)
        return replace(
            reading,
            depends_on=reading.depends_on | {"2-9", "1-7@"}
            if object_id in ("5-0", "5-1")
            else reading.depends_on | {"1-7@"},
        )

    scene.chain.read_work = on_one_planet
    await scene.submit(*(scene.pose(number) for number in range(4)))
    assert [sent.objects for sent in scene.chain.sent()] == [["5-0", "5-2", "5-3"]]


async def test_works_that_share_a_clock_do_not_share_a_transaction(scene: Scene) -> None:
    await batching(scene, 8, sends_per_block=1)
    plain = scene.chain.read_work

    async def one_clock(action: Action, object_id: str) -> WorkReading:
        return replace(await plain(action, object_id), clock="2-9/MINE" if object_id != "5-2" else "")

    scene.chain.read_work = one_clock
    await scene.submit(*(scene.pose(number) for number in range(3)))
    assert [sent.objects for sent in scene.chain.sent()] == [["5-0", "5-2"]]


async def test_the_proof_that_fails_is_found_by_halves_and_all_others_land(scene: Scene) -> None:
    await batching(scene, 8, sends_per_block=1)
    submissions = [scene.pose(number, action=Action.BUILD) for number in range(8)]
    await scene.submit(*submissions)
    bad = scene.chain.works.pop((Action.BUILD, "5-5"))  # finished by somebody else, which no node tells for a while
    plain = scene.chain.read_work

    async def lagging(action: Action, object_id: str) -> WorkReading:
        return WorkReading(bad, frozenset({object_id})) if object_id == "5-5" else await plain(action, object_id)

    scene.chain.read_work = lagging
    await scene.block(12)
    assert sorted(scene.included) == sorted(f"pow_{number}" for number in range(8) if number != 5)
    assert isinstance([one for one in scene.told if one.job_id == "pow_5"][-1], GaveUp)
    failed = [read for read in scene.chain.executed if read[1] != 0]
    assert len(failed) == 4  # of 8, 4, 2 and 1 proofs


async def reject_four(scene: Scene, log: str) -> None:
    """A block rejects a proof of a transaction of four, in these words."""
    await batching(scene, 8, sends_per_block=1)
    submissions = [scene.pose(number) for number in range(4)]
    scene.chain.logs["5-0"] = log.format(*(one.work.prefix.decode() + one.proof.nonce for one in submissions))
    scene.chain.next_results.append(("structs", 1800))
    await scene.submit(*submissions)
    await scene.block()


async def test_a_rejected_proof_gives_no_cause_to_those_that_shared_its_transaction(scene: Scene) -> None:
    await reject_four(scene, "work failure for input ({2}) when trying to mine on struct 5-2")
    causes = {row.work.object_id: row.cause for row in scene.ledger.rows if row.state is AttemptState.REJECTED}
    assert causes == {"5-0": None, "5-1": None, "5-2": RejectionCause.DIFFICULTY, "5-3": None}
    told = {one.job_id: one.reason for one in scene.told if isinstance(one, Rejected)}
    assert told["pow_2"].startswith("the chain rejected the proof: the difficulty was too high")
    for number in (0, 1, 3):
        assert told[f"pow_{number}"].startswith(
            "another proof of the same transaction failed: the chain answered structs 1800: work failure"
        )


async def test_where_a_block_does_not_name_the_proof_that_failed_nobody_is_told_it_was_his(scene: Scene) -> None:
    await reject_four(scene, "no")
    assert {row.cause for row in scene.ledger.rows} == {None}
    told = {one.reason for one in scene.told if isinstance(one, Rejected)}
    assert told == {"one of the proofs of the same transaction failed: the chain answered structs 1800: no"}


async def test_a_transaction_that_is_too_large_is_halved_and_the_next_ones_are_smaller(scene: Scene) -> None:
    await batching(scene, 16, sends_per_block=1)
    scene.chain.most_messages = 4
    await scene.submit(*(scene.pose(number) for number in range(16)))
    await scene.block(12)
    assert len(set(scene.included)) == 16
    sizes = [len(sent.proofs) for sent in scene.chain.sent()]
    assert sizes[:2] == [16, 8]
    assert max(sizes[3:]) <= 4


async def test_a_full_mempool_splits_nothing(scene: Scene) -> None:
    await batching(scene, 8, sends_per_block=1)
    scene.chain.next_broadcasts.append(("sdk", 20))
    await scene.submit(*(scene.pose(number) for number in range(8)))
    await scene.block(2)
    assert [len(sent.proofs) for sent in scene.chain.sent()] == [8, 8]
    assert len(scene.included) == 8


@pytest.mark.parametrize("code", [2010, 2011])
async def test_a_key_that_may_not_sign_hands_all_proofs_on_at_once_and_splits_nothing(scene: Scene, code: int) -> None:
    await scene.run_lanes(FIRST, SECOND, batch=8, sends_per_block=1)
    scene.chain.rights[FIRST.address] = KeyProblem("the permission is gone")
    scene.chain.next_broadcasts.append(("structs-ante", code))
    await scene.submit(*(replace(scene.pose(number), signer=FIRST.address) for number in range(8)))
    await scene.block(3)
    assert len(set(scene.included)) == 8
    assert [(len(sent.proofs), sent.address) for sent in scene.chain.sent()] == [
        (8, FIRST.address),
        (8, SECOND.address),
    ]


async def test_v016s_one_code_for_every_refusal_splits_nothing_while_the_right_is_there(scene: Scene) -> None:
    await batching(scene, 8, sends_per_block=1)
    scene.chain.next_broadcasts.extend([("undefined", 1)] * 3)
    await scene.submit(*(scene.pose(number) for number in range(8)))
    await scene.block(5)
    assert [len(sent.proofs) for sent in scene.chain.sent()] == [8, 8, 8, 8]
    assert len(scene.included) == 8


async def refused_whole(scene: Scene, codespace: str, code: int, refuses: Callable[[list[str]], bool]) -> None:
    """The chain says of a transaction with certain objects what it may say of any."""
    await batching(scene, 8, sends_per_block=1)
    plain = scene.chain._check

    def check(sent: Any) -> TxAnswer:
        answer: TxAnswer = plain(sent)
        if answer.code == 0 and refuses(sent.objects):
            return replace(answer, code=code, codespace=codespace, log="no")
        return answer

    scene.chain._check = check
    await scene.submit(*(scene.pose(number) for number in range(8)))


async def test_a_limit_that_is_met_again_and_again_halves_a_transaction_after_all(scene: Scene) -> None:
    # v0.16 says of an object that somebody else attempts in every block what it says of every limit.
    await refused_whole(scene, "undefined", 1, lambda objects: "5-5" in objects)
    await scene.block(3)
    assert {len(sent.proofs) for sent in scene.chain.sent()} == {8}
    await scene.block(30)
    assert sorted(scene.included) == sorted(f"pow_{number}" for number in range(8) if number != 5)


async def test_a_player_whose_messages_nearly_fill_the_block_gets_the_rest_in(scene: Scene) -> None:
    await refused_whole(scene, "structs-ante", 2040, lambda objects: len(objects) > 2)
    await scene.block(30)
    assert len(set(scene.included)) == 8


async def test_an_uncertain_transaction_of_several_is_sent_again_with_the_same_bytes(scene: Scene) -> None:
    await batching(scene, 8, sends_per_block=1)
    scene.chain.next_broadcasts.append("lost before")
    await scene.submit(*(scene.pose(number) for number in range(4)))
    await scene.block(2)
    assert len(scene.included) == 4
    assert len(scene.chain.broadcasts) == 2
    assert len(set(scene.chain.broadcasts)) == 1


async def test_after_a_restart_a_transaction_of_several_is_followed_as_one(scene: Scene) -> None:
    await batching(scene, 8, sends_per_block=1)
    scene.chain.includes = False
    submissions = [scene.pose(number) for number in range(4)]
    await scene.submit(*submissions)
    await scene.restart()
    assert scene.lane.in_flight == 1
    scene.chain.includes = True
    await scene.submit(*submissions)
    await scene.block(2)
    assert sorted(set(scene.included)) == [f"pow_{number}" for number in range(4)]
    assert len(set(scene.chain.broadcasts)) == 1


async def test_one_void_proof_holds_its_transaction_up_until_it_cannot_land_and_the_others_land_then(
    scene: Scene,
) -> None:
    await batching(scene, 8, sends_per_block=1)
    scene.chain.next_broadcasts.append("lost before")
    await scene.submit(*(scene.pose(number) for number in range(4)))
    scene.chain.rival_completes(Action.MINE, "5-2")
    await scene.block(20)
    assert sorted(scene.included) == ["pow_0", "pow_1", "pow_3"]
    assert scene.of("pow_2")[-1] == "Stale"
    assert [code for _, code in scene.chain.executed if code] == []


@pytest.mark.parametrize("batch", [0, 41])
def test_a_transaction_holds_1_to_40_proofs(batch: int) -> None:
    with pytest.raises(InvalidInput, match="proofs per transaction"):
        Settings(batch=batch)
