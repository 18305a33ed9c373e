"""Several nodes of one chain as one `ChainClient`: calls go to the healthiest fresh one and on to the next if it fails.

What must hold whatever node answers:

* one chain: a node is asked nothing before it told our chain id, and again after each failure;
* nothing is read from a node that is catching up, also if there is no other;
* heights only rise: what is older than the newest block that was passed on is no answer, whoever gives it;
* a broadcast without an answer stays uncertain. The same bytes go to the next node, but a refusal there does not undo
  what the first one may have done with them: then nothing is known, and the caller looks the hash up;
* a transaction that one node does not find is looked for at the other fresh ones, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from coordinator.chain.block_feed import BlockFeed
from coordinator.chain.client import Account, Block, SigningRight, TxAnswer, WorkReading
from coordinator.chain.endpoint_choice import (
    EndpointState,
    EndpointStatus,
    Health,
    answered,
    chain_checked,
    failed,
    highest_of,
    order,
    refused,
    state_of,
    told_progress,
)
from coordinator.chain.node import CATCHING_UP
from coordinator.chain.node_facts import VersionWatch
from coordinator.chain.rest_transport import RestTransport
from coordinator.chain.structsd import (
    CALL_TIMEOUT,
    POLL_SECONDS,
    QUERIES_LONG,
    SILENCE_SECONDS,
    StructsdClient,
    check_seconds,
)
from coordinator.chain.transport import Lagging, NotServed, OtherChain, Transport
from hashfleet.action import Action
from hashfleet.errors import BadChainAnswer, ChainError, ChainUnavailable, InvalidInput

logger = logging.getLogger(__name__)

#: Pause between two looks at the height of each node, in seconds: about a block.
PROBE_SECONDS: Final = 5.0
#: Limit of finding all the work of a player, in seconds: many queries.
OUTSTANDING_SECONDS: Final = 20.0
#: Nodes that are asked for a transaction that others do not find, all in all.
_LOOKUPS: Final = 3
#: Endpoints at most; more are a mistake, and each costs a query per probe.
MAX_ENDPOINTS: Final = 16
#: A node's mempool is full, or takes no more from this address in this block: another node's may not be so.
_NODE_LOCAL: Final = frozenset({("sdk", 20), ("structs-ante", 2041)})
_IN_MEMPOOL_CACHE: Final = ("sdk", 19)

_T = TypeVar("_T")


@dataclass(slots=True)
class _Endpoint:
    """One node and what is known of it."""

    name: str
    client: StructsdClient
    health: Health = field(default_factory=Health)
    #: Held while its chain is checked, so that calls at once check it once.
    checking: asyncio.Lock = field(default_factory=asyncio.Lock)


class FailoverClient:
    """A `ChainClient` over one or more nodes of one chain."""

    def __init__(
        self,
        nodes: Sequence[tuple[str, StructsdClient]],
        rpc_urls: Sequence[str],
        expected_chain_id: str | None,
        *,
        call_timeout: float = CALL_TIMEOUT,
        poll_seconds: float = POLL_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
        probe_seconds: float = PROBE_SECONDS,
    ) -> None:
        """Nothing is connected yet; `nodes` are names to show and clients without an RPC, preferred ones first.

        With `expected_chain_id` None the first node that answers decides. Raises InvalidInput.
        """
        if not 1 <= len(nodes) <= MAX_ENDPOINTS:
            raise InvalidInput(f"{len(nodes)} nodes are given; there should be 1 to {MAX_ENDPOINTS}")
        check_seconds(call_timeout=call_timeout, probe=probe_seconds)
        self._endpoints = [_Endpoint(name, client) for name, client in nodes]
        self._expected = expected_chain_id
        self._timeout = call_timeout
        #: So that a node whose reading takes all of its time leaves some for the next one.
        self._reading_limit = QUERIES_LONG * call_timeout
        self._probe_seconds = probe_seconds
        self._feed = BlockFeed(
            rpc_urls,
            self.latest_block,
            self._upgraded,
            call_timeout=call_timeout,
            poll_seconds=poll_seconds,
            silence_seconds=silence_seconds,
        )
        self._chain_id: str | None = None
        #: The newest block that anybody was told of.
        self._newest: Block | None = None
        self._probing: asyncio.Task[None] | None = None
        self._watch = VersionWatch()
        self._closed = False

    @classmethod
    def of(
        cls,
        grpc_addresses: Sequence[str],
        rest_urls: Sequence[str],
        rpc_urls: Sequence[str],
        expected_chain_id: str | None,
        *,
        call_timeout: float = CALL_TIMEOUT,
        poll_seconds: float = POLL_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
        probe_seconds: float = PROBE_SECONDS,
        charters_name_chain: bool = True,
    ) -> FailoverClient:
        """A client over these nodes, those reached over gRPC first. Raises InvalidInput.

        With several nodes each gets half of the time limit for a query, so that the next one still has the other half.
        """
        check_seconds(call_timeout=call_timeout)
        addresses, urls = dict.fromkeys(grpc_addresses), dict.fromkeys(rest_urls)
        limit = call_timeout if len(addresses) + len(urls) == 1 else call_timeout / 2
        nodes: list[tuple[str, StructsdClient]] = []

        def node(way: str | Transport) -> StructsdClient:
            return StructsdClient(
                way, None, expected_chain_id, call_timeout=limit, charters_name_chain=charters_name_chain
            )

        for address in addresses:
            grpc_node = node(address)
            nodes.append((f"gRPC {grpc_node.shown}", grpc_node))
        for url in urls:
            rest_node = node(RestTransport(url, timeout=limit))
            nodes.append((f"REST {rest_node.shown}", rest_node))
        return cls(
            nodes,
            rpc_urls,
            expected_chain_id,
            call_timeout=call_timeout,
            poll_seconds=poll_seconds,
            silence_seconds=silence_seconds,
            probe_seconds=probe_seconds,
        )

    # Connecting

    @property
    def chain_id(self) -> str:
        """As the nodes told when connecting. Raises ChainUnavailable before that."""
        if self._chain_id is None:
            raise ChainUnavailable("no node of the chain has been reached yet; connect first")
        return self._chain_id

    async def connect(self) -> None:
        """Reach the nodes: one of our chain is enough. Raises ChainUnavailable, BadChainAnswer."""
        if self._closed:
            raise ChainUnavailable("this chain client is closed; make a new one")
        reached = await asyncio.gather(
            *(endpoint.client.connect() for endpoint in self._endpoints), return_exceptions=True
        )
        errors: list[ChainError] = []
        for endpoint, error in zip(self._endpoints, reached, strict=True):
            try:
                if error is not None:
                    raise error
                self._take(endpoint)
                self._note_answer(endpoint)
            except ChainError as told:
                self._note_failure(endpoint, told)
                errors.append(told)
        if len(errors) == len(self._endpoints):
            if any(isinstance(error, ChainUnavailable) for error in errors):
                # One that is away may be of our chain, so it is worth trying again.
                raise ChainUnavailable("; ".join(dict.fromkeys(str(error) for error in errors)))
            raise _all_failed(errors)
        await self._feed.connect(self.chain_id)
        if self._probing is None:
            self._probing = asyncio.create_task(self._probe(), name="endpoint probes")

    async def close(self) -> None:
        """Close every connection; `blocks` ends."""
        self._closed = True
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await self._feed.close()
        await asyncio.gather(*(endpoint.client.close() for endpoint in self._endpoints))

    def endpoints(self) -> list[EndpointStatus]:
        """Every endpoint as it stands now, in the order of the configuration."""
        highest = highest_of(self._healths, self._newest_height)
        return [
            EndpointStatus(
                endpoint.name,
                state_of(endpoint.health, highest),
                endpoint.health.height,
                endpoint.health.seconds,
                endpoint.client.version,
                endpoint.health.error or (CATCHING_UP if endpoint.health.catching_up else ""),
            )
            for endpoint in self._endpoints
        ]

    # Blocks

    async def latest_block(self) -> Block:
        """The last committed block: never an older one than before, whatever node answers."""

        async def ask(endpoint: _Endpoint) -> Block:
            block = await endpoint.client.latest_block()
            endpoint.health = answered(endpoint.health, block.height)
            if self._newest is not None and block.height < self._newest.height:
                raise Lagging(
                    f"{endpoint.name} is at height {block.height}, but block {self._newest.height} is committed"
                )
            return block

        try:
            block = await self._first_answer(ask)
        except Lagging:
            # Somebody answers, and what was committed stays committed.
            assert self._newest is not None
            return Block(self._newest.height, self._newest.time)
        if self._newest is None or block.height > self._newest.height:
            self._newest = block
        return block

    async def blocks(self) -> AsyncGenerator[Block, None]:
        """Every new committed block, heights rising; ends when the client is closed and raises nothing."""
        async with contextlib.aclosing(self._feed.blocks()) as blocks:
            async for block in blocks:
                if self._newest is None or block.height >= self._newest.height:
                    self._newest = block
                for endpoint in self._endpoints:
                    endpoint.client.block_passed(block)
                yield block

    async def _upgraded(self, height: int) -> bool:
        """Every node that is well is asked: the first may have stopped for an upgrade that others went through."""
        allowed = [endpoint for endpoint in self._endpoints if not endpoint.health.refused]
        well = [endpoint for endpoint in allowed if not endpoint.health.failures]
        return await self._watch.upgraded(
            {each.name: self._asked(each, lambda one: one.client.look(height)) for each in well or allowed}
        )

    # Calls that any node can answer

    async def read_work(self, action: Action, object_id: str) -> WorkReading:
        """As `StructsdClient.read_work`, from the first node that answers."""
        return await self._first_answer(
            lambda endpoint: endpoint.client.read_work(action, object_id), limit=self._reading_limit
        )

    async def read_charter(self, founder_id: str, solver_id: str, reactor_id: str = "") -> WorkReading:
        """As `StructsdClient.read_charter`, from the first node that answers."""
        return await self._first_answer(
            lambda endpoint: endpoint.client.read_charter(founder_id, solver_id, reactor_id),
            limit=self._reading_limit,
        )

    async def outstanding_work(self, player_id: str) -> list[tuple[Action, str]]:
        """As `StructsdClient.outstanding_work`, from the first node that answers."""
        return await self._first_answer(
            lambda endpoint: endpoint.client.outstanding_work(player_id), limit=OUTSTANDING_SECONDS
        )

    async def check_signer(self, address: str, action: Action, object_id: str) -> SigningRight:
        """As `StructsdClient.check_signer`, from the first node that answers."""
        return await self._first_answer(
            lambda endpoint: endpoint.client.check_signer(address, action, object_id), limit=self._reading_limit
        )

    async def account(self, address: str) -> Account:
        """As `StructsdClient.account`, from the first node that answers."""
        return await self._first_answer(lambda endpoint: endpoint.client.account(address))

    # Transactions

    async def find_transaction(self, tx_hash: str) -> TxAnswer | None:
        """The included transaction of this hash, or None if none of the fresh nodes (three at most) finds it."""
        asked: list[_Endpoint] = []

        async def ask(endpoint: _Endpoint) -> TxAnswer | None:
            asked.append(endpoint)
            return await endpoint.client.find_transaction(tx_hash)

        found = await self._first_answer(ask)
        if found is not None:
            return found
        highest = highest_of(self._healths, self._newest_height)
        others = [
            endpoint
            for endpoint in self._endpoints
            if endpoint not in asked and state_of(endpoint.health, highest) is EndpointState.HEALTHY
        ]
        for endpoint in others[: _LOOKUPS - 1]:
            try:
                found = await self._asked(endpoint, ask)
            except ChainError as error:
                logger.debug("%s does not tell whether it has transaction %s: %s", endpoint.name, tx_hash, error)
            if found is not None:
                return found
        return None

    async def broadcast(self, tx_bytes: bytes) -> TxAnswer:
        """Offer a transaction to one mempool, or to the next one if the first did not answer or has no room.

        After ChainUnavailable it may have got into any of them: find it.
        """
        uncertain: ChainError | None = None
        full: TxAnswer | None = None
        errors: list[ChainError] = []
        for endpoint in self._tries(self._timeout):
            try:
                answer = await self._asked(endpoint, lambda one: one.client.broadcast(tx_bytes))
            except NotServed as error:
                errors.append(error)  # it never looked at the bytes
                continue
            except (BadChainAnswer, ChainUnavailable) as error:
                errors.append(error)
                uncertain = error
                continue
            kind = (answer.codespace, answer.code)
            if answer.code == 0 or kind == _IN_MEMPOOL_CACHE:
                return answer
            if kind in _NODE_LOCAL:
                full = full or answer
                continue
            if uncertain is None:
                return answer
            raise ChainUnavailable(
                f"a node did not say what became of the transaction ({uncertain}), so the refusal of {endpoint.name} "
                f"(code {answer.code} of {answer.codespace or 'no codespace'}) does not tell that it cannot land"
            )
        if uncertain is not None and full is not None:
            raise ChainUnavailable(f"what became of the transaction is not known ({uncertain})") from uncertain
        if full is not None:
            return full
        raise _all_failed(errors)

    # Choosing

    @property
    def _healths(self) -> list[Health]:
        return [endpoint.health for endpoint in self._endpoints]

    @property
    def _newest_height(self) -> int:
        return self._newest.height if self._newest is not None else 0

    def _tries(self, limit: float) -> Iterator[_Endpoint]:
        """The endpoints to try, until `limit` seconds are over."""
        if self._closed or self._chain_id is None:
            raise ChainUnavailable("there is no connection to any node of the chain; connect first")
        end = self._now() + limit
        indexes = order(self._healths, self._now(), self._newest_height)
        if not indexes:
            raise BadChainAnswer(
                "every node serves another chain: " + "; ".join(health.error for health in self._healths)
            )
        for nth, index in enumerate(indexes):
            if nth and self._now() >= end:
                return
            yield self._endpoints[index]

    async def _first_answer(self, ask: Callable[[_Endpoint], Awaitable[_T]], *, limit: float | None = None) -> _T:
        """The first usable answer. What a node says about an object (gone, paused) or a key is one."""
        errors: list[ChainError] = []
        for endpoint in self._tries(limit or self._timeout):
            try:
                return await self._asked(endpoint, ask)
            except (BadChainAnswer, ChainUnavailable) as error:
                errors.append(error)
        raise _all_failed(errors)

    async def _asked(self, endpoint: _Endpoint, ask: Callable[[_Endpoint], Awaitable[_T]]) -> _T:
        """One call to one endpoint, and what it says about its health.

        Its limit is that of each query on the wire: a call that waits for its turn here says nothing about the node.
        """
        try:
            await self._check(endpoint)
            answer = await ask(endpoint)
        except (ChainUnavailable, BadChainAnswer) as error:
            self._note_failure(endpoint, error)
            raise
        if endpoint.health.failures:
            self._note_answer(endpoint)
        return answer

    async def _check(self, endpoint: _Endpoint) -> None:
        """Make sure that the node serves our chain, if that is not known since its last failure."""
        if endpoint.health.checked:
            return
        async with endpoint.checking:
            if not endpoint.health.checked:
                await endpoint.client.connect()
                self._take(endpoint)

    def _take(self, endpoint: _Endpoint) -> None:
        """The node told its chain: it is ours, or the first to tell it, or refused. Raises OtherChain."""
        told, expected = endpoint.client.chain_id, self._chain_id or self._expected
        if expected is not None and told != expected:
            endpoint.client.expect(expected)
            raise OtherChain(
                f"the node {endpoint.client.shown} belongs to chain {told[:80]!a}, but {expected!a} is expected; "
                "check the address"
            )
        self._chain_id = told
        endpoint.health = chain_checked(endpoint.health)
        self._note_progress(endpoint)

    def _note_progress(self, endpoint: _Endpoint) -> None:
        catching_up = endpoint.client.catching_up
        if catching_up and not endpoint.health.catching_up:
            logger.warning("%s %s.", endpoint.name, CATCHING_UP)
        elif endpoint.health.catching_up and not catching_up:
            logger.info("%s has caught up with the chain.", endpoint.name)
        endpoint.health = told_progress(endpoint.health, catching_up)

    def _note_answer(self, endpoint: _Endpoint, height: int | None = None, seconds: float | None = None) -> None:
        if endpoint.health.failures:
            logger.info("%s answers again.", endpoint.name)
        endpoint.health = answered(endpoint.health, height, seconds)

    def _note_failure(self, endpoint: _Endpoint, error: ChainError) -> None:
        """A node that answers but lags is no failure: its height says all of it."""
        if isinstance(error, Lagging) or self._closed:
            return
        known = endpoint.health
        if isinstance(error, OtherChain):
            endpoint.health = refused(known, self._now(), str(error))
            if not known.refused:
                logger.error("%s is not used: %s.", endpoint.name, error)
        elif isinstance(error, ChainUnavailable):
            endpoint.health = failed(known, self._now(), str(error))
            if not known.failures and len(self._endpoints) > 1:
                logger.warning("%s fails: %s", endpoint.name, error)
        # An answer that cannot be read may be about one object only; that alone makes no node a bad one.

    async def _probe(self) -> None:
        """Look at chain, progress and height of each node, again and again: a switch finds one that is known well."""
        while True:
            await asyncio.sleep(self._probe_seconds)
            now = self._now()
            due = [e for e in self._endpoints if e.health.checked or e.health.not_before <= now]
            for told in await asyncio.gather(*(self._probe_one(each) for each in due), return_exceptions=True):
                if isinstance(told, Exception):  # a mistake of ours; the other nodes are looked at all the same
                    logger.error("Looking at a node's height went wrong.", exc_info=told)

    async def _probe_one(self, endpoint: _Endpoint) -> None:
        async def ask(one: _Endpoint) -> None:
            await one.client.note_progress()
            self._note_progress(one)
            begun = self._now()
            block = await one.client.latest_block()  # its header names the chain, which the height alone does not
            self._note_answer(one, block.height, self._now() - begun)

        try:
            await self._asked(endpoint, ask)
        except ChainError as error:
            logger.debug("%s does not tell its height: %s", endpoint.name, error)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _all_failed(errors: Sequence[ChainError]) -> ChainError:
    """What to say when no node gave a usable answer: as one node would, that is what those say that answer at all."""
    if len(errors) == 1:
        return errors[0]
    told = "; ".join(dict.fromkeys(str(error) for error in errors))
    if any(isinstance(error, Lagging) for error in errors):
        return Lagging(f"no node has the newest state yet: {told}")
    ours = [error for error in errors if not isinstance(error, OtherChain)]
    if errors and (not ours or any(isinstance(error, BadChainAnswer) for error in ours)):
        return BadChainAnswer(f"no node gives a usable answer: {told}")
    return ChainUnavailable(f"no node of the chain answers: {told}" if told else "no node of the chain answers in time")
