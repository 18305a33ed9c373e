"""Nonce layout: which bytes of the hashed message a search varies, and what stays constant.

The message is the prefix of the work followed by the nonce, and the nonce has two parts::

    byte  0                                                            padding added by SHA-256
          | 5-28BUILD679575NONCE | 417203000017 | 000000004711 | 80 00 .. 00 | bit length |
          |  prefix              |  extranonce  |  counter     |
          |  the work's          |  the lease's |  the search's, exactly `counter_digits` decimal digits

Two leases never share an extranonce, so they never try the same nonce; within a lease every counter value is one
nonce. The number of digits is fixed, so every message of a space has the same length and only the digits change.

A kernel hashes only the blocks that hold counter digits or padding: the blocks before are constant and their
chaining value (the *midstate*) is computed once, here, on the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hashfleet.errors import InvalidInput

BLOCK_BYTES = 64
#: 10**18 is the largest power of ten that fits a signed 64-bit index.
MAX_COUNTER_DIGITS = 18
MAX_EXTRANONCE_DIGITS = 64
#: Prefixes are at most about 70 bytes; the bound only keeps a bad request from costing memory.
MAX_PREFIX_BYTES = 1024


@dataclass(frozen=True)
class NonceSpace:
    """All messages prefix + extranonce + counter, counted by the counter's value."""

    prefix: bytes
    extranonce: str
    counter_digits: int

    def __post_init__(self) -> None:
        if len(self.prefix) > MAX_PREFIX_BYTES:
            raise InvalidInput(f"the prefix has {len(self.prefix)} bytes; the most is {MAX_PREFIX_BYTES}")
        if self.extranonce and not (self.extranonce.isascii() and self.extranonce.isdigit()):
            raise InvalidInput("the extranonce should be decimal digits")
        if len(self.extranonce) > MAX_EXTRANONCE_DIGITS:
            raise InvalidInput(f"the extranonce has {len(self.extranonce)} digits; the most is {MAX_EXTRANONCE_DIGITS}")
        if not 1 <= self.counter_digits <= MAX_COUNTER_DIGITS:
            raise InvalidInput(f"counter_digits is {self.counter_digits}; it should be 1 to {MAX_COUNTER_DIGITS}")

    @property
    def capacity(self) -> int:
        """Number of nonces in the space."""
        return int(10**self.counter_digits)

    def nonce(self, counter: int) -> str:
        """The nonce of one counter value."""
        return f"{self.extranonce}{counter:0{self.counter_digits}d}"

    def message(self, counter: int) -> bytes:
        """What is hashed for one counter value."""
        return self.constant + f"{counter:0{self.counter_digits}d}".encode("ascii")

    @cached_property
    def constant(self) -> bytes:
        """The bytes before the counter."""
        return self.prefix + self.extranonce.encode("ascii")

    def check_range(self, start: int, count: int) -> None:
        """Raise InvalidInput unless the counter values start .. start + count - 1 all lie in the space."""
        if start < 0 or count < 1 or start + count > self.capacity:
            raise InvalidInput(
                f"the counters {start} to {start + count - 1} do not lie within 0 to {self.capacity - 1}"
            )

    @cached_property
    def blocks(self) -> BlockTemplate:
        """The constant part worked out for a kernel."""
        start = len(self.constant)
        whole = start // BLOCK_BYTES * BLOCK_BYTES
        length = start + self.counter_digits
        tail = self.constant[whole:] + b"0" * self.counter_digits + b"\x80"
        tail += bytes(-(len(tail) + 8) % BLOCK_BYTES) + (8 * length).to_bytes(8, "big")
        state: tuple[int, ...] = INITIAL_STATE
        for at in range(0, whole, BLOCK_BYTES):
            state = compress(state, _words(self.constant[at : at + BLOCK_BYTES]))
        return BlockTemplate(state, _words(tail), start - whole, self.counter_digits)


@dataclass(frozen=True, slots=True)
class BlockTemplate:
    """What a kernel needs to hash every message of a space."""

    #: Chaining value after the constant blocks: 8 words of 32 bits.
    midstate: tuple[int, ...]
    #: Big-endian words of the one or two blocks that remain, with every counter digit "0", padding included.
    words: tuple[int, ...]
    #: Byte in `words` of the counter's first digit.
    counter_offset: int
    counter_digits: int


INITIAL_STATE = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)  # fmt: skip

ROUND_CONSTANTS = (
    0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
    0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
    0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
    0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
    0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
    0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
    0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
    0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2,
)  # fmt: skip

_MASK = 0xFFFFFFFF


def compress(state: tuple[int, ...], block: tuple[int, ...]) -> tuple[int, ...]:
    """SHA-256's compression function (FIPS 180-4, 6.2.2): 8 words and a block of 16 words to 8 words.

    Only for midstates, a few times per lease; nonces are hashed by engines and checked by hashlib.
    """
    w = list(block)
    for i in range(16, 64):
        s0 = _rotr(w[i - 15], 7) ^ _rotr(w[i - 15], 18) ^ (w[i - 15] >> 3)
        s1 = _rotr(w[i - 2], 17) ^ _rotr(w[i - 2], 19) ^ (w[i - 2] >> 10)
        w.append((w[i - 16] + s0 + w[i - 7] + s1) & _MASK)
    a, b, c, d, e, f, g, h = state
    for k, word in zip(ROUND_CONSTANTS, w, strict=True):
        t1 = h + (_rotr(e, 6) ^ _rotr(e, 11) ^ _rotr(e, 25)) + ((e & f) ^ (~e & g)) + k + word
        t2 = (_rotr(a, 2) ^ _rotr(a, 13) ^ _rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))
        a, b, c, d, e, f, g, h = (t1 + t2) & _MASK, a, b, c, (d + t1) & _MASK, e, f, g
    return tuple((x + y) & _MASK for x, y in zip(state, (a, b, c, d, e, f, g, h), strict=True))


def _rotr(x: int, n: int) -> int:
    return (x >> n | x << (32 - n)) & _MASK


def _words(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[i : i + 4], "big") for i in range(0, len(data), 4))
