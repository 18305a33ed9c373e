"""Events of blocks and transactions, as CometBFT carries them: a type and attributes of text.

The chain's typed events have the full message name as type, one attribute per proto field, and JSON as its value:
uint64 as strings, defaults printed, plain strings with their quotes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from google.protobuf import json_format
from google.protobuf.message import Message


@dataclass(frozen=True, slots=True)
class Event:
    """One event; attributes are (key, value) in order."""

    type: str
    attributes: tuple[tuple[str, str], ...]

    def with_attribute(self, key: str, value: str) -> Event:
        return replace(self, attributes=(*self.attributes, (key, value)))


def typed(name: str, member: str, value: Message | dict[str, str] | str) -> Event:
    """A typed event `structs.structs.{name}` with one member; integers in a dict come as text already."""
    if isinstance(value, Message):
        value = json_format.MessageToDict(
            value, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    return Event(f"structs.structs.{name}", ((member, json.dumps(value, separators=(",", ":"), ensure_ascii=False)),))
