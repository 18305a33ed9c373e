"""Every engine of this machine and what people use instead, in turns, in one run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from bench.contender import Contender, take_turns
from bench.engines import Kind, open_contenders
from bench.machine import made_now
from bench.python_loops import HashlibLoop, MidstateLoop
from bench.report import KernelsReport, NotMeasured
from bench.tools import Hashcat, NodeLoop, OpenSslSpeed, ToolFailed

logger = logging.getLogger(__name__)

_OTHERS: tuple[tuple[str, Callable[[], Contender]], ...] = (
    (HashlibLoop.what, HashlibLoop),
    (MidstateLoop.what, MidstateLoop),
    (NodeLoop.what, NodeLoop),
    (OpenSslSpeed.what, OpenSslSpeed),
    ("hashcat on the CPU", lambda: Hashcat(on_gpu=False)),
    ("hashcat on a GPU", lambda: Hashcat(on_gpu=True)),
)


def measure_kernels(kinds: Sequence[Kind], rounds: int, seconds: float, patience: float = 0.0) -> KernelsReport:
    """Measure the engines of these kinds and all others that are installed, `rounds` times for `seconds` each.

    `patience` is as for `take_turns`.
    """
    with ExitStack() as stack:
        engines, without_engine = open_contenders(kinds, stack)
        others, without_tool = find_others()
        made = made_now(tuple(sorted({each.engine.device.name for each in engines if each.hardware == "GPU"})))
        figures, failed = take_turns([*others, *engines], rounds, seconds, patience)
    return KernelsReport(
        made=made, seconds=seconds, figures=tuple(figures), not_measured=(*without_engine, *without_tool, *failed)
    )


def find_others() -> tuple[list[Contender], list[NotMeasured]]:
    """What others use and is installed here; what is not is named."""
    found: list[Contender] = []
    missing: list[NotMeasured] = []
    for name, make in _OTHERS:
        try:
            found.append(make())
        except ToolFailed as error:
            missing.append(NotMeasured(what=name, reason=str(error)))
    return found, missing
