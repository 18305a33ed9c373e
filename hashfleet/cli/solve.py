"""`hashfleet solve`: search a nonce offline, without coordinator or chain."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import nullcontext

import click
from rich.console import Console

from gpu_worker.device_runner import ReadyEngine
from hashfleet.cli import engines
from hashfleet.cli.offline_search import OfflineSearch
from hashfleet.cli.prefix import read_prefix
from hashfleet.cli.quantity import show_count, show_rate, show_seconds
from hashfleet.difficulty import MAX_DIFFICULTY, expected_hashes
from hashfleet.errors import InvalidInput

logger = logging.getLogger(__name__)

#: A search that is expected to take longer is not begun without --force.
LONGEST_WAIT_SECONDS = 365.25 * 86400
#: How often the progress line is drawn; also how soon Ctrl-C is seen.
_REDRAW_SECONDS = 0.1
#: For the engines to end their batches after Ctrl-C.
_STOP_SECONDS = 3.0


@click.command()
@click.option("--prefix", required=True, help="What stands before the nonce, such as 5-28BUILD679575NONCE.")
@click.option(
    "--zeros", required=True, type=int, help=f"Leading hex zeros that the hash is to have, 1 to {MAX_DIFFICULTY}."
)
@engines.engine_options
@click.option("--max-hashes", type=click.IntRange(min=1), help="Give up after this many tries; no limit if not given.")
@click.option("--force", is_flag=True, help="Search even if it is expected to take more than a year.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("-v", "--verbose", is_flag=True, help="Log the devices and why others are not used.")
def command(
    prefix: str,
    zeros: int,
    engine: str,
    devices: str,
    cpu_processes: int | None,
    niceness: int,
    max_hashes: int | None,
    force: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Search a nonce such that SHA-256(prefix + nonce) has the zeros asked for.

    Exit status 0 if found, 1 if --max-hashes were not enough, 130 after Ctrl-C.
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(message)s")
    prefix_bytes = read_prefix(prefix)
    if not 1 <= zeros <= MAX_DIFFICULTY:
        raise InvalidInput(f"--zeros is {zeros}; it should be 1 to {MAX_DIFFICULTY} leading hex zeros")
    ready = engines.open_engines(engines.read_options(engine, devices, cpu_processes, niceness))
    try:
        rate = sum(each.rate for each in ready)
        if not force:
            check_wait(zeros, rate, max_hashes)
        search = OfflineSearch(ready, prefix_bytes, zeros, max_hashes)
        interrupted = _run(search, zeros, rate)
        _print(search, ready, prefix, zeros, interrupted, as_json)
    finally:
        for each in ready:
            each.engine.close()
    # sys.exit, for main() runs click without its standalone mode, where ctx.exit sets no exit status
    sys.exit(0 if search.found else 130 if interrupted else 1)


def check_wait(zeros: int, rate: float, max_hashes: int | None) -> None:
    """Raise InvalidInput if `zeros` at `rate` hashes a second are not to be expected within a year, nor the budget."""
    seconds = expected_hashes(zeros) / rate
    budget_seconds = seconds if max_hashes is None else max_hashes / rate
    if min(seconds, budget_seconds) <= LONGEST_WAIT_SECONDS:
        return
    within = {
        span: max((z for z in range(1, MAX_DIFFICULTY) if expected_hashes(z) / rate <= limit), default=0)
        for span, limit in (("a minute", 60.0), ("a day", 86400.0), ("a year", LONGEST_WAIT_SECONDS))
    }
    reachable = ", ".join(f"{most} within {span}" for span, most in within.items())
    raise InvalidInput(
        f"{zeros} zeros take 16^{zeros} = {float(expected_hashes(zeros)):.2g} tries on average, "
        f"{show_seconds(seconds)} at {show_rate(rate)}; reachable at this rate are {reachable} "
        "(--force searches anyway)"
    )


def _run(search: OfflineSearch, zeros: int, rate: float) -> bool:
    """Search to the end; True if Ctrl-C ended it."""
    console = Console(stderr=True)
    search.start()
    with console.status("hashing ...") if sys.stderr.isatty() else nullcontext() as status:
        try:
            logger.info(
                "searching; expected to take %s at %s", show_seconds(expected_hashes(zeros) / rate), show_rate(rate)
            )
            while not search.wait(_REDRAW_SECONDS):
                if status is not None:
                    measured = search.hashes / search.seconds if search.hashes else rate
                    expected = show_seconds(expected_hashes(zeros) / measured)
                    status.update(
                        f"{show_rate(measured)}, {show_count(search.hashes)} hashes in {show_seconds(search.seconds)}, "
                        f"expected to take {expected}"
                    )
        except KeyboardInterrupt:
            search.stop()
            search.wait(_STOP_SECONDS)
            return search.found is None
    return False


def _print(
    search: OfflineSearch, ready: list[ReadyEngine], prefix: str, zeros: int, interrupted: bool, as_json: bool
) -> None:
    proof, hashes, seconds = search.found, search.hashes, search.seconds
    rate = hashes / seconds if seconds > 0 else 0.0
    if as_json:
        answer: dict[str, object] = {
            "found": proof is not None,
            "interrupted": interrupted,
            "prefix": prefix,
            "zeros_asked": zeros,
            "nonce": proof.nonce if proof else None,
            "hash": proof.hash if proof else None,
            "zeros": proof.zeros if proof else None,
            "hashes": hashes,
            "seconds": round(seconds, 6),
            "rate": round(rate, 1),
            "devices": [each.engine.device.device_id for each in ready],
        }
        click.echo(json.dumps(answer))
        return
    tried = f"{hashes} hashes in {show_seconds(seconds)} ({show_rate(rate)})"
    if proof is None:
        reason = "interrupted" if interrupted else "--max-hashes reached"
        click.echo(f"hashfleet: no nonce found, {reason}: tried {tried}", err=True)
        return
    click.echo(f"nonce   {proof.nonce}")
    click.echo(f"hash    {proof.hash}")
    click.echo(f"zeros   {proof.zeros}")
    click.echo(f"hashes  {hashes}")
    click.echo(f"seconds {seconds:.3f}")
    click.echo(f"rate    {show_rate(rate)}")
