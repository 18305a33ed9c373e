"""What is remembered of rights is forgotten when it may have changed."""

from __future__ import annotations

import pytest

from coordinator.chain.rights import OWNER_SECONDS, RIGHT_SECONDS, KnownRights
from hashfleet.action import Action

KEY = "structs1key"


@pytest.fixture
def rights() -> KnownRights:
    """The key may mine for 1-7."""
    known = KnownRights()
    known.keep(KEY, "1-7", Action.MINE, "1-7", known.era, 100.0)
    return known


def test_a_right_holds_for_this_key_owner_and_action_only(rights: KnownRights) -> None:
    assert rights.holder(KEY, "1-7", Action.MINE, 101.0)
    assert not rights.holder("structs1other", "1-7", Action.MINE, 101.0)
    assert not rights.holder(KEY, "1-8", Action.MINE, 101.0)
    assert not rights.holder(KEY, "1-7", Action.BUILD, 101.0)


def test_a_right_is_asked_for_again_after_a_while(rights: KnownRights) -> None:
    assert not rights.holder(KEY, "1-7", Action.MINE, 100.0 + RIGHT_SECONDS)


@pytest.mark.parametrize("touched", [f"8-{KEY}", f"8-{KEY}@", "1-7@"])
def test_a_right_is_forgotten_when_a_block_touches_what_it_rests_on(rights: KnownRights, touched: str) -> None:
    rights.block_seen(frozenset({"5-1", touched}))
    assert not rights.holder(KEY, "1-7", Action.MINE, 101.0)


def test_a_right_is_forgotten_when_nobody_knows_what_a_block_touched(rights: KnownRights) -> None:
    rights.block_seen(None)
    assert not rights.holder(KEY, "1-7", Action.MINE, 101.0)


@pytest.mark.parametrize("touched", ["1-7", "5-14", "1-8@", "8-structs1other"])
def test_a_right_outlasts_blocks_that_touch_something_else(rights: KnownRights, touched: str) -> None:
    rights.block_seen(frozenset({touched}))
    assert rights.holder(KEY, "1-7", Action.MINE, 101.0)


def test_an_answer_that_may_be_older_than_a_change_is_not_kept(rights: KnownRights) -> None:
    asked = rights.era
    rights.block_seen(frozenset({"1-9@"}))
    rights.keep(KEY, "1-9", Action.MINE, "1-7", asked, 101.0)
    assert not rights.holder(KEY, "1-9", Action.MINE, 101.0)


def test_an_owner_is_told_once_and_only_right_after_the_reading(rights: KnownRights) -> None:
    rights.note_owner(Action.MINE, "5-14", "1-7", 100.0)
    assert rights.take_owner(Action.MINE, "5-14", 100.5) == "1-7"
    assert rights.take_owner(Action.MINE, "5-14", 100.5) is None
    rights.note_owner(Action.MINE, "5-14", "1-7", 100.0)
    assert rights.take_owner(Action.MINE, "5-14", 100.0 + OWNER_SECONDS) is None


def test_an_owner_read_before_a_block_is_read_again(rights: KnownRights) -> None:
    rights.note_owner(Action.MINE, "5-14", "1-7", 100.0)
    rights.block_seen(frozenset())
    assert rights.take_owner(Action.MINE, "5-14", 100.5) is None
