"""Our engines as contenders: each device in each shape of nonces."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Literal, cast, get_args

from bench.limits import limit_of
from bench.python_loops import PREFIX
from bench.report import Hardware, Limit, NotMeasured
from cpu_fallback.engine import CpuEngine
from gpu_worker.discovery import find_devices, open_engine
from hashfleet.engine import Batch, EngineKind, HashEngine
from hashfleet.errors import EngineError
from hashfleet.message import NonceSpace, lay_out
from hashfleet.proof import MAX_NONCE_DIGITS
from hashfleet.self_test import self_test

logger = logging.getLogger(__name__)

Kind = Literal["cuda", "opencl", "cpu"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: "plain" is what fits neither shape: a counter right behind the extranonce.
Shape = Literal["T", "S", "plain"]
SHAPES: tuple[Shape, ...] = get_args(Shape)

#: Of the fleet's leases.
_EXTRANONCE, _COUNTER_DIGITS = "41720300001793", 12
#: The longest nonce of shape S for any prefix of the game.
_SHORT_DIGITS = 35
#: Zeros searched for: so many that hits cost nothing, few enough to be a search that happens.
_ZEROS = 9
_KIND_NAMES = {EngineKind.CUDA: "CUDA", EngineKind.OPENCL: "OpenCL", EngineKind.CPU: "CPU"}


def space_of(shape: Shape) -> NonceSpace:
    """The nonces of a lease in that shape."""
    prefix = PREFIX.encode()
    if shape == "plain":
        return NonceSpace(prefix, _EXTRANONCE, _COUNTER_DIGITS)
    return lay_out(prefix, _EXTRANONCE, _COUNTER_DIGITS, MAX_NONCE_DIGITS if shape == "T" else _SHORT_DIGITS)


def search_rate(
    engine: HashEngine, space: NonceSpace, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Hashes a second over `seconds`, after a third of it for warming up. Raises EngineError if the space runs out."""
    search = engine.search(space, 0, space.capacity, _ZEROS)
    with closing(cast("Generator[Batch, None, None]", search)) as batches:
        try:
            _hash_for(batches, seconds / 3, clock)
            return _hash_for(batches, seconds, clock)
        except StopIteration:
            raise EngineError(
                f"{engine.device.device_id} searched all {space.capacity} nonces; give fewer seconds"
            ) from None


def _hash_for(batches: Generator[Batch, None, None], seconds: float, clock: Callable[[], float]) -> float:
    began, hashes = clock(), 0
    while True:
        hashes += next(batches).count
        elapsed = clock() - began
        if elapsed >= seconds:
            return hashes / elapsed


@dataclass(frozen=True, slots=True)
class EngineContender:
    """One open engine and one shape."""

    id: str
    what: str
    hardware: Hardware
    version: str
    limit: Limit | None
    engine: HashEngine
    space: NonceSpace

    def measure(self, seconds: float) -> float:
        """See `bench.contender.Contender.measure`."""
        return search_rate(self.engine, self.space, seconds)


def open_contenders(kinds: Sequence[Kind], stack: ExitStack) -> tuple[list[EngineContender], list[NotMeasured]]:
    """Open and self-test every device of these kinds; the stack closes them. What cannot be used is named."""
    contenders: list[EngineContender] = []
    refused: list[NotMeasured] = []
    for kind in kinds:
        try:
            opened = _openers(kind)
        except EngineError as error:
            refused.append(NotMeasured(what=f"{_KIND_NAMES[EngineKind(kind)]} engine", reason=str(error)))
            continue
        for name, hardware, opener in opened:
            try:
                engine = opener()
                stack.callback(engine.close)
                self_test(engine)
            except EngineError as error:
                refused.append(NotMeasured(what=name, reason=str(error)))
                continue
            contenders += [_contender(name, hardware, engine, shape) for shape in SHAPES]
    return contenders, refused


def _contender(name: str, hardware: Hardware, engine: HashEngine, shape: Shape) -> EngineContender:
    device, space = engine.device, space_of(shape)
    what = f"hashfleet, {_KIND_NAMES[device.kind]}"
    if device.kind is not EngineKind.CPU:
        what += f" on {device.name}"
    described = {"T": "shape T", "S": "shape S", "plain": "any other nonce"}[shape]
    return EngineContender(
        f"{name}/{shape}",
        f"{what}, {described}",
        hardware,
        device.driver,
        limit_of(device, hardware, space),
        engine,
        space,
    )


def _openers(kind: Kind) -> list[tuple[str, Hardware, Callable[[], HashEngine]]]:
    """Name, hardware and opener of each engine of a kind. Raises EngineUnavailable if there is none."""
    if kind == "cpu":
        return [
            ("cpu-1", "one core", lambda: CpuEngine(1, niceness=0, compile_first=True)),
            ("cpu", "all cores", lambda: CpuEngine(niceness=0, compile_first=True)),
        ]
    return [(info.device_id, _hardware(info.device_id), _opener(info.device_id)) for info in find_devices(kind)]


def _opener(device_id: str) -> Callable[[], HashEngine]:
    return lambda: open_engine(device_id)


def _hardware(device_id: str) -> Hardware:
    """PoCL and its like drive CPUs through OpenCL."""
    kind, _, index = device_id.partition(":")
    if kind == "cuda":
        return "GPU"
    import pyopencl as cl

    platform, _, device = index.partition(".")
    chosen = cl.get_platforms()[int(platform)].get_devices()[int(device)]
    return "all cores" if chosen.type & cl.device_type.CPU else "GPU"
