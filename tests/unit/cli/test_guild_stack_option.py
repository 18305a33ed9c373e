"""How `hashfleet coordinator` takes a guild stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from coordinator import server
from hashfleet.cli.main import cli

URL = "postgresql://fleet:hunter2@localhost/structs"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a coordinator would have been started with."""
    calls: list[Any] = []

    async def serve(*arguments: Any) -> None:
        calls.append(arguments)

    monkeypatch.setattr(server, "serve", serve)
    for name in ("HASHFLEET_KEY_FILE", "HASHFLEET_MNEMONIC", "HASHFLEET_PRIVATE_KEY", "HASHFLEET_CHAIN_GRPC"):
        monkeypatch.delenv(name, raising=False)
    return calls


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, ["coordinator", *arguments], env=environment)


def told(result: Result) -> str:
    return result.output + str(result.exception or "")


def test_the_stacks_agent_signs_and_no_key_is_needed(started: list[Any]) -> None:
    result = run(HASHFLEET_GUILD_STACK=URL)
    assert result.exit_code == 0, told(result)
    settings, keys = started[0][:2]
    assert (settings.guild_stack, settings.guild_stack_signs, keys) == (URL, True, ())
    assert "hunter2" not in repr(settings)


def test_a_key_beside_the_stacks_agent_is_refused(started: list[Any], tmp_path: Path) -> None:
    result = run("--guild-stack", URL, "--key-file", str(tmp_path / "key"))
    assert "leave one of --guild-stack and the key out" in told(result)
    assert "hunter2" not in told(result)
    assert not started


def test_watching_a_stack_puts_nothing_into_its_outbox(started: list[Any]) -> None:
    assert run("--guild-stack", URL, "--watch-only").exit_code == 0
    assert started[0][0].guild_stack_signs is False


def test_without_any_chain_it_says_what_to_give(started: list[Any]) -> None:
    assert "--guild-stack" in told(run("--watch-only"))
    assert not started
