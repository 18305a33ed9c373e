"""`hashfleet charter`: what a founder does so that another player's proof founds his guild."""

from __future__ import annotations

import os
from pathlib import Path

import click

from hashfleet.charter import Founding, consent_file
from hashfleet.errors import KeyProblem


@click.group("charter")
def command() -> None:
    """Sign the consent of a guild's founder."""


@command.command("consent")
@click.option("--chain-id", required=True, help="Chain on which the guild is founded, such as structstestnet-111.")
@click.option("--founder", "founder_id", required=True, help="The player who founds the guild, such as 1-7.")
@click.option("--reactor", "reactor_id", required=True, help="Reactor to found the guild on, such as 3-1.")
@click.option("--endpoint", required=True, help="What the guild publishes as its address, such as guild.example.")
@click.option(
    "--substation", "entry_substation_id", default="", help="Where new members are connected; none if left out."
)
@click.option(
    "--anchor", type=int, required=True, help="Height of the last guild founded by proof, as the job tells it."
)
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    # Not click's to read: the variable may name several files, which `load_keys` takes apart.
    help="File with a key of the founder.  [env var: HASHFLEET_KEY_FILE]",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it there instead of printing it; not over a file.",
)
def consent(
    chain_id: str,
    founder_id: str,
    reactor_id: str,
    endpoint: str,
    entry_substation_id: str,
    anchor: int,
    key_file: Path | None,
    out: Path | None,
) -> None:
    """Sign that exactly this guild may be founded by somebody else's proof, and print the consent as JSON.

    The key comes from --key-file, or else from HASHFLEET_KEY_FILE, HASHFLEET_MNEMONIC or HASHFLEET_PRIVATE_KEY in the
    environment. It has to belong to the founder. The consent holds until any guild is founded by a proof: then the
    anchor is another.
    """
    from coordinator.submission.consent import sign_consent
    from coordinator.submission.keys import load_keys
    from coordinator.submission.keys_secret import protect_process
    from hashfleet.cli.passphrase import ask_passphrase

    founding = Founding(reactor_id, endpoint, entry_substation_id)
    protect_process()
    keys = load_keys([key_file] if key_file else [], os.environ, ask=ask_passphrase)
    if len(keys) != 1:
        raise KeyProblem(f"{len(keys)} keys are given; a consent is signed with one of the founder's: give --key-file")
    text = consent_file(sign_consent(keys[0], chain_id, founder_id, founding, anchor))
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        with out.open("x", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise click.ClickException(f"cannot write {out}: {error.strerror or error}") from error
