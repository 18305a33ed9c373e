"""What agents send to and get from the autopilot's tools, and the way there from `hashfleet.v1.AutopilotStatus`."""

from __future__ import annotations

import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, Field

from coordinator.api.mcp_schema import PICKED_UP_ACTIONS, Arguments, PickedUpType
from hashfleet.autopilot_message import action_named, rule_of
from hashfleet.autopilot_rule import MAX_JOBS, PICKED_UP, AutopilotRule
from hashfleet.client import (
    MAX_PAGE_SIZE,
    FleetClient,
    ModeName,
    PriorityName,
    StartModeName,
    mode_name,
    priority_name,
    start_mode_name,
)
from hashfleet.job_request import MAX_WEIGHT, Mode, Priority, StartMode
from hashfleet.rpc.hashfleet.v1 import autopilot_service_pb2, job_pb2

_ACTION_TYPES = {action: name for name, action in PICKED_UP_ACTIONS.items()}
PLAYER = 'Id of the player whose work is picked up, such as "1-11".'


class RuleArguments(Arguments):
    """A whole rule: what is left out is the default, not what the former rule said."""

    player_id: str = Field(max_length=40, description=PLAYER)
    actions: list[PickedUpType] | None = Field(
        None, min_length=1, max_length=20, description="Which kinds of work; all of them if left out."
    )
    priority: PriorityName | None = Field(
        None, description="critical goes before interactive (if left out), interactive before bulk."
    )
    start_mode: StartModeName | None = Field(
        None,
        description="When hashing starts: balanced (if left out), race (at once) or economy (as late and as cheaply as "
        "possible).",
    )
    mode: ModeName | None = Field(
        None,
        description="submit (if left out): the coordinator submits the completing transactions. return_proof: it does "
        "not; the jobs' results hold the nonces.",
    )
    weight: int | None = Field(
        None, ge=1, le=MAX_WEIGHT, description="Share of the fleet beside jobs of the same standing; 1 if left out."
    )
    max_jobs: int | None = Field(
        None,
        ge=1,
        le=MAX_JOBS,
        description="No job is added while the player has this many unfinished ones; no limit if left out.",
    )
    enabled: bool | None = Field(
        None, description="false keeps the rule but picks up nothing for now; true if left out."
    )

    def rule(self) -> AutopilotRule:
        """Raises InvalidInput."""
        return AutopilotRule(
            player_id=self.player_id,
            actions=frozenset(PICKED_UP_ACTIONS[name] for name in self.actions) if self.actions else PICKED_UP,
            priority=Priority[(self.priority or "interactive").upper()],
            start_mode=StartMode(self.start_mode or "balanced"),
            mode=Mode(self.mode or "submit"),
            weight=self.weight or 1,
            max_jobs=self.max_jobs,
            enabled=self.enabled is not False,
        )


class RulesArguments(Arguments):
    """Which rules, and which page of them."""

    player_id: str | None = Field(None, max_length=40, description='Only the rule of this player, such as "1-11".')
    limit: int | None = Field(None, ge=1, le=MAX_PAGE_SIZE, description="Most rules to return; 50 if left out.")
    page_token: str | None = Field(
        None, max_length=500, description="next_page_token of the page before; left out for the first page."
    )


class PlayerArguments(Arguments):
    """Which player."""

    player_id: str = Field(max_length=40, description='Id of the player whose rule is removed, such as "1-11".')


class HeldWork(BaseModel):
    """A work that is not asked for again for a while."""

    action_type: PickedUpType
    entity_id: str
    reason: str = Field(description="What became of its last job.")
    failures: int = Field(description="Failures in a row.")
    until: str = Field(description="When it is asked for again, ISO 8601 in UTC.")


class Refusal(BaseModel):
    """What the coordinator's signing key may not do for the player."""

    action_type: PickedUpType
    reason: str = Field(description="What is missing, and who could grant it.")


class RuleStatus(BaseModel):
    """A rule and how its player is served."""

    player_id: str
    actions: list[PickedUpType]
    priority: PriorityName
    start_mode: StartModeName
    mode: ModeName
    weight: int
    max_jobs: int | None = Field(None, description="Absent without a limit.")
    enabled: bool
    set_at: str = Field(description="When the rule was set, ISO 8601 in UTC.")
    looked_height: int | None = Field(
        None, description="Block height of the last look at the player that succeeded; absent before the first."
    )
    looked_at: str | None = Field(None, description="When that was, ISO 8601 in UTC.")
    outstanding: int = Field(description="Works that the chain showed at that look, of any kind.")
    unfinished_jobs: int = Field(description="The player's unfinished jobs now, whoever asked for them.")
    jobs_made: int = Field(description="Jobs that the rule has made since the coordinator started.")
    queued: int = Field(description="Works that wait because of max_jobs.")
    held: int = Field(description="Works held back because their last job failed or was cancelled.")
    held_first: list[HeldWork] | None = Field(None, description="The first of them, 20 at most.")
    refusals: list[Refusal] | None = Field(
        None, description="Kinds of work that are not picked up because the signing key may not do them."
    )
    error: str | None = Field(None, description="Why the last look failed; absent after one that succeeded.")
    error_at: str | None = Field(None, description="When that was, ISO 8601 in UTC.")


class RuleList(BaseModel):
    """One page of rules, by player."""

    rules: list[RuleStatus]
    next_page_token: str | None = Field(None, description="Give it as page_token for the next page; absent at the end.")


class Removal(BaseModel):
    """What became of a rule that was to be removed."""

    player_id: str
    removed: bool = Field(description="False if the player had no rule.")


async def set_rule(client: FleetClient, asked: RuleArguments) -> RuleStatus:
    """Set a rule. Raises HashfleetError."""
    return rule_status(await client.set_autopilot_rule(asked.rule()))


async def list_rules(client: FleetClient, asked: RulesArguments) -> RuleList:
    """One page of rules. Raises HashfleetError."""
    page = await client.list_autopilot_rules(
        player_id=asked.player_id, page_size=asked.limit or 50, page_token=asked.page_token or ""
    )
    return RuleList(rules=[rule_status(status) for status in page.rules], next_page_token=page.next_page_token or None)


async def remove_rule(client: FleetClient, asked: PlayerArguments) -> Removal:
    """Remove a rule. Raises HashfleetError."""
    removed = await client.remove_autopilot_rule(asked.player_id)
    return Removal(player_id=asked.player_id, removed=removed)


def rule_status(status: autopilot_service_pb2.AutopilotStatus) -> RuleStatus:
    """A rule as agents see it. Raises InvalidInput or CoordinatorError for what is not known here."""
    rule = rule_of(status.rule)
    return RuleStatus(
        player_id=rule.player_id,
        actions=[_ACTION_TYPES[action] for action in _ACTION_TYPES if action in rule.actions],
        priority=priority_name(status.rule.priority),
        start_mode=start_mode_name(status.rule.start_mode),
        mode=mode_name(status.rule.mode),
        weight=rule.weight,
        max_jobs=rule.max_jobs,
        enabled=rule.enabled,
        set_at=_iso(status.set_at),
        looked_height=status.looked_height or None,
        looked_at=_iso(status.looked_at) if status.HasField("looked_at") else None,
        outstanding=status.outstanding,
        unfinished_jobs=status.unfinished_jobs,
        jobs_made=status.jobs_made,
        queued=status.queued,
        held=status.held,
        held_first=[_held(work) for work in status.held_first] or None,
        refusals=[
            Refusal(action_type=_action_type(refusal.action), reason=refusal.reason) for refusal in status.refusals
        ]
        or None,
        error=status.error or None,
        error_at=_iso(status.error_at) if status.HasField("error_at") else None,
    )


def _held(work: autopilot_service_pb2.HeldWork) -> HeldWork:
    return HeldWork(
        action_type=_action_type(work.action),
        entity_id=work.entity_id,
        reason=work.reason,
        failures=work.failures,
        until=_iso(work.until),
    )


def _action_type(action: job_pb2.Action.ValueType) -> PickedUpType:
    return _ACTION_TYPES[action_named(action)]


def _iso(stamp: Timestamp) -> str:
    return stamp.ToDatetime(tzinfo=datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
