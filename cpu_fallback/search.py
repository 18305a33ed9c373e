"""The hash loop of one lane, on hashlib."""

from __future__ import annotations

import hashlib
from functools import cache

#: Digits taken from a table instead of being formatted: 10^4 is where a longer table stops paying (it leaves the
#: cache), and the work outside the inner loop is one part in 10^4.
TABLE_DIGITS = 4


def search_range(
    constant: bytes, counter_digits: int, start: int, count: int, zeros: int, filler_digits: int = 0
) -> tuple[int, ...]:
    """The counters of start .. start + count - 1, ascending, whose message hashes to `zeros` leading hex zeros.

    A message is `constant` followed by the counter in exactly `counter_digits` digits, with `filler_digits` zeros
    before the last four. Per hash there remain one copy of a state that has taken in everything but the last four
    digits, an update of four bytes and one comparison.
    """
    bound = (1 << (256 - 4 * zeros)).to_bytes(32, "big")  # bytes compare as the big-endian numbers they are
    table_digits = min(counter_digits, TABLE_DIGITS)
    tails, size = _tails(table_digits), 10**table_digits
    base = hashlib.sha256(constant)
    hits: list[int] = []
    at, end = start, start + count
    while at < end:
        high, low = divmod(at, size)
        stop = min(size, low + end - at)
        head = base.copy()
        if counter_digits > table_digits:
            head.update(b"%0*d" % (counter_digits - table_digits, high))
        head.update(b"0" * filler_digits)
        copy = head.copy
        for tail in tails[low:stop]:
            message = copy()
            message.update(tail)
            if message.digest() < bound:
                hits.append(high * size + int(tail))
        at = high * size + stop
    return tuple(hits)


@cache
def _tails(digits: int) -> list[bytes]:
    """Every number of that many digits, as text."""
    return [b"%0*d" % (digits, value) for value in range(10**digits)]
