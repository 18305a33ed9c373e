"""One device at work: a thread that takes leases from the device's queue and hashes them, small ones many at a time.

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

from gpu_worker.lease import EndReason, InWork, Lease, LeaseQueue, Stop
from hashfleet.batches import BATCH_SECONDS
from hashfleet.engine import Batch, DeviceInfo, Found, HashEngine, Search
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
class Progress:
    """How far a device is."""

    #: A lease in work, the oldest if there are several; None while the device idles.
    lease_id: str | None
    #: Counter values of that lease searched so far.
    done: int
    #: Counter values that the device has searched since it was taken into service, for whatever lease.
    hashed: int
    #: Seconds of these that it had a lease in work.
    busy_seconds: float


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
        self._hashed = 0
        #: When the device last had nothing to do; None while it idles. Before that it was busy for so many seconds.
        self._busy_since: float | None = None
        self._busy_before = 0.0
        self._stopping = False
        #: Why the device was taken out; None while it is in service.
        self._out: str | None = None
        #: Hashes that a group of small leases is expected to take at most.
        self._most_together = int(ready.rate * BATCH_SECONDS)
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
        """Stop a lease within one batch, or with its group; reported as cancelled, with what was done."""
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
        """Report hits with `zeros` from the current position on, within one batch; of a small lease in work, the hit
        that it is about to end with."""
        with self._changed:
            self._queue.retarget(lease_id, zeros)

    def drop_all(self) -> None:
        """Forget every lease within one batch, and report nothing about them."""
        with self._changed:
            self._queue.drop()

    def progress(self) -> Progress:
        """How far the device is."""
        with self._changed:
            work = self._queue.first_in_work
            busy = self._busy_before
            if self._busy_since is not None:
                busy += self._clock() - self._busy_since
            if work is None or work.stop is Stop.DROP:
                return Progress(None, 0, self._hashed, busy)
            return Progress(work.lease.lease_id, work.done, self._hashed, busy)

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
            while group := self._next_group():
                failure = self._work_off(group)
                if failure is not None and not self._recover(failure):
                    return
        except Exception as error:
            logger.exception("%s failed in a way that nobody foresaw", self.device.device_id)
            self._take_out(f"{type(error).__name__}: {error}")
        finally:
            self._engine.close()

    def _next_group(self) -> tuple[InWork, ...]:
        """Wait for a lease, or small ones that are hashed together; empty when the thread is to end."""
        with self._changed:
            while not self._stopping:
                group = self._queue.start_next(self._most_together)
                if group:
                    if self._busy_since is None:
                        self._busy_since = self._clock()
                    return group
                self._rest()
                self._changed.wait()
        return ()

    def _rest(self) -> None:
        """The device is not busy any more. The lock is held."""
        if self._busy_since is not None:
            self._busy_before += self._clock() - self._busy_since
            self._busy_since = None

    def _work_off(self, group: tuple[InWork, ...]) -> EngineError | None:
        """Hash leases to their end and report that; the error if the device failed."""
        failure: EngineError | None = None
        error = ""
        try:
            if self._is_small(group[0].lease):
                self._search_small(group)
            else:
                self._search(group[0])
        except EngineError as caught:
            failure, error = caught, str(caught)
        except InvalidInput as caught:  # this engine cannot hash such a space: the lease's fault, not the device's
            if len(group) > 1:
                return self._work_off_singly(group)
            error = str(caught)
        for work in group:
            if not work.over:
                self._end(work, error)
        return failure

    def _work_off_singly(self, group: tuple[InWork, ...]) -> EngineError | None:
        """As `_work_off`, so that of a group of small leases only those fail that cannot be hashed."""
        failure: EngineError | None = None
        for work in group:
            if work.over:
                continue
            if failure is None:
                failure = self._work_off((work,))
            else:
                self._end(work, str(failure))
        return failure

    def _is_small(self, lease: Lease) -> bool:
        return lease.ends_with_hit and lease.work <= self._most_together

    def _end(self, work: InWork, error: str = "", *, hit: bool = False) -> None:
        """Take a lease off the queue and report its end, unless nobody wants to know."""
        with self._changed:
            self._queue.finish(work)
        if work.stop is Stop.DROP:
            return
        lease_id = work.lease.lease_id
        if error:
            reason = EndReason.FAILED
            logger.warning("%s failed lease %s: %s", self.device.device_id, lease_id, error)
        else:
            reason = EndReason.EXHAUSTED if work.done == work.lease.count and not hit else EndReason.CANCELLED
            self._failures = 0
        logger.debug("%s ended lease %s: %s, %d done", self.device.device_id, lease_id, reason.value, work.done)
        self._report(LeaseOver(lease_id, work.done, reason, error))

    def _search(self, work: InWork) -> None:
        """Hash until the lease is over or told to stop; a retarget begins a new search at the current position."""
        lease = work.lease
        position, end = lease.start, lease.start + lease.count
        while position < end:
            with self._changed:
                zeros = work.zeros
                if work.stop is not None:
                    return
            found = self._engine.search(lease.space, position, end - position, zeros)
            # engines answer with a generator, whose close() stops the device
            with closing(cast("Generator[Batch, None, None]", found)) as batches:
                for batch in batches:
                    self._check_batch(batch, position, end)
                    hit = self._send_hits(lease, batch, zeros)
                    position += batch.count
                    with self._changed:
                        work.done += batch.count
                        self._hashed += batch.count
                        changed = work.stop is not None or work.zeros != zeros
                    if hit and lease.ends_with_hit:
                        self._end(work, hit=True)
                        return
                    if changed or position == end:
                        break
                else:
                    raise EngineError(
                        f"{self.device.device_id} ended its search at counter {position} instead of {end}"
                    )

    def _search_small(self, group: tuple[InWork, ...]) -> None:
        """Hash leases together, each until its first hit, and end each as soon as it is over."""
        searches = [Search(work.lease.space, work.lease.start, work.lease.count, work.zeros) for work in group]
        answers = self._engine.search_many(searches)
        with closing(cast("Generator[Found, None, None]", answers)) as founds:
            for found in founds:
                work = self._checked(found, group)
                with self._changed:
                    self._hashed += found.done - work.done
                    work.done = found.done
                if found.hit is not None:
                    self._send_hit(work, found.hit, searches[found.index].zeros)
                    self._end(work, hit=True)
                elif found.done == work.lease.count:
                    self._end(work)
                with self._changed:
                    if self._queue.all_stopped:
                        return
        unanswered = sum(not work.over for work in group)
        if unanswered:
            raise EngineError(f"{self.device.device_id} left {unanswered} of {len(group)} searches without an answer")

    def _checked(self, found: Found, group: tuple[InWork, ...]) -> InWork:
        """The lease that an answer is about. Raises EngineError unless the answer fits it and is news."""
        work = group[found.index] if 0 <= found.index < len(group) else None
        if work is None or work.over or not work.done <= found.done <= work.lease.count:
            raise EngineError(
                f"{self.device.device_id} answered search {found.index} of {len(group)} "
                f"with {found.done} counters done, which is out of order"
            )
        return work

    def _send_hit(self, work: InWork, counter: int, zeros: int) -> None:
        """Report the hit of a small lease if hashlib confirms it, else raise _FalseHit."""
        lease = work.lease
        nonce = lease.space.nonce(counter)
        inside = lease.start <= counter < lease.start + lease.count
        found = verify(lease.space.prefix, nonce).zeros if inside else 0
        if found < zeros:
            raise self._false_hit(nonce, zeros)
        if found >= work.zeros:  # else it was retargeted upwards meanwhile, and the rest goes back unsearched
            self._report(HitFound(lease.lease_id, lease.job_id, nonce))

    def _check_batch(self, batch: Batch, position: int, end: int) -> None:
        """Raise EngineError unless the batch goes on exactly where the last one ended."""
        if batch.start != position or not 1 <= batch.count <= end - position:
            raise EngineError(
                f"{self.device.device_id} searched counters {batch.start} to {batch.start + batch.count - 1} "
                f"instead of going on from {position} to at most {end - 1}"
            )

    def _send_hits(self, lease: Lease, batch: Batch, zeros: int) -> bool:
        """Report the best hit of a batch that hashlib confirms, then raise _FalseHit if there was one that it does not.

        Returns whether there was a hit.
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
            raise self._false_hit(false, zeros)
        return best is not None

    def _false_hit(self, nonce: str, zeros: int) -> _FalseHit:
        self._false_hits += 1
        return _FalseHit(
            f"{self.device.device_id} claimed that nonce {nonce} has {zeros} leading zeros, "
            f"which hashlib refutes (false hit {self._false_hits} of {MAX_FALSE_HITS})"
        )

    def _recover(self, failure: EngineError) -> bool:
        """Bring the device back after a failure; False if it is taken out instead, or the thread is to end."""
        with self._changed:
            self._rest()
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
