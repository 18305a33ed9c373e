"""What became of an account's transactions since the start, and whether a person should look at it."""

from __future__ import annotations

import logging
from collections import deque

from coordinator.chain.client import TxAnswer
from coordinator.submission.alarm import WINDOW, alarm_sentence, alarmed
from coordinator.submission.submitter import SignerStatus
from coordinator.submission.verdict import Disposition, disposition

logger = logging.getLogger(__name__)


class Record:
    """Proofs are counted; only the alarm is about transactions."""

    def __init__(self, address: str) -> None:
        """`address` signs, or is the name of what does."""
        self._address = address
        self.included = self.rejected = self.stale = 0
        #: What went wrong last, for people.
        self.last_error = ""
        #: Of the transactions that ended last, whether each was rejected.
        self._rejections: deque[bool] = deque(maxlen=WINDOW)
        self._alarm = False

    def transaction_ended(self, answer: TxAnswer) -> None:
        """Count the end of a transaction. What a limit per block or another sequence stops says nothing of proofs."""
        what = disposition(answer)
        if what in (Disposition.RETRY_NEXT_BLOCK, Disposition.RESYNC_SEQUENCE, Disposition.UNKNOWN_ANTE):
            return
        self.ended(rejected=what is not Disposition.SUCCESS)

    def ended(self, *, rejected: bool) -> None:
        """Count the end of a transaction, which no answer need have told."""
        self._rejections.append(rejected)
        before, self._alarm = self._alarm, alarmed(tuple(self._rejections), self._alarm)
        if self._alarm and not before:
            logger.error("The operator should look at the lane of %s: %s.", self._address, self._alarm_sentence())
        elif before and not self._alarm:
            logger.info("The lane of %s has few rejections again.", self._address)

    def status(self, *, in_flight: int, waiting: int, player_id: str = "") -> SignerStatus:
        """The record with what is under way now."""
        return SignerStatus(
            address=self._address,
            player_id=player_id,
            in_flight=in_flight,
            waiting=waiting,
            included=self.included,
            rejected=self.rejected,
            stale=self.stale,
            last_error=self.last_error,
            alarm=self._alarm_sentence() if self._alarm else "",
        )

    def _alarm_sentence(self) -> str:
        return alarm_sentence(tuple(self._rejections), self.last_error)
