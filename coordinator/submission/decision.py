"""What a lane decides, as pure functions over values: nothing here asks a chain, a store or a clock.

Heights are committed ones. A transaction that is sent while H is the last committed block can be executed in block
H + 1 at the earliest, so that is the height at which a proof is judged.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from coordinator.core.job import Transaction, TransactionState
from coordinator.submission.attempt import Attempt, AttemptState, RejectionCause
from coordinator.submission.verdict import Disposition
from hashfleet.action import MAX_HEIGHT, Action, Work
from hashfleet.difficulty import first_age, safe
from hashfleet.proof import Proof

#: Free transactions that a node takes from one address per block (structs-ante 2041). A node's own setting
#: (`structs-ante.checktx-addr-cap`): this is its default.
SENDS_PER_BLOCK: Final = 5
#: Messages that the chain takes in one transaction (structs-ante 2001), and from one player in one block, over all of
#: the player's keys (structs-ante 2040).
MESSAGES_PER_TRANSACTION: Final = 40
MESSAGES_PER_PLAYER: Final = 40
#: Transactions in flight at most, in blocks' worth: two, so that a confirmation that comes a block late does not slow
#: the lane down. More in flight only make more to sign anew when one of them is lost.
BLOCKS_IN_FLIGHT: Final = 2
#: Blocks in which a transaction of several proofs may land, if that is less than what the lane allows: when one of
#: its proofs becomes void, the others wait for its end.
BATCH_TIMEOUT_BLOCKS: Final = 8
#: Blocks after which an admitted transaction that is in no block is offered again: mempools forget.
RESEND_AFTER: Final = 2
#: A proof whose transactions failed this often in blocks, each time in a way that says something of the proof
#: (`counts`), is given up: what fails for ever must not run for ever.
MAX_FAILURES: Final = 5
#: The same where the chain says that it hashes another form of preimage: once more, if a node was just being upgraded.
MAX_OTHER_FORM: Final = 2
#: The same of what each try in a block is paid for: once more, and only where the next block may answer otherwise.
MAX_PAID: Final = 2
#: Refusals for a limit after which a transaction of several proofs is halved all the same: it may be one object that
#: others attempt in every block, or a block that only ever has room for fewer.
MAX_SHARED_REFUSALS: Final = 5
#: An object that takes no proof now is tried again after 2, 4, 8, ... blocks, and never more than this (6 minutes).
MAX_PAUSE_BLOCKS: Final = 64
#: A proof that nodes refuse is tried again after 1, 2, 4, ... blocks, and never more than this: it must neither keep
#: lower classes from the few tries that a block allows, nor miss its window.
MAX_SET_BACK_BLOCKS: Final = 8


class Fitness(enum.Enum):
    """Whether a proof may be sent at a height."""

    #: It is valid from the next block on.
    GOOD = "good"
    #: The next block still asks for more zeros; a later one will not.
    EARLY = "early"
    #: It will not be valid for the puzzle as it is now, or not soon: search again.
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a proof may be sent, and why not, in one sentence."""

    fitness: Fitness
    reason: str = ""


def judge(found_for: Work, proof: Proof, now: Work, height: int) -> Judgement:
    """Whether a proof found for one puzzle may be sent at `height`, the puzzle being `now`."""
    if now.anchor != found_for.anchor:
        return Judgement(
            Fitness.VOID, f"the anchor of {now.object_id} moved from {found_for.anchor} to {now.anchor}; a new search"
        )
    if now.prefix != found_for.prefix and now.charter is not None:
        # Another player solves it, or the operator told another form.
        ours, theirs = found_for.prefix.decode("ascii"), now.prefix.decode("ascii")
        return Judgement(Fitness.VOID, f"the preimage of {now.object_id} begins with {theirs} now, not with {ours}")
    if now.prefix != found_for.prefix:
        return Judgement(Fitness.VOID, f"{now.object_id} works on {now.target_id} now, not on {found_for.target_id}")
    if proof.zeros < 1:
        return Judgement(Fitness.VOID, "the proof's hash starts with no zero; the chain asks for one at least")
    asked = safe(height + 1 - now.anchor, now.range)
    if asked <= proof.zeros:
        return Judgement(Fitness.GOOD)
    if now.range > found_for.range:
        return Judgement(
            Fitness.VOID,
            f"the difficulty range of {now.object_id} rose from {found_for.range} to {now.range}: "
            f"{asked} zeros are asked now, the proof has {proof.zeros}",
        )
    return Judgement(Fitness.EARLY, f"the next block asks for {asked} zeros, the proof has {proof.zeros}")


def ripe_at(work: Work, proof: Proof) -> int:
    """The first committed height at which the proof may be sent, if the range stays as it is."""
    return work.anchor + first_age(proof.zeros, work.range) - 1 if proof.zeros else 0


@dataclass(frozen=True, slots=True)
class Flight:
    """A live attempt and what is known of its way."""

    attempt: Attempt
    #: Height of the last block when it was last offered to a node by this process; None if never.
    sent_at: int | None = None
    #: Height of the last block when its sequence was first seen used while it was in no block; None if never.
    overtaken_at: int | None = None


class Follow(enum.Enum):
    """What to do with a live attempt that no block holds."""

    WAIT = "wait"
    #: Offer the same bytes again.
    SEND = "send"
    #: It can no longer land: a new transaction may be signed.
    SUPERSEDE = "supersede"


def follow(flight: Flight, height: int) -> Follow:
    """What to do with a live attempt that was looked up at `height` and not found.

    One block is granted after the last one in which it may have landed: nodes index a block after they commit it.
    """
    attempt, timeout = flight.attempt, flight.attempt.timeout_height
    assert timeout is not None, "only what is signed is followed"
    if height > timeout + 1:
        return Follow.SUPERSEDE
    if flight.overtaken_at is not None:
        return Follow.SUPERSEDE if height > flight.overtaken_at else Follow.WAIT
    if height >= timeout:
        return Follow.WAIT  # the next block is past its timeout
    if flight.sent_at is None:
        return Follow.SEND
    patience = RESEND_AFTER if attempt.state is AttemptState.BROADCAST else 1
    return Follow.SEND if height >= flight.sent_at + patience else Follow.WAIT


def may_surface(ended: Iterable[Attempt], height: int) -> bool:
    """Whether one of a proof's ended attempts may still turn out to have landed.

    Only one that was superseded before its timeout: its sequence was used, perhaps by itself.
    """
    return any(
        attempt.state is AttemptState.SUPERSEDED
        and attempt.timeout_height is not None
        and height <= attempt.timeout_height + 1
        for attempt in ended
    )


def next_sequence(committed: int, taken: Collection[int]) -> int:
    """The lowest sequence that is neither used in a block nor by a transaction in flight.

    The lowest, because a gap holds up everything behind it.
    """
    sequence = committed
    while sequence in taken:
        sequence += 1
    return sequence


def halves_after(shared_refusals: int) -> bool:
    """Whether proofs whose transaction was refused for a limit so often go on in two halves."""
    return shared_refusals >= MAX_SHARED_REFUSALS


class After(enum.Enum):
    """What becomes of a proof whose transaction was refused or failed."""

    #: Read the work again and sign anew, from the next block on.
    AGAIN = "again"
    #: Keep the proof and try again after a pause.
    PAUSE = "pause"
    GIVE_UP = "give up"
    #: Have another key chosen; if there is none, pause.
    OTHER_KEY = "other key"


#: What says nothing of the proof: limits per block, sequences, an object that takes none now.
_OF_THE_MOMENT: Final = frozenset(
    {Disposition.PAUSE, Disposition.RETRY_NEXT_BLOCK, Disposition.RESYNC_SEQUENCE, Disposition.UNKNOWN_ANTE}
)
#: Causes with which the same proof, or the work read anew, meets another answer in the next block.
_OF_THIS_BLOCK: Final = frozenset({RejectionCause.DIFFICULTY, RejectionCause.ANCHOR_MOVED})


def counts(what: Disposition) -> bool:
    """Whether a failure in a block is one of the few that a proof is given up after."""
    return what not in _OF_THE_MOMENT


def weigh(what: Disposition, cause: RejectionCause | None) -> Disposition:
    """What an answer asks for, given why the proof was rejected, if it was.

    The next block hashes in no other form than this one: that is for a person to look at.
    """
    return Disposition.ALERT if cause is RejectionCause.OTHER_FORM else what


def after_failure(
    what: Disposition,
    failures: int,
    *,
    in_block: bool = False,
    paid: bool = False,
    cause: RejectionCause | None = None,
) -> After:
    """What becomes of the proof, given the failures in blocks that it has had so far, of those that count.

    What each try is `paid` for is not tried again to no purpose. The cause is read from a log, so it may have us try
    once more of that, and else only less often.
    """
    if what is Disposition.GIVE_UP:
        return After.GIVE_UP
    if paid and (cause not in _OF_THIS_BLOCK or failures >= MAX_PAID):
        return After.GIVE_UP
    if not counts(what):
        # Never given up, or others who fill the blocks would cost us good proofs. In a block it costs one free
        # transaction per pause at most, and pauses grow.
        return After.PAUSE if what is Disposition.PAUSE or in_block else After.AGAIN
    if failures >= (MAX_OTHER_FORM if cause is RejectionCause.OTHER_FORM else MAX_FAILURES):
        return After.GIVE_UP
    if what is Disposition.OTHER_KEY:
        return After.OTHER_KEY
    return After.PAUSE if what is Disposition.ALERT else After.AGAIN


class Volatility(enum.IntEnum):
    """How soon a proof may become void by what others do; the lower goes first among those of a priority."""

    #: One puzzle for the whole chain.
    CHARTER = 0
    #: Another fleet may take the planet's queue, and the shield may rise.
    RAID = 1
    #: A success of another work resets the clock.
    SHARED_CLOCK = 2
    #: Its own clock, which its owner's play may reset.
    OWN_CLOCK = 3
    #: The anchor stands until it is built.
    BUILD = 4


def volatility(work: Work, clock: str) -> Volatility:
    """How soon a proof of this work may become void; `clock` names the clock that it shares, if it does."""
    if work.action is Action.CHARTER:
        return Volatility.CHARTER
    if work.action is Action.RAID:
        return Volatility.RAID
    if clock:
        return Volatility.SHARED_CLOCK
    return Volatility.BUILD if work.action is Action.BUILD else Volatility.OWN_CLOCK


@dataclass(frozen=True, slots=True)
class Cargo:
    """What decides whether a proof may share a transaction with others."""

    #: Objects whose change moves, ends or pauses the work: if one proof's success may touch another's, they are
    #: not independent.
    objects: frozenset[str]
    #: The clock that a success resets; empty if it is the work's own.
    clock: str
    #: Proofs that failed together stay apart from all others until it is known which one it was; 0 for the rest.
    group: int
    #: It stands alone: priced, or tried before without success.
    alone: bool

    def goes_with(self, other: Cargo) -> bool:
        """Whether both may stand in one transaction, where the failure of one undoes the other."""
        if self.alone or other.alone or self.group != other.group:
            return False
        if self.clock and self.clock == other.clock:
            return False
        return self.objects.isdisjoint(other.objects)


_T = TypeVar("_T")


def pack(ready: Sequence[_T], cargo: Callable[[_T], Cargo], slots: int, most: int) -> list[list[_T]]:
    """Distribute proofs, the first to go first, over at most `slots` transactions of at most `most` proofs.

    As many transactions as there are slots, each as small as that allows: a failure then undoes the fewest. What
    finds no place is left out.
    """
    if slots < 1:
        return []
    size = max(1, min(most, math.ceil(len(ready) / slots)))
    packed: list[list[_T]] = []
    for one in ready:
        if len(packed) < slots:
            packed.append([one])
            continue
        for limit in (size, most):  # a fuller one rather than none: others may not go with it
            room = next((held for held in packed if len(held) < limit and _fits(one, held, cargo)), None)
            if room is not None:
                room.append(one)
                break
    return packed


def _fits(one: _T, held: Sequence[_T], cargo: Callable[[_T], Cargo]) -> bool:
    return all(cargo(one).goes_with(cargo(other)) for other in held)


def halves(proofs: Sequence[_T]) -> tuple[Sequence[_T], Sequence[_T]]:
    """Two halves of what failed together, the first the larger."""
    middle = (len(proofs) + 1) // 2
    return proofs[:middle], proofs[middle:]


def pause_blocks(pauses: int) -> int:
    """Blocks to wait before the next try, after that many pauses in a row (1 or more)."""
    return MAX_PAUSE_BLOCKS if pauses > 10 else min(MAX_PAUSE_BLOCKS, 1 << pauses)


def set_back_blocks(set_backs: int) -> int:
    """Blocks to wait before the next try of a proof that was refused so many times in a row (1 or more)."""
    return MAX_SET_BACK_BLOCKS if set_backs > 10 else min(MAX_SET_BACK_BLOCKS, 1 << (set_backs - 1))


def timeout_at(height: int, blocks: int) -> int:
    """The last height at which a transaction signed now may land."""
    return min(height + blocks, MAX_HEIGHT)


_SHOWN: Final = {
    AttemptState.SIGNED: TransactionState.SIGNED,
    AttemptState.BROADCAST: TransactionState.BROADCAST,
    AttemptState.INCLUDED: TransactionState.INCLUDED,
    AttemptState.REJECTED: TransactionState.REJECTED,
    AttemptState.SUPERSEDED: TransactionState.REJECTED,
}


def transaction_of(attempt: Attempt) -> Transaction:
    """A stored attempt as its job shows it."""
    assert attempt.ledger_id is not None, "only a stored attempt is shown"
    assert attempt.tx_hash is not None, "there is nothing to show before it is signed"
    return Transaction(attempt.tx_hash, _SHOWN[attempt.state], attempt.ledger_id, attempt.height, attempt.log)
