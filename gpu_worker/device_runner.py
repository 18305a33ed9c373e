"""One device at work: a thread that takes leases from the device's queue and hashes them.

The thread is the only one that touches the engine. Everybody else talks to the queue under its lock and hears what
happened through the `report` callback, which the thread calls; the callback must not block.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import cast

from gpu_worker.lease import EndReason, Lease, LeaseQueue, Stop
from hashfleet.engine import Batch, DeviceInfo, HashEngine
from hashfleet.errors import EngineError, EngineUnavailable, InvalidInput, SelfTestFailed
from hashfleet.proof import Proof, verify

logger = logging.getLogger(__name__)

#: A device that claims this many hits which hashlib refutes is taken out: its other answers are not worth having.
MAX_FALSE_HITS = 3
#: A device that fails this often without one lease in between that ended well is taken out.
MAX_FAILURES = 5
#: Seconds before the first attempt to bring a failed device back; doubled for each further one.
RECOVERY_PAUSE_SECONDS = 0.5
#: Hits looked at per batch. More come only from leases that ask for one or two zeros, where any one of them will do.
MAX_HITS_PER_BATCH = 64


@dataclass(frozen=True, slots=True)
class ReadyEngine:
    """An engine that passed its self-test."""

    engine: HashEngine
    #: Hashes a second, as measured after the self-test; more than 0.
    rate: float
    #: Opens another engine for the device after this one has failed; None if the engine recovers by itself.
    reopen: Callable[[], HashEngine] | None = None


@dataclass(frozen=True, slots=True)
class HitFound:
    """A nonce with the zeros asked for, checked with hashlib."""

    lease_id: str
    job_id: str
    nonce: str


@dataclass(frozen=True, slots=True)
class LeaseOver:
    """The device is done with a lease."""

    lease_id: str
    #: Counter values searched, from the lease's start, without a gap.
    done: int
    reason: EndReason
    #: One sentence if the reason is FAILED, else empty.
    error: str = ""


@dataclass(frozen=True, slots=True)
class DeviceOut:
    """The device takes no lease any more."""

    device_id: str
    #: One sentence.
    reason: str


Report = HitFound | LeaseOver | DeviceOut


@dataclass(frozen=True, slots=True)
class Running:
    """How far the running lease is."""

    lease_id: str
    done: int
    #: When hashing began, on the runner's clock.
    started_at: float


class _FalseHit(EngineError):
    """The device claimed a hit that hashlib refutes."""


class DeviceRunner:
    """The thread of one device. Made idle; `start` sets it to work, `stop` ends it and closes the engine."""

    def __init__(
        self,
        ready: ReadyEngine,
        report: Callable[[Report], None],
        self_test: Callable[[HashEngine], None],
        *,
        recovery_pause_seconds: float = RECOVERY_PAUSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = ready.engine
        self._reopen = ready.reopen
        self.device: DeviceInfo = ready.engine.device
        #: Hashes a second, as measured.
        self.rate = ready.rate
        self._report = report
        self._self_test = self_test
        self._pause_seconds = recovery_pause_seconds
        self._clock = clock
        #: Guards everything below.
        self._changed = threading.Condition()
        self._queue = LeaseQueue()
        self._started_at = 0.0
        self._stopping = False
        #: Why the device was taken out; None while it is in service.
        self._out: str | None = None
        # Only the thread touches these two.
        self._false_hits = 0
        self._failures = 0
        # A daemon, so that a device which hangs inside a driver cannot keep the worker from exiting.
        self._thread = threading.Thread(target=self._run, name=f"device {self.device.device_id}", daemon=True)

    # What the conversation with the coordinator asks of a device.

    def offer(self, lease: Lease) -> None:
        """Take a lease. Raises InvalidInput if the device is out of service or holds as many leases as it may."""
        with self._changed:
            if self._out is not None:
                raise InvalidInput(f"{self.device.device_id} is out of service: {self._out}")
            self._queue.offer(lease)
            self._changed.notify()

    def cancel(self, lease_id: str) -> None:
        """Stop a lease within one batch; reported as cancelled, with what was done."""
        with self._changed:
            waiting = self._queue.cancel(lease_id)
        if waiting is not None:
            self._report(LeaseOver(waiting.lease_id, 0, EndReason.CANCELLED))

    def cancel_all(self) -> None:
        """Stop every lease, as `cancel` does."""
        with self._changed:
            held = self._queue.held
        for lease in reversed(held):  # the waiting one first, or it would begin when the running one stops
            self.cancel(lease.lease_id)

    def retarget(self, lease_id: str, zeros: int) -> None:
        """Report hits with `zeros` from the current position on, within one batch."""
        with self._changed:
            self._queue.retarget(lease_id, zeros)

    def drop_all(self) -> None:
        """Forget every lease within one batch, and report nothing about them."""
        with self._changed:
            self._queue.drop()

    def running(self) -> Running | None:
        """The lease in work and how far it is; None while the device idles."""
        with self._changed:
            lease = self._queue.running
            if lease is None or self._queue.stop is Stop.DROP:
                return None
            return Running(lease.lease_id, self._queue.done, self._started_at)

    # Life of the thread.

    def start(self) -> None:
        """Begin to take leases."""
        self._thread.start()

    def stop(self) -> None:
        """Drop everything, close the engine and end the thread; returns at once, `join` waits for it."""
        with self._changed:
            self._stopping = True
            self._queue.drop()
            self._changed.notify()

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end; False if it has not after that many seconds."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while (lease := self._next_lease()) is not None:
                failure = self._work_off(lease)
                if failure is not None and not self._recover(failure):
                    return
        finally:
            self._engine.close()

    def _next_lease(self) -> Lease | None:
        """Wait for a lease; None when the thread is to end."""
        with self._changed:
            while True:
                if self._stopping:
                    return None
                lease = self._queue.start_next()
                if lease is not None:
                    self._started_at = self._clock()
                    return lease
                self._changed.wait()

    def _work_off(self, lease: Lease) -> EngineError | None:
        """Hash a lease to its end and report that; the error if the device failed."""
        logger.debug("%s begins lease %s: %d counters", self.device.device_id, lease.lease_id, lease.count)
        failure: EngineError | None = None
        error = ""
        try:
            self._search(lease)
        except EngineError as caught:
            failure, error = caught, str(caught)
        except InvalidInput as caught:  # this engine cannot hash such a space: the lease's fault, not the device's
            error = str(caught)
        with self._changed:
            done, stop = self._queue.done, self._queue.stop
            self._queue.finish()
        if stop is Stop.DROP:
            return failure
        if error:
            reason = EndReason.FAILED
            logger.warning("%s failed lease %s: %s", self.device.device_id, lease.lease_id, error)
        else:
            reason = EndReason.EXHAUSTED if done == lease.count else EndReason.CANCELLED
            self._failures = 0
        logger.debug("%s ended lease %s: %s, %d done", self.device.device_id, lease.lease_id, reason.value, done)
        self._report(LeaseOver(lease.lease_id, done, reason, error))
        return failure

    def _search(self, lease: Lease) -> None:
        """Hash until the lease is exhausted or told to stop; a retarget begins a new search at the current position."""
        position, end = lease.start, lease.start + lease.count
        while position < end:
            with self._changed:
                zeros = self._queue.zeros
                if self._queue.stop is not None:
                    return
            found = self._engine.search(lease.space, position, end - position, zeros)
            # engines answer with a generator, whose close() stops the device
            with closing(cast("Generator[Batch, None, None]", found)) as batches:
                for batch in batches:
                    self._check_batch(batch, position, end)
                    self._send_hits(lease, batch, zeros)
                    position += batch.count
                    with self._changed:
                        self._queue.advance(batch.count)
                        changed = self._queue.stop is not None or self._queue.zeros != zeros
                    if changed or position == end:
                        break
                else:
                    raise EngineError(
                        f"{self.device.device_id} ended its search at counter {position} instead of {end}"
                    )

    def _check_batch(self, batch: Batch, position: int, end: int) -> None:
        """Raise EngineError unless the batch goes on exactly where the last one ended."""
        if batch.start != position or not 1 <= batch.count <= end - position:
            raise EngineError(
                f"{self.device.device_id} searched counters {batch.start} to {batch.start + batch.count - 1} "
                f"instead of going on from {position} to at most {end - 1}"
            )

    def _send_hits(self, lease: Lease, batch: Batch, zeros: int) -> None:
        """Report the best hit of a batch that hashlib confirms, then raise _FalseHit if there was one that it does not.

        All hits of a batch arrive at once and are for one proof, so the one with the most zeros stands for them.
        """
        best: Proof | None = None
        false: str | None = None
        for counter in batch.hits[:MAX_HITS_PER_BATCH]:
            nonce = lease.space.nonce(counter)
            if not batch.start <= counter < batch.start + batch.count:
                false = nonce
                continue
            proof = verify(lease.space.prefix, nonce)
            if proof.zeros < zeros:
                false = nonce
            elif best is None or proof.zeros > best.zeros:
                best = proof
        if best is not None:
            self._report(HitFound(lease.lease_id, lease.job_id, best.nonce))
        if false is not None:
            self._false_hits += 1
            raise _FalseHit(
                f"{self.device.device_id} claimed that nonce {false} has {zeros} leading zeros, "
                f"which hashlib refutes (false hit {self._false_hits} of {MAX_FALSE_HITS})"
            )

    def _recover(self, failure: EngineError) -> bool:
        """Bring the device back after a failure; False if it is taken out instead, or the thread is to end."""
        while True:
            self._failures += 1
            if isinstance(failure, EngineUnavailable | SelfTestFailed):
                return self._take_out(str(failure))
            if self._false_hits >= MAX_FALSE_HITS:
                return self._take_out(f"{MAX_FALSE_HITS} of its hits were false, the last one thus: {failure}")
            if self._failures >= MAX_FAILURES:
                return self._take_out(f"it failed {self._failures} times in a row, the last time thus: {failure}")
            with self._changed:
                pause = self._pause_seconds * 2 ** (self._failures - 1)
                if self._changed.wait_for(lambda: self._stopping, pause):
                    return False
            try:
                if self._reopen is not None:
                    self._engine.close()
                    self._engine = self._reopen()
                self._self_test(self._engine)
            except EngineError as caught:
                logger.warning("%s is not back yet: %s", self.device.device_id, caught)
                failure = caught
            else:
                logger.info("%s passed its self-test again and goes on", self.device.device_id)
                return True

    def _take_out(self, reason: str) -> bool:
        logger.error("%s is taken out of service: %s", self.device.device_id, reason)
        with self._changed:
            self._out = reason
            waiting = self._queue.clear_waiting()
        for lease in waiting:
            self._report(LeaseOver(lease.lease_id, 0, EndReason.FAILED, f"{self.device.device_id}: {reason}"))
        self._report(DeviceOut(self.device.device_id, reason))
        return False
