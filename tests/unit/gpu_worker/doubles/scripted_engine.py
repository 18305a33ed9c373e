"""Engines that hash with hashlib, or misbehave as told."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hashfleet.batches import search_each
from hashfleet.engine import Batch, DeviceInfo, EngineKind, Found, Search
from hashfleet.errors import EngineError, EngineUnavailable
from hashfleet.message import NonceSpace
from hashfleet.proof import verify

BATCH = 100


def honest_hits(space: NonceSpace, start: int, count: int, zeros: int) -> tuple[int, ...]:
    """What hashlib finds."""
    return tuple(c for c in range(start, start + count) if verify(space.prefix, space.nonce(c)).zeros >= zeros)


def best_hits(space: NonceSpace, start: int, count: int, zeros: int) -> list[int]:
    """The first of the best hits of each batch that has any: what a worker reports."""

    def rank(counter: int) -> tuple[int, int]:
        return verify(space.prefix, space.nonce(counter)).zeros, -counter

    batches = (
        honest_hits(space, at, min(BATCH, start + count - at), zeros) for at in range(start, start + count, BATCH)
    )
    return [max(hits, key=rank) for hits in batches if hits]


class ScriptedEngine:
    """A device in this process. Everything it was asked is in `searches`."""

    def __init__(self, device_id: str = "fake:0", *, stepped: bool = False, batch: int = BATCH) -> None:
        self.device = DeviceInfo(device_id, "a fake", EngineKind.CPU, "none")
        self.batch = batch
        #: (start, count, zeros) of each search.
        self.searches: list[tuple[int, int, int]] = []
        #: Errors to raise instead of the next batches, oldest first.
        self.errors: list[Exception] = []
        #: Counters that the next batch claims as hits besides the true ones.
        self.lies: list[int] = []
        self.closed = threading.Event()
        self.over = False
        #: Set when a search has ended, closed early or not.
        self.idle = threading.Event()
        self._taken = threading.Semaphore(0)
        self._steps = threading.Semaphore(0) if stepped else None

    def step(self, batches: int = 1) -> None:
        """Let a stepped device hash that many batches."""
        assert self._steps is not None
        self._steps.release(batches)

    def wait_taken(self) -> None:
        """Wait until the reader has dealt with one more batch and asks for the next."""
        assert self._taken.acquire(timeout=20)

    def let_go(self) -> None:
        """Let a stepped device run freely."""
        if self._steps is not None:
            self._steps.release(1_000_000)

    def end(self) -> None:
        """The test is over: fail instead of hashing on, for a free-running fake would starve everything else."""
        self.over = True
        self.let_go()

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
        space.check_range(start, count)
        self.searches.append((start, count, zeros))
        self.idle.clear()
        try:
            at = start
            while at < start + count:
                if self._steps is not None:
                    self._steps.acquire()
                if self.over:
                    raise EngineUnavailable("the test is over")
                if self.errors:
                    raise self.errors.pop(0)
                size = min(self.batch, start + count - at)
                hits = honest_hits(space, at, size, zeros)
                lies, self.lies = self.lies, []
                yield Batch(at, size, tuple(sorted({*hits, *lies})))
                self._taken.release()
                at += size
        finally:
            self.idle.set()

    def search_many(self, searches: Sequence[Search]) -> Iterator[Found]:
        return search_each(self, searches)

    def close(self) -> None:
        self.closed.set()


class _ChildEngine(ScriptedEngine):
    """A device for a process of its own; its id says how it behaves."""

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
        _, behaviour, *rest = self.device.device_id.split(":", 2)
        first_time = True
        if rest:  # misbehaves only while this file is not there
            marker = Path(rest[0])
            first_time = not marker.exists()
            marker.touch()
        for batch in super().search(space, start, count, zeros):
            yield batch
            if behaviour == "endless":
                time.sleep(0.01)
            if not first_time:
                continue
            if behaviour == "segfaults":
                os.kill(os.getpid(), signal.SIGSEGV)
            elif behaviour == "exits":
                os._exit(7)
            elif behaviour == "hangs":
                time.sleep(600)
            elif behaviour == "fails":
                raise EngineError("the fake device fell off the bus")


def open_child(device_id: str) -> ScriptedEngine:
    """What a device process calls to open its device."""
    if device_id == "fake:absent":
        raise EngineUnavailable("there is no fake device")
    return _ChildEngine(device_id)


def answer_pid(_: str) -> int:
    return os.getpid()


def crash(_: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def refuse(reason: str) -> None:
    raise EngineUnavailable(reason)
