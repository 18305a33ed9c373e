"""What a hash costs on NVIDIA GPUs, counted from the machine code; so that a slower kernel is seen without a GPU."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

import pytest

from gpu_worker.kernel_source import LANE_KERNELS

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / "tools" / "count_sass.py"

#: A loop as the compiler makes it: a hit falls through to an atomic, everything else jumps over it.
LOOP = """
\t.section\t.text.search,"ax",@progbits
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   IMAD.WIDE.U32 R2, R3, c[0x0][0x10], RZ ;
        /*0020*/                   SHF.L.W.U32.HI R4, R5, 0x7, R5 ;
        /*0030*/                   LDG.E R9, desc[UR4][R2.64] ;
        /*0040*/                   ISETP.NE.AND P0, PT, R4, RZ, PT ;
        /*0050*/               @P0 BRA `(.L_x_0) ;
        /*0060*/                   IADD3 R6, R6, 0x1, RZ ;
        /*0070*/                   ATOMG.E.ADD.STRONG.GPU PT, R3, desc[UR16][R2.64], R5 ;
.L_x_0:
        /*0080*/              @!P1 BRA `(.L_x_1) ;
        /*0090*/                   EXIT ;
.L_x_2:
        /*00a0*/                   BRA `(.L_x_2);
"""


@pytest.fixture(scope="module")
def tool() -> types.ModuleType:
    specification = importlib.util.spec_from_file_location("count_sass", TOOL)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["count_sass"] = module  # where its dataclasses look for their annotations
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hopper() -> dict[str, Any]:
    """What the tool prints for Hopper."""
    packages = Path(sysconfig.get_path("purelib"), "nvidia")
    for name, pattern in (("nvrtc", "**/libnvrtc.so.*"), ("nvdisasm", "**/bin/nvdisasm")):
        if not any(packages.glob(pattern)):
            pytest.skip(f"the package nvidia-cuda-{name} is not installed, so machine code cannot be counted here")
    command = [sys.executable, TOOL, "--architecture", "90"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


@pytest.fixture(scope="module")
def sm_90(hopper: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    """The CUDA kernels' lines, by kernel and variant."""
    return {(line["kernel"], line["multiplied_of_four"]): line for line in hopper["kernels"]}


@pytest.fixture(scope="module")
def opencl(hopper: dict[str, Any]) -> dict[tuple[str, bool], dict[str, Any]]:
    """The OpenCL kernels' lines, by kernel and whether their additions are multiply-adds."""
    return {(line["kernel"], line["multiply_add_pipe"]): line for line in hopper["opencl_kernels"]}


def test_the_way_of_a_hash_is_the_loop_without_what_a_hit_costs(tool: types.ModuleType) -> None:
    line = tool.counted("search", tool.functions(LOOP)["search"], 90)

    assert line["opcodes"] == {"BRA": 2, "IMAD.WIDE": 1, "SHF": 1, "LDG": 1, "ISETP": 1}
    assert (line["alu"], line["multiply_add"], line["loads"], line["issue"]) == (2, 2, 1, 6)


def test_the_bound_is_that_of_the_busiest_pipe(tool: types.ModuleType) -> None:
    line = tool.counted("search", tool.functions(LOOP)["search"], 90)

    assert (line["binding_pipe"], line["hashes_per_sm_and_clock"]) == ("issue", round(128 / 6, 5))
    assert line["h100_sxm_bound_ghs"] == round(132 * 1.98 * 128 / 6, 2)


@pytest.mark.parametrize(
    ("kernel", "multiplied", "most"),
    [
        ("search_shared", 0, 520),
        ("search_shared", 2, 495),
        ("search_shared", 4, 470),
        ("search_short_12", 0, 790),
        ("search_short_12", 4, 740),
        ("search_short_13", 0, 770),
        ("search_short_13", 4, 720),
    ],
)
def test_a_hash_takes_no_more_alu_slots_than_it_did(
    sm_90: dict[tuple[str, int], dict[str, Any]], kernel: str, multiplied: int, most: int
) -> None:
    line = sm_90[kernel, multiplied]

    assert 0 < line["alu"] <= most, line
    assert line["binding_pipe"] == "alu", line


def test_the_kernels_with_lanes_keep_everything_in_registers(
    sm_90: dict[tuple[str, int], dict[str, Any]],
) -> None:
    lines = [line for (kernel, _), line in sm_90.items() if kernel in LANE_KERNELS]

    assert lines
    assert {line["spills"] for line in lines} == {0}
    # Two blocks of 256 threads at least find room in the 65,536 registers of a multiprocessor.
    assert max(line["registers"] for line in lines) <= 128


def test_the_additions_of_the_rounds_are_not_on_the_alu_pipe(
    sm_90: dict[tuple[str, int], dict[str, Any]],
) -> None:
    for kernel in LANE_KERNELS:
        opcodes = sm_90[kernel, 0]["opcodes"]
        # Six per round; what is left on the ALU pipe counts the tails.
        assert opcodes["IMAD"] >= 300
        assert sum(opcodes.get(name, 0) for name in ("IADD3", "IADD", "VIADD")) <= 4


@pytest.mark.parametrize(
    ("kernel", "moved", "most"),
    [
        ("search_shared", True, 520),
        ("search_shared", False, 620),
        ("search_short_12", True, 790),
        ("search_short_13", True, 770),
    ],
)
def test_a_hash_of_the_opencl_kernels_takes_no_more_alu_slots_than_it_did(
    opencl: dict[tuple[str, bool], dict[str, Any]], kernel: str, moved: bool, most: int
) -> None:
    line = opencl[kernel, moved]

    assert 0 < line["alu"] <= most, line
    assert line["spills"] == 0


def test_the_switch_for_nvidia_takes_the_opencl_kernels_additions_from_the_alu_pipe(
    opencl: dict[tuple[str, bool], dict[str, Any]],
) -> None:
    for kernel in LANE_KERNELS:
        moved, plain = opencl[kernel, True], opencl[kernel, False]
        assert moved["alu"] <= plain["alu"] - 100
        assert sum(moved["opcodes"].get(name, 0) for name in ("IADD3", "IADD", "VIADD")) <= 4
