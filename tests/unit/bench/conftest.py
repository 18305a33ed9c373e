"""Reports of every kind with figures that are easy to check by hand."""

from __future__ import annotations

import pytest

from bench.report import (
    CoreReport,
    Figure,
    FleetReport,
    HeightTimes,
    IdleFigure,
    JobsReport,
    KernelsReport,
    Limit,
    Machine,
    Made,
    NotMeasured,
    PlayersFigure,
    PlayersReport,
    RipeJobs,
    Times,
)


@pytest.fixture
def made() -> Made:
    machine = Machine(cpu="AMD EPYC", cores=2, gpus=(), platform="Linux 6.18, x86_64", python="3.11.7")
    return Made(date="2026-11-23T19:45:00Z", hashfleet="0.1.0", commit="abc1234567", machine=machine, load=0.25)


@pytest.fixture
def kernels_report(made: Made) -> KernelsReport:
    """hashlib, hashcat, and an engine at half its limit; no Node."""
    return KernelsReport(
        made=made,
        seconds=2.0,
        figures=(
            Figure(
                id="hashlib", what="a loop of hashlib", hardware="one core", rounds=(1.5e6, 1.6e6, 1.4e6), version="P 3"
            ),
            Figure(
                id="hashcat-cpu",
                what="hashcat -b",
                hardware="all cores",
                rounds=(190e6, 200e6, 195e6),
                version="hashcat v6.2.6",
                ratios={"hashlib": 130.0},
            ),
            Figure(
                id="cpu/T",
                what="hashfleet, CPU, shape T",
                hardware="all cores",
                rounds=(300e6, 280e6, 290e6),
                version="avx512",
                limit=Limit(rate=580e6, how="815 operations a hash; 2 cores"),
                ratios={"hashlib": 193.3, "hashcat-cpu": 1.4872},
            ),
        ),
        not_measured=(NotMeasured(what="Node: a loop of crypto.createHash", reason="node is not installed"),),
    )


@pytest.fixture
def fleet_report(made: Made) -> FleetReport:
    return FleetReport(
        made=made,
        device="AMD EPYC, 2 processes",
        driver="avx512",
        booked=(98e6, 190e6, 96e6),
        raw=(100e6, 200e6, 100e6),
        cancel=Times(seconds=tuple(n / 1000 for n in range(1, 101))),
        between_leases=Times(seconds=(0.002, 0.004)),
    )


@pytest.fixture
def jobs_report(made: Made, ripe_jobs: RipeJobs) -> JobsReport:
    return JobsReport(
        made=made,
        device="AMD EPYC, 2 processes",
        jobs=1000,
        difficulties=(1, 2, 3, 4, 5),
        block_seconds=1.0,
        submitting_seconds=2.0,
        solved=1000,
        solving_seconds=8.0,
        included=40,
        cpu_seconds={"coordinator": 0.5, "worker": 0.25},
        ripe=ripe_jobs,
    )


@pytest.fixture
def ripe_jobs() -> RipeJobs:
    return RipeJobs(
        jobs=3000,
        difficulties=(3,),
        block_seconds=1.0,
        solving_seconds=1.5,
        included=5,
        cpu_seconds={"coordinator": 0.6, "worker": 0.3},
    )


@pytest.fixture
def core_report(made: Made, ripe_jobs: RipeJobs) -> CoreReport:
    return CoreReport(
        made=made,
        device="AMD EPYC, 2 processes",
        height_jobs=100_000,
        heights=(
            HeightTimes(touched="nothing", handled=Times(seconds=(0.001, 0.002, 0.003))),
            HeightTimes(touched="unknown", handled=Times(seconds=(0.004, 0.005, 0.060))),
        ),
        workers=1000,
        grant=Times(seconds=tuple(n / 100_000 for n in range(1, 101))),
        stop=Times(seconds=(0.020, 0.021)),
        wire_workers=8,
        wire_stop=Times(seconds=(0.002, 0.003)),
        ripe=(ripe_jobs,),
        idle=IdleFigure(
            jobs=100_000,
            empty_bytes=100_000_000,
            full_bytes=350_000_000,
            settling_seconds=80.0,
            seconds=20.0,
            cpu_seconds=0.5,
            blocks=7,
        ),
    )


@pytest.fixture
def players_report(made: Made) -> PlayersReport:
    return PlayersReport(
        made=made,
        version="v0.21",
        figures=(
            PlayersFigure(
                name="eight keys, batching",
                keys=8,
                batch=8,
                players=1000,
                proofs=3000,
                included=3000,
                stale=0,
                rejected=0,
                transactions=410,
                failed=0,
                blocks=11,
                least_blocks=10,
                found_seconds=20.0,
                block_seconds=(0.5, 0.25, 3.0),
            ),
        ),
    )
