"""Which rules a chain of a given version plays by.

Only what changes our reading of the objects stands here. What does not need a switch: the difficulty
(`hashfleet.difficulty.safe` is enough on every version), and the codes of refusals (up to v0.16 the ante handler told
plain text under codespace ``undefined``, from v0.17 on numbers under ``structs-ante``; the verdict on an answer reads
both). Source: section 8 of the interface notes, read in structsd v0.16 to v0.22-dev.
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
    #: The raid clock runs only while the defender is vulnerable, and is 0 else (v0.18 on). Before, it was set by each
    #: new head of the queue and never cleared.
    gated_raid_clock: bool = True
    #: Guilds can be founded by a proof (v0.21 on).
    charter: bool = False


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
        gated_raid_clock=number >= (0, 18),
        planet_clocks=number >= (0, 21),
        raid_stops_ore=number >= (0, 21),
        charter=number >= (0, 21),
        raid_needs_active_planet=number >= (0, 22),
    )


def _release(version: str) -> ChainRules:
    rules = rules_of(version)
    assert rules is not None
    return rules


#: The upgrades that brought a difference, newest first: for a build without a readable version the newest one that
#: the chain has applied decides. Plans are named like releases [unverified].
UPGRADES: Final = tuple((f"v0.{minor}.0", _release(f"v0.{minor}.0")) for minor in (22, 21, 20, 19, 18, 17, 16))
#: For a build without a readable version on a chain that was never upgraded, told apart by whether it serves the
#: GuildCharter query (v0.21 on).
RULES_BEFORE_CHARTER: Final = _release("v0.20.0")
RULES_WITH_CHARTER: Final = _release("v0.21.0")
