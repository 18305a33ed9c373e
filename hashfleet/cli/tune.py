"""`hashfleet tune`: measure which settings each device hashes fastest with, and store them for the next start."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hashfleet.cli import engines
from hashfleet.cli.quantity import show_rate
from hashfleet.cli.tuned_settings import AnySettings, entry_of, measure_and_store
from hashfleet.errors import EngineUnavailable, HashfleetError
from hashfleet.tuning import Outcome, Progress, Trial, Tunable, describe, values_of
from hashfleet.tuning_file import TuningFile, default_path

#: Per model of device; 13 candidates then get a fifth of a second per round.
DEFAULT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Tuned:
    """One model of device: what was measured, or why nothing was."""

    tunable: Tunable[AnySettings]
    #: Every device of this model.
    device_ids: tuple[str, ...]
    outcome: Outcome[AnySettings] | None = None
    failure: str | None = None


@click.command()
@click.option(
    "--engine",
    type=click.Choice(engines.CHOICES),
    default="auto",
    show_default=True,
    help="Only its devices; auto takes CUDA, then other GPUs by OpenCL, and the CPU.",
)
@click.option(
    "--devices", metavar="ID,ID", default="", help="Only these devices, as `worker --list-devices` names them."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    default=DEFAULT_SECONDS,
    show_default=True,
    help="Of measuring, per model of device; opening and testing engines comes on top.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@click.option("-v", "--verbose", is_flag=True, help="Log which candidates are refused, and why.")
def command(engine: str, devices: str, seconds: float, as_json: bool, verbose: bool) -> None:
    """Measure which settings each device hashes fastest with, and store them.

    Each candidate is tested against hashlib and then measured in turns with the default settings. One is stored if it
    was faster in at least 11 of 12 rounds and by 1 % in the median; else the default is. Devices of the same model are
    tuned once. Stored settings hold for this model, its driver and these kernels; a worker uses them from its next
    start on, and measures again if any of these has changed.

    Exit status 0 if every device was tuned, 1 if not.
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(message)s")
    file = TuningFile(default_path())
    models = _by_model(engines.find_tunable(engines.read_options(engine, devices, None, 5)))
    if not models:
        raise EngineUnavailable("there is no device to tune")
    tuned: list[_Tuned] = []
    for tunable, ids in models:
        result = _tuned(tunable, ids, file, seconds)
        tuned.append(result)
        if not as_json:
            _print(result, file)
    if as_json:
        click.echo(json.dumps([_as_json(result) for result in tuned]))
    # sys.exit, for main() runs click without its standalone mode, where ctx.exit sets no exit status
    sys.exit(1 if any(result.failure for result in tuned) else 0)


def _by_model(found: list[Tunable[AnySettings]]) -> list[tuple[Tunable[AnySettings], tuple[str, ...]]]:
    """The first device of each model, and the ids of all."""
    models: dict[object, list[Tunable[AnySettings]]] = {}
    for tunable in found:
        models.setdefault(tunable.model, []).append(tunable)
    return [(same[0], tuple(each.device_id for each in same)) for same in models.values()]


def _tuned(tunable: Tunable[AnySettings], ids: tuple[str, ...], file: TuningFile, seconds: float) -> _Tuned:
    try:
        with _progress_line(tunable.device_id) as progress:
            return _Tuned(tunable, ids, measure_and_store(tunable, file, seconds, progress))
    except HashfleetError as error:
        return _Tuned(tunable, ids, failure=str(error))


@contextmanager
def _progress_line(device_id: str) -> Iterator[Progress]:
    """A line on the terminal's stderr; nothing where there is no terminal."""
    console = Console(stderr=True)
    with console.status(f"{device_id}: opening") if sys.stderr.isatty() else nullcontext() as status:

        def progress(done: int, total: int, what: str) -> None:
            if status is not None:
                status.update(f"{device_id}: round {done} of {total}, {escape(what)}")

        yield progress


def _print(result: _Tuned, file: TuningFile) -> None:
    model, ids = result.tunable.model, ", ".join(result.device_ids)
    click.echo(f"{ids}: {model.name} ({engines.label(model.kind)}, {model.driver})")
    if result.outcome is None:
        click.echo(f"hashfleet: {ids} is not tuned: {result.failure}", err=True)
        return
    table = Table("settings", "measured rate", "times the default", "rounds")
    for index, trial in enumerate(result.outcome.trials):
        what = escape(describe(trial.settings, result.tunable.default))
        table.add_row(*_row(what, trial, index == 0, trial.settings == result.outcome.winner))
    # Rich cuts columns to 80 characters where there is no terminal; a pipe gets whole lines.
    Console(width=None if sys.stdout.isatty() else 250).print(table)
    click.echo(_verdict(result.tunable, result.outcome, file))


def _row(what: str, trial: Trial[AnySettings], is_default: bool, is_winner: bool) -> tuple[str, ...]:
    if trial.rate is None or trial.ratio is None:
        return what, f"refused: {escape(trial.refused or '')}", "", ""
    ratio = "1" if is_default else f"{trial.ratio:.3f}"
    cells = (what, show_rate(trial.rate), ratio, str(trial.rounds))
    return tuple(f"[bold]{cell}[/bold]" for cell in cells) if is_winner else cells


def _verdict(tunable: Tunable[AnySettings], outcome: Outcome[AnySettings], file: TuningFile) -> str:
    rates = f"shape T {show_rate(outcome.rates['T'])}, shape S {show_rate(outcome.rates['S'])}"
    if outcome.winner is None:
        kept = "nothing beat the default settings by more than the noise; they stay"
    else:
        kept = f"stored: {describe(outcome.winner, tunable.default)}, {outcome.ratio:.3f} times the default"
    return f"{kept} ({rates}). Kept in {file.path}."


def _as_json(result: _Tuned) -> dict[str, object]:
    model, outcome = result.tunable.model, result.outcome
    answer: dict[str, object] = {
        "device_ids": list(result.device_ids),
        "name": model.name,
        "engine": model.kind.value,
        "driver": model.driver,
        "kernels": model.kernels,
        "failure": result.failure,
        "stored": None if outcome is None else entry_of(result.tunable, outcome).model_dump(),
        "trials": [],
    }
    if outcome is not None:
        answer["trials"] = [
            {
                "settings": values_of(trial.settings),
                "rate": trial.rate,
                "ratio": trial.ratio,
                "rounds": trial.rounds,
                "finalist": trial.finalist,
                "refused": trial.refused,
            }
            for trial in outcome.trials
        ]
    return answer
