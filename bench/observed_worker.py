"""`python -m bench.observed_worker`: a worker whose device tells, on standard output, when it hashes.

It is the product's worker with one device; only the engine is wrapped. Times are CLOCK_MONOTONIC, which all processes
of a machine share, so that the benchmark may compare them with its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Literal, TypeVar, cast

import click

from bench.one_device import CHOICES, Choice, open_device
from gpu_worker.device_runner import ReadyEngine
from gpu_worker.worker import Worker
from hashfleet.engine import Batch, DeviceInfo, Found, HashEngine, Search
from hashfleet.message import NonceSpace
from hashfleet.self_test import measure_rate, self_test

_Answer = TypeVar("_Answer", Batch, Found)


@dataclass(frozen=True, slots=True)
class Observation:
    """One line of the observed worker."""

    what: Literal["begin", "end"]
    #: time.monotonic() of the machine.
    at: float
    #: Tells leases apart: a lease's space, and where in it this search began.
    extranonce: str
    start: int

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"


def read_observation(line: bytes) -> Observation:
    """The inverse of `Observation.line`. Raises ValueError or TypeError for anything else."""
    return Observation(**json.loads(line))


class ObservedEngine:
    """Passes everything on to an engine and tells when a search begins and ends."""

    def __init__(
        self, engine: HashEngine, tell: Callable[[Observation], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._tell = tell
        self._clock = clock

    @property
    def device(self) -> DeviceInfo:
        """The wrapped engine's."""
        return self._engine.device

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
        """See `hashfleet.engine.HashEngine.search`."""
        search = cast("Generator[Batch, None, None]", self._engine.search(space, start, count, zeros))
        return self._observed(search, space.extranonce, start)

    def search_many(self, searches: Sequence[Search]) -> Iterator[Found]:
        """See `hashfleet.engine.HashEngine.search_many`; told as one search, that of the first."""
        search = cast("Generator[Found, None, None]", self._engine.search_many(searches))
        return self._observed(search, searches[0].space.extranonce, searches[0].start)

    def close(self) -> None:
        """Close the wrapped engine."""
        self._engine.close()

    def _observed(self, search: Generator[_Answer, None, None], extranonce: str, start: int) -> Iterator[_Answer]:
        self._tell(Observation("begin", self._clock(), extranonce, start))
        try:
            with closing(search):  # returns when the device is idle
                yield from search
        finally:
            self._tell(Observation("end", self._clock(), extranonce, start))


@click.command()
@click.option("--coordinator", required=True, metavar="HOST:PORT")
@click.option("--engine", type=click.Choice(CHOICES), default="auto", show_default=True)
def main(coordinator: str, engine: Choice) -> None:
    """Hash for a coordinator until SIGTERM, and tell when."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    opened = open_device(engine)
    self_test(opened)
    rate = measure_rate(opened)

    def tell(observation: Observation) -> None:
        sys.stdout.write(observation.line())
        sys.stdout.flush()

    asyncio.run(_work(Worker(coordinator, "bench", [ReadyEngine(ObservedEngine(opened, tell), rate)])))


async def _work(worker: Worker) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.drain, "SIGTERM received")
    await worker.run()


if __name__ == "__main__":
    main()
