"""What NVIDIA's compiler makes of the kernels with lanes: its PTX, run on this machine, finds the hits of hashlib.

The host build of test_cuda_on_host.py leaves out the kernels' assembler. Here each PTX instruction becomes the C
statement that NVIDIA's manual defines it by (PTX ISA, chapter 9), and a C compiler makes a function of it that runs one
thread. An instruction not known here fails the test.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
import types
from pathlib import Path

import numpy as np
import pytest

from gpu_worker.cuda_engine import COMPILE_OPTIONS, MULTIPLIED_OF_FOUR
from gpu_worker.kernel_source import LANE_KERNELS, cuda_source
from gpu_worker.lanes import LaneProgram, LaneStretch, Words, lane_columns, lane_program, lane_stretch
from hashfleet.message import NonceSpace, lay_out

TOOL = Path(__file__).resolve().parents[3] / "tools" / "count_sass.py"
CAPACITY, TAILS_PER_THREAD, GROUP_SIZE = 4096, 5_000, 4
SPACES = {
    "search_shared": lay_out(b"5-28BUILD679575NONCE", "417", 12, 200),
    "search_short_12": NonceSpace(b"5-28BUILD679575NONCE", "7" * 20, 12),
    "search_short_13": NonceSpace(b"5-28BUILD679575NONCE", "7" * 23, 12),
}

PRELUDE = """
#include <stdint.h>
unsigned ctaid_x, ctaid_y, ntid_x, tid_x;
#define U32(address) (*(uint32_t *)(uintptr_t)(address))
"""
#: Instruction without its type -> C, of the operands {0} (where the result goes), {1} .. and the type {t}; immediate
#: operands may be written with a minus, so where width or order matter they are converted first.
OPERATIONS = {
    "mov": "{0} = {1}",
    "add": "{0} = {1} + {2}",
    "sub": "{0} = {1} - {2}",
    "and": "{0} = {1} & {2}",
    "or": "{0} = {1} | {2}",
    "xor": "{0} = {1} ^ {2}",
    "shl": "{0} = {1} << {2}",
    "shr": "{0} = {1} >> {2}",
    "mul.lo": "{0} = {1} * {2}",
    "mad.lo": "{0} = {1} * {2} + {3}",
    "mul.wide": "{0} = (uint64_t)({t}){1} * ({t}){2}",
    "mul.hi": "{0} = (unsigned __int128)({t}){1} * ({t}){2} >> 8 * sizeof({t})",
    "min": "{0} = ({t}){1} < ({t}){2} ? {1} : {2}",
    "shf.l.wrap": "{0} = (((uint64_t){2} << 32 | {1}) << ({3} & 31)) >> 32",
    "cvt": "{0} = {1}",
    "cvta.to.global": "{0} = {1}",
    "ld.param": "{0} = {1}",
    "setp.ge": "{0} = ({t}){1} >= ({t}){2}",
    "setp.lt": "{0} = ({t}){1} < ({t}){2}",
    "setp.ne": "{0} = ({t}){1} != ({t}){2}",
    "setp.eq": "{0} = ({t}){1} == ({t}){2}",
    "ld.global.nc": "{0} = U32({1})",
    "st.global": "U32({0}) = {1}",
    "atom.global.add": "{0} = U32({1}); U32({1}) += {2}",
    "selp": "{0} = {3} ? {1} : {2}",
    "bra": "goto {0}",
    "ret": "return",
}
#: Those that are defined for signed operands too, with another result.
SIGNED_MATTERS = {"shr", "mul.wide", "mul.hi", "min", "setp.ge", "setp.lt"}
_STATEMENT = re.compile(r"(?:@(?P<not>!?)%(?P<predicate>p\d+)\s+)?(?P<opcode>[a-z][\w.]*)\s*(?P<operands>.*)")
_IN_A_BLOCK = " /* in a block */"
_TYPES = {"b32": "uint32_t", "b64": "uint64_t", "b16": "uint16_t", "pred": "int"}


def in_c(entry: str) -> str:
    """One PTX kernel as a C function of its parameters."""
    name = entry[: entry.index("(")]
    heading, body = entry[entry.index("(") + 1 :].split(")", 1)
    parameters = re.findall(r"\.param \.u(32|64)[^,]*?(\w+)(?=,|\s*$)", heading)
    lines = [f"void {name}({', '.join(f'uint{bits}_t {parameter}' for bits, parameter in parameters)}) {{"]
    body = body[body.index("{") + 1 : body.rindex("}")]
    for line in (part.strip() for part in re.sub(r"//[^\n]*", "", body).replace("{ .reg", ";.reg").split("\n")):
        for statement in (part.strip().removesuffix("}").rstrip("; ") for part in re.split(r";(?![^{]*\})", line)):
            if statement:
                lines.append(_statement_in_c(statement))
    # The kernels' assembler declares its register in a block of its own each time; in C once is enough.
    declared = {line for line in lines if line.endswith(_IN_A_BLOCK)}
    return "\n".join([lines[0], *declared, *(line for line in lines[1:] if line not in declared), "}"])


def _statement_in_c(statement: str) -> str:
    if declared := re.fullmatch(r"\.reg \.(\w+)\s+%(\w+)<(\d+)>", statement):
        registers = ", ".join(f"{declared[2]}{number}" for number in range(int(declared[3])))
        return f"{_TYPES[declared[1]]} {registers};"
    if declared := re.fullmatch(r"\.reg \.(\w+) (\w+)", statement):
        return f"{_TYPES[declared[1]]} {declared[2]};{_IN_A_BLOCK}"
    if label := re.fullmatch(r"\$(\w+):", statement):
        return f"{label[1]}: ;"
    if re.match(r"\.(maxntid|minnctapersm|pragma|loc)", statement):
        return ""
    parsed = _STATEMENT.fullmatch(statement)
    assert parsed is not None, f"not understood: {statement}"
    guard = f"if ({parsed['not']}{parsed['predicate']}) " if parsed["predicate"] else ""
    return f"{guard}{{ {_operation_in_c(parsed['opcode'], parsed['operands'], statement)}; }}"


def _operation_in_c(opcode: str, text: str, statement: str) -> str:
    text = text.replace("%ctaid.", "ctaid_").replace("%ntid.", "ntid_").replace("%tid.", "tid_")
    text = text.replace("%", "").replace("$", "")
    operands = [operand.strip().strip("[]") for operand in re.split(r",(?![^{]*\})", text)]
    if opcode == "mov.b64" and operands[0].startswith("{"):
        low, high = operands[0].strip("{}").split(",")
        return f"{low} = {operands[1]}; {high} = {operands[1]} >> 32"
    if vector := re.fullmatch(r"ld\.global\.nc\.v([24])\.u32", opcode):
        words = operands[0].strip("{}").split(",")
        assert len(words) == int(vector[1])
        return "; ".join(f"{word} = U32({operands[1]} + {4 * place})" for place, word in enumerate(words))
    kind = opcode.removesuffix(".uni")
    while kind not in OPERATIONS and re.search(r"\.[usb]\d+$", kind):
        kind = kind.rpartition(".")[0]
    assert kind in OPERATIONS, f"not known: {statement}"
    assert not (kind in SIGNED_MATTERS and re.search(r"\.s\d+$", opcode)), f"signed: {statement}"
    bits = re.search(r"\d+$", opcode)
    return OPERATIONS[kind].format(*operands, t=f"uint{bits[0]}_t" if bits else "")


@pytest.fixture(scope="module", params=MULTIPLIED_OF_FOUR, ids=lambda multiplied: f"multiplied {multiplied}")
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The PTX of a variant for Hopper, as functions of this machine."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("this machine has no C compiler")
    if not any(Path(sysconfig.get_path("purelib"), "nvidia").glob("**/libnvrtc.so.*")):
        pytest.skip("the package nvidia-cuda-nvrtc is not installed, so CUDA source cannot be compiled here")
    options = [*COMPILE_OPTIONS, f"-DMULTIPLIED_OF_FOUR={request.param}", "--gpu-architecture=compute_90"]
    ptx = nvrtc().ptx(cuda_source(), options)
    entries = {entry[: entry.index("(")]: entry for entry in re.split(r"\.visible \.entry ", ptx)[1:]}
    folder: Path = tmp_path_factory.mktemp("cuda_ptx")
    source = folder / "kernels.c"
    source.write_text(PRELUDE + "\n".join(in_c(entries[name]) for name in LANE_KERNELS))
    built = folder / "kernels.so"
    subprocess.run([compiler, "-O1", "-w", "-shared", "-fPIC", "-o", built, source], check=True, timeout=60)
    return ctypes.CDLL(str(built))


def nvrtc() -> types.SimpleNamespace:
    specification = importlib.util.spec_from_file_location("count_sass_for_ptx", TOOL)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["count_sass_for_ptx"] = module  # where its dataclasses look for their annotations
    specification.loader.exec_module(module)
    compiler: types.SimpleNamespace = module.Nvrtc()
    return compiler


def hits(library: ctypes.CDLL, space: NonceSpace, start: int, count: int, zeros: int) -> list[int]:
    """What the kernel reports of a search."""
    program = lane_program(space, zeros)
    assert program is not None
    stretch = lane_stretch(start, count, len(program.table))
    distances = launched(library, program, program.parameters, stretch, 0)
    return [start + distance for distance in distances]


def launched(
    library: ctypes.CDLL, program: LaneProgram, parameters: Words, stretch: LaneStretch, columns: int
) -> list[int]:
    """The distances that the kernel reports, thread by thread, in blocks of GROUP_SIZE."""
    found = np.zeros(1 + CAPACITY, np.uint32)
    numbers = (stretch.lanes, stretch.skip, stretch.count, stretch.first_tail, stretch.end_tail, TAILS_PER_THREAD)
    arguments = (
        ctypes.c_uint64(parameters.ctypes.data),
        ctypes.c_uint32(columns),
        ctypes.c_uint64(program.table.ctypes.data),
        ctypes.c_uint64(stretch.first_lane),
        *(ctypes.c_uint32(number) for number in (*numbers, 1, 2**30, CAPACITY)),
        ctypes.c_uint64(found.ctypes.data),
    )
    run = getattr(library, program.kernel)
    index = {name: ctypes.c_uint32.in_dll(library, name) for name in ("ctaid_x", "ctaid_y", "ntid_x", "tid_x")}
    index["ntid_x"].value = GROUP_SIZE
    for index["ctaid_y"].value in range(-(-(stretch.end_tail - stretch.first_tail) // TAILS_PER_THREAD)):
        for index["ctaid_x"].value in range(-(-stretch.lanes // GROUP_SIZE)):
            for index["tid_x"].value in range(GROUP_SIZE):
                run(*arguments)
    assert found[0] <= CAPACITY
    return sorted(int(distance) for distance in found[1 : 1 + found[0]])


@pytest.mark.parametrize("kernel", LANE_KERNELS)
@pytest.mark.parametrize(("start", "count"), [(123_456, 700), (987_654_321, 41_000), (10**12 - 500, 500)])
def test_the_compiled_kernel_finds_the_hits_of_hashlib(
    library: ctypes.CDLL, kernel: str, start: int, count: int
) -> None:
    space = SPACES[kernel]
    wanted = [
        counter
        for counter in range(start, start + count)
        if hashlib.sha256(space.message(counter)).hexdigest().startswith("00")
    ]

    assert wanted
    assert hits(library, space, start, count, 2) == wanted


@pytest.mark.parametrize("kernel", LANE_KERNELS)
def test_the_compiled_kernel_hashes_lanes_of_many_searches_each_with_its_own_zeros(
    library: ctypes.CDLL, kernel: str
) -> None:
    space = SPACES[kernel]
    others = [
        (NonceSpace(prefix, space.extranonce, space.counter_digits, space.filler_digits), lane, zeros)
        for prefix, lane, zeros in ((b"5-28BUILD679575NONCE", 0, 1), (b"9-7@2-1RAID128NONCE5", 98_765_432, 2),
                                    (b"5-28BUILD679576NONCE", 10**8 - 1, 3))
    ]  # fmt: skip
    programs = [lane_program(each, zeros) for each, _, zeros in others]
    chosen = [(program, lane, 1) for program, (_, lane, _) in zip(programs, others, strict=True) if program]
    tails = range(3, 903)
    wanted = [
        column * len(chosen[0][0].table) + tail
        for column, (each, lane, zeros) in enumerate(others)
        for tail in tails
        if hashlib.sha256(each.message(lane * len(chosen[0][0].table) + tail)).hexdigest().startswith("0" * zeros)
    ]
    whole = len(chosen) * len(chosen[0][0].table)
    columns = lane_columns(chosen, 8)

    stretch = LaneStretch(0, len(chosen), 0, whole, tails.start, tails.stop)
    assert launched(library, chosen[0][0], columns, stretch, columns.shape[1]) == wanted
    assert len(wanted) > 20


def test_an_instruction_that_is_not_known_is_not_passed_over() -> None:
    with pytest.raises(AssertionError, match="not known"):
        _statement_in_c("popc.b32 %r1, %r2")
