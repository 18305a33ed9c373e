"""How many vector operations a second the cores of this machine really do: the ceiling of every CPU kernel.

A data sheet gives ports and a highest clock; what a virtual machine under vector load gets is measured instead, by
loops of independent instructions that do nothing else. Additions and logic may use every vector port, shifts and
rotations only some (two of four on AMD's Zen 5, one of two on Intel with AVX-512), so both are measured, and on all
cores at once: hyperthreads share the ports. Time is each thread's own CPU time, so that other work on the machine,
which a limit should not depend on, does not count.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from bench.samples import median
from hashfleet.errors import EngineUnavailable

#: Instructions that do not wait for each other, one per register; enough for four ports of two cycles' latency.
_REGISTERS = 16
_REPEATS = 8
#: Cycles of `imul` on 64-bit registers, on every x86-64 since 2008.
_MULTIPLY_LATENCY = 3
#: A few milliseconds: long beside starting threads, short beside a time slice.
_LOOPS = 400_000
_ROUNDS = 7


@dataclass(frozen=True, slots=True)
class VectorPorts:
    """Throughput of `cores` cores together."""

    cores: int
    #: Of 32 bits in a vector register.
    lanes: int
    #: Cycles a second of one core.
    clock: float
    #: Vector additions a second, and vector rotations (with AVX2, which has none: shifts).
    additions: float
    rotations: float

    def __str__(self) -> str:
        cycles = self.clock * self.cores
        cores = f"{self.cores} cores at once" if self.cores > 1 else "one core"
        return (
            f"{cores}, measured: {self.clock / 1e9:.2f} GHz, "
            f"{self.additions / cycles:.1f} vector operations a cycle, or {self.rotations / cycles:.1f} shifts or "
            f"rotations, {self.lanes} lanes"
        )


@lru_cache(maxsize=4)
def vector_ports(cores: int) -> VectorPorts:
    """Measure that many cores at once, in half a second. Raises EngineUnavailable where they cannot be."""
    if platform.machine() not in ("x86_64", "AMD64"):
        raise EngineUnavailable(f"the ports of a {platform.machine()} processor are not measured")
    try:
        import llvmlite.binding as llvm
    except ImportError as error:
        raise EngineUnavailable(f"the ports are measured through llvmlite, which does not load: {error}") from error
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        lanes, register = 16, "zmm"
        rotate = "vprord $$7, %zmm{0}, %zmm{0}"
    elif features.get("avx2"):
        lanes, register = 8, "ymm"
        rotate = "vpsrld $$7, %ymm{0}, %ymm{0}"
    else:
        raise EngineUnavailable("this processor has neither AVX-512 nor AVX2; its ports are not measured")
    add = f"vpaddd %{register}{{0}}, %{register}{{0}}, %{register}{{0}}"
    bodies = {
        "multiplications": ["imulq %rax, %rax"] * _REGISTERS,
        "additions": [add.format(i) for i in range(_REGISTERS)],
        "rotations": [rotate.format(i) for i in range(_REGISTERS)],
    }
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten()
    )
    module = llvm.parse_assembly("\n".join(_function(name, body) for name, body in bodies.items()))
    with llvm.create_mcjit_compiler(module, machine) as compiler:
        compiler.finalize_object()
        rates = {
            name: _rate(ctypes.CFUNCTYPE(None)(compiler.get_function_address(name)), _some_cores(cores))
            for name in bodies
        }
    clock = rates["multiplications"] * _MULTIPLY_LATENCY / cores
    return VectorPorts(cores, lanes, clock, rates["additions"], rates["rotations"])


def _some_cores(count: int) -> list[int]:
    usable = sorted(os.sched_getaffinity(0))
    if count > len(usable):
        raise EngineUnavailable(f"{count} cores are asked for, and {len(usable)} may be used")
    return usable[:count]


def _rate(loop: Callable[[], None], cores: Sequence[int]) -> float:
    """Instructions a second of all cores together, each running the loop at the same time."""
    together = threading.Barrier(len(cores))

    def on(core: int) -> list[float]:
        os.sched_setaffinity(threading.get_native_id(), {core})
        seconds = []
        for _ in range(_ROUNDS):
            together.wait()
            began = time.thread_time()
            loop()  # ctypes lets the other threads run meanwhile
            seconds.append(time.thread_time() - began)
        return [_REGISTERS * _REPEATS * _LOOPS / each for each in seconds]

    with ThreadPoolExecutor(len(cores)) as pool:
        return sum(median(rates) for rates in pool.map(on, cores))


def _function(name: str, body: list[str]) -> str:
    """LLVM IR of a function that runs `body` _REPEATS * _LOOPS times."""
    lines = [f"movq $${_LOOPS}, %rcx", ".p2align 4", "1:", *(body * _REPEATS), "decq %rcx", "jnz 1b", "vzeroupper"]
    clobbered = ("rax", "rcx", "cc", *(f"xmm{i}" for i in range(_REGISTERS)))
    text, constraints = "\\0A".join(lines), ",".join(f"~{{{each}}}" for each in clobbered)
    return f'define void @{name}() {{\n  call void asm sideeffect "{text}", "{constraints}"()\n  ret void\n}}'
