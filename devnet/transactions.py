"""Transaction bytes to checked values: decoding, signers, signatures. No state is read here.

What cannot be decoded is code 2 of codespace `sdk`, as is a field that this version of the chain does not know. What
structsd's own ante handler refuses for its form alone (2002 to 2004) is refused here too: there is no message for it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TypeVar

import bech32
from coincurve import PublicKey
from coincurve.ecdsa import cdata_to_der, deserialize_compact
from Crypto.Hash import RIPEMD160
from google.protobuf.any_pb2 import Any as ProtoAny
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from devnet.messages import (
    COMPLETIONS,
    GUILD_CREATE_URL,
    LAST_OLD_GUILD_FIELD,
    completion,
    guild_creation,
)
from devnet.messages import Message as TxMessage
from devnet.rules import DEFAULT_VERSION, VERSIONS, Rules
from hashfleet.errors import InvalidInput
from hashfleet.rpc.cosmos.base.v1beta1 import coin_pb2
from hashfleet.rpc.cosmos.crypto.secp256k1 import keys_pb2
from hashfleet.rpc.cosmos.tx.signing.v1beta1 import signing_pb2
from hashfleet.rpc.cosmos.tx.v1beta1 import tx_pb2
from hashfleet.rpc.structs.structs import tx_pb2 as structs_tx_pb2

#: Largest transaction that a node's mempool takes, in bytes (the docker image's setting).
MAX_TX_BYTES = 1_048_576
ADDRESS_PREFIX = "structs"
NATIVE_DENOM = "ualpha"
_M = TypeVar("_M", bound=Message)

PUBLIC_KEY_URL = "/cosmos.crypto.secp256k1.PubKey"
#: Codespace of structsd's own ante handler.
ANTE = "structs-ante"
_MODULE_URL = "/structs.structs.Msg"
_AUTHZ_URL = "/cosmos.authz.v1beta1.MsgExec"


class TxError(Exception):
    """A transaction that the chain refuses, with the codespace and code that it would report."""

    def __init__(self, codespace: str, code: int, log: str) -> None:
        super().__init__(log)
        self.codespace = codespace
        self.code = code
        self.log = log


@dataclass(frozen=True, slots=True)
class Signer:
    """One signature with what it claims."""

    #: Compressed key of 33 bytes, or None to use the one that the account is known by.
    public_key: bytes | None
    direct_mode: bool
    sequence: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    """A decoded transaction."""

    raw: bytes
    #: Uppercase hex SHA-256 of `raw`.
    hash: str
    messages: tuple[TxMessage, ...]
    #: Distinct creators in order of appearance: who has to sign.
    creators: tuple[str, ...]
    signers: tuple[Signer, ...]
    memo: str
    timeout_height: int
    #: Sum of all coins of the fee, and whether they are all the chain's own.
    fee: int
    fee_in_native: bool
    gas_limit: int
    unordered: bool
    has_extension_options: bool
    body_bytes: bytes
    auth_info_bytes: bytes

    def sign_bytes(self, chain_id: str, account_number: int) -> bytes:
        """The SignDoc that SIGN_MODE_DIRECT signs."""
        return tx_pb2.SignDoc(
            body_bytes=self.body_bytes,
            auth_info_bytes=self.auth_info_bytes,
            chain_id=chain_id,
            account_number=account_number,
        ).SerializeToString()


def tx_hash(raw: bytes) -> str:
    """The hash that the chain knows a transaction by."""
    return hashlib.sha256(raw).hexdigest().upper()


def decode(raw: bytes, rules: Rules = VERSIONS[DEFAULT_VERSION]) -> Transaction:
    """Decode TxRaw bytes. Raises TxError: sdk 2 for what is no transaction of this chain, sdk 21 if it is too large."""
    if len(raw) > MAX_TX_BYTES:
        raise TxError("sdk", 21, f"transaction of {len(raw)} bytes, the most is {MAX_TX_BYTES}: tx too large")
    tx = _parse(tx_pb2.TxRaw, raw, "TxRaw")
    body = _parse(tx_pb2.TxBody, tx.body_bytes, "TxBody")
    auth = _parse(tx_pb2.AuthInfo, tx.auth_info_bytes, "AuthInfo")
    messages = tuple(_message(packed, rules) for packed in body.messages)
    creators = tuple(dict.fromkeys(message.creator for message in messages))
    for creator in creators:
        if not creator:
            raise ante_error(rules, 2003, "a message has no creator")
        try:
            address_bytes(creator)
        except InvalidInput as error:
            raise TxError("sdk", 2, f"{error}: tx parse error") from error
    if not tx.signatures:
        raise TxError("sdk", 15, "no signatures supplied")
    if not len(creators or auth.signer_infos) == len(auth.signer_infos) == len(tx.signatures):
        told = f"expected: {len(creators)}, got {len(auth.signer_infos)} infos and {len(tx.signatures)} signatures"
        raise TxError("sdk", 4, f"wrong number of signers; {told}: unauthorized")
    return Transaction(
        raw=raw,
        hash=tx_hash(raw),
        messages=messages,
        creators=creators,
        signers=tuple(_signer(info, sig) for info, sig in zip(auth.signer_infos, tx.signatures, strict=True)),
        memo=body.memo,
        timeout_height=body.timeout_height,
        fee=sum(_amount(coin) for coin in auth.fee.amount),
        fee_in_native=all(coin.denom == NATIVE_DENOM for coin in auth.fee.amount),
        gas_limit=auth.fee.gas_limit,
        unordered=body.unordered,
        has_extension_options=bool(body.extension_options),
        body_bytes=tx.body_bytes,
        auth_info_bytes=tx.auth_info_bytes,
    )


def ante_error(rules: Rules, code: int, log: str) -> TxError:
    """What structsd's ante handler reports, which has no number before v0.17."""
    return TxError(ANTE, code, log) if rules.numbered_ante else TxError("undefined", 1, f"structs ante: {log}")


def signature_is_valid(public_key: bytes, signature: bytes, sign_bytes: bytes) -> bool:
    """Whether r‖s (64 bytes, low S) over SHA-256 of the sign bytes was made by that key."""
    if len(signature) != 64:
        return False
    try:
        return PublicKey(public_key).verify(cdata_to_der(deserialize_compact(signature)), sign_bytes)
    except ValueError:  # not a point of the curve, or r or s out of range
        return False


def address_of(public_key: bytes) -> str:
    """Bech32 account address of a compressed secp256k1 key: ripemd160(sha256(key))."""
    digest = RIPEMD160.new(hashlib.sha256(public_key).digest()).digest()
    words = bech32.convertbits(digest, 8, 5)
    assert words is not None  # whole bytes always convert
    return bech32.bech32_encode(ADDRESS_PREFIX, words)


def address_bytes(address: str) -> bytes:
    """The 20 bytes of an account address. Raises InvalidInput if it is not one of this chain."""
    prefix, words = bech32.bech32_decode(address[:100])
    found = bech32.convertbits(words, 5, 8, False) if words is not None else None
    if prefix != ADDRESS_PREFIX or found is None or len(found) != 20 or address != address.lower():
        raise InvalidInput(f"{address[:60]!a} is not an account address; it should look like structs1...")
    return bytes(found)


def _amount(coin: coin_pb2.Coin) -> int:
    if not re.fullmatch(r"[0-9]{1,60}", coin.amount, re.ASCII):
        raise TxError("sdk", 10, f"the fee {coin.amount[:40]!a}{coin.denom[:20]!a} is no amount: invalid coins")
    return int(coin.amount)


def _message(packed: ProtoAny, rules: Rules) -> TxMessage:
    if packed.type_url == GUILD_CREATE_URL:
        parsed = _parse(structs_tx_pb2.MsgGuildCreate, packed.value, packed.type_url)
        unknown = [field.number for field, _ in parsed.ListFields() if field.number > LAST_OLD_GUILD_FIELD]
        if unknown and not rules.charter:
            told = f"{packed.type_url} has a field that this chain does not know, number {unknown[0]}"
            raise TxError("sdk", 2, f"{told}: tx parse error")
        return guild_creation(parsed)
    known = COMPLETIONS.get(packed.type_url)
    if known is None and packed.type_url.startswith(_MODULE_URL):
        raise ante_error(rules, 2002, f"unknown message {packed.type_url[:200]}")
    if packed.type_url == _AUTHZ_URL and rules.numbered_ante and _MODULE_URL.encode() in packed.value:
        raise ante_error(rules, 2004, f"messages of structs may not stand in {_AUTHZ_URL}")
    if known is None:
        raise TxError("sdk", 2, f"unable to resolve type URL {packed.type_url[:200]}: tx parse error")
    action, message = known
    return completion(action, _parse(message, packed.value, packed.type_url))


def _signer(info: tx_pb2.SignerInfo, signature: bytes) -> Signer:
    key = None
    if info.HasField("public_key"):
        if info.public_key.type_url != PUBLIC_KEY_URL:
            raise TxError("sdk", 2, f"unable to resolve type URL {info.public_key.type_url[:200]}: tx parse error")
        key = _parse(keys_pb2.PubKey, info.public_key.value, PUBLIC_KEY_URL).key
        if len(key) != 33:
            raise TxError("sdk", 8, f"the public key has {len(key)} bytes, not 33: invalid pubkey")
    return Signer(
        public_key=key,
        direct_mode=info.mode_info.single.mode == signing_pb2.SIGN_MODE_DIRECT,
        sequence=info.sequence,
        signature=signature,
    )


def _parse(kind: type[_M], data: bytes, what: str) -> _M:
    try:
        message = kind.FromString(data)
    except DecodeError as error:
        raise TxError("sdk", 2, f"{what} does not decode: tx parse error") from error
    if unknown := _unknown_field(message):
        raise TxError("sdk", 2, f"{what} has a field that this chain does not know, number {unknown}: tx parse error")
    return message


def _unknown_field(message: Message) -> int | None:
    """Number of the first unknown field in a message or in the messages within it."""
    unknown = UnknownFieldSet(message)
    if len(unknown):
        return int(unknown[0].field_number)
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for inner in value if field.is_repeated else (value,):
            if found := _unknown_field(inner):
                return found
    return None
