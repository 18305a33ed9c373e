"""What differs between the releases of structsd, as far as a miner can notice.

Source: section 8 of the chain interface notes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from hashfleet.difficulty import Rule

#: Nominal; the notes do not tell the number.
LIST_CAP: Final = 100


@dataclass(frozen=True, slots=True)
class Rules:
    """One release. Each switch names the release that brought it."""

    #: What GetNodeInfo tells.
    release: str
    #: v0.17: the ante handler's own errors have a codespace and numbers; before, they were plain text with code 1.
    numbered_ante: bool = False
    #: v0.17: one proof per object and height already in the mempool, and no two in one transaction.
    slots_in_mempool: bool = False
    #: v0.18: the raid clock runs only while the defender is vulnerable; before, it was set by every new head of the
    #: queue and never cleared.
    gated_raid_clock: bool = False
    #: v0.19: a defender whose fleet is away is vulnerable too.
    away_is_vulnerable: bool = False
    #: v0.18: shields count in tens; before, in thousands.
    small_shields: bool = False
    #: v0.21: ore clocks belong to planets and stand still during a raid.
    planet_clocks: bool = False
    #: v0.21: guilds can be founded by a proof, MsgGuildCreate has ten fields, costs gas, and needs PermPlay.
    charter: bool = False
    #: v0.21: a proof takes its object's slot only if its signer has the right to it.
    slots_for_signers: bool = False
    #: v0.21: a queue of raiders has a limited length.
    limited_queue: bool = False
    #: v0.21: a destroyed building is refused as such.
    refuses_destroyed: bool = False
    #: v0.22: messages of a player are counted in the mempool too.
    player_cap_in_mempool: bool = False
    #: v0.22: only an active planet can be raided.
    raid_needs_active_planet: bool = False
    #: v0.22: a building without a clock gets that of the genesis.
    stamps_builds: bool = False
    #: v0.22: the answer about an address has a member proofNonce.
    proof_nonce: bool = False
    #: v0.22: lists tell 0 as their total, and at most LIST_CAP entries.
    capped_lists: bool = False
    #: v0.22: integers.
    difficulty: Rule = Rule.FLOAT

    @property
    def base_shield(self) -> int:
        """Shield of a planet without shield structures."""
        return 25 if self.small_shields else 1500


_V16 = Rules("v0.16.0")
_V17 = replace(_V16, release="v0.17.0", numbered_ante=True, slots_in_mempool=True)
_V18 = replace(_V17, release="v0.18.0", gated_raid_clock=True, small_shields=True)
_V19 = replace(_V18, release="v0.19.1", away_is_vulnerable=True)
_V20 = replace(_V19, release="v0.20.0")
_V21 = replace(
    _V20,
    release="v0.21.0",
    planet_clocks=True,
    charter=True,
    slots_for_signers=True,
    limited_queue=True,
    refuses_destroyed=True,
)
_V22 = replace(
    _V21,
    release="v0.22.0",
    player_cap_in_mempool=True,
    raid_needs_active_planet=True,
    stamps_builds=True,
    proof_nonce=True,
    capped_lists=True,
    difficulty=Rule.EXACT,
)

#: Releases that the devnet can behave like.
VERSIONS: Final = {
    "v0.16": _V16, "v0.17": _V17, "v0.18": _V18, "v0.19": _V19, "v0.20": _V20, "v0.21": _V21, "v0.22": _V22,
}  # fmt: skip
DEFAULT_VERSION: Final = "v0.20"
