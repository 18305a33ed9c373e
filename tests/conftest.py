"""Fixtures that every room's tests share: the committed test vectors, and a word on what this machine can test."""

from __future__ import annotations

import json
import os
import shutil
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
    except (ImportError, OSError):  # not installed, or no OpenCL loader for it
        return []
    cpu = pyopencl.device_type.CPU
    try:
        platforms = pyopencl.get_platforms()
        return [f"{p.name} {p.version}" for p in platforms if any(d.type & cpu for d in p.get_devices())]
    except pyopencl.Error:  # a loader without any driver, or a driver that fails
        return []


def cxx_compiler() -> str | None:
    """Path of the C++ compiler, which runs the CUDA kernel's arithmetic on the host."""
    return shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def pytest_report_header() -> list[str]:
    """Say at the top of every run whether the GPU kernels are tested, and on what."""
    platforms = ", ".join(opencl_cpu_platforms())
    return [
        f"OpenCL kernels: {platforms or 'NOT TESTED, no OpenCL CPU platform here'}",
        f"CUDA kernel on the host: {cxx_compiler() or 'NOT TESTED, no C++ compiler here'}",
    ]


def pytest_sessionstart() -> None:
    """`make test` and CI set HASHFLEET_PREREQUISITES=require: such a run must not pass by skipping."""
    if os.environ.get("HASHFLEET_PREREQUISITES") == "require":
        if not opencl_cpu_platforms():
            pytest.exit("prerequisites are required, but there is no OpenCL CPU platform", returncode=1)
        if not cxx_compiler():
            pytest.exit("prerequisites are required, but there is no C++ compiler", returncode=1)
