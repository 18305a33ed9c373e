"""The chain itself: a mempool, block production, and the indexes that queries read. No sockets.

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
from dataclasses import dataclass, replace

from google.protobuf.any_pb2 import Any as ProtoAny

from devnet import upgrade
from devnet.ante import ADDRESS_CAP, Mode, Session, admit, gas_limit, gas_used
from devnet.block import Block, IncludedTx, TxResult
from devnet.changes import Changes
from devnet.events import Event, typed
from devnet.faults import Faults
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
#: Heights whose state queries can still read, as a pruned node keeps a few.
STATES_KEPT = 64
#: Codes of codespace sdk that a node answers before CheckTx: known already, mempool full, too large.
_BEFORE_CHECK = (19, 20, 21)

CommitListener = Callable[[Block], None]


class MempoolRefusal(TxError):
    """The node did not take the transaction as far as CheckTx: sdk 19 known, 20 full, 21 too large."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An admitted transaction that no block holds yet."""

    tx: Transaction
    #: The first height whose block may hold it.
    not_before: int = 0
    #: The node that told it to nobody else, by its faults, and their generation then; None if the others know it.
    isolated: tuple[Faults, int] | None = None

    @property
    def isolated_at(self) -> Faults | None:
        """The faults of the only node that knows it still."""
        if self.isolated is None or self.isolated[0].generation != self.isolated[1]:
            return None
        return self.isolated[0]


@dataclass(frozen=True, slots=True)
class View:
    """The chain as one height left it: what a query reads."""

    chain: Chain
    chain_id: str
    height: int
    state: State
    #: Newest height whose transactions are found by their hash.
    indexed: int
    #: What goes wrong at the node that is asked.
    faults: Faults

    @property
    def last_block(self) -> Block:
        block = self.chain.block(self.height)
        assert block is not None  # more blocks are kept than states
        return block

    def block(self, height: int) -> Block | None:
        return self.chain.block(height) if height <= self.height else None

    def find(self, wanted: str) -> IncludedTx | None:
        """The included transaction of this uppercase hex hash."""
        found = self.chain.find(wanted)
        return found if found and found.height <= self.indexed else None

    def transactions(self) -> tuple[IncludedTx, ...]:
        return tuple(tx for tx in self.chain.transactions() if tx.height <= self.indexed)


class Chain:
    """A chain that one process makes, and its mempool. Its nodes are one, unless others with faults of their own ask.

    All nodes share the mempool, as if gossip took no time; only what is isolated at one of them is not the others'.
    """

    def __init__(
        self,
        chain_id: str,
        state: State,
        height: int,
        *,
        blocks: Iterable[Block] = (),
        address_cap: int = ADDRESS_CAP,
        min_gas_price: float = 0.0,
        faults: Faults | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Stand at `height`. Without `blocks` (those up to `height`) one empty block is made there."""
        if not 1 <= height < MAX_HEIGHT:
            raise InvalidInput(f"the start height is {height}; it should be from 1 to {MAX_HEIGHT - 1}")
        self.chain_id = chain_id
        self.state = state
        #: What goes wrong at the first node.
        self.faults = faults or Faults()
        self._address_cap = address_cap
        self._min_gas_price = min_gas_price
        self._clock = clock
        self._mempool: dict[str, _Waiting] = {}
        #: Height -> state, of the last blocks before the newest one.
        self._states: OrderedDict[int, State] = OrderedDict()
        self._cache: OrderedDict[str, None] = OrderedDict()
        self._blocks: OrderedDict[int, Block] = OrderedDict()
        self._txs: dict[str, IncludedTx] = {}
        self._listeners: list[CommitListener] = []
        self._pending_events: list[Event] = []
        #: The version that the next block begins with; None if it stays.
        self._upgrade_to: str | None = None
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
        """What the mempool holds, in order."""
        return tuple(waiting.tx.raw for waiting in self._mempool.values())

    def view(self, height: int | None = None, *, faults: Faults | None = None) -> View:
        """What a node answers from: its last block (an older one if it fell behind), or a height that it keeps.

        The node is the one with these faults, the first if None. Raises InvalidInput for a height that is not kept.
        """
        faults = faults or self.faults
        newest = self.height
        if faults.blocks_behind:
            newest = max(newest - faults.blocks_behind, min(self._states, default=newest))
        at = newest if height is None else height
        state = self.state if at == self.height else self._states.get(at)
        if state is None or at > newest:
            told = f"failed to load state at height {at}; version does not exist (latest height: {newest})"
            raise InvalidInput(told)
        chain_id = faults.other_chain_id or self.chain_id
        return View(self, chain_id, at, state, min(at, newest - faults.index_lag), faults)

    def on_commit(self, listener: CommitListener) -> None:
        """Call `listener` with every block from now on, right after it is committed."""
        self._listeners.append(listener)

    # what changes the chain

    def broadcast(self, raw: bytes, faults: Faults | None = None) -> tuple[str, TxResult]:
        """Offer a transaction to the node with these faults (the first if None): its hash and the answer of CheckTx.

        Raises MempoolRefusal.
        """
        faults = faults or self.faults
        hash_ = tx_hash(raw)
        if (told := faults.refusal()) is not None:
            if told.codespace == "sdk" and told.code in _BEFORE_CHECK:
                raise MempoolRefusal(told.codespace, told.code, told.log)
            return hash_, told
        if len(self._mempool) >= MEMPOOL_SIZE:
            raise MempoolRefusal("sdk", 20, f"mempool is full: number of txs {len(self._mempool)}")
        if len(raw) > MAX_TX_BYTES:
            raise MempoolRefusal("sdk", 21, f"Tx too large. Max size is {MAX_TX_BYTES}, but got {len(raw)}")
        waiting = self._mempool.get(hash_)
        if waiting is not None and waiting.isolated_at not in (None, faults):
            # New to this node, which tells the others.
            self._mempool[hash_] = replace(waiting, isolated=None)
            return hash_, TxResult(gas_wanted=gas_limit(waiting.tx, self.state.rules))
        if hash_ in self._cache:
            raise MempoolRefusal("sdk", 19, "tx already exists in cache")
        try:
            tx = decode(raw, self.state.rules)
            admit(tx, self.state, self._check)
        except TxError as error:
            return hash_, _refused(error)
        admitted = TxResult(gas_wanted=gas_limit(tx, self.state.rules))
        if faults.loses():
            return hash_, admitted
        held = faults.blocks_held()
        isolated = (faults, faults.generation) if faults.isolates() else None
        self._mempool[hash_] = _Waiting(tx, self.height + 1 + held, isolated)
        self._remember(hash_)
        return hash_, admitted

    def simulate(self, raw: bytes) -> TxResult:
        """Execute on the last committed state and height, and keep nothing."""
        session = self._new_session(Mode.SIMULATE)
        try:
            tx = decode(raw, self.state.rules)
            admit(tx, self.state, session)
            return self._run_messages(tx, self.state.fork(), self.height)[1]
        except TxError as error:
            return _refused(error)

    def produce_block(self) -> Block:
        """Execute everything that is pending and commit the next block."""
        height = self.height + 1
        if height > MAX_HEIGHT:
            raise InvalidInput(f"the chain has reached height {MAX_HEIGHT}, the highest that heights are kept for")
        chosen = self._chosen(height)
        self._states[self.height] = self.state
        self.state = self.state.fork()
        if len(self._states) > STATES_KEPT:
            self._states.popitem(last=False)
        if self._upgrade_to is not None:
            upgrade.migrate(self.state, self._upgrade_to, height)
            self._upgrade_to = None
        session = self._new_session(Mode.DELIVER, height)
        txs = tuple(
            IncludedTx(tx.raw, tx.hash, height, index, self._deliver(tx, session)) for index, tx in enumerate(chosen)
        )
        block = self._seal(height, txs, tuple(self._pending_events))
        self._pending_events.clear()
        for tx in txs:
            del self._mempool[tx.hash]
            if tx.result.code:  # a failed transaction may be offered again; its sequence will refuse it
                self._cache.pop(tx.hash, None)
        self._index(block)
        self._recheck()
        for listener in self._listeners:
            listener(block)
        return block

    def plan_upgrade(self, version: str) -> None:
        """Let the next block be the first one of this version."""
        upgrade.check(self.state.version, version)
        self._upgrade_to = version

    def use_sequence(self, address: str, count: int = 1, *, evict: bool = True) -> None:
        """As if another client had sent that many transactions with this key, by another node.

        What this node still holds of the key is then thrown out of its mempool, as after a block with those others;
        with `evict` False it stays, and fails in the next block, as if the others stood before it there.
        """
        if address not in self.state.accounts:
            raise InvalidInput(f"there is no account {address}; add the player or key first")
        account = self.state.accounts[address]
        self.state.accounts[address] = replace(account, sequence=account.sequence + count)
        if evict:
            self._recheck()
        else:
            self._check = self._new_session(Mode.CHECK)

    def forget_mempool(self, *, only_of: Faults | None = None) -> None:
        """Lose what is pending and what the cache remembers, as a node does that is restarted.

        Where other nodes keep it, that is only what the restarted one (`only_of`, by its faults) told nobody.
        """
        for hash_, waiting in list(self._mempool.items()):
            if only_of is None or waiting.isolated_at is only_of:
                del self._mempool[hash_]
                self._cache.pop(hash_, None)
        if only_of is None:
            self._cache.clear()
            self._check = self._new_session(Mode.CHECK)
        else:
            self._recheck()

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
        return Session(
            mode, self.chain_id, at, accounts, address_cap=self._address_cap, min_gas_price=self._min_gas_price
        )

    def _chosen(self, height: int) -> list[Transaction]:
        """What the next block holds: all that waits, but for what a fault keeps from the proposer.

        A proposer that never got a transaction cannot have admitted those that follow it in sequence either.
        """
        chosen: list[Transaction] = []
        expected: dict[str, int] = {}
        for waiting in self._mempool.values():
            if waiting.not_before > height or waiting.isolated_at is not None:
                continue
            tx = waiting.tx
            signed = dict(zip(tx.creators, (signer.sequence for signer in tx.signers), strict=True))
            for creator in signed:
                account = self.state.accounts.get(creator)
                expected.setdefault(creator, account.sequence if account else 0)
            if any(sequence > expected[creator] for creator, sequence in signed.items()):
                continue
            expected |= {creator: sequence + 1 for creator, sequence in signed.items()}
            chosen.append(tx)
        return chosen

    def _recheck(self) -> None:
        """Look at what still waits again, after a block; what does not hold any more is forgotten."""
        self._check = self._new_session(Mode.RECHECK)
        for hash_, waiting in list(self._mempool.items()):
            try:
                admit(waiting.tx, self.state, self._check)
            except TxError:
                del self._mempool[hash_]
                self._cache.pop(hash_, None)
        self._check.mode = Mode.CHECK

    def _deliver(self, tx: Transaction, session: Session) -> TxResult:
        try:
            session.accounts = self.state.accounts  # sequences stay even if a message fails
            admit(tx, self.state, session)
            state, result = self._run_messages(tx, self.state.fork(), session.height)
        except TxError as error:
            return _refused(error)
        except Exception:
            logger.exception("A transaction broke the devnet; it is reported as a recovered panic")
            wanted = gas_limit(tx, self.state.rules)
            return TxResult(code=111222, codespace="undefined", log="recovered panic", gas_wanted=wanted)
        if result.code == 0:
            self.state = state
        return result

    def _run_messages(self, tx: Transaction, fork: State, height: int) -> tuple[State, TxResult]:
        """The messages of an admitted transaction: all of them, or none."""
        sequences = ",".join(f"{c}/{s.sequence}" for c, s in zip(tx.creators, tx.signers, strict=True))
        ante_events = (Event("tx", (("acc_seq", sequences),)),)
        gas, limit = gas_used(tx), gas_limit(tx, fork.rules)
        if gas > limit:
            told = f"out of gas in location: WriteFlat; gasWanted: {limit}, gasUsed: {gas}: out of gas"
            return fork, TxResult(11, "sdk", told, b"", limit, gas, ante_events)
        changes = Changes(fork, height)
        events: list[Event] = []
        responses = []
        for index, message in enumerate(tx.messages):
            changes.events = [Event("message", (("action", f"/{message.name}"), ("sender", message.creator)))]
            try:
                response = execute(changes, message, self.chain_id)
            except TxError as error:
                log = f"failed to execute message; message index: {index}: {error.log}"
                failed = TxResult(error.code, error.codespace, log, b"", limit, gas, ante_events)
                return fork, failed
            events += (event.with_attribute("msg_index", str(index)) for event in changes.events)
            packed = ProtoAny()
            packed.Pack(response, type_url_prefix="/")
            responses.append(packed)
        data = abci_pb2.TxMsgData(msg_responses=responses).SerializeToString()
        return fork, TxResult(data=data, gas_wanted=limit, gas_used=gas, events=(*ante_events, *events))

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
