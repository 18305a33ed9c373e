"""Which of several nodes is asked first: pure decisions about values that the failover client keeps.

A node is *fresh* if it is at most one block behind the highest height that any healthy node told (that much always
differs between nodes that are well), or told none yet. A height far above the newest block that was passed on is not
believed, so one node cannot make all others stale. Of the fresh ones the order of the configuration decides, whoever
has a block first, unless one is much slower; a reading that needs the newer block goes on to the next node. Whoever
failed is asked last, and first again after it answered; a node of another chain is never asked.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

#: Blocks that a fresh node may be behind the highest.
MAX_BEHIND: Final = 1
#: Blocks that a node is believed to be ahead of the newest block that was passed on: about a minute.
MAX_AHEAD: Final = 10
#: Pause in seconds after the first failure, doubled with each one, and the longest.
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
#: Pause in seconds before a node that served another chain is looked at again.
REFUSED_PAUSE: Final = 60.0
#: A node is slow if it takes this much longer, in seconds and as a factor, than the quickest fresh one.
_SLOWER_SECONDS: Final = 0.25
_SLOWER_FACTOR: Final = 4.0
#: Weight of the newest answer in the smoothed time.
_WEIGHT: Final = 0.3


class EndpointState(enum.Enum):
    """How an endpoint is used."""

    UNTRIED = "untried"
    HEALTHY = "healthy"
    #: Answers, but is more than a block behind, or catching up.
    STALE = "stale"
    FAILING = "failing"
    #: Serves another chain.
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one endpoint."""

    #: It answered, since the last failure, that it serves our chain.
    checked: bool = False
    refused: bool = False
    #: It told last that it replays blocks of the past.
    catching_up: bool = False
    #: Committed height that it told last; 0 if it never told one.
    height: int = 0
    #: Times that it failed in a row; what fails within the pause after one is the same.
    failures: int = 0
    #: Time until which it is asked only if nobody else answers.
    not_before: float = 0.0
    #: Seconds an answer takes, smoothed; 0 until measured.
    seconds: float = 0.0
    #: Why it failed or was refused last; empty while it is well.
    error: str = ""


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """One endpoint as people are told of it."""

    #: "gRPC 127.0.0.1:9090": no path and no token.
    name: str
    state: EndpointState
    height: int
    seconds: float
    #: The node's version as it told last; empty before that.
    version: str
    error: str


def answered(health: Health, height: int | None = None, seconds: float | None = None) -> Health:
    """After an answer; `height` and `seconds` if it told or took any worth noting.

    A node that was set back to an older state tells lower heights than before, and is as far as it says.
    """
    smoothed = health.seconds
    if seconds is not None:
        smoothed = seconds if smoothed == 0 else smoothed + _WEIGHT * (seconds - smoothed)
    return Health(
        checked=True,
        catching_up=health.catching_up,
        height=health.height if height is None else height,
        seconds=smoothed,
    )


def chain_checked(health: Health) -> Health:
    """After it told that it serves our chain. What failed before has to be answered before it counts as well."""
    return replace(health, checked=True, refused=False)


def told_progress(health: Health, catching_up: bool) -> Health:
    """After it told whether it is catching up, which says nothing about failures."""
    return replace(health, catching_up=catching_up)


def failed(health: Health, now: float, error: str) -> Health:
    """After a call without a usable answer. Its chain has to be checked again before it is asked anything.

    Calls fail together when a node goes away: those after the first say nothing new, so the pause stays as it is.
    """
    if health.failures and not health.refused and now < health.not_before:
        return replace(health, checked=False, error=error)
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(health.failures, 16))
    return replace(
        health, checked=False, refused=False, failures=health.failures + 1, not_before=now + pause, error=error
    )


def refused(health: Health, now: float, error: str) -> Health:
    """After it said that it serves another chain. Its heights mean nothing to ours."""
    return Health(refused=True, failures=health.failures + 1, not_before=now + REFUSED_PAUSE, error=error)


def state_of(health: Health, highest: int) -> EndpointState:
    """How an endpoint is used, if `highest` is what `highest_of` says of all."""
    if health.refused:
        return EndpointState.REFUSED
    if health.failures:
        return EndpointState.FAILING
    if not health.checked:
        return EndpointState.UNTRIED
    behind = health.catching_up or 0 < health.height < highest - MAX_BEHIND
    return EndpointState.STALE if behind else EndpointState.HEALTHY


def highest_of(healths: Sequence[Health], newest: int = 0) -> int:
    """The highest height that is believed of those that nodes told which are well; 0 if there is none.

    `newest` is the newest block that was passed on, 0 if none was: then any height is believed.
    """
    told = [health.height for health in healths if health.checked and not health.refused]
    return max((height for height in told if not newest or height <= newest + MAX_AHEAD), default=newest)


def order(healths: Sequence[Health], now: float, newest: int = 0) -> list[int]:
    """Indexes of the endpoints in the order in which a call tries them; those of another chain are left out.

    `newest` is as `highest_of` takes it.
    """
    highest = highest_of(healths, newest)
    states = [state_of(health, highest) for health in healths]
    measured = [
        health.seconds
        for health, state in zip(healths, states, strict=True)
        if state is EndpointState.HEALTHY and health.seconds > 0
    ]
    slow = max(min(measured) * _SLOWER_FACTOR, min(measured) + _SLOWER_SECONDS) if measured else float("inf")

    def rank(index: int) -> tuple[int, int, bool, float]:
        health, state = healths[index], states[index]
        if state is EndpointState.HEALTHY:
            return 0, 0, health.seconds > slow, index
        if state is EndpointState.UNTRIED:
            return 1, 0, False, index
        if state is EndpointState.STALE:
            return 2, highest - health.height, False, index
        due = health.not_before <= now
        return 3 if due else 4, 0, False, index if due else health.not_before

    return sorted((i for i, state in enumerate(states) if state is not EndpointState.REFUSED), key=rank)
