"""Founding a guild: with a proof, which everybody races for (v0.21), or by a right to a validator's reactor.

Codes of codespace `structs`: 1100 permission, 1150 player, 1501 guild membership, 1600 reactor, 1750 address of the
founder's consent, 1800 the proof. What the chain puts in EventHashSuccess as the object of a charter is not known; here
it is the new guild.
"""

from __future__ import annotations

import binascii
import hashlib

from devnet.changes import Changes
from devnet.messages import GuildCreation
from devnet.refusal import refuse
from devnet.state import NO_PLAYER, PERMISSION_PLAY, PERMISSION_REACTOR_GUILD_CREATE, Guild, Reactor, State
from devnet.transactions import address_of, signature_is_valid
from hashfleet.action import Action, CharterTerms, prefix
from hashfleet.difficulty import difficulty
from hashfleet.rpc.structs.structs import tx_pb2

CATEGORY = "guild_charter"


def consent(chain_id: str, founder_id: str, message: GuildCreation, anchor: int) -> bytes:
    """What a founder signs so that another player's proof may found their guild, of whatever the message says.

    `hashfleet.charter` makes the same text of checked values; a chain has to take what it is sent.
    """
    return (
        f"CHAIN{chain_id}|GUILDCHARTER{founder_id}REACTOR{message.reactor_id}SUBSTATION{message.entry_substation_id}"
        f"ENDPOINT{message.endpoint}ANCHOR{anchor}"
    ).encode()


def create_guild(changes: Changes, message: GuildCreation, chain_id: str) -> tx_pb2.MsgGuildCreateResponse:
    """Run MsgGuildCreate. Raises TxError."""
    state = changes.state
    solver = state.addresses[message.creator].player_id
    founder = message.founder_id or solver
    if founder not in state.players:
        refuse(1150, f"player {founder[:40]} is unknown")
    if state.owns_guild(founder):
        refuse(1501, f"player {founder} is_owner of a guild already")
    reactor = state.reactors.get(message.reactor_id)
    if reactor is None:
        refuse(1600, f"reactor {message.reactor_id[:40]} does not exist")
    if state.rules.charter and message.by_proof:
        zeros = _check_charter(changes, message, chain_id, solver, founder, reactor)
    else:
        _check_entitlement(changes, solver, reactor)
        zeros = None

    guild = Guild(
        f"0-{len(state.guilds) + 1}",
        founder,
        message.endpoint,
        reactor.id,
        message.entry_substation_id,
        message.creator,
    )
    changes.put_guild(guild)
    if zeros is not None:
        changes.set_charter_anchor()
        detail = {
            "callerAddress": message.creator,
            "category": CATEGORY,
            "difficulty": str(zeros),
            "objectId": guild.id,
            "planetId": "",
        }
        changes.emit("EventHashSuccess", "eventHashSuccessDetail", detail)
    return tx_pb2.MsgGuildCreateResponse(guildId=guild.id)


def _check_charter(
    changes: Changes, message: GuildCreation, chain_id: str, solver: str, founder: str, reactor: Reactor
) -> int:
    """The number of zeros that the chain asked at this height. Raises TxError."""
    if reactor.jailed:
        refuse(1600, f"the validator of reactor {reactor.id} is jailed")
    anchor = changes.state.charter.anchor
    if founder != solver:
        _check_consent(changes, message, consent(chain_id, founder, message, anchor), founder)
    terms = CharterTerms(chain_id if changes.state.charter.names_chain else None, solver)
    preimage = prefix(Action.CHARTER, founder, anchor, charter=terms) + message.nonce.encode()
    digest = hashlib.sha256(preimage).hexdigest()
    zeros = asked_zeros(changes.state, changes.height)
    if digest != message.proof or not digest.startswith("0" * zeros):
        told = f"work failure for input ({preimage.decode()}) when trying to {CATEGORY} on player {founder}"
        refuse(1800, told)
    return zeros


def asked_zeros(state: State, height: int) -> int:
    """The charter's difficulty in a block of this height."""
    return difficulty(state.charter.age(height), state.charter.range, state.rules.difficulty)


def _check_consent(changes: Changes, message: GuildCreation, asked: bytes, founder: str) -> None:
    address = changes.state.addresses.get(message.address)
    if address is None or address.player_id in (NO_PLAYER, "") or address.player_id != founder:
        refuse(1750, f"address {message.address[:80]!a} is not one of player {founder}")
    if not address.permissions & PERMISSION_PLAY:
        refuse(1750, f"address {address.address} lacks permission {PERMISSION_PLAY}")
    try:
        key = binascii.unhexlify(message.public_key)
        signature = binascii.unhexlify(message.signature)
    except ValueError:
        refuse(1750, "proofPubKey and proofSignature should be hex")
    if len(key) != 33 or address_of(key) != address.address:
        refuse(1750, f"proofPubKey is not the key of address {address.address}")
    if len(signature) < 64 or not signature_is_valid(key, signature[:64], asked):
        refuse(1750, f"proofSignature of address {address.address} does not verify")


def _check_entitlement(changes: Changes, solver: str, reactor: Reactor) -> None:
    """A guild without a proof: for who has a right to a reactor of age."""
    state = changes.state
    if not state.may(solver, reactor.owner, PERMISSION_REACTOR_GUILD_CREATE):
        told = f"player {solver} has no permission {PERMISSION_REACTOR_GUILD_CREATE} on reactor {reactor.id}"
        refuse(1100, told)
    if reactor.jailed or not reactor.bonded:
        refuse(1600, f"the validator of reactor {reactor.id} is not bonded")
    if state.rules.charter and changes.height < reactor.since + state.charter.reactor_age:
        refuse(1600, f"reactor {reactor.id} is younger than {state.charter.reactor_age} blocks")
