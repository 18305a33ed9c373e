"""`hashfleet charter consent`, and a charter that is asked for with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.submission.consent import check_consent
from hashfleet.charter import Founding, read_consent
from hashfleet.cli.main import main
from hashfleet.rpc.hashfleet.v1 import job_pb2

Run = Callable[..., tuple[int, str, str]]
MNEMONIC = " ".join(["abandon"] * 11 + ["about"])
TERMS = ["--reactor", "3-1", "--endpoint", "guild.example", "--substation", "4-1"]
CONSENT = ["charter", "consent", "--chain-id", "structstestnet-111", "--founder", "1-7", *TERMS]


@pytest.fixture
def run(scripted_coordinator: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the `hashfleet` command in this process; gives exit status, stdout, stderr."""
    monkeypatch.setenv("HASHFLEET_COORDINATOR", scripted_coordinator.address)
    for name in ("HASHFLEET_PRIVATE_KEY", "HASHFLEET_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HASHFLEET_MNEMONIC", MNEMONIC)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hashfleet", *arguments])
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_a_consent_is_printed_that_the_coordinator_takes(run: Run) -> None:
    status, out, _ = run(*CONSENT, "--anchor", "2283000")
    assert status == 0
    check_consent(read_consent(out), "structstestnet-111", "1-7", Founding("3-1", "guild.example", "4-1"), 2283000)


def test_a_consent_goes_into_a_new_file_and_over_none(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "consent.json"
    assert run(*CONSENT, "--anchor", "2283000", "--out", str(file))[:2] == (0, "")
    before = file.read_text()
    assert read_consent(before)
    status, _, err = run(*CONSENT, "--anchor", "2283001", "--out", str(file))
    assert (status, file.read_text()) == (1, before)
    assert "cannot write" in err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--anchor", "0"], "block_start is 0"),
        (["--anchor", "2283000", "--founder", "5-7"], "the founder is '5-7'"),
        (["--anchor", "2283000", "--chain-id", "a|b"], "the chain id is 'a|b'"),
        (["--anchor", "2283000", "--reactor", "4-1"], "reactor_id is '4-1'"),
    ],
)
def test_what_cannot_be_consented_to_is_one_sentence(run: Run, more: list[str], said: str) -> None:
    status, out, err = run(*CONSENT, *more)
    assert (status, out) == (1, "")
    assert said in err
    assert err.count("\n") == 1


def test_without_a_key_nothing_is_signed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HASHFLEET_MNEMONIC")
    status, _, err = run(*CONSENT, "--anchor", "2283000")
    assert status == 1
    assert "a consent is signed with one of the founder's" in err


def private_key(path: Path, last: int) -> str:
    path.write_text(f"{last:064x}")
    path.chmod(0o600)
    return str(path)


def test_the_variable_for_key_files_is_a_list_as_for_the_other_commands(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HASHFLEET_MNEMONIC")
    one, other = private_key(tmp_path / "a", 1), private_key(tmp_path / "b", 2)
    monkeypatch.setenv("HASHFLEET_KEY_FILE", one)
    assert run(*CONSENT, "--anchor", "2283000")[0] == 0
    monkeypatch.setenv("HASHFLEET_KEY_FILE", f"{one}:{other}")
    status, _, err = run(*CONSENT, "--anchor", "2283000")
    assert status == 1
    assert "2 keys are given; a consent is signed with one of the founder's: give --key-file" in err
    assert run(*CONSENT, "--anchor", "2283000", "--key-file", other)[0] == 0


def test_a_charter_is_asked_for_with_its_terms_and_consent(run: Run, scripted_coordinator: Any, tmp_path: Path) -> None:
    file = tmp_path / "consent.json"
    run(*CONSENT, "--anchor", "2283000", "--out", str(file))
    asked = ["jobs", "submit", "charter", "1-7", "--player", "1-42", *TERMS, "--consent", str(file)]
    assert run(*asked)[:2] == (0, "pow_0001\n")
    consent = json.loads(file.read_text())
    spec = scripted_coordinator.requests[0].spec
    assert (spec.action, spec.entity_id, spec.player_id) == (job_pb2.ACTION_CHARTER, "1-7", "1-42")
    assert spec.founding == job_pb2.Founding(
        reactor_id="3-1", endpoint="guild.example", entry_substation_id="4-1", consent=job_pb2.Consent(**consent)
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["charter", "1-7", "--player", "1-7"], "should name the reactor_id and the endpoint"),
        (["charter", "1-7", "--player", "1-7", "--reactor", "3-1"], "--reactor and --endpoint should both be given"),
        (["build", "5-7", "--player", "1-7", *TERMS], "only a charter founds a guild"),
    ],
)
def test_terms_and_charter_belong_together(
    run: Run, scripted_coordinator: Any, arguments: list[str], said: str
) -> None:
    status, _, err = run("jobs", "submit", *arguments)
    assert status != 0
    assert said in err
    assert scripted_coordinator.requests == []
