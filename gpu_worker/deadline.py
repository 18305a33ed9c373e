"""Waiting for a device, but not for ever: drivers offer no wait with a time limit, so we poll."""

from __future__ import annotations

import time
from collections.abc import Callable

from hashfleet.errors import EngineError

#: The pause between two looks is a 64th of the time waited so far, so a batch is noticed less than 2 % late; the
#: bounds keep a tiny launch from waiting for the scheduler and a hung one from being asked too often.
_SHARE, _SHORTEST, _LONGEST = 1 / 64, 20e-6, 5e-3


def wait_until(
    done: Callable[[], bool],
    time_limit: float,
    device_id: str,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when `done()` is true; raise EngineError if it is not within `time_limit` seconds."""
    began = clock()
    while not done():
        waited = clock() - began
        if waited > time_limit:
            raise EngineError(f"{device_id} did not answer within {time_limit:g} s")
        sleep(min(_LONGEST, max(_SHORTEST, waited * _SHARE)))
