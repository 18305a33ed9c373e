"""Founding guilds: by proof from v0.21 on, by a right to a reactor before and after."""

from __future__ import annotations

import hashlib

import pytest
from coincurve import PrivateKey
from coincurve.ecdsa import der_to_cdata, serialize_compact

from devnet import charter
from devnet.messages import guild_creation
from devnet.staging import Condition
from devnet.transactions import signature_is_valid
from hashfleet.action import Action, CharterTerms, prefix
from hashfleet.rpc.cosmos.base.v1beta1 import coin_pb2
from hashfleet.rpc.cosmos.tx.v1beta1 import tx_pb2
from hashfleet.rpc.structs.structs import tx_pb2 as structs_tx_pb2

ANCHOR = 60_000
FEE = tx_pb2.Fee(gas_limit=500_000)


def code(result) -> tuple[str, int]:
    return result.codespace, result.code


@pytest.fixture(params=["v0.21", "v0.22"])
def world(world_of, request, stranger):
    """Player 1-12 has reactor 3-1; the charter's clock is old."""
    made = world_of(request.param)
    made.stage(lambda stage: stage.add_player("1-12", stranger.address, account_number=23))
    made.stage(lambda stage: stage.add_reactor("3-1", "1-12"))
    made.stage(lambda stage: stage.set_charter(anchor=ANCHOR, difficulty_range=30_000))
    return made


def founding(world, *, founder="", solver="1-11", anchor=ANCHOR, zeros=1, reactor="3-1", wallet=None, **more):
    terms = CharterTerms(world.chain.chain_id, solver)
    digest, nonce = _proof(prefix(Action.CHARTER, founder or solver, anchor, charter=terms), zeros)
    members = {"proof": digest, "nonce": nonce} | more
    return structs_tx_pb2.MsgGuildCreate(
        creator=(wallet or world.owner).address,
        reactorId=reactor,
        endpoint="guild.example",
        entrySubstationId="4-1",
        founderPlayerId=founder,
        **members,
    )


def _proof(before: bytes, zeros: int) -> tuple[str, str]:
    number = 0
    while not (digest := hashlib.sha256(before + str(number).encode()).hexdigest()).startswith("0" * zeros):
        number += 1
    return digest, str(number)


def found(world, message, wallet=None):
    return world.include((wallet or world.owner).sign(message, fee=FEE))


def consented(world, message, wallet, *, anchor=ANCHOR, founder="1-12"):
    """The message with the founder's signature."""
    text = charter.consent(world.chain.chain_id, founder, guild_creation(message), anchor)
    message.address = wallet.address
    message.proofPubKey = wallet.public_key.hex()
    message.proofSignature = serialize_compact(der_to_cdata(PrivateKey(wallet.secret).sign(text))).hex()
    return message


def test_a_proof_founds_a_guild_and_tells_it(world, owner):
    result = found(world, founding(world))
    assert result.code == 0, result.log
    state = world.chain.state
    assert (state.guilds["0-1"].owner, state.guilds["0-1"].endpoint) == ("1-11", "guild.example")
    assert state.players["1-11"].guild_id == "0-1"
    assert world.events(result, "EventHashSuccess") == [
        {
            "callerAddress": owner.address,
            "category": "guild_charter",
            "difficulty": "1",
            "objectId": "0-1",
            "planetId": "",
        }
    ]
    assert [player["guildId"] for player in world.events(result, "EventPlayer")] == ["0-1"]


def test_any_founding_by_proof_moves_the_anchor_of_all(world, stranger):
    message = founding(world, solver="1-12", wallet=stranger)  # solved before another guild is founded
    assert found(world, founding(world)).code == 0
    assert world.chain.state.charter.anchor == 100_001
    late = found(world, message, stranger)
    assert code(late) == ("structs", 1800)
    assert f"CHAIN{world.chain.chain_id}|1-12@1-12GUILDCHARTER100001NONCE{message.nonce}" in late.log


def test_a_proof_of_too_few_zeros_is_1800_with_the_preimage(world):
    world.stage(lambda stage: stage.set_charter(difficulty_range=2_500_000))
    message = founding(world)
    result = found(world, message)
    assert code(result) == ("structs", 1800)
    assert f"({prefix_text(world)}{message.nonce})" in result.log


def prefix_text(world) -> str:
    return prefix(Action.CHARTER, "1-11", ANCHOR, charter=CharterTerms(world.chain.chain_id, "1-11")).decode()


def test_who_owns_a_guild_founds_no_other_1501(world):
    assert found(world, founding(world)).code == 0
    result = found(world, founding(world))
    assert code(result) == ("structs", 1501)
    assert "is_owner" in result.log


@pytest.mark.parametrize("reactor", ["3-9", "3-2"], ids=["missing", "jailed"])
def test_a_reactor_that_is_not_there_or_jailed_is_1600(world, reactor):
    world.stage(lambda stage: stage.add_reactor("3-2", "1-12", jailed=True))
    assert code(found(world, founding(world, reactor=reactor))) == ("structs", 1600)


def test_a_founder_who_is_nobody_is_1150(world):
    assert code(found(world, founding(world, founder="1-99"))) == ("structs", 1150)


def test_a_founders_signature_lets_another_player_solve(world, stranger):
    message = consented(world, founding(world, founder="1-12"), stranger)
    assert found(world, message).code == 0
    assert world.chain.state.guilds["0-1"].owner == "1-12"


@pytest.mark.parametrize(
    "spoil",
    [
        {"address": ""},
        {"proofPubKey": "zz"},
        {"proofPubKey": "02" + "11" * 32},
        {"proofSignature": "00" * 64},
        {"proofSignature": "00" * 10},
        {"endpoint": "other.example"},
    ],
    ids=["no address", "no hex", "another key", "no signature", "short signature", "another endpoint"],
)
def test_a_consent_that_does_not_hold_is_1750(world, stranger, spoil):
    message = consented(world, founding(world, founder="1-12"), stranger)
    message.MergeFrom(structs_tx_pb2.MsgGuildCreate(**{k: v for k, v in spoil.items() if v}))
    for name in (name for name, value in spoil.items() if not value):
        message.ClearField(name)
    assert code(found(world, message)) == ("structs", 1750)


def test_a_consent_for_an_anchor_that_moved_is_1750(world, stranger):
    message = consented(world, founding(world, founder="1-12"), stranger, anchor=ANCHOR - 1)
    assert code(found(world, message)) == ("structs", 1750)


def test_a_consenting_address_needs_perm_play(world, owner):
    key = type(owner)(bytes(31) + b"\x09", number=40)
    world.stage(lambda stage: stage.add_address(key.address, "1-12", 2, account_number=40))
    assert code(found(world, consented(world, founding(world, founder="1-12"), key))) == ("structs", 1750)


def test_the_signing_address_needs_perm_play(world, owner):
    key = type(owner)(bytes(31) + b"\x09", number=40)
    world.stage(lambda stage: stage.add_address(key.address, "1-11", 2, account_number=40))
    answer = world.chain.broadcast(key.sign(founding(world, wallet=key), fee=FEE))[1]
    assert code(answer) == ("structs-ante", 2011)


def test_the_age_of_a_charter_is_never_below_0(world):
    world.stage(lambda stage: stage.set_charter(anchor=100_500))
    assert world.chain.state.charter.age(world.chain.height) == 0
    assert charter.asked_zeros(world.chain.state, world.chain.height) == 64
    assert code(found(world, founding(world, anchor=100_500))) == ("structs", 1800)


def test_a_stored_range_of_0_is_the_default_and_1_the_least(world):
    for stored, used in ((0, 2_500_000), (1, 2), (600, 600)):
        world.stage(lambda stage, stored=stored: stage.set_charter(difficulty_range=stored))
        assert world.chain.state.charter.range == used


def test_two_foundings_of_one_key_in_one_block_are_refused(world, owner):
    first, second = (owner.sign(founding(world), fee=FEE) for _ in range(2))
    assert world.chain.broadcast(first)[1].code == 0
    assert code(world.chain.broadcast(second)[1]) == ("structs-ante", 2032)


# its price


def priced(amount: int, gas: int = 500_000) -> tx_pb2.Fee:
    return tx_pb2.Fee(gas_limit=gas, amount=[coin_pb2.Coin(denom="ualpha", amount=str(amount))])


def charged(world_of, price: float = 0.0, balance: int = 0):
    world = world_of("v0.21", min_gas_price=price)
    world.stage(lambda stage: stage.add_reactor("3-1", "1-11"))
    world.stage(lambda stage: stage.set_charter(anchor=ANCHOR, difficulty_range=30_000))
    world.stage(lambda stage: stage.set_balance(world.owner.address, balance))
    return world


def test_a_fee_is_paid_even_if_the_founding_fails(world_of, owner):
    world = charged(world_of, balance=9_000)
    result = world.include(owner.sign(founding(world, reactor="3-9"), fee=priced(5_000)))
    assert code(result) == ("structs", 1600)
    assert world.chain.state.accounts[owner.address].ualpha == 4_000


def test_a_fee_that_is_not_there_is_sdk_5(world_of, owner):
    world = charged(world_of, balance=4_999)
    assert code(world.chain.broadcast(owner.sign(founding(world), fee=priced(5_000)))[1]) == ("sdk", 5)


@pytest.mark.parametrize(("amount", "answer"), [(4_999, ("sdk", 13)), (5_000, ("", 0))])
def test_a_node_with_a_gas_price_asks_for_it(world_of, owner, amount, answer):
    world = charged(world_of, price=0.01, balance=10_000)
    assert code(world.chain.broadcast(owner.sign(founding(world), fee=priced(amount)))[1]) == answer


def test_a_completion_stays_free_whatever_the_gas_price(world_of, owner):
    world = charged(world_of, price=5.0)
    assert world.chain.broadcast(owner.sign(owner.completion(Action.BUILD, "5-1", "0", "1")))[1].code == 0


def test_gas_counts_for_a_founding(world_of, owner):
    world = charged(world_of)
    too_little = owner.sign(founding(world), fee=priced(0, gas=1_000), sequence=0)
    assert code(world.chain.broadcast(too_little)[1]) == ("sdk", 11)
    assert code(world.include(owner.sign(founding(world), fee=priced(0, gas=20_000)))) == ("sdk", 11)
    assert "0-1" not in world.chain.state.guilds


# before v0.21, and without a proof


@pytest.mark.parametrize("version", ["v0.16", "v0.20"])
def test_fields_of_a_charter_do_not_decode_before_v021(world_of, owner, version):
    world = world_of(version)
    assert code(world.chain.broadcast(owner.sign(founding(world)))[1]) == ("sdk", 2)


@pytest.mark.parametrize("version", ["v0.16", "v0.20", "v0.21"])
def test_a_right_to_a_reactor_founds_a_guild_without_a_proof(world_of, owner, version):
    world = world_of(version)
    world.chain.state.charter = type(world.chain.state.charter)(anchor=ANCHOR, reactor_age=1_000)
    world.stage(lambda stage: stage.add_reactor("3-1", "1-11", since=50_000))
    message = structs_tx_pb2.MsgGuildCreate(creator=owner.address, reactorId="3-1", endpoint="guild.example")
    assert found(world, message).code == 0
    assert world.chain.state.charter.anchor == ANCHOR  # only a proof moves it


def test_a_young_reactor_founds_no_guild_without_a_proof(world_of, owner):
    world = world_of("v0.21")
    world.stage(lambda stage: stage.add_reactor("3-1", "1-11", since=50_000))
    message = structs_tx_pb2.MsgGuildCreate(creator=owner.address, reactorId="3-1", endpoint="guild.example")
    assert code(found(world, message)) == ("structs", 1600)


def test_founding_and_completing_in_one_transaction_is_priced(world_of, owner):
    world = charged(world_of)
    world.stage(lambda stage: stage.add_struct("5-1", 9, "1-11", Condition.BUILDING))
    mixed = owner.sign(founding(world), owner.completion(Action.BUILD, "5-1", "0", "1"), fee=priced(1))
    assert code(world.chain.broadcast(mixed)[1]) == ("sdk", 5)  # a free one would be told 2050


# the published vectors


def test_the_consent_of_the_vectors_verifies(vectors):
    given = vectors["tx"]["charter_consent"]
    message = guild_creation(
        structs_tx_pb2.MsgGuildCreate(reactorId="3-1", entrySubstationId="4-1", endpoint="guild.example")
    )
    text = charter.consent("structstestnet-111", "1-7", message, 2_283_000)
    assert text.decode() == given["preimage"]
    key, signature = bytes.fromhex(given["pubkey_hex"]), bytes.fromhex(given["signature_hex"])
    assert signature_is_valid(key, signature, text)
    assert not signature_is_valid(key, signature, text + b" ")
