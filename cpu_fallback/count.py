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
    """The instructions of one pass through the inner loop."""

    shape: str
    target: str
    #: Hashes of one pass.
    hashes: int
    #: Vectors hashed in one pass.
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
    lines = inner_loop(assembly(graph, target))
    counts = Counter(kind_of(line.split()[0]) for line in lines)
    form = target.form_of(shape)
    return InnerLoop(shape, target.name, form.group, form.streams, {kind: counts[kind] for kind in Kind})


def kind_of(mnemonic: str) -> Kind:
    """The kind of one instruction."""
    name = mnemonic.removeprefix("v")
    for kind, pattern in _KINDS:
        if re.match(pattern, name):
            return kind
    return Kind.OTHER


def inner_loop(text: str) -> list[str]:
    """The instructions of the longest block of function `search` in LLVM's assembly; all hashing is in one block."""
    body = text.partition("\nsearch:")[2].partition(".cfi_endproc")[0]
    blocks: list[list[str]] = [[]]
    for line in body.splitlines():
        code = line.partition("#")[0].strip()
        if re.match(r"[.\w]+:", code):
            blocks.append([])
        elif code and not code.startswith("."):
            blocks[-1].append(code)
    return max(blocks, key=len)
