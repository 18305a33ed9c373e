"""`python -m bench` (or `make bench`): measure this machine, record it, and make docs/benchmarks.md of all records."""

from __future__ import annotations

import asyncio
import logging
import re

import click

from bench.core import measure_core
from bench.document import DOCUMENT, RESULTS, document, read_all
from bench.engines import KINDS
from bench.fleet import measure_fleet
from bench.jobs import measure_jobs
from bench.kernels import measure_kernels
from bench.players import PLAYERS, measure_players
from bench.quiet import wait_until_quiet
from bench.report import Report, as_json

WHAT = ("kernels", "fleet", "jobs", "core", "players")


@click.command()
@click.argument("what", nargs=-1, type=click.Choice(WHAT))
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 20), default=2.0, show_default=True, help="Length of a round.")
@click.option("--cancels", type=click.IntRange(1, 1000), default=40, show_default=True)
@click.option("--jobs", type=click.IntRange(1, 100_000), default=4000, show_default=True)
@click.option(
    "--patience",
    type=click.FloatRange(0, 600),
    default=10.0,
    show_default=True,
    help="Seconds that the machine may take to become idle before each measurement.",
)
def main(what: tuple[str, ...], rounds: int, seconds: float, cancels: int, jobs: int, patience: float) -> None:
    """Measure kernels, fleet, jobs, core, players (all, if none is named) into bench/results, a file per machine."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("coordinator").setLevel(logging.WARNING)  # it tells of each of thousands of transactions
    for each in what or WHAT:
        report: Report
        if each == "kernels":
            report = measure_kernels(KINDS, rounds, seconds, patience)
        elif each == "fleet":
            report = asyncio.run(measure_fleet("auto", rounds, max(6.0, seconds), cancels, patience))
        elif each == "jobs":
            wait_until_quiet(patience)
            report = asyncio.run(measure_jobs("auto", jobs))
        elif each == "core":
            wait_until_quiet(patience)
            report = asyncio.run(measure_core("auto", rounds))
        else:
            wait_until_quiet(patience)
            report = asyncio.run(measure_players(PLAYERS))
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{file_name(report)}.json"
        path.write_text(as_json(report) + "\n", encoding="utf-8")
        click.echo(str(path))
    DOCUMENT.write_text(document(read_all(RESULTS)), encoding="utf-8")


def file_name(report: Report) -> str:
    """One per kind and machine, so that a later run on the same machine replaces the earlier one."""
    machine = report.made.machine
    words = " ".join([report.kind, machine.cpu, f"{machine.cores} cores", *machine.gpus])
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


if __name__ == "__main__":
    main()
