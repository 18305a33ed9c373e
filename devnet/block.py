"""Blocks and the transactions in them, as committed. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from devnet.events import Event


@dataclass(frozen=True, slots=True)
class TxResult:
    """What checking, executing or simulating a transaction gave; code 0 is success."""

    code: int = 0
    codespace: str = ""
    log: str = ""
    #: Encoded TxMsgData.
    data: bytes = b""
    gas_wanted: int = 0
    gas_used: int = 0
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class IncludedTx:
    """A transaction in a block, whether it succeeded or not."""

    raw: bytes
    hash: str
    height: int
    #: Place within the block.
    index: int
    result: TxResult


@dataclass(frozen=True, slots=True)
class Block:
    """A committed block."""

    height: int
    #: Header time, Unix nanoseconds; rises from block to block.
    time_ns: int
    #: Uppercase hex.
    hash: str
    last_hash: str
    txs: tuple[IncludedTx, ...]
    #: Events of the block itself.
    events: tuple[Event, ...]

    @property
    def time(self) -> str:
        """Header time as the chain writes it: RFC 3339 with nanoseconds."""
        seconds, nanos = divmod(self.time_ns, 1_000_000_000)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"
