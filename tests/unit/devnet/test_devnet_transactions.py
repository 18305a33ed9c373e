"""Transaction bytes: the published vectors, and everything that is no transaction of this chain."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as ProtoAny
from hypothesis import given, settings
from hypothesis import strategies as st

from devnet.rules import VERSIONS
from devnet.transactions import TxError, address_of, decode, signature_is_valid, tx_hash
from hashfleet.action import Action
from hashfleet.rpc.cosmos.tx.v1beta1 import tx_pb2

COMPLETIONS = range(4)
VECTORS = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())["tx"]["vectors"]


@pytest.mark.parametrize("number", COMPLETIONS)
def test_the_signed_vectors_decode_to_what_was_signed(vectors, number):
    vector = vectors["tx"]["vectors"][number]
    tx = decode(b64decode(vector["tx_bytes_base64"]))
    fields = {field["number"]: field["value"] for field in vector["fields"]}
    (message,) = tx.messages
    assert (message.creator, message.object_id, message.proof, message.nonce) == tuple(fields[n] for n in range(1, 5))
    assert (tx.hash, tx.memo, tx.timeout_height) == (vector["tx_hash"], vector["memo"], vector["timeout_height"])
    assert tx.signers[0].sequence == vector["sequence"]


@pytest.mark.parametrize("number", COMPLETIONS)
def test_the_signatures_of_the_vectors_verify_over_the_same_sign_bytes(vectors, number):
    vector = vectors["tx"]["vectors"][number]
    tx = decode(b64decode(vector["tx_bytes_base64"]))
    document = tx.sign_bytes(vector["chain_id"], vector["account_number"])
    assert document.hex() == vector["sign_doc_hex"]
    assert signature_is_valid(tx.signers[0].public_key, tx.signers[0].signature, document)
    assert not signature_is_valid(tx.signers[0].public_key, tx.signers[0].signature, document + b"x")


def test_a_charter_transaction_does_not_decode_before_v021(vectors):
    vector = vectors["tx"]["vectors"][4]
    with pytest.raises(TxError) as refused:
        decode(b64decode(vector["tx_bytes_base64"]))
    assert (refused.value.codespace, refused.value.code) == ("sdk", 2)


def test_the_address_of_the_published_key_is_the_published_address(vectors):
    key = vectors["tx"]["key"]
    assert address_of(bytes.fromhex(key["public_key_hex"])) == key["address"]


@pytest.mark.parametrize(
    "raw",
    [b"\xff", b"\x0a\x05ab", b"\x7a\x01x", tx_pb2.TxRaw(body_bytes=b"\xff", auth_info_bytes=b"").SerializeToString()],
    ids=["garbage", "cut off", "unknown field", "garbage body"],
)
def test_bytes_that_are_no_transaction_are_sdk_2(raw):
    with pytest.raises(TxError) as refused:
        decode(raw)
    assert (refused.value.codespace, refused.value.code) == ("sdk", 2)


def test_an_unknown_field_inside_a_message_is_sdk_2(owner):
    message = owner.completion(Action.BUILD, "5-1", "0a", "1")
    message.MergeFromString(b"\x2a\x01x")  # field 5, as newer versions may have
    with pytest.raises(TxError, match="number 5") as refused:
        decode(owner.sign(message))
    assert refused.value.code == 2


def test_a_message_of_another_module_is_sdk_2(owner):
    raw = tx_pb2.TxRaw.FromString(owner.sign(owner.completion(Action.BUILD, "5-1", "0a", "1")))
    body = tx_pb2.TxBody(messages=[ProtoAny(type_url="/cosmos.bank.v1beta1.MsgSend")])
    raw.body_bytes = body.SerializeToString()
    with pytest.raises(TxError, match="type URL") as refused:
        decode(raw.SerializeToString())
    assert refused.value.code == 2


def refused(raw: bytes, version: str = "v0.21") -> tuple[str, int]:
    with pytest.raises(TxError) as error:
        decode(raw, VERSIONS[version])
    return error.value.codespace, error.value.code


def holding(owner, packed: ProtoAny) -> bytes:
    """A transaction with this message in place of its own."""
    raw = tx_pb2.TxRaw.FromString(owner.sign(owner.completion(Action.BUILD, "5-1", "0a", "1")))
    raw.body_bytes = tx_pb2.TxBody(messages=[packed]).SerializeToString()
    return raw.SerializeToString()


@pytest.mark.parametrize(("version", "code"), [("v0.16", ("undefined", 1)), ("v0.17", ("structs-ante", 2002))])
def test_a_message_of_structs_that_the_devnet_does_not_know_is_ante_2002(owner, version, code):
    assert refused(holding(owner, ProtoAny(type_url="/structs.structs.MsgFleetMove")), version) == code


@pytest.mark.parametrize(("version", "code"), [("v0.16", ("undefined", 1)), ("v0.17", ("structs-ante", 2003))])
def test_a_message_without_creator_is_ante_2003(owner, version, code):
    message = owner.completion(Action.BUILD, "5-1", "0a", "1")
    message.creator = ""
    assert refused(owner.sign(message), version) == code


@pytest.mark.parametrize(("version", "code"), [("v0.16", ("sdk", 2)), ("v0.17", ("structs-ante", 2004))])
def test_a_message_of_structs_within_an_authz_exec_is_ante_2004(owner, version, code):
    nested = ProtoAny()
    nested.Pack(owner.completion(Action.BUILD, "5-1", "0a", "1"), type_url_prefix="/")
    # MsgExec{grantee 1, msgs 2}
    exec_of = ProtoAny(
        type_url="/cosmos.authz.v1beta1.MsgExec",
        value=b"\x12" + bytes([len(nested.SerializeToString())]) + nested.SerializeToString(),
    )
    assert len(nested.SerializeToString()) < 128
    assert refused(holding(owner, exec_of), version) == code


def test_a_nonce_that_is_no_utf_8_is_sdk_2(owner):
    raw = owner.sign(owner.completion(Action.BUILD, "5-1", "0a", "nonce"))
    tx = tx_pb2.TxRaw.FromString(raw)
    tx.body_bytes = tx.body_bytes.replace(b"nonce", b"n\xff\xfece")
    assert decode(raw, VERSIONS["v0.21"]).messages[0].nonce == "nonce"
    assert refused(tx.SerializeToString()) == ("sdk", 2)


@pytest.mark.parametrize("creator", ["structs1nonsense", "cosmos19rl4cm2hmr8afy4kldpxz3fka4jguq0a3rusr8"])
def test_a_creator_that_is_no_address_of_the_chain_is_sdk_2(owner, creator):
    message = owner.completion(Action.BUILD, "5-1", "0a", "1")
    message.creator = creator
    with pytest.raises(TxError) as refused:
        decode(owner.sign(message))
    assert refused.value.code == 2


def test_a_transaction_without_signatures_is_sdk_15(owner):
    raw = tx_pb2.TxRaw.FromString(owner.sign(owner.completion(Action.BUILD, "5-1", "0a", "1")))
    raw.ClearField("signatures")
    with pytest.raises(TxError) as refused:
        decode(raw.SerializeToString())
    assert (refused.value.codespace, refused.value.code) == ("sdk", 15)


def test_the_signature_of_a_second_creator_may_not_be_missing(owner, stranger):
    messages = [w.completion(Action.BUILD, "5-1", "0a", "1") for w in (owner, stranger)]
    with pytest.raises(TxError) as refused:
        decode(owner.sign(*messages))
    assert (refused.value.codespace, refused.value.code) == ("sdk", 4)


def test_a_transaction_of_more_than_a_mebibyte_is_sdk_21():
    with pytest.raises(TxError) as refused:
        decode(bytes(1_048_577))
    assert (refused.value.codespace, refused.value.code) == ("sdk", 21)


def test_a_signature_with_high_s_is_refused(owner):
    order = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
    tx = decode(owner.sign(owner.completion(Action.BUILD, "5-1", "0a", "1")))
    good = tx.signers[0].signature
    high = good[:32] + (order - int.from_bytes(good[32:], "big")).to_bytes(32, "big")
    document = tx.sign_bytes("hashfleet-devnet-1", 17)
    assert signature_is_valid(owner.public_key, good, document)
    assert not signature_is_valid(owner.public_key, high, document)


@pytest.mark.parametrize("signature", [b"", bytes(64), b"\xff" * 64, bytes(65)])
def test_a_signature_that_cannot_be_one_is_refused_without_an_exception(owner, signature):
    assert not signature_is_valid(owner.public_key, signature, b"x")


def test_the_hash_is_upper_case_sha256_of_the_bytes():
    assert tx_hash(b"") == "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_transaction_is_refused_or_decoded_but_never_breaks_the_decoder(data):
    good = b64decode(VECTORS[data.draw(st.integers(0, 4))]["tx_bytes_base64"])
    at = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, 8))
    damaged = good[:at] + data.draw(st.binary(max_size=16)) + good[at + cut :]
    try:
        tx = decode(damaged)
    except TxError as error:
        assert error.codespace == "sdk"
    else:
        assert tx.raw == damaged
