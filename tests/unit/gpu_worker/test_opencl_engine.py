"""What the OpenCL engine does when its device fails; that it hashes rightly is the contract suite's."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator

import pytest

from gpu_worker import gpu_engine, opencl_engine
from gpu_worker.discovery import find_devices
from gpu_worker.kernel_source import MULTIPLY_ADD
from gpu_worker.opencl_engine import IN_FLIGHT, VECTOR_WIDTHS, OpenClEngine, lane_options, vector_width
from hashfleet.batches import BatchSize
from hashfleet.errors import EngineError, EngineUnavailable, InvalidInput
from hashfleet.message import NonceSpace
from hashfleet.self_test import self_test

SPACE = NonceSpace(b"5-1MINE7NONCE", "", 12)
#: Shapes T and S; which is which is asserted where it matters.
SHARED = NonceSpace(b"5-28BUILD679575NONCE", "0" * 28 + "41720300", 12, 48)
SHORT = NonceSpace(b"5-28BUILD679575NONCE", "00000000417203000017", 12)


class Launches:
    """Stands before the driver: which launches of kernels there were, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import pyopencl as cl

        self.events: list[cl.Event] = []
        self.grids: list[tuple[int, ...]] = []
        self.waited_for: list[list[cl.Event]] = []
        enqueue = cl.enqueue_nd_range_kernel

        def noted(
            queue: cl.CommandQueue,
            kernel: cl.Kernel,
            grid: tuple[int, ...],
            group: tuple[int, ...],
            wait_for: list[cl.Event],
        ) -> cl.Event:
            self.grids.append(grid)
            self.waited_for.append(wait_for)
            self.events.append(enqueue(queue, kernel, grid, group, wait_for=wait_for))
            return self.events[-1]

        monkeypatch.setattr(cl, "enqueue_nd_range_kernel", noted)


def opened(**options: int) -> OpenClEngine:
    """The first OpenCL device."""
    try:
        device_id = find_devices("opencl")[0].device_id
    except EngineUnavailable as error:
        pytest.skip(str(error))
    platform, device = device_id.removeprefix("opencl:").split(".")
    return OpenClEngine(int(platform), int(device), **options)


@pytest.fixture
def engine() -> Iterator[OpenClEngine]:
    made = opened()
    yield made
    made.close()


def test_a_device_that_does_not_answer_is_an_error_with_its_name(
    engine: OpenClEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_is_complete", lambda event: False)
    monkeypatch.setattr(engine, "_time_limit", 0.01)
    with pytest.raises(EngineError, match=rf"{engine.device.device_id} did not answer within 0\.01 s"):
        next(engine.search(SPACE, 0, 1000, 4))


def test_an_engine_that_has_failed_stays_failed(engine: OpenClEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_is_complete", lambda event: False)
        patch.setattr(engine, "_time_limit", 0.01)
        with pytest.raises(EngineError):
            next(engine.search(SPACE, 0, 1000, 4))

    with pytest.raises(EngineError, match="did not answer"):
        engine.search(SPACE, 0, 1000, 4)


def test_an_error_of_the_driver_is_an_engine_error(engine: OpenClEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyopencl as cl

    def refuse(*arguments: object, **options: object) -> None:
        raise cl.RuntimeError("clEnqueueNDRangeKernel failed: OUT_OF_RESOURCES\nmore")

    monkeypatch.setattr(cl, "enqueue_nd_range_kernel", refuse)
    with pytest.raises(EngineError, match=r"failed: clEnqueueNDRangeKernel failed: OUT_OF_RESOURCES$"):
        next(engine.search(SPACE, 0, 1000, 4))


def test_a_launch_that_ends_in_error_is_an_engine_error(engine: OpenClEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failed:
        command_execution_status = -5

    monkeypatch.setattr("pyopencl.enqueue_nd_range_kernel", lambda *arguments, **options: Failed())
    with pytest.raises(EngineError, match="OpenCL error -5"):
        next(engine.search(SPACE, 0, 1000, 4))


def test_a_kernel_that_does_not_compile_makes_the_engine_unavailable(
    engine: OpenClEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu_worker.opencl_engine.opencl_source", lambda: "this is no OpenCL C")
    platform, device = engine.device.device_id.removeprefix("opencl:").split(".")
    with pytest.raises(EngineUnavailable, match=f"{engine.device.device_id} cannot be used"):
        OpenClEngine(int(platform), int(device))


@pytest.mark.parametrize(
    ("is_cpu", "native", "width"),
    [(True, 16, 16), (True, 8, 8), (True, 4, 4), (True, 1, 1), (True, 0, 1), (True, 6, 4), (True, 32, 16),
     (False, 1, 1), (False, 4, 1)],
)  # fmt: skip
def test_a_work_item_is_as_wide_as_a_cpus_vectors_and_one_nonce_wide_on_a_gpu(
    is_cpu: bool, native: int, width: int
) -> None:
    assert vector_width(is_cpu, native) == width
    assert width in VECTOR_WIDTHS


def test_the_next_launch_is_queued_before_a_batch_is_handed_over(
    engine: OpenClEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches = Launches(monkeypatch)
    batches = engine.search(SHARED, 0, SHARED.capacity, 64)
    for taken in range(1, 5):
        next(batches)
        assert len(launches.events) == taken + IN_FLIGHT - 1


def test_launches_run_one_after_the_other(engine: OpenClEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    launches = Launches(monkeypatch)
    batches = engine.search(SHORT, 0, SHORT.capacity, 64)
    for _ in range(4):
        next(batches)

    assert launches.waited_for[1:] == [[event] for event in launches.events[:-1]]


def test_a_closed_search_launches_no_more_and_lets_the_next_one_begin(
    engine: OpenClEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches = Launches(monkeypatch)
    batches = engine.search(SHARED, 0, SHARED.capacity, 64)
    next(batches)
    launched = len(launches.events)
    batches.close()  # type: ignore[attr-defined]
    assert len(launches.events) == launched

    (batch,) = engine.search(SHARED, 5, 10, 1)
    assert (batch.start, batch.count) == (5, 10)
    assert len(launches.events) == launched + 1


def test_closing_the_engine_waits_for_the_launches_in_flight(
    engine: OpenClEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches = Launches(monkeypatch)
    next(engine.search(SHARED, 0, SHARED.capacity, 64))
    engine.close()

    assert len(launches.events) == IN_FLIGHT
    assert all(event.command_execution_status == 0 for event in launches.events)


def test_searches_that_take_turns_do_not_share_their_hits(engine: OpenClEngine) -> None:
    alone = {space: [b.hits for b in engine.search(space, 123, 60_000, 2)] for space in (SHARED, SHORT, SPACE)}
    wanted = {space: [hit for hits in batches for hit in hits] for space, batches in alone.items()}
    found: dict[NonceSpace, list[int]] = {space: [] for space in wanted}
    engine._sizes = {name: BatchSize(4_000, 4_000) for name in engine._kernels}
    turns = {space: engine.search(space, 123, 60_000, 2) for space in found}
    while turns:
        for space, batches in list(turns.items()):
            batch = next(batches, None)
            if batch is None:
                del turns[space]
            else:
                found[space] += batch.hits

    assert all(wanted.values())
    assert found == wanted


@pytest.mark.parametrize("space", [SHARED, SHORT], ids=["T", "S"])
def test_batches_end_where_whole_vectors_of_lanes_end(engine: OpenClEngine, space: NonceSpace) -> None:
    unit = 10_000 * engine.width * engine._threads.lane_group
    for name in engine._sizes:
        engine._sizes[name] = BatchSize(3 * unit - 1, 3 * unit - 1)
    batches = list(engine.search(space, 4_711, 9 * unit, 6))

    assert len(batches) > 3
    assert all((batch.start + batch.count) % unit == 0 for batch in batches[:-1])


def test_batches_keep_whole_vectors_of_lanes_when_a_group_is_larger_than_a_launch() -> None:
    # 256 items of 16 lanes are 41 million nonces; those of them that have no lane must cost nothing, or a batch seems
    # to take as long however small it is, and gets smaller and smaller.
    large = opened(group_size=256)
    batches = list(itertools.islice(large.search(SHARED, 0, SHARED.capacity, 64), 16))
    large.close()

    assert large._threads.lane_group > 1
    assert max(batch.count for batch in batches[8:]) >= 10_000 * large.width


@pytest.mark.parametrize("space", [SHARED, SHORT], ids=["T", "S"])
def test_a_range_within_a_lane_costs_no_other_tails(
    engine: OpenClEngine, space: NonceSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches = Launches(monkeypatch)
    monkeypatch.setattr(engine, "_threads", dataclasses.replace(engine._threads, tails=100))
    list(engine.search(space, 4_711, 150, 3))
    list(engine.search(space, 4_711, 15_000, 3))

    group = engine._threads.lane_group
    assert launches.grids == [(group, 2), (group, 100)]


def test_spaces_of_one_length_share_a_table_and_other_lengths_do_not(engine: OpenClEngine) -> None:
    kept = len(engine._tables)
    longer = NonceSpace(b"x" * 192 + SHARED.prefix, SHARED.extranonce, SHARED.counter_digits, SHARED.filler_digits)
    for space in (SHARED, NonceSpace(b"9-28BUILD679575NONCE", SHARED.extranonce, 12, 48)):
        list(engine.search(space, 0, 10, 1))
    assert len(engine._tables) <= kept + 1

    before = len(engine._tables)
    list(engine.search(longer, 0, 10, 1))
    assert len(engine._tables) == before + 1


def test_tables_of_many_lengths_do_not_pile_up(engine: OpenClEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_engine, "_TABLES_KEPT", 2)
    for blocks in range(4):
        space = NonceSpace(b"x" * (64 * blocks) + SHARED.prefix, SHARED.extranonce, 12, 48)
        list(engine.search(space, 0, 10, 1))

    assert len(engine._tables) == 2


def test_a_counter_in_two_pieces_that_is_not_shape_t_is_refused(engine: OpenClEngine) -> None:
    with pytest.raises(InvalidInput, match="two pieces"):
        engine.search(NonceSpace(b"p", "1", 9, 7), 0, 10, 1)


def test_only_nvidias_gpus_are_given_multiply_adds() -> None:
    assert lane_options(0x10DE, 1) == MULTIPLY_ADD
    assert [lane_options(vendor, width) for vendor, width in ((0x1002, 1), (0x8086, 1), (0x10DE, 16))] == [()] * 3


def test_a_compiler_without_assembler_gets_the_kernels_without_multiply_adds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gpu_worker.opencl_engine")
    refused = ("-DMULTIPLY_ADD=no_such_keyword", "-DMULTIPLY_ADD=nor_this_one")
    monkeypatch.setattr(opencl_engine, "lane_options", lambda vendor_id, width: refused)
    engine = opened(width=1)

    assert [option for option in refused if f"do not compile with {option}" in caplog.text] == list(refused)
    self_test(engine)
    engine.close()


@pytest.mark.parametrize("space", [SHARED, SHORT], ids=["T", "S"])
def test_the_first_option_that_compiles_is_used_and_multiplies_by_one(
    monkeypatch: pytest.MonkeyPatch, space: NonceSpace
) -> None:
    # In place of NVIDIA's instruction: what it does, or something else, to see that it is what runs.
    hits = {}
    for name, statement in (("right", "sum=x*one+y"), ("wrong", "sum=x*one+y+1")):
        options = ("-DMULTIPLY_ADD=no_such_keyword", f"-DMULTIPLY_ADD(...)={statement}")
        monkeypatch.setattr(opencl_engine, "lane_options", lambda vendor_id, width, options=options: options)
        engine = opened(width=1)
        hits[name] = [hit for batch in engine.search(space, 4_711, 20_000, 2) for hit in batch.hits]
        engine.close()

    wanted = [n for n in range(4_711, 24_711) if hashlib.sha256(space.message(n)).hexdigest().startswith("00")]
    assert hits["right"] == wanted
    assert hits["wrong"] != wanted
