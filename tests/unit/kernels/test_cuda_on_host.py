"""What the CUDA kernels and `CudaEngine` compute, on a machine without a GPU.

The kernel text is compiled as host C++ behind a few definitions, and a CuPy that knows only what the engine uses
runs it thread by thread. So the arithmetic, the parameters and the engine's logic are really executed; what is not
is NVIDIA's driver: the contract suite does that where there is a GPU (marker `gpu`).
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_worker import cuda_engine
from gpu_worker.cuda_engine import CudaEngine
from gpu_worker.discovery import find_devices, open_engine
from gpu_worker.kernel_source import ENTRY_POINTS, cuda_source
from hashfleet.engine import EngineKind
from hashfleet.errors import EngineError, EngineUnavailable
from hashfleet.message import NonceSpace
from hashfleet.self_test import self_test

SHIM = """
#define __global__
#define __device__
#define __constant__
#define __forceinline__ inline
static struct { unsigned x; } blockIdx, blockDim, threadIdx;
static unsigned atomicAdd(unsigned *at, unsigned n) { unsigned old = *at; *at += n; return old; }
"""
DRIVER = """
#define RUN(entry)                                                                                                 \\
    extern "C" void run_##entry(unsigned grid, unsigned block, const unsigned *parameters, unsigned long long start, \\
                                unsigned count, unsigned capacity, unsigned *found)                                \\
    {                                                                                                              \\
        blockDim.x = block;                                                                                        \\
        for (blockIdx.x = 0; blockIdx.x < grid; blockIdx.x++)                                                      \\
            for (threadIdx.x = 0; threadIdx.x < block; threadIdx.x++)                                              \\
                entry(parameters, start, count, capacity, found);                                                  \\
    }
"""


class HostArray(np.ndarray):
    """A device array whose memory is the host's."""

    def get(self) -> np.ndarray:
        return np.array(self)

    @property
    def data(self) -> object:
        """What CuPy calls a memory pointer."""

        def memset_async(value: int, size: int) -> None:
            ctypes.memset(self.ctypes.data, value, size)

        return types.SimpleNamespace(memset_async=memset_async)


class HostKernel:
    """A kernel that runs its threads one after the other."""

    def __init__(self, function: Callable[..., None], launched: list[str], name: str) -> None:
        self.function, self.launched, self.name = function, launched, name

    def compile(self) -> None:
        pass

    def __call__(self, grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
        # CuPy passes a NumPy scalar by its type's size, and that must be what the kernel declares.
        parameters, start, count, capacity, found = arguments
        assert [type(start), type(count), type(capacity)] == [np.uint64, np.uint32, np.uint32]
        assert parameters.dtype == found.dtype == np.uint32
        self.launched.append(self.name)
        pointer = ctypes.POINTER(ctypes.c_uint32)
        self.function(
            ctypes.c_uint32(grid[0]),
            ctypes.c_uint32(block[0]),
            parameters.ctypes.data_as(pointer),
            ctypes.c_uint64(int(start)),
            ctypes.c_uint32(int(count)),
            ctypes.c_uint32(int(capacity)),
            found.ctypes.data_as(pointer),
        )


class HostGpu:
    """The part of CuPy that the engine uses, as one GPU that is this CPU; faults are set by the tests."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.launched: list[str] = []
        self.answers = True
        self.launch_error: Exception | None = None

        def get_function(entry: str) -> HostKernel:
            run = getattr(library, f"run_{entry}")
            run.restype = None
            return HostKernel(run, self.launched, entry)

        def raw_module(code: str, options: tuple[str, ...]) -> object:
            return types.SimpleNamespace(get_function=get_function)

        def array(values: Any) -> HostArray:
            if self.launch_error:
                raise self.launch_error
            return np.array(values).view(HostArray)

        class Stream(nullcontext):  # type: ignore[type-arg]
            def __init__(stream, non_blocking: bool) -> None:  # noqa: N805
                assert non_blocking
                super().__init__()

            def record(stream) -> object:  # noqa: N805
                return types.SimpleNamespace(done=self.answers)

        class CompileException(Exception):
            pass

        runtime = types.SimpleNamespace(
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda index: {"name": b"Host GPU"},
            driverGetVersion=lambda: 13010,
        )
        self.module = types.ModuleType("cupy")
        self.module.__dict__.update(
            cuda=types.SimpleNamespace(
                runtime=runtime,
                Device=lambda index: nullcontext(),
                Stream=Stream,
                compiler=types.SimpleNamespace(CompileException=CompileException),
            ),
            RawModule=raw_module,
            zeros=lambda size, dtype: array(np.zeros(size, dtype)),
            asarray=array,
            get_default_memory_pool=lambda: types.SimpleNamespace(free_all_blocks=lambda: None),
        )


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels as a host library."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("this machine has no C++ compiler")
    folder: Path = tmp_path_factory.mktemp("cuda_on_host")
    source = folder / "kernels.cpp"
    runs = "".join(f"RUN({entry})\n" for entry in ENTRY_POINTS.values())
    source.write_text(SHIM + cuda_source() + DRIVER + runs)
    built = folder / "kernels.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-w", "-o", built, source], check=True, timeout=60)
    return ctypes.CDLL(str(built))


@pytest.fixture
def gpu(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostGpu]:
    """A machine with one "GPU"."""
    host = HostGpu(library)
    monkeypatch.setitem(sys.modules, "cupy", host.module)
    yield host


def by_hashlib(space: NonceSpace, start: int, count: int, zeros: int) -> list[int]:
    nonces = range(start, start + count)
    return [n for n in nonces if hashlib.sha256(space.message(n)).hexdigest().startswith("0" * zeros)]


def searched(engine: CudaEngine, space: NonceSpace, start: int, count: int, zeros: int) -> list[int]:
    return [hit for batch in engine.search(space, start, count, zeros) for hit in batch.hits]


def test_the_cuda_engine_passes_the_self_test(gpu: HostGpu) -> None:
    self_test(CudaEngine(0))


@pytest.mark.parametrize("length", [*range(64), 64, 100, 128])
def test_the_cuda_kernels_hash_counters_wherever_they_stand(gpu: HostGpu, length: int) -> None:
    engine = CudaEngine(0)
    for digits in (1, 4, 7, 12, 18):
        space = NonceSpace(b"p" * length, "", digits)
        count = min(200, space.capacity)
        start = (space.capacity - count) // 3
        assert searched(engine, space, start, count, 1) == by_hashlib(space, start, count, 1)


def test_one_block_messages_go_to_the_kernel_for_one_block(gpu: HostGpu) -> None:
    engine = CudaEngine(0)
    searched(engine, NonceSpace(b"p" * 40, "", 10), 0, 10, 1)
    searched(engine, NonceSpace(b"p" * 60, "", 10), 0, 10, 1)

    assert gpu.launched == ["search_one_block", "search_two_blocks"]


def test_no_hit_is_lost_when_the_cuda_hit_buffer_runs_over(gpu: HostGpu) -> None:
    space = NonceSpace(b"5-1MINE7NONCE", "", 9)

    assert searched(CudaEngine(0, hit_capacity=2), space, 0, 3000, 1) == by_hashlib(space, 0, 3000, 1)


def test_more_hits_than_the_first_read_takes_all_arrive(gpu: HostGpu) -> None:
    space = NonceSpace(b"5-1MINE7NONCE", "", 9)
    wanted = by_hashlib(space, 0, 3000, 1)

    assert len(wanted) > cuda_engine._FIRST_READ + 1
    assert searched(CudaEngine(0), space, 0, 3000, 1) == wanted


def test_a_gpu_that_does_not_answer_is_an_error_with_its_name(gpu: HostGpu) -> None:
    engine = CudaEngine(0, time_limit=0.01)
    gpu.answers = False
    with pytest.raises(EngineError, match=r"cuda:0 did not answer within 0\.01 s"):
        searched(engine, NonceSpace(b"p", "", 6), 0, 100, 1)
    gpu.answers = True
    with pytest.raises(EngineError, match="did not answer"):
        searched(engine, NonceSpace(b"p", "", 6), 0, 100, 1)


def test_an_error_of_the_driver_is_an_engine_error_with_its_first_line(gpu: HostGpu) -> None:
    engine = CudaEngine(0)
    gpu.launch_error = RuntimeError("cudaErrorIllegalAddress: an illegal memory access\nwas encountered")
    with pytest.raises(EngineError, match=r"^cuda:0 failed: cudaErrorIllegalAddress: an illegal memory access$"):
        searched(engine, NonceSpace(b"p", "", 6), 0, 100, 1)


def test_a_kernel_that_does_not_compile_makes_the_engine_unavailable(
    gpu: HostGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: HostKernel) -> None:
        raise gpu.module.cuda.compiler.CompileException("sha256.cu(1): error")

    monkeypatch.setattr(HostKernel, "compile", refuse)
    with pytest.raises(EngineUnavailable, match=r"cuda:0 cannot be used: sha256\.cu\(1\): error"):
        CudaEngine(0)


def test_a_device_number_that_does_not_exist_is_unavailable(gpu: HostGpu) -> None:
    with pytest.raises(EngineUnavailable, match="no CUDA device cuda:1"):
        open_engine("cuda:1")


def test_a_cuda_device_is_found_and_opened_by_its_id(gpu: HostGpu) -> None:
    (info,) = find_devices("cuda")

    assert (info.device_id, info.name, info.kind, info.driver) == ("cuda:0", "Host GPU", EngineKind.CUDA, "CUDA 13.1")
    assert open_engine(info.device_id).device == info
