"""Why the chain rejected a proof (structs 1800): its preimage, which the log names, beside ours. Pure.

This is the one place where a log is read, and it is read as data: what the chain hashed, in a form that is checked
strictly. What is done about a rejection is decided from its code (`verdict`); the cause may only have the proof tried
less often (`decision`), so that a log which is misread never costs a second transaction.
"""

from __future__ import annotations

import re
from typing import Final

from coordinator.submission.attempt import RejectionCause
from hashfleet.action import MAX_HEIGHT, Action, Work, prefix
from hashfleet.proof import Proof

#: Code of codespace "structs" for a rejected proof.
PROOF_REJECTED: Final = 1800
#: The chain prints a preimage in this frame in every version read. No parenthesis can stand in one of ours.
_NAMED: Final = re.compile(r"work failure for input \(([^()\s]{1,512})\) when trying to ", re.ASCII)
_ANCHOR: Final = re.compile(r"([0-9]{1,10})NONCE\Z", re.ASCII)
_TARGET: Final = re.compile(r"@(2-(?:0|[1-9][0-9]{0,19}))RAID", re.ASCII)


def named_preimage(log: str) -> str | None:
    """The preimage that a log says the chain hashed, or None if it names none, or several.

    >>> named_preimage("work failure for input (5-1BUILD100NONCE7) when trying to build on struct 5-1")
    '5-1BUILD100NONCE7'
    """
    found = set(_NAMED.findall(log))
    return str(found.pop()) if len(found) == 1 else None


def names(work: Work, log: str) -> bool:
    """Whether the preimage that a log names is one for the work's object, whatever else of it differs.

    Of several proofs in a transaction the chain names the one that it rejected; the others failed with it.
    """
    theirs = named_preimage(log)
    if theirs is None:
        return False
    return re.search(rf"(?<![0-9]){work.object_id}(?![0-9])", theirs.partition("NONCE")[0]) is not None


def cause_of(work: Work, proof: Proof, log: str) -> RejectionCause:
    """Why the chain rejected `proof`, which was found for `work`."""
    theirs = named_preimage(log)
    if theirs is None:
        return RejectionCause.UNKNOWN
    if theirs == work.prefix.decode("ascii") + proof.nonce:
        return RejectionCause.DIFFICULTY
    if proof.nonce and not theirs.endswith(proof.nonce):
        return RejectionCause.OTHER_FORM
    before = theirs[: len(theirs) - len(proof.nonce)]
    return RejectionCause.ANCHOR_MOVED if _is_of(work, before) else RejectionCause.OTHER_FORM


def explain(cause: RejectionCause, work: Work, proof: Proof, log: str) -> str:
    """The cause in one sentence for people."""
    if cause is RejectionCause.DIFFICULTY:
        return f"the difficulty was too high at that height for a proof of {proof.zeros} zeros"
    if cause is RejectionCause.UNKNOWN:
        return "the chain did not say what it hashed"
    ours, theirs = work.prefix.decode("ascii") + proof.nonce, named_preimage(log)
    if cause is RejectionCause.ANCHOR_MOVED:
        return f"the anchor had moved: the chain hashed {theirs}, the proof is for {ours}"
    told = f"the chain hashes another form of preimage: {theirs}, where the proof is for {ours}"
    form = _charter_form(work, theirs or "")
    return f"{told}; start the coordinator with --charter-form {form}, and submit the job again" if form else told


def _charter_form(work: Work, theirs: str) -> str:
    """Which of a charter's two forms the chain hashes, if that is the difference; else empty."""
    if work.charter is None:
        return ""
    named, chain, rest = theirs.rpartition("|")
    if not rest.startswith(f"{work.charter.solver_id}@{work.object_id}{work.action.value}"):
        return ""
    if work.charter.chain_id is None:
        return "prefixed" if chain and named.startswith("CHAIN") else ""
    return "" if chain else "unprefixed"


def _is_of(work: Work, theirs: str) -> bool:
    """Whether it is the prefix of the same work with another anchor, or another target of a raid.

    The anchor may be 0: that is the clock of a build that was cancelled, or of a struct that was destroyed.
    """
    anchor, target = _ANCHOR.search(theirs), _TARGET.search(theirs)
    if anchor is None or int(anchor[1]) > MAX_HEIGHT:
        return False
    target_id = target[1] if target and work.action is Action.RAID else work.target_id
    return prefix(work.action, work.object_id, int(anchor[1]), target_id, work.charter).decode("ascii") == theirs
