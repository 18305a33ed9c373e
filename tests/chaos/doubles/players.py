"""Processes that play the runs of a fault suite on all cores, and what the tests of both suites say of them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

DOUBLES = Path(__file__).parent
#: Runs of a fault at a step with which it can be expected to take place, whatever else is left to chance.
ENOUGH = 20

Told = dict[str, Any]
#: Plays so many (fault, step, seed).
Play = Callable[[Iterable[tuple[str, str, int]]], list[Told]]


def cores() -> int:
    """So many processes are worth having."""
    return len(os.sched_getaffinity(0))


class Player:
    """A process that plays runs, one after the other."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        with log.open("w") as said:
            self._process = subprocess.Popen(
                [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
            )

    def play(self, fault: str, step: str, seed: int) -> Told:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{fault} {step} {seed} {seed}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"run {fault} {step} {seed} broke off: {self._log.read_text(errors='replace')[-4000:]}"
        told: Told = json.loads(line)
        return told

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@contextlib.contextmanager
def players(commands: list[list[str]], folder: Path) -> Iterator[Play]:
    """A process for each of these commands of Python; a run goes to whichever is idle."""
    all_of_them = [Player(command, folder / f"{number}.log") for number, command in enumerate(commands)]
    idle: queue.SimpleQueue[Player] = queue.SimpleQueue()
    for player in all_of_them:
        idle.put(player)

    def play_one(fault: str, step: str, seed: int) -> Told:
        player = idle.get()
        try:
            return player.play(fault, step, seed)
        finally:
            idle.put(player)

    with ThreadPoolExecutor(len(all_of_them)) as threads:

        def play(runs: Iterable[tuple[str, str, int]]) -> list[Told]:
            return [told.result() for told in [threads.submit(play_one, *run) for run in runs]]

        yield play
        for player in all_of_them:
            player.close()


def failures(program: Path, played: list[Told]) -> str:
    """What was wrong, each with the command that plays it alone."""
    return "\n".join(
        f"{sys.executable} {program} {told['fault']} {told['step']} {told['seed']}\n  " + "\n  ".join(told["wrong"])
        for told in played
        if told["wrong"]
    )


def listed(catalogue: str, names: str) -> list[list[str]]:
    """The faults (what holds their names) and the steps of a catalogue, which is not for this process to import."""
    listing = f"import json, {catalogue} as c; print(json.dumps([list(c.{names}), [s.value for s in c.Step]]))"
    told = subprocess.run([sys.executable, "-c", listing], cwd=DOUBLES, capture_output=True, text=True, check=True)
    found: list[list[str]] = json.loads(told.stdout)
    return found


def must_find(planted: str, program: str, arguments: list[object]) -> None:
    """Play runs with a defect planted first: one of them has to be wrong, and the program has to say so."""
    given = ", ".join(repr(argument) for argument in arguments)
    code = f"{planted}import sys, {program}\nsys.exit({program}.main({given}))\n"
    played = subprocess.run(
        [sys.executable, "-c", code], cwd=DOUBLES, capture_output=True, text=True, timeout=110, check=False
    )
    assert played.returncode == 1, played.stdout[-2000:] + played.stderr[-2000:]
    assert any(json.loads(line)["wrong"] for line in played.stdout.splitlines())
