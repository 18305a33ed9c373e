"""`hashfleet verify`."""

from __future__ import annotations

import hashlib
import json
import sys

import pytest

from hashfleet.cli.main import main

PREFIX, NONCE = "5-28BUILD679575NONCE", "27813713698343000000651056"  # five zeros, found by `hashfleet solve`


def verify(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hashfleet", "verify", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_nonce_with_the_zeros_asked_for_exits_with_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(monkeypatch, "--prefix", PREFIX, "--nonce", NONCE, "--zeros", "5") == 0
    out = capsys.readouterr().out
    assert hashlib.sha256((PREFIX + NONCE).encode()).hexdigest() in out
    assert "5 of 5 asked: met" in out


def test_a_nonce_with_too_few_zeros_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(monkeypatch, "--prefix", PREFIX, "--nonce", NONCE, "--zeros", "6") == 1
    assert "5 of 6 asked: not met" in capsys.readouterr().out


def test_without_zeros_it_only_tells_them(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(monkeypatch, "--prefix", PREFIX, "--nonce", "0", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    digest = hashlib.sha256(f"{PREFIX}0".encode()).hexdigest()
    assert answer == {"hash": digest, "zeros": len(digest) - len(digest.lstrip("0"))}


def test_json_says_whether_the_zeros_are_met(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(monkeypatch, "--prefix", PREFIX, "--nonce", NONCE, "--zeros", "6", "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["zeros"], answer["zeros_asked"], answer["met"]) == (5, 6, False)


@pytest.mark.parametrize(
    ("prefix", "nonce", "sentence"),
    [
        (PREFIX, "-1", "decimal digits"),
        (PREFIX, "", "decimal digits"),
        (PREFIX, "1" * 201, "decimal digits"),
        ("", "1", "prefix is empty"),
        ("5-28é", "1", "printable ASCII"),
        ("a\nb", "1", "printable ASCII"),
        ("p" * 1025, "1", "the most is 1024"),
    ],
)
def test_input_that_cannot_be_right_is_one_clear_sentence_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], prefix: str, nonce: str, sentence: str
) -> None:
    assert verify(monkeypatch, "--prefix", prefix, "--nonce", nonce) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
