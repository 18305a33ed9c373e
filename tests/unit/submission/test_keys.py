"""Keys: derivation as wallets do it, signatures as the chain wants them, and silence about the secret."""

# ruff: noqa: E501 (extended keys are one word each)

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import pickle
import traceback
from pathlib import Path

import pytest
from coincurve import PublicKey

from coordinator.submission import keys
from coordinator.submission.keys_private_file import write_private
from coordinator.submission.keys_sealed import Cost
from coordinator.submission.keys_secret import Secret
from hashfleet.errors import KeyProblem

VECTORS = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())["tx"]
KEY = VECTORS["key"]
MNEMONIC = KEY["mnemonic"]
SECRET_HEX = KEY["private_key_hex"]
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

# BIP-32, appendix "Test Vectors": seed, path, base58check extended private key.
BIP32 = [
    ("000102030405060708090a0b0c0d0e0f", "m", "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi"),
    ("000102030405060708090a0b0c0d0e0f", "m/0'", "xprv9uHRZZhk6KAJC1avXpDAp4MDc3sQKNxDiPvvkX8Br5ngLNv1TxvUxt4cV1rGL5hj6KCesnDYUhd7oWgT11eZG7XnxHrnYeSvkzY7d2bhkJ7"),
    ("000102030405060708090a0b0c0d0e0f", "m/0'/1", "xprv9wTYmMFdV23N2TdNG573QoEsfRrWKQgWeibmLntzniatZvR9BmLnvSxqu53Kw1UmYPxLgboyZQaXwTCg8MSY3H2EU4pWcQDnRnrVA1xe8fs"),
    ("000102030405060708090a0b0c0d0e0f", "m/0'/1/2'", "xprv9z4pot5VBttmtdRTWfWQmoH1taj2axGVzFqSb8C9xaxKymcFzXBDptWmT7FwuEzG3ryjH4ktypQSAewRiNMjANTtpgP4mLTj34bhnZX7UiM"),
    ("000102030405060708090a0b0c0d0e0f", "m/0'/1/2'/2", "xprvA2JDeKCSNNZky6uBCviVfJSKyQ1mDYahRjijr5idH2WwLsEd4Hsb2Tyh8RfQMuPh7f7RtyzTtdrbdqqsunu5Mm3wDvUAKRHSC34sJ7in334"),
    ("000102030405060708090a0b0c0d0e0f", "m/0'/1/2'/2/1000000000", "xprvA41z7zogVVwxVSgdKUHDy1SKmdb533PjDz7J6N6mV6uS3ze1ai8FHa8kmHScGpWmj4WggLyQjgPie1rFSruoUihUZREPSL39UNdE3BBDu76"),
    ("fffcf9f6f3f0edeae7e4e1dedbd8d5d2cfccc9c6c3c0bdbab7b4b1aeaba8a5a29f9c999693908d8a8784817e7b7875726f6c696663605d5a5754514e4b484542", "m/0/2147483647'/1/2147483646'/2", "xprvA2nrNbFZABcdryreWet9Ea4LvTJcGsqrMzxHx98MMrotbir7yrKCEXw7nadnHM8Dq38EGfSh6dqA9QWTyefMLEcBYJUuekgW4BYPJcr9E7j"),
    # Vectors 3 and 4 are about keys with leading zero bytes.
    ("4b381541583be4423346c643850da4b320e46a87ae3d2a4e6da11eba819cd4acba45d239319ac14f863b8d5ab5a0d0c64d2e8a1e7d1457df2e5a3c51c73235be", "m/0'", "xprv9uPDJpEQgRQfDcW7BkF7eTya6RPxXeJCqCJGHuCJ4GiRVLzkTXBAJMu2qaMWPrS7AANYqdq6vcBcBUdJCVVFceUvJFjaPdGZ2y9WACViL4L"),
    ("3ddd5602285899a946114506157c7997e5444528f3003f6134712147db19b678", "m/0'/1'", "xprv9xJocDuwtYCMNAo3Zw76WENQeAS6WGXQ55RCy7tDJ8oALr4FWkuVoHJeHVAcAqiZLE7Je3vZJHxspZdFHfnBEjHqU5hG1Jaj32dVoS6XLT1"),
]  # fmt: skip


def decode_extended(text: str) -> tuple[bytes, bytes]:
    """Private key and chain code out of a base58check extended private key, its checksum checked."""
    number = 0
    for character in text:
        number = number * 58 + "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".index(character)
    raw = number.to_bytes(82, "big")
    assert hashlib.sha256(hashlib.sha256(raw[:78]).digest()).digest()[:4] == raw[78:]
    return raw[46:78], raw[13:45]


@pytest.mark.parametrize(("seed", "path", "extended"), BIP32)
def test_bip32_derivation_equals_the_official_vectors(seed: str, path: str, extended: str) -> None:
    assert keys.derive(bytes.fromhex(seed), path) == decode_extended(extended)


def test_the_mnemonic_gives_the_key_and_address_of_the_chains_own_wallet() -> None:
    key = keys.from_mnemonic(MNEMONIC)
    assert key.address == KEY["address"]
    assert key.public_key.hex() == KEY["public_key_hex"]
    digest = hashlib.sha256(b"same secret").digest()
    assert key.sign(digest) == keys.from_hex(SECRET_HEX).sign(digest)


def test_a_mnemonic_may_have_capitals_and_any_white_space() -> None:
    assert keys.from_mnemonic("  " + MNEMONIC.upper().replace(" ", " \n\t") + "\n").address == KEY["address"]


def test_a_passphrase_gives_another_key() -> None:
    assert keys.from_mnemonic(MNEMONIC, passphrase="x").address != KEY["address"]


def test_a_hex_key_may_start_with_0x() -> None:
    assert keys.from_hex("0x" + SECRET_HEX.upper() + "\n").address == KEY["address"]


def test_another_prefix_gives_another_address_of_the_same_key() -> None:
    assert keys.from_hex(SECRET_HEX, "cosmos").address == "cosmos19rl4cm2hmr8afy4kldpxz3fka4jguq0auqdal4"


def test_the_signature_equals_the_vector_and_verifies() -> None:
    vector = VECTORS["vectors"][0]
    digest = bytes.fromhex(vector["sign_doc_sha256"])
    signature = keys.from_hex(SECRET_HEX).sign(digest)
    assert signature.hex() == vector["signature_hex"]


@pytest.mark.parametrize("number", range(40))
def test_every_signature_has_64_bytes_and_low_s(number: int) -> None:
    signature = keys.from_hex(SECRET_HEX).sign(hashlib.sha256(bytes([number])).digest())
    assert len(signature) == 64
    assert 0 < int.from_bytes(signature[32:], "big") <= ORDER // 2


def test_the_signature_verifies_with_the_public_key_alone() -> None:
    key = keys.from_hex(SECRET_HEX)
    digest = hashlib.sha256(b"anything").digest()
    signature = key.sign(digest)

    def der_integer(value: bytes) -> bytes:
        value = value.lstrip(b"\0")
        value = b"\0" + value if value[0] & 0x80 else value
        return b"\x02" + bytes([len(value)]) + value

    body = der_integer(signature[:32]) + der_integer(signature[32:])
    assert PublicKey(key.public_key).verify(b"\x30" + bytes([len(body)]) + body, digest, hasher=None)


def test_a_digest_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="31 bytes"):
        keys.from_hex(SECRET_HEX).sign(bytes(31))


# What is wrong is told, the secret is not.

BAD_SECRETS = {
    "no words": ("", "0 words"),
    "eleven words": (" ".join(["abandon"] * 11), "11 words"),
    "an unknown word": (MNEMONIC.replace("about", "abuot"), "word 12"),
    "a wrong checksum": (" ".join(["abandon"] * 12), "checksum"),
    "swapped words": (" ".join(["about", *["abandon"] * 11]), "checksum"),
}


@pytest.mark.parametrize("name", BAD_SECRETS)
def test_a_bad_mnemonic_is_a_key_problem_that_names_the_fault(name: str) -> None:
    words, expected = BAD_SECRETS[name]
    with pytest.raises(KeyProblem, match=expected):
        keys.from_mnemonic(words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SECRET_HEX[:-1], "63 characters"),
        (SECRET_HEX + "0", "65 characters"),
        (SECRET_HEX[:-1] + "g", "64 hex digits"),
        ("00" * 32, "zero or beyond"),
        (f"{ORDER:064x}", "zero or beyond"),
        ("ff" * 32, "zero or beyond"),
    ],
)
def test_a_bad_hex_key_is_a_key_problem_that_names_the_fault(text: str, expected: str) -> None:
    with pytest.raises(KeyProblem, match=expected):
        keys.from_hex(text)


def test_the_largest_key_of_the_curve_is_taken() -> None:
    assert keys.from_hex(f"{ORDER - 1:064x}").address.startswith("structs1")


@pytest.mark.parametrize("path", ["", "44'/118'", "m/", "m/x", "m/-1", "m/2147483648", "m/1''", "m/" + "1/" * 17 + "1"])
def test_a_bad_derivation_path_is_a_key_problem(path: str) -> None:
    with pytest.raises(KeyProblem, match="derivation path"):
        keys.derive(bytes(16), path)


SPOILED = [
    MNEMONIC.replace("about", "zebrafish"),
    "hunter2 " * 12,
    SECRET_HEX[:-2],
    SECRET_HEX + "77",
    "zz" + SECRET_HEX[2:],
]


@pytest.mark.parametrize("text", SPOILED)
def test_an_error_never_repeats_any_part_of_the_secret(text: str) -> None:
    with pytest.raises(KeyProblem) as caught:
        keys.from_text(text)
    shown = "".join(traceback.format_exception_only(caught.value))
    pieces = set(text.split()) | {text[at : at + 6] for at in range(len(text) - 6) if " " not in text[at : at + 6]}
    assert [piece for piece in pieces if piece in shown] == []


def test_nothing_that_shows_a_key_shows_its_secret(caplog: pytest.LogCaptureFixture) -> None:
    key = keys.from_hex(SECRET_HEX)
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("%s %r %s", key, key, [key])
    shown = repr(key) + str(key) + f"{key}" + caplog.text
    assert key.address in shown
    assert SECRET_HEX not in shown.lower()
    assert str(int(SECRET_HEX, 16)) not in shown
    assert not hasattr(key, "__dict__")


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_a_key_can_not_be_pickled_or_copied(leak: object) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        leak(keys.from_hex(SECRET_HEX))  # type: ignore[operator]


# Files and environment


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(MNEMONIC + "\n")
    path.chmod(0o600)
    return path


def test_a_private_file_with_a_mnemonic_is_read(key_file: Path) -> None:
    assert keys.from_file(key_file).address == KEY["address"]


def test_a_private_file_with_hex_is_read(key_file: Path) -> None:
    key_file.write_text(SECRET_HEX)
    assert keys.from_file(key_file).address == KEY["address"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o777])
def test_a_file_that_others_can_open_is_refused_with_the_remedy(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(KeyProblem, match="chmod 600"):
        keys.from_file(key_file)


def test_a_link_to_an_open_file_is_refused(key_file: Path, tmp_path: Path) -> None:
    key_file.chmod(0o644)
    link = tmp_path / "link"
    link.symlink_to(key_file)
    with pytest.raises(KeyProblem, match="chmod 600"):
        keys.from_file(link)


def test_a_missing_file_a_folder_and_a_pipe_are_key_problems(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path, expected in [(tmp_path / "none", "cannot be opened"), (tmp_path, "regular file"), (pipe, "regular file")]:
        with pytest.raises(KeyProblem, match=expected):
            keys.from_file(path)


@pytest.mark.parametrize(
    ("data", "expected"), [(b"a" * 5000, "more than 4096 bytes"), (b"\xff\xfe\x00", "not text"), (b"", "no usable key")]
)
def test_a_file_with_anything_else_is_a_key_problem(key_file: Path, data: bytes, expected: str) -> None:
    key_file.write_bytes(data)
    with pytest.raises(KeyProblem, match=expected):
        keys.from_file(key_file)


def test_an_environment_without_a_key_means_watching_only() -> None:
    assert keys.from_environment({"PATH": "/bin", "HASHFLEET_MNEMONIC": ""}) == ()


def test_the_environment_gives_the_key_in_each_of_three_ways(key_file: Path) -> None:
    for name, value in [
        ("HASHFLEET_MNEMONIC", MNEMONIC),
        ("HASHFLEET_PRIVATE_KEY", SECRET_HEX),
        ("HASHFLEET_KEY_FILE", str(key_file)),
    ]:
        (key,) = keys.from_environment({name: value})
        assert key.address == KEY["address"], name


def test_the_environment_may_name_several_key_files_in_order(key_file: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.write_text("22" * 32)
    second.chmod(0o600)
    found = keys.from_environment({"HASHFLEET_KEY_FILE": f"{second}:{key_file}"})
    assert [key.address for key in found] == [keys.from_hex("22" * 32).address, KEY["address"]]


def test_files_that_are_named_leave_the_environments_keys_alone(key_file: Path) -> None:
    environment = {"HASHFLEET_PRIVATE_KEY": "22" * 32}
    assert [key.address for key in keys.load_keys([key_file], environment)] == [KEY["address"]]
    assert [key.address for key in keys.load_keys([], environment)] == [keys.from_hex("22" * 32).address]
    assert keys.load_keys([], {}) == ()


def test_the_same_key_twice_is_refused_with_both_names(key_file: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.write_text(SECRET_HEX)
    second.chmod(0o600)
    with pytest.raises(KeyProblem, match=f"{key_file} and {second} hold the same key"):
        keys.load_keys([key_file, second], {})


def test_more_keys_than_a_coordinator_takes_are_refused(key_file: Path) -> None:
    with pytest.raises(KeyProblem, match="at most 100"):
        keys.load_keys([key_file] * 101, {})


# Encrypted files


@pytest.fixture
def encrypted(tmp_path: Path) -> Path:
    path = tmp_path / "encrypted.json"
    file = keys.sealed(Secret(bytes.fromhex(SECRET_HEX)), Secret("a good passphrase"), Cost(2, 1, 1))
    write_private(path, file.text())
    return path


def test_an_encrypted_file_opens_with_the_passphrase_of_the_environment(encrypted: Path) -> None:
    (key,) = keys.load_keys([encrypted], {"HASHFLEET_KEY_PASSPHRASE": "a good passphrase"})
    assert key.address == KEY["address"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_an_encrypted_file_opens_with_the_passphrase_in_a_private_file(
    encrypted: Path, tmp_path: Path, end: str
) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(f"a good passphrase{end}".encode())
    path.chmod(0o600)
    (key,) = keys.load_keys([encrypted], {"HASHFLEET_KEY_PASSPHRASE_FILE": str(path)})
    assert key.address == KEY["address"]
    path.chmod(0o644)
    with pytest.raises(KeyProblem, match=r"the passphrase file .* is open to other users"):
        keys.load_keys([encrypted], {"HASHFLEET_KEY_PASSPHRASE_FILE": str(path)})


@pytest.mark.parametrize("content", ["", "\n", "two\nlines"])
def test_a_passphrase_file_without_one_line_is_refused(encrypted: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "passphrase"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyProblem, match="one line"):
        keys.load_keys([encrypted], {"HASHFLEET_KEY_PASSPHRASE_FILE": str(path)})


def test_two_passphrases_are_refused(encrypted: Path) -> None:
    with pytest.raises(KeyProblem, match="set only one"):
        keys.load_keys([encrypted], {"HASHFLEET_KEY_PASSPHRASE": "x", "HASHFLEET_KEY_PASSPHRASE_FILE": "y"})


def test_without_a_passphrase_somebody_is_asked_for_each_file(encrypted: Path) -> None:
    asked: list[Path] = []

    def ask(path: Path) -> Secret[str]:
        asked.append(path)
        return Secret("a good passphrase")

    (key,) = keys.load_keys([encrypted], {}, ask=ask)
    assert key.address == KEY["address"]
    assert asked == [encrypted]


def test_an_encrypted_file_that_nobody_can_open_says_what_to_set(encrypted: Path) -> None:
    with pytest.raises(KeyProblem, match="set HASHFLEET_KEY_PASSPHRASE_FILE"):
        keys.load_keys([encrypted], {})


def test_a_wrong_passphrase_names_the_file(encrypted: Path) -> None:
    with pytest.raises(KeyProblem, match=f"{encrypted} cannot be opened: the passphrase is wrong"):
        keys.load_keys([encrypted], {"HASHFLEET_KEY_PASSPHRASE": "another"})


def test_the_identity_of_an_encrypted_file_needs_no_passphrase(encrypted: Path, key_file: Path) -> None:
    assert keys.identity(encrypted).address == keys.identity(key_file).address == KEY["address"]
    assert (keys.identity(encrypted).kept_in, keys.identity(key_file).kept_in) == ("file", "clear")


@pytest.mark.parametrize("words", [12, 15, 18, 21, 24])
def test_a_new_mnemonic_has_the_words_asked_for_and_is_a_key(words: int) -> None:
    first, second = keys.new_mnemonic(words).reveal(), keys.new_mnemonic(words).reveal()
    assert first != second
    assert len(first.split()) == words
    assert keys.from_mnemonic(first).address.startswith("structs1")


def test_a_mnemonic_of_another_length_is_not_made() -> None:
    with pytest.raises(KeyProblem, match="13 words"):
        keys.new_mnemonic(13)


def test_two_keys_in_the_environment_are_refused() -> None:
    with pytest.raises(KeyProblem, match="HASHFLEET_MNEMONIC and HASHFLEET_PRIVATE_KEY"):
        keys.from_environment({"HASHFLEET_MNEMONIC": MNEMONIC, "HASHFLEET_PRIVATE_KEY": SECRET_HEX})


def test_an_error_about_the_environment_names_the_variable() -> None:
    with pytest.raises(KeyProblem, match="HASHFLEET_PRIVATE_KEY: the private key has 3 characters"):
        keys.from_environment({"HASHFLEET_PRIVATE_KEY": "abc"})
