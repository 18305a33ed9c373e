"""The transaction builder against worked transactions, byte for byte."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from coordinator.submission import keys
from coordinator.submission.founding import parse_gas_price
from coordinator.submission.transaction import sign_completion, transaction_hash
from hashfleet.action import Action, CharterTerms, Work
from hashfleet.charter import Founding
from hashfleet.errors import InvalidInput
from hashfleet.proof import Proof, verify
from hashfleet.rpc.cosmos.tx.v1beta1.tx_pb2 import AuthInfo, SignDoc, TxBody, TxRaw

VECTORS = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())["tx"]
KEY = keys.from_hex(VECTORS["key"]["private_key_hex"])
#: The work behind each completion of the vectors; they list message and nonce, the anchor is found by hashing.
WORKS = {
    "/structs.structs.MsgStructBuildComplete": Work(Action.BUILD, "5-3", 1283902, 700),
    "/structs.structs.MsgStructOreMinerComplete": Work(Action.MINE, "5-16", 1290002, 14000),
    "/structs.structs.MsgStructOreRefineryComplete": Work(Action.REFINE, "5-26", 1300002, 28000),
    "/structs.structs.MsgPlanetRaidComplete": Work(Action.RAID, "9-3", 1310002, 25, "2-12"),
}
GUILD_CREATE = "/structs.structs.MsgGuildCreate"
BY_TYPE = {vector["type_url"]: vector for vector in VECTORS["vectors"]}


def arguments(vector: dict[str, Any]) -> dict[str, Any]:
    names = ("chain_id", "account_number", "sequence", "timeout_height", "gas_limit", "memo")
    return {name: vector[name] for name in names}


@pytest.mark.parametrize("type_url", WORKS)
def test_a_signed_completion_equals_the_worked_one_byte_for_byte(type_url: str) -> None:
    vector, work = BY_TYPE[type_url], WORKS[type_url]
    fields = {field["number"]: field["value"] for field in vector["fields"]}
    proof = verify(work.prefix, fields[4])
    assert proof.hash == fields[3]
    signed = sign_completion(work, proof, KEY, **arguments(vector))
    assert signed.tx_bytes == base64.b64decode(vector["tx_bytes_base64"])
    assert signed.tx_hash == vector["tx_hash"] == transaction_hash(signed.tx_bytes)
    raw = TxRaw.FromString(signed.tx_bytes)
    assert raw.body_bytes.hex() == vector["body_bytes_hex"]
    assert raw.auth_info_bytes.hex() == vector["auth_info_bytes_hex"]
    assert [signature.hex() for signature in raw.signatures] == [vector["signature_hex"]]


def test_a_charter_that_pays_a_fee_equals_the_worked_one_byte_for_byte() -> None:
    vector = BY_TYPE[GUILD_CREATE]
    fields = {field["number"]: field["value"] for field in vector["fields"]}
    work = Work(Action.CHARTER, "1-6", 2283002, 2_500_000, charter=CharterTerms("structstestnet-111", "1-6"))
    proof = verify(work.prefix, fields[6])
    assert proof.hash == fields[5]
    founding = Founding(fields[2], fields[3], fields[4])
    price = parse_gas_price("0.01ualpha", vector["gas_limit"])
    assert price.fee == tuple((denom, int(amount)) for denom, amount in vector["fee_coins"])
    signed = sign_completion(work, proof, KEY, founding=founding, gas_price=price, **arguments(vector))
    assert signed.tx_bytes == base64.b64decode(vector["tx_bytes_base64"])
    assert signed.tx_hash == vector["tx_hash"]
    raw = TxRaw.FromString(signed.tx_bytes)
    assert raw.auth_info_bytes.hex() == vector["auth_info_bytes_hex"]
    doc = SignDoc(
        body_bytes=raw.body_bytes,
        auth_info_bytes=raw.auth_info_bytes,
        chain_id=vector["chain_id"],
        account_number=vector["account_number"],
    )
    assert doc.SerializeToString(deterministic=True).hex() == vector["sign_doc_hex"]


def test_every_worked_transaction_is_compared() -> None:
    assert set(WORKS) | {GUILD_CREATE} == set(BY_TYPE)


WORK = WORKS["/structs.structs.MsgStructBuildComplete"]
PROOF = verify(WORK.prefix, "10795")
USUAL: dict[str, Any] = {"chain_id": "devnet-1", "account_number": 3, "sequence": 4, "timeout_height": 1284000}


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert sign_completion(WORK, PROOF, KEY, **USUAL) == sign_completion(WORK, PROOF, KEY, **USUAL)


@pytest.mark.parametrize(
    "change", [{"chain_id": "devnet-2"}, {"account_number": 5}, {"sequence": 5}, {"timeout_height": 1284001}]
)
def test_each_argument_changes_the_signature(change: dict[str, Any]) -> None:
    usual = TxRaw.FromString(sign_completion(WORK, PROOF, KEY, **USUAL).tx_bytes)
    other = TxRaw.FromString(sign_completion(WORK, PROOF, KEY, **{**USUAL, **change}).tx_bytes)
    assert usual.signatures != other.signatures


def test_the_transaction_carries_timeout_sequence_gas_and_no_fee() -> None:
    raw = TxRaw.FromString(sign_completion(WORK, PROOF, KEY, **USUAL).tx_bytes)
    body, auth = TxBody.FromString(raw.body_bytes), AuthInfo.FromString(raw.auth_info_bytes)
    assert (body.timeout_height, body.memo) == (1284000, "")
    assert (auth.signer_infos[0].sequence, auth.fee.gas_limit, list(auth.fee.amount)) == (4, 500000, [])


def test_chain_id_and_account_number_are_signed_but_not_sent() -> None:
    raw = TxRaw.FromString(sign_completion(WORK, PROOF, KEY, **USUAL).tx_bytes)
    doc = SignDoc(body_bytes=raw.body_bytes, auth_info_bytes=raw.auth_info_bytes, chain_id="devnet-1", account_number=3)
    assert KEY.sign(hashlib.sha256(doc.SerializeToString(deterministic=True)).digest()) == raw.signatures[0]


@pytest.mark.parametrize(
    "work",
    [
        Work(Action.BUILD, "5-3", 1283903, 700),
        Work(Action.BUILD, "5-4", 1283902, 700),
        Work(Action.MINE, "5-3", 1283902, 700),
    ],
)
def test_a_proof_of_other_work_is_never_signed(work: Work) -> None:
    with pytest.raises(InvalidInput, match="does not belong"):
        sign_completion(work, PROOF, KEY, **USUAL)


def test_a_proof_with_a_false_hash_is_never_signed() -> None:
    with pytest.raises(InvalidInput, match="does not belong"):
        sign_completion(WORK, Proof("10795", "0" * 64), KEY, **USUAL)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"chain_id": ""}, "chain id"),
        ({"sequence": -1}, "sequence"),
        ({"account_number": 2**64}, "account_number"),
        ({"timeout_height": -1}, "timeout_height"),
        ({"timeout_height": 2**31}, "timeout_height"),
        ({"gas_limit": 2**64}, "gas_limit"),
        ({"memo": "x" * 40_000}, "at most 32768"),
    ],
)
def test_an_argument_out_of_bounds_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        sign_completion(WORK, PROOF, KEY, **{**USUAL, **change})
