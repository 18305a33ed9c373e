"""What goes wrong between a client and a chain, on demand: scripted from Python, seeded, and over when it is told so.

`Devnet.faults` is one of these. Every method orders a fault; `times` says how often it happens (None: until `clear`),
`chance` how likely it is each time, by this object's own seeded generator. `doors` and `calls` say where: a call is
named as gRPC names it (``BroadcastTx``, ``GetTx``, ``Account``; REST uses the same names) or as CometBFT does
(``broadcast_tx_sync``, ``status``, ``subscribe``); a WebSocket also has the calls ``connect`` and ``event``. `happened`
counts, by the name of the method, what really took place. Nothing here sleeps, except answers that are told to be slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from devnet.block import TxResult

_V = TypeVar("_V")


class Door(enum.Enum):
    """Ways in to the node."""

    GRPC = "grpc"
    REST = "rest"
    #: CometBFT's JSON-RPC over HTTP.
    RPC = "rpc"
    WEBSOCKET = "websocket"


class Moment(enum.Enum):
    """When a connection drops."""

    #: The request is never read.
    BEFORE = "before"
    #: The work is done; only its answer is lost.
    AFTER = "after"


ANYWHERE = frozenset(Door)


class Dropped(Exception):
    """The connection has to be cut without an answer."""


@dataclass(slots=True)
class _Order(Generic[_V]):
    """A fault that waits for its occasion."""

    value: _V
    doors: Collection[Door]
    calls: Collection[str] | None
    times: int | None
    chance: float


@dataclass(slots=True)
class _Gate:
    """What slow answers wait at."""

    opened: asyncio.Event
    #: Whether the node closes, so that there is nobody left to answer.
    hung_up: bool = False


class _Orders(Generic[_V]):
    """Orders of one kind, oldest first."""

    def __init__(self, name: str, faults: Faults) -> None:
        self._name = name
        self._faults = faults
        self._waiting: list[_Order[_V]] = []

    def add(self, order: _Order[_V]) -> None:
        self._waiting.append(order)

    def clear(self) -> None:
        self._waiting.clear()

    def take(self, door: Door | None = None, call: str = "") -> _V | None:
        """The value of the first order that fits here and now; it has happened then."""
        for order in self._waiting:
            if door is not None and (door not in order.doors or (order.calls is not None and call not in order.calls)):
                continue
            if order.chance < 1 and self._faults.random.random() >= order.chance:
                continue
            if order.times is not None:
                order.times -= 1
                if order.times <= 0:
                    self._waiting.remove(order)
            self._faults.note(self._name)
            return order.value
        return None


class Faults:
    """All faults of one devnet."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        #: Method name -> how often its fault took place.
        self.happened: Counter[str] = Counter()
        #: Blocks that this node is behind in all that it answers.
        self.blocks_behind = 0
        #: Blocks after which a transaction is found by its hash.
        self.index_lag = 0
        #: The chain id that the node tells instead of its own.
        self.other_chain_id: str | None = None
        self._drops: dict[Moment, _Orders[bool]] = {moment: _Orders("drop", self) for moment in Moment}
        self._slow: _Orders[float] = _Orders("slow_down", self)
        self._refusals: _Orders[TxResult] = _Orders("refuse", self)
        self._full: _Orders[TxResult] = _Orders("fill_mempool", self)
        self._held: _Orders[int] = _Orders("hold_back", self)
        self._lost: _Orders[bool] = _Orders("lose", self)
        self._isolated: _Orders[bool] = _Orders("isolate", self)
        self._repeats: _Orders[int] = _Orders("repeat_blocks", self)
        self._skips: _Orders[bool] = _Orders("skip_blocks", self)
        self._window = 0
        self._shuffled: list[int] = []
        self._gate = _Gate(asyncio.Event())
        self._noted = asyncio.Event()

    # orders

    def seed(self, seed: int) -> None:
        """Start the generator again."""
        self.random.seed(seed)

    def drop(
        self,
        moment: Moment = Moment.BEFORE,
        *,
        doors: Collection[Door] = ANYWHERE,
        calls: Collection[str] | None = None,
        times: int | None = 1,
        chance: float = 1.0,
    ) -> None:
        """Cut the connection before the request is read, or after the work is done and before it is answered."""
        self._drops[moment].add(_Order(True, doors, calls, times, chance))

    def slow_down(
        self,
        seconds: float = float("inf"),
        *,
        doors: Collection[Door] = ANYWHERE,
        calls: Collection[str] | None = None,
        times: int | None = 1,
        chance: float = 1.0,
    ) -> None:
        """Do the work, and answer that much later, or once `clear` is called."""
        self._slow.add(_Order(seconds, doors, calls, times, chance))

    def refuse(
        self, code: int, codespace: str = "sdk", log: str = "a fault", *, times: int | None = 1, chance: float = 1.0
    ) -> None:
        """Answer a broadcast with this code, whatever the transaction; it does not get into the mempool."""
        self._refusals.add(_Order(TxResult(code, codespace, log), ANYWHERE, None, times, chance))

    def fill_mempool(self, *, times: int | None = None, chance: float = 1.0) -> None:
        """The mempool is full (sdk 20)."""
        full = TxResult(20, "sdk", "mempool is full: number of txs 5000 (max: 5000)")
        self._full.add(_Order(full, ANYWHERE, None, times, chance))

    def hold_back(self, blocks: int, *, times: int | None = 1, chance: float = 1.0) -> None:
        """Admit a transaction, and leave it in the mempool for that many blocks."""
        self._held.add(_Order(blocks, ANYWHERE, None, times, chance))

    def lose(self, *, times: int | None = 1, chance: float = 1.0) -> None:
        """Admit a transaction (code 0), and forget it: no block will hold it, and no cache knows it."""
        self._lost.add(_Order(True, ANYWHERE, None, times, chance))

    def isolate(self, *, times: int | None = 1, chance: float = 1.0) -> None:
        """Admit a transaction and gossip it to no one: it stays in this node's mempool until `clear`."""
        self._isolated.add(_Order(True, ANYWHERE, None, times, chance))

    def fall_behind(self, blocks: int) -> None:
        """Answer from that many blocks ago (63 at most), and announce blocks as late. 0 catches up."""
        self.blocks_behind = blocks

    def lag_index(self, blocks: int) -> None:
        """Find a transaction by its hash only that many blocks after its own."""
        self.index_lag = blocks

    def tell_chain_id(self, chain_id: str | None) -> None:
        """Tell another chain id at all doors, as after a failover to a wrong node. None ends it."""
        self.other_chain_id = chain_id

    def repeat_blocks(self, back: int = 0, *, times: int | None = 1, chance: float = 1.0) -> None:
        """Announce a block, and then once more the one that many before it (0: the same)."""
        self._repeats.add(_Order(back, ANYWHERE, None, times, chance))

    def skip_blocks(self, *, times: int | None = 1, chance: float = 1.0) -> None:
        """Announce a block to nobody."""
        self._skips.add(_Order(True, ANYWHERE, None, times, chance))

    def shuffle_blocks(self, window: int) -> None:
        """Announce blocks in groups of this size, each in another order than their heights'. 0 or 1 ends it."""
        self._window = window

    def clear(self) -> None:
        """End everything that was ordered; slow answers are given now, isolated transactions reach the others.

        `happened` stays. What a lost transaction lost stays lost.
        """
        for orders in (
            self._slow,
            self._refusals,
            self._full,
            self._held,
            self._lost,
            self._isolated,
            self._repeats,
            self._skips,
        ):
            orders.clear()
        for orders_of_moment in self._drops.values():
            orders_of_moment.clear()
        self.blocks_behind = self.index_lag = self._window = 0
        self.other_chain_id = None
        self.generation += 1
        self._open_gate(hung_up=False)

    #: Rises with every `clear`: what was isolated before it is not any more.
    generation = 0

    async def occurred(self, name: str, times: int = 1) -> None:
        """Wait until faults of this name (that of the method) have happened so often in all."""
        while self.happened[name] < times:
            await self._noted.wait()

    # what the devnet asks

    def hang_up(self) -> None:
        """The node closes: who waits for a slow answer gets none."""
        self._open_gate(hung_up=True)

    def _open_gate(self, *, hung_up: bool) -> None:
        self._gate.hung_up = hung_up
        self._gate.opened.set()
        self._gate = _Gate(asyncio.Event())

    def note(self, name: str) -> None:
        """A fault takes place."""
        self.happened[name] += 1
        self._noted.set()
        self._noted = asyncio.Event()

    async def arriving(self, door: Door, call: str) -> None:
        """A request comes in. Raises Dropped."""
        if self._drops[Moment.BEFORE].take(door, call):
            raise Dropped

    async def answering(self, door: Door, call: str) -> None:
        """A request was worked on. Raises Dropped."""
        seconds = self._slow.take(door, call)
        if seconds is not None:
            limit = None if seconds == float("inf") else seconds
            gate = self._gate
            with contextlib.suppress(TimeoutError):  # then it has been slow enough
                await asyncio.wait_for(gate.opened.wait(), limit)
            if gate.hung_up:
                raise Dropped
        if self._drops[Moment.AFTER].take(door, call):
            raise Dropped

    def refusal(self) -> TxResult | None:
        """What to answer a broadcast with instead of looking at it."""
        return self._full.take() or self._refusals.take()

    def blocks_held(self) -> int:
        """For how many blocks a transaction that is admitted now has to wait."""
        return self._held.take() or 0

    def loses(self) -> bool:
        return self._lost.take() is not None

    def isolates(self) -> bool:
        return self._isolated.take() is not None

    def announced(self, height: int) -> Sequence[int]:
        """The heights to announce now that this one was committed, in this order; earlier ones may be gone."""
        height -= self.blocks_behind
        if self._skips.take():
            return ()
        if self._window > 1 or self._shuffled:
            self._shuffled.append(height)
            if len(self._shuffled) < self._window:
                return ()
            group, self._shuffled = self._shuffled, []
            if self._window > 1:
                ordered = list(group)
                while group == ordered:
                    self.random.shuffle(group)
                self.note("shuffle_blocks")
            return tuple(group)
        back = self._repeats.take()
        return (height,) if back is None else (height, height - back)
