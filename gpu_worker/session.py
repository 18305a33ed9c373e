"""One connection to the coordinator: carries a `Conversation` over the gRPC stream until either side ends it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import grpc
import grpc.aio

from gpu_worker.bundles import MOST_TAKEN_BYTES, next_message
from gpu_worker.conversation import Conversation
from gpu_worker.device_runner import HitFound, LeaseOver
from hashfleet.errors import CoordinatorUnavailable
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb
from hashfleet.rpc.hashfleet.v1.worker_service_pb2_grpc import WorkerServiceStub

logger = logging.getLogger(__name__)

#: Until the welcome is there.
CONNECT_SECONDS = 10.0
#: A message that cannot be written for this long goes nowhere.
WRITE_SECONDS = 10.0
#: For the coordinator to take note of the closed stream, after everything is given back.
CLOSE_SECONDS = 1.0
#: Messages waiting to be written; more means that the coordinator does not read.
MAX_WAITING = 65_536

CHANNEL_OPTIONS = (
    # Messages to a worker are a few hundred bytes, and bundles are bounded; a longer one is not from a coordinator of
    # ours, and gRPC ends the stream with a sentence that names both lengths.
    ("grpc.max_receive_message_length", MOST_TAKEN_BYTES),
    # The coordinator stands in one's own network: an http_proxy meant for the internet would only break the way.
    ("grpc.enable_http_proxy", 0),
    # Channels share their failed connections, and gRPC's own pauses, unless told not to; the worker has its own pauses.
    ("grpc.use_local_subchannel_pool", 1),
    # With keepalive on, gRPC has the kernel close a connection on which sent data stays unacknowledged for the timeout
    # (TCP_USER_TIMEOUT), and the worker always has progress or heartbeats under way. The pings themselves are not
    # needed; they are as rare as every gRPC server allows by default (one in 300 s).
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)

_Answer = TypeVar("_Answer")
_Call = grpc.aio.StreamStreamCall[pb.ConnectRequest, pb.ConnectResponse]


class Session:
    """Runs one conversation. All methods are called in the event loop's thread."""

    def __init__(self, address: str, conversation: Conversation, clock: Callable[[], float] = time.monotonic) -> None:
        self._address = address
        self._conversation = conversation
        self._clock = clock
        self._outbox: deque[pb.ConnectRequest] = deque()
        #: Set while there is something to write, or nothing more will be.
        self._to_write = asyncio.Event()
        #: Set once the coordinator has welcomed the worker.
        self.connected = asyncio.Event()
        self._drain_asked = False

    async def run(self) -> None:
        """Speak until everything is given back after a drain.

        Raises CoordinatorUnavailable, saying why, if there is no connection or it is lost; CoordinatorError if the
        coordinator's welcome is unusable.
        """
        async with grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS) as channel:
            call = WorkerServiceStub(channel).Connect()
            try:
                await self._say_hello(call)
                await self._converse(call)
            except grpc.aio.AioRpcError as error:
                raise CoordinatorUnavailable(self._lost(error)) from None
            except asyncio.InvalidStateError:  # written to a stream that ended meanwhile; its status tells why
                raise CoordinatorUnavailable(await self._ended(call)) from None
            finally:
                call.cancel()

    def report(self, reports: Iterable[HitFound | LeaseOver]) -> None:
        """Pass on what devices report, at once."""
        self._send(message for report in reports for message in self._conversation.report(report))

    def drain(self) -> None:
        """Give back all leases and end."""
        self._drain_asked = True
        if self.connected.is_set():
            self._send(self._conversation.drain())

    async def _say_hello(self, call: _Call) -> None:
        await self._in_time(call.write(self._conversation.hello()), CONNECT_SECONDS, "take the worker's hello")
        answer = await self._in_time(call.read(), CONNECT_SECONDS, "welcome the worker")
        if not isinstance(answer, pb.ConnectResponse):
            raise CoordinatorUnavailable(await self._ended(call))
        self._send(self._conversation.welcome(answer))
        self.connected.set()
        if self._drain_asked:
            self._send(self._conversation.drain())

    async def _converse(self, call: _Call) -> None:
        writing = asyncio.create_task(self._write(call))
        others = [asyncio.create_task(self._read(call)), asyncio.create_task(self._tick())]
        try:
            done, _ = await asyncio.wait([writing, *others], return_when=asyncio.FIRST_COMPLETED)
            if writing in done:
                # Either all is said, and the coordinator ends its side after it has read everything; or it has ended
                # the stream already, and what it said before tells why.
                await asyncio.wait([others[0]], timeout=CLOSE_SECONDS)
                if writing.exception() is None:
                    return
            if self._conversation.told_to_go is None:
                for task in done:
                    task.result()  # raises
        finally:
            for task in (writing, *others):
                task.cancel()
            await asyncio.gather(writing, *others, return_exceptions=True)

    async def _read(self, call: _Call) -> None:
        while isinstance(message := await call.read(), pb.ConnectResponse):
            self._send(self._conversation.receive(message))
        if self._conversation.told_to_go is None:  # else it said goodbye before it ended the stream
            raise CoordinatorUnavailable(await self._ended(call))

    async def _write(self, call: _Call) -> None:
        while self._outbox or not self._conversation.finished:
            if not self._outbox:
                self._to_write.clear()
                await self._to_write.wait()
                continue
            await self._in_time(call.write(next_message(self._outbox)), WRITE_SECONDS, "take a message")
            self._conversation.sent(self._clock())
        await self._in_time(call.done_writing(), WRITE_SECONDS, "take the end of the stream")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._conversation.tick_interval)
            self._send(self._conversation.tick(self._clock()))
            if len(self._outbox) > MAX_WAITING:
                raise CoordinatorUnavailable(
                    f"the coordinator at {self._address} leaves more than {MAX_WAITING} messages unread"
                )

    def _send(self, messages: Iterable[pb.ConnectRequest]) -> None:
        self._outbox.extend(messages)
        if self._outbox or self._conversation.finished:
            self._to_write.set()

    async def _in_time(self, call: Awaitable[_Answer], seconds: float, what: str) -> _Answer:
        # Not wait_for: before Python 3.12 it swallows a cancellation that comes just as the call ends, and the task
        # that was to end would go on for ever.
        try:
            async with asyncio.timeout(seconds):
                return await call
        except TimeoutError:
            raise CoordinatorUnavailable(
                f"the coordinator at {self._address} did not {what} within {seconds:g} seconds"
            ) from None

    async def _ended(self, call: _Call) -> str:
        """Why the coordinator ended the stream."""
        code = await self._in_time(call.code(), CONNECT_SECONDS, "say why it ended the connection")
        details = await self._in_time(call.details(), CONNECT_SECONDS, "say why it ended the connection")
        if code is grpc.StatusCode.OK:
            return f"the coordinator at {self._address} ended the connection"
        return f"the coordinator at {self._address} ended the connection: {code.name}, {details or 'no reason given'}"

    def _lost(self, error: grpc.aio.AioRpcError) -> str:
        if error.code() is grpc.StatusCode.UNAVAILABLE and not self.connected.is_set():
            return f"no coordinator answers at {self._address} ({error.details()})"
        return f"lost the coordinator at {self._address}: {error.code().name}, {error.details() or 'no reason given'}"
