"""Whatever goes wrong between the coordinator, a guild stack's database, its signing agent and the chain comes right.

What happens in a run, and what is compared at its end, stands in `doubles/guild_stack_runs.py`; the faults and the
steps in `doubles/guild_stack_catalogue.py`. `make chaos` runs 200 seeds of each; here it is one, with a kill in every
other, because a run on a database takes longer than one on a node.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from players import DOUBLES, ENOUGH, Play, cores, failures, listed, must_find, players

RUNS = DOUBLES / "guild_stack_runs.py"

FAULTS = (
    "row-cut-before",
    "row-cut-after",
    "row-unanswered",
    "query-cut-before",
    "query-cut-after",
    "database-down",
    "agent-off",
    "agent-crashes-claimed",
    "agent-crashes-sent",
    "agent-fails",
    "agent-writes-nothing",
    "agent-writes-garbage",
    "refused-for-now",
    "refused-as-known",
    "refused",
    "refused-for-good",
    "silent-drop",
    "late-inclusion",
    "sequence-used",
    "row-deleted",
    "row-error",
    "index-lags",
    "index-halts",
    "notifications-lost",
    "completed-by-another",
    "object-gone",
    "anchor-moved",
    "node-down",
    "node-lags",
    "no-node",
)
STEPS = (
    "before-row",
    "row-made",
    "row-pending",
    "row-claimed",
    "row-sent",
    "before-inclusion",
    "before-index",
)


@pytest.fixture(scope="module")
def seeds(pytestconfig: pytest.Config) -> range | None:
    """The seeds of each fault at each step; None if few are enough."""
    asked: range | None = pytestconfig.getoption("--chaos-seeds")
    return asked


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory, postgres_server: Any) -> Iterator[Play]:
    """Plays runs on all cores, each process on a database of its own."""
    commands = [[str(RUNS), postgres_server.url(postgres_server.create())] for _ in range(cores())]
    with players(commands, tmp_path_factory.mktemp("faults")) as play:
        yield play


@pytest.mark.timeout(7200)  # 200 seeds take a while; each run has a limit of its own
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_goes_wrong_on_a_guild_stack_every_job_ends_right_and_nothing_is_done_twice(
    play: Play, seeds: range | None, fault: str
) -> None:
    told_of_all = play(
        (fault, step, seed)
        for number, step in enumerate(STEPS)
        # If few are enough, one of each; the odd ones are killed.
        for seed in (seeds if seeds is not None else [(number + FAULTS.index(fault)) % 2])
    )
    assert not any(told["wrong"] for told in told_of_all), failures(RUNS, told_of_all)
    for step in STEPS:
        played = [told for told in told_of_all if told["step"] == step]
        assert any(told["ordered"] for told in played) or len(played) < ENOUGH, f"{step} was never reached"
        if len(played) >= ENOUGH:
            assert any(told["happened"] for told in played), f"the fault never took place at {step}"
            assert any(told["crashed"] for told in played), f"no coordinator was killed at {step}"


def test_the_fault_suite_of_the_guild_stack_knows_every_fault_and_every_step() -> None:
    assert listed("guild_stack_catalogue", "FAULTS") == [list(FAULTS), list(STEPS)]


#: Defects, each with a fault by which the suite has to find it.
DEFECTS = {
    "puts in again without looking for its row": (
        "row-cut-after before-row 1 3",
        "from coordinator.chain.guild_stack.outbox import OutboxRow\nOutboxRow.proves = lambda self, work: False\n",
    ),
    "takes what is not found for lost": (
        "late-inclusion row-pending 2 5",
        "from coordinator.submission.guild_stack import following\n"
        "following.LANDING_SECONDS = 0.0\n"
        "async def overtaken(self, attempt, row): return True\n"
        "following.RowFollower._is_overtaken = overtaken\n",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_fault_suite_of_the_guild_stack_finds_a_planted_defect(postgres_server: Any, defect: str) -> None:
    which, planted = DEFECTS[defect]
    url = postgres_server.url(postgres_server.create())
    must_find(planted, "guild_stack_runs", [url, which.split()])
