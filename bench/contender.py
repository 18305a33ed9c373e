"""Who takes part in a comparison, and taking turns."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from bench.quiet import undisturbed
from bench.report import Figure, Hardware, Limit, NotMeasured
from bench.samples import paired_ratio
from hashfleet.errors import HashfleetError

logger = logging.getLogger(__name__)

#: What others are compared with, and on which hardware the comparison means something.
BASES: dict[str, tuple[Hardware, ...]] = {
    "hashlib": ("one core", "all cores", "GPU"),
    "node": ("one core", "all cores", "GPU"),
    "hashcat-cpu": ("all cores",),
    "hashcat-gpu": ("GPU",),
}


class Contender(Protocol):
    """Something that hashes, ready to be measured again and again."""

    @property
    def id(self) -> str: ...

    @property
    def what(self) -> str: ...

    @property
    def hardware(self) -> Hardware: ...

    @property
    def version(self) -> str: ...

    @property
    def limit(self) -> Limit | None: ...

    def measure(self, seconds: float) -> float:
        """Hashes a second over about `seconds`, after warming up. Raises HashfleetError if it cannot."""
        ...


def take_turns(
    contenders: Sequence[Contender], rounds: int, seconds: float, patience: float = 0.0
) -> tuple[list[Figure], list[NotMeasured]]:
    """Measure all of them once per round; in every other round in reverse order, so that a drift favours nobody.

    One that fails is out from then on, and named. Before each measurement the machine may take `patience` seconds to
    become idle; one that others disturbed is made again.
    """
    rates: dict[str, list[float]] = {contender.id: [] for contender in contenders}
    disturbances: dict[str, list[float]] = {contender.id: [] for contender in contenders}
    failures: dict[str, str] = {}
    for turn in range(rounds):
        for contender in contenders if turn % 2 == 0 else reversed(contenders):
            if contender.id in failures:
                continue
            try:
                rate, others = undisturbed(partial(contender.measure, seconds), patience)
            except HashfleetError as error:
                logger.warning("%s is not measured: %s", contender.what, error)
                failures[contender.id] = str(error)
            else:
                rates[contender.id].append(rate)
                disturbances[contender.id].append(others)
                logger.info(
                    "round %d, %s: %.4g hashes a second; others used %.2f cores", turn + 1, contender.id, rate, others
                )
    measured = [contender for contender in contenders if contender.id not in failures]
    figures = [
        Figure(
            id=contender.id,
            what=contender.what,
            hardware=contender.hardware,
            rounds=tuple(rates[contender.id]),
            others=tuple(disturbances[contender.id]),
            version=contender.version,
            limit=contender.limit,
            ratios={
                base: paired_ratio(rates[contender.id], rates[base])
                for base, where in BASES.items()
                if base in rates and base not in failures and base != contender.id and contender.hardware in where
            },
        )
        for contender in measured
    ]
    refused = [
        NotMeasured(what=contender.what, reason=failures[contender.id])
        for contender in contenders
        if contender.id in failures
    ]
    return figures, refused
