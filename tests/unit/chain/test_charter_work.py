"""The puzzle of a charter, from the chain's answer."""

from __future__ import annotations

import pytest

from coordinator.chain.object_state import charter_work
from hashfleet.action import Action, CharterTerms, Work
from hashfleet.errors import BadChainAnswer, WorkPaused
from hashfleet.rpc.structs.structs import query_pb2

TERMS = CharterTerms("structstestnet-111", "1-42")


def answer(**members: int) -> query_pb2.QueryGuildCharterResponse:
    return query_pb2.QueryGuildCharterResponse(
        **{"anchor": 2283000, "age": 900, "difficulty": 34, "difficultyRange": 2_500_000, **members}
    )


def test_a_charter_is_posed_by_anchor_and_range_alone() -> None:
    work = Work(Action.CHARTER, "1-7", 2283000, 2_500_000, charter=TERMS)
    assert charter_work(answer(), "1-7", TERMS) == work
    assert charter_work(answer(age=1, difficulty=1), "1-7", TERMS) == work


def test_a_range_of_0_is_what_the_module_takes_it_for() -> None:
    assert charter_work(answer(difficultyRange=0), "1-7", TERMS).range == 2_500_000


def test_a_charter_clock_that_is_not_set_pauses() -> None:
    with pytest.raises(WorkPaused, match="charter clock of chain structstestnet-111 is not set"):
        charter_work(answer(anchor=0), "1-7", TERMS)


@pytest.mark.parametrize("members", [{"anchor": 2**40}, {"difficultyRange": 1}, {"difficultyRange": 2**40}])
def test_a_charter_that_cannot_be_is_a_bad_answer(members: dict[str, int]) -> None:
    with pytest.raises(BadChainAnswer, match="GUILDCHARTER 1-7 in a form that cannot be"):
        charter_work(answer(**members), "1-7", TERMS)
