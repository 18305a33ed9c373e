"""The CPU engine's processes: they start, share the work, and none of them can hang or outlive the engine."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from cpu_fallback.engine import CpuEngine, _Lane, share_out
from cpu_fallback.jit import find_target
from cpu_fallback.lane import Answer
from cpu_fallback.search import search_range
from hashfleet.engine import EngineKind, Search
from hashfleet.errors import EngineError, EngineUnavailable, InvalidInput
from hashfleet.message import NonceSpace, lay_out

SPACE = NonceSpace(b"5-1MINE7NONCE", "", 12)


@pytest.fixture
def engine() -> Iterator[CpuEngine]:
    """Three processes."""
    opened = CpuEngine(3, niceness=0)
    yield opened
    opened.close()


def pids(engine: CpuEngine) -> list[int]:
    return [lane.process.pid for lane in engine._lanes]


def has_ended(pid: int, within: float = 20.0) -> bool:
    """Wait until that process has ended, or until the time is over."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within)[0])
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("target", ["host", "avx512", "avx2", "sse2", "hashlib"])
def test_any_target_of_this_cpu_finds_what_hashlib_finds(target: str) -> None:
    space = lay_out(b"5-28BUILD679575NONCE", "417", 12, 200)
    try:
        engine = CpuEngine(2, niceness=0, target=target, compile_first=True)
    except EngineUnavailable as error:
        pytest.skip(str(error))
    try:
        found = tuple(hit for batch in engine.search(space, 777, 200_000, 3) for hit in batch.hits)
        assert engine.device.driver.startswith("hashlib" if target == "hashlib" else engine_code(target))
    finally:
        engine.close()

    assert found == search_range(space.constant, 12, 777, 200_000, 3, space.filler_digits)


def engine_code(target: str) -> str:
    return f"{find_target(target).name} by LLVM"


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(InvalidInput, match="it should be one of host, avx512, avx2, sse2, hashlib"):
        CpuEngine(1, target="mmx")


def test_a_target_that_the_cpu_lacks_makes_the_engine_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = Answer(0, refusal="this CPU has no avx512f, which avx512 needs")
    monkeypatch.setattr(CpuEngine, "_answers", lambda self, asked: [refusal for _ in asked])
    with pytest.raises(EngineUnavailable, match="this CPU has no avx512f"):
        CpuEngine(1, target="avx512")


def test_kernels_that_cannot_be_used_are_reported_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Found before the real one by the engine's processes: a library that does not load.
    (tmp_path / "llvmlite.py").write_text("raise ImportError('libLLVM is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    engine = CpuEngine(2, niceness=0)
    try:
        assert sum(batch.count for batch in engine.search(SPACE, 0, 3000, 1)) == 3000
    finally:
        engine.close()

    (record,) = caplog.records
    assert "LLVM cannot be loaded (libLLVM is missing); hashlib hashes instead" in record.getMessage()


@pytest.mark.parametrize(
    ("start", "count", "shares"), [(0, 5, 5), (0, 100_000, 3), (0, 9_600_000, 4), (777_777, 9_000_001, 3)]
)
def test_shares_cover_a_batch_without_gap_and_long_ones_end_at_whole_groups(
    start: int, count: int, shares: int
) -> None:
    edges = share_out(start, count, shares)

    assert (edges[0], edges[-1], len(edges)) == (start, start + count, shares + 1)
    assert all(low < high for low, high in pairwise(edges))
    assert count < 640_000 * shares or all(edge % 640_000 == 0 for edge in edges[1:-1])


def test_a_shape_without_a_kernel_does_not_get_the_batches_of_one_with(engine: CpuEngine) -> None:
    shaped = lay_out(b"5-28BUILD679575NONCE", "417", 12, 200)
    engine.search(shaped, 0, 1, 1)
    engine._sizes["T"].nonces = 10**9

    assert next(iter(engine.search(SPACE, 0, 10**9, 9))).count < 10**6


def test_one_process_per_core_this_process_may_use_is_the_default() -> None:
    engine = CpuEngine()
    try:
        assert len(pids(engine)) == len(os.sched_getaffinity(0))
    finally:
        engine.close()


def test_the_device_is_the_cpu(engine: CpuEngine) -> None:
    assert engine.device.device_id == "cpu"
    assert engine.device.kind is EngineKind.CPU
    assert "3 processes" in engine.device.name


@pytest.mark.parametrize("count", [1, 2, 3, 4, 100])
def test_a_range_smaller_than_or_just_above_the_number_of_processes_is_searched(engine: CpuEngine, count: int) -> None:
    wanted = search_range(SPACE.constant, 12, 50, count, 1)

    assert tuple(hit for batch in engine.search(SPACE, 50, count, 1) for hit in batch.hits) == wanted


def test_the_processes_are_as_nice_as_asked() -> None:
    engine = CpuEngine(1, niceness=3)
    try:
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, pids(engine)[0]) == min(19, own + 3)
    finally:
        engine.close()


@pytest.mark.parametrize("processes", [0, -1, 5000])
def test_an_impossible_number_of_processes_is_refused(processes: int) -> None:
    with pytest.raises(InvalidInput, match="it should be 1 to 1024"):
        CpuEngine(processes)


@pytest.mark.parametrize("niceness", [-1, 20])
def test_an_impossible_niceness_is_refused(niceness: int) -> None:
    with pytest.raises(InvalidInput, match="niceness"):
        CpuEngine(1, niceness)


def test_closing_ends_every_process(engine: CpuEngine) -> None:
    running = pids(engine)
    engine.close()

    assert running
    assert all(has_ended(pid, within=0) for pid in running)


def test_a_process_that_was_killed_is_named_in_the_error(engine: CpuEngine) -> None:
    batches = engine.search(SPACE, 0, 10**9, 9)
    next(batches)
    victim = pids(engine)[1]
    os.kill(victim, signal.SIGKILL)

    with pytest.raises(EngineError, match=rf"CPU process 2 \(pid {victim}\) was killed by signal 9"):
        for _ in batches:
            pass


def test_an_engine_that_lost_a_process_stays_failed(engine: CpuEngine) -> None:
    os.kill(pids(engine)[0], signal.SIGKILL)
    with pytest.raises(EngineError):
        list(engine.search(SPACE, 0, 1000, 1))

    with pytest.raises(EngineError, match="CPU process 1"):
        engine.search(SPACE, 0, 1000, 1)


def test_a_process_that_hangs_is_an_error_after_the_time_limit_and_can_be_closed() -> None:
    engine = CpuEngine(2, niceness=0)
    hung = pids(engine)[1]
    os.kill(hung, signal.SIGSTOP)
    engine._time_limit = 0.2
    with pytest.raises(EngineError, match=rf"CPU process 2 \(pid {hung}\) did not answer within 0\.2 s"):
        list(engine.search(SPACE, 0, 1000, 1))
    engine.close()

    assert has_ended(hung, within=0)


def test_an_interrupt_while_waiting_leaves_the_next_search_right(
    engine: CpuEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cpu_fallback.engine.wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(engine.search(SPACE, 0, 3000, 1))

    wanted = search_range(SPACE.constant, 12, 7000, 3000, 2)
    assert tuple(hit for batch in engine.search(SPACE, 7000, 3000, 2) for hit in batch.hits) == wanted


def test_ctrl_c_does_not_end_the_processes(engine: CpuEngine) -> None:
    for pid in pids(engine):
        os.kill(pid, signal.SIGINT)

    assert sum(batch.count for batch in engine.search(SPACE, 0, 3000, 1)) == 3000
    assert not any(has_ended(pid, within=0) for pid in pids(engine))


def test_processes_that_do_not_start_make_the_engine_unavailable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(EngineUnavailable, match="the CPU engine did not start"):
        CpuEngine(2)


def test_processes_that_end_at_once_make_the_engine_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EngineUnavailable, match=r"CPU process [12] \(pid \d+\) ended with status 1"):
        CpuEngine(2)


def test_the_processes_end_when_the_engine_is_killed_together_with_its_process() -> None:
    code = (
        "import os, signal\n"
        "from cpu_fallback.engine import CpuEngine\n"
        "engine = CpuEngine(2)\n"
        "print(*(lane.process.pid for lane in engine._lanes), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    lanes = [int(pid) for pid in ended.stdout.split()]

    assert ended.returncode == -signal.SIGKILL
    assert len(lanes) == 2
    assert all(has_ended(pid) for pid in lanes)


def test_the_engine_can_be_opened_in_a_daemonic_process() -> None:
    code = (
        "import multiprocessing\n"
        "from cpu_fallback.engine import CpuEngine\n"
        "def use():\n"
        "    CpuEngine(1).close()\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('fork').Process(target=use, daemon=True)\n"
        "    child.start()\n"
        "    child.join(30)\n"
        "    raise SystemExit(child.exitcode)\n"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_many_searches_closed_early_leave_the_processes_idle_and_ready(engine: CpuEngine) -> None:
    for _ in range(3):
        answers = engine.search_many([Search(SPACE, 0, 10**12, 40)] * 5)
        next(answers)
        answers.close()  # type: ignore[attr-defined]
    assert sum(batch.count for batch in engine.search(SPACE, 0, 100, 9)) == 100


def test_whoever_is_content_before_the_last_answers_waits_for_no_process_that_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = CpuEngine(2, niceness=0, time_limit=5.0)
    next_answers = engine._next_answers

    def all_at_once(working: list[_Lane], deadline: float | None = None) -> list[tuple[_Lane, Answer]]:
        """As on a busy machine: by the time they are looked at, all answers are there."""
        told: list[tuple[_Lane, Answer]] = []
        left = list(working)
        while left:
            told += next_answers(left, deadline)
            left = [lane for lane in left if not any(lane is other and not each.more for other, each in told)]
        return told

    monkeypatch.setattr(engine, "_next_answers", all_at_once)
    try:
        answers = engine.search_many([Search(SPACE, 0, 10**6, 1)] * 2)
        assert next(answers).hit is not None
        answers.close()  # type: ignore[attr-defined]
    finally:
        engine.close()


def test_another_search_before_many_are_over_ends_these_with_a_clear_error(engine: CpuEngine) -> None:
    many = engine.search_many([Search(SPACE, 0, 10**12, 40)] * 5)
    next(many)
    assert sum(batch.count for batch in engine.search(SPACE, 0, 100, 9)) == 100
    with pytest.raises(InvalidInput, match="another search was begun"):
        list(many)
    assert sum(batch.count for batch in engine.search(SPACE, 0, 100, 9)) == 100


def test_a_process_that_dies_within_many_searches_fails_the_engine_by_name(engine: CpuEngine) -> None:
    many = engine.search_many([Search(SPACE, 0, 10**12, 40)] * 3)
    next(many)
    os.kill(pids(engine)[1], signal.SIGKILL)
    with pytest.raises(EngineError, match=r"CPU process 2 .* was killed by signal 9"):
        list(many)
    with pytest.raises(EngineError, match="killed by signal 9"):
        engine.search_many([Search(SPACE, 0, 10, 1)])
