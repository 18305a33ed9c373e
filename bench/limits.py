"""The most that hardware could do: what a hash costs, as counted in compiled code, against what the hardware does.

Nothing here is a guess: a count that cannot be made or a throughput that cannot be measured here gives no limit, and
the reason instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache

from bench.machine import CHECKOUT
from bench.report import Hardware, Limit
from bench.vector_ports import vector_ports
from cpu_fallback.count import Kind, count_instructions
from cpu_fallback.jit import find_target
from gpu_worker.cuda_engine import import_cupy
from hashfleet.engine import DeviceInfo, EngineKind
from hashfleet.errors import EngineUnavailable
from hashfleet.message import NonceSpace

SASS_COUNTER = CHECKOUT / "tools" / "count_sass.py"
_SASS_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class VectorCount:
    """Vector operations of one hash in each lane, in the CPU engine's compiled loop."""

    total: float
    #: Rotations and shifts, which only some ports take.
    rotations: float


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """What bounds a CUDA device."""

    #: Compute capability without the dot: 90.
    architecture: int
    multiprocessors: int
    #: Highest clock, cycles a second.
    clock: float


def limit_of(device: DeviceInfo, hardware: Hardware, space: NonceSpace) -> Limit:
    """What this hardware could do at most with hashes of this space, whoever wrote the kernel."""
    try:
        if hardware != "GPU":
            return cpu_limit(space, 1 if hardware == "one core" else len(os.sched_getaffinity(0)))
        if device.kind is EngineKind.CUDA:
            return cuda_limit(space, cuda_device(int(device.device_id.partition(":")[2])))
        raise EngineUnavailable("the instructions of OpenCL kernels on GPUs are not counted")
    except EngineUnavailable as error:
        return Limit(rate=None, how=f"unmeasured: {error}")


def cpu_limit(space: NonceSpace, cores: int) -> Limit:
    """Lanes / time of a hash on the scarcer of all ports and the rotating ports. Raises EngineUnavailable."""
    count, ports = vector_count(_shape(space)), vector_ports(cores)
    seconds = max(count.total / ports.additions, count.rotations / ports.rotations)
    return Limit(
        rate=ports.lanes / seconds,
        how=f"{count.total:,.0f} vector operations a hash, {count.rotations:.0f} of them shifts or rotations, "
        f"counted in the CPU engine's machine code; {ports}",
    )


def vector_count(shape: str) -> VectorCount:
    """Of this CPU's instructions. Raises EngineUnavailable for a shape without a compiled loop."""
    if shape == "plain":
        raise EngineUnavailable("the operations of the kernels for other nonces are not counted")
    loop = count_instructions(shape, find_target("host"))
    rotations = loop.instructions[Kind.ROTATE] + loop.instructions[Kind.SHIFT]
    return VectorCount(loop.computing / loop.streams, rotations / loop.streams)


def cuda_limit(space: NonceSpace, device: CudaDevice) -> Limit:
    """Multiprocessors x clock x hashes on the busiest pipe. Raises EngineUnavailable."""
    shape = _shape(space)
    kernel = {"T": "search_shared", "S12": "search_short_12", "S13": "search_short_13"}.get(shape)
    if kernel is None:
        raise EngineUnavailable("the kernels for other nonces have no limit of their own")
    hashes, pipe = parse_sass_count(_sass_count(device.architecture), kernel)
    return Limit(
        rate=device.multiprocessors * device.clock * hashes,
        how=f"{hashes:.4f} hashes per multiprocessor and clock, bound by the {pipe} pipe, counted by "
        f"tools/{SASS_COUNTER.name}; {device.multiprocessors} multiprocessors at {device.clock / 1e9:.2f} GHz at most",
    )


def cuda_device(index: int) -> CudaDevice:
    """As the driver tells it. Raises EngineUnavailable without CuPy."""
    device = import_cupy().cuda.Device(index)
    attributes = device.attributes
    return CudaDevice(
        int(device.compute_capability), int(attributes["MultiProcessorCount"]), 1e3 * float(attributes["ClockRate"])
    )


@lru_cache(maxsize=8)
def _sass_count(architecture: int) -> str:
    if not SASS_COUNTER.exists():
        raise EngineUnavailable(f"tools/{SASS_COUNTER.name} is not here to count instructions; it needs a checkout")
    try:
        return subprocess.run(
            [sys.executable, str(SASS_COUNTER), "--architecture", str(architecture)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SASS_SECONDS,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineUnavailable(f"tools/{SASS_COUNTER.name} does not count instructions here: {error}") from error


def parse_sass_count(output: str, kernel: str) -> tuple[float, str]:
    """Hashes per multiprocessor and clock of the kernel's best variant, and the pipe that bounds it."""
    try:
        lines = [line for line in json.loads(output)["kernels"] if line["kernel"] == kernel]
        best = max(lines, key=lambda line: float(line["hashes_per_sm_and_clock"]))
        return float(best["hashes_per_sm_and_clock"]), str(best["binding_pipe"])
    except (ValueError, TypeError, KeyError) as error:
        raise EngineUnavailable(f"tools/{SASS_COUNTER.name} printed no count of {kernel}") from error


def _shape(space: NonceSpace) -> str:
    """As cpu_fallback.count names it; "plain" for neither shape."""
    if space.shared is not None:
        return "T"
    return f"S{space.short.word}" if space.short is not None else "plain"
