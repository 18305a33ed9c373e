"""What a player writes first: a loop around hashlib. One core."""

from __future__ import annotations

import hashlib
import platform
import ssl
import time
from collections.abc import Callable, Iterator
from itertools import count

from bench.report import Hardware

PREFIX = "5-28BUILD679575NONCE"
#: No hash of a benchmark has so many leading zeros, so no loop is ended by a find.
_TARGET = "0" * 16
#: Hashes between two looks at the clock: well under a millisecond.
_CHUNK = 500


class HashlibLoop:
    """`hashlib.sha256` for every nonce, its hex digest compared."""

    id = "hashlib"
    what = "Python: a loop of hashlib.sha256"
    hardware: Hardware = "one core"
    limit = None

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.version = f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}"
        self._clock = clock

    def measure(self, seconds: float) -> float:
        """See `Contender.measure`."""
        nonces = count(10**11)
        _run(self._hash, nonces, seconds / 4, self._clock)
        return _run(self._hash, nonces, seconds, self._clock)

    def _hash(self, nonces: Iterator[int]) -> None:
        sha256 = hashlib.sha256
        for _, nonce in zip(range(_CHUNK), nonces, strict=False):
            if sha256(f"{PREFIX}{nonce}".encode()).hexdigest().startswith(_TARGET):
                raise AssertionError("a hash of 16 zeros")


class MidstateLoop(HashlibLoop):
    """The best hashlib can do: the prefix hashed once and copied, bytes instead of text."""

    id = "hashlib-midstate"
    what = "Python: hashlib, the prefix hashed once and copied"

    def _hash(self, nonces: Iterator[int]) -> None:
        copied, target = hashlib.sha256(PREFIX.encode()).copy, bytes(8)
        for _, nonce in zip(range(_CHUNK), nonces, strict=False):
            state = copied()
            state.update(b"%d" % nonce)
            if state.digest().startswith(target):
                raise AssertionError("a hash of 16 zeros")


def _run(
    hash_chunk: Callable[[Iterator[int]], None], nonces: Iterator[int], seconds: float, clock: Callable[[], float]
) -> float:
    began, hashes = clock(), 0
    while True:
        hash_chunk(nonces)
        hashes += _CHUNK
        elapsed = clock() - began
        if elapsed >= seconds:
            return hashes / elapsed
