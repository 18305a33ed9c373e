"""What a guild charter asks for beside a proof: how the guild is founded, and the founder's consent.

Any player may solve the puzzle for any founder. If they are not the same, the founder has to agree to exactly this
founding, by a signature over (interface notes 3.1)::

    CHAIN{chainId}|GUILDCHARTER{founderId}REACTOR{reactorId}SUBSTATION{substationId}ENDPOINT{endpoint}ANCHOR{anchor}

The text names the anchor, so a consent is void as soon as any guild is founded by a proof. Here are the values and
their text; keys and signatures stand in `coordinator.submission.consent`.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Final

from hashfleet.action import PLAYER_TYPE, REACTOR_TYPE, SUBSTATION_TYPE, check_anchor, check_chain_id, check_object_id
from hashfleet.errors import InvalidInput

#: Characters of an endpoint at most; printable ASCII.
MAX_ENDPOINT_LENGTH: Final = 256
#: A consent file has about 350 bytes; the bound only keeps a wrong path from costing memory.
MAX_CONSENT_BYTES: Final = 4096

_ADDRESS: Final = re.compile(r"[a-z]{1,20}1[02-9ac-hj-np-z]{38,71}", re.ASCII)
_PUBLIC_KEY: Final = re.compile(r"0[23][0-9a-f]{64}", re.ASCII)
_SIGNATURE: Final = re.compile(r"[0-9a-f]{128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Consent:
    """A founder's signature under one founding at one anchor. Its form is checked when made, not its truth."""

    #: An address of the founder.
    address: str
    #: Its compressed secp256k1 key: 66 lowercase hex digits.
    proof_pub_key: str
    #: r then s, 128 lowercase hex digits.
    proof_signature: str

    def __post_init__(self) -> None:
        for name, pattern, should in (
            ("address", _ADDRESS, "a bech32 address such as structs1..."),
            ("proof_pub_key", _PUBLIC_KEY, "66 lowercase hex digits that begin with 02 or 03"),
            ("proof_signature", _SIGNATURE, "128 lowercase hex digits"),
        ):
            if not pattern.fullmatch(getattr(self, name)):
                raise InvalidInput(f"the consent's {name} should be {should}; make one with hashfleet charter consent")


@dataclass(frozen=True, slots=True)
class Founding:
    """How a guild is to be founded. Checked when made."""

    #: Reactor that the guild is founded on ("3-1").
    reactor_id: str
    #: What the guild publishes as its address, such as a host name.
    endpoint: str
    #: Substation that new members are connected to ("4-1"); empty for none.
    entry_substation_id: str = ""
    #: Needed unless the founder's own key signs the transaction.
    consent: Consent | None = None

    def __post_init__(self) -> None:
        check_object_id(self.reactor_id, REACTOR_TYPE, "reactor_id")
        if self.entry_substation_id:
            check_object_id(self.entry_substation_id, SUBSTATION_TYPE, "entry_substation_id")
        if not (
            1 <= len(self.endpoint) <= MAX_ENDPOINT_LENGTH and self.endpoint.isascii() and self.endpoint.isprintable()
        ):
            raise InvalidInput(f"endpoint should be 1 to {MAX_ENDPOINT_LENGTH} printable ASCII characters")


def consent_text(chain_id: str, founder_id: str, founding: Founding, anchor: int) -> bytes:
    """What the founder signs. Raises InvalidInput for a chain id, founder or anchor that cannot be."""
    check_chain_id(chain_id)
    check_object_id(founder_id, PLAYER_TYPE, "the founder")
    check_anchor(anchor)
    return (
        f"CHAIN{chain_id}|GUILDCHARTER{founder_id}REACTOR{founding.reactor_id}"
        f"SUBSTATION{founding.entry_substation_id}ENDPOINT{founding.endpoint}ANCHOR{anchor}"
    ).encode("ascii")


def consent_file(consent: Consent) -> str:
    """What a consent file holds: a JSON object."""
    return json.dumps(asdict(consent), indent=2) + "\n"


def read_consent(text: str) -> Consent:
    """The consent of a consent file; members that are not its own are passed over. Raises InvalidInput."""
    should = "the consent should be a JSON object with address, proof_pub_key and proof_signature, all strings"
    if len(text) > MAX_CONSENT_BYTES:
        raise InvalidInput(f"{should}, of at most {MAX_CONSENT_BYTES} characters")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(should) from error
    values = [told.get(field.name) if isinstance(told, dict) else None for field in fields(Consent)]
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) != len(values):
        raise InvalidInput(should)
    return Consent(*texts)
