"""Who goes first: class, then how soon it may go stale. What cannot be sent holds up nobody, nor loses its place."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from coordinator.submission.lane import Submission
from hashfleet.action import Action
from hashfleet.errors import WorkPaused

# A scene is what conftest.py sets up; pytest's importlib mode gives tests no way to name its type.
Scene = Any


def paused(scene: Scene, number: int, **how: Any) -> Submission:
    """A proof whose object takes none now."""
    submission: Submission = scene.pose(number, **how)
    scene.chain.works[submission.work.action, submission.work.object_id] = WorkPaused("it is under raid")
    return submission


async def settle(scene: Scene) -> None:
    """Let the lane read a hundred works, which takes more turns of the event loop than a scene allows it."""
    for _ in range(20):
        await scene.settle()


async def blocks(scene: Scene, count: int = 1) -> None:
    for _ in range(count):
        await scene.block()
        await settle(scene)


def let_on(scene: Scene, submission: Submission) -> None:
    """The object takes proofs again."""
    scene.chain.works[submission.work.action, submission.work.object_id] = submission.work


# ---- what takes no proof now -------------------------------------------------------------------------------------


async def test_a_hundred_paused_proofs_of_a_higher_class_hold_up_no_lower_one(scene: Scene) -> None:
    await scene.submit(*(paused(scene, number, priority=1) for number in range(110)))
    await settle(scene)
    await scene.submit(*(scene.pose(number, priority=3) for number in range(200, 205)))
    await blocks(scene, 3)
    assert sorted(scene.included) == [f"pow_{number}" for number in range(200, 205)]


async def test_of_many_paused_works_each_is_read_in_its_turn_and_at_most_fifty_a_block(scene: Scene) -> None:
    await scene.submit(*(paused(scene, number) for number in range(100)))
    await settle(scene)
    scene.chain.reads.clear()
    await blocks(scene)
    assert len(scene.chain.reads) == 50
    await blocks(scene)
    assert sorted(scene.chain.reads) == sorted(f"5-{number}" for number in range(100))


async def test_a_paused_proof_of_a_lower_class_has_its_turn_behind_any_number_of_a_higher_one(scene: Scene) -> None:
    await scene.submit(*(paused(scene, number, priority=1) for number in range(110)))
    await settle(scene)
    bulk = paused(scene, 200, priority=3)
    await scene.submit(bulk)
    await blocks(scene)
    let_on(scene, bulk)
    await blocks(scene, 25)
    assert scene.included == ["pow_200"]


async def test_a_pause_costs_a_proof_nothing_of_its_place(scene: Scene) -> None:
    mine = paused(scene, 0)
    await scene.submit(mine)
    await scene.block()
    let_on(scene, mine)
    await scene.submit(*(scene.pose(number, action=Action.BUILD) for number in range(1, 20)))
    await scene.block()
    assert "5-0" in scene.chain.sent_objects()[5:10]
    await scene.block()
    assert "pow_0" in scene.included


async def test_an_object_that_takes_proofs_again_has_its_proof_sent_in_that_block_before_those_behind_it(
    scene: Scene,
) -> None:
    mine = paused(scene, 0)
    await scene.submit(mine)
    scene.chain.includes = False
    let_on(scene, mine)
    scene.chain.commit()
    for number in range(1, 7):
        scene.lane.submit(scene.pose(number))
    scene.lane.block_seen(scene.chain.height)
    await scene.settle()
    assert scene.chain.sent_objects() == ["5-0", "5-1", "5-2", "5-3", "5-4"]


# ---- what was refused --------------------------------------------------------------------------------------------


async def test_what_may_go_stale_soon_goes_first_although_it_was_refused_before(scene: Scene) -> None:
    scene.chain.crowded = {"5-0"}
    await scene.submit(scene.pose(0))
    scene.chain.crowded = set()
    await scene.submit(*(scene.pose(number, action=Action.BUILD) for number in range(1, 20)))
    await scene.block()
    assert scene.chain.sent_objects()[5] == "5-0"


async def test_objects_that_are_always_crowded_out_let_pass_what_may_go_stale_later(scene: Scene) -> None:
    scene.chain.crowded = {"5-0", "5-1"}
    await scene.submit(*(scene.pose(number) for number in range(2)))
    await scene.submit(*(scene.pose(number, action=Action.BUILD) for number in range(2, 12)))
    await scene.block(8)
    assert sorted(scene.included) == sorted(f"pow_{number}" for number in range(2, 12))


async def test_objects_that_are_always_crowded_out_let_lower_classes_pass(scene: Scene) -> None:
    scene.chain.crowded = {f"5-{number}" for number in range(8)}
    await scene.submit(*(scene.pose(number, priority=1) for number in range(8)))
    await scene.submit(*(scene.pose(number, priority=3) for number in range(10, 20)))
    await scene.block(40)
    assert sorted(scene.included) == [f"pow_{number}" for number in range(10, 20)]


async def test_of_what_was_refused_before_no_number_keeps_from_its_turn_what_never_was(scene: Scene) -> None:
    scene.chain.crowded = {f"5-{number}" for number in range(110)}
    await scene.submit(*(scene.pose(number, priority=1) for number in range(110)))
    for _ in range(60):
        await scene.block()
    await scene.submit(*(scene.pose(number, priority=3) for number in range(200, 220)))
    for _ in range(20):
        await blocks(scene)
    assert sorted(scene.included) == [f"pow_{number}" for number in range(200, 220)]


async def test_what_is_crowded_out_is_tried_again_after_eight_blocks_at_the_latest(scene: Scene) -> None:
    scene.chain.crowded = {"5-0"}
    await scene.submit(scene.pose(0))
    tried = [scene.chain.height]
    for _ in range(40):
        sent = len(scene.chain.broadcasts)
        await scene.block()
        tried += [scene.chain.height] * (len(scene.chain.broadcasts) > sent)
    assert [after - before for before, after in pairwise(tried)] == [1, 2, 4, 8, 8, 8, 8]
    scene.chain.crowded = set()
    await scene.block(9)
    assert scene.included == ["pow_0"]


async def test_a_proof_that_a_node_took_and_no_block_goes_before_those_that_came_after_it(scene: Scene) -> None:
    scene.chain.includes = False
    await scene.submit(scene.pose(0))
    await scene.block(21)
    scene.chain.mempool.clear()
    scene.chain.commit()
    for number in range(1, 7):
        scene.lane.submit(scene.pose(number))
    scene.lane.block_seen(scene.chain.height)
    sent = len(scene.chain.broadcasts)
    await scene.settle()
    assert scene.chain.sent_objects()[sent:] == ["5-0", "5-1", "5-2", "5-3", "5-4"]
