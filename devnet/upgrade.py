"""What an upgrade of the chain does to its state, at the height of its block: no event tells any of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from devnet.rules import VERSIONS
from devnet.state import Planet, State
from hashfleet.errors import InvalidInput

_IN_ORDER: Final = tuple(VERSIONS)
#: v0.18 counts shields anew, which is not played here.
_OLDEST: Final = "v0.18"


def check(before: str, after: str) -> None:
    """Raise InvalidInput if the devnet cannot be upgraded so."""
    allowed = _IN_ORDER[max(_IN_ORDER.index(_OLDEST), _IN_ORDER.index(before) + 1) :]
    if before not in _IN_ORDER[_IN_ORDER.index(_OLDEST) :] or after not in allowed:
        raise InvalidInput(
            f"the devnet cannot go from {before} to {after[:40]!r}; "
            f"it can go from {_OLDEST} or newer to a later version"
        )


def migrate(state: State, version: str, height: int) -> None:
    """Let the state be of this version from this block on.

    Clocks that planets get for the first time start here, where a struct uses them, and so does that of charters.
    """
    before, state.version = state.rules, version
    if state.rules.charter and not before.charter:
        state.charter = replace(state.charter, anchor=height)
    if state.rules.planet_clocks and not before.planet_clocks:
        for planet in list(state.planets.values()):
            state.planets[planet.id] = _with_clocks(state, planet, height)


def _with_clocks(state: State, planet: Planet, height: int) -> Planet:
    kinds = [
        state.struct_types[struct.type]
        for struct in state.structs.values()
        if struct.location_id == planet.id and struct.online and not struct.destroyed
    ]
    rigs = sum(bool(kind.mine_range) for kind in kinds)
    refineries = sum(bool(kind.refine_range) for kind in kinds)
    return replace(
        planet,
        active_rigs=rigs,
        active_refineries=refineries,
        block_start_ore_mine=height if rigs else 0,
        block_start_ore_refine=height if refineries else 0,
        block_raider_arrived=height if planet.queue else 0,
    )
