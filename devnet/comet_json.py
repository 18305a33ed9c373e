"""CometBFT's JSON of blocks and transactions: int64 as strings, bytes as base64, hashes as uppercase hex."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Any

from devnet.block import Block, IncludedTx, TxResult
from devnet.events import Event

Json = dict[str, Any]

#: The one validator that there is; 20 bytes, as an address has.
PROPOSER = hashlib.sha256(b"hashfleet devnet proposer").hexdigest()[:40].upper()


def block_id(hash_: str) -> Json:
    return {"hash": hash_, "parts": {"total": 1 if hash_ else 0, "hash": hash_}}


def header(chain_id: str, block: Block) -> Json:
    return {
        "version": {"block": "11"},
        "chain_id": chain_id,
        "height": str(block.height),
        "time": block.time,
        "last_block_id": block_id(block.last_hash),
        "proposer_address": PROPOSER,
    }


def block_json(chain_id: str, block: Block) -> Json:
    return {
        "header": header(chain_id, block),
        "data": {"txs": [base64(tx.raw) for tx in block.txs]},
        "evidence": {"evidence": []},
        "last_commit": {
            "height": str(block.height - 1),
            "round": 0,
            "block_id": block_id(block.last_hash),
            "signatures": [],
        },
    }


def result_json(result: TxResult) -> Json:
    """What CometBFT calls ExecTxResult."""
    return {
        "code": result.code,
        "data": base64(result.data) if result.data else None,
        "log": result.log,
        "info": "",
        "gas_wanted": str(result.gas_wanted),
        "gas_used": str(result.gas_used),
        "events": events_json(result.events),
        "codespace": result.codespace,
    }


def included_json(tx: IncludedTx) -> Json:
    """An entry of /tx and /tx_search."""
    return {
        "hash": tx.hash,
        "height": str(tx.height),
        "index": tx.index,
        "tx_result": result_json(tx.result),
        "tx": base64(tx.raw),
    }


def events_json(events: tuple[Event, ...]) -> list[Json]:
    return [
        {"type": event.type, "attributes": [{"key": k, "value": v, "index": True} for k, v in event.attributes]}
        for event in events
    ]


def base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
