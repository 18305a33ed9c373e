"""NVIDIA GPUs through CuPy: the kernels are compiled by NVRTC when the engine is opened.

What bounds them is the ALU pipe, with 64 lanes a multiprocessor. `tools/count_sass.py` counts its slots per hash in the
machine code for sm_90, and from that the limit of an H100 SXM (132 multiprocessors at 1.98 GHz)::

    shape T             514 (489, 463 with rotations multiplied)       32.5 (34.2, 36.1) GH/s
    shape S, word 12    781 (756, 730)                                 21.4 (22.1, 22.9) GH/s
    shape S, word 13    763 (739, 713)                                 21.9 (22.6, 23.5) GH/s
    plain, one block    1349                                           12.4 GH/s
    plain, two blocks   2645                                            6.3 GH/s

These are counts, not rates: `make bench` measures on the GPU that is there.

Two launches are queued at any time, on streams of their own, so that the device goes on while the host looks at what a
launch found and while the last blocks of a launch leave multiprocessors idle.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gpu_worker.deadline import wait_until
from gpu_worker.hit_buffer import HIT_CAPACITY, MAX_LAUNCH, all_hits, largest_launch
from gpu_worker.kernel_parameters import blocks_to_hash, digest_masks, kernel_parameters
from gpu_worker.kernel_source import CUDA_LANE_KERNELS, ENTRY_POINTS, cuda_source
from gpu_worker.lanes import LaneProgram, Words, lane_program, lane_stretch
from hashfleet.batches import BatchSize, check_search
from hashfleet.difficulty import MAX_DIFFICULTY, expected_hashes
from hashfleet.engine import Batch, DeviceInfo, EngineKind, Found, Search
from hashfleet.errors import EngineError, EngineUnavailable
from hashfleet.message import MAX_COUNTER_DIGITS, NonceSpace, lay_out
from hashfleet.proof import MAX_NONCE_DIGITS, verify

if TYPE_CHECKING:
    from types import ModuleType

logger = logging.getLogger(__name__)

#: Threads per block: eight warps, the most that the kernels for the two shapes are compiled for.
GROUP_SIZE = 256
#: Tails that one thread tries. A thread first hashes its lane's block and begins the tail's, about two hashes' work:
#: 0.4 % of 500. With more tails the last blocks of a launch would leave multiprocessors idle for longer.
TAILS_PER_THREAD = 500
#: What the kernels multiply by: `Factors` in kernels/multiply_add.h.
_ONE, _UP = 1, 2**30
#: Nonces in the first batch: far below 1 ms on any GPU; it adapts from there.
_FIRST_BATCH = 2**16
#: Hits read back together with their count; more are a second read.
_FIRST_READ = 63
#: Launches queued on the device at a time. Whoever closes a search waits for these at most.
IN_FLIGHT = 2
#: The same for many small searches, of which each has one.
MANY_IN_FLIGHT = 8
#: Tables of shape T kept on the device, 2 MB each: one per message length.
_TABLES_KEPT = 8
#: Zeros that the kernels for the two shapes test: the digest's first word. hashlib tests the rest, of one in 2**32.
_TESTED_ZEROS = 8
#: Options for NVRTC; CuPy adds the architecture of the device.
COMPILE_OPTIONS = ("-std=c++17",)
#: In how many of four rounds a rotation is done by multiplication (kernels/multiply_add.h): what an engine tries when
#: it is opened, to keep the fastest. That depends on the chip, and the count alone does not tell.
MULTIPLIED_OF_FOUR = (0, 2, 4)
#: How long each of these is timed, after as long a time of warming up.
_TRIAL_SECONDS = 0.1

#: (grid, block, the arguments before the hit buffer's capacity and the buffer)
_Call: TypeAlias = "tuple[tuple[int, ...], tuple[int], tuple[Any, ...]]"


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


@dataclass(frozen=True, slots=True)
class _Task:
    """A search, ready to be launched piece by piece."""

    kernel: Any
    #: What this kernel has learnt about the device's speed.
    size: BatchSize
    #: call(start, count): how that stretch is launched.
    call: Callable[[int, int], _Call]
    #: Nonces per lane; batches end where a lane does. 1 for the kernels that know no lanes.
    tails: int
    #: Most nonces per launch.
    most: int
    #: Is what the device reports for that counter a hit?
    confirm: Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class _Slot:
    """What a launch in flight has for itself."""

    stream: Any
    #: On the device: the number of hits, then their distances.
    found: Any
    #: On the host, in page-locked memory, so that the copy needs nobody to wait for it: the first of `found`.
    first: Words


@dataclass(frozen=True, slots=True)
class _Flight:
    """A launch that the device has not answered yet, or whose answer nobody has looked at."""

    slot: _Slot
    start: int
    count: int
    #: Events on the device, recorded before and after.
    began: Any
    ended: Any


class CudaEngine:
    """One NVIDIA GPU. After an EngineError it stays failed: open another one, in a fresh process.

    (A CUDA context that has once reported an error reports it for ever.)
    """

    def __init__(
        self,
        index: int,
        *,
        hit_capacity: int = HIT_CAPACITY,
        time_limit: float = 30.0,
        group_size: int = GROUP_SIZE,
        tails_per_thread: int = TAILS_PER_THREAD,
        in_flight: int = IN_FLIGHT,
        multiplied_of_four: int | None = None,
    ) -> None:
        """Open CUDA device number `index` and compile the kernels for it: seconds the first time, then cached.

        `hit_capacity` is the size of the hit buffer, `time_limit` how many seconds a launch may take. The others are
        for tuning: threads per block (up to GROUP_SIZE, a multiple of 32) and tails per thread of the kernels for the
        two shapes, launches queued at a time, and one of MULTIPLIED_OF_FOUR; None times these and keeps the fastest.

        Raises EngineUnavailable if there is no such device or the kernels do not compile, EngineError if it does not
        answer.
        """
        cupy = import_cupy()
        self._cupy = cupy
        # CUDADriverError, CUDARuntimeError and NVRTCError are RuntimeErrors; CuPy's out of memory is a MemoryError.
        self._errors: tuple[type[Exception], ...] = (RuntimeError, MemoryError, cupy.cuda.compiler.CompileException)
        self._capacity = hit_capacity
        self._time_limit = time_limit
        self._group_size = group_size
        self._tails_per_thread = tails_per_thread
        self._in_flight = in_flight
        names = (*ENTRY_POINTS.values(), *CUDA_LANE_KERNELS)
        self._sizes = {name: BatchSize(_FIRST_BATCH, MAX_LAUNCH) for name in names}
        self._tables: OrderedDict[tuple[str, bytes], Any] = OrderedDict()
        self._slots: list[_Slot] = []
        self._flights: list[_Flight] = []
        self._last_ended: Any = None
        self._failure: str | None = None
        try:
            if not 0 <= index < cupy.cuda.runtime.getDeviceCount():
                raise EngineUnavailable(f"there is no CUDA device cuda:{index} on this machine")
            self._device = cuda_device_info(cupy, index)
            self._gpu = cupy.cuda.Device(index)
            with self._gpu:
                self._uploads = cupy.cuda.Stream(non_blocking=True)
                tried = MULTIPLIED_OF_FOUR if multiplied_of_four is None else (multiplied_of_four,)
                variants = {multiplied: self._compiled(multiplied) for multiplied in tried}
                self._slots = [self._new_slot() for _ in range(in_flight)]
            self._kernels = self._fastest(variants)
        except self._errors as error:
            raise EngineUnavailable(f"cuda:{index} cannot be used: {_first_line(error)}") from error

    @property
    def device(self) -> DeviceInfo:
        """The device that this engine drives."""
        return self._device

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
        """See `hashfleet.engine.HashEngine.search`. InvalidInput for a counter in two pieces that is not shape T."""
        check_search(space, start, count, zeros)
        return self._batches(self._task(space, zeros), start, start + count)

    def search_many(self, searches: Sequence[Search]) -> Iterator[Found]:
        """See `hashfleet.engine.HashEngine.search_many`.

        A search has one short launch on the device at a time, and several searches have one: the device is busy while
        the host looks at answers, and little is hashed behind a hit.
        """
        for search in searches:
            check_search(search.space, search.start, search.count, search.zeros)
        self._check_usable()
        return self._many(searches)

    def close(self) -> None:
        """Free the device, when it has done what it was asked; a second call does nothing."""
        if self._failure is not None:
            return
        self._failure = f"the engine of {self._device.device_id} is closed"
        failures: tuple[type[Exception], ...] = (EngineError, *self._errors)
        try:
            with self._gpu:
                for flight in self._flights:
                    self._wait_for(flight.ended)
                self._flights.clear()
                self._slots.clear()
                self._tables.clear()
                self._last_ended = None
                self._cupy.get_default_memory_pool().free_all_blocks()
        except failures as error:
            # The process that drives a hung device is ended by its parent, and that frees the device too.
            logger.warning("%s could not be freed: %s", self._device.device_id, _first_line(error))

    # --- what is launched

    def _compiled(self, multiplied: int) -> dict[str, Any]:
        options = (*COMPILE_OPTIONS, f"-DMULTIPLIED_OF_FOUR={multiplied}")
        module = self._cupy.RawModule(code=cuda_source(), options=options)
        kernels = {name: module.get_function(name) for name in self._sizes}
        for kernel in kernels.values():
            kernel.compile()  # now, so that what does not compile is found out here
        return kernels

    def _task(self, space: NonceSpace, zeros: int) -> _Task:
        """InvalidInput for a counter in two pieces that is not shape T."""
        self._check_usable()
        program = lane_program(space)
        try:
            # Each search has its own parameters, so that an older iterator still searches what it was asked.
            task = self._plain_task(space, zeros) if program is None else self._lane_task(program, space, zeros)
        except self._errors as error:
            raise self._broken(error) from error
        except EngineError as error:
            raise self._failed(str(error)) from error
        return task

    def _plain_task(self, space: NonceSpace, zeros: int) -> _Task:
        """A thread per nonce, for any space whose counter is in one piece."""
        blocks = space.blocks
        parameters = self._on_device(kernel_parameters(blocks, zeros))

        def call(start: int, count: int) -> _Call:
            return (-(-count // GROUP_SIZE),), (GROUP_SIZE,), (parameters, np.uint64(start), np.uint32(count))

        name = ENTRY_POINTS[blocks_to_hash(blocks)]
        most = largest_launch(zeros, self._capacity)
        return _Task(self._kernels[name], self._sizes[name], call, 1, most, lambda counter: True)

    def _lane_task(self, program: LaneProgram, space: NonceSpace, zeros: int) -> _Task:
        """A thread per lane and piece of its tails, for the two shapes."""
        parameters = self._on_device(program.parameters)
        table = self._table_on_device(program)
        tails = len(program.table)
        tested = min(zeros, _TESTED_ZEROS)
        rest = (digest_masks(tested)[0], _ONE, _UP)
        group, pieces = self._group_size, self._tails_per_thread

        def call(start: int, count: int) -> _Call:
            stretch = lane_stretch(start, count, tails)
            grid = -(-stretch.lanes // group), -(-(stretch.end_tail - stretch.first_tail) // pieces)
            numbers = (stretch.lanes, stretch.skip, stretch.count, stretch.first_tail, stretch.end_tail, pieces, *rest)
            words = [np.uint32(number) for number in numbers]
            return grid, (group,), (parameters, table, np.uint64(stretch.first_lane), *words)

        def confirm(counter: int) -> bool:
            return zeros == tested or verify(space.prefix, space.nonce(counter)).zeros >= zeros

        name, most = program.kernel, largest_launch(tested, self._capacity)
        return _Task(self._kernels[name], self._sizes[name], call, tails, most, confirm)

    def _on_device(self, values: Words) -> Any:
        """A copy on the device, complete when this returns: launches are on other streams and do not wait for it."""
        with self._gpu, self._uploads as stream:
            copy = self._cupy.asarray(values)
            self._wait_for(stream.record())
        return copy

    def _table_on_device(self, program: LaneProgram) -> Any:
        # Tables of one kernel differ in their first row if they differ at all.
        key = (program.kernel, program.table[0].tobytes())
        if key not in self._tables:
            self._tables[key] = self._on_device(program.table)
        self._tables.move_to_end(key)
        while len(self._tables) > _TABLES_KEPT:
            self._tables.popitem(last=False)  # a search under way keeps its own
        return self._tables[key]

    def _new_slot(self) -> _Slot:
        with self._gpu:
            stream = self._cupy.cuda.Stream(non_blocking=True)
            with stream:
                found = self._cupy.zeros(1 + self._capacity, dtype=np.uint32)
            size = 1 + min(_FIRST_READ, self._capacity)
            pinned = self._cupy.cuda.alloc_pinned_memory(size * found.itemsize)
            return _Slot(stream, found, np.frombuffer(pinned, np.uint32, size))

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
                task.size.learn(flight.count, self._seconds(flight))
                yield Batch(flight.start, flight.count, hits)
        finally:
            self._drain(in_flight)

    def _many(self, searches: Sequence[Search]) -> Generator[Found]:
        waiting = deque((index, search, search.start) for index, search in enumerate(searches))
        in_flight: deque[tuple[int, Search, _Task, _Flight]] = deque()
        # Launches that run side by side have no time of their own; many together have.
        nonces: Counter[BatchSize] = Counter()
        seconds: dict[BatchSize, float] = defaultdict(float)
        try:
            while waiting or in_flight:
                while waiting and len(in_flight) < MANY_IN_FLIGHT:
                    index, search, at = waiting.popleft()
                    task = self._task(search.space, search.zeros)
                    count = _next_count_to_hit(task, at, search)
                    in_flight.append((index, search, task, self._launched(task, at, count)))
                index, search, task, flight = in_flight[0]
                hits = self._landed(task, flight)
                in_flight.popleft()
                nonces[task.size] += flight.count
                seconds[task.size] += self._seconds(flight)
                if 2 * nonces[task.size] >= task.size.nonces:
                    task.size.learn(nonces.pop(task.size), seconds.pop(task.size))
                at = flight.start + flight.count
                if hits:
                    yield Found(index, hits[0] - search.start + 1, hits[0])
                    continue
                if at < search.start + search.count:
                    waiting.appendleft((index, search, at))
                yield Found(index, at - search.start, None)
        finally:
            self._drain(deque(flight for _, _, _, flight in in_flight))

    def _launched(self, task: _Task, start: int, count: int) -> _Flight:
        self._check_usable()
        try:
            flight = self._enqueue(task, self._slots.pop() if self._slots else self._new_slot(), start, count)
        except self._errors as error:
            raise self._broken(error) from error
        self._flights.append(flight)
        return flight

    def _enqueue(self, task: _Task, slot: _Slot, start: int, count: int) -> _Flight:
        grid, block, arguments = task.call(start, count)
        # The current device and stream belong to the thread, and each batch may be asked for by another one.
        with self._gpu, slot.stream:
            began = slot.stream.record()
            slot.found.data.memset_async(0, slot.found.itemsize)  # the count; no kernel of CuPy's own to compile
            task.kernel(grid, block, (*arguments, np.uint32(self._capacity), slot.found))
            slot.found[: len(slot.first)].get(out=slot.first, blocking=False)
            return _Flight(slot, start, count, began, slot.stream.record())

    def _landed(self, task: _Task, flight: _Flight) -> tuple[int, ...]:
        """Wait for a launch; its hits, ascending."""
        self._check_usable()
        try:
            first = self._answer(flight)

            def launch(start: int, count: int) -> tuple[int, Sequence[int]]:
                if (start, count) == (flight.start, flight.count):
                    return first
                return self._answer(self._enqueue(task, flight.slot, start, count))

            hits = all_hits(launch, flight.start, flight.count, self._capacity)
        except self._errors as error:
            raise self._broken(error) from error
        except EngineError as error:
            raise self._failed(str(error)) from error
        self._release(flight)
        return tuple(counter for counter in hits if task.confirm(counter))

    def _answer(self, flight: _Flight) -> tuple[int, Sequence[int]]:
        """See `hit_buffer.Launch`."""
        with self._gpu, flight.slot.stream:
            self._wait_for(flight.ended)
            first = flight.slot.first
            found = int(first[0])
            if found > self._capacity:
                return found, []
            if found < len(first):
                return found, first[1 : 1 + found].tolist()
            # The stream is in order and now empty, so this read only copies some bytes and cannot hang.
            return found, flight.slot.found[1 : 1 + found].get().tolist()

    def _wait_for(self, event: Any) -> None:
        wait_until(lambda: bool(event.done), self._time_limit, self._device.device_id)

    def _seconds(self, flight: _Flight) -> float:
        """How long the device was at it: since it began, or since the launch before ended, whichever is later.

        By the device's own clock: the host may have looked late.
        """
        elapsed = self._cupy.cuda.get_elapsed_time
        try:
            milliseconds = float(elapsed(flight.began, flight.ended))
            since = milliseconds if self._last_ended is None else float(elapsed(self._last_ended, flight.ended))
        except self._errors as error:
            raise self._broken(error) from error
        self._last_ended = flight.ended
        # Below 0: another search's launch, later than this one, was looked at before.
        return (min(milliseconds, since) if since > 0 else milliseconds) / 1000

    def _drain(self, in_flight: deque[_Flight]) -> None:
        """Wait until the device has done what nobody wants any more."""
        while in_flight and self._failure is None:
            flight = in_flight.popleft()
            try:
                with self._gpu:
                    self._wait_for(flight.ended)
            except self._errors as error:
                raise self._broken(error) from error
            except EngineError as error:
                raise self._failed(str(error)) from error
            self._release(flight)

    def _release(self, flight: _Flight) -> None:
        self._flights.remove(flight)
        self._slots.append(flight.slot)

    # --- the choice among the variants

    def _fastest(self, variants: dict[int, dict[str, Any]]) -> dict[str, Any]:
        """The variant that hashes shape T fastest on this device. What is faster there is so in shape S too."""
        first = next(iter(variants.values()))
        if len(variants) == 1 or _TRIAL_SECONDS <= 0:
            return first
        rates = {multiplied: self._trial(kernels) for multiplied, kernels in variants.items()}
        best = max(rates, key=rates.__getitem__)
        logger.info(
            "%s hashes fastest with a rotation multiplied in %d of four rounds (%s GH/s)",
            self._device.device_id,
            best,
            ", ".join(f"{multiplied}: {rate / 1e9:.2f}" for multiplied, rate in rates.items()),
        )
        return variants[best]

    def _trial(self, kernels: dict[str, Any]) -> float:
        """Hashes a second."""
        self._kernels = kernels
        space = lay_out(b"", "0", MAX_COUNTER_DIGITS, MAX_NONCE_DIGITS)
        program = lane_program(space)
        assert program is not None  # nothing stands in the way of shape T
        with closing(self._batches(self._lane_task(program, space, MAX_DIFFICULTY), 0, space.capacity)) as batches:
            self._hashed_for(_TRIAL_SECONDS, batches)  # the clocks rise, the batches grow
            nonces, seconds = self._hashed_for(_TRIAL_SECONDS, batches)
        return nonces / seconds

    @staticmethod
    def _hashed_for(seconds: float, batches: Iterator[Batch]) -> tuple[int, float]:
        """Take batches for at least so long; their nonces, and how long it was."""
        began, nonces = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            nonces += next(batches).count
        return nonces, time.monotonic() - began

    # --- failures

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
    # To end where a lane ends, so that no lane is hashed in two launches; unless that would halve a short launch.
    return count if count < 2 * task.tails or at + count == end else count - (at + count) % task.tails


def _next_count_to_hit(task: _Task, at: int, search: Search) -> int:
    """Half the hashes that a hit takes on average, so that a search makes 1.3 times these in all.

    Not less than the device does in about 0.2 ms, which a launch costs anyway, and not more than what leaves all
    launches in flight together at a batch's time.
    """
    least, most = task.size.nonces // 256, min(task.size.nonces // MANY_IN_FLIGHT, task.most)
    wanted = max(1, min(max(expected_hashes(search.zeros) // 2, least), most))
    return min(wanted, search.start + search.count - at)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
