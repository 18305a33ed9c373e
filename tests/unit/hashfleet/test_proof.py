"""hashlib decides what a nonce is worth, and only plain decimal nonces are taken from anyone."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashfleet.action import Action, Work
from hashfleet.errors import InvalidInput
from hashfleet.proof import MAX_NONCE_DIGITS, Proof, verify


def test_every_proof_of_the_vectors_verifies_to_its_hash_and_zeros(vectors: dict[str, Any]) -> None:
    rows = vectors["proofs"]
    assert len(rows) == 13
    for row in rows:
        work = Work(Action(row["kind"]), row["object_id"], row["block_start"], row["range"], row.get("planet"))
        assert work.prefix + row["nonce"].encode() == row["preimage"].encode()
        proof = verify(work.prefix, row["nonce"])
        assert proof == Proof(row["nonce"], row["proof"])
        assert proof.zeros == row["leading_zero_nibbles"]


def test_leading_zeros_of_a_nonce_count(vectors: dict[str, Any]) -> None:
    padded = [row for row in vectors["proofs"] if row["nonce"].startswith("0")]
    assert padded
    for row in padded:
        prefix = row["preimage"].removesuffix(row["nonce"]).encode()
        assert verify(prefix, row["nonce"].lstrip("0")).hash != row["proof"]


@given(prefix=st.binary(max_size=200), nonce=st.text("0123456789", min_size=1, max_size=MAX_NONCE_DIGITS))
def test_verify_says_what_hashlib_says(prefix: bytes, nonce: str) -> None:
    assert verify(prefix, nonce).hash == hashlib.sha256(prefix + nonce.encode()).hexdigest()


@pytest.mark.parametrize(
    "nonce",
    [
        "",
        "-1",
        "+1",
        "1.0",
        "1e5",
        "0x1f",
        " 1",
        "1 ",
        "1\n",
        "1_0",
        "'1'",
        "12345IDENTITY1-4",
        "\u0661",
        "\u00b2",
        "\uff11",
    ],
)
def test_a_nonce_that_is_not_plain_decimal_is_refused_in_one_sentence(nonce: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        verify(b"5-1BUILD1NONCE", nonce)
    assert str(caught.value) == "the nonce should be 1 to 200 decimal digits"


def test_the_longest_nonce_is_taken_and_one_digit_more_is_not() -> None:
    assert verify(b"x", "7" * MAX_NONCE_DIGITS).nonce == "7" * MAX_NONCE_DIGITS
    with pytest.raises(InvalidInput):
        verify(b"x", "7" * (MAX_NONCE_DIGITS + 1))


@pytest.mark.parametrize(
    ("digest", "zeros"),
    [("f" * 64, 0), ("0" + "f" * 63, 1), ("000001" + "0" * 58, 5), ("0" * 63 + "1", 63), ("0" * 64, 64)],
)
def test_zeros_counts_leading_hex_digits_only(digest: str, zeros: int) -> None:
    assert Proof("1", digest).zeros == zeros
