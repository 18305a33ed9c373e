"""What goes wrong in the fault suite for a guild stack, and when.

As in `fault_catalogue`: a fault is ordered at a step, lasts for some blocks if it is one that lasts, and is then taken
back; what is left to chance is drawn from the run's own generator.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from common_faults import CommonScene, destroy_struct, move_anchor
from guild_stack_wire import Moment, Wire

from hashfleet.action import Action

if TYPE_CHECKING:
    from guild_stack_world import Agent, Indexer, Node


class Step(enum.Enum):
    """Where a submission stands when the fault begins."""

    #: The claim is in the ledger; there is no row.
    BEFORE_ROW = "before-row"
    #: The row is there; its number is not stored.
    ROW_MADE = "row-made"
    #: The agent is about to look.
    ROW_PENDING = "row-pending"
    ROW_CLAIMED = "row-claimed"
    #: A node was offered the transaction; the output is not written.
    ROW_SENT = "row-sent"
    BEFORE_INCLUSION = "before-inclusion"
    #: The block that holds it is committed, and not indexed.
    BEFORE_INDEX = "before-index"


@dataclass(kw_only=True)
class Scene(CommonScene):
    """What a fault may be ordered on."""

    database: psycopg.Connection[Any]
    wire: Wire
    indexer: Indexer
    agent: Agent
    node: Node
    #: Completes a work with a stranger's key; tells whether it could.
    complete: Callable[[str], bool]
    #: Objects that somebody else completed.
    others: set[str] = field(default_factory=set)


#: Orders a fault, and returns what takes it back (None: nothing, or what all have in common does).
Order = Callable[[Scene], Callable[[], None] | None]


@dataclass(frozen=True)
class Fault:
    """One row of the catalogue."""

    order: Order
    #: Blocks after which it is taken back, at least and at most.
    lasts: tuple[int, int] = (1, 12)
    #: True or False if the coordinator has to have a node, or none, for it; None: either.
    node: bool | None = None
    #: What counts that it took place: the wire, the agent, the devnet's faults; empty if ordering it is all.
    counted: str = ""
    #: A job may fail by what a node answers.
    may_refuse: bool = False


def _cut(moment: Moment, *texts: bytes) -> Order:
    def order(scene: Scene) -> None:
        scene.wire.cut(moment, scene.random.choice(texts), scene.random.randint(1, 3))

    return order


def _agent(name: str) -> Order:
    def order(scene: Scene) -> None:
        scene.agent.orders[name] += scene.random.randint(1, 2)

    return order


def _refuse(*answers: tuple[str, int]) -> Order:
    def order(scene: Scene) -> None:
        codespace, code = scene.random.choice(answers)
        scene.devnet.faults.refuse(code, codespace, "as the suite has it", times=scene.random.randint(1, 2))

    return order


def _database_down(scene: Scene) -> None:
    scene.wire.go_down()


def _agent_off(scene: Scene) -> Callable[[], None]:
    scene.agent.off = True

    def back() -> None:
        scene.agent.off = False

    return back


def _lost(scene: Scene) -> None:
    scene.devnet.faults.lose(times=scene.random.randint(1, 2))


def _late(scene: Scene) -> None:
    scene.devnet.faults.hold_back(scene.random.choice((1, 2, 5, 12, 24)), times=scene.random.randint(1, 2))


def _newest(scene: Scene) -> int | None:
    rows = scene.agent.rows()
    return int(rows[-1]["id"]) if rows else None


def _deleted(scene: Scene) -> None:
    scene.database.execute("DELETE FROM signer.tx WHERE id = %s", (_newest(scene),))


def _error(scene: Scene) -> None:
    """An operator ends a row that cannot land by itself, or thinks so."""
    number = _newest(scene)
    if number is not None:
        scene.database.execute("SELECT signer.transaction_error(%s, 'ended by hand')", (number,))


def _index_lags(scene: Scene) -> Callable[[], None]:
    scene.indexer.behind = scene.random.randint(1, 6)

    def back() -> None:
        scene.indexer.behind = 0

    return back


def _index_halts(scene: Scene) -> Callable[[], None]:
    scene.indexer.halted = True

    def back() -> None:
        scene.indexer.halted = False

    return back


def _silence(scene: Scene) -> Callable[[], None]:
    scene.indexer.silent = 1000

    def back() -> None:
        scene.indexer.silent = 0

    return back


def _completed(scene: Scene) -> None:
    """Not ore: its next puzzle would take days."""
    once = sorted(name for name, action in scene.works.items() if action in (Action.BUILD, Action.RAID))
    if once and scene.complete(object_id := scene.random.choice(once)):
        scene.others.add(object_id)


def _moved(scene: Scene) -> None:
    move_anchor(scene)


def _sequence_used(scene: Scene) -> None:
    for address in scene.agent._keys:
        scene.devnet.use_sequence(address, scene.random.randint(1, 3), evict=scene.random.random() < 0.5)


def _node_down(scene: Scene) -> Callable[[], None]:
    scene.node.down = True

    def back() -> None:
        scene.node.down = False

    return back


def _node_lags(scene: Scene) -> None:
    lag = scene.random.choice((scene.devnet.faults.fall_behind, scene.devnet.faults.lag_index))
    lag(scene.random.randint(1, 10))


def _nothing(_: Scene) -> None: ...


_ROW = (b"signer.tx_", b"COMMIT", b"currval")

FAULTS: dict[str, Fault] = {
    "row-cut-before": Fault(_cut(Moment.BEFORE, *_ROW), counted="wire"),
    "row-cut-after": Fault(_cut(Moment.AFTER, *_ROW), counted="wire"),
    "row-unanswered": Fault(_cut(Moment.NO_ANSWER, *_ROW), counted="wire"),
    "query-cut-before": Fault(_cut(Moment.BEFORE, b"SELECT"), counted="wire"),
    "query-cut-after": Fault(_cut(Moment.AFTER, b"SELECT"), counted="wire"),
    "database-down": Fault(_database_down, counted="wire"),
    "agent-off": Fault(_agent_off, lasts=(1, 40)),
    "agent-crashes-claimed": Fault(_agent("crash-claimed"), counted="agent"),
    "agent-crashes-sent": Fault(_agent("crash-sent"), counted="agent"),
    "agent-fails": Fault(_agent("fails"), counted="agent"),
    "agent-writes-nothing": Fault(_agent("no-output"), counted="agent"),
    "agent-writes-garbage": Fault(_agent("garbled"), counted="agent"),
    "refused-for-now": Fault(
        _refuse(("sdk", 32), ("sdk", 20), ("structs-ante", 2040), ("structs-ante", 2041), ("undefined", 1)),
        counted="refuse",
    ),
    "refused-as-known": Fault(_refuse(("sdk", 19)), counted="refuse"),
    "refused": Fault(
        _refuse(("sdk", 13), ("sdk", 11), ("structs-ante", 2050), ("structs", 1800), ("structs", 1002)),
        counted="refuse",
    ),
    "refused-for-good": Fault(_refuse(("structs", 1250), ("structs", 1203)), counted="refuse", may_refuse=True),
    "silent-drop": Fault(_lost, counted="lose"),
    "late-inclusion": Fault(_late, lasts=(1, 30), counted="hold_back"),
    "sequence-used": Fault(_sequence_used),
    "row-deleted": Fault(_deleted),
    "row-error": Fault(_error),
    "index-lags": Fault(_index_lags),
    "index-halts": Fault(_index_halts),
    "notifications-lost": Fault(_silence),
    "completed-by-another": Fault(_completed),
    "object-gone": Fault(destroy_struct),
    "anchor-moved": Fault(_moved),
    "node-down": Fault(_node_down, node=True),
    "node-lags": Fault(_node_lags, node=True),
    "no-node": Fault(_nothing, node=False),
}
