"""OpenCL devices: NVIDIA, AMD and Intel GPUs, and CPUs through PoCL."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gpu_worker.deadline import wait_until
from gpu_worker.hit_buffer import HIT_CAPACITY, MAX_LAUNCH, all_hits, largest_launch
from gpu_worker.kernel_parameters import blocks_to_hash, kernel_parameters
from gpu_worker.kernel_source import ENTRY_POINTS, opencl_source
from hashfleet.batches import BatchSize, check_search, run_batches
from hashfleet.difficulty import MAX_DIFFICULTY
from hashfleet.engine import Batch, DeviceInfo, EngineKind
from hashfleet.errors import EngineError, EngineUnavailable
from hashfleet.message import BLOCK_BYTES, NonceSpace

if TYPE_CHECKING:
    import pyopencl as cl

#: Work items per group: a multiple of every GPU's subgroup (8 to 64), and enough of them to hide latencies.
_GROUP_SIZE = 256
#: Nonces in the first batch: 20 ms on a CPU core, under 1 ms on a GPU; it adapts from there.
_FIRST_BATCH = 2**18
#: Hits read back together with their count; more are a second read.
_FIRST_READ = 63

# pyopencl keeps compiled programs in a file cache that is not safe for two threads of one process.
_BUILD = threading.Lock()


def opencl_device_info(platform_index: int, device_index: int, device: cl.Device) -> DeviceInfo:
    """How the fleet names that device."""
    return DeviceInfo(
        f"opencl:{platform_index}.{device_index}",
        device.name.strip(),
        EngineKind.OPENCL,
        f"{device.platform.name.strip()}, {device.driver_version.strip()}",
    )


class OpenClEngine:
    """One OpenCL device. After an EngineError it stays failed: open another one, best in a fresh process."""

    def __init__(
        self, platform: int, device: int, *, hit_capacity: int = HIT_CAPACITY, time_limit: float = 30.0
    ) -> None:
        """Open device number `device` of platform number `platform` and compile the kernels for it.

        `hit_capacity` is the size of the hit buffer, `time_limit` how many seconds a launch may take. Raises
        EngineUnavailable if there is no such device or the kernels do not compile on it.
        """
        name = f"opencl:{platform}.{device}"
        try:
            import pyopencl as cl
        except (ImportError, OSError) as error:
            raise EngineUnavailable(f"{name} needs the package pyopencl, which does not load: {error}") from error
        self._cl = cl
        try:
            chosen = cl.get_platforms()[platform].get_devices()[device]
            self._device = opencl_device_info(platform, device, chosen)
            context = cl.Context([chosen])
            with _BUILD, warnings.catch_warnings():
                warnings.simplefilter("ignore", cl.CompilerWarning)  # drivers remark on successful builds
                program = cl.Program(context, opencl_source()).build()
            self._kernels = {blocks: cl.Kernel(program, entry) for blocks, entry in ENTRY_POINTS.items()}
            self._queue = cl.CommandQueue(context)
            self._found = cl.Buffer(context, cl.mem_flags.READ_WRITE, 4 * (1 + hit_capacity))
            limits = [
                kernel.get_work_group_info(cl.kernel_work_group_info.WORK_GROUP_SIZE, chosen)
                for kernel in self._kernels.values()
            ]
        except IndexError as error:
            raise EngineUnavailable(f"there is no OpenCL device {name} on this machine") from error
        except cl.Error as error:
            raise EngineUnavailable(f"{name} cannot be used: {_first_line(error)}") from error
        self._context = context
        self._group = min(_GROUP_SIZE, *limits)
        self._capacity = hit_capacity
        self._time_limit = time_limit
        self._size = BatchSize(_FIRST_BATCH, MAX_LAUNCH)
        self._failure: str | None = None
        self._warm_up()
        self._size = BatchSize(_FIRST_BATCH, MAX_LAUNCH)

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
        flags = self._cl.mem_flags
        try:
            # Each search has its own parameters, so that an older iterator still searches what it was asked.
            parameters = self._cl.Buffer(
                self._context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=kernel_parameters(blocks, zeros)
            )
        except self._cl.Error as error:
            raise self._failed(f"{self._device.device_id} failed: {_first_line(error)}") from error
        launch = partial(self._launch, kernel, parameters)
        hash_range = partial(self._hash_range, launch)
        return run_batches(hash_range, start, count, self._size, largest_launch(zeros, self._capacity))

    def close(self) -> None:
        """Free the device; a second call does nothing."""
        if self._failure is None:
            self._failure = f"the engine of {self._device.device_id} is closed"
            self._found.release()

    def _warm_up(self) -> None:
        """Launch each kernel, small and large: PoCL compiles both forms only now, which is not a batch's time."""
        try:
            for prefix in (b"one block", bytes(BLOCK_BYTES - 2)):
                for nonces in (1, _FIRST_BATCH):
                    for _ in self.search(NonceSpace(prefix, "", 8), 0, nonces, MAX_DIFFICULTY):
                        pass
        except EngineError as error:
            raise EngineUnavailable(f"{self._device.device_id} cannot be used: {error}") from error

    def _hash_range(self, launch: partial[tuple[int, Sequence[int]]], start: int, count: int) -> tuple[int, ...]:
        self._check_usable()
        try:
            return all_hits(launch, start, count, self._capacity)
        except self._cl.Error as error:
            raise self._failed(f"{self._device.device_id} failed: {_first_line(error)}") from error
        except EngineError as error:
            raise self._failed(str(error)) from error

    def _launch(self, kernel: cl.Kernel, parameters: cl.Buffer, start: int, count: int) -> tuple[int, Sequence[int]]:
        """Hash one stretch; see `hit_buffer.Launch`."""
        cl, queue = self._cl, self._queue
        cl.enqueue_fill_buffer(queue, self._found, np.uint32(0), 0, 4)
        kernel.set_args(parameters, np.uint64(start), np.uint32(count), np.uint32(self._capacity), self._found)
        items = -(-count // self._group) * self._group
        event = cl.enqueue_nd_range_kernel(queue, kernel, (items,), (self._group,))
        queue.flush()
        wait_until(partial(self._is_complete, event), self._time_limit, self._device.device_id)
        # The queue is in order and now empty, so these reads only copy a few bytes and cannot hang on the kernel.
        first = np.empty(1 + min(_FIRST_READ, self._capacity), dtype=np.uint32)
        cl.enqueue_copy(queue, first, self._found)
        found = int(first[0])
        if found > self._capacity:
            return found, []
        if found < len(first):
            return found, first[1 : 1 + found].tolist()
        distances = np.empty(found, dtype=np.uint32)
        cl.enqueue_copy(queue, distances, self._found, src_offset=4)
        return found, distances.tolist()

    def _is_complete(self, event: cl.Event) -> bool:
        status = int(event.command_execution_status)
        if status < 0:
            raise EngineError(f"{self._device.device_id} ended a launch with OpenCL error {status}")
        return status == int(self._cl.command_execution_status.COMPLETE)

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise EngineError(self._failure)

    def _failed(self, why: str) -> EngineError:
        self._failure = why
        return EngineError(why)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
