"""The line of proofs: the right one is next, whatever changes meanwhile, and it is found without a look at all."""

from __future__ import annotations

import random
from dataclasses import dataclass

from coordinator.submission.turns import Place, Turns


@dataclass(slots=True)
class Proof:
    arrival: int
    priority: int = 2
    not_before: int = 0
    has_a_turn: bool = True
    filed: Place | None = None

    @property
    def order(self) -> Place:
        return self.priority, self.arrival


def line_of(*proofs: Proof) -> Turns[Proof]:
    turns: Turns[Proof] = Turns()
    for proof in proofs:
        turns.file(proof, 0)
    return turns


def test_the_least_order_goes_first() -> None:
    first, second, third = Proof(3, priority=1), Proof(1), Proof(2)
    turns = line_of(third, second, first)
    assert [turns.take(0) for _ in range(4)] == [first, second, third, None]


def test_nobodys_turn_comes_before_its_height() -> None:
    late, now = Proof(1, not_before=5), Proof(2)
    turns = line_of(late, now)
    assert turns.take(4) is now
    assert turns.take(4) is None
    assert turns.take(5) is late


def test_one_that_was_put_off_is_found_at_its_new_height() -> None:
    proof = Proof(1)
    turns = line_of(proof)
    proof.not_before = 7
    assert turns.first(6) is None
    assert turns.first(7) is proof


def test_one_that_wants_no_turn_any_more_is_passed_over() -> None:
    gone, other = Proof(1), Proof(2)
    turns = line_of(gone, other)
    gone.has_a_turn = False
    assert turns.first(0) is other


def test_one_that_was_taken_comes_again_when_it_is_filed() -> None:
    proof = Proof(1)
    turns = line_of(proof)
    assert turns.take(0) is proof
    assert turns.take(0) is None
    turns.file(proof, 0)
    assert turns.take(0) is proof


def test_filing_one_again_and_again_makes_the_line_no_longer() -> None:
    proof, other = Proof(1), Proof(2)
    turns = line_of(proof, other)
    for height in range(1000):
        turns.file(proof, height)
        proof.not_before = height + 2
        assert turns.take(height) is (other if height == 0 else None)
    assert len(turns._now) + len(turns._later) <= 2


def test_whatever_changes_the_next_is_the_least_of_those_that_may_go() -> None:
    dice = random.Random(7)
    for _ in range(200):
        proofs = [Proof(n, dice.randrange(3), dice.randrange(6)) for n in range(12)]
        turns = line_of(*proofs)
        for height in range(10):
            for proof in dice.sample(proofs, 3):
                proof.priority = dice.randrange(3)
                proof.not_before = dice.randrange(12)
                proof.has_a_turn = dice.random() < 0.8
                turns.file(proof, height)
            ready = [each for each in proofs if each.has_a_turn and each.not_before <= height]
            assert turns.first(height) is min(ready, key=lambda each: each.order, default=None)
