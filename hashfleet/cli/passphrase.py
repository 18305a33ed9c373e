"""Secrets that people type: read from the terminal without an echo, never from an argument."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

import click

from coordinator.submission.keys import PASSPHRASE_FILE_VARIABLE
from coordinator.submission.keys_sealed import MIN_PASSPHRASE
from coordinator.submission.keys_secret import Secret
from hashfleet.errors import KeyProblem

#: How often a new passphrase is asked for when it was too short or typed differently the second time.
_ATTEMPTS = 3


def ask_passphrase(path: Path) -> Secret[str]:
    """The passphrase of a key file. Raises KeyProblem if nobody sits at a terminal."""
    return ask_secret(f"Passphrase of {path}: ", f"the key file {path} is encrypted")


def ask_new_passphrase(path: Path) -> Secret[str]:
    """A passphrase for a new key file, typed twice. Raises KeyProblem."""
    for _ in range(_ATTEMPTS):
        first = ask_secret(f"New passphrase for {path}: ", "a new key is encrypted with a passphrase")
        if len(first.reveal()) < MIN_PASSPHRASE:
            click.echo(f"It should have at least {MIN_PASSPHRASE} characters.", err=True)
        elif ask_secret("The same again: ", "").reveal() != first.reveal():
            click.echo("The two differ.", err=True)
        else:
            return first
    raise KeyProblem(f"no passphrase was chosen in {_ATTEMPTS} attempts; nothing was written")


def ask_secret(prompt: str, why: str) -> Secret[str]:
    """One line from the terminal, not shown. Raises KeyProblem with `why` if there is no terminal."""
    if not sys.stdin.isatty():
        raise KeyProblem(
            f"{why}, and there is no terminal to ask at; "
            f"set {PASSPHRASE_FILE_VARIABLE} to a private file that holds the passphrase"
        )
    try:
        return Secret(getpass.getpass(prompt))
    except EOFError:
        raise KeyProblem("nothing was typed") from None
