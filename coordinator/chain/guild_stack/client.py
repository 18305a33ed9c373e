"""A `ChainClient` that reads a guild stack's database.

The database holds no transactions: accounts, broadcasts and look-ups go to a node if there is one. Heights are those
that the index has reached, never above the chain's, and refused when the index does not keep up (`indexed_height`).

New blocks are announced on the channel ``grass`` by some stacks and by others not, so the height is also polled, on
the very connection that listens: whatever was notified before is read first. What a block touched is told only while
all of this holds: the connection listened since the block before, that block was announced on the channel, activity
has been seen on it, every payload was readable and whole, the stack knows all categories that move work, and no
permission changed. Otherwise any object may have changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator
from typing import Final, Literal, NoReturn

import psycopg

from coordinator.chain.client import Account, Block, ChainClient, SigningRight, TellsEndpoints, TxAnswer, WorkReading
from coordinator.chain.endpoint_choice import EndpointState, EndpointStatus
from coordinator.chain.guild_stack import queries
from coordinator.chain.guild_stack.database import CALL_TIMEOUT, Connection, Database, parse_url
from coordinator.chain.guild_stack.indexed_height import USUAL_INTERVAL, IndexedBlock, believe
from coordinator.chain.guild_stack.notifications import CHANNEL, NEEDED_CATEGORIES, read_notice
from coordinator.chain.guild_stack.tables import LISTED, NotIndexed, Tables, in_order, owner_of
from coordinator.chain.permissions import PERMISSION_BITS
from hashfleet.action import PLAYER_TYPE, Action, check_object_id
from hashfleet.errors import BadChainAnswer, ChainError, ChainUnavailable, InvalidInput, KeyProblem, WorkGone

logger = logging.getLogger(__name__)

#: Pause between two looks at the height, in seconds; announcements come at once.
POLL_SECONDS: Final = 2.0
#: Blocks for which an object that the index does not know may still be on its way there.
GRACE_BLOCKS: Final = 3
#: A channel on which no activity was seen for so many blocks is not relied upon.
_QUIET_BLOCKS: Final = 600
_FIRST_PAUSE, _LAST_PAUSE = 0.5, 30.0
_REMEMBERED_MISSING: Final = 1000
#: Seconds for which what belongs to an announced block may follow it.
_DRAIN_SECONDS: Final = 0.02
_MAX_TOUCHED: Final = 50_000


class GuildStackClient:
    """A `ChainClient` for one guild stack. Many tasks may share it."""

    def __init__(
        self,
        url: str,
        expected_chain_id: str | None = None,
        *,
        node: ChainClient | None = None,
        call_timeout: float = CALL_TIMEOUT,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """Nothing is connected yet. Raises InvalidInput for a URL that cannot be one; it is never repeated.

        `url` has to lead to the server itself, not to a transaction-pooling proxy. `node` serves accounts, broadcasts
        and look-ups of transactions, and guild charters; it is connected and closed with this client.
        """
        for name, value in (("call_timeout", call_timeout), ("poll", poll_seconds)):
            if not 0 < value <= 600:
                raise InvalidInput(
                    f"the guild stack client's {name} is {value}; it should be above 0 and at most 600 seconds"
                )
        self.database = Database(parse_url(url), call_timeout)
        self._expected = expected_chain_id
        self.node = node
        self._timeout = call_timeout
        self._poll_seconds = poll_seconds
        self._chain_id: str | None = None
        self._closed = asyncio.Event()
        self._interval = USUAL_INTERVAL
        self._last: Block | None = None
        #: Object -> height at which it was first found missing.
        self._missing: dict[str, int] = {}
        self._outage = False
        #: Why there are no new blocks, while that is so.
        self._error = ""

    # Connecting

    @property
    def chain_id(self) -> str:
        """The configured chain, or what the index calls it. Raises ChainUnavailable before `connect`."""
        if self._chain_id is None:
            raise ChainUnavailable(f"the guild stack {self.database.shown} has not been reached yet; connect first")
        return self._chain_id

    async def connect(self) -> None:
        """Reach the database, and the node if there is one; both have to be of the configured chain.

        Raises ChainUnavailable, BadChainAnswer.
        """
        if self.node is not None:
            # Asked first: old indexers write no chain id, others index several chains. A node tells which one is ours.
            await self.node.connect()
            if self._expected is None:
                self._expected = self.node.chain_id
        indexed = await self._indexed()
        if self.node is not None and self.node.chain_id != indexed.chain:
            raise BadChainAnswer(
                f"the guild stack indexes chain {indexed.chain}, but the node serves {self.node.chain_id}; "
                "both should be of one chain"
            )
        self._chain_id = indexed.chain

    async def close(self) -> None:
        """Close every connection; `blocks` ends."""
        self._closed.set()
        await self.database.close()
        if self.node is not None:
            await self.node.close()

    def endpoints(self) -> list[EndpointStatus]:
        """The database, and the endpoints of the node behind it if they are known."""
        state = EndpointState.UNTRIED if self._last is None else EndpointState.HEALTHY
        state = EndpointState.FAILING if self._error else state
        height = self._last.height if self._last else 0
        own = EndpointStatus(f"PostgreSQL {self.database.shown}", state, height, 0.0, "", self._error)
        return [own, *(self.node.endpoints() if isinstance(self.node, TellsEndpoints) else [])]

    # Blocks

    async def latest_block(self) -> Block:
        """The last indexed block; its time is when the index got there. Raises ChainUnavailable if it lags."""
        return (await self._indexed()).block

    async def _indexed(self) -> IndexedBlock:
        return self._believed(await self.database.one(queries.BLOCKS, {}, "the height of the index"))

    def _believed(self, told: dict[str, object]) -> IndexedBlock:
        rows = told.get("blocks")
        indexed = believe(rows if isinstance(rows, list) else [], self._expected, self._interval)
        block, last = indexed.block, self._last
        if last is None or block.height > last.height:
            if last is not None and block.time > last.time:
                between = (block.time - last.time) / (block.height - last.height)
                self._interval += 0.1 * (min(between, 10 * USUAL_INTERVAL) - self._interval)
            self._last = block
        elif block.height < last.height:
            raise ChainUnavailable(
                f"the guild stack's index went back from height {last.height} to {block.height}; it is being rebuilt"
            )
        return indexed

    async def blocks(self) -> AsyncGenerator[Block, None]:
        """Every new indexed block, heights rising; ends when the client is closed and raises nothing."""
        newest, pause = 0, _FIRST_PAUSE
        while not self._closed.is_set():
            try:
                async with contextlib.aclosing(self._heard()) as heard:
                    async for block in heard:
                        pause, self._error = _FIRST_PAUSE, ""
                        if self._outage:
                            logger.info("The guild stack answers again, at height %d.", block.height)
                            self._outage = False
                        if block.height > newest:
                            newest = block.height
                            yield block
            except ChainError as error:
                if not self._closed.is_set():
                    self._error = str(error)
                    logger.log(logging.DEBUG if self._outage else logging.WARNING, "No new blocks: %s", error)
                    self._outage = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):
                    await self._closed.wait()
            pause = min(2 * pause, _LAST_PAUSE)

    async def _heard(self) -> AsyncGenerator[Block, None]:
        """Blocks of one listening connection, until it is lost. Raises ChainError."""
        with self.database.explained("new blocks"):
            async with asyncio.timeout(self._timeout):
                connection = await self.database.open()
        ending = asyncio.ensure_future(self._closed.wait())
        try:
            ear = _Ear()
            with self.database.explained("new blocks"):
                async with asyncio.timeout(self._timeout):
                    await connection.execute(f"LISTEN {CHANNEL}".encode())
                    categories = (await _one(connection, queries.CATEGORIES)).get("categories")
            ear.knows_all = isinstance(categories, list) and set(categories) >= NEEDED_CATEGORIES
            patience = 0.0  # the first look at once: what was announced before nobody repeats
            while not self._closed.is_set():
                with self.database.explained("new blocks"):
                    await self._listen(connection, ear, patience, ending)
                    patience = self._poll_seconds
                    if self._closed.is_set():
                        return
                    await self._listen(connection, ear, _DRAIN_SECONDS, ending)
                    async with asyncio.timeout(self._timeout):
                        told = await _one(connection, queries.HEIGHT_AND_PERMISSIONS)
                    # What was notified before that answer came with it.
                    await self._listen(connection, ear, 0, ending)
                block = self._believed(told).block
                touched = ear.take(block.height, told.get("permissions"))
                if not isinstance(touched, _NothingNew):
                    yield Block(block.height, block.time, touched)
        finally:
            ending.cancel()
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    async def _listen(
        self, connection: Connection, ear: _Ear, seconds: float, ending: asyncio.Future[Literal[True]]
    ) -> None:
        """Hear what comes within this time; stop at the first announcement, or when the client is closed."""

        async def hear() -> None:
            async for notice in connection.notifies(timeout=seconds):
                ear.hear(notice.payload)
                if ear.announced and seconds > _DRAIN_SECONDS:
                    return

        hearing = asyncio.ensure_future(hear())
        try:
            await asyncio.wait((hearing, ending), return_when=asyncio.FIRST_COMPLETED)
            if hearing.done():
                await hearing
        finally:
            if not hearing.done():
                hearing.cancel()
                with contextlib.suppress(asyncio.CancelledError, psycopg.Error):
                    await hearing

    # Work

    async def read_work(self, action: Action, object_id: str) -> WorkReading:
        """The puzzle of this object as indexed; see `tables`.

        Raises InvalidInput for an id that cannot be one, WorkGone, WorkPaused, BadChainAnswer, ChainUnavailable.
        """
        check_object_id(object_id, action.object_type, "entity_id")
        if action not in LISTED:
            raise InvalidInput("a charter's puzzle names its solver; read_charter reads it")
        told = await self.database.one(
            queries.OBJECT_WORK, {"object": object_id, "player": None}, f"{action.value} {object_id}"
        )
        height = self._believed(told).block.height
        try:
            return Tables(told).reading(action, object_id)
        except NotIndexed as missing:
            self._raise_missing(missing.object_id, height)

    async def read_charter(self, founder_id: str, solver_id: str, reactor_id: str = "") -> WorkReading:
        """The puzzle of founding a guild, from the node that transactions go to: no table holds it."""
        return await self._transactions("the guild charter").read_charter(founder_id, solver_id, reactor_id)

    async def outstanding_work(self, player_id: str) -> list[tuple[Action, str]]:
        """What `read_work` would find open now for this player, all of it from one moment.

        Raises InvalidInput for an id that cannot be one, WorkGone if there is no such player, BadChainAnswer,
        ChainUnavailable.
        """
        check_object_id(player_id, PLAYER_TYPE, "player_id")
        told = await self.database.one(queries.PLAYER_WORK, {"player": player_id}, f"the work of player {player_id}")
        height = self._believed(told).block.height
        if told.get("player") is None:
            self._raise_missing(player_id, height)
        tables = Tables(told)
        return in_order([one for one in tables.listed if tables.is_open(*one)])

    def _raise_missing(self, object_id: str, height: int) -> NoReturn:
        """The index does not know an object: it is gone, unless it may be so new that it is on its way there."""
        first = self._missing.setdefault(object_id, height)
        if len(self._missing) > _REMEMBERED_MISSING:
            self._missing.pop(next(iter(self._missing)))
        if height - first < GRACE_BLOCKS:
            raise ChainUnavailable(
                f"the guild stack does not know {object_id} at height {height}; it may be indexed within a few blocks"
            )
        self._missing.pop(object_id, None)
        raise WorkGone(f"the guild stack knows no {object_id}; it was deleted, or never was")

    # Who may sign

    async def check_signer(self, address: str, action: Action, object_id: str) -> SigningRight:
        """The right of an address to complete this work, as indexed.

        Raises KeyProblem if it has none, WorkGone if there is no such object. A right that stems from a guild-rank
        rule only is not seen.
        """
        check_object_id(object_id, action.object_type, "entity_id")
        if action not in LISTED:
            return await self._transactions("who may found a guild").check_signer(address, action, object_id)
        told = await self.database.one(
            queries.ADDRESS_RIGHTS, {"address": address, "object": object_id}, f"the rights of address {address}"
        )
        try:
            owner = owner_of(told, object_id)
        except NotIndexed as missing:
            self._raise_missing(missing.object_id, (await self.latest_block()).height)
        bit, name = PERMISSION_BITS[action]
        own = told.get("address")
        records = own if isinstance(own, list) else []
        if not records:
            raise KeyProblem(f"the address {address} is not registered to any player in the guild stack")
        for record in records:
            if not _has(record, bit):
                continue
            player = str(record.get("player_id"))
            if player == owner:
                return SigningRight(player, owner)
            granted = told.get("delegated")
            for one in granted if isinstance(granted, list) else []:
                if one.get("object_id") == owner and one.get("player_id") == player and _has(one, bit):
                    return SigningRight(player, owner)
        raise KeyProblem(
            f"the address {address} lacks {name} ({bit}) on player {owner}, who owns {object_id}; "
            "the address and, where it is another player's, the owner should grant it"
        )

    # What the database does not hold

    async def account(self, address: str) -> Account:
        """Account number and committed sequence, from the node. Raises KeyProblem if the account does not exist."""
        return await self._transactions(f"account {address}").account(address)

    async def broadcast(self, tx_bytes: bytes) -> TxAnswer:
        """Offer a transaction to the node's mempool."""
        return await self._transactions("what becomes of a transaction").broadcast(tx_bytes)

    async def find_transaction(self, tx_hash: str) -> TxAnswer | None:
        """The included transaction of this hash, or None if no block holds it; from the node."""
        return await self._transactions(f"transaction {tx_hash}").find_transaction(tx_hash)

    def _transactions(self, what: str) -> ChainClient:
        if self.node is None:
            raise ChainUnavailable(
                f"the guild stack's database does not hold {what}; a node does: give its address (--chain-grpc)"
            )
        return self.node


class _NothingNew:
    """Stands for: no block after the one told last."""


_NOTHING_NEW: Final = _NothingNew()


class _Ear:
    """What one listening connection has heard since the block that was told last."""

    def __init__(self) -> None:
        #: Whether the stack knows every category of activity that moves work.
        self.knows_all = False
        self._height = 0
        self._announced = 0
        self._touched: set[str] = set()
        self._whole = False  # nothing is known of the time before the first block
        self._permissions: object = None
        self._active_at: int | None = None
        self._active = False

    @property
    def announced(self) -> bool:
        """Whether a block after the one told last was announced."""
        return self._announced > self._height

    def hear(self, payload: str) -> None:
        """Take in one payload."""
        notice = read_notice(payload)
        if notice.height is not None:
            self._announced = max(self._announced, notice.height)
            return
        self._active = self._active or bool(notice.touched)
        self._touched |= notice.touched
        self._whole = self._whole and notice.whole and len(self._touched) <= _MAX_TOUCHED

    def take(self, height: int, permissions: object) -> frozenset[str] | _NothingNew | None:
        """What the blocks up to this height touched, None if that is not sure; what is heard next is the next's."""
        if height <= self._height:
            return _NOTHING_NEW
        if self._active:
            self._active_at = height
        sure = (
            self.knows_all
            and self._whole
            and self._announced >= height
            and self._active_at is not None
            and height - self._active_at <= _QUIET_BLOCKS
            and permissions == self._permissions
        )
        touched = frozenset(self._touched) if sure else None
        self._height, self._permissions = height, permissions
        self._touched, self._whole, self._active = set(), True, False
        return touched


async def _one(connection: Connection, query: str) -> dict[str, object]:
    row = await (await connection.execute(query.encode())).fetchone()
    if row is None or not isinstance(row[0], dict):
        raise BadChainAnswer("the guild stack's database gave no object for its height")
    return row[0]


def _has(record: object, bit: int) -> bool:
    value = record.get("val") if isinstance(record, dict) else None
    return isinstance(value, int) and bool(value & bit)
