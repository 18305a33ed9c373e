"""Writes to a state, and the typed events that they cause.

A handler replaces a value; the difference between the old and the new value decides which attribute, grid and record
events the chain would emit. The state written to is a fork, so a failed transaction leaves nothing behind.
"""

from __future__ import annotations

from dataclasses import replace

from google.protobuf.message import Message

from devnet import records
from devnet.events import Event, typed
from devnet.state import Address, Fleet, Guild, Planet, Player, State, Struct, StructStatus, StructType
from hashfleet.rpc.structs.structs import types_pb2


class Changes:
    """The state as a transaction sees it, at the height of the block that includes it."""

    def __init__(self, state: State, height: int, *, silent: bool = False) -> None:
        """`silent` makes no events of stored values: nobody hears how a chain begins."""
        self.state = state
        self.height = height
        self.events: list[Event] = []
        self._silent = silent

    def emit(self, name: str, member: str, value: Message | dict[str, str]) -> None:
        """Add a typed event."""
        if not self._silent:
            self.events.append(typed(name, member, value))

    def put_struct(self, struct: Struct) -> None:
        old = self.state.structs.get(struct.id)
        self.state.structs[struct.id] = struct
        if old is None:
            self.emit("EventStruct", "structure", records.struct_record(self.state, struct))
            self._list_struct(struct, listed=True)
        before = records.struct_attribute_values(old) if old else {}
        for number, value in records.struct_attribute_values(struct).items():
            if value != before.get(number, 0):
                attribute = types_pb2.StructAttributeRecord(attributeId=f"{number}-{struct.id}", value=value)
                self.emit("EventStructAttribute", "structAttributeRecord", attribute)

    def put_planet(self, planet: Planet) -> None:
        old = self.state.planets.get(planet.id)
        self.state.planets[planet.id] = planet
        if old is None or _recorded(old) != _recorded(planet):
            self._emit_planet(planet)
        before = records.planet_attribute_values(old) if old else {}
        for number, value in records.planet_attribute_values(planet).items():
            if value != before.get(number, 0):
                attribute = types_pb2.PlanetAttributeRecord(attributeId=f"{number}-{planet.id}", value=value)
                self.emit("EventPlanetAttribute", "planetAttributeRecord", attribute)
        if planet.ore != (old.ore if old else 0):
            self._grid_event(records.GRID_ORE, planet.id, planet.ore)

    def put_player(self, player: Player) -> None:
        old = self.state.players.get(player.id)
        self.state.players[player.id] = player
        if old is None or old.guild_id != player.guild_id:
            self.emit("EventPlayer", "player", records.player_record(player))
        before = _grid(old) if old else {}
        for number, value in _grid(player).items():
            if value != before.get(number, 0):
                self._grid_event(number, player.id, value)

    def put_fleet(self, fleet: Fleet) -> None:
        self.state.fleets[fleet.id] = fleet
        if not self._silent:
            self.emit("EventFleet", "fleet", records.fleet_record(self.state, fleet))

    def put_guild(self, guild: Guild) -> None:
        """A new guild; who founded it belongs to it."""
        self.state.guilds[guild.id] = guild
        record = {
            "id": guild.id,
            "index": guild.id.partition("-")[2],
            "endpoint": guild.endpoint,
            "creator": guild.creator,
            "owner": guild.owner,
            "primaryReactorId": guild.reactor_id,
            "entrySubstationId": guild.entry_substation_id,
        }
        self.emit("EventGuild", "guild", record)
        self.put_player(replace(self.state.players[guild.owner], guild_id=guild.id))

    def set_charter_anchor(self) -> None:
        """A guild was founded by a proof: all others have to start again."""
        self.state.charter = replace(self.state.charter, anchor=self.height)

    def put_address(self, address: Address) -> None:
        """Let a key act for a player, with its permission bits."""
        self.state.addresses[address.address] = address
        self._permission_event(f"8-{address.address}@0", address.permissions)

    def put_grant(self, owner_id: str, player_id: str, permissions: int) -> None:
        """Let a player use these permission bits on another player's objects."""
        self.state.grants[f"{owner_id}@{player_id}"] = permissions
        self._permission_event(f"{owner_id}@{player_id}", permissions)

    def go_online(self, struct: Struct) -> None:
        """Put a built struct online: it draws power, its ore clock starts, its shield counts.

        From v0.21 on the ore clock is the planet's, and starts with the first struct that uses it. A Command Ship that
        comes online ends the vulnerability of its owner's planet.
        """
        kind = self.state.struct_types[struct.type]
        own_clocks = not self.state.rules.planet_clocks
        self.put_struct(
            replace(
                struct,
                status=struct.status | StructStatus.ONLINE,
                block_start_ore_mine=self.height if kind.mine_range and own_clocks else 0,
                block_start_ore_refine=self.height if kind.refine_range and own_clocks else 0,
            )
        )
        if not struct.online:
            self._add_draw_and_shield(struct, kind.passive_draw, kind.shield)
            self._count_ore_struct(struct, kind, 1)
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
            self._count_ore_struct(struct, kind, -1)
        if destroyed and not struct.destroyed:
            self._list_struct(struct, listed=False)
        self._settle_command_ship(struct)

    def send_fleet(self, fleet: Fleet, planet_id: str) -> None:
        """Move a fleet: home, where it is on station, or to the end of another planet's queue.

        When it leaves a queue the next fleet becomes its head and inherits the running raid clock; when it leaves or
        comes home, its owner's own planet becomes vulnerable or safe.
        """
        home = self.state.players[fleet.owner].planet_id
        origin = self.state.planets[fleet.location_id]
        if fleet.id in origin.queue:
            self._set_queue(origin, tuple(other for other in origin.queue if other != fleet.id))
        if planet_id != home:
            target = self.state.planets[planet_id]
            self._set_queue(target, (*target.queue, fleet.id))
        self.put_fleet(replace(fleet, location_id=planet_id, away=planet_id != home))
        for other in (*self.state.planets[origin.id].queue, *self.state.planets[planet_id].queue):
            if other != fleet.id:  # their queue pointers moved
                self.put_fleet(self.state.fleets[other])
        for affected in dict.fromkeys((origin.id, planet_id, home)):
            self.settle_raid_clock(affected, told=affected == planet_id)

    def settle_raid_clock(self, planet_id: str, *, told: bool = False) -> None:
        """Start or clear the raid clock: it runs while a fleet queues and the defender is vulnerable (v0.18).

        An event tells raiders that wait that the shields are down, unless a raid that begins was `told` already.

        Before v0.18 only a new head of the queue moves it (`_set_queue`).
        """
        planet = self.state.planets[planet_id]
        if not self.state.rules.gated_raid_clock:
            return
        running = bool(planet.queue) and self.state.defender_is_vulnerable(planet)
        if running and not planet.block_start_raid:
            self.put_planet(replace(planet, block_start_raid=self.height))
            if told:
                return
            raid = {
                "fleetId": planet.queue[0],
                "planetId": planet.id,
                "status": "shieldsVulnerable",
                "seized_ore": "0",
            }
            self.emit("EventRaid", "eventRaidDetail", raid)
        elif not running and planet.block_start_raid:
            self.put_planet(replace(planet, block_start_raid=0))

    def _set_queue(self, planet: Planet, queue: tuple[str, ...]) -> None:
        """Who queues at a planet. From v0.21 on its ore clocks lose the time during which somebody did."""
        changed = replace(planet, queue=queue)
        if not self.state.rules.gated_raid_clock and queue and queue[:1] != planet.queue[:1]:
            changed = replace(changed, block_start_raid=self.height)
        if self.state.rules.planet_clocks and queue and not planet.queue:
            changed = replace(changed, block_raider_arrived=self.height)
        elif self.state.rules.planet_clocks and planet.queue and not queue:
            changed = replace(
                changed,
                block_raider_arrived=0,
                block_start_ore_mine=self._resumed(planet.block_start_ore_mine, planet, planet.active_rigs),
                block_start_ore_refine=self._resumed(planet.block_start_ore_refine, planet, planet.active_refineries),
            )
        self.put_planet(changed)
        if queue and queue[:1] != planet.queue[:1]:
            raid = {"fleetId": queue[0], "planetId": planet.id, "status": "initiated", "seized_ore": "0"}
            self.emit("EventRaid", "eventRaidDetail", raid)

    def _resumed(self, clock: int, planet: Planet, active: int) -> int:
        """An ore clock after a raid; one that no struct uses is left as it is."""
        return clock + max(0, self.height - max(clock, planet.block_raider_arrived)) if active else clock

    def _count_ore_struct(self, struct: Struct, kind: StructType, change: int) -> None:
        """A rig or refinery goes on or off line. The first one to go online starts the planet's clock (v0.21)."""
        if not self.state.rules.planet_clocks or not (kind.mine_range or kind.refine_range):
            return
        planet = self.state.planets[struct.location_id]
        if kind.mine_range:
            started = self.height if change > 0 and not planet.active_rigs else planet.block_start_ore_mine
            rigs = planet.active_rigs + change
            self.put_planet(replace(planet, active_rigs=rigs, block_start_ore_mine=started))
        else:
            started = self.height if change > 0 and not planet.active_refineries else planet.block_start_ore_refine
            refineries = planet.active_refineries + change
            self.put_planet(replace(planet, active_refineries=refineries, block_start_ore_refine=started))

    def _list_struct(self, struct: Struct, *, listed: bool) -> None:
        """Enter a struct in the slots of its planet or fleet, or clear its slot; the Command Ship has none."""
        place = self.state.planets.get(struct.location_id) or self.state.fleets[struct.location_id]
        if isinstance(place, Fleet) and place.command_struct == struct.id:
            return
        structs = tuple(other for other in place.structs if other != struct.id)
        if listed:
            structs = (*structs, struct.id)
        if isinstance(place, Fleet):
            self.put_fleet(replace(place, structs=structs))
        else:
            self.put_planet(replace(place, structs=structs))

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

    def _emit_planet(self, planet: Planet) -> None:
        if not self._silent:
            self.emit("EventPlanet", "planet", records.planet_record(self.state, planet))

    def _grid_event(self, number: int, object_id: str, value: int) -> None:
        self.emit("EventGrid", "gridRecord", {"attributeId": f"{number}-{object_id}", "value": str(value)})

    def _permission_event(self, permission_id: str, value: int) -> None:
        record = types_pb2.PermissionRecord(permissionId=permission_id, value=value)
        self.emit("EventPermission", "permissionRecord", record)


def _recorded(planet: Planet) -> tuple[object, ...]:
    """What of a planet its record shows and may change: an event tells the whole record, so it is made if need be."""
    return planet.owner, planet.complete, planet.queue[:1], planet.queue[-1:], planet.structs


def _grid(player: Player) -> dict[int, int]:
    """Grid attribute number -> value."""
    return {
        records.GRID_ORE: player.ore,
        records.GRID_CAPACITY: player.capacity,
        records.GRID_LOAD: player.load,
        records.GRID_STRUCTS_LOAD: player.structs_load,
    }
