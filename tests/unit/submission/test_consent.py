"""A founder's consent: signed as the vectors show, and refused when it is for anything else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from coordinator.submission import keys
from coordinator.submission.consent import check_consent, sign_consent
from hashfleet.charter import Consent, Founding
from hashfleet.errors import InvalidInput

VECTORS = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())["tx"]
KEY = keys.from_hex(VECTORS["key"]["private_key_hex"])
OTHER = keys.from_hex("11" * 32)
TERMS: dict[str, Any] = {
    "chain_id": "structstestnet-111",
    "founder_id": "1-7",
    "founding": Founding("3-1", "guild.example", "4-1"),
    "anchor": 2283000,
}
CONSENT = sign_consent(KEY, **TERMS)


def test_a_consent_is_signed_as_the_vectors_show() -> None:
    vector = VECTORS["charter_consent"]
    assert Consent(VECTORS["key"]["address"], vector["pubkey_hex"], vector["signature_hex"]) == CONSENT
    check_consent(CONSENT, **TERMS)


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": "structstestnet-112"},
        {"founder_id": "1-8"},
        {"founding": Founding("3-2", "guild.example", "4-1")},
        {"founding": Founding("3-1", "guild.example")},
        {"founding": Founding("3-1", "guild.example.org", "4-1")},
        {"anchor": 2283001},
    ],
)
def test_a_consent_to_anything_else_is_refused_and_what_to_sign_is_said(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"is not for this founding: reactor 3-., substation .*, endpoint guild"):
        check_consent(CONSENT, **{**TERMS, **change})


def test_a_signature_of_another_key_is_refused() -> None:
    forged = dataclasses.replace(CONSENT, proof_signature=sign_consent(OTHER, **TERMS).proof_signature)
    with pytest.raises(InvalidInput, match="is not for this founding"):
        check_consent(forged, **TERMS)


def test_a_key_that_is_not_the_addresss_is_refused() -> None:
    forged = dataclasses.replace(sign_consent(OTHER, **TERMS), address=CONSENT.address)
    with pytest.raises(InvalidInput, match="is not the key of its address"):
        check_consent(forged, **TERMS)


def test_the_other_signature_of_the_same_secret_is_refused_as_the_chain_refuses_it() -> None:
    order = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
    r, s = CONSENT.proof_signature[:64], int(CONSENT.proof_signature[64:], 16)
    high = dataclasses.replace(CONSENT, proof_signature=f"{r}{order - s:064x}")
    with pytest.raises(InvalidInput):
        check_consent(high, **TERMS)


@pytest.mark.parametrize("signature", ["0" * 128, "f" * 128])
def test_what_is_no_signature_is_refused(signature: str) -> None:
    with pytest.raises(InvalidInput):
        check_consent(dataclasses.replace(CONSENT, proof_signature=signature), **TERMS)
