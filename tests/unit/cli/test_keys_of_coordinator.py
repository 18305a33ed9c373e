"""Which keys `hashfleet coordinator` signs with, and that it never runs without one unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.submission import keys
from hashfleet.cli.coordinator import signing_keys
from hashfleet.errors import InvalidInput, KeyProblem

FIRST, SECOND = "11" * 32, "22" * 32


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "first", tmp_path / "second"]
    for path, secret in zip(paths, (FIRST, SECOND), strict=True):
        path.write_text(secret)
        path.chmod(0o600)
    return paths


def test_every_key_file_is_a_key_in_the_order_given(files: list[Path]) -> None:
    found = signing_keys(files[::-1], False, {})
    assert [key.address for key in found] == [keys.from_hex(SECOND).address, keys.from_hex(FIRST).address]


def test_without_a_key_it_says_what_to_give() -> None:
    with pytest.raises(KeyProblem, match=r"no signing key: give --key-file.*--watch-only"):
        signing_keys([], False, {})


def test_watching_only_needs_no_key_and_takes_none(files: list[Path]) -> None:
    assert signing_keys([], True, {}) == ()
    with pytest.raises(InvalidInput, match="--key-file gives a key"):
        signing_keys(files, True, {})


@pytest.mark.parametrize("name", ["HASHFLEET_MNEMONIC", "HASHFLEET_PRIVATE_KEY", "HASHFLEET_KEY_FILE"])
def test_watching_only_with_a_key_in_the_environment_is_a_contradiction(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"{name} gives a key") as caught:
        signing_keys([], True, {name: FIRST})
    assert FIRST not in str(caught.value)
