"""The works that structs and fleets pose (building, mining, refining and raiding), read from one node."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.chain import object_state
from coordinator.chain.block_events import permissions_on
from coordinator.chain.client import WorkReading
from coordinator.chain.node import Node
from coordinator.chain.object_reading import ObjectReader
from coordinator.chain.planet_clocks import PlanetClocks
from coordinator.chain.reading import Reading, at_one_height
from hashfleet.action import Action, Work, check_object_id
from hashfleet.errors import BadChainAnswer, ChainUnavailable, InvalidInput


class WorkReader:
    """Reads for one client."""

    def __init__(
        self,
        node: Node,
        objects: ObjectReader,
        note_owner: Callable[[Action, str, str], None],
        limit: float,
    ) -> None:
        """`note_owner` hears whose object a reading was about; `limit` is that of a reading, in seconds."""
        self._node = node
        self._objects = objects
        self._clocks = PlanetClocks(objects)
        self._note_owner = note_owner
        self._limit = limit

    async def read(self, action: Action, object_id: str) -> WorkReading:
        """See `ChainClient.read_work`."""
        check_object_id(object_id, action.object_type, "entity_id")
        if action is Action.CHARTER:
            raise InvalidInput("a charter's puzzle names its solver; read_charter reads it")
        read = self._of_fleet if action is Action.RAID else self._of_struct

        async def read_noting_owner(reading: Reading) -> WorkReading:
            told = await read(action, object_id, reading)
            if reading.usable:
                self._note_owner(action, object_id, reading.owner)
            return told

        try:
            async with self._node.within(self._limit, f"the work of {object_id}"):
                return await at_one_height(self._node, read_noting_owner, object_id)
        except ChainUnavailable as error:
            self._node.forget_facts(error)
            raise

    async def _of_struct(self, action: Action, struct_id: str, reading: Reading) -> WorkReading:
        reading.depends_on.add(struct_id)
        struct = await self._objects.struct(struct_id, reading)
        if struct is None:
            await self._node.raise_gone(f"struct {struct_id}")
        reading.depends_on.add(permissions_on(struct.owner))
        work, clock = await self.posed_by_struct(action, struct, reading)
        reading.owner = struct.owner
        return WorkReading(work, frozenset(reading.depends_on), clock)

    async def _of_fleet(self, action: Action, fleet_id: str, reading: Reading) -> WorkReading:
        reading.depends_on.add(fleet_id)
        fleet = await self._objects.fleet(fleet_id, reading)
        work = await self.posed_by_fleet(fleet, reading)
        reading.owner = fleet.owner
        return WorkReading(work, frozenset(reading.depends_on))

    async def posed_by_struct(
        self, action: Action, struct: object_state.StructState, reading: Reading
    ) -> tuple[Work, str]:
        """The work, and the name of its clock if it is shared. Raises WorkGone, WorkPaused."""
        if action is Action.BUILD:
            return object_state.build_work(struct, await self._node.facts.type_ranges(struct.type)), ""
        planet_id = object_state.ore_planet(action, struct)
        reading.depends_on.add(planet_id)
        ranges = await self._node.facts.type_ranges(struct.type)
        version, rules = await self._node.rules_for(reading)
        planet = await self._objects.planet(planet_id, reading)
        if action is Action.MINE:
            ore = planet.ore
        else:
            reading.depends_on.add(struct.owner)
            owner = await self._objects.find_player(struct.owner, reading)
            if owner is None:
                raise BadChainAnswer(f"the node does not find player {struct.owner}, who owns struct {struct.id}")
            ore = owner.ore
        if not rules.planet_clocks:
            anchor = struct.mine_anchor if action is Action.MINE else struct.refine_anchor
            return object_state.ore_work(action, struct, ranges, planet, ore, anchor, rules), ""
        anchor = await self._clocks.read(action, planet, version, reading)
        work = object_state.ore_work(action, struct, ranges, planet, ore, anchor, rules)
        return work, f"{planet_id}/{action.value}"

    async def posed_by_fleet(self, fleet: object_state.FleetState, reading: Reading) -> Work:
        """The raid of this fleet. Raises WorkGone, WorkPaused."""
        # Where a fleet stands counts even if it cannot raid there yet: the planet's queue may move up.
        reading.depends_on |= {permissions_on(fleet.owner), *([fleet.planet_id] if fleet.planet_id else [])}
        planet = await self._objects.planet(object_state.raid_planet(fleet), reading)
        if planet.owner:
            # Some versions stop the raid clock without an event, but not what makes the defender safe: a Command Ship
            # that goes online or a fleet that comes home touches its owner.
            reading.depends_on.add(planet.owner)
        _, rules = await self._node.rules_for(reading)
        return object_state.raid_work(fleet, planet, rules)
