"""The parts of the measurements that decide what is counted."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench import engines, limits, machine
from bench.device_log import DeviceLog, gaps_between_leases
from bench.engines import SHAPES, search_rate, space_of
from bench.fleet import REFINE_RANGE, Booking, booked_rate, hardest_zeros
from bench.house import scenario_of
from bench.jobs import BUILD_RANGE, DIFFICULTIES, small_jobs
from bench.limits import CudaDevice, VectorCount, cpu_limit, cuda_limit, limit_of, parse_sass_count, vector_count
from bench.observed_worker import Observation, ObservedEngine, read_observation
from bench.vector_ports import VectorPorts, vector_ports
from devnet.scenario import Scenario, genesis
from devnet.state import STRUCT_TYPES
from hashfleet.difficulty import safe
from hashfleet.engine import Batch, DeviceInfo, EngineKind, Found, Search
from hashfleet.errors import EngineError, EngineUnavailable, HashfleetError
from hashfleet.message import NonceSpace

CPU = DeviceInfo("cpu", "EPYC", EngineKind.CPU, "1")
OPENCL_GPU = DeviceInfo("opencl:0.0", "gfx1100", EngineKind.OPENCL, "1")


class Clockwork:
    """An engine that does 1,000 nonces a batch, and the clock that one of its batches moves on by 0.1 s."""

    device = DeviceInfo("cpu", "clockwork", EngineKind.CPU, "1")

    def __init__(self) -> None:
        self.now = 0.0
        self.closed_searches = 0

    def clock(self) -> float:
        return self.now

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
        try:
            for at in range(start, start + count, 1000):
                self.now += 1.0 if at == start else 0.1  # the first one is slow
                yield Batch(at, min(1000, start + count - at), ())
        finally:
            self.now += 0.01
            self.closed_searches += 1

    def search_many(self, searches: list[Search]) -> Iterator[Found]:
        yield from ()

    def close(self) -> None: ...


def test_the_shapes_of_the_benchmark_are_what_they_are_called() -> None:
    spaces = {shape: space_of(shape) for shape in SHAPES}
    assert {shape: space.shared is not None for shape, space in spaces.items()} == {
        "T": True, "S": False, "plain": False,
    }  # fmt: skip
    assert {shape: space.short is not None for shape, space in spaces.items()} == {
        "T": False, "S": True, "plain": False,
    }  # fmt: skip


def test_the_rate_of_an_engine_leaves_out_its_warming_up() -> None:
    engine = Clockwork()
    assert search_rate(engine, space_of("T"), 1.0, engine.clock) == pytest.approx(10_000)
    assert engine.closed_searches == 1


def test_an_engine_that_searched_everything_too_soon_is_no_measurement() -> None:
    engine = Clockwork()
    with pytest.raises(EngineError, match="searched all 100000 nonces"):
        search_rate(engine, NonceSpace(b"5-1BUILD1NONCE", "", 5), 3600.0, engine.clock)


def test_an_observed_search_ends_when_the_device_is_idle() -> None:
    engine, told = Clockwork(), list[Observation]()
    observed = ObservedEngine(engine, told.append, engine.clock)
    space = NonceSpace(b"5-1BUILD1NONCE", "77", 12)
    batches = observed.search(space, 5, 10**6, 3)
    assert next(batches) == Batch(5, 1000, ())
    batches.close()  # type: ignore[attr-defined]
    assert told == [Observation("begin", 0.0, "77", 5), Observation("end", pytest.approx(1.01), "77", 5)]
    assert [read_observation(each.line().encode()) for each in told] == told


def test_gaps_are_counted_between_leases_only() -> None:
    searches = [
        Observation("begin", 1.0, "01", 0),
        Observation("end", 2.0, "01", 0),
        Observation("begin", 2.5, "01", 700),  # a retarget: the same lease goes on
        Observation("end", 3.0, "01", 700),
        Observation("begin", 3.25, "02", 0),
        Observation("end", 4.0, "02", 0),
    ]
    assert gaps_between_leases(searches) == [0.25]


async def test_a_device_is_idle_since_its_last_search_ended() -> None:
    output = asyncio.StreamReader()
    log = DeviceLog(output)
    following = asyncio.create_task(log.follow())
    output.feed_data(Observation("begin", 1.0, "01", 0).line().encode())
    await log.busy(5.0)
    output.feed_data(Observation("end", 2.5, "01", 0).line().encode())
    assert await log.idle(5.0) == 2.5
    output.feed_eof()
    await following
    with pytest.raises(HashfleetError, match="the observed worker ended"):
        await log.busy(5.0)


async def test_a_device_that_does_not_hash_in_time_is_a_failure() -> None:
    log = DeviceLog(asyncio.StreamReader())
    with pytest.raises(HashfleetError, match="the device does not hash"):
        await log.busy(0.01)


def test_booked_hashes_are_counted_from_booking_to_booking() -> None:
    assert booked_rate([Booking(1000, 10.0), Booking(1500, 11.0), Booking(3000, 12.0)]) == 1000.0


@pytest.mark.parametrize("bookings", [[], [Booking(5, 1.0)], [Booking(5, 1.0), Booking(9, 1.0)]])
def test_one_booking_makes_no_rate(bookings: list[Booking]) -> None:
    with pytest.raises(HashfleetError, match="less than twice"):
        booked_rate(bookings)


def test_a_faster_fleet_gets_harder_work_that_lasts_longer_than_a_measurement() -> None:
    rates = (4e6, 250e6, 33e9)
    zeros = [hardest_zeros(rate) for rate in rates]
    assert zeros == sorted(set(zeros))
    assert all(16**z / rate > 100 for z, rate in zip(zeros, rates, strict=True))


def test_the_small_jobs_ask_for_the_difficulties_in_turn_for_many_blocks() -> None:
    jobs = small_jobs(10)
    for blocks in (1, 50):
        asked = [safe(job.age + blocks, BUILD_RANGE) for job in jobs]
        assert asked == [*DIFFICULTIES, *DIFFICULTIES]


def test_the_stage_is_one_that_the_devnet_accepts() -> None:
    state, height = genesis(Scenario.model_validate_json(json.dumps(scenario_of(small_jobs(300)))))
    assert len(state.structs) == 300
    assert state.structs["5-2"].block_start_build == height - small_jobs(2)[1].age


def test_the_ranges_are_the_chains() -> None:
    assert STRUCT_TYPES[15].refine_range == REFINE_RANGE
    assert STRUCT_TYPES[22].build_range == BUILD_RANGE


T, S, PLAIN = space_of("T"), space_of("S"), space_of("plain")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 GHz with four ports, of which two rotate; a hash of 800 operations, and one that rotates much."""
    counts = {"T": VectorCount(800, 300), "S12": VectorCount(800, 500)}
    monkeypatch.setattr(limits, "vector_ports", lambda cores: VectorPorts(cores, 16, 4e9, cores * 16e9, cores * 8e9))
    monkeypatch.setattr(limits, "vector_count", counts.__getitem__)


@pytest.mark.usefixtures("counted")
def test_the_limit_is_set_by_the_ports_that_are_short() -> None:
    assert cpu_limit(T, 1).rate == pytest.approx(16 * 16e9 / 800)
    assert cpu_limit(S, 1).rate == pytest.approx(16 * 8e9 / 500)


@pytest.mark.usefixtures("counted")
def test_a_limit_grows_with_the_cores_and_says_how_it_was_computed() -> None:
    limit = cpu_limit(T, 2)
    assert limit.rate == pytest.approx(2 * 16 * 16e9 / 800)
    assert limit.how.startswith("800 vector operations a hash, 300 of them shifts or rotations")
    assert "4.00 GHz, 4.0 vector operations a cycle" in limit.how


def test_what_is_not_counted_has_no_limit_but_a_reason() -> None:
    for device, hardware, space in ((CPU, "one core", PLAIN), (OPENCL_GPU, "GPU", T)):
        limit = limit_of(device, hardware, space)  # type: ignore[arg-type]
        assert limit.rate is None
        assert limit.how.startswith("unmeasured: ")


def test_the_vector_operations_are_those_of_the_compiled_loop() -> None:
    count = vector_count("T")
    assert 0 < count.rotations < count.total
    assert count.total >= 815  # 51 rounds with the widest instructions there are


#: Lines of tools/count_sass.py, shortened.
SASS = json.dumps(
    {
        "nvrtc": "13.5",
        "kernels": [
            {"kernel": "search_shared", "binding_pipe": "alu", "hashes_per_sm_and_clock": 0.12451},
            {"kernel": "search_shared", "binding_pipe": "multiply_add", "hashes_per_sm_and_clock": 0.125},
            {"kernel": "search_short_12", "binding_pipe": "alu", "hashes_per_sm_and_clock": 0.08195},
        ],
    }
)


def test_the_limit_of_a_cuda_device_is_that_of_the_busiest_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_sass_count", lambda architecture: SASS if architecture == 90 else "")
    limit = cuda_limit(T, CudaDevice(90, 132, 2e9))
    assert limit.rate == pytest.approx(132 * 2e9 * 0.125)
    assert "multiply_add pipe" in limit.how


def test_without_the_counter_there_is_no_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(limits, "SASS_COUNTER", tmp_path / "count_sass.py")
    with pytest.raises(EngineUnavailable, match="is not here to count"):
        cuda_limit(T, CudaDevice(1, 1, 1e9))


@pytest.mark.parametrize("output", ["", "[]", "{}", '{"kernels": []}', '{"kernels": [{"kernel": "search_shared"}]}'])
def test_a_counter_that_prints_no_counts_is_a_failure(output: str) -> None:
    with pytest.raises(EngineUnavailable, match="printed no count of search_shared"):
        parse_sass_count(output, "search_shared")


def test_a_commit_is_told_for_a_checkout_only(tmp_path: Path) -> None:
    assert machine.commit(tmp_path) is None


def test_what_a_run_has_recorded_is_no_change_of_what_it_measures(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True)

    checkout = tmp_path.resolve()
    (checkout / "bench" / "results").mkdir(parents=True)
    result, code = checkout / "bench" / "results" / "jobs.json", checkout / "bench" / "code.py"
    result.touch()
    code.touch()
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "Begin")
    result.write_text("{}")
    assert not str(machine.commit(checkout)).endswith("+changes")
    code.write_text("pass")
    assert str(machine.commit(checkout)).endswith("+changes")


def test_the_ports_of_this_machine_are_measured_or_it_is_said_why_not() -> None:
    try:
        ports = vector_ports(1)
    except EngineUnavailable as error:
        assert "not measured" in str(error)
    else:
        assert ports.lanes in (8, 16)
        assert min(ports.clock, ports.additions, ports.rotations) > 0


def test_more_cores_than_there_are_have_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineUnavailable):
        vector_ports(100_000)


def test_a_device_is_measured_in_every_shape_after_its_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    tested = []
    monkeypatch.setattr(engines, "CpuEngine", lambda *_, **__: Clockwork())
    monkeypatch.setattr(engines, "self_test", tested.append)
    with ExitStack() as stack:
        contenders, refused = engines.open_contenders(("cpu",), stack)
    assert [contender.id for contender in contenders] == [
        "cpu-1/T", "cpu-1/S", "cpu-1/plain", "cpu/T", "cpu/S", "cpu/plain",
    ]  # fmt: skip
    assert len(tested) == 2
    assert refused == []


def test_an_engine_that_computes_wrongly_is_not_measured_but_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "CpuEngine", lambda *_, **__: Clockwork())
    with ExitStack() as stack:
        contenders, refused = engines.open_contenders(("cpu",), stack)
    assert contenders == []
    assert [each.what for each in refused] == ["cpu-1", "cpu"]
    assert "does not compute SHA-256 rightly" in refused[0].reason


def test_a_kind_of_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(kind: str) -> list[DeviceInfo]:
        raise EngineUnavailable("CUDA finds no device")

    monkeypatch.setattr(engines, "find_devices", none)
    with ExitStack() as stack:
        contenders, refused = engines.open_contenders(("cuda",), stack)
    assert contenders == []
    assert [(each.what, each.reason) for each in refused] == [("CUDA engine", "CUDA finds no device")]
