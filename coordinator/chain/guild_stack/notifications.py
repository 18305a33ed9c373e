"""What a payload on the channel `grass` says changed. Pure.

Subjects are read by prefix and members by name, because both grew over time, and every id in a payload counts,
wherever it stands: one id too many costs a query, one too few leaves a stale anchor.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from hashfleet.action import MAX_HEIGHT

CHANNEL: Final = "grass"
#: Categories of planet activity without which the channel does not tell all that moves work.
NEEDED_CATEGORIES: Final = frozenset(
    {
        "raid_status",
        "fleet_arrive",
        "fleet_advance",
        "fleet_depart",
        "struct_status",
        "struct_block_build_start",
        "struct_block_ore_mine_start",
        "struct_block_ore_refine_start",
        "shield_change",
        "block_raid_start",
    }
)
#: PostgreSQL's own limit is 8,000 bytes.
_MAX_PAYLOAD: Final = 8192
_OBJECT: Final = re.compile(r"[0-9]{1,2}-[0-9]{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Notice:
    """A payload, read."""

    #: Height of a block that was announced; None for anything else.
    height: int | None = None
    #: Ids of objects that changed.
    touched: frozenset[str] = frozenset()
    #: False if something changed that the payload does not name.
    whole: bool = True


_UNREADABLE: Final = Notice(whole=False)


def read_notice(payload: str) -> Notice:
    """What a payload says; never raises, because anybody who may connect may notify."""
    if len(payload) > _MAX_PAYLOAD:
        return _UNREADABLE
    try:
        told = json.loads(payload)
    except (ValueError, RecursionError):
        return _UNREADABLE
    if not isinstance(told, dict) or not isinstance(told.get("subject"), str):
        return _UNREADABLE
    subject: str = told["subject"]
    if subject.split(".")[0] == "consensus":
        height = told.get("height")
        if isinstance(height, str) and height.isascii() and height.isdecimal() and len(height) < 12:
            height = int(height)
        if isinstance(height, bool) or not isinstance(height, int) or not 1 <= height <= MAX_HEIGHT:
            return Notice()
        return Notice(height=height)
    touched = {part for part in subject.split(".") if _OBJECT.fullmatch(part)}
    waiting: list[object] = [told]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if _OBJECT.fullmatch(value):
                touched.add(value)
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    # A payload that was too large was replaced by one that says so and leaves out the rest.
    return Notice(touched=frozenset(touched), whole="stub" not in told)
