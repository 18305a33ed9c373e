"""`hashfleet jobs export`: history as JSON lines, a page at a time, however long it is."""

from __future__ import annotations

import datetime
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from hashfleet.cli.connection import ask, coordinator_option
from hashfleet.cli.job_view import as_json
from hashfleet.client import JOB_STATES, FleetClient, StateName
from hashfleet.errors import HashfleetError

#: Jobs asked for at once: some 400 KB of messages, far below gRPC's limit of 4 MB.
PAGE: Final = 200
_AGE: Final = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def _moment(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """Unix seconds of "7d" (that long ago) or "2026-11-01T12:00" (local time unless it names a zone)."""
    if text is None:
        return None
    if age := _AGE.fullmatch(text):
        return time.time() - int(age[1]) * _UNIT_SECONDS[age[2]]
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(
            f"{text[:40]!a} should be an age such as 12h or 7d, or a time such as 2026-11-01T12:00"
        ) from error


@click.command("export")
@click.option("--since", callback=_moment, metavar="TIME", help="Only jobs asked for since then: 12h, 7d, 2026-11-01.")
@click.option(
    "--status", "--state", "states", multiple=True, type=click.Choice(JOB_STATES), help="Only these; may be repeated."
)
@click.option("--player", "player_id", help="Only jobs of this player, such as 1-11.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file, which is there whole or not at all; stdout if not given.",
)
@coordinator_option
def command(
    since: float | None, states: tuple[StateName, ...], player_id: str | None, output: Path | None, coordinator: str
) -> None:
    """Write jobs as JSON lines, newest first: each as `jobs show --json` prints it.

    Every job that was there at the start and stays is written once, whatever happens meanwhile.
    """
    written = 0

    async def export(fleet: FleetClient, write: Callable[[str], object]) -> None:
        nonlocal written
        token = ""
        while True:
            page = await fleet.list_jobs(states=states, player_id=player_id, page_size=PAGE, page_token=token)
            for job in page.jobs:
                if since is not None and job.created_at.ToNanoseconds() < since * 1e9:
                    return
                write(as_json(job, indent=None) + "\n")
                written += 1
            token = page.next_page_token
            if not token:
                return

    try:
        with _whole_file(output) if output else _pipe() as write:
            ask(coordinator, lambda fleet: export(fleet, write))
    except KeyboardInterrupt:
        rest = f"; {output} is left as it was" if output else ""
        click.echo(f"hashfleet: stopped after {written} jobs{rest}", err=True)
        sys.exit(130)
    if output:
        click.echo(f"{written} jobs are in {output}")


@contextmanager
def _whole_file(output: Path) -> Iterator[Callable[[str], object]]:
    """Write to a file beside `output` that takes its place at the end, on the disk; or leave nothing behind."""
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        part.replace(output)
    except OSError as error:
        raise HashfleetError(
            f"{output} cannot be written ({error.strerror}); its directory should exist, be writable and have room"
        ) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _pipe() -> Iterator[Callable[[str], object]]:
    """stdout; whoever reads it may have enough before the end (`| head`)."""
    try:
        yield sys.stdout.write
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more when it ends: into nothing, or it would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
