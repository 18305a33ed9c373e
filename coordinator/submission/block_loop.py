"""When a submitter works: one round for each new block, and whenever there is something new."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from coordinator.store.protocol import StoreDamaged, StoreError
from coordinator.submission.record import Record
from hashfleet.errors import ChainError

logger = logging.getLogger(__name__)


class BlockLoop:
    """Knows the height, and runs rounds. Used from one event loop."""

    def __init__(self, name: str, record: Record) -> None:
        """`name` begins a sentence of the log; what goes wrong is kept in `record`, too."""
        self._name = name
        self._record = record
        #: The highest committed height that was seen; -1 until one was.
        self.height = -1
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Have another round."""
        self._wake.set()

    def block_seen(self, height: int) -> None:
        """A block of this height is committed."""
        if height > self.height:
            self.height = height
            self._wake.set()

    async def run(self, advance: Callable[[], Awaitable[None]]) -> None:
        """Call `advance` until cancelled, once for any number of wakes. Raises StoreDamaged, and what is no failure of
        a chain or of a store: those are tried again with the next block."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await advance()
            except ChainError as error:
                self._record.last_error = str(error)
                logger.warning("%s waits for the next block: %s", self._name, error)
            except StoreDamaged:
                raise  # what the ledger says cannot be relied upon
            except StoreError as error:
                self._record.last_error = str(error)
                logger.error("%s sends nothing while the ledger fails: %s", self._name, error)
