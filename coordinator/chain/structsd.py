"""The production chain client: one structsd node over gRPC or REST, with CometBFT's WebSocket for new blocks.

It holds no key and decides nothing about jobs: queries become `Work` in `object_state`, permissions are judged in
`permissions`, the wire is in the transports and the `block_feed`. Which queries make one answer, and in which order,
stands in modules that import downwards only::

    structsd                    the client: what others know of it, put together
    outstanding_work            all that a player has open now
    work_reading                the works that structs and fleets pose
    charter_reading             the puzzle of founding a guild
    signer_check                whether a signing address may complete a work
    planet_clocks               the ore clocks of planets, and how the node spells them
    object_reading              structs, fleets, planets and players, each by its query
    reading                     several queries that belong together, all of one height
    transactions                accounts, mempool and included transactions
    node                        how the node is asked, and whether it is the right one and not behind
    node_facts                  its version, rules and struct types
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Final

from coordinator.chain.block_feed import BlockFeed
from coordinator.chain.charter_reading import CharterReader
from coordinator.chain.client import Account, Block, SigningRight, TxAnswer, WorkReading
from coordinator.chain.grpc_transport import GrpcTransport
from coordinator.chain.node import Node
from coordinator.chain.node_facts import Told, VersionWatch
from coordinator.chain.object_reading import ObjectReader
from coordinator.chain.outstanding_work import OutstandingWork
from coordinator.chain.signer_check import SignerCheck
from coordinator.chain.transactions import Transactions
from coordinator.chain.transport import Transport
from coordinator.chain.work_reading import WorkReader
from hashfleet.action import Action
from hashfleet.errors import InvalidInput

#: Limit of every call, in seconds.
CALL_TIMEOUT: Final = 5.0
#: Pause between two polls while no subscription is to be had, in seconds.
POLL_SECONDS: Final = 1.0
#: A subscription that is silent for this long is checked against a poll, in seconds: two to three usual blocks.
SILENCE_SECONDS: Final = 15.0
#: A reading of several queries may take as long as this many of them at their limit.
QUERIES_LONG: Final = 2


class StructsdClient:
    """A `ChainClient` for one structsd node. Make one per node; many tasks may share it."""

    def __init__(
        self,
        node: str | Transport,
        rpc_url: str | None,
        expected_chain_id: str | None,
        *,
        tls: bool | None = None,
        root_certificates: bytes | None = None,
        call_timeout: float = CALL_TIMEOUT,
        poll_seconds: float = POLL_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
        charters_name_chain: bool = True,
    ) -> None:
        """Nothing is connected yet. Raises InvalidInput for an address that cannot be one.

        `node` is a transport, or a gRPC address: ``host:9090``, or ``https://host:443`` for TLS (or set `tls`);
        `root_certificates` are PEM bytes if the system's are not the right ones. `rpc_url` is CometBFT's RPC
        (``http://host:26657``); without it new blocks are polled. `expected_chain_id` of None takes the chain that is
        there. `charters_name_chain` is which form of a charter's preimage the chain hashes; no query tells it.
        """
        check_seconds(call_timeout=call_timeout, poll=poll_seconds, silence=silence_seconds)
        transport: Transport = (
            GrpcTransport(node, tls=tls, timeout=call_timeout, root_certificates=root_certificates)
            if isinstance(node, str)
            else node
        )
        # Limit in seconds of a reading, however many queries it takes.
        limit = QUERIES_LONG * call_timeout
        self._node = Node(transport, expected_chain_id)
        self._objects = ObjectReader(self._node)
        self._signers = SignerCheck(self._node, self._objects, limit)
        self._works = WorkReader(self._node, self._objects, self._signers.note_owner, limit)
        self._charters = CharterReader(self._node, self._objects, name_chain=charters_name_chain, limit=limit)
        self._outstanding = OutstandingWork(self._node, self._objects, self._works)
        self._transactions = Transactions(self._node)
        self._feed = BlockFeed(
            [rpc_url] if rpc_url else [],
            self.latest_block,
            self._upgraded,
            call_timeout=call_timeout,
            poll_seconds=poll_seconds,
            silence_seconds=silence_seconds,
        )
        self._watch = VersionWatch()

    # Connecting

    @property
    def shown(self) -> str:
        """How errors and the status name the node."""
        return self._node.shown

    @property
    def version(self) -> str:
        """The node's version as it told last; empty before that."""
        return self._node.facts.version

    @property
    def catching_up(self) -> bool:
        """True if the node told last that it replays blocks of the past: nothing but its height is told from it."""
        return self._node.catching_up

    @property
    def chain_id(self) -> str:
        """As the node told when connecting. Raises ChainUnavailable before that."""
        return self._node.chain_id

    async def connect(self) -> None:
        """Reach the node and check its chain id, and that of CometBFT's RPC. Raises ChainUnavailable, BadChainAnswer.

        An RPC that does not answer is no error: blocks are polled until it does.
        """
        self._node.open()
        network = (await self._node.info()).default_node_info.network
        await self._node.note_progress()
        await self._feed.connect(network)
        self._node.settle(network)

    def expect(self, chain_id: str) -> None:
        """Take no other chain from now on; whatever the node said before is forgotten, so connect again."""
        self._node.expect(chain_id)

    async def close(self) -> None:
        """Close every connection; `blocks` ends."""
        self._node.stop()
        await self._feed.close()
        await self._node.close()

    # Blocks

    async def latest_block(self) -> Block:
        """The last committed block."""
        return await self._node.latest_block()

    async def committed_height(self) -> int:
        """Height of the last committed block, by the cheapest query; it does not tell of which chain."""
        return await self._node.committed_height()

    async def note_progress(self) -> None:
        """Ask whether the node is catching up, as one restored from a snapshot does for hours: see `catching_up`.

        A node that does not serve the question is taken for one that is not.
        """
        await self._node.note_progress()

    async def blocks(self) -> AsyncGenerator[Block, None]:
        """Every new committed block, heights rising; ends when the client is closed and raises nothing."""
        async with contextlib.aclosing(self._feed.blocks()) as blocks:
            async for block in blocks:
                self.block_passed(block)
                yield block

    def block_passed(self, block: Block) -> None:
        """This block was passed on to whoever reads because of it: nothing older is told from now on."""
        self._node.block_passed(block.height)
        self._signers.block_seen(block.touched)

    async def look(self, height: int) -> Told:
        """Version and rules as the node tells them now that somebody saw this height.

        Raises ChainUnavailable, BadChainAnswer.
        """
        return await self._node.facts.look(height)

    async def _upgraded(self, height: int) -> bool:
        return await self._watch.upgraded({self.shown: self.look(height)})

    # Work

    async def read_work(self, action: Action, object_id: str) -> WorkReading:
        """The puzzle of this object as committed; see `object_state` for what can stand in its way.

        Raises InvalidInput for an id that cannot be one, WorkGone, WorkPaused, BadChainAnswer, ChainUnavailable.
        """
        return await self._works.read(action, object_id)

    async def read_charter(self, founder_id: str, solver_id: str, reactor_id: str = "") -> WorkReading:
        """The puzzle of founding a guild; what of it is the founder's and the solver's is told by their ids alone.

        Raises InvalidInput for an id that cannot be one, WorkGone if the chain founds no guilds by proof, has no such
        founder or reactor, or the founder owns a guild, WorkPaused, BadChainAnswer, ChainUnavailable.
        """
        return await self._charters.read(founder_id, solver_id, reactor_id)

    async def outstanding_work(self, player_id: str) -> list[tuple[Action, str]]:
        """What `read_work` would find open now for this player, all of it from one height.

        Raises InvalidInput for an id that cannot be one, WorkGone if there is no such player, BadChainAnswer,
        ChainUnavailable.
        """
        return await self._outstanding.of(player_id)

    # Who may sign, and with which account

    async def check_signer(self, address: str, action: Action, object_id: str) -> SigningRight:
        """The right of an address to complete this work.

        Raises KeyProblem if the address is not registered or lacks the permission bit of this action, WorkGone if the
        object does not exist. A right that stems from a guild-rank rule only is not seen. What was found for another
        object of the same owner holds until a block touches it (`rights`).
        """
        return await self._signers.right(address, action, object_id)

    async def account(self, address: str) -> Account:
        """Account number and committed sequence. Raises KeyProblem if the account does not exist."""
        return await self._transactions.account(address)

    # Transactions

    async def broadcast(self, tx_bytes: bytes) -> TxAnswer:
        """Offer a transaction to the node's mempool. After ChainUnavailable it may still have got there: find it."""
        return await self._transactions.broadcast(tx_bytes)

    async def find_transaction(self, tx_hash: str) -> TxAnswer | None:
        """The included transaction of this hash (64 uppercase hex digits), or None if no block holds it.

        Raises ChainUnavailable if the node has not reached the newest block that was passed on.
        """
        return await self._transactions.find(tx_hash)


def check_seconds(**seconds: float) -> None:
    """Raise InvalidInput for a time limit or pause of a chain client that makes no sense."""
    for name, value in seconds.items():
        if not 0 < value <= 600:
            raise InvalidInput(f"the chain client's {name} is {value}; it should be above 0 and at most 600 seconds")
