"""`hashfleet coordinator`: jobs, chain and submission behind gRPC and MCP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import click

from hashfleet.cli.logs import configure_logging
from hashfleet.errors import HashfleetError, KeyProblem

DEFAULT_GRPC = "127.0.0.1:7337"
DEFAULT_HTTP = "127.0.0.1:7338"

keep_days_option = click.option(
    "--keep-days",
    type=click.IntRange(0, 36_500),
    default=90,
    show_default=True,
    help="Days for which ended jobs are kept; 0 keeps them for ever. Jobs under way are never deleted.",
)


@click.command()
@click.option("--listen", default=DEFAULT_GRPC, show_default=True, metavar="HOST:PORT", help="Where gRPC is served.")
@click.option("--http", default=DEFAULT_HTTP, show_default=True, metavar="HOST:PORT", help="Where /mcp is served.")
@click.option(
    "--database",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("hashfleet.db"),
    show_default=True,
    help="SQLite file that holds jobs and the submission ledger.",
)
@click.option(
    "--chain-grpc", envvar="HASHFLEET_CHAIN_GRPC", required=True, metavar="HOST:PORT", help="gRPC of a structsd node."
)
@click.option(
    "--chain-rpc", envvar="HASHFLEET_CHAIN_RPC", metavar="URL", help="CometBFT RPC of the node, for block events."
)
@click.option("--chain-id", envvar="HASHFLEET_CHAIN_ID", help="Refuse a node that serves another chain.")
@click.option(
    "--key-file",
    envvar="HASHFLEET_KEY_FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the signing key, as hex or as a mnemonic; only its owner may read it.",
)
@keep_days_option
@click.option("--allow-host", multiple=True, metavar="NAME", help="Host name under which /mcp may be reached.")
@click.option("--json", "as_json", is_flag=True, help="Print the addresses as one JSON line.")
@click.option("-v", "--verbose", is_flag=True, help="Log every lease.")
def command(
    listen: str,
    http: str,
    database: Path,
    chain_grpc: str,
    chain_rpc: str | None,
    chain_id: str | None,
    key_file: Path | None,
    keep_days: int,
    allow_host: tuple[str, ...],
    as_json: bool,
    verbose: bool,
) -> None:
    """Run the coordinator until it is stopped by Ctrl-C or SIGTERM.

    The signing key comes from --key-file, or from HASHFLEET_MNEMONIC or HASHFLEET_PRIVATE_KEY in the environment.
    """
    # Imported here: the command line should answer --help without loading gRPC, SQL and the chain's libraries.
    from coordinator.server import Addresses, Settings, serve
    from coordinator.submission.keys import load_keys
    from coordinator.submission.keys_secret import protect_process
    from hashfleet.cli.passphrase import ask_passphrase

    configure_logging(verbose)
    protect_process()
    keys = load_keys([key_file] if key_file else [], os.environ, ask=ask_passphrase)
    if not keys:
        raise KeyProblem(
            "no signing key: give --key-file, or set HASHFLEET_MNEMONIC or HASHFLEET_PRIVATE_KEY in the environment"
        )
    if len(keys) > 1:
        raise KeyProblem(f"{len(keys)} keys are given; this coordinator signs with one")
    (key,) = keys
    settings = Settings(listen, http, database, chain_grpc, chain_rpc, chain_id, allow_host, keep_days)

    def ready(addresses: Addresses) -> None:
        if as_json:
            click.echo(json.dumps({"grpc": addresses.grpc, "mcp": addresses.mcp, "signer": key.address}))
        else:
            click.echo(f"gRPC   {addresses.grpc}\nMCP    {addresses.mcp}\nsigner {key.address}")

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await serve(settings, key, ready, stop)

    try:
        asyncio.run(run())
    except BaseExceptionGroup as group:
        ours, others = group.split(HashfleetError)
        if ours is None or others is not None:
            raise
        raise HashfleetError("; ".join(map(str, leaves(ours)))) from group


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The exceptions that a group and the groups within it hold."""
    return [
        leaf
        for error in group.exceptions
        for leaf in (leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
