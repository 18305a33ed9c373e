"""The autopilot's rules as rows of their own table."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, Column, Double, Integer, RowMapping, SmallInteger, String, Table

from coordinator.store.protocol import StoredRule
from coordinator.store.schema import metadata
from hashfleet.action import Action
from hashfleet.autopilot_rule import AutopilotRule
from hashfleet.job_request import Mode, Priority, StartMode

autopilot_rules: Final = Table(
    "autopilot_rules",
    metadata,
    Column("player_id", String(32), primary_key=True),
    Column("actions", String(64), nullable=False),  # Action values in their order, with commas
    Column("priority", SmallInteger, nullable=False),
    Column("start_mode", String(16), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("weight", SmallInteger, nullable=False),
    Column("max_jobs", Integer),
    Column("enabled", Boolean, nullable=False),
    Column("set_at", Double, nullable=False),
)


def rule_row(stored: StoredRule) -> dict[str, object]:
    """The row of a rule: one value for every column."""
    rule = stored.rule
    return {
        "player_id": rule.player_id,
        "actions": ",".join(action.value for action in Action if action in rule.actions),
        "priority": int(rule.priority),
        "start_mode": rule.start_mode.value,
        "mode": rule.mode.value,
        "weight": rule.weight,
        "max_jobs": rule.max_jobs,
        "enabled": rule.enabled,
        "set_at": stored.set_at,
    }


def rule_of(row: RowMapping) -> StoredRule:
    """The rule of a row. Raises ValueError (InvalidInput is one) if the row holds what no rule can."""
    rule = AutopilotRule(
        row["player_id"],
        frozenset(Action(name) for name in row["actions"].split(",")),
        Priority(row["priority"]),
        StartMode(row["start_mode"]),
        Mode(row["mode"]),
        row["weight"],
        row["max_jobs"],
        row["enabled"],
    )
    return StoredRule(rule, row["set_at"])
