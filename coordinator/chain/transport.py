"""The seam between what is asked of a node and how it is asked: one query table, two ways over the wire.

A `Query` names one method of the node for both ways: its gRPC name, and its path below the node's REST server, which
is the grpc-gateway of the same node. Both give the same protobuf message, and both tell failures by gRPC's status
codes, so what a code says about the chain stands here once::

    NOT_FOUND                                          the object does not exist: `find` gives None
    UNKNOWN, "codespace structs code 1050" or          the same, from handlers that give their error no gRPC code
        "object not found"
    UNKNOWN or INTERNAL, "tx (HASH) not found" or      the same of a transaction, in CometBFT's words or the SDK's: else
        "tx not found: HASH", of the one asked for     what cannot be found could never be given up
    UNIMPLEMENTED                                      another version, or no structsd at all: NotServed
    ALREADY_EXISTS                                     the transaction is in the mempool: AlreadyKnown
    INVALID_ARGUMENT, ... (see below)                  the node understood and refuses: BadChainAnswer
    everything else                                    nothing is known: ChainUnavailable
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from hashfleet.errors import BadChainAnswer, ChainError, ChainUnavailable

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)

#: Set by the SDK's gRPC server on each query answer: the committed height that was read.
HEIGHT_HEADER: Final = "x-cosmos-block-height"
#: A block of CometBFT's default limit fits (GetLatestBlock brings all its transactions).
MAX_ANSWER_BYTES: Final = 32 * 2**20
#: Calls on the wire at once, per node; more wait their turn without their time limit running.
MAX_CALLS: Final = 64

_REFUSALS: Final = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
)
_OBJECT_NOT_FOUND: Final = re.compile(r"codespace structs code 1050\b|object not found", re.IGNORECASE)
_TX_NOT_FOUND: Final = re.compile(
    r"\btx \((?:0x)?([0-9A-F]{64})\) not found|\btx not found: ([0-9A-F]{64})\b", re.IGNORECASE
)
#: Ten digits hold every height up to MAX_HEIGHT.
_HEIGHT: Final = re.compile(r"[0-9]{1,10}", re.ASCII)


class NotServed(BadChainAnswer):
    """The node does not know the method: another version, or no structsd at all."""


class AlreadyKnown(ChainUnavailable):
    """The node says that it has this already: the transaction is in its mempool."""


class OtherChain(BadChainAnswer):
    """The node serves another chain than the one that is expected."""


class Lagging(ChainUnavailable):
    """The node answers, but from an older or a changing state: nothing is wrong with it, only not usable yet."""


@dataclass(frozen=True, eq=False)  # no slots: Query[A, B](...) notes its types on the instance
class Query(Generic[Request, Answer]):
    """One method of a node."""

    #: Full gRPC name, such as ``/structs.structs.Query/Struct``.
    method: str
    answer: type[Answer]
    #: Path below the REST server, such as ``/structs/struct/5-14``.
    path: Callable[[Request], str]
    #: What is posted; None for a GET.
    body: Callable[[Request], Mapping[str, str]] | None = None


class HeightWitness:
    """The heights at which the answers of one reading were given; several queries belong together only at one."""

    def __init__(self) -> None:
        self._heights: set[int] = set()

    def saw(self, told: Iterable[str | bytes]) -> None:
        """Note the heights that an answer tells about itself; what is none is passed over."""
        for text in told:
            if isinstance(text, str) and _HEIGHT.fullmatch(text):
                self._heights.add(int(text))

    @property
    def consistent(self) -> bool:
        """False if two answers are known to stem from different heights."""
        return len(self._heights) <= 1

    @property
    def highest(self) -> int:
        """The highest height that was told; 0 if none was."""
        return max(self._heights, default=0)

    def before(self, height: int) -> bool:
        """True if an answer is known to stem from an earlier height than this."""
        return any(told < height for told in self._heights)


class Transport(Protocol):
    """One way to one node. Every call is time-limited and bounded, every failure is one of our errors."""

    @property
    def shown(self) -> str:
        """How errors, logs and the status name the node: no path and no token."""
        ...

    def open(self) -> None:
        """Make what calls need, inside the running event loop; the node is not waited for. May be called again."""
        ...

    async def find(
        self, query: Query[Request, Answer], request: Request, what: str, witness: HeightWitness | None = None
    ) -> Answer | None:
        """Ask for `what`; None if the node says that it does not exist. Raises ChainUnavailable, BadChainAnswer."""
        ...

    async def close(self) -> None:
        """Calls on the wire end at once, with ChainUnavailable."""
        ...


def failure(code: grpc.StatusCode, detail: str, where: str, what: str, timeout: float) -> ChainError | None:
    """The error that a status code stands for, or None if it says that `what` does not exist."""
    detail = detail[:300]
    if code is grpc.StatusCode.NOT_FOUND:
        return None
    if code is grpc.StatusCode.UNKNOWN and _OBJECT_NOT_FOUND.search(detail):
        return None
    lost = _TX_NOT_FOUND.search(detail) if code in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL) else None
    if lost and what == f"transaction {(lost[1] or lost[2]).upper()}":
        return None
    said = f"{code.name}{f': {detail}' if detail else ''}"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return NotServed(f"{where} does not serve {what}; is it a structsd node? ({said})")
    if code is grpc.StatusCode.ALREADY_EXISTS:
        return AlreadyKnown(f"{where} has {what} already ({said})")
    if code in _REFUSALS:
        return BadChainAnswer(f"{where} refuses to tell {what} ({said})")
    return ChainUnavailable(f"{where} does not tell {what} within {timeout:g} s ({said})")
