"""Whatever goes wrong between the coordinator and the chain, at whatever step of a submission: all of it comes right.

What happens in a run, and what is compared at its end, stands in `doubles/fault_runs.py`; the faults and the steps in
`doubles/fault_catalogue.py`. Two seeds each are run here; `make chaos` runs 200.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

DOUBLES = Path(__file__).with_name("doubles")
RUNS = DOUBLES / "fault_runs.py"

FAULTS = (
    "drop-grpc-before",
    "drop-grpc-after",
    "drop-rest-before",
    "drop-rest-after",
    "drop-websocket-before",
    "drop-websocket-after",
    "drop-broadcast-before",
    "drop-broadcast-after",
    "late-inclusion",
    "mempool-full",
    "silent-drop",
    "sequence-used",
    "stale-node",
    "blocks-out-of-order",
    "blocks-repeated",
    "blocks-skipped",
    "other-chain",
    "other-chain-after-reconnect",
    "slow-answers",
    "slow-broadcast",
    "index-lag",
    "gossip-to-no-one",
    "node-restart",
    "anchor-moved",
    "charter-taken",
    "object-gone",
    "permission-withdrawn",
    "grants-withdrawn",
    "two-at-once",
)
STEPS = (
    "before-account",
    "before-signing",
    "before-broadcast",
    "after-broadcast",
    "before-inclusion",
    "before-sight",
)
#: Seeds with which every fault can be expected to take place, whatever else is left to chance.
ENOUGH = 20

Told = dict[str, Any]


class Player:
    """A process that plays runs, one after the other."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with log.open("w") as said:
            self._process = subprocess.Popen(
                [sys.executable, str(RUNS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
            )

    def play(self, fault: str, step: str, seeds: range) -> list[Told]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        played = []
        for seed in seeds:
            self._process.stdin.write(f"{fault} {step} {seed} {seed}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            assert line, f"run {fault} {step} {seed} broke off: {self._log.read_text(errors='replace')[-4000:]}"
            played.append(json.loads(line))
        return played

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Callable[..., list[Told]]]:
    """Plays so many seeds of a fault at a step, on all cores."""
    seeds: int = pytestconfig.getoption("--chaos-seeds")
    folder = tmp_path_factory.mktemp("faults")
    at_once = min(len(os.sched_getaffinity(0)), seeds)
    players = [Player(folder / f"{number}.log") for number in range(at_once)]
    with ThreadPoolExecutor(at_once) as threads:

        def play_all(fault: str, step: str) -> list[Told]:
            shares = [threads.submit(one.play, fault, step, range(n, seeds, at_once)) for n, one in enumerate(players)]
            return [told for share in shares for told in share.result()]

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


@pytest.mark.timeout(3600)  # 200 seeds take minutes; each run has a limit of its own
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_goes_wrong_every_job_ends_right_and_nothing_is_sent_twice(
    play: Callable[..., list[Told]], fault: str, step: str
) -> None:
    played = play(fault, step)
    assert not any(told["wrong"] for told in played), failures(played)
    assert any(told["ordered"] for told in played), "the step was never reached"
    if len(played) >= ENOUGH:
        assert any(told["happened"] for told in played), "the fault never took place"
        assert any(told["crashed"] for told in played), "no coordinator was killed"


def test_the_fault_suite_knows_every_fault_and_every_step() -> None:
    listed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import json, fault_catalogue as c; print(json.dumps([list(c.NAMES), [s.value for s in c.Step]]))",
        ],
        cwd=DOUBLES,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(listed.stdout) == [list(FAULTS), list(STEPS)]


#: Defects, each with a fault by which the suite has to find it.
DEFECTS = {
    "takes what is not found for lost": (
        "late-inclusion after-broadcast 0 3",
        "from coordinator.submission import decision\n"
        "decision.follow = lambda flight, height: decision.Follow.SUPERSEDE\n",
    ),
    "forgets its ledger when it is killed": (
        "late-inclusion after-broadcast 5 5",
        "from coordinator.store.sql import SqlStore\n"
        "async def live_attempts(self): return []\n"
        "SqlStore.live_attempts = live_attempts\n",
    ),
    "counts sequences by itself and never asks": (
        "sequence-used before-account 0 0",
        "from coordinator.submission import decision, verdict\n"
        "decision.next_sequence = lambda committed, taken: max(taken, default=-1) + 1\n"
        "verdict.expected_sequence = lambda log: None\n",
    ),
    "reads the puzzle of charters once": (
        "charter-taken before-broadcast 4 8",
        "from coordinator.chain.structsd import StructsdClient\n"
        "read, kept = StructsdClient.read_charter, {}\n"
        "async def read_charter(self, founder, solver):\n"
        "    kept[founder] = kept.get(founder) or await read(self, founder, solver)\n"
        "    return kept[founder]\n"
        "StructsdClient.read_charter = read_charter\n",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_fault_suite_finds_a_planted_defect(defect: str) -> None:
    which, planted = DEFECTS[defect]
    program = f"{planted}import sys, fault_runs\nsys.exit(fault_runs.main({which.split()!r}))\n"
    played = subprocess.run(
        [sys.executable, "-c", program], cwd=DOUBLES, capture_output=True, text=True, timeout=110, check=False
    )
    assert played.returncode == 1, played.stdout[-2000:] + played.stderr[-2000:]
    assert any(json.loads(line)["wrong"] for line in played.stdout.splitlines())
