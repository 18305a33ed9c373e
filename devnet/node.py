"""The devnet as one object: a chain, the doors of its nodes, its clock and its file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from devnet import scenario, state_file
from devnet.ante import ADDRESS_CAP
from devnet.block import Block, IncludedTx
from devnet.chain import Chain
from devnet.doors import Doors
from devnet.faults import Door, Faults
from devnet.rules import DEFAULT_VERSION, VERSIONS
from devnet.staging import Condition, Stage
from devnet.state import PERMISSION_ALL
from hashfleet.action import Action
from hashfleet.errors import HashfleetError, InvalidInput

logger = logging.getLogger(__name__)

DEFAULT_CHAIN_ID = "hashfleet-devnet-1"
MIN_INTERVAL, MAX_INTERVAL = 0.05, 3600.0


class Devnet:
    """An embedded chain. Start and stop it from a running event loop; use it from that loop only.

    With an interval (seconds) blocks come by themselves; with None only `advance` makes them. Tests set the stage
    through `edit()`, at any time: queries see it at once, and the next block carries the events.
    """

    def __init__(
        self,
        *,
        scenario_name: str = "empty",
        chain_id: str | None = None,
        interval: float | None = None,
        start_height: int | None = None,
        state_path: Path | None = None,
        host: str = "127.0.0.1",
        grpc_port: int = 0,
        rpc_port: int = 0,
        rest_port: int | None = 0,
        rest_host: str | None = None,
        address_cap: int = ADDRESS_CAP,
        min_gas_price: float = 0.0,
        version: str | None = None,
        sparse_json: bool = False,
        seed: int = 0,
    ) -> None:
        """Make the chain, from the state file if there is one. Raises InvalidInput.

        `version` is a key of VERSIONS: the release that a new chain behaves like. A `rest_port` of None serves no
        REST; `sparse_json` lets REST leave out the zero members of nested messages. `min_gas_price` (ualpha) is asked
        for in the mempool from transactions that are not free. `seed` is that of `faults`.
        """
        if version is not None and version not in VERSIONS:
            raise InvalidInput(f"the devnet's version is {version!r}; it should be {' or '.join(VERSIONS)}")
        if interval is not None and not MIN_INTERVAL <= interval <= MAX_INTERVAL:
            raise InvalidInput(f"the block interval is {interval} s; it should be {MIN_INTERVAL} to {MAX_INTERVAL} s")
        #: What goes wrong; see `devnet.faults`.
        self.faults = Faults(seed)
        found = state_file.read(state_path) if state_path else None
        if found is None:
            state, height = scenario.genesis(scenario.load(scenario_name), start_height, version or DEFAULT_VERSION)
            self.chain = Chain(
                chain_id or DEFAULT_CHAIN_ID,
                state,
                height,
                address_cap=address_cap,
                min_gas_price=min_gas_price,
                faults=self.faults,
            )
        else:
            if chain_id not in (None, found.chain_id):
                raise InvalidInput(f"{str(state_path)!r} holds chain {found.chain_id}, not {chain_id}; name that one")
            if version not in (None, found.state.version):
                raise InvalidInput(f"{str(state_path)!r} holds a chain of {found.state.version}, not of {version}")
            height = found.blocks[-1].height
            self.chain = Chain(
                found.chain_id,
                found.state,
                height,
                blocks=found.blocks,
                address_cap=address_cap,
                min_gas_price=min_gas_price,
                faults=self.faults,
            )
        self._interval = interval
        self._state_path = state_path
        self._host = host
        self._rest_host = rest_host or host
        self._sparse_json = sparse_json
        ports = (grpc_port, rpc_port, rest_port)
        self._nodes = [Doors(self.chain, self.faults, host, self._rest_host, ports, sparse_json=sparse_json)]
        self._clock: asyncio.Task[None] | None = None

    # where it is

    @property
    def chain_id(self) -> str:
        return self.chain.chain_id

    @property
    def height(self) -> int:
        """Height of the last committed block."""
        return self.chain.height

    @property
    def grpc_address(self) -> str:
        """host:port of structsd's gRPC; ports are known once started."""
        return self._nodes[0].grpc_address

    @property
    def rpc_url(self) -> str:
        """URL of CometBFT's RPC; the WebSocket is below it at /websocket."""
        return self._nodes[0].rpc_url

    @property
    def rest_url(self) -> str | None:
        """URL of structsd's REST, None if it is not served."""
        return self._nodes[0].rest_url

    @property
    def nodes(self) -> tuple[Doors, ...]:
        """The nodes of the chain; what this object tells of itself, and `faults`, is of the first."""
        return tuple(self._nodes)

    def add_node(self, seed: int = 0) -> Doors:
        """Another node of the same chain, at ports of its own and with faults of its own, of this seed.

        It opens when the devnet starts, or by its own `open`; it shares the mempool with the others.
        """
        rest_port = None if self.rest_url is None else 0
        node = Doors(
            self.chain, Faults(seed), self._host, self._rest_host, (0, 0, rest_port), sparse_json=self._sparse_json
        )
        self._nodes.append(node)
        return node

    # its life

    async def start(self) -> None:
        """Open the servers and start the clock. Raises HashfleetError if a port is taken or the file unwritable."""
        if self._state_path:
            self._save()
        try:
            for node in self._nodes:
                await node.open()
        except BaseException:
            await self.stop()
            raise
        if self._interval is not None:
            self._clock = asyncio.create_task(self._tick(self._interval))

    async def stop(self) -> None:
        """Stop making blocks and close the servers. May be called twice."""
        if self._clock is not None:
            self._clock.cancel()
            await asyncio.gather(self._clock, return_exceptions=True)
            self._clock = None
        for node in self._nodes:
            await node.close()

    async def go_down(self, node: Doors | None = None) -> None:
        """Close all doors of a node (the first if None), as one does that is stopped; others make blocks meanwhile.

        What was in the mempool and its cache is gone, if no other node of the devnet has it.
        """
        node = node or self._nodes[0]
        await node.close()
        self.chain.forget_mempool(only_of=node.faults if any(other.is_open for other in self._nodes) else None)

    async def come_back(self, node: Doors | None = None) -> None:
        """Open the doors again, at the addresses that they had. Raises HashfleetError if one is taken now."""
        await (node or self._nodes[0]).open()

    async def restart(self, node: Doors | None = None, *, blocks_meanwhile: int = 0) -> None:
        """Let a node (the first if None) go down, the others make that many blocks, and the node come back."""
        await self.go_down(node)
        await self.advance(blocks_meanwhile)
        await self.come_back(node)

    def cut(self, door: Door) -> None:
        """Cut all connections that are open at this door now, which may not be gRPC's; new ones are welcome."""
        self._nodes[0].cut(door)

    async def run(self) -> None:
        """Wait until the clock fails. Raises what it failed of; never returns while the chain runs."""
        if self._clock is None:
            raise InvalidInput("the devnet has no clock to wait for; start it with a block interval")
        await asyncio.shield(self._clock)

    async def __aenter__(self) -> Devnet:
        await self.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.stop()

    # its blocks

    async def advance(self, blocks: int = 1) -> int:
        """Make that many blocks now and return the height; every pending transaction is in the first of them."""
        for _ in range(blocks):
            self._produce()
            await asyncio.sleep(0)  # lets subscribers read each block
        return self.height

    async def upgrade(self, version: str) -> int:
        """Make the block at which the chain becomes one of this version, and return its height; no node goes down."""
        self.chain.plan_upgrade(version)
        return await self.advance()

    def use_sequence(self, address: str, count: int = 1, *, evict: bool = True) -> None:
        """As if another client had used this key; see `Chain.use_sequence`."""
        self.chain.use_sequence(address, count, evict=evict)

    def transactions(self) -> tuple[IncludedTx, ...]:
        """All included transactions, oldest first, with their results."""
        return self.chain.transactions()

    # its stage

    @contextlib.contextmanager
    def edit(self) -> Iterator[Stage]:
        """Set the stage; nothing is kept if the body raises."""
        with self.chain.edit() as changes:
            yield Stage(changes)

    def add_player(self, player_id: str, address: str, *, permissions: int = PERMISSION_ALL, ore: int = 0) -> None:
        """A player with home planet and fleet of the same index; see `Stage.add_player` for more."""
        with self.edit() as stage:
            stage.add_player(player_id, address, permissions=permissions, ore=ore)

    def add_struct(
        self,
        struct_id: str,
        struct_type: int,
        owner_id: str,
        condition: Condition = Condition.BUILDING,
        *,
        anchor: int | None = None,
    ) -> None:
        """A structure whose clock started at `anchor`, or now; see `Stage.add_struct`."""
        with self.edit() as stage:
            stage.add_struct(struct_id, struct_type, owner_id, condition, anchor=anchor)

    def set_anchor(self, action: Action, object_id: str, anchor: int) -> None:
        """Move a clock; see `Stage.set_anchor`."""
        with self.edit() as stage:
            stage.set_anchor(action, object_id, anchor)

    def _produce(self) -> Block:
        block = self.chain.produce_block()
        if self._state_path:
            self._save()
        return block

    def _save(self) -> None:
        assert self._state_path is not None
        try:
            state_file.write(self._state_path, self.chain)
        except OSError as error:
            told = f"cannot write the state file {str(self._state_path)!r}: {error.strerror or error}"
            raise HashfleetError(told) from error

    async def _tick(self, interval: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + interval
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            try:
                block = self._produce()
            except HashfleetError as error:
                logger.error("The chain makes no more blocks: %s", error)
                raise
            if block.txs:
                logger.info("Block %d holds %d transactions", block.height, len(block.txs))
            due = max(due + interval, loop.time())  # a late block is not made up for by a burst
