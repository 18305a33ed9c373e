"""The puzzle of founding a guild, read from one node, with what forbids this founder to found one."""

from __future__ import annotations

import contextlib
from typing import Final

from coordinator.chain import object_state, queries
from coordinator.chain.block_events import CHARTER
from coordinator.chain.client import WorkReading
from coordinator.chain.node import Node
from coordinator.chain.object_reading import ObjectReader
from coordinator.chain.reading import Reading, at_one_height
from coordinator.chain.transport import NotServed
from hashfleet.action import PLAYER_TYPE, REACTOR_TYPE, CharterTerms, check_object_id
from hashfleet.errors import BadChainAnswer, ChainUnavailable, InvalidInput, WorkGone
from hashfleet.rpc.structs.structs import query_pb2

#: Any guild that is founded by a proof resets it, for everybody.
_CHARTER_CLOCK: Final = "CHARTER"


class CharterReader:
    """Reads for one client."""

    def __init__(self, node: Node, objects: ObjectReader, *, name_chain: bool, limit: float) -> None:
        """`name_chain` is which form of the preimage the chain hashes; `limit` is that of a reading, in seconds."""
        self._node = node
        self._objects = objects
        self._name_chain = name_chain
        self._limit = limit

    async def read(self, founder_id: str, solver_id: str, reactor_id: str) -> WorkReading:
        """See `ChainClient.read_charter`."""
        check_object_id(founder_id, PLAYER_TYPE, "entity_id")
        check_object_id(solver_id, PLAYER_TYPE, "the solver")
        if reactor_id:
            check_object_id(reactor_id, REACTOR_TYPE, "reactor_id")
        try:
            async with self._node.within(self._limit, f"the charter of {founder_id}"):
                return await at_one_height(
                    self._node,
                    lambda reading: self._read(founder_id, solver_id, reactor_id, reading),
                    f"the charter of {founder_id}",
                )
        except ChainUnavailable as error:
            self._node.forget_facts(error)
            raise

    async def _read(self, founder_id: str, solver_id: str, reactor_id: str, reading: Reading) -> WorkReading:
        reading.depends_on.add(CHARTER)
        founder = await self._objects.find_player(founder_id, reading)
        if founder is None:
            await self._node.raise_gone(f"player {founder_id}")
        version, rules = await self._node.rules_for(reading)
        if not rules.charter:
            raise WorkGone(
                f"the chain {self._node.chain_id} runs version {version[:40]!a}, "
                "which founds no guild by proof of work; that takes v0.21 or newer"
            )
        # What would only be told by a transaction that is paid for; a node that does not tell it leaves it to that.
        with contextlib.suppress(NotServed):
            await self._check_founder(founder, reading)
        with contextlib.suppress(NotServed):
            await self._check_reactor(reactor_id, reading)
        answer = await self._node.ask(
            queries.GUILD_CHARTER, query_pb2.QueryGuildCharter(), "the guild charter", reading
        )
        try:
            terms = CharterTerms(self._node.chain_id if self._name_chain else None, solver_id)
        except InvalidInput as error:
            raise BadChainAnswer(f"no charter can name this chain: {error}") from error
        return WorkReading(
            object_state.charter_work(answer, founder_id, terms), frozenset(reading.depends_on), _CHARTER_CLOCK
        )

    async def _check_founder(self, founder: object_state.PlayerState, reading: Reading) -> None:
        """Raise WorkGone if the guild that the founder belongs to is the founder's own: nobody founds a second one."""
        guild_id = founder.guild_id
        if not guild_id:
            return
        asked = query_pb2.QueryGetGuildRequest(id=guild_id)
        answer = await self._node.ask(queries.GUILD, asked, f"guild {guild_id[:40]}", reading)
        if object_state.guild_owner(answer, guild_id) == founder.id:
            raise WorkGone(f"player {founder.id} owns guild {guild_id} already; who owns a guild founds no other")

    async def _check_reactor(self, reactor_id: str, reading: Reading) -> None:
        """Raise WorkGone if there is no such reactor; whether its validator is jailed is not told."""
        if not reactor_id:
            return
        asked = query_pb2.QueryGetReactorRequest(id=reactor_id)
        if await self._node.find(queries.REACTOR, asked, f"reactor {reactor_id}", reading) is None:
            await self._node.raise_gone(f"reactor {reactor_id}")
