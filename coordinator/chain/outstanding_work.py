"""All the work that a player has open now, found on one node: that of his structs, and the raid of his fleet."""

from __future__ import annotations

import contextlib
from typing import Final

from coordinator.chain import object_state
from coordinator.chain.node import Node
from coordinator.chain.object_reading import ObjectReader
from coordinator.chain.reading import Reading, at_one_height
from coordinator.chain.work_reading import WorkReader
from hashfleet.action import PLAYER_TYPE, Action, check_object_id
from hashfleet.errors import WorkGone, WorkPaused

#: Limit of finding a player's work, in seconds.
_OUTSTANDING_SECONDS: Final = 20.0


class OutstandingWork:
    """Finds for one client."""

    def __init__(self, node: Node, objects: ObjectReader, works: WorkReader) -> None:
        self._node = node
        self._objects = objects
        self._works = works

    async def of(self, player_id: str) -> list[tuple[Action, str]]:
        """See `ChainClient.outstanding_work`."""
        check_object_id(player_id, PLAYER_TYPE, "player_id")
        async with self._node.within(_OUTSTANDING_SECONDS, f"the work of player {player_id}"):
            return await at_one_height(self._node, lambda reading: self._read(player_id, reading), player_id)

    async def _read(self, player_id: str, reading: Reading) -> list[tuple[Action, str]]:
        player = await self._objects.find_player(player_id, reading)
        if player is None:
            await self._node.raise_gone(f"player {player_id}")
        listed: list[str] = []
        fleet = None
        if player.planet_id is not None:
            listed += (await self._objects.planet(player.planet_id, reading)).structs
        if player.fleet_id is not None:
            fleet = await self._objects.fleet(player.fleet_id, reading)
            listed += fleet.structs
        open_now: list[tuple[Action, str]] = []
        for struct in await self._objects.structs(object_state.check_structs(listed, player_id), reading):
            if struct.owner != player_id:
                continue
            for action in object_state.struct_actions(struct, await self._node.facts.type_ranges(struct.type)):
                with contextlib.suppress(WorkGone, WorkPaused):  # then it is not open now
                    await self._works.posed_by_struct(action, struct, reading)
                    open_now.append((action, struct.id))
        if fleet is not None:
            with contextlib.suppress(WorkGone, WorkPaused):
                await self._works.posed_by_fleet(fleet, reading)
                open_now.append((Action.RAID, fleet.id))
        return open_now
