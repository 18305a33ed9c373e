"""One node and how it is asked: whose chain it serves, which height it has, and whether its answers may be believed.

Nothing is asked of it before it is open, nothing is taken from another chain, and nothing that is missing there is
called gone while the node is behind: neither while it replays blocks of the past, nor below the newest block that was
passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final, NoReturn

from coordinator.chain import queries
from coordinator.chain.client import Block
from coordinator.chain.node_facts import NodeFacts, Told
from coordinator.chain.transport import (
    Answer,
    HeightWitness,
    Lagging,
    NotServed,
    OtherChain,
    Query,
    Request,
    Transport,
)
from hashfleet.action import MAX_HEIGHT
from hashfleet.errors import BadChainAnswer, ChainUnavailable, WorkGone
from hashfleet.rpc.cosmos.base.tendermint.v1beta1 import query_pb2 as node_pb2
from hashfleet.rpc.structs.structs import query_pb2

#: What is said of a node that replays blocks of the past.
CATCHING_UP: Final = "is catching up with the chain; nothing is read from it until it has the newest block"


class Node:
    """One node behind its transport. `open` it, ask its `info`, then `settle` on the chain that it told."""

    def __init__(self, transport: Transport, expected_chain_id: str | None) -> None:
        """`expected_chain_id` of None takes the chain that is there."""
        self._transport = transport
        self._expected_chain_id = expected_chain_id
        self._chain_id: str | None = None
        self._opened = self._stopped = False
        #: Height of the newest block that was passed on; nothing older is read after it.
        self._newest = 0
        #: Highest height that the node told when it was asked for its height alone.
        self._reached = 0
        #: It told last that it replays blocks of the past.
        self._catching_up = False
        #: Its version, rules and struct types.
        self.facts = NodeFacts(transport, self.info)

    # Connecting

    @property
    def shown(self) -> str:
        """How errors and the status name the node."""
        return self._transport.shown

    @property
    def chain_id(self) -> str:
        """The chain that was settled on. Raises ChainUnavailable before that."""
        if self._chain_id is None:
            raise ChainUnavailable(f"the node {self.shown} has not been reached yet; connect first")
        return self._chain_id

    @property
    def shown_chain(self) -> str:
        """How errors name the chain, settled on or not."""
        return str(self._chain_id)

    def open(self) -> None:
        """Make what questions need. Raises ChainUnavailable once it is stopped."""
        if self._stopped:
            raise ChainUnavailable("this chain client is closed; make a new one")
        self._transport.open()
        self._opened = True

    def settle(self, chain_id: str) -> None:
        """Whoever serves this chain is connected with: it is the one from now on."""
        self._chain_id = chain_id

    def expect(self, chain_id: str) -> None:
        """Take no other chain from now on, and forget which one it was."""
        self._expected_chain_id, self._chain_id = chain_id, None

    def stop(self) -> None:
        """Ask nothing any more; what is being asked goes on until `close`."""
        self._stopped = True

    async def close(self) -> None:
        """Close the connection."""
        await self._transport.close()

    # Asking

    async def ask(
        self, query: Query[Request, Answer], request: Request, what: str, witness: HeightWitness | None = None
    ) -> Answer:
        """As `find`; what is not found is a BadChainAnswer, because it should exist."""
        answer = await self.find(query, request, what, witness)
        if answer is None:
            raise BadChainAnswer(f"the node {self.shown} does not find {what}, which should exist")
        return answer

    async def find(
        self, query: Query[Request, Answer], request: Request, what: str, witness: HeightWitness | None = None
    ) -> Answer | None:
        """As `Transport.find`, of a node that is open."""
        if not self._opened or self._stopped:
            raise ChainUnavailable(f"there is no connection to the node {self.shown}; connect first")
        return await self._transport.find(query, request, what, witness)

    @contextlib.asynccontextmanager
    async def within(self, seconds: float, what: str) -> AsyncGenerator[None, None]:
        """The limit of several queries as a whole; each of them has one of its own."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise ChainUnavailable(f"the node {self.shown} does not tell {what} within {seconds:g} s") from error

    # What it says of itself

    async def info(self, witness: HeightWitness | None = None) -> node_pb2.GetNodeInfoResponse:
        """Its chain and version; the node behind an address may have been swapped for one of another chain."""
        answer = await self.ask(queries.NODE_INFO, node_pb2.GetNodeInfoRequest(), "its chain and version", witness)
        if not answer.HasField("default_node_info"):
            raise BadChainAnswer(f"the node {self.shown} does not tell its network")
        network = answer.default_node_info.network
        if not network:
            raise BadChainAnswer(f"the node {self.shown} does not tell its chain id")
        self._check_chain(network, f"the node {self.shown}")
        return answer

    async def rules_for(self, witness: HeightWitness) -> Told:
        """Version and rules for what this witness saw; it must have seen something already."""
        if witness.before(self._newest):
            self.facts.forget()  # it fell back, so it may be another node by now
        return await self.facts.rules(max(witness.highest, self._newest))

    def forget_facts(self, error: ChainUnavailable) -> None:
        """A node that was away may come back with another version."""
        if not isinstance(error, Lagging):
            self.facts.forget()

    # Heights

    @property
    def newest(self) -> int:
        """Height of the newest block that was passed on."""
        return self._newest

    def block_passed(self, height: int) -> None:
        """The block of this height was passed on to whoever reads because of it."""
        self._newest = max(self._newest, height)

    async def latest_block(self) -> Block:
        """The last committed block."""
        answer = await self.ask(queries.LATEST_BLOCK, node_pb2.GetLatestBlockRequest(), "the latest block")
        if not (answer.HasField("sdk_block") and answer.sdk_block.HasField("header")):
            raise BadChainAnswer("the answer about the latest block lacks its header")
        header = answer.sdk_block.header
        self._check_chain(header.chain_id, "the latest block")
        if not header.HasField("time"):
            raise BadChainAnswer("the header of the latest block lacks its time")
        return Block(_checked_height(header.height), header.time.seconds + header.time.nanos / 1e9)

    async def committed_height(self) -> int:
        """Height of the last committed block, by the cheapest query; it does not tell of which chain."""
        answer = await self.ask(queries.BLOCK_HEIGHT, query_pb2.QueryBlockHeight(), "the height")
        return _checked_height(answer.blockHeight)

    # Whether it is behind

    @property
    def catching_up(self) -> bool:
        """True if the node told last that it replays blocks of the past."""
        return self._catching_up

    async def note_progress(self) -> None:
        """Ask whether the node is catching up, as one restored from a snapshot does for hours: see `catching_up`.

        A node that does not serve the question is taken for one that is not.
        """
        try:
            answer = await self.ask(queries.SYNCING, node_pb2.GetSyncingRequest(), "whether it is catching up")
        except NotServed:
            self._catching_up = False
        else:
            self._catching_up = answer.syncing

    async def check_caught_up(self) -> None:
        """Raise Lagging while the node is catching up; once it told that, it is asked again each time."""
        if self._catching_up:
            await self.note_progress()
            self._refuse_the_past()

    async def check_fresh(self) -> None:
        """Raise Lagging if the node has not reached the newest block that was passed on."""
        if self._reached >= self._newest:
            return
        self._reached = await self.committed_height()
        if self._reached < self._newest:
            raise Lagging(
                f"the node {self.shown} is at height {self._reached}, but block {self._newest} is committed; try again"
            )

    def check_told(self, witness: HeightWitness) -> None:
        """Raise Lagging if an answer is known to be of before the newest block."""
        if witness.before(self._newest):
            raise Lagging(f"the node {self.shown} answers from before block {self._newest}; try again")

    async def raise_gone(self, what: str) -> NoReturn:
        """The node does not know an object: it is gone, unless the node has not read the newest blocks yet."""
        await self.note_progress()
        self._refuse_the_past()
        await self.check_fresh()
        raise WorkGone(f"{what} does not exist on chain {self.shown_chain}")

    def _refuse_the_past(self) -> None:
        if self._catching_up:
            raise Lagging(f"the node {self.shown} {CATCHING_UP}")

    def _check_chain(self, told: str, who: str) -> None:
        expected = self._chain_id or self._expected_chain_id
        if expected is not None and told != expected:
            raise OtherChain(f"{who} belongs to chain {told[:80]!a}, but {expected!a} is expected; check the address")


def _checked_height(height: int) -> int:
    if not 1 <= height <= MAX_HEIGHT:
        raise BadChainAnswer(f"the latest block has height {height}; it should be 1 to {MAX_HEIGHT}")
    return height
