"""`hashfleet jobs submit --file`: a job or an error for each line, and nothing passed over in silence."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashfleet.action import Action
from hashfleet.cli.job_lines import MAX_LINE, read_lines
from hashfleet.cli.main import main
from hashfleet.client import MAX_BATCH
from hashfleet.errors import InvalidInput
from hashfleet.job_request import JobRequest, Mode, Priority, StartMode

Submit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def submit(
    scripted_coordinator: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Submit:
    """Run `hashfleet jobs submit --file` on these lines; gives exit status, stdout, stderr."""
    monkeypatch.setenv("HASHFLEET_COORDINATOR", scripted_coordinator.address)

    def submit(lines: list[str], *arguments: str) -> tuple[int, str, str]:
        file = tmp_path / "jobs.jsonl"
        file.write_text("".join(f"{line}\n" for line in lines))
        monkeypatch.setattr(sys, "argv", ["hashfleet", "jobs", "submit", "--file", str(file), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return submit


def line(number: int, **more: object) -> str:
    return json.dumps({"action": "mine", "entity_id": f"5-{number}", "player_id": "1-7", **more})


def test_each_line_becomes_a_job_and_its_id_is_printed(submit: Submit) -> None:
    assert submit([line(1), line(2)]) == (0, "pow_0001\npow_0002\n", "")


def test_a_bad_line_is_told_by_its_number_and_the_others_become_jobs(submit: Submit) -> None:
    status, out, err = submit([line(1), "{", "", line(2, weight=0.5), line(2)])
    assert (status, out) == (1, "pow_0001\npow_0002\n")
    first, second = err.splitlines()
    assert first.startswith("line 2: it is no JSON")
    assert second.startswith("line 4: it is no job")


def test_a_line_that_the_coordinator_refuses_is_told_by_its_number(submit: Submit, scripted_coordinator: Any) -> None:
    scripted_coordinator.refused["1-8"] = (grpc.StatusCode.INVALID_ARGUMENT, "a sentence of the coordinator")
    status, out, err = submit([line(1), line(2, player_id="1-8"), line(3)])
    assert (status, out, err) == (1, "pow_0001\npow_0002\n", "line 2: a sentence of the coordinator\n")


def test_a_line_that_is_a_job_already_says_so(submit: Submit) -> None:
    assert submit([line(1), line(1)])[1] == "pow_0001\npow_0001 (there already: queued)\n"


def test_json_tells_each_line_in_a_line(submit: Submit) -> None:
    _, out, err = submit([line(1), "[]"], "--json")
    accepted, refused = map(json.loads, out.splitlines())
    assert (accepted["line"], accepted["job"]["job_id"], accepted["created"]) == (1, "pow_0001", True)
    assert refused["line"] == 2
    assert refused["error"].startswith("it is no JSON object")
    assert err == ""


def test_a_long_file_is_sent_in_calls_of_bounded_size(submit: Submit, scripted_coordinator: Any) -> None:
    status, out, _ = submit([line(number) for number in range(MAX_BATCH + 2)])
    assert (status, len(out.splitlines())) == (0, MAX_BATCH + 2)
    assert [len(request.specs) for request in scripted_coordinator.requests] == [MAX_BATCH, 2]


def test_stdin_is_read_too(submit: Submit, monkeypatch: pytest.MonkeyPatch, scripted_coordinator: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["hashfleet", "jobs", "submit", "--file", "-"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line(5).encode())))
    with pytest.raises(SystemExit):
        main()
    assert scripted_coordinator.requests[0].specs[0].entity_id == "5-5"


def test_a_lost_coordinator_is_told_with_the_lines_in_doubt(submit: Submit, scripted_coordinator: Any) -> None:
    scripted_coordinator.refusal = (grpc.StatusCode.INTERNAL, "broken")
    status, _, err = submit([line(1), "", line(2)])
    assert status == 1
    assert "lines 1 to 3 may or may not be accepted, and no line after them was sent" in err


@pytest.mark.parametrize("beside", [["build"], ["--player", "1-7"], ["--weight", "1"], ["--watch"]])
def test_what_says_something_of_one_job_is_refused_beside_a_file(
    submit: Submit, scripted_coordinator: Any, beside: list[str]
) -> None:
    status, _, err = submit([line(1)], *beside)
    assert status == 2
    assert "with --file write it in its line" in err
    assert scripted_coordinator.requests == []


def test_a_line_says_everything_that_a_job_can_ask() -> None:
    text = line(
        1,
        anchor=5,
        range=700,
        max_hashes="9",
        priority="bulk",
        max_nonce_digits=99,
        start_mode="START_MODE_RACE",
        mode="return_proof",
        start_difficulty=4,
        deadline_height=5000,
        weight=7,
        idempotency_key="k",
    )
    (read,) = read_lines([text])
    assert read.asked == JobRequest(
        Action.MINE,
        "5-1",
        "1-7",
        None,
        5,
        700,
        9,
        Priority.BULK,
        99,
        Mode.RETURN_PROOF,
        StartMode.RACE,
        4,
        5000,
        7,
        "k",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "it is no JSON"),
        ("[" * 4000, "it is no JSON"),
        ("5", "it is no JSON object"),
        ("{}", "action is missing"),
        (line(1, action="fly"), "ACTION_FLY"),
        (line(1, surprise=1), "surprise"),
        (line(1, weight=1001), "weight is 1001"),
        (line(1, weight=-1), "it is no job"),
        (line(1, weight="many"), "it is no job"),
        (line(1, anchor=float("inf")), "it is no job"),
        (line(1, entity_id=5), "it is no job"),
        (line(1, action=["build"]), "it is no job"),
        (" " * MAX_LINE + line(1), "more than 4096 characters"),
    ],
)
def test_what_is_wrong_with_a_line_is_one_sentence(text: str, said: str) -> None:
    (read,) = read_lines([text])
    assert isinstance(read.asked, InvalidInput)
    assert said in str(read.asked)
    assert "\n" not in str(read.asked)


values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.integers(), max_size=2)
)
names = st.sampled_from(
    ["action", "entity_id", "player_id", "anchor", "weight", "mode", "deadline_height", "x", "max_hashes"]
)


@given(members=st.dictionaries(names, values))
def test_no_line_is_worse_than_refused(members: dict[str, object]) -> None:
    (read,) = read_lines([json.dumps(members)])
    assert isinstance(read.asked, JobRequest | InvalidInput)
