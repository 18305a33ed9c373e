"""The option that says how long the fault suites are to be."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def chaos_seeds(root: Path) -> Callable[[str], range]:
    """What reads the option; pytest keeps conftest.py itself to itself."""
    specification = importlib.util.spec_from_file_location("options", root / "tests" / "conftest.py")
    assert specification is not None
    assert specification.loader is not None
    options = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(options)
    read: Callable[[str], range] = options.chaos_seeds
    return read


@pytest.mark.parametrize(("asked", "seeds"), [("3", range(3)), ("40-199", range(40, 200)), ("7-7", range(7, 8))])
def test_a_number_is_so_many_seeds_from_0_and_two_numbers_are_a_part(
    chaos_seeds: Callable[[str], range], asked: str, seeds: range
) -> None:
    assert chaos_seeds(asked) == seeds


@pytest.mark.parametrize("asked", ["0", "9-8", "-5", "5-", "1-2-3", "all", ""])
def test_no_seeds_at_all_are_refused(chaos_seeds: Callable[[str], range], asked: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        chaos_seeds(asked)
