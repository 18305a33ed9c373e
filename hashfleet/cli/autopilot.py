"""`hashfleet autopilot`: rules by which the coordinator picks up the outstanding work of players by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import click
from rich.table import Table

from hashfleet.action import Action
from hashfleet.autopilot_message import action_named, rule_of
from hashfleet.autopilot_rule import PICKED_UP, AutopilotRule
from hashfleet.cli.connection import ask, coordinator_option
from hashfleet.cli.job_view import as_json, open_console, show_time, status_line
from hashfleet.client import (
    FINAL_STATES,
    MAX_PAGE_SIZE,
    MODES,
    PRIORITIES,
    START_MODES,
    FleetClient,
    ModeName,
    PriorityName,
    StartModeName,
    action_of,
    mode_name,
    priority_name,
    start_mode_name,
)
from hashfleet.errors import CoordinatorUnavailable
from hashfleet.job_request import Mode, Priority, StartMode
from hashfleet.rpc.hashfleet.v1 import autopilot_service_pb2, job_pb2

#: Seconds between two looks at what the autopilot picked up.
FOLLOW_SECONDS = 1.0
#: Jobs that --follow remembers at most before it forgets those that ended.
_REMEMBERED = 10_000

_players = click.option(
    "--player", "players", multiple=True, required=True, help="Player, such as 1-11; may be repeated."
)
_json_option = click.option(
    "--json", "wants_json", is_flag=True, help="Print JSON: the messages of proto/ in protobuf's mapping."
)


class SetByDefault(click.Group):
    """`hashfleet autopilot --player 1-11` is `hashfleet autopilot set --player 1-11`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            args = ["set", *args]
        return super().parse_args(ctx, args)


@click.group("autopilot", cls=SetByDefault)
def command() -> None:
    """Let the coordinator pick up all outstanding work of players, as it appears.

    `hashfleet autopilot --player 1-11` is short for `hashfleet autopilot set --player 1-11`.
    """


@command.command("set")
@_players
@click.option(
    "--action",
    "actions",
    multiple=True,
    type=click.Choice([action.name.lower() for action in Action if action in PICKED_UP]),
    help="Only this kind of work; may be repeated; all kinds if not given.",
)
@click.option("--priority", type=click.Choice(PRIORITIES), default="interactive", show_default=True)
@click.option(
    "--start-mode", type=click.Choice(START_MODES), default="balanced", show_default=True, help="When hashing starts."
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="submit",
    show_default=True,
    help="return_proof: submit nothing, keep the proofs with the jobs.",
)
@click.option("--weight", type=int, default=1, show_default=True, help="Share of the fleet beside jobs that tie.")
@click.option("--max-jobs", type=int, help="Add no job while the player has so many unfinished ones.")
@click.option("--pause", is_flag=True, help="Keep the rule, but pick up nothing for now.")
@click.option("--follow", is_flag=True, help="Then show what is picked up and what becomes of it, until Ctrl-C.")
@coordinator_option
@_json_option
def set_(
    players: tuple[str, ...],
    actions: tuple[str, ...],
    priority: PriorityName,
    start_mode: StartModeName,
    mode: ModeName,
    weight: int,
    max_jobs: int | None,
    pause: bool,
    follow: bool,
    coordinator: str,
    wants_json: bool,
) -> None:
    """Serve players by this rule, in place of their former one; jobs under way stay as they are.

    What was held back because its last job failed or was cancelled is asked for again.
    """
    rules = [
        AutopilotRule(
            player_id,
            frozenset(Action[name.upper()] for name in actions) or PICKED_UP,
            Priority[priority.upper()],
            StartMode(start_mode),
            Mode(mode),
            weight,
            max_jobs,
            enabled=not pause,
        )
        for player_id in dict.fromkeys(players)
    ]

    async def question(fleet: FleetClient) -> None:
        statuses = [await fleet.set_autopilot_rule(rule) for rule in rules]
        if wants_json:
            answer = autopilot_service_pb2.ListRulesResponse(rules=statuses)
            click.echo(as_json(answer, indent=None if follow else 2))
        else:
            for status in statuses:
                click.echo(_served(status))
        if follow:
            await _follow(fleet, [rule.player_id for rule in rules], wants_json)

    ask(coordinator, question)


@command.command("list")
@click.option("--player", "player_id", help="Only the rule of this player, such as 1-11.")
@coordinator_option
@_json_option
def list_(player_id: str | None, coordinator: str, wants_json: bool) -> None:
    """Show the rules, how their players are served, and what stands in the way."""

    async def question(fleet: FleetClient) -> list[autopilot_service_pb2.AutopilotStatus]:
        rules: list[autopilot_service_pb2.AutopilotStatus] = []
        token = ""
        while True:
            page = await fleet.list_autopilot_rules(player_id=player_id, page_size=MAX_PAGE_SIZE, page_token=token)
            rules += page.rules
            token = page.next_page_token
            if not token:
                return rules

    rules = ask(coordinator, question)
    if wants_json:
        click.echo(as_json(autopilot_service_pb2.ListRulesResponse(rules=rules)))
    elif not rules:
        click.echo("no rules")
    else:
        open_console().print(_table(rules))
        for status in rules:
            for line in _troubles(status):
                click.echo(line)


@command.command("remove")
@_players
@coordinator_option
@_json_option
@click.pass_context
def remove(context: click.Context, players: tuple[str, ...], coordinator: str, wants_json: bool) -> None:
    """Serve players no longer; jobs under way go on. Exit status 1 if one of them had no rule."""

    async def question(fleet: FleetClient) -> dict[str, bool]:
        return {player_id: await fleet.remove_autopilot_rule(player_id) for player_id in dict.fromkeys(players)}

    removed = ask(coordinator, question)
    for player_id, done in removed.items():
        if wants_json:
            click.echo(as_json(autopilot_service_pb2.RemoveRuleResponse(removed=done), indent=None))
        else:
            click.echo(f"player {player_id} is served no longer" if done else f"player {player_id} has no rule")
    context.exit(0 if all(removed.values()) else 1)


def _served(status: autopilot_service_pb2.AutopilotStatus) -> str:
    rule = rule_of(status.rule)
    if not rule.enabled:
        return f"the rule for player {rule.player_id} is kept, and nothing is picked up"
    return f"picking up for player {rule.player_id}: {_actions(rule)}"


def _actions(rule: AutopilotRule) -> str:
    return ", ".join(action.name.lower() for action in Action if action in rule.actions)


def _table(rules: list[autopilot_service_pb2.AutopilotStatus]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("PLAYER", "ACTIONS", "PRIORITY", "START", "MODE", "WEIGHT"):
        table.add_column(heading, no_wrap=True)
    for heading in ("JOBS", "LIMIT", "MADE", "OUTSTANDING", "QUEUED", "HELD", "LOOKED AT"):
        table.add_column(heading, justify="right", no_wrap=True)
    for status in rules:
        rule = rule_of(status.rule)
        looked = f"block {status.looked_height}" if status.looked_height else "not yet"
        table.add_row(
            rule.player_id,
            "all" if rule.actions == PICKED_UP else _actions(rule),
            priority_name(status.rule.priority),
            start_mode_name(status.rule.start_mode),
            mode_name(status.rule.mode),
            str(rule.weight),
            str(status.unfinished_jobs),
            str(rule.max_jobs or "-"),
            str(status.jobs_made),
            str(status.outstanding),
            str(status.queued),
            str(status.held),
            looked if rule.enabled else "paused",
        )
    return table


def _troubles(status: autopilot_service_pb2.AutopilotStatus) -> Iterator[str]:
    """What stands in the way of a player's work, a line for each."""
    player_id = status.rule.player_id
    if status.error:
        yield f"player {player_id}: the last look failed: {status.error}"
    for refusal in status.refusals:
        yield f"player {player_id}: may not {action_named(refusal.action).name.lower()}: {refusal.reason}"
    for work in status.held_first:
        yield (
            f"player {player_id}: {action_named(work.action).name.lower()} of {work.entity_id} is held back until "
            f"{show_time(work.until)}: {work.reason}"
        )
    if status.held > len(status.held_first):
        yield f"player {player_id}: {status.held - len(status.held_first)} more are held back"


async def _follow(fleet: FleetClient, players: list[str], wants_json: bool) -> None:
    """Show each job of the players when its state changes, and each new trouble, until cancelled."""
    states: dict[str, job_pb2.JobState.ValueType] = {}
    #: Troubles told, by player; those that are over are forgotten, so that they are told when they come back.
    told: dict[str, set[str]] = {}
    lost = False
    first = True
    while True:
        try:
            for player_id in players:
                page = await fleet.list_jobs(player_id=player_id, page_size=MAX_PAGE_SIZE)
                for job in reversed(page.jobs):
                    before = states.get(job.job_id)
                    states[job.job_id] = job.state
                    # what was over before is not what is picked up now
                    if before != job.state and not (first and job.state in FINAL_STATES):
                        click.echo(as_json(job, indent=None) if wants_json else _job_line(job))
                (status,) = (await fleet.list_autopilot_rules(player_id=player_id)).rules or [None]
                troubles = list(_troubles(status)) if status is not None else [f"player {player_id} has no rule"]
                for line in troubles:
                    if line not in told.get(player_id, ()):
                        click.echo(line, err=True)
                told[player_id] = set(troubles)
            first = lost = False
        except CoordinatorUnavailable as error:
            if not lost:
                click.echo(f"{error}; looking for it again", err=True)
            lost = True
        if len(states) > _REMEMBERED:
            states = dict(list(states.items())[-_REMEMBERED // 2 :])
        await asyncio.sleep(FOLLOW_SECONDS)


def _job_line(job: job_pb2.Job) -> str:
    action = action_of(job.spec).name.lower()
    return f"{job.job_id} {action} of {job.spec.entity_id} for {job.spec.player_id}: {status_line(job)}"
