"""What a new height costs the core while very many jobs wait."""

from __future__ import annotations

import time

from bench.report import HeightTimes, Times, Touched
from coordinator.core.commands import ReadWork
from coordinator.core.events import BlockCommitted, JobsRestored, Ticked, WorkerJoined, WorkRead
from coordinator.core.job import Job, JobState
from coordinator.core.machine import Machine
from coordinator.core.roster import DeviceOffer
from hashfleet.action import Action, Work
from hashfleet.engine import DeviceInfo, EngineKind
from hashfleet.job_request import JobRequest

HEIGHT = 100_000
BLOCK_SECONDS = 5.0
#: Ranges of the chain's larger builds, and ages at which none of them is worth hashing yet.
RANGES, AGES = (5000, 3600, 2880, 1440), range(12, 300)
#: Objects that a block with something in it touches.
HANDFUL = 8
_CASES: tuple[Touched, ...] = ("nothing", "a handful", "unknown", "nothing, after the fleet changed")
#: The rate that a worker brings, and the factor between two of them: every start height is to be computed anew.
_RATE, _STEP = 1e8, 30.0


def measure_heights(jobs: int, samples: int) -> tuple[HeightTimes, ...]:
    """Seconds to handle a block, by what is known of what it touched, in turns."""
    machine, now = waiting_machine(jobs)
    taken: dict[Touched, list[float]] = {case: [] for case in _CASES}
    height = HEIGHT
    for number in range(samples):
        for case in _CASES:
            height += 1
            now += BLOCK_SECONDS
            touched = {
                "nothing": frozenset[str](),
                "a handful": frozenset(f"5-{1 + (HANDFUL * number + each) % jobs}" for each in range(HANDFUL)),
                "unknown": None,
                "nothing, after the fleet changed": frozenset[str](),
            }[case]
            if case == "nothing, after the fleet changed":
                offer = DeviceOffer(DeviceInfo("cpu", "simulated", EngineKind.CPU, "1"), _RATE * _STEP ** (number % 2))
                machine.handle(WorkerJoined(now, "w_1", "w_1", "bench", (offer,)))
            began = time.perf_counter()
            out = machine.handle(BlockCommitted(now, height, now, touched))
            taken[case].append(time.perf_counter() - began)
            _answer(machine, [each for each in out.commands if isinstance(each, ReadWork)], now)
            if case == "nothing, after the fleet changed":
                while machine.state.replanning:  # a little with each tick
                    machine.handle(Ticked(now + 1))
    return tuple(HeightTimes(touched=case, handled=Times(seconds=tuple(taken[case]))) for case in _CASES)


def waiting_machine(jobs: int) -> tuple[Machine, float]:
    """A core in which so many jobs wait, read and planned, and its time."""
    now = 1.7e9
    machine = Machine(0)
    restored = tuple(
        Job(f"pow_{n}", JobRequest(Action.BUILD, f"5-{n + 1}", "1-11"), JobState.QUEUED, now, now, work=work_of(n))
        for n in range(jobs)
    )
    machine.handle(JobsRestored(now, restored))
    out = machine.handle(BlockCommitted(now, HEIGHT, now, frozenset()))
    _answer(machine, [each for each in out.commands if isinstance(each, ReadWork)], now)
    waiting = sum(entry.job.state is JobState.WAITING for entry in machine.state.entries.values())
    assert waiting == jobs, f"{waiting} of {jobs} jobs wait"
    return machine, now


def work_of(number: int) -> Work:
    """The puzzle of the struct with this number."""
    anchor = HEIGHT - AGES[number % len(AGES)]
    return Work(Action.BUILD, f"5-{number + 1}", anchor, RANGES[number % len(RANGES)])


def _answer(machine: Machine, reads: list[ReadWork], now: float) -> None:
    """Give the core the readings that it asks for, until it asks for none."""
    while reads:
        asked: list[ReadWork] = []
        for read in reads:
            number = int(read.job_id.removeprefix("pow_"))
            work = work_of(number)
            out = machine.handle(WorkRead(now, read.job_id, work, frozenset({work.object_id})))
            asked += [each for each in out.commands if isinstance(each, ReadWork)]
        reads = asked
