"""The objects of a reading, each by its own query: structs, fleets, planets and players."""

from __future__ import annotations

import asyncio
from typing import Final

from coordinator.chain import object_state, queries
from coordinator.chain.node import Node
from coordinator.chain.reading import Reading
from coordinator.chain.transport import HeightWitness
from hashfleet.rpc.structs.structs import query_pb2

#: Structs asked for at once.
_STRUCTS_AT_ONCE: Final = 16


class ObjectReader:
    """Reads objects from one node. Planets and players are asked for once in a reading."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def struct(self, struct_id: str, witness: HeightWitness) -> object_state.StructState | None:
        """None if it does not exist."""
        answer = await self._node.find(
            queries.STRUCT,
            query_pb2.QueryGetStructRequest(id=struct_id),
            f"struct {struct_id}",
            witness,
        )
        return None if answer is None else object_state.struct_state(answer, struct_id)

    async def structs(self, struct_ids: list[str], witness: HeightWitness) -> list[object_state.StructState]:
        """Those of these structs that exist, in this order; a few queries at once, so that others get through."""
        found: list[object_state.StructState] = []
        for first in range(0, len(struct_ids), _STRUCTS_AT_ONCE):
            some = struct_ids[first : first + _STRUCTS_AT_ONCE]
            structs = await asyncio.gather(*(self.struct(struct_id, witness) for struct_id in some))
            found += (struct for struct in structs if struct is not None)
        return found

    async def fleet(self, fleet_id: str, witness: HeightWitness) -> object_state.FleetState:
        """Raises WorkGone if it does not exist."""
        answer = await self._node.find(
            queries.FLEET,
            query_pb2.QueryGetFleetRequest(id=fleet_id),
            f"fleet {fleet_id}",
            witness,
        )
        if answer is None:
            await self._node.raise_gone(f"fleet {fleet_id}")
        return object_state.fleet_state(answer, fleet_id)

    async def planet(self, planet_id: str, reading: Reading) -> object_state.PlanetState:
        """A planet that another object names, so it should exist."""
        if planet_id not in reading.planets:
            answer = await self._node.ask(
                queries.PLANET,
                query_pb2.QueryGetPlanetRequest(id=planet_id),
                f"planet {planet_id}",
                reading,
            )
            reading.planets[planet_id] = object_state.planet_state(answer, planet_id)
        return reading.planets[planet_id]

    async def planet_attribute(self, planet_id: str, name: str, witness: HeightWitness) -> int:
        """One number of a planet, by its stored name."""
        answer = await self._node.ask(
            queries.PLANET_ATTRIBUTE,
            query_pb2.QueryGetPlanetAttributeRequest(planetId=planet_id, attributeType=name),
            f"{name} of planet {planet_id}",
            witness,
        )
        return answer.attribute

    async def find_player(self, player_id: str, reading: Reading) -> object_state.PlayerState | None:
        """None if there is no such player."""
        if player_id not in reading.players:
            answer = await self._node.find(
                queries.PLAYER,
                query_pb2.QueryGetPlayerRequest(id=player_id),
                f"player {player_id}",
                reading,
            )
            if answer is None:
                return None
            reading.players[player_id] = object_state.player_state(answer, player_id)
        return reading.players[player_id]
