"""Fixtures that every room's tests share: the committed test vectors, and a word on what this machine can test."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    """tests/vectors.json: preimages, difficulties, thresholds, proofs and transactions made outside this project."""
    loaded: dict[str, Any] = json.loads((ROOT / "tests" / "vectors.json").read_text())
    return loaded


def opencl_cpu_platforms() -> list[str]:
    """Names of the OpenCL platforms here that have a CPU device."""
    try:
        import pyopencl

        platforms = pyopencl.get_platforms()
    except (ImportError, RuntimeError):  # pyopencl.Error is a RuntimeError
        return []
    cpu = pyopencl.device_type.CPU
    return [f"{p.name} {p.version}" for p in platforms if any(d.type & cpu for d in p.get_devices())]


def pytest_report_header() -> str:
    """Say at the top of every run whether the OpenCL engine is tested."""
    found = opencl_cpu_platforms()
    return "OpenCL on CPU: " + (", ".join(found) if found else "NONE HERE, so the OpenCL engine is NOT tested")


def pytest_sessionstart() -> None:
    """`make test` and CI set HASHFLEET_OPENCL=require: a run that could not test OpenCL must not pass by skipping."""
    if os.environ.get("HASHFLEET_OPENCL") == "require" and not opencl_cpu_platforms():
        pytest.exit("HASHFLEET_OPENCL=require, but there is no OpenCL CPU platform; see `make test`", returncode=1)
