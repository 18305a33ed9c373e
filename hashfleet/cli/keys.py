"""`hashfleet keys`: signing keys in encrypted files or in the operating system's keyring."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.table import Table

from coordinator.submission import keys, keys_keyring
from coordinator.submission.keys import Identity
from coordinator.submission.keys_private_file import MAX_BYTES, write_private
from coordinator.submission.keys_sealed import Cost
from coordinator.submission.keys_secret import Secret, protect_process
from hashfleet.action import PLAYER_TYPE, check_object_id
from hashfleet.cli.job_view import open_console
from hashfleet.cli.passphrase import ask_new_passphrase, ask_passphrase, ask_secret
from hashfleet.errors import InvalidInput, KeyProblem

if TYPE_CHECKING:
    from coordinator.chain.key_rights import KeyRights

#: Limit of each question to the chain, in seconds.
CHAIN_SECONDS: Final = 5.0
#: Shorter than a key in hex, so that none is ever taken for a name.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", re.ASCII)
_SUFFIX: Final = ".json"
#: Permission bits of a delegate that hashes: play, and completing builds, mining, refining and raids.
HASH_DELEGATE: Final = 15728641
_KEPT: Final = {"file": "encrypted file", "keyring": "OS keyring", "clear": "file in clear"}


def default_folder() -> Path:
    """Where keys lie if nothing else is said."""
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "hashfleet" / "keys"


def _check_name(context: click.Context, parameter: click.Parameter, value: str | tuple[str, ...]) -> object:
    # What was typed is not repeated: it may be a key that was meant for stdin.
    for name in [value] if isinstance(value, str) else value:
        if not _NAME.fullmatch(name):
            raise InvalidInput("the name of a key should be 1 to 40 letters, digits, - and _; a key itself is no name")
    return value


def _refuse_more(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
    if value:
        raise InvalidInput(
            "a key is never taken from the command line, where every user of this machine can read it; give it on "
            "stdin, and if what you typed was a key, take it for known to others"
        )


_name = click.argument("name", callback=_check_name)
_no_more = click.argument(
    "more", nargs=-1, type=click.UNPROCESSED, callback=_refuse_more, expose_value=False, metavar=""
)
_folder = click.option(
    "--folder",
    envvar="HASHFLEET_KEYS",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_folder,
    help="Folder of the keys.  [env var: HASHFLEET_KEYS; default: hashfleet/keys in your data folder]",
)
_keyring = click.option("--keyring", is_flag=True, help="Keep the key in the OS keyring instead of an encrypted file.")
_passphrase_file = click.option(
    "--passphrase-file",
    envvar=keys.PASSPHRASE_FILE_VARIABLE,
    show_envvar=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the passphrase, which only its owner may read; otherwise it is asked for.",
)
_scrypt_n = click.option(
    "--scrypt-n",
    type=click.IntRange(1024, 2**18),
    default=Cost().n,
    show_default=True,
    help="Cost of one guess of the passphrase, a power of two; 131072 takes 128 MiB.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("keys")
def command() -> None:
    """Make, import, show and remove signing keys.

    A key is a file NAME.json: encrypted with a passphrase, or pointing to the OS keyring. Give the file to
    `hashfleet coordinator --key-file`.
    """
    protect_process()


@command.command("new")
@_name
@_no_more
@_keyring
@click.option("--words", type=click.Choice(["12", "15", "18", "21", "24"]), default="24", show_default=True)
@click.option(
    "--show-mnemonic/--hide-mnemonic",
    default=None,
    help="Whether the words are printed, this once; by default on a terminal only.",
)
@_passphrase_file
@_scrypt_n
@_folder
@_json
def new(
    name: str,
    keyring: bool,
    words: str,
    show_mnemonic: bool | None,
    passphrase_file: Path | None,
    scrypt_n: int,
    folder: Path,
    as_json: bool,
) -> None:
    """Make a new key from a fresh mnemonic."""
    path = _free_path(folder, name)
    mnemonic = keys.new_mnemonic(int(words))
    identity = _keep(keys.secret_of(mnemonic), path, keyring, passphrase_file, Cost(scrypt_n))
    shown = (sys.stdout.isatty() and not as_json) if show_mnemonic is None else show_mnemonic
    if as_json:
        told = _as_dict(name, path, identity)
        click.echo(json.dumps(told | {"mnemonic": mnemonic.reveal()} if shown else told))
        return
    _tell_kept(path, identity)
    if shown:
        click.echo("Write these words down and keep them away from this machine; they are shown only now:\n")
        click.echo(mnemonic.reveal() + "\n")
    else:
        backup = "a copy of the file, with its passphrase" if identity.kept_in == "file" else "none"
        click.echo(f"The mnemonic was not shown; the only backup of this key is {backup}.")


@command.command("import")
@_name
@_no_more
@_keyring
@click.option("--path", "hd_path", default=keys.HD_PATH, show_default=True, help="BIP-32 path, for a mnemonic.")
@_passphrase_file
@_scrypt_n
@_folder
@_json
def import_(
    name: str,
    keyring: bool,
    hd_path: str,
    passphrase_file: Path | None,
    scrypt_n: int,
    folder: Path,
    as_json: bool,
) -> None:
    """Import a mnemonic or a hex key from stdin, or from a prompt that does not show it."""
    path = _free_path(folder, name)
    secret = keys.secret_of(_read_key(), hd_path)
    identity = _keep(secret, path, keyring, passphrase_file, Cost(scrypt_n))
    if as_json:
        click.echo(json.dumps(_as_dict(name, path, identity)))
    else:
        _tell_kept(path, identity)


@command.command("list")
@_folder
@_json
def list_(folder: Path, as_json: bool) -> None:
    """List the keys of the folder."""
    found, problems = _read_folder(folder)
    for problem in problems:
        click.echo(f"hashfleet: {problem}", err=True)
    if as_json:
        click.echo(json.dumps([_as_dict(path.stem, path, identity) for path, identity in found]))
    elif not found:
        click.echo(f"There is no key in {folder}; `hashfleet keys new NAME` makes one.")
    else:
        table = Table("NAME", "ADDRESS", "KEPT IN", "FILE", box=None, pad_edge=False)
        for path, identity in found:
            table.add_row(path.stem, identity.address, _KEPT[identity.kept_in], str(path))
        open_console().print(table)
    if problems:
        sys.exit(1)


@command.command("show")
@click.argument("names", nargs=-1, metavar="[NAME]...", callback=_check_name)
@click.option(
    "--key-file",
    "key_files",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A key file anywhere, of any kind; may be repeated.",
)
@click.option(
    "--chain-grpc",
    envvar="HASHFLEET_CHAIN_GRPC",
    show_envvar=True,
    metavar="HOST:PORT",
    help="Ask this node what each address may do.",
)
@click.option("--owner", metavar="PLAYER", help="With --chain-grpc: what this player granted to the key's player.")
@_folder
@_json
def show(
    names: tuple[str, ...],
    key_files: tuple[Path, ...],
    chain_grpc: str | None,
    owner: str | None,
    folder: Path,
    as_json: bool,
) -> None:
    """Show addresses, and with --chain-grpc what they may do. Needs no passphrase.

    Without a name: every key of the folder.
    """
    if owner is not None:
        check_object_id(owner, PLAYER_TYPE, "--owner")
        if chain_grpc is None:
            raise InvalidInput("--owner goes with --chain-grpc: only the chain knows what a player granted")
    paths = [*(folder / f"{name}{_SUFFIX}" for name in names), *key_files]
    listed = [(path, keys.identity(path)) for path in paths]
    if not paths:
        listed, problems = _read_folder(folder)
        if problems:
            raise KeyProblem(problems[0])
    rights = (
        asyncio.run(_ask_chain(chain_grpc, [identity.address for _, identity in listed], owner)) if chain_grpc else {}
    )
    if as_json:
        told = [
            _as_dict(path.stem, path, identity) | _rights_as_dict(rights.get(identity.address), owner)
            for path, identity in listed
        ]
        click.echo(json.dumps(told))
        return
    if not listed:
        click.echo(f"There is no key in {folder}; `hashfleet keys new NAME` makes one.")
    for path, identity in listed:
        click.echo(f"{path.stem}\n  address     {identity.address}\n  public key  {identity.public_key}")
        click.echo(f"  kept in     {_KEPT[identity.kept_in]} {path}")
        if identity.address in rights:
            for line in _rights_lines(rights[identity.address], owner):
                click.echo(f"  {line}")


@command.command("register")
@_name
@click.option("--player", required=True, help="Player whose address the key shall be, such as 1-11.")
@click.option(
    "--permissions",
    type=click.IntRange(1, 2**25 - 1),
    default=HASH_DELEGATE,
    show_default=True,
    help="Bits that the address gets; the default may complete proofs and nothing else.",
)
@_passphrase_file
@_folder
@_json
def register(
    name: str, player: str, permissions: int, passphrase_file: Path | None, folder: Path, as_json: bool
) -> None:
    """Print the command with which a player registers this key; nothing is sent.

    The chain wants a signature of the new key: the player's own key, which sends the command, stays where it is.
    """
    check_object_id(player, PLAYER_TYPE, "--player")
    path = folder / f"{name}{_SUFFIX}"
    key = keys.from_file(path, passphrase=_asking(passphrase_file))
    proof = key.sign(hashlib.sha256(f"PLAYER{player}ADDRESS{key.address}".encode("ascii")).digest()).hex()
    words = ["structsd", "tx", "structs", "address-register", player, key.address, key.public_key.hex(), proof]
    line = shlex.join([*words, str(permissions)])
    if as_json:
        told = {"player": player, "address": key.address, "public_key": key.public_key.hex(), "signature": proof}
        click.echo(json.dumps(told | {"permissions": permissions, "command": line}))
    else:
        click.echo(f"{line} --from KEY_OF_{player}")


@command.command("remove")
@_name
@click.option("--yes", is_flag=True, help="Do not ask.")
@_folder
@_json
def remove(name: str, yes: bool, folder: Path, as_json: bool) -> None:
    """Delete a key: its file, and its entry in the OS keyring if it is kept there."""
    path = folder / f"{name}{_SUFFIX}"
    identity = keys.identity(path)
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidInput("removing a key cannot be undone; say --yes where nobody can be asked")
        click.confirm(f"Remove {identity.address}? Without its mnemonic or a backup it is lost.", abort=True, err=True)
    if identity.kept_in == "keyring" and not keys_keyring.remove(identity.address):
        click.echo(f"The keyring had no key of {identity.address}.", err=True)
    try:
        path.unlink()
    except OSError as error:
        raise KeyProblem(f"the key file {path} cannot be removed: {error.strerror}") from None
    click.echo(
        json.dumps({"removed": name, "address": identity.address}) if as_json else f"Removed {identity.address}."
    )


def _free_path(folder: Path, name: str) -> Path:
    """The file of a new key. Raises KeyProblem before anything was asked or made if it is taken."""
    path = folder / f"{name}{_SUFFIX}"
    if path.exists():
        raise KeyProblem(f"{path} exists already; choose another name, or remove that key first")
    return path


def _read_key() -> Secret[str]:
    """A mnemonic or a hex key: typed without being shown, or all of stdin."""
    if sys.stdin.isatty():
        return ask_secret("Mnemonic or hex key (not shown): ", "a key is needed")
    given = Secret(sys.stdin.read(MAX_BYTES + 1))
    if len(given.reveal()) > MAX_BYTES:
        raise KeyProblem(f"stdin has more than {MAX_BYTES} characters; it should hold one mnemonic or hex key")
    return given


def _keep(secret: Secret[bytes], path: Path, in_keyring: bool, passphrase_file: Path | None, cost: Cost) -> Identity:
    """Put a private key where it was asked to be. Raises KeyProblem."""
    if in_keyring:
        if (
            passphrase_file is not None
            and click.get_current_context().get_parameter_source("passphrase_file")
            is click.core.ParameterSource.COMMANDLINE
        ):
            raise InvalidInput("--keyring takes no passphrase: the keyring has its own; leave --passphrase-file out")
        file = keys.into_keyring(secret)
        try:
            write_private(path, file.text())
        except KeyProblem:
            keys_keyring.remove(file.address)
            raise
    else:
        if passphrase_file is not None:
            passphrase = keys.passphrase_of(passphrase_file.expanduser())
        else:
            passphrase = keys.passphrase_in(os.environ) or ask_new_passphrase(path)
        file = keys.sealed(secret, passphrase, cost)
        write_private(path, file.text())
    return Identity(file.address, file.public_key, file.kept_in)


def _asking(passphrase_file: Path | None) -> keys.AskPassphrase:
    """Where the passphrase of a key that is there comes from: the file, the environment, or the terminal."""
    if passphrase_file is not None:
        return lambda _: keys.passphrase_of(passphrase_file.expanduser())
    given = keys.passphrase_in(os.environ)
    return ask_passphrase if given is None else lambda _: given


def _read_folder(folder: Path) -> tuple[list[tuple[Path, Identity]], list[str]]:
    """The keys of a folder in order of their names, and what is wrong with files that hold none."""
    found: list[tuple[Path, Identity]] = []
    problems: list[str] = []
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        if _NAME.fullmatch(path.stem):
            try:
                found.append((path, keys.identity(path)))
            except KeyProblem as error:
                problems.append(str(error))
    return found, problems


def _as_dict(name: str, path: Path, identity: Identity) -> dict[str, object]:
    return {
        "name": name,
        "address": identity.address,
        "public_key": identity.public_key,
        "kept_in": identity.kept_in,
        "file": str(path),
    }


def _tell_kept(path: Path, identity: Identity) -> None:
    click.echo(f"address  {identity.address}")
    click.echo(f"file     {path}" + (" (the key itself is in the OS keyring)" if identity.kept_in == "keyring" else ""))


async def _ask_chain(chain_grpc: str, addresses: list[str], owner: str | None) -> dict[str, KeyRights]:
    # Imported here, as below: every other subcommand does without gRPC.
    from coordinator.chain.grpc_transport import GrpcTransport
    from coordinator.chain.key_rights import read_rights

    transport = GrpcTransport(chain_grpc, timeout=CHAIN_SECONDS)
    transport.open()
    try:
        return {address: await read_rights(transport, address, owner) for address in addresses}
    finally:
        await transport.close()


def _rights_as_dict(rights: KeyRights | None, owner: str | None) -> dict[str, object]:
    if rights is None:
        return {}
    from coordinator.chain import key_rights

    told: dict[str, object] = {
        "player": rights.player,
        "permissions": rights.permissions,
        "may": key_rights.words(rights.permissions),
        "hash_delegate": not rights.lacks,
        "lacks": key_rights.names(rights.lacks),
    }
    return told | ({"owner": owner, "granted": rights.granted} if owner else {})


def _rights_lines(rights: KeyRights, owner: str | None) -> list[str]:
    """What the chain says of an address, for people."""
    from coordinator.chain import key_rights

    if rights.player is None:
        return ["player      none: the address is not registered; its player has to register it (docs/keys.md)"]
    bits = rights.permissions
    lines = [
        f"player      {rights.player}",
        f"may         {', '.join(key_rights.words(bits)) or 'nothing'} (permissions {bits})",
    ]
    if rights.lacks:
        lines.append(f"for hashing lacks {', '.join(key_rights.names(rights.lacks))} of {key_rights.HASH_DELEGATE}")
    elif bits == key_rights.HASH_DELEGATE:
        lines.append(f"for hashing has all it needs and nothing more ({key_rights.HASH_DELEGATE})")
    else:
        lines.append(f"for hashing has all it needs ({key_rights.HASH_DELEGATE}), and more than that")
    if owner == rights.player:
        lines.append(f"for {owner:<7} is that player's own key")
    elif owner is not None:
        granted = rights.granted or 0
        missing = key_rights.HASH_BITS & ~granted
        said = f"lacks {', '.join(key_rights.names(missing))}" if missing else "may complete all of that player's work"
        lines.append(f"for {owner:<7} {said} (granted to {rights.player}: {granted})")
    return lines
