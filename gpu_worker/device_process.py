"""A device in a process of its own, so that a driver that crashes or hangs never takes the worker down.

`DeviceProcess` is a HashEngine whose engine runs in a child process (started by spawn: a forked driver does not work)
and answers over a pipe::

    parent   _Search ->            _Taken ->        _Taken ->  ...            _Stop -> (when closed early)
    child                Batch ->          Batch ->           ... _Finished             -> _Finished

The child searches at most WINDOW batches ahead of what the parent took and looks for _Stop after each batch. Many small
searches go the same way, with some milliseconds' worth of what was found (_Founds) in place of a batch. Every answer
has a time limit. A child that is late, dead or failed is killed; the next search starts another, within limits.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Generic, TypeVar, cast

from hashfleet.batches import check_search
from hashfleet.engine import Batch, DeviceInfo, Found, HashEngine, Search
from hashfleet.errors import EngineError, EngineUnavailable, HashfleetError, InvalidInput, SelfTestFailed
from hashfleet.message import NonceSpace

logger = logging.getLogger(__name__)

#: Batches that the child may be ahead of the parent: enough to hide the pipe, few enough to lose little on a stop.
WINDOW = 2
#: A batch takes about 50 ms; a device that is silent for this long hangs.
ANSWER_SECONDS = 30.0
#: What is found by many small searches is sent this often: a message costs 17 us, and 2 us for each answer in it.
FOUNDS_SECONDS = 0.002
#: Loading a driver, compiling and tuning kernels for the first time.
START_SECONDS = 180.0
#: Killed processes end within milliseconds unless the kernel itself waits for the device.
KILL_SECONDS = 2.0

_SPAWN = multiprocessing.get_context("spawn")
_Argument = TypeVar("_Argument")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class _Many:
    """Many small searches."""

    searches: tuple[Search, ...]


@dataclass(frozen=True, slots=True)
class _Founds:
    """Some answers of many small searches."""

    founds: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class _Taken:
    """The parent took one batch, or some answers."""


@dataclass(frozen=True, slots=True)
class _Stop:
    """End the search; answered with _Finished."""


@dataclass(frozen=True, slots=True)
class _Finished:
    """The search is over, for whatever reason."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """One of our errors, by name: exceptions of drivers may not survive a pipe, and need not."""

    kind: str
    sentence: str

    def error(self) -> HashfleetError:
        for kind in (InvalidInput, EngineUnavailable, SelfTestFailed):
            if self.kind == kind.__name__:
                return kind(self.sentence)
        return EngineError(self.sentence)


@dataclass(frozen=True, slots=True)
class _Value(Generic[_Answer]):
    """What the child was asked for: the DeviceInfo of an opened engine, or the answer of a function."""

    value: _Answer


class RestartBudget:
    """At most `most` restarts within any `seconds`."""

    def __init__(self, most: int = 5, seconds: float = 600.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.seconds = seconds
        self._clock = clock
        self._taken: deque[float] = deque(maxlen=most)

    def take(self) -> bool:
        """True if another restart is allowed now; it is then counted."""
        now = self._clock()
        if len(self._taken) == self.most and now - self._taken[0] < self.seconds:
            return False
        self._taken.append(now)
        return True


class DeviceProcess:
    """A HashEngine in a child process. `open_engine` must be importable there by its module and name.

    The child starts at once and opens the device while the caller goes on, so that many devices open side by side; the
    first search waits for it, and raises what `open_engine` raised. Besides, a search raises EngineError if the child
    crashes or does not answer, EngineUnavailable once it has been restarted as often as the budget allows.
    """

    def __init__(
        self,
        device: DeviceInfo,
        open_engine: Callable[[str], HashEngine],
        *,
        answer_seconds: float = ANSWER_SECONDS,
        start_seconds: float = START_SECONDS,
        restarts: RestartBudget | None = None,
    ) -> None:
        self._device = device
        self._open_engine = open_engine
        self._answer_seconds = answer_seconds
        self._start_seconds = start_seconds
        self._restarts = restarts or RestartBudget()
        self._opened = False
        self._child = self._start()

    @property
    def device(self) -> DeviceInfo:
        return self._device

    @property
    def pid(self) -> int | None:
        """Process id of the child; None before it has one."""
        return self._child.pid

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> Iterator[Batch]:
        """See HashEngine.search; every batch has a time limit."""
        check_search(space, start, count, zeros)
        with closing(self._answers(Search(space, start, count, zeros))) as answers:
            for answer in answers:
                assert isinstance(answer, Batch)
                yield answer

    def search_many(self, searches: Sequence[Search]) -> Iterator[Found]:
        """See HashEngine.search_many; every message with answers has a time limit."""
        for search in searches:
            check_search(search.space, search.start, search.count, search.zeros)
        return self._search_many(tuple(searches))

    def _search_many(self, searches: tuple[Search, ...]) -> Iterator[Found]:
        if not searches:
            return
        with closing(self._answers(_Many(searches))) as answers:
            for answer in answers:
                assert isinstance(answer, _Founds)
                yield from answer.founds

    def _answers(self, order: Search | _Many) -> Generator[Batch | _Founds, None, None]:
        child = self._running()
        finished = False
        try:
            child.send(order)
            while True:
                answer = child.receive(self._answer_seconds)
                if isinstance(answer, Batch | _Founds):
                    child.send(_Taken())
                    yield answer
                    continue
                finished = True
                if isinstance(answer, _Failed):
                    error = answer.error()
                    if not isinstance(error, InvalidInput):
                        child.kill()  # a device context that failed once stays unusable: the next one is fresh
                    raise error
                return
        finally:
            if not finished and child.alive:
                self._end_search(child)

    def close(self) -> None:
        """End the child. May be called from another thread: a search in work then ends with EngineError."""
        self._child.kill()

    def _end_search(self, child: _Child) -> None:
        """Stop a search that was closed early, and take what is still on its way."""
        try:
            child.send(_Stop())
            while isinstance(child.receive(self._answer_seconds), Batch | _Founds):
                pass
        except EngineError as error:  # the child is gone; the search is over as asked, and the next one starts another
            logger.warning("%s", error)

    def _running(self) -> _Child:
        """The child with its device open; a new one if the last one is gone."""
        if not self._child.alive:
            if not self._restarts.take():
                raise EngineUnavailable(
                    f"{self._device.device_id} has been restarted {self._restarts.most} times "
                    f"within {self._restarts.seconds:.0f} seconds; it is not restarted again"
                )
            logger.warning("the process of %s is started anew", self._device.device_id)
            self._child = self._start()
        if not self._opened:
            try:
                self._child.value(self._start_seconds)
            except HashfleetError:
                self._child.kill()
                raise
            self._opened = True
        return self._child

    def _start(self) -> _Child:
        self._opened = False
        device_id = self._device.device_id
        return _Child(f"the process of {device_id}", _serve_engine, (self._open_engine, device_id))


def call_in_process(
    function: Callable[[_Argument], _Answer], argument: _Argument, what: str, seconds: float = 60.0
) -> _Answer:
    """The answer of `function(argument)`, called in a process of its own.

    For looking at drivers: one that crashes or hangs on being asked for its devices ends that process only. `what`
    names the process in errors. Raises the HashfleetError that `function` raises, EngineError for a crash or silence.
    """
    child = _Child(what, _serve_call, (function, argument))
    try:
        return cast(_Answer, child.value(seconds))
    finally:
        child.kill()


class _Child:
    """A child process and the parent's end of the pipe to it."""

    def __init__(self, name: str, target: Callable[..., None], arguments: tuple[object, ...]) -> None:
        self._name = name
        self._pipe, theirs = _SPAWN.Pipe()
        self._process: SpawnProcess = _SPAWN.Process(target=target, args=(theirs, *arguments), name=name, daemon=True)
        self._lock = threading.Lock()
        self.alive = True
        self._process.start()
        theirs.close()  # else the pipe would stay open when the child dies
        # The child ignores SIGTERM, so multiprocessing's own exit handler would wait for it for ever; this runs before.
        atexit.register(self.kill)

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def send(self, order: object) -> None:
        try:
            self._pipe.send(order)
        except OSError:
            raise self._died() from None

    def receive(self, seconds: float) -> object:
        """The next answer. Kills the child and raises EngineError if there is none in time."""
        try:
            if self._pipe.poll(seconds):
                return cast(object, self._pipe.recv())
        except (EOFError, OSError):
            raise self._died() from None
        self.kill()
        raise EngineError(f"{self._name} did not answer within {seconds:g} seconds and was killed")

    def value(self, seconds: float) -> object:
        """The value that the child was asked for; raises the error if it answered with one."""
        answer = self.receive(seconds)
        if isinstance(answer, _Failed):
            raise answer.error()
        assert isinstance(answer, _Value)
        return answer.value

    def kill(self) -> None:
        """End the process, whatever it does; harmless if it has ended."""
        with self._lock:
            if not self.alive:
                return
            self.alive = False
            self._process.kill()
            self._process.join(KILL_SECONDS)
            atexit.unregister(self.kill)

    def _died(self) -> EngineError:
        # Under the lock: two threads that wait for one process take its exit status from each other.
        with self._lock:
            self._process.join(KILL_SECONDS)  # the pipe closes a moment before the exit status is there
            code = self._process.exitcode
        self.kill()
        if code is None:
            how = "closed its pipe"
        elif code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        else:
            how = f"ended with exit status {code}"
        return EngineError(f"{self._name} {how}")


# What runs in the child.


def _serve_call(pipe: Connection, function: Callable[[object], object], argument: object) -> None:
    _ignore_signals()
    try:
        answer: object = _Value(function(argument))
    except HashfleetError as error:
        answer = _failed(error)
    pipe.send(answer)


def _serve_engine(pipe: Connection, open_engine: Callable[[str], HashEngine], device_id: str) -> None:
    _ignore_signals()
    try:
        engine = open_engine(device_id)
    except HashfleetError as error:
        pipe.send(_failed(error))
        return
    # An error that is not ours is a bug or a broken driver: it ends this process with its traceback on stderr.
    try:
        pipe.send(_Value(engine.device))
        while True:
            order = pipe.recv()
            if isinstance(order, Search):
                search = partial(engine.search, order.space, order.start, order.count, order.zeros)
                pipe.send(_send_all(pipe, search))
            elif isinstance(order, _Many):
                pipe.send(_send_all(pipe, partial(_founds, engine, order.searches)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the worker is gone
    finally:
        engine.close()


def _send_all(pipe: Connection, search: Callable[[], Iterator[Batch] | Iterator[_Founds]]) -> _Finished | _Failed:
    """Send what the search yields, as far ahead of the parent as it may be, until it ends or is to stop."""
    ahead = 0
    try:
        found = cast("Generator[Batch | _Founds, None, None]", search())
        with closing(found) as answers:  # close() stops the device
            for answer in answers:
                pipe.send(answer)
                ahead += 1
                while ahead >= WINDOW or pipe.poll():
                    reply = pipe.recv()
                    if isinstance(reply, _Stop):
                        return _Finished()
                    ahead -= 1
    except HashfleetError as error:
        return _failed(error)
    return _Finished()


def _founds(engine: HashEngine, searches: tuple[Search, ...]) -> Iterator[_Founds]:
    """What many small searches find, some milliseconds' worth at a time."""
    gathered: list[Found] = []
    sent = time.monotonic()
    with closing(cast("Generator[Found, None, None]", engine.search_many(searches))) as founds:
        for found in founds:
            gathered.append(found)
            if time.monotonic() - sent >= FOUNDS_SECONDS:
                yield _Founds(tuple(gathered))
                gathered = []
                sent = time.monotonic()
    if gathered:
        yield _Founds(tuple(gathered))


def _failed(error: HashfleetError) -> _Failed:
    return _Failed(type(error).__name__, str(error))


def _ignore_signals() -> None:
    """Ctrl-C and systemd's stop reach the whole process group; the parent decides when its devices end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
