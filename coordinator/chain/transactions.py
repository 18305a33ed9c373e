"""What a signed transaction needs of a node: the account that signs it, a mempool, and the block that holds it."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from coordinator.chain import queries
from coordinator.chain.client import Account, TxAnswer
from coordinator.chain.node import Node
from coordinator.chain.transport import AlreadyKnown, HeightWitness
from hashfleet.action import MAX_HEIGHT
from hashfleet.errors import BadChainAnswer, InvalidInput, KeyProblem
from hashfleet.rpc.cosmos.auth.v1beta1 import auth_pb2
from hashfleet.rpc.cosmos.auth.v1beta1 import query_pb2 as auth_query_pb2
from hashfleet.rpc.cosmos.base.abci.v1beta1 import abci_pb2
from hashfleet.rpc.cosmos.tx.v1beta1 import service_pb2

#: CometBFT's default limit of one transaction.
MAX_TX_BYTES: Final = 1_048_576

_MAX_LOG_CHARACTERS: Final = 4096
_TX_HASH: Final = re.compile(r"[0-9A-F]{64}", re.ASCII)
#: Codespace and code with which the SDK says that a transaction is in the mempool cache.
_SDK: Final = "sdk"
_IN_MEMPOOL_CACHE: Final = 19


class Transactions:
    """Of one client."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def account(self, address: str) -> Account:
        """See `ChainClient.account`."""
        await self._node.check_caught_up()
        witness = HeightWitness()
        answer = await self._node.find(
            queries.ACCOUNT, auth_query_pb2.QueryAccountRequest(address=address), f"account {address}", witness
        )
        self._node.check_told(witness)
        if answer is None:
            await self._node.check_fresh()
            raise KeyProblem(
                f"the account {address} does not exist on chain {self._node.shown_chain}; "
                "it should have received something or been registered to a player"
            )
        if not answer.HasField("account") or not answer.account.Is(auth_pb2.BaseAccount.DESCRIPTOR):
            raise BadChainAnswer(
                f"the account {address} is of type {answer.account.type_url[:80]!a}; only a BaseAccount can sign here"
            )
        account = auth_pb2.BaseAccount()
        if not answer.account.Unpack(account) or account.address != address:
            raise BadChainAnswer(f"asked for account {address}, the chain answered with {account.address[:80]!a}")
        return Account(address, account.account_number, account.sequence)

    async def broadcast(self, tx_bytes: bytes) -> TxAnswer:
        """See `StructsdClient.broadcast`."""
        if not 1 <= len(tx_bytes) <= MAX_TX_BYTES:
            raise InvalidInput(f"the transaction has {len(tx_bytes)} bytes; it should have 1 to {MAX_TX_BYTES}")
        tx_hash = hashlib.sha256(tx_bytes).hexdigest().upper()
        try:
            answer = await self._node.ask(
                queries.BROADCAST_TX,
                service_pb2.BroadcastTxRequest(tx_bytes=tx_bytes, mode=service_pb2.BROADCAST_MODE_SYNC),
                f"what becomes of transaction {tx_hash}",
            )
        except AlreadyKnown as error:
            return TxAnswer(tx_hash, _IN_MEMPOOL_CACHE, _SDK, str(error)[:_MAX_LOG_CHARACTERS])
        if not answer.HasField("tx_response"):
            raise BadChainAnswer(f"the answer to the broadcast of {tx_hash} is empty")
        return _tx_answer(answer.tx_response, tx_hash, height=None)

    async def find(self, tx_hash: str) -> TxAnswer | None:
        """See `StructsdClient.find_transaction`."""
        if not _TX_HASH.fullmatch(tx_hash):
            raise InvalidInput(f"the transaction hash is {tx_hash[:80]!a}; it should be 64 uppercase hex digits")
        await self._node.check_caught_up()
        # Asked before the transaction: a node that has the newest block only afterwards may have missed it.
        await self._node.check_fresh()
        answer = await self._node.find(queries.GET_TX, service_pb2.GetTxRequest(hash=tx_hash), f"transaction {tx_hash}")
        if answer is None:
            return None
        if not answer.HasField("tx_response"):
            raise BadChainAnswer(f"the answer about transaction {tx_hash} lacks the result")
        height = answer.tx_response.height
        if not 1 <= height <= MAX_HEIGHT:
            raise BadChainAnswer(f"transaction {tx_hash} is told to be in block {height}; it should be 1 or more")
        return _tx_answer(answer.tx_response, tx_hash, height)


def _tx_answer(response: abci_pb2.TxResponse, tx_hash: str, height: int | None) -> TxAnswer:
    if response.txhash.upper() != tx_hash:
        raise BadChainAnswer(f"asked about transaction {tx_hash}, the chain answered about {response.txhash[:80]!a}")
    return TxAnswer(tx_hash, response.code, response.codespace, response.raw_log[:_MAX_LOG_CHARACTERS], height)
