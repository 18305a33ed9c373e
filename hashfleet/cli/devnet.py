"""`hashfleet devnet`: run the embedded chain as a process."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import click

from devnet.node import DEFAULT_CHAIN_ID, MAX_INTERVAL, MIN_INTERVAL, Devnet
from devnet.rules import VERSIONS

_PORT = click.IntRange(0, 65535)


@click.command(name="devnet")
@click.option(
    "--interval",
    type=click.FloatRange(MIN_INTERVAL, MAX_INTERVAL),
    default=1.0,
    show_default=True,
    help="Seconds between blocks.",
)
@click.option(
    "--scenario", default="demo", show_default=True, metavar="demo|empty|FILE", help="How a new chain begins."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--grpc-port", type=_PORT, default=9090, show_default=True, help="structsd's gRPC; 0 picks a free port.")
@click.option("--rpc-port", type=_PORT, default=26657, show_default=True, help="CometBFT's RPC; 0 picks a free port.")
@click.option("--rest", metavar="HOST:PORT", help="Serve structsd's REST there too; port 0 picks a free one.")
@click.option("--chain-id", help=f"Chain id of a new chain.  [default: {DEFAULT_CHAIN_ID}]")
@click.option("--start-height", type=click.IntRange(1), help="Height of a new chain instead of the scenario's.")
@click.option(
    "--state",
    "state_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the chain in this file, and go on from it.",
)
@click.option(
    "--version",
    type=click.Choice(list(VERSIONS)),
    help="The structsd release that a new chain behaves like.  [default: v0.20]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the addresses as one JSON line.")
def command(
    interval: float,
    scenario: str,
    host: str,
    grpc_port: int,
    rpc_port: int,
    rest: str | None,
    chain_id: str | None,
    start_height: int | None,
    state_path: Path | None,
    version: str | None,
    as_json: bool,
) -> None:
    """Run an embedded chain for trying things out.

    It speaks structsd's own gRPC and REST and CometBFT's RPC. The demo's player is signed for with the public test
    mnemonic ("abandon" eleven times, then "about"): never fund that key. Stops on SIGTERM or Ctrl-C.
    """
    rest_host, rest_port = _host_and_port(rest) if rest else (None, None)
    devnet = Devnet(
        scenario_name=scenario,
        chain_id=chain_id,
        interval=interval,
        start_height=start_height,
        state_path=state_path,
        host=host,
        grpc_port=grpc_port,
        rpc_port=rpc_port,
        rest_host=rest_host,
        rest_port=rest_port,
        version=version,
    )
    asyncio.run(_serve(devnet, as_json))


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"{text!r} should be HOST:PORT, such as 127.0.0.1:1317", param_hint="--rest")
    return host, int(port)


async def _serve(devnet: Devnet, as_json: bool) -> None:
    """Run until a signal comes or the chain fails."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop.set)
    async with devnet:
        _announce(devnet, as_json)
        waiting = {asyncio.create_task(stop.wait()), asyncio.create_task(devnet.run())}
        done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            task.result()  # raises what stopped the chain


def _announce(devnet: Devnet, as_json: bool) -> None:
    if as_json:
        told = {
            "chain_id": devnet.chain_id,
            "height": devnet.height,
            "grpc_address": devnet.grpc_address,
            "rpc_url": devnet.rpc_url,
            "rest_url": devnet.rest_url,
        }
        click.echo(json.dumps(told))
        return
    click.echo(f"devnet {devnet.chain_id} at height {devnet.height}")
    click.echo(f"  gRPC  {devnet.grpc_address}")
    click.echo(f"  RPC   {devnet.rpc_url}  (WebSocket at /websocket)")
    if devnet.rest_url:
        click.echo(f"  REST  {devnet.rest_url}")
