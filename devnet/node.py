"""The devnet as one object: a chain, its two servers, its clock and its file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import grpc

from devnet import grpc_server, rpc_server, scenario, state_file
from devnet.ante import ADDRESS_CAP
from devnet.block import Block, IncludedTx
from devnet.chain import Chain
from devnet.rpc_server import RpcServer
from devnet.staging import Condition, Stage
from devnet.state import DEFAULT_VERSION, PERMISSION_ALL, VERSIONS
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
        address_cap: int = ADDRESS_CAP,
        version: str | None = None,
    ) -> None:
        """Make the chain, from the state file if there is one. Raises InvalidInput.

        `version` is a key of VERSIONS: the release that a new chain behaves like.
        """
        if version is not None and version not in VERSIONS:
            raise InvalidInput(f"the devnet's version is {version!r}; it should be {' or '.join(VERSIONS)}")
        if interval is not None and not MIN_INTERVAL <= interval <= MAX_INTERVAL:
            raise InvalidInput(f"the block interval is {interval} s; it should be {MIN_INTERVAL} to {MAX_INTERVAL} s")
        found = state_file.read(state_path) if state_path else None
        if found is None:
            state, height = scenario.genesis(scenario.load(scenario_name), start_height, version or DEFAULT_VERSION)
            self.chain = Chain(chain_id or DEFAULT_CHAIN_ID, state, height, address_cap=address_cap)
        else:
            if chain_id not in (None, found.chain_id):
                raise InvalidInput(f"{str(state_path)!r} holds chain {found.chain_id}, not {chain_id}; name that one")
            if version not in (None, found.state.version):
                raise InvalidInput(f"{str(state_path)!r} holds a chain of {found.state.version}, not of {version}")
            height = found.blocks[-1].height
            self.chain = Chain(found.chain_id, found.state, height, blocks=found.blocks, address_cap=address_cap)
        self._interval = interval
        self._state_path = state_path
        self._host = host
        self._ports = (grpc_port, rpc_port)
        self._grpc: grpc.aio.Server | None = None
        self._rpc: RpcServer | None = None
        self._clock: asyncio.Task[None] | None = None
        self._bound = (0, 0)

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
        return f"{self._host}:{self._bound[0]}"

    @property
    def rpc_url(self) -> str:
        """URL of CometBFT's RPC; the WebSocket is below it at /websocket."""
        return f"http://{self._host}:{self._bound[1]}"

    # its life

    async def start(self) -> None:
        """Open both servers and start the clock. Raises HashfleetError if a port is taken or the file unwritable."""
        if self._state_path:
            self._save()
        version = VERSIONS[self.chain.state.version]
        server = grpc_server.make_server(self.chain, version)
        try:
            grpc_port = grpc_server.bind(server, self._host, self._ports[0])
            listener = rpc_server.listen(self._host, self._ports[1])
        except HashfleetError:
            await server.stop(None)
            raise
        self._rpc = RpcServer(self.chain, version, listener)
        self._grpc = server
        self._bound = (grpc_port, listener.getsockname()[1])
        try:
            await server.start()
            await self._rpc.start()
        except BaseException:
            await self.stop()
            raise
        if self._interval is not None:
            self._clock = asyncio.create_task(self._tick(self._interval))

    async def stop(self) -> None:
        """Stop making blocks and close both servers. May be called twice."""
        if self._clock is not None:
            self._clock.cancel()
            await asyncio.gather(self._clock, return_exceptions=True)
            self._clock = None
        if self._rpc is not None:
            await self._rpc.stop()
            self._rpc = None
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
