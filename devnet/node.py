"""The devnet as one object: a chain, its two servers, its clock and its file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import grpc

from devnet import grpc_server, scenario, state_file, web_server
from devnet.ante import ADDRESS_CAP
from devnet.block import Block, IncludedTx
from devnet.chain import Chain
from devnet.faults import Door, Faults
from devnet.rest_server import MAX_BODY_BYTES as MAX_REST_BYTES
from devnet.rest_server import RestApp
from devnet.rpc_server import MAX_BODY_BYTES as MAX_RPC_BYTES
from devnet.rpc_server import RpcApp
from devnet.rules import DEFAULT_VERSION, VERSIONS
from devnet.staging import Condition, Stage
from devnet.state import PERMISSION_ALL
from devnet.web_server import WebServer
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
        self._ports = (grpc_port, rpc_port, rest_port)
        self._grpc: grpc.aio.Server | None = None
        self._rpc_app = RpcApp(self.chain)
        self._rest_app = RestApp(self.chain, sparse=sparse_json)
        self._rpc: WebServer | None = None
        self._rest: WebServer | None = None
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
        return f"{self._host}:{self._ports[0]}"

    @property
    def rpc_url(self) -> str:
        """URL of CometBFT's RPC; the WebSocket is below it at /websocket."""
        return f"http://{self._host}:{self._ports[1]}"

    @property
    def rest_url(self) -> str | None:
        """URL of structsd's REST, None if it is not served."""
        return None if self._ports[2] is None else f"http://{self._rest_host}:{self._ports[2]}"

    # its life

    async def start(self) -> None:
        """Open the servers and start the clock. Raises HashfleetError if a port is taken or the file unwritable."""
        if self._state_path:
            self._save()
        try:
            await self._open()
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
        await self._close()

    async def go_down(self) -> None:
        """Close all doors, as a node does that is stopped; blocks are made by others meanwhile.

        What was in the mempool and its cache is gone.
        """
        await self._close()
        self.chain.forget_mempool()

    async def come_back(self) -> None:
        """Open the doors again, at the addresses that they had. Raises HashfleetError if one is taken now."""
        await self._open()

    async def restart(self, *, blocks_meanwhile: int = 0) -> None:
        """Go down, let the others make that many blocks, and come back."""
        await self.go_down()
        await self.advance(blocks_meanwhile)
        await self.come_back()

    def cut(self, door: Door) -> None:
        """Cut all connections that are open at this door now, which may not be gRPC's; new ones are welcome."""
        if door is Door.WEBSOCKET:
            self._rpc_app.subscriptions.cut()
        elif (server := {Door.RPC: self._rpc, Door.REST: self._rest}.get(door)) is not None:
            server.cut_all()
        else:
            raise InvalidInput(f"the door {door.value} is not open, or cannot be cut; go_down closes it")

    async def _open(self) -> None:
        grpc_port, rpc_port, rest_port = self._ports
        self._grpc = grpc_server.make_server(self.chain)
        grpc_port = grpc_server.bind(self._grpc, self._host, grpc_port)
        listener = web_server.listen(self._host, rpc_port, "RPC")
        self._rpc = WebServer(self._rpc_app.asgi(), listener, max_body_bytes=MAX_RPC_BYTES)
        if rest_port is not None:
            listener = web_server.listen(self._rest_host, rest_port, "REST")
            self._rest = WebServer(self._rest_app.asgi(), listener, max_body_bytes=MAX_REST_BYTES)
            rest_port = self._rest.port
        self._ports = (grpc_port, self._rpc.port, rest_port)
        await self._grpc.start()
        await self._rpc.start()
        if self._rest is not None:
            await self._rest.start()

    async def _close(self) -> None:
        self.faults.hang_up()
        self._rpc_app.subscriptions.close()
        for server in (self._rpc, self._rest):
            if server is not None:
                await server.stop()
        self._rpc = self._rest = None
        if self._grpc is not None:
            await self._grpc.stop(grace=0.1)
            self._grpc = None

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
