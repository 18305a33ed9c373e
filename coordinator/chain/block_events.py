"""Which objects a block changed: read from its typed events. Pure functions over decoded JSON.

The chain emits an event for every record and attribute that it writes, and the attributes of the event name the object,
as JSON: ``{"attributeId": "12-2-9", "value": "2470392"}`` or ``"5-262312"`` (interface notes 3.8). Every id in every
event of the chain's own module counts, whatever the event is called: one id too many costs a query, one too few leaves
a stale anchor. So whatever cannot be read whole makes the answer None, "any object may have changed", never an empty
set.

What an id in an event adds::

    "5-14"               5-14          an object
    "12-2-9"             2-9           an attribute of an object (some have another number behind)
    "1-7@1-12"           1-7, 1-12, and 1-7@, which stands for the permissions on 1-7
    "8-structs1...@0"    8-structs1..., and 8-structs1...@

A guild that was founded touches `CHARTER` too: the puzzle of all charters, which has no id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

#: Events of other modules (transfers, fees) write no game object, and their attributes are no JSON.
_MODULE: Final = "structs."
#: What the SDK adds to every event; plain text.
_SDK_ATTRIBUTES: Final = frozenset({"mode", "msg_index"})
#: What a block touches in which a guild was founded.
CHARTER: Final = "charter"
#: Key of the attribute in which EventGuild holds its record, and what EventHashSuccess says of a charter.
_GUILD: Final = "guild"
_CHARTER_CATEGORY: Final = "guild_charter"
#: More than a full block of the chain holds; beyond it nothing is known.
_MAX_ATTRIBUTES: Final = 100_000
_MAX_VALUES: Final = 1_000_000
_MAX_TOUCHED: Final = 50_000

_OBJECT: Final = re.compile(r"[0-9]{1,2}-[0-9]{1,20}", re.ASCII)
_ATTRIBUTE: Final = re.compile(r"[0-9]{1,3}-([0-9]{1,2}-[0-9]{1,20})(?:-[0-9]{1,20})?", re.ASCII)
_ADDRESS: Final = re.compile(r"8-[a-z0-9]{1,100}", re.ASCII)
_PERMISSION: Final = re.compile(r"([0-9]{1,2}-[a-z0-9]{1,100})@([0-9-]{1,24})", re.ASCII)

#: Key and value of an attribute.
_Attribute = tuple[str, str]


class _Unreadable(Exception):
    """Something that might name an object cannot be read."""


def permissions_on(object_id: str) -> str:
    """What a block touches when permissions on this object change; for a key the object is ``8-{address}``."""
    return f"{object_id}@"


def touched_in_event(message: object) -> frozenset[str] | None:
    """What the block of a decoded NewBlock message changed; None unless the message holds the results of all of it.

    CometBFT 0.38 puts the events of the block under `result_finalize_block`, those of its transactions into the results
    beside them, and the former once more into a map by name.
    """
    result = _member(message, "result")
    value = _member(_member(result, "data"), "value")
    results, data = _member(value, "result_finalize_block"), _member(_member(value, "block"), "data")
    if not isinstance(results, dict) or not isinstance(data, dict):
        return None
    try:
        if len(_list(data.get("txs"))) != len(_list(results.get("tx_results"))):
            return None
        attributes = set(_attributes(_list(results.get("events"))))
        attributes.update(_of_transactions(_list(results.get("tx_results"))))
        attributes.update(_of_map(_member(result, "events")))
        return _touched(attributes)
    except _Unreadable:
        return None


def touched_in_results(result: object, height: int) -> frozenset[str] | None:
    """What the block of a ``/block_results`` answer changed; None if the answer is not whole or of another height."""
    if not isinstance(result, dict) or result.get("height") not in (str(height), height) or "txs_results" not in result:
        return None
    try:
        attributes = set(_of_transactions(_list(result["txs_results"])))
        for name in ("finalize_block_events", "begin_block_events", "end_block_events"):
            attributes.update(_attributes(_list(result.get(name))))
        return _touched(attributes)
    except _Unreadable:
        return None


def _of_transactions(results: list[object]) -> Iterator[_Attribute]:
    for result in results:
        if not isinstance(result, dict):
            raise _Unreadable
        events = _list(result.get("events"))
        if not events and result.get("code", 0) == 0:
            raise _Unreadable  # the SDK emits events for every transaction that succeeds: these were left out
        yield from _attributes(events)


def _attributes(events: list[object]) -> Iterator[_Attribute]:
    for event in events:
        kind = _member(event, "type")
        if not isinstance(kind, str):
            raise _Unreadable
        if not kind.startswith(_MODULE):
            continue
        for attribute in _list(_member(event, "attributes")):
            key, value = _member(attribute, "key"), _member(attribute, "value")
            if not isinstance(key, str) or not isinstance(value, str):
                raise _Unreadable
            yield key, value


def _of_map(events: object) -> Iterator[_Attribute]:
    """Attributes of the map ``{"structs.structs.EventStruct.structure": ["{...}", ...], ...}``."""
    if not isinstance(events, dict | None):
        raise _Unreadable
    for name, values in (events or {}).items():
        if not name.startswith(_MODULE):
            continue
        for value in _list(values):
            if not isinstance(value, str):
                raise _Unreadable
            yield name.rpartition(".")[2], value


def _touched(attributes: set[_Attribute]) -> frozenset[str]:
    if len(attributes) > _MAX_ATTRIBUTES:
        raise _Unreadable
    found: set[str] = set()
    left = _MAX_VALUES
    for key, text in attributes:
        if key in _SDK_ATTRIBUTES:
            continue
        waiting: list[object] = [_decoded(text)]
        if key == _GUILD or _member(waiting[0], "category") == _CHARTER_CATEGORY:
            found.add(CHARTER)
        while waiting:
            left -= 1
            value = waiting.pop()
            if isinstance(value, str):
                found.update(_named(value))
            elif isinstance(value, dict):
                waiting += value.values()
            elif isinstance(value, list):
                waiting += value
            if left < len(waiting) or len(found) > _MAX_TOUCHED:
                raise _Unreadable
    return frozenset(found)


def _decoded(text: str) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        # A plain string field that lost its quotes on the way is still readable if it is an id.
        if any(True for _ in _named(text)):
            return text
        raise _Unreadable from None
    return value


def _named(text: str) -> Iterable[str]:
    """The objects that a text is an id of."""
    if len(text) > 160 or "-" not in text:
        return ()
    if _OBJECT.fullmatch(text) or _ADDRESS.fullmatch(text):
        return (text,)
    if attribute := _ATTRIBUTE.fullmatch(text):
        return (attribute[1],)
    if permission := _PERMISSION.fullmatch(text):
        to_whom = (permission[2],) if _OBJECT.fullmatch(permission[2]) else ()
        return (permission[1], permissions_on(permission[1]), *to_whom)
    return ()


def _list(value: object) -> list[object]:
    """A JSON array, or the null or nothing that Go writes for an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise _Unreadable
    return value


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None
