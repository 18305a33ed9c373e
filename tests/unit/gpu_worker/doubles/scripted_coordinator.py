"""A real gRPC server that plays coordinator: the test decides what it says and sees all that it hears."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb
from hashfleet.rpc.hashfleet.v1.worker_service_pb2_grpc import (
    WorkerServiceServicer,
    add_WorkerServiceServicer_to_server,
)

#: Far more than anything here takes; only a failing test waits for it.
PATIENCE_SECONDS = 20.0
PREFIX = b"5-28BUILD679575NONCE"
_numbers = itertools.count(1)


def lease(device_id: str = "fake:0", **changes: Any) -> pb.Lease:
    """A small valid lease with an id of its own."""
    number = next(_numbers)
    fields: dict[str, Any] = {
        "lease_id": f"l_{number}",
        "generation": 1,
        "device_id": device_id,
        "job_id": "pow_1",
        "prefix": PREFIX,
        "extranonce": f"{number:04d}",
        "counter_digits": 12,
        "start": 0,
        "count": 1000,
        "zeros": 60,
    }
    return pb.Lease(**(fields | changes))


class Link:
    """One connection of a worker, as the coordinator sees it."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[pb.ConnectRequest | None] = asyncio.Queue()
        self._to_say: asyncio.Queue[pb.ConnectResponse | None] = asyncio.Queue()
        self.ended = asyncio.Event()
        #: How many messages came together, for each time that any came.
        self.sizes: list[int] = []

    def say(self, **message: Any) -> None:
        """Send a message, such as say(lease=...)."""
        self._to_say.put_nowait(pb.ConnectResponse(**message))

    def hang_up(self) -> None:
        """End the stream from the coordinator's side."""
        self._to_say.put_nowait(None)

    async def hear(self, *but: str) -> pb.ConnectRequest | None:
        """The next message that is not of the kinds in `but`; None once the worker has closed the stream."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                message = await self._heard.get()
                if message is None or message.WhichOneof("message") not in but:
                    return message

    async def expect(self, kind: str, *but: str) -> Any:
        """The next message that is not a heartbeat or of the kinds in `but`, which must be of that kind."""
        message = await self.hear("heartbeat", *but)
        assert message is not None, f"the worker closed the stream instead of sending {kind}"
        assert message.WhichOneof("message") == kind, f"expected {kind}, heard {message}"
        return getattr(message, kind)

    async def greet(self, progress_interval: float = 3600.0, silence_limit: float = 3600.0) -> pb.Hello:
        """Hear hello, say welcome."""
        hello: pb.Hello = await self.expect("hello")
        self.say(welcome=pb.Welcome(progress_interval_seconds=progress_interval, silence_limit_seconds=silence_limit))
        return hello

    async def talk(self, requests: AsyncIterator[pb.ConnectRequest]) -> AsyncIterator[pb.ConnectResponse]:
        async def listen() -> None:
            async for request in requests:
                bundled = request.WhichOneof("message") == "bundle"
                messages = request.bundle.messages if bundled else [request]
                self.sizes.append(len(messages))
                for message in messages:
                    self._heard.put_nowait(message)
            self._heard.put_nowait(None)
            self._to_say.put_nowait(None)

        listening = asyncio.create_task(listen())
        try:
            while (message := await self._to_say.get()) is not None:
                yield message
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            self._heard.put_nowait(None)
            self.ended.set()


class ScriptedCoordinator(WorkerServiceServicer):
    """`next_link` is the next connection of a worker."""

    def __init__(self) -> None:
        self._links: asyncio.Queue[Link] = asyncio.Queue()
        self._server: grpc.aio.Server | None = None
        self._port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def __aenter__(self) -> ScriptedCoordinator:
        await self.serve()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def serve(self) -> None:
        """Listen; on the port of the time before, if there was one."""
        self._server = grpc.aio.server()
        add_WorkerServiceServicer_to_server(self, self._server)
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        await self._server.start()

    async def stop(self) -> None:
        """Break all connections and stop listening, as a crash would."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def next_link(self) -> Link:
        return await asyncio.wait_for(self._links.get(), PATIENCE_SECONDS)

    async def Connect(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.ConnectResponse]:  # noqa: N802
        link = Link()
        self._links.put_nowait(link)
        async for message in link.talk(request_iterator):
            yield message
