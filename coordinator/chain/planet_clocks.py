"""The ore clocks of planets (v0.21 on), read by name because their field numbers in the planet answer are not known."""

from __future__ import annotations

import logging
from typing import Final

from coordinator.chain import object_state
from coordinator.chain.object_reading import ObjectReader
from coordinator.chain.reading import Reading
from coordinator.chain.transport import Lagging
from hashfleet.action import Action

logger = logging.getLogger(__name__)

#: The stored name of a planet's ore clock, and how the proto enum spells it; which one a node takes is found out.
_CLOCK_NAMES: Final = {
    Action.MINE: ("blockStartOreMine", "planetBlockStartOreMine"),
    Action.REFINE: ("blockStartOreRefine", "planetBlockStartOreRefine"),
}
_SHIELD_NAME: Final = "planetaryShield"


class PlanetClocks:
    """Reads clocks from one node, and remembers how its versions spell them."""

    def __init__(self, objects: ObjectReader) -> None:
        self._objects = objects
        #: (node version, action) -> the spelling that was found to be right.
        self._names: dict[tuple[str, Action], str] = {}

    async def read(self, action: Action, planet: object_state.PlanetState, version: str, reading: Reading) -> int:
        """The planet's clock for this action.

        The spelling is found out once per version, by `object_state.planet_clock`; the shield that it is compared
        with is read after the clocks again, so that a shield that just changed is not taken for a clock.
        """
        if (planet.id, action) in reading.clocks:
            return reading.clocks[planet.id, action]
        known = self._names.get((version, action))
        if known is not None:
            clock = await self._objects.planet_attribute(planet.id, known, reading)
            return reading.clocks.setdefault((planet.id, action), clock)
        answers = {
            name: await self._objects.planet_attribute(planet.id, name, reading) for name in _CLOCK_NAMES[action]
        }
        shield = await self._objects.planet_attribute(planet.id, _SHIELD_NAME, reading)
        if shield != planet.shield:
            raise Lagging(f"the shield of planet {planet.id} changed while it was read; try again")
        name, clock = object_state.planet_clock(planet.id, shield, answers)
        if self._names.setdefault((version, action), name) == name:
            logger.info("The chain %s spells the %s clock of a planet %s.", version, action.value.lower(), name)
        return reading.clocks.setdefault((planet.id, action), clock)
