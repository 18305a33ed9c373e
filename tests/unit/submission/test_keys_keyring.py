"""Keys in the operating system's keyring, with a keyring in memory."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.errors
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail

from coordinator.submission import keys, keys_keyring
from coordinator.submission.keys_secret import Secret
from hashfleet.errors import KeyProblem

SECRET = bytes(range(101, 133))
KEY = keys.from_hex(SECRET.hex())


class MemoryKeyring(KeyringBackend):
    """Keeps entries; a test says what it answers instead."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.trouble: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()

    def get_password(self, service: str, username: str) -> str | None:
        self.answers.wait()
        if self.trouble is not None:
            raise self.trouble
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


class PlaintextKeyring(MemoryKeyring):
    """As the package keyrings.alt has one."""


@pytest.fixture
def ring() -> Iterator[MemoryKeyring]:
    before = keyring.get_keyring()
    ring = MemoryKeyring()
    keyring.set_keyring(ring)
    yield ring
    ring.answers.set()
    keyring.set_keyring(before)


def pointer(path: Path) -> Path:
    file = keys.into_keyring(Secret(SECRET))
    path.write_text(file.text())
    path.chmod(0o600)
    return path


def test_a_key_in_the_keyring_is_found_by_its_file(ring: MemoryKeyring, tmp_path: Path) -> None:
    path = pointer(tmp_path / "key.json")
    assert ring.entries == {("hashfleet", KEY.address): SECRET.hex()}
    assert SECRET.hex() not in path.read_text()
    assert keys.from_file(path).address == KEY.address


def test_a_key_that_is_there_is_not_written_over(ring: MemoryKeyring) -> None:
    keys.into_keyring(Secret(SECRET))
    with pytest.raises(KeyProblem, match="already"):
        keys.into_keyring(Secret(SECRET))


def test_a_removed_key_is_told_as_missing(ring: MemoryKeyring, tmp_path: Path) -> None:
    path = pointer(tmp_path / "key.json")
    assert keys_keyring.remove(KEY.address)
    assert not keys_keyring.remove(KEY.address)
    with pytest.raises(KeyProblem, match="the keyring has no key of"):
        keys.from_file(path)


def test_an_entry_that_is_another_key_is_refused(ring: MemoryKeyring, tmp_path: Path) -> None:
    path = pointer(tmp_path / "key.json")
    ring.entries["hashfleet", KEY.address] = "22" * 32
    with pytest.raises(KeyProblem, match="is another key"):
        keys.from_file(path)


def test_a_missing_package_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(KeyProblem, match=r"pip install 'hashfleet\[keyring\]'$"):
        keys_keyring.fetch(KEY.address)


def test_a_machine_without_a_keyring_is_one_clear_sentence(ring: MemoryKeyring) -> None:
    keyring.set_keyring(fail.Keyring())
    with pytest.raises(KeyProblem, match=r"there is no OS keyring here .*encrypted file instead"):
        keys_keyring.fetch(KEY.address)


def test_a_keyring_in_plain_text_is_refused(ring: MemoryKeyring) -> None:
    keyring.set_keyring(PlaintextKeyring())
    with pytest.raises(KeyProblem, match="plain text"):
        keys.into_keyring(Secret(SECRET))


def test_a_locked_keyring_is_told(ring: MemoryKeyring) -> None:
    ring.trouble = keyring.errors.KeyringLocked("locked")
    with pytest.raises(KeyProblem, match="is locked"):
        keys_keyring.fetch(KEY.address)


def test_the_text_of_a_keyrings_error_is_not_repeated(ring: MemoryKeyring) -> None:
    ring.trouble = RuntimeError(f"cannot read {SECRET.hex()}")
    with pytest.raises(KeyProblem, match=r"failed \(RuntimeError\)") as caught:
        keys_keyring.fetch(KEY.address)
    assert SECRET.hex() not in str(caught.value)


def test_a_keyring_that_never_answers_is_given_up(ring: MemoryKeyring) -> None:
    ring.answers.clear()
    with pytest.raises(KeyProblem, match="did not answer within"):
        keys_keyring.fetch(KEY.address, seconds=0.05)
