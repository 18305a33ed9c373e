"""The shapes T and S: every nonce of every space hashes from its template as hashlib says."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.lease import COUNTER_DIGITS, EXTRANONCE_PART_DIGITS
from hashfleet.action import Action
from hashfleet.action import prefix as prefix_of
from hashfleet.errors import InvalidInput
from hashfleet.job_request import LEAST_NONCE_DIGITS
from hashfleet.message import BLOCK_BYTES, NonceSpace, SharedTemplate, ShortTemplate, compress, lay_out
from hashfleet.proof import MAX_NONCE_DIGITS

EXTRANONCE = "12345678901234"
prefixes = st.binary(min_size=1, max_size=200)
counters = st.integers(0, 10**COUNTER_DIGITS - 1)


def words(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4))


def block_with(block: tuple[int, ...], offset: int, digits: str) -> tuple[int, ...]:
    data = bytearray(b"".join(word.to_bytes(4, "big") for word in block))
    data[offset : offset + len(digits)] = digits.encode()
    return words(bytes(data))


def digest(state: tuple[int, ...]) -> bytes:
    return b"".join(word.to_bytes(4, "big") for word in state)


def hash_shared(template: SharedTemplate, counter: int) -> bytes:
    lane, tail = divmod(counter, 10**4)
    digits = f"{lane:0{template.high_digits}d}"
    state = compress(template.midstate, block_with(template.lane_block, BLOCK_BYTES - len(digits), digits))
    return digest(compress(state, block_with(template.tail_block, 48, f"{tail:04d}")))


def hash_short(template: ShortTemplate, counter: int) -> bytes:
    high, low = divmod(counter, 10**template.low_digits)
    block = block_with(template.block, template.high_offset, f"{high:0{template.high_digits}d}")
    block = block_with(block, 4 * template.word, f"{low:0{template.low_digits}d}")
    return digest(compress(template.midstate, block))


@given(prefixes, counters)
def test_every_nonce_of_shape_t_hashes_as_hashlib_says(prefix: bytes, counter: int) -> None:
    space = lay_out(prefix, EXTRANONCE, COUNTER_DIGITS, MAX_NONCE_DIGITS)
    assert space.shared is not None
    assert hash_shared(space.shared, counter) == hashlib.sha256(prefix + space.nonce(counter).encode()).digest()


@given(prefixes, counters)
def test_every_nonce_of_shape_s_hashes_as_hashlib_says(prefix: bytes, counter: int) -> None:
    space = lay_out(prefix, EXTRANONCE, COUNTER_DIGITS, 73)
    if space.short is not None:
        assert hash_short(space.short, counter) == hashlib.sha256(prefix + space.nonce(counter).encode()).digest()


@given(prefixes, st.integers(LEAST_NONCE_DIGITS, MAX_NONCE_DIGITS), counters)
def test_a_laid_out_space_keeps_its_limit_and_tells_its_nonces_apart(prefix: bytes, most: int, counter: int) -> None:
    space = lay_out(prefix, EXTRANONCE, COUNTER_DIGITS, most)
    nonce = space.nonce(counter)
    assert len(nonce) == space.nonce_digits <= most
    assert space.counter_of(nonce) == counter
    assert space.message(counter) == prefix + nonce.encode()


@given(prefixes, st.integers(LEAST_NONCE_DIGITS, MAX_NONCE_DIGITS))
def test_the_number_of_digits_never_changes_inside_a_space(prefix: bytes, most: int) -> None:
    space = lay_out(prefix, EXTRANONCE, COUNTER_DIGITS, most)
    assert {len(space.nonce(counter)) for counter in (0, 9_999, 10_000, space.capacity - 1)} == {space.nonce_digits}


def test_shape_t_takes_74_to_137_digits() -> None:
    digits = {lay_out(b"x" * n, EXTRANONCE, COUNTER_DIGITS, MAX_NONCE_DIGITS).nonce_digits for n in range(1, 65)}
    assert (min(digits), max(digits)) == (74, 137)


@pytest.mark.parametrize("length", range(13, 30))
def test_every_prefix_of_the_chain_has_a_short_shape_in_one_block(length: int) -> None:
    space = lay_out(b"x" * length, EXTRANONCE, COUNTER_DIGITS, 39)
    assert space.short is not None
    assert space.length < BLOCK_BYTES


@pytest.mark.parametrize(
    "work",
    [prefix_of(Action.MINE, "5-1", 1, None), prefix_of(Action.REFINE, "5-123456", 12345678, None)],
)
def test_every_prefix_of_the_chain_has_shape_t_within_103_digits(work: bytes) -> None:
    assert lay_out(work, EXTRANONCE, COUNTER_DIGITS, 103).shared is not None


def test_where_t_is_too_long_the_next_shape_that_fits_is_chosen() -> None:
    chosen = [lay_out(b"x" * 25, EXTRANONCE, COUNTER_DIGITS, most) for most in (200, 60, 26)]
    assert [bool(space.shared) for space in chosen] == [True, False, False]
    assert [bool(space.short) for space in chosen] == [False, True, False]
    assert [space.nonce_digits for space in chosen] == [91, 27, 26]


def test_a_limit_that_no_shape_keeps_is_refused() -> None:
    with pytest.raises(InvalidInput, match="25 digits"):
        lay_out(b"x", EXTRANONCE, COUNTER_DIGITS, 25)


def test_a_lease_needs_as_many_digits_as_a_request_must_allow() -> None:
    assert LEAST_NONCE_DIGITS == 2 * EXTRANONCE_PART_DIGITS + COUNTER_DIGITS


@pytest.mark.parametrize("nonce", ["13" + "0" * 56, "12" + "0" * 20 + "1" + "0" * 35, "12"])
def test_a_nonce_of_another_space_is_none_of_this_ones(nonce: str) -> None:
    space = NonceSpace(b"x", "12", 8, 48)
    assert space.counter_of("12" + "0" * 56) == 0
    assert space.counter_of(nonce) is None
