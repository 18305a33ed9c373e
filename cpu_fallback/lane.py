"""What runs in each of the engine's processes: it takes a range, hashes it, answers with the hits.

Started as ``python -m cpu_fallback.lane FD PARENT NICENESS TARGET STREAMS WAIT``, where FD is an inherited socket,
STREAMS is empty for the target's own and WAIT is "wait" to compile all kernels first. It ends when the engine closes
that socket, and also when its parent is gone without having closed it (killed, while a process forked from it in the
meantime keeps the socket open).
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection

from cpu_fallback.first_hits import FirstHits
from cpu_fallback.searcher import SHAPES, Searcher
from hashfleet.engine import Found, Search
from hashfleet.errors import EngineUnavailable
from hashfleet.message import NonceSpace

#: How often an idle lane looks whether its parent is still there.
_PARENT_CHECK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Task:
    """One lane's share of a batch."""

    #: Number of the batch; an answer to an older batch is thrown away.
    ticket: int
    space: NonceSpace
    start: int
    count: int
    zeros: int


@dataclass(frozen=True, slots=True)
class Many:
    """One lane's share of many small searches, each with its number. Whatever the lane is sent next ends it early."""

    ticket: int
    searches: tuple[tuple[int, Search], ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Ends many searches early; by itself it is not answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of a task; ticket 0 is the lane's first word, that it is ready or refuses to be."""

    ticket: int
    hits: tuple[int, ...] = ()
    #: Of many searches: what is found since the last answer, and whether this is not the last one.
    founds: tuple[Found, ...] = ()
    more: bool = False
    #: Why kernels are not used, if that was not asked for; else empty.
    trouble: str = ""
    #: With the first word: what hashes, for people.
    code: str = ""
    #: With the first word: why the lane cannot do what was asked; else empty.
    refusal: str = ""


def main(arguments: list[str]) -> None:
    """Serve tasks until the engine closes the socket or dies."""
    fd, parent, niceness = (int(argument) for argument in arguments[:3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to handle: it drains and then closes us
    os.nice(niceness)
    engine: Connection[Answer, Task | Many | Stop] = Connection(fd)
    try:
        try:
            searcher = Searcher(arguments[3], int(arguments[4]) if arguments[4] else None)
        except EngineUnavailable as error:
            engine.send(Answer(0, refusal=str(error)))
            return
        searcher.prepare("T")
        if arguments[5] == "wait":
            for shape in SHAPES:
                searcher.wait_for(shape)
        engine.send(Answer(0, trouble=searcher.trouble, code=searcher.code))
        first_hits = FirstHits(searcher)
        while True:
            while not engine.poll(_PARENT_CHECK_SECONDS):
                if os.getppid() != parent:
                    return
            task = engine.recv()
            if isinstance(task, Task):
                hits = searcher.search(task.space, task.start, task.count, task.zeros)
                engine.send(Answer(task.ticket, hits, trouble=searcher.trouble))
            elif isinstance(task, Many):
                _serve_many(engine, task, searcher, first_hits)
    except (EOFError, OSError):
        return  # the engine is closed or gone; there is nobody left to tell


def _serve_many(
    engine: Connection[Answer, Task | Many | Stop], task: Many, searcher: Searcher, first_hits: FirstHits
) -> None:
    for founds in first_hits.search(task.searches):
        if founds:
            engine.send(Answer(task.ticket, founds=tuple(founds), more=True))
        if engine.poll():
            break
    engine.send(Answer(task.ticket, trouble=searcher.trouble))


if __name__ == "__main__":
    # Under its import name, so that what it pickles is what the engine knows.
    from cpu_fallback import lane

    lane.main(sys.argv[1:])
    # A kernel may still be compiling, and LLVM's clean-up at a normal exit does not wait for it.
    os._exit(0)
