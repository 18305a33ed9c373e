"""Fixtures that every room's tests share: the committed test vectors, and a word on what this machine can test."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
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


def postgres_binaries() -> Path | None:
    """Folder of a PostgreSQL server's programs: the one on the PATH, else the newest that Debian keeps beside it."""
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: [int(n) for n in re.findall("[0-9]+", str(one))]
    )[::-1]
    return next((one for one in folders if (one / "initdb").exists() and (one / "postgres").exists()), None)


class PostgresServer:
    """A server of our own on a Unix socket, without a network, whose data nobody keeps."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        # Short, because a socket's path may have 107 characters; open to the user whom the server runs as.
        self._folder = Path(tempfile.mkdtemp(prefix="hashfleet-pg-"))
        # PostgreSQL refuses to run as root.
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self._folder, "nobody", "nogroup")
        self._numbers = itertools.count(1)
        data = str(self._folder / "data")
        self._run("initdb", "-D", data, "-U", "hashfleet", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        # However this process ends, the pipe to the shell is closed, and the shell ends the server with it.
        script = '"$0" "$@" >"log" 2>&1 & cat >/dev/null; kill -QUIT $!; wait; rm -rf data'
        settings = ("listen_addresses=", f"unix_socket_directories={self._folder}", "fsync=off", "max_connections=60")
        options = [part for setting in settings for part in ("-c", setting)]
        self._shell = subprocess.Popen(
            ["sh", "-c", script, str(binaries / "postgres"), "-D", data, *options],
            stdin=subprocess.PIPE,
            cwd=self._folder,
            **self._as,
        )
        self._wait()

    def _wait(self) -> None:
        give_up_at = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > give_up_at:
                    said = (self._folder / "log").read_text(errors="replace")
                    raise RuntimeError(f"the PostgreSQL server does not start: {said}") from error
            time.sleep(0.05)

    def url(self, database: str, user: str = "hashfleet") -> str:
        return f"postgresql://{user}@/{database}?host={quote(str(self._folder), safe='')}"

    def create(self, template: str = "template0") -> str:
        """A new database as a copy of a template; its name."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return name

    def stop(self) -> None:
        # Not by closing the pipe alone: a process that some test forked and left may hold its other end open.
        postmaster = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGQUIT)
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.kill()
        self._shell.wait(timeout=60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        # Output to a file: a server that is started inherits it, and a pipe would be waited for.
        with tempfile.TemporaryFile() as said:
            command = [str(self._binaries / program), *arguments]
            ended = subprocess.run(
                command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, cwd=self._folder, timeout=90, **self._as
            )
            if ended.returncode != 0:
                said.seek(0)
                raise RuntimeError(f"{program} failed: {said.read().decode(errors='replace')}")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for this run; skips where there is none."""
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server here: install one (Debian: postgresql), or put its programs on the PATH")
    server = PostgresServer(binaries)
    yield server
    server.stop()


def chaos_seeds(text: str) -> range:
    """The seeds that ``N`` (0 to N-1) or ``FIRST-LAST`` means."""
    found = re.fullmatch("([0-9]+)(?:-([0-9]+))?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor FIRST-LAST")
    one, last = int(found[1]), found[2]
    seeds = range(one) if last is None else range(one, int(last) + 1)
    if not seeds:
        raise argparse.ArgumentTypeError(f"there are no seeds in {text!r}")
    return seeds


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the fault suites are to be."""
    parser.addoption(
        "--chaos-seeds",
        type=chaos_seeds,
        metavar="N|FIRST-LAST",
        help="play each fault at each step with the seeds 0 to N-1, or FIRST to LAST, instead of with one or two",
    )


def pytest_report_header() -> list[str]:
    """Say at the top of every run whether the GPU kernels are tested, and on what."""
    platforms = ", ".join(opencl_cpu_platforms())
    return [
        f"OpenCL kernels: {platforms or 'NOT TESTED, no OpenCL CPU platform here'}",
        f"CUDA kernel on the host: {cxx_compiler() or 'NOT TESTED, no C++ compiler here'}",
        f"Guild stack: {postgres_binaries() or 'NOT TESTED, no PostgreSQL server here'}",
    ]


def pytest_sessionstart() -> None:
    """`make test` and CI set HASHFLEET_PREREQUISITES=require: such a run must not pass by skipping."""
    if os.environ.get("HASHFLEET_PREREQUISITES") == "require":
        if not opencl_cpu_platforms():
            pytest.exit("prerequisites are required, but there is no OpenCL CPU platform", returncode=1)
        if not cxx_compiler():
            pytest.exit("prerequisites are required, but there is no C++ compiler", returncode=1)
        if not postgres_binaries():
            pytest.exit("prerequisites are required, but there is no PostgreSQL server", returncode=1)
