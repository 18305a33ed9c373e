"""One coordinator with lanes on one devnet, in one process and over real sockets.

The service, its lanes, the core, the store and the chain client are the real ones; what watches them stands in
`common_house`.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpcore2
from common_house import CALL_SECONDS, POLL_SECONDS, CommonHouse, Life, Reached, WatchedStore, shorten
from fault_catalogue import Step, Way

from coordinator.chain import block_feed, endpoint_choice, node_facts, reading, rights
from coordinator.chain.client import Account, Block, ChainClient, TxAnswer
from coordinator.chain.failover import FailoverClient
from coordinator.chain.rest_transport import RestTransport
from coordinator.chain.structsd import StructsdClient
from coordinator.service import Service
from coordinator.store.sql import SqlStore
from coordinator.submission.keys import SigningKey
from coordinator.submission.lane import Settings
from devnet.node import Devnet

#: Real seconds after which a silent subscription is checked, and between probes of an endpoint.
SILENCE_SECONDS, PROBE_SECONDS = 0.1, 0.05

shorten(
    {
        endpoint_choice: {"FIRST_PAUSE": 0.005, "LONGEST_PAUSE": 0.03, "REFUSED_PAUSE": 0.03},
        block_feed: {"_FIRST_PAUSE": 0.01, "_LONGEST_PAUSE": 0.1, "_RESULTS_PAUSE": 0.1},
        reading: {"_READ_AGAIN_SECONDS": 0.003},
        node_facts: {"FACTS_SECONDS": 0.1},
        rights: {"RIGHT_SECONDS": 0.1, "OWNER_SECONDS": 0.02},
    }
)
# Each HTTP client loads all root certificates anew, for 30 ms, though nothing here is encrypted.
httpcore2.default_ssl_context = functools.cache(httpcore2.default_ssl_context)


class WatchedChain:
    """The real chain client; every call is counted."""

    def __init__(self, client: ChainClient, life: Life) -> None:
        self._client, self._life = client, life

    @property
    def chain_id(self) -> str:
        return self._client.chain_id

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return lambda *arguments: self._life.call(lambda: found(*arguments))

    async def account(self, address: str) -> Account:
        await self._life.reached(Step.BEFORE_ACCOUNT)
        answer: Account = await self._life.call(lambda: self._client.account(address))
        return answer

    async def broadcast(self, tx_bytes: bytes) -> TxAnswer:
        await self._life.reached(Step.BEFORE_BROADCAST)
        await self._life.reached(None)
        answer: TxAnswer = await self._life.call(lambda: self._client.broadcast(tx_bytes))
        await self._life.reached(Step.AFTER_BROADCAST)
        await self._life.reached(None)
        return answer

    async def blocks(self) -> AsyncIterator[Block]:
        async for block in self._client.blocks():
            await self._life.sight(block)
            yield block


class House(CommonHouse):
    """The devnet, and the coordinator that lives now."""

    PATIENCE_SECONDS = 0.06

    def __init__(
        self,
        devnet: Devnet,
        store: SqlStore,
        keys: tuple[SigningKey, ...],
        way: Way,
        by_rest: tuple[bool, bool],
        settings: Settings,
        clock: Callable[[], float],
        reached: Reached,
        salt: Callable[[], int],
    ) -> None:
        """`by_rest` says of each of two nodes whether it is reached over REST."""
        super().__init__(store, clock, reached, salt)
        self._devnet, self._keys, self._way, self._by_rest, self._settings = devnet, keys, way, by_rest, settings

    def build(self, life: Life) -> tuple[ChainClient, Service]:
        client = self._make_client()
        writes = {"save_jobs": None, "add_attempts": Step.BEFORE_SIGNING, "update_attempts": None}
        service = Service(
            WatchedChain(client, life),
            WatchedStore(self.store, life, writes),  # type: ignore[arg-type]
            self._keys,
            lanes=self._settings,
            clock=self._clock,
        )
        return client, service

    def _make_client(self) -> ChainClient:
        node = self._devnet
        chain_id = node.chain_id
        limits = {"call_timeout": CALL_SECONDS, "poll_seconds": POLL_SECONDS, "silence_seconds": SILENCE_SECONDS}
        assert node.rest_url is not None
        match self._way:
            case Way.GRPC:
                return StructsdClient(node.grpc_address, node.rpc_url, chain_id, **limits)
            case Way.REST:
                transport = RestTransport(node.rest_url, timeout=CALL_SECONDS)
                return StructsdClient(transport, node.rpc_url, chain_id, **limits)
            case Way.FAILOVER:
                return FailoverClient.of(
                    [node.grpc_address],
                    [node.rest_url],
                    [node.rpc_url],
                    chain_id,
                    probe_seconds=PROBE_SECONDS,
                    **limits,
                )
            case Way.TWO_NODES:
                nodes = list(zip(node.nodes, self._by_rest, strict=True))
                return FailoverClient.of(
                    [each.grpc_address for each, by_rest in nodes if not by_rest],
                    [each.rest_url for each, by_rest in nodes if by_rest and each.rest_url],
                    [each.rpc_url for each in node.nodes],
                    chain_id,
                    probe_seconds=PROBE_SECONDS,
                    **limits,
                )
