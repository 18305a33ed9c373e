"""How many vector operations a second one core of this machine really does: the ceiling of every CPU kernel.

A data sheet gives ports and a highest clock; what a virtual machine under vector load gets is measured instead, by
loops of independent instructions that do nothing else. Additions and logic may use every vector port, shifts and
rotations only some (two of four on AMD's Zen 5, one of two on Intel with AVX-512), so both are measured.
"""

from __future__ import annotations

import ctypes
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from bench.samples import median
from hashfleet.errors import EngineUnavailable

#: Instructions that do not wait for each other, one per register; enough for four ports of two cycles' latency.
_REGISTERS = 16
_REPEATS = 8
#: Of `imul` on 64-bit registers, on every x86-64 since 2008.
_MULTIPLY_LATENCY = 3
_LOOPS = 100_000
_ROUNDS = 7


@dataclass(frozen=True, slots=True)
class VectorPorts:
    """One core's throughput."""

    #: Of 32-bit lanes in a vector register.
    lanes: int
    #: Cycles a second.
    clock: float
    #: Vector additions a second, and vector rotations (with AVX2, which has none: shifts).
    additions: float
    rotations: float

    def __str__(self) -> str:
        return (
            f"{self.clock / 1e9:.2f} GHz, {self.additions / self.clock:.1f} vector operations a cycle, of them "
            f"{self.rotations / self.clock:.1f} shifts or rotations, {self.lanes} lanes"
        )


@lru_cache(maxsize=1)
def vector_ports() -> VectorPorts:
    """Measure this core, in a tenth of a second. Raises EngineUnavailable where it cannot be."""
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
        "clock": ["imulq %rax, %rax"] * _REGISTERS,
        "additions": [add.format(i) for i in range(_REGISTERS)],
        "rotations": [rotate.format(i) for i in range(_REGISTERS)],
    }
    clobbered = ["rax", "rcx", "cc", *(f"xmm{i}" for i in range(_REGISTERS))]
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten()
    )
    module = llvm.parse_assembly("\n".join(_function(name, body, clobbered) for name, body in bodies.items()))
    rates: dict[str, float] = {}
    with llvm.create_mcjit_compiler(module, machine) as compiler:
        compiler.finalize_object()
        for name in bodies:
            loop = ctypes.CFUNCTYPE(None)(compiler.get_function_address(name))
            rates[name] = median([_REGISTERS * _REPEATS * _LOOPS / _seconds(loop) for _ in range(_ROUNDS)])
    return VectorPorts(lanes, rates["clock"] * _MULTIPLY_LATENCY, rates["additions"], rates["rotations"])


def _function(name: str, body: list[str], clobbered: list[str]) -> str:
    """LLVM IR of a function that runs `body` _REPEATS * _LOOPS times."""
    lines = [f"movq $${_LOOPS}, %rcx", ".p2align 4", "1:", *(body * _REPEATS), "decq %rcx", "jnz 1b", "vzeroupper"]
    text = "\\0A".join(lines)
    constraints = ",".join(f"~{{{each}}}" for each in clobbered)
    return f'define void @{name}() {{\n  call void asm sideeffect "{text}", "{constraints}"()\n  ret void\n}}'


def _seconds(loop: Callable[[], None]) -> float:
    began = time.perf_counter()
    loop()
    return time.perf_counter() - began
