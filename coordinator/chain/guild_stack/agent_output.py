"""What the stack's signing agent wrote into a row of ``signer.tx``. Pure.

The agent stores what ``structsd tx ... --yes`` printed and calls the row `broadcast` whatever came of it, so the
status says little and the output decides::

    (nothing)                       the command failed, most often in the simulation for ``--gas auto``; the reason
                                    went to another stream and is lost
    {"txhash": .., "code": 0, ..}   a node admitted the transaction, which promises nothing
    {"txhash": .., "code": 18, ..}  a node refused it: it was never in a mempool
    anything else                   it cannot be known whether something was sent

The command line prints YAML where it was not told otherwise, and a line about gas before the answer in some versions;
both are read.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from coordinator.chain.client import TxAnswer

#: More of an output is not looked at; an answer has well below 10,000 characters.
_MAX_OUTPUT: Final = 100_000
_MAX_LOG: Final = 4096
_HASH: Final = re.compile(r"(?:0[xX])?([0-9A-Fa-f]{64})", re.ASCII)
_YAML: Final = re.compile(r"^(txhash|code|codespace|raw_log):[ \t]*(.*?)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The output tells neither success nor failure."""

    #: Its beginning, for people.
    shown: str


def read_output(output: str | None) -> TxAnswer | Unreadable | None:
    """What a node answered to the agent's broadcast; None if the output is empty."""
    text = (output or "")[:_MAX_OUTPUT].strip()
    if not text:
        return None
    return _of_json(text) or _of_yaml(text) or Unreadable(ascii(text[:200]))


def _of_json(text: str) -> TxAnswer | None:
    start = text.find("{")
    while start >= 0:
        try:
            told, _ = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            told = None
        if isinstance(told, dict) and "txhash" in told:
            return _answer(told.get("txhash"), told.get("code", 0), told.get("codespace"), told.get("raw_log"))
        start = text.find("\n{", start + 1)
        start = start + 1 if start >= 0 else -1
    return None


def _of_yaml(text: str) -> TxAnswer | None:
    members = {name: value.strip("'\"") for name, value in _YAML.findall(text)}
    if "code" not in members:
        return None
    return _answer(members.get("txhash"), members["code"], members.get("codespace"), members.get("raw_log"))


def _answer(tx_hash: object, code: object, codespace: object, log: object) -> TxAnswer | None:
    found = _HASH.fullmatch(tx_hash) if isinstance(tx_hash, str) else None
    if isinstance(code, str) and code.isascii() and code.isdecimal() and len(code) < 11:
        code = int(code)
    if found is None or isinstance(code, bool) or not isinstance(code, int) or not 0 <= code < 2**32:
        return None
    return TxAnswer(
        found[1].upper(),
        code,
        codespace if isinstance(codespace, str) else "",
        log[:_MAX_LOG] if isinstance(log, str) else "",
    )
