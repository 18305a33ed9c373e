"""A device in a process of its own: what its crash, its silence and its end do to whoever uses it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_engine import answer_pid, crash, honest_hits, open_child, refuse

from gpu_worker.device_process import DeviceProcess, RestartBudget, call_in_process
from hashfleet.engine import DeviceInfo, EngineKind, Found, Search
from hashfleet.errors import EngineError, EngineUnavailable, InvalidInput
from hashfleet.message import NonceSpace

SPACE = NonceSpace(b"5-28BUILD679575NONCE", "4711", 12)


@pytest.fixture
def start() -> Iterator[Callable[..., DeviceProcess]]:
    """Starts device processes; ended after the test."""
    started: list[DeviceProcess] = []

    def make(device_id: str, **limits: Any) -> DeviceProcess:
        device = DeviceInfo(device_id, "a fake", EngineKind.CPU, "none")
        started.append(DeviceProcess(device, open_child, **limits))
        return started[-1]

    yield make
    for process in started:
        process.close()


def gone(pid: int, seconds: float = 20.0) -> bool:
    """Whether a process has ended; waits for that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_it_finds_what_hashlib_finds_in_batches_without_a_gap(start: Any) -> None:
    batches = list(start("fake:honest").search(SPACE, 50, 1010, 2))
    position = 50
    for batch in batches:
        assert batch.start == position
        position += batch.count
    assert position == 1060
    hits = tuple(hit for batch in batches for hit in batch.hits)
    assert hits
    assert hits == honest_hits(SPACE, 50, 1010, 2)


def test_many_small_searches_find_what_hashlib_finds_first(start: Any) -> None:
    spaces = [NonceSpace(SPACE.prefix, str(1000 + n), 12) for n in range(200)]
    process = start("fake:honest")
    over = {}
    for found in process.search_many([Search(space, 7, 400, 2) for space in spaces]):
        assert found.index not in over
        if found.hit is not None or found.done == 400:
            over[found.index] = found
    assert len(over) == 200
    for index, space in enumerate(spaces):
        hits = honest_hits(space, 7, 400, 2)
        assert over[index] == (Found(index, hits[0] - 6, hits[0]) if hits else Found(index, 400, None))


def test_many_small_searches_closed_early_leave_the_process_ready_for_the_next(start: Any) -> None:
    process = start("fake:honest")
    pid = process.pid
    answers = process.search_many([Search(SPACE, 0, 10**6, 2)] * 500)
    next(answers)
    answers.close()
    assert sum(batch.count for batch in process.search(SPACE, 0, 300, 60)) == 300
    assert process.pid == pid


def test_no_search_is_over_at_once(start: Any) -> None:
    assert list(start("fake:honest").search_many([])) == []


def test_many_searches_of_which_one_lies_outside_its_space_are_refused_before_anything_is_hashed(start: Any) -> None:
    with pytest.raises(InvalidInput, match="do not lie within"):
        start("fake:honest").search_many([Search(SPACE, 0, 10, 2), Search(SPACE, 10**12, 1, 2)])


def test_a_failure_within_many_searches_ends_the_process_and_the_next_search_has_a_new_one(
    start: Any, tmp_path: Path
) -> None:
    process = start(f"fake:fails:{tmp_path / 'marker'}")
    first_pid = process.pid
    with pytest.raises(EngineError, match="fell off the bus"):
        list(process.search_many([Search(SPACE, 0, 1000, 60)]))
    assert list(process.search_many([Search(SPACE, 0, 50, 60)])) == [Found(0, 50, None)]
    assert process.pid != first_pid


def test_a_crash_is_an_engine_error_that_names_the_signal_and_the_next_search_has_a_new_process(
    start: Any, tmp_path: Path
) -> None:
    process = start(f"fake:segfaults:{tmp_path / 'marker'}")
    first_pid = process.pid
    with pytest.raises(EngineError, match="ended by SIGSEGV"):
        list(process.search(SPACE, 0, 1000, 60))
    assert sum(batch.count for batch in process.search(SPACE, 0, 1000, 60)) == 1000
    assert process.pid != first_pid


def test_an_exit_of_the_process_is_an_engine_error_that_names_the_status(start: Any) -> None:
    with pytest.raises(EngineError, match="exit status 7"):
        list(start("fake:exits").search(SPACE, 0, 1000, 60))


def test_a_hung_device_is_killed_when_its_time_is_up_and_replaced(start: Any, tmp_path: Path) -> None:
    process = start(f"fake:hangs:{tmp_path / 'marker'}", answer_seconds=0.5)
    first_pid = process.pid
    with pytest.raises(EngineError, match=r"did not answer within 0\.5 seconds and was killed"):
        list(process.search(SPACE, 0, 1000, 60))
    assert gone(first_pid)
    assert sum(batch.count for batch in process.search(SPACE, 0, 1000, 60)) == 1000


def test_a_device_that_hangs_while_it_is_stopped_does_not_fail_whoever_stops_it(start: Any, tmp_path: Path) -> None:
    process = start(f"fake:hangs:{tmp_path / 'marker'}", answer_seconds=0.5)
    search = process.search(SPACE, 0, 1000, 60)
    next(search)
    search.close()
    assert sum(batch.count for batch in process.search(SPACE, 0, 1000, 60)) == 1000


def test_an_error_of_the_engine_arrives_and_the_next_search_has_a_new_process(start: Any, tmp_path: Path) -> None:
    process = start(f"fake:fails:{tmp_path / 'marker'}")
    first_pid = process.pid
    with pytest.raises(EngineError, match="fell off the bus"):
        list(process.search(SPACE, 0, 1000, 60))
    assert len(list(process.search(SPACE, 0, 1000, 60))) == 10
    assert process.pid != first_pid


def test_a_device_that_does_not_open_says_so_with_its_own_error(start: Any) -> None:
    with pytest.raises(EngineUnavailable, match="there is no fake device"):
        next(start("fake:absent").search(SPACE, 0, 10, 1))


def test_closing_the_search_stops_the_device_and_keeps_its_process(start: Any) -> None:
    process = start("fake:endless")
    search = process.search(SPACE, 0, 10**12, 60)
    next(search)
    pid = process.pid
    search.close()
    assert len(list(process.search(SPACE, 5, 10, 60))) == 1
    assert process.pid == pid


def test_it_is_not_restarted_more_often_than_its_budget_allows(start: Any) -> None:
    process = start("fake:exits", restarts=RestartBudget(most=1, seconds=3600.0))
    for _ in range(2):
        with pytest.raises(EngineError, match="exit status 7"):
            list(process.search(SPACE, 0, 1000, 60))
    with pytest.raises(EngineUnavailable, match="restarted 1 times within 3600 seconds"):
        list(process.search(SPACE, 0, 1000, 60))


def test_the_restart_budget_refills_with_time() -> None:
    now = 0.0
    budget = RestartBudget(most=2, seconds=10.0, clock=lambda: now)
    assert budget.take()
    now = 4.0
    assert budget.take()
    now = 9.9
    assert not budget.take()
    now = 10.0
    assert budget.take()
    assert not budget.take()


@pytest.mark.parametrize(("at", "count", "zeros"), [(0, 0, 1), (10**12, 1, 1), (0, 10, 0), (0, 10, 65)])
def test_a_search_that_cannot_be_is_refused_before_the_device_sees_it(
    start: Any, at: int, count: int, zeros: int
) -> None:
    with pytest.raises(InvalidInput):
        next(start("fake:exits").search(SPACE, at, count, zeros))


def test_signals_to_the_group_leave_the_device_to_its_worker(start: Any) -> None:
    process = start("fake:endless")
    search = process.search(SPACE, 0, 10**12, 60)
    next(search)
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGTERM)
    for _ in range(10):
        next(search)


def test_closing_from_another_thread_ends_a_search_that_hangs(start: Any) -> None:
    process = start("fake:hangs")
    search = process.search(SPACE, 0, 1000, 60)
    next(search)
    closer = threading.Timer(0.05, process.close)
    closer.start()
    with pytest.raises(EngineError, match="was ended by SIGKILL"):
        next(search)
    closer.join()


def test_the_device_process_ends_when_its_worker_is_killed() -> None:
    script = """
import sys
sys.path.extend(%r)
from scripted_engine import open_child
from gpu_worker.device_process import DeviceProcess
from hashfleet.engine import DeviceInfo, EngineKind, Found, Search
from hashfleet.message import NonceSpace
if __name__ == "__main__":
    process = DeviceProcess(DeviceInfo("fake:endless", "", EngineKind.CPU, ""), open_child)
    for batch in process.search(NonceSpace(b"x", "1", 12), 0, 10**12, 60):
        print(process.pid, flush=True)
"""
    command = [sys.executable, "-c", script % [path for path in sys.path if path]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        worker.kill()
        assert gone(child)


def test_a_worker_that_ends_without_closing_its_device_does_not_hang() -> None:
    script = """
import sys
sys.path.extend(%r)
from scripted_engine import open_child
from gpu_worker.device_process import DeviceProcess
from hashfleet.engine import DeviceInfo, EngineKind, Found, Search
from hashfleet.message import NonceSpace
if __name__ == "__main__":
    process = DeviceProcess(DeviceInfo("fake:hangs", "", EngineKind.CPU, ""), open_child)
    next(process.search(NonceSpace(b"x", "1", 12), 0, 10**12, 60))
    print(process.pid)
    sys.exit(3)
"""
    command = [sys.executable, "-c", script % [path for path in sys.path if path]]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert ended.returncode == 3
    assert gone(int(ended.stdout))


def test_a_call_in_a_process_of_its_own_answers() -> None:
    assert call_in_process(answer_pid, "", "the question") != os.getpid()


def test_a_call_that_crashes_its_process_is_an_engine_error_that_names_it() -> None:
    with pytest.raises(EngineError, match="the question was ended by SIGSEGV"):
        call_in_process(crash, "", "the question")


def test_an_error_of_a_call_arrives_as_it_was_raised() -> None:
    with pytest.raises(EngineUnavailable, match="no driver"):
        call_in_process(refuse, "no driver", "the question")
