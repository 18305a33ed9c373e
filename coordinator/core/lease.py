"""Leases: disjoint parts of the nonce space, granted to one device for a few seconds of hashing.

Every fresh lease gets an extranonce that was never used before, by this coordinator or by one before it::

    extranonce = salt (7 digits, random per start of the coordinator) + lease number (7 digits, counting up)

so two leases never share a nonce. What a lost or returned lease did not search is issued again, under the same
extranonce and with its generation raised by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hashfleet.difficulty import MAX_DIFFICULTY
from hashfleet.message import NonceSpace

#: With 14 digits of extranonce, the shortest nonces have 26 digits: the longest prefix of the four actions (29 bytes)
#: still leaves message and padding in one SHA-256 block (55 bytes).
COUNTER_DIGITS = 12
EXTRANONCE_PART_DIGITS = 7


@dataclass(frozen=True, slots=True)
class NonceRange:
    """Counters start .. start + count - 1 under one extranonce."""

    extranonce: str
    start: int
    count: int
    #: How often it was issued before.
    generation: int = 0

    def after(self, done: int) -> NonceRange | None:
        """What is left once `done` counters are searched, to be issued anew; None if nothing."""
        done = min(max(done, 0), self.count)
        if done == self.count:
            return None
        return replace(self, start=self.start + done, count=self.count - done, generation=self.generation + 1)

    def split(self, most: int) -> tuple[NonceRange, NonceRange | None]:
        """The first `most` counters, and the rest if there is any."""
        if self.count <= most:
            return self, None
        rest = replace(self, start=self.start + most, count=self.count - most)
        return replace(self, count=most), rest


@dataclass(frozen=True, slots=True)
class Lease:
    """A range granted to one device."""

    lease_id: str
    worker_id: str
    device_id: str
    job_id: str
    #: Where the range lies: every nonce of the job's work under the range's extranonce.
    space: NonceSpace
    range: NonceRange
    #: Leading hex zeros that a hit needs to be reported.
    zeros: int
    granted_at: float
    #: Seconds of hashing that are to be expected of it.
    seconds: float
    #: A small job's: it ends with its first hit, and rides with many others.
    ends_with_hit: bool = False
    #: Counters searched so far, from the start, without a gap.
    done: int = 0
    #: Hashes a second, as last reported.
    rate: float = 0.0
    #: The fewest zeros that it was ever asked to report: a hit with these may be late, but it is not false.
    least_zeros: int = MAX_DIFFICULTY
    #: The worker was told to stop; its LeaseEnded is awaited.
    cancelled: bool = False


def fresh_range(salt: int, number: int, count: int) -> NonceRange:
    """The first range of lease `number`."""
    digits = EXTRANONCE_PART_DIGITS
    return NonceRange(f"{salt:0{digits}d}{number:0{digits}d}", 0, min(max(count, 1), 10**COUNTER_DIGITS))
