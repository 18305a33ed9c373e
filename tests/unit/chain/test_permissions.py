"""Both layers of permission, bit by bit."""

from __future__ import annotations

import pytest

from coordinator.chain.permissions import check_delegation, signer_player
from hashfleet.action import Action
from hashfleet.errors import BadChainAnswer, KeyProblem
from hashfleet.rpc.structs.structs import query_pb2, types_pb2

ADDRESS = "structs19rl4cm2hmr8afy4kldpxz3fka4jguq0acpz60a"
#: Numbers as the chain's documentation lists them.
BITS = {
    Action.BUILD: 1048576,
    Action.MINE: 2097152,
    Action.REFINE: 4194304,
    Action.RAID: 8388608,
    Action.CHARTER: 1,
}
NAMES = {
    Action.BUILD: "PermHashBuild",
    Action.MINE: "PermHashMine",
    Action.REFINE: "PermHashRefine",
    Action.RAID: "PermHashRaid",
    Action.CHARTER: "PermPlay",
}
#: Those on an object that somebody owns.
OWNED = [action for action in Action if action is not Action.CHARTER]
ALL = 33554431


def address_answer(permissions: int, player: str = "1-7", address: str = ADDRESS) -> query_pb2.QueryAddressResponse:
    return query_pb2.QueryAddressResponse(address=address, playerId=player, permissions=permissions)


def record(value: int, which: str = "1-7@1-9") -> query_pb2.QueryGetPermissionResponse:
    return query_pb2.QueryGetPermissionResponse(
        permissionRecord=types_pb2.PermissionRecord(permissionId=which, value=value)
    )


@pytest.mark.parametrize("action", Action)
def test_an_address_with_exactly_the_bit_of_the_action_may_sign_it(action: Action) -> None:
    assert signer_player(address_answer(BITS[action]), ADDRESS, action) == "1-7"


@pytest.mark.parametrize("action", Action)
def test_an_address_with_every_bit_but_that_one_may_not_and_the_bit_is_named(action: Action) -> None:
    with pytest.raises(KeyProblem, match=f"{NAMES[action]}.*{BITS[action]}"):
        signer_player(address_answer(ALL - BITS[action]), ADDRESS, action)


def test_an_address_of_nobody_is_told_to_be_registered() -> None:
    with pytest.raises(KeyProblem, match="not registered"):
        signer_player(address_answer(0, "1-0"), ADDRESS, Action.BUILD)


@pytest.mark.parametrize("player", ["", "7", "2-7", "1-07"])
def test_an_address_with_an_unreadable_player_is_a_bad_answer(player: str) -> None:
    with pytest.raises(BadChainAnswer, match="player"):
        signer_player(address_answer(ALL, player), ADDRESS, Action.BUILD)


def test_the_answer_about_another_address_is_a_bad_answer() -> None:
    with pytest.raises(BadChainAnswer, match="asked for address"):
        signer_player(address_answer(ALL, address="structs1other"), ADDRESS, Action.BUILD)


@pytest.mark.parametrize("action", OWNED)
def test_a_delegation_needs_exactly_the_bit_of_the_action(action: Action) -> None:
    check_delegation(record(BITS[action]), "1-7", "1-9", action)
    for missing in (record(ALL - BITS[action]), record(0), None):
        with pytest.raises(KeyProblem, match=NAMES[action]):
            check_delegation(missing, "1-7", "1-9", action)


def test_a_record_that_was_never_written_grants_nothing() -> None:
    with pytest.raises(KeyProblem, match="PermHashBuild"):
        check_delegation(record(0, ""), "1-7", "1-9", Action.BUILD)


@pytest.mark.parametrize("which", ["1-9@1-7", "", "1-70@1-9"])
def test_the_record_of_another_pair_is_a_bad_answer(which: str) -> None:
    with pytest.raises(BadChainAnswer, match="asked for permission 1-7@1-9"):
        check_delegation(record(ALL, which), "1-7", "1-9", Action.BUILD)


def test_an_answer_without_a_record_is_a_bad_answer() -> None:
    with pytest.raises(BadChainAnswer, match="lacks the record"):
        check_delegation(query_pb2.QueryGetPermissionResponse(), "1-7", "1-9", Action.BUILD)
