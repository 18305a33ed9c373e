"""Which sequence an account signs with next."""

from __future__ import annotations

from typing import Final

from coordinator.chain.client import Account
from coordinator.submission.block_loop import BlockLoop
from coordinator.submission.decision import next_sequence
from coordinator.submission.proof_book import ProofBook
from coordinator.submission.verdict import expected_sequence

#: How many transactions of others a node's word about the sequence may account for.
MAX_HINT: Final = 100


class Sequences:
    """The sequences of one account."""

    def __init__(self, book: ProofBook, loop: BlockLoop, address: str) -> None:
        self._book = book
        self._loop = loop
        self._address = address
        #: The sequence after the highest one of ours that is in a block: a lagging node must not take us back.
        self._floor = 0
        #: The sequence that a node said it expects, and the height at which it did.
        self._hint, self._hinted_at = 0, -1

    def next(self, account: Account) -> int:
        """The one to sign with, the account being as a node shows it."""
        taken = {flying.sequence for flying in self._book.flying if not flying.held and flying.address == self._address}
        hint = self._hint if self._hinted_at == self._loop.height else 0
        return next_sequence(max(account.sequence, self._floor, hint), taken)

    def landed(self, sequence: int) -> None:
        """A block holds one of ours with this sequence."""
        self._floor = max(self._floor, sequence + 1)

    def take_hint(self, tried: int, log: str) -> bool:
        """Whether a node's answer says which sequence it expects instead; believed once a block, and not too far off.

        A lower one only says that the node forgot what we sent before: that is sent again with the next blocks.
        """
        hint = expected_sequence(log)
        if hint is None or not tried < hint <= tried + MAX_HINT or self._hinted_at == self._loop.height:
            return False
        self._hinted_at, self._hint = self._loop.height, hint
        return True
