"""`hashfleet solve`: in this process on a fake device, and as a command on one CPU core."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gpu_worker.device_runner import ReadyEngine
from hashfleet.cli import engines
from hashfleet.cli.main import main
from hashfleet.cli.solve import check_wait
from hashfleet.errors import EngineError, InvalidInput
from hashfleet.proof import verify

sys.path.append(str(Path(__file__).parents[1] / "gpu_worker" / "doubles"))

from scripted_engine import ScriptedEngine

PREFIX = "5-28BUILD679575NONCE"
COMMAND = [sys.executable, "-m", "hashfleet.cli.main", "solve", "--engine", "cpu", "--cpu-processes", "1"]


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedEngine]:
    """What the command finds; one honest device unless a test adds to it."""
    found = [ScriptedEngine("fake:0")]
    monkeypatch.setattr(engines, "open_engines", lambda options: [ReadyEngine(engine, 1e6) for engine in found])
    return found


def solve(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hashfleet", "solve", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_it_prints_a_nonce_that_hashlib_confirms_and_what_it_cost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], devices: list[ScriptedEngine]
) -> None:
    assert solve(monkeypatch, "--prefix", PREFIX, "--zeros", "3") == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    proof = verify(PREFIX.encode(), lines["nonce"])
    assert proof.zeros >= 3
    assert lines["hash"] == proof.hash
    assert int(lines["hashes"]) > 0
    assert lines["rate"].endswith("H/s")
    assert devices[0].closed.is_set()


def test_json_is_exactly_one_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], devices: list[ScriptedEngine]
) -> None:
    assert solve(monkeypatch, "--prefix", PREFIX, "--zeros", "2", "--json") == 0
    out = capsys.readouterr().out
    answer = json.loads(out)
    assert out.count("\n") == 1
    assert answer["found"] is True
    assert verify(PREFIX.encode(), answer["nonce"]).hash == answer["hash"]
    assert answer["devices"] == ["fake:0"]


def test_a_budget_is_used_up_exactly_and_not_exceeded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], devices: list[ScriptedEngine]
) -> None:
    devices.append(ScriptedEngine("fake:1"))
    assert solve(monkeypatch, "--prefix", PREFIX, "--zeros", "60", "--max-hashes", "1234", "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["found"], answer["hashes"], answer["nonce"]) == (False, 1234, None)


def test_devices_never_try_the_same_nonces(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], devices: list[ScriptedEngine]
) -> None:
    spaces: list[str] = []
    both_began = threading.Barrier(2)

    class Noting(ScriptedEngine):
        def search(self, space: Any, start: int, count: int, zeros: int) -> Any:
            spaces.append(space.extranonce)
            both_began.wait(20)
            return super().search(space, start, count, zeros)

    devices[:] = [Noting("fake:0"), Noting("fake:1")]
    monkeypatch.setattr(engines, "open_engines", lambda options: [ReadyEngine(engine, 100.0) for engine in devices])
    assert solve(monkeypatch, "--prefix", PREFIX, "--zeros", "60", "--max-hashes", "1000") == 1
    assert len(spaces) == len(set(spaces)) == 2
    assert len({len(extranonce) for extranonce in spaces}) == 1


def test_one_device_that_fails_does_not_end_the_search_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], devices: list[ScriptedEngine], caplog: Any
) -> None:
    broken = ScriptedEngine("fake:1")
    broken.errors = [EngineError("the driver hung")]

    class Later(ScriptedEngine):
        def search(self, space: Any, start: int, count: int, zeros: int) -> Any:
            assert broken.idle.wait(20)
            return super().search(space, start, count, zeros)

    devices[:] = [Later("fake:0"), broken]
    assert solve(monkeypatch, "--prefix", PREFIX, "--zeros", "3") == 0
    assert "fake:1 gave up: the driver hung" in caplog.text


def test_when_every_device_fails_the_error_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], devices: list[ScriptedEngine]
) -> None:
    devices[0].errors = [EngineError("the driver hung")]
    assert solve(monkeypatch, "--prefix", PREFIX, "--zeros", "3") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == "hashfleet: the driver hung"


def test_a_false_hit_is_never_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], devices: list[ScriptedEngine]
) -> None:
    devices[0].lies = [0]
    assert solve(monkeypatch, "--prefix", PREFIX, "--zeros", "60", "--force") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "but hashlib finds" in captured.err


@pytest.mark.parametrize(
    ("prefix", "zeros", "sentence"),
    [
        (PREFIX, "0", "--zeros is 0"),
        (PREFIX, "65", "--zeros is 65"),
        ("5-28é", "3", "printable ASCII"),
        ("p" * 1025, "3", "the most is 1024"),
        ("", "3", "prefix is empty"),
    ],
)
def test_input_that_cannot_be_right_is_one_clear_sentence_and_opens_no_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], prefix: str, zeros: str, sentence: str
) -> None:
    monkeypatch.setattr(engines, "open_engines", lambda options: pytest.fail("a device was opened"))
    assert solve(monkeypatch, "--prefix", prefix, "--zeros", zeros) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err
    assert captured.err.count("\n") == 1


def test_an_absurd_wait_is_refused_and_says_what_would_be_reachable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], devices: list[ScriptedEngine]
) -> None:
    assert solve(monkeypatch, "--prefix", PREFIX, "--zeros", "20") == 1
    error = capsys.readouterr().err
    assert "16^20 = 1.2e+24 tries" in error
    assert "3.8e+10 years at 1 MH/s" in error
    assert "6 within a minute, 9 within a day, 11 within a year" in error
    assert devices[0].closed.is_set()


def test_a_wait_of_less_than_a_year_is_not_refused() -> None:
    check_wait(11, 16**11 / (364 * 86400), None)
    with pytest.raises(InvalidInput):
        check_wait(11, 16**11 / (367 * 86400), None)


def test_a_budget_that_ends_in_time_makes_any_number_of_zeros_acceptable() -> None:
    check_wait(64, 1e6, 10**9)


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_exits_with_130_and_says_what_was_tried(as_json: bool) -> None:
    command = [*COMMAND, "--prefix", PREFIX, "--zeros", "30", "--force", "-v", *(["--json"] if as_json else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "searching" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    if as_json:
        answer = json.loads(out)
        assert (answer["found"], answer["interrupted"]) == (False, True)
    else:
        assert out == ""
        assert re.search(r"no nonce found, interrupted: tried \d+ hashes", err)


def test_a_terminal_sees_rate_and_expected_time_on_stderr_and_stdout_stays_clean() -> None:
    ours, theirs = pty.openpty()
    command = [*COMMAND, "--prefix", PREFIX, "--zeros", "11", "--max-hashes", "100000000", "--force", "--json"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:  # how Linux says that the other side of a terminal is closed
        pass
    finally:
        os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert json.loads(out)["hashes"] == 100_000_000
    assert re.search(rb"H/s, .* hashes in .*, expected to take", seen)
