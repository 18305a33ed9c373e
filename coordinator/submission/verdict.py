"""What to do about a node's answer to a transaction, decided from codespace and code alone.

The log is for people: its wording changes between versions, and digits of a nonce or a hash look like any error
number. The one number read from a log is the sequence that the chain expects, and only when the code says that the
sequence was wrong; if it cannot be read, the account is queried instead. (What else a log names as data, the preimage
of a rejected proof, is read by `rejection`; all that follows from it is that `decision` may try less often.)

Sources: structsd x/structs/types/errors.go and its ante package (v0.16 to v0.21), cosmos-sdk v0.53 types/errors.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from coordinator.chain.client import TxAnswer
from hashfleet.action import MAX_UINT64


class Disposition(enum.Enum):
    """What the submission lane does next."""

    #: Admitted (answer to a broadcast) or executed (answer from a block).
    SUCCESS = "success"
    #: The node holds these very bytes already: follow the hash, send nothing new.
    ALREADY_SENT = "already sent"
    #: A limit per block or a full mempool: nothing is wrong with the proof. Read the work again, then submit after
    #: the next block; bounded by the caller.
    RETRY_NEXT_BLOCK = "retry next block"
    #: v0.16 tells every condition of its ante handler by one code: a limit per block, or a key without the right. Find
    #: out which by asking for the right, then as RETRY_NEXT_BLOCK or OTHER_KEY.
    UNKNOWN_ANTE = "unknown ante refusal"
    #: The key may not do this: another one may; else pause with the reason.
    OTHER_KEY = "other key"
    #: The sequence was wrong: take it from `expected_sequence` or from the account, and sign again.
    RESYNC_SEQUENCE = "resync sequence"
    #: The puzzle may have changed: read the work again. Same anchor: submit the proof again at a height that asks
    #: for no more zeros than it has. Other anchor: search again.
    REMINE = "re-read the work"
    #: The object takes no proof now: keep the proof, read the work with each block until it is there again or gone.
    PAUSE = "pause"
    #: The object will not take this proof: the job is over.
    GIVE_UP = "give up"
    #: Nothing that the fleet does by itself mends this: stop the attempt, keep the proof, tell the operator.
    ALERT = "alert"


#: Code of codespace "sdk" for a wrong account sequence.
WRONG_SEQUENCE: Final = 32
#: The sdk code of a transaction that comes after its timeout height.
TIMED_OUT: Final = 30

_STRUCTS: Final = {
    1002: Disposition.REMINE,  # invalid parameters: the anchor lies after the node's height, or the node is behind
    1050: Disposition.GIVE_UP,  # object not found
    1100: Disposition.OTHER_KEY,  # permission on the object (also: the struct does not exist, so its owner is nobody)
    1150: Disposition.ALERT,  # player unknown
    1151: Disposition.ALERT,  # player state
    1201: Disposition.PAUSE,  # power: owner offline, or no capacity for the finished struct
    1203: Disposition.GIVE_UP,  # nothing left to mine or refine
    1250: Disposition.GIVE_UP,  # struct already built, offline or destroyed
    1260: Disposition.GIVE_UP,  # struct has no such system
    1453: Disposition.PAUSE,  # fleet on station, or not first in the queue
    1501: Disposition.GIVE_UP,  # charter: the founder owns a guild already
    1600: Disposition.ALERT,  # charter: reactor unusable, the request names the wrong one
    1650: Disposition.PAUSE,  # planet complete, under raid, shields up, or raid clock unset
    1750: Disposition.ALERT,  # address problem
    1800: Disposition.REMINE,  # proof rejected: the anchor moved, or the difficulty was still higher
}

_STRUCTS_ANTE: Final = {
    2000: Disposition.ALERT,  # transaction too large
    2001: Disposition.ALERT,  # too many messages
    2002: Disposition.ALERT,  # unknown message
    2003: Disposition.ALERT,  # missing creator
    2004: Disposition.ALERT,  # nested message
    2010: Disposition.OTHER_KEY,  # address not registered
    2011: Disposition.OTHER_KEY,  # address lacks the permission bit
    2020: Disposition.ALERT,  # 2020 to 2022: charge conditions, which a completion never meets
    2021: Disposition.ALERT,
    2022: Disposition.ALERT,
    2030: Disposition.RETRY_NEXT_BLOCK,  # the object occurs twice in one transaction (never in ours)
    2031: Disposition.RETRY_NEXT_BLOCK,  # the object had its attempt in this block
    2032: Disposition.RETRY_NEXT_BLOCK,  # 2032, 2033: other limits per block
    2033: Disposition.RETRY_NEXT_BLOCK,
    2040: Disposition.RETRY_NEXT_BLOCK,  # messages per player and block
    2041: Disposition.RETRY_NEXT_BLOCK,  # transactions per address and block in one node's mempool
    2042: Disposition.ALERT,  # 2042, 2043: staking limits, which a completion never meets
    2043: Disposition.ALERT,
    2050: Disposition.ALERT,  # a fee on a free transaction
}

_SDK: Final = {
    2: Disposition.ALERT,  # cannot be decoded
    4: Disposition.ALERT,  # unauthorized: signature, chain id or account number
    5: Disposition.ALERT,  # insufficient funds (a priced transaction)
    8: Disposition.ALERT,  # public key does not belong to the address
    9: Disposition.ALERT,  # the account does not exist
    11: Disposition.ALERT,  # out of gas
    12: Disposition.ALERT,  # memo too large
    13: Disposition.ALERT,  # insufficient fee
    18: Disposition.ALERT,  # invalid request
    19: Disposition.ALREADY_SENT,  # in the mempool cache already
    20: Disposition.RETRY_NEXT_BLOCK,  # mempool full
    21: Disposition.ALERT,  # transaction too large
    TIMED_OUT: Disposition.REMINE,  # timeout height passed: these bytes are void, a new transaction needs a fresh look
    WRONG_SEQUENCE: Disposition.RESYNC_SEQUENCE,
}

_UNDEFINED: Final = {
    # v0.16 reports every ante condition as code 1; an ante failure costs neither sequence nor the object's slot.
    1: Disposition.UNKNOWN_ANTE,
    111222: Disposition.ALERT,  # the node recovered from a panic
}

_TABLE: Final = {"structs": _STRUCTS, "structs-ante": _STRUCTS_ANTE, "sdk": _SDK, "undefined": _UNDEFINED}
#: For codes that no table knows: stopping and asking a person wastes one proof at most, retrying blindly wastes all.
UNKNOWN: Final = Disposition.ALERT

_SEQUENCES: Final = re.compile(r"expected\s+([0-9]{1,20})\s*,\s*got\s+[0-9]{1,20}(?![0-9])", re.IGNORECASE | re.ASCII)


#: What concerns the account, the mempool or the moment, whatever proofs a transaction holds.
_WHOLE: Final = {
    ("sdk", 19),
    ("sdk", 20),
    ("sdk", TIMED_OUT),
    ("sdk", WRONG_SEQUENCE),
    ("structs-ante", 2010),
    ("structs-ante", 2011),
    ("structs-ante", 2040),
    ("structs-ante", 2041),
}


def concerns_whole(answer: TxAnswer) -> bool:
    """Whether an answer says nothing about any one of the transaction's proofs: another half would meet the same."""
    return (answer.codespace, answer.code) in _WHOLE


#: Limits that a transaction of fewer proofs may keep to, or that may be those of one object.
_BY_SHARE: Final = {("structs-ante", 2040), ("undefined", 1)}


def may_pass_in_part(answer: TxAnswer) -> bool:
    """Whether a half might get in that is tried by itself, although the answer blames no proof."""
    return (answer.codespace, answer.code) in _BY_SHARE


#: Conditions that are looked at before the fee is taken, for certain; what else fails in a block has cost it.
_UNPAID: Final = {("sdk", 13), ("sdk", TIMED_OUT), ("sdk", WRONG_SEQUENCE)}


def is_late(answer: TxAnswer) -> bool:
    """Whether it came after its own timeout, which says nothing about its proofs."""
    return (answer.codespace, answer.code) == ("sdk", TIMED_OUT)


def took_fee(answer: TxAnswer) -> bool:
    """Whether a failed transaction with a price was paid for all the same, as far as can be told."""
    asked = answer.codespace, answer.code
    return answer.height is not None and answer.codespace != "structs-ante" and asked not in _UNPAID


#: A transaction of fewer messages may pass.
_TOO_LARGE: Final = {("structs-ante", 2000), ("structs-ante", 2001), ("sdk", 11), ("sdk", 21)}


def is_too_large(answer: TxAnswer) -> bool:
    """Whether a transaction held more than the chain takes in one."""
    return (answer.codespace, answer.code) in _TOO_LARGE


def disposition(answer: TxAnswer) -> Disposition:
    """What to do about an answer to a broadcast or from a block. Code 0 is success in every codespace."""
    if answer.code == 0:
        return Disposition.SUCCESS
    return _TABLE.get(answer.codespace, {}).get(answer.code, UNKNOWN)


def expected_sequence(log: str) -> int | None:
    """The sequence that the chain expects, from the log of an answer with sdk code 32, or None: then query it.

    >>> expected_sequence("account sequence mismatch, expected 42, got 41: incorrect account sequence")
    42
    """
    found = _SEQUENCES.search(log)
    if not found or int(found[1]) > MAX_UINT64:
        return None
    return int(found[1])
