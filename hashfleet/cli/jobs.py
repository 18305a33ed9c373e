"""`hashfleet jobs`: submit, show, list, watch, cancel and reprioritise jobs of a coordinator."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import TextIO

import click
from click.core import ParameterSource

from hashfleet.action import Action
from hashfleet.charter import MAX_CONSENT_BYTES, Founding, read_consent
from hashfleet.cli import jobs_export
from hashfleet.cli.connection import ask, coordinator_option
from hashfleet.cli.job_lines import read_lines, shown, submit_lines
from hashfleet.cli.job_view import as_json, job_sheet, job_table, open_console, status_line
from hashfleet.client import (
    JOB_STATES,
    MAX_PAGE_SIZE,
    MODES,
    PRIORITIES,
    START_MODES,
    FleetClient,
    ModeName,
    PriorityName,
    StartModeName,
    StateName,
)
from hashfleet.proof import MAX_NONCE_DIGITS
from hashfleet.rpc.hashfleet.v1 import job_pb2

_json_option = click.option(
    "--json", "wants_json", is_flag=True, help="Print JSON: the messages of proto/ in protobuf's mapping."
)


def _job_command(command: Callable[..., None]) -> Callable[..., None]:
    """What every command on one job takes."""
    return click.argument("job_id")(coordinator_option(_json_option(command)))


@click.group("jobs")
def command() -> None:
    """Submit, show, list, watch, cancel, reprioritise and export jobs."""


command.add_command(jobs_export.command)


@command.command("submit")
@click.argument("action", type=click.Choice([action.name.lower() for action in Action]), required=False)
@click.argument("entity_id", required=False)
@click.option("--player", "player_id", help="Player for whom the transaction is signed, such as 1-11.")
@click.option("--target", "target_id", help="Planet of a raid, such as 2-1; where the fleet stands if not given.")
@click.option("--anchor", type=int, help="Block height where the clock started, as a hint; the chain's value wins.")
@click.option("--range", "difficulty_range", type=int, help="Difficulty range in blocks, as a hint likewise.")
@click.option("--max-hashes", type=int, help="Give up after this many hashes; no limit if not given.")
@click.option("--priority", type=click.Choice(PRIORITIES), default="interactive", show_default=True)
@click.option(
    "--start-mode",
    type=click.Choice(START_MODES),
    default="balanced",
    show_default=True,
    help="When hashing starts: with the fewest hashes, with the least time that is fair to others, or at once.",
)
@click.option("--start-difficulty", type=int, help="Start once this many zeros are asked; overrides --start-mode.")
@click.option("--deadline", "deadline_height", type=int, help="Height by which the proof should be there, else fail.")
@click.option("--weight", type=int, default=1, show_default=True, help="Share of the fleet beside jobs that tie.")
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="submit",
    show_default=True,
    help="return_proof: submit nothing, give the proof.",
)
@click.option("--reactor", "reactor_id", help="Of a charter: reactor to found the guild on, such as 3-1.")
@click.option("--endpoint", help="Of a charter: what the guild publishes as its address, such as guild.example.")
@click.option("--substation", "entry_substation_id", help="Of a charter: where new members are connected, such as 4-1.")
@click.option(
    "--consent",
    "consent_file",
    type=click.File(encoding="utf-8", errors="replace"),
    help="Of a charter: the founder's consent, as `hashfleet charter consent` prints it; - for stdin.",
)
@click.option("--max-nonce-digits", type=int, default=MAX_NONCE_DIGITS, show_default=True, help="Longest nonce usable.")
@click.option("--key", "idempotency_key", help="Your name for this request: repeated, it is the same job.")
@click.option(
    "--file",
    "file",
    type=click.File(encoding="utf-8", errors="replace"),
    help="Submit many: a JSON object a line (JobSpec of proto/), - for stdin; instead of everything above.",
)
@click.option("--watch", "then_watch", is_flag=True, help="Watch the job until it ends.")
@coordinator_option
@_json_option
@click.pass_context
def submit(
    context: click.Context,
    action: str | None,
    entity_id: str | None,
    player_id: str | None,
    target_id: str | None,
    anchor: int | None,
    difficulty_range: int | None,
    max_hashes: int | None,
    priority: PriorityName,
    start_mode: StartModeName,
    start_difficulty: int | None,
    deadline_height: int | None,
    weight: int,
    mode: ModeName,
    reactor_id: str | None,
    endpoint: str | None,
    entry_substation_id: str | None,
    consent_file: TextIO | None,
    max_nonce_digits: int,
    idempotency_key: str | None,
    file: TextIO | None,
    then_watch: bool,
    coordinator: str,
    wants_json: bool,
) -> None:
    """Ask for the proof of ACTION on ENTITY_ID: a struct such as 5-28, for a raid a fleet such as 9-11.

    For a charter it is the player who founds the guild, such as 1-7; asked for again, a charter takes the new terms and
    the new consent.

    With --file, ask for as many as the file has lines; exit status 0 if all are jobs now, else 1.
    """
    if file is not None:
        _refuse_beside_file(context)
        lines = read_lines(file)
        sys.exit(ask(coordinator, lambda fleet: submit_lines(fleet, lines, wants_json)))
    if action is None or entity_id is None or player_id is None:
        raise click.UsageError("ACTION, ENTITY_ID and --player should be given, or --file")
    asked, entity, player = Action[action.upper()], entity_id, player_id
    founding = _founding(reactor_id, endpoint, entry_substation_id, consent_file)

    async def question(fleet: FleetClient) -> int:
        answer = await fleet.submit_job(
            asked,
            entity,
            player,
            target_id=target_id,
            anchor=anchor,
            difficulty_range=difficulty_range,
            max_hashes=max_hashes,
            priority=priority,
            max_nonce_digits=max_nonce_digits,
            mode=mode,
            start_mode=start_mode,
            start_difficulty=start_difficulty,
            deadline_height=deadline_height,
            weight=weight,
            idempotency_key=idempotency_key,
            founding=founding,
        )
        if wants_json:
            click.echo(as_json(answer, indent=None if then_watch else 2))
        else:
            click.echo(shown(answer))
        return await _watched(fleet, answer.job.job_id, wants_json) if then_watch else 0

    sys.exit(ask(coordinator, question))


@command.command("show")
@_job_command
def show(job_id: str, coordinator: str, wants_json: bool) -> None:
    """Show everything about one job."""
    _print_job(ask(coordinator, lambda fleet: fleet.get_job(job_id)), wants_json)


@command.command("list")
@click.option("--status", "states", multiple=True, type=click.Choice(JOB_STATES), help="Only these; may be repeated.")
@click.option("--player", "player_id", help="Only jobs of this player, such as 1-11.")
@click.option("--limit", type=click.IntRange(1, MAX_PAGE_SIZE), default=50, show_default=True, help="Most jobs shown.")
@click.option("--page-token", default="", help="Where the page before ended.")
@coordinator_option
@_json_option
def list_(
    states: tuple[StateName, ...],
    player_id: str | None,
    limit: int,
    page_token: str,
    coordinator: str,
    wants_json: bool,
) -> None:
    """List jobs, newest first."""
    page = ask(
        coordinator,
        lambda fleet: fleet.list_jobs(states=states, player_id=player_id, page_size=limit, page_token=page_token),
    )
    if wants_json:
        click.echo(as_json(page))
        return
    if not page.jobs:
        click.echo("no jobs")
        return
    open_console().print(job_table(page.jobs))
    if page.next_page_token:
        click.echo(f"more with --page-token {page.next_page_token}")


@command.command("watch")
@_job_command
def watch(job_id: str, coordinator: str, wants_json: bool) -> None:
    """Follow a job until it ends; exit status 0 if it completed, else 1.

    A terminal shows one live line; a pipe gets a line for each change, and with --json a JSON object for each.
    """
    sys.exit(ask(coordinator, lambda fleet: _watched(fleet, job_id, wants_json)))


@command.command("cancel")
@_job_command
def cancel(job_id: str, coordinator: str, wants_json: bool) -> None:
    """Stop a job for good."""
    _print_job(ask(coordinator, lambda fleet: fleet.cancel_job(job_id)), wants_json)


@command.command("priority")
@click.argument("job_id")
@click.argument("priority", type=click.Choice(PRIORITIES))
@coordinator_option
@_json_option
def priority_(job_id: str, priority: PriorityName, coordinator: str, wants_json: bool) -> None:
    """Change who goes first: critical, then interactive, then bulk."""
    _print_job(ask(coordinator, lambda fleet: fleet.set_job_priority(job_id, priority)), wants_json)


def _founding(
    reactor_id: str | None, endpoint: str | None, entry_substation_id: str | None, consent: TextIO | None
) -> Founding | None:
    """How the guild is founded, if anything of it is said. Raises InvalidInput."""
    if reactor_id is None and endpoint is None and entry_substation_id is None and consent is None:
        return None
    if reactor_id is None or endpoint is None:
        raise click.UsageError("--reactor and --endpoint should both be given, to say how the guild is founded")
    agreed = None if consent is None else read_consent(consent.read(MAX_CONSENT_BYTES + 1))
    return Founding(reactor_id, endpoint, entry_substation_id or "", agreed)


def _refuse_beside_file(context: click.Context) -> None:
    """Nothing that says something of one job goes with --file: it would be passed over in silence."""
    alone = ("file", "coordinator", "wants_json")
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in alone and source is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} says something of one job; with --file write it in its line")


def _print_job(job: job_pb2.Job, wants_json: bool) -> None:
    if wants_json:
        click.echo(as_json(job))
    else:
        open_console().print(job_sheet(job))


async def _watched(fleet: FleetClient, job_id: str, wants_json: bool) -> int:
    """Show the job until it ends; the exit status."""
    job = job_pb2.Job()
    live = not wants_json and sys.stdout.isatty()
    with open_console().status("asking ...") if live else nullcontext() as line:
        async for job in fleet.watch_job(job_id):
            if line is not None:
                line.update(status_line(job))
            else:
                click.echo(as_json(job, indent=None) if wants_json else status_line(job))
    if live:
        click.echo(status_line(job))
    return 0 if job.state == job_pb2.JOB_STATE_COMPLETED else 1
