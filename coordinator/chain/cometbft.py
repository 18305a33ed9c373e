"""CometBFT's own RPC: the push feed of new blocks over ``/websocket``, ``/status`` and ``/block_results``.

Only committed heights come from here: a NewBlock event is fired after the commit. The nesting of the event's value
differs between builds, so the header is searched for (nearest to the surface first) instead of read at a fixed path:
evidence inside a block may hold headers of other, older blocks, and those lie deeper.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import httpx2
import websockets
from websockets.asyncio.client import ClientConnection, connect

from coordinator.chain.block_events import touched_in_event, touched_in_results
from coordinator.chain.client import Block
from hashfleet.action import MAX_HEIGHT
from hashfleet.errors import BadChainAnswer, ChainUnavailable, InvalidInput

logger = logging.getLogger(__name__)

_SUBSCRIPTION: Final = json.dumps(
    {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": {"query": "tm.event='NewBlock'"}}
)
#: An event brings the whole block and its events as JSON; blocks of CometBFT's default limit fit.
_MAX_EVENT_BYTES: Final = 32 * 2**20
_MAX_STATUS_BYTES: Final = 2**20
#: A header lies a few levels deep; the bounds only keep a strange answer from costing time.
_MAX_DEPTH: Final = 8
_MAX_VISITED: Final = 10_000


@dataclass(frozen=True, slots=True)
class RpcUrls:
    """The two ways into CometBFT's RPC."""

    http: str
    websocket: str
    tls: bool
    #: What errors and logs show: no path, because hosted nodes put access tokens there.
    shown: str


def parse_rpc_url(url: str) -> RpcUrls:
    """Read ``http://host:26657`` (also https, tcp, or with a path before the methods). Raises InvalidInput."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https", "tcp") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username or parts.password:
        shown = "a URL with a user name" if "@" in url else f"{url[:80]!a}"
        raise InvalidInput(f"the chain's RPC URL is {shown}; it should be like http://127.0.0.1:26657")
    tls = parts.scheme == "https"
    path = parts.path.rstrip("/")
    return RpcUrls(
        http=urlunsplit(("https" if tls else "http", parts.netloc, path, "", "")),
        websocket=urlunsplit(("wss" if tls else "ws", parts.netloc, f"{path}/websocket", "", "")),
        tls=tls,
        shown=parts.netloc,
    )


def parse_time(text: object) -> float | None:
    """Unix seconds of an RFC 3339 time with up to nine fractional digits, or None if it is not one."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None


def parse_height(text: object) -> int | None:
    """A block height as CometBFT's JSON writes it (a string of digits, or a number), or None if it is not one."""
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 10:
        text = int(text)
    if isinstance(text, int) and not isinstance(text, bool) and 1 <= text <= MAX_HEIGHT:
        return text
    return None


def block_in_event(message: object, chain_id: str) -> Block | None:
    """The block that a decoded event announces, or None if no whole header of this chain is found in it.

    Its `touched` is what this one block changed.
    """
    for header in _headers(message):
        height, time = parse_height(header.get("height")), parse_time(header.get("time"))
        if height is None or time is None:
            continue
        return Block(height, time, touched_in_event(message)) if header.get("chain_id") == chain_id else None
    return None


def _headers(message: object) -> list[dict[str, object]]:
    """Every value of a key "header" that holds a height, nearest to the surface first."""
    found: list[dict[str, object]] = []
    waiting: deque[tuple[object, int]] = deque([(message, 0)])
    visited = 0
    while waiting and visited < _MAX_VISITED:
        value, depth = waiting.popleft()
        visited += 1
        if depth > _MAX_DEPTH or not isinstance(value, dict | list):
            continue
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if key == "header" and isinstance(inner, dict) and "height" in inner:
                found.append(inner)
            else:
                waiting.append((inner, depth + 1))
    return found


async def subscribe(urls: RpcUrls, timeout: float) -> ClientConnection:
    """A connection on which NewBlock events arrive. Raises ChainUnavailable, BadChainAnswer.

    The library's own pings close a connection that died without a word.
    """
    try:
        async with asyncio.timeout(timeout):
            socket = await connect(
                urls.websocket,
                open_timeout=timeout,
                close_timeout=1,
                max_size=_MAX_EVENT_BYTES,
                compression=None,
                proxy=True if urls.tls else None,
            )
    except (OSError, TimeoutError, websockets.WebSocketException) as error:
        raise ChainUnavailable(f"the chain's RPC at {urls.shown} cannot be reached ({_told(error)})") from error
    try:
        async with asyncio.timeout(timeout):
            await socket.send(_SUBSCRIPTION)
            answer = decode(await socket.recv())
    except (OSError, TimeoutError, websockets.WebSocketException) as error:
        await close(socket)
        raise ChainUnavailable(
            f"the chain's RPC at {urls.shown} does not answer the subscription ({_told(error)})"
        ) from error
    except BaseException:
        await close(socket)
        raise
    if not isinstance(answer, dict) or "result" not in answer:
        await close(socket)
        raise BadChainAnswer(
            f"the chain's RPC at {urls.shown} refuses the subscription to new blocks: {ascii(answer)[:200]}"
        )
    return socket


async def events(socket: ClientConnection, silence: float) -> AsyncGenerator[object, None]:
    """Decoded events as they come; None after each `silence` seconds without one.

    Ends when the connection does, or when the node cancels the subscription: it tells an error, and stays connected.
    """
    while True:
        try:
            async with asyncio.timeout(silence):
                message = await socket.recv()
        except TimeoutError:
            yield None
        except (OSError, websockets.WebSocketException):
            return
        else:
            event = decode(message)
            if (error := _member(event, "error")) is not None:
                logger.warning("A node ends the subscription to new blocks: %s", ascii(error)[:200])
                return
            yield event


def decode(message: str | bytes) -> object:
    """The JSON of a frame, or an empty object if it is none: an unreadable event still says that a block came."""
    try:
        value: object = json.loads(message)
    except (ValueError, RecursionError):
        return {}
    return value


async def close(socket: ClientConnection) -> None:
    """Close a connection, whatever state it is in."""
    with contextlib.suppress(OSError, TimeoutError, websockets.WebSocketException):
        await socket.close()


async def status(client: httpx2.AsyncClient, urls: RpcUrls, timeout: float) -> tuple[str, Block]:
    """Chain id and last committed block, from ``/status``. Raises ChainUnavailable, BadChainAnswer."""
    where = f"the chain's RPC at {urls.shown}"
    code, answer = await _get(client, urls, "/status", timeout, _MAX_STATUS_BYTES)
    if code != 200:
        raise ChainUnavailable(f"{where} answers with HTTP status {code}")
    result = _member(answer, "result")
    network = _member(_member(result, "node_info"), "network")
    sync = _member(result, "sync_info")
    height, time = parse_height(_member(sync, "latest_block_height")), parse_time(_member(sync, "latest_block_time"))
    if not isinstance(network, str) or height is None or time is None:
        raise BadChainAnswer(f"{where} lacks the network, the height or the time of the latest block")
    return network, Block(height, time)


async def block_results(
    client: httpx2.AsyncClient, urls: RpcUrls, height: int, timeout: float
) -> frozenset[str] | None:
    """What the block of this height changed, from ``/block_results``; None if the answer cannot be read whole.

    Raises ChainUnavailable, and BadChainAnswer if the node answers but does not have these results (any more).
    """
    code, answer = await _get(client, urls, f"/block_results?height={height}", timeout, _MAX_EVENT_BYTES)
    result = _member(answer, "result")
    if code != 200 or result is None:
        told = ascii(_member(answer, "error"))[:200]
        raise BadChainAnswer(f"the chain's RPC at {urls.shown} has no results of block {height} ({code}, {told})")
    return touched_in_results(result, height)


async def _get(
    client: httpx2.AsyncClient, urls: RpcUrls, path: str, timeout: float, max_bytes: int
) -> tuple[int, object]:
    """HTTP status and decoded body. Raises ChainUnavailable, BadChainAnswer."""
    where = f"the chain's RPC at {urls.shown}"
    try:
        async with asyncio.timeout(timeout), client.stream("GET", f"{urls.http}{path}", timeout=timeout) as response:
            data = bytearray()
            async for part in response.aiter_bytes():
                data += part
                if len(data) > max_bytes:
                    raise BadChainAnswer(f"{where} answers with more than {max_bytes} bytes")
    except (httpx2.HTTPError, OSError, TimeoutError) as error:
        raise ChainUnavailable(f"{where} does not answer within {timeout:g} s ({_told(error)})") from error
    return response.status_code, decode(bytes(data))


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
