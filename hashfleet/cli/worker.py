"""`hashfleet worker`: work for a coordinator on this machine's GPUs, or on its CPU cores."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys

import click
from rich.console import Console
from rich.table import Table

from gpu_worker.device_runner import ReadyEngine
from gpu_worker.worker import Worker
from hashfleet.cli import engines
from hashfleet.cli.connection import coordinator_option
from hashfleet.cli.logs import configure_logging
from hashfleet.cli.quantity import show_rate
from hashfleet.client import FleetClient
from hashfleet.engine import DeviceInfo
from hashfleet.errors import InvalidInput

logger = logging.getLogger(__name__)

MAX_NAME_LENGTH = 100


@click.command()
@coordinator_option
@click.option("--name", help="How the fleet shows this worker; the host name if not given.")
@engines.engine_options
@click.option("--list-devices", is_flag=True, help="Test every device, show it with its measured rate, and exit.")
@click.option("--json", "as_json", is_flag=True, help="With --list-devices: print one JSON array.")
@click.option("-v", "--verbose", is_flag=True, help="Log every lease.")
def command(
    coordinator: str,
    name: str | None,
    engine: str,
    devices: str,
    cpu_processes: int | None,
    niceness: int,
    list_devices: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Hash for a coordinator until stopped; reconnects by itself.

    Ctrl-C or SIGTERM gives the leases back and exits; a second one exits at once.
    """
    configure_logging(verbose)
    options = engines.read_options(engine, devices, cpu_processes, niceness)
    if list_devices:
        _show(engines.survey(options), as_json)
        return
    if as_json:
        raise InvalidInput("--json goes with --list-devices; a worker prints nothing but its log")
    address = FleetClient(coordinator).address  # checks it
    name = _checked_name(socket.gethostname() if name is None else name)
    # While drivers load there is nothing to give back, so SIGTERM may simply end the process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asyncio.run(_work(address, name, engines.open_engines(options, renew=True)))


async def _work(address: str, name: str, ready: list[ReadyEngine]) -> None:
    worker = Worker(address, name, ready)
    told = False

    def stop(number: signal.Signals) -> None:
        nonlocal told
        if told:
            logger.warning("stopping at once")
            logging.shutdown()
            os._exit(128 + number)  # device processes end by themselves when their pipes close
        told = True
        worker.drain(f"{number.name} received")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    await worker.run()


def _show(found: list[tuple[DeviceInfo, float] | engines.Refused], as_json: bool) -> None:
    rows: list[dict[str, object]] = []
    for entry in found:
        device = entry.device if isinstance(entry, engines.Refused) else entry[0]
        rows.append(
            {
                "device_id": entry.device_id if isinstance(entry, engines.Refused) else entry[0].device_id,
                "name": device.name if device else None,
                "engine": device.kind.value if device else None,
                "driver": device.driver if device else None,
                "rate": None if isinstance(entry, engines.Refused) else entry[1],
                "refused": entry.reason if isinstance(entry, engines.Refused) else None,
            }
        )
    if as_json:
        click.echo(json.dumps(rows))
        return
    if not rows:
        click.echo("no device")
        return
    table = Table("device", "name", "engine", "driver", "measured rate")
    for row, entry in zip(rows, found, strict=True):
        rate = f"refused: {entry.reason}" if isinstance(entry, engines.Refused) else show_rate(entry[1])
        kind = engines.label(entry[0].kind) if not isinstance(entry, engines.Refused) else str(row["engine"] or "")
        table.add_row(str(row["device_id"]), str(row["name"] or ""), kind, str(row["driver"] or ""), rate)
    # Rich cuts columns to 80 characters where there is no terminal; a pipe gets whole lines.
    console = Console(width=None if sys.stdout.isatty() else 250)
    console.print(table)


def _checked_name(name: str) -> str:
    if not (1 <= len(name) <= MAX_NAME_LENGTH and name.isprintable()):
        raise InvalidInput(
            f"the worker's name is {name[:40]!a}; it should be 1 to {MAX_NAME_LENGTH} printable characters"
        )
    return name
