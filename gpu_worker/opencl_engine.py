"""OpenCL devices: NVIDIA, AMD and Intel GPUs, and CPUs through PoCL.

Spaces of shape T and S go to the kernels of `kernels/lane_search.cl`, all others to those of `kernels/sha256.cl`. A
second of one core on PoCL 3.1 with AVX-512 gives 127 million hashes of shape T, 87 of shape S, 6 of any other.

Two launches are queued at any time, on queues of their own, so that the device goes on while the host looks at what a
launch found.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from gpu_worker.deadline import wait_until
from gpu_worker.hit_buffer import HIT_CAPACITY, MAX_LAUNCH, all_hits, largest_launch
from gpu_worker.kernel_parameters import blocks_to_hash, digest_masks, kernel_parameters
from gpu_worker.kernel_source import ENTRY_POINTS, opencl_lane_source, opencl_source
from gpu_worker.lanes import LaneProgram, lane_program, lane_stretch
from hashfleet.batches import BatchSize, check_search, search_each
from hashfleet.difficulty import MAX_DIFFICULTY
from hashfleet.engine import Batch, DeviceInfo, EngineKind, Found, Search
from hashfleet.errors import EngineError, EngineUnavailable
from hashfleet.message import BLOCK_BYTES, NonceSpace
from hashfleet.proof import verify

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
#: The same on a CPU: four items for each vector of lanes, 0.3 ms of shape T each.
_TAILS_PER_VECTOR_ITEM = 2500
#: Vector widths that OpenCL C has and that lane_search.cl can be compiled for.
VECTOR_WIDTHS = (1, 2, 4, 8, 16)
#: Nonces in the first batch: 20 ms on a CPU core by the slowest kernel, under 1 ms on a GPU; it adapts from there.
_FIRST_BATCH = 2**18
#: Hits read back together with their count; more are a second read.
_FIRST_READ = 63
#: Launches queued on the device at a time. Whoever closes a search leaves one of them to end by itself.
IN_FLIGHT = 2
#: Tables of shape T kept on the device, 2 MB each: one per message length.
_TABLES_KEPT = 8
#: Zeros that the kernels for the two shapes test: the digest's first word. hashlib tests the rest, of one in 2**32.
_TESTED_ZEROS = 8
#: One space for each kernel that a device compiles: one block, two blocks, shape T, shape S in both its forms.
_ONE_OF_EACH = (
    NonceSpace(b"one block", "", 8),
    NonceSpace(bytes(BLOCK_BYTES - 2), "", 8),
    NonceSpace(bytes(BLOCK_BYTES), "0" * 56, 12, 48),
    NonceSpace(b"", "0" * 40, 12),
    NonceSpace(b"", "0" * 43, 12),
)

# pyopencl keeps compiled programs in a file cache that is not safe for two threads of one process.
_BUILD = threading.Lock()

#: (grid, group, the arguments before the hit buffer's capacity and the buffer)
_Call: TypeAlias = "tuple[tuple[int, ...], tuple[int, ...], tuple[cl.Buffer | np.generic, ...]]"


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


@dataclass(frozen=True, slots=True)
class _Task:
    """A search, ready to be launched piece by piece."""

    kernel: cl.Kernel
    #: What this kernel has learnt about the device's speed.
    size: BatchSize
    #: call(start, count): how that stretch is launched.
    call: Callable[[int, int], _Call]
    #: Batches end at multiples of this where they can, for a piece of it costs as much as the whole.
    unit: int
    #: Most nonces per launch.
    most: int
    #: Is what the device reports for that counter a hit?
    confirm: Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class _Slot:
    """What a launch in flight has for itself. The queue is in order, so a slot may be used again at once."""

    queue: cl.CommandQueue
    #: On the device: the number of hits, then their distances.
    found: cl.Buffer


@dataclass(frozen=True, slots=True)
class _Flight:
    """A launch that the device has not answered yet, or whose answer nobody has looked at."""

    slot: _Slot
    start: int
    count: int
    event: cl.Event


class OpenClEngine:
    """One OpenCL device. After an EngineError it stays failed: open another one, best in a fresh process."""

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
            self._device = opencl_device_info(platform, device, chosen)
            is_cpu = bool(chosen.type & cl.device_type.CPU)
            self._width = vector_width(is_cpu, chosen.native_vector_width_int) if width is None else width
            self._context = cl.Context([chosen])
            self._kernels = self._compiled()
            limits = {
                name: kernel.get_work_group_info(cl.kernel_work_group_info.WORK_GROUP_SIZE, chosen)
                for name, kernel in self._kernels.items()
            }
        except IndexError as error:
            raise EngineUnavailable(f"there is no OpenCL device {name} on this machine") from error
        except cl.Error as error:
            raise EngineUnavailable(f"{name} cannot be used: {_first_line(error)}") from error
        self._group = min(_GROUP_SIZE, *limits.values())
        # On a CPU a group is what one core takes at a time, and an item is large enough for that.
        lane_group = group_size or (1 if is_cpu else _LANE_GROUP_SIZE)
        self._lane_group = min(lane_group, *limits.values())
        self._tails_per_item = tails_per_item or (_TAILS_PER_VECTOR_ITEM if is_cpu else _TAILS_PER_ITEM)
        self._in_flight = in_flight
        self._capacity = hit_capacity
        self._time_limit = time_limit
        self._sizes = {name: BatchSize(_FIRST_BATCH, MAX_LAUNCH) for name in self._kernels}
        self._tables: OrderedDict[tuple[str, bytes], cl.Buffer] = OrderedDict()
        self._slots: list[_Slot] = []
        self._last: cl.Event | None = None
        self._failure: str | None = None
        self._warm_up()
        self._sizes = {name: BatchSize(_FIRST_BATCH, MAX_LAUNCH) for name in self._kernels}

    @property
    def device(self) -> DeviceInfo:
        """The device that this engine drives."""
        return self._device

    @property
    def width(self) -> int:
        """Nonces that a work item hashes side by side in the kernels for the two shapes."""
        return self._width

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
        """See `hashfleet.engine.HashEngine.search`. InvalidInput for a counter in two pieces that is not shape T."""
        check_search(space, start, count, zeros)
        self._check_usable()
        program = lane_program(space)
        try:
            # Each search has its own parameters, so that an older iterator still searches what it was asked.
            task = self._plain_task(space, zeros) if program is None else self._lane_task(program, space, zeros)
        except self._cl.Error as error:
            raise self._broken(error) from error
        return self._batches(task, start, start + count)

    def search_many(self, searches: Sequence[Search]) -> Iterator[Found]:
        """See `hashfleet.engine.HashEngine.search_many`."""
        return search_each(self, searches)

    def close(self) -> None:
        """Free the device, when it has done what it was asked; a second call does nothing."""
        if self._failure is not None:
            return
        self._failure = f"the engine of {self._device.device_id} is closed"
        failures: tuple[type[Exception], ...] = (EngineError, self._cl.Error)
        try:
            if self._last is not None:
                self._wait_for(self._last)
        except failures as error:
            # The process that drives a hung device is ended by its parent, and that frees the device too.
            logger.warning("%s could not be freed: %s", self._device.device_id, _first_line(error))
        self._last = None
        self._slots.clear()
        self._tables.clear()

    # --- what is launched

    def _compiled(self) -> dict[str, cl.Kernel]:
        cl = self._cl
        with _BUILD, warnings.catch_warnings():
            warnings.simplefilter("ignore", cl.CompilerWarning)  # drivers remark on successful builds
            programs = (
                cl.Program(self._context, opencl_source()).build(),
                cl.Program(self._context, opencl_lane_source()).build([f"-DWIDTH={self._width}"]),
            )
        return {kernel.function_name: kernel for program in programs for kernel in program.all_kernels()}

    def _warm_up(self) -> None:
        """Launch each kernel, small and large: PoCL compiles both forms only now, which is not a batch's time."""
        try:
            for space in _ONE_OF_EACH:
                for nonces in (1, _FIRST_BATCH):
                    for _ in self.search(space, 0, nonces, MAX_DIFFICULTY):
                        pass
        except EngineError as error:
            raise EngineUnavailable(f"{self._device.device_id} cannot be used: {error}") from error

    def _plain_task(self, space: NonceSpace, zeros: int) -> _Task:
        """A work item per nonce, for any space whose counter is in one piece."""
        blocks = space.blocks
        parameters = self._on_device(kernel_parameters(blocks, zeros))
        name = ENTRY_POINTS[blocks_to_hash(blocks)]

        def call(start: int, count: int) -> _Call:
            grid = _whole(count, self._group)
            return (grid,), (self._group,), (parameters, np.uint64(start), np.uint32(count))

        most = largest_launch(zeros, self._capacity)
        return _Task(self._kernels[name], self._sizes[name], call, 1, most, lambda counter: True)

    def _lane_task(self, program: LaneProgram, space: NonceSpace, zeros: int) -> _Task:
        """A work item for some lanes and a piece of their tails, for the two shapes."""
        parameters = self._on_device(program.parameters)
        table = self._table_on_device(program)
        tails = len(program.table)
        group = self._lane_group
        mask = np.uint32(digest_masks(zeros)[0])

        def call(start: int, count: int) -> _Call:
            stretch = lane_stretch(start, count, tails)
            across = _whole(-(-stretch.lanes // self._width), group)
            down = -(-(stretch.end_tail - stretch.first_tail) // self._tails_per_item)
            numbers = (stretch.skip, stretch.count, stretch.first_tail, stretch.end_tail, self._tails_per_item)
            words = [np.uint32(number) for number in numbers]
            return (across, down), (group, 1), (parameters, table, np.uint64(stretch.first_lane), *words, mask)

        def confirm(counter: int) -> bool:
            return zeros <= _TESTED_ZEROS or verify(space.prefix, space.nonce(counter)).zeros >= zeros

        most = largest_launch(min(zeros, _TESTED_ZEROS), self._capacity)
        unit = tails * self._width * group
        return _Task(self._kernels[program.kernel], self._sizes[program.kernel], call, unit, most, confirm)

    def _on_device(self, values: np.ndarray[tuple[int, ...], np.dtype[np.uint32]]) -> cl.Buffer:
        flags = self._cl.mem_flags
        return self._cl.Buffer(self._context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=values)

    def _table_on_device(self, program: LaneProgram) -> cl.Buffer:
        # Tables of one kernel differ in their first row if they differ at all.
        key = (program.kernel, program.table[0].tobytes())
        if key not in self._tables:
            self._tables[key] = self._on_device(program.table)
        self._tables.move_to_end(key)
        while len(self._tables) > _TABLES_KEPT:
            self._tables.popitem(last=False)  # a search under way keeps its own
        return self._tables[key]

    def _new_slot(self) -> _Slot:
        cl = self._cl
        queue = cl.CommandQueue(self._context, properties=cl.command_queue_properties.PROFILING_ENABLE)
        return _Slot(queue, cl.Buffer(self._context, cl.mem_flags.READ_WRITE, 4 * (1 + self._capacity)))

    # --- the search

    def _batches(self, task: _Task, start: int, end: int) -> Generator[Batch]:
        at = start
        in_flight: deque[_Flight] = deque()
        try:
            while at < end or in_flight:
                while at < end and len(in_flight) < self._in_flight:
                    count = _next_count(task, at, end)
                    in_flight.append(self._launched(task, at, count))
                    at += count
                hits = self._landed(task, in_flight[0])
                flight = in_flight.popleft()
                self._slots.append(flight.slot)
                yield Batch(flight.start, flight.count, hits)
        finally:
            self._slots.extend(flight.slot for flight in in_flight)

    def _launched(self, task: _Task, start: int, count: int) -> _Flight:
        self._check_usable()
        try:
            return self._enqueue(task, self._slots.pop() if self._slots else self._new_slot(), start, count)
        except self._cl.Error as error:
            raise self._broken(error) from error

    def _enqueue(self, task: _Task, slot: _Slot, start: int, count: int) -> _Flight:
        cl = self._cl
        grid, group, arguments = task.call(start, count)
        cl.enqueue_fill_buffer(slot.queue, slot.found, np.uint32(0), 0, 4)
        task.kernel.set_args(*arguments, np.uint32(self._capacity), slot.found)
        # One after the other, though on two queues: then a launch's time is its own.
        before = [] if self._last is None else [self._last]
        self._last = cl.enqueue_nd_range_kernel(slot.queue, task.kernel, grid, group, wait_for=before)
        slot.queue.flush()
        return _Flight(slot, start, count, self._last)

    def _landed(self, task: _Task, flight: _Flight) -> tuple[int, ...]:
        """Wait for a launch; its hits, ascending."""
        self._check_usable()
        try:
            first = self._answer(flight)
            # By the device's own clock: the host may have looked late.
            task.size.learn(flight.count, (flight.event.profile.end - flight.event.profile.start) * 1e-9)

            def launch(start: int, count: int) -> tuple[int, Sequence[int]]:
                if (start, count) == (flight.start, flight.count):
                    return first
                return self._answer(self._enqueue(task, flight.slot, start, count))

            hits = all_hits(launch, flight.start, flight.count, self._capacity)
        except self._cl.Error as error:
            raise self._broken(error) from error
        except EngineError as error:
            raise self._failed(str(error)) from error
        return tuple(counter for counter in hits if task.confirm(counter))

    def _answer(self, flight: _Flight) -> tuple[int, Sequence[int]]:
        """See `hit_buffer.Launch`."""
        self._wait_for(flight.event)
        # The queue is in order and now empty, so these reads only copy a few bytes and cannot hang on the kernel.
        cl, slot = self._cl, flight.slot
        first = np.empty(1 + min(_FIRST_READ, self._capacity), dtype=np.uint32)
        cl.enqueue_copy(slot.queue, first, slot.found)
        found = int(first[0])
        if found > self._capacity:
            return found, []
        if found < len(first):
            return found, first[1 : 1 + found].tolist()
        distances = np.empty(found, dtype=np.uint32)
        cl.enqueue_copy(slot.queue, distances, slot.found, src_offset=4)
        return found, distances.tolist()

    def _wait_for(self, event: cl.Event) -> None:
        wait_until(partial(self._is_complete, event), self._time_limit, self._device.device_id)

    def _is_complete(self, event: cl.Event) -> bool:
        status = int(event.command_execution_status)
        if status < 0:
            raise EngineError(f"{self._device.device_id} ended a launch with OpenCL error {status}")
        return status == int(self._cl.command_execution_status.COMPLETE)

    # --- failure

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise EngineError(self._failure)

    def _broken(self, error: Exception) -> EngineError:
        return self._failed(f"{self._device.device_id} failed: {_first_line(error)}")

    def _failed(self, why: str) -> EngineError:
        self._failure = why
        return EngineError(why)


def _next_count(task: _Task, at: int, end: int) -> int:
    count = min(task.size.nonces, task.most, end - at)
    # Not at the cost of halving a short launch, and not at the range's end.
    return count if count < 2 * task.unit or at + count == end else count - (at + count) % task.unit


def _whole(items: int, group: int) -> int:
    """`items` rounded up to whole groups."""
    return -(-items // group) * group


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
