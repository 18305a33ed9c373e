"""docs/promises.md names a test for every promise; each of them exists."""

from __future__ import annotations

import re
from pathlib import Path


def test_every_promise_names_tests_that_exist(root: Path) -> None:
    rows = [line for line in (root / "docs" / "promises.md").read_text().splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith("| Promise")]
    tests = "\n".join(path.read_text() for path in (root / "tests").rglob("test_*.py"))
    existing = set(re.findall(r"(?:def |class |^)(test_\w+|Test\w+)", tests, re.MULTILINE))
    assert len(promises) >= 40
    for row in promises:
        named = re.findall(r"`((?:test_|Test)\w+)`", row)
        assert named, f"no test is named: {row}"
        assert existing.issuperset(named), f"no such test: {set(named) - existing}"
