"""Who asks which difficulty: decisions use `safe`, and nobody counts zeros by arithmetic of their own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("hashfleet", "coordinator", "gpu_worker", "cpu_fallback", "devnet", "bench")
THE_RULE = "hashfleet/difficulty.py"
#: What one chain version really asks is for the chain itself.
CHAINS = ("devnet/",)
EXACT = {"difficulty", "Rule", "GO_ASKS_ONE_MORE"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith("hashfleet/rpc/"):
                yield name, ast.parse(path.read_text())


def uses_of_the_exact_rule(tree: ast.Module) -> set[str]:
    """What a module takes from `hashfleet.difficulty` beside what is safe, by any spelling of the import."""
    found: set[str] = set()
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "hashfleet.difficulty":
            found |= {alias.name for alias in node.names} & (EXACT | {"*", "_exact"})
        elif isinstance(node, ast.ImportFrom) and node.module == "hashfleet":
            modules |= {alias.asname or alias.name for alias in node.names if alias.name == "difficulty"}
        elif isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name for alias in node.names if alias.name == "hashfleet.difficulty"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in modules and node.attr in EXACT | {"_exact"}:
            found.add(node.attr)
    return found


def own_arithmetic(tree: ast.Module) -> set[str]:
    """Expressions that look like the chain's formula: a logarithm to base 10, or the factor and power 63."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name | ast.alias):
            name = (
                node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else node.name
            )
            if name == "log10":
                found.add("log10")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.Mult):
            values = [side.value if isinstance(side, ast.Constant) else None for side in (node.left, node.right)]
            if 63 in values and None in values:  # two constants are a bound, such as 2**63
                found.add(ast.unparse(node))
    return found


def test_what_a_chain_version_asks_is_used_by_the_devnet_alone() -> None:
    users = {name for name, tree in sources() if uses_of_the_exact_rule(tree)}
    assert users
    assert {name for name in users if not name.startswith((*CHAINS, THE_RULE))} == set()


def test_nobody_computes_a_difficulty_of_his_own() -> None:
    # bench/ draws times and rates on logarithmic axes.
    found = {name: own_arithmetic(tree) for name, tree in sources() if not name.startswith("bench/")}
    assert found.pop(THE_RULE)
    assert {name: told for name, told in found.items() if told} == {}


def test_the_difficulty_that_a_chain_tells_is_never_taken() -> None:
    """The charter query tells one, for the height of the query: it is recomputed."""
    for name, tree in sources():
        if name.startswith("coordinator/chain/"):
            taken = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "difficulty"]
            assert [ast.unparse(node) for node in taken] == [], name


@pytest.mark.parametrize(
    "text",
    [
        "from hashfleet.difficulty import difficulty",
        "from hashfleet.difficulty import safe, Rule as R",
        "from hashfleet import difficulty as d\nd.difficulty(1, 2, 3)",
        "import hashfleet.difficulty\nhashfleet.difficulty.difficulty(1, 2, 3)",
        "import hashfleet.difficulty as d\nd._exact(1, 2)",
    ],
)
def test_a_planted_use_is_seen(text: str) -> None:
    assert uses_of_the_exact_rule(ast.parse(text))


@pytest.mark.parametrize("text", ["import math\nmath.log10(3)", "from math import log10", "age ** 63", "63 * ratio"])
def test_planted_arithmetic_is_seen(text: str) -> None:
    assert own_arithmetic(ast.parse(text))


@pytest.mark.parametrize("text", ["from hashfleet.difficulty import safe, first_age", "2 ** 63", "difficulty = 3"])
def test_what_is_safe_is_not_seen(text: str) -> None:
    tree = ast.parse(text)
    assert not uses_of_the_exact_rule(tree)
    assert not own_arithmetic(tree)
