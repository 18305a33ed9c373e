"""The deployment files call options that exist, in units that systemd accepts, with images built from the lock."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

UNITS = ("hashfleet-coordinator.service", "hashfleet-worker.service")


def command_line(root: Path, subcommand: str) -> list[str]:
    """What a systemd unit runs after the program's name, with the options of its example environment file."""
    folder = root / "deploy" / "systemd"
    unit = (folder / f"hashfleet-{subcommand}.service").read_text()
    started = re.search(r"^ExecStart=/opt/hashfleet/bin/hashfleet (.*)$", unit, re.MULTILINE)
    assert started
    settings = dict(
        line.split("=", 1)
        for line in (folder / f"{subcommand}.env").read_text().splitlines()
        if line and not line.startswith("#")
    )
    return shlex.split(re.sub(r"\$(\w+)", lambda name: settings[name[1]].strip('"'), started[1]))


def compose_command_lines(root: Path) -> list[list[str]]:
    """The command lists of the compose file."""
    text = (root / "deploy" / "compose.yaml").read_text()
    return [json.loads(found) for found in re.findall(r"^    command: (\[.*\])$", text, re.MULTILINE)]


def assert_the_options_exist(words: list[str]) -> None:
    command = importlib.import_module(f"hashfleet.cli.{words[0]}").command
    assert isinstance(command, click.Command)
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("subcommand", ["coordinator", "worker"])
def test_a_unit_calls_options_that_exist(root: Path, subcommand: str) -> None:
    words = command_line(root, subcommand)
    assert words[0] == subcommand
    assert_the_options_exist(words)


def test_the_compose_file_calls_options_that_exist(root: Path) -> None:
    lines = compose_command_lines(root)
    assert [words[0] for words in lines] == ["coordinator", "worker", "worker"]
    for words in lines:
        assert_the_options_exist(words)


def test_the_deployment_sets_only_variables_that_something_reads(root: Path) -> None:
    files = [*(root / "deploy" / "systemd").iterdir(), root / "deploy" / "compose.yaml"]
    used = {name for file in files for name in re.findall(r"\bHASHFLEET_[A-Z_]+(?=[=:])", file.read_text())}
    read = {"HASHFLEET_COORDINATOR_OPTIONS", "HASHFLEET_WORKER_OPTIONS"}  # by the units themselves
    for file in [*(root / "hashfleet").rglob("*.py"), *(root / "coordinator").rglob("*.py")]:
        read.update(re.findall(r"\"(HASHFLEET_[A-Z_]+)\"", file.read_text()))
    assert "HASHFLEET_KEY_FILE" in used
    assert used <= read


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_accepts_the_unit(root: Path, tmp_path: Path, unit: str) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    # The program is not installed where the unit expects it, which verify would complain about.
    text = (root / "deploy" / "systemd" / unit).read_text().replace("/opt/hashfleet/bin/hashfleet", "/bin/true")
    (tmp_path / unit).write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", str(tmp_path / unit)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    about_us = [line for line in done.stderr.splitlines() if unit in line]
    assert about_us == []
    assert done.returncode == 0, done.stderr


def test_the_image_installs_by_hash_and_runs_as_a_plain_user(root: Path) -> None:
    text = (root / "deploy" / "Dockerfile").read_text()
    assert "--require-hashes -r ${LOCK}" in text
    assert "--no-deps --no-build-isolation ." in text
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["hashfleet"]


def test_everything_the_image_copies_exists_and_reaches_the_builder(root: Path) -> None:
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", (root / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
        for word in line.split()
    }
    sent = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {"${LOCK}", "hashfleet", "kernels", "pyproject.toml"} <= copied
    assert copied - {"${LOCK}"} == sent - {"requirements*.lock"}
    assert all((root / name).exists() for name in copied - {"${LOCK}"})
