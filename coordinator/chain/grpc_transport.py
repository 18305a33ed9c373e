"""A node over gRPC: one channel, every call time-limited and bounded."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
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


class GrpcTransport:
    """A `Transport` over one gRPC channel."""

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
        self._channel: grpc.aio.Channel | None = None
        #: Each method's callable, made once.
        self._methods: dict[str, object] = {}

    @property
    def shown(self) -> str:
        """Host and port."""
        return self._target.host_and_port

    def open(self) -> None:
        """Make the channel; it connects with the first call."""
        if self._channel is not None:
            return
        options: list[tuple[str, int]] = [
            # gRPC waits up to two minutes before it tries a lost server again; a restarted node is back sooner.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
        ]
        if self._target.tls:
            credentials = grpc.ssl_channel_credentials(self._root_certificates)
            self._channel = grpc.aio.secure_channel(self.shown, credentials, options=options)
        else:
            # Without TLS the node stands in one's own network: a proxy meant for the internet would only be in the way.
            options.append(("grpc.enable_http_proxy", 0))
            self._channel = grpc.aio.insecure_channel(self.shown, options=options)

    async def find(
        self, query: Query[Request, Answer], request: Request, what: str, witness: HeightWitness | None = None
    ) -> Answer | None:
        """Call the method; None if the node says that `what` does not exist.

        Raises ChainUnavailable, BadChainAnswer.
        """
        try:
            async with self._turns:
                call = self._method(query)(request, timeout=self._timeout)
                answer = await call
                if witness is not None:
                    witness.saw(value for key, value in await call.initial_metadata() or () if key == HEIGHT_HEADER)
                return answer
        except grpc.aio.AioRpcError as error:
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
        if self._channel is not None:
            await self._channel.close()

    def _method(self, query: Query[Request, Answer]) -> grpc.aio.UnaryUnaryMultiCallable[Request, Answer]:
        if self._channel is None:
            raise ChainUnavailable(f"there is no connection to the node {self.shown}; connect first")
        if query.method not in self._methods:
            self._methods[query.method] = self._channel.unary_unary(
                query.method,
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=query.answer.FromString,
            )
        return cast("grpc.aio.UnaryUnaryMultiCallable[Request, Answer]", self._methods[query.method])
