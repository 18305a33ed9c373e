"""What is done about each code of the chain."""

from __future__ import annotations

import pytest

from coordinator.chain.client import TxAnswer
from coordinator.submission.verdict import UNKNOWN, Disposition, concerns_whole, disposition, expected_sequence

TABLE = {
    Disposition.REMINE: [("structs", 1002), ("structs", 1800), ("sdk", 30)],
    Disposition.GIVE_UP: [("structs", code) for code in (1050, 1203, 1250, 1260, 1501)],
    Disposition.PAUSE: [("structs", code) for code in (1201, 1453, 1650)],
    Disposition.RETRY_NEXT_BLOCK: [
        *[("structs-ante", code) for code in (2030, 2031, 2032, 2033, 2040, 2041)],
        ("sdk", 20),
    ],
    Disposition.UNKNOWN_ANTE: [("undefined", 1)],
    Disposition.OTHER_KEY: [("structs", 1100), ("structs-ante", 2010), ("structs-ante", 2011)],
    Disposition.ALREADY_SENT: [("sdk", 19)],
    Disposition.RESYNC_SEQUENCE: [("sdk", 32)],
    Disposition.ALERT: [
        *[("structs", code) for code in (1150, 1151, 1600, 1750)],
        *[("structs-ante", code) for code in (2000, 2001, 2002, 2003, 2004)],
        *[("structs-ante", code) for code in (2020, 2021, 2022, 2042, 2043, 2050)],
        *[("sdk", code) for code in (2, 4, 5, 8, 9, 11, 12, 13, 18, 21)],
        ("undefined", 111222),
    ],
}
ROWS = [(codespace, code, what) for what, listed in TABLE.items() for codespace, code in listed]


def answer(codespace: str, code: int, log: str = "") -> TxAnswer:
    return TxAnswer("AB", code, codespace, log)


@pytest.mark.parametrize(("codespace", "code", "expected"), ROWS)
def test_each_code_has_its_disposition(codespace: str, code: int, expected: Disposition) -> None:
    assert disposition(answer(codespace, code)) is expected


@pytest.mark.parametrize("codespace", ["", "sdk", "structs", "structs-ante", "undefined"])
def test_code_0_is_success_in_every_codespace(codespace: str) -> None:
    assert disposition(answer(codespace, 0)) is Disposition.SUCCESS


@pytest.mark.parametrize(
    ("codespace", "code"),
    [("structs", 9999), ("structs", 32), ("sdk", 1800), ("sdk", 6), ("structs-ante", 1), ("wasm", 2), ("", 1)],
)
def test_an_unknown_code_stops_the_attempt_and_asks_a_person(codespace: str, code: int) -> None:
    assert disposition(answer(codespace, code)) is UNKNOWN is Disposition.ALERT


@pytest.mark.parametrize("log", ["", "429", "1800", "account sequence mismatch, expected 7, got 6", "success"])
def test_the_log_never_changes_the_disposition(log: str) -> None:
    for codespace, code, expected in ROWS:
        assert disposition(answer(codespace, code, log)) is expected


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("account sequence mismatch, expected 42, got 41: incorrect account sequence", 42),
        ("incorrect account sequence: Expected  0,got 3", 0),
        (f"expected {2**64 - 1}, got 1", 2**64 - 1),
        (f"expected {2**64}, got 1", None),
        ("expected 123456789012345678901, got 1", None),
        ("account sequence mismatch, expected forty, got 41", None),
        ("incorrect account sequence", None),
        ("", None),
    ],
)
def test_the_expected_sequence_is_read_from_the_log_or_left_to_a_query(log: str, expected: int | None) -> None:
    assert expected_sequence(log) == expected


@pytest.mark.parametrize(
    ("codespace", "code"), [("sdk", 32), ("sdk", 20), ("structs-ante", 2041), ("structs-ante", 2011)]
)
def test_an_answer_about_account_or_mempool_says_nothing_about_any_proof(codespace: str, code: int) -> None:
    assert concerns_whole(answer(codespace, code))


@pytest.mark.parametrize(("codespace", "code"), [("structs", 1800), ("structs-ante", 2031), ("undefined", 1)])
def test_an_answer_about_one_proof_does_not_concern_the_whole_transaction(codespace: str, code: int) -> None:
    assert not concerns_whole(answer(codespace, code))
