"""What can be chosen on a CPU without changing what it finds, and which choices are worth a measurement."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata, resources

from cpu_fallback.engine import STREAMS, cpu_name
from hashfleet.engine import EngineKind
from hashfleet.tuning import DeviceModel, digest_of

#: What generates and compiles the kernels.
_SOURCES = ("graph.py", "simd_ir.py", "jit.py", "kernel_search.py")


@dataclass(frozen=True, slots=True)
class CpuSettings:
    """How a `CpuEngine` compiles its kernels, and on how many cores it runs them."""

    #: The instructions to compile for, one of the engine's TARGETS.
    target: str = "host"
    #: None: one per core that this process may run on.
    processes: int | None = None
    #: Vectors hashed side by side on a core, one of the engine's STREAMS; None: what suits the target.
    streams: int | None = None


def default_settings() -> CpuSettings:
    """What an engine takes if it is given nothing."""
    return CpuSettings()


def candidates(cores: int) -> tuple[CpuSettings, ...]:
    """Other settings worth a measurement on so many cores, the likeliest first."""
    # Two threads of one core share its vector units: one of them alone may do as much, and heats less.
    halves = (CpuSettings(processes=cores // 2),) if cores > 1 else ()
    # Wide vectors lower the clock of some CPUs by more than they gain.
    streams = (CpuSettings(streams=number) for number in STREAMS)
    return (*halves, *streams, CpuSettings("avx512"), CpuSettings("avx2"), CpuSettings("sse2"))


def device_model(cores: int) -> DeviceModel:
    """What settings measured on this CPU hold for: its model, the cores we may use, LLVM and our generator."""
    try:
        compiler = f"llvmlite {metadata.version('llvmlite')}"
    except metadata.PackageNotFoundError:
        compiler = "no LLVM"
    sources = [resources.files("cpu_fallback").joinpath(name).read_text(encoding="utf-8") for name in _SOURCES]
    tried = repr((default_settings(), *candidates(cores)))
    return DeviceModel(
        EngineKind.CPU,
        f"{cpu_name()}, {cores} core{'s' if cores > 1 else ''}",
        f"{compiler}, {platform.machine()}",
        digest_of(*sources, tried),
    )


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))
