"""The --prefix option of the offline commands."""

from __future__ import annotations

from hashfleet.errors import InvalidInput
from hashfleet.message import MAX_PREFIX_BYTES


def read_prefix(text: str) -> bytes:
    """The bytes before the nonce. Raises InvalidInput unless they are 1 to 1024 printable ASCII characters."""
    if not text:
        raise InvalidInput(
            "the prefix is empty; it should be what stands before the nonce, such as 5-28BUILD679575NONCE"
        )
    if len(text) > MAX_PREFIX_BYTES:
        raise InvalidInput(f"the prefix has {len(text)} characters; the most is {MAX_PREFIX_BYTES}")
    if not (text.isascii() and text.isprintable()):
        odd = next(c for c in text if not (c.isascii() and c.isprintable()))
        raise InvalidInput(f"the prefix holds {odd!a}; it should be printable ASCII, such as 5-28BUILD679575NONCE")
    return text.encode("ascii")
