"""Which code searches a range: a compiled kernel where one is ready and pays, hashlib everywhere else.

Kernels are compiled in a thread, each shape when its first space comes. LLVM runs outside the interpreter's lock, so
hashlib searches meanwhile; it goes on doing so if a kernel does not compile or does not compute SHA-256.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from queue import SimpleQueue
from typing import TYPE_CHECKING

from cpu_fallback.search import search_range
from hashfleet.errors import EngineError, EngineUnavailable
from hashfleet.message import NonceSpace

if TYPE_CHECKING:
    from cpu_fallback.jit import Target
    from cpu_fallback.kernel_search import KernelSearch

#: The shapes that have a kernel.
SHAPES = ("T", "S12", "S13")
#: Lanes of a vector -> how many nonces a kernel at least hashes while hashlib hashes one (measured beside SHA
#: instructions, which favour hashlib: 3.5 with SSE2, 8 with AVX2, 38 with AVX-512, each in S). A range that fills a
#: smaller part of a kernel's groups goes to hashlib.
KERNEL_ADVANTAGE = {16: 32, 8: 8, 4: 3}


class Searcher:
    """Searches ranges of any space on one core. Used by one thread."""

    def __init__(self, target: str = "host", streams: int | None = None) -> None:
        """`target` is one of jit.TARGETS, `streams` replaces its number of vectors side by side.

        Raises EngineUnavailable if a target is asked for by name and not to be had.
        """
        #: Why kernels are not used, if that was not asked for: one sentence, or nothing.
        self.trouble = ""
        #: The instructions that kernels are compiled for, for people.
        self.code = "hashlib"
        self._target: Target | None = None
        self._advantage = 1
        self._kernels: dict[str, KernelSearch] = {}
        #: Set when the kernel of a shape is ready or has failed.
        self._decided: dict[str, threading.Event] = {}
        self._queue: SimpleQueue[str] = SimpleQueue()
        if target == "hashlib":
            return
        try:
            # Not at the top: it loads LLVM, 0.1 s and 100 MB that a host without it must do without.
            from cpu_fallback.jit import find_target, llvm_version, with_streams

            self._target = find_target(target)
            if streams is not None:
                self._target = with_streams(self._target, streams)
        except (ImportError, OSError) as error:
            if target != "host":
                raise EngineUnavailable(f"LLVM, which {target} needs, cannot be loaded: {error}") from error
            self.trouble = f"LLVM cannot be loaded ({error}); hashlib hashes instead, many times slower"
            return
        self._advantage = KERNEL_ADVANTAGE[self._target.form.lanes]
        self.code = f"{self._target.name} by LLVM {llvm_version()}"
        threading.Thread(target=self._compile, name="compile", daemon=True).start()

    def prepare(self, shape: str) -> None:
        """Have the kernel of this shape compiled, if that has not been asked for yet."""
        if self._target is not None and shape not in self._decided:
            self._decided[shape] = threading.Event()
            self._queue.put(shape)

    def wait_for(self, shape: str, seconds: float = 60.0) -> bool:
        """Wait until the kernel of this shape is compiled or has failed to be; whether there is one."""
        self.prepare(shape)
        if shape in self._decided:
            self._decided[shape].wait(seconds)
        return shape in self._kernels

    def kernel(self, shape: str) -> KernelSearch | None:
        """The kernel of a shape, once it is compiled; None before that, and for spaces of no shape ("")."""
        if shape:
            self.prepare(shape)
        return self._kernels.get(shape)

    def search(self, space: NonceSpace, start: int, count: int, zeros: int) -> tuple[int, ...]:
        """The counters of start .. start + count - 1 whose hash has that many leading hex zeros, ascending."""
        kernel = self.kernel(shape_of(space))
        if kernel is not None and count * self._advantage >= kernel.hashes(start, count):
            return kernel.search(space, start, count, zeros)
        return search_range(space.constant, space.counter_digits, start, count, zeros, space.filler_digits)

    def _compile(self) -> None:
        from cpu_fallback.kernel_search import compile_search

        assert self._target is not None
        while True:
            shape = self._queue.get()
            try:
                self._kernels[shape] = compile_search(shape, self._target)
            except EngineError as error:
                self.trouble = f"{error}; hashlib hashes instead, many times slower"
            finally:
                self._decided[shape].set()


@lru_cache(maxsize=64)
def shape_of(space: NonceSpace) -> str:
    """One of SHAPES; empty for any other space."""
    if space.shared is not None:
        return "T"
    short = space.short
    return f"S{short.word}" if short is not None else ""
