"""The OpenCL kernels for shapes T and S, at every vector width, held against hashlib."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache

import pytest

from gpu_worker.discovery import find_devices
from gpu_worker.kernel_source import opencl_lane_source
from gpu_worker.opencl_engine import VECTOR_WIDTHS, OpenClEngine
from hashfleet.engine import Search
from hashfleet.errors import EngineUnavailable
from hashfleet.message import NonceSpace, lay_out

SHAPES = {
    "T": NonceSpace(b"5-28BUILD679575NONCE", "0" * 28 + "41720300", 12, 48),
    "T, lanes above 10^8, behind a midstate": NonceSpace(b"5-28BUILD679575NONCE" * 4, "1" * 36, 16, 48),
    "S, word 12": NonceSpace(b"5-28BUILD679575NONCE", "00000000417203000017", 12),
    "S, word 12, lanes above 10^8": NonceSpace(b"5-28BUILD679575NONCE", "0000041720300017", 16),
    "S, word 13": NonceSpace(b"5-28BUILD679575NONCE", "00000000417203000017000", 12),
    "S, word 13, lanes above 10^8": NonceSpace(b"5-28BUILD679575NONCE", "00000417203000017", 18),
    "S, one lane": NonceSpace(b"5-28BUILD679575NONCE", "4" * 28, 4),
}
#: Starts and counts: in a lane, to its end, across lanes, across vectors of lanes; lanes 10^4 and 10^8; the end.
RANGES = [
    (0, 1),
    (4_711, 300),
    (9_990, 10),
    (9_990, 25),
    (7_777, 30_001),
    (155_000, 12_345),
    (10**8 - 2_000, 4_000),
    (10**12 - 2_500, 2_500),
    (10**12 - 2_500, 5_000),
    (10**11 - 2_500, 5_000),
]


def hits_by_hashlib(space: NonceSpace, start: int, count: int, zeros: int) -> list[int]:
    nonces = range(start, start + count)
    return [n for n in nonces if hashlib.sha256(space.message(n)).hexdigest().startswith("0" * zeros)]


_wanted = cache(hits_by_hashlib)


def opened(**options: int) -> OpenClEngine:
    """The first OpenCL device."""
    try:
        platform, device = find_devices("opencl")[0].device_id.removeprefix("opencl:").split(".")
        return OpenClEngine(int(platform), int(device), **options)
    except EngineUnavailable as error:
        pytest.skip(str(error))


def searched(engine: OpenClEngine, space: NonceSpace, start: int, count: int, zeros: int) -> list[int]:
    return [hit for batch in engine.search(space, start, count, zeros) for hit in batch.hits]


@pytest.fixture(scope="module", params=VECTOR_WIDTHS)
def engine(request: pytest.FixtureRequest) -> Iterator[OpenClEngine]:
    """An engine of each width, whether it suits the device or not."""
    made = opened(width=request.param)
    yield made
    made.close()


@pytest.mark.parametrize("shape", SHAPES)
def test_every_width_finds_the_hits_of_hashlib_in_unaligned_ranges(engine: OpenClEngine, shape: str) -> None:
    space = SHAPES[shape]
    assert (space.shared if shape[0] == "T" else space.short) is not None
    for start, count in RANGES:
        start %= space.capacity
        count = min(count, space.capacity - start)
        for zeros in (1, 2):
            assert searched(engine, space, start, count, zeros) == _wanted(space, start, count, zeros), (start, count)


@pytest.mark.parametrize("longest", [137, 35], ids=["T", "S"])
def test_every_width_hashes_lanes_of_many_searches_in_one_launch(
    engine: OpenClEngine, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cl = pytest.importorskip("pyopencl")
    launches = []
    enqueue = cl.enqueue_nd_range_kernel

    def noted(*arguments: object, **options: object) -> object:
        launches.append(arguments)
        return enqueue(*arguments, **options)

    monkeypatch.setattr(cl, "enqueue_nd_range_kernel", noted)
    spaces = [lay_out(b"5-28BUILD679575NONCE", f"{n:014d}", 12, longest) for n in range(100)]
    # More than a lane and fewer, at the start and behind the lanes' 10**4, where all four words of digits change.
    asked = [(0, 1), (0, 2), (123_450_000, 3), (10**12 - 20_000, 2), (99_999_990_000, 3)]
    searches = [Search(space, *_asked(asked[n % 5])) for n, space in enumerate(spaces)]
    hits = {found.index: found.hit for found in engine.search_many(searches)}

    assert len(launches) <= 30
    for n, search in enumerate(searches):
        wanted = _wanted(search.space, search.start, search.count, search.zeros)
        assert hits[n] == (wanted[0] if wanted else None), search


def _asked(start_and_zeros: tuple[int, int]) -> tuple[int, int, int]:
    start, zeros = start_and_zeros
    return start, 4 * 16**zeros, zeros


def test_every_width_is_the_width_asked_for(engine: OpenClEngine, request: pytest.FixtureRequest) -> None:
    assert engine.width == request.node.callspec.params["engine"]


@pytest.mark.parametrize("capacity", [1, 2, 100])
@pytest.mark.parametrize("shape", ["T", "S, word 12", "S, word 13"])
def test_no_hit_of_any_shape_is_lost_when_the_hit_buffer_runs_over(
    shape: str, capacity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Launches as large as if hits were rare, so that nearly every one has to be halved, the next one behind it.
    monkeypatch.setattr("gpu_worker.gpu_engine.largest_launch", lambda zeros, capacity: 2_000)
    engine = opened(hit_capacity=capacity)
    space = SHAPES[shape]

    assert searched(engine, space, 8_765, 9_000, 1) == _wanted(space, 8_765, 9_000, 1)
    engine.close()


@pytest.mark.parametrize("width", VECTOR_WIDTHS)
def test_the_source_compiles_as_opencl_1_2_without_a_warning(width: int) -> None:
    cl = pytest.importorskip("pyopencl")
    try:
        device = cl.get_platforms()[0].get_devices()[0]
    except (cl.Error, IndexError):
        pytest.skip("this machine has no OpenCL device")
    options = ["-cl-std=CL1.2", "-Werror", f"-DWIDTH={width}"]
    program = cl.Program(cl.Context([device]), opencl_lane_source()).build(options, cache_dir=False)

    names = {kernel.function_name for kernel in program.all_kernels()}
    assert names == {"search_shared", "search_short_12", "search_short_13"}


def test_nothing_atomic_stands_in_the_hot_loops() -> None:
    text = opencl_lane_source()

    # The only atomic is in the rare path, which is entered once per hit.
    (atomic,) = re.finditer(r"\batomic_\w+\(", text)
    rare = text.index("static inline void report_lanes(")
    assert rare < atomic.start() < text.index("\n}\n", rare)
    assert "#include" not in text
