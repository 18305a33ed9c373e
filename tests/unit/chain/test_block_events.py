"""What a block's events say about objects: every id counts, and what cannot be read is never taken for nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coordinator.chain.block_events import CHARTER, permissions_on, touched_in_event, touched_in_results

HEIGHT = 1310001


def event(name: str, member: str, value: object, *more: tuple[str, str]) -> dict[str, Any]:
    """A typed event in the node's JSON."""
    attributes = [(member, value if isinstance(value, str) else json.dumps(value)), *more]
    return {
        "type": f"structs.structs.{name}",
        "attributes": [{"key": key, "value": text, "index": True} for key, text in attributes],
    }


TIME = event(
    "EventTime",
    "eventTimeDetail",
    {"blockHeight": str(HEIGHT), "blockTime": "2026-04-17T10:11:12Z"},
    ("mode", "BeginBlock"),
)
CLOCK = event("EventPlanetAttribute", "planetAttributeRecord", {"attributeId": "12-2-28571", "value": "2470392"})
#: What the SDK emits beside the chain's own events; no JSON.
FEE = {"type": "tx", "attributes": [{"key": "acc_seq", "value": "structs1abc/5", "index": True}]}


def transaction(*events: dict[str, Any], code: int = 0) -> dict[str, Any]:
    return {"code": code, "data": None, "log": "", "events": [FEE, *events], "codespace": ""}


def results(events: object = (TIME,), txs: object = None, **changes: Any) -> dict[str, Any]:
    """An answer of /block_results."""
    return {
        "height": str(HEIGHT),
        "txs_results": txs,
        "finalize_block_events": _listed(events),
        **changes,
    }


def _listed(events: object) -> object:
    return list(events) if isinstance(events, tuple) else events


def message(
    events: object = (TIME,), tx_results: list[Any] | None = None, txs: int = 0, mapped: Any = None
) -> dict[str, Any]:
    """A NewBlock message of the subscription."""
    return {
        "jsonrpc": "2.0",
        "id": "1",
        "result": {
            "query": "tm.event='NewBlock'",
            "data": {
                "type": "tendermint/event/NewBlock",
                "value": {
                    "block": {"header": {"height": str(HEIGHT)}, "data": {"txs": ["AA=="] * txs or None}},
                    "result_finalize_block": {"events": _listed(events), "tx_results": tx_results},
                },
            },
            "events": mapped if mapped is not None else {"tm.event": ["NewBlock"]},
        },
    }


@pytest.mark.parametrize(
    ("told", "touched"),
    [
        (CLOCK, {"2-28571"}),
        (event("EventStructAttribute", "structAttributeRecord", {"attributeId": "1-5-14", "value": "3"}), {"5-14"}),
        (event("EventStructAttribute", "structAttributeRecord", {"attributeId": "6-1-7-14", "value": "3"}), {"1-7"}),
        (event("EventGrid", "gridRecord", {"attributeId": "0-1-7", "value": "0"}), {"1-7"}),
        (event("EventDelete", "objectId", '"5-262312"'), {"5-262312"}),
        (event("EventDelete", "objectId", "5-262312"), {"5-262312"}),
        (
            event("EventHashSuccess", "eventHashSuccessDetail", {"objectId": "9-3", "planetId": "2-9"}),
            {"9-3", "2-9"},
        ),
        (
            event("EventFleet", "fleet", {"id": "9-3", "owner": "1-3", "air": [], "space": ["5-2", "5-8"]}),
            {"9-3", "1-3", "5-2", "5-8"},
        ),
        (
            event("EventPermission", "permissionRecord", {"permissionId": "1-7@1-12", "value": "0"}),
            {"1-7", "1-12", "1-7@"},
        ),
        (
            event("EventPermission", "permissionRecord", {"permissionId": "8-structs1abc@0", "value": "1"}),
            {"8-structs1abc", "8-structs1abc@"},
        ),
        (event("EventStruct", "structure", {"id": "5-14", "owner": "1-7"}, ("msg_index", "0")), {"5-14", "1-7"}),
        (TIME, set()),
        (FEE, set()),
    ],
)
def test_every_id_that_an_event_names_is_touched(told: dict[str, Any], touched: set[str]) -> None:
    assert touched_in_results(results((told,)), HEIGHT) == touched
    assert touched_in_results(results((), [transaction(told)]), HEIGHT) == touched
    assert touched_in_event(message([told])) == touched
    assert touched_in_event(message([TIME], [transaction(told)], txs=1)) == touched


def test_the_map_of_a_message_counts_as_well_as_the_list() -> None:
    mapped = {"structs.structs.EventPlanetAttribute.planetAttributeRecord": ['{"attributeId":"12-2-9","value":"5"}']}
    assert touched_in_event(message(None, mapped=mapped)) == {"2-9"}


def test_a_block_in_which_nothing_changed_touches_nothing() -> None:
    assert touched_in_event(message()) == frozenset()
    assert touched_in_results(results(None), HEIGHT) == frozenset()


@pytest.mark.parametrize(
    "unreadable",
    [
        event("EventStruct", "structure", '{"id": "5-14"'),
        event("EventStruct", "structure", "[" * 100_000),
        event("EventStruct", "structure", "eyJpZCI6IjUtMTQifQ=="),
        {"type": "structs.structs.EventStruct", "attributes": [{"key": "structure", "value": None}]},
        {"type": "structs.structs.EventStruct", "attributes": "none"},
        {"attributes": []},
        "event",
    ],
)
def test_an_event_that_cannot_be_read_means_that_anything_may_have_changed(unreadable: Any) -> None:
    assert touched_in_event(message([TIME, unreadable])) is None
    assert touched_in_event(message([TIME], [transaction(unreadable)], txs=1)) is None
    assert touched_in_results(results((TIME, unreadable)), HEIGHT) is None


@pytest.mark.parametrize(
    "partial",
    [
        None,
        {},
        {"result": {"data": {"value": {"block": {"header": {}}}}}},
        message([TIME], None, txs=1),
        message([TIME], [], txs=2),
        message([TIME], [{"code": 0}], txs=1),
        message([TIME], ["result"], txs=1),
        message("events"),
        message([TIME], mapped=["events"]),
        message([TIME], mapped={"structs.structs.EventStruct.structure": [5]}),
    ],
)
def test_a_message_without_the_results_of_every_transaction_says_nothing(partial: object) -> None:
    assert touched_in_event(partial) is None


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {"height": str(HEIGHT)},
        results(height=str(HEIGHT + 1)),
        results(txs="none"),
        results(txs=[None]),
        results(txs=[{"code": 0, "events": None}]),
        results(events="none"),
    ],
)
def test_an_answer_that_is_not_whole_says_nothing(answer: object) -> None:
    assert touched_in_results(answer, HEIGHT) is None


def test_a_failed_transaction_may_have_no_events() -> None:
    failed = {"code": 1800, "events": []}
    assert touched_in_event(message([TIME], [failed], txs=1)) == frozenset()


def test_events_of_begin_and_end_count_as_well() -> None:
    assert touched_in_results(results(None, begin_block_events=[CLOCK]), HEIGHT) == {"2-28571"}
    assert touched_in_results(results(None, end_block_events=[CLOCK]), HEIGHT) == {"2-28571"}


def test_more_than_can_be_read_quickly_means_that_anything_may_have_changed() -> None:
    crowd = event("EventStruct", "structure", {"ids": [f"5-{n}" for n in range(60_000)]})
    assert touched_in_event(message([crowd])) is None
    wide = event("EventStruct", "structure", {"numbers": list(range(1_100_000))})
    assert touched_in_event(message([wide])) is None


def test_the_permissions_of_an_object_are_told_apart_from_the_object() -> None:
    assert permissions_on("1-7") == "1-7@"


FOUNDED = event("EventGuild", "guild", {"id": "0-4", "owner": "1-9", "primaryReactorId": "3-1"})
SOLVED = event(
    "EventHashSuccess", "eventHashSuccessDetail", {"category": "guild_charter", "objectId": "0-4", "planetId": ""}
)


@pytest.mark.parametrize("founding", [FOUNDED, SOLVED], ids=["EventGuild", "EventHashSuccess"])
def test_a_guild_that_is_founded_touches_the_puzzle_of_all_charters(founding: dict[str, Any]) -> None:
    touched = touched_in_results(results(txs=[transaction(founding)]), HEIGHT)
    assert touched is not None
    assert {CHARTER, "0-4"} <= touched
    mapped = {f"{founding['type']}.{each['key']}": [each["value"]] for each in founding["attributes"]}
    assert CHARTER in (touched_in_event(message(mapped=mapped)) or ())


def test_other_proofs_and_members_of_guilds_do_not_touch_the_charter() -> None:
    solved = event("EventHashSuccess", "eventHashSuccessDetail", {"category": "build", "objectId": "5-4"})
    player = event("EventPlayer", "player", {"id": "1-7", "guildId": "0-4"})
    touched = touched_in_results(results(txs=[transaction(solved, player)]), HEIGHT)
    assert touched is not None
    assert CHARTER not in touched
