"""The inner loop's order computes everything once, after what it needs, and repeats itself where it says so."""

from __future__ import annotations

from collections import Counter

import pytest

from cpu_fallback.graph import Graph, Node, Stage, shared_graph, short_graph
from cpu_fallback.order import Order, Step, order_of

GRAPHS = {"T": shared_graph(), "S12": short_graph(12), "S13": short_graph(13)}
STREAMS = (1, 2, 3, 4)


def unrolled(order: Order) -> list[Step]:
    """The steps as they are executed, each pass's nodes in the place of the first one's."""
    passes = [
        (order.after_passes(node, number), stream) for number in range(order.times) for node, stream in order.body
    ]
    return [*order.before, *passes, *order.after]


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("shape", GRAPHS)
def test_every_stream_computes_every_operation_once_and_after_its_operands(shape: str, streams: int) -> None:
    graph: Graph = GRAPHS[shape]
    steps = unrolled(order_of(graph, streams))

    assert Counter(steps) == Counter((node, stream) for node in graph.of_stage(Stage.HASH) for stream in range(streams))
    done: set[Step] = set()
    for node, stream in steps:
        for operand in node.operands:
            assert not isinstance(operand, Node) or operand.stage is not Stage.HASH or (operand, stream) in done
        done.add((node, stream))


@pytest.mark.parametrize("streams", STREAMS)
def test_t_runs_eight_rounds_five_times_instead_of_forty_once(streams: int) -> None:
    order = order_of(GRAPHS["T"], streams)

    assert order.times == 5
    assert len(order.body) == 8 * 16 * streams  # 16 operations a round
    assert order.row_stride == 8


def test_a_pass_does_the_same_as_the_one_before_with_other_words() -> None:
    order = order_of(GRAPHS["T"], 4)

    for node, _ in order.body:
        after = order.after_passes(node, 1)
        assert after.op is node.op
        assert [operand for operand in after.operands if isinstance(operand, int)] == [
            operand for operand in node.operands if isinstance(operand, int)
        ]


@pytest.mark.parametrize("shape", ["S12", "S13"])
def test_rounds_with_a_schedule_are_written_out(shape: str) -> None:
    order = order_of(GRAPHS[shape], 2)

    assert not order.body
    assert not order.after
