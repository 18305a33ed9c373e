"""One gRPC channel to a node: every call time-limited and bounded, every failure one of our errors.

What a status code says about the chain::

    NOT_FOUND                                          the object does not exist: `find` gives None
    UNKNOWN, "codespace structs code 1050" or          the same, from handlers that give their error no gRPC code
        "object not found"
    UNIMPLEMENTED, INVALID_ARGUMENT, ... (see below)   the node understood and refuses: BadChainAnswer
    everything else                                    nothing is known: ChainUnavailable
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from hashfleet.errors import BadChainAnswer, ChainUnavailable, InvalidInput

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)
Stub = TypeVar("Stub")

#: Set by the SDK's gRPC server on each query answer: the committed height that was read.
HEIGHT_HEADER: Final = "x-cosmos-block-height"

#: A block of CometBFT's default limit fits (GetLatestBlock brings all its transactions).
_MAX_ANSWER_BYTES: Final = 32 * 2**20
#: Calls on the wire at once; more wait their turn without their time limit running.
_MAX_CALLS: Final = 64
_REFUSALS: Final = (
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
)
_OBJECT_NOT_FOUND: Final = re.compile(r"codespace structs code 1050\b|object not found", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"(?:(https?)://)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})/?", re.ASCII)


class _Missing(Exception):
    """The node says that the object does not exist."""


class NotServed(BadChainAnswer):
    """The node does not know the method: another version, or no structsd at all."""


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


class AlreadyKnown(ChainUnavailable):
    """The node says that it has this already: the transaction is in its mempool."""


class HeightWitness:
    """The heights at which the answers of one reading were given; several queries belong together only at one."""

    def __init__(self) -> None:
        self._heights: set[int] = set()

    def saw(self, metadata: grpc.aio.Metadata | None) -> None:
        """Note the height that an answer's metadata tells, if it does."""
        for key, value in metadata or ():
            if key == HEIGHT_HEADER and isinstance(value, str) and value.isascii() and value.isdigit():
                self._heights.add(int(value))

    @property
    def consistent(self) -> bool:
        """False if two answers are known to stem from different heights."""
        return len(self._heights) <= 1

    def before(self, height: int) -> bool:
        """True if an answer is known to stem from an earlier height than this."""
        return any(told < height for told in self._heights)


class NodeConnection:
    """A channel and the one way to call through it."""

    def __init__(self, target: Target, timeout: float, root_certificates: bytes | None = None) -> None:
        """Open a channel, without waiting for the node. `timeout` is the limit of each call in seconds."""
        self.target = target
        self._timeout = timeout
        self._turns = asyncio.Semaphore(_MAX_CALLS)
        self._stubs: dict[object, object] = {}
        options: list[tuple[str, int]] = [
            # gRPC waits up to two minutes before it tries a lost server again; a restarted node is back sooner.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
        ]
        if target.tls:
            credentials = grpc.ssl_channel_credentials(root_certificates)
            self.channel = grpc.aio.secure_channel(target.host_and_port, credentials, options=options)
        else:
            # Without TLS the node stands in one's own network: a proxy meant for the internet would only be in the way.
            options.append(("grpc.enable_http_proxy", 0))
            self.channel = grpc.aio.insecure_channel(target.host_and_port, options=options)

    def stub(self, kind: Callable[[grpc.aio.Channel], Stub]) -> Stub:
        """The generated stub of a service; made once, because it makes every method of it."""
        if kind not in self._stubs:
            self._stubs[kind] = kind(self.channel)
        return cast("Stub", self._stubs[kind])

    async def ask(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Answer],
        request: Request,
        what: str,
        witness: HeightWitness | None = None,
    ) -> Answer:
        """Call `method`. Raises ChainUnavailable, BadChainAnswer; also when the node says that `what` is not found."""
        answer = await self.find(method, request, what, witness)
        if answer is None:
            raise BadChainAnswer(f"the node {self.target.host_and_port} does not find {what}, which should exist")
        return answer

    async def find(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Answer],
        request: Request,
        what: str,
        witness: HeightWitness | None = None,
    ) -> Answer | None:
        """Call `method`; None if the node says that `what` does not exist. Raises ChainUnavailable, BadChainAnswer."""
        try:
            async with self._turns:
                with self._translated(what):
                    call = method(request, timeout=self._timeout)
                    answer = await call
                    if witness is not None:
                        witness.saw(await call.initial_metadata())
                    return answer
        except _Missing:
            return None

    async def close(self) -> None:
        """Close the channel; calls on the wire end at once."""
        await self.channel.close()

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            code, detail = error.code(), (error.details() or "")[:300]
            if code is grpc.StatusCode.NOT_FOUND:
                raise _Missing from None
            if code is grpc.StatusCode.UNKNOWN and _OBJECT_NOT_FOUND.search(detail):
                raise _Missing from None
            said = f"{code.name}{f': {detail}' if detail else ''}"
            where = f"the node {self.target.host_and_port}"
            if code is grpc.StatusCode.UNIMPLEMENTED:
                raise NotServed(f"{where} does not serve {what}; is it a structsd node? ({said})") from error
            if code is grpc.StatusCode.ALREADY_EXISTS:
                raise AlreadyKnown(f"{where} has {what} already ({said})") from error
            if code in _REFUSALS:
                raise BadChainAnswer(f"{where} refuses to tell {what} ({said})") from error
            raise ChainUnavailable(f"{where} does not tell {what} within {self._timeout:g} s ({said})") from error
        except asyncio.CancelledError:
            # grpc.aio ends its calls this way when the channel is closed; only a cancelled task may see it.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise ChainUnavailable(f"the connection to {self.target.host_and_port} is closed") from None
        except grpc.aio.UsageError as error:
            raise ChainUnavailable(f"the connection to {self.target.host_and_port} is closed") from error
