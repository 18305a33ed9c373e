"""Founding a guild: the message, what it pays, and that it never stands beside a free one."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from coordinator.submission import keys
from coordinator.submission.founding import MAX_GAS_LIMIT, GasPrice, founding_message, parse_gas_price
from coordinator.submission.transaction import sign_completion, sign_completions
from hashfleet.action import Action, CharterTerms, Work
from hashfleet.charter import Consent, Founding
from hashfleet.errors import InvalidInput
from hashfleet.proof import verify
from hashfleet.rpc.cosmos.tx.v1beta1.tx_pb2 import AuthInfo, TxBody, TxRaw
from hashfleet.rpc.structs.structs.tx_pb2 import MsgGuildCreate

KEY = keys.from_mnemonic("abandon " * 11 + "about")
CONSENT = Consent("structs1hy3hr8c7n9h2rlunjg4jc9l9vquavt0e9qlx5k", f"02{'a' * 64}", "b" * 128)
ALONE = Work(Action.CHARTER, "1-7", 2283000, 2_500_000, charter=CharterTerms("devnet-1", "1-7"))
FOR_ANOTHER = dataclasses.replace(ALONE, charter=CharterTerms("devnet-1", "1-42"))
FOUNDING = Founding("3-1", "guild.example", "4-1")
USUAL: dict[str, Any] = {"chain_id": "devnet-1", "account_number": 3, "sequence": 4, "timeout_height": 2283900}


def test_a_founder_who_solves_his_own_charter_names_neither_founder_nor_consent() -> None:
    proof = verify(ALONE.prefix, "12")
    consenting = dataclasses.replace(FOUNDING, consent=CONSENT)
    for founding in (FOUNDING, consenting):
        assert founding_message(ALONE, proof, KEY.address, founding) == MsgGuildCreate(
            creator=KEY.address,
            reactorId="3-1",
            endpoint="guild.example",
            entrySubstationId="4-1",
            proof=proof.hash,
            nonce="12",
        )


def test_a_founder_whose_charter_another_solves_is_named_with_his_consent() -> None:
    proof = verify(FOR_ANOTHER.prefix, "12")
    founding = dataclasses.replace(FOUNDING, consent=CONSENT)
    signed = sign_completion(FOR_ANOTHER, proof, KEY, founding=founding, **USUAL)
    (packed,) = TxBody.FromString(TxRaw.FromString(signed.tx_bytes).body_bytes).messages
    assert isinstance(packed, AnyMessage)
    message = MsgGuildCreate.FromString(packed.value)
    assert (message.founderPlayerId, message.address) == ("1-7", CONSENT.address)
    assert (message.proofPubKey, message.proofSignature) == (CONSENT.proof_pub_key, CONSENT.proof_signature)


def test_without_founding_or_a_consent_that_is_needed_nothing_is_signed() -> None:
    with pytest.raises(InvalidInput, match="how player 1-7 wants to found the guild is not known"):
        sign_completion(ALONE, verify(ALONE.prefix, "12"), KEY, **USUAL)
    with pytest.raises(InvalidInput, match="player 1-7, whose consent is missing"):
        sign_completion(FOR_ANOTHER, verify(FOR_ANOTHER.prefix, "12"), KEY, founding=FOUNDING, **USUAL)


def test_a_charter_never_shares_a_transaction() -> None:
    mine = Work(Action.MINE, "5-1", 2283000, 14000)
    both = [(work, verify(work.prefix, "12")) for work in (mine, ALONE)]
    for proofs in (both, both[1:]):
        with pytest.raises(InvalidInput, match="should stand in a transaction of its own"):
            sign_completions(proofs, KEY, **USUAL)


@pytest.mark.parametrize(
    ("text", "gas_limit", "fee"),
    [
        ("0ualpha", 500_000, ()),
        ("0.0ualpha", 500_000, ()),
        ("0.01ualpha", 500_000, (("ualpha", 5000),)),
        ("0.000001ualpha", 500_001, (("ualpha", 1),)),
        ("1ibc/ABC", 3, (("ibc/ABC", 3),)),
    ],
)
def test_the_fee_is_gas_limit_times_price_rounded_up(
    text: str, gas_limit: int, fee: tuple[tuple[str, int], ...]
) -> None:
    assert parse_gas_price(text, gas_limit).fee == fee


def test_only_a_charter_pays() -> None:
    price = GasPrice(Decimal("0.01"), gas_limit=700_000)
    mine = Work(Action.MINE, "5-1", 2283000, 14000)
    fees = {}
    for work in (mine, ALONE):
        signed = sign_completion(
            work, verify(work.prefix, "12"), KEY, founding=FOUNDING, gas_price=price, gas_limit=1, **USUAL
        )
        fee = AuthInfo.FromString(TxRaw.FromString(signed.tx_bytes).auth_info_bytes).fee
        fees[work.action] = fee.gas_limit, [(coin.denom, coin.amount) for coin in fee.amount]
    assert fees == {Action.MINE: (1, []), Action.CHARTER: (700_000, [("ualpha", "7000")])}


@pytest.mark.parametrize("text", ["", "ualpha", "0.01", "-1ualpha", "1 ualpha", "1ualpha,2x", "1" * 40])
def test_what_is_no_gas_price_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="the gas price is"):
        parse_gas_price(text)


@pytest.mark.parametrize("gas_limit", [0, -1, MAX_GAS_LIMIT + 1])
def test_a_gas_limit_out_of_bounds_is_refused(gas_limit: int) -> None:
    with pytest.raises(InvalidInput, match="the gas limit is"):
        parse_gas_price("0ualpha", gas_limit)
