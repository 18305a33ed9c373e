"""No test of the command line reads or writes the settings that its user's own devices were tuned to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache directory, for this process and the commands it starts; PoCL keeps its compiled kernels."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if "POCL_CACHE_DIR" not in os.environ:
        monkeypatch.setenv("POCL_CACHE_DIR", str(usual / "pocl" / "kcache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
