"""`hashfleet verify`: check a nonce offline."""

from __future__ import annotations

import json
import sys

import click

from hashfleet.cli.prefix import read_prefix
from hashfleet.difficulty import MAX_DIFFICULTY
from hashfleet.proof import verify


@click.command()
@click.option("--prefix", required=True, help="What stands before the nonce, such as 5-28BUILD679575NONCE.")
@click.option("--nonce", required=True, help="Decimal digits; leading zeros count.")
@click.option("--zeros", type=click.IntRange(1, MAX_DIFFICULTY), help="Leading hex zeros that the hash should have.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(prefix: str, nonce: str, zeros: int | None, as_json: bool) -> None:
    """Print the SHA-256 of prefix + nonce and its leading hex zeros.

    Exit status 0 if it has the zeros asked for (or none were), 1 if it has not.
    """
    proof = verify(read_prefix(prefix), nonce)
    met = zeros is None or proof.zeros >= zeros
    if as_json:
        answer: dict[str, object] = {"hash": proof.hash, "zeros": proof.zeros}
        if zeros is not None:
            answer |= {"zeros_asked": zeros, "met": met}
        click.echo(json.dumps(answer))
    else:
        click.echo(f"hash   {proof.hash}")
        asked = "" if zeros is None else f" of {zeros} asked: {'met' if met else 'not met'}"
        click.echo(f"zeros  {proof.zeros}{asked}")
    # sys.exit, for main() runs click without its standalone mode, where ctx.exit sets no exit status
    sys.exit(0 if met else 1)
