"""The methods of CometBFT's JSON-RPC, apart from any transport: a name and parameters in, a result out."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

from devnet import comet_json
from devnet.block import Block, TxResult
from devnet.chain import Chain, MempoolRefusal, View
from devnet.comet_json import Json
from devnet.event_query import parse, tx_events
from devnet.faults import Faults
from devnet.transactions import tx_hash
from hashfleet.errors import InvalidInput

#: Of JSON-RPC 2.0.
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
MAX_PAGE = 100
_HEX = re.compile(r"(?:0[xX])?([0-9a-fA-F]{64})", re.ASCII)


class RpcError(Exception):
    """An error answer of JSON-RPC."""

    def __init__(self, code: int, message: str, data: str = "") -> None:
        super().__init__(f"{message}: {data}")
        self.body: Json = {"code": code, "message": message, "data": data}


class RpcMethods:
    """All methods that need no connection of their own."""

    def __init__(self, chain: Chain, faults: Faults) -> None:
        self._chain = chain
        self._faults = faults
        self.names: Mapping[str, Callable[[Mapping[str, Any]], Json]] = {
            "health": lambda params: {},
            "status": self._status,
            "abci_info": self._abci_info,
            "block": self._block,
            "block_results": self._block_results,
            "broadcast_tx_sync": self._broadcast_tx_sync,
            "broadcast_tx_async": self._broadcast_tx_async,
            "tx": self._tx,
            "tx_search": self._tx_search,
            "unconfirmed_txs": self._unconfirmed_txs,
            "num_unconfirmed_txs": self._num_unconfirmed_txs,
        }

    @property
    def _view(self) -> View:
        return self._chain.view(faults=self._faults)

    def call(self, name: str, params: Mapping[str, Any]) -> Json:
        """Run a method. Raises RpcError."""
        method = self.names.get(name)
        if method is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found", name[:100])
        return method(params)

    def _status(self, params: Mapping[str, Any]) -> Json:
        view = self._view
        last, first = view.last_block, self._chain.block(self._chain.lowest_height)
        assert first is not None  # the lowest height is one that is kept
        return {
            "node_info": {
                "protocol_version": {"p2p": "8", "block": "11", "app": "0"},
                "network": view.chain_id,
                "version": "0.38.21",
                "moniker": "hashfleet-devnet",
                "other": {"tx_index": "on"},
            },
            "sync_info": {
                "latest_block_hash": last.hash,
                "latest_block_height": str(last.height),
                "latest_block_time": last.time,
                "earliest_block_hash": first.hash,
                "earliest_block_height": str(first.height),
                "earliest_block_time": first.time,
                "catching_up": False,
            },
            "validator_info": {"address": comet_json.PROPOSER, "voting_power": "1"},
        }

    def _abci_info(self, params: Mapping[str, Any]) -> Json:
        view = self._view
        return {
            "response": {
                "data": "structsd",
                "version": view.state.rules.release,
                "last_block_height": str(view.height),
            }
        }

    def _block(self, params: Mapping[str, Any]) -> Json:
        block = self._block_at(params)
        return {
            "block_id": comet_json.block_id(block.hash),
            "block": comet_json.block_json(self._view.chain_id, block),
        }

    def _block_results(self, params: Mapping[str, Any]) -> Json:
        block = self._block_at(params)
        return {
            "height": str(block.height),
            "txs_results": [comet_json.result_json(tx.result) for tx in block.txs] or None,
            "finalize_block_events": comet_json.events_json(block.events),
            "validator_updates": None,
            "consensus_param_updates": None,
            "app_hash": "",
        }

    def _broadcast_tx_sync(self, params: Mapping[str, Any]) -> Json:
        raw = _bytes(params, "tx")
        try:
            hash_, result = self._chain.broadcast(raw, self._faults)
        except MempoolRefusal as error:
            raise RpcError(INTERNAL_ERROR, "Internal error", error.log) from error
        return _admission(hash_, result)

    def _broadcast_tx_async(self, params: Mapping[str, Any]) -> Json:
        raw = _bytes(params, "tx")
        try:
            self._chain.broadcast(raw, self._faults)
        except MempoolRefusal as error:
            raise RpcError(INTERNAL_ERROR, "Internal error", error.log) from error
        return _admission(tx_hash(raw), TxResult())

    def _tx(self, params: Mapping[str, Any]) -> Json:
        wanted = _hash(params)
        found = self._view.find(wanted)
        if found is None:
            raise RpcError(INTERNAL_ERROR, "Internal error", f"tx ({wanted}) not found")
        return comet_json.included_json(found)

    def _tx_search(self, params: Mapping[str, Any]) -> Json:
        text = params.get("query")
        if not isinstance(text, str):
            raise RpcError(INVALID_PARAMS, "Invalid params", "query should be text such as tx.height=5")
        try:
            query = parse(text)
        except InvalidInput as error:
            raise RpcError(INTERNAL_ERROR, "Internal error", str(error)) from error
        page, per_page = _integer(params, "page", 1), min(_integer(params, "per_page", 30), MAX_PAGE)
        if page < 1 or per_page < 1:
            raise RpcError(INVALID_PARAMS, "Invalid params", "page and per_page should be 1 or more")
        found = [tx for tx in self._view.transactions() if query.matches(tx_events(tx))]
        if params.get("order_by") == "desc":
            found.reverse()
        shown = found[(page - 1) * per_page : page * per_page]
        return {"txs": [comet_json.included_json(tx) for tx in shown], "total_count": str(len(found))}

    def _unconfirmed_txs(self, params: Mapping[str, Any]) -> Json:
        limit = min(max(_integer(params, "limit", 30), 1), MAX_PAGE)
        shown = [comet_json.base64(raw) for raw in self._chain.pending()[:limit]]
        return self._pending_counts(len(shown)) | {"txs": shown}

    def _num_unconfirmed_txs(self, params: Mapping[str, Any]) -> Json:
        return self._pending_counts(len(self._chain.pending())) | {"txs": None}

    def _pending_counts(self, shown: int) -> Json:
        pending = self._chain.pending()
        return {"n_txs": str(shown), "total": str(len(pending)), "total_bytes": str(sum(map(len, pending)))}

    def _block_at(self, params: Mapping[str, Any]) -> Block:
        view = self._view
        height = _integer(params, "height", view.height)
        block = view.block(height)
        if block is not None:
            return block
        if height < 1:
            told = "height must be greater than 0"
        elif height > view.height:
            told = f"height {height} must be less than or equal to the current blockchain height {view.height}"
        else:
            told = f"height {height} is not available, lowest height is {self._chain.lowest_height}"
        raise RpcError(INTERNAL_ERROR, "Internal error", told)


def _admission(hash_: str, result: TxResult) -> Json:
    return {"code": result.code, "data": "", "log": result.log, "codespace": result.codespace, "hash": hash_}


def _integer(params: Mapping[str, Any], name: str, default: int) -> int:
    value = params.get(name)
    if value is None or value == "":
        return default
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII):
        raise RpcError(INVALID_PARAMS, "Invalid params", f"{name} should be a whole number")
    return int(text)


def _bytes(params: Mapping[str, Any], name: str) -> bytes:
    """Bytes as JSON (base64) or as a URI (0x and hex, which is passed on as bytes)."""
    value = params.get(name)
    try:
        if isinstance(value, bytes):
            return value
        if isinstance(value, str):
            return b64decode(value, validate=True)
    except binascii.Error:
        pass
    raise RpcError(INVALID_PARAMS, "Invalid params", f"{name} should be base64")


def _hash(params: Mapping[str, Any]) -> str:
    """A transaction hash: hex (URI), or base64 of its 32 bytes (JSON)."""
    value = params.get("hash")
    if isinstance(value, bytes) and len(value) == 32:
        return value.hex().upper()
    if isinstance(value, str):
        if found := _HEX.fullmatch(value):
            return found[1].upper()
        try:
            raw = b64decode(value, validate=True)
        except binascii.Error:
            raw = b""
        if len(raw) == 32:
            return raw.hex().upper()
    raise RpcError(INVALID_PARAMS, "Invalid params", "hash should be 32 bytes, as 0x and hex or as base64")
