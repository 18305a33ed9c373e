"""From rows of a guild stack's tables to `Work`: pure functions over decoded JSON.

``view.work`` says what may be worked on, but not always rightly: it lists raids whose clock does not run and ore work
on planets under raid, it has offered destroyed structs, it does not know the player of a fleet that is not indexed,
and since September 2026 it reads a copy that is refreshed once per block. So a puzzle is derived from the source
tables by the same rules as from a node's answers (`object_state`), and the view has to agree: where the two differ,
one of them lags, and nothing is known.

Attribute rows with value 0 exist or not, depending on the indexer: no row means 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coordinator.chain import object_state
from coordinator.chain.block_events import permissions_on
from coordinator.chain.client import WorkReading
from coordinator.chain.object_state import FleetState, PlanetState, StructState, StructStatus, TypeRanges
from coordinator.chain.versions import RULES_BEFORE_CHARTER, RULES_WITH_CHARTER
from hashfleet.action import FLEET_TYPE, PLANET_TYPE, PLAYER_TYPE, Action, Work, check_object_id
from hashfleet.errors import BadChainAnswer, ChainError, ChainUnavailable, InvalidInput, WorkGone, WorkPaused

#: Actions that the view lists; its category is the action's word.
LISTED: Final = (Action.BUILD, Action.MINE, Action.REFINE, Action.RAID)
#: How struct_type names the systems that work ore.
_RIG, _REFINERY = "oreMiningRig", "oreRefinery"
_CLOCKS: Final = {Action.MINE: ("12", "3"), Action.REFINE: ("13", "4")}


class NotIndexed(Exception):
    """The index has no row for an object: it does not exist, or is not indexed yet."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.object_id = object_id


@dataclass(frozen=True, slots=True)
class _WorkRow:
    """What the view says about one object and action."""

    player_id: str | None
    target_id: str
    anchor: int
    range: int


class Tables:
    """What one reading found, by id."""

    def __init__(self, told: dict[str, object]) -> None:
        """`told` is what `queries.OBJECT_WORK` or `PLAYER_WORK` gave. Raises BadChainAnswer."""
        self._structs = _by_id(told, "structs")
        self._fleets = _by_id(told, "fleets")
        self._planets = _by_id(told, "planets")
        self._types = _by_id(told, "types")
        self._struct_attributes = _object(told, "struct_attributes")
        self._planet_attributes = _object(told, "planet_attributes")
        self._ore = _object(told, "ore")
        self._work: dict[tuple[str, Action], _WorkRow] = {}
        #: What the view lists, in its order.
        self.listed: list[tuple[Action, str]] = []
        for row in _rows(told, "work"):
            self._take_work(row)

    def _take_work(self, row: dict[str, object]) -> None:
        category, object_id = row.get("category"), row.get("object_id")
        action = next((action for action in LISTED if action.value == category), None)
        if action is None:
            return  # a kind of work that newer stacks list
        checked = _checked(object_id, action.object_type, f"the object of a {action.value} in view.work")
        player_id, target_id = row.get("player_id"), row.get("target_id")
        self._work[checked, action] = _WorkRow(
            player_id if isinstance(player_id, str) else None,
            target_id if isinstance(target_id, str) else "",
            _whole(row.get("block_start"), f"block_start of {checked} in view.work"),
            _whole(row.get("difficulty_target"), f"difficulty_target of {checked} in view.work"),
        )
        self.listed.append((action, checked))

    def reading(self, action: Action, object_id: str) -> WorkReading:
        """The puzzle of an object. Raises NotIndexed, WorkGone, WorkPaused, ChainUnavailable, BadChainAnswer.

        WorkGone and WorkPaused carry in `depends_on` what had been looked at until then.
        """
        depends_on = {object_id}
        try:
            if action is Action.RAID:
                work, clock, owner = self._raid(object_id, depends_on)
            else:
                work, clock, owner = self._struct_work(action, object_id, depends_on)
        except (WorkGone, WorkPaused) as error:
            error.depends_on = frozenset(depends_on)
            raise
        self._check_view(work, owner)
        return WorkReading(work, frozenset(depends_on), clock)

    def is_open(self, action: Action, object_id: str) -> bool:
        """Whether `reading` would find it open now. Raises BadChainAnswer."""
        try:
            self.reading(action, object_id)
        except BadChainAnswer:
            raise
        except (ChainError, NotIndexed):
            return False
        return True

    def _struct_work(self, action: Action, struct_id: str, depends_on: set[str]) -> tuple[Work, str, str]:
        struct = self._struct(struct_id)
        depends_on.add(permissions_on(struct.owner))
        if action is Action.BUILD:
            return object_state.build_work(struct, self._ranges(struct.type)), "", struct.owner
        planet_id = object_state.ore_planet(action, struct)
        depends_on.add(planet_id)
        ranges, planet = self._ranges(struct.type), self._planet(planet_id)
        if action is Action.REFINE:
            depends_on.add(struct.owner)
        ore = self._ore_of(planet_id if action is Action.MINE else struct.owner)
        on_planet, on_struct = _CLOCKS[action]
        anchor = self._planet_attribute(on_planet, planet_id)
        # A planet that ever had a working rig has its clock set from v0.21 on; before, no planet has one.
        of_planet = anchor != 0
        if not of_planet:
            anchor = self._struct_attribute(on_struct, struct_id)
        rules = RULES_WITH_CHARTER if of_planet else RULES_BEFORE_CHARTER
        work = object_state.ore_work(action, struct, ranges, planet, ore, anchor, rules)
        return work, f"{planet_id}/{action.value}" if of_planet else "", struct.owner

    def _raid(self, fleet_id: str, depends_on: set[str]) -> tuple[Work, str, str]:
        fleet = self._fleet(fleet_id)
        depends_on |= {permissions_on(fleet.owner), *([fleet.planet_id] if fleet.planet_id else [])}
        planet = self._planet(object_state.raid_planet(fleet))
        if planet.owner:
            depends_on.add(planet.owner)
        # A complete planet is raided no more from v0.22 on; before, it may be. Which version it is, no table tells.
        return object_state.raid_work(fleet, planet, RULES_WITH_CHARTER), "", fleet.owner

    def _check_view(self, work: Work, owner: str) -> None:
        """Raise ChainUnavailable unless the view lists this very puzzle."""
        what = f"{work.action.value} {work.object_id}"
        row = self._work.get((work.object_id, work.action))
        if row is None:
            raise ChainUnavailable(f"the guild stack's tables pose {what}, but view.work does not list it; one lags")
        told = (row.anchor, row.range, row.target_id)
        ours = (work.anchor, work.range, work.target_id or work.object_id)
        if told != ours or row.player_id not in (owner, None):
            raise ChainUnavailable(
                f"the guild stack contradicts itself about {what}: view.work tells anchor {row.anchor}, range "
                f"{row.range}, target {ascii(row.target_id)[:40]}, player {ascii(row.player_id)[:40]}; its tables "
                f"{work.anchor}, {work.range}, {work.target_id or work.object_id}, {owner}; one of them lags"
            )

    # Rows to values

    def _struct(self, struct_id: str) -> StructState:
        row = self._structs.get(struct_id)
        if row is None:
            raise NotIndexed(struct_id)
        status = StructStatus(
            self._struct_attribute("1", struct_id) & (StructStatus.BUILT | StructStatus.ONLINE | StructStatus.DESTROYED)
        )
        destroyed = row.get("is_destroyed") is True or StructStatus.DESTROYED in status
        on_planet = row.get("location_type") == "planet"
        return StructState(
            id=struct_id,
            type=_whole(row.get("type"), f"the type of struct {struct_id}"),
            owner=_checked(row.get("owner"), PLAYER_TYPE, f"the owner of struct {struct_id}"),
            planet_id=_checked(row.get("location_id"), PLANET_TYPE, f"the location of struct {struct_id}")
            if on_planet
            else None,
            built=StructStatus.BUILT in status,
            online=StructStatus.ONLINE in status,
            destroyed=destroyed,
            build_anchor=self._struct_attribute("2", struct_id),
            mine_anchor=self._struct_attribute("3", struct_id),
            refine_anchor=self._struct_attribute("4", struct_id),
        )

    def _ranges(self, number: int) -> TypeRanges:
        row = self._types.get(str(number))
        if row is None:
            raise BadChainAnswer(f"the guild stack does not know struct type {number}; its genesis data is missing")
        build = _whole(row.get("build_difficulty"), f"the build range of struct type {number}")
        if build < 2:
            raise BadChainAnswer(f"struct type {number} has build difficulty {build}; it should be 2 or more")
        return TypeRanges(
            number,
            build,
            _whole(row.get("ore_mining_difficulty"), f"the mining range of struct type {number}")
            if row.get("planetary_mining") == _RIG
            else 0,
            _whole(row.get("ore_refining_difficulty"), f"the refining range of struct type {number}")
            if row.get("planetary_refinery") == _REFINERY
            else 0,
        )

    def _planet(self, planet_id: str) -> PlanetState:
        row = self._planets.get(planet_id)
        if row is None:
            raise ChainUnavailable(f"planet {planet_id} is not indexed by the guild stack yet; try again")
        head, owner = row.get("location_list_start"), row.get("owner")
        return PlanetState(
            id=planet_id,
            owner=_checked(owner, PLAYER_TYPE, f"the owner of planet {planet_id}") if owner else "",
            complete=row.get("status") == "complete",
            ore=self._ore_of(planet_id),
            queue_head=_checked(head, FLEET_TYPE, f"the first fleet at planet {planet_id}") if head else "",
            shield=self._planet_attribute("0", planet_id),
            raid_anchor=self._planet_attribute("10", planet_id),
        )

    def _fleet(self, fleet_id: str) -> FleetState:
        row = self._fleets.get(fleet_id)
        if row is None:
            raise NotIndexed(fleet_id)
        status, behind = row.get("status"), row.get("location_list_forward")
        if status not in ("away", "onStation"):
            raise BadChainAnswer(f"fleet {fleet_id} has status {ascii(status)[:40]}; it should be away or onStation")
        at_planet = row.get("location_type") == "planet"
        return FleetState(
            id=fleet_id,
            owner=_checked(row.get("owner"), PLAYER_TYPE, f"the owner of fleet {fleet_id}"),
            away=status == "away",
            planet_id=_checked(row.get("location_id"), PLANET_TYPE, f"the location of fleet {fleet_id}")
            if at_planet
            else None,
            behind=_checked(behind, FLEET_TYPE, f"the fleet before fleet {fleet_id}") if behind else "",
        )

    def _struct_attribute(self, number: str, struct_id: str) -> int:
        return _whole(self._struct_attributes.get(f"{number}-{struct_id}", 0), f"attribute {number} of {struct_id}")

    def _planet_attribute(self, number: str, planet_id: str) -> int:
        return _whole(self._planet_attributes.get(f"{number}-{planet_id}", 0), f"attribute {number} of {planet_id}")

    def _ore_of(self, object_id: str) -> int:
        return _whole(self._ore.get(f"0-{object_id}", 0), f"the ore of {object_id}")


def in_order(listed: list[tuple[Action, str]]) -> list[tuple[Action, str]]:
    """Structs by number, each one's works in the order of the actions, the raid last."""
    actions = list(LISTED)
    return sorted(
        set(listed),
        key=lambda one: (one[0] is Action.RAID, int(one[1].partition("-")[2]), actions.index(one[0])),
    )


def owner_of(told: dict[str, object], object_id: str) -> str:
    """The player who owns an object. Raises NotIndexed, BadChainAnswer."""
    owner = told.get("owner")
    if owner is None:
        raise NotIndexed(object_id)
    return _checked(owner, PLAYER_TYPE, f"the owner of {object_id}")


def _rows(told: dict[str, object], name: str) -> list[dict[str, object]]:
    rows = told.get(name)
    if rows is None:
        return []  # no rows: jsonb_agg of nothing is null
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadChainAnswer(f"the guild stack's answer has no readable {name}")
    return rows


def _by_id(told: dict[str, object], name: str) -> dict[str, dict[str, object]]:
    return {str(row.get("id")): row for row in _rows(told, name)}


def _object(told: dict[str, object], name: str) -> dict[str, object]:
    value = told.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadChainAnswer(f"the guild stack's answer has no readable {name}")
    return value


def _whole(value: object, what: str) -> int:
    """A count that is 0 or more: NUMERIC columns come as 3 or as 3.0, and NULL is what a row of 0 may look like."""
    if value is None:
        raise BadChainAnswer(f"{what} is missing in the guild stack's tables")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadChainAnswer(f"{what} is {ascii(value)[:40]}; it should be a whole number, 0 or more")
    return value


def _checked(value: object, object_type: int, what: str) -> str:
    if not isinstance(value, str):
        raise BadChainAnswer(f"{what} is {ascii(value)[:40]}; it should be an id")
    try:
        return check_object_id(value, object_type, what)
    except InvalidInput as error:
        raise BadChainAnswer(str(error)) from error
