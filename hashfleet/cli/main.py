"""The `hashfleet` command. Each subcommand is a module beside this one, imported only when it is called."""

from __future__ import annotations

import importlib
import sys

import click

from hashfleet.errors import HashfleetError
from hashfleet.version import __version__

#: Subcommand -> (module, one line for --help); the module holds a click command named `command`.
SUBCOMMANDS = {
    "up": ("hashfleet.cli.up", "Run chain, coordinator and a local worker as one group."),
    "coordinator": ("hashfleet.cli.coordinator", "Run the coordinator: gRPC, MCP over HTTP, store, submission."),
    "worker": ("hashfleet.cli.worker", "Run a worker on this machine's GPUs, or on its CPU cores."),
    "devnet": ("hashfleet.cli.devnet", "Run an embedded chain for trying things out."),
    "mcp": ("hashfleet.cli.mcp", "Serve MCP over stdio as a front end to a coordinator."),
    "jobs": ("hashfleet.cli.jobs", "Submit, show, list, watch, cancel and reprioritise jobs."),
    "autopilot": ("hashfleet.cli.autopilot", "Pick up all outstanding work of players, as it appears."),
    "charter": ("hashfleet.cli.charter", "Consent to the founding of a guild by somebody else's proof."),
    "keys": ("hashfleet.cli.keys", "Make, import, show and remove signing keys."),
    "fleet": ("hashfleet.cli.fleet", "Show workers, rates and queue lengths."),
    "solve": ("hashfleet.cli.solve", "Search a nonce offline, without coordinator or chain."),
    "bench": ("hashfleet.cli.bench", "Measure engines, fleet and jobs on this machine."),
    "tune": ("hashfleet.cli.tune", "Measure the best settings of each device and store them."),
    "verify": ("hashfleet.cli.verify", "Check a nonce offline."),
}


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is called, so that `--help` needs no driver and no network."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        found = importlib.import_module(SUBCOMMANDS[cmd_name][0]).command
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in SUBCOMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="hashfleet")
def cli() -> None:
    """A proof-of-work fleet for Structs."""


def main() -> None:
    """Entry point: an error of ours becomes one sentence on stderr and exit status 1, never a traceback."""
    try:
        status = cli.main(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except HashfleetError as error:
        click.echo(f"hashfleet: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
