"""The CPU as a hash engine: one process per core, because Python threads hash one at a time."""

from __future__ import annotations

import logging
import os
import platform
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from cpu_fallback.lane import Answer, Many, Stop, Task
from cpu_fallback.searcher import shape_of
from hashfleet.batches import BatchSize, check_search, run_batches
from hashfleet.engine import Batch, DeviceInfo, EngineKind, Found, Search
from hashfleet.errors import EngineError, EngineUnavailable, InvalidInput
from hashfleet.message import NonceSpace

logger = logging.getLogger(__name__)

DEVICE_ID = "cpu"
MAX_PROCESSES = 1024
#: Vectors of shape T that a core may hash side by side.
STREAMS = (1, 2, 3, 4)
#: What may be asked for: the best code for this CPU, vectors of one kind, or no compiled code at all.
TARGETS = ("host", "avx512", "avx2", "sse2", "hashlib")
#: Nonces per lane in the first batch, before anything is measured: 12 to 30 ms of hashlib.
_FIRST_SHARE = 50_000
_MOST_PER_LANE = 100_000_000
#: Shares of a batch end at multiples of this where they are that long: whole groups of T for every target (64, 16 or 8
#: lanes of 10**4 nonces), so that no group is hashed twice in part.
_QUANTUM = 640_000
#: After this a lane that does not end when its socket is closed is killed; it is at most one batch from noticing.
_CLOSE_SECONDS = 2.0


class _Lane:
    """One child process and our end of its socket."""

    def __init__(self, number: int, niceness: int, target: str, streams: int | None, compile_first: bool) -> None:
        # A plain subprocess rather than multiprocessing.Process: it may be started from a daemonic process too, and
        # it does not import the parent's main module again.
        ours, theirs = Pipe()
        code = [target, "" if streams is None else str(streams), "wait" if compile_first else ""]
        arguments = [str(theirs.fileno()), str(os.getpid()), str(niceness), *code]
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cpu_fallback.lane", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
                process_group=0,  # Ctrl-C in a terminal reaches the parent only
            )
        except OSError as error:
            ours.close()
            raise EngineUnavailable(f"the CPU engine could not start process {number}: {error.strerror}") from error
        finally:
            theirs.close()
        self.connection: Connection[Task | Many | Stop, Answer] = ours
        self.name = f"CPU process {number} (pid {self.process.pid})"

    def send(self, order: Task | Many | Stop) -> None:
        """Raises EngineError if the process is gone."""
        try:
            self.connection.send(order)
        except OSError as error:
            raise self.lost() from error

    def lost(self) -> EngineError:
        """Say how the process ended, which its closed socket has just told us it did."""
        try:
            status = self.process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            return EngineError(f"{self.name} closed its socket without ending")
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return EngineError(f"{self.name} {how} while the engine was using it")


class _WholeGroups(BatchSize):
    """A batch size that is a multiple of a step, where it is above it."""

    def __init__(self, first: int, most: int, step: int) -> None:
        super().__init__(first, most)
        self._step = step

    def learn(self, nonces: int, seconds: float) -> None:
        super().learn(nonces, seconds)
        if self.nonces > self._step:
            self.nonces -= self.nonces % self._step


class CpuEngine:
    """Hashes on CPU cores. A lane that dies or does not answer makes the engine fail for good: open another one.

    Spaces of shape T and S are searched by kernels compiled for this CPU, others by hashlib. Measured on one core of
    Zen 5, in million hashes a second: with AVX-512 T 280, S 175; with AVX2 T 60, S 39; with SSE2 T 31, S 18; hashlib
    (whose OpenSSL uses the CPU's SHA instructions) 4.
    """

    def __init__(
        self,
        processes: int | None = None,
        niceness: int = 5,
        *,
        target: str = "host",
        streams: int | None = None,
        compile_first: bool = False,
        time_limit: float = 30.0,
    ) -> None:
        """Start the processes and wait until they hash (well under a second on an idle machine).

        They begin with hashlib; the kernel of T is ready after another half second or less, that of S as long after
        the first space of that shape. `processes` defaults to the cores this process may run on, `niceness` (0 to 19)
        is added to its own, `target` is one of TARGETS, `streams` one of STREAMS, None for what suits the target;
        `compile_first` waits for all kernels, and `time_limit` is how many seconds a batch may take. Raises
        EngineUnavailable if a process does not start, or a target is asked for by name that this CPU lacks.
        """
        count = len(os.sched_getaffinity(0)) if processes is None else processes
        if not 1 <= count <= MAX_PROCESSES:
            raise InvalidInput(f"the number of CPU processes is {count}; it should be 1 to {MAX_PROCESSES}")
        if not 0 <= niceness <= 19:
            raise InvalidInput(f"the niceness is {niceness}; it should be 0 (normal) to 19 (only idle time)")
        if target not in TARGETS:
            raise InvalidInput(f"the target is {target[:40]!a}; it should be one of {', '.join(TARGETS)}")
        if streams is not None and streams not in STREAMS:
            raise InvalidInput(f"the number of streams is {streams}; it should be {STREAMS[0]} to {STREAMS[-1]}")
        self._time_limit = time_limit
        self._count = count
        #: By shape: a shape without a kernel is a hundred times slower.
        self._sizes: dict[str, BatchSize] = {}
        self._ticket = 0
        self._failure: str | None = None
        self._trouble = ""
        self._lanes: list[_Lane] = []
        try:
            for number in range(1, count + 1):
                self._lanes.append(_Lane(number, niceness, target, streams, compile_first))
            answers = self._answers(self._lanes)
            if answers[0].refusal:
                raise EngineError(answers[0].refusal)
        except EngineError as error:
            self.close()
            raise EngineUnavailable(f"the CPU engine did not start: {error}") from error
        except BaseException:
            self.close()
            raise
        self._device = DeviceInfo(
            DEVICE_ID,
            f"{cpu_name()}, {count} process{'es' if count > 1 else ''}",
            EngineKind.CPU,
            f"{answers[0].code}, Python {platform.python_version()}, {ssl.OPENSSL_VERSION}",
        )

    @property
    def device(self) -> DeviceInfo:
        """The host's CPU."""
        return self._device

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
        """See `hashfleet.engine.HashEngine.search`."""
        check_search(space, start, count, zeros)
        self._check_alive()
        size = self._sizes.setdefault(
            shape_of(space),
            _WholeGroups(_FIRST_SHARE * self._count, _MOST_PER_LANE * self._count, _QUANTUM * self._count),
        )
        return run_batches(partial(self._hash_range, space, zeros), start, count, size, count)

    def search_many(self, searches: Sequence[Search]) -> Iterator[Found]:
        """See `hashfleet.engine.HashEngine.search_many`. Each process gets its share in one message."""
        for search in searches:
            check_search(search.space, search.start, search.count, search.zeros)
        self._check_alive()
        return self._many(tuple(enumerate(searches)))

    def close(self) -> None:
        """End the processes; a second call does nothing."""
        self._failure = self._failure or "the CPU engine is closed"
        lanes, self._lanes = self._lanes, []
        for lane in lanes:
            lane.connection.close()
        deadline = time.monotonic() + _CLOSE_SECONDS
        for lane in lanes:
            try:
                lane.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                lane.process.kill()
                lane.process.wait()

    def _hash_range(self, space: NonceSpace, zeros: int, start: int, count: int) -> tuple[int, ...]:
        """Hash one batch: a share per lane, in the lanes' order."""
        self._check_alive()
        self._ticket += 1
        asked = self._lanes[: min(count, len(self._lanes))]
        edges = share_out(start, count, len(asked))
        try:
            for lane, low, high in zip(asked, edges, edges[1:], strict=False):
                lane.send(Task(self._ticket, space, low, high - low, zeros))
            return tuple(hit for answer in self._answers(asked) for hit in answer.hits)
        except EngineError as error:
            self._failure = str(error)
            raise

    def _many(self, searches: tuple[tuple[int, Search], ...]) -> Iterator[Found]:
        self._check_alive()
        self._ticket += 1
        ticket = self._ticket
        # One lane has every n-th search: those that came together may be alike, and then the shares are too.
        working = self._lanes[: len(searches)]
        try:
            for number, lane in enumerate(working):
                lane.send(Many(ticket, searches[number :: len(working)]))
            while working:
                answers = self._next_answers(working)
                # All of them before the first is passed on: whoever is content with that closes us, and then a lane
                # whose last answer is here already would be waited for in vain.
                for lane, answer in answers:
                    if not answer.more:
                        working.remove(lane)
                for _, answer in answers:
                    yield from answer.founds
                    if self._ticket != ticket:
                        working = []  # they do something else by now
                        raise InvalidInput("another search was begun before these many were over or closed")
            self._check_alive()
        except EngineError as error:
            self._failure = self._failure or str(error)
            working = []
            raise
        finally:
            self._stop(working)

    def _stop(self, working: list[_Lane]) -> None:
        """End many searches early; returns when the lanes are idle, within about 30 ms."""
        if self._failure is not None:
            return
        try:
            for lane in working:
                lane.send(Stop())
            while working:
                over = [lane for lane, answer in self._next_answers(working) if not answer.more]
                working = [lane for lane in working if lane not in over]
        except EngineError as error:
            self._failure = str(error)
            raise

    def _answers(self, asked: list[_Lane]) -> list[Answer]:
        """Wait for each lane's answer to the current ticket; in the order of `asked`."""
        answers: dict[str, Answer] = {}
        working = list(asked)
        deadline = time.monotonic() + self._time_limit
        while working:
            for lane, answer in self._next_answers(working, deadline):
                answers[lane.name] = answer
                working.remove(lane)
        return [answers[lane.name] for lane in asked]

    def _next_answers(self, working: list[_Lane], deadline: float | None = None) -> list[tuple[_Lane, Answer]]:
        """Wait until some of these lanes answer the current ticket; EngineError if none does in time."""
        deadline = time.monotonic() + self._time_limit if deadline is None else deadline
        of_connection = {lane.connection: lane for lane in working}
        answers: list[tuple[_Lane, Answer]] = []
        while not answers:
            ready = wait(list(of_connection), max(0.0, deadline - time.monotonic()))
            if not ready:
                names = ", ".join(lane.name for lane in working)
                raise EngineError(f"{names} did not answer within {self._time_limit:g} s")
            for connection in ready:
                assert isinstance(connection, Connection)
                lane = of_connection[connection]
                try:
                    answer = connection.recv()
                except (EOFError, OSError) as error:
                    raise lane.lost() from error
                if answer.trouble and not self._trouble:
                    self._trouble = answer.trouble
                    logger.warning("the CPU engine is slow: %s", answer.trouble)
                # A batch that was interrupted (Ctrl-C while waiting) leaves answers nobody took: not ours.
                if answer.ticket == self._ticket:
                    answers.append((lane, answer))
        return answers

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise EngineError(self._failure)


def share_out(start: int, count: int, shares: int) -> list[int]:
    """Cut a range into about equal shares: the first counter of each, and the end of the last.

    Shares longer than a quantum end at multiples of it, so that kernels hash whole groups.
    """
    edges = [start + count * i // shares for i in range(shares + 1)]
    if count > _QUANTUM * shares:
        edges[1:-1] = [round(edge / _QUANTUM) * _QUANTUM for edge in edges[1:-1]]
    return edges


def cpu_name() -> str:
    """As the CPU names its model."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []  # not Linux
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or "CPU"
