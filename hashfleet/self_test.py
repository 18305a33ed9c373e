"""What every device must pass before it gets work: does it find exactly what hashlib finds, and how fast is it?

A device can compute and still be wrong (overclocked memory, a miscompiled kernel), and a missed nonce shows nowhere
later. So each engine searches ranges of which hashlib knows every hit, and the sets must be equal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from hashfleet.difficulty import MAX_DIFFICULTY
from hashfleet.engine import Batch, HashEngine
from hashfleet.errors import EngineError, SelfTestFailed
from hashfleet.message import MAX_COUNTER_DIGITS, NonceSpace, lay_out
from hashfleet.proof import MAX_NONCE_DIGITS, verify

#: An ordinary job's space: one block, 44 bytes. The known hits below are its.
ORDINARY = NonceSpace(b"5-28BUILD679575NONCE", "417203000017", 12)
#: A counter of that space with exactly eight leading hex zeros.
RARE = 10_821_512_714
#: The same job's leases in the shapes of `hashfleet.message`, T and both forms of S: engines have a kernel for each.
SHARED = lay_out(ORDINARY.prefix, "41720300001700", 12, MAX_NONCE_DIGITS)
SHORT = lay_out(ORDINARY.prefix, "41720300001700", 12, 35)
LONG_SHARED = lay_out(b"5-28REFINE679575NONCE" * 4, "41720300001700", 12, MAX_NONCE_DIGITS)
SHORT_13 = NonceSpace(ORDINARY.prefix, "41720300001700000000000", 12)


@dataclass(frozen=True, slots=True)
class _Case:
    """One search, and the hits it must give; None: ask hashlib about every nonce of it."""

    what: str
    space: NonceSpace
    start: int
    count: int
    zeros: int
    hits: tuple[int, ...] | None = None


#: Short ranges are checked against hashlib as they stand; the long one and the rare nonces were searched once with
#: hashlib (tests/unit/hashfleet/test_self_test.py does it again).
_CASES = (
    _Case("one block", ORDINARY, 4_711, 2_000, 1),
    _Case("a carry through six digits", ORDINARY, 999_990, 500, 2),
    _Case("counters above 2^32", ORDINARY, 2**32 - 1_000, 2_000, 2),
    _Case("a tail of two blocks", NonceSpace(b"9-7@2-11RAID1283900NONCE", "7" * 25, 12), 10**11, 2_000, 1),
    _Case("a midstate and one block", NonceSpace(b"5-28REFINE679575NONCE", "3" * 60, 10), 123_456, 2_000, 1),
    _Case(
        "the last nonces of the largest counter",
        NonceSpace(b"5-1MINE1NONCE", "", MAX_COUNTER_DIGITS),
        10**MAX_COUNTER_DIGITS - 1_000,
        1_000,
        1,
    ),
    _Case(
        "a million nonces",
        ORDINARY,
        0,
        2**20,
        4,
        (119940, 140624, 148207, 209664, 257940, 478831, 763724, 766905, 788973, 864995, 873108, 898201, 989107),
    ),
    _Case("short nonces across lanes", SHORT, 8_999_123, 2_000, 1),
    _Case("short nonces that end at byte 55", SHORT_13, 8_999_123, 2_000, 1),
    _Case("one lane of a shared schedule", SHARED, 8_765_432, 2_000, 1),
    _Case("lanes of a shared schedule", SHARED, 8_999_123, 2_000, 1),
    _Case("a shared schedule behind a midstate", LONG_SHARED, 8_999_123, 2_000, 1),
    # Every tail, in many lanes: enough of both to fill each lane of a vector and each thread of a warp.
    _Case(
        "half a million short nonces",
        SHORT,
        123_456_789,
        2**19,
        4,
        (123474679, 123490889, 123506010, 123509179, 123607418, 123632856, 123714410, 123762837, 123879670, 123885116),
    ),
    _Case(
        "half a million nonces with a shared schedule",
        SHARED,
        123_456_789,
        2**19,
        4,
        (123592547, 123607101, 123638364, 123716685, 123732101, 123806479, 123856885, 123876268, 123876950, 123897121),
    ),
    # 16^8 hashes of search stand behind this one: no other case has a digest whose first word is all zeros.
    _Case("for eight zeros", ORDINARY, RARE - 500, 1_000, 8, (RARE,)),
    _Case("for nine zeros", ORDINARY, RARE - 500, 1_000, 9, ()),
)


def self_test(engine: HashEngine) -> None:
    """Return if the engine finds what hashlib finds, else raise SelfTestFailed with what was wrong.

    Takes about a second on one CPU core, far less on a GPU. EngineError if the device fails outright.
    """
    for case in _CASES:
        wanted = _hashlib_hits(case) if case.hits is None else case.hits
        found = _search(engine, case)
        missed, invented = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
        if missed or invented:
            raise SelfTestFailed(
                f"{_name(engine)} does not compute SHA-256 rightly: searching {case.what} it "
                + " and ".join(_some(word, hits) for word, hits in (("missed", missed), ("invented", invented)) if hits)
            )


def measure_rate(engine: HashEngine, seconds: float = 0.3, clock: Callable[[], float] = time.monotonic) -> float:
    """Hashes per second that the engine does now in shape T, which leases have unless their job limits the nonce.

    Measured over `seconds` after as long a time of warming up.
    """
    if seconds <= 0:
        raise ValueError(f"seconds is {seconds}; it should be above 0")
    space = lay_out(ORDINARY.prefix, ORDINARY.extranonce, MAX_COUNTER_DIGITS, MAX_NONCE_DIGITS)
    batches = iter(engine.search(space, 0, space.capacity, MAX_DIFFICULTY))
    try:
        # First the batch size settles and the clocks rise: a GPU starts far below its batch size and its speed.
        _hash_for(batches.__next__, seconds, clock)
        nonces, elapsed = _hash_for(batches.__next__, seconds, clock)
    except StopIteration:
        raise EngineError(f"{_name(engine)} ended a search of {space.capacity} nonces within a second") from None
    finally:
        close = getattr(batches, "close", None)  # a generator's, which an iterator need not have
        if close is not None:
            close()
    return nonces / elapsed


def _hash_for(next_batch: Callable[[], Batch], seconds: float, clock: Callable[[], float]) -> tuple[int, float]:
    """Take batches for at least `seconds`; the nonces done and the time it took."""
    began, nonces = clock(), 0
    while True:
        nonces += next_batch().count
        elapsed = clock() - began
        if elapsed >= seconds:
            return nonces, elapsed


def _search(engine: HashEngine, case: _Case) -> tuple[int, ...]:
    """The hits of a case; SelfTestFailed unless the batches cover it exactly and report each hit once, in order."""
    at, end = case.start, case.start + case.count
    hits: list[int] = []
    for batch in engine.search(case.space, case.start, case.count, case.zeros):
        if batch.start != at or batch.count < 1 or at + batch.count > end:
            raise SelfTestFailed(
                f"{_name(engine)} answered with the nonces {batch.start} to {batch.start + batch.count - 1}; "
                f"batches should continue at {at} and end before {end}"
            )
        if list(batch.hits) != sorted(set(batch.hits)):
            raise SelfTestFailed(f"{_name(engine)} reported hits twice or out of order while searching {case.what}")
        at += batch.count
        hits += batch.hits
    if at != end:
        raise SelfTestFailed(f"{_name(engine)} ended its search at nonce {at}; it should have gone on to {end}")
    return tuple(hits)


def _hashlib_hits(case: _Case) -> tuple[int, ...]:
    return tuple(
        counter
        for counter in range(case.start, case.start + case.count)
        if verify(case.space.prefix, case.space.nonce(counter)).zeros >= case.zeros
    )


def _some(word: str, hits: list[int]) -> str:
    shown = ", ".join(str(hit) for hit in hits[:3])
    return f"{word} {len(hits)} hit{'s' if len(hits) > 1 else ''} (nonce {shown}{', ...' if len(hits) > 3 else ''})"


def _name(engine: HashEngine) -> str:
    return f"{engine.device.device_id} ({engine.device.name})"
