"""`hashfleet fleet`: who works, how fast, on which chain."""

from __future__ import annotations

import click
from rich.table import Table

from hashfleet.cli.connection import ask, coordinator_option
from hashfleet.cli.job_view import as_json, open_console, show_time
from hashfleet.cli.quantity import show_count, show_rate
from hashfleet.client import JOB_STATES, FleetClient, engine_name
from hashfleet.rpc.hashfleet.v1 import fleet_service_pb2


@click.group("fleet")
def command() -> None:
    """Show workers, rates and queue lengths."""


@command.command("status")
@coordinator_option
@click.option("--json", "wants_json", is_flag=True, help="Print JSON: the message of proto/ in protobuf's mapping.")
def status(coordinator: str, wants_json: bool) -> None:
    """Show the chain, the queue, and every device."""
    answer = ask(coordinator, FleetClient.fleet_status)
    if wants_json:
        click.echo(as_json(answer))
        return
    console = open_console()
    console.print(_summary(coordinator, answer))
    if answer.workers:
        console.print()
        console.print(_devices(answer))


def _summary(coordinator: str, answer: fleet_service_pb2.GetFleetStatusResponse) -> Table:
    chain, jobs = answer.chain, answer.jobs
    sheet = Table.grid(padding=(0, 2))
    sheet.add_row("coordinator", f"{coordinator}, version {answer.version}")
    if chain.connected:
        interval = f", a block every {chain.block_interval:.2f} seconds" if chain.block_interval else ""
        late = f", estimated {chain.estimated_height} now" if chain.estimated_height > chain.height + 1 else ""
        sheet.add_row("chain", f"{chain.chain_id} at height {chain.height}{late}{interval}")
    else:
        sheet.add_row("chain", f"NOT CONNECTED, last height {chain.height}" if chain.height else "NOT CONNECTED")
    for number, endpoint in enumerate(chain.endpoints):
        sheet.add_row("" if number else "nodes", _endpoint(endpoint))
    if not answer.signers:
        sheet.add_row("signer", chain.signer_address or "none: proofs are found, but not submitted")
    for signer in answer.signers:
        sheet.add_row("signer", _signer(signer))
        if signer.alarm:
            sheet.add_row("ALARM", signer.alarm)
        elif signer.last_error:
            sheet.add_row("last error", signer.last_error)
    counts = {name: getattr(jobs, name) for name in JOB_STATES}
    sheet.add_row("jobs", ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none")
    devices = sum(len(worker.devices) for worker in answer.workers)
    sheet.add_row(
        "fleet",
        f"{_counted(len(answer.workers), 'worker')}, {_counted(devices, 'device')}, {show_rate(answer.hash_rate)} "
        f"of {show_rate(answer.nominal_rate)}",
    )
    return sheet


def _endpoint(endpoint: fleet_service_pb2.ChainEndpoint) -> str:
    """One node of the chain on one line."""
    name = fleet_service_pb2.ChainEndpointState.Name(endpoint.state).removeprefix("CHAIN_ENDPOINT_STATE_").lower()
    told = [f"{endpoint.name} {name.upper() if name in ('failing', 'refused') else name}"]
    if endpoint.height:
        told.append(f"height {endpoint.height}")
    if endpoint.seconds:
        told.append(f"{endpoint.seconds * 1000:.0f} ms")
    if endpoint.version:
        told.append(endpoint.version[:40])
    if endpoint.error:
        told.append(endpoint.error[:200])
    return ", ".join(told)


def _signer(signer: fleet_service_pb2.SignerStatus) -> str:
    player = f" of {signer.player_id}" if signer.player_id else ""
    counts = (
        f"{signer.in_flight} in flight, {signer.waiting} waiting, {signer.included} included, "
        f"{signer.rejected} rejected, {signer.stale} stale"
    )
    return f"{signer.address}{player}: {counts}"


def _devices(answer: fleet_service_pb2.GetFleetStatusResponse) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("WORKER", "SINCE", "DEVICE", "ENGINE", "NAME"):
        table.add_column(heading, no_wrap=True)
    for heading in ("RATE", "NOMINAL", "HASHES", "ACCEPTED", "STALE", "INVALID"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("JOB")
    for worker in answer.workers:
        for device in worker.devices:
            table.add_row(
                worker.name + (" (draining)" if worker.draining else ""),
                show_time(worker.connected_at),
                device.device.device_id,
                engine_name(device.device.engine),
                device.device.name,
                show_rate(device.hash_rate),
                show_rate(device.device.nominal_rate),
                show_count(device.hashes),
                str(device.accepted),
                str(device.stale),
                str(device.invalid),
                device.job_id or "idle",
            )
    return table


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
