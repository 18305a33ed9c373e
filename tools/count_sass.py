"""Count what one hash costs in each CUDA kernel, from the machine code; prints JSON. Needs no GPU.

NVRTC compiles the source for a real architecture, nvdisasm shows the instructions (both are in the extra `dev`), and
the way that a thread takes per hash is counted: one turn of the kernel's longest loop, or where there is none, the
whole kernel. Of several ways the shortest is taken; the others lead over what a hit costs.

The bound is that of the busiest pipe, per multiprocessor (SM) and clock:
    ALU            shifts, logic, comparisons, adds that are not multiply-adds: 64 lanes
    multiply-add   IMAD: 64 lanes; a 64-bit product (IMAD.WIDE, IMAD.HI) is taken to occupy two slots
    issue          every instruction: 4 warps of 32 lanes
as NVIDIA's tables of arithmetic throughput have it for compute capability 8.0 to 9.0; the two slots of a 64-bit
product are an assumption (MULTIPLIED_OF_FOUR = 0 makes none). It is a limit and no measurement: latency, memory and
clocks below the highest only make it less. From 10.0 on adds are not bound to the ALU pipe: the limit may be higher.

The OpenCL kernels are counted too, with and without MULTIPLY_ADD: NVRTC compiles their text as CUDA C++, behind a few
definitions. What NVIDIA's OpenCL driver makes of it is not known here. (Clang 15 as the front end for OpenCL C, and
NVIDIA's assembler behind it, gave 515 and 618 ALU slots for shape T, where this gives 513 and 616.)
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gpu_worker.cuda_engine import COMPILE_OPTIONS, MULTIPLIED_OF_FOUR  # noqa: E402
from gpu_worker.kernel_source import (  # noqa: E402
    ENTRY_POINTS,
    LANE_KERNELS,
    MULTIPLY_ADD,
    cuda_source,
    opencl_lane_source,
)

ARCHITECTURES = (80, 89, 90, 120)
#: Lanes per SM and clock.
ALU_LANES, MULTIPLY_ADD_LANES, ISSUE_LANES = 64, 64, 128
#: H100 SXM: multiprocessors, and the highest clock in GHz.
H100_ARCHITECTURE, H100_SMS, H100_GHZ = 90, 132, 1.98

#: OpenCL C as NVRTC's C++: work items are threads, lane_search.cl's only grid dimensions are x and y.
OPENCL_AS_CUDA = """
typedef unsigned int uint;
typedef unsigned long long ulong;
#define __kernel extern "C" __global__
#define __global
#define __constant static __constant__
#define restrict __restrict__
#define atomic_inc(at) atomicAdd(at, 1u)
static inline size_t get_global_id(int) { return (size_t)blockIdx.x * blockDim.x + threadIdx.x; }
static inline size_t get_group_id(int) { return blockIdx.y; }
"""

_ALU = {"LOP3", "SHF", "IADD3", "IADD", "VIADD", "ISETP", "SEL", "PRMT", "LEA", "MOV", "PLOP3", "IMNMX", "VIMNMX"}
_MULTIPLY_ADD = {"IMAD"}
_LOADS = {"LDG", "LDS", "LDC", "LD", "LDL", "STL"}
_INSTRUCTION = re.compile(
    r"/\*[0-9a-f]{4,}\*/\s+(?P<guard>@!?U?P\w+\s+)?(?P<opcode>[A-Z][A-Z0-9_.]*)(?P<operands>[^;]*);"
)
_LABEL = re.compile(r"^\s*(\.L_x_\d+):")
_TARGET = re.compile(r"`\((\.L_x_\d+)\)")
_FUNCTION = re.compile(r"^\s*\.section\s+\.text\.(\w+),", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of a disassembly."""

    guard: str
    #: With its modifiers: "IMAD.WIDE.U32".
    opcode: str
    operands: str
    #: The label that a branch leads to.
    target: str | None

    @property
    def pipe(self) -> str:
        """What it occupies besides an issue slot."""
        name = self.opcode.split(".")[0]
        if name in _ALU:
            return "alu"
        if name in _MULTIPLY_ADD:
            return "multiply_add"
        if name in _LOADS:
            return "loads"
        return "uniform" if name.startswith("U") or name == "R2UR" else "other"

    @property
    def slots(self) -> int:
        """Of its pipe."""
        return 2 if self.opcode.startswith(("IMAD.WIDE", "IMAD.HI")) else 1


class Nvrtc:
    """NVIDIA's run-time compiler, from the package nvidia-cuda-nvrtc."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(_installed("**/libnvrtc.so.*", "nvidia-cuda-nvrtc")))

    @property
    def version(self) -> str:
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        return f"{major.value}.{minor.value}"

    @property
    def architectures(self) -> frozenset[int]:
        count = ctypes.c_int()
        self._check(self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        found = (ctypes.c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(found))
        return frozenset(found)

    def cubin(self, source: str, options: list[str]) -> bytes:
        """Machine code for a real architecture. SystemExit with the compiler's log if there is none."""
        return self._compiled(source, options, "CUBIN")

    def ptx(self, source: str, options: list[str]) -> str:
        """The code before it is made for one chip. SystemExit with the compiler's log if there is none."""
        return self._compiled(source, options, "PTX").rstrip(b"\0").decode()

    def _compiled(self, source: str, options: list[str], what: str) -> bytes:
        program = ctypes.c_void_p()
        handle = ctypes.byref(program)
        self._check(self._library.nvrtcCreateProgram(handle, source.encode(), b"sha256.cu", 0, None, None))
        try:
            arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            if self._library.nvrtcCompileProgram(program, len(options), arguments):
                raise SystemExit(self._read(program, "ProgramLog").decode())
            return self._read(program, what)
        finally:
            self._library.nvrtcDestroyProgram(handle)

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        text = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, text))
        return text.raw

    def _check(self, status: int) -> None:
        if status:
            raise SystemExit(f"NVRTC failed with status {status}")


def _installed(pattern: str, package: str) -> Path:
    found = sorted(Path(sysconfig.get_path("purelib"), "nvidia").glob(pattern))
    if not found:
        raise SystemExit(f"the package {package} is not installed; install hashfleet[dev]")
    return found[0]


def disassembled(cubin: bytes) -> str:
    """The instructions of all kernels, with labels."""
    nvdisasm = _installed("**/bin/nvdisasm", "nvidia-cuda-nvdisasm")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [nvdisasm, "--print-code", file.name]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def functions(text: str) -> dict[str, str]:
    """The disassembly of each kernel, by name."""
    parts = _FUNCTION.split(text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def parsed(text: str) -> tuple[list[Instruction], dict[str, int]]:
    """A kernel's instructions, and the index of the one behind each label."""
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(instructions)
        elif found := _INSTRUCTION.search(line):
            target = _TARGET.search(found["operands"])
            instructions.append(
                Instruction(
                    (found["guard"] or "").strip(),
                    found["opcode"],
                    found["operands"].strip(),
                    target[1] if target and found["opcode"].startswith("BRA") else None,
                )
            )
    return instructions, labels


def way_of_a_hash(instructions: list[Instruction], labels: dict[str, int]) -> list[Instruction]:
    """What a thread executes per hash that is no hit: see the module's docstring."""
    back = [
        (index, labels[instruction.target])
        for index, instruction in enumerate(instructions)
        if instruction.target is not None and labels.get(instruction.target, index) < index
    ]
    if back:
        end, start = max(back, key=lambda branch: branch[0] - branch[1])
        return _shortest(instructions, labels, start, end)
    hit = next(index for index, instruction in enumerate(instructions) if instruction.opcode.startswith("ATOM"))
    return _shortest(instructions, labels, 0, hit)


def _shortest(instructions: list[Instruction], labels: dict[str, int], start: int, end: int) -> list[Instruction]:
    before: dict[int, int] = {}
    waiting = deque([start])
    while waiting:
        at = waiting.popleft()
        if at == end:
            break
        for following in _following(instructions, labels, at):
            if following not in before and following != start:
                before[following] = at
                waiting.append(following)
    way = [end]
    while way[-1] != start:
        way.append(before[way[-1]])
    return [instructions[index] for index in reversed(way)]


def _following(instructions: list[Instruction], labels: dict[str, int], at: int) -> list[int]:
    instruction = instructions[at]
    always = not instruction.guard and (instruction.target is None or instruction.operands.startswith("`"))
    following = []
    if instruction.target is not None and instruction.target in labels:
        following.append(labels[instruction.target])
    if not (always and instruction.opcode.split(".")[0] in {"BRA", "EXIT", "RET"}):
        following.append(at + 1)
    return [index for index in following if index < len(instructions)]


def counted(name: str, text: str, architecture: int, **variant: int | bool) -> dict[str, object]:
    """One line of the answer; `variant` is what distinguishes it from others of the kernel."""
    instructions, labels = parsed(text)
    way = way_of_a_hash(instructions, labels)
    slots = Counter[str]()
    for instruction in way:
        slots[instruction.pipe] += instruction.slots
    lanes = {"alu": ALU_LANES, "multiply_add": MULTIPLY_ADD_LANES}
    rates = {name: number / slots[name] for name, number in lanes.items() if slots[name]}
    rates["issue"] = ISSUE_LANES / len(way)
    pipe = min(rates, key=rates.__getitem__)
    registers = re.findall(r"\bR(\d+)\b", text)
    line: dict[str, object] = {
        "architecture": f"sm_{architecture}",
        "kernel": name,
        **variant,
        "alu": slots["alu"],
        "multiply_add": slots["multiply_add"],
        "loads": slots["loads"],
        "uniform": slots["uniform"],
        "other": slots["other"],
        "issue": len(way),
        "opcodes": dict(Counter(_short(instruction.opcode) for instruction in way).most_common()),
        "registers": 1 + max(map(int, registers)),
        "spills": sum(instruction.opcode.startswith(("STL", "LDL")) for instruction in instructions),
        "binding_pipe": pipe,
        "hashes_per_sm_and_clock": round(rates[pipe], 5),
    }
    if architecture == H100_ARCHITECTURE:
        line["h100_sxm_bound_ghs"] = round(H100_SMS * H100_GHZ * rates[pipe], 2)
    return line


def _short(opcode: str) -> str:
    return (
        ".".join(opcode.split(".")[:2])
        if opcode.startswith(("IMAD.WIDE", "IMAD.HI", "IMAD.MOV"))
        else opcode.split(".")[0]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--architecture", type=int, action="append", help="such as 90; may be repeated (default: %(default)s)"
    )
    parser.add_argument("--multiplied", type=int, action="append", help="MULTIPLIED_OF_FOUR; may be repeated")
    parser.add_argument("--sass", type=Path, help="keep the disassemblies in this folder")
    arguments = parser.parse_args()
    nvrtc = Nvrtc()
    wanted = arguments.architecture or [known for known in ARCHITECTURES if known in nvrtc.architectures]
    lines: list[dict[str, object]] = []
    opencl: list[dict[str, object]] = []
    for architecture in wanted:
        if architecture not in nvrtc.architectures:
            raise SystemExit(f"NVRTC {nvrtc.version} does not compile for sm_{architecture}")

        def kernels(source: str, *options: str, name: str, architecture: int = architecture) -> dict[str, str]:
            options = (*COMPILE_OPTIONS, f"--gpu-architecture=sm_{architecture}", *options)
            text = disassembled(nvrtc.cubin(source, list(options)))
            if arguments.sass:
                arguments.sass.mkdir(parents=True, exist_ok=True)
                (arguments.sass / f"sm_{architecture}_{name}.sass").write_text(text)
            return functions(text)

        for multiplied in arguments.multiplied or MULTIPLIED_OF_FOUR:
            found = kernels(cuda_source(), f"-DMULTIPLIED_OF_FOUR={multiplied}", name=str(multiplied))
            names = list(LANE_KERNELS)
            if multiplied == MULTIPLIED_OF_FOUR[0]:  # the others are the same in every variant
                names += ENTRY_POINTS.values()
            lines += [counted(name, found[name], architecture, multiplied_of_four=multiplied) for name in names]
        for added in ((), MULTIPLY_ADD[:1]):
            options = ("--device-as-default-execution-space", "-DWIDTH=1", *added)
            found = kernels(OPENCL_AS_CUDA + opencl_lane_source(), *options, name=f"opencl_{len(added)}")
            opencl += [counted(name, found[name], architecture, multiply_add_pipe=bool(added)) for name in LANE_KERNELS]
    json.dump({"nvrtc": nvrtc.version, "kernels": lines, "opencl_kernels": opencl}, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
