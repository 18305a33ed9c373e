"""What an idempotency key stands for, and that two requests with the same key are never decided upon at once.

The rule: a key stands for the job that its first request led to, whether that request made the job or joined one that
was under way, and it does so as long as the job is kept, in whatever state. The same request again gets that job;
another request with the key is refused. Asking anew after a job ended takes a new key, or none.

The store remembers keys (written in the transaction that first stores their job), so the service has only to look
there before it asks the core, and to keep two requests with one key from both finding nothing: `KeysInHand`.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from coordinator.store.protocol import KeyedRequest
from hashfleet.errors import InvalidInput
from hashfleet.job_request import JobRequest

#: Fields of a request as callers know them.
_NAMES = {
    "action": "action",
    "object_id": "entity_id",
    "player_id": "player_id",
    "target_id": "target_id",
    "anchor_hint": "block_start",
    "range_hint": "difficulty range",
    "max_hashes": "max_iterations",
    "priority": "priority",
    "max_nonce_digits": "max_nonce_digits",
    "mode": "mode",
    "start_mode": "start_mode",
    "start_difficulty": "start_difficulty",
    "deadline_height": "deadline_height",
    "weight": "weight",
    "founding": "founding",
}


def check_same(keyed: KeyedRequest, again: JobRequest) -> None:
    """Raises InvalidInput, naming what differs, if this is not the request that the key was used for first."""
    if keyed.request == again:
        return
    differences = [
        f"{name} {_shown(getattr(keyed.request, field))} (now {_shown(getattr(again, field))})"
        for field, name in _NAMES.items()
        if getattr(keyed.request, field) != getattr(again, field)
    ]
    raise InvalidInput(
        f"idempotency_key {again.idempotency_key!r} was used for job {keyed.job_id} with {', '.join(differences)}; "
        "repeat that request as it was, or take a new key for another one"
    )


def _shown(value: object) -> str:
    if value is None:
        return "left out"
    return value.name.lower() if isinstance(value, enum.Enum) else str(value)


class KeysInHand:
    """The keys of requests that are being decided upon. Used from one event loop."""

    def __init__(self) -> None:
        self._held: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def holding(self, keys: frozenset[str]) -> AsyncIterator[None]:
        """Wait until nobody else holds any of these keys, then hold them all.

        All are taken at one moment, so that two callers never wait for each other.
        """
        while others := {self._held[key] for key in keys if key in self._held}:
            for other in others:
                await other.wait()
        released = asyncio.Event()
        self._held |= dict.fromkeys(keys, released)
        try:
            yield
        finally:
            for key in keys:
                del self._held[key]
            released.set()
