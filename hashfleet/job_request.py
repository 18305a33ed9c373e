"""What a caller asks of the fleet, checked at whichever door it comes in: the client's, gRPC's or MCP's."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hashfleet.action import MAX_HEIGHT, PLANET_TYPE, PLAYER_TYPE, Action, check_anchor, check_object_id, check_range
from hashfleet.charter import Founding
from hashfleet.difficulty import MAX_DIFFICULTY
from hashfleet.errors import InvalidInput
from hashfleet.proof import MAX_NONCE_DIGITS

#: Weights of jobs that tie: how unequal their shares of the fleet may be asked to be.
MAX_WEIGHT = 1000
#: Characters of an idempotency key at most; printable ASCII, so that it can be logged and stored anywhere.
MAX_KEY_LENGTH = 128
#: The largest budget of hashes: what the store's integers hold.
MAX_BUDGET = 2**63 - 1
#: Digits that the fleet needs to keep its leases apart and to count: 14 of extranonce and 12 of counter.
LEAST_NONCE_DIGITS = 26


class Priority(enum.IntEnum):
    """Who goes first; smaller goes first."""

    CRITICAL = 1
    INTERACTIVE = 2
    BULK = 3


class StartMode(enum.Enum):
    """When hashing starts, if the caller sets no start difficulty; the rules stand in `coordinator.core.schedule`."""

    #: Least hashing: once the expected solve fits in about one block.
    ECONOMY = "economy"
    #: Least expected finish, weighed against the fleet's time and the other jobs that want it.
    BALANCED = "balanced"
    #: At once: every hash counts, because the best one so far is kept until the chain asks no more than it has.
    RACE = "race"


class Mode(enum.Enum):
    """What is done with the proof."""

    #: Signed and submitted by the coordinator.
    SUBMIT = "submit"
    #: Given to the caller, who submits it: pooled and delegated hashing.
    RETURN_PROOF = "return_proof"


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a caller asked for. Checked when made."""

    action: Action
    #: Struct id; fleet id for a raid; for a charter the id of the player who founds the guild.
    object_id: str
    #: On whose behalf the transaction is signed. Of a charter whose proof is returned it is the solver: whose key will
    #: submit it.
    player_id: str
    #: Planet of a raid, if the caller named one.
    target_id: str | None = None
    #: What the caller believes the anchor and range are; the chain's own values win.
    anchor_hint: int | None = None
    range_hint: int | None = None
    #: Give up after this many hashes; None means never.
    max_hashes: int | None = None
    priority: Priority = Priority.INTERACTIVE
    #: Longest nonce that whoever takes the proof accepts; the chain sets no limit.
    max_nonce_digits: int = MAX_NONCE_DIGITS
    mode: Mode = Mode.SUBMIT
    start_mode: StartMode = StartMode.BALANCED
    #: Hash as soon as the chain asks for this many zeros or fewer; overrides start_mode.
    start_difficulty: int | None = None
    #: Height by which the proof should be in the chain: hashing starts early enough, and the job fails after it.
    deadline_height: int | None = None
    #: Share of the fleet beside jobs that tie with this one.
    weight: int = 1
    #: The caller's own name for this request: asked again with the same key, it is the same job, finished or not.
    idempotency_key: str | None = None
    #: How the guild of a charter is founded; only a charter has it, and needs it unless its proof is returned.
    founding: Founding | None = None

    def __post_init__(self) -> None:
        check_object_id(self.object_id, self.action.object_type, "entity_id")
        check_object_id(self.player_id, PLAYER_TYPE, "player_id")
        if self.target_id is not None and self.action is not Action.RAID:
            raise InvalidInput("target_id is given, but only a raid has a target; leave it out")
        if self.target_id is not None:
            check_object_id(self.target_id, PLANET_TYPE, "target_id")
        if self.founding is not None and self.action is not Action.CHARTER:
            raise InvalidInput("reactor_id and endpoint are given, but only a charter founds a guild; leave them out")
        if self.founding is None and self.action is Action.CHARTER and self.mode is Mode.SUBMIT:
            raise InvalidInput("a charter should name the reactor_id and the endpoint of the guild that is founded")
        if self.anchor_hint is not None:
            check_anchor(self.anchor_hint)
        if self.range_hint is not None:
            check_range(self.range_hint)
        if self.max_hashes is not None and not 1 <= self.max_hashes <= MAX_BUDGET:
            raise InvalidInput(f"max_iterations is {self.max_hashes}; it should be 1 or more, or left out for no limit")
        if not LEAST_NONCE_DIGITS <= self.max_nonce_digits <= MAX_NONCE_DIGITS:
            raise InvalidInput(
                f"max_nonce_digits is {self.max_nonce_digits}; it should be {LEAST_NONCE_DIGITS} to {MAX_NONCE_DIGITS}"
            )
        if self.start_difficulty is not None and not 1 <= self.start_difficulty <= MAX_DIFFICULTY:
            raise InvalidInput(
                f"start_difficulty is {self.start_difficulty}; it should be 1 to {MAX_DIFFICULTY} leading hex zeros, "
                "or left out to let start_mode decide"
            )
        if self.deadline_height is not None and not 1 <= self.deadline_height <= MAX_HEIGHT:
            raise InvalidInput(
                f"deadline_height is {self.deadline_height}; it should be a block height from 1 to {MAX_HEIGHT}"
            )
        if not 1 <= self.weight <= MAX_WEIGHT:
            raise InvalidInput(f"weight is {self.weight}; it should be 1 to {MAX_WEIGHT}")
        key = self.idempotency_key
        if key is not None and not (1 <= len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
            raise InvalidInput(f"idempotency_key should be 1 to {MAX_KEY_LENGTH} printable ASCII characters")

    @property
    def claim(self) -> tuple[Action, str]:
        """What two unfinished jobs may not share: an object has one clock per action."""
        return self.action, self.object_id
