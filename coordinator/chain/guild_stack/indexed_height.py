"""Whether the height that a guild stack's index tells can be believed. Pure functions over rows.

The indexer writes one row per chain into ``structs.current_block``. Everything else in the database is as of that
height at best, so an index that is behind or stands still must not decide about any proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.chain.client import Block
from hashfleet.action import MAX_HEIGHT
from hashfleet.errors import BadChainAnswer, ChainUnavailable

#: An index that was not written for so many block intervals stands still.
STALE_INTERVALS: Final = 5
#: Seconds between blocks while that is not measured, and the bounds within which a measurement is believed.
USUAL_INTERVAL: Final = 6.0
_SHORTEST, _LONGEST = 6.0, 60.0
#: Blocks that an index in order may be behind the chain: what it calls `current` itself.
_MAX_LAG: Final = 1
#: What older indexers write instead of a chain id.
_NAMELESS: Final = "testnet"


@dataclass(frozen=True, slots=True)
class IndexedBlock:
    """A row of ``structs.current_block`` that is believed."""

    chain: str
    block: Block


def believe(rows: Sequence[object], expected_chain: str | None, interval: float) -> IndexedBlock:
    """The row of the expected chain (None: the one written last), if it is fresh.

    Each row is the JSON of a table row, with `age` and `time` (seconds) added; `status`, `lag_blocks` and `tip_height`
    may be absent. `interval` is the usual time between blocks in seconds. Raises ChainUnavailable if the index is
    empty, behind or stands still, BadChainAnswer if it is of another chain or unreadable.
    """
    told = [row for row in rows if isinstance(row, dict)]
    if not told:
        raise ChainUnavailable(
            "the guild stack's index tells no height (structs.current_block is empty, as after a crash of the "
            "database); its indexer should write one with the next block"
        )
    if expected_chain is not None:
        named = [row for row in told if row.get("chain") == expected_chain]
        if not named:
            named = [row for row in told if row.get("chain") == _NAMELESS]
        if not named:
            chains = ", ".join(sorted(ascii(row.get("chain"))[:80] for row in told)[:5])
            raise BadChainAnswer(f"the guild stack indexes {chains}, not the configured chain {expected_chain}")
        told = named
    row = min(told, key=lambda one: _seconds(one, "age"))
    height, chain = row.get("height"), row.get("chain")
    if not isinstance(height, int) or not 1 <= height <= MAX_HEIGHT:
        raise BadChainAnswer(f"the guild stack's index is at height {ascii(height)[:40]}; it should be 1 or more")
    if not isinstance(chain, str) or not chain:
        raise BadChainAnswer("the guild stack's index does not tell which chain it is of")
    status = row.get("status")
    if status is not None and status != "current":
        raise ChainUnavailable(
            f"the guild stack's index is {ascii(status)[:40]}, not 'current', at height {height}; nothing is decided"
        )
    lag, tip = row.get("lag_blocks"), row.get("tip_height")
    behind = max(lag if isinstance(lag, int) else 0, tip - height if isinstance(tip, int) else 0)
    if behind > _MAX_LAG:
        raise ChainUnavailable(
            f"the guild stack's index is {behind} blocks behind the chain at height {height}; "
            "nothing is decided until it has caught up"
        )
    age = _seconds(row, "age")
    patience = STALE_INTERVALS * min(max(interval, _SHORTEST), _LONGEST)
    if age > patience:
        raise ChainUnavailable(
            f"the guild stack's index stands still: height {height} was written {age:.0f} s ago, more than "
            f"{patience:.0f} s; its indexer or the chain has stopped"
        )
    return IndexedBlock(expected_chain or chain, Block(height, _seconds(row, "time")))


def _seconds(row: dict[object, object], name: str) -> float:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadChainAnswer("the guild stack's index does not tell when it was written (updated_at)")
    return float(value)
