"""The key files that `hashfleet keys` makes: JSON with the address in clear and the private key encrypted.

Version 1::

    {"format": "hashfleet-key", "version": 1, "address": "structs1...", "public_key": "02...", "kept_in": "file",
     "kdf":    {"name": "scrypt", "n": 131072, "r": 8, "p": 1, "salt": 32 bytes},
     "cipher": {"name": "aes-256-gcm", "nonce": 12 bytes, "ciphertext": 32 bytes, "tag": 16 bytes}}

Bytes are written in hex. The passphrase is brought to Unicode form NFKD and UTF-8. Everything but `ciphertext` and
`tag` is authenticated with the key: the file as JSON without those two, keys sorted, no white space. With ``"kept_in":
"keyring"`` there is no `kdf` and no `cipher`: the private key lies in the operating system's keyring.

A file may come from anywhere, so its costs are bounded before anything is computed: 256 MiB, some seconds.
"""

from __future__ import annotations

import json
import os
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from Crypto.Cipher import AES
from Crypto.Protocol.KDF import scrypt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coordinator.submission.keys_secret import Secret, concealed
from hashfleet.errors import KeyProblem

FORMAT: Final = "hashfleet-key"
VERSION: Final = 1
#: A passphrase of a new key has at least this many characters.
MIN_PASSPHRASE: Final = 8
MAX_PASSPHRASE: Final = 1024

#: Bounds of what a file may ask: 128 n r bytes of memory, and n r p as the measure of time.
_MAX_MEMORY: Final = 256 * 2**20
_MAX_WORK: Final = 4 * 2**21
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess of the passphrase costs: scrypt's n, r and p (RFC 7914); 128 n r bytes of memory."""

    n: int = 2**17
    r: int = 8
    p: int = 1

    def __post_init__(self) -> None:
        if not (self.n >= 2 and self.n & (self.n - 1) == 0 and self.r >= 1 and self.p >= 1):
            raise KeyProblem("the costs of scrypt should be n, a power of two, and r and p, both at least 1")
        if 128 * self.n * self.r > _MAX_MEMORY or self.n * self.r * self.p > _MAX_WORK:
            raise KeyProblem(
                f"the costs of scrypt are beyond what is computed here; they should need at most "
                f"{_MAX_MEMORY // 2**20} MiB, and n r p should be at most {_MAX_WORK}"
            )


def _hex(count: int) -> object:
    return Field(pattern=rf"^[0-9a-f]{{{2 * count}}}$")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class _Kdf(_Model):
    name: Literal["scrypt"]
    n: Annotated[int, Field(ge=2, le=2**32)]
    r: Annotated[int, Field(ge=1, le=2**16)]
    p: Annotated[int, Field(ge=1, le=2**16)]
    salt: Annotated[str, _hex(32)]


class _Cipher(_Model):
    name: Literal["aes-256-gcm"]
    nonce: Annotated[str, _hex(_NONCE_BYTES)]
    ciphertext: Annotated[str, _hex(32)]
    tag: Annotated[str, _hex(16)]


class KeyFile(_Model):
    """A key file as it is written. Nothing in it is secret without the passphrase."""

    format: Literal["hashfleet-key"] = "hashfleet-key"
    version: Literal[1] = 1
    address: Annotated[str, Field(pattern=r"^[a-z]{1,16}1[02-9ac-hj-np-z]{38}$")]
    public_key: Annotated[str, Field(pattern=r"^0[23][0-9a-f]{64}$")]
    kept_in: Literal["file", "keyring"]
    kdf: _Kdf | None = None
    cipher: _Cipher | None = None

    def text(self) -> str:
        """The file's content."""
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"


def is_key_file(text: str) -> bool:
    """Whether a text is meant as such a file: no mnemonic and no hex key begins with a brace."""
    return text.lstrip().startswith("{")


def parse(text: str) -> KeyFile:
    """Read a key file without opening it. Raises KeyProblem."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise KeyProblem("it is not JSON; it should be a file that `hashfleet keys` made") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise KeyProblem(f'it lacks "format": "{FORMAT}"; it should be a file that `hashfleet keys` made')
    if document.get("version") != VERSION:
        raise KeyProblem(f"it is not of version {VERSION}; another version of hashfleet made it")
    try:
        file = KeyFile.model_validate_json(text)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors(include_input=False, include_url=False)[0]["loc"])
        raise KeyProblem(f"its field {place[:80]!a} is missing, unknown or not of its form; take a backup") from None
    sealed = file.kdf is not None and file.cipher is not None
    empty = file.kdf is None and file.cipher is None
    if not (sealed if file.kept_in == "file" else empty):
        raise KeyProblem("it should have kdf and cipher if the key is kept in the file, and neither otherwise")
    return file


@concealed
def seal(secret: Secret[bytes], passphrase: Secret[str], address: str, public_key: bytes, cost: Cost) -> KeyFile:
    """Encrypt a 32-byte private key. Raises KeyProblem for a passphrase that is too short or too long."""
    length = len(passphrase.reveal())
    if not MIN_PASSPHRASE <= length <= MAX_PASSPHRASE:
        raise KeyProblem(f"the passphrase has {length} characters; it should have {MIN_PASSPHRASE} to {MAX_PASSPHRASE}")
    kdf = _Kdf(name="scrypt", n=cost.n, r=cost.r, p=cost.p, salt=os.urandom(32).hex())
    nonce = os.urandom(_NONCE_BYTES)
    blank = _Cipher(name="aes-256-gcm", nonce=nonce.hex(), ciphertext="00" * 32, tag="00" * 16)
    draft = KeyFile(address=address, public_key=public_key.hex(), kept_in="file", kdf=kdf, cipher=blank)
    cipher = AES.new(_encryption_key(kdf, passphrase), AES.MODE_GCM, nonce=nonce)
    cipher.update(_authenticated(draft))
    ciphertext, tag = cipher.encrypt_and_digest(secret.reveal())
    filled = blank.model_copy(update={"ciphertext": ciphertext.hex(), "tag": tag.hex()})
    return draft.model_copy(update={"cipher": filled})


@concealed
def open_sealed(file: KeyFile, passphrase: Secret[str]) -> Secret[bytes]:
    """The private key of a file that is kept in the file. Raises KeyProblem for a wrong passphrase."""
    assert file.kdf is not None
    assert file.cipher is not None
    if len(passphrase.reveal()) > MAX_PASSPHRASE:
        raise KeyProblem(f"the passphrase should have at most {MAX_PASSPHRASE} characters")
    cipher = AES.new(_encryption_key(file.kdf, passphrase), AES.MODE_GCM, nonce=bytes.fromhex(file.cipher.nonce))
    cipher.update(_authenticated(file))
    try:
        return Secret(cipher.decrypt_and_verify(bytes.fromhex(file.cipher.ciphertext), bytes.fromhex(file.cipher.tag)))
    except ValueError:
        raise KeyProblem("the passphrase is wrong, or the file was changed") from None


def _encryption_key(kdf: _Kdf, passphrase: Secret[str]) -> bytes:
    cost = Cost(kdf.n, kdf.r, kdf.p)
    try:
        password = unicodedata.normalize("NFKD", passphrase.reveal()).encode("utf-8")
    except UnicodeEncodeError:
        raise KeyProblem("the passphrase is not text; it should be UTF-8") from None
    key = scrypt(password, bytes.fromhex(kdf.salt), 32, cost.n, cost.r, cost.p)  # type: ignore[arg-type]
    assert isinstance(key, bytes)
    return key


def _authenticated(file: KeyFile) -> bytes:
    """What the tag vouches for beside the key itself."""
    document = file.model_dump(mode="json", exclude_none=True)
    del document["cipher"]["ciphertext"], document["cipher"]["tag"]
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")
