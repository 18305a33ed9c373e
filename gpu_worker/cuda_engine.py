"""NVIDIA GPUs through CuPy: the kernels are compiled by NVRTC when the engine is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gpu_worker.deadline import wait_until
from gpu_worker.hit_buffer import HIT_CAPACITY, MAX_LAUNCH, all_hits, largest_launch
from gpu_worker.kernel_parameters import blocks_to_hash, kernel_parameters
from gpu_worker.kernel_source import ENTRY_POINTS, cuda_source
from hashfleet.batches import BatchSize, check_search, run_batches
from hashfleet.engine import Batch, DeviceInfo, EngineKind
from hashfleet.errors import EngineError, EngineUnavailable
from hashfleet.message import NonceSpace

if TYPE_CHECKING:
    from types import ModuleType

#: Threads per block: eight warps.
_GROUP_SIZE = 256
#: Nonces in the first batch: about 1 ms on a small GPU; it adapts from there.
_FIRST_BATCH = 2**20
#: Hits read back together with their count; more are a second read.
_FIRST_READ = 63
#: Options for NVRTC; CuPy adds the architecture of the device.
COMPILE_OPTIONS = ("-std=c++17",)


def import_cupy() -> ModuleType:
    """CuPy, or EngineUnavailable if it is not installed or does not load."""
    try:
        import cupy
    except (ImportError, OSError) as error:
        raise EngineUnavailable(
            "CUDA devices need CuPy: install hashfleet[cuda12] or hashfleet[cuda13], whichever the driver supports "
            f"({_first_line(error)})"
        ) from error
    return cupy  # type: ignore[no-any-return]


def cuda_device_info(cupy: ModuleType, index: int) -> DeviceInfo:
    """How the fleet names that device."""
    runtime = cupy.cuda.runtime
    name = runtime.getDeviceProperties(index)["name"]
    version = runtime.driverGetVersion()  # 12080 is 12.8
    return DeviceInfo(
        f"cuda:{index}",
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name),
        EngineKind.CUDA,
        f"CUDA {version // 1000}.{version % 1000 // 10}",
    )


class CudaEngine:
    """One NVIDIA GPU. After an EngineError it stays failed: open another one, in a fresh process.

    (A CUDA context that has once reported an error reports it for ever.)
    """

    def __init__(self, index: int, *, hit_capacity: int = HIT_CAPACITY, time_limit: float = 30.0) -> None:
        """Open CUDA device number `index` and compile the kernels for it.

        `hit_capacity` is the size of the hit buffer, `time_limit` how many seconds a launch may take. Raises
        EngineUnavailable if there is no such device or the kernels do not compile.
        """
        cupy = import_cupy()
        self._cupy = cupy
        # CUDADriverError, CUDARuntimeError and NVRTCError are RuntimeErrors; CuPy's out of memory is a MemoryError.
        self._errors: tuple[type[Exception], ...] = (RuntimeError, MemoryError, cupy.cuda.compiler.CompileException)
        try:
            if not 0 <= index < cupy.cuda.runtime.getDeviceCount():
                raise EngineUnavailable(f"there is no CUDA device cuda:{index} on this machine")
            self._device = cuda_device_info(cupy, index)
            self._gpu = cupy.cuda.Device(index)
            with self._gpu:
                self._stream = cupy.cuda.Stream(non_blocking=True)
                module = cupy.RawModule(code=cuda_source(), options=COMPILE_OPTIONS)
                self._kernels = {blocks: module.get_function(entry) for blocks, entry in ENTRY_POINTS.items()}
                for kernel in self._kernels.values():
                    kernel.compile()  # now, so that what does not compile is found out here
                with self._stream:
                    self._found: Any = cupy.zeros(1 + hit_capacity, dtype=np.uint32)
        except self._errors as error:
            raise EngineUnavailable(f"cuda:{index} cannot be used: {_first_line(error)}") from error
        self._capacity = hit_capacity
        self._time_limit = time_limit
        self._size = BatchSize(_FIRST_BATCH, MAX_LAUNCH)
        self._failure: str | None = None

    @property
    def device(self) -> DeviceInfo:
        """The device that this engine drives."""
        return self._device

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
        """See `hashfleet.engine.HashEngine.search`."""
        check_search(space, start, count, zeros)
        self._check_usable()
        blocks = space.blocks
        kernel = self._kernels[blocks_to_hash(blocks)]
        try:
            with self._gpu, self._stream:
                # Each search has its own parameters, so that an older iterator still searches what it was asked.
                parameters = self._cupy.asarray(kernel_parameters(blocks, zeros))
        except self._errors as error:
            raise self._failed(f"{self._device.device_id} failed: {_first_line(error)}") from error
        launch = partial(self._launch, kernel, parameters)
        hash_range = partial(self._hash_range, launch)
        return run_batches(hash_range, start, count, self._size, largest_launch(zeros, self._capacity))

    def close(self) -> None:
        """Free the device; a second call does nothing."""
        if self._failure is None:
            self._failure = f"the engine of {self._device.device_id} is closed"
            with self._gpu:
                self._found = None
                self._cupy.get_default_memory_pool().free_all_blocks()

    def _hash_range(self, launch: partial[tuple[int, Sequence[int]]], start: int, count: int) -> tuple[int, ...]:
        self._check_usable()
        try:
            return all_hits(launch, start, count, self._capacity)
        except self._errors as error:
            raise self._failed(f"{self._device.device_id} failed: {_first_line(error)}") from error
        except EngineError as error:
            raise self._failed(str(error)) from error

    def _launch(self, kernel: Any, parameters: Any, start: int, count: int) -> tuple[int, Sequence[int]]:
        """Hash one stretch; see `hit_buffer.Launch`."""
        # The current device and stream belong to the thread, and each batch may be asked for by another one.
        with self._gpu, self._stream:
            self._found.data.memset_async(0, self._found.itemsize)  # the count; no kernel of CuPy's own to compile
            arguments = (parameters, np.uint64(start), np.uint32(count), np.uint32(self._capacity), self._found)
            kernel((-(-count // _GROUP_SIZE),), (_GROUP_SIZE,), arguments)
            event = self._stream.record()
            wait_until(lambda: bool(event.done), self._time_limit, self._device.device_id)
            # The stream is in order and now empty, so these reads only copy a few bytes and cannot hang.
            first = self._found[: 1 + min(_FIRST_READ, self._capacity)].get()
            found = int(first[0])
            if found > self._capacity:
                return found, []
            if found < len(first):
                return found, first[1 : 1 + found].tolist()
            return found, self._found[1 : 1 + found].get().tolist()

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise EngineError(self._failure)

    def _failed(self, why: str) -> EngineError:
        self._failure = why
        return EngineError(why)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
