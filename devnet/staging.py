"""Setting the stage: players, structures, fleets and clocks put where a scenario or a test wants them.

Everything is checked, so a scenario file with a slip is refused with a sentence and never becomes a broken chain.
Nothing here needs a secret: a player is known by its address.
"""

from __future__ import annotations

import enum
from dataclasses import replace

from devnet.changes import Changes
from devnet.state import (
    COMMAND_SHIP,
    PERMISSION_ALL,
    Account,
    Address,
    Fleet,
    Planet,
    Player,
    Reactor,
    Struct,
    StructStatus,
)
from devnet.transactions import address_bytes
from hashfleet.action import (
    FLEET_TYPE,
    MAX_HEIGHT,
    PLANET_TYPE,
    PLAYER_TYPE,
    REACTOR_TYPE,
    STRUCT_TYPE,
    Action,
    check_object_id,
)
from hashfleet.errors import InvalidInput

#: Milliwatts; more than all that a demo builds.
DEFAULT_CAPACITY = 100_000_000
#: What the chain gives a new planet.
DEFAULT_ORE = 5


class Condition(enum.Enum):
    """How a structure stands on the stage."""

    BUILDING = "building"
    ONLINE = "online"
    OFFLINE = "offline"
    DESTROYED = "destroyed"


class Stage:
    """Edits on top of `Changes`. Every method raises InvalidInput if its arguments cannot be right."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._state = changes.state

    def add_player(
        self,
        player_id: str,
        address: str,
        *,
        permissions: int = PERMISSION_ALL,
        planet_id: str | None = None,
        planet_ore: int = DEFAULT_ORE,
        ore: int = 0,
        capacity: int = DEFAULT_CAPACITY,
        account_number: int | None = None,
        sequence: int = 0,
    ) -> None:
        """A player with its primary address, its home planet (of the same index, unless given) and its fleet there."""
        index = _index(player_id, PLAYER_TYPE, "the player")
        planet_id = planet_id or f"{PLANET_TYPE}-{index}"
        _index(planet_id, PLANET_TYPE, f"the planet of {player_id}")
        fleet_id = f"{FLEET_TYPE}-{index}"
        if player_id in self._state.players or planet_id in self._state.planets:
            raise InvalidInput(f"player {player_id} or its planet {planet_id} is there already; ids should be new")
        self._add_account(address, account_number, sequence)
        self._changes.put_planet(
            Planet(
                planet_id,
                owner=player_id,
                creator=address,
                max_ore=planet_ore,
                ore=planet_ore,
                shield=self._state.rules.base_shield,
            )
        )
        self._changes.put_player(Player(player_id, address, planet_id, fleet_id, capacity, ore=ore))
        self._changes.put_fleet(Fleet(fleet_id, owner=player_id, location_id=planet_id))
        self._changes.put_address(Address(address, player_id, permissions))

    def add_address(
        self, address: str, player_id: str, permissions: int, *, account_number: int | None = None, sequence: int = 0
    ) -> None:
        """Another key that may act for a player, with its permission bits."""
        self._player(player_id)
        self._add_account(address, account_number, sequence)
        self._changes.put_address(Address(address, player_id, permissions))

    def grant(self, owner_id: str, player_id: str, permissions: int) -> None:
        """Let `player_id` use those permission bits on what `owner_id` owns."""
        self._player(owner_id)
        self._player(player_id)
        self._changes.put_grant(owner_id, player_id, permissions)

    def add_struct(
        self,
        struct_id: str,
        struct_type: int,
        owner_id: str,
        condition: Condition = Condition.BUILDING,
        *,
        anchor: int | None = None,
    ) -> None:
        """A structure of that type, on its owner's planet or in the owner's fleet.

        `anchor` is where its clock started (building, or mining or refining when online); the current height if None.
        """
        _index(struct_id, STRUCT_TYPE, "the struct")
        owner = self._player(owner_id)
        kind = self._state.struct_types.get(struct_type)
        if kind is None:
            raise InvalidInput(f"struct {struct_id} has type {struct_type}; types are 1 to 22")
        if struct_id in self._state.structs:
            raise InvalidInput(f"struct {struct_id} is there already; ids should be new")
        location = owner.planet_id if kind.on_planet else owner.fleet_id
        fleet = self._state.fleets[owner.fleet_id]
        slot = len(self._state.planets[location].structs if kind.on_planet else fleet.structs)
        struct = Struct(
            struct_id, struct_type, owner_id, owner.primary_address, location, slot, StructStatus.MATERIALIZED
        )
        if struct_type == COMMAND_SHIP and not fleet.command_struct:
            self._changes.put_fleet(replace(fleet, command_struct=struct_id))
        if condition is Condition.BUILDING:
            start = self._changes.height if anchor is None else _anchor(anchor)
            self._changes.put_struct(replace(struct, block_start_build=start))
            return
        struct = replace(struct, status=struct.status | StructStatus.BUILT)
        self._changes.put_struct(struct)
        if condition is Condition.ONLINE:
            self._changes.go_online(struct)
            if anchor is not None and (kind.mine_range or kind.refine_range):
                self.set_anchor(Action.MINE if kind.mine_range else Action.REFINE, struct_id, anchor)
        elif condition is Condition.DESTROYED:
            self._changes.go_offline(struct, destroyed=True)

    def set_condition(self, struct_id: str, condition: Condition) -> None:
        """Put a built struct online, take it off line, or destroy any struct. Its clocks follow."""
        struct = self._struct(struct_id)
        if condition is Condition.ONLINE and struct.built and not struct.destroyed:
            self._changes.go_online(struct)
        elif condition in (Condition.OFFLINE, Condition.DESTROYED):
            self._changes.go_offline(struct, destroyed=condition is Condition.DESTROYED)
        else:
            raise InvalidInput(f"struct {struct_id} cannot become {condition.value}; only a built one goes online")

    def send_fleet(self, fleet_id: str, planet_id: str, *, anchor: int | None = None) -> None:
        """Send a fleet to raid a planet, or home. `anchor` is the raid clock's start, if the clock runs there."""
        fleet = self._state.fleets.get(fleet_id)
        planet = self._state.planets.get(planet_id)
        if fleet is None or planet is None:
            raise InvalidInput(f"fleet {fleet_id} cannot go to planet {planet_id}; both should be there")
        if fleet.location_id != planet_id:
            full = len(planet.queue) > planet.extra_queue and planet.owner != fleet.owner
            if self._state.rules.limited_queue and full:
                raise InvalidInput(
                    f"the queue of planet {planet_id} is full; from v0.21 on it takes {1 + planet.extra_queue}, "
                    "which set_planet can raise"
                )
            self._changes.send_fleet(fleet, planet_id)
        if anchor is not None:
            self.set_anchor(Action.RAID, fleet_id, anchor)

    def set_anchor(self, action: Action, object_id: str, anchor: int) -> None:
        """Set a clock: of a struct, or of the planet where it (from v0.21 on) or a fleet stands, or the charter's."""
        _anchor(anchor)
        if action is Action.CHARTER:
            self.set_charter(anchor=anchor)
            return
        if action is Action.RAID:
            fleet = self._state.fleets.get(object_id)
            if fleet is None:
                raise InvalidInput(f"there is no fleet {object_id}; a raid clock is set by the fleet that raids")
            planet = self._state.planets[fleet.location_id]
            self._changes.put_planet(replace(planet, block_start_raid=anchor))
            return
        struct = self._struct(object_id)
        if self._state.rules.planet_clocks and action is not Action.BUILD:
            home = self._state.planets.get(struct.location_id)
            if home is None:
                raise InvalidInput(f"struct {object_id} stands on no planet, so there is no ore clock to set")
            mines = action is Action.MINE
            self._changes.put_planet(
                replace(
                    home,
                    block_start_ore_mine=anchor if mines else home.block_start_ore_mine,
                    block_start_ore_refine=home.block_start_ore_refine if mines else anchor,
                )
            )
            return
        if action is Action.BUILD:
            struct = replace(struct, block_start_build=anchor)
        elif action is Action.MINE:
            struct = replace(struct, block_start_ore_mine=anchor)
        else:
            struct = replace(struct, block_start_ore_refine=anchor)
        self._changes.put_struct(struct)

    def set_planet(
        self,
        planet_id: str,
        *,
        ore: int | None = None,
        shield: int | None = None,
        complete: bool | None = None,
        extra_queue: int | None = None,
    ) -> None:
        """Change what is given of a planet."""
        planet = self._state.planets.get(planet_id)
        if planet is None:
            raise InvalidInput(f"there is no planet {planet_id}")
        self._changes.put_planet(
            replace(
                planet,
                ore=planet.ore if ore is None else ore,
                shield=planet.shield if shield is None else shield,
                complete=planet.complete if complete is None else complete,
                extra_queue=planet.extra_queue if extra_queue is None else extra_queue,
            )
        )

    def add_reactor(
        self, reactor_id: str, owner_id: str, *, since: int = 1, bonded: bool = True, jailed: bool = False
    ) -> None:
        """A reactor that guilds can be founded on; `since` is the height at which it was made."""
        check_object_id(reactor_id, REACTOR_TYPE, "the reactor")
        self._player(owner_id)
        if reactor_id in self._state.reactors:
            raise InvalidInput(f"reactor {reactor_id} is there already; ids should be new")
        self._state.reactors[reactor_id] = Reactor(reactor_id, owner_id, _anchor(since), bonded, jailed)

    def join_guild(self, player_id: str, guild_id: str) -> None:
        """Have a player belong to a guild that somebody founded."""
        if guild_id not in self._state.guilds:
            raise InvalidInput(f"there is no guild {guild_id}; found it first")
        self._changes.put_player(replace(self._player(player_id), guild_id=guild_id))

    def set_charter(
        self, *, anchor: int | None = None, difficulty_range: int | None = None, names_chain: bool | None = None
    ) -> None:
        """Change what is given of the charter's puzzle (v0.21)."""
        charter = self._state.charter
        self._state.charter = replace(
            charter,
            anchor=charter.anchor if anchor is None else _anchor(anchor),
            stored_range=charter.stored_range if difficulty_range is None else difficulty_range,
            names_chain=charter.names_chain if names_chain is None else names_chain,
        )

    def set_balance(self, address: str, ualpha: int) -> None:
        """What an account can pay fees from."""
        account = self._state.accounts.get(address)
        if account is None:
            raise InvalidInput(f"there is no account {address}; add the player or key first")
        self._state.accounts[address] = replace(account, ualpha=ualpha)

    def raise_sequence(self, address: str, count: int = 1) -> None:
        """As if another client had sent that many transactions with this key."""
        account = self._state.accounts.get(address)
        if account is None:
            raise InvalidInput(f"there is no account {address}; add the player or key first")
        self._state.accounts[address] = replace(account, sequence=account.sequence + count)

    def set_player(self, player_id: str, *, ore: int | None = None, load: int | None = None) -> None:
        """Change what is given of a player; a load above the capacity takes the player off line."""
        player = self._player(player_id)
        self._changes.put_player(
            replace(player, ore=player.ore if ore is None else ore, load=player.load if load is None else load)
        )

    def _add_account(self, address: str, number: int | None, sequence: int) -> None:
        address_bytes(address)
        if address in self._state.accounts:
            raise InvalidInput(f"address {address} is there already; every player and key needs its own")
        taken = {account.number for account in self._state.accounts.values()}
        if number is None:
            number = max(taken, default=0) + 1
        if number in taken:
            raise InvalidInput(f"account number {number} is taken already; every address needs its own")
        self._state.accounts[address] = Account(address, number, sequence)

    def _player(self, player_id: str) -> Player:
        player = self._state.players.get(player_id)
        if player is None:
            raise InvalidInput(f"there is no player {player_id}; name one that the scenario has")
        return player

    def _struct(self, struct_id: str) -> Struct:
        struct = self._state.structs.get(struct_id)
        if struct is None:
            raise InvalidInput(f"there is no struct {struct_id}; name one that the scenario has")
        return struct


def _index(object_id: str, object_type: int, what: str) -> int:
    return int(check_object_id(object_id, object_type, what).split("-")[1])


def _anchor(anchor: int) -> int:
    """Any height a stored clock can hold; 0 is a clock that does not run."""
    if not 0 <= anchor <= MAX_HEIGHT:
        raise InvalidInput(f"the anchor is {anchor}; it should be from 0 to {MAX_HEIGHT}")
    return anchor
