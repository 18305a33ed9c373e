"""`hashfleet coordinator`: jobs, chain and submission behind gRPC and MCP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hashfleet.cli.logs import configure_logging
from hashfleet.errors import HashfleetError, InvalidInput, KeyProblem

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    from coordinator.submission.keys import SigningKey

DEFAULT_GRPC = "127.0.0.1:7337"
DEFAULT_HTTP = "127.0.0.1:7338"
#: Preimages of a charter, with the chain's id in front and without; the first is the released one.
CHARTER_FORMS = ("prefixed", "unprefixed")

keep_days_option = click.option(
    "--keep-days",
    type=click.IntRange(0, 36_500),
    default=90,
    show_default=True,
    help="Days for which ended jobs are kept; 0 keeps them for ever. Jobs under way are never deleted.",
)


def chain_options(command: F) -> F:
    """The options that say where the chain is: any number of nodes, preferred ones first."""
    for option in (
        click.option("--chain-id", envvar="HASHFLEET_CHAIN_ID", help="Refuse nodes that serve another chain."),
        click.option(
            "--chain-rpc",
            envvar="HASHFLEET_CHAIN_RPC",
            multiple=True,
            metavar="URL",
            help="CometBFT RPC of a node, for block events. May be repeated.",
        ),
        click.option(
            "--chain-rest",
            envvar="HASHFLEET_CHAIN_REST",
            multiple=True,
            metavar="URL",
            help="REST (LCD) of a structsd node. May be repeated.",
        ),
        click.option(
            "--chain-grpc",
            envvar="HASHFLEET_CHAIN_GRPC",
            multiple=True,
            metavar="HOST:PORT",
            help="gRPC of a structsd node. May be repeated; the first one is asked while it is well.",
        ),
    ):
        command = option(command)
    return command


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
@chain_options
@click.option(
    "--key-file",
    "key_files",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of a signing key: what `hashfleet keys` makes, or a mnemonic or hex that only its owner may read. May "
    "be repeated.  [env var: HASHFLEET_KEY_FILE]",
)
@click.option(
    "--guild-stack",
    envvar="HASHFLEET_GUILD_STACK",
    metavar="URL",
    help="postgresql:// URL of a guild stack's database: work is read there, and its signing agent signs. With "
    "--chain-grpc or --chain-rest transactions are followed to their block. Keep a password out of the command line: "
    "use the variable HASHFLEET_GUILD_STACK, or ~/.pgpass.",
)
@click.option("--watch-only", is_flag=True, help="Run without a key: hash and return proofs, sign and send nothing.")
@click.option(
    "--tx-per-block",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Transactions that the node takes from one address per block (its structs-ante.checktx-addr-cap).",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 40),
    default=1,
    show_default=True,
    help="Put up to so many independent proofs into one transaction when more are ready than --tx-per-block.",
)
@click.option(
    "--gas-price",
    default="0ualpha",
    show_default=True,
    metavar="AMOUNT",
    help="What founding a guild pays for a unit of gas, such as 0.01ualpha; nothing else has a price.",
)
@click.option(
    "--gas-limit",
    type=click.IntRange(1, 100_000_000),
    default=500_000,
    show_default=True,
    help="Gas that founding a guild may use; all of it is paid for.",
)
@click.option(
    "--charter-form",
    type=click.Choice(CHARTER_FORMS),
    default=CHARTER_FORMS[0],
    show_default=True,
    help="Whether the chain hashes a charter's preimage with its CHAIN prefix. A job whose proof is rejected for its "
    "form says which other one to take.",
)
@keep_days_option
@click.option("--allow-host", multiple=True, metavar="NAME", help="Host name under which /mcp may be reached.")
@click.option("--json", "as_json", is_flag=True, help="Print the addresses as one JSON line.")
@click.option("-v", "--verbose", is_flag=True, help="Log every lease.")
def command(
    listen: str,
    http: str,
    database: Path,
    chain_grpc: tuple[str, ...],
    chain_rest: tuple[str, ...],
    chain_rpc: tuple[str, ...],
    chain_id: str | None,
    key_files: tuple[Path, ...],
    guild_stack: str | None,
    watch_only: bool,
    tx_per_block: int,
    batch: int,
    gas_price: str,
    gas_limit: int,
    charter_form: str,
    keep_days: int,
    allow_host: tuple[str, ...],
    as_json: bool,
    verbose: bool,
) -> None:
    """Run the coordinator until it is stopped by Ctrl-C or SIGTERM.

    The signing keys come from --key-file, or else from the environment: HASHFLEET_KEY_FILE, HASHFLEET_MNEMONIC or
    HASHFLEET_PRIVATE_KEY. An encrypted file's passphrase comes from HASHFLEET_KEY_PASSPHRASE_FILE or
    HASHFLEET_KEY_PASSPHRASE, or is asked for.
    """
    # Imported here: the command line should answer --help without loading gRPC, SQL and the chain's libraries.
    from coordinator.server import Addresses, Settings, serve
    from coordinator.submission.founding import parse_gas_price
    from coordinator.submission.keys_secret import protect_process
    from coordinator.submission.lane import Settings as LaneSettings

    if not (chain_grpc or chain_rest or guild_stack):
        raise InvalidInput(
            "no chain: give --chain-grpc HOST:PORT or --chain-rest URL of a structsd node, or --guild-stack URL"
        )
    configure_logging(verbose)
    protect_process()
    stack_signs = guild_stack is not None and not watch_only
    keys: tuple[SigningKey, ...] = ()
    if stack_signs:
        refuse_keys(key_files, os.environ)
    else:
        keys = signing_keys(key_files, watch_only, os.environ)
    signers = [key.address for key in keys]
    price = parse_gas_price(gas_price, gas_limit)
    lanes = LaneSettings(gas_price=price, sends_per_block=tx_per_block, batch=batch)
    settings = Settings(
        listen,
        http,
        database,
        chain_grpc,
        chain_rest,
        chain_rpc,
        chain_id,
        allow_host,
        keep_days,
        lanes,
        guild_stack,
        stack_signs,
        charters_name_chain=charter_form == CHARTER_FORMS[0],
    )

    nobody = "the guild stack's agent" if stack_signs else "none, watching only"

    def ready(addresses: Addresses) -> None:
        if as_json:
            told = {"grpc": addresses.grpc, "mcp": addresses.mcp, "signer": signers[0] if signers else None}
            click.echo(json.dumps(told | {"signers": signers}))
        else:
            click.echo(f"gRPC   {addresses.grpc}\nMCP    {addresses.mcp}")
            click.echo("\n".join(f"signer {address}" for address in signers) or f"signer {nobody}")

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await serve(settings, keys, ready, stop)

    try:
        asyncio.run(run())
    except BaseExceptionGroup as group:
        ours, others = group.split(HashfleetError)
        if ours is None or others is not None:
            raise
        raise HashfleetError("; ".join(map(str, leaves(ours)))) from group


def refuse_keys(key_files: Sequence[Path], environment: Mapping[str, str]) -> None:
    """Raise InvalidInput if a key is given although a guild stack's agent signs: which of the two is meant?"""
    from coordinator.submission.keys import KEY_VARIABLES

    given = ["--key-file"] * bool(key_files) + [name for name in KEY_VARIABLES if environment.get(name)]
    if given:
        raise InvalidInput(
            f"the guild stack's agent signs, but {given[0]} gives a key; leave one of --guild-stack and the key out"
        )


def signing_keys(key_files: Sequence[Path], watch_only: bool, environment: Mapping[str, str]) -> tuple[SigningKey, ...]:
    """The keys that are given, in order; none if, and only if, that is asked for. Raises KeyProblem, InvalidInput."""
    from coordinator.submission.keys import KEY_VARIABLES, load_keys
    from hashfleet.cli.passphrase import ask_passphrase

    if watch_only:
        given = ["--key-file"] * bool(key_files) + [name for name in KEY_VARIABLES if environment.get(name)]
        if given:
            raise InvalidInput(f"--watch-only signs nothing, but {given[0]} gives a key; leave one of the two out")
        return ()
    keys = load_keys(key_files, environment, ask=ask_passphrase)
    if not keys:
        raise KeyProblem(
            "no signing key: give --key-file, or set HASHFLEET_MNEMONIC or HASHFLEET_PRIVATE_KEY in the environment; "
            "or give --watch-only to sign nothing"
        )
    return keys


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The exceptions that a group and the groups within it hold."""
    return [
        leaf
        for error in group.exceptions
        for leaf in (leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
