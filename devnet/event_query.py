"""CometBFT's query language, as far as subscriptions and tx_search use it.

Conditions joined by AND: ``tm.event='Tx' AND tx.hash='AB'``, ``tx.height>=5``, ``a.b CONTAINS 'x'``, ``a.b EXISTS``.
A query is matched against an event map: key ``type.attribute`` -> the values it has.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from devnet.block import Block, IncludedTx
from devnet.events import Event
from hashfleet.errors import InvalidInput

EventMap = Mapping[str, Sequence[str]]

#: CometBFT's limit, in characters.
MAX_QUERY = 512
_CONDITION = re.compile(
    r"\s*(?P<key>[\w.\-/]+)\s*(?:(?P<exists>EXISTS)|CONTAINS\s*'(?P<part>[^']*)'"
    r"|(?P<op><=|>=|=|<|>)\s*(?:'(?P<text>[^']*)'|(?P<number>[0-9]{1,19})))\s*",
    re.ASCII,
)
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class EventQuery:
    """A parsed query."""

    text: str
    _conditions: tuple[tuple[str, Callable[[str], bool]], ...]

    def matches(self, events: EventMap) -> bool:
        return all(any(accepts(value) for value in events.get(key, ())) for key, accepts in self._conditions)


def parse(text: str) -> EventQuery:
    """Parse a query. Raises InvalidInput."""
    if len(text) > MAX_QUERY:
        raise InvalidInput(f"the query has {len(text)} characters; the most is {MAX_QUERY}")
    conditions = []
    rest = text
    while True:
        found = _CONDITION.match(rest)
        if not found:
            raise InvalidInput(f"the query {text!r} is wrong at {rest[:40]!r}; it should read like tm.event='NewBlock'")
        conditions.append((found["key"], _acceptance(found)))
        rest = rest[found.end() :]
        if not rest:
            return EventQuery(text, tuple(conditions))
        if not rest.startswith("AND "):
            raise InvalidInput(f"the query {text!r} is wrong at {rest[:40]!r}; conditions are joined by AND")
        rest = rest[4:]


def _acceptance(found: re.Match[str]) -> Callable[[str], bool]:
    if found["exists"]:
        return lambda value: True
    if found["part"] is not None:
        part: str = found["part"]
        return lambda value: part in value
    if found["text"] is not None:
        if found["op"] != "=":
            raise InvalidInput(f"the query compares text with {found['op']}; text is only compared with =")
        wanted: str = found["text"]
        return lambda value: value == wanted
    number, compare = int(found["number"]), _COMPARE[found["op"]]
    return lambda value: value.isascii() and value.isdigit() and len(value) < 20 and compare(int(value), number)


def block_events(block: Block, kind: str) -> dict[str, list[str]]:
    """The event map of a block under one of its names (NewBlock, NewBlockHeader, NewBlockEvents)."""
    found = _event_map(block.events)
    found["tm.event"] = [kind]
    found["block.height"] = [str(block.height)]
    return found


def tx_events(tx: IncludedTx) -> dict[str, list[str]]:
    """The event map of a transaction."""
    found = _event_map(tx.result.events)
    found["tm.event"] = ["Tx"]
    found["tx.hash"] = [tx.hash]
    found["tx.height"] = [str(tx.height)]
    return found


def _event_map(events: Sequence[Event]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for event in events:
        for key, value in event.attributes:
            found.setdefault(f"{event.type}.{key}", []).append(value)
    return found
