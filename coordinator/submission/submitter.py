"""What the service asks of whoever gets proofs into the chain.

Two ways stand behind it: lanes, which sign with keys of our own, and the outbox of a guild stack, whose agent signs.
What becomes of a proof is told by the outcomes of `coordinator.submission.outcome`, to the callback that each way is
made with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from coordinator.submission.outcome import Submission
from hashfleet.action import Action


@dataclass(frozen=True, slots=True)
class SignerStatus:
    """How a signing account, or another way to submit, fares. Counts are of proofs, since the coordinator started."""

    #: Its bech32 address, or a name where it has none.
    address: str
    #: The player that the address is registered to; empty until it was asked.
    player_id: str = ""
    #: Transactions that may land in one of the next blocks.
    in_flight: int = 0
    #: Proofs that have no transaction yet.
    waiting: int = 0
    included: int = 0
    #: Refused by a node, or failed in a block.
    rejected: int = 0
    #: Void before they could be sent.
    stale: int = 0
    #: What went wrong last, for people; empty if nothing did.
    last_error: str = ""
    #: Why a person should look at it, while too many of its proofs are rejected; else empty.
    alarm: str = ""


class Submitter(Protocol):
    """Gets proofs into the chain: `recover`, then `run`; used from one event loop."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that it signs with, first choice first; empty if it has none of its own."""
        ...

    async def who_may_sign(self, action: Action, object_id: str) -> tuple[str, ...]:
        """The addresses that may sign for this work, equally well; empty if somebody else signs who does not tell it.

        Raises KeyProblem if nobody may sign for it, WorkPaused if there is no key at all, and ChainError: WorkGone if
        there is no such object, ChainUnavailable if that cannot be found out now.
        """
        ...

    async def choose_signer(self, action: Action, object_id: str, current: str = "") -> str:
        """One of `who_may_sign`, asked before anything is hashed: the `current` one if it is among them, else in turn.

        Empty if somebody else signs. Raises what `who_may_sign` raises.
        """
        ...

    def status(self) -> tuple[SignerStatus, ...]:
        """How each of its addresses fares, in their order."""
        ...

    async def recover(self) -> None:
        """Take up the live attempts of the ledger. May be called again. Raises StoreError, ChainUnavailable."""
        ...

    def submit(self, submission: Submission) -> None:
        """Queue a proof. A claim that is on its way already goes on as it is."""
        ...

    def prioritise(self, job_id: str, priority: int) -> None:
        """The job's proof has this priority from now on; nothing is done if it is not here (any more)."""
        ...

    async def withdraw(self, job_id: str) -> bool:
        """Let go of the job's proof for good; False, and nothing is changed, while something of it may land.

        That is while a live row of the ledger stands for something signed, or for a row of an outbox; while such a row
        is just being stored; and where one is in the chain already. Raises StoreError, and then nothing is changed.
        """
        ...

    def block_seen(self, height: int) -> None:
        """A block of this height is committed."""
        ...

    async def run(self) -> None:
        """Work until cancelled. What fails is tried again with a later block; raises StoreDamaged."""
        ...
