"""How many instructions the compiled inner loop spends on a hash, by kind: what decides the speed of a CPU.

Counted in LLVM's assembly, for any x86-64 target whether this CPU runs it or not. `tools/count_cpu_instructions.py`
prints the table.
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from cpu_fallback.graph import Graph, shared_graph, short_graph
from cpu_fallback.jit import Target, assembly
from cpu_fallback.order import order_of


class Kind(enum.Enum):
    """What a vector instruction keeps busy; `OTHER` is scalar: addresses, the loop's end, the branch of a hit."""

    ROTATE = "rotate"
    SHIFT = "shift"
    LOGIC = "logic"
    ADD = "add"
    #: Loads, stores and moves of their own; an operand in memory is part of its instruction.
    MOVE = "move"
    #: The digest's first word against zero.
    TEST = "test"
    OTHER = "other"


#: Mnemonics without AVX's leading "v" and without sizes; the first that matches counts.
_KINDS = (
    (Kind.ROTATE, r"pro[rl]v?[dq]$"),
    (Kind.SHIFT, r"ps[rl]l[dq]q?$"),
    (Kind.LOGIC, r"p?ternlog[dq]$|pxor[dq]?$|pandn?[dq]?$|por[dq]?$|xorp[sd]$|andn?p[sd]$|orp[sd]$"),
    (Kind.ADD, r"padd[dq]$"),
    (Kind.TEST, r"ptestn?m[dq]$|pcmpeq[dq]$|movmskp[sd]$|packss|pacus|pmovmskb$"),
    (Kind.MOVE, r"movd?qa|movd?qu|mov[au]p[sd]$|movd$|movs[sd]$|p?broadcast|pshufd$|shufps$"),
)


@dataclass(frozen=True, slots=True)
class InnerLoop:
    """The instructions that hash one row with one group of lanes."""

    shape: str
    target: str
    #: Hashes of one group of lanes.
    hashes: int
    #: Vectors of one group of lanes.
    streams: int
    instructions: Mapping[Kind, int]

    @property
    def computing(self) -> int:
        """Instructions that need an arithmetic port: rotations, shifts, logic, additions."""
        return sum(self.instructions[kind] for kind in (Kind.ROTATE, Kind.SHIFT, Kind.LOGIC, Kind.ADD))

    def as_json(self) -> dict[str, object]:
        """Counts per vector of hashes, and the arithmetic per hash."""
        return {
            "shape": self.shape,
            "target": self.target,
            "hashes_per_pass": self.hashes,
            "per_vector": {kind.value: round(self.instructions[kind] / self.streams, 1) for kind in Kind},
            "vector_operations": round(self.computing / self.streams, 1),
            "vector_operations_per_hash": round(self.computing / self.hashes, 2),
        }


def count_instructions(shape: str, target: Target) -> InnerLoop:
    """Compile one of searcher.SHAPES for a target and count."""
    graph: Graph = shared_graph() if shape == "T" else short_graph(int(shape[1:]))
    form = target.form_of(shape)
    counts: Counter[Kind] = Counter()
    for block in hashing_blocks(assembly(graph, target)):
        times = order_of(graph, form.streams).times if block.repeats else 1
        for kind, count in Counter(kind_of(line.split()[0]) for line in block.lines).items():
            counts[kind] += times * count
    return InnerLoop(shape, target.name, form.group, form.streams, {kind: counts[kind] for kind in Kind})


def kind_of(mnemonic: str) -> Kind:
    """The kind of one instruction."""
    name = mnemonic.removeprefix("v")
    for kind, pattern in _KINDS:
        if re.match(pattern, name):
            return kind
    return Kind.OTHER


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions between two places where control may come in or go elsewhere."""

    lines: tuple[str, ...]
    #: Whether it ends with a jump to its own begin.
    repeats: bool


def hashing_blocks(text: str) -> list[Block]:
    """The blocks of function `search` in LLVM's assembly that rotate or shift vectors, as only hashing does."""
    body = text.partition("\nsearch:")[2].partition(".cfi_endproc")[0]
    blocks: list[Block] = []
    label, lines = "", list[str]()
    for line in [*body.splitlines(), "end:"]:
        code = line.partition("#")[0].strip()
        begins = re.match(r"([.\w]+):", code)
        jump = re.match(r"j\w+\s+([.\w]+)", code)
        if code and not begins and not code.startswith("."):
            lines.append(code)
        if begins or jump:
            blocks.append(Block(tuple(lines), bool(jump and jump[1] == label)))
            label, lines = begins[1] if begins else "", []
    return [
        block for block in blocks if any(kind_of(line.split()[0]) in (Kind.ROTATE, Kind.SHIFT) for line in block.lines)
    ]
