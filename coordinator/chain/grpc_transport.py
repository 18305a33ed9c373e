"""A node over gRPC: one channel, every call time-limited and bounded.

A connection can go dead without a word, as behind a proxy or a firewall that forgot it; TCP takes a quarter of an hour
to notice. Pings would tell, but a server hangs up on whoever pings more often than it likes (`too_many_pings`). So a
channel on which calls run into their limit, and nothing is answered in between, is replaced by a new one.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field
from typing import Final, cast

import grpc
import grpc.aio

from coordinator.chain.transport import (
    HEIGHT_HEADER,
    MAX_ANSWER_BYTES,
    MAX_CALLS,
    Answer,
    HeightWitness,
    Query,
    Request,
    failure,
)
from hashfleet.errors import ChainUnavailable, InvalidInput

logger = logging.getLogger(__name__)

#: Calls that run into their limit one after the other before their channel is replaced.
_LATE_CALLS: Final = 2

_ADDRESS: Final = re.compile(r"(?:(https?)://)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})/?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a node listens for gRPC."""

    host_and_port: str
    tls: bool


def parse_target(address: str, tls: bool | None = None) -> Target:
    """Read ``host:port``, ``http://host:port`` or ``https://host:port``; the last means TLS, and so does `tls`.

    Raises InvalidInput.
    """
    found = _ADDRESS.fullmatch(address)
    if not found or not 1 <= int(found[3]) <= 65535:
        raise InvalidInput(
            f"the chain's gRPC address is {address[:80]!a}; it should be like 127.0.0.1:9090 or https://host:443"
        )
    if tls is not None and found[1] and tls != (found[1] == "https"):
        raise InvalidInput(f"the chain's gRPC address {address} and the TLS setting contradict each other")
    return Target(f"{found[2]}:{int(found[3])}", tls if tls is not None else found[1] == "https")


@dataclass(eq=False, slots=True)
class _Line:
    """A channel, and what is known of it."""

    channel: grpc.aio.Channel
    #: Each method's callable, made once.
    methods: dict[str, object] = field(default_factory=dict)
    #: Calls that ran into their limit since something was answered.
    late: int = 0


class GrpcTransport:
    """A `Transport` over gRPC, one channel at a time."""

    def __init__(
        self,
        address: str,
        *,
        tls: bool | None = None,
        timeout: float,
        root_certificates: bytes | None = None,
    ) -> None:
        """Nothing is opened yet. Raises InvalidInput for an address that cannot be one.

        `timeout` is the limit of each call in seconds; `root_certificates` are PEM, None takes those that gRPC brings.
        """
        self._target = parse_target(address, tls)
        self._timeout = timeout
        self._root_certificates = root_certificates
        self._turns = asyncio.Semaphore(MAX_CALLS)
        self._line: _Line | None = None
        self._closed = False
        #: What closes channels that were replaced, once their last calls are over.
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def shown(self) -> str:
        """Host and port."""
        return self._target.host_and_port

    def open(self) -> None:
        """Make the channel; it connects with the first call."""
        if self._line is None:
            self._line = _Line(self._new_channel())

    def _new_channel(self) -> grpc.aio.Channel:
        options: list[tuple[str, int]] = [
            # gRPC waits up to two minutes before it tries a lost server again; a restarted node is back sooner.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
            # Channels of one address share connections otherwise, also one that is dead.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if self._target.tls:
            credentials = grpc.ssl_channel_credentials(self._root_certificates)
            return grpc.aio.secure_channel(self.shown, credentials, options=options)
        # Without TLS the node stands in one's own network: a proxy meant for the internet would only be in the way.
        options.append(("grpc.enable_http_proxy", 0))
        return grpc.aio.insecure_channel(self.shown, options=options)

    async def find(
        self, query: Query[Request, Answer], request: Request, what: str, witness: HeightWitness | None = None
    ) -> Answer | None:
        """Call the method; None if the node says that `what` does not exist.

        Raises ChainUnavailable, BadChainAnswer.
        """
        line: _Line | None = None
        try:
            async with self._turns:
                line = self._open_line()
                call = self._method(line, query)(request, timeout=self._timeout)
                answer = await call
                line.late = 0
                if witness is not None:
                    witness.saw(value for key, value in await call.initial_metadata() or () if key == HEIGHT_HEADER)
                return answer
        except grpc.aio.AioRpcError as error:
            self._note_code(line, error.code())
            where = f"the node {self.shown}"
            told = failure(error.code(), error.details() or "", where, what, self._timeout)
            if told is None:
                return None
            raise told from error
        except asyncio.CancelledError:
            # grpc.aio ends its calls this way when the channel is closed; only a cancelled task may see it.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise ChainUnavailable(f"the connection to {self.shown} is closed") from None
        except grpc.aio.UsageError as error:
            raise ChainUnavailable(f"the connection to {self.shown} is closed") from error

    async def close(self) -> None:
        """Close the channel; calls on the wire end at once."""
        self._closed = True
        for closing in self._closing:
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        if self._line is not None:
            await self._line.channel.close()

    def _note_code(self, line: _Line | None, code: grpc.StatusCode) -> None:
        """A call ended without an answer; if that is all that calls on this channel do, they get a new one."""
        if line is None:
            return
        if code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            line.late = 0  # that was told by a server, or by a connection that is known to be lost
            return
        line.late += 1
        if line.late >= _LATE_CALLS and line is self._line and not self._closed:
            logger.info("%d calls to the node %s were not answered: it is connected anew.", line.late, self.shown)
            self._line = _Line(self._new_channel())
            closing = asyncio.create_task(self._retire(line.channel), name=f"old connection to {self.shown}")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _retire(self, channel: grpc.aio.Channel) -> None:
        """Close a channel when its calls are over, each of which has its own limit."""
        try:
            await channel.close(self._timeout)
        except asyncio.CancelledError:
            await channel.close()
            raise

    def _open_line(self) -> _Line:
        if self._line is None:
            raise ChainUnavailable(f"there is no connection to the node {self.shown}; connect first")
        return self._line

    def _method(self, line: _Line, query: Query[Request, Answer]) -> grpc.aio.UnaryUnaryMultiCallable[Request, Answer]:
        if query.method not in line.methods:
            line.methods[query.method] = line.channel.unary_unary(
                query.method,
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=query.answer.FromString,
            )
        return cast("grpc.aio.UnaryUnaryMultiCallable[Request, Answer]", line.methods[query.method])
