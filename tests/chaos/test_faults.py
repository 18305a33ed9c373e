"""Whatever goes wrong between the coordinator and the chain, at whatever step of a submission: all of it comes right.

What happens in a run, and what is compared at its end, stands in `doubles/fault_runs.py`; the faults and the steps in
`doubles/fault_catalogue.py`. Two seeds each are run here; `make chaos` runs 200.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from players import DOUBLES, ENOUGH, Play, cores, failures, listed, must_find, players

RUNS = DOUBLES / "fault_runs.py"
#: Without `--chaos-seeds`.
FEW = range(2)

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


@pytest.fixture(scope="module")
def seeds(pytestconfig: pytest.Config) -> range:
    """The seeds of each fault at each step."""
    asked: range | None = pytestconfig.getoption("--chaos-seeds")
    return FEW if asked is None else asked


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory, seeds: range) -> Iterator[Play]:
    """Plays runs on all cores."""
    at_once = min(cores(), len(seeds))
    with players([[str(RUNS)]] * at_once, tmp_path_factory.mktemp("faults")) as play:
        yield play


@pytest.mark.timeout(3600)  # 200 seeds take minutes; each run has a limit of its own
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_goes_wrong_every_job_ends_right_and_nothing_is_sent_twice(
    play: Play, seeds: range, fault: str, step: str
) -> None:
    played = play((fault, step, seed) for seed in seeds)
    assert not any(told["wrong"] for told in played), failures(RUNS, played)
    assert any(told["ordered"] for told in played), "the step was never reached"
    if len(played) >= ENOUGH:
        assert any(told["happened"] for told in played), "the fault never took place"
        assert any(told["crashed"] for told in played), "no coordinator was killed"


def test_the_fault_suite_knows_every_fault_and_every_step() -> None:
    assert listed("fault_catalogue", "NAMES") == [list(FAULTS), list(STEPS)]


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
    must_find(planted, "fault_runs", [which.split()])
