"""What every hash engine promises, held against hashlib: CPU, OpenCL (on PoCL where there is no GPU), CUDA."""

from __future__ import annotations

import functools
import hashlib
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu_fallback.engine import CpuEngine
from gpu_worker.cuda_engine import CudaEngine
from gpu_worker.discovery import find_devices
from gpu_worker.opencl_engine import OpenClEngine
from hashfleet.action import Action, CharterTerms, Work
from hashfleet.engine import Batch, EngineKind, HashEngine
from hashfleet.errors import EngineError, EngineUnavailable, InvalidInput
from hashfleet.message import MAX_COUNTER_DIGITS, NonceSpace, lay_out
from hashfleet.self_test import measure_rate, self_test

BUILD = NonceSpace(b"5-28BUILD679575NONCE", "417203000017", 12)
#: Counters of that space with exactly 7 and 8 leading hex zeros; SHA-256 of the second is 00000000ca49...
SEVEN_ZEROS, EIGHT_ZEROS = 81_119_231, 10_821_512_714
#: Nonces in the range that every engine searches in several batches.
LONG = 1_000_000
LONG_START = 2**32 - 500_000


def open_cpu() -> HashEngine:
    return CpuEngine(2, niceness=0)


def open_compiled_cpu() -> HashEngine:
    """Not hashlib while the kernels are being compiled: the kernels from the first nonce on."""
    return CpuEngine(2, niceness=0, compile_first=True)


def open_opencl(**options: int) -> HashEngine:
    platform, device = find_devices("opencl")[0].device_id.removeprefix("opencl:").split(".")
    return OpenClEngine(int(platform), int(device), **options)


def open_cuda(**options: int) -> HashEngine:
    return CudaEngine(int(find_devices("cuda")[0].device_id.removeprefix("cuda:")), **options)


def opened(open_it: Callable[[], HashEngine]) -> HashEngine:
    try:
        return open_it()
    except EngineUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(open_cpu, id="cpu"),
        pytest.param(open_compiled_cpu, id="cpu-compiled"),
        pytest.param(open_opencl, id="opencl"),
        pytest.param(open_cuda, id="cuda", marks=pytest.mark.gpu),
    ],
)
def engine(request: pytest.FixtureRequest) -> Iterator[HashEngine]:
    """One engine of each kind that this machine can run."""
    with closing(opened(request.param)) as device:
        yield device


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(open_opencl, id="opencl"),
        pytest.param(open_cuda, id="cuda", marks=pytest.mark.gpu),
    ],
)
def engine_with_room_for_two_hits(request: pytest.FixtureRequest) -> Iterator[HashEngine]:
    """A GPU engine whose hit buffer runs over all the time."""
    with closing(opened(lambda: request.param(hit_capacity=2))) as device:
        yield device


def zeros_of(space: NonceSpace, counter: int) -> int:
    """Leading hex zeros by hashlib, from the definition: prefix, extranonce, counter in its fixed number of digits.

    With a filler, its zeros stand before the last four digits.
    """
    digits = str(counter).zfill(space.counter_digits)
    if space.filler_digits:
        digits = digits[:-4] + "0" * space.filler_digits + digits[-4:]
    text = space.prefix + space.extranonce.encode() + digits.encode()
    digest = hashlib.sha256(text).hexdigest()
    return len(digest) - len(digest.lstrip("0"))


def hits_by_hashlib(space: NonceSpace, start: int, count: int, zeros: int) -> list[int]:
    return [counter for counter in range(start, start + count) if zeros_of(space, counter) >= zeros]


def searched(engine: HashEngine, space: NonceSpace, start: int, count: int, zeros: int) -> list[int]:
    """All hits of a search, in the order reported."""
    return [hit for batch in engine.search(space, start, count, zeros) for hit in batch.hits]


@pytest.fixture(scope="module")
def long_range() -> dict[int, int]:
    """Counter -> zeros, by hashlib, for every hit of the long range."""
    zeros = ((counter, zeros_of(BUILD, counter)) for counter in range(LONG_START, LONG_START + LONG))
    return {counter: found for counter, found in zeros if found}


@pytest.mark.parametrize("zeros", [1, 3, 5])
def test_a_range_of_many_batches_gives_exactly_the_hits_of_hashlib(
    engine: HashEngine, long_range: dict[int, int], zeros: int
) -> None:
    wanted = [counter for counter, found in long_range.items() if found >= zeros]

    assert wanted
    assert searched(engine, BUILD, LONG_START, LONG, zeros) == wanted


def test_batches_cover_the_range_exactly_once_in_ascending_order(engine: HashEngine) -> None:
    batches = list(engine.search(BUILD, 77, 3_000_001, 4))

    assert len(batches) > 1
    assert batches[0].start == 77
    for before, after in itertools.pairwise(batches):
        assert after.start == before.start + before.count
    assert sum(batch.count for batch in batches) == 3_000_001
    assert all(batch.start <= hit < batch.start + batch.count for batch in batches for hit in batch.hits)


def test_every_prefix_length_from_1_to_120_is_hashed_rightly(engine: HashEngine) -> None:
    letters = "5-28BUILD679575NONCE" * 6
    for length in range(1, 121):
        space = NonceSpace(letters[:length].encode(), "", 6)
        assert searched(engine, space, 500, 200, 1) == hits_by_hashlib(space, 500, 200, 1), f"prefix of {length} bytes"


@pytest.mark.parametrize("digits", range(1, MAX_COUNTER_DIGITS + 1))
def test_counters_of_every_length_are_hashed_rightly_wherever_they_stand_in_the_block(
    engine: HashEngine, digits: int
) -> None:
    count = min(40, 10**digits)
    start = (10**digits - count) // 3
    for length in range(64):
        space = NonceSpace(b"p" * length, "", digits)
        assert searched(engine, space, start, count, 1) == hits_by_hashlib(space, start, count, 1), f"at byte {length}"


@pytest.mark.parametrize("extranonce", ["", "0", "00000000", "417203000017", "9" * 33, "1234567890" * 6])
def test_the_extranonce_is_hashed_between_prefix_and_counter(engine: HashEngine, extranonce: str) -> None:
    space = NonceSpace(b"9-7@2-11RAID1283900NONCE", extranonce, 10)

    assert searched(engine, space, 0, 1500, 2) == hits_by_hashlib(space, 0, 1500, 2)


@pytest.mark.parametrize(
    ("start", "digits"),
    [
        (999_990, 7),
        (999_999_990, 12),
        (99_999_900, 8),
        (9_999_990, 18),
        (2**32 - 50, 12),
        (2**32 + 1, 10),
        (10**16 - 50, 17),
        (10**18 - 100, 18),
        (123_456_789_012_345_678, 18),
    ],
)
def test_digits_carry_and_counters_may_exceed_32_bits(engine: HashEngine, start: int, digits: int) -> None:
    space = NonceSpace(b"5-1MINE1NONCE", "7", digits)
    count = min(100, space.capacity - start)

    assert hits_by_hashlib(space, start, count, 1)
    assert searched(engine, space, start, count, 1) == hits_by_hashlib(space, start, count, 1)


def test_a_single_nonce_can_be_searched(engine: HashEngine) -> None:
    assert list(engine.search(BUILD, EIGHT_ZEROS, 1, 8)) == [Batch(EIGHT_ZEROS, 1, (EIGHT_ZEROS,))]


@pytest.mark.parametrize(
    ("counter", "zeros", "is_hit"),
    [
        (SEVEN_ZEROS, 7, True),
        (SEVEN_ZEROS, 8, False),
        (EIGHT_ZEROS, 8, True),
        (EIGHT_ZEROS, 9, False),
        (EIGHT_ZEROS, 16, False),
        (EIGHT_ZEROS, 64, False),
    ],
)
def test_rare_hits_are_found_at_their_own_zeros_and_not_above(
    engine: HashEngine, counter: int, zeros: int, is_hit: bool
) -> None:
    assert searched(engine, BUILD, counter - 3000, 6000, zeros) == ([counter] if is_hit else [])


@pytest.mark.parametrize("zeros", [8, 9, 33, 64])
def test_high_zero_counts_give_no_false_hit(engine: HashEngine, zeros: int) -> None:
    assert searched(engine, BUILD, LONG_START, 300_000, zeros) == []


def test_no_hit_is_lost_when_the_hit_buffer_runs_over(engine_with_room_for_two_hits: HashEngine) -> None:
    engine = engine_with_room_for_two_hits
    for start in (0, 999_000):
        assert searched(engine, BUILD, start, 3000, 1) == hits_by_hashlib(BUILD, start, 3000, 1)


def test_batches_still_cover_the_range_when_the_hit_buffer_runs_over(engine_with_room_for_two_hits: HashEngine) -> None:
    batches = list(engine_with_room_for_two_hits.search(BUILD, 5, 1000, 1))

    assert [batch.start for batch in batches] == [5 + sum(b.count for b in batches[:i]) for i in range(len(batches))]
    assert sum(batch.count for batch in batches) == 1000


def test_a_search_closed_after_its_first_batch_leaves_the_engine_ready_for_the_next(engine: HashEngine) -> None:
    for _ in range(3):
        batches = engine.search(BUILD, 0, BUILD.capacity, 64)
        assert next(batches).start == 0
        batches.close()

        assert searched(engine, BUILD, 4000, 2000, 2) == hits_by_hashlib(BUILD, 4000, 2000, 2)


def test_a_search_can_go_on_with_other_zeros_from_where_it_was(engine: HashEngine, long_range: dict[int, int]) -> None:
    end = LONG_START + LONG
    first = next(iter(engine.search(BUILD, LONG_START, LONG, 4)))
    at = first.start + first.count
    rest = searched(engine, BUILD, at, end - at, 3)

    assert list(first.hits) == [c for c, zeros in long_range.items() if zeros >= 4 and c < at]
    assert rest == [c for c, zeros in long_range.items() if zeros >= 3 and c >= at]


def test_an_older_iterator_still_searches_what_it_was_asked(engine: HashEngine) -> None:
    older = engine.search(BUILD, 0, 2000, 2)
    other = NonceSpace(b"5-3REFINE77NONCE", "3" * 50, 9)

    assert searched(engine, other, 0, 2000, 1) == hits_by_hashlib(other, 0, 2000, 1)
    assert [hit for batch in older for hit in batch.hits] == hits_by_hashlib(BUILD, 0, 2000, 2)


@pytest.mark.parametrize(
    ("start", "count", "zeros"),
    [
        (-1, 10, 1),
        (0, 0, 1),
        (0, -5, 1),
        (995, 6, 1),
        (1000, 1, 1),
        (0, 10**18, 1),
        (0, 10, 0),
        (0, 10, 65),
        (0, 10, -1),
    ],
)
def test_a_search_outside_the_space_is_refused_when_it_is_asked_for(
    engine: HashEngine, start: int, count: int, zeros: int
) -> None:
    with pytest.raises(InvalidInput):
        engine.search(NonceSpace(b"p", "1", 3), start, count, zeros)


@settings(max_examples=60, deadline=None)
@given(
    prefix=st.binary(max_size=150),
    extranonce=st.text("0123456789", max_size=64),
    digits=st.integers(1, MAX_COUNTER_DIGITS),
    where=st.floats(0, 1),
    count=st.integers(1, 400),
    zeros=st.integers(1, 3),
)
def test_any_space_and_range_gives_the_hits_of_hashlib(
    engine: HashEngine, prefix: bytes, extranonce: str, digits: int, where: float, count: int, zeros: int
) -> None:
    space = NonceSpace(prefix, extranonce, digits)
    count = min(count, space.capacity)
    start = min(int(where * (space.capacity - count)), space.capacity - count)

    assert searched(engine, space, start, count, zeros) == hits_by_hashlib(space, start, count, zeros)


#: Shapes T and S by their layout: T with its lanes' block first and after a midstate, S at both of its ends.
SHAPED = {
    "T": NonceSpace(b"5-28BUILD679575NONCE", "0" * 24 + "417203000017", 12, 48),
    "T, fewest digits": NonceSpace(b"9-7@2-11RAID1283900NONCE", "7" * 36, 8, 48),
    "T behind a midstate": NonceSpace(b"5-28BUILD679575NONCE" * 4, "1" * 36, 16, 48),
    "T behind two midstates": NonceSpace(b"5-28BUILD679575NONCE" * 7, "3" * 40, 16, 48),
    "S at 52": NonceSpace(b"5-28BUILD679575NONCE", "00000000417203000017", 12),
    "S at 55": NonceSpace(b"5-28BUILD679575NONCE", "00000417203000017", 18),
    "S at 52, fewest digits": NonceSpace(b"5-28BUILD679575NONCE", "4" * 28, 4),
    "S at 55, digits beside the prefix": NonceSpace(b"9-7@2-11RAID1283900NONCE", "4" * 26, 5),
    "S at 52 behind a midstate": NonceSpace(b"5-28BUILD679575NONCE" * 4, "5" * 20, 16),
    "S at 55 behind a midstate": NonceSpace(b"5-28BUILD679575NONCE" * 4, "5" * 26, 13),
}
#: Starts and counts: one nonce; within a lane; across a lane's end; unaligned over several lanes and groups of them; to
#: either side of the place where digits above the lane's last four change.
STRETCHES = [
    (0, 1),
    (4_711, 300),
    (9_990, 25),
    (7_777, 30_001),
    (310_000, 25_000),
    (635_001, 9_998),
    (10**7 - 1_003, 2_004),
    (10**8 - 15_003, 30_004),
    (10**12 - 20_001, 20_001),
]
#: Shape -> counters of its space with exactly 7 and 8 leading hex zeros.
RARE = {
    "T": (648_410_302, 209_682_314),
    "S at 52": (899_823_907, 8_271_841_307),
    "S at 55": (1_239_452_566, 5_533_414_679),
}

_hits_by_hashlib = functools.cache(hits_by_hashlib)


def searched_shape(engine: HashEngine, space: NonceSpace, start: int, count: int, zeros: int) -> list[int]:
    """All hits of a search; skips if the engine says that it cannot search a space with a filler."""
    try:
        return searched(engine, space, start, count, zeros)
    except InvalidInput as error:
        if not space.filler_digits or engine.device.kind is EngineKind.CPU:
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize(("start", "count"), STRETCHES)
@pytest.mark.parametrize("shape", SHAPED)
def test_spaces_of_shape_t_and_s_give_the_hits_of_hashlib(
    engine: HashEngine, shape: str, start: int, count: int
) -> None:
    space = SHAPED[shape]
    assert (
        space.shared is not None if shape[0] == "T" else space.short is not None and f"at {space.length % 64}" in shape
    )
    start %= space.capacity
    count = min(count, space.capacity - start)
    zeros = 1 if count < 1_000 else 2

    assert searched_shape(engine, space, start, count, zeros) == _hits_by_hashlib(space, start, count, zeros)


@pytest.mark.parametrize("shape", ["T", "T behind a midstate", "S at 52", "S at 55"])
def test_many_lanes_of_shape_t_and_s_give_the_hits_of_hashlib(engine: HashEngine, shape: str) -> None:
    start, count = 123_456_789, 700_001

    wanted = _hits_by_hashlib(SHAPED[shape], start, count, 3)
    assert searched_shape(engine, SHAPED[shape], start, count, 3) == wanted


@pytest.mark.parametrize("longest", [200, 58], ids=["T", "S"])
def test_every_prefix_length_from_1_to_120_is_hashed_rightly_as_it_is_laid_out(
    engine: HashEngine, longest: int
) -> None:
    letters = "5-28BUILD679575NONCE" * 6
    shaped = 0
    for length in range(1, 121):
        space = lay_out(letters[:length].encode(), "42", 9, longest)
        shaped += (space.shared if longest == 200 else space.short) is not None
        wanted = _hits_by_hashlib(space, 12_349_900, 200, 1)
        assert searched_shape(engine, space, 12_349_900, 200, 1) == wanted, f"prefix of {length} bytes"
    assert shaped == (120 if longest == 200 else 95)  # where 58 digits do not reach the end of S, it is plain


@pytest.mark.parametrize("shape", RARE)
@pytest.mark.parametrize(("rare", "zeros", "is_hit"), [(0, 7, True), (0, 8, False), (1, 8, True), (1, 9, False)])
def test_rare_hits_of_shape_t_and_s_are_found_at_their_own_zeros_and_not_above(
    engine: HashEngine, shape: str, rare: int, zeros: int, is_hit: bool
) -> None:
    space, counter = SHAPED[shape], RARE[shape][rare]

    wanted = [counter] if is_hit else []
    assert searched_shape(engine, space, counter - 40_000, 80_000, zeros) == wanted
    assert searched_shape(engine, space, counter, 1, zeros) == wanted


@pytest.mark.parametrize("shape", ["T", "S at 52", "S at 55"])
def test_batches_of_shape_t_and_s_cover_the_range_exactly_once_in_ascending_order(
    engine: HashEngine, shape: str
) -> None:
    searched_shape(engine, SHAPED[shape], 0, 1, 1)
    at = 4_711
    for batch in engine.search(SHAPED[shape], at, 5_000_003, 5):
        assert batch.start == at
        assert all(at <= hit < at + batch.count for hit in batch.hits)
        at += batch.count
    assert at == 4_711 + 5_000_003


@pytest.mark.parametrize("shape", ["T", "S at 52"])
def test_a_search_of_shape_t_and_s_closed_after_a_batch_leaves_the_engine_ready(engine: HashEngine, shape: str) -> None:
    space = SHAPED[shape]
    searched_shape(engine, space, 0, 1, 1)
    for _ in range(3):
        batches = engine.search(space, 0, space.capacity, 64)
        assert next(batches).start == 0
        batches.close()

        assert searched(engine, space, 4_000, 2_000, 2) == _hits_by_hashlib(space, 4_000, 2_000, 2)


@settings(max_examples=60, deadline=None)
@given(
    prefix=st.binary(max_size=150),
    extranonce=st.text("0123456789", max_size=20),
    digits=st.integers(8, 18),
    longest=st.sampled_from([200, 58]),
    where=st.floats(0, 1),
    count=st.integers(1, 25_000),
)
def test_any_space_that_is_laid_out_gives_the_hits_of_hashlib(
    engine: HashEngine, prefix: bytes, extranonce: str, digits: int, longest: int, where: float, count: int
) -> None:
    space = lay_out(prefix, extranonce, digits, longest)
    start = min(int(where * (space.capacity - count)), space.capacity - count)
    zeros = 1 if count < 500 else 3

    assert searched_shape(engine, space, start, count, zeros) == hits_by_hashlib(space, start, count, zeros)


def test_all_engines_of_this_machine_agree() -> None:
    engines: list[HashEngine] = []
    for open_it in (open_cpu, open_opencl, open_cuda):
        try:
            engines.append(open_it())
        except EngineUnavailable:
            continue  # this machine has none of this kind
    try:
        if len(engines) < 2:
            pytest.skip("this machine has only one engine")
        chosen = random.Random(28)
        for _ in range(5):
            space = NonceSpace(chosen.randbytes(chosen.randrange(100)), str(chosen.randrange(10**20)), 15)
            start = chosen.randrange(10**14)
            answers = [searched(engine, space, start, 100_000, 3) for engine in engines]
            assert answers[0]
            assert all(answer == answers[0] for answer in answers)
    finally:
        for engine in engines:
            engine.close()


def test_the_engine_passes_the_self_test(engine: HashEngine) -> None:
    self_test(engine)


def test_the_measured_rate_is_a_plausible_number_of_hashes_a_second(engine: HashEngine) -> None:
    assert 1e4 < measure_rate(engine, 0.05) < 1e13


def test_the_device_is_named_after_its_kind(engine: HashEngine) -> None:
    device = engine.device

    assert device.device_id.split(":")[0] == device.kind.value
    assert device.name.strip() == device.name != ""
    assert device.driver


def test_a_closed_engine_refuses_to_search_and_may_be_closed_again() -> None:
    for open_it in (open_cpu, open_opencl, open_cuda):
        try:
            engine = open_it()
        except EngineUnavailable:
            assert open_it is not open_cpu  # this machine has no such device, but a CPU it has
            continue
        running = engine.search(BUILD, 0, 10**9, 9)
        next(running)
        engine.close()
        engine.close()
        with pytest.raises(EngineError, match="closed"):
            engine.search(BUILD, 0, 10, 1)
        with pytest.raises(EngineError, match="closed"):
            next(running)


def test_every_kind_of_engine_is_in_this_suite() -> None:
    assert {kind.value for kind in EngineKind} == {"cpu", "opencl", "cuda"}


#: A charter's prefix on the public test network: with any nonce that a lease needs its message takes two blocks.
CHARTER = Work(
    Action.CHARTER, "1-123456", 2_283_000, 2_500_000, charter=CharterTerms("structstestnet-111", "1-654321")
).prefix


@pytest.mark.parametrize(("most_digits", "shape"), [(200, "shared"), (73, "short")])
def test_a_charter_is_hashed_rightly_in_both_shapes(engine: HashEngine, most_digits: int, shape: str) -> None:
    space = lay_out(CHARTER, "417203000017", 12, most_digits)
    assert len(CHARTER) > 55
    assert getattr(space, shape) is not None
    for start, count in ((4_711, 300), (7_777, 30_001), (10**8 - 5_003, 10_004)):
        assert searched_shape(engine, space, start, count, 2) == hits_by_hashlib(space, start, count, 2)
