"""`hashfleet bench`: JSON for programs, tables for people. What is measured is tested elsewhere."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from bench.players import Case
from bench.report import CoreReport, FleetReport, JobsReport, KernelsReport, PlayersReport, as_json
from hashfleet.cli import bench


@pytest.fixture
def measured(
    monkeypatch: pytest.MonkeyPatch,
    kernels_report: KernelsReport,
    fleet_report: FleetReport,
    jobs_report: JobsReport,
    core_report: CoreReport,
    players_report: PlayersReport,
) -> None:
    """Every measurement gives the reports of conftest.py at once."""

    async def fleet(choice: str, rounds: int, seconds: float, cancels: int) -> FleetReport:
        return fleet_report

    async def jobs(choice: str, count: int, difficulties: tuple[int, ...]) -> JobsReport:
        return jobs_report

    async def core(choice: str, rounds: int, *, waiting: int) -> CoreReport:
        return core_report

    async def players(count: int, cases: list[Case]) -> PlayersReport:
        return players_report

    monkeypatch.setattr(bench, "measure_kernels", lambda kinds, rounds, seconds: kernels_report)
    monkeypatch.setattr(bench, "measure_fleet", fleet)
    monkeypatch.setattr(bench, "measure_jobs", jobs)
    monkeypatch.setattr(bench, "measure_core", core)
    monkeypatch.setattr(bench, "measure_players", players)


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("kind", ["kernels", "fleet", "jobs", "core", "players"])
def test_json_is_the_whole_report(kind: str, request: pytest.FixtureRequest) -> None:
    done = CliRunner().invoke(bench.command, [kind, "--json"])
    assert done.exit_code == 0, done.output
    assert done.stdout == as_json(request.getfixturevalue(f"{kind}_report")) + "\n"


@pytest.mark.usefixtures("measured")
def test_the_table_of_engines_shows_ratios_limits_and_what_is_missing() -> None:
    done = CliRunner().invoke(bench.command, ["kernels"])
    assert done.exit_code == 0, done.output
    (row,) = [line.split() for line in done.stdout.splitlines() if "shape T" in line]
    assert row[-9:] == ["7%", "193", "x", "1.49", "x", "50%", "of", "580", "MH/s"]
    assert "not measured: Node: a loop of crypto.createHash: node is not installed" in done.stdout
    assert "limit: 815 operations a hash; 2 cores" in done.stdout


@pytest.mark.usefixtures("measured")
def test_an_engine_that_was_asked_for_and_is_not_measured_is_a_failure() -> None:
    assert CliRunner().invoke(bench.command, ["kernels", "--engine", "cpu"]).exit_code == 0
    assert CliRunner().invoke(bench.command, ["kernels", "--engine", "cpu", "--engine", "cuda"]).exit_code == 1


@pytest.mark.usefixtures("measured")
def test_the_fleet_is_shown_with_its_share_and_its_latencies() -> None:
    done = CliRunner().invoke(bench.command, ["fleet"])
    assert "96.0%" in done.stdout
    assert "median 50.5 ms, 99th percentile 99 ms (100 measured)" in done.stdout


@pytest.mark.usefixtures("measured")
def test_jobs_are_shown_per_second() -> None:
    done = CliRunner().invoke(bench.command, ["jobs"])
    assert "1000 in 8.0 s, 125.0 a second" in done.stdout
    assert "3000 in 1.50 s, 2000 a second" in done.stdout


@pytest.mark.usefixtures("measured")
def test_the_core_is_shown_beside_its_bars() -> None:
    done = CliRunner().invoke(bench.command, ["core"])
    assert "250 MB; bar: < 400 MB" in done.stdout
    assert "2.5%; bar: < 5 %" in done.stdout


@pytest.mark.usefixtures("measured")
def test_the_blocks_of_many_players_are_shown_beside_the_least() -> None:
    done = CliRunner().invoke(bench.command, ["players", "--case", "one key"])
    (row,) = [line.split() for line in done.stdout.splitlines() if "8 keys" in line]
    assert row[-7:] == ["of", "3000", "0", "410", "11", "10", "0.5"]
