"""The chain's protobuf messages of the stored values, and attributes by the chain's numbers and names."""

from __future__ import annotations

from devnet.state import Fleet, Planet, Player, State, Struct, StructStatus, StructType
from hashfleet.rpc.structs.structs import types_pb2

#: Grid attribute number of ore: `0-2-9` is the ore of planet 2-9.
GRID_ORE = 0
GRID_CAPACITY = 2
GRID_LOAD = 3
GRID_STRUCTS_LOAD = 4


def struct_attributes(struct: Struct) -> types_pb2.StructAttributes:
    """The stored attributes and the bits of the status."""
    status = struct.status
    return types_pb2.StructAttributes(
        health=struct.health,
        status=int(status),
        blockStartBuild=struct.block_start_build,
        blockStartOreMine=struct.block_start_ore_mine,
        blockStartOreRefine=struct.block_start_ore_refine,
        isMaterialized=bool(status & StructStatus.MATERIALIZED),
        isBuilt=struct.built,
        isOnline=struct.online,
        isHidden=bool(status & StructStatus.HIDDEN),
        isDestroyed=struct.destroyed,
        isLocked=bool(status & StructStatus.LOCKED),
    )


def struct_attribute_values(struct: Struct) -> dict[int, int]:
    """Stored attribute number -> value."""
    return {
        0: struct.health,
        1: int(struct.status),
        2: struct.block_start_build,
        3: struct.block_start_ore_mine,
        4: struct.block_start_ore_refine,
        5: 0,
        6: 0,
    }


def planet_attribute_values(planet: Planet) -> dict[int, int]:
    """Stored attribute number -> value; what the devnet has none of is 0."""
    return dict.fromkeys(range(16), 0) | {
        0: planet.shield,
        10: planet.block_start_raid,
        11: planet.block_raider_arrived,
        12: planet.block_start_ore_mine,
        13: planet.block_start_ore_refine,
        14: planet.active_rigs,
        15: planet.active_refineries,
    }


#: A name that is not in here reads attribute 0, as on the chain.
STRUCT_ATTRIBUTE_NAMES = {
    name: number
    for number, name in enumerate(
        ("health", "status", "blockStartBuild", "blockStartOreMine", "blockStartOreRefine", "protectedStructIndex",
         "typeCount")
    )
}  # fmt: skip
PLANET_ATTRIBUTE_NAMES = {
    name: number
    for number, name in enumerate(
        field.name for field in types_pb2.PlanetAttributes.DESCRIPTOR.fields if field.number <= 11
    )
}
#: Since v0.21. Their numbers in the planet answer are not known, so they are told by name only.
PLANET_CLOCK_NAMES = {
    "blockRaiderArrived": 11,
    "blockStartOreMine": 12,
    "blockStartOreRefine": 13,
    "oreMiningActiveQuantity": 14,
    "oreRefiningActiveQuantity": 15,
}
#: Slots that a planet or fleet has in each ambit. The stage may put more structs there than the chain would.
SLOTS = 4


def planet_attribute_number(state: State, name: str) -> int:
    """The attribute that the chain reads for this name; 0 for a name that it does not know."""
    known = PLANET_ATTRIBUTE_NAMES | PLANET_CLOCK_NAMES if state.rules.planet_clocks else PLANET_ATTRIBUTE_NAMES
    return known.get(name, 0)


def planet_attributes(planet: Planet) -> types_pb2.PlanetAttributes:
    return types_pb2.PlanetAttributes(planetaryShield=planet.shield, blockStartRaid=planet.block_start_raid)


def struct_record(state: State, struct: Struct) -> types_pb2.Struct:
    kind = state.struct_types[struct.type]
    return types_pb2.Struct(
        id=struct.id,
        index=_index(struct.id),
        type=struct.type,
        creator=struct.creator,
        owner=struct.owner,
        locationType=types_pb2.planet if kind.on_planet else types_pb2.fleet,
        locationId=struct.location_id,
        operatingAmbit=types_pb2.ambit.Value(kind.ambit),
        slot=struct.slot,
    )


def struct_type_record(kind: StructType) -> types_pb2.StructType:
    record = types_pb2.StructType(
        id=kind.id,
        type=kind.name,
        category=types_pb2.planet if kind.on_planet else types_pb2.fleet,
        buildDifficulty=kind.build_range,
        buildDraw=kind.passive_draw,
        maxHealth=3,
        passiveDraw=kind.passive_draw,
        planetaryShieldContribution=kind.shield,
        oreMiningDifficulty=kind.mine_range,
        oreRefiningDifficulty=kind.refine_range,
    )
    setattr(record, "class", kind.name)  # a keyword in Python
    return record


def planet_record(state: State, planet: Planet) -> types_pb2.Planet:
    slots = _slots(state, planet.structs)
    return types_pb2.Planet(
        id=planet.id,
        maxOre=planet.max_ore,
        creator=planet.creator,
        owner=planet.owner,
        space=slots["space"],
        air=slots["air"],
        land=slots["land"],
        water=slots["water"],
        spaceSlots=SLOTS,
        airSlots=SLOTS,
        landSlots=SLOTS,
        waterSlots=SLOTS,
        status=types_pb2.complete if planet.complete else types_pb2.active,
        locationListStart=planet.queue[0] if planet.queue else "",
        locationListLast=planet.queue[-1] if planet.queue else "",
    )


def fleet_record(state: State, fleet: Fleet) -> types_pb2.Fleet:
    ahead, behind = state.queue_neighbours(fleet)
    slots = _slots(state, fleet.structs)
    return types_pb2.Fleet(
        id=fleet.id,
        owner=fleet.owner,
        locationType=types_pb2.planet,
        locationId=fleet.location_id,
        status=types_pb2.away if fleet.away else types_pb2.onStation,
        locationListForward=ahead,
        locationListBackward=behind,
        space=slots["space"],
        air=slots["air"],
        land=slots["land"],
        water=slots["water"],
        spaceSlots=SLOTS,
        airSlots=SLOTS,
        landSlots=SLOTS,
        waterSlots=SLOTS,
        commandStruct=fleet.command_struct,
    )


def player_record(player: Player) -> types_pb2.Player:
    return types_pb2.Player(
        id=player.id,
        index=_index(player.id),
        creator=player.primary_address,
        guildId=player.guild_id,
        primaryAddress=player.primary_address,
        planetId=player.planet_id,
        fleetId=player.fleet_id,
    )


def player_grid(player: Player) -> types_pb2.GridAttributes:
    return types_pb2.GridAttributes(
        ore=player.ore, capacity=player.capacity, load=player.load, structsLoad=player.structs_load
    )


def _slots(state: State, structs: tuple[str, ...]) -> dict[str, list[str]]:
    """Struct ids by ambit, with empty texts for free slots."""
    slots: dict[str, list[str]] = {"space": [], "air": [], "land": [], "water": []}
    for struct_id in structs:
        slots[state.struct_types[state.structs[struct_id].type].ambit].append(struct_id)
    for taken in slots.values():
        taken += [""] * (SLOTS - len(taken))
    return slots


def _index(object_id: str) -> int:
    return int(object_id.split("-")[1])
