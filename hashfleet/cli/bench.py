"""`hashfleet bench`: this machine's engines, the fleet around them, small jobs, the core, many players."""

from __future__ import annotations

import asyncio
import sys

import click
from rich.console import Console
from rich.table import Table

from bench.core import WAITING_JOBS, measure_core
from bench.document import PLAYER_HEADS, core_rows, cpu_per_job, player_rows
from bench.engines import KINDS, Kind
from bench.fleet import measure_fleet
from bench.jobs import DIFFICULTIES, measure_jobs
from bench.kernels import measure_kernels
from bench.one_device import CHOICES, Choice
from bench.players import CASES, PLAYERS, measure_players
from bench.report import (
    CoreReport,
    Figure,
    FleetReport,
    JobsReport,
    KernelsReport,
    PlayersReport,
    RipeJobs,
    Times,
    as_json,
)
from hashfleet.cli.logs import configure_logging
from hashfleet.cli.quantity import show_rate

_json_option = click.option("--json", "wants_json", is_flag=True, help="Print the whole measurement as JSON.")
_engine_option = click.option("--engine", type=click.Choice(CHOICES), default="auto", show_default=True)
_verbose_option = click.option("-v", "--verbose", is_flag=True, help="Log each measurement.")


@click.group("bench")
def command() -> None:
    """Measure engines, fleet, jobs and coordinator on this machine."""


@command.command("kernels")
@_json_option
@click.option("--seconds", type=click.FloatRange(0.1, 20), default=1.0, show_default=True, help="Length of a round.")
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--engine", "kinds", type=click.Choice(KINDS), multiple=True, help="Only these; all if not given.")
@_verbose_option
def kernels(wants_json: bool, seconds: float, rounds: int, kinds: tuple[Kind, ...], verbose: bool) -> None:
    """Hash rates of every engine here, beside hashlib, Node, openssl and hashcat, measured in turns.

    Programs that are not installed are left out and named. Exits with 1 if an engine asked for cannot be measured.
    """
    configure_logging(verbose)
    report = measure_kernels(kinds or KINDS, rounds, seconds)
    if wants_json:
        click.echo(as_json(report))
    else:
        _show_kernels(report)
    measured = {figure.id.partition(":")[0].partition("-")[0].partition("/")[0] for figure in report.figures}
    if not measured & set(KINDS) or not set(kinds) <= measured:
        sys.exit(1)


@command.command("fleet")
@_json_option
@_engine_option
@click.option("--seconds", type=click.FloatRange(3, 600), default=6.0, show_default=True, help="Length of a round.")
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--cancels", type=click.IntRange(1, 1000), default=40, show_default=True)
@_verbose_option
def fleet(wants_json: bool, engine: Choice, seconds: float, rounds: int, cancels: int, verbose: bool) -> None:
    """What of an engine's rate the coordinator books, and how fast a cancelled job stops.

    Starts a devnet, a coordinator and a worker on this machine, and stops them in the end.
    """
    configure_logging(verbose)
    report = asyncio.run(measure_fleet(engine, rounds, seconds, cancels))
    if wants_json:
        click.echo(as_json(report))
    else:
        _show_fleet(report)


@command.command("jobs")
@_json_option
@_engine_option
@click.option("--count", type=click.IntRange(1, 100_000), default=500, show_default=True, help="Number of jobs.")
@click.option(
    "--difficulty",
    "difficulties",
    type=click.IntRange(1, 6),
    multiple=True,
    default=DIFFICULTIES,
    show_default=True,
    help="Leading hex zeros, shared evenly among the jobs if given several times.",
)
@_verbose_option
def jobs(wants_json: bool, engine: Choice, count: int, difficulties: tuple[int, ...], verbose: bool) -> None:
    """How many small jobs are solved a second: submitted in batches, and waiting for one block.

    Starts a devnet, a coordinator and a worker on this machine, twice, and stops them in the end.
    """
    configure_logging(verbose)
    report = asyncio.run(measure_jobs(engine, count, difficulties))
    if wants_json:
        click.echo(as_json(report))
    else:
        _show_jobs(report)


@command.command("core")
@_json_option
@_engine_option
@click.option("--rounds", type=click.IntRange(1, 20), default=2, show_default=True, help="Of solving ripe jobs.")
@click.option(
    "--waiting", type=click.IntRange(100, 1_000_000), default=WAITING_JOBS, show_default=True, help="Waiting jobs."
)
@_verbose_option
def core(wants_json: bool, engine: Choice, rounds: int, waiting: int, verbose: bool) -> None:
    """What the coordinator takes and how soon it acts, with very many jobs and workers. Takes some minutes.

    Starts a devnet, a coordinator and a worker on this machine, several times, and stops them in the end.
    """
    configure_logging(verbose)
    report = asyncio.run(measure_core(engine, rounds, waiting=waiting))
    if wants_json:
        click.echo(as_json(report))
    else:
        _show_core(report)


@command.command("players")
@_json_option
@click.option("--players", "count", type=click.IntRange(1, 10_000), default=PLAYERS, show_default=True)
@click.option(
    "--case", "names", type=click.Choice([case.name for case in CASES]), multiple=True, help="Only these; else all."
)
@_verbose_option
def players(wants_json: bool, count: int, names: tuple[str, ...], verbose: bool) -> None:
    """Blocks that the proofs of many players take, three each and ripe at once. Takes some minutes.

    Counted on a devnet with the limits of a real chain, beside the least number of blocks that these allow.
    """
    configure_logging(verbose)
    report = asyncio.run(measure_players(count, [case for case in CASES if not names or case.name in names]))
    if wants_json:
        click.echo(as_json(report))
    else:
        _show_players(report)


def _show_kernels(report: KernelsReport) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("WHAT")
    table.add_column("ON", no_wrap=True)
    for heading in ("RATE", "SPREAD", "TO HASHLIB", "TO NODE", "TO HASHCAT", "LIMIT"):
        table.add_column(heading, justify="right", no_wrap=True)
    for figure in report.figures:
        ratios = figure.ratios
        table.add_row(
            figure.what,
            figure.hardware,
            show_rate(figure.rate),
            f"{figure.spread:.0%}",
            _times(ratios.get("hashlib")),
            _times(ratios.get("node")),
            _times(ratios.get("hashcat-gpu", ratios.get("hashcat-cpu"))),
            _of_limit(figure),
        )
    console = _console()
    console.print(table)
    for how in dict.fromkeys(figure.limit.how for figure in report.figures if figure.limit):
        console.print(f"limit: {how}", markup=False, highlight=False)
    for missing in report.not_measured:
        console.print(f"not measured: {missing.what}: {missing.reason}", markup=False, highlight=False)


def _show_fleet(report: FleetReport) -> None:
    _show_sheet(
        ("device", f"{report.device} ({report.driver})"),
        ("booked", ", ".join(map(show_rate, report.booked))),
        ("alone", ", ".join(map(show_rate, report.raw))),
        ("booked over alone", f"{report.share:.1%}"),
        ("cancel to idle", _milliseconds(report.cancel)),
        ("lease to lease", _milliseconds(report.between_leases)),
    )


def _show_jobs(report: JobsReport) -> None:
    _show_sheet(
        ("device", report.device),
        ("stored", f"{report.jobs} jobs, {report.submitted_per_second:.0f} a second"),
        ("solved", f"{report.solved} in {report.solving_seconds:.1f} s, {report.solved_per_second:.1f} a second"),
        ("included by then", f"{report.included} transactions, blocks of {report.block_seconds:g} s"),
        *([("CPU time a job", cpu_per_job(report))] if report.cpu_seconds else []),
        *_ripe_rows(report.ripe),
    )


def _ripe_rows(ripe: RipeJobs | None) -> list[tuple[str, str]]:
    if ripe is None:
        return []
    return [
        ("ripe at one block", f"{ripe.jobs} in {ripe.solving_seconds:.2f} s, {ripe.solved_per_second:.0f} a second"),
        ("CPU time a job", cpu_per_job(ripe)),
    ]


def _show_core(report: CoreReport) -> None:
    _show_sheet(*((what, f"{measured}; bar: {bar}") for what, measured, bar in core_rows(report)))


def _show_players(report: PlayersReport) -> None:
    table = Table(box=None, pad_edge=False)
    for place, heading in enumerate(PLAYER_HEADS):
        table.add_column(heading.upper(), justify="left" if place < 2 else "right", no_wrap=True)
    for row in player_rows(report):
        table.add_row(*row)
    _console().print(table)


def _show_sheet(*rows: tuple[str, str]) -> None:
    sheet = Table.grid(padding=(0, 2))
    for row in rows:
        sheet.add_row(*row)
    _console().print(sheet)


def _console() -> Console:
    # Rich cuts columns to 80 characters where there is no terminal; a pipe gets whole lines.
    return Console(width=None if sys.stdout.isatty() else 250)


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3g} x"


def _of_limit(figure: Figure) -> str:
    limit = figure.limit
    if limit is None or limit.rate is None:
        return ""
    return f"{figure.rate / limit.rate:.0%} of {show_rate(limit.rate)}"


def _milliseconds(measured: Times) -> str:
    return (
        f"median {1000 * measured.median:.3g} ms, 99th percentile {1000 * measured.p99:.3g} ms "
        f"({len(measured.seconds)} measured)"
    )
