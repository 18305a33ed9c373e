"""The worker: its devices, its connection to the coordinator, and how it starts, reconnects and stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence

from gpu_worker.conversation import Conversation, UnansweredHits
from gpu_worker.device_runner import DeviceOut, DeviceRunner, HitFound, LeaseOver, ReadyEngine, Report
from gpu_worker.session import Session
from hashfleet.engine import HashEngine
from hashfleet.errors import CoordinatorError, EngineUnavailable
from hashfleet.self_test import self_test as default_self_test

logger = logging.getLogger(__name__)

#: For giving back leases when the worker stops, and then for the devices to be freed.
DRAIN_SECONDS = 2.0
DEVICE_CLOSE_SECONDS = 1.0
#: A connection that lasted this long was a good one: the next loss begins with the shortest pause again.
GOOD_CONNECTION_SECONDS = 10.0


class Backoff:
    """Pauses between tries to connect: doubled each time, with jitter so that a fleet does not return in step."""

    def __init__(
        self, shortest: float = 0.2, longest: float = 10.0, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._shortest = shortest
        self._longest = longest
        self._uniform = uniform
        self._tries = 0

    def next(self) -> float:
        """Seconds to wait before the next try."""
        # beyond 2**30 the ceiling is long reached, and the power would only grow without end
        pause = min(self._shortest * 2 ** min(self._tries, 30), self._longest)
        self._tries += 1
        return self._uniform(pause / 2, pause)

    def reset(self) -> None:
        self._tries = 0


class Worker:
    """Hashes for one coordinator on the given engines, which it owns from now on."""

    def __init__(
        self,
        address: str,
        name: str,
        engines: Sequence[ReadyEngine],
        *,
        self_test: Callable[[HashEngine], None] = default_self_test,
        backoff: Backoff | None = None,
    ) -> None:
        """`address` is the coordinator's HOST:PORT, `name` is for people."""
        #: Chosen once; every connection of this process says it.
        self.worker_id = f"w_{secrets.token_hex(8)}"
        self._address = address
        self._name = name
        self._backoff = backoff or Backoff()
        self._unanswered = UnansweredHits()
        self._loop: asyncio.AbstractEventLoop | None = None
        #: What the devices' threads have reported and the event loop's thread has not taken yet.
        self._reports: deque[Report] = deque()
        #: Whether the loop is asked already to take them: it is woken once for all that come until it does.
        self._loop_is_asked = False
        self._runners = {
            ready.engine.device.device_id: DeviceRunner(ready, self._report_from_thread, self_test) for ready in engines
        }
        self._session: Session | None = None
        self._drain_asked = asyncio.Event()

    def drain(self, reason: str) -> None:
        """Give back what is held, disconnect, and end `run`. Called in the event loop's thread."""
        if not self._drain_asked.is_set():
            logger.info("stopping: %s; giving back what is held", reason)
            self._drain_asked.set()
            if self._session is not None:
                self._session.drain()

    async def run(self) -> None:
        """Work until drained. Raises EngineUnavailable if no device is left."""
        self._loop = asyncio.get_running_loop()
        for runner in self._runners.values():
            runner.start()
        try:
            while not self._drain_asked.is_set():
                if not self._runners:
                    raise EngineUnavailable(
                        "every device was taken out of service; the log says why, and starting the worker again retries"
                    )
                if not await self._connect_once():
                    await self._pause()
        finally:
            await self._close()

    async def _connect_once(self) -> bool:
        """One connection from hello to its end; True if the next one may follow at once."""
        began = time.monotonic()
        conversation = Conversation(self.worker_id, self._name, list(self._runners.values()), self._unanswered)
        session = self._session = Session(self._address, conversation)
        speaking = asyncio.create_task(session.run())
        announcing = asyncio.create_task(self._announce(session))
        draining = asyncio.create_task(self._drain_asked.wait())
        try:
            await asyncio.wait([speaking, draining], return_when=asyncio.FIRST_COMPLETED)
            if not speaking.done():
                if not session.connected.is_set():
                    return True  # nothing is held, nobody to give it back to
                await asyncio.wait([speaking], timeout=DRAIN_SECONDS)
                if not speaking.done():
                    logger.warning("the coordinator did not take back the leases within %g seconds", DRAIN_SECONDS)
                    return True
            speaking.result()
        except CoordinatorError as error:
            logger.warning("not connected: %s", error)
            return False
        finally:
            self._session = None
            for task in (speaking, announcing, draining):
                task.cancel()
            await asyncio.gather(speaking, announcing, draining, return_exceptions=True)
            for runner in self._runners.values():
                runner.drop_all()
            if session.connected.is_set() and time.monotonic() - began >= GOOD_CONNECTION_SECONDS:
                self._backoff.reset()
        if conversation.told_to_go is not None:
            logger.info("disconnected as the coordinator asked: %s", conversation.told_to_go)
            return False
        logger.info("disconnected from %s", self._address)
        return True

    async def _announce(self, session: Session) -> None:
        await session.connected.wait()
        logger.info("connected to %s as %s (%s)", self._address, self._name, self.worker_id)

    async def _pause(self) -> None:
        seconds = self._backoff.next()
        logger.info("connecting again in %.1f seconds", seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # not wait_for, see Session
                await self._drain_asked.wait()

    def _report_from_thread(self, report: Report) -> None:
        assert self._loop is not None
        self._reports.append(report)
        if self._loop_is_asked:  # it has not begun to take them, see _take_reports
            return
        self._loop_is_asked = True
        try:
            self._loop.call_soon_threadsafe(self._take_reports)
        except RuntimeError:  # the loop is closed: the worker has ended without waiting for this device
            logger.debug("a device reported after the end: %s", report)

    def _take_reports(self) -> None:
        self._loop_is_asked = False  # first: what is appended from now on may be missed below, and asks again
        said: list[HitFound | LeaseOver] = []
        out: list[DeviceOut] = []
        for _ in range(len(self._reports)):
            report = self._reports.popleft()
            if isinstance(report, DeviceOut):
                out.append(report)
            else:
                said.append(report)
        if self._session is not None:
            self._session.report(said)
        else:
            for report in said:
                if isinstance(report, HitFound):
                    self._unanswered.add(report)
        for device in out:
            self._runners.pop(device.device_id, None)
            if self._session is not None:
                # The protocol names devices only in hello: say it anew, without this one.
                self._session.drain()

    async def _close(self) -> None:
        """Free the devices; one that hangs is left to its process's end."""
        for runner in self._runners.values():
            runner.stop()
        joined = await asyncio.gather(
            *(asyncio.to_thread(runner.join, DEVICE_CLOSE_SECONDS) for runner in self._runners.values())
        )
        for runner, ended in zip(self._runners.values(), joined, strict=True):
            if not ended:
                logger.warning("%s did not stop within %g seconds", runner.device.device_id, DEVICE_CLOSE_SECONDS)
