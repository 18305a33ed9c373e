"""How a message is refused when it runs."""

from __future__ import annotations

from typing import NoReturn

from devnet.transactions import TxError


def refuse(code: int, log: str) -> NoReturn:
    """End the message with a code of codespace `structs`. Raises TxError."""
    raise TxError("structs", code, log)
