"""When so many of an account's transactions are rejected that a person should look. Pure.

A rejected proof now and then is the price of racing others. When it becomes the rule, something is wrong that the lane
cannot mend: another form of preimage, a node far behind, an account that somebody else uses all the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: How many of the transactions that ended last are looked at, and how many it takes to say anything.
WINDOW: Final = 20
LEAST_ENDED: Final = 10
#: The alarm is raised above this share of rejected ones, and withdrawn only once it has fallen to that one: a share
#: that wavers about one bound would raise it again and again.
RAISED_ABOVE: Final = 0.2
WITHDRAWN_AT: Final = 0.1


def alarmed(rejected: Sequence[bool], before: bool) -> bool:
    """Whether the alarm stands, given for each transaction that ended whether it was rejected, the oldest first."""
    last = rejected[-WINDOW:]
    if len(last) < LEAST_ENDED:
        return before
    share = sum(last) / len(last)
    return share > (WITHDRAWN_AT if before else RAISED_ABOVE)


def alarm_sentence(rejected: Sequence[bool], last_error: str) -> str:
    """What the operator is told while it stands."""
    last = rejected[-WINDOW:]
    return f"{sum(last)} of the last {len(last)} transactions were rejected, the last one because {last_error}"
