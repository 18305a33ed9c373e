"""What goes wrong in the fault suite, and when: each fault as an order to the devnet, each step as a place in the code.

A fault is ordered at a step, lasts for some blocks if it is one that lasts, and is then taken back. All that is left to
chance (how often, for how long, which object) is drawn from the run's own generator. Where the coordinator has two
nodes, only one of them has the fault, if it is one of a node.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from common_faults import CommonScene, destroy_struct, move_anchor

from devnet.charter import CATEGORY
from devnet.doors import Doors
from devnet.faults import Door, Faults, Moment
from devnet.node import Devnet
from devnet.state import Guild
from hashfleet.action import Action


class Step(enum.Enum):
    """Where a submission stands when the fault begins."""

    BEFORE_ACCOUNT = "before-account"
    #: The claim is taken in the ledger; nothing is signed.
    BEFORE_SIGNING = "before-signing"
    BEFORE_BROADCAST = "before-broadcast"
    AFTER_BROADCAST = "after-broadcast"
    #: The transaction is in the mempool, and the next block is about to be made.
    BEFORE_INCLUSION = "before-inclusion"
    #: The block that holds it is committed, and nobody was told of it.
    BEFORE_SIGHT = "before-sight"


class Way(enum.Enum):
    """How the coordinator reaches the node."""

    GRPC = "grpc"
    REST = "rest"
    #: Both as two endpoints of one failover client, as `hashfleet coordinator` has it.
    FAILOVER = "failover"
    #: Two nodes of one chain as two endpoints of a failover client; the faults are those of one of them.
    TWO_NODES = "two-nodes"


@dataclass(kw_only=True)
class Scene(CommonScene):
    """What a fault may be ordered on."""

    #: The node at which it goes wrong.
    node: Doors
    #: Addresses of the signing keys; the first one owns what the others were only granted.
    addresses: tuple[str, ...]
    #: A player who races for charters.
    rival: str

    @property
    def faults(self) -> Faults:
        return self.node.faults


#: Orders a fault, and returns what takes it back (None: `clear` does).
Order = Callable[[Scene], Awaitable[Callable[[], None] | None]]


@dataclass(frozen=True)
class Fault:
    """One row of the catalogue."""

    order: Order
    #: Name under which the devnet counts that it took place; empty if ordering it is all there is to it.
    counted: str = ""
    ways: tuple[Way, ...] = (Way.GRPC, Way.REST, Way.FAILOVER, Way.TWO_NODES)
    #: Blocks after which it is taken back, at least and at most.
    lasts: tuple[int, int] = (1, 12)
    #: Ordering it takes a while.
    takes_a_while: bool = False
    #: A coordinator that starts meanwhile ends at once, as it should.
    tells_other_chain: bool = False
    #: No key may sign for some works meanwhile.
    takes_rights: bool = False
    #: There has to be a charter among the works.
    needs_charter: bool = False

    def plain(self) -> bool:
        """Whether it can be ordered beside another."""
        return not (self.takes_a_while or self.tells_other_chain or self.takes_rights)


def _drop(moment: Moment, door: Door) -> Order:
    async def order(scene: Scene) -> None:
        scene.faults.drop(moment, doors={door}, times=scene.random.randint(1, 4))

    return order


def _drop_broadcasts(moment: Moment) -> Order:
    """The one call that must not be taken for not made."""

    async def order(scene: Scene) -> None:
        scene.faults.drop(moment, calls={"BroadcastTx"}, times=scene.random.randint(1, 4))

    return order


async def _late(scene: Scene) -> None:
    # Up to past the timeout of the lane (20 blocks).
    scene.faults.hold_back(scene.random.choice((1, 2, 3, 5, 8, 19, 20, 24)), times=scene.random.randint(1, 3))


async def _mempool_full(scene: Scene) -> None:
    scene.faults.fill_mempool(times=scene.random.choice((1, 2, 5, None)))


async def _lost(scene: Scene) -> None:
    scene.faults.lose(times=scene.random.randint(1, 3))


async def _sequence_used(scene: Scene) -> None:
    evict = scene.random.random() < 0.5
    scene.devnet.use_sequence(scene.addresses[0], scene.random.randint(1, 3), evict=evict)


async def _stale(scene: Scene) -> None:
    scene.faults.fall_behind(scene.random.randint(1, 10))


async def _shuffled(scene: Scene) -> None:
    scene.faults.shuffle_blocks(scene.random.randint(2, 4))


async def _repeated(scene: Scene) -> None:
    scene.faults.repeat_blocks(scene.random.randint(0, 3), times=None)


async def _skipped(scene: Scene) -> None:
    scene.faults.skip_blocks(times=scene.random.randint(1, 4))


async def _other_chain(scene: Scene) -> None:
    """The connection is lost, and what answers at the address afterwards is another chain."""
    await scene.devnet.restart(scene.node)
    scene.faults.tell_chain_id("other-chain-7")


async def _other_chain_at_once(scene: Scene) -> None:
    scene.faults.tell_chain_id("other-chain-7")


async def _slow(scene: Scene) -> None:
    seconds = scene.random.choice((0.005, 0.02, float("inf")))
    scene.faults.slow_down(seconds, times=scene.random.randint(1, 3))


async def _slow_broadcast(scene: Scene) -> None:
    seconds = scene.random.choice((0.02, float("inf")))
    scene.faults.slow_down(seconds, calls={"BroadcastTx"}, times=scene.random.randint(1, 2))


async def _index_lags(scene: Scene) -> None:
    scene.faults.lag_index(scene.random.randint(1, 5))


async def _isolated(scene: Scene) -> None:
    scene.faults.isolate(times=scene.random.randint(1, 3))


async def _restarted(scene: Scene) -> None:
    await scene.devnet.restart(scene.node, blocks_meanwhile=scene.random.randint(0, 3))


async def _anchor_moved(scene: Scene) -> None:
    if move_anchor(scene) is Action.CHARTER:
        _tell_of_charter(scene.devnet)


def _tell_of_charter(devnet: Devnet) -> None:
    """What a block says in which somebody brought a charter's proof."""
    with devnet.chain.edit() as changes:
        changes.emit("EventHashSuccess", "eventHashSuccessDetail", {"category": CATEGORY, "objectId": "0-99"})


async def _charter_taken(scene: Scene) -> None:
    """Somebody else founds a guild, and with it the puzzle of all charters begins anew."""
    with scene.devnet.chain.edit() as changes:
        number = len(changes.state.guilds) + 1
        founder = changes.state.players[scene.rival]
        guild = Guild(f"0-{number}", founder.id, "rival.example", "3-1", "", founder.primary_address)
        changes.put_guild(guild)
        changes.set_charter_anchor()
    _tell_of_charter(scene.devnet)


async def _gone(scene: Scene) -> None:
    destroy_struct(scene)


async def _right_lost(scene: Scene) -> Callable[[], None]:
    """The address loses its bits; the player whose address it is could give them back, and does."""
    address = scene.random.choice(scene.addresses)
    before = scene.devnet.chain.state.addresses[address]
    with scene.devnet.chain.edit() as changes:
        changes.put_address(replace(before, permissions=0))

    def give_back() -> None:
        with scene.devnet.chain.edit() as changes:
            changes.put_address(before)

    return give_back


async def _grants_lost(scene: Scene) -> Callable[[], None]:
    """The owners take back what they had granted, and grant it again."""
    before = dict(scene.devnet.chain.state.grants)

    def put(permissions: Callable[[int], int]) -> None:
        with scene.devnet.chain.edit() as changes:
            for grant, bits in before.items():
                owner, _, player = grant.partition("@")
                changes.put_grant(owner, player, permissions(bits))

    put(lambda bits: 0)
    return lambda: put(lambda bits: bits)


_GRPC, _REST = (Way.GRPC, Way.FAILOVER, Way.TWO_NODES), (Way.REST, Way.REST, Way.TWO_NODES)
#: Faults of the chain itself, which are the same at whatever node.
_ANY = (Way.GRPC, Way.GRPC, Way.REST, Way.FAILOVER)

FAULTS: dict[str, Fault] = {
    "drop-grpc-before": Fault(_drop(Moment.BEFORE, Door.GRPC), "drop", _GRPC),
    "drop-grpc-after": Fault(_drop(Moment.AFTER, Door.GRPC), "drop", _GRPC),
    "drop-rest-before": Fault(_drop(Moment.BEFORE, Door.REST), "drop", _REST),
    "drop-rest-after": Fault(_drop(Moment.AFTER, Door.REST), "drop", _REST),
    "drop-websocket-before": Fault(_drop(Moment.BEFORE, Door.WEBSOCKET), "drop"),
    "drop-websocket-after": Fault(_drop(Moment.AFTER, Door.WEBSOCKET), "drop"),
    "drop-broadcast-before": Fault(_drop_broadcasts(Moment.BEFORE), "drop"),
    "drop-broadcast-after": Fault(_drop_broadcasts(Moment.AFTER), "drop"),
    "late-inclusion": Fault(_late, "hold_back"),
    "mempool-full": Fault(_mempool_full, "fill_mempool"),
    "silent-drop": Fault(_lost, "lose"),
    "sequence-used": Fault(_sequence_used, ways=_ANY),
    "stale-node": Fault(_stale),
    "blocks-out-of-order": Fault(_shuffled, "shuffle_blocks"),
    "blocks-repeated": Fault(_repeated, "repeat_blocks"),
    "blocks-skipped": Fault(_skipped, "skip_blocks"),
    "other-chain": Fault(_other_chain_at_once, tells_other_chain=True),
    "other-chain-after-reconnect": Fault(_other_chain, takes_a_while=True, tells_other_chain=True),
    "slow-answers": Fault(_slow, "slow_down"),
    "slow-broadcast": Fault(_slow_broadcast, "slow_down"),
    "index-lag": Fault(_index_lags),
    "gossip-to-no-one": Fault(_isolated, "isolate", lasts=(1, 30)),
    "node-restart": Fault(_restarted, takes_a_while=True),
    "anchor-moved": Fault(_anchor_moved, ways=_ANY),
    "charter-taken": Fault(_charter_taken, ways=_ANY, needs_charter=True),
    "object-gone": Fault(_gone, ways=_ANY),
    "permission-withdrawn": Fault(_right_lost, ways=_ANY, takes_rights=True),
    "grants-withdrawn": Fault(_grants_lost, ways=_ANY, takes_rights=True),
}
#: Any two that can be ordered beside each other, both at the step.
TWO_AT_ONCE = "two-at-once"
NAMES = (*FAULTS, TWO_AT_ONCE)


def drawn(name: str, rng: random.Random) -> tuple[str, ...]:
    """The faults that a run of this name orders."""
    if name != TWO_AT_ONCE:
        return (name,)
    while True:
        one, other = rng.sample([each for each, fault in FAULTS.items() if fault.plain()], 2)
        if set(FAULTS[one].ways) & set(FAULTS[other].ways):
            return one, other


def way_of(faults: tuple[Fault, ...], rng: random.Random) -> Way:
    """A way on which all of them can take place."""
    first, *others = faults
    return rng.choice([way for way in first.ways if all(way in other.ways for other in others)])
