"""The doors of one node, which are its servers, with what goes wrong behind them."""

from __future__ import annotations

import grpc

from devnet import grpc_server, web_server
from devnet.chain import Chain
from devnet.faults import Door, Faults
from devnet.rest_server import MAX_BODY_BYTES as MAX_REST_BYTES
from devnet.rest_server import RestApp
from devnet.rpc_server import MAX_BODY_BYTES as MAX_RPC_BYTES
from devnet.rpc_server import RpcApp
from devnet.web_server import WebServer
from hashfleet.errors import InvalidInput


class Doors:
    """One node of a chain: structsd's gRPC and REST, and CometBFT's RPC."""

    def __init__(
        self,
        chain: Chain,
        faults: Faults,
        host: str,
        rest_host: str,
        ports: tuple[int, int, int | None],
        *,
        sparse_json: bool,
    ) -> None:
        """`ports` are those of gRPC, RPC and REST; 0 picks a free one, a REST port of None serves no REST."""
        #: What goes wrong at this node.
        self.faults = faults
        self._chain = chain
        self._host = host
        self._rest_host = rest_host
        self._ports = ports
        self._rpc_app = RpcApp(chain, faults)
        self._rest_app = RestApp(chain, faults, sparse=sparse_json)
        self._grpc: grpc.aio.Server | None = None
        self._rpc: WebServer | None = None
        self._rest: WebServer | None = None

    @property
    def grpc_address(self) -> str:
        """host:port of structsd's gRPC; ports are known once the doors were open."""
        return f"{self._host}:{self._ports[0]}"

    @property
    def rpc_url(self) -> str:
        """URL of CometBFT's RPC; the WebSocket is below it at /websocket."""
        return f"http://{self._host}:{self._ports[1]}"

    @property
    def rest_url(self) -> str | None:
        """URL of structsd's REST, None if it is not served."""
        return None if self._ports[2] is None else f"http://{self._rest_host}:{self._ports[2]}"

    @property
    def is_open(self) -> bool:
        return self._grpc is not None

    async def open(self) -> None:
        """Open all doors, at the addresses that they had if they were open. Raises HashfleetError if one is taken."""
        grpc_port, rpc_port, rest_port = self._ports
        self._grpc = grpc_server.make_server(self._chain, self.faults)
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

    async def close(self) -> None:
        """Close all doors; who waits for an answer gets none. May be called twice."""
        self.faults.hang_up()
        self._rpc_app.subscriptions.close()
        for server in (self._rpc, self._rest):
            if server is not None:
                await server.stop()
        self._rpc = self._rest = None
        if self._grpc is not None:
            await self._grpc.stop(grace=0.1)
            self._grpc = None

    def cut(self, door: Door) -> None:
        """Cut all connections that are open at this door now, which may not be gRPC's; new ones are welcome."""
        if door is Door.WEBSOCKET:
            self._rpc_app.subscriptions.cut()
        elif (server := {Door.RPC: self._rpc, Door.REST: self._rest}.get(door)) is not None:
            server.cut_all()
        else:
            raise InvalidInput(f"the door {door.value} is not open, or cannot be cut; go_down closes it")
