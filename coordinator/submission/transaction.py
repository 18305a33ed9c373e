"""The transaction that hands a proof to the chain: pure functions from values to signed bytes.

What is signed (SIGN_MODE_DIRECT), from the inside out::

    message            MsgStructBuildComplete { creator, structId, proof, nonce }   (or mine, refine, raid, founding)
    body_bytes         TxBody   { Any(message), memo, timeout_height }
    auth_info_bytes    AuthInfo { SignerInfo(public key, DIRECT, sequence), Fee(coins, gas_limit) }
    SignDoc            { body_bytes, auth_info_bytes, chain_id, account_number }   <- sha256, signed
    TxRaw              { body_bytes, auth_info_bytes, signature }                  <- sha256 is the tx hash

Protobuf writes fields in ascending order and leaves zeros out, which is the canonical form that the chain re-encodes
to. Completions are free on this chain: no fee coins, and the gas limit does not bound them. Founding a guild is not,
so it never stands in one transaction with anything else; see `founding`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from coordinator.submission.founding import GasPrice, founding_message
from coordinator.submission.keys import SigningKey
from hashfleet.action import MAX_HEIGHT, MAX_UINT64, Action, Work
from hashfleet.charter import Founding
from hashfleet.errors import InvalidInput
from hashfleet.proof import Proof, verify
from hashfleet.rpc.cosmos.base.v1beta1.coin_pb2 import Coin
from hashfleet.rpc.cosmos.crypto.secp256k1.keys_pb2 import PubKey
from hashfleet.rpc.cosmos.tx.signing.v1beta1.signing_pb2 import SIGN_MODE_DIRECT
from hashfleet.rpc.cosmos.tx.v1beta1.tx_pb2 import AuthInfo, Fee, ModeInfo, SignDoc, SignerInfo, TxBody, TxRaw
from hashfleet.rpc.structs.structs.tx_pb2 import (
    MsgPlanetRaidComplete,
    MsgStructBuildComplete,
    MsgStructOreMinerComplete,
    MsgStructOreRefineryComplete,
)

#: What the chain's own web client writes; execution of a free transaction is bounded by the chain's own meter.
GAS_LIMIT: Final = 500_000
#: The chain refuses a free transaction that is longer (structs-ante 2000).
MAX_FREE_TX_BYTES: Final = 32_768


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction as it goes on the wire."""

    #: TxRaw bytes.
    tx_bytes: bytes
    #: Uppercase hex SHA-256 of tx_bytes.
    tx_hash: str


def transaction_hash(tx_bytes: bytes) -> str:
    """The hash under which the chain files these bytes: uppercase hex SHA-256."""
    return hashlib.sha256(tx_bytes).hexdigest().upper()


def completing_message(work: Work, proof: Proof, creator: str, founding: Founding | None = None) -> Message:
    """The chain's message that completes `work`; `creator` is the address of the signing key, not a player.

    Raises InvalidInput if `work` is a charter and its `founding` is not whole.
    """
    if work.action is Action.CHARTER:
        return founding_message(work, proof, creator, founding)
    if work.action is Action.RAID:
        return MsgPlanetRaidComplete(creator=creator, fleetId=work.object_id, proof=proof.hash, nonce=proof.nonce)
    kind = {
        Action.BUILD: MsgStructBuildComplete,
        Action.MINE: MsgStructOreMinerComplete,
        Action.REFINE: MsgStructOreRefineryComplete,
    }[work.action]
    return kind(creator=creator, structId=work.object_id, proof=proof.hash, nonce=proof.nonce)


def sign_completion(
    work: Work,
    proof: Proof,
    key: SigningKey,
    *,
    chain_id: str,
    account_number: int,
    sequence: int,
    timeout_height: int,
    gas_limit: int = GAS_LIMIT,
    memo: str = "",
    founding: Founding | None = None,
    gas_price: GasPrice | None = None,
) -> SignedTransaction:
    """The signed transaction that completes `work` with `proof`.

    `timeout_height` is the last height at which it may land; 0 means no limit. The same arguments always give the
    same bytes, so a lost answer can be followed up by hash. A charter takes its `founding` and pays `gas_price`, whose
    gas limit goes for it; the others are free. Raises InvalidInput if the proof is not one of this work (that
    transaction could only fail) or a number is out of bounds.
    """
    _check_belongs(work, proof)
    price = (gas_price or GasPrice()) if work.action.priced else None
    return _sign(
        [completing_message(work, proof, key.address, founding)],
        key,
        chain_id=chain_id,
        account_number=account_number,
        sequence=sequence,
        timeout_height=timeout_height,
        gas_limit=gas_limit if price is None else price.gas_limit,
        fee=() if price is None else price.fee,
        memo=memo,
    )


def sign_completions(
    proofs: Sequence[tuple[Work, Proof]],
    key: SigningKey,
    *,
    chain_id: str,
    account_number: int,
    sequence: int,
    timeout_height: int,
    gas_limit: int = GAS_LIMIT,
) -> SignedTransaction:
    """One free transaction that completes several works, all or none of them; message n completes the nth.

    `gas_limit` is for each of them. Raises InvalidInput as `sign_completion` does, if there is none, or if one has a
    price: the others would have to pay with it.
    """
    if any(work.action.priced for work, _ in proofs):
        raise InvalidInput("founding a guild has a price; it should stand in a transaction of its own")
    if not proofs:
        raise InvalidInput("there is no proof to send; a transaction should hold at least one")
    for work, proof in proofs:
        _check_belongs(work, proof)
    return _sign(
        [completing_message(work, proof, key.address) for work, proof in proofs],
        key,
        chain_id=chain_id,
        account_number=account_number,
        sequence=sequence,
        timeout_height=timeout_height,
        gas_limit=gas_limit * len(proofs),
    )


def _sign(
    messages: Sequence[Message],
    key: SigningKey,
    *,
    chain_id: str,
    account_number: int,
    sequence: int,
    timeout_height: int,
    gas_limit: int,
    fee: Sequence[tuple[str, int]] = (),
    memo: str = "",
) -> SignedTransaction:
    """Sign messages into one transaction. `fee` lists (denomination, amount); empty if it is free."""
    if not chain_id:
        raise InvalidInput("the chain id is empty; it should be the network name that the node tells")
    _check_bounds("account_number", account_number, MAX_UINT64)
    _check_bounds("sequence", sequence, MAX_UINT64)
    _check_bounds("timeout_height", timeout_height, MAX_HEIGHT)
    _check_bounds("gas_limit", gas_limit, MAX_UINT64)
    body = TxBody(messages=[_packed(message) for message in messages], memo=memo, timeout_height=timeout_height)
    auth_info = AuthInfo(
        signer_infos=[
            SignerInfo(
                public_key=_packed(PubKey(key=key.public_key)),
                mode_info=ModeInfo(single=ModeInfo.Single(mode=SIGN_MODE_DIRECT)),
                sequence=sequence,
            )
        ],
        fee=Fee(amount=[Coin(denom=denom, amount=str(amount)) for denom, amount in fee], gas_limit=gas_limit),
    )
    body_bytes, auth_info_bytes = _encoded(body), _encoded(auth_info)
    sign_doc = SignDoc(
        body_bytes=body_bytes, auth_info_bytes=auth_info_bytes, chain_id=chain_id, account_number=account_number
    )
    signature = key.sign(hashlib.sha256(_encoded(sign_doc)).digest())
    tx_bytes = _encoded(TxRaw(body_bytes=body_bytes, auth_info_bytes=auth_info_bytes, signatures=[signature]))
    if len(tx_bytes) > MAX_FREE_TX_BYTES:
        raise InvalidInput(
            f"the transaction has {len(tx_bytes)} bytes; a free one may have at most {MAX_FREE_TX_BYTES}"
        )
    return SignedTransaction(tx_bytes, transaction_hash(tx_bytes))


def _check_belongs(work: Work, proof: Proof) -> None:
    if verify(work.prefix, proof.nonce) != proof:
        raise InvalidInput(
            f"the proof does not belong to {work.action.value} {work.object_id} at anchor {work.anchor}; "
            "its hash should be the SHA-256 of the work's prefix and the nonce"
        )


def _packed(message: Message) -> AnyMessage:
    # Written by hand because the SDK's type URLs start with "/" and Any.Pack would put a host name before it.
    return AnyMessage(type_url=f"/{message.DESCRIPTOR.full_name}", value=_encoded(message))


def _encoded(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def _check_bounds(what: str, value: int, highest: int) -> None:
    if not 0 <= value <= highest:
        raise InvalidInput(f"{what} is {value}; it should be 0 to {highest}")
