"""docs/start-decision.md and its plot say what the code decides; the expectations are those of thrown dice."""

from __future__ import annotations

import math
import random
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import start_decision
from bench.start_decision import DOCUMENT, PLOT, main, page
from bench.start_plot import plot
from bench.start_policies import (
    BALANCED,
    BLOCK_SECONDS,
    DESKTOP,
    ECONOMY,
    OTHERS,
    OURS,
    RACE,
    RANGES,
    RATES,
    WEB,
    Policy,
)
from coordinator.core.survival import steps


def test_the_committed_document_is_what_the_code_makes() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == page()


def test_the_committed_plot_is_what_the_code_makes() -> None:
    assert PLOT.read_text(encoding="utf-8") == plot()


def test_the_command_says_whether_the_documents_are_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_decision, "DOCUMENT", tmp_path / "start-decision.md")
    monkeypatch.setattr(start_decision, "PLOT", tmp_path / "start-decision.svg")
    runner = CliRunner()
    before = runner.invoke(main, ["--check"])
    assert before.exit_code == 1
    assert "docs/start-decision.md is not what the code makes" in before.output
    assert runner.invoke(main).exit_code == 0
    assert runner.invoke(main, ["--check"]).exit_code == 0
    assert (tmp_path / "start-decision.md").read_text(encoding="utf-8") == page()


def test_the_plot_has_a_panel_per_range_and_quantity_and_a_curve_per_policy() -> None:
    made = ElementTree.fromstring(plot())
    curves = made.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(curves) == 2 * len(RANGES) * len((*OURS, *OTHERS))


@pytest.mark.parametrize("difficulty_range", RANGES)
def test_race_is_earliest_and_economy_spends_least_of_ours(difficulty_range: int) -> None:
    for rate in RATES:
        outcomes = {policy.name: policy.outcome(difficulty_range, rate) for policy in (*OURS, *OTHERS)}
        assert min(outcomes.values(), key=lambda each: each.finish) is outcomes[RACE.name]
        assert outcomes[ECONOMY.name].hashes <= outcomes[BALANCED.name].hashes <= outcomes[RACE.name].hashes


def thrown(policy: Policy, difficulty_range: int, rate: float, dice: random.Random) -> tuple[float, float]:
    """Age of the finish and hashes of one job, with every step's hits drawn."""
    power = rate * BLOCK_SECONDS
    started = policy.start(difficulty_range, rate)
    best = 0
    for begins, ends, zeros in steps(difficulty_range, started):
        if policy.keeps_best and best >= zeros:
            return begins, (begins - started) * power
        waited = dice.expovariate(power / 16.0**zeros)
        if begins + waited < ends:
            return begins + waited, (begins + waited - started) * power
        hashes, drawn = power * (ends - begins), dice.random()
        best_of_step = next(z for z in range(1, zeros + 1) if drawn < math.exp(-hashes * (16.0**-z - 16.0**-zeros))) - 1
        best = max(best, best_of_step)
    raise AssertionError("the last step has no end")


@pytest.mark.parametrize("policy", [DESKTOP, WEB, ECONOMY, BALANCED, RACE], ids=lambda policy: policy.name)
@pytest.mark.parametrize(("difficulty_range", "rate"), [(200, 3e7), (5000, 3e6), (28_000, 3e9)])
def test_what_is_expected_is_the_mean_of_thrown_dice(policy: Policy, difficulty_range: int, rate: float) -> None:
    dice, throws = random.Random(4_020), 1500
    ages, hashes = zip(*(thrown(policy, difficulty_range, rate, dice) for _ in range(throws)), strict=True)
    expected = policy.outcome(difficulty_range, rate)
    for seen, mean in ((ages, expected.finish), (hashes, expected.hashes)):
        average = math.fsum(seen) / throws
        spread = math.sqrt(math.fsum((each - average) ** 2 for each in seen) / throws / (throws - 1))
        assert abs(average - mean) <= 4 * spread + 1e-9 * mean
