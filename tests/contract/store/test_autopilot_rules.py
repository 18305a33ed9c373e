"""What every store promises about the autopilot's rules."""

from __future__ import annotations

from typing import Protocol

import pytest

from coordinator.store.protocol import Store, StoredRule
from hashfleet.action import Action
from hashfleet.autopilot_rule import MAX_JOBS, AutopilotRule
from hashfleet.job_request import MAX_WEIGHT, Mode, Priority, StartMode

FULL = AutopilotRule(
    "1-18446744073709551615",
    frozenset({Action.RAID, Action.MINE}),
    Priority.CRITICAL,
    StartMode.RACE,
    Mode.RETURN_PROOF,
    MAX_WEIGHT,
    MAX_JOBS,
    enabled=False,
)


class Reopenable(Protocol):
    store: Store

    async def reopen(self) -> Store: ...


@pytest.mark.parametrize("rule", [AutopilotRule("1-11"), FULL], ids=["defaults", "everything set"])
async def test_a_rule_is_there_after_a_restart_as_it_was(reopenable: Reopenable, rule: AutopilotRule) -> None:
    await reopenable.store.save_rule(StoredRule(rule, 1000.25))
    store = await reopenable.reopen()
    assert await store.rules() == [StoredRule(rule, 1000.25)]


async def test_a_player_has_one_rule_the_last_one(store: Store) -> None:
    await store.save_rule(StoredRule(FULL, 1.0))
    last = StoredRule(AutopilotRule(FULL.player_id), 2.0)
    await store.save_rule(last)
    await store.save_rule(StoredRule(AutopilotRule("1-2"), 3.0))
    assert sorted(await store.rules(), key=lambda stored: stored.set_at) == [
        last,
        StoredRule(AutopilotRule("1-2"), 3.0),
    ]


async def test_a_removed_rule_is_gone_and_was_there_once(reopenable: Reopenable) -> None:
    await reopenable.store.save_rule(StoredRule(FULL, 1.0))
    assert await reopenable.store.remove_rule(FULL.player_id) is True
    assert await reopenable.store.remove_rule(FULL.player_id) is False
    assert await (await reopenable.reopen()).rules() == []
