"""What is known of the rights of signing addresses, for as long as nothing says that it may have changed.

Jobs come in batches, mostly of one owner and one key: asking the same two questions for each would triple what a job
asks of the node. Only rights that are there are kept, never that one is missing.
"""

from __future__ import annotations

from typing import Final

from coordinator.chain.block_events import permissions_on
from hashfleet.action import ADDRESS_TYPE, Action

#: Seconds after which a right is asked for again, whatever was told: an event may be missed.
RIGHT_SECONDS: Final = 30.0
#: Seconds for which an owner that a reading told is taken for the owner.
OWNER_SECONDS: Final = 2.0
#: Owners and rights kept at most; beyond it all are forgotten.
_MOST: Final = 10_000


class KnownRights:
    """Rights found with the node, and owners told by readings. `now` is any clock in seconds that never goes back."""

    def __init__(self) -> None:
        #: (address, owner, action) -> time until which it holds, and the player of the address.
        self._rights: dict[tuple[str, str, Action], tuple[float, str]] = {}
        #: (action, object) -> time until which it holds, and the owner.
        self._owners: dict[tuple[Action, str], tuple[float, str]] = {}
        #: Changes with every block that may have changed a right: what was asked before it is not to be kept.
        self.era = 0

    def note_owner(self, action: Action, object_id: str, owner: str, now: float) -> None:
        """A reading told whose object this is."""
        if len(self._owners) >= _MOST:
            self._owners.clear()
        self._owners[action, object_id] = now + OWNER_SECONDS, owner

    def take_owner(self, action: Action, object_id: str, now: float) -> str | None:
        """The owner, if a reading told it a moment ago. Given once: the next one who asks reads again."""
        until, owner = self._owners.pop((action, object_id), (0.0, None))
        return owner if now < until else None

    def keep(self, address: str, owner: str, action: Action, player: str, era: int, now: float) -> None:
        """The node said, asked in this era, that the address, a player's, may do this action for this owner."""
        if era != self.era:
            return
        if len(self._rights) >= _MOST:
            self._rights.clear()
        self._rights[address, owner, action] = now + RIGHT_SECONDS, player

    def holder(self, address: str, owner: str, action: Action, now: float) -> str | None:
        """The player of the address, if the address is known to have this right."""
        until, player = self._rights.get((address, owner, action), (0.0, ""))
        return player if now < until else None

    def block_seen(self, touched: frozenset[str] | None) -> None:
        """Forget what a block may have changed; None for a block of which nothing is known."""
        self._owners.clear()
        if touched is None:
            self.era += 1
            self._rights.clear()
            return
        if not any(each.endswith("@") or each.startswith(f"{ADDRESS_TYPE}-") for each in touched):
            return
        self.era += 1
        for key in [key for key in self._rights if not touched.isdisjoint(_watched(key[0], key[1]))]:
            del self._rights[key]


def _watched(address: str, owner: str) -> tuple[str, ...]:
    """What a block touches that changes what an address may do for an owner."""
    key = f"{ADDRESS_TYPE}-{address}"
    return key, permissions_on(key), permissions_on(owner)
