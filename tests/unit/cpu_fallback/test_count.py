"""The instructions of the compiled inner loop are counted rightly, and are what the graph needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cpu_fallback.count import Kind, count_instructions, inner_loop, kind_of
from cpu_fallback.graph import Stage, shared_graph
from cpu_fallback.jit import portable_target


@pytest.mark.parametrize(
    ("mnemonic", "kind"),
    [
        ("vprord", Kind.ROTATE),
        ("vprold", Kind.ROTATE),
        ("vpsrld", Kind.SHIFT),
        ("pslld", Kind.SHIFT),
        ("vpternlogd", Kind.LOGIC),
        ("vpxor", Kind.LOGIC),
        ("pand", Kind.LOGIC),
        ("vpandn", Kind.LOGIC),
        ("vpor", Kind.LOGIC),
        ("vpaddd", Kind.ADD),
        ("vptestnmd", Kind.TEST),
        ("pmovmskb", Kind.TEST),
        ("vmovdqa64", Kind.MOVE),
        ("vpbroadcastd", Kind.MOVE),
        ("pshufd", Kind.MOVE),
        ("addq", Kind.OTHER),
        ("incq", Kind.OTHER),
        ("jne", Kind.OTHER),
    ],
)
def test_an_instruction_is_of_the_kind_that_does_its_work(mnemonic: str, kind: Kind) -> None:
    assert kind_of(mnemonic) is kind


def test_the_inner_loop_is_the_longest_block_of_search() -> None:
    lanes = "lanes:\n\tnop\n\tnop\n\tnop\n\tnop\n\t.cfi_endproc\n"
    loop = ".LBB2_1: # loop\n\tvpaddd %zmm0, %zmm1, %zmm1 # sum\n\t.p2align 4\n\tjne .LBB2_1\n"
    text = f"{lanes}search:\n\tnop\n{loop}.LBB2_2:\n\tretq\n\t.cfi_endproc\n"

    assert inner_loop(text) == ["vpaddd %zmm0, %zmm1, %zmm1", "jne .LBB2_1"]


def test_avx512_needs_one_instruction_for_each_operation_of_the_graph() -> None:
    loop = count_instructions("T", portable_target("avx512"))

    assert loop.computing / loop.streams == pytest.approx(len(shared_graph().of_stage(Stage.HASH)), abs=1)


@pytest.mark.parametrize("target", ["avx2", "sse2"])
def test_without_rotations_two_shifts_stand_for_each(target: str) -> None:
    loop = count_instructions("T", portable_target(target))

    assert loop.instructions[Kind.ROTATE] == 0
    assert loop.instructions[Kind.SHIFT] == 2 * 306 * loop.streams


def test_the_tool_prints_every_shape_and_target_as_json(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "tools/count_cpu_instructions.py"],
        cwd=root,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    rows = json.loads(done.stdout)

    assert {(row["shape"], row["target"]) for row in rows} == {
        (shape, target) for shape in ("T", "S12", "S13") for target in ("avx512", "avx2", "sse2")
    }
    assert all(row["vector_operations_per_hash"] > 40 for row in rows)
