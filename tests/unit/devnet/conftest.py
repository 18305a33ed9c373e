"""A chain at height 100,000 with one player, its wallet, and proofs found by brute force."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey
from coincurve.ecdsa import der_to_cdata, serialize_compact
from google.protobuf.any_pb2 import Any as ProtoAny
from google.protobuf.message import Message

from devnet.block import TxResult
from devnet.chain import Chain
from devnet.node import Devnet
from devnet.scenario import genesis, load
from devnet.staging import Stage
from devnet.transactions import address_of
from hashfleet.action import Action, prefix
from hashfleet.rpc.cosmos.crypto.secp256k1 import keys_pb2
from hashfleet.rpc.cosmos.tx.signing.v1beta1 import signing_pb2
from hashfleet.rpc.cosmos.tx.v1beta1 import tx_pb2
from hashfleet.rpc.structs.structs import tx_pb2 as structs_tx_pb2

CHAIN_ID = "hashfleet-devnet-1"
START = 100_000
VECTORS = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())

_MESSAGES: dict[Action, Any] = {
    Action.BUILD: structs_tx_pb2.MsgStructBuildComplete,
    Action.MINE: structs_tx_pb2.MsgStructOreMinerComplete,
    Action.REFINE: structs_tx_pb2.MsgStructOreRefineryComplete,
    Action.RAID: structs_tx_pb2.MsgPlanetRaidComplete,
}


@dataclass
class Wallet:
    """Signs transactions; counts its own sequence unless told another one."""

    secret: bytes = field(repr=False)
    number: int
    sequence: int = 0
    chain_id: str = CHAIN_ID
    address: str = field(init=False)
    public_key: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.key = PrivateKey(self.secret)
        self.public_key = self.key.public_key.format(compressed=True)
        self.address = address_of(self.public_key)

    def completion(self, action: Action, object_id: str, proof: str, nonce: str) -> Message:
        kind = _MESSAGES[action]
        name = "fleetId" if action is Action.RAID else "structId"
        return kind(creator=self.address, proof=proof, nonce=nonce, **{name: object_id})

    def sign(
        self,
        *messages: Message,
        sequence: int | None = None,
        body: dict[str, Any] | None = None,
        fee: tx_pb2.Fee | None = None,
        chain_id: str | None = None,
        number: int | None = None,
        mode: int = signing_pb2.SIGN_MODE_DIRECT,
    ) -> bytes:
        if sequence is None:
            sequence, self.sequence = self.sequence, self.sequence + 1
        packed = []
        for message in messages:
            packed.append(ProtoAny())
            packed[-1].Pack(message, type_url_prefix="/")
        body_bytes = tx_pb2.TxBody(messages=packed, **(body or {})).SerializeToString()
        key = ProtoAny()
        key.Pack(keys_pb2.PubKey(key=self.public_key), type_url_prefix="/")
        info = tx_pb2.SignerInfo(public_key=key, sequence=sequence)
        info.mode_info.single.mode = mode
        auth = tx_pb2.AuthInfo(signer_infos=[info], fee=fee or tx_pb2.Fee(gas_limit=500_000)).SerializeToString()
        document = tx_pb2.SignDoc(
            body_bytes=body_bytes,
            auth_info_bytes=auth,
            chain_id=chain_id or self.chain_id,
            account_number=self.number if number is None else number,
        ).SerializeToString()
        signature = serialize_compact(der_to_cdata(self.key.sign(document)))
        return tx_pb2.TxRaw(body_bytes=body_bytes, auth_info_bytes=auth, signatures=[signature]).SerializeToString()


def find_proof(before: bytes, zeros: int = 1) -> tuple[str, str]:
    """(proof, nonce) with at least that many zeros; keep zeros small."""
    for nonce in map(str, count()):
        digest = hashlib.sha256(before + nonce.encode()).hexdigest()
        if digest.startswith("0" * zeros):
            return digest, nonce
    raise AssertionError("count never ends")


@dataclass
class World:
    """A chain, the owner's wallet, and what tests do over and over."""

    chain: Chain
    owner: Wallet

    node: Devnet | None = None

    def stage(self, write: Callable[[Stage], None]) -> None:
        with self.chain.edit() as changes:
            write(Stage(changes))

    def proof(
        self, action: Action, object_id: str, anchor: int, target: str | None = None, zeros: int = 1
    ) -> tuple[str, str]:
        return find_proof(prefix(action, object_id, anchor, target), zeros)

    def complete(
        self,
        action: Action,
        object_id: str,
        anchor: int,
        target: str | None = None,
        zeros: int = 1,
        wallet: Wallet | None = None,
    ) -> TxResult:
        """Solve, send and include: the result of execution."""
        wallet = wallet or self.owner
        message = wallet.completion(action, object_id, *self.proof(action, object_id, anchor, target, zeros))
        return self.include(wallet.sign(message))

    def include(self, raw: bytes) -> TxResult:
        """Broadcast and make a block: the result of execution. The transaction must be admitted."""
        hash_, admitted = self.chain.broadcast(raw)
        assert admitted.code == 0, admitted.log
        self.chain.produce_block()
        found = self.chain.find(hash_)
        assert found is not None
        return found.result

    def events(self, result: TxResult, name: str) -> list[Any]:
        """The JSON values of a typed event, in order."""
        wanted = f"structs.structs.{name}"
        return [json.loads(event.attributes[0][1]) for event in result.events if event.type == wanted]


@pytest.fixture(scope="session")
def vectors() -> Any:
    return VECTORS


@pytest.fixture
def owner() -> Wallet:
    """The public test key of the vectors: player 1-11, account number 17."""
    return Wallet(bytes.fromhex(VECTORS["tx"]["key"]["private_key_hex"]), number=17)


@pytest.fixture
def stranger() -> Wallet:
    """A key that no player has."""
    return Wallet(bytes(31) + b"\x07", number=23)


@pytest.fixture
def world(owner: Wallet) -> World:
    state, height = genesis(load("empty"), START)
    chain = Chain(CHAIN_ID, state, height)
    made = World(chain, owner)
    made.stage(lambda stage: stage.add_player("1-11", owner.address, account_number=17, ore=2))
    return made


@pytest.fixture
def world_of(owner: Wallet) -> Callable[[str], World]:
    """The same world as a release has it."""

    def make(version: str, **settings: Any) -> World:
        state, height = genesis(load("empty"), START, version)
        made = World(Chain(CHAIN_ID, state, height, **settings), owner)
        made.stage(lambda stage: stage.add_player("1-11", owner.address, account_number=17, ore=2))
        return made

    return make


@pytest.fixture
async def served(owner: Wallet) -> AsyncIterator[World]:
    """The same world behind both servers, on free ports, with blocks made by hand."""
    async with Devnet(start_height=START) as node:
        made = World(node.chain, owner, node)
        made.stage(lambda stage: stage.add_player("1-11", owner.address, account_number=17, ore=2))
        yield made
