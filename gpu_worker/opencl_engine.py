"""OpenCL devices: NVIDIA, AMD and Intel GPUs, and CPUs through PoCL.

Spaces of shape T and S go to the kernels of `kernels/lane_search.cl`, all others to those of `kernels/sha256.cl`. A
second of one core on PoCL 3.1 with AVX-512 gives 127 million hashes of shape T, 87 of shape S, 6 of any other.

Launches are queued on queues of their own, but wait for each other. What is launched is `gpu_worker.gpu_engine`'s.
"""

from __future__ import annotations

import logging
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpu_worker.gpu_engine import FIRST_READ, GpuEngine, Launch, Threads, first_line
from gpu_worker.hit_buffer import HIT_CAPACITY
from gpu_worker.kernel_source import MULTIPLY_ADD, opencl_lane_source, opencl_source
from gpu_worker.lanes import Words
from hashfleet.difficulty import MAX_DIFFICULTY
from hashfleet.engine import DeviceInfo, EngineKind
from hashfleet.errors import EngineError, EngineUnavailable
from hashfleet.message import BLOCK_BYTES, NonceSpace

if TYPE_CHECKING:
    import pyopencl as cl

logger = logging.getLogger(__name__)

#: Work items per group: a multiple of every GPU's subgroup (8 to 64), and enough of them to hide latencies.
_GROUP_SIZE = 256
#: The same for the kernels of the two shapes, whose items take thousands of times longer: smaller groups leave less of
#: the device idle when a launch ends.
_LANE_GROUP_SIZE = 64
#: Tails that one work item tries on a GPU. Before them it does about two hashes' work for its lanes: 0.4 % of 500.
_TAILS_PER_ITEM = 500
#: The same where a launch holds small searches, of which a few hundred lanes should fill a device.
_FEW_TAILS_PER_ITEM = 64
#: The same on a CPU: four items for each vector of lanes, 0.3 ms of shape T each.
_TAILS_PER_VECTOR_ITEM = 2500
#: Vector widths that OpenCL C has and that lane_search.cl can be compiled for.
VECTOR_WIDTHS = (1, 2, 4, 8, 16)
#: Nonces in the first batch: 20 ms on a CPU core by the slowest kernel, under 1 ms on a GPU; it adapts from there.
_FIRST_BATCH = 2**18
#: Launches queued on the device at a time. Whoever closes a search waits for these at most.
IN_FLIGHT = 2
#: One space for each kernel that a device compiles: one block, two blocks, shape T, shape S in both its forms.
_ONE_OF_EACH = (
    NonceSpace(b"one block", "", 8),
    NonceSpace(bytes(BLOCK_BYTES - 2), "", 8),
    NonceSpace(bytes(BLOCK_BYTES), "0" * 56, 12, 48),
    NonceSpace(b"", "0" * 40, 12),
    NonceSpace(b"", "0" * 43, 12),
)

#: Its number as a maker of PCI devices, which OpenCL gives as the vendor of a device.
_NVIDIA = 0x10DE

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


def vector_width(is_cpu: bool, native_width: int) -> int:
    """Nonces that one work item should hash side by side on a device with vectors of `native_width` 32-bit words.

    A GPU runs neighbouring work items as one vector, so each does best with one nonce. PoCL would do the same on a
    CPU, but not with a loop that may report a hit: there the kernel itself is written for the whole vector.

    >>> vector_width(True, 16), vector_width(True, 6), vector_width(False, 4)
    (16, 4, 1)
    """
    return max(width for width in VECTOR_WIDTHS if width <= max(1, native_width)) if is_cpu else 1


def lane_options(vendor_id: int, width: int) -> tuple[str, ...]:
    """Build options worth a try for the kernels of the two shapes, the best first; they may fail to compile.

    `vendor_id` is the device's, by PCI. Unmeasured, for want of an NVIDIA card; kernels/lane_search.cl gives the count.

    >>> lane_options(0x10DE, 1)
    ('-DMULTIPLY_ADD=asm', '-DMULTIPLY_ADD=__asm__')
    >>> lane_options(0x1002, 1), lane_options(0x10DE, 4)
    ((), ())
    """
    return MULTIPLY_ADD if vendor_id == _NVIDIA and width == 1 else ()


@dataclass(frozen=True, slots=True)
class _Slot:
    """What a launch in flight has for itself. The queue is in order, so a slot may be used again at once."""

    queue: cl.CommandQueue
    #: On the device: the number of hits, then their distances.
    found: cl.Buffer


class OpenClEngine(GpuEngine):
    """One OpenCL device."""

    def __init__(
        self,
        platform: int,
        device: int,
        *,
        hit_capacity: int = HIT_CAPACITY,
        time_limit: float = 30.0,
        width: int | None = None,
        group_size: int | None = None,
        tails_per_item: int | None = None,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        """Open device number `device` of platform number `platform` and compile the kernels for it.

        `hit_capacity` is the size of the hit buffer, `time_limit` how many seconds a launch may take. The others are
        for tuning the kernels for the two shapes: vector width (one of VECTOR_WIDTHS), items per group and tails per
        item, None for what suits this kind of device; and launches queued at a time. Raises EngineUnavailable if there
        is no such device or the kernels do not compile on it.
        """
        name = f"opencl:{platform}.{device}"
        try:
            import pyopencl as cl
        except (ImportError, OSError) as error:
            raise EngineUnavailable(f"{name} needs the package pyopencl, which does not load: {error}") from error
        self._cl = cl
        try:
            chosen = cl.get_platforms()[platform].get_devices()[device]
            is_cpu = bool(chosen.type & cl.device_type.CPU)
            self._width = vector_width(is_cpu, chosen.native_vector_width_int) if width is None else width
            self._context = cl.Context([chosen])
            self._kernels = self._compiled(lane_options(chosen.vendor_id, self._width))
            limits = [
                kernel.get_work_group_info(cl.kernel_work_group_info.WORK_GROUP_SIZE, chosen)
                for kernel in self._kernels.values()
            ]
        except IndexError as error:
            raise EngineUnavailable(f"there is no OpenCL device {name} on this machine") from error
        except cl.Error as error:
            raise EngineUnavailable(f"{name} cannot be used: {first_line(error)}") from error
        tails = tails_per_item or (_TAILS_PER_VECTOR_ITEM if is_cpu else _TAILS_PER_ITEM)
        # On a CPU a group is what one core takes at a time, and an item is large enough for that.
        lane_group = group_size or (1 if is_cpu else _LANE_GROUP_SIZE)
        threads = Threads(
            group=min(_GROUP_SIZE, *limits),
            lane_group=min(lane_group, *limits),
            width=self._width,
            tails=tails,
            few_tails=tails if is_cpu else _FEW_TAILS_PER_ITEM,
            factors=(1,),
        )
        super().__init__(
            opencl_device_info(platform, device, chosen),
            (cl.Error,),
            threads,
            first_batch=_FIRST_BATCH,
            hit_capacity=hit_capacity,
            time_limit=time_limit,
            in_flight=in_flight,
        )
        self._last: cl.Event | None = None
        self._warm_up()
        self._forget_speed()

    @property
    def width(self) -> int:
        """Nonces that a work item hashes side by side in the kernels for the two shapes."""
        return self._width

    def _compiled(self, lane_options: tuple[str, ...]) -> dict[str, cl.Kernel]:
        cl = self._cl
        with _BUILD, warnings.catch_warnings():
            warnings.simplefilter("ignore", cl.CompilerWarning)  # drivers remark on successful builds
            programs = cl.Program(self._context, opencl_source()).build(), self._compiled_lanes(lane_options)
        return {kernel.function_name: kernel for program in programs for kernel in program.all_kernels()}

    def _compiled_lanes(self, options: tuple[str, ...]) -> cl.Program:
        """With the first of these options that the driver's compiler takes, or with none of them."""
        for option in options:
            try:
                return self._built(option)
            except self._cl.Error as error:
                logger.info("the OpenCL kernels do not compile with %s: %s", option, first_line(error))
        return self._built()

    def _built(self, *options: str) -> cl.Program:
        program = self._cl.Program(self._context, opencl_lane_source())
        program.build([f"-DWIDTH={self._width}", *options])
        return program

    def _warm_up(self) -> None:
        """Launch each kernel, small and large: PoCL compiles both forms only now, which is not a batch's time."""
        try:
            for space in _ONE_OF_EACH:
                for nonces in (1, _FIRST_BATCH):
                    for _ in self.search(space, 0, nonces, MAX_DIFFICULTY):
                        pass
        except EngineError as error:
            raise EngineUnavailable(f"{self._device.device_id} cannot be used: {error}") from error

    # --- see GpuEngine

    def _upload(self, values: Words) -> cl.Buffer:
        flags = self._cl.mem_flags
        return self._cl.Buffer(self._context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=values)

    def _new_slot(self) -> _Slot:
        cl = self._cl
        queue = cl.CommandQueue(self._context, properties=cl.command_queue_properties.PROFILING_ENABLE)
        return _Slot(queue, cl.Buffer(self._context, cl.mem_flags.READ_WRITE, 4 * (1 + self._capacity)))

    def _enqueue(self, slot: _Slot, launch: Launch) -> cl.Event:
        cl, kernel = self._cl, self._kernels[launch.kernel]
        cl.enqueue_fill_buffer(slot.queue, slot.found, np.uint32(0), 0, 4)
        kernel.set_args(*launch.arguments, np.uint32(self._capacity), slot.found)
        # One after the other, though on queues of their own: then a launch's time is its own.
        before = [] if self._last is None else [self._last]
        grid, group = (launch.groups[0] * launch.group, launch.groups[1]), (launch.group, 1)
        self._last = cl.enqueue_nd_range_kernel(slot.queue, kernel, grid, group, wait_for=before)
        slot.queue.flush()
        return self._last

    def _is_complete(self, event: cl.Event) -> bool:
        status = int(event.command_execution_status)
        if status < 0:
            raise EngineError(f"{self._device.device_id} ended a launch with OpenCL error {status}")
        return status == int(self._cl.command_execution_status.COMPLETE)

    def _first_found(self, slot: _Slot) -> Words:
        return self._read(slot, np.empty(1 + min(FIRST_READ, self._capacity), np.uint32), 0)

    def _all_found(self, slot: _Slot, found: int) -> Words:
        return self._read(slot, np.empty(found, np.uint32), 4)

    def _read(self, slot: _Slot, words: Words, offset: int) -> Words:
        self._cl.enqueue_copy(slot.queue, words, slot.found, src_offset=offset)
        return words

    def _seconds(self, event: cl.Event) -> float:
        return float(event.profile.end - event.profile.start) * 1e-9

    def _free(self) -> None:
        self._last = None
