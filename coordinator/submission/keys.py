"""Signing keys of the chain: secp256k1, from a BIP-39 mnemonic or from hex, out of a file or the environment.

A key never leaves this module in readable form: not in a repr, not in a pickle, not in an error. Whatever is wrong
with a secret is told by position and count ("word 3", "11 words"), never by repeating any part of it.

An account's address is bech32(prefix, RIPEMD-160(SHA-256(compressed public key))). RIPEMD-160 comes from
pycryptodome because hashlib's depends on how OpenSSL was built.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

import bech32
from coincurve import PrivateKey
from Crypto.Hash import RIPEMD160
from mnemonic import Mnemonic

from hashfleet.errors import KeyProblem

#: Bech32 prefix of accounts on the Structs chains.
ADDRESS_PREFIX: Final = "structs"
#: SLIP-44 coin type 118, first account: what the chain's own wallet and the web client derive.
HD_PATH: Final = "m/44'/118'/0'/0/0"

#: Names of the environment variables; at most one of them may be set.
MNEMONIC_VARIABLE: Final = "HASHFLEET_MNEMONIC"
PRIVATE_KEY_VARIABLE: Final = "HASHFLEET_PRIVATE_KEY"
KEY_FILE_VARIABLE: Final = "HASHFLEET_KEY_FILE"

#: Order of the secp256k1 group (SEC 2, section 2.4.1); a private key is 1 to order - 1.
_ORDER: Final = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
_WORD_COUNTS: Final = (12, 15, 18, 21, 24)
#: A mnemonic of 24 words has at most 215 characters; the bound only keeps a wrong path from costing memory.
_MAX_KEY_FILE_BYTES: Final = 4096
_HEX_KEY: Final = re.compile(r"(?:0x)?([0-9a-fA-F]{64})", re.ASCII)
_MAX_PATH_DEPTH: Final = 16


class SigningKey:
    """One private key. It signs and tells its public key and address; nothing gets the secret out again."""

    __slots__ = ("__key", "_address", "_public_key")

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


def from_hex(text: str, prefix: str = ADDRESS_PREFIX) -> SigningKey:
    """The key written as 64 hex digits, `0x` before them or not. Raises KeyProblem."""
    found = _HEX_KEY.fullmatch(text.strip())
    if not found:
        raise KeyProblem(f"the private key has {len(text.strip())} characters; it should be 64 hex digits")
    return SigningKey(bytes.fromhex(found[1]), prefix)


def from_mnemonic(words: str, *, passphrase: str = "", path: str = HD_PATH, prefix: str = ADDRESS_PREFIX) -> SigningKey:
    """The key that a wallet derives from an English BIP-39 mnemonic at a BIP-32 path. Raises KeyProblem."""
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
    seed = Mnemonic.to_seed(phrase, passphrase)
    return SigningKey(derive(seed, path)[0], prefix)


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


def from_text(text: str, prefix: str = ADDRESS_PREFIX) -> SigningKey:
    """The key in a text that holds either a mnemonic or hex digits: several words are a mnemonic. Raises KeyProblem."""
    return from_mnemonic(text, prefix=prefix) if len(text.split()) > 1 else from_hex(text, prefix)


def from_file(path: Path, prefix: str = ADDRESS_PREFIX) -> SigningKey:
    """The key in a file that only its owner can read. Raises KeyProblem.

    The permissions are those of the file that was opened, so nobody can exchange it between check and reading.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KeyProblem(f"the key file {path} cannot be opened: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyProblem(f"{path} is not a regular file; it should be a file that holds a mnemonic or a hex key")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyProblem(f"the key file {path} is open to other users; make it private with: chmod 600 {path}")
        data = os.read(descriptor, _MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise KeyProblem(f"the key file {path} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > _MAX_KEY_FILE_BYTES:
        raise KeyProblem(f"the key file {path} has more than {_MAX_KEY_FILE_BYTES} bytes; it should hold one key")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise KeyProblem(f"the key file {path} is not text; it should hold a mnemonic or 64 hex digits") from None
    try:
        return from_text(text, prefix)
    except KeyProblem as error:
        raise KeyProblem(f"the key file {path} holds no usable key: {error}") from None


def from_environment(environment: Mapping[str, str], prefix: str = ADDRESS_PREFIX) -> SigningKey | None:
    """The key that the environment names, or None if it names none: the fleet then only watches. Raises KeyProblem."""
    names = [name for name in (MNEMONIC_VARIABLE, PRIVATE_KEY_VARIABLE, KEY_FILE_VARIABLE) if environment.get(name)]
    if not names:
        return None
    if len(names) > 1:
        raise KeyProblem(f"{' and '.join(names)} are set; set only one of them, so that it is plain which key signs")
    (name,) = names
    try:
        if name == KEY_FILE_VARIABLE:
            return from_file(Path(environment[name]).expanduser(), prefix)
        if name == MNEMONIC_VARIABLE:
            return from_mnemonic(environment[name], prefix=prefix)
        return from_hex(environment[name], prefix)
    except KeyProblem as error:
        raise KeyProblem(f"{name}: {error}") from None


def _halves(key: bytes, data: bytes) -> tuple[bytes, bytes]:
    digest = hmac.digest(key, data, "sha512")
    return digest[:32], digest[32:]


def _step_index(step: str) -> int:
    hardened = step.endswith(("'", "h"))
    digits = step[:-1] if hardened else step
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10 and int(digits) < 2**31):
        raise KeyProblem("a step of the derivation path should be a number below 2147483648, with ' if hardened")
    return int(digits) + 2**31 * hardened
