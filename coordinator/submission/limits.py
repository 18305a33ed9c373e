"""How a lane sends, and how much more it may read, sign and send in this block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from coordinator.submission.block_loop import BlockLoop
from coordinator.submission.decision import BLOCKS_IN_FLIGHT, MESSAGES_PER_TRANSACTION, SENDS_PER_BLOCK
from coordinator.submission.founding import GasPrice
from coordinator.submission.pending import LiveTransaction
from coordinator.submission.proof_book import ProofBook
from coordinator.submission.transaction import GAS_LIMIT
from hashfleet.errors import InvalidInput

#: Works read per block at most, so that a thousand paused proofs do not make a thousand queries each block.
MAX_READS_PER_BLOCK: Final = 100
#: Of these, works that took no proof before: the rest is for proofs against which nothing is known.
MAX_LOOKS_AGAIN_PER_BLOCK: Final = MAX_READS_PER_BLOCK // 2
#: New transactions refused in a row after which nothing more is tried in this block: then it is not the object.
MAX_REFUSALS_PER_BLOCK: Final = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """How a lane sends."""

    #: A transaction may land within so many blocks after it is signed.
    timeout_blocks: int = 20
    #: Gas limit for each proof.
    gas_limit: int = GAS_LIMIT
    #: What a founding pays; nothing if None.
    gas_price: GasPrice | None = None
    #: New transactions per block: what the node takes from one address.
    sends_per_block: int = SENDS_PER_BLOCK
    #: Proofs in one transaction at most.
    batch: int = 1

    def __post_init__(self) -> None:
        if self.timeout_blocks < 1:
            raise InvalidInput(f"timeout_blocks is {self.timeout_blocks}; it should be 1 or more")
        if not 1 <= self.sends_per_block <= 1000:
            raise InvalidInput(f"the transactions per block are {self.sends_per_block}; they should be 1 to 1000")
        if not 1 <= self.batch <= MESSAGES_PER_TRANSACTION:
            raise InvalidInput(
                f"the proofs per transaction are {self.batch}; they should be 1 to {MESSAGES_PER_TRANSACTION}"
            )


class Limits:
    """Counts what a lane does at one height."""

    def __init__(
        self, settings: Settings, book: ProofBook, loop: BlockLoop, messages_left: Callable[[], int], *, address: str
    ) -> None:
        """`messages_left` tells how many more messages the player may have on their way, over all of its keys."""
        self._settings = settings
        self._book = book
        self._loop = loop
        self._messages_left = messages_left
        self._address = address
        #: Proofs in one transaction at most: less than was set once the chain said that it was too large.
        self.batch = settings.batch
        self._counted_at = -1
        #: By address: what is left of other keys takes nothing of what a node takes from ours.
        self._sends: Counter[str] = Counter()
        self._reads = self._looks_again = 0
        self._refusals = 0
        self._objects_sent: set[str] = set()

    def count_anew(self) -> None:
        """Forget what was counted at an earlier height."""
        if self._counted_at != self._loop.height:
            self._counted_at = self._loop.height
            self._sends = Counter()
            self._reads = self._looks_again = self._refusals = 0
            self._objects_sent = set()

    # ---- what is left --------------------------------------------------------------------------------------------

    def slots(self) -> int:
        """New transactions of ours that this block takes."""
        self.count_anew()
        if self._reads >= MAX_READS_PER_BLOCK or self._refusals >= MAX_REFUSALS_PER_BLOCK:
            return 0
        most = BLOCKS_IN_FLIGHT * self._settings.sends_per_block
        in_flight = sum(not flying.held and flying.address == self._address for flying in self._book.flying)
        sends = self._settings.sends_per_block - self._sends[self._address]
        return max(0, min(sends, most - in_flight, self._messages_left()))

    def slots_in_hand(self) -> int:
        """As `slots`, with the proofs in hand not counted against themselves."""
        in_hand, self._book.in_hand = self._book.in_hand, 0
        slots = self.slots()
        self._book.in_hand = in_hand
        return slots

    def room(self, slots: int) -> int:
        """Proofs to look at for so many transactions."""
        return min(slots * self.batch, self._messages_left(), MAX_READS_PER_BLOCK - self._reads)

    def room_to_look_again(self) -> int:
        """Proofs to look at whose works took none when they were read last."""
        self.count_anew()
        return min(MAX_LOOKS_AGAIN_PER_BLOCK - self._looks_again, MAX_READS_PER_BLOCK - self._reads)

    @property
    def may_try_again(self) -> bool:
        """Whether a proof that was refused before may be tried once more in this block.

        Not after a refusal: then the other one is left to proofs that were never refused, of whatever class.
        """
        return self._refusals == 0

    def was_sent(self, object_id: str) -> bool:
        """Whether a transaction for this object was sent in this block; then no other is."""
        return object_id in self._objects_sent

    def may_send(self, flying: LiveTransaction) -> bool:
        """Whether this block takes the transaction."""
        self.count_anew()
        sends = self._sends[flying.address]
        return sends < self._settings.sends_per_block and self._objects_sent.isdisjoint(flying.objects)

    # ---- what happens --------------------------------------------------------------------------------------------

    def note_read(self) -> None:
        """A work is read."""
        self._reads += 1

    def note_looks_again(self, count: int) -> None:
        """So many works that took no proof are looked at again."""
        self._looks_again += count

    def note_send(self, flying: LiveTransaction) -> None:
        """The transaction is sent."""
        self.count_anew()
        self._sends[flying.address] += 1
        self._objects_sent |= flying.objects

    def note_refusal(self) -> None:
        """A node refused a transaction."""
        self._refusals += 1

    def stop(self) -> None:
        """Send nothing new in this block."""
        self._refusals = MAX_REFUSALS_PER_BLOCK

    def send_anew(self, objects: set[str]) -> None:
        """What was sent for these objects came to nothing, and may be sent for again in this block."""
        self._objects_sent -= objects
