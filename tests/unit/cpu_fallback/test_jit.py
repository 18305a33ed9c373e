"""Compiled kernels compute what the graph computes, for every vector width that this CPU runs."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import pytest

from cpu_fallback import jit
from cpu_fallback.graph import Graph, evaluate, shared_graph, short_graph
from cpu_fallback.jit import Hits, Kernel, Target, Words, find_target, portable_target
from cpu_fallback.simd_ir import TILE_ROWS
from hashfleet.errors import EngineUnavailable, InvalidInput

GRAPHS = {"T": shared_graph(), "S12": short_graph(12), "S13": short_graph(13)}
NAMES = ("host", "avx512", "avx2", "sse2")


def runnable(name: str) -> Target:
    try:
        return find_target(name)
    except EngineUnavailable as error:
        pytest.skip(str(error))


@cache
def compiled(shape: str, name: str) -> Kernel:
    return Kernel(GRAPHS[shape], runnable(name))


def hits_of(kernel: Kernel, inputs: list[int], lanes: list[int], rows: list[int], mask: int) -> set[tuple[int, int]]:
    """Search every row with every lane: (row, lane) of each hit."""
    given = Words(len(inputs), inputs)
    groups = len(lanes) // kernel.form.group
    lane_slots, row_slots = kernel.lane_words(groups), kernel.row_words(len(rows))
    kernel.fill_lanes(given, Words(len(lanes), lanes), 0, groups, lane_slots)
    kernel.fill_rows(given, Words(len(rows), rows), 0, len(rows), row_slots)
    hits = Hits(groups * len(rows))
    count = kernel.search(lane_slots, range(groups), row_slots, range(len(rows)), mask, hits)
    return {
        (row, group * kernel.form.group + lane)
        for group, row, bits in hits.read(count)
        for lane in range(kernel.form.group)
        if bits >> lane & 1
    }


def expected(graph: Graph, inputs: list[int], lanes: list[int], rows: list[int], mask: int) -> set[tuple[int, int]]:
    named = dict(zip(graph.inputs, inputs, strict=True))
    return {
        (r, n)
        for r, row in enumerate(rows)
        for n, lane in enumerate(lanes)
        if not evaluate(graph, {**named, graph.lane_digits: lane, graph.row_digits: row}) & mask
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", GRAPHS)
def test_a_kernel_finds_what_the_graph_finds_with_any_words_at_all(shape: str, name: str) -> None:
    kernel = compiled(shape, name)
    chosen = random.Random(f"{shape} {name}")
    inputs, lanes, rows = (
        [chosen.getrandbits(32) for _ in range(size)] for size in (len(kernel.graph.inputs), 2 * kernel.form.group, 5)
    )

    wanted = expected(kernel.graph, inputs, lanes, rows, 0xC0000000)
    assert wanted
    assert hits_of(kernel, inputs, lanes, rows, 0xC0000000) == wanted


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, TILE_ROWS - 1, TILE_ROWS, TILE_ROWS + 1, 2 * TILE_ROWS + 3])
def test_every_row_of_every_tile_is_hashed_once_with_every_group(rows: int, name: str) -> None:
    kernel = compiled("S13", name)
    lanes = list(range(3 * kernel.form.group))
    inputs = list(range(len(kernel.graph.inputs)))

    everything = {(row, lane) for row in range(rows) for lane in range(len(lanes))}
    assert hits_of(kernel, inputs, lanes, list(range(rows)), 0) == everything


def test_hits_that_may_not_fit_are_refused() -> None:
    kernel = compiled("S13", "sse2")
    with pytest.raises(ValueError, match="may not fit"):
        kernel.search(kernel.lane_words(2), range(2), kernel.row_words(3), range(3), 0, Hits(5))


def test_vectors_start_at_a_line_of_the_cache() -> None:
    assert all(Words(size).address % 64 == 0 for size in range(1, 200))


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(InvalidInput, match="it should be one of avx512, avx2, sse2"):
        portable_target("mmx")


@pytest.fixture
def cpu_without_avx(monkeypatch: pytest.MonkeyPatch) -> None:
    """An x86-64 CPU that has SSE2 only."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(jit, "_host_features", lambda: {"sse2": True, "avx2": False, "avx512f": False})


@pytest.mark.parametrize("name", ["avx512", "avx2"])
def test_a_target_that_this_cpu_lacks_is_refused_with_what_is_missing(cpu_without_avx: None, name: str) -> None:
    with pytest.raises(EngineUnavailable, match=f"this CPU has no {name}"):
        find_target(name)


def test_the_host_gets_the_widest_vectors_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for features, lanes in (({"avx2": True, "avx512f": True}, 16), ({"avx2": True}, 8), ({"sse2": True}, 4)):
        monkeypatch.setattr(jit, "_host_features", lambda features=features: features)
        assert find_target("host").form.lanes == lanes


def test_a_cpu_that_llvm_does_not_know_gets_vectors_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> dict[str, bool]:
        raise RuntimeError("host CPU features are not available")

    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", unknown)
    for machine in ("x86_64", "aarch64", "riscv64"):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        assert find_target("host").form.lanes == 4


def test_targets_of_x86_are_refused_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(EngineUnavailable, match="avx2 is of x86-64 CPUs"):
        find_target("avx2")


def test_code_that_llvm_cannot_compile_makes_the_kernel_unavailable() -> None:
    target = portable_target("sse2")
    impossible = replace(target, name="odd", triple="no-such-machine")
    with pytest.raises(EngineUnavailable, match="LLVM did not compile shape S12 for odd"):
        Kernel(short_graph(12), impossible)
