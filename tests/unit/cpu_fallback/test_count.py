"""The instructions of a hash are counted rightly, and are what the graph needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cpu_fallback.count import Block, Kind, count_instructions, hashing_blocks, kind_of
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


def test_hashing_blocks_are_those_of_search_that_rotate() -> None:
    lanes = "lanes:\n\tvprord $7, %zmm0, %zmm0\n\t.cfi_endproc\n"
    first = ".LBB2_1: # hash\n\tvprord $2, %zmm0, %zmm0 # sum\n\t.p2align 4\n"
    loop = ".LBB2_2: # rounds\n\tvpsrld $7, %zmm1, %zmm1\n\tjb .LBB2_2\n"
    rest = "\tvprord $9, %zmm2, %zmm2\n\tjne .LBB2_3\n"
    text = f"{lanes}search:\n\tnop\n{first}{loop}{rest}.LBB2_3:\n\tretq\n\t.cfi_endproc\n"

    assert hashing_blocks(text) == [
        Block(("vprord $2, %zmm0, %zmm0",), repeats=False),
        Block(("vpsrld $7, %zmm1, %zmm1", "jb .LBB2_2"), repeats=True),
        Block(("vprord $9, %zmm2, %zmm2", "jne .LBB2_3"), repeats=False),
    ]


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
