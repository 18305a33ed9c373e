"""How a guild is founded and what its founder signs: bounds, the text byte for byte, and the consent file."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from hashfleet.charter import MAX_ENDPOINT_LENGTH, Consent, Founding, consent_file, consent_text, read_consent
from hashfleet.errors import InvalidInput

ADDRESS = "structs19rl4cm2hmr8afy4kldpxz3fka4jguq0acpz60a"
KEY = "024f4e2ad99c34d60b9ba6283c9431a8418af8673212961f97a77b6377fcd05b62"
SIGNATURE = "cb" * 64
FOUNDING = Founding("3-1", "guild.example", "4-1")


def test_what_a_founder_signs_is_the_text_of_the_vectors(vectors: dict[str, Any]) -> None:
    vector = vectors["tx"]["charter_consent"]
    text = consent_text("structstestnet-111", "1-7", FOUNDING, 2283000)
    assert text == vector["preimage"].encode()
    assert hashlib.sha256(text).hexdigest() == vector["sha256"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"reactor_id": "4-1"}, "reactor_id"),
        ({"reactor_id": ""}, "reactor_id"),
        ({"entry_substation_id": "3-1"}, "entry_substation_id"),
        ({"endpoint": ""}, "endpoint should be 1 to 256"),
        ({"endpoint": "x" * (MAX_ENDPOINT_LENGTH + 1)}, "endpoint should be 1 to 256"),
        ({"endpoint": "line\nbreak"}, "endpoint should be"),
        ({"endpoint": "g\u00fcild"}, "endpoint should be"),
    ],
)
def test_a_founding_that_cannot_be_is_refused(wrong: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Founding(**{"reactor_id": "3-1", "endpoint": "guild.example", **wrong})


def test_a_guild_needs_no_entry_substation() -> None:
    assert (
        consent_text("c-1", "1-7", Founding("3-1", "e"), 5)
        == b"CHAINc-1|GUILDCHARTER1-7REACTOR3-1SUBSTATIONENDPOINTeANCHOR5"
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"address": "structs1"}, "address"),
        ({"address": ADDRESS.upper()}, "address"),
        ({"proof_pub_key": KEY[2:]}, "proof_pub_key"),
        ({"proof_pub_key": f"04{KEY[2:]}"}, "proof_pub_key"),
        ({"proof_signature": SIGNATURE[:-2]}, "proof_signature"),
        ({"proof_signature": SIGNATURE.upper()}, "proof_signature"),
        ({"proof_signature": f"{SIGNATURE}\n"}, "proof_signature"),
    ],
)
def test_a_consent_of_another_form_is_refused_by_name(wrong: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput, match=f"the consent's {said} should be"):
        Consent(**{"address": ADDRESS, "proof_pub_key": KEY, "proof_signature": SIGNATURE, **wrong})


def test_a_consent_file_is_read_as_it_was_written_whatever_else_it_holds() -> None:
    consent = Consent(ADDRESS, KEY, SIGNATURE)
    told = json.loads(consent_file(consent))
    assert read_consent(json.dumps(told | {"for": "people"})) == consent


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", '{"address": 5}', "[" * 3000, "{" + " " * 5000 + "}", json.dumps({"address": ADDRESS})],
)
def test_what_is_no_consent_file_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(InvalidInput, match="the consent should be a JSON object with address"):
        read_consent(text)
