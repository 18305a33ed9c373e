"""What keeps a transaction out, by codespace and code, and what an attempt costs."""

from __future__ import annotations

from base64 import b64decode

import pytest

from devnet.ante import Mode, Session, admit
from devnet.chain import Chain
from devnet.scenario import genesis, load
from devnet.staging import Stage
from devnet.state import PERMISSION_ALL, PERMISSION_HASH_BUILD
from devnet.transactions import TxError, decode
from hashfleet.action import Action
from hashfleet.rpc.cosmos.base.v1beta1 import coin_pb2
from hashfleet.rpc.cosmos.tx.signing.v1beta1 import signing_pb2
from hashfleet.rpc.cosmos.tx.v1beta1 import tx_pb2
from hashfleet.rpc.structs.structs import tx_pb2 as structs_tx_pb2

ANY_PROOF = ("0" * 64, "1")


def refusal(world, raw) -> tuple[str, int]:
    """Codespace and code of CheckTx."""
    result = world.chain.broadcast(raw)[1]
    return result.codespace, result.code


def build(wallet, object_id="5-1"):
    return wallet.completion(Action.BUILD, object_id, *ANY_PROOF)


@pytest.mark.parametrize("number", range(4))
def test_a_chain_with_their_account_admits_the_signed_vectors(vectors, owner, number):
    vector = vectors["tx"]["vectors"][number]
    state, height = genesis(load("empty"), 1_298_900)
    chain = Chain(vector["chain_id"], state, height)
    with chain.edit() as changes:
        Stage(changes).add_player("1-7", owner.address, account_number=17, sequence=vector["sequence"])
    hash_, result = chain.broadcast(b64decode(vector["tx_bytes_base64"]))
    assert (result.code, hash_) == (0, vector["tx_hash"])


def test_a_replayed_sequence_is_sdk_32_and_says_what_was_expected(world, owner):
    assert world.include(owner.sign(build(owner))).code == 1100  # included and failed: no such struct
    _, result = world.chain.broadcast(owner.sign(build(owner), sequence=0))
    assert (result.codespace, result.code) == ("sdk", 32)
    assert "expected 1, got 0" in result.log


def test_a_pending_transaction_counts_for_the_next_sequence(world, owner):
    assert refusal(world, owner.sign(build(owner, "5-1"))) == ("", 0)
    assert refusal(world, owner.sign(build(owner, "5-2"), sequence=0)) == ("sdk", 32)
    assert refusal(world, owner.sign(build(owner, "5-3"), sequence=1)) == ("", 0)


def test_another_chain_id_is_sdk_4(world, owner):
    assert refusal(world, owner.sign(build(owner), chain_id="structstestnet-111")) == ("sdk", 4)


def test_another_account_number_is_sdk_4(world, owner):
    assert refusal(world, owner.sign(build(owner), number=18)) == ("sdk", 4)


def test_a_sign_mode_other_than_direct_is_sdk_4(world, owner):
    raw = owner.sign(build(owner), mode=signing_pb2.SIGN_MODE_LEGACY_AMINO_JSON)
    assert refusal(world, raw) == ("sdk", 4)


def test_a_key_that_is_not_the_creators_is_sdk_8(world, owner, stranger):
    message = build(stranger)
    message.creator = owner.address
    assert refusal(world, stranger.sign(message, number=17)) == ("sdk", 8)


def test_an_address_without_an_account_is_sdk_9(world, stranger):
    assert refusal(world, stranger.sign(build(stranger))) == ("sdk", 9)


def test_a_timeout_height_that_has_passed_is_sdk_30(world, owner):
    assert refusal(world, owner.sign(build(owner), body={"timeout_height": 99_999})) == ("sdk", 30)


def test_a_timeout_height_that_passes_before_inclusion_burns_no_sequence(world, owner):
    raw = owner.sign(build(owner), body={"timeout_height": 100_000})
    result = world.include(raw)
    assert (result.codespace, result.code) == ("sdk", 30)
    assert world.chain.state.accounts[owner.address].sequence == 0


def test_a_memo_of_more_than_256_characters_is_sdk_12(world, owner):
    assert refusal(world, owner.sign(build(owner), body={"memo": "m" * 257})) == ("sdk", 12)


def test_a_transaction_without_messages_is_sdk_18(world, owner):
    assert refusal(world, owner.sign()) == ("sdk", 18)


def test_an_unordered_transaction_is_sdk_37(world, owner):
    assert refusal(world, owner.sign(build(owner), body={"unordered": True})) == ("sdk", 37)


def test_a_free_transaction_with_a_fee_is_ante_2050(world, owner):
    fee = tx_pb2.Fee(amount=[coin_pb2.Coin(denom="ualpha", amount="1")], gas_limit=500_000)
    assert refusal(world, owner.sign(build(owner), fee=fee)) == ("structs-ante", 2050)


def test_the_web_clients_fee_of_zero_ualpha_is_no_fee(world, owner):
    fee = tx_pb2.Fee(amount=[coin_pb2.Coin(denom="ualpha", amount="0")], gas_limit=500_000)
    assert refusal(world, owner.sign(build(owner), fee=fee)) == ("", 0)


@pytest.mark.parametrize("written", [0, 1, 500_000, 2**63])
def test_the_meter_of_a_free_transaction_has_20_million_whatever_limit_is_written_in_it(world, owner, written):
    world.stage(lambda stage: stage.add_struct("5-1", 9, "1-11", anchor=50_000))
    proof = world.proof(Action.BUILD, "5-1", 50_000)
    raw = owner.sign(owner.completion(Action.BUILD, "5-1", *proof), fee=tx_pb2.Fee(gas_limit=written))
    result = world.include(raw)
    assert (result.code, result.gas_wanted) == (0, 20_000_000)
    assert 1 < result.gas_used < 20_000_000


def test_a_founding_has_the_gas_that_is_written_in_it(world_of, owner):
    world = world_of("v0.21")
    message = structs_tx_pb2.MsgGuildCreate(creator=owner.address, reactorId="3-1", nonce="1", proof="0")
    assert refusal(world, owner.sign(message, fee=tx_pb2.Fee(gas_limit=1), sequence=0)) == ("sdk", 11)
    admitted = world.chain.broadcast(owner.sign(message, fee=tx_pb2.Fee(gas_limit=70_000), sequence=0))[1]
    assert (admitted.code, admitted.gas_wanted) == (0, 70_000)


def test_a_free_transaction_of_more_than_32_kib_is_ante_2000(world, owner):
    message = owner.completion(Action.BUILD, "5-1", "0" * 64, "1" * 32_768)
    assert refusal(world, owner.sign(message)) == ("structs-ante", 2000)


def test_more_than_40_messages_are_ante_2001(world, owner):
    raw = owner.sign(*(build(owner, f"5-{n}") for n in range(41)))
    assert refusal(world, raw) == ("structs-ante", 2001)


def test_an_unregistered_address_is_ante_2010(world, stranger):
    # It has an account, as one that once received coins, but no player.
    world.stage(lambda stage: stage.add_address(stranger.address, "1-11", PERMISSION_ALL, account_number=23))
    del world.chain.state.addresses[stranger.address]
    assert refusal(world, stranger.sign(build(stranger))) == ("structs-ante", 2010)


def test_an_address_without_the_actions_bit_is_ante_2011(world, stranger):
    world.stage(lambda stage: stage.add_address(stranger.address, "1-11", PERMISSION_HASH_BUILD, account_number=23))
    mine = stranger.completion(Action.MINE, "5-1", *ANY_PROOF)
    assert refusal(world, stranger.sign(mine, sequence=0)) == ("structs-ante", 2011)
    assert refusal(world, stranger.sign(build(stranger), sequence=0)) == ("", 0)


def test_two_proofs_for_one_object_in_one_transaction_are_ante_2030(world, owner):
    assert refusal(world, owner.sign(build(owner), build(owner))) == ("structs-ante", 2030)


def test_a_second_completion_of_the_same_object_in_one_block_is_ante_2031(world, owner):
    assert refusal(world, owner.sign(build(owner), sequence=0)) == ("", 0)
    assert refusal(world, owner.sign(build(owner), sequence=1)) == ("structs-ante", 2031)
    world.chain.produce_block()
    assert refusal(world, owner.sign(build(owner), sequence=1)) == ("", 0)


def test_the_sixth_free_transaction_of_an_address_at_one_height_is_ante_2041(world, owner):
    answers = [refusal(world, owner.sign(build(owner, f"5-{n}"))) for n in range(6)]
    assert answers == [("", 0)] * 5 + [("structs-ante", 2041)]


def test_the_address_cap_is_free_again_at_the_next_height(world, owner):
    for n in range(5):
        world.chain.broadcast(owner.sign(build(owner, f"5-{n}")))
    world.chain.produce_block()
    assert refusal(world, owner.sign(build(owner, "5-9"))) == ("", 0)


def test_the_41st_message_of_a_player_in_a_block_is_ante_2040_and_burns_no_sequence(world, owner):
    full = owner.sign(*(build(owner, f"5-{n}") for n in range(40)))
    one_more = owner.sign(build(owner, "5-99"))
    world.chain.broadcast(full)
    hash_, admitted = world.chain.broadcast(one_more)
    assert admitted.code == 0  # only blocks count
    world.chain.produce_block()
    result = world.chain.find(hash_).result
    assert (result.codespace, result.code) == ("structs-ante", 2040)
    assert world.chain.state.accounts[owner.address].sequence == 1


def test_the_first_transaction_tells_the_accounts_public_key(world, owner):
    assert world.chain.state.accounts[owner.address].public_key is None
    world.include(owner.sign(build(owner)))
    assert world.chain.state.accounts[owner.address].public_key == owner.public_key


def test_a_block_executes_one_attempt_per_object_even_if_the_mempool_let_two_through(world, owner):
    """Another node's mempool may have admitted the second one; the first attempt's slot stays, though it will fail."""
    state = world.chain.state
    block = Session(Mode.DELIVER, world.chain.chain_id, 100_001, state.accounts)
    admit(decode(owner.sign(build(owner))), state, block)
    with pytest.raises(TxError) as refused:
        admit(decode(owner.sign(build(owner))), state, block)
    assert (refused.value.codespace, refused.value.code) == ("structs-ante", 2031)
    assert state.accounts[owner.address].sequence == 1
