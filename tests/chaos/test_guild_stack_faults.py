"""Whatever goes wrong between the coordinator, a guild stack's database, its signing agent and the chain comes right.

What happens in a run, and what is compared at its end, stands in `doubles/guild_stack_runs.py`; the faults and the
steps in `doubles/guild_stack_catalogue.py`. `make chaos` runs 200 seeds of each; here it is one, with a kill in every
other, because a run on a database takes longer than one on a node.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

DOUBLES = Path(__file__).with_name("doubles")
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
#: Seeds with which every fault can be expected to take place, whatever else is left to chance.
ENOUGH = 20

Told = dict[str, Any]


class Player:
    """A process that plays runs on a database of its own, one after the other."""

    def __init__(self, url: str, log: Path) -> None:
        self._log = log
        with log.open("w") as said:
            self._process = subprocess.Popen(
                [sys.executable, str(RUNS), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
            )

    def play(self, fault: str, step: str, seed: int) -> Told:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{fault} {step} {seed} {seed}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"run {fault} {step} {seed} broke off: {self._log.read_text(errors='replace')[-4000:]}"
        told: Told = json.loads(line)
        return told

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@pytest.fixture(scope="module")
def play(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config, postgres_server: Any
) -> Iterator[Callable[[str], list[Told]]]:
    """Plays a fault at every step with so many seeds, on all cores."""
    seeds: int = pytestconfig.getoption("--chaos-seeds")
    folder = tmp_path_factory.mktemp("faults")
    at_once = len(os.sched_getaffinity(0))
    urls = [postgres_server.url(postgres_server.create()) for _ in range(at_once)]
    players = [Player(url, folder / f"{number}.log") for number, url in enumerate(urls)]
    idle: queue.SimpleQueue[Player] = queue.SimpleQueue()
    for player in players:
        idle.put(player)

    def play_one(fault: str, step: str, seed: int) -> Told:
        player = idle.get()
        try:
            return player.play(fault, step, seed)
        finally:
            idle.put(player)

    with ThreadPoolExecutor(at_once) as threads:

        def play_all(fault: str) -> list[Told]:
            few = seeds < 3  # then one seed of each, and the odd ones are killed
            runs = [
                threads.submit(play_one, fault, step, seed)
                for number, step in enumerate(STEPS)
                for seed in ([(number + FAULTS.index(fault)) % 2] if few else range(seeds))
            ]
            return [run.result() for run in runs]

        yield play_all
        for player in players:
            player.close()


def failures(played: list[Told]) -> str:
    """What was wrong, each with the command that plays it alone."""
    return "\n".join(
        f"{sys.executable} {RUNS} {told['fault']} {told['step']} {told['seed']}\n  " + "\n  ".join(told["wrong"])
        for told in played
        if told["wrong"]
    )


@pytest.mark.timeout(7200)  # 200 seeds take a while; each run has a limit of its own
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_goes_wrong_on_a_guild_stack_every_job_ends_right_and_nothing_is_done_twice(
    play: Callable[[str], list[Told]], fault: str
) -> None:
    told_of_all = play(fault)
    assert not any(told["wrong"] for told in told_of_all), failures(told_of_all)
    for step in STEPS:
        played = [told for told in told_of_all if told["step"] == step]
        assert any(told["ordered"] for told in played) or len(played) < ENOUGH, f"{step} was never reached"
        if len(played) >= ENOUGH:
            assert any(told["happened"] for told in played), f"the fault never took place at {step}"
            assert any(told["crashed"] for told in played), f"no coordinator was killed at {step}"


def test_the_fault_suite_of_the_guild_stack_knows_every_fault_and_every_step() -> None:
    listed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import json, guild_stack_catalogue as c; print(json.dumps([list(c.FAULTS), [s.value for s in c.Step]]))",
        ],
        cwd=DOUBLES,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(listed.stdout) == [list(FAULTS), list(STEPS)]


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
    program = f"{planted}import sys, guild_stack_runs\nsys.exit(guild_stack_runs.main({url!r}, {which.split()!r}))\n"
    played = subprocess.run(
        [sys.executable, "-c", program], cwd=DOUBLES, capture_output=True, text=True, timeout=110, check=False
    )
    assert played.returncode == 1, played.stdout[-2000:] + played.stderr[-2000:]
    assert any(json.loads(line)["wrong"] for line in played.stdout.splitlines())
