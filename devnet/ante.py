"""What a transaction must pass before its messages run, in the order of structsd.

The same checks admit to the mempool (CheckTx) and open the execution in a block (DeliverTx). What they write -- the
sequence, the proof slots, the message counts -- stays even if a message fails afterwards; a transaction that fails
here writes nothing. What v0.16 calls its own errors has no number: code 1 of codespace `undefined`.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import MutableMapping
from dataclasses import dataclass, field, replace

from devnet.messages import Completion, GuildCreation
from devnet.rules import Rules
from devnet.state import NO_PLAYER, Account, State
from devnet.transactions import (
    ANTE,
    NATIVE_DENOM,
    Signer,
    Transaction,
    TxError,
    address_of,
    ante_error,
    signature_is_valid,
)

#: Limits of a free transaction.
MAX_FREE_TX_BYTES = 32_768
MAX_MESSAGES = 40
MAX_MESSAGES_PER_PLAYER = 40
MAX_MEMO_CHARACTERS = 256
#: Free transactions that one address gets into a node's mempool per height (`structs-ante.checktx-addr-cap`).
ADDRESS_CAP = 5

#: Gas that the gas router gives a free transaction.
FREE_GAS = 20_000_000
#: Gas of a transaction in the SDK's terms: by byte, and what a message costs. The second is a guess.
GAS_PER_BYTE, GAS_PER_MESSAGE = 10, 60_000


class Mode(enum.Enum):
    """What the checks are made for."""

    #: Admission to the mempool.
    CHECK = "check"
    #: Execution in a block.
    DELIVER = "deliver"
    #: A transaction that waits in the mempool is looked at again after a block.
    RECHECK = "recheck"
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
    #: What this node asks for a unit of gas in its mempool, in ualpha.
    min_gas_price: float = 0.0
    #: Struct and fleet ids with a proof attempt at this height.
    slots: set[str] = field(default_factory=set)
    messages_by_player: Counter[str] = field(default_factory=Counter)
    admitted_by_address: Counter[str] = field(default_factory=Counter)


def admit(tx: Transaction, state: State, session: Session) -> None:
    """Run all checks and write their effects. Raises TxError and writes nothing (but the node's own address count)."""
    try:
        _admit(tx, state, session)
    except TxError as error:
        if error.codespace == ANTE and not state.rules.numbered_ante:
            raise ante_error(state.rules, error.code, error.log) from error
        raise


def is_free(tx: Transaction, rules: Rules) -> bool:
    """Whether the gas router lets it pass without a price: from v0.21 on not if it founds a guild."""
    return not (rules.charter and any(isinstance(message, GuildCreation) for message in tx.messages))


def gas_limit(tx: Transaction, rules: Rules) -> int:
    """What the messages may use."""
    return FREE_GAS if is_free(tx, rules) else tx.gas_limit


def gas_used(tx: Transaction) -> int:
    """Nominal."""
    return GAS_PER_BYTE * len(tx.raw) + GAS_PER_MESSAGE * len(tx.messages)


def _admit(tx: Transaction, state: State, session: Session) -> None:
    free = is_free(tx, state.rules)
    _check_form(tx, session.height, free)
    payer = None if free else _check_fee(tx, session)
    signed = [
        _check_signature(tx, creator, signer, session) for creator, signer in zip(tx.creators, tx.signers, strict=True)
    ]
    if session.mode is Mode.CHECK and free:
        _count_addresses(tx, session)
    players = _check_players(tx, state, session)
    slots = _check_slots(tx, state, session)

    for account in signed:
        if account.address == payer:
            account = replace(account, ualpha=account.ualpha - tx.fee)
        session.accounts[account.address] = account
    if session.mode is not Mode.SIMULATE:
        session.slots |= slots
    session.messages_by_player.update(players)


def _check_form(tx: Transaction, height: int, free: bool) -> None:
    if free and len(tx.raw) > MAX_FREE_TX_BYTES:
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
    if free and tx.fee:
        raise TxError(ANTE, 2050, "free tx must have zero fee")


def _check_fee(tx: Transaction, session: Session) -> str:
    """Who pays for a transaction that has a price."""
    used = GAS_PER_BYTE * len(tx.raw)
    if session.mode is not Mode.SIMULATE and used > tx.gas_limit:
        told = f"out of gas in location: txSize; gasWanted: {tx.gas_limit}, gasUsed: {used}"
        raise TxError("sdk", 11, f"{told}: out of gas")
    asked = math.ceil(session.min_gas_price * tx.gas_limit)
    if session.mode is Mode.CHECK and (tx.fee < asked or (asked and not tx.fee_in_native)):
        told = f"insufficient fees; got: {tx.fee}{NATIVE_DENOM} required: {asked}{NATIVE_DENOM}"
        raise TxError("sdk", 13, f"{told}: insufficient fee")
    payer = tx.creators[0]
    account = session.accounts.get(payer)
    held = account.ualpha if account else 0
    if tx.fee and (held < tx.fee or not tx.fee_in_native):
        told = f"spendable balance {held}{NATIVE_DENOM} is smaller than {tx.fee}{NATIVE_DENOM}"
        raise TxError("sdk", 5, f"{told}: insufficient funds")
    return payer


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
    if session.mode in (Mode.CHECK, Mode.DELIVER):  # a recheck trusts the first look
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
        asked = message.address_permission(state.rules)
        if address.permissions & asked != asked:
            told = f"address {message.creator} has permissions {address.permissions}"
            raise TxError(ANTE, 2011, f"{told}, {message.name} needs {asked}")
        players[address.player_id] += 1
    capped = session.mode is Mode.DELIVER or (state.rules.player_cap_in_mempool and session.mode is not Mode.SIMULATE)
    if capped:
        for player, count in players.items():
            if session.messages_by_player[player] + count > MAX_MESSAGES_PER_PLAYER:
                told = f"player {player} has {session.messages_by_player[player]} messages in this block"
                raise TxError(ANTE, 2040, f"{told}, the most is {MAX_MESSAGES_PER_PLAYER}")
    return players


def _check_slots(tx: Transaction, state: State, session: Session) -> set[str]:
    """Throttle keys that this transaction takes: one proof attempt per object and height."""
    rules = state.rules
    if session.mode is not Mode.DELIVER and not rules.slots_in_mempool:
        return set()
    taken: set[str] = set()
    for message in tx.messages:
        if isinstance(message, GuildCreation):
            key = f"guild/{message.creator}"
            if not rules.slots_in_mempool:  # v0.16 throttles proofs only
                continue
            if key in taken or key in session.slots:
                raise TxError(ANTE, 2032, f"{message.creator} already founds a guild in this block")
        else:
            key = f"proof/{message.object_id}"
            if rules.slots_for_signers and not _is_entitled(message, state):
                continue
            if key in taken and rules.slots_in_mempool:
                raise TxError(ANTE, 2030, f"two proofs for {message.object_id} in one transaction")
            if key in taken or key in session.slots:
                raise TxError(ANTE, 2031, f"a proof for {message.object_id} was already attempted in this block")
        taken.add(key)
    return taken


def _is_entitled(message: Completion, state: State) -> bool:
    """Whether the signer's player holds the permission on the owner of the object."""
    target = state.structs.get(message.object_id) or state.fleets.get(message.object_id)
    signer = state.addresses[message.creator].player_id
    return target is not None and state.may(signer, target.owner, message.permission)
