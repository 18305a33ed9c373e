"""In which order the operations of the streams stand in the inner loop, and which stretch of it is a loop of its own.

A CPU takes instructions in order, and looks only some hundred ahead for those that need not wait. So that it finds one
for each port in every cycle, an operation stands as far as possible behind those it needs, and no farther, lest vectors
fill the registers while they wait: each operation as late as it may be without delaying the digest, if all take equally
long, and the streams half a round apart::

    stream 0   rotate e .. | xor3 e   | add h .. | add d   | rotate e ..
    stream 1               | rotate e | xor3 e   | add h   | add d ..
                  --- time, a step each: all operations of a step, of every stream, stand side by side

Rounds without a schedule differ in nothing but the row's words, so that this order repeats itself every eight rounds,
after which each word is in the register where it was. Eight rounds are then written once and run several times: 10 KB
of machine code instead of 30 KB with four streams, which lie in the CPU's cache of decoded instructions in any place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cpu_fallback.graph import Graph, Node, Op, Stage

#: Rounds after which the eight words of the state are in the same places again.
PERIOD_ROUNDS = 8
#: Steps between the first stream and the last one, had there one more: half of a round's critical path.
_SPREAD = 2

#: An operation of one of the streams.
Step = tuple[Node, int]


@dataclass(frozen=True, slots=True)
class Order:
    """First `before`, then `body` so many times, then `after`."""

    before: tuple[Step, ...]
    body: tuple[Step, ...] = ()
    times: int = 0
    after: tuple[Step, ...] = ()
    #: Node -> what it is one pass later, for the values that the body takes over from the pass before it.
    next_pass: Mapping[Node, Node] = field(default_factory=dict)
    #: By how many of the row's slots the body's words move on from pass to pass.
    row_stride: int = 0

    def after_passes(self, node: Node, passes: int) -> Node:
        """What a value of the first pass is that many passes later."""
        for _ in range(passes):
            node = self.next_pass[node]
        return node


def order_of(graph: Graph, streams: int) -> Order:
    """The order for so many vectors hashed side by side."""
    following, stride = _following(graph)
    late = _latest(graph, choose_steps=1 if following else 2)
    roots = _roots(graph, following)
    place = {node: number for number, node in enumerate(graph.nodes)}

    def time(step: Step) -> int:
        return late[step[0]] * streams + _SPREAD * step[1]

    steps = [(node, stream) for node in graph.of_stage(Stage.HASH) for stream in range(streams)]
    # Of one step, operations that follow each other from period to period must stand in the same order.
    steps.sort(key=lambda step: (time(step), step[1], place[roots[step[0]]]))
    return _rolled(steps, following, stride) or Order(tuple(steps))


def _latest(graph: Graph, choose_steps: int) -> dict[Node, int]:
    """When each operation must begin at the latest, counted in steps before the digest (0).

    What chooses takes `choose_steps`. Two make five steps of a round's four, which suits the longer rounds of S
    (AVX-512 2 %, AVX2 18 % faster), where it ends the need for g's register early.
    """
    late = {graph.digest: 0}
    for node in reversed(graph.of_stage(Stage.HASH)):
        for operand in node.operands:
            if isinstance(operand, Node) and operand.stage is Stage.HASH:
                steps = choose_steps if operand.op is Op.CHOOSE else 1
                late[operand] = min(late.get(operand, 0), late[node] - steps)
    return late


def _following(graph: Graph) -> tuple[dict[Node, Node], int]:
    """Each operation whose counterpart PERIOD_ROUNDS later does the same with the counterparts of its operands.

    And by how many slots the row's words move on meanwhile. From the last rounds backwards, as far as they are alike.
    """
    slots = {slot: number for number, slot in enumerate(graph.row_slots)}
    needed = set(graph.nodes)
    following: dict[Node, Node] = {}
    stride = 0
    for first in range(len(graph.rounds) - PERIOD_ROUNDS - 2, -1, -1):
        now, then = graph.rounds[first], graph.rounds[first + PERIOD_ROUNDS]
        known: dict[Node, Node] = {}
        for x, y in zip(now, then, strict=True):
            if not (isinstance(x, Node) and isinstance(y, Node) and x.stage is y.stage is Stage.HASH):
                return following, stride
            known[x] = y
        found = dict(known)
        pairs = list(zip(graph.rounds[first + 1], graph.rounds[first + PERIOD_ROUNDS + 1], strict=True))
        while pairs:
            x, y = pairs.pop()
            if x is y or (isinstance(x, Node) and found.get(x) is y):
                continue
            if not (isinstance(x, Node) and isinstance(y, Node)) or x in found:
                return following, stride
            if x in slots and y in slots:
                stride = stride or slots[y] - slots[x]
                if slots[y] - slots[x] != stride:
                    return following, stride
                continue
            if x.op is not y.op or not (x.stage is y.stage is Stage.HASH):
                return following, stride
            found[x] = y
            pairs += zip(x.operands, y.operands, strict=True)
        # Of the last round's words the digest needs but one.
        following.update((x, y) for x, y in found.items() if x not in known and y in needed)
    return following, stride


def _roots(graph: Graph, following: Mapping[Node, Node]) -> dict[Node, Node]:
    """The first node of each chain of nodes that follow each other."""
    roots: dict[Node, Node] = {}
    for node in graph.nodes:
        root = roots.setdefault(node, node)
        if node in following:
            roots[following[node]] = root
    return roots


def _rolled(steps: Sequence[Step], following: Mapping[Node, Node], stride: int) -> Order | None:
    """The order with its longest periodic stretch as a loop; None if there is none."""
    at = {step: number for number, step in enumerate(steps)}
    for first, (node, stream) in enumerate(steps):
        if node not in following:
            continue
        length = at[following[node], stream] - first
        # Every step of a pass is followed by one that stands as far into the next pass.
        end = first
        while end < len(steps):
            node, stream = steps[end]
            if node not in following or at[following[node], stream] != end + length:
                break
            end += 1
        times = (end - first) // length + 1
        if end - first >= length and _closed(steps, at, first, length, times, following):
            body = range(first, first + length)
            return Order(
                tuple(steps[:first]),
                tuple(steps[number] for number in body),
                times,
                tuple(steps[first + length * times :]),
                following,
                stride,
            )
    return None


def _closed(
    steps: Sequence[Step],
    at: Mapping[Step, int],
    first: int,
    length: int,
    times: int,
    following: Mapping[Node, Node],
) -> bool:
    """Whether the values that passes and what comes after them take from before are those of the pass before."""
    behind = first + length * times
    leading = {after: node for node, after in following.items()}
    for number in (*range(first, first + length), *range(behind, len(steps))):
        node, stream = steps[number]
        for operand in node.operands:
            if not isinstance(operand, Node) or (operand, stream) not in at or at[operand, stream] >= behind:
                continue
            value = operand
            if number >= behind:
                for _ in range(times):
                    if value not in leading:
                        return False
                    value = leading[value]
            elif at[operand, stream] >= first:
                continue
            if at[value, stream] >= first or value not in following:
                return False
            if not first <= at[following[value], stream] < first + length:
                return False
    return True
