"""SHA-256 over one space as a graph of 32-bit operations, each marked with the loop in which it must be computed.

A search is two nested loops: over *lanes*, of which a vector holds several, and over *rows*, which all lanes share.
What depends on the lane alone is computed once per lane, what depends on the row alone once per row, and only the rest
once per hash. The graph finds that out by itself: the algorithm stands here once, as FIPS 180-4 writes it, and each
operation's stage is the union of its operands' stages.

================= ========================== =========================
shape             a lane is                  a row is
================= ========================== =========================
T `shared_graph`  a chaining value           a tail: word 12, w16..w63
S `short_graph`   the varying word 12 or 13  the digits before it
================= ========================== =========================

Left per hash, where any logic function of three words is one operation: T 815 (51 rounds, no schedule), S 1,233 with
word 12 and 1,205 with word 13.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hashfleet.message import ROUND_CONSTANTS

_MASK = 0xFFFFFFFF


class Stage(enum.IntFlag):
    """Which loop variables a value depends on."""

    #: Known when the search starts.
    FIXED = 0
    LANE = 1
    ROW = 2
    HASH = 3


class Op(enum.Enum):
    """One operation on 32-bit words."""

    INPUT = "input"
    ADD = "add"
    #: Rotation and shift to the right; the second operand is a number of bits.
    ROTATE = "rotate"
    SHIFT = "shift"
    #: Of three words: x ^ y ^ z; y where x is 1, else z; the majority.
    XOR3 = "xor3"
    CHOOSE = "choose"
    MAJORITY = "majority"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """The result of one operation."""

    op: Op
    operands: tuple[Word, ...]
    stage: Stage
    #: Of an input only.
    name: str = ""


#: A value of the graph; an int is known when the graph is built.
Word = Node | int


@dataclass(frozen=True, slots=True)
class Graph:
    """How to compute the first digest word of one hash."""

    #: "T", "S12" or "S13".
    shape: str
    #: Names of the inputs, in the order in which they are passed.
    inputs: tuple[str, ...]
    #: The inputs that change from lane to lane and from row to row.
    lane_digits: str
    row_digits: str
    digest: Node
    #: Every node that the digest needs, operands before the nodes that use them.
    nodes: tuple[Node, ...]
    #: Values that are computed once per lane, in the order in which a lane's slots hold them.
    lane_slots: tuple[Node, ...]
    #: The same per row.
    row_slots: tuple[Node, ...]
    #: The eight words of the state before each round of the last block, and after the last round.
    rounds: tuple[tuple[Word, ...], ...]

    def of_stage(self, *stages: Stage) -> tuple[Node, ...]:
        """The operations of these stages, inputs left out."""
        return tuple(node for node in self.nodes if node.stage in stages and node.op is not Op.INPUT)


def shared_graph() -> Graph:
    """Shape T. Inputs: state0..7, lane0..15 (15 is the lane's digits), tail0..15 (12 is the row's digits).

    The words of the tail block depend on no lane and, but for word 12, on no row: FIXED, so that sums with either are
    computed with it. Rounds 0 to 11 of the tail block and the whole lane block are per lane.
    """
    state = [_input(f"state{i}", Stage.LANE) for i in range(8)]
    lane = [_input(f"lane{i}", Stage.LANE) for i in range(16)]
    tail = [_input(f"tail{i}", Stage.ROW if i == 12 else Stage.FIXED) for i in range(16)]
    chained, _ = _compress(state, lane)
    return _finished("T", [*state, *lane, *tail], "lane15", "tail12", *_compress(chained, tail))


def short_graph(word: int) -> Graph:
    """Shape S with the varying word `word`. Inputs: state0..7, block0..15 (`word` - 1 is the row's digits)."""
    state = [_input(f"state{i}", Stage.ROW) for i in range(8)]
    block = [_input(f"block{i}", Stage.LANE if i == word else Stage.ROW) for i in range(16)]
    return _finished(f"S{word}", [*state, *block], f"block{word}", f"block{word - 1}", *_compress(state, block))


def evaluate(graph: Graph, inputs: Mapping[str, int]) -> int:
    """The first digest word, computed with Python's integers: what the emitted code is held against."""
    values: dict[Node, int] = {}

    def value(word: Word) -> int:
        return word if isinstance(word, int) else values[word]

    for node in graph.nodes:
        if node.op is Op.INPUT:
            values[node] = inputs[node.name]
        else:
            values[node] = _ARITHMETIC[node.op](*(value(operand) for operand in node.operands))
    return values[graph.digest]


def _compress(state: Sequence[Word], block: Sequence[Word]) -> tuple[list[Word], list[tuple[Word, ...]]]:
    """SHA-256's compression function (FIPS 180-4, 6.2.2); also the state's words before each round and at the end."""
    w = list(block)
    a, b, c, d, e, f, g, h = state
    rounds: list[tuple[Word, ...]] = [(a, b, c, d, e, f, g, h)]
    for i in range(64):
        if i >= 16:
            s1 = _xor3(_rotate(w[i - 2], 17), _rotate(w[i - 2], 19), _shift(w[i - 2], 10))
            s0 = _xor3(_rotate(w[i - 15], 7), _rotate(w[i - 15], 18), _shift(w[i - 15], 3))
            w.append(_add(w[i - 16], s0, w[i - 7], s1))
        # e becomes known last, so what hangs on it comes last in the sum.
        t1 = _add(
            h, _add(w[i], ROUND_CONSTANTS[i]), _choose(e, f, g), _xor3(_rotate(e, 6), _rotate(e, 11), _rotate(e, 25))
        )
        t2 = _add(_xor3(_rotate(a, 2), _rotate(a, 13), _rotate(a, 22)), _majority(a, b, c))
        a, b, c, d, e, f, g, h = _add(t2, t1), a, b, c, _add(d, t1), e, f, g
        rounds.append((a, b, c, d, e, f, g, h))
    return [_add(x, y) for x, y in zip((a, b, c, d, e, f, g, h), state, strict=True)], rounds


def _input(name: str, stage: Stage) -> Node:
    return Node(Op.INPUT, (), stage, name)


def _stage(word: Word) -> Stage:
    return Stage.FIXED if isinstance(word, int) else word.stage


def _apply(op: Op, *operands: Word) -> Word:
    stage = Stage.FIXED
    for operand in operands:
        stage |= _stage(operand)
    return Node(op, operands, stage)


def _rotate(x: Word, bits: int) -> Word:
    return _apply(Op.ROTATE, x, bits)


def _shift(x: Word, bits: int) -> Word:
    return _apply(Op.SHIFT, x, bits)


def _xor3(x: Word, y: Word, z: Word) -> Word:
    return _apply(Op.XOR3, x, y, z)


def _choose(x: Word, y: Word, z: Word) -> Word:
    return _apply(Op.CHOOSE, x, y, z)


def _majority(x: Word, y: Word, z: Word) -> Word:
    return _apply(Op.MAJORITY, x, y, z)


def _add(*terms: Word) -> Word:
    """The sum, associated so that as little as possible is left for each hash.

    Terms are summed within their stage first, and the last term that changes per hash is added last: it is the one
    that is known last. If nothing but sums of a lane's and a row's value change per hash, they are taken apart again:
    d + (lane + row) is (d + lane) + row, where d + lane is computed once per lane.
    """
    if all(_is_mixed(term) for term in terms if _stage(term) is Stage.HASH):
        terms = tuple(part for term in terms for part in (_operands(term) if _is_mixed(term) else (term,)))
    of_stage: dict[Stage, list[Word]] = {stage: [] for stage in (Stage.FIXED, Stage.LANE, Stage.ROW, Stage.HASH)}
    for term in terms:
        of_stage[_stage(term)].append(term)
    home = of_stage[Stage.LANE] or of_stage[Stage.ROW]
    if home:
        home += of_stage.pop(Stage.FIXED)
    per_hash = of_stage.pop(Stage.HASH)
    outer = [_sum(group) for group in of_stage.values() if group]
    return _sum([*per_hash[:1], *outer, *per_hash[1:]])


def _is_mixed(word: Word) -> bool:
    return (
        isinstance(word, Node)
        and word.op is Op.ADD
        and {_stage(operand) for operand in word.operands} == {Stage.LANE, Stage.ROW}
    )


def _operands(word: Word) -> tuple[Word, ...]:
    return word.operands if isinstance(word, Node) else ()


def _sum(terms: Sequence[Word]) -> Word:
    known = sum(term for term in terms if isinstance(term, int)) & _MASK
    nodes: list[Word] = [term for term in terms if isinstance(term, Node)]
    if known or not nodes:
        nodes.append(known)
    return functools.reduce(lambda x, y: _apply(Op.ADD, x, y), nodes)


def _finished(
    shape: str,
    inputs: Sequence[Node],
    lane_digits: str,
    row_digits: str,
    state: Sequence[Word],
    rounds: Sequence[tuple[Word, ...]],
) -> Graph:
    """Gather what the digest's first word needs, and find what must be kept from the outer loops."""
    digest = state[0]
    if not isinstance(digest, Node):
        raise TypeError("the digest depends on no input")
    nodes = _in_order(digest)
    kept = {
        operand: None
        for node in nodes
        if node.stage is Stage.HASH
        for operand in node.operands
        if isinstance(operand, Node) and operand.stage is not Stage.HASH
    }
    return Graph(
        shape,
        tuple(node.name for node in inputs),
        lane_digits,
        row_digits,
        digest,
        nodes,
        tuple(node for node in kept if node.stage is Stage.LANE),
        tuple(node for node in kept if node.stage is not Stage.LANE),
        tuple(rounds),
    )


def _in_order(last: Node) -> tuple[Node, ...]:
    """Everything `last` needs, operands first, in the order of the algorithm (a depth of thousands: no recursion)."""
    done: dict[Node, None] = {}
    waiting: list[Node] = [last]
    while waiting:
        node = waiting[-1]
        missing = [operand for operand in node.operands if isinstance(operand, Node) and operand not in done]
        if missing:
            waiting += reversed(missing)
        else:
            done[waiting.pop()] = None
    return tuple(done)


def _rotr(x: int, bits: int) -> int:
    return (x >> bits | x << (32 - bits)) & _MASK


_ARITHMETIC: dict[Op, Callable[..., int]] = {
    Op.ADD: lambda x, y: (x + y) & _MASK,
    Op.ROTATE: _rotr,
    Op.SHIFT: lambda x, bits: x >> bits,
    Op.XOR3: lambda x, y, z: x ^ y ^ z,
    Op.CHOOSE: lambda x, y, z: x & y | ~x & z & _MASK,
    Op.MAJORITY: lambda x, y, z: x & y | x & z | y & z,
}
