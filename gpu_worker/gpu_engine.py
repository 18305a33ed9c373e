"""What CUDA and OpenCL have in common: how a search becomes launches, and how their answers become hits.

Spaces of shape T and S go to the kernels whose threads own lanes, all others to those that take a nonce each. Several
launches are queued at any time, so that the device goes on while the host looks at what a launch found::

    search         | launch | launch |            in order; each takes BATCH_SECONDS / launches in flight
    search_many    | lanes of many searches |     one launch hashes a piece of each; those without a hit come again

Each rule stands here once: batches and their size, the hit buffer that runs over, time limits, what a closed search
waits for, and that a failed engine stays failed. `GpuEngine` leaves to a back end only what a driver has a name for.
"""

from __future__ import annotations

import dataclasses
import logging
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from gpu_worker.deadline import wait_until
from gpu_worker.hit_buffer import MAX_LAUNCH, all_hits, largest_launch
from gpu_worker.kernel_parameters import blocks_to_hash, kernel_parameters
from gpu_worker.kernel_source import ENTRY_POINTS, LANE_KERNELS
from gpu_worker.lanes import LaneProgram, Words, lane_columns, lane_program, lane_stretch
from gpu_worker.small_searches import MOST_COLUMNS, Piece, Small, Waiting, told_apart
from hashfleet.batches import BATCH_SECONDS, BatchSize, check_search, search_each
from hashfleet.difficulty import expected_hashes
from hashfleet.engine import Batch, DeviceInfo, Found, Search
from hashfleet.errors import EngineError
from hashfleet.message import NonceSpace

logger = logging.getLogger(__name__)

#: Hits read back together with their count; more are a second read.
FIRST_READ = 63
#: Tables of shape T kept on the device, 2 MB each: one per message length.
_TABLES_KEPT = 8
#: A small search is given half the hashes that a hit takes on average at a time, so that it makes 1.3 times these in
#: all; but as many as a device does while the host sees to one search in one launch (20 us, a 1,250th of a launch), and
#: at most four times those of a hit, with which 98 of 100 searches end.
_HOST_SHARE, _EXPECTATIONS = 1_250, 4
#: Launches among which the small searches are divided have at least so many of them: a launch costs the host 1 ms.
_FEWEST_TOGETHER = 64

#: What a driver gives: a buffer, an event.
Handle: TypeAlias = Any
#: What a kernel is given: buffers and typed numbers.
Argument: TypeAlias = "Handle | np.uint32 | np.uint64"


@dataclass(frozen=True, slots=True)
class Threads:
    """How the kernels are spread over a device's threads (work items in OpenCL)."""

    #: Threads per group (block) of the kernels that take a nonce each.
    group: int
    #: The same of the kernels whose threads own lanes.
    lane_group: int
    #: Lanes that one thread hashes side by side.
    width: int
    #: Tails that one thread tries.
    tails: int
    #: The same where a launch holds small searches: less, where it takes more threads to fill the device.
    few_tails: int
    #: What the kernels multiply by, behind their other numbers.
    factors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch of a kernel, but for the hit buffer."""

    kernel: str
    #: Groups, in two dimensions.
    groups: tuple[int, int]
    #: Threads per group.
    group: int
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class _Task:
    """A search, ready to be launched piece by piece."""

    #: What its kernel has learnt about the device's speed.
    size: BatchSize
    #: launch(start, count): how the hits of that stretch are asked for.
    launch: Callable[[int, int], Launch]
    #: Batches end at multiples of the first of these that is small for them: whole groups of threads, whole threads.
    units: tuple[int, ...]
    #: Most nonces per launch.
    most: int
    #: Is what the device reports for that counter a hit?
    confirm: Callable[[int], bool]

    def next_count(self, at: int, end: int) -> int:
        """Nonces in the batch that begins there."""
        count = min(self.size.nonces, self.most, end - at)
        if at + count < end:
            for unit in self.units:
                if count >= 2 * unit:  # not at the cost of halving a short launch
                    return count - (at + count) % unit
        return count


@dataclass(frozen=True, slots=True)
class Flight:
    """A launch that the device has not answered yet, or whose answer nobody has looked at."""

    slot: Handle
    #: By which the back end knows when the launch has ended, and how long it took.
    event: Handle
    start: int
    count: int


class GpuEngine(ABC):
    """A `HashEngine` of one GPU. After an EngineError it stays failed: open another one, best in a fresh process."""

    def __init__(
        self,
        device: DeviceInfo,
        errors: tuple[type[Exception], ...],
        threads: Threads,
        *,
        first_batch: int,
        hit_capacity: int,
        time_limit: float,
        in_flight: int,
    ) -> None:
        """`errors` are what the driver's functions raise, `first_batch` is the nonces in the first launch."""
        self._device = device
        self._errors = errors
        self._threads = threads
        self._first_batch = first_batch
        self._capacity = hit_capacity
        self._time_limit = time_limit
        self._in_flight = in_flight
        self._sizes: dict[str, BatchSize] = {}
        self._forget_speed()
        self._tables: OrderedDict[tuple[str, bytes], Handle] = OrderedDict()
        self._slots: list[Handle] = []
        self._flights: list[Flight] = []
        self._failure: str | None = None

    # --- what a back end does

    @abstractmethod
    def _upload(self, values: Words) -> Handle:
        """A copy on the device, complete before any later launch reads it."""

    @abstractmethod
    def _new_slot(self) -> Handle:
        """What a launch in flight has for itself: a queue of its own, in order, and a hit buffer."""

    @abstractmethod
    def _enqueue(self, slot: Handle, launch: Launch) -> Handle:
        """Queue a launch, behind a hit buffer set to 0 and with that as its last argument; its event."""

    @abstractmethod
    def _is_complete(self, event: Handle) -> bool:
        """Has the launch ended? Raises EngineError if it ended in failure."""

    @abstractmethod
    def _first_found(self, slot: Handle) -> Words:
        """The hit buffer's first 1 + FIRST_READ words, as far as there are so many, of a launch that has ended."""

    @abstractmethod
    def _all_found(self, slot: Handle, found: int) -> Words:
        """The `found` words of the hit buffer behind the first, of a launch that has ended."""

    @abstractmethod
    def _seconds(self, event: Handle) -> float:
        """How long the device was at a launch that has ended, by its own clock: the host may have looked late."""

    @abstractmethod
    def _free(self) -> None:
        """Let go of what the back end holds on the device."""

    # --- the seam

    @property
    def device(self) -> DeviceInfo:
        """The device that this engine drives."""
        return self._device

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
        """See `hashfleet.engine.HashEngine.search`. InvalidInput for a counter in two pieces that is not shape T."""
        check_search(space, start, count, zeros)
        return self._batches(self._task(space, zeros), start, start + count)

    def search_many(self, searches: Sequence[Search]) -> Iterator[Found]:
        """See `hashfleet.engine.HashEngine.search_many`: pieces of many searches share a launch."""
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
            for flight in self._flights:
                self._wait_for(flight.event)
            self._flights.clear()
            self._slots.clear()
            self._tables.clear()
            self._free()
        except failures as error:
            # The process that drives a hung device is ended by its parent, and that frees the device too.
            logger.warning("%s could not be freed: %s", self._device.device_id, first_line(error))

    # --- what is launched

    def _forget_speed(self) -> None:
        """Start from the first batch's size again: two launches in flight take the time of a batch together."""
        seconds = BATCH_SECONDS / self._in_flight
        names = (*ENTRY_POINTS.values(), *LANE_KERNELS)
        self._sizes = {name: BatchSize(self._first_batch, MAX_LAUNCH, seconds) for name in names}

    def _task(self, space: NonceSpace, zeros: int) -> _Task:
        """InvalidInput for a counter in two pieces that is not shape T."""
        program = lane_program(space, zeros)
        # Each search has its own parameters, so that an older iterator still searches what it was asked.
        with self._guarded():
            return self._plain_task(space, zeros) if program is None else self._lane_task(program, space, zeros)

    def _plain_task(self, space: NonceSpace, zeros: int) -> _Task:
        """A thread per nonce, for any space whose counter is in one piece."""
        blocks = space.blocks
        parameters = self._upload(kernel_parameters(blocks, zeros))
        name, group = ENTRY_POINTS[blocks_to_hash(blocks)], self._threads.group

        def launch(start: int, count: int) -> Launch:
            return Launch(name, (-(-count // group), 1), group, (parameters, np.uint64(start), np.uint32(count)))

        return _Task(self._sizes[name], launch, (), largest_launch(zeros, self._capacity), lambda counter: True)

    def _lane_task(self, program: LaneProgram, space: NonceSpace, zeros: int) -> _Task:
        """A thread for some lanes and a piece of their tails, for the two shapes."""
        parameters, table = self._upload(program.parameters), self._table(program)
        tails, threads = len(program.table), self._threads

        def launch(start: int, count: int) -> Launch:
            stretch = lane_stretch(start, count, tails)
            return self._lane_launch(
                program.kernel, (parameters, np.uint32(0), table, np.uint64(stretch.first_lane)), stretch.lanes,
                stretch.skip, count, range(stretch.first_tail, stretch.end_tail), threads.tails,
            )  # fmt: skip

        units = tails * threads.width * threads.lane_group, tails * threads.width
        most = largest_launch(program.tested_zeros, self._capacity)
        return _Task(
            self._sizes[program.kernel], launch, units, most, lambda counter: program.is_hit(space, counter, zeros)
        )

    def _lane_launch(
        self, kernel: str, whose: tuple[Argument, ...], lanes: int, skip: int, count: int, tails: range, per_thread: int
    ) -> Launch:
        threads = self._threads
        groups = -(-lanes // (threads.width * threads.lane_group)), -(-len(tails) // per_thread)
        numbers = (lanes, skip, count, tails.start, tails.stop, per_thread, *threads.factors)
        return Launch(kernel, groups, threads.lane_group, (*whose, *(np.uint32(number) for number in numbers)))

    def _table(self, program: LaneProgram) -> Handle:
        key = program.table_key
        if key not in self._tables:
            self._tables[key] = self._upload(program.table)
        self._tables.move_to_end(key)
        while len(self._tables) > _TABLES_KEPT:
            self._tables.popitem(last=False)  # a search under way keeps its own
        return self._tables[key]

    # --- a search

    def _batches(self, task: _Task, start: int, end: int) -> Generator[Batch]:
        at = start
        in_flight: deque[Flight] = deque()
        try:
            while at < end or in_flight:
                while at < end and len(in_flight) < self._in_flight:
                    count = task.next_count(at, end)
                    in_flight.append(self._launched(task, at, count))
                    at += count
                hits = self._landed(task, in_flight[0])
                flight = in_flight.popleft()
                task.size.learn(flight.count, self._timed(flight))
                yield Batch(flight.start, flight.count, tuple(hit for hit in hits if task.confirm(hit)))
        finally:
            self._drain(in_flight)

    def _launched(self, task: _Task, start: int, count: int) -> Flight:
        with self._guarded():
            slot = self._slots.pop() if self._slots else self._new_slot()
            flight = Flight(slot, self._enqueue(slot, task.launch(start, count)), start, count)
        self._flights.append(flight)
        return flight

    def _landed(self, task: _Task, flight: Flight) -> tuple[int, ...]:
        """Wait for a launch; what it found, ascending."""
        with self._guarded():
            first = self._answer(flight.slot, flight.event)

            def launch(start: int, count: int) -> tuple[int, Sequence[int]]:
                if (start, count) == (flight.start, flight.count):
                    return first
                return self._answer(flight.slot, self._enqueue(flight.slot, task.launch(start, count)))

            hits = all_hits(launch, flight.start, flight.count, self._capacity)
        self._release(flight)
        return hits

    def _answer(self, slot: Handle, event: Handle) -> tuple[int, Sequence[int]]:
        """See `hit_buffer.Launch`."""
        self._wait_for(event)
        # The queue is in order and now empty, so what is read only copies some bytes and cannot hang.
        first = self._first_found(slot)
        found = int(first[0])
        if found > self._capacity:
            return found, []
        return found, (first[1 : 1 + found] if found < len(first) else self._all_found(slot, found)).tolist()

    def _timed(self, flight: Flight) -> float:
        with self._guarded():
            return self._seconds(flight.event)

    def _wait_for(self, event: Handle) -> None:
        wait_until(lambda: self._is_complete(event), self._time_limit, self._device.device_id)

    def _drain(self, in_flight: deque[Flight]) -> None:
        """Wait until the device has done what nobody wants any more: it still reads that search's parameters."""
        while in_flight and self._failure is None:
            flight = in_flight.popleft()
            with self._guarded():
                self._wait_for(flight.event)
            self._release(flight)

    def _release(self, flight: Flight) -> None:
        self._flights.remove(flight)
        self._slots.append(flight.slot)

    # --- many searches

    def _many(self, searches: Sequence[Search]) -> Generator[Found]:
        waiting = Waiting()
        most = max(_FEWEST_TOGETHER, -(-len(searches) // self._in_flight))
        alone: list[tuple[int, Search]] = []
        # The same for all searches of a kernel and difficulty as long as this lasts, so that they stay together.
        sizes: dict[tuple[str, int], int] = {}
        for index, search in enumerate(searches):
            program = lane_program(search.space, search.zeros)
            if program is not None:
                kind = program.kernel, search.zeros
                if kind not in sizes:
                    sizes[kind] = self._piece_size(program, search.zeros)
                if sizes[kind]:
                    waiting.add(Small(index, search, program, sizes[kind], search.start))
                    continue
            alone.append((index, search))
        in_flight: deque[tuple[_Task, list[Piece], Flight]] = deque()
        try:
            while waiting or in_flight:
                while waiting and len(in_flight) < self._in_flight:
                    pieces = waiting.take(most, self._sizes[waiting.next_kernel()].nonces, self._capacity / 2)
                    task, nonces = self._together_task(pieces)
                    in_flight.append((task, pieces, self._launched(task, 0, nonces)))
                task, pieces, flight = in_flight[0]
                hits = self._landed(task, flight)
                in_flight.popleft()
                task.size.learn(sum(piece.hashes for piece in pieces), self._timed(flight))
                for small, found in told_apart(pieces, hits):
                    if found.hit is None and small.at < small.end:
                        waiting.add(small)
                    yield found
        finally:
            self._drain(deque(flight for _, _, flight in in_flight))
        for index, search in alone:
            for found in search_each(self, [search]):
                yield dataclasses.replace(found, index=index)

    def _piece_size(self, program: LaneProgram, zeros: int) -> int:
        """Nonces of a search in one launch; 0 if that is too much to share one."""
        full = max(self._sizes[program.kernel].nonces, self._first_batch)
        expected = expected_hashes(zeros)
        size = min(max(expected // 2, full // _HOST_SHARE), _EXPECTATIONS * expected)
        return size if size <= min(full // 4, MOST_COLUMNS * len(program.table)) else 0

    def _together_task(self, pieces: Sequence[Piece]) -> tuple[_Task, int]:
        """The launch of these pieces, whose nonces are counted lane after lane; and how many there are."""
        program = pieces[0].small.program
        columns = lane_columns(
            [(piece.small.program, piece.first_lane, piece.lanes) for piece in pieces], self._threads.width
        )
        with self._guarded():
            parameters, table = self._upload(columns), self._table(program)
        lanes = sum(piece.lanes for piece in pieces)

        def launch(start: int, count: int) -> Launch:
            return self._lane_launch(
                program.kernel, (parameters, np.uint32(columns.shape[1]), table, np.uint64(0)), lanes,
                start, count, range(pieces[0].first_tail, pieces[0].end_tail), self._threads.few_tails,
            )  # fmt: skip

        nonces = lanes * len(program.table)
        return _Task(self._sizes[program.kernel], launch, (), nonces, lambda counter: True), nonces

    # --- failures

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise EngineError(self._failure)

    @contextmanager
    def _guarded(self) -> Generator[None]:
        """Whatever the device does wrong in here is an EngineError, and the engine has failed for good."""
        self._check_usable()
        try:
            yield
        except self._errors as error:
            self._failure = f"{self._device.device_id} failed: {first_line(error)}"
            raise EngineError(self._failure) from error
        except EngineError as error:
            self._failure = str(error)
            raise


def first_line(error: Exception) -> str:
    """What a driver says, without its explanations."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
