"""NVIDIA GPUs through CuPy: the kernels are compiled by NVRTC when the engine is opened.

What bounds them is the ALU pipe, with 64 lanes a multiprocessor. `tools/count_sass.py` counts its slots per hash in the
machine code for sm_90, and from that the limit of an H100 SXM (132 multiprocessors at 1.98 GHz)::

    shape T             514 (489, 463 with rotations multiplied)       32.5 (34.2, 36.1) GH/s
    shape S, word 12    781 (756, 730)                                 21.4 (22.1, 22.9) GH/s
    shape S, word 13    763 (739, 713)                                 21.9 (22.6, 23.5) GH/s
    plain, one block    1349                                           12.4 GH/s
    plain, two blocks   2645                                            6.3 GH/s

These are counts, not rates: `make bench` measures on the GPU that is there.

Launches are queued on streams of their own, so that one begins while the last blocks of another leave multiprocessors
idle. What is launched is `gpu_worker.gpu_engine`'s.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gpu_worker.gpu_engine import FIRST_READ, GpuEngine, Launch, Threads, first_line
from gpu_worker.hit_buffer import HIT_CAPACITY
from gpu_worker.kernel_source import cuda_source
from gpu_worker.lanes import Words
from hashfleet.difficulty import MAX_DIFFICULTY
from hashfleet.engine import Batch, DeviceInfo, EngineKind
from hashfleet.errors import EngineUnavailable
from hashfleet.message import MAX_COUNTER_DIGITS, lay_out
from hashfleet.proof import MAX_NONCE_DIGITS

if TYPE_CHECKING:
    from types import ModuleType

logger = logging.getLogger(__name__)

#: Threads per block: eight warps, the most that the kernels for the two shapes are compiled for.
GROUP_SIZE = 256
#: Tails that one thread tries. A thread first hashes its lane's block and begins the tail's, about two hashes' work:
#: 0.4 % of 500. With more tails the last blocks of a launch would leave multiprocessors idle for longer.
TAILS_PER_THREAD = 500
#: What the kernels multiply by: `Factors` in kernels/multiply_add.h.
_ONE, _UP = 1, 2**30
#: Nonces in the first batch: far below 1 ms on any GPU; it adapts from there.
_FIRST_BATCH = 2**16
#: The same where a launch holds small searches: 3 % of the work is the threads' fixed cost, and 1,000 of them keep more
#: threads busy.
_FEW_TAILS_PER_THREAD = 64
#: Launches queued on the device at a time. Whoever closes a search waits for these at most.
IN_FLIGHT = 2
#: Options for NVRTC; CuPy adds the architecture of the device.
COMPILE_OPTIONS = ("-std=c++17",)
#: In how many of four rounds a rotation is done by multiplication (kernels/multiply_add.h): what an engine tries when
#: it is opened, to keep the fastest. That depends on the chip, and the count alone does not tell.
MULTIPLIED_OF_FOUR = (0, 2, 4)
#: How long each of these is timed, after as long a time of warming up.
_TRIAL_SECONDS = 0.1


def import_cupy() -> ModuleType:
    """CuPy, or EngineUnavailable if it is not installed or does not load."""
    try:
        import cupy
    except (ImportError, OSError) as error:
        raise EngineUnavailable(
            "CUDA devices need CuPy: install hashfleet[cuda12] or hashfleet[cuda13], whichever the driver supports "
            f"({first_line(error)})"
        ) from error
    return cupy  # type: ignore[no-any-return]


def cuda_device_info(cupy: ModuleType, index: int) -> DeviceInfo:
    """How the fleet names that device."""
    runtime = cupy.cuda.runtime
    name = runtime.getDeviceProperties(index)["name"]
    version = runtime.driverGetVersion()  # 12080 is 12.8
    return DeviceInfo(
        f"cuda:{index}",
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name),
        EngineKind.CUDA,
        f"CUDA {version // 1000}.{version % 1000 // 10}",
    )


@dataclass(frozen=True, slots=True)
class _Slot:
    """What a launch in flight has for itself."""

    stream: Any
    #: On the device: the number of hits, then their distances.
    found: Any
    #: On the host, in page-locked memory, so that the copy needs nobody to wait for it: the first of `found`.
    first: Words


@dataclass(frozen=True, slots=True)
class _Span:
    """Events on the device, recorded before and after a launch."""

    began: Any
    ended: Any


class CudaEngine(GpuEngine):
    """One NVIDIA GPU.

    (A CUDA context that has once reported an error reports it for ever: hence the fresh process.)
    """

    def __init__(
        self,
        index: int,
        *,
        hit_capacity: int = HIT_CAPACITY,
        time_limit: float = 30.0,
        group_size: int = GROUP_SIZE,
        tails_per_thread: int = TAILS_PER_THREAD,
        in_flight: int = IN_FLIGHT,
        multiplied_of_four: int | None = None,
    ) -> None:
        """Open CUDA device number `index` and compile the kernels for it: seconds the first time, then cached.

        `hit_capacity` is the size of the hit buffer, `time_limit` how many seconds a launch may take. The others are
        for tuning: threads per block (up to GROUP_SIZE, a multiple of 32) and tails per thread of the kernels for the
        two shapes, launches queued at a time, and one of MULTIPLIED_OF_FOUR; None times these and keeps the fastest.

        Raises EngineUnavailable if there is no such device or the kernels do not compile, EngineError if it does not
        answer.
        """
        cupy = import_cupy()
        self._cupy = cupy
        # CUDADriverError, CUDARuntimeError and NVRTCError are RuntimeErrors; CuPy's out of memory is a MemoryError.
        errors: tuple[type[Exception], ...] = (RuntimeError, MemoryError, cupy.cuda.compiler.CompileException)
        threads = Threads(
            group=GROUP_SIZE,
            lane_group=group_size,
            width=1,
            tails=tails_per_thread,
            few_tails=_FEW_TAILS_PER_THREAD,
            factors=(_ONE, _UP),
        )
        try:
            if not 0 <= index < cupy.cuda.runtime.getDeviceCount():
                raise EngineUnavailable(f"there is no CUDA device cuda:{index} on this machine")
            super().__init__(
                cuda_device_info(cupy, index),
                errors,
                threads,
                first_batch=_FIRST_BATCH,
                hit_capacity=hit_capacity,
                time_limit=time_limit,
                in_flight=in_flight,
            )
            self._last_ended: Any = None
            self._gpu = cupy.cuda.Device(index)
            with self._gpu:
                self._uploads = cupy.cuda.Stream(non_blocking=True)
                tried = MULTIPLIED_OF_FOUR if multiplied_of_four is None else (multiplied_of_four,)
                variants = {multiplied: self._compiled(multiplied) for multiplied in tried}
                self._slots = [self._new_slot() for _ in range(in_flight)]
            self._kernels = self._fastest(variants)
        except errors as error:
            raise EngineUnavailable(f"cuda:{index} cannot be used: {first_line(error)}") from error

    def _compiled(self, multiplied: int) -> dict[str, Any]:
        options = (*COMPILE_OPTIONS, f"-DMULTIPLIED_OF_FOUR={multiplied}")
        module = self._cupy.RawModule(code=cuda_source(), options=options)
        kernels = {name: module.get_function(name) for name in self._sizes}
        for kernel in kernels.values():
            kernel.compile()  # now, so that what does not compile is found out here
        return kernels

    # --- see GpuEngine

    def _upload(self, values: Words) -> Any:
        # Waited for: launches are on other streams and would not wait for it.
        with self._gpu, self._uploads as stream:
            copy = self._cupy.asarray(values)
            self._wait_for(_Span(None, stream.record()))
        return copy

    def _new_slot(self) -> _Slot:
        with self._gpu:
            stream = self._cupy.cuda.Stream(non_blocking=True)
            with stream:
                found = self._cupy.zeros(1 + self._capacity, dtype=np.uint32)
            size = 1 + min(FIRST_READ, self._capacity)
            pinned = self._cupy.cuda.alloc_pinned_memory(size * found.itemsize)
            return _Slot(stream, found, np.frombuffer(pinned, np.uint32, size))

    def _enqueue(self, slot: _Slot, launch: Launch) -> _Span:
        kernel = self._kernels[launch.kernel]
        # The current device and stream belong to the thread, and each batch may be asked for by another one.
        with self._gpu, slot.stream:
            began = slot.stream.record()
            slot.found.data.memset_async(0, slot.found.itemsize)  # the count; no kernel of CuPy's own to compile
            kernel(launch.groups, (launch.group,), (*launch.arguments, np.uint32(self._capacity), slot.found))
            slot.found[: len(slot.first)].get(out=slot.first, blocking=False)
            return _Span(began, slot.stream.record())

    def _is_complete(self, event: _Span) -> bool:
        with self._gpu:
            return bool(event.ended.done)

    def _first_found(self, slot: _Slot) -> Words:
        return slot.first

    def _all_found(self, slot: _Slot, found: int) -> Words:
        with self._gpu, slot.stream:
            words: Words = slot.found[1 : 1 + found].get()
        return words

    def _seconds(self, event: _Span) -> float:
        """Since the launch began, or since the one before ended, whichever is later: they may overlap."""
        elapsed = self._cupy.cuda.get_elapsed_time
        milliseconds = float(elapsed(event.began, event.ended))
        since = milliseconds if self._last_ended is None else float(elapsed(self._last_ended, event.ended))
        self._last_ended = event.ended
        # Below 0: another search's launch, later than this one, was looked at before.
        return (min(milliseconds, since) if since > 0 else milliseconds) / 1000

    def _free(self) -> None:
        self._last_ended = None
        with self._gpu:
            self._cupy.get_default_memory_pool().free_all_blocks()

    # --- the choice among the variants

    def _fastest(self, variants: dict[int, dict[str, Any]]) -> dict[str, Any]:
        """The variant that hashes shape T fastest on this device. What is faster there is so in shape S too."""
        first = next(iter(variants.values()))
        if len(variants) == 1 or _TRIAL_SECONDS <= 0:
            return first
        rates = {multiplied: self._trial(kernels) for multiplied, kernels in variants.items()}
        best = max(rates, key=rates.__getitem__)
        logger.info(
            "%s hashes fastest with a rotation multiplied in %d of four rounds (%s GH/s)",
            self._device.device_id,
            best,
            ", ".join(f"{multiplied}: {rate / 1e9:.2f}" for multiplied, rate in rates.items()),
        )
        return variants[best]

    def _trial(self, kernels: dict[str, Any]) -> float:
        """Hashes a second."""
        self._kernels = kernels
        space = lay_out(b"", "0", MAX_COUNTER_DIGITS, MAX_NONCE_DIGITS)
        with closing(self._batches(self._task(space, MAX_DIFFICULTY), 0, space.capacity)) as batches:
            self._hashed_for(_TRIAL_SECONDS, batches)  # the clocks rise, the batches grow
            nonces, seconds = self._hashed_for(_TRIAL_SECONDS, batches)
        return nonces / seconds

    @staticmethod
    def _hashed_for(seconds: float, batches: Iterator[Batch]) -> tuple[int, float]:
        """Take batches for at least so long; their nonces, and how long it was."""
        began, nonces = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            nonces += next(batches).count
        return nonces, time.monotonic() - began
