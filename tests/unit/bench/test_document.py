"""docs/benchmarks.md says what the results say, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.__main__ import file_name
from bench.document import DOCUMENT, RESULTS, document, mega, read_all
from bench.report import CoreReport, FleetReport, JobsReport, KernelsReport, PlayersReport, Report, as_json, read
from hashfleet.errors import InvalidInput


def test_the_committed_document_is_what_the_committed_results_make() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(read_all(RESULTS))


def test_results_of_every_kind_are_committed() -> None:
    assert {report.kind for report in read_all(RESULTS)} >= {"kernels", "fleet", "jobs", "core", "players"}


def test_every_result_is_stored_under_its_machine_and_kind() -> None:
    paths = sorted(RESULTS.glob("*.json"))
    assert [path.stem for path in paths] == [file_name(read(path)) for path in paths]


def test_no_result_was_measured_on_changed_files() -> None:
    made = {path.name: read(path).made for path in RESULTS.glob("*.json")}
    assert {name for name, each in made.items() if each.commit is None or each.commit.endswith("+changes")} == set()


def test_an_engine_stands_beside_what_others_do_and_its_limit(kernels_report: KernelsReport) -> None:
    page = document([kernels_report])
    assert "| hashfleet, CPU, shape T | all cores | 290 | 193 x | 1.49 x | 580 | 50% |" in page
    assert "| a loop of hashlib | one core | 1.50 |  |  |  |  |" in page
    assert "- Limit of `cpu/T`: 815 operations a hash; 2 cores." in page


def test_what_was_not_measured_is_named_and_has_no_column(kernels_report: KernelsReport) -> None:
    page = document([kernels_report])
    assert "- Not measured: Node: a loop of crypto.createHash: node is not installed" in page
    assert "to Node" not in page


def test_machine_date_and_commit_are_told(kernels_report: KernelsReport) -> None:
    page = document([kernels_report])
    assert "### AMD EPYC, 2 cores" in page
    assert "2026-11-23, hashfleet 0.1.0 at abc1234567; Linux 6.18, x86_64, Python 3.11.7" in page


def test_the_share_of_the_fleet_is_taken_within_the_rounds(fleet_report: FleetReport) -> None:
    page = document([fleet_report])
    assert "| booked over alone, median of 3 rounds | 96.0% |" in page
    assert "median 50.5 ms, 99th percentile 99 ms (100 measured)" in page


def test_jobs_are_told_per_second(jobs_report: JobsReport) -> None:
    page = document([jobs_report])
    assert "| stored a second | 500 |" in page
    assert "| solved and checked a second | 125.0 |" in page


def test_jobs_that_waited_for_one_block_stand_beside_those_in_batches(jobs_report: JobsReport) -> None:
    page = document([jobs_report])
    assert "| waiting until one block, then solved and checked a second | 2,000.0 |" in page
    assert "| CPU time a job | 0.75 ms (coordinator 0.50, worker 0.25) |" in page
    assert "| CPU time a job from that block on | 0.30 ms (coordinator 0.20, worker 0.10) |" in page
    assert "| hashes a job asks for on average | 223,696 |" in page


def test_every_figure_of_the_core_stands_beside_its_bar(core_report: CoreReport) -> None:
    rows = [line for line in document([core_report]).splitlines() if line.startswith("| ") and "---" not in line]
    bars = [row.split(" | ")[-1].removesuffix(" |") for row in rows[1:]]
    assert (
        bars
        == ["< 400 MB", "< 5 %", "< 100 ms", "< 100 ms", "< 5 s", *["99th percentile < 5 ms"]]
        + ["99th percentile < 50 ms"] * 2
    )


def test_the_core_is_told_by_what_it_takes_above_an_empty_one_and_by_its_worst(core_report: CoreReport) -> None:
    page = document([core_report])
    assert "above the 100 MB without any) | 250 MB |" in page
    assert "while they wait (20 s, 7 blocks) | 2.5% |" in page
    assert "99th percentile 60 ms (3 measured), worst 60 ms |" in page
    assert "| 1.50 s (2,000 a second; CPU 0.30 ms (coordinator 0.20, worker 0.10)) |" in page
    assert "99th percentile 0.99 ms (100 measured) | 99th percentile < 5 ms |" in page


def test_a_kind_without_results_has_no_section(jobs_report: JobsReport) -> None:
    page = document([jobs_report])
    assert "## Small jobs" in page
    assert "## The coordinator" not in page
    assert "## Engines" not in page
    assert "## The fleet" not in page


def test_the_blocks_of_many_players_stand_beside_the_least(players_report: PlayersReport) -> None:
    page = document([players_report])
    assert "| 8 keys | up to 8 proofs | 3000 of 3000 | 0 | 410 | 11 | 10 | 0.5 |" in page
    assert "1000 players; the devnet behaves like v0.21." in page


@pytest.mark.parametrize("kind", ["kernels_report", "fleet_report", "jobs_report", "core_report", "players_report"])
def test_a_result_file_gives_back_the_report(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    report: Report = request.getfixturevalue(kind)
    path = tmp_path / "result.json"
    path.write_text(as_json(report))
    assert read(path) == report


def test_a_result_file_with_a_slip_is_refused_with_the_place(kernels_report: KernelsReport, tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    path.write_text(as_json(kernels_report).replace('"seconds"', '"secnods"'))
    with pytest.raises(InvalidInput, match=r"kernels\.json is no benchmark result: .* at kernels\.seconds"):
        read(path)


@pytest.mark.parametrize(
    ("rate", "text"), [(999_500, "1.00"), (9.99e6, "9.99"), (59.94e6, "59.9"), (238.4e6, "238"), (33.14e9, "33,100")]
)
def test_rates_are_told_with_three_digits(rate: float, text: str) -> None:
    assert mega(rate) == text
