"""What a caller tells the autopilot about one player, checked at whichever door it comes in."""

from __future__ import annotations

from dataclasses import dataclass

from hashfleet.action import PLAYER_TYPE, Action, check_object_id
from hashfleet.errors import InvalidInput
from hashfleet.job_request import MAX_WEIGHT, JobRequest, Mode, Priority, StartMode

#: Unfinished jobs that a rule may be limited to: more is as good as no limit.
MAX_JOBS = 100_000
#: Players that one coordinator serves by itself.
MAX_RULES = 10_000
#: What an object asks for by itself. A charter is founded because somebody wants it, with terms of his own.
PICKED_UP = frozenset(Action) - {Action.CHARTER}


@dataclass(frozen=True, slots=True)
class AutopilotRule:
    """Which of a player's outstanding work is picked up, and how. Checked when made; a player has one rule."""

    player_id: str
    #: Which kinds of work; all unless named.
    actions: frozenset[Action] = PICKED_UP
    #: What each job of the rule is asked with; see JobRequest.
    priority: Priority = Priority.INTERACTIVE
    start_mode: StartMode = StartMode.BALANCED
    mode: Mode = Mode.SUBMIT
    weight: int = 1
    #: Unfinished jobs that the player may have for the rule to add another, whoever asked for them; None for no limit.
    max_jobs: int | None = None
    #: False keeps the rule without serving the player.
    enabled: bool = True

    def __post_init__(self) -> None:
        check_object_id(self.player_id, PLAYER_TYPE, "player_id")
        if not self.actions:
            raise InvalidInput(
                "the rule names no action; it should name some of build, mine, refine and raid, or be left out for all"
            )
        if not self.actions <= PICKED_UP:
            raise InvalidInput("a charter is not picked up by rule, because its guild has terms; submit a job for it")
        if not 1 <= self.weight <= MAX_WEIGHT:
            raise InvalidInput(f"weight is {self.weight}; it should be 1 to {MAX_WEIGHT}")
        if self.max_jobs is not None and not 1 <= self.max_jobs <= MAX_JOBS:
            raise InvalidInput(f"max_jobs is {self.max_jobs}; it should be 1 to {MAX_JOBS}, or left out for no limit")

    def request(self, action: Action, object_id: str) -> JobRequest:
        """What is asked for one work of the player."""
        return JobRequest(
            action,
            object_id,
            self.player_id,
            priority=self.priority,
            mode=self.mode,
            start_mode=self.start_mode,
            weight=self.weight,
        )
