"""New blocks as they are committed: pushed by CometBFT's WebSocket where one can be had, polled in between.

Several RPCs may be given; the subscription moves on to the next one when it is lost or refused. Whatever source tells
a block, heights only rise. Events are not replayed, so a subscription starts with a poll, and what missed blocks
changed is asked for by `/block_results`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import httpx2
from websockets.asyncio.client import ClientConnection

from coordinator.chain import cometbft
from coordinator.chain.client import Block
from hashfleet.errors import BadChainAnswer, ChainError, ChainUnavailable

logger = logging.getLogger(__name__)

#: Missed blocks whose results are asked for at most; after a longer gap any object may have changed, and an RPC that
#: tells of one is believed only if a node confirms it.
_MAX_MISSED: Final = 50
#: Limit of asking for the results of the blocks missed, all of them together, in seconds: the block waits meanwhile.
_RESULTS_SECONDS: Final = 2.0
_RESULTS_AT_ONCE: Final = 5
#: How long an RPC that gave no results in time is not asked for any, in seconds, and one that serves another chain.
_RESULTS_PAUSE: Final = 10.0
_OTHER_CHAIN_PAUSE: Final = 60.0
#: An RPC that announced an older block gets this long to announce what a poll told, in seconds.
_CATCH_UP_SECONDS: Final = 1.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A block, and whether a node that is read from told it: an RPC alone may be mistaken by any number of blocks."""

    block: Block
    by_node: bool


class BlockFeed:
    """The blocks of one chain, from any number of RPCs and a poll. `connect` it before following it."""

    def __init__(
        self,
        rpc_urls: Sequence[str],
        poll: Callable[[], Awaitable[Block]],
        upgraded: Callable[[int], Awaitable[bool]],
        *,
        call_timeout: float,
        poll_seconds: float,
        silence_seconds: float,
    ) -> None:
        """Nothing is connected yet. Raises InvalidInput for a URL that cannot be one.

        `poll` asks for the latest block without an RPC and raises ChainError. A subscription is checked against
        it every `silence_seconds`, silent or not. `upgraded` says whether the chain is known, now that a block of this
        height was seen, to be another version than at the one before: that moves clocks, and no event tells it.
        """
        #: Those that are not known to serve another chain.
        self._rpcs = [cometbft.parse_rpc_url(url) for url in dict.fromkeys(rpc_urls)]
        self._ask = poll
        self._upgraded = upgraded
        self._timeout = call_timeout
        self._poll_seconds = poll_seconds
        self._silence_seconds = silence_seconds
        self._chain_id: str | None = None
        #: Height of the newest block that was passed on.
        self._newest = 0
        self._http: dict[cometbft.RpcUrls, httpx2.AsyncClient] = {}
        self._closed = asyncio.Event()
        #: Subscriptions that are open, to be closed with the feed.
        self._sockets: set[ClientConnection] = set()
        #: Time until which an RPC is not asked for results of blocks.
        self._results_not_before: dict[cometbft.RpcUrls, float] = {}
        #: True while polling fails, so that an outage is logged once.
        self._outage = False

    async def connect(self, chain_id: str) -> None:
        """Look at the chain that each RPC serves. Raises BadChainAnswer if none is left that may serve ours.

        An RPC that does not answer is no error: blocks are polled until it does, and events of another chain are
        never passed on.
        """
        self._chain_id = chain_id
        for rpc in self._rpcs:
            if rpc not in self._http:
                self._http[rpc] = httpx2.AsyncClient(trust_env=rpc.tls)
        asked = (cometbft.status(self._http[rpc], rpc, self._timeout) for rpc in self._rpcs)
        for rpc, answer in zip(list(self._rpcs), await asyncio.gather(*asked, return_exceptions=True), strict=True):
            if isinstance(answer, ChainError):
                logger.warning("Blocks are polled until the RPC answers: %s", answer)
            elif isinstance(answer, BaseException):
                raise answer
            elif answer[0] != chain_id:
                refusal = self._other_chain(rpc, answer[0])
                if len(self._rpcs) == 1:
                    raise BadChainAnswer(refusal)
                self._rpcs.remove(rpc)
                logger.error("An RPC is not used: %s.", refusal)

    async def close(self) -> None:
        """Close every connection; `blocks` ends."""
        self._closed.set()
        for socket in list(self._sockets):
            await cometbft.close(socket)
        for http in self._http.values():
            await http.aclose()

    async def blocks(self) -> AsyncGenerator[Block, None]:
        """Every new committed block, heights rising; ends when the feed is closed and raises nothing."""
        self._newest = 0
        async with contextlib.aclosing(self._sightings()) as sightings:
            async for sighting in sightings:
                block = await self._believed(sighting)
                if block is not None and block.height > self._newest:
                    touched, upgraded = await asyncio.gather(
                        self._touched_since(self._newest, block), self._upgraded(block.height)
                    )
                    self._newest = block.height
                    yield replace(block, touched=None if upgraded else touched)

    async def _believed(self, sighting: _Sighting) -> Block | None:
        """The block, or the nodes' newest one if an RPC tells a long jump; None if no node answers.

        Nothing is read from before a block that was passed on, so one that never was would end all reading.
        """
        told = sighting.block
        if sighting.by_node or told.height - self._newest - 1 <= _MAX_MISSED:
            return told
        try:
            block = await self._ask()
        except ChainError as error:
            logger.debug("Block %d is not confirmed by any node: %s", told.height, error)
            return None
        if told.height - block.height > _MAX_MISSED:
            logger.warning("An RPC tells block %d, but the nodes are at block %d.", told.height, block.height)
        return block

    async def _touched_since(self, before: int, block: Block) -> frozenset[str] | None:
        """What changed after height `before` until this block; None if that cannot be found out quickly.

        A sighted block brings what itself changed, if anything did tell it. The results of the others are asked for.
        """
        # Counted before they are listed: a first block, or one that was missed for months, is millions of blocks on.
        if before == 0 or block.height - before - (block.touched is not None) > _MAX_MISSED:
            return None
        unknown = [*range(before + 1, block.height), *([block.height] if block.touched is None else [])]
        touched = block.touched or frozenset()
        if not unknown:
            return touched
        for rpc in self._rpcs:
            if self._closed.is_set() or rpc not in self._http or self._now() < self._results_not_before.get(rpc, 0.0):
                continue
            told = await self._results(rpc, unknown)
            if told is not None:
                return touched | told
        return None

    async def _results(self, rpc: cometbft.RpcUrls, heights: list[int]) -> frozenset[str] | None:
        """What these blocks changed, if this RPC tells it whole and quickly.

        Results do not say of which chain they are, and an RPC may come back as another's: it is asked each time.
        """
        limit = min(self._timeout, _RESULTS_SECONDS)
        touched: frozenset[str] = frozenset()
        try:
            async with asyncio.timeout(limit):
                network, _ = await cometbft.status(self._http[rpc], rpc, limit)
                if network != self._chain_id:
                    self._results_not_before[rpc] = self._now() + _OTHER_CHAIN_PAUSE
                    logger.error("The results of an RPC are not used: %s.", self._other_chain(rpc, network))
                    return None
                for first in range(0, len(heights), _RESULTS_AT_ONCE):
                    some = heights[first : first + _RESULTS_AT_ONCE]
                    asked = (cometbft.block_results(self._http[rpc], rpc, height, limit) for height in some)
                    for told in await asyncio.gather(*asked):
                        if told is None:
                            return None
                        touched |= told
        except (ChainUnavailable, TimeoutError) as error:
            # Blocks must not be held up again and again by an RPC that is slow or away.
            self._results_not_before[rpc] = self._now() + _RESULTS_PAUSE
            logger.debug("What block %d changed is not known: %s", heights[-1], error)
            return None
        except BadChainAnswer as error:
            logger.debug("What block %d changed is not known: %s", heights[-1], error)
            return None
        return touched

    async def _sightings(self) -> AsyncGenerator[_Sighting, None]:
        """Blocks as they are seen, in any order: subscribed to if possible, polled in between."""
        failures = 0
        while not self._closed.is_set():
            subscribed = None
            for _ in range(len(self._rpcs)):
                rpc = self._rpcs[0]
                try:
                    socket = await cometbft.subscribe(rpc, self._timeout)
                except ChainError as error:
                    logger.log(logging.DEBUG if failures else logging.WARNING, "New blocks are polled: %s", error)
                else:
                    subscribed = self._now()
                    async with contextlib.aclosing(self._subscribed(socket)) as pushed:
                        async for sighting in pushed:
                            yield sighting
                self._rpcs.append(self._rpcs.pop(0))  # the next one's turn
                if subscribed is not None or self._closed.is_set():
                    break
            # A server that drops each subscription at once is not asked again at once.
            if subscribed is not None and self._now() - subscribed > self._silence_seconds:
                failures = 0
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(failures, 16))
            failures += 1
            async with contextlib.aclosing(self._polled(pause * random.uniform(0.5, 1.0))) as polled:
                async for sighting in polled:
                    yield sighting

    async def _subscribed(self, socket: ClientConnection) -> AsyncGenerator[_Sighting, None]:
        """Blocks of one subscription, until it is lost or falls behind.

        Events are not replayed, so it starts with a poll.
        Silence, an old block, and now and then any event lead to a poll: a node that lags announces blocks, too.
        """
        assert self._chain_id is not None
        self._sockets.add(socket)
        try:
            if polled := await self._poll():
                yield polled
            compared = self._now()
            reached = 0  # what was announced
            awaited, since = 0, 0.0  # what a poll told and was not announced yet, and when
            async with contextlib.aclosing(cometbft.events(socket, self._silence_seconds)) as events:
                async for event in events:
                    newest = self._newest
                    if announced := cometbft.block_in_event(event, self._chain_id):
                        yield _Sighting(announced, by_node=False)
                        if announced.height > self._newest:
                            return  # it was not believed
                        reached = max(reached, announced.height)
                        if announced.height > newest and self._now() < compared + self._silence_seconds:
                            continue
                    polled, compared = await self._poll(), self._now()
                    if polled is None or self._closed.is_set():
                        continue
                    yield polled
                    height = polled.block.height
                    if event is None and height > newest:
                        logger.warning("The subscription to new blocks missed block %d; renewing it.", height)
                        return
                    if announced is None or height <= reached + 1:
                        continue
                    if not awaited or reached >= awaited:
                        awaited, since = height, compared
                    elif compared >= since + min(_CATCH_UP_SECONDS, self._silence_seconds):
                        logger.warning(
                            "An RPC announces block %d, but block %d is committed; leaving it.", reached, height
                        )
                        return
        finally:
            self._sockets.discard(socket)
            await cometbft.close(socket)

    async def _polled(self, seconds: float) -> AsyncGenerator[_Sighting, None]:
        """Polls for this long, at least once."""
        end = self._now() + seconds
        while not self._closed.is_set():
            if polled := await self._poll():
                yield polled
            left = end - self._now()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._poll_seconds, max(left, 0.01))):
                    await self._closed.wait()
            if self._now() >= end:
                return

    async def _poll(self) -> _Sighting | None:
        """The latest block from a node, or else from an RPC, or None if none answers."""
        try:
            block = await self._ask()
        except ChainError as error:
            found = await self._poll_status()
            if found is None and not self._outage and not self._closed.is_set():
                logger.warning("The chain does not answer: %s", error)
                self._outage = True
            return None if found is None else _Sighting(found, by_node=False)
        if self._outage:
            logger.info("The chain answers again, at height %d.", block.height)
            self._outage = False
        return _Sighting(block, by_node=True)

    async def _poll_status(self) -> Block | None:
        for rpc in self._rpcs:
            if self._closed.is_set() or rpc not in self._http:
                return None
            try:
                network, block = await cometbft.status(self._http[rpc], rpc, self._timeout)
            except ChainError as error:
                logger.debug("The RPC does not tell the latest block: %s", error)
                continue
            if network == self._chain_id:
                return block
            logger.debug("The RPC at %s serves chain %a.", rpc.shown, network[:80])
        return None

    def _other_chain(self, rpc: cometbft.RpcUrls, network: str) -> str:
        return (
            f"the chain's RPC at {rpc.shown} serves chain {network[:80]!a}, but the node serves {self._chain_id!a}; "
            "both should serve one chain"
        )

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
