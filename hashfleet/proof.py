"""The one trusted check: whatever a worker, an agent or a file claims, hashlib decides here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hashfleet.errors import InvalidInput

#: Longest nonce we take from anyone, in digits. The chain sets no limit; a free transaction is 32 KiB at most.
MAX_NONCE_DIGITS = 200


@dataclass(frozen=True, slots=True)
class Proof:
    """A nonce and its digest, hashed here."""

    #: Decimal digits; leading zeros count.
    nonce: str
    #: SHA-256 of prefix + nonce, 64 lowercase hex digits.
    hash: str

    @property
    def zeros(self) -> int:
        """Leading hex zeros of the hash."""
        return len(self.hash) - len(self.hash.lstrip("0"))


def verify(prefix: bytes, nonce: str) -> Proof:
    """Hash prefix + nonce. Raises InvalidInput unless the nonce is 1 to 200 decimal digits.

    The chain takes any string, but a sign, a quote or a line break would break signing agents that go through a shell.
    """
    if not (nonce.isascii() and nonce.isdigit() and len(nonce) <= MAX_NONCE_DIGITS):
        raise InvalidInput(f"the nonce should be 1 to {MAX_NONCE_DIGITS} decimal digits")
    return Proof(nonce, hashlib.sha256(prefix + nonce.encode("ascii")).hexdigest())
