"""What a node rarely says anything new about: its version, and the ranges of struct types.

A chain is upgraded at a height, by another program that goes on from there. So rules are good for a reading if the
node was asked for its version when it already had the height of the reading: whoever comes with an answer of a newer
height asks again, which is one query a block, and an upgrade is noticed at its first block.

An upgrade moves clocks without an event, so it is asked for with each block, whether anything is read or not
(`VersionWatch`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from coordinator.chain import object_state, queries
from coordinator.chain.transport import HeightWitness, NotServed, Transport
from coordinator.chain.versions import RULES_BEFORE_CHARTER, RULES_WITH_CHARTER, UPGRADES, ChainRules, rules_of
from hashfleet.errors import BadChainAnswer, ChainError
from hashfleet.rpc.cosmos.base.tendermint.v1beta1 import query_pb2 as node_pb2
from hashfleet.rpc.cosmos.upgrade.v1beta1 import query_pb2 as upgrade_pb2
from hashfleet.rpc.structs.structs import query_pb2

logger = logging.getLogger(__name__)

#: Seconds after which everything is asked again, for nodes that do not tell heights.
FACTS_SECONDS: Final = 30.0
#: Limit of asking a node for its version when a block was seen, in seconds: the block waits meanwhile.
_LOOK_SECONDS: Final = 2.0

#: A version, and the rules that it plays by.
Told = tuple[str, ChainRules]


#: Asks for version and chain; the witness sees the height of the answer.
NodeInfo = Callable[[HeightWitness], Awaitable[node_pb2.GetNodeInfoResponse]]


class NodeFacts:
    """Version, rules and struct types of one node, each asked for when it may have changed."""

    def __init__(self, transport: Transport, node_info: NodeInfo) -> None:
        self._transport = transport
        self._node_info = node_info
        #: Time until which it holds, the height it holds for, version and rules.
        self._rules: tuple[float, int, str, ChainRules] | None = None
        #: Struct type -> time until which they hold, and its ranges.
        self._types: dict[int, tuple[float, object_state.TypeRanges]] = {}
        self._asking = asyncio.Lock()
        #: The last version that was told, kept over `forget` so that an upgrade is told once.
        self._told = ""

    @property
    def version(self) -> str:
        """As the node told last; empty before that."""
        return self._told

    def forget(self) -> None:
        """Whatever was known may be wrong: the node was away, and may have come back as another version."""
        self._rules = None
        self._types.clear()

    async def rules(self, height: int) -> Told:
        """Version and rules for a reading of this height, at which the node is known to be (0: not known).

        Raises ChainUnavailable, BadChainAnswer.
        """
        async with self._asking:
            if (known := self._known(height)) is not None:
                return known
            told = await self._ask_rules(HeightWitness())
            self._rules = self._now() + FACTS_SECONDS, height, *told
            return told

    async def look(self, height: int) -> Told:
        """Version and rules as the node tells them now that somebody saw this height; it may not be there yet.

        Raises ChainUnavailable, BadChainAnswer.
        """
        async with self._asking:
            if (known := self._known(height)) is not None:
                return known
            witness = HeightWitness()
            told = await self._ask_rules(witness)
            if witness.highest >= height:  # else another program may be what goes on to that height
                self._rules = self._now() + FACTS_SECONDS, witness.highest, *told
            return told

    def _known(self, height: int) -> Told | None:
        """What is known to hold for this height."""
        if self._rules is None or self._now() >= self._rules[0] or height > self._rules[1]:
            return None
        return self._rules[2:]

    async def type_ranges(self, number: int) -> object_state.TypeRanges:
        """The ranges of a struct type. Raises ChainUnavailable, BadChainAnswer."""
        until, ranges = self._types.get(number, (0.0, None))
        if ranges is None or self._now() >= until:
            answer = await self._transport.find(
                queries.STRUCT_TYPE, query_pb2.QueryGetStructTypeRequest(id=number), f"struct type {number}"
            )
            if answer is None:
                raise BadChainAnswer(f"the node {self._transport.shown} does not find struct type {number}")
            ranges = object_state.type_ranges(answer, number)
            self._types[number] = self._now() + FACTS_SECONDS, ranges
        return ranges

    async def _ask_rules(self, witness: HeightWitness) -> Told:
        info = await self._node_info(witness)
        if not info.HasField("application_version"):
            raise BadChainAnswer(f"the node {self._transport.shown} does not tell its version")
        version = info.application_version.version
        rules = rules_of(version) or await self._rules_of_history() or await self._rules_of_charter()
        if version != self._told:
            if self._told:
                logger.info("The node %s went from version %.40r to %.40r.", self._transport.shown, self._told, version)
                self._types.clear()
            if rules_of(version) is None:
                logger.warning("The node's version %.40r is not readable; it is treated by what it serves.", version)
            self._told = version
        return version, rules

    async def _rules_of_history(self) -> ChainRules | None:
        """The rules of the newest upgrade that the chain has applied; None if it tells of none."""
        for name, rules in UPGRADES:
            try:
                applied = await self._transport.find(
                    queries.APPLIED_PLAN, upgrade_pb2.QueryAppliedPlanRequest(name=name), f"the upgrade {name}"
                )
            except BadChainAnswer:  # not served, or refused: then it is told by what else is served
                return None
            if applied is not None and applied.height > 0:
                return rules
        return None

    async def _rules_of_charter(self) -> ChainRules:
        try:
            await self._transport.find(queries.GUILD_CHARTER, query_pb2.QueryGuildCharter(), "the guild charter")
        except NotServed:
            return RULES_BEFORE_CHARTER
        return RULES_WITH_CHARTER

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


class VersionWatch:
    """Notices that the chain was upgraded, from what its nodes tell of themselves at each block."""

    def __init__(self) -> None:
        #: By node, as it told last.
        self._told: dict[str, Told] = {}

    async def upgraded(self, nodes: Mapping[str, Awaitable[Told]]) -> bool:
        """Whether one of these nodes is another version than it told before, or a new one tells what no other did.

        What a node does not tell now is asked for at the next block; nothing is raised for it.
        """
        told = dict(zip(nodes, await asyncio.gather(*(_told_soon(*each) for each in nodes.items())), strict=True))
        others = set(self._told.values())
        news = {node: now for node, now in told.items() if now is not None}
        upgraded = any(
            now != self._told[node] if node in self._told else now not in others for node, now in news.items()
        )
        self._told |= news
        return upgraded


async def _told_soon(node: str, asked: Awaitable[Told]) -> Told | None:
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            return await asked
    except (ChainError, TimeoutError) as error:
        logger.debug("%s does not tell its version: %s", node, error)
        return None
