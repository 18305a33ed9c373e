"""`python -m bench` (or `make bench`): measure every engine of this machine and print one JSON object."""

from __future__ import annotations

import json
import logging
import os
import platform

import click

from bench.engines import EngineResult, measure
from hashfleet.version import __version__

KINDS = ("cuda", "opencl", "cpu")


@click.command()
@click.option("--engine", "kinds", type=click.Choice(KINDS), multiple=True, help="Only these kinds; all if not given.")
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 60), default=1.0, show_default=True, help="Length of a round.")
def main(kinds: tuple[str, ...], rounds: int, seconds: float) -> None:
    """Hashes a second of every engine here, each after its self-test. Exits with 1 if nothing could be measured."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    results = measure(kinds or KINDS, rounds, seconds)
    report = {
        "what": "hashes a second by engine; rate is the median of the rounds",
        "hashfleet": __version__,
        "machine": {"platform": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()},
        "seconds_a_round": seconds,
        "engines": [result.as_json() for result in results],
    }
    click.echo(json.dumps(report, indent=2))
    if not any(isinstance(result, EngineResult) for result in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
