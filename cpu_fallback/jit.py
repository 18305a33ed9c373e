"""From LLVM assembly to machine code for this CPU, through llvmlite.

`find_target` says for which instructions, `compile_kernel` makes the three functions of simd_ir.py callable. Only the
code generator runs, no optimisation pass and none that moves instructions: the text is in order already, and LLVM's
passes would double the time (0.1 to 0.3 s a shape, by vector width) for the same machine code or a slower one.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

import llvmlite.binding as llvm

from cpu_fallback.graph import Graph
from cpu_fallback.simd_ir import HIT_BYTES, VectorForm, emit_module
from hashfleet.errors import EngineUnavailable, InvalidInput

_POINTER = ctypes.c_void_p
#: {i32, i32, i64} as the host lays it out.
_HIT = struct.Struct("=IIQ")
#: Vectors start where a line of the cache starts.
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Target:
    """The instructions to compile for."""

    #: One of TARGETS, or what "host" came to: also "neon" or "generic".
    name: str
    #: Of shape S.
    form: VectorForm
    #: Streams of shape T, whose shorter loop has registers for more of them.
    shared_streams: int
    #: As LLVM names them.
    cpu: str
    features: str
    triple: str

    def form_of(self, shape: str) -> VectorForm:
        """How the kernel of "T", "S12" or "S13" lays its hashes into vectors."""
        return replace(self.form, streams=self.shared_streams) if shape == "T" else self.form


#: Streams fill what one leaves idle, until registers run out. Measured on one core of Zen 5, Mh/s with 1, 2, 3, 4
#: streams: AVX-512 T 115, 195, 258, 285, S 116, 178, 187; AVX2 T 33, 61, 65, S 39, 31; SSE2 T 16, 31, 30, S 18, 11.
#: Three of S are 31 KB of code without a repeated part: one time in ten, by where it happens to lie, the caches of
#: instructions do not hold it, and it runs at a third of the speed. Two are 20 KB, and always run alike.
_AVX512, _AVX512_SHARED = VectorForm(lanes=16, streams=2, ternary=True), 4
_AVX2, _AVX2_SHARED = VectorForm(lanes=8, streams=1, ternary=False), 2
_SSE2, _SSE2_SHARED = VectorForm(lanes=4, streams=1, ternary=False), 2
#: NEON, and whatever LLVM makes of four lanes elsewhere, are taken to be like SSE2.
_GENERIC, _GENERIC_SHARED = _SSE2, _SSE2_SHARED

#: Name -> form, streams of T, LLVM's name of the least CPU that has it, and the features a host must have.
_X86_TARGETS = {
    "avx512": (_AVX512, _AVX512_SHARED, "x86-64-v4", ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")),
    "avx2": (_AVX2, _AVX2_SHARED, "x86-64-v3", ("avx2", "bmi", "bmi2", "fma", "lzcnt", "movbe")),
    "sse2": (_SSE2, _SSE2_SHARED, "x86-64", ("sse2",)),
}
#: What an engine may be asked for; "hashlib" compiles nothing.
TARGETS = ("host", *_X86_TARGETS, "hashlib")
_X86_TRIPLE = "x86_64-unknown-linux-gnu"


def find_target(name: str) -> Target:
    """The target of that name; "host" is the best for this CPU. Raises EngineUnavailable if this CPU lacks it."""
    features = _host_features()
    if name == "host":
        return _host_target(features)
    target = portable_target(name)
    if platform.machine() not in ("x86_64", "AMD64"):
        raise EngineUnavailable(f"{name} is of x86-64 CPUs; this one is {platform.machine()}")
    missing = [feature for feature in _X86_TARGETS[name][3] if not features.get(feature)]
    if missing and name != "sse2":  # every x86-64 CPU has SSE2, even one that LLVM cannot name
        raise EngineUnavailable(f"this CPU has no {', '.join(missing)}, which {name} needs")
    return target


def with_streams(target: Target, streams: int) -> Target:
    """The same target with so many vectors of shape T hashed side by side; 1 may suit a core that runs two threads."""
    return replace(target, shared_streams=streams)


def portable_target(name: str) -> Target:
    """The target of that name, for the least CPU that has it, whatever this CPU is: to list code, not to run it."""
    if name not in _X86_TARGETS:
        raise InvalidInput(f"the target is {name[:40]!a}; it should be one of {', '.join(_X86_TARGETS)}")
    form, shared_streams, cpu, _ = _X86_TARGETS[name]
    # Some CPUs' models prefer 256-bit vectors; ours are to stay as long as they are written.
    return Target(name, form, shared_streams, cpu, "-prefer-256-bit" if form is _AVX512 else "", _X86_TRIPLE)


def _host_features() -> dict[str, bool]:
    """What LLVM knows about this CPU; nothing if it does not know it."""
    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:
        return {}


def _host_target(features: dict[str, bool]) -> Target:
    if platform.machine() in ("x86_64", "AMD64"):
        if not features:
            return portable_target("sse2")
        name = "avx512" if features.get("avx512f") else "avx2" if features.get("avx2") else "sse2"
        form, shared_streams = _X86_TARGETS[name][:2]
    else:
        name = "neon" if platform.machine() in ("aarch64", "arm64") else "generic"
        form, shared_streams = _GENERIC, _GENERIC_SHARED
    flags = [f"{'+' if present else '-'}{feature}" for feature, present in sorted(features.items())]
    if name == "avx512":
        flags.append("-prefer-256-bit")
    return Target(name, form, shared_streams, llvm.get_host_cpu_name(), ",".join(flags), llvm.get_process_triple())


class Words:
    """An array of 32-bit words at an address that suits vectors."""

    def __init__(self, size: int, values: Iterable[int] = ()) -> None:
        """`size` words: the values, then zeros."""
        self._memory = (ctypes.c_uint32 * (size + _ALIGNMENT // 4))()
        start = ctypes.addressof(self._memory)
        skipped = -start % _ALIGNMENT // 4
        #: Valid as long as this object lives, so only what holds the object may pass it on.
        self.address = start + 4 * skipped
        given: list[ctypes.c_uint32 | int] = list(values)
        self._memory[skipped : skipped + len(given)] = given
        #: The words, to be read and written.
        self.view = memoryview(self._memory).cast("B").cast("I")[skipped : skipped + size]

    def at(self, index: int) -> int:
        """The address of a word."""
        return self.address + 4 * index


class Hits:
    """Room for what `Kernel.search` finds."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._words = Words(size * HIT_BYTES // 4)
        self.address = self._words.address

    def read(self, count: int) -> Iterable[tuple[int, int, int]]:
        """The first `count`: (group, row, the bits of the lanes)."""
        return _HIT.iter_unpack(ctypes.string_at(self.address, count * HIT_BYTES))


class Kernel:
    """The compiled functions of one shape; addresses and sizes as simd_ir.py names them."""

    def __init__(self, graph: Graph, target: Target) -> None:
        """Compile. Raises EngineUnavailable if LLVM cannot."""
        _initialize()
        self.graph = graph
        self.form = target.form_of(graph.shape)
        try:
            module = llvm.parse_assembly(emit_module(graph, self.form))
            self._engine = llvm.create_mcjit_compiler(module, _machine(target, jit=True))
            self._engine.finalize_object()
        except RuntimeError as error:
            raise EngineUnavailable(f"LLVM did not compile shape {graph.shape} for {target.name}: {error}") from error
        # ctypes lets other Python threads run during a call.
        table = ctypes.CFUNCTYPE(None, _POINTER, _POINTER, ctypes.c_int64, _POINTER)
        search = ctypes.CFUNCTYPE(
            ctypes.c_int64, _POINTER, ctypes.c_int64, _POINTER, ctypes.c_int64, ctypes.c_uint32, _POINTER
        )
        self._lanes = table(self._engine.get_function_address("lanes"))
        self._rows = table(self._engine.get_function_address("rows"))
        self._search = search(self._engine.get_function_address("search"))

    def lane_words(self, groups: int) -> Words:
        """Room for the slots of so many groups of lanes."""
        return Words(groups * self.form.group * len(self.graph.lane_slots))

    def row_words(self, rows: int) -> Words:
        """Room for the slots of so many rows."""
        return Words(rows * len(self.graph.row_slots))

    def fill_lanes(self, inputs: Words, digits: Words, first: int, groups: int, slots: Words) -> None:
        """Work out `groups` groups of lanes, whose words are digits[first] and those after it."""
        self._lanes(inputs.address, digits.at(first), groups * self.form.streams, slots.address)

    def fill_rows(self, inputs: Words, digits: Words, first: int, rows: int, slots: Words) -> None:
        """Work out `rows` rows, whose words are digits[first] and those after it."""
        self._rows(inputs.address, digits.at(first), rows, slots.address)

    def search(self, lanes: Words, groups: range, rows: Words, chosen: range, mask: int, hits: Hits) -> int:
        """Hash these groups of lanes with the rows `chosen`; the number of hits, whose numbers count from 0."""
        if len(groups) * len(chosen) > hits.size:
            raise ValueError(f"{len(groups)} * {len(chosen)} hits may not fit {hits.size}")
        return int(
            self._search(
                lanes.at(groups.start * self.form.group * len(self.graph.lane_slots)),
                len(groups),
                rows.at(chosen.start * len(self.graph.row_slots)),
                len(chosen),
                mask,
                hits.address,
            )
        )


def assembly(graph: Graph, target: Target) -> str:
    """The machine code as text, for any target, whether this CPU can run it or not."""
    _initialize()
    return str(
        _machine(target, jit=False).emit_assembly(llvm.parse_assembly(emit_module(graph, target.form_of(graph.shape))))
    )


def llvm_version() -> str:
    """For people: "22.1.0"."""
    return ".".join(str(part) for part in llvm.llvm_version_info)


def _machine(target: Target, *, jit: bool) -> llvm.TargetMachine:
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, jit=jit
    )


#: LLVM's schedulers take each stream's instructions apart by models of other CPUs; order.py has put them in order. For
#: the whole process, as LLVM's options are; nothing else in it has code generated that matters.
_KEEP_ORDER = ("-pre-RA-sched=source", "-enable-misched=false", "-enable-post-misched=false")


@cache
def _initialize() -> None:
    for option in _KEEP_ORDER:
        llvm.set_option("cpu_fallback", option)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
