"""The kernels' source text, put together from the `kernels` package."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

#: The two kernels' names, by the number of blocks they hash.
ENTRY_POINTS = {1: "search_one_block", 2: "search_two_blocks"}
#: The kernels for the shapes of `hashfleet.message`: T, and S with its varying word 12 or 13.
LANE_KERNELS = ("search_shared", "search_short_12", "search_short_13")

#: Build options that put the additions of the OpenCL kernels for the shapes on NVIDIA's multiply-add pipe, by either
#: keyword for assembler: NVIDIA documents the first, clang knows the second. For -D WIDTH=1.
MULTIPLY_ADD = ("-DMULTIPLY_ADD=asm", "-DMULTIPLY_ADD=__asm__")

_INCLUDE = re.compile(r'^#include "([a-z0-9_]+\.h)"$', re.MULTILINE)


@cache
def opencl_source() -> str:
    """OpenCL C source without includes, ready for the driver's compiler."""
    return _with_includes("sha256.cl")


@cache
def opencl_lane_source() -> str:
    """OpenCL C source of the kernels for shapes T and S, to be compiled with -D WIDTH=n, without includes."""
    return _with_includes("lane_search.cl")


@cache
def cuda_source() -> str:
    """CUDA C++ source without includes, ready for NVRTC."""
    return _with_includes("sha256.cu")


def _with_includes(name: str) -> str:
    # Pasted in rather than passed as headers: OpenCL has no portable way to hand over an include file.
    return _INCLUDE.sub(lambda found: _text(found[1]), _text(name))


def _text(name: str) -> str:
    return resources.files("kernels").joinpath(name).read_text(encoding="utf-8")
