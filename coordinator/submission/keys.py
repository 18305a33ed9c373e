"""Signing keys of the chain: secp256k1, from a BIP-39 mnemonic or from hex, and every place they may be kept in.

A key never leaves the `keys` modules in readable form: not in a repr, not in a pickle, not in an error, not in the
frames of a traceback. Whatever is wrong with a secret is told by position and count ("word 3", "11 words"), never by
repeating any part of it.

An account's address is bech32(prefix, RIPEMD-160(SHA-256(compressed public key))). RIPEMD-160 comes from
pycryptodome because hashlib's depends on how OpenSSL was built.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NoReturn

import bech32
from coincurve import PrivateKey
from Crypto.Hash import RIPEMD160
from mnemonic import Mnemonic

from coordinator.submission import keys_keyring, keys_sealed
from coordinator.submission.keys_private_file import read_private
from coordinator.submission.keys_sealed import Cost, KeyFile
from coordinator.submission.keys_secret import Secret, concealed
from hashfleet.errors import KeyProblem

#: Bech32 prefix of accounts on the Structs chains.
ADDRESS_PREFIX: Final = "structs"
#: SLIP-44 coin type 118, first account: what the chain's own wallet and the web client derive.
HD_PATH: Final = "m/44'/118'/0'/0/0"

#: Names of the environment variables; at most one of these three may be set. The last may name several files, with
#: colons between them as in PATH.
MNEMONIC_VARIABLE: Final = "HASHFLEET_MNEMONIC"
PRIVATE_KEY_VARIABLE: Final = "HASHFLEET_PRIVATE_KEY"
KEY_FILE_VARIABLE: Final = "HASHFLEET_KEY_FILE"
KEY_VARIABLES: Final = (MNEMONIC_VARIABLE, PRIVATE_KEY_VARIABLE, KEY_FILE_VARIABLE)
#: The passphrase of encrypted key files, or a private file that holds it; at most one of these two may be set.
PASSPHRASE_VARIABLE: Final = "HASHFLEET_KEY_PASSPHRASE"
PASSPHRASE_FILE_VARIABLE: Final = "HASHFLEET_KEY_PASSPHRASE_FILE"
#: Keys that one coordinator signs with at most.
MAX_KEYS: Final = 100

#: Order of the secp256k1 group (SEC 2, section 2.4.1); a private key is 1 to order - 1.
_ORDER: Final = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
_WORD_COUNTS: Final = (12, 15, 18, 21, 24)
_HEX_KEY: Final = re.compile(r"(?:0x)?([0-9a-fA-F]{64})", re.ASCII)
_MAX_PATH_DEPTH: Final = 16


class SigningKey:
    """One private key. It signs and tells its public key and address; nothing gets the secret out again."""

    __slots__ = ("__key", "_address", "_public_key")

    @concealed
    def __init__(self, secret: bytes, prefix: str = ADDRESS_PREFIX) -> None:
        """Take a 32-byte secret. Raises KeyProblem if it has another length or is not a key of the curve."""
        if len(secret) != 32:
            raise KeyProblem(f"the private key has {len(secret)} bytes; it should have 32")
        if not 0 < int.from_bytes(secret, "big") < _ORDER:
            raise KeyProblem("the private key is zero or beyond the order of secp256k1; it should be a random number")
        self.__key = PrivateKey(secret)
        self._public_key = self.__key.public_key.format(compressed=True)
        self._address = address_of(self._public_key, prefix)

    @property
    def public_key(self) -> bytes:
        """The compressed public key, 33 bytes."""
        return self._public_key

    @property
    def address(self) -> str:
        """The bech32 address of the account."""
        return self._address

    def sign(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest: ECDSA, nonce by RFC 6979, low S; 64 bytes r then s, big-endian."""
        if len(digest) != 32:
            raise ValueError(f"the digest has {len(digest)} bytes; a SHA-256 digest has 32")
        # libsecp256k1 makes RFC 6979 nonces and low-S signatures by default; byte 65 is the recovery id.
        return self.__key.sign_recoverable(digest, hasher=None)[:64]

    def __repr__(self) -> str:
        return f"SigningKey({self._address})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a SigningKey cannot be pickled or copied: its secret stays in this process")


def address_of(public_key: bytes, prefix: str = ADDRESS_PREFIX) -> str:
    """The bech32 account address of a 33-byte compressed public key."""
    digest = RIPEMD160.new(hashlib.sha256(public_key).digest()).digest()
    groups = bech32.convertbits(digest, 8, 5)
    assert groups is not None  # whole bytes always convert
    return bech32.bech32_encode(prefix, groups)


@concealed
def from_hex(text: str, prefix: str = ADDRESS_PREFIX) -> SigningKey:
    """The key written as 64 hex digits, `0x` before them or not. Raises KeyProblem."""
    return SigningKey(_secret_of_hex(text), prefix)


@concealed
def from_mnemonic(words: str, *, passphrase: str = "", path: str = HD_PATH, prefix: str = ADDRESS_PREFIX) -> SigningKey:
    """The key that a wallet derives from an English BIP-39 mnemonic at a BIP-32 path. Raises KeyProblem."""
    return SigningKey(_secret_of_mnemonic(words, passphrase, path), prefix)


def _secret_of_hex(text: str) -> bytes:
    found = _HEX_KEY.fullmatch(text.strip())
    if not found:
        raise KeyProblem(f"the private key has {len(text.strip())} characters; it should be 64 hex digits")
    return bytes.fromhex(found[1])


def _secret_of_mnemonic(words: str, passphrase: str, path: str) -> bytes:
    phrase = " ".join(unicodedata.normalize("NFKD", words).lower().split())
    listed = phrase.split(" ") if phrase else []
    if len(listed) not in _WORD_COUNTS:
        raise KeyProblem(f"the mnemonic has {len(listed)} words; it should have 12, 15, 18, 21 or 24")
    language = Mnemonic("english")
    known = set(language.wordlist)
    for position, word in enumerate(listed, start=1):
        if word not in known:
            raise KeyProblem(f"word {position} of the mnemonic is not in the English BIP-39 list; check its spelling")
    if not language.check(phrase):
        raise KeyProblem("the checksum of the mnemonic is wrong; a word is exchanged or the order is not the original")
    return derive(Mnemonic.to_seed(phrase, passphrase), path)[0]


@concealed
def derive(seed: bytes, path: str) -> tuple[bytes, bytes]:
    """BIP-32: the private key and chain code, 32 bytes each, at `path` below the master key of a seed.

    A path reads like ``m/44'/118'/0'/0/0``; an apostrophe (or h) marks a hardened step. Raises KeyProblem.
    """
    if not 16 <= len(seed) <= 64:
        raise KeyProblem(f"the seed has {len(seed)} bytes; BIP-32 takes 16 to 64")
    root, *steps = path.split("/")
    if root != "m" or len(steps) > _MAX_PATH_DEPTH:
        raise KeyProblem(f"the derivation path should start with m/ and have at most {_MAX_PATH_DEPTH} steps")
    secret, chain_code = _halves(b"Bitcoin seed", seed)
    if not 0 < int.from_bytes(secret, "big") < _ORDER:
        raise KeyProblem("the seed gives no valid master key (chance 2^-127); use another mnemonic")
    for step in steps:
        index = _step_index(step)
        parent = PrivateKey(secret)
        material = b"\0" + parent.secret if index >= 2**31 else parent.public_key.format(compressed=True)
        tweak, chain_code = _halves(chain_code, material + index.to_bytes(4, "big"))
        try:
            secret = parent.add(tweak).secret
        except ValueError:
            # coincurve's message holds no secret, but "from None" keeps its locals out of tracebacks as well.
            raise KeyProblem("the derivation path gives no valid key (chance 2^-127); use another path") from None
    return secret, chain_code


@concealed
def from_text(text: str, prefix: str = ADDRESS_PREFIX) -> SigningKey:
    """The key in a text that holds either a mnemonic or hex digits: several words are a mnemonic. Raises KeyProblem."""
    return SigningKey(secret_of(Secret(text)).reveal(), prefix)


@concealed
def secret_of(text: Secret[str], path: str = HD_PATH) -> Secret[bytes]:
    """The 32-byte private key that a mnemonic (at this BIP-32 path) or hex digits stand for. Raises KeyProblem."""
    words = text.reveal()
    return Secret(_secret_of_mnemonic(words, "", path) if len(words.split()) > 1 else _secret_of_hex(words))


def new_mnemonic(words: int = 24) -> Secret[str]:
    """A fresh English mnemonic of 12, 15, 18, 21 or 24 words, from the system's random numbers. Raises KeyProblem."""
    if words not in _WORD_COUNTS:
        raise KeyProblem(f"a mnemonic of {words} words was asked for; it should have 12, 15, 18, 21 or 24")
    return Secret(Mnemonic("english").to_mnemonic(os.urandom(words * 4 // 3)))


@concealed
def sealed(secret: Secret[bytes], passphrase: Secret[str], cost: Cost) -> KeyFile:
    """The encrypted key file of a private key. Raises KeyProblem."""
    key = SigningKey(secret.reveal())
    return keys_sealed.seal(secret, passphrase, key.address, key.public_key, cost)


@concealed
def into_keyring(secret: Secret[bytes]) -> KeyFile:
    """Keep a private key in the OS keyring; the file tells which one it is. Raises KeyProblem."""
    key = SigningKey(secret.reveal())
    keys_keyring.store(key.address, Secret(secret.reveal().hex()))
    return KeyFile(address=key.address, public_key=key.public_key.hex(), kept_in="keyring")


@dataclass(frozen=True, slots=True)
class Identity:
    """What may be told of a key."""

    address: str
    #: Compressed, in hex.
    public_key: str
    #: "file": encrypted; "keyring": in the OS keyring; "clear": a mnemonic or hex digits in a private file.
    kept_in: Literal["file", "keyring", "clear"]


@concealed
def identity(path: Path, prefix: str = ADDRESS_PREFIX) -> Identity:
    """Whose key a file holds, without its passphrase. Raises KeyProblem."""
    text = read_private(path, "key file")
    try:
        if keys_sealed.is_key_file(text.reveal()):
            file = keys_sealed.parse(text.reveal())
            return Identity(file.address, file.public_key, file.kept_in)
        key = SigningKey(secret_of(text).reveal(), prefix)
    except KeyProblem as error:
        raise KeyProblem(f"the key file {path} holds no usable key: {error}") from None
    return Identity(key.address, key.public_key.hex(), "clear")


#: Gives the passphrase of the key file that it is told.
AskPassphrase = Callable[[Path], Secret[str]]


@concealed
def from_file(path: Path, prefix: str = ADDRESS_PREFIX, passphrase: AskPassphrase | None = None) -> SigningKey:
    """The key in a file that only its owner can read: a mnemonic, hex digits, or what `hashfleet keys` made.

    `passphrase` is called for a file that is encrypted. Raises KeyProblem.
    """
    text = read_private(path, "key file")
    try:
        if not keys_sealed.is_key_file(text.reveal()):
            return SigningKey(secret_of(text).reveal(), prefix)
        file = keys_sealed.parse(text.reveal())
    except KeyProblem as error:
        raise KeyProblem(f"the key file {path} holds no usable key: {error}") from None
    if file.kept_in == "keyring":
        secret = secret_of(keys_keyring.fetch(file.address))
    elif passphrase is None:
        raise KeyProblem(
            f"the key file {path} is encrypted and there is nobody to ask for its passphrase; set "
            f"{PASSPHRASE_FILE_VARIABLE} to a private file that holds it"
        )
    else:
        given = passphrase(path)
        try:
            secret = keys_sealed.open_sealed(file, given)
        except KeyProblem as error:
            raise KeyProblem(f"the key file {path} cannot be opened: {error}") from None
    key = SigningKey(secret.reveal(), prefix)
    if key.public_key.hex() != file.public_key:
        raise KeyProblem(f"the key file {path} names {file.address}, but what it leads to is another key; make it anew")
    return key


@concealed
def from_environment(
    environment: Mapping[str, str], prefix: str = ADDRESS_PREFIX, passphrase: AskPassphrase | None = None
) -> tuple[SigningKey, ...]:
    """The keys that the environment names, in their order; none if it names none. Raises KeyProblem."""
    names = [name for name in KEY_VARIABLES if environment.get(name)]
    if not names:
        return ()
    if len(names) > 1:
        raise KeyProblem(f"{' and '.join(names)} are set; set only one of them, so that it is plain which key signs")
    (name,) = names
    value = environment[name]
    try:
        if name == KEY_FILE_VARIABLE:
            paths = [Path(part).expanduser() for part in value.split(os.pathsep) if part]
            return _each_once(paths, prefix, passphrase)
        if name == MNEMONIC_VARIABLE:
            return (from_mnemonic(value, prefix=prefix),)
        return (from_hex(value, prefix),)
    except KeyProblem as error:
        raise KeyProblem(f"{name}: {error}") from None


@concealed
def load_keys(
    files: Sequence[Path],
    environment: Mapping[str, str],
    *,
    ask: AskPassphrase | None = None,
    prefix: str = ADDRESS_PREFIX,
) -> tuple[SigningKey, ...]:
    """Every key that a coordinator may sign with, in the order configured; none at all is no error here.

    `files` are key files of any kind (`from_file`); if there are any, the keys that the environment names are left
    alone. An encrypted file's passphrase comes from the environment, otherwise from `ask`, once per file. Raises
    KeyProblem, also for a key that is named twice.
    """
    given = passphrase_in(environment)
    passphrase: AskPassphrase | None = ask if given is None else lambda _: given
    return _each_once(files, prefix, passphrase) if files else from_environment(environment, prefix, passphrase)


@concealed
def passphrase_in(environment: Mapping[str, str]) -> Secret[str] | None:
    """The passphrase that the environment gives, itself or by a private file; None if it gives none.

    Raises KeyProblem. One line break at a file's end does not belong to the passphrase.
    """
    text, path = environment.get(PASSPHRASE_VARIABLE), environment.get(PASSPHRASE_FILE_VARIABLE)
    if text and path:
        raise KeyProblem(f"{PASSPHRASE_VARIABLE} and {PASSPHRASE_FILE_VARIABLE} are set; set only one of them")
    if path:
        return passphrase_of(Path(path).expanduser())
    return Secret(text) if text else None


@concealed
def passphrase_of(path: Path) -> Secret[str]:
    """The passphrase in a file that only its owner can read. Raises KeyProblem."""
    found = Secret(read_private(path, "passphrase file").reveal().removesuffix("\n").removesuffix("\r"))
    if not found.reveal() or "\n" in found.reveal():
        raise KeyProblem(f"the passphrase file {path} should hold one line, and it should not be empty")
    return found


def _each_once(files: Sequence[Path], prefix: str, passphrase: AskPassphrase | None) -> tuple[SigningKey, ...]:
    if len(files) > MAX_KEYS:
        raise KeyProblem(f"{len(files)} key files are given; one coordinator signs with at most {MAX_KEYS}")
    found: dict[str, tuple[Path, SigningKey]] = {}
    for path in files:
        key = from_file(path, prefix, passphrase)
        if key.address in found:
            raise KeyProblem(
                f"the key files {found[key.address][0]} and {path} hold the same key, {key.address}; give each key once"
            )
        found[key.address] = path, key
    return tuple(key for _, key in found.values())


def _halves(key: bytes, data: bytes) -> tuple[bytes, bytes]:
    digest = hmac.digest(key, data, "sha512")
    return digest[:32], digest[32:]


def _step_index(step: str) -> int:
    hardened = step.endswith(("'", "h"))
    digits = step[:-1] if hardened else step
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10 and int(digits) < 2**31):
        raise KeyProblem("a step of the derivation path should be a number below 2147483648, with ' if hardened")
    return int(digits) + 2**31 * hardened
