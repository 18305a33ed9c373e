"""The graph of SHA-256 computes hashlib's digests, and leaves as little per hash as its docstring says."""

from __future__ import annotations

import hashlib
import random
from collections import Counter

import pytest

from cpu_fallback.graph import Graph, Op, Stage, evaluate, shared_graph, short_graph
from hashfleet.message import NonceSpace, lay_out

GRAPHS = {"T": shared_graph(), "S12": short_graph(12), "S13": short_graph(13)}
SPACES = {
    "T": [lay_out(b"x" * length, "417", 12, 200) for length in (1, 20, 47, 60, 64, 130)],
    "S12": [NonceSpace(b"x" * length, "0" * (40 - length % 64), 12) for length in (1, 20, 64, 90)],
    "S13": [NonceSpace(b"x" * length, "0" * (40 - length % 64), 15) for length in (1, 20, 64, 90)],
}


def inputs_of(graph: Graph, space: NonceSpace, counter: int) -> dict[str, int]:
    """The words of the blocks that the graph hashes, from the padded message itself."""
    message = space.message(counter)
    padded = message + b"\x80" + bytes(-(len(message) + 9) % 64) + (8 * len(message)).to_bytes(8, "big")
    template = space.shared or space.short
    assert template is not None
    blocks = padded[-64 * (len(graph.inputs) - 8) // 16 :]
    words = [int.from_bytes(blocks[at : at + 4], "big") for at in range(0, len(blocks), 4)]
    return dict(zip(graph.inputs, [*template.midstate, *words], strict=True))


@pytest.mark.parametrize("shape", GRAPHS)
def test_the_graph_computes_the_first_word_of_the_digest(shape: str) -> None:
    chosen = random.Random(12)
    for space in SPACES[shape]:
        for counter in (0, space.capacity - 1, chosen.randrange(space.capacity)):
            digest = hashlib.sha256(space.message(counter)).digest()
            assert evaluate(GRAPHS[shape], inputs_of(GRAPHS[shape], space, counter)) == int.from_bytes(
                digest[:4], "big"
            )


@pytest.mark.parametrize(("shape", "operations"), [("T", 815), ("S12", 1233), ("S13", 1205)])
def test_no_more_operations_per_hash_remain_than_are_documented(shape: str, operations: int) -> None:
    assert len(GRAPHS[shape].of_stage(Stage.HASH)) == operations


def test_t_leaves_51_rounds_and_no_schedule_per_hash() -> None:
    kinds = Counter(node.op for node in GRAPHS["T"].of_stage(Stage.HASH))

    assert kinds[Op.CHOOSE] == kinds[Op.MAJORITY] == 51
    assert kinds[Op.XOR3] == 2 * 51  # the two sigmas of a round; the schedule's would come on top
    assert kinds[Op.SHIFT] == 0  # only the schedule shifts


@pytest.mark.parametrize("shape", GRAPHS)
def test_what_is_kept_per_lane_does_not_depend_on_the_row_nor_the_other_way_round(shape: str) -> None:
    assert all(node.stage is Stage.LANE for node in GRAPHS[shape].lane_slots)
    assert all(node.stage in (Stage.ROW, Stage.FIXED) for node in GRAPHS[shape].row_slots)


@pytest.mark.parametrize("shape", GRAPHS)
def test_operands_stand_before_the_nodes_that_use_them(shape: str) -> None:
    seen: set[object] = set()
    for node in GRAPHS[shape].nodes:
        assert all(isinstance(operand, int) or operand in seen for operand in node.operands)
        seen.add(node)
