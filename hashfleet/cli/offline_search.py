"""The search behind `hashfleet solve`: several engines, one prefix, no coordinator."""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import cast

from gpu_worker.device_runner import ReadyEngine
from hashfleet.engine import Batch, HashEngine
from hashfleet.errors import EngineError, HashfleetError
from hashfleet.message import NonceSpace, lay_out
from hashfleet.proof import MAX_NONCE_DIGITS, Proof, verify

logger = logging.getLogger(__name__)

#: The nonces of a search are as long as those of the fleet's leases, so that the rates compare.
EXTRANONCE_DIGITS = 14
COUNTER_DIGITS = 12
#: Work that an engine takes at a time, in seconds at its measured rate.
STRETCH_SECONDS = 5.0


class OfflineSearch:
    """Looks for one nonce with `zeros` leading hex zeros on all engines at once, at most `max_hashes` tries.

    Each engine searches under random extranonces of its own, so no two tries are alike, in this run or another.
    """

    def __init__(self, engines: Sequence[ReadyEngine], prefix: bytes, zeros: int, max_hashes: int | None) -> None:
        self._engines = engines
        self._prefix = prefix
        self._zeros = zeros
        self._lock = threading.Lock()
        #: Tries not handed to an engine yet; None for no limit.
        self._left = max_hashes
        self._hashes = 0
        self._found: Proof | None = None
        self._failures: list[HashfleetError] = []
        self._stopping = threading.Event()
        self._running = 0
        self._idle = threading.Event()
        self._began = 0.0
        self._ended: float | None = None

    @property
    def hashes(self) -> int:
        """Tries so far."""
        with self._lock:
            return self._hashes

    @property
    def seconds(self) -> float:
        """Since the start; until the end, once it has ended."""
        return (self._ended or time.monotonic()) - self._began

    @property
    def found(self) -> Proof | None:
        """The first hit that hashlib confirmed."""
        return self._found

    def start(self) -> None:
        """Set all engines to work."""
        self._began = time.monotonic()
        self._running = len(self._engines)
        for ready in self._engines:
            threading.Thread(target=self._run, args=(ready,), name=ready.engine.device.device_id, daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """True once every engine has stopped: found, budget used up, or told to stop.

        Raises the error of an engine if all of them failed.
        """
        if not self._idle.wait(seconds):
            return False
        if self._found is None and len(self._failures) == len(self._engines):
            raise self._failures[0]
        return True

    def stop(self) -> None:
        """Tell the engines to stop within one batch."""
        self._stopping.set()

    def _run(self, ready: ReadyEngine) -> None:
        try:
            self._search(ready)
        except HashfleetError as error:
            logger.error("%s gave up: %s", ready.engine.device.device_id, error)
            with self._lock:
                self._failures.append(error)
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self._ended = time.monotonic()
                    self._idle.set()

    def _search(self, ready: ReadyEngine) -> None:
        stretch = max(1, math.ceil(ready.rate * STRETCH_SECONDS))
        space, position = self._fresh_space(), 0
        while not self._stopping.is_set():
            if position == space.capacity:
                space, position = self._fresh_space(), 0
            count = self._take(min(stretch, space.capacity - position))
            if not count:
                return
            self._hash(ready.engine, space, position, count)
            position += count

    def _hash(self, engine: HashEngine, space: NonceSpace, start: int, count: int) -> None:
        search = engine.search(space, start, count, self._zeros)
        with closing(cast("Generator[Batch, None, None]", search)) as batches:  # close() stops the device
            for batch in batches:
                with self._lock:
                    self._hashes += batch.count
                for hit in batch.hits:
                    proof = verify(self._prefix, space.nonce(hit))
                    if proof.zeros < self._zeros:
                        raise EngineError(
                            f"{engine.device.device_id} claimed {self._zeros} zeros for nonce {proof.nonce}, "
                            f"but hashlib finds {proof.zeros}"
                        )
                    with self._lock:
                        self._found = self._found or proof
                    self._stopping.set()
                    return
                if self._stopping.is_set():
                    return

    def _take(self, most: int) -> int:
        with self._lock:
            if self._left is None:
                return most
            count = min(most, self._left)
            self._left -= count
            return count

    def _fresh_space(self) -> NonceSpace:
        extranonce = f"{secrets.randbelow(10**EXTRANONCE_DIGITS):0{EXTRANONCE_DIGITS}d}"
        return lay_out(self._prefix, extranonce, COUNTER_DIGITS, MAX_NONCE_DIGITS)
