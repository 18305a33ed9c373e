"""LLVM assembly of a search kernel, from the graph of its shape; pure text, compiled by jit.py.

One module holds three functions. `n` counts vectors in `lanes`, groups of `streams` vectors in `search`::

    void lanes(ptr inputs, ptr digits, i64 n, ptr slots)    per lane, vectors:  slots[n][lane slot] of lanes x i32
    void rows(ptr inputs, ptr digits, i64 n, ptr slots)     per row, scalars:   slots[n][row slot] of i32
    i64 search(ptr lane_slots, i64 groups, ptr row_slots, i64 rows, i32 mask, ptr hits)

`search` hashes every row with every lane and writes {i32 group, i32 row, i64 lanes} for each group of lanes of which at
least one has a digest whose first word is 0 under the mask (bit i: lane i of the group). It returns their number; the
caller provides room for groups * rows of them, so nothing overflows.

The inner loop is straight code but for the passes over the body of order.py, and one branch, taken back but for a hit.
Rows are taken in tiles that stay in the first-level cache while all groups pass over them; a lane's slots are then read
once per tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from cpu_fallback.graph import Graph, Node, Op, Word
from cpu_fallback.order import Order, Step, order_of

#: Rows of a tile: 128 * 49 slots of 4 bytes are 25 KB, of a first-level cache of 32 KB or more.
TILE_ROWS = 128
#: One {i32, i32, i64} of `search`.
HIT_BYTES = 16

_LOGIC_TABLE = {Op.XOR3: 0x96, Op.CHOOSE: 0xCA, Op.MAJORITY: 0xE8}


@dataclass(frozen=True, slots=True)
class VectorForm:
    """How hashes are laid into vectors."""

    #: 32-bit lanes of a vector: 16, 8 or 4.
    lanes: int
    #: Vectors that are hashed side by side, so that one waits less for the results of the other's last instructions.
    streams: int
    #: Whether any function of three words is one instruction (AVX-512's vpternlogd).
    ternary: bool

    @property
    def group(self) -> int:
        """Lanes that the inner loop hashes at a time: at most 64, the bits of a hit."""
        return self.lanes * self.streams


def emit_module(graph: Graph, form: VectorForm) -> str:
    """The whole module."""
    functions = [_emit_lanes(graph, form), _emit_rows(graph), _emit_search(graph, form)]
    declarations = sorted({line for function in functions for line in function.declarations})
    return "\n".join([*declarations, *(line for function in functions for line in function.lines), ""])


class _Function:
    """The text of one function; every value it computes has the same type, a vector or i32."""

    def __init__(self, lanes: int, ternary: bool = False) -> None:
        self.lines: list[str] = []
        self.declarations: set[str] = set()
        self.type = f"<{lanes} x i32>" if lanes > 1 else "i32"
        self._lanes = lanes
        self._ternary = ternary
        self._names = 0

    def line(self, text: str) -> None:
        self.lines.append(text)

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def let(self, text: str) -> str:
        """Name the result of an instruction."""
        self._names += 1
        name = f"%v{self._names}"
        self.lines.append(f"  {name} = {text}")
        return name

    def constant(self, value: int) -> str:
        return f"splat (i32 {value})" if self._lanes > 1 else str(value)

    def splat(self, scalar: str) -> str:
        if self._lanes == 1:
            return scalar
        first = self.let(f"insertelement {self.type} poison, i32 {scalar}, i64 0")
        return self.let(f"shufflevector {self.type} {first}, {self.type} poison, <{self._lanes} x i32> zeroinitializer")

    def load_word(self, pointer: str, index: int) -> str:
        """A word that all lanes share."""
        at = self.let(f"getelementptr i32, ptr {pointer}, i64 {index}")
        return self.splat(self.let(f"load i32, ptr {at}, align 4"))

    def apply(self, node: Node, value: Callable[[Word], str]) -> str:
        """One operation of the graph."""
        kind = self.type
        if node.op in (Op.ROTATE, Op.SHIFT):
            word, bits = node.operands
            x = value(word)
            assert isinstance(bits, int)
            if node.op is Op.SHIFT:
                return self.let(f"lshr {kind} {x}, {self.constant(bits)}")
            suffix = f"v{self._lanes}i32" if self._lanes > 1 else "i32"
            self.declarations.add(f"declare {kind} @llvm.fshr.{suffix}({kind}, {kind}, {kind})")
            return self.let(f"call {kind} @llvm.fshr.{suffix}({kind} {x}, {kind} {x}, {kind} {self.constant(bits)})")
        operands = [value(operand) for operand in node.operands]
        if node.op is Op.ADD:
            return self._binary("add", *operands)
        x, y, z = operands
        if self._ternary:
            name = f"@llvm.x86.avx512.pternlog.d.{32 * self._lanes}"
            self.declarations.add(f"declare {kind} {name}({kind}, {kind}, {kind}, i32 immarg)")
            return self.let(f"call {kind} {name}({kind} {x}, {kind} {y}, {kind} {z}, i32 {_LOGIC_TABLE[node.op]})")
        if node.op is Op.XOR3:
            return self._binary("xor", self._binary("xor", x, y), z)
        if node.op is Op.CHOOSE:
            return self._binary("xor", self._binary("and", self._binary("xor", y, z), x), z)
        # y ^ z of this round is x ^ y of the last one: LLVM computes it once, so that three operations remain.
        return self._binary("xor", self._binary("and", self._binary("xor", x, y), self._binary("xor", y, z)), y)

    def _binary(self, instruction: str, x: str, y: str) -> str:
        return self.let(f"{instruction} {self.type} {x}, {y}")


def _emit_lanes(graph: Graph, form: VectorForm) -> _Function:
    function = _Function(form.lanes, form.ternary)
    function.line("define void @lanes(ptr noalias %inputs, ptr noalias %digits, i64 %n, ptr noalias %slots) {")
    _emit_table_loop(function, graph, graph.lane_slots, graph.lane_digits, form.lanes)
    return function


def _emit_rows(graph: Graph) -> _Function:
    function = _Function(1)
    function.line("define void @rows(ptr noalias %inputs, ptr noalias %digits, i64 %n, ptr noalias %slots) {")
    _emit_table_loop(function, graph, graph.row_slots, graph.row_digits, 1)
    return function


def _emit_table_loop(function: _Function, graph: Graph, slots: tuple[Node, ...], digits: str, lanes: int) -> None:
    """for i in range(n): store the slots of the i-th (vector of) digits."""
    kind = function.type
    function.label("entry")
    function.line("  br label %next")
    function.label("next")
    function.line("  %i = phi i64 [ 0, %entry ], [ %i1, %next ]")
    place = function.let(f"getelementptr {kind}, ptr %digits, i64 %i")
    given = {digits: function.let(f"load {kind}, ptr {place}, align 4")}
    names: dict[Node, str] = {}

    def value(word: Word) -> str:
        return function.constant(word) if isinstance(word, int) else names[word]

    for node in _needed(graph.nodes, slots):
        if node.op is not Op.INPUT:
            names[node] = function.apply(node, value)
        elif node.name in given:
            names[node] = given[node.name]
        else:
            names[node] = function.load_word("%inputs", graph.inputs.index(node.name))
    out = function.let(f"getelementptr [{len(slots)} x {kind}], ptr %slots, i64 %i")
    for number, slot in enumerate(slots):
        place = function.let(f"getelementptr {kind}, ptr {out}, i64 {number}")
        function.line(f"  store {kind} {names[slot]}, ptr {place}, align {4 * lanes}")
    function.line("  %i1 = add i64 %i, 1")
    function.line("  %more = icmp ult i64 %i1, %n")
    function.line("  br i1 %more, label %next, label %done")
    function.label("done")
    function.line("  ret void\n}")


def _needed(nodes: Iterable[Node], wanted: Iterable[Node]) -> list[Node]:
    """Those nodes that the wanted ones are computed from, in their order."""
    ordered = list(nodes)
    needed = set(wanted)
    for node in reversed(ordered):
        if node in needed:
            needed.update(operand for operand in node.operands if isinstance(operand, Node))
    return [node for node in ordered if node in needed]


def _emit_search(graph: Graph, form: VectorForm) -> _Function:
    function = _Function(form.lanes, form.ternary)
    kind, line = function.type, function.line
    bits = f"i{form.lanes}"
    line(
        "define i64 @search(ptr noalias %lanes, i64 %groups, ptr noalias %rows, i64 %n, i32 %mask, ptr noalias %hits) "
        # Spilled vectors must not lie across two lines of the cache, as the stack happens to: up to 25 % slower.
        f"alignstack({4 * form.lanes}) {{"
    )
    function.label("entry")
    mask = function.splat("%mask")
    line("  br label %tile")
    function.label("tile")
    line("  %first = phi i64 [ 0, %entry ], [ %end, %tile_done ]")
    line("  %found0 = phi i64 [ 0, %entry ], [ %found, %tile_done ]")
    line(f"  %full = add i64 %first, {TILE_ROWS}")
    line("  %whole = icmp ult i64 %full, %n")
    line("  %end = select i1 %whole, i64 %full, i64 %n")
    line("  br label %group")
    function.label("group")
    line("  %g = phi i64 [ 0, %tile ], [ %g1, %group_done ]")
    line("  %found1 = phi i64 [ %found0, %tile ], [ %found, %group_done ]")
    line(f"  %lane = getelementptr [{form.streams * len(graph.lane_slots)} x {kind}], ptr %lanes, i64 %g")
    line("  br label %hash")

    function.label("hash")
    line("  %r = phi i64 [ %first, %group ], [ %r1, %hash_done ]")
    line("  %found2 = phi i64 [ %found1, %group ], [ %found, %hash_done ]")
    line(f"  %row = getelementptr [{len(graph.row_slots)} x i32], ptr %rows, i64 %r")
    digests = _emit_hash(function, graph, form)
    misses = ""
    for number, digest in enumerate(digests):
        masked = function.let(f"and {kind} {digest}, {mask}")
        zero = function.let(f"icmp eq {kind} {masked}, zeroinitializer")
        word = function.let(f"zext {bits} {function.let(f'bitcast <{form.lanes} x i1> {zero} to {bits}')} to i64")
        if number:
            word = function.let(f"shl i64 {word}, {number * form.lanes}")
        misses = function.let(f"or i64 {misses}, {word}") if misses else word
    line(f"  %none = icmp eq i64 {misses}, 0")
    line("  br i1 %none, label %hash_done, label %hit, !prof !0")
    function.label("hit")
    line(f"  %hit_at = getelementptr [{HIT_BYTES} x i8], ptr %hits, i64 %found2")
    line("  %hit_row = getelementptr i8, ptr %hit_at, i64 4")
    line("  %hit_lanes = getelementptr i8, ptr %hit_at, i64 8")
    line("  %g32 = trunc i64 %g to i32")
    line("  %r32 = trunc i64 %r to i32")
    line("  store i32 %g32, ptr %hit_at, align 4")
    line("  store i32 %r32, ptr %hit_row, align 4")
    line(f"  store i64 {misses}, ptr %hit_lanes, align 8")
    line("  %found3 = add i64 %found2, 1")
    line("  br label %hash_done")
    function.label("hash_done")
    line("  %found = phi i64 [ %found2, %hashed ], [ %found3, %hit ]")
    line("  %r1 = add i64 %r, 1")
    line("  %row_more = icmp ult i64 %r1, %end")
    line("  br i1 %row_more, label %hash, label %group_done")

    function.label("group_done")
    line("  %g1 = add i64 %g, 1")
    line("  %group_more = icmp ult i64 %g1, %groups")
    line("  br i1 %group_more, label %group, label %tile_done")
    function.label("tile_done")
    line("  %tile_more = icmp ult i64 %end, %n")
    line("  br i1 %tile_more, label %tile, label %done")
    function.label("done")
    line("  ret i64 %found\n}")
    line('!0 = !{!"branch_weights", i32 100000, i32 1}')
    return function


def _emit_hash(function: _Function, graph: Graph, form: VectorForm) -> list[str]:
    """What remains per hash, in the order of order.py; the names of the streams' digest words.

    Begins in the block %hash and ends in %hashed.
    """
    order = order_of(graph, form.streams)
    values = _HashValues(function, graph, form)
    values.apply(order.before)
    if order.times:
        _emit_passes(function, order, values)
    else:
        function.line("  br label %hashed")
        function.label("hashed")
    values.apply(order.after)
    return [values.of(stream, graph.digest) for stream in range(form.streams)]


class _HashValues:
    """The names of what is known so far of each stream's hash, and of the slots it is computed from."""

    def __init__(self, function: _Function, graph: Graph, form: VectorForm) -> None:
        self._function = function
        self._form = form
        self._row_slots = {slot: number for number, slot in enumerate(graph.row_slots)}
        self._lane_slots = {slot: number for number, slot in enumerate(graph.lane_slots)}
        self._of_row: dict[Node, str] = {}
        self.of_stream: list[dict[Node, str]] = [{} for _ in range(form.streams)]
        self._row = "%row"

    def apply(self, steps: Iterable[Step]) -> None:
        for node, stream in steps:
            self.of_stream[stream][node] = self._function.apply(node, partial(self.of, stream))

    def use_row(self, pointer: str) -> None:
        """From now on the row's slots lie at this address."""
        self._row = pointer
        self._of_row.clear()

    def of(self, stream: int, word: Word) -> str:
        function = self._function
        if isinstance(word, int):
            return function.constant(word)
        if word in self._row_slots:
            if word not in self._of_row:
                self._of_row[word] = function.load_word(self._row, self._row_slots[word])
            return self._of_row[word]
        known = self.of_stream[stream]
        if word not in known:
            number = stream * len(self._lane_slots) + self._lane_slots[word]
            at = function.let(f"getelementptr {function.type}, ptr %lane, i64 {number}")
            known[word] = function.let(f"load {function.type}, ptr {at}, align {4 * self._form.lanes}")
        return known[word]


def _emit_passes(function: _Function, order: Order, values: _HashValues) -> None:
    """The loop over the order's body; a value that a pass takes over from the one before is a phi."""
    taken = _taken_over(order)
    line = function.line
    line("  br label %rounds")
    function.label("rounds")
    line("  %pass = phi i64 [ 0, %hash ], [ %pass1, %rounds ]")
    phis = [
        (len(function.lines) + number, f"%taken{number}", values.of_stream[stream][node], stream, order.next_pass[node])
        for number, (node, stream) in enumerate(taken)
    ]
    function.lines += [""] * len(phis)
    for (node, stream), (_, name, *_) in zip(taken, phis, strict=True):
        values.of_stream[stream][node] = name
    line(f"  %moved = mul i64 %pass, {order.row_stride}")
    line("  %pass_row = getelementptr i32, ptr %row, i64 %moved")
    values.use_row("%pass_row")
    values.apply(order.body)
    for at, name, first, stream, node in phis:
        second = values.of_stream[stream][node]
        function.lines[at] = f"  {name} = phi {function.type} [ {first}, %hash ], [ {second}, %rounds ]"
    line("  %pass1 = add i64 %pass, 1")
    line(f"  %pass_more = icmp ult i64 %pass1, {order.times}")
    line("  br i1 %pass_more, label %rounds, label %hashed")
    function.label("hashed")
    values.use_row("%row")
    for node, stream in taken:
        values.of_stream[stream][order.after_passes(node, order.times)] = values.of_stream[stream][
            order.next_pass[node]
        ]


def _taken_over(order: Order) -> list[Step]:
    """What was computed before the body, and either the body or, so many passes later, what comes after it needs."""
    wanted: set[tuple[Node, int]] = set()
    for node, stream in order.body:
        wanted.update((operand, stream) for operand in node.operands if isinstance(operand, Node))
    for node, stream in order.after:
        wanted.update((operand, stream) for operand in node.operands if isinstance(operand, Node))
    return [
        (node, stream)
        for node, stream in order.before
        if node in order.next_pass
        and ((node, stream) in wanted or (order.after_passes(node, order.times), stream) in wanted)
    ]
