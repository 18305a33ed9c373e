"""The work kinds pose exactly the chain's puzzle, and nothing that the chain could not have printed becomes Work."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from hashfleet.action import (
    FLEET_TYPE,
    MAX_HEIGHT,
    MAX_RANGE,
    PLANET_TYPE,
    PLAYER_TYPE,
    STRUCT_TYPE,
    Action,
    CharterTerms,
    Work,
    check_anchor,
    check_object_id,
    check_range,
    prefix,
)
from hashfleet.errors import InvalidInput
from hashfleet.proof import verify


def posed(row: dict[str, Any]) -> tuple[Action, str, int, str | None, CharterTerms | None]:
    """What `prefix` takes for a row. Of a charter the row names the solver as object, and the founder beside."""
    action = Action(row["kind"])
    if action is Action.CHARTER:
        # The form of before the release names no chain.
        return action, row["founder"], row["block_start"], None, CharterTerms(row.get("chain"), row["object_id"])
    return action, row["object_id"], row["block_start"], row.get("planet"), None


def has_running_clock(row: dict[str, Any]) -> bool:
    """Whether the row's start is one that we would work on: 0 is no clock, 2**32 is no height of this chain."""
    return 1 <= int(row["block_start"]) <= MAX_HEIGHT


def has_decimal_nonce(row: dict[str, Any]) -> bool:
    nonce: str = row["nonce"]
    return nonce.isascii() and nonce.isdigit()


def test_every_preimage_of_the_vectors_is_accounted_for(vectors: dict[str, Any]) -> None:
    rows = vectors["preimages"]
    charters = [row for row in rows if row["kind"] == Action.CHARTER.value]
    assert (len(rows), len(charters), ["chain" in row for row in charters].count(False)) == (24, 4, 1)
    assert [has_running_clock(row) for row in rows].count(True) == 14 + 4
    assert [has_decimal_nonce(row) for row in rows].count(True) == 17 + 4


def test_every_preimage_hashes_as_the_vectors_say(vectors: dict[str, Any]) -> None:
    for row in vectors["preimages"]:
        preimage = row["preimage"].encode()
        assert len(preimage) == row["preimage_len"]
        assert hashlib.sha256(preimage).hexdigest() == row["sha256"]


def test_every_prefix_of_our_kinds_is_built_byte_for_byte(vectors: dict[str, Any]) -> None:
    for row in vectors["preimages"]:
        built = prefix(*posed(row))
        assert built + row["nonce"].encode() == row["preimage"].encode()


def test_work_has_that_prefix_where_a_clock_runs_and_is_refused_where_none_does(vectors: dict[str, Any]) -> None:
    for row in vectors["preimages"]:
        if has_running_clock(row):
            action, object_id, anchor, target, charter = posed(row)
            work = Work(action, object_id, anchor, 700, target, charter)
            assert work.prefix + row["nonce"].encode() == row["preimage"].encode()
        else:
            with pytest.raises(InvalidInput, match="block_start"):
                Work(Action(row["kind"]), row["object_id"], row["block_start"], 700, row.get("planet"))


def test_decimal_nonces_verify_to_the_hash_of_the_vectors_and_others_are_refused(vectors: dict[str, Any]) -> None:
    for row in vectors["preimages"]:
        before = prefix(*posed(row))
        if has_decimal_nonce(row):
            assert verify(before, row["nonce"]).hash == row["sha256"]
        else:
            with pytest.raises(InvalidInput, match="decimal digits"):
                verify(before, row["nonce"])


def test_a_charter_names_its_chain_and_its_solver_and_nothing_else_does() -> None:
    terms = CharterTerms("structstestnet-111", "1-42")
    work = Work(Action.CHARTER, "1-7", 2283000, 2_500_000, charter=terms)
    assert work.prefix == b"CHAINstructstestnet-111|1-42@1-7GUILDCHARTER2283000NONCE"
    unprefixed = Work(Action.CHARTER, "1-7", 2283000, 2_500_000, charter=CharterTerms(None, "1-42"))
    assert unprefixed.prefix == b"1-42@1-7GUILDCHARTER2283000NONCE"
    with pytest.raises(InvalidInput, match="named for a charter, and for nothing else"):
        Work(Action.CHARTER, "1-7", 2283000, 2_500_000)
    with pytest.raises(InvalidInput, match="named for a charter, and for nothing else"):
        Work(Action.BUILD, "5-7", 2283000, 700, charter=terms)
    with pytest.raises(InvalidInput, match="player id"):
        Work(Action.CHARTER, "5-7", 2283000, 2_500_000, charter=terms)


@pytest.mark.parametrize("chain_id", ["", "a|b", "a b", "-", "x" * 51, "ch\u00e4in", "a\n"])
def test_what_cannot_be_a_chain_id_poses_no_charter(chain_id: str) -> None:
    with pytest.raises(InvalidInput, match="the chain id is"):
        CharterTerms(chain_id, "1-42")


def test_the_pre_release_form_of_a_charter_is_not_hashed_unless_no_chain_is_named(vectors: dict[str, Any]) -> None:
    (old,) = (row for row in vectors["preimages"] if "pre-release" in row.get("note", ""))
    built = prefix(Action.CHARTER, old["founder"], old["block_start"], None, CharterTerms("structstestnet-111", "1-4"))
    assert not old["preimage"].encode().startswith(built)
    assert old["preimage"].encode() == prefix(*posed(old)) + old["nonce"].encode()


def test_only_a_charter_has_a_price() -> None:
    assert [action for action in Action if action.priced] == [Action.CHARTER]


@pytest.mark.parametrize(
    ("text", "object_type"),
    [
        ("5-0", STRUCT_TYPE),
        ("5-28", STRUCT_TYPE),
        ("9-11", FLEET_TYPE),
        ("2-117", PLANET_TYPE),
        ("1-18446744073709551615", PLAYER_TYPE),
    ],
)
def test_a_canonical_id_is_taken_as_it_is(text: str, object_type: int) -> None:
    assert check_object_id(text, object_type, "entity_id") == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("5", id="no-dash"),
        pytest.param("5-", id="no-number"),
        pytest.param("-5", id="no-type"),
        pytest.param("28", id="bare-number"),
        pytest.param("05-1", id="type-with-leading-zero"),
        pytest.param("5-01", id="number-with-leading-zero"),
        pytest.param("5-00", id="two-zeros"),
        pytest.param("5--1", id="negative"),
        pytest.param("5-+1", id="signed"),
        pytest.param("5-1.0", id="fraction"),
        pytest.param("5-1e3", id="exponent"),
        pytest.param("5-1_000", id="underscore"),
        pytest.param("5-0x10", id="hex"),
        pytest.param(" 5-1", id="leading-space"),
        pytest.param("5-1 ", id="trailing-space"),
        pytest.param("5 - 1", id="inner-space"),
        pytest.param("5-1\n", id="trailing-newline"),
        pytest.param("5-1\x00", id="nul"),
        pytest.param("5-1;DROP", id="suffix"),
        pytest.param("5-1-1", id="two-dashes"),
        pytest.param("5\u20111", id="non-ascii-dash"),
        pytest.param("5-\u0661", id="arabic-digit"),
        pytest.param("\uff15-\uff11", id="fullwidth-digits"),
        pytest.param("5-18446744073709551616", id="above-uint64"),
        pytest.param("5-" + "9" * 5000, id="huge"),
        pytest.param("9-1", id="fleet-for-struct"),
        pytest.param("55-1", id="unknown-type"),
    ],
)
def test_an_id_that_the_chain_would_not_print_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_object_id(text, STRUCT_TYPE, "entity_id")
    message = str(caught.value)
    assert message.startswith("entity_id is ")
    assert message.endswith("it should be a struct id such as 5-28")
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 400


@pytest.mark.parametrize("action", [Action.BUILD, Action.MINE, Action.REFINE])
def test_struct_work_takes_a_struct_and_no_target(action: Action) -> None:
    assert Work(action, "5-28", 679575, 700).prefix == f"5-28{action.value}679575NONCE".encode()
    with pytest.raises(InvalidInput, match="struct id"):
        Work(action, "9-28", 679575, 700)
    with pytest.raises(InvalidInput, match="only a raid has a target"):
        Work(action, "5-28", 679575, 700, "2-1")


def test_a_raid_takes_a_fleet_and_needs_a_planet() -> None:
    assert Work(Action.RAID, "9-11", 1173255, 25, "2-117").prefix == b"9-11@2-117RAID1173255NONCE"
    with pytest.raises(InvalidInput, match="fleet id"):
        Work(Action.RAID, "5-11", 1173255, 25, "2-117")
    with pytest.raises(InvalidInput, match="planet id"):
        Work(Action.RAID, "9-11", 1173255, 25)
    with pytest.raises(InvalidInput, match="planet id"):
        Work(Action.RAID, "9-11", 1173255, 25, "5-117")


@pytest.mark.parametrize("anchor", [1, 2, 1283900, MAX_HEIGHT])
def test_a_height_that_a_chain_reaches_is_an_anchor(anchor: int) -> None:
    assert check_anchor(anchor) == anchor


@pytest.mark.parametrize("anchor", [0, -1, -(2**63), MAX_HEIGHT + 1, 2**64, 10**30])
def test_any_other_anchor_is_refused_and_the_bounds_are_named(anchor: int) -> None:
    with pytest.raises(InvalidInput, match=f"block_start is .* it should be a block height from 1 to {MAX_HEIGHT}$"):
        check_anchor(anchor)


@pytest.mark.parametrize("difficulty_range", [2, 25, 28_000, MAX_RANGE])
def test_a_range_along_which_the_difficulty_falls_is_taken(difficulty_range: int) -> None:
    assert check_range(difficulty_range) == difficulty_range


@pytest.mark.parametrize("difficulty_range", [1, 0, -1, MAX_RANGE + 1, 10**30])
def test_any_other_range_is_refused_and_the_bounds_are_named(difficulty_range: int) -> None:
    with pytest.raises(InvalidInput, match=f"difficulty range is .* it should be from 2 to {MAX_RANGE}"):
        check_range(difficulty_range)


@pytest.mark.parametrize("number", [10**5000, -(10**5000)], ids=["huge", "huge-negative"])
def test_a_number_too_long_to_print_is_still_refused_as_invalid_input(number: int) -> None:
    for check in (check_anchor, check_range):
        with pytest.raises(InvalidInput) as caught:
            check(number)
        assert len(str(caught.value)) < 400
