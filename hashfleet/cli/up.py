"""`hashfleet up`: chain, coordinator and local worker as one supervised group."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from hashfleet.cli.children import SECRET_VARIABLES, Child, running
from hashfleet.cli.coordinator import DEFAULT_GRPC, DEFAULT_HTTP, chain_options, keep_days_option
from hashfleet.cli.logs import configure_logging
from hashfleet.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be brought up."""

    demo: bool
    once: bool
    data: Path
    listen: str
    http: str
    block_interval: float
    chain_grpc: tuple[str, ...]
    chain_rest: tuple[str, ...]
    chain_rpc: tuple[str, ...]
    chain_id: str | None
    key_files: tuple[Path, ...]
    engine: str
    keep_days: int
    as_json: bool


@click.command()
@click.option("--demo", is_flag=True, help="Bring an embedded chain with a public test key.")
@click.option("--once", is_flag=True, help="With --demo: run one job to its included transaction, then stop.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for jobs, chain and logs; .hashfleet here, or a fresh one with --once.",
)
@click.option("--listen", metavar="HOST:PORT", help=f"The coordinator's gRPC; {DEFAULT_GRPC}, any port with --once.")
@click.option("--http", metavar="HOST:PORT", help=f"The coordinator's MCP; {DEFAULT_HTTP}, any port with --once.")
@click.option("--block-interval", default=1.0, show_default=True, help="Seconds per block of the embedded chain.")
@chain_options
@click.option(
    "--key-file",
    "key_files",
    multiple=True,
    envvar="HASHFLEET_KEY_FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of a signing key: what `hashfleet keys` makes, or a mnemonic or hex. May be repeated.",
)
@click.option(
    "--engine", type=click.Choice(["auto", "cuda", "opencl", "cpu"]), default="auto", help="What the worker hashes on."
)
@keep_days_option
@click.option("--json", "as_json", is_flag=True, help="Print addresses and MCP configuration as one JSON line.")
def command(
    demo: bool,
    once: bool,
    data: Path | None,
    listen: str | None,
    http: str | None,
    block_interval: float,
    chain_grpc: tuple[str, ...],
    chain_rest: tuple[str, ...],
    chain_rpc: tuple[str, ...],
    chain_id: str | None,
    key_files: tuple[Path, ...],
    engine: str,
    keep_days: int,
    as_json: bool,
) -> None:
    """Run everything on this machine until Ctrl-C: a chain (--demo, or your node), a coordinator and a worker."""
    if demo and (chain_grpc or chain_rest or key_files):
        raise InvalidInput("--demo brings its own chain and key; leave --chain-grpc, --chain-rest and --key-file out")
    if not demo and not chain_grpc and not chain_rest:
        raise InvalidInput(
            "no chain: give --demo for the embedded one, or --chain-grpc HOST:PORT or --chain-rest URL of a node"
        )
    if once and not demo:
        raise InvalidInput("--once goes with --demo")
    configure_logging(verbose=False)
    anywhere = "127.0.0.1:0" if once else None
    with contextlib.ExitStack() as stack:
        folder = data or (Path(stack.enter_context(tempfile.TemporaryDirectory())) if once else Path(".hashfleet"))
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        plan = Plan(
            demo,
            once,
            folder,
            listen or anywhere or DEFAULT_GRPC,
            http or anywhere or DEFAULT_HTTP,
            block_interval,
            chain_grpc,
            chain_rest,
            chain_rpc,
            chain_id,
            key_files,
            engine,
            keep_days,
            as_json,
        )
        sys.exit(asyncio.run(_bring_up(plan, key_variables(plan))))


async def _bring_up(plan: Plan, environment: dict[str, str]) -> int:
    console = Console(highlight=False, soft_wrap=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    started: list[Child] = []
    try:
        rpc_url = await _start_all(plan, environment, started, console, stop)
        if rpc_url is None:
            return 130
        coordinator = started[-2]
        async with running(started):
            if plan.once:
                return await _run_once(coordinator.announced["mcp"], rpc_url, console, stop)
            await stop.wait()
            return 0
    finally:
        for child in reversed(started):
            await child.stop()


async def _start_all(
    plan: Plan, environment: dict[str, str], started: list[Child], console: Console, stop: asyncio.Event
) -> str | None:
    """Start chain, coordinator and worker in this order; None if Ctrl-C came first."""
    chain_grpc, chain_rpc, chain_id = plan.chain_grpc, plan.chain_rpc, plan.chain_id
    if plan.demo:
        state = str(plan.data / "devnet.json")
        devnet = Child(
            "devnet",
            shlex.split(
                f"devnet --json --scenario demo --interval {plan.block_interval} --grpc-port 0 --rpc-port 0 "
                f"--state {shlex.quote(state)}"
            ),
            plan.data / "logs" / "devnet.log",
            announces=True,
        )
        if not await _start(devnet, started, stop):
            return None
        chain_grpc, chain_rpc = (devnet.announced["grpc_address"],), (devnet.announced["rpc_url"],)
        devnet.come_back_with("--grpc-port", chain_grpc[0].rpartition(":")[2])
        devnet.come_back_with("--rpc-port", chain_rpc[0].rpartition(":")[2])
        chain_id = devnet.announced["chain_id"]
    arguments = ["coordinator", "--json", "--listen", plan.listen, "--http", plan.http]
    arguments += ["--database", str(plan.data / "hashfleet.db")]
    for option, values in (
        ("--chain-grpc", chain_grpc),
        ("--chain-rest", plan.chain_rest),
        ("--chain-rpc", chain_rpc),
    ):
        for value in values:
            arguments += [option, value]
    arguments += ["--keep-days", str(plan.keep_days)]
    for option, given in (("--chain-id", chain_id), *(("--key-file", path) for path in plan.key_files)):
        arguments += [option, str(given)] if given else []
    log = plan.data / "logs" / "coordinator.log"
    coordinator = Child("coordinator", arguments, log, announces=True, environment=environment)
    if not await _start(coordinator, started, stop):
        return None
    grpc_address = coordinator.announced["grpc"]
    coordinator.come_back_with("--listen", grpc_address)
    coordinator.come_back_with("--http", coordinator.announced["mcp"].removeprefix("http://").removesuffix("/mcp"))
    worker = Child(
        "worker",
        ["worker", "--coordinator", grpc_address, "--engine", plan.engine],
        plan.data / "logs" / "worker.log",
        announces=False,
    )
    if not await _start(worker, started, stop):
        return None
    _announce(plan, console, coordinator, chain_grpc, chain_rpc, chain_id)
    return chain_rpc[0] if chain_rpc else ""


def key_variables(plan: Plan) -> dict[str, str]:
    """What only the coordinator may have in its environment. Asks for the passphrase of an encrypted key file.

    It cannot ask by itself, as it runs in the background, and is started again after a crash. Raises KeyProblem.
    """
    if plan.demo:
        from hashfleet.cli.demo import DEMO_MNEMONIC

        return {"HASHFLEET_MNEMONIC": DEMO_MNEMONIC}
    from coordinator.submission.keys import PASSPHRASE_VARIABLE, identity, passphrase_in
    from coordinator.submission.keys_secret import protect_process
    from hashfleet.cli.passphrase import ask_passphrase

    protect_process()
    variables = {name: os.environ[name] for name in SECRET_VARIABLES if name in os.environ}
    encrypted = [path for path in plan.key_files if identity(path).kept_in == "file"]
    if encrypted and passphrase_in(os.environ) is None:
        # One for all of them: the environment holds no more.
        variables[PASSPHRASE_VARIABLE] = ask_passphrase(encrypted[0]).reveal()
    return variables


def _announce(
    plan: Plan,
    console: Console,
    coordinator: Child,
    chain_grpc: tuple[str, ...],
    chain_rpc: tuple[str, ...],
    chain_id: str | None,
) -> None:
    """Print where everything is."""
    grpc_address, mcp_url = coordinator.announced["grpc"], coordinator.announced["mcp"]
    if plan.as_json:
        told = {
            "chain": {
                "id": chain_id,
                "grpc": chain_grpc,
                "rest": plan.chain_rest,
                "rpc": chain_rpc,
                "embedded": plan.demo,
            },
            "coordinator": {"grpc": grpc_address, "mcp": mcp_url, "signer": coordinator.announced["signer"]},
            "data": str(plan.data),
            "mcp_configuration": mcp_configuration(mcp_url, grpc_address),
        }
        click.echo(json.dumps(told))
        return
    kind = " (embedded)" if plan.demo else ""
    nodes = [*(f"gRPC {each}" for each in chain_grpc), *(f"REST {each}" for each in plan.chain_rest)]
    nodes += [f"RPC {each}" for each in chain_rpc] or ["RPC none"]
    console.print(f"chain         {chain_id or 'as the node says'}{kind}, {', '.join(nodes)}")
    console.print(f"coordinator   gRPC {grpc_address}, MCP {mcp_url}")
    console.print(f"signer        {coordinator.announced['signer']}")
    if not plan.once:
        console.print(f"logs          {plan.data / 'logs'}")
        console.print("MCP client configuration, over HTTP or over stdio:")
        console.print_json(json.dumps(mcp_configuration(mcp_url, grpc_address)))
        console.print("Ctrl-C stops all of it; unfinished jobs go on with the next start.")


async def _start(child: Child, started: list[Child], stop: asyncio.Event) -> bool:
    """Start a child unless Ctrl-C comes first."""
    started.append(child)
    starting, stopping = asyncio.create_task(child.start()), asyncio.create_task(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    await starting
    return True


async def _run_once(mcp_url: str, rpc_url: str, console: Console, stop: asyncio.Event) -> int:
    from hashfleet.cli.demo import DEMO_JOB, run_demo

    demo = asyncio.create_task(run_demo(DEMO_JOB, mcp_url, rpc_url, console))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((demo, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not demo.done():
        demo.cancel()
        await asyncio.gather(demo, return_exceptions=True)
        return 130
    await demo
    return 0


def mcp_configuration(mcp_url: str, grpc_address: str) -> dict[str, object]:
    """What to paste into an MCP client: one entry per transport, either will do."""
    program = Path(sys.argv[0]).resolve()
    return {
        "mcpServers": {
            "hashfleet": {"type": "http", "url": mcp_url},
            "hashfleet-stdio": {"command": str(program), "args": ["mcp", "--coordinator", grpc_address]},
        }
    }
