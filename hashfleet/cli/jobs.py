"""`hashfleet jobs`: submit, show, list, watch, cancel and reprioritise jobs of a coordinator."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext

import click

from hashfleet.action import Action
from hashfleet.cli.connection import ask, coordinator_option
from hashfleet.cli.job_view import as_json, job_sheet, job_table, open_console, status_line
from hashfleet.client import JOB_STATES, MAX_PAGE_SIZE, PRIORITIES, FleetClient, PriorityName, StateName
from hashfleet.rpc.hashfleet.v1 import job_pb2

_json_option = click.option(
    "--json", "wants_json", is_flag=True, help="Print JSON: the messages of proto/ in protobuf's mapping."
)


def _job_command(command: Callable[..., None]) -> Callable[..., None]:
    """What every command on one job takes."""
    return click.argument("job_id")(coordinator_option(_json_option(command)))


@click.group("jobs")
def command() -> None:
    """Submit, show, list, watch, cancel and reprioritise jobs."""


@command.command("submit")
@click.argument("action", type=click.Choice([action.name.lower() for action in Action]))
@click.argument("entity_id")
@click.option("--player", "player_id", required=True, help="Player for whom the transaction is signed, such as 1-11.")
@click.option("--target", "target_id", help="Planet of a raid, such as 2-1; where the fleet stands if not given.")
@click.option("--anchor", type=int, help="Block height where the clock started, as a hint; the chain's value wins.")
@click.option("--range", "difficulty_range", type=int, help="Difficulty range in blocks, as a hint likewise.")
@click.option("--max-hashes", type=int, help="Give up after this many hashes; no limit if not given.")
@click.option("--priority", type=click.Choice(PRIORITIES), default="interactive", show_default=True)
@click.option("--watch", "then_watch", is_flag=True, help="Watch the job until it ends.")
@coordinator_option
@_json_option
def submit(
    action: str,
    entity_id: str,
    player_id: str,
    target_id: str | None,
    anchor: int | None,
    difficulty_range: int | None,
    max_hashes: int | None,
    priority: PriorityName,
    then_watch: bool,
    coordinator: str,
    wants_json: bool,
) -> None:
    """Ask for the proof of ACTION on ENTITY_ID: a struct such as 5-28, or for a raid a fleet such as 9-11."""

    async def question(fleet: FleetClient) -> int:
        answer = await fleet.submit_job(
            Action[action.upper()],
            entity_id,
            player_id,
            target_id=target_id,
            anchor=anchor,
            difficulty_range=difficulty_range,
            max_hashes=max_hashes,
            priority=priority,
        )
        if wants_json:
            click.echo(as_json(answer, indent=None if then_watch else 2))
        else:
            click.echo(answer.job.job_id if answer.created else f"{answer.job.job_id} (already under way)")
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
