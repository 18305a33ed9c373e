"""Which rules a chain of a given version plays by.

Only what changes our reading of the objects stands here; the difficulty needs no switch (`hashfleet.difficulty.safe`
is enough on every version). Source: section 8 of the interface notes, read in structsd v0.16 to v0.22-dev.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_VERSION: Final = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})(?:\.[0-9]{1,4})?(?:[-+.].*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ChainRules:
    """The differences between versions that decide how work is read."""

    #: Mining and refining clocks belong to the planet (v0.21 on), not to the struct.
    planet_clocks: bool
    #: No ore is mined or refined on a planet while a fleet raids it (v0.21 on).
    raid_stops_ore: bool
    #: Only an active planet can be raided (v0.22 on).
    raid_needs_active_planet: bool


def rules_of(version: str) -> ChainRules | None:
    """The rules of a version such as ``v0.21.3`` or ``0.20.0-4-gabcdef``; None if it does not read like one.

    ``v0.0.0-...`` is what Go writes into a build without a release tag, so it is no version either.

    >>> rules_of("v0.20.0").planet_clocks
    False
    """
    found = _VERSION.fullmatch(version.strip())
    if not found:
        return None
    number = int(found[1]), int(found[2])
    if number == (0, 0):
        return None
    return ChainRules(
        planet_clocks=number >= (0, 21), raid_stops_ore=number >= (0, 21), raid_needs_active_planet=number >= (0, 22)
    )


#: For a build without a readable version, told apart by whether it serves the GuildCharter query (v0.21 on).
RULES_BEFORE_CHARTER: Final = ChainRules(planet_clocks=False, raid_stops_ore=False, raid_needs_active_planet=False)
RULES_WITH_CHARTER: Final = ChainRules(planet_clocks=True, raid_stops_ore=True, raid_needs_active_planet=False)
