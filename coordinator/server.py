"""A whole coordinator: opens the store, the chain and the doors, serves until it is told to stop, closes all of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from coordinator.api.grpc_server import build_server
from coordinator.api.http import build_app
from coordinator.chain.client import ChainClient
from coordinator.chain.failover import FailoverClient
from coordinator.service import OnOutcome, Service
from coordinator.store.protocol import Store
from coordinator.store.prune import SECONDS_PER_DAY
from coordinator.store.sql import open_store
from coordinator.submission.keys import SigningKey
from coordinator.submission.lane import Settings as LaneSettings
from coordinator.submission.submitter import Submitter
from hashfleet.client import FleetClient
from hashfleet.errors import HashfleetError, InvalidInput

logger = logging.getLogger(__name__)

#: Seconds that calls under way get to end when the coordinator stops.
GRACE_SECONDS = 1.0
#: Seconds after which a thread that waits for Python's lock gets it. With the default of 5 ms a busy event loop, which
#: lets go of the lock for microseconds now and then, was seen to keep the store's thread waiting for seconds.
SWITCH_SECONDS = 0.001
#: Python's collector of cycles: allocations before its first look, looks before the second and before the one at
#: everything, which grows with the jobs and stands in the way of all else. With the default (700, 10, 10) the order to
#: stop 1,000 devices took 137 ms at the 99th percentile (`hashfleet bench core` at 971049e03e); the pauses were its
#: looks at everything, so these come rarely.
COLLECTOR_THRESHOLDS = (10_000, 10, 1_000)
#: What a client on this machine dials for a server that listens everywhere.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a coordinator needs to know."""

    #: HOST:PORT; port 0 takes a free one.
    grpc_listen: str
    http_listen: str
    database: Path
    #: Nodes of the chain, preferred ones first: HOST:PORT of their gRPC, URLs of their REST; one is enough.
    chain_grpc: tuple[str, ...]
    chain_rest: tuple[str, ...]
    #: URLs of CometBFT RPCs; without any heights are polled.
    chain_rpc: tuple[str, ...]
    #: The nodes must serve this chain; None takes what the first one serves.
    chain_id: str | None
    #: Host names beside the local ones under which /mcp may be reached.
    allowed_hosts: tuple[str, ...] = ()
    #: Days for which ended jobs are kept; 0 keeps them for ever.
    keep_days: int = 0
    #: How transactions are sent.
    lanes: LaneSettings = field(default_factory=LaneSettings)
    #: URL of a guild stack's database, which work and heights are read from; it may hold a password.
    guild_stack: str | None = field(default=None, repr=False)
    #: Its signing agent signs and sends, in place of keys of our own.
    guild_stack_signs: bool = False
    #: Whether a charter's preimage begins with the chain's id, as released.
    charters_name_chain: bool = True


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running coordinator is reached from this machine."""

    #: HOST:PORT.
    grpc: str
    #: http://HOST:PORT/mcp
    mcp: str


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the command line decides what Ctrl-C means."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def set_up_process() -> None:
    """Let Python serve a busy event loop: short turns between threads, and no long pause to look for cycles."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


async def serve(
    settings: Settings,
    keys: SigningKey | Sequence[SigningKey],
    ready: Callable[[Addresses], None],
    stop: asyncio.Event,
) -> None:
    """Serve until `stop` is set, signing with these keys; none at all only watches.

    Raises HashfleetError or StoreError if it cannot start.
    """
    set_up_process()
    async with contextlib.AsyncExitStack() as stack:
        store = await open_store(settings.database)
        stack.push_async_callback(store.close)
        chain = _chain(settings)
        stack.push_async_callback(chain.close)
        service = Service(
            chain,
            store,
            keys,
            submitter=_outbox(chain, store) if settings.guild_stack_signs else None,
            lanes=settings.lanes,
            keep_seconds=settings.keep_days * SECONDS_PER_DAY or None,
        )
        grpc_server = await build_server(service)
        grpc_address = _bind_grpc(grpc_server, settings.grpc_listen)
        http_socket = stack.enter_context(contextlib.closing(_bind_http(settings.http_listen)))
        client = await stack.enter_async_context(FleetClient(grpc_address))
        app = build_app(client, settings.allowed_hosts)
        http_server = _Server(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=int(GRACE_SECONDS))
        )
        await grpc_server.start()
        try:
            async with asyncio.TaskGroup() as group:
                work = group.create_task(service.run(), name="service")
                http = group.create_task(http_server.serve(sockets=[http_socket]), name="http")
                host, _ = _split(settings.http_listen)
                port = http_socket.getsockname()[1]
                ready(Addresses(grpc_address, f"http://{_EVERYWHERE.get(host, host)}:{port}/mcp"))
                await stop.wait()
                logger.info("Stopping; unfinished jobs go on with the next start.")
                http_server.should_exit = True
                await asyncio.gather(grpc_server.stop(GRACE_SECONDS), http)
                work.cancel()
        finally:
            await grpc_server.stop(0)


def _chain(settings: Settings) -> ChainClient:
    """The nodes, or the database of a guild stack, with the nodes behind it for what it does not hold."""
    has_node = bool(settings.chain_grpc or settings.chain_rest)
    if settings.guild_stack is None or has_node:
        nodes = FailoverClient.of(
            settings.chain_grpc,
            settings.chain_rest,
            settings.chain_rpc,
            settings.chain_id,
            charters_name_chain=settings.charters_name_chain,
        )
    if settings.guild_stack is None:
        return nodes
    # Imported here: its driver takes a while to load, and most coordinators have no guild stack.
    from coordinator.chain.guild_stack.client import GuildStackClient

    return GuildStackClient(settings.guild_stack, settings.chain_id, node=nodes if has_node else None)


def _outbox(chain: ChainClient, store: Store) -> Callable[[OnOutcome], Submitter]:
    """How the service makes the way to submit by a guild stack's signing agent."""
    from coordinator.chain.guild_stack.client import GuildStackClient
    from coordinator.submission.guild_stack import GuildStackSubmitter

    assert isinstance(chain, GuildStackClient), "a guild stack signs, but none is given"
    return lambda on_outcome: GuildStackSubmitter(chain, store, clock=time.time, on_outcome=on_outcome)


def _bind_grpc(server: object, listen: str) -> str:
    host, port = _split(listen)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")  # type: ignore[attr-defined]
    except RuntimeError as error:
        raise HashfleetError(f"cannot listen for gRPC on {listen}; is the port taken, or the host not ours?") from error
    return f"{_EVERYWHERE.get(host, host)}:{bound}"


def _bind_http(listen: str) -> socket.socket:
    host, port = _split(listen)
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    # The protocol is named because asyncio turns off Nagle (40 ms an answer) only for sockets that say TCP.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host.strip("[]"), port))
        bound.listen()  # whoever is told the address may connect at once; uvicorn accepts when it is up
    except OSError as error:
        bound.close()
        raise HashfleetError(f"cannot listen for HTTP on {listen}: {error.strerror or error}") from error
    return bound


def _split(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(f"the address {listen[:80]!a} should be HOST:PORT, such as 127.0.0.1:7337")
    return host, int(port)
