"""An HTTP server around an ASGI app: uvicorn's protocols without its main loop, so that it starts and stops at once.

Unlike behind a whole uvicorn, a connection can be cut without an answer.
"""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from hashfleet.errors import HashfleetError

#: How long handlers may go on after a stop, in seconds.
_LAST_WORDS = 1.0
_TRANSPORT = "devnet.server"


def listen(host: str, port: int, what: str) -> socket.socket:
    """A listening socket on host:port (0 picks a free one) for `what`. Raises HashfleetError if it is taken."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # asyncio only sends small answers at once (TCP_NODELAY) if the protocol is named; else each waits 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise HashfleetError(f"cannot resolve {host}: {error.strerror or error}") from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise HashfleetError(f"cannot listen for {what} on {host}:{port}: {error.strerror or error}") from error
    return listener


class WebServer:
    """Serves one app on one listening socket, from a running loop."""

    def __init__(self, app: ASGIApp, listener: socket.socket, *, max_body_bytes: int) -> None:
        self._app = app
        self._listener = listener
        self._state = ServerState()
        self._config = uvicorn.Config(
            self._serve,
            http="h11",
            log_config=None,
            access_log=False,
            lifespan="off",
            interface="asgi3",
            ws_max_size=max_body_bytes,
            ws_per_message_deflate=False,
        )
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    async def start(self) -> None:
        self._config.load()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: H11Protocol(config=self._config, server_state=self._state, app_state={}), sock=self._listener
        )

    async def stop(self) -> None:
        """Take no more connections and end those that are open; what is being answered gets a moment."""
        if self._server is None:
            self._listener.close()
            return
        self._server.close()
        self._server = None
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            _, late = await asyncio.wait(self._state.tasks, timeout=_LAST_WORDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self.cut_all()

    def cut_all(self) -> None:
        """Cut every open connection, as a network does that fails."""
        for connection in list(self._state.connections):
            connection.transport.abort()

    def cut(self, client: tuple[str, int]) -> None:
        """Cut the connection of this peer."""
        for connection in list(self._state.connections):
            if getattr(connection, "client", None) == client:
                connection.transport.abort()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_TRANSPORT] = self
        await self._app(scope, receive, send)


def cut(connection: HTTPConnection) -> Response:
    """Cut a connection without an answer. What is returned is written to nobody."""
    connection.scope[_TRANSPORT].cut(tuple(connection.scope["client"]))
    return Response()
