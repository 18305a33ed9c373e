"""Why the chain rejected a proof, from the preimage that its log names."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.submission.attempt import RejectionCause
from coordinator.submission.rejection import cause_of, explain, named_preimage, names
from hashfleet.action import Action, CharterTerms, Work
from hashfleet.proof import Proof

BUILD = Work(Action.BUILD, "5-14", 100, 700)
RAID = Work(Action.RAID, "9-7", 100, 700, target_id="2-3")
CHARTER = Work(Action.CHARTER, "1-7", 100, 700, charter=CharterTerms("structstestnet-111", "1-9"))
UNPREFIXED = replace(CHARTER, charter=CharterTerms(None, "1-9"))
PROOF = Proof("0042", "0" * 5 + "f" * 59)


def log_of(preimage: str) -> str:
    """As structsd writes it, in the frame that a node puts around it."""
    return (
        "failed to execute message; message index: 0: work failure for input "
        f"({preimage}) when trying to build on struct 5-14: proof of work is invalid"
    )


@pytest.mark.parametrize(
    ("work", "preimage", "expected"),
    [
        (BUILD, "5-14BUILD100NONCE0042", RejectionCause.DIFFICULTY),
        (BUILD, "5-14BUILD131NONCE0042", RejectionCause.ANCHOR_MOVED),
        (BUILD, "5-14BUILD131NONCE0043", RejectionCause.OTHER_FORM),
        (BUILD, "5-14MINE100NONCE0042", RejectionCause.OTHER_FORM),
        (BUILD, "05-14BUILD100NONCE0042", RejectionCause.OTHER_FORM),
        (BUILD, "5-14BUILD0131NONCE0042", RejectionCause.OTHER_FORM),
        (BUILD, "5-14BUILD00NONCE0042", RejectionCause.OTHER_FORM),
        (RAID, "9-7@2-3RAID100NONCE0042", RejectionCause.DIFFICULTY),
        (RAID, "9-7@2-3RAID120NONCE0042", RejectionCause.ANCHOR_MOVED),
        (RAID, "9-7@2-4RAID120NONCE0042", RejectionCause.ANCHOR_MOVED),
        (RAID, "9-7@2-04RAID120NONCE0042", RejectionCause.OTHER_FORM),
        (RAID, "9-7RAID100NONCE0042", RejectionCause.OTHER_FORM),
        (CHARTER, "CHAINstructstestnet-111|1-9@1-7GUILDCHARTER100NONCE0042", RejectionCause.DIFFICULTY),
        (CHARTER, "CHAINstructstestnet-111|1-9@1-7GUILDCHARTER900NONCE0042", RejectionCause.ANCHOR_MOVED),
        (CHARTER, "1-9@1-7GUILDCHARTER100NONCE0042", RejectionCause.OTHER_FORM),
        (UNPREFIXED, "1-9@1-7GUILDCHARTER100NONCE0042", RejectionCause.DIFFICULTY),
        (UNPREFIXED, "1-9@1-7GUILDCHARTER900NONCE0042", RejectionCause.ANCHOR_MOVED),
        (UNPREFIXED, "CHAINstructstestnet-111|1-9@1-7GUILDCHARTER100NONCE0042", RejectionCause.OTHER_FORM),
    ],
)
def test_each_cause_is_told_from_the_preimage(work: Work, preimage: str, expected: RejectionCause) -> None:
    assert cause_of(work, PROOF, log_of(preimage)) is expected


@pytest.mark.parametrize(
    ("work", "preimage", "form"),
    [
        (CHARTER, "1-9@1-7GUILDCHARTER900NONCE0042", "unprefixed"),
        (UNPREFIXED, "CHAINstructstestnet-111|1-9@1-7GUILDCHARTER100NONCE0042", "prefixed"),
        (CHARTER, "CHAIN7|1-9@1-7GUILDCHARTER100NONCE0042", None),
        (CHARTER, "1-8@1-7GUILDCHARTER100NONCE0042", None),
        (UNPREFIXED, "1-9@1-7@GUILDCHARTER100NONCE0042", None),
        (BUILD, "5-14MINE100NONCE0042", None),
    ],
)
def test_of_a_charter_in_its_other_form_it_is_said_which_option_takes_that(
    work: Work, preimage: str, form: str | None
) -> None:
    told = explain(RejectionCause.OTHER_FORM, work, PROOF, log_of(preimage))
    assert ("--charter-form" in told) is (form is not None)
    assert form is None or f"--charter-form {form}, and submit the job again" in told


@pytest.mark.parametrize(
    ("work", "preimage"), [(BUILD, "5-14BUILD0NONCE0042"), (RAID, "9-7@2-3RAID0NONCE0042")], ids=["build", "raid"]
)
def test_a_clock_that_was_cleared_is_an_anchor_that_moved(work: Work, preimage: str) -> None:
    assert cause_of(work, PROOF, log_of(preimage)) is RejectionCause.ANCHOR_MOVED


@pytest.mark.parametrize(
    "log",
    [
        "",
        "work failure",
        "work failure for input () when trying to build",
        "work failure for input (5-14BUILD100 NONCE0042) when trying to build on struct 5-14",
        "work failure for input (" + "1" * 600 + ") when trying to build on struct 5-14",
        log_of("5-14BUILD100NONCE0042") + log_of("5-14BUILD101NONCE0042"),
    ],
)
def test_a_log_that_names_no_preimage_in_the_known_frame_says_nothing(log: str) -> None:
    assert named_preimage(log) is None
    assert cause_of(BUILD, PROOF, log) is RejectionCause.UNKNOWN


@given(st.text(max_size=200))
def test_no_log_is_too_strange_to_be_told_about(text: str) -> None:
    for log in (text, log_of(text)):
        cause = cause_of(BUILD, PROOF, log)
        assert explain(cause, BUILD, PROOF, log)


@pytest.mark.parametrize(
    ("work", "preimage", "expected"),
    [
        (BUILD, "5-14BUILD131NONCE0043", True),
        (BUILD, "CHAINx|1-9@5-14BUILD100NONCE0042", True),  # of a form that nobody knows yet
        (RAID, "9-7@2-4RAID120NONCE0042", True),
        (BUILD, "5-1BUILD100NONCE0042", False),
        (BUILD, "5-145BUILD100NONCE0042", False),
        (BUILD, "15-14BUILD100NONCE0042", False),
        (BUILD, "5-1BUILD100NONCE5-14", False),
    ],
)
def test_a_preimage_tells_whose_proof_it_was(work: Work, preimage: str, expected: bool) -> None:
    assert names(work, log_of(preimage)) is expected


def test_both_preimages_are_told_to_people() -> None:
    log = log_of("5-14BUILD131NONCE0042")
    assert explain(RejectionCause.ANCHOR_MOVED, BUILD, PROOF, log) == (
        "the anchor had moved: the chain hashed 5-14BUILD131NONCE0042, the proof is for 5-14BUILD100NONCE0042"
    )
