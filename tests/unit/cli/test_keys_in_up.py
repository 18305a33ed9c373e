"""What `hashfleet up` does with keys: the coordinator gets them, nobody else does."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from coordinator.submission import keys, keys_secret
from coordinator.submission.keys_private_file import write_private
from coordinator.submission.keys_sealed import Cost
from coordinator.submission.keys_secret import Secret
from hashfleet.cli import passphrase, up
from hashfleet.cli.children import Child
from hashfleet.cli.main import main

PASSPHRASE = "correct horse battery"


@pytest.fixture
def encrypted(tmp_path: Path) -> Path:
    path = tmp_path / "key.json"
    write_private(path, keys.sealed(Secret(bytes(range(1, 33))), Secret(PASSPHRASE), Cost(2, 1, 1)).text())
    return path


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, str]]:
    """Runs `hashfleet up` up to where it would start anything; what the coordinator would be given beyond."""
    seen: list[dict[str, str]] = []

    async def bring_up(plan: up.Plan, environment: dict[str, str]) -> int:
        seen.append(environment)
        return 0

    for name in ("HASHFLEET_MNEMONIC", "HASHFLEET_PRIVATE_KEY", "HASHFLEET_KEY_FILE", "HASHFLEET_KEY_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HASHFLEET_KEY_PASSPHRASE_FILE", raising=False)
    monkeypatch.setattr(keys_secret, "protect_process", lambda: None)
    monkeypatch.setattr(up, "_bring_up", bring_up)
    monkeypatch.chdir(tmp_path)
    return seen


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["hashfleet", "up", *arguments])
    with pytest.raises(SystemExit):
        main()


def test_the_passphrase_of_an_encrypted_key_is_asked_for_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, handed: list[dict[str, str]], encrypted: Path
) -> None:
    monkeypatch.setattr(passphrase, "ask_passphrase", lambda path: Secret(PASSPHRASE))
    run(monkeypatch, "--chain-grpc", "127.0.0.1:1", "--key-file", str(encrypted))
    assert handed == [{"HASHFLEET_KEY_PASSPHRASE": PASSPHRASE}]


def test_a_passphrase_that_the_environment_gives_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, handed: list[dict[str, str]], encrypted: Path
) -> None:
    monkeypatch.setenv("HASHFLEET_KEY_PASSPHRASE", PASSPHRASE)
    run(monkeypatch, "--chain-grpc", "127.0.0.1:1", "--key-file", str(encrypted))
    assert handed == [{"HASHFLEET_KEY_PASSPHRASE": PASSPHRASE}]


def test_the_demo_signs_with_its_own_key_alone(monkeypatch: pytest.MonkeyPatch, handed: list[dict[str, str]]) -> None:
    monkeypatch.setenv("HASHFLEET_PRIVATE_KEY", "22" * 32)
    run(monkeypatch, "--demo")
    assert [list(environment) for environment in handed] == [["HASHFLEET_MNEMONIC"]]
    assert "about" in handed[0]["HASHFLEET_MNEMONIC"]


async def test_a_child_inherits_no_key_and_shows_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[dict[str, str]] = []

    async def start(*arguments: str, env: dict[str, str], **options: Any) -> None:
        started.append(env)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    for name in ("HASHFLEET_MNEMONIC", "HASHFLEET_PRIVATE_KEY", "HASHFLEET_KEY_PASSPHRASE"):
        monkeypatch.setenv(name, "planted")
    await Child("worker", [], tmp_path / "log", announces=False).start()
    own = Child("coordinator", [], tmp_path / "log", announces=False, environment={"HASHFLEET_MNEMONIC": "its own"})
    await own.start()
    worker, coordinator = started
    assert "planted" not in worker.values()
    assert worker["PATH"] == coordinator["PATH"]
    assert coordinator["HASHFLEET_MNEMONIC"] == "its own"
    assert "its own" not in repr(own)
