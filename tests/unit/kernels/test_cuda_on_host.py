"""What the CUDA kernels and `CudaEngine` compute, on a machine without a GPU.

The kernel text is compiled as host C++ behind a few definitions, and a CuPy that knows only what the engine uses
runs it thread by thread. So the arithmetic, the parameters and the engine's logic are really executed; what is not
is NVIDIA's driver: the contract suite does that where there is a GPU (marker `gpu`).
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import shutil
import subprocess
import sys
import time
import types
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_worker import cuda_engine, gpu_engine, lanes
from gpu_worker.cuda_engine import IN_FLIGHT, MULTIPLIED_OF_FOUR, CudaEngine
from gpu_worker.discovery import find_devices, open_engine
from gpu_worker.kernel_source import ENTRY_POINTS, LANE_KERNELS, cuda_source
from gpu_worker.small_searches import Piece
from hashfleet.engine import EngineKind, Found, Search
from hashfleet.errors import EngineError, EngineUnavailable, InvalidInput
from hashfleet.message import NonceSpace, lay_out
from hashfleet.self_test import self_test

SHIM = """
#define __global__
#define __device__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(threads)
struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
static struct { unsigned x, y; } blockIdx, blockDim, threadIdx;
static unsigned atomicAdd(unsigned *at, unsigned n) { unsigned old = *at; *at += n; return old; }
static unsigned min(unsigned x, unsigned y) { return x < y ? x : y; }
"""
DRIVER = """
#define FOR_EACH_THREAD(grid_x, grid_y, block)                            \\
    blockDim.x = block;                                                   \\
    for (blockIdx.y = 0; blockIdx.y < grid_y; blockIdx.y++)               \\
        for (blockIdx.x = 0; blockIdx.x < grid_x; blockIdx.x++)           \\
            for (threadIdx.x = 0; threadIdx.x < block; threadIdx.x++)
#define RUN(entry)                                                                                                 \\
    extern "C" void run_##entry(unsigned grid_x, unsigned grid_y, unsigned block, const unsigned *parameters,      \\
                                word64 start, unsigned count, unsigned capacity, unsigned *found)                  \\
    {                                                                                                              \\
        FOR_EACH_THREAD(grid_x, grid_y, block)                                                                     \\
            entry(parameters, start, count, capacity, found);                                                      \\
    }
#define RUN_LANES(entry, row)                                                                                      \\
    extern "C" void run_##entry(unsigned grid_x, unsigned grid_y, unsigned block, const unsigned *parameters,      \\
                                unsigned columns, const row *table, word64 first, unsigned lanes, unsigned skip,   \\
                                unsigned count, unsigned first_tail, unsigned end_tail, unsigned tails_per_thread, \\
                                unsigned one, unsigned up, unsigned capacity, unsigned *found)                     \\
    {                                                                                                              \\
        FOR_EACH_THREAD(grid_x, grid_y, block)                                                                     \\
            entry(parameters, columns, table, first, lanes, skip, count, first_tail, end_tail, tails_per_thread,   \\
                  one, up, capacity, found);                                                                       \\
    }
RUN(search_one_block)
RUN(search_two_blocks)
RUN_LANES(search_shared, uint4)
RUN_LANES(search_short_12, uint2)
RUN_LANES(search_short_13, uint2)
"""
#: What each kernel takes, in order: a table's or buffer's pointer, or a scalar of that type.
_POINTER = np.ndarray
PLAIN = (_POINTER, np.uint64, np.uint32, np.uint32, _POINTER)
LANES = (_POINTER, np.uint32, _POINTER, np.uint64, *(np.uint32,) * 9, _POINTER)
KERNELS = dict.fromkeys(ENTRY_POINTS.values(), PLAIN) | dict.fromkeys(LANE_KERNELS, LANES)


class HostEvent:
    """A mark in a stream; reached when somebody asks for it, unless the GPU does not answer."""

    def __init__(self, gpu: HostGpu, stream: HostStream) -> None:
        self.gpu, self.stream = gpu, stream
        self.time = 0.0
        stream.add(self._reached)
        self.position = stream.queued

    def _reached(self) -> None:
        self.time = time.monotonic()

    @property
    def done(self) -> bool:
        if self.gpu.answers:
            self.stream.run_until(self.position)
        return self.gpu.answers


class HostStream:
    """Work in order, none of it done before somebody asks for an event behind it: as late as a device may be."""

    def __init__(self, gpu: HostGpu) -> None:
        self.gpu = gpu
        self.work: deque[Callable[[], None]] = deque()
        self.queued = self.finished = 0

    def __enter__(self) -> HostStream:
        self.gpu.current.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        assert self.gpu.current.pop() is self

    def add(self, work: Callable[[], None]) -> None:
        self.work.append(work)
        self.queued += 1

    def record(self) -> HostEvent:
        return HostEvent(self.gpu, self)

    def run_until(self, position: int) -> None:
        while self.finished < position:
            self.work.popleft()()
            self.finished += 1


class HostArray(np.ndarray):
    """A device array whose memory is the host's; what is done to it is put into the current stream."""

    gpu: HostGpu

    def __array_finalize__(self, source: object) -> None:
        self.gpu = getattr(source, "gpu", None)  # type: ignore[assignment]

    def get(self, out: np.ndarray | None = None, blocking: bool = True) -> np.ndarray:
        stream = self.gpu.current[-1]
        if out is not None:
            assert not blocking
            stream.add(lambda: np.copyto(out, np.asarray(self)))
            return out
        stream.run_until(stream.queued)
        return np.array(self)

    @property
    def data(self) -> object:
        """What CuPy calls a memory pointer."""

        def memset_async(value: int, size: int) -> None:
            self.gpu.current[-1].add(lambda: ctypes.memset(self.ctypes.data, value, size) and None)

        return types.SimpleNamespace(memset_async=memset_async)


class HostKernel:
    """A kernel that runs its threads one after the other, when its turn in the stream comes."""

    def __init__(self, gpu: HostGpu, function: Any, name: str, options: tuple[str, ...]) -> None:
        self.gpu, self.function, self.name, self.options = gpu, function, name, options

    def compile(self) -> None:
        pass

    def __call__(self, grid: tuple[int, ...], block: tuple[int], arguments: tuple[Any, ...]) -> None:
        # CuPy passes a NumPy scalar by its type's size, and that must be what the kernel declares.
        assert len(arguments) == len(KERNELS[self.name])
        given: list[Any] = [ctypes.c_uint32(size) for size in (*(*grid, 1)[:2], *block)]
        for argument, wanted in zip(arguments, KERNELS[self.name], strict=True):
            if wanted is _POINTER:
                assert isinstance(argument, HostArray) and argument.dtype == np.uint32
                given.append(argument.ctypes.data_as(ctypes.POINTER(ctypes.c_uint32)))
            else:
                assert type(argument) is wanted
                given.append((ctypes.c_uint64 if wanted is np.uint64 else ctypes.c_uint32)(int(argument)))
        self.gpu.launched.append(self.name)
        self.gpu.options.append(self.options)
        self.gpu.current[-1].add(lambda: self._run(given))

    def _run(self, given: list[Any]) -> None:
        if self.options[-1] in self.gpu.slow:
            time.sleep(0.05)
        self.function(*given)


class HostGpu:
    """The part of CuPy that the engine uses, as one GPU that is this CPU; faults are set by the tests."""

    def __init__(self, libraries: dict[str, ctypes.CDLL]) -> None:
        self.launched: list[str] = []
        self.options: list[tuple[str, ...]] = []
        self.streams: list[HostStream] = []
        self.current: list[HostStream] = []
        self.answers = True
        self.slow: set[str] = set()
        self.launch_error: Exception | None = None

        def raw_module(code: str, options: tuple[str, ...]) -> object:
            library = libraries[options[-1]]
            return types.SimpleNamespace(
                get_function=lambda entry: HostKernel(self, getattr(library, f"run_{entry}"), entry, options)
            )

        def array(values: Any) -> HostArray:
            if self.launch_error:
                raise self.launch_error
            made = np.array(values).view(HostArray)
            made.gpu = self
            return made

        def new_stream(non_blocking: bool) -> HostStream:
            assert non_blocking
            self.streams.append(HostStream(self))
            return self.streams[-1]

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
                Stream=new_stream,
                alloc_pinned_memory=bytearray,
                get_elapsed_time=lambda first, second: 1000 * (second.time - first.time),
                compiler=types.SimpleNamespace(CompileException=CompileException),
            ),
            RawModule=raw_module,
            zeros=lambda size, dtype: array(np.zeros(size, dtype)),
            asarray=array,
            get_default_memory_pool=lambda: types.SimpleNamespace(free_all_blocks=lambda: None),
        )

    @property
    def in_flight(self) -> int:
        """Pieces of work that were put into streams and not done."""
        return sum(len(stream.work) for stream in self.streams)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ctypes.CDLL]:
    """The kernels as host libraries, by the option that makes the variant."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("this machine has no C++ compiler")
    folder: Path = tmp_path_factory.mktemp("cuda_on_host")
    source = folder / "kernels.cpp"
    source.write_text(SHIM + cuda_source() + DRIVER)
    options = [f"-DMULTIPLIED_OF_FOUR={multiplied}" for multiplied in MULTIPLIED_OF_FOUR]
    command = [compiler, "-std=c++17", "-O2", "-shared", "-fPIC", "-w", source, "-o"]
    for number, option in enumerate(options):
        subprocess.run([*command, folder / f"{number}.so", option], check=True, timeout=60)
    return {option: ctypes.CDLL(str(folder / f"{number}.so")) for number, option in enumerate(options)}


@pytest.fixture
def gpu(libraries: dict[str, ctypes.CDLL], monkeypatch: pytest.MonkeyPatch) -> Iterator[HostGpu]:
    """A machine with one "GPU". Which variant is the fastest is no question here: the first is taken."""
    host = HostGpu(libraries)
    monkeypatch.setitem(sys.modules, "cupy", host.module)
    monkeypatch.setattr(cuda_engine, "_TRIAL_SECONDS", 0.0)
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


def shared_space(prefix_bytes: int, counter_digits: int = 12) -> NonceSpace:
    space = lay_out(b"p" * prefix_bytes, "417", counter_digits, 200)
    assert space.shared is not None
    return space


def short_space(word: int, counter_digits: int = 12, blocks_before: int = 0) -> NonceSpace:
    end = {12: 52, 13: 55}[word] + 64 * blocks_before
    space = NonceSpace(b"5-28BUILD679575NONCE", "7" * (end - 20 - counter_digits), counter_digits)
    assert space.short is not None and space.short.word == word
    return space


#: For each kernel whose threads own lanes: a space that it hashes.
LANE_SPACES = {
    "search_shared": shared_space(20),
    "search_short_12": short_space(12),
    "search_short_13": short_space(13),
}
each_lane_kernel = pytest.mark.parametrize("kernel", LANE_KERNELS)


@each_lane_kernel
def test_each_shape_goes_to_its_kernel(gpu: HostGpu, kernel: str) -> None:
    searched(CudaEngine(0), LANE_SPACES[kernel], 0, 10, 1)

    assert gpu.launched == [kernel]


def test_a_counter_in_two_pieces_that_is_not_shape_t_is_refused(gpu: HostGpu) -> None:
    with pytest.raises(InvalidInput, match="two pieces"):
        CudaEngine(0).search(NonceSpace(b"p", "", 9, 10), 0, 10, 1)


@pytest.mark.parametrize("prefix_bytes", range(1, 130))
def test_shape_t_is_hashed_rightly_behind_every_prefix(gpu: HostGpu, prefix_bytes: int) -> None:
    space = shared_space(prefix_bytes)

    assert searched(CudaEngine(0), space, 9_876_543, 400, 1) == by_hashlib(space, 9_876_543, 400, 1)
    assert gpu.launched == ["search_shared"]


@each_lane_kernel
@pytest.mark.parametrize("option", [f"-DMULTIPLIED_OF_FOUR={multiplied}" for multiplied in MULTIPLIED_OF_FOUR])
def test_every_variant_of_a_lane_kernel_finds_every_hit(gpu: HostGpu, kernel: str, option: str) -> None:
    engine, space = CudaEngine(0, multiplied_of_four=int(option[-1])), LANE_SPACES[kernel]

    assert searched(engine, space, 8_765, 25_000, 2) == by_hashlib(space, 8_765, 25_000, 2)
    assert {options[-1] for options in gpu.options} == {option}


@each_lane_kernel
@pytest.mark.parametrize(
    ("start", "count"),
    [
        (0, 1),
        (9_999, 1),
        (999, 2),
        (9_999, 2),
        (123, 456),
        (499, 502),
        (9_000, 1_000),
        (5_000, 10_000),
        (9_999, 10_002),
        (0, 20_000),
        (99_999_900, 200),
        (2**32 - 50, 100),
        (10**12 - 300, 300),
    ],
)
def test_stretches_need_not_begin_or_end_with_a_lane(gpu: HostGpu, kernel: str, start: int, count: int) -> None:
    space = LANE_SPACES[kernel]
    batches = list(CudaEngine(0).search(space, start, count, 1))

    assert [hit for batch in batches for hit in batch.hits] == by_hashlib(space, start, count, 1)
    assert batches[0].start == start
    assert sum(batch.count for batch in batches) == count


@pytest.mark.parametrize(
    ("space", "start"),
    [
        (shared_space(20, 8), 10**8 - 300),
        (shared_space(70, 18), 10**18 - 300),
        (shared_space(0, 18), 123_456_789_012_345_678),
        (short_space(12, 4), 10**4 - 300),
        (short_space(12, 18), 10**18 - 300),
        (short_space(13, 4), 10**4 - 300),
        (short_space(13, 18), 123_456_789_012_345_678),
        (short_space(12, 9, blocks_before=1), 987_654_321),
        (short_space(13, 9, blocks_before=1), 123_456_789),
    ],
)
def test_lanes_of_every_number_of_digits_are_hashed_rightly(gpu: HostGpu, space: NonceSpace, start: int) -> None:
    assert searched(CudaEngine(0), space, start, 300, 1) == by_hashlib(space, start, 300, 1)
    assert gpu.launched[0] in LANE_KERNELS


@each_lane_kernel
def test_a_search_of_many_launches_finds_exactly_the_hits_of_hashlib(gpu: HostGpu, kernel: str) -> None:
    space = LANE_SPACES[kernel]

    assert searched(CudaEngine(0), space, 1_234_567, 200_000, 3) == by_hashlib(space, 1_234_567, 200_000, 3)
    assert len(gpu.launched) > 2


@each_lane_kernel
def test_what_the_first_word_does_not_tell_is_tested_by_hashlib(
    gpu: HostGpu, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    monkeypatch.setattr(lanes, "_TESTED_ZEROS", 1)  # so that there are survivors to tell apart
    space = LANE_SPACES[kernel]

    assert searched(CudaEngine(0), space, 77, 20_000, 3) == by_hashlib(space, 77, 20_000, 3)


@each_lane_kernel
def test_no_survivor_is_reported_where_there_are_too_many_zeros(gpu: HostGpu, kernel: str) -> None:
    for zeros in (8, 9, 64):
        assert searched(CudaEngine(0), LANE_SPACES[kernel], 0, 30_000, zeros) == []


@each_lane_kernel
def test_no_hit_of_a_lane_kernel_is_lost_when_the_hit_buffer_runs_over(gpu: HostGpu, kernel: str) -> None:
    space = LANE_SPACES[kernel]

    assert searched(CudaEngine(0, hit_capacity=2), space, 9_500, 1_500, 1) == by_hashlib(space, 9_500, 1_500, 1)


@each_lane_kernel
@pytest.mark.parametrize(("group_size", "tails_per_thread", "in_flight"), [(32, 7, 1), (64, 10_000, 3)])
def test_other_launches_find_the_same_hits(
    gpu: HostGpu, kernel: str, group_size: int, tails_per_thread: int, in_flight: int
) -> None:
    engine = CudaEngine(0, group_size=group_size, tails_per_thread=tails_per_thread, in_flight=in_flight)
    space = LANE_SPACES[kernel]

    assert searched(engine, space, 8_765, 150_000, 2) == by_hashlib(space, 8_765, 150_000, 2)


def test_batches_end_where_a_lane_ends(gpu: HostGpu) -> None:
    batches = list(CudaEngine(0).search(LANE_SPACES["search_shared"], 12_345, 400_000, 5))

    assert len(batches) > 2
    assert all((batch.start + batch.count) % 10_000 == 0 for batch in batches[:-1])


def test_two_searches_may_take_turns(gpu: HostGpu) -> None:
    engine = CudaEngine(0)
    spaces = (LANE_SPACES["search_shared"], LANE_SPACES["search_short_12"])
    searches = [engine.search(space, 5, 300_000, 3) for space in spaces]
    hits: list[list[int]] = [[], []]
    for pair in itertools.zip_longest(*searches):
        for found, batch in zip(hits, pair, strict=True):
            found += batch.hits if batch else ()

    assert hits == [by_hashlib(space, 5, 300_000, 3) for space in spaces]


def small_searches() -> list[Search]:
    """Of every kernel, with an early hit, a late one and none."""
    spaces = (*LANE_SPACES.values(), NonceSpace(b"5-1MINE7NONCE", "", 9), shared_space(90))
    return [
        Search(space, start, count, zeros)
        for space in spaces
        for start, count, zeros in ((0, 9_000, 2), (5_555, 70_000, 4), (123, 40_000, 12), (9_999, 1, 1))
    ]


def test_many_small_searches_each_end_once_with_their_first_hit_or_none(gpu: HostGpu) -> None:
    searches = small_searches()
    done = [0] * len(searches)
    hits: dict[int, int | None] = {}
    for found in CudaEngine(0).search_many(searches):
        assert found.index not in hits
        assert done[found.index] < found.done <= searches[found.index].count
        done[found.index] = found.done
        if found.hit is not None or found.done == searches[found.index].count:
            hits[found.index] = found.hit

    wanted = [next(iter(by_hashlib(each.space, each.start, each.count, each.zeros)), None) for each in searches]
    assert None in wanted and len(set(wanted)) > len(searches) / 2
    assert [hits[index] for index in range(len(searches))] == wanted


def alike(number: int, zeros: int = 2) -> list[Search]:
    """Searches whose messages have one length."""
    return [Search(lay_out(b"5-28BUILD679575NONCE", f"{n:014d}", 12, 137), 0, 9_000, zeros) for n in range(number)]


def test_many_small_searches_share_a_launch(gpu: HostGpu) -> None:
    answers = list(CudaEngine(0, in_flight=1).search_many(alike(200, zeros=1)))

    # 64 tails of each, a sixteenth of which are hits; one search in 62 comes again.
    assert len({found.index for found in answers}) == 200
    assert len(gpu.launched) <= 4


def test_small_searches_that_can_share_no_launch_are_on_the_device_together(gpu: HostGpu) -> None:
    answers = CudaEngine(0).search_many(small_searches())
    next(iter(answers))

    assert len(gpu.launched) == IN_FLIGHT
    assert gpu.in_flight > 0


def test_closing_many_small_searches_waits_for_the_launches_in_flight(gpu: HostGpu) -> None:
    engine = CudaEngine(0)
    answers = engine.search_many(small_searches())
    next(answers)
    answers.close()

    assert gpu.in_flight == 0
    assert len(gpu.launched) == IN_FLIGHT
    space = LANE_SPACES["search_shared"]
    assert searched(engine, space, 0, 20_000, 2) == by_hashlib(space, 0, 20_000, 2)


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_no_small_search_loses_its_hit_when_the_hit_buffer_runs_over(
    gpu: HostGpu, monkeypatch: pytest.MonkeyPatch, capacity: int
) -> None:
    monkeypatch.setattr(Piece, "expected_hits", 0.0)  # as if hits were rare: all go together
    searches = alike(40)
    hits = {found.index: found.hit for found in CudaEngine(0, hit_capacity=capacity).search_many(searches)}

    assert hits == {n: by_hashlib(each.space, 0, 9_000, 2)[0] for n, each in enumerate(searches)}


def test_a_small_search_outside_its_space_is_refused_before_any_is_launched(gpu: HostGpu) -> None:
    space = LANE_SPACES["search_shared"]
    with pytest.raises(InvalidInput, match="do not lie within"):
        CudaEngine(0).search_many([Search(space, 0, 10, 1), Search(space, space.capacity, 1, 1)])
    assert gpu.launched == []


def test_a_small_search_launches_about_half_of_what_a_hit_takes(gpu: HostGpu) -> None:
    engine, space = CudaEngine(0), LANE_SPACES["search_shared"]
    found = next(iter(engine.search_many([Search(space, 0, 10**6, 3)])))

    assert found == Found(0, 2048, None) or found.hit in by_hashlib(space, 0, 2048, 3)


def test_the_next_launch_is_queued_before_the_last_one_is_looked_at(gpu: HostGpu) -> None:
    space = LANE_SPACES["search_shared"]
    batches = iter(CudaEngine(0).search(space, 0, space.capacity, 12))
    for taken in range(1, 4):
        next(batches)
        assert len(gpu.launched) == taken + IN_FLIGHT - 1
        assert gpu.in_flight > 0


def test_closing_a_search_waits_for_the_launches_in_flight_and_starts_no_other(gpu: HostGpu) -> None:
    engine, space = CudaEngine(0), LANE_SPACES["search_shared"]
    batches = engine.search(space, 0, space.capacity, 12)
    next(batches)
    launched = len(gpu.launched)
    assert gpu.in_flight > 0
    batches.close()

    assert gpu.in_flight == 0
    assert len(gpu.launched) == launched
    assert searched(engine, space, 0, 20_000, 2) == by_hashlib(space, 0, 20_000, 2)


def test_closing_a_search_on_a_device_that_hangs_is_an_error_with_its_name(gpu: HostGpu) -> None:
    engine, space = CudaEngine(0, time_limit=0.01), LANE_SPACES["search_shared"]
    batches = engine.search(space, 0, space.capacity, 12)
    next(batches)
    gpu.answers = False

    with pytest.raises(EngineError, match=r"cuda:0 did not answer within 0\.01 s"):
        batches.close()
    with pytest.raises(EngineError, match="did not answer"):
        engine.search(space, 0, 10, 1)


def test_closing_the_engine_waits_for_the_launches_of_a_search_that_nobody_closed(gpu: HostGpu) -> None:
    engine, space = CudaEngine(0), LANE_SPACES["search_shared"]
    batches = engine.search(space, 0, space.capacity, 12)
    next(batches)
    engine.close()

    assert gpu.in_flight == 0
    with pytest.raises(EngineError, match="closed"):
        next(batches)


def test_a_hanging_device_is_given_up_when_the_engine_is_closed(gpu: HostGpu, caplog: pytest.LogCaptureFixture) -> None:
    engine, space = CudaEngine(0, time_limit=0.01), LANE_SPACES["search_shared"]
    batches = engine.search(space, 0, space.capacity, 12)
    next(batches)
    gpu.answers = False
    engine.close()

    assert "cuda:0 could not be freed: cuda:0 did not answer" in caplog.text


def test_a_table_that_does_not_reach_the_device_in_time_is_an_error_with_its_name(gpu: HostGpu) -> None:
    engine = CudaEngine(0, time_limit=0.01)
    gpu.answers = False
    with pytest.raises(EngineError, match="cuda:0 did not answer"):
        engine.search(LANE_SPACES["search_shared"], 0, 10, 1)


@pytest.mark.parametrize("fastest", MULTIPLIED_OF_FOUR)
def test_the_variant_that_measures_fastest_is_kept(gpu: HostGpu, monkeypatch: pytest.MonkeyPatch, fastest: int) -> None:
    options = {multiplied: f"-DMULTIPLIED_OF_FOUR={multiplied}" for multiplied in MULTIPLIED_OF_FOUR}
    gpu.slow = set(options.values()) - {options[fastest]}
    monkeypatch.setattr(cuda_engine, "_TRIAL_SECONDS", 0.01)
    monkeypatch.setattr(cuda_engine, "_FIRST_BATCH", 1_000)
    engine = CudaEngine(0)
    assert {tried[-1] for tried in gpu.options} == set(options.values())
    gpu.options.clear()
    space = LANE_SPACES["search_shared"]

    assert searched(engine, space, 0, 1_000, 1) == by_hashlib(space, 0, 1_000, 1)
    assert {used[-1] for used in gpu.options} == {options[fastest]}
    assert gpu.in_flight == 0


def test_no_hit_is_lost_when_the_cuda_hit_buffer_runs_over(gpu: HostGpu) -> None:
    space = NonceSpace(b"5-1MINE7NONCE", "", 9)

    assert searched(CudaEngine(0, hit_capacity=2), space, 0, 3000, 1) == by_hashlib(space, 0, 3000, 1)


def test_more_hits_than_the_first_read_takes_all_arrive(gpu: HostGpu) -> None:
    space = NonceSpace(b"5-1MINE7NONCE", "", 9)
    wanted = by_hashlib(space, 0, 3000, 1)

    assert len(wanted) > gpu_engine.FIRST_READ + 1
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
