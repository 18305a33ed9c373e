"""What the completions do: conditions in the chain's order, then the proof, then the effects. (Guilds: `charter.py`.)

Codes of codespace `structs`: 1002 parameters, 1100 permission (and unknown objects, whose owner resolves to nobody),
1201 power, 1203 nothing to mine or refine, 1250 struct state, 1260 no such system, 1453 fleet state, 1650 planet
state, 1800 the proof itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from google.protobuf.message import Message

from devnet import charter, records
from devnet.changes import Changes
from devnet.messages import Completion, GuildCreation
from devnet.messages import Message as TxMessage
from devnet.refusal import refuse
from devnet.state import UALPHA_PER_ORE, Planet, Player, Struct, StructStatus
from hashfleet.action import Action, prefix
from hashfleet.difficulty import difficulty
from hashfleet.rpc.structs.structs import tx_pb2

_VERBS = {Action.BUILD: "build", Action.MINE: "mine", Action.REFINE: "refine", Action.RAID: "raid"}


def execute(changes: Changes, message: TxMessage, chain_id: str) -> Message:
    """Run one message on a forked state and return its response. Raises TxError; the fork is then thrown away."""
    if isinstance(message, GuildCreation):
        return charter.create_guild(changes, message, chain_id)
    return _HANDLERS[message.action](changes, message)


def _build(changes: Changes, message: Completion) -> Message:
    struct, owner = _struct_of(changes, message)
    kind = changes.state.struct_types[struct.type]
    if struct.destroyed and changes.state.rules.refuses_destroyed:
        refuse(1250, f"struct {struct.id} is destroyed")
    if struct.built:
        refuse(1250, f"struct {struct.id} is already built")
    if not owner.online:
        refuse(1201, f"player {owner.id} is offline (load above capacity)")
    if owner.load + owner.structs_load + kind.passive_draw > owner.capacity:
        refuse(1201, f"capacity_exceeded: struct {struct.id} draws {kind.passive_draw} more than {owner.id} has")
    zeros = _check_proof(changes, message, struct.block_start_build, kind.build_range)

    changes.go_online(replace(struct, status=struct.status | StructStatus.MATERIALIZED | StructStatus.BUILT))
    _accepted(changes, message, zeros)
    return tx_pb2.MsgStructStatusResponse(struct=records.struct_record(changes.state, struct))


def _mine(changes: Changes, message: Completion) -> Message:
    struct, owner = _working_struct_of(changes, message)
    kind = changes.state.struct_types[struct.type]
    if not kind.mine_range:
        refuse(1260, f"struct {struct.id} has no mining system")
    planet = changes.state.planets[struct.location_id]
    if planet.complete:
        refuse(1650, f"planet {planet.id} is complete")
    if not planet.ore:
        refuse(1203, f"planet {planet.id} has no ore left to mine")
    shared = changes.state.rules.planet_clocks
    _check_siege(changes, planet)
    anchor = planet.block_start_ore_mine if shared else struct.block_start_ore_mine
    zeros = _check_proof(changes, message, anchor, kind.mine_range)

    clock = changes.height if shared else planet.block_start_ore_mine
    changes.put_planet(replace(planet, ore=planet.ore - 1, block_start_ore_mine=clock))
    changes.put_player(replace(owner, ore=owner.ore + 1))
    if not shared:
        changes.put_struct(replace(struct, block_start_ore_mine=changes.height))
    _ore_done(changes, "EventOreMine", "eventOreMineDetail", owner)
    _accepted(changes, message, zeros)
    return tx_pb2.MsgStructOreMinerStatusResponse(struct=records.struct_record(changes.state, struct))


def _refine(changes: Changes, message: Completion) -> Message:
    struct, owner = _working_struct_of(changes, message)
    kind = changes.state.struct_types[struct.type]
    if not kind.refine_range:
        refuse(1260, f"struct {struct.id} has no refinery system")
    planet = changes.state.planets[struct.location_id]
    if planet.complete:
        refuse(1650, f"planet {planet.id} is complete")
    if not owner.ore:
        refuse(1203, f"player {owner.id} has no ore to refine")
    shared = changes.state.rules.planet_clocks
    _check_siege(changes, planet)
    anchor = planet.block_start_ore_refine if shared else struct.block_start_ore_refine
    zeros = _check_proof(changes, message, anchor, kind.refine_range)

    changes.put_player(replace(owner, ore=owner.ore - 1))
    accounts = changes.state.accounts
    account = accounts[owner.primary_address]
    accounts[account.address] = replace(account, ualpha=account.ualpha + UALPHA_PER_ORE)
    if shared:
        changes.put_planet(replace(planet, block_start_ore_refine=changes.height))
    else:
        changes.put_struct(replace(struct, block_start_ore_refine=changes.height))
    _ore_done(changes, "EventAlphaRefine", "eventAlphaRefineDetail", owner)
    _accepted(changes, message, zeros)
    return tx_pb2.MsgStructOreRefineryStatusResponse(struct=records.struct_record(changes.state, struct))


def _raid(changes: Changes, message: Completion) -> Message:
    state = changes.state
    fleet = state.fleets.get(message.object_id)
    thief = _owner(changes, message, fleet.owner if fleet else None)
    assert fleet is not None  # else it has no owner, and _owner refused
    planet = state.planets[fleet.location_id]
    if not fleet.away:
        refuse(1453, f"fleet {fleet.id} is on_station")
    if state.queue_neighbours(fleet)[0]:
        refuse(1453, f"fleet {fleet.id} is not_first_in_queue at {planet.id}")
    if not thief.online:
        refuse(1201, f"player {thief.id} is offline (load above capacity)")
    rules = state.rules
    if rules.raid_needs_active_planet and planet.complete:
        refuse(1650, f"planet {planet.id} is complete")
    if rules.gated_raid_clock and not state.defender_is_vulnerable(planet):
        refuse(1650, f"planet {planet.id} has shields_active")
    if rules.gated_raid_clock and not planet.block_start_raid:
        refuse(1650, f"planet {planet.id} has raid_clock_unset")
    zeros = _check_proof(changes, message, planet.block_start_raid, planet.shield, planet.id)

    victim = state.players[planet.owner]
    stolen = victim.ore
    changes.put_player(replace(victim, ore=0))
    changes.put_player(replace(thief, ore=thief.ore + stolen))
    changes.send_fleet(fleet, thief.planet_id)
    theft = {
        "victimPrimaryAddress": victim.primary_address,
        "victimPlayerId": victim.id,
        "thiefPrimaryAddress": thief.primary_address,
        "thiefPlayerId": thief.id,
        "amount": str(stolen),
    }
    changes.emit("EventOreTheft", "eventOreTheftDetail", theft)
    raid = {"fleetId": fleet.id, "planetId": planet.id, "status": "raidSuccessful", "seized_ore": str(stolen)}
    changes.emit("EventRaid", "eventRaidDetail", raid)
    _accepted(changes, message, zeros, planet.id)
    return tx_pb2.MsgPlanetRaidCompleteResponse(
        fleet=records.fleet_record(state, state.fleets[fleet.id]),
        planet=records.planet_record(state, state.planets[planet.id]),
        oreStolen=stolen,
    )


_HANDLERS: dict[Action, Callable[[Changes, Completion], Message]] = {
    Action.BUILD: _build,
    Action.MINE: _mine,
    Action.REFINE: _refine,
    Action.RAID: _raid,
}


def _owner(changes: Changes, message: Completion, owner_id: str | None) -> Player:
    """The object's owner, after the signer's player was found to hold the permission on them."""
    signer = changes.state.addresses[message.creator].player_id
    if owner_id is None or not changes.state.may(signer, owner_id, message.permission):
        told = f"player {signer} has no permission {message.permission} on the owner of {message.object_id[:40]}"
        refuse(1100, told)
    return changes.state.players[owner_id]


def _struct_of(changes: Changes, message: Completion) -> tuple[Struct, Player]:
    struct = changes.state.structs.get(message.object_id)
    owner = _owner(changes, message, struct.owner if struct else None)
    assert struct is not None  # else it has no owner, and _owner refused
    return struct, owner


def _working_struct_of(changes: Changes, message: Completion) -> tuple[Struct, Player]:
    struct, owner = _struct_of(changes, message)
    if struct.destroyed or not struct.online:
        refuse(1250, f"struct {struct.id} is {'destroyed' if struct.destroyed else 'offline'}")
    if not owner.online:
        refuse(1201, f"player {owner.id} is offline (load above capacity)")
    return struct, owner


def _check_siege(changes: Changes, planet: Planet) -> None:
    """From v0.21 on no ore is worked on a planet where a fleet queues to raid."""
    if changes.state.rules.planet_clocks and planet.queue:
        refuse(1650, f"planet {planet.id} is under_raid by fleet {planet.queue[0]}")


def _check_proof(
    changes: Changes, message: Completion, anchor: int, difficulty_range: int, planet_id: str | None = None
) -> int:
    """The number of zeros that the chain asked at this height. Raises TxError 1002 or 1800."""
    rules = changes.state.rules
    if anchor > changes.height and (rules.gated_raid_clock or message.action is not Action.RAID):
        refuse(1002, f"the clock of {message.object_id} started at {anchor}, after height {changes.height}")
    before = prefix(message.action, message.object_id, anchor, planet_id)
    preimage = before + message.nonce.encode("utf-8")
    digest = hashlib.sha256(preimage).hexdigest()
    age = (changes.height - anchor) % 2**64  # an early raid clock of the future wraps, as unsigned numbers do
    zeros = difficulty(age, difficulty_range, rules.difficulty)
    if digest != message.proof or not digest.startswith("0" * zeros):
        # The chain prints the preimage it hashed, which is how a miner finds out that an anchor moved.
        verb = _VERBS[message.action]
        told = (
            f"work failure for input ({preimage.decode('utf-8')}) when trying to {verb} on struct {message.object_id}"
        )
        refuse(1800, told)
    return zeros


def _accepted(changes: Changes, message: Completion, zeros: int, planet_id: str = "") -> None:
    detail = {
        "callerAddress": message.creator,
        "category": _VERBS[message.action],
        "difficulty": str(zeros),
        "objectId": message.object_id,
        "planetId": planet_id,
    }
    changes.emit("EventHashSuccess", "eventHashSuccessDetail", detail)


def _ore_done(changes: Changes, event: str, member: str, owner: Player) -> None:
    changes.emit(event, member, {"playerId": owner.id, "primaryAddress": owner.primary_address, "amount": "1"})
