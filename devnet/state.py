"""What the chain stores: frozen values in tables keyed by id. No rule lives here, and nothing is ever half changed."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, fields, replace
from functools import cache

from devnet.rules import DEFAULT_VERSION, VERSIONS, Rules
from hashfleet.errors import InvalidInput

#: Added up in an address record or a grant (structsd v0.16 and newer).
PERMISSION_PLAY = 1
PERMISSION_REACTOR_GUILD_CREATE = 1 << 19
PERMISSION_HASH_BUILD = 1 << 20
PERMISSION_HASH_MINE = 1 << 21
PERMISSION_HASH_REFINE = 1 << 22
PERMISSION_HASH_RAID = 1 << 23
PERMISSION_ALL = (1 << 25) - 1

#: What a query says about an address that belongs to nobody.
NO_PLAYER = "1-0"
UALPHA_PER_ORE = 1_000_000
#: The module's parameters of v0.21: blocks until a charter's difficulty has fallen to 1 (a stored 0 means this
#: default), and the age that a reactor needs for a guild without a proof.
CHARTER_RANGE = 2_500_000
MIN_CHARTER_RANGE = 2
REACTOR_AGE = 432_000
#: Shield of a planet without shield structures since v0.18; also its raid range.
BASE_SHIELD = 25


class StructStatus(enum.IntFlag):
    """Bits of struct attribute `status`."""

    NONE = 0
    MATERIALIZED = 1
    BUILT = 2
    ONLINE = 4
    STORED = 8
    HIDDEN = 16
    DESTROYED = 32
    LOCKED = 64


@dataclass(frozen=True, slots=True)
class StructType:
    """One kind of structure. Ranges are blocks until the difficulty has fallen to 1; 0 means it lacks the system."""

    id: int
    name: str
    build_range: int
    #: Where it stands: on its owner's planet, or in the owner's fleet.
    on_planet: bool
    ambit: str
    mine_range: int = 0
    refine_range: int = 0
    #: What it adds to its planet's shield while online.
    shield: int = 0
    #: Milliwatts drawn while built.
    passive_draw: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """A signing account of the SDK."""

    address: str
    number: int
    sequence: int = 0
    #: 33 bytes; None until its first transaction told it.
    public_key: bytes | None = None
    ualpha: int = 0


@dataclass(frozen=True, slots=True)
class Address:
    """An address that may act for a player."""

    address: str
    player_id: str
    permissions: int


@dataclass(frozen=True, slots=True)
class Player:
    """A player; online while load + structs_load is not above capacity (milliwatts)."""

    id: str
    primary_address: str
    planet_id: str
    fleet_id: str
    capacity: int
    load: int = 0
    structs_load: int = 0
    #: Stored ore: what a refinery consumes and a raid takes.
    ore: int = 0
    guild_id: str = ""

    @property
    def online(self) -> bool:
        return self.load + self.structs_load <= self.capacity


@dataclass(frozen=True, slots=True)
class Struct:
    """A structure. A clock of 0 is not running."""

    id: str
    type: int
    owner: str
    creator: str
    #: Planet id, or fleet id for a ship.
    location_id: str
    slot: int
    status: StructStatus
    health: int = 3
    block_start_build: int = 0
    block_start_ore_mine: int = 0
    block_start_ore_refine: int = 0

    @property
    def built(self) -> bool:
        return bool(self.status & StructStatus.BUILT)

    @property
    def online(self) -> bool:
        return bool(self.status & StructStatus.ONLINE)

    @property
    def destroyed(self) -> bool:
        return bool(self.status & StructStatus.DESTROYED)


@dataclass(frozen=True, slots=True)
class Planet:
    """A planet with its unmined ore and the fleets that queue to raid it."""

    id: str
    owner: str
    creator: str
    max_ore: int
    ore: int
    shield: int = BASE_SHIELD
    #: Fleet ids, the raiding one first.
    queue: tuple[str, ...] = ()
    #: Raiders beyond the first that may queue (v0.21).
    extra_queue: int = 0
    block_start_raid: int = 0
    complete: bool = False
    #: Structs that stand on it, destroyed ones left out.
    structs: tuple[str, ...] = ()
    # From v0.21 on all rigs of a planet share one clock, and so do its refineries; before, all of these stay 0.
    block_start_ore_mine: int = 0
    block_start_ore_refine: int = 0
    #: When the queue of raiders began; 0 while there is none.
    block_raider_arrived: int = 0
    #: Structs that are online.
    active_rigs: int = 0
    active_refineries: int = 0


@dataclass(frozen=True, slots=True)
class Fleet:
    """A player's fleet; away while it stands at another planet than its owner's."""

    id: str
    owner: str
    #: Planet id.
    location_id: str
    away: bool = False
    #: Struct id of the Command Ship, built or not; empty if there is none.
    command_struct: str = ""
    #: Its other ships, destroyed ones left out.
    structs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reactor:
    """A validator's reactor, which guilds are founded on."""

    id: str
    owner: str
    #: Height at which it was made.
    since: int
    bonded: bool = True
    jailed: bool = False


@dataclass(frozen=True, slots=True)
class Guild:
    """A guild."""

    id: str
    owner: str
    endpoint: str
    reactor_id: str
    entry_substation_id: str
    creator: str


@dataclass(frozen=True, slots=True)
class Charter:
    """The puzzle that all founders of guilds share (v0.21)."""

    #: Height of the last guild that was founded by a proof.
    anchor: int = 1
    #: As stored: 0 means CHARTER_RANGE.
    stored_range: int = CHARTER_RANGE
    reactor_age: int = REACTOR_AGE
    #: Whether the preimage begins with the chain's id, as released; a development state of the module had none.
    names_chain: bool = True

    @property
    def range(self) -> int:
        """Blocks after which the difficulty has fallen to 1."""
        return max(MIN_CHARTER_RANGE, self.stored_range or CHARTER_RANGE)

    def age(self, height: int) -> int:
        """Blocks since the anchor; never below 0, unlike that of other clocks."""
        return max(0, height - self.anchor)


@dataclass(slots=True)
class State:
    """All tables. Values are frozen, so a fork is a copy of the tables only."""

    #: A key of VERSIONS.
    version: str = DEFAULT_VERSION
    accounts: dict[str, Account] = field(default_factory=dict)
    addresses: dict[str, Address] = field(default_factory=dict)
    #: Permission id `{objectId}@{playerId}` -> bits granted to that player.
    grants: dict[str, int] = field(default_factory=dict)
    players: dict[str, Player] = field(default_factory=dict)
    planets: dict[str, Planet] = field(default_factory=dict)
    fleets: dict[str, Fleet] = field(default_factory=dict)
    structs: dict[str, Struct] = field(default_factory=dict)
    struct_types: dict[int, StructType] = field(default_factory=dict)
    reactors: dict[str, Reactor] = field(default_factory=dict)
    guilds: dict[str, Guild] = field(default_factory=dict)
    charter: Charter = Charter()

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            known = " or ".join(VERSIONS)
            raise InvalidInput(f"the devnet's version is {self.version[:40]!r}; it should be {known}")

    def fork(self) -> State:
        """A copy that can be written and thrown away."""
        tables = {name: dict(getattr(self, name)) for name in _TABLES}
        return State(version=self.version, charter=self.charter, **tables)

    @property
    def rules(self) -> Rules:
        return VERSIONS[self.version]

    def queue_neighbours(self, fleet: Fleet) -> tuple[str, str]:
        """The fleets ahead of and behind this one where it stands; empty strings where there is none."""
        planet = self.planets.get(fleet.location_id)
        queue = planet.queue if planet else ()
        if fleet.id not in queue:
            return "", ""
        at = queue.index(fleet.id)
        return (queue[at - 1] if at else "", queue[at + 1] if at + 1 < len(queue) else "")

    def defender_is_vulnerable(self, planet: Planet) -> bool:
        """Whether the shields are down: the owner's Command Ship is not online, or their fleet is away (v0.19)."""
        owner = self.players.get(planet.owner)
        fleet = self.fleets.get(owner.fleet_id) if owner else None
        if fleet is None or (fleet.away and self.rules.away_is_vulnerable):
            return True
        command = self.structs.get(fleet.command_struct)
        return command is None or command.destroyed or not command.online

    def owns_guild(self, player_id: str) -> bool:
        return any(guild.owner == player_id for guild in self.guilds.values())

    def may(self, signer_id: str, owner_id: str, bit: int) -> bool:
        """Whether player `signer_id` holds that permission bit on player `owner_id`."""
        return signer_id == owner_id or self.grants.get(f"{owner_id}@{signer_id}", 0) & bit == bit


_TABLES = tuple(table.name for table in fields(State) if table.name not in ("version", "charter"))


def _types() -> dict[int, StructType]:
    # Build, mine and refine ranges and shields are the chain's genesis (v0.18 and newer); draws are nominal.
    ships = [
        (1, "Command Ship", 200, "space"), (2, "Battleship", 765, "space"), (3, "Starfighter", 250, "space"),
        (4, "Frigate", 450, "space"), (5, "Pursuit Fighter", 215, "air"), (6, "Stealth Bomber", 455, "air"),
        (7, "High Altitude Interceptor", 460, "air"), (8, "Mobile Artillery", 305, "land"), (9, "Tank", 220, "land"),
        (10, "SAM Launcher", 450, "land"), (11, "Cruiser", 515, "water"), (12, "Destroyer", 600, "water"),
        (13, "Submersible", 455, "water"),
    ]  # fmt: skip
    buildings = [
        (14, "Ore Extractor", 700, 14_000, 0, 0), (15, "Ore Refinery", 700, 0, 28_000, 0),
        (16, "Orbital Shield Generator", 720, 0, 0, 25), (17, "Jamming Satellite", 2880, 0, 0, 12),
        (18, "Ore Bunker", 3600, 0, 0, 50), (19, "Planetary Defense Cannon", 2880, 0, 0, 13),
        (20, "Field Generator", 700, 0, 0, 0), (21, "Continental Power Plant", 1440, 0, 0, 0),
        (22, "World Engine", 5000, 0, 0, 0),
    ]  # fmt: skip
    types = [StructType(n, name, build, on_planet=False, ambit=ambit, passive_draw=50_000)
             for n, name, build, ambit in ships]  # fmt: skip
    types += [
        StructType(n, name, build, True, "space" if n in (16, 17) else "land", mine, refine, shield, 500_000)
        for n, name, build, mine, refine, shield in buildings
    ]
    return {kind.id: kind for kind in types}


#: Of v0.18 and newer.
STRUCT_TYPES = _types()
COMMAND_SHIP = 1
#: Struct type -> what it added to a shield before v0.18.
_LARGE_SHIELDS = {16: 1500, 17: 4500, 18: 9000, 19: 4500}


@cache
def struct_types(version: str) -> dict[int, StructType]:
    """The types as a release knows them; not to be written to."""
    if VERSIONS[version].small_shields:
        return STRUCT_TYPES
    return {kind.id: replace(kind, shield=_LARGE_SHIELDS.get(kind.id, 0)) for kind in STRUCT_TYPES.values()}
