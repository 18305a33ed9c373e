"""What the runs of both fault suites have in common: the stage, the course of a history, and the program around it.

A history: some works are ripe or nearly so, jobs are asked for them, and the fault is ordered when the submission
reaches the step for the first or the second time. In every other seed the coordinator is killed besides, and started
again on its database. Once all jobs have ended the fault is over, and a work that nobody asked for before has to be
completed. What has to be true then, each suite looks at for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import logging
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from common_faults import CommonScene
from common_house import CommonHouse, new_database

from coordinator.core.job import Job
from coordinator.store.protocol import JobFilter
from coordinator.submission.attempt import Attempt
from coordinator.submission.keys import SigningKey
from devnet.node import Devnet
from devnet.rules import VERSIONS
from devnet.staging import Condition, Stage
from hashfleet.action import Action
from hashfleet.difficulty import first_age
from hashfleet.job_request import JobRequest

START = 100_000
BLOCK_SECONDS = 6
#: The player who owns most of it, and one who only granted.
OWNER, GRANTER = "1-7", "1-8"
#: The coordinator's keys, or the agent's.
KEYS = (SigningKey(bytes(range(1, 33))), SigningKey(bytes(range(2, 34))))
STRANGER = SigningKey(bytes(range(3, 35)))
#: What a delegate of a pool is granted: the four bits for hashes.
HASH_BITS = 15_728_640
WORKS = {"5-1": Action.BUILD, "5-2": Action.BUILD, "5-3": Action.MINE, "5-4": Action.REFINE, "9-7": Action.RAID}
#: The planet that the fleet raids.
RAIDED = "2-8"
#: The work that nobody asked for before.
FRESH = "5-90"
#: Blocks after which a history has got stuck: pauses grow to 64 blocks at most.
MOST_BLOCKS = 260


@dataclass
class Told:
    """What came of a run."""

    fault: str
    step: str
    seed: int
    wrong: list[str] = field(default_factory=list)
    #: Whether the step was reached, and the fault took place as far as that is counted.
    ordered: bool = False
    happened: bool = False
    crashed: str = ""
    blocks: int = 0
    seconds: float = 0.0
    #: States in which the jobs ended.
    ended: list[str] = field(default_factory=list)


class CommonRun:
    """One history."""

    #: Blocks after which the fresh job, and then the ledger, have got stuck.
    MOST_FRESH_BLOCKS: ClassVar[int]
    MOST_LAST_BLOCKS: ClassVar[int]

    told: Told
    devnet: Devnet
    scene: CommonScene
    house: CommonHouse
    #: The chain's release.
    version: str

    def __init__(self, told: Told, step: enum.Enum) -> None:
        self.random = random.Random(f"{told.fault} {told.step} {told.seed}")
        self.told, self._step = told, step
        self._crash_now = asyncio.Event()
        self._take_back: list[Callable[[], None]] = []
        self._over_at: int | None = None

    def _draw_moments(self, chances: int) -> None:
        """When the fault comes, and the crash; drawn behind what a suite has to draw for itself."""
        self._occasion = self.random.randint(1, 2)
        #: How many chances to crash pass before it does; never if None.
        self._crash_in = self.random.randint(1, chances) if self.told.seed % 2 else None

    def _salt(self) -> int:
        return self.random.randrange(10**7)

    def _begin(self, devnet: Devnet) -> None:
        """The chain, on the history's clock."""
        self.devnet = devnet
        self._began = devnet.chain.last_block.time_ns / 1e9
        devnet.chain._clock = self.clock

    def clock(self) -> float:
        """Unix seconds, by the height."""
        return self._began + BLOCK_SECONDS * (self.devnet.height - START)

    # ---- the stage -----------------------------------------------------------------------------------------------

    def _stage(self, stage: Stage, object_id: str) -> None:
        match object_id:
            case "5-1":
                stage.add_struct(object_id, 9, OWNER, anchor=self._anchor(220))
            case "5-2":
                stage.add_struct(object_id, 9, GRANTER, anchor=self._anchor(220))
            case "5-3":
                stage.add_struct(object_id, 14, OWNER, Condition.ONLINE, anchor=self._anchor(14_000))
            case "5-4":
                stage.add_struct(object_id, 15, OWNER, Condition.ONLINE, anchor=self._anchor(28_000))
            case _:
                stage.send_fleet(object_id, RAIDED, anchor=self._anchor(VERSIONS[self.version].base_shield))

    def _anchor(self, difficulty_range: int) -> int:
        """One to three zeros are asked for now, or one more for a block or two."""
        return START - first_age(self.random.choice((1, 2, 2, 3)), difficulty_range) + self.random.randint(-3, 2)

    # ---- its course ----------------------------------------------------------------------------------------------

    async def play(self, database: Path) -> Told:
        """Play it, and tell what was wrong."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(60):
                await self._play(database)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - whatever breaks a run is told with its seed
            self.told.wrong.append(traceback.format_exc())
        self.told.seconds = time.perf_counter() - began
        return self.told

    async def _play(self, database: Path) -> None:
        raise NotImplementedError

    async def _live(self) -> tuple[list[Job], list[Attempt]]:
        """From the coordinator's first start to its end; what its store holds then."""
        house, store = self.house, self.house.store
        await house.move_in()
        try:
            for object_id, action in self.scene.works.items():
                await self._ask(action, object_id)
            await self._until(self._all_ended, MOST_BLOCKS, "the jobs do not end")
            self._lift()
            await self._ask(Action.BUILD, FRESH)
            await self._until(self._all_ended, self.MOST_FRESH_BLOCKS, "a fresh job does not end: submission is stuck")
            await self._until(self._none_live, self.MOST_LAST_BLOCKS, "a row of the ledger stays live")
        finally:
            self.told.blocks = self.devnet.height - START
            await house.crash()
        self.told.wrong += [f"the coordinator failed: {failure!r}" for failure in house.failures]
        jobs = await store.list_jobs(JobFilter(), 100, None)
        self.told.ended = sorted(job.state.value for job in jobs)
        asked = [*self.scene.works, FRESH]
        if sorted(job.request.object_id for job in jobs) != sorted(asked):
            self.told.wrong.append(
                f"there are jobs for {[job.request.object_id for job in jobs]}, asked for were {asked}"
            )
        return jobs, [attempt for job in jobs for attempt in await store.attempts_of(job.job_id)]

    def _request(self, action: Action, object_id: str) -> JobRequest:
        raise NotImplementedError

    async def _ask(self, action: Action, object_id: str) -> None:
        request = self._request(action, object_id)
        while True:
            # The answer may be lost in a crash; then it is asked again, as a client does.
            asked = asyncio.ensure_future(self.house.service.submit(request))
            crash = asyncio.ensure_future(self._crash_now.wait())
            ended = asyncio.ensure_future(self.house.end())  # then nobody answers any more
            await asyncio.wait((asked, crash, ended), return_when=asyncio.FIRST_COMPLETED)
            if asked.done() and not asked.cancelled():
                crash.cancel()
                ended.cancel()
                await asked
                return
            asked.cancel()
            if self._crash_now.is_set():
                ended.cancel()
                await self._restart()
            else:
                why = await ended
                crash.cancel()
                await self._start_anew(why)

    async def _until(self, reached: Callable[[], Awaitable[bool]], most: int, trouble: str) -> None:
        for _ in range(most):
            await self.house.settle()
            if self._crash_now.is_set():
                await self._restart()
                continue
            if (ended := self.house.ended_of()) is not None:
                await self._start_anew(ended)
            if await reached():
                return
            await self._block()
        raise AssertionError(f"{trouble}: {await self._standing()}")

    async def _block(self) -> None:
        """A block, with all that happens around it."""
        raise NotImplementedError

    async def _all_ended(self) -> bool:
        jobs = await self.house.store.list_jobs(JobFilter(), 100, None)
        return all(job.state.final for job in jobs)

    async def _none_live(self) -> bool:
        return not await self.house.store.live_attempts()

    async def _standing(self) -> list[str]:
        jobs = await self.house.store.list_jobs(JobFilter(), 100, None)
        live = await self.house.store.live_attempts()
        return [
            *(
                f"{job.request.object_id} {job.state.value} from {job.start_height}: {job.error}; {job.work}"
                for job in jobs
                if not job.state.final
            ),
            *(
                f"attempt {one.ledger_id} {one.state.value} until {one.timeout_height}, row {one.signer_row}"
                for one in live
            ),
            f"height {self.devnet.height}, version {self.version}",
            *self._around(),
        ]

    def _around(self) -> list[str]:
        """How what a suite has of its own stands, for whoever looks at a history that got stuck."""
        raise NotImplementedError

    async def _start_anew(self, ended: BaseException) -> None:
        """The coordinator ended by itself."""
        raise RuntimeError("the coordinator ended by itself") from ended

    async def _restart(self) -> None:
        self._crash_now.clear()
        await self.house.crash()
        await self.house.move_in()

    async def _reached(self, step: Any) -> None:
        """The submission reached a step (or a place where a crash would matter)."""
        raise NotImplementedError

    def _pass_crash(self) -> None:
        if self._crash_in is None or self._crash_now.is_set():
            return
        self._crash_in -= 1
        if self._crash_in == 0:
            self._crash_in = None
            self.told.crashed = f"at height {self.devnet.height}"
            self.house.life.over = True
            self._crash_now.set()

    def _is_time(self, step: enum.Enum) -> bool:
        """Whether the fault is to be ordered, now that this step is reached."""
        if step is not self._step or self.told.ordered:
            return False
        self._occasion -= 1
        if self._occasion > 0:
            return False
        self.told.ordered = True
        return True

    def _lift_in_time(self) -> None:
        if self._over_at is not None and self.devnet.height >= self._over_at:
            self._lift()

    def _lift(self) -> None:
        """The fault is over."""
        if self._over_at is None:
            return
        logging.getLogger(__name__).info("Taking back %s at height %d.", self.told.fault, self.devnet.height)
        self._over_at = None
        self._clear()
        for take_back in self._take_back:
            take_back()

    def _clear(self) -> None:
        """Take back what needs no order of its own for that."""
        raise NotImplementedError


# ---- the program -------------------------------------------------------------------------------------------------


class _Noted(logging.Handler):
    """Keeps tracebacks: a run that logs one is wrong, whatever else comes of it."""

    def __init__(self, harmless: Callable[[str, str], bool]) -> None:
        super().__init__(logging.WARNING)
        self._harmless = harmless
        self.tracebacks: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and not self._harmless(record.name, said := self.format(record)):
            self.tracebacks.append(said)


def play(run: CommonRun, folder: Path, harmless: Callable[[str, str], bool] = lambda _, __: False) -> Told:
    """One run in an event loop of its own; `harmless` knows a traceback that may be, by its logger and its text."""
    random.seed(run.told.seed)  # the pauses of the clients
    noted = _Noted(harmless)
    logging.getLogger().addHandler(noted)  # as the first handler it also keeps warnings off the terminal
    try:
        told = asyncio.run(run.play(new_database(folder)))
    finally:
        logging.getLogger().removeHandler(noted)
    return replace(told, wrong=told.wrong + noted.tracebacks)


@contextlib.contextmanager
def folder_in_memory(prefix: str) -> Iterator[Path]:
    """In memory where that can be had: what a disk keeps after a crash is looked at elsewhere."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix=prefix, dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def play_lines(arguments: list[str], play_one: Callable[[str, str, int], Told], noisy: tuple[str, ...]) -> int:
    """Play ``FAULT STEP FIRST LAST``, or each such line of the input, and print a JSON line for each run; 1 if one was
    wrong. ``FAULT STEP SEED`` has the log printed, too, but for what the `noisy` libraries have to say."""
    wrong = 0
    for line in [" ".join(arguments)] if arguments else sys.stdin:
        fault, step, first, *last = line.split()
        if not last:
            logging.basicConfig(level=logging.DEBUG, format="%(relativeCreated)6d %(name)s %(message)s")
            for name in noisy:
                logging.getLogger(name).setLevel(logging.WARNING)
        for seed in range(int(first), int(last[0] if last else first) + 1):
            told = play_one(fault, step, seed)
            wrong += bool(told.wrong)
            print(json.dumps(vars(told)), flush=True)  # noqa: T201 - what this program is for
    return 1 if wrong else 0
