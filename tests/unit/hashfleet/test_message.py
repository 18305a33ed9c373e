"""What a kernel is given hashes, word for word, to what hashlib says of the message."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashfleet.errors import InvalidInput
from hashfleet.message import (
    BLOCK_BYTES,
    INITIAL_STATE,
    MAX_COUNTER_DIGITS,
    MAX_EXTRANONCE_DIGITS,
    MAX_PREFIX_BYTES,
    BlockTemplate,
    NonceSpace,
    compress,
)


def hash_from(template: BlockTemplate, counter: int) -> bytes:
    """What a kernel does: put the counter's digits into the template, compress its blocks from the midstate."""
    blocks = bytearray(struct.pack(f">{len(template.words)}I", *template.words))
    digits = f"{counter:0{template.counter_digits}d}".encode()
    blocks[template.counter_offset : template.counter_offset + template.counter_digits] = digits
    state = template.midstate
    for at in range(0, len(blocks), BLOCK_BYTES):
        state = compress(state, struct.unpack_from(">16I", blocks, at))
    return struct.pack(">8I", *state)


@st.composite
def spaces(draw: st.DrawFn) -> NonceSpace:
    prefix = draw(st.binary(min_size=1, max_size=200))
    extranonce = draw(st.text("0123456789", max_size=MAX_EXTRANONCE_DIGITS))
    return NonceSpace(prefix, extranonce, draw(st.integers(1, MAX_COUNTER_DIGITS)))


@given(space=spaces(), data=st.data())
def test_every_message_of_a_space_hashes_from_its_template_as_hashlib_says(
    space: NonceSpace, data: st.DataObject
) -> None:
    counter = data.draw(st.integers(0, space.capacity - 1))
    message = space.prefix + space.nonce(counter).encode()
    assert space.message(counter) == message
    assert hash_from(space.blocks, counter) == hashlib.sha256(message).digest()


@pytest.mark.parametrize("counter_digits", [1, 9, MAX_COUNTER_DIGITS])
def test_every_prefix_length_to_200_bytes_hashes_right(counter_digits: int) -> None:
    for length in range(1, 201):
        space = NonceSpace(bytes(i % 251 for i in range(length)), "417", counter_digits)
        for counter in (0, space.capacity - 1):
            assert hash_from(space.blocks, counter) == hashlib.sha256(space.message(counter)).digest()


@given(space=spaces())
def test_a_kernel_never_gets_more_than_two_blocks_and_the_counter_starts_in_the_first(space: NonceSpace) -> None:
    template = space.blocks
    assert len(template.words) in (16, 32)
    assert len(template.midstate) == 8
    assert 0 <= template.counter_offset < BLOCK_BYTES
    # two blocks only if digits, 0x80 and the 8 bytes of length do not fit one
    needed = template.counter_offset + template.counter_digits + 9
    assert (len(template.words) == 16) == (needed <= BLOCK_BYTES)


@given(space=spaces(), data=st.data())
def test_different_counters_are_different_nonces_of_one_length(space: NonceSpace, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, space.capacity - 1))
    second = data.draw(st.integers(0, space.capacity - 1))
    assert (space.nonce(first) == space.nonce(second)) == (first == second)
    assert len(space.nonce(first)) == len(space.nonce(second)) == len(space.extranonce) + space.counter_digits


def test_a_short_constant_leaves_the_initial_state_and_64_bytes_make_a_midstate() -> None:
    assert NonceSpace(b"x" * 63, "", 4).blocks.midstate == INITIAL_STATE
    full = NonceSpace(b"x" * 64, "", 4).blocks
    assert full.midstate == compress(INITIAL_STATE, struct.unpack(">16I", b"x" * 64))
    assert full.counter_offset == 0


def test_compress_gives_the_digest_that_fips_180_4_prints_for_abc() -> None:
    block = struct.unpack(">16I", b"abc\x80" + bytes(52) + struct.pack(">Q", 24))
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert struct.pack(">8I", *compress(INITIAL_STATE, block)).hex() == expected


@pytest.mark.parametrize(
    ("prefix", "extranonce", "counter_digits", "says"),
    [
        (b"x" * (MAX_PREFIX_BYTES + 1), "", 4, "the prefix has 1025 bytes; the most is 1024"),
        (b"x", "12a", 4, "the extranonce should be decimal digits"),
        (b"x", " 12", 4, "the extranonce should be decimal digits"),
        (b"x", "-1", 4, "the extranonce should be decimal digits"),
        (b"x", "\u0661\u0662", 4, "the extranonce should be decimal digits"),
        (b"x", "\u00b2", 4, "the extranonce should be decimal digits"),
        (b"x", "1" * 129, 4, "the extranonce has 129 digits; the most is 128"),
        (b"x", "1", 0, "counter_digits is 0; it should be 1 to 18"),
        (b"x", "1", -1, "counter_digits is -1; it should be 1 to 18"),
        (b"x", "1", 19, "counter_digits is 19; it should be 1 to 18"),
    ],
)
def test_a_space_that_cannot_be_is_refused_in_one_sentence(
    prefix: bytes, extranonce: str, counter_digits: int, says: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        NonceSpace(prefix, extranonce, counter_digits)
    assert str(caught.value) == says


@pytest.mark.parametrize(("start", "count"), [(0, 1), (0, 10_000), (9_999, 1)])
def test_counters_inside_the_space_are_taken(start: int, count: int) -> None:
    NonceSpace(b"x", "", 4).check_range(start, count)


@pytest.mark.parametrize(("start", "count"), [(-1, 1), (0, 0), (0, -1), (0, 10_001), (9_999, 2), (10_000, 1)])
def test_counters_outside_the_space_are_refused_and_the_bounds_are_named(start: int, count: int) -> None:
    with pytest.raises(InvalidInput, match=r"do not lie within 0 to 9999$"):
        NonceSpace(b"x", "", 4).check_range(start, count)
