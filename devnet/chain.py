"""The chain itself: a mempool, block production, and the indexes that queries read. No sockets, no asyncio.

Everything runs on one thread, so a query never sees half a block. CheckTx runs the ante handler only; a proof is looked
at when a block executes it, against the height of that block.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections import ChainMap, OrderedDict
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import replace

from google.protobuf.any_pb2 import Any as ProtoAny

from devnet.ante import ADDRESS_CAP, Mode, Session, admit
from devnet.block import Block, IncludedTx, TxResult
from devnet.changes import Changes
from devnet.events import Event, typed
from devnet.handlers import execute
from devnet.state import Account, State
from devnet.transactions import MAX_TX_BYTES, Transaction, TxError, decode, tx_hash
from hashfleet.action import MAX_HEIGHT
from hashfleet.errors import InvalidInput
from hashfleet.rpc.cosmos.base.abci.v1beta1 import abci_pb2

logger = logging.getLogger(__name__)

#: Transactions that the mempool holds, and hashes that its cache remembers (the docker image's settings).
MEMPOOL_SIZE = 5000
CACHE_SIZE = 10_000
#: Blocks (with their transactions) that queries can reach back to.
BLOCKS_KEPT = 10_000
#: What the gas router gives every free transaction.
FREE_GAS = 20_000_000

CommitListener = Callable[[Block], None]


class MempoolRefusal(TxError):
    """The node did not take the transaction as far as CheckTx: sdk 19 known, 20 full, 21 too large."""


class Chain:
    """One node's view of a chain that only this node makes."""

    def __init__(
        self,
        chain_id: str,
        state: State,
        height: int,
        *,
        blocks: Iterable[Block] = (),
        address_cap: int = ADDRESS_CAP,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Stand at `height`. Without `blocks` (those up to `height`) one empty block is made there."""
        if not 1 <= height < MAX_HEIGHT:
            raise InvalidInput(f"the start height is {height}; it should be from 1 to {MAX_HEIGHT - 1}")
        self.chain_id = chain_id
        self.state = state
        self._address_cap = address_cap
        self._clock = clock
        self._mempool: dict[str, bytes] = {}
        self._cache: OrderedDict[str, None] = OrderedDict()
        self._blocks: OrderedDict[int, Block] = OrderedDict()
        self._txs: dict[str, IncludedTx] = {}
        self._listeners: list[CommitListener] = []
        self._pending_events: list[Event] = []
        for block in blocks:
            self._index(block)
        if not self._blocks:
            self._index(self._seal(height, (), ()))
        self._check = self._new_session(Mode.CHECK)

    # what queries read

    @property
    def last_block(self) -> Block:
        return next(reversed(self._blocks.values()))

    @property
    def height(self) -> int:
        """Height of the last committed block."""
        return self.last_block.height

    @property
    def lowest_height(self) -> int:
        """The oldest block that is still kept."""
        return next(iter(self._blocks))

    def block(self, height: int) -> Block | None:
        return self._blocks.get(height)

    def blocks(self) -> tuple[Block, ...]:
        """The blocks that are kept, oldest first."""
        return tuple(self._blocks.values())

    def find(self, wanted: str) -> IncludedTx | None:
        """The included transaction of this uppercase hex hash."""
        return self._txs.get(wanted)

    def transactions(self) -> tuple[IncludedTx, ...]:
        """All included transactions that are kept, oldest first."""
        return tuple(self._txs.values())

    def pending(self) -> tuple[bytes, ...]:
        """What the next block will hold, in order."""
        return tuple(self._mempool.values())

    def on_commit(self, listener: CommitListener) -> None:
        """Call `listener` with every block from now on, right after it is committed."""
        self._listeners.append(listener)

    # what changes the chain

    def broadcast(self, raw: bytes) -> tuple[str, TxResult]:
        """Offer a transaction: its hash and the answer of CheckTx. Raises MempoolRefusal."""
        hash_ = tx_hash(raw)
        if len(self._mempool) >= MEMPOOL_SIZE:
            raise MempoolRefusal("sdk", 20, f"mempool is full: number of txs {len(self._mempool)}")
        if len(raw) > MAX_TX_BYTES:
            raise MempoolRefusal("sdk", 21, f"Tx too large. Max size is {MAX_TX_BYTES}, but got {len(raw)}")
        if hash_ in self._cache:
            raise MempoolRefusal("sdk", 19, "tx already exists in cache")
        try:
            admit(decode(raw), self.state, self._check)
        except TxError as error:
            return hash_, _refused(error)
        self._mempool[hash_] = raw
        self._remember(hash_)
        return hash_, TxResult(gas_wanted=FREE_GAS)

    def simulate(self, raw: bytes) -> TxResult:
        """Execute on the last committed state and height, and keep nothing."""
        session = self._new_session(Mode.SIMULATE)
        try:
            tx = decode(raw)
            admit(tx, self.state, session)
            return self._run_messages(tx, self.state.fork(), self.height)[1]
        except TxError as error:
            return _refused(error)

    def produce_block(self) -> Block:
        """Execute everything that is pending and commit the next block."""
        height = self.height + 1
        if height > MAX_HEIGHT:
            raise InvalidInput(f"the chain has reached height {MAX_HEIGHT}, the highest that heights are kept for")
        session = self._new_session(Mode.DELIVER, height)
        txs = tuple(
            IncludedTx(raw, hash_, height, index, self._deliver(raw, session))
            for index, (hash_, raw) in enumerate(self._mempool.items())
        )
        block = self._seal(height, txs, tuple(self._pending_events))
        self._pending_events.clear()
        self._mempool.clear()
        for tx in txs:
            if tx.result.code:  # a failed transaction may be offered again; its sequence will refuse it
                self._cache.pop(tx.hash, None)
        self._index(block)
        self._check = self._new_session(Mode.CHECK)
        for listener in self._listeners:
            listener(block)
        return block

    @contextlib.contextmanager
    def edit(self) -> Iterator[Changes]:
        """Write to the committed state from outside, as scenarios and tests do; the next block carries the events.

        Nothing is written if the body raises.
        """
        changes = Changes(self.state.fork(), self.height)
        yield changes
        self.state = changes.state
        self._pending_events += changes.events
        self._check.accounts = _overlay(self._check.accounts, self.state)

    # the parts

    def _new_session(self, mode: Mode, height: int | None = None) -> Session:
        accounts: MutableMapping[str, Account] = ChainMap({}, self.state.accounts)
        at = self.height if height is None else height
        return Session(mode, self.chain_id, at, accounts, address_cap=self._address_cap)

    def _deliver(self, raw: bytes, session: Session) -> TxResult:
        try:
            tx = decode(raw)
            session.accounts = self.state.accounts  # sequences stay even if a message fails
            admit(tx, self.state, session)
            state, result = self._run_messages(tx, self.state.fork(), session.height)
        except TxError as error:
            return _refused(error)
        except Exception:
            logger.exception("A transaction broke the devnet; it is reported as a recovered panic")
            return TxResult(code=111222, codespace="undefined", log="recovered panic", gas_wanted=FREE_GAS)
        if result.code == 0:
            self.state = state
        return result

    def _run_messages(self, tx: Transaction, fork: State, height: int) -> tuple[State, TxResult]:
        """The messages of an admitted transaction: all of them, or none."""
        sequences = ",".join(f"{c}/{s.sequence}" for c, s in zip(tx.creators, tx.signers, strict=True))
        ante_events = (Event("tx", (("acc_seq", sequences),)),)
        gas = 10 * len(tx.raw) + 60_000 * len(tx.messages)  # nominal: 10 a byte is the SDK's, the rest a guess
        changes = Changes(fork, height)
        events: list[Event] = []
        responses = []
        for index, message in enumerate(tx.messages):
            changes.events = [Event("message", (("action", f"/{message.name}"), ("sender", message.creator)))]
            try:
                response = execute(changes, message)
            except TxError as error:
                log = f"failed to execute message; message index: {index}: {error.log}"
                failed = TxResult(error.code, error.codespace, log, b"", FREE_GAS, gas, ante_events)
                return fork, failed
            events += (event.with_attribute("msg_index", str(index)) for event in changes.events)
            packed = ProtoAny()
            packed.Pack(response, type_url_prefix="/")
            responses.append(packed)
        data = abci_pb2.TxMsgData(msg_responses=responses).SerializeToString()
        return fork, TxResult(data=data, gas_wanted=FREE_GAS, gas_used=gas, events=(*ante_events, *events))

    def _seal(self, height: int, txs: tuple[IncludedTx, ...], events: tuple[Event, ...]) -> Block:
        last = self.last_block if self._blocks else None
        time_ns = int(self._clock() * 1e9)
        if last:
            time_ns = max(time_ns, last.time_ns + 1_000_000)  # header times rise, whatever the clock does
        last_hash = last.hash if last else ""
        sealed = f"{self.chain_id}/{height}/{time_ns}/{last_hash}/" + ",".join(tx.hash for tx in txs)
        hash_ = hashlib.sha256(sealed.encode()).hexdigest().upper()
        block = Block(height, time_ns, hash_, last_hash, txs, ())
        detail = {"blockHeight": str(height), "blockTime": block.time}
        ticked = typed("EventTime", "eventTimeDetail", detail)
        return replace(block, events=tuple(e.with_attribute("mode", "BeginBlock") for e in (ticked, *events)))

    def _index(self, block: Block) -> None:
        self._blocks[block.height] = block
        self._txs |= {tx.hash: tx for tx in block.txs}
        while len(self._blocks) > BLOCKS_KEPT:
            for tx in self._blocks.popitem(last=False)[1].txs:
                self._txs.pop(tx.hash, None)

    def _remember(self, hash_: str) -> None:
        self._cache[hash_] = None
        if len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)


def _overlay(accounts: MutableMapping[str, Account], state: State) -> MutableMapping[str, Account]:
    """The pending sequences of a session over another committed state."""
    pending = accounts.maps[0] if isinstance(accounts, ChainMap) else {}
    return ChainMap(pending, state.accounts)


def _refused(error: TxError) -> TxResult:
    return TxResult(code=error.code, codespace=error.codespace, log=error.log)
