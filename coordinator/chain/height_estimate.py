"""How far a chain has probably come since its last block was seen. Pure, and for display only.

No decision may use it: whether a proof is valid hangs on committed heights alone.
"""

from __future__ import annotations

import math

from hashfleet.action import MAX_HEIGHT


def estimated_height(height: int, seen_at: float, block_seconds: float, now: float) -> int:
    """The height that a chain has probably reached at `now`, at least `height`.

    `seen_at` is when the block at `height` was seen, by the clock of `now`, in seconds; `block_seconds` is the measured
    pace, 0 if there is none. Without a block or a pace nothing is estimated: `height`.
    """
    if height <= 0 or block_seconds <= 0 or not math.isfinite(now - seen_at):
        return height
    return height + int(min(max(0.0, (now - seen_at) / block_seconds), MAX_HEIGHT - height))
