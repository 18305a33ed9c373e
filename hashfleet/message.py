"""Nonce layout: which bytes of the hashed message a search varies, and what stays constant.

The message is the prefix of the work followed by the nonce. The nonce is any string of decimal digits, so its shape is
ours to choose, and the shape decides how much of SHA-256 a device has to do per nonce::

    prefix | extranonce | high digits | filler | low digits        + padding added by SHA-256
             the lease's  `-------- the counter -------´             80 00 .. 00 | bit length

The counter is what a search varies: `counter_digits` decimal digits, of which the last `LOW_DIGITS` may stand apart
from the others, behind a filler of zeros. Two leases never share an extranonce, so they never try the same nonce. The
number of digits is fixed, so all messages of a space have the same length, and only counter digits change.

`lay_out` chooses between two shapes by padding the extranonce with zeros and by the filler.

**T, the shared schedule.** The last block holds only digits of ours::

    block n - 1   | .. prefix or zeros .. | extranonce | high digits |         the lane: its last 4 digits are word 15
    block n       | 48 zeros | low digits | 80 00 00 00 | 00 .. | length |      the tail: low digits are word 12

The whole message schedule of the last block depends on the low digits and the length alone: one table of W + K for the
10**4 tails serves every prefix, every lane and every job whose message has this length. A lane is a chaining value,
made from the block before; per hash there remain rounds 12 to 63 and no schedule. Nonces have 74 to 137 digits.

**S, short.** No filler, and the message ends within a block at byte 52 (or 55)::

    last block    | .. prefix .. | extranonce | high digits | low digits | 80 00 00 00 | 00 .. | length |
                                                              word 12 (at byte 55: 3 digits in word 13, and 80)

All words but one are constant for 10**4 (10**3) nonces. Nonces have 26 to 35 digits where the prefix leaves room for
them in one block. It serves consumers that limit the nonce's length.

A kernel that knows neither shape hashes any space from its `blocks`: the blocks before the counter are constant, and
their chaining value (the *midstate*) is computed once, on the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hashfleet.errors import InvalidInput

BLOCK_BYTES = 64
#: 10**18 is the largest power of ten that fits a signed 64-bit index.
MAX_COUNTER_DIGITS = 18
#: Digits of the counter that stand behind the filler: one 32-bit word of the message.
LOW_DIGITS = 4
#: The filler of shape T: words 0 to 11 of the last block.
SHARED_FILLER_DIGITS = 48
MAX_EXTRANONCE_DIGITS = 128
#: Prefixes are at most about 70 bytes; the bound only keeps a bad request from costing memory.
MAX_PREFIX_BYTES = 1024


@dataclass(frozen=True)
class NonceSpace:
    """All messages prefix + extranonce + counter, counted by the counter's value."""

    prefix: bytes
    extranonce: str
    counter_digits: int
    #: Zeros between the counter's high digits and its low ones; 0 leaves the counter in one piece.
    filler_digits: int = 0

    def __post_init__(self) -> None:
        if len(self.prefix) > MAX_PREFIX_BYTES:
            raise InvalidInput(f"the prefix has {len(self.prefix)} bytes; the most is {MAX_PREFIX_BYTES}")
        if self.extranonce and not (self.extranonce.isascii() and self.extranonce.isdigit()):
            raise InvalidInput("the extranonce should be decimal digits")
        if len(self.extranonce) > MAX_EXTRANONCE_DIGITS:
            raise InvalidInput(f"the extranonce has {len(self.extranonce)} digits; the most is {MAX_EXTRANONCE_DIGITS}")
        if not 1 <= self.counter_digits <= MAX_COUNTER_DIGITS:
            raise InvalidInput(f"counter_digits is {self.counter_digits}; it should be 1 to {MAX_COUNTER_DIGITS}")
        if not 0 <= self.filler_digits <= MAX_EXTRANONCE_DIGITS:
            raise InvalidInput(f"filler_digits is {self.filler_digits}; it should be 0 to {MAX_EXTRANONCE_DIGITS}")
        if self.filler_digits and self.counter_digits <= LOW_DIGITS:
            raise InvalidInput(
                f"counter_digits is {self.counter_digits}; with a filler it should be more than {LOW_DIGITS}"
            )

    @property
    def capacity(self) -> int:
        """Number of nonces in the space."""
        return int(10**self.counter_digits)

    @property
    def nonce_digits(self) -> int:
        """Length of every nonce of the space."""
        return len(self.extranonce) + self.counter_digits + self.filler_digits

    @property
    def length(self) -> int:
        """Length in bytes of every message of the space, padding not counted."""
        return len(self.prefix) + self.nonce_digits

    def nonce(self, counter: int) -> str:
        """The nonce of one counter value."""
        return self.extranonce + self._digits(counter)

    def message(self, counter: int) -> bytes:
        """What is hashed for one counter value."""
        return self.constant + self._digits(counter).encode("ascii")

    def counter_of(self, nonce: str) -> int | None:
        """The counter value of one of the space's nonces; None for any other string of digits."""
        digits = nonce[len(self.extranonce) :]
        if len(nonce) != self.nonce_digits:
            return None
        high = self.counter_digits - LOW_DIGITS if self.filler_digits else self.counter_digits
        counter = int(digits[:high] + digits[high + self.filler_digits :])
        return counter if self.nonce(counter) == nonce else None

    def _digits(self, counter: int) -> str:
        digits = f"{counter:0{self.counter_digits}d}"
        if not self.filler_digits:
            return digits
        return digits[:-LOW_DIGITS] + "0" * self.filler_digits + digits[-LOW_DIGITS:]

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
        """The constant part worked out for a kernel that knows no shape. Raises InvalidInput if there is a filler."""
        if self.filler_digits:
            raise InvalidInput("the counter is in two pieces; this kernel hashes counters in one piece")
        start = len(self.constant)
        whole = start // BLOCK_BYTES * BLOCK_BYTES
        return BlockTemplate(self._midstate(whole), _words(self._padded()[whole:]), start - whole, self.counter_digits)

    @property
    def shared(self) -> SharedTemplate | None:
        """The constant part worked out for a kernel of shape T; None if this space does not have that shape."""
        if not (
            self.filler_digits == SHARED_FILLER_DIGITS
            and self.length % BLOCK_BYTES == SHARED_FILLER_DIGITS + LOW_DIGITS
            and self.counter_digits >= 2 * LOW_DIGITS
        ):
            return None
        lane = self.length // BLOCK_BYTES * BLOCK_BYTES - BLOCK_BYTES
        high_digits = self.counter_digits - LOW_DIGITS
        if lane < 0 or high_digits > BLOCK_BYTES:
            return None
        padded = self._padded()
        return SharedTemplate(
            self._midstate(lane),
            _words(padded[lane : lane + BLOCK_BYTES]),
            _words(padded[lane + BLOCK_BYTES :]),
            high_digits,
        )

    @property
    def short(self) -> ShortTemplate | None:
        """The constant part worked out for a kernel of shape S; None if this space does not have that shape."""
        ends = self.length % BLOCK_BYTES
        if self.filler_digits or ends not in _SHORT_ENDS or self.counter_digits < LOW_DIGITS:
            return None
        last = self.length // BLOCK_BYTES * BLOCK_BYTES
        if self.length - self.counter_digits < last:
            return None  # the counter begins in the block before, which would then not be constant
        word, low_digits = _SHORT_ENDS[ends]
        high_offset = len(self.constant) - last
        return ShortTemplate(
            self._midstate(last),
            _words(self._padded()[last:]),
            word,
            low_digits,
            high_offset,
            self.counter_digits - low_digits,
        )

    def _padded(self) -> bytes:
        """Counter 0's message with SHA-256's padding (FIPS 180-4, 5.1.1): a whole number of blocks."""
        message = self.message(0) + b"\x80"
        return message + bytes(-(len(message) + 8) % BLOCK_BYTES) + (8 * self.length).to_bytes(8, "big")

    def _midstate(self, end: int) -> tuple[int, ...]:
        """Chaining value after the message's first `end` bytes, which are whole blocks and hold no counter digit."""
        state: tuple[int, ...] = INITIAL_STATE
        for at in range(0, end, BLOCK_BYTES):
            state = compress(state, _words(self.constant[at : at + BLOCK_BYTES]))
        return state


#: Where a message of shape S ends in its last block: (index of the varying word, counter digits in that word).
_SHORT_ENDS = {52: (12, 4), 55: (13, 3)}


def lay_out(prefix: bytes, extranonce: str, counter_digits: int, max_nonce_digits: int) -> NonceSpace:
    """The space of this extranonce with the fastest shape whose nonces have at most `max_nonce_digits` digits.

    T if it fits, else S, else the counter right behind the extranonce. The extranonce is padded with leading zeros,
    so distinct extranonces of one length stay distinct. Raises InvalidInput if no shape fits.
    """
    least = len(prefix) + len(extranonce) + counter_digits
    shared = _padded_to(least - LOW_DIGITS, 0) + SHARED_FILLER_DIGITS + LOW_DIGITS
    short = min(_padded_to(least, end) for end in _SHORT_ENDS)
    for length, filler in ((shared, SHARED_FILLER_DIGITS), (short, 0), (least, 0)):
        if length - len(prefix) > max_nonce_digits:
            continue
        zeros = length - filler - least
        space = NonceSpace(prefix, "0" * zeros + extranonce, counter_digits, filler)
        if filler or length == least or space.short is not None:
            return space
    raise InvalidInput(
        f"nonces of {len(extranonce)} + {counter_digits} digits do not fit a limit of {max_nonce_digits} digits"
    )


def _padded_to(length: int, end: int) -> int:
    """The smallest length of at least `length` that is `end` more than a multiple of the block."""
    return length + (end - length) % BLOCK_BYTES


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


@dataclass(frozen=True, slots=True)
class SharedTemplate:
    """What a kernel of shape T needs. Counter = lane * 10**4 + tail."""

    #: Chaining value before the lane's block: 8 words of 32 bits.
    midstate: tuple[int, ...]
    #: The 16 words of the lane's block with every high digit "0"; the high digits are its last ones.
    lane_block: tuple[int, ...]
    #: The 16 words of the last block with low digits "0000": word 12 is theirs, the others are the same for all.
    tail_block: tuple[int, ...]
    #: Number of high digits: the lane is below 10**high_digits. Its last four are word 15, the four before word 14.
    high_digits: int


@dataclass(frozen=True, slots=True)
class ShortTemplate:
    """What a kernel of shape S needs. Counter = high * 10**low_digits + low."""

    #: Chaining value before the last block.
    midstate: tuple[int, ...]
    #: The 16 words of the last block with every counter digit "0".
    block: tuple[int, ...]
    #: Index of the word that holds the low digits: 12, or 13 (whose last byte is then 80, the padding's first).
    word: int
    #: Counter digits in that word: 4, or 3.
    low_digits: int
    #: Byte in `block` of the first high digit.
    high_offset: int
    high_digits: int


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
