"""A supervised group of child processes: started in order, restarted when they crash, stopped in reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from hashfleet.errors import HashfleetError

logger = logging.getLogger(__name__)

#: Seconds a child gets to say that it is ready, and to end after SIGTERM before it is killed.
READY_SECONDS = 60.0
STOP_SECONDS = 3.5
#: Seconds before a crashed child is started again, doubled with each crash up to the last.
FIRST_PAUSE, LAST_PAUSE = 0.5, 10.0
_PR_SET_PDEATHSIG = 1
#: Variables that hold a secret itself. A child gets those that its own `environment` names: devices' drivers and the
#: embedded chain have no use for a key.
SECRET_VARIABLES = ("HASHFLEET_MNEMONIC", "HASHFLEET_PRIVATE_KEY", "HASHFLEET_KEY_PASSPHRASE")


@dataclass(slots=True)
class Child:
    """One `hashfleet` subcommand that runs as a process of its own."""

    name: str
    arguments: list[str]
    log: Path
    #: It prints one JSON line when it is ready.
    announces: bool
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    process: asyncio.subprocess.Process | None = None
    announced: dict[str, str] = field(default_factory=dict)

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises HashfleetError with the end of its log if it is not."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "hashfleet.cli.main",
                *self.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if self.announces else log,
                stderr=log,
                env={k: v for k, v in os.environ.items() if k not in SECRET_VARIABLES} | dict(self.environment),
                start_new_session=True,  # Ctrl-C goes to the group's owner alone, which stops all in order
                preexec_fn=_die_with_parent,
            )
        if self.announces:
            assert self.process.stdout is not None
            line = b""
            with contextlib.suppress(TimeoutError):
                line = await asyncio.wait_for(self.process.stdout.readline(), READY_SECONDS)
            if not line:
                await self.stop()
                raise HashfleetError(f"{self.name} did not start: {self.last_words()}")
            self.announced = {key: str(value) for key, value in json.loads(line).items()}

    def come_back_with(self, option: str, value: str) -> None:
        """Give it this value when it is started again: where it listened is where the others look for it."""
        self.arguments[self.arguments.index(option) + 1] = value

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL for one that does not listen."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            logger.warning("%s does not stop; killing it.", self.name)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    def last_words(self) -> str:
        """The last line of its log."""
        with self.log.open("rb") as log:
            return _last_line(log) or f"it says nothing (log: {self.log})"

    async def keep_alive(self) -> None:
        """Start it again whenever it ends, until cancelled."""
        pause = FIRST_PAUSE
        while True:
            assert self.process is not None
            began = asyncio.get_running_loop().time()
            status = await self.process.wait()
            if asyncio.get_running_loop().time() - began > LAST_PAUSE:
                pause = FIRST_PAUSE
            logger.warning("%s ended (status %s): %s. Starting it again.", self.name, status, self.last_words())
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)
            try:
                await self.start()
            except HashfleetError as error:
                logger.warning("%s", error)


@contextlib.asynccontextmanager
async def running(children: list[Child]) -> AsyncIterator[None]:
    """Keep children, which are started, alive for the length of the block; then stop them, last started first."""
    keepers = [asyncio.create_task(child.keep_alive()) for child in children]
    try:
        yield
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)


def _last_line(log: IO[bytes]) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - 4096))
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("hashfleet: ") if lines else ""


def _die_with_parent() -> None:
    """A child whose parent is killed gets SIGTERM, so that `kill -9` leaves no process behind (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
