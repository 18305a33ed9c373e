"""Encrypted key files: what goes in comes out, only with the passphrase, and no file costs what it likes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.submission import keys, keys_sealed
from coordinator.submission.keys_sealed import Cost
from coordinator.submission.keys_secret import Secret
from hashfleet.errors import KeyProblem

SECRET = bytes(range(101, 133))
PASSPHRASE = "correct horse battery staple"
CHEAP = Cost(2, 1, 1)


def sealed(passphrase: str = PASSPHRASE) -> str:
    return keys.sealed(Secret(SECRET), Secret(passphrase), CHEAP).text()


def opened(text: str, passphrase: str = PASSPHRASE) -> bytes:
    return keys_sealed.open_sealed(keys_sealed.parse(text), Secret(passphrase)).reveal()


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(sealed())
    change(document)
    return json.dumps(document)


def test_what_was_sealed_opens_with_its_passphrase() -> None:
    assert opened(sealed()) == SECRET


def test_the_file_tells_its_address_and_no_secret() -> None:
    text = sealed()
    assert json.loads(text)["address"] == keys.from_hex(SECRET.hex()).address
    assert SECRET.hex() not in text
    assert PASSPHRASE not in text


def test_the_same_key_is_never_sealed_the_same_way_twice() -> None:
    first, second = json.loads(sealed()), json.loads(sealed())
    assert first["kdf"]["salt"] != second["kdf"]["salt"]
    assert first["cipher"]["nonce"] != second["cipher"]["nonce"]
    assert first["cipher"]["ciphertext"] != second["cipher"]["ciphertext"]


def test_the_form_is_scrypt_and_aes_gcm_as_its_description_says() -> None:
    """Opened here by another library, from the description alone."""
    aead = pytest.importorskip("cryptography.hazmat.primitives.ciphers.aead")
    document = json.loads(sealed())
    kdf, cipher = document["kdf"], document["cipher"]
    key = hashlib.scrypt(
        PASSPHRASE.encode(), salt=bytes.fromhex(kdf["salt"]), n=kdf["n"], r=kdf["r"], p=kdf["p"], dklen=32
    )
    ciphertext, tag = bytes.fromhex(cipher.pop("ciphertext")), bytes.fromhex(cipher.pop("tag"))
    authenticated = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    assert aead.AESGCM(key).decrypt(bytes.fromhex(cipher["nonce"]), ciphertext + tag, authenticated) == SECRET


def test_a_file_of_the_first_version_still_opens() -> None:
    text = (Path(__file__).parent / "key_file_v1.json").read_text()
    assert opened(text, "Grüße aus der Datei") == SECRET


def test_a_passphrase_may_be_typed_composed_or_decomposed() -> None:
    assert opened(sealed("Gr\u00fc\u00dfe von hier"), "Gru\u0308\u00dfe von hier") == SECRET


def test_a_wrong_passphrase_is_one_clear_sentence() -> None:
    with pytest.raises(KeyProblem, match=r"^the passphrase is wrong, or the file was changed$"):
        opened(sealed(), PASSPHRASE + "x")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(address=keys.from_hex("22" * 32).address),
        lambda d: d.update(public_key=keys.from_hex("22" * 32).public_key.hex()),
        lambda d: d["kdf"].update(salt="00" * 32),
        lambda d: d["kdf"].update(n=4),
        lambda d: d["cipher"].update(nonce="00" * 12),
        lambda d: d["cipher"].update(ciphertext="00" * 32),
        lambda d: d["cipher"].update(tag="00" * 16),
    ],
    ids=["address", "public key", "salt", "cost", "nonce", "ciphertext", "tag"],
)
def test_a_file_with_anything_changed_does_not_open(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(KeyProblem, match="the passphrase is wrong, or the file was changed"):
        opened(changed(change))


@pytest.mark.parametrize(
    ("n", "r", "p"),
    [(2**22, 8, 1), (2**18, 16, 1), (2, 2**16, 2**16), (2**17, 8, 2**10), (2**32, 1, 1), (3, 8, 1), (100_000, 8, 1)],
)
def test_a_hostile_file_costs_no_memory_and_no_time(monkeypatch: pytest.MonkeyPatch, n: int, r: int, p: int) -> None:
    hostile = changed(lambda d: d["kdf"].update(n=n, r=r, p=p))
    asked: list[object] = []
    monkeypatch.setattr(keys_sealed, "scrypt", lambda *arguments: asked.append(arguments))
    with pytest.raises(KeyProblem, match="costs of scrypt"):
        opened(hostile)
    assert asked == []


def test_the_usual_cost_is_within_the_bounds_and_takes_128_mib() -> None:
    usual = Cost()
    assert 128 * usual.n * usual.r == 128 * 2**20


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[" * 4000, "not JSON"),
        ("{}", "hashfleet-key"),
        ('{"format": "hashfleet-key"}', "version 1"),
        ('{"format": "hashfleet-key", "version": 2}', "version 1"),
        ('{"format": "hashfleet-key", "version": 1}', "'address'"),
    ],
)
def test_what_is_no_key_file_is_a_key_problem_that_says_why(text: str, told: str) -> None:
    with pytest.raises(KeyProblem, match=told):
        keys_sealed.parse(text)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d.update(more=1), "'more'"),
        (lambda d: d["kdf"].update(name="argon2id"), "'kdf.name'"),
        (lambda d: d["kdf"].update(n="2"), "'kdf.n'"),
        (lambda d: d["kdf"].update(n=10**400), "'kdf.n'|not JSON"),
        (lambda d: d["cipher"].update(tag="00" * 12), "'cipher.tag'"),
        (lambda d: d["cipher"].update(nonce="0"), "'cipher.nonce'"),
        (lambda d: d["cipher"].update(ciphertext="0G" * 32), "'cipher.ciphertext'"),
        (lambda d: d.update(address="nobody"), "'address'"),
        (lambda d: d.update(kept_in="cloud"), "'kept_in'"),
        (lambda d: d.update(kept_in="keyring"), "kdf and cipher"),
        (lambda d: d.pop("kdf"), "kdf and cipher"),
        (lambda d: d.pop("cipher"), "kdf and cipher"),
    ],
)
def test_a_field_that_is_not_of_its_form_is_named(change: Callable[[dict[str, Any]], object], told: str) -> None:
    with pytest.raises(KeyProblem, match=told):
        keys_sealed.parse(changed(change))


@pytest.mark.parametrize("passphrase", ["", "7 chars", "x" * 1025])
def test_a_new_key_takes_no_passphrase_that_is_too_short_or_too_long(passphrase: str) -> None:
    with pytest.raises(KeyProblem, match="8 to 1024"):
        sealed(passphrase)


def test_a_passphrase_that_is_no_text_is_a_key_problem() -> None:
    with pytest.raises(KeyProblem, match="not text"):
        sealed("eight \udc80 chars")
