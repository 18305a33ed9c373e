"""Writes to a state, and the typed events that they cause.

A handler replaces a value; the difference between the old and the new value decides which attribute, grid and record
events the chain would emit. The state written to is a fork, so a failed transaction leaves nothing behind.
"""

from __future__ import annotations

from dataclasses import replace

from devnet import records
from devnet.events import Event, typed
from devnet.state import Fleet, Planet, Player, State, Struct, StructStatus
from hashfleet.rpc.structs.structs import types_pb2


class Changes:
    """The state as a transaction sees it, at the height of the block that includes it."""

    def __init__(self, state: State, height: int) -> None:
        self.state = state
        self.height = height
        self.events: list[Event] = []

    def emit(self, name: str, member: str, value: dict[str, str]) -> None:
        """Add a typed event that no stored value causes."""
        self.events.append(typed(name, member, value))

    def put_struct(self, struct: Struct) -> None:
        old = self.state.structs.get(struct.id)
        self.state.structs[struct.id] = struct
        if old is None:
            self.events.append(typed("EventStruct", "structure", records.struct_record(self.state, struct)))
        before = records.struct_attribute_values(old) if old else {}
        for number, value in records.struct_attribute_values(struct).items():
            if value != before.get(number, 0):
                attribute = types_pb2.StructAttributeRecord(attributeId=f"{number}-{struct.id}", value=value)
                self.events.append(typed("EventStructAttribute", "structAttributeRecord", attribute))

    def put_planet(self, planet: Planet) -> None:
        old = self.state.planets.get(planet.id)
        self.state.planets[planet.id] = planet
        if old is None or records.planet_record(old) != records.planet_record(planet):
            self.events.append(typed("EventPlanet", "planet", records.planet_record(planet)))
        before = records.planet_attribute_values(old) if old else {}
        for number, value in records.planet_attribute_values(planet).items():
            if value != before.get(number, 0):
                attribute = types_pb2.PlanetAttributeRecord(attributeId=f"{number}-{planet.id}", value=value)
                self.events.append(typed("EventPlanetAttribute", "planetAttributeRecord", attribute))
        if planet.ore != (old.ore if old else 0):
            self._ore_event(planet.id, planet.ore)

    def put_player(self, player: Player) -> None:
        old = self.state.players.get(player.id)
        self.state.players[player.id] = player
        if old is None:
            self.events.append(typed("EventPlayer", "player", records.player_record(player)))
        if player.ore != (old.ore if old else 0):
            self._ore_event(player.id, player.ore)

    def put_fleet(self, fleet: Fleet) -> None:
        self.state.fleets[fleet.id] = fleet
        self.events.append(typed("EventFleet", "fleet", records.fleet_record(self.state, fleet)))

    def go_online(self, struct: Struct) -> None:
        """Put a built struct online: it draws power, its ore clock starts, its shield counts.

        A Command Ship that comes online ends the vulnerability of its owner's planet.
        """
        kind = self.state.struct_types[struct.type]
        self.put_struct(
            replace(
                struct,
                status=struct.status | StructStatus.ONLINE,
                block_start_ore_mine=self.height if kind.mine_range else 0,
                block_start_ore_refine=self.height if kind.refine_range else 0,
            )
        )
        if not struct.online:
            self._add_draw_and_shield(struct, kind.passive_draw, kind.shield)
        self._settle_command_ship(struct)

    def go_offline(self, struct: Struct, *, destroyed: bool = False) -> None:
        """Take a struct off line, or destroy it: every clock of it stops."""
        status = struct.status & ~StructStatus.ONLINE
        kind = self.state.struct_types[struct.type]
        self.put_struct(
            replace(
                struct,
                status=status | StructStatus.DESTROYED if destroyed else status,
                health=0 if destroyed else struct.health,
                block_start_build=0 if destroyed else struct.block_start_build,
                block_start_ore_mine=0,
                block_start_ore_refine=0,
            )
        )
        if struct.online:
            self._add_draw_and_shield(struct, -kind.passive_draw, -kind.shield)
        self._settle_command_ship(struct)

    def send_fleet(self, fleet: Fleet, planet_id: str) -> None:
        """Move a fleet: home, where it is on station, or to the end of another planet's queue.

        When it leaves a queue the next fleet becomes its head and inherits the running raid clock; when it leaves or
        comes home, its owner's own planet becomes vulnerable or safe.
        """
        home = self.state.players[fleet.owner].planet_id
        origin = self.state.planets[fleet.location_id]
        if fleet.id in origin.queue:
            remaining = tuple(other for other in origin.queue if other != fleet.id)
            self.put_planet(replace(origin, queue=remaining))
        if planet_id != home:
            target = self.state.planets[planet_id]
            self.put_planet(replace(target, queue=(*target.queue, fleet.id)))
        self.put_fleet(replace(fleet, location_id=planet_id, away=planet_id != home))
        for other in (*self.state.planets[origin.id].queue, *self.state.planets[planet_id].queue):
            if other != fleet.id:  # their queue pointers moved
                self.put_fleet(self.state.fleets[other])
        for affected in dict.fromkeys((origin.id, planet_id, home)):
            self.settle_raid_clock(affected)

    def settle_raid_clock(self, planet_id: str) -> None:
        """Start or clear the raid clock: it runs while a fleet queues and the defender is vulnerable (v0.18)."""
        planet = self.state.planets[planet_id]
        running = bool(planet.queue) and self.state.defender_is_vulnerable(planet)
        if running and not planet.block_start_raid:
            self.put_planet(replace(planet, block_start_raid=self.height))
        elif not running and planet.block_start_raid:
            self.put_planet(replace(planet, block_start_raid=0))

    def _settle_command_ship(self, struct: Struct) -> None:
        owner = self.state.players[struct.owner]
        if self.state.fleets[owner.fleet_id].command_struct == struct.id:
            self.settle_raid_clock(owner.planet_id)

    def _add_draw_and_shield(self, struct: Struct, draw: int, shield: int) -> None:
        owner = self.state.players[struct.owner]
        self.put_player(replace(owner, structs_load=owner.structs_load + draw))
        if shield:
            planet = self.state.planets[struct.location_id]
            self.put_planet(replace(planet, shield=planet.shield + shield))

    def _ore_event(self, object_id: str, ore: int) -> None:
        record = {"attributeId": f"{records.GRID_ORE}-{object_id}", "value": str(ore)}
        self.emit("EventGrid", "gridRecord", record)
