"""What a transaction must pass before its messages run, in the order of structsd v0.17 to v0.20.

The same checks admit to the mempool (CheckTx) and open the execution in a block (DeliverTx). What they write -- the
sequence, the proof slots, the message counts -- stays even if a message fails afterwards; a transaction that fails
here writes nothing.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import MutableMapping
from dataclasses import dataclass, field, replace

from devnet.state import NO_PLAYER, Account, State
from devnet.transactions import Signer, Transaction, TxError, address_of, signature_is_valid

#: Limits of a free transaction.
MAX_FREE_TX_BYTES = 32_768
MAX_MESSAGES = 40
MAX_MESSAGES_PER_PLAYER = 40
MAX_MEMO_CHARACTERS = 256
#: Free transactions that one address gets into a node's mempool per height (`structs-ante.checktx-addr-cap`).
ADDRESS_CAP = 5

ANTE = "structs-ante"


class Mode(enum.Enum):
    """What the checks are made for."""

    #: Admission to the mempool.
    CHECK = "check"
    #: Execution in a block.
    DELIVER = "deliver"
    #: A gas estimate: signatures are not verified and nothing is throttled.
    SIMULATE = "simulate"


@dataclass(slots=True)
class Session:
    """What the ante handler remembers for one height: one session checks the mempool, another executes the block."""

    mode: Mode
    chain_id: str
    #: Last committed height for CHECK and SIMULATE, the block's own for DELIVER.
    height: int
    #: Reads committed accounts and takes the new sequences.
    accounts: MutableMapping[str, Account]
    address_cap: int = ADDRESS_CAP
    #: Struct and fleet ids with a proof attempt at this height.
    slots: set[str] = field(default_factory=set)
    messages_by_player: Counter[str] = field(default_factory=Counter)
    admitted_by_address: Counter[str] = field(default_factory=Counter)


def admit(tx: Transaction, state: State, session: Session) -> None:
    """Run all checks and write their effects. Raises TxError and writes nothing (but the node's own address count)."""
    _check_form(tx, session.height)
    signed = [
        _check_signature(tx, creator, signer, session) for creator, signer in zip(tx.creators, tx.signers, strict=True)
    ]
    if session.mode is Mode.CHECK:
        _count_addresses(tx, session)
    players = _check_players(tx, state, session)
    slots = _check_slots(tx, session)

    for account in signed:
        session.accounts[account.address] = account
    if session.mode is not Mode.SIMULATE:
        session.slots |= slots
    session.messages_by_player.update(players)


def _check_form(tx: Transaction, height: int) -> None:
    if len(tx.raw) > MAX_FREE_TX_BYTES:
        raise TxError(ANTE, 2000, f"free transaction of {len(tx.raw)} bytes, the most is {MAX_FREE_TX_BYTES}")
    if len(tx.messages) > MAX_MESSAGES:
        raise TxError(ANTE, 2001, f"{len(tx.messages)} messages in one transaction, the most is {MAX_MESSAGES}")
    if tx.has_extension_options:
        raise TxError("sdk", 31, "unknown extension options")
    if tx.unordered:
        raise TxError("sdk", 37, "unordered transactions are not enabled: feature not supported")
    if not tx.messages:
        raise TxError("sdk", 18, "must contain at least one message: invalid request")
    if tx.timeout_height and height > tx.timeout_height:
        told = f"block height: {height}, timeout height: {tx.timeout_height}"
        raise TxError("sdk", 30, f"{told}: tx timeout height")
    if len(tx.memo) > MAX_MEMO_CHARACTERS:
        told = f"maximum number of characters is {MAX_MEMO_CHARACTERS} but received {len(tx.memo)}"
        raise TxError("sdk", 12, f"{told}: memo too large")
    if tx.has_fee:
        raise TxError(ANTE, 2050, "free tx must have zero fee")


def _check_signature(tx: Transaction, creator: str, signer: Signer, session: Session) -> Account:
    """The account as it stands after this transaction."""
    account = session.accounts.get(creator)
    if account is None:
        raise TxError("sdk", 9, f"account {creator} does not exist: unknown address")
    key = signer.public_key or account.public_key
    if key is None:
        raise TxError("sdk", 8, f"the public key of {creator} is not known yet: invalid pubkey")
    if address_of(key) != creator:
        raise TxError("sdk", 8, f"pubKey does not match signer address {creator}: invalid pubkey")
    if signer.sequence != account.sequence:
        told = f"account sequence mismatch, expected {account.sequence}, got {signer.sequence}"
        raise TxError("sdk", 32, f"{told}: incorrect account sequence")
    if session.mode is not Mode.SIMULATE:
        sign_bytes = tx.sign_bytes(session.chain_id, account.number)
        if not (signer.direct_mode and signature_is_valid(key, signer.signature, sign_bytes)):
            claims = f"account number ({account.number}), sequence ({account.sequence})"
            told = f"signature verification failed; please verify {claims} and chain-id ({session.chain_id})"
            raise TxError("sdk", 4, f"{told}: unauthorized")
    return replace(account, sequence=account.sequence + 1, public_key=key)


def _count_addresses(tx: Transaction, session: Session) -> None:
    for creator in tx.creators:
        if session.admitted_by_address[creator] >= session.address_cap:
            raise TxError(ANTE, 2041, f"{creator} has {session.address_cap} free transactions at this height already")
        session.admitted_by_address[creator] += 1


def _check_players(tx: Transaction, state: State, session: Session) -> Counter[str]:
    """Messages per player of this transaction."""
    players: Counter[str] = Counter()
    for message in tx.messages:
        address = state.addresses.get(message.creator)
        if address is None or address.player_id == NO_PLAYER:
            raise TxError(ANTE, 2010, f"address {message.creator} is not registered to a player")
        if address.permissions & message.permission != message.permission:
            told = f"address {message.creator} has permissions {address.permissions}"
            raise TxError(ANTE, 2011, f"{told}, {message.name} needs {message.permission}")
        players[address.player_id] += 1
    if session.mode is Mode.DELIVER:
        for player, count in players.items():
            if session.messages_by_player[player] + count > MAX_MESSAGES_PER_PLAYER:
                told = f"player {player} has {session.messages_by_player[player]} messages in this block"
                raise TxError(ANTE, 2040, f"{told}, the most is {MAX_MESSAGES_PER_PLAYER}")
    return players


def _check_slots(tx: Transaction, session: Session) -> set[str]:
    """Throttle keys that this transaction takes: one proof attempt per object and height."""
    taken: set[str] = set()
    for message in tx.messages:
        if message.object_id in taken:
            raise TxError(ANTE, 2030, f"two proofs for {message.object_id} in one transaction")
        if message.object_id in session.slots:
            raise TxError(ANTE, 2031, f"a proof for {message.object_id} was already attempted in this block")
        taken.add(message.object_id)
    return taken
