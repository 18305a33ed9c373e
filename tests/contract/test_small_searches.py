"""What every hash engine promises about many small searches at once, held against hashlib."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu_fallback.engine import CpuEngine
from gpu_worker.cuda_engine import CudaEngine
from gpu_worker.discovery import find_devices
from gpu_worker.opencl_engine import OpenClEngine
from hashfleet.batches import search_each
from hashfleet.engine import Found, HashEngine, Search
from hashfleet.errors import EngineError, EngineUnavailable, InvalidInput
from hashfleet.message import NonceSpace, lay_out

PREFIX = b"5-28BUILD679575NONCE"
#: Digits that a consumer may limit nonces to: any shape, S, and neither.
ANY, SHORT, PLAIN = 137, 35, 26


def open_cpu() -> HashEngine:
    return CpuEngine(2, niceness=0, compile_first=True)


def open_opencl() -> HashEngine:
    platform, device = find_devices("opencl")[0].device_id.removeprefix("opencl:").split(".")
    return OpenClEngine(int(platform), int(device))


def open_cuda() -> HashEngine:
    return CudaEngine(int(find_devices("cuda")[0].device_id.removeprefix("cuda:")))


def opened(open_it: Callable[[], HashEngine]) -> HashEngine:
    try:
        return open_it()
    except EngineUnavailable as error:
        pytest.skip(str(error))


class OneByOne:
    """The searches as an engine without a better way makes them."""

    def __init__(self, engine: HashEngine) -> None:
        self._engine = engine
        self.device = engine.device
        self.search = engine.search
        self.close = engine.close

    def search_many(self, searches: Sequence[Search]) -> Iterator[Found]:
        return search_each(self._engine, searches)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(open_cpu, id="cpu"),
        pytest.param(lambda: OneByOne(open_cpu()), id="cpu one by one"),
        pytest.param(open_opencl, id="opencl"),
        pytest.param(open_cuda, id="cuda", marks=pytest.mark.gpu),
    ],
)
def engine(request: pytest.FixtureRequest) -> Iterator[HashEngine]:
    """One engine of each kind that this machine can run."""
    with closing(opened(request.param)) as device:
        yield device


def small(number: int, zeros: int, *, digits: int = ANY, start: int = 0, prefix: bytes = PREFIX) -> Search:
    """A search as a coordinator leases it: eight times what a hit takes on average."""
    return Search(lay_out(prefix, f"{number:014d}", 12, digits), start, 8 * 16**zeros, zeros)


def zeros_of(space: NonceSpace, counter: int) -> int:
    digest = hashlib.sha256(space.message(counter)).hexdigest()
    return len(digest) - len(digest.lstrip("0"))


def hits_by_hashlib(search: Search, count: int) -> list[int]:
    """Hits among the first `count` counters of a search."""
    counters = range(search.start, search.start + count)
    return [counter for counter in counters if zeros_of(search.space, counter) >= search.zeros]


@cache
def lonely_hit(space: NonceSpace) -> int:
    """A counter above 25,000 with four zeros, and no other one of these among the 25,000 before it."""
    last = 0
    for counter in range(1, 10**7):
        if zeros_of(space, counter) >= 4:
            if counter - last > 25_000:
                return counter
            last = counter
    raise AssertionError("there is such a counter in any space")


def run(engine: HashEngine, searches: Sequence[Search]) -> list[Found]:
    """The last word on each search, in their order; every search must be over exactly once."""
    over: dict[int, Found] = {}
    done = [0] * len(searches)
    for found in engine.search_many(searches):
        assert found.index not in over
        assert done[found.index] <= found.done <= searches[found.index].count
        done[found.index] = found.done
        if found.hit is not None or found.done == searches[found.index].count:
            over[found.index] = found
    assert len(over) == len(searches)
    return [over[index] for index in range(len(searches))]


def assert_right(found: Found, search: Search) -> None:
    """A hit is one, and nothing was skipped below what is reported as done."""
    if found.hit is None:
        assert found.done == search.count
        assert hits_by_hashlib(search, search.count) == []
    else:
        assert search.start <= found.hit < search.start + search.count
        assert zeros_of(search.space, found.hit) >= search.zeros
        assert set(hits_by_hashlib(search, found.done)) <= {found.hit}


@pytest.mark.parametrize("digits", [ANY, SHORT, PLAIN])
@pytest.mark.parametrize(("zeros", "number"), [(1, 200), (2, 100), (3, 20)])
def test_every_small_search_ends_with_a_hit_and_nothing_skipped_below_what_is_done(
    engine: HashEngine, zeros: int, number: int, digits: int
) -> None:
    searches = [small(n, zeros, digits=digits) for n in range(number)]

    for found, search in zip(run(engine, searches), searches, strict=True):
        assert_right(found, search)


def test_searches_of_every_shape_difficulty_and_message_length_go_together(engine: HashEngine) -> None:
    searches = [
        small(1000 * length + zeros, zeros, digits=digits, prefix=b"p" * length)
        for length in (1, 13, 20, 21, 29, 64, 100)
        for digits in (ANY, SHORT + 29, PLAIN)
        for zeros in (1, 2, 3)
    ]

    for found, search in zip(run(engine, searches), searches, strict=True):
        assert_right(found, search)


@pytest.mark.parametrize("digits", [ANY, SHORT, PLAIN])
def test_searches_without_a_hit_are_done_to_their_last_counter(engine: HashEngine, digits: int) -> None:
    searches = [
        Search(lay_out(PREFIX, f"{n:014d}", 12, digits), start, count, 12)
        for n, (start, count) in enumerate(
            [(0, 1), (9_999, 1), (9_999, 2), (77, 30_000), (10**12 - 3, 3), (0, 160_000)]
        )
    ]

    assert run(engine, searches) == [Found(n, search.count, None) for n, search in enumerate(searches)]


@pytest.mark.parametrize("digits", [ANY, SHORT, PLAIN])
@pytest.mark.parametrize("distance", [0, 1, 9_999, 10_000, 25_000])
def test_the_only_hit_of_a_range_is_found_wherever_it_is_and_not_beyond_the_end(
    engine: HashEngine, digits: int, distance: int
) -> None:
    space = lay_out(PREFIX, "31415926535897", 12, digits)
    hit = lonely_hit(space)
    start = hit - distance
    searches = [Search(space, start, distance + 1, 4)]
    if distance:
        searches.append(Search(space, start, distance, 4))

    found = run(engine, searches)

    assert found == [Found(0, found[0].done, hit), Found(1, distance, None)][: len(searches)]


def test_a_hit_has_at_least_the_zeros_asked_for_even_beyond_the_first_word(engine: HashEngine) -> None:
    # SHA-256 of this counter's message is 00000000ca49..., see test_hash_engine
    space, counter = NonceSpace(PREFIX, "417203000017", 12), 10_821_512_714
    searches = [Search(space, counter - 500, 1000, zeros) for zeros in (8, 9, 64)]

    eight, *more = run(engine, searches)

    assert eight.hit == counter
    assert more == [Found(1, 1000, None), Found(2, 1000, None)]


def test_many_searches_closed_early_leave_the_engine_ready(engine: HashEngine) -> None:
    for _ in range(3):
        answers = engine.search_many([small(n, 4) for n in range(500)])
        next(answers)
        answers.close()  # type: ignore[attr-defined]

        searches = [small(n, 2) for n in range(20)]
        for found, search in zip(run(engine, searches), searches, strict=True):
            assert_right(found, search)
        assert sum(batch.count for batch in engine.search(searches[0].space, 0, 70_000, 9)) == 70_000


def test_a_search_too_large_to_be_small_is_heard_of_while_it_runs_and_may_be_stopped(engine: HashEngine) -> None:
    search = Search(lay_out(PREFIX, "27182818284590", 12, ANY), 0, 10**12, 40)
    with closing(engine.search_many([search, small(1, 1)])) as answers:  # type: ignore[type-var]
        heard = next(found for found in answers if found.index == 0)

    assert 0 < heard.done < 10**12
    assert heard.hit is None


def test_no_search_is_over_at_once(engine: HashEngine) -> None:
    assert list(engine.search_many([])) == []


@pytest.mark.parametrize(
    ("start", "count", "zeros"), [(-1, 10, 1), (0, 0, 1), (10**12 - 5, 6, 1), (0, 1, 0), (0, 1, 65)]
)
def test_a_search_outside_its_space_is_refused_with_all_when_they_are_asked_for(
    engine: HashEngine, start: int, count: int, zeros: int
) -> None:
    space = lay_out(PREFIX, "1", 12, ANY)
    with pytest.raises(InvalidInput):
        engine.search_many([small(1, 1), Search(space, start, count, zeros)])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.binary(max_size=90), st.integers(0, 10**14 - 1), st.sampled_from([ANY, 90, SHORT, PLAIN]),
            st.integers(0, 10**12 - 20_000), st.integers(1, 20_000), st.integers(1, 4),
        ),
        min_size=1, max_size=12,
    )
)  # fmt: skip
def test_any_searches_are_answered_as_hashlib_says(
    engine: HashEngine, asked: list[tuple[bytes, int, int, int, int, int]]
) -> None:
    searches = [
        Search(lay_out(prefix, f"{number:014d}", 12, digits), start, count, zeros)
        for prefix, number, digits, start, count, zeros in asked
    ]

    for found, search in zip(run(engine, searches), searches, strict=True):
        assert_right(found, search)


def test_a_closed_engine_makes_no_searches() -> None:
    for open_it in (open_cpu, open_opencl, open_cuda):
        try:
            engine = open_it()
        except EngineUnavailable:
            assert open_it is not open_cpu  # this machine has no such device, but a CPU it has
            continue
        engine.close()
        with pytest.raises(EngineError, match="closed"):
            list(engine.search_many([small(1, 1)]))
