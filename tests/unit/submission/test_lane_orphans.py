"""What the first lane does with transactions that a key signed which is gone, and what they may not keep it from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from coordinator.chain.client import Account
from coordinator.submission.attempt import AttemptState
from coordinator.submission.keys import SigningKey
from hashfleet.errors import BadChainAnswer, KeyProblem

# A scene is what conftest.py sets up; pytest's importlib mode gives tests no way to name its type.
Scene = Any
FIRST, SECOND = (SigningKey(bytes(range(start, start + 32))) for start in (1, 2))


def accounts_fail(scene: Scene, address: str, error: Exception) -> None:
    """Have no node give the account of an address."""
    plain = scene.chain.account

    async def account(asked: str) -> Account:
        if asked == address:
            raise error
        answer: Account = await plain(asked)
        return answer

    scene.chain.account = account


async def sent_by_a_key_that_is_gone(scene: Scene, count: int, **settings: int) -> None:
    """Have proofs sent under the second key, before the coordinator goes on with the first one alone."""
    scene.chain.includes = False
    await scene.run_lanes(SECOND, **settings)
    await scene.submit(*(replace(scene.pose(number), signer=SECOND.address) for number in range(count)))
    await scene.block((count - 1) // 5)
    assert scene.lane.in_flight == count


async def test_what_a_removed_key_signed_is_followed_although_the_first_lane_has_no_account(scene: Scene) -> None:
    await sent_by_a_key_that_is_gone(scene, 1)
    accounts_fail(scene, FIRST.address, KeyProblem("the account does not exist"))
    await scene.run_lanes(FIRST)
    scene.chain.includes = True
    await scene.block()
    assert scene.included == ["pow_0"]
    assert "Paused" not in scene.of("pow_0")
    assert [row.state for row in scene.ledger.rows] == [AttemptState.INCLUDED]


async def test_without_an_account_what_is_on_its_way_is_told_no_pause_and_what_waits_is(scene: Scene) -> None:
    await sent_by_a_key_that_is_gone(scene, 1)
    accounts_fail(scene, FIRST.address, KeyProblem("the account does not exist"))
    await scene.run_lanes(FIRST)
    await scene.submit(replace(scene.pose(1), signer=FIRST.address))
    assert (scene.of("pow_0")[-1], scene.of("pow_1")) == ("Broadcast", ["Paused"])


async def test_the_first_lane_sends_and_follows_although_a_removed_key_has_no_account_any_more(scene: Scene) -> None:
    await sent_by_a_key_that_is_gone(scene, 1)
    accounts_fail(scene, SECOND.address, KeyProblem("the account does not exist"))
    await scene.run_lanes(FIRST)
    await scene.submit(replace(scene.pose(1), signer=FIRST.address))
    scene.chain.includes = True
    await scene.block()
    assert sorted(scene.included) == ["pow_0", "pow_1"]


async def test_an_unreadable_account_holds_up_nothing_that_another_address_signed(scene: Scene) -> None:
    await sent_by_a_key_that_is_gone(scene, 1)
    accounts_fail(scene, SECOND.address, BadChainAnswer("the sequence is missing"))
    await scene.run_lanes(FIRST)
    await scene.submit(replace(scene.pose(1), signer=FIRST.address))
    scene.chain.includes = True
    await scene.block()
    assert sorted(scene.included) == ["pow_0", "pow_1"]


async def test_what_a_removed_key_signed_takes_no_place_of_the_first_lanes_own(scene: Scene) -> None:
    await sent_by_a_key_that_is_gone(scene, 10)
    scene.chain.mempool.clear()  # so that they are sent again, too
    await scene.run_lanes(FIRST)
    await scene.submit(*(replace(scene.pose(number), signer=FIRST.address) for number in range(10, 15)))
    assert [sent.objects for sent in scene.chain.sent() if sent.address == FIRST.address] == [
        [f"5-{number}"] for number in range(10, 15)
    ]
