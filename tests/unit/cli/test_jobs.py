"""`hashfleet jobs` from its arguments to its exit status, against a scripted coordinator."""

from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from hashfleet.cli.main import main
from hashfleet.rpc.hashfleet.v1 import job_pb2

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(scripted_coordinator: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the `hashfleet` command in this process; gives exit status, stdout, stderr."""
    monkeypatch.setenv("HASHFLEET_COORDINATOR", scripted_coordinator.address)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hashfleet", *arguments])
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_submit_prints_the_job_id_and_sends_every_option(run: Run, scripted_coordinator: Any) -> None:
    options = ["--player", "1-11", "--target", "2-1", "--anchor", "679575", "--range", "220"]
    options += ["--max-hashes", "1000000", "--priority", "critical", "--mode", "return_proof", "--start-mode", "race"]
    options += ["--start-difficulty", "7", "--deadline", "700000", "--weight", "3", "--key", "raid of tonight"]
    status, out, _ = run("jobs", "submit", "raid", "9-11", *options, "--max-nonce-digits", "100")
    assert (status, out) == (0, "pow_0001\n")
    assert scripted_coordinator.requests[0].spec == job_pb2.JobSpec(
        action=job_pb2.ACTION_RAID,
        entity_id="9-11",
        player_id="1-11",
        target_id="2-1",
        anchor=679575,
        range=220,
        max_hashes=10**6,
        priority=job_pb2.PRIORITY_CRITICAL,
        max_nonce_digits=100,
        mode=job_pb2.MODE_RETURN_PROOF,
        start_mode=job_pb2.START_MODE_RACE,
        start_difficulty=7,
        deadline_height=700000,
        weight=3,
        idempotency_key="raid of tonight",
    )


def test_submitting_the_same_work_again_says_that_the_job_is_there(run: Run) -> None:
    run("jobs", "submit", "build", "5-28", "--player", "1-11")
    _, out, _ = run("jobs", "submit", "build", "5-28", "--player", "1-11")
    assert out == "pow_0001 (there already: queued)\n"


@pytest.mark.parametrize("given", [[], ["build"], ["build", "5-28"], ["--player", "1-11"]])
def test_submit_needs_a_job_or_a_file(run: Run, given: list[str]) -> None:
    status, _, err = run("jobs", "submit", *given)
    assert status == 2
    assert "ACTION, ENTITY_ID and --player should be given, or --file" in err


def test_a_wrong_id_is_one_sentence_on_stderr_and_exit_status_1(run: Run, scripted_coordinator: Any) -> None:
    status, out, err = run("jobs", "submit", "build", "28", "--player", "1-11")
    assert (status, out) == (1, "")
    assert err == "hashfleet: entity_id is '28'; it should be a struct id such as 5-28\n"
    assert scripted_coordinator.requests == []


def test_submit_with_watch_waits_for_the_end(run: Run, scripted_coordinator: Any, completed_job: job_pb2.Job) -> None:
    scripted_coordinator.put(completed_job)
    status, out, _ = run("jobs", "submit", "build", "5-28", "--player", "1-11", "--watch")
    assert status == 0
    assert out.splitlines()[-1] == f"completed: transaction {'AB' * 32} is in block 1200"


def test_show_of_a_running_job_tells_when_and_how_good_it_is(
    run: Run, scripted_coordinator: Any, running_job: job_pb2.Job
) -> None:
    scripted_coordinator.put(running_job)
    _, out, _ = run("jobs", "show", "pow_0001")
    for part in (
        "in 12 seconds; 50 % within 8.5 seconds (block 1133), 90 % within 29 seconds (block 1137)",
        f"{running_job.best.hash} (7 zeros), valid once block 1150 is there",
        "25.0%",
    ):
        assert part in out


def test_show_tells_how_the_job_was_asked_for(run: Run, scripted_coordinator: Any, waiting_job: job_pb2.Job) -> None:
    waiting_job.spec.start_mode = job_pb2.START_MODE_ECONOMY
    waiting_job.spec.mode = job_pb2.MODE_RETURN_PROOF
    waiting_job.spec.weight = 5
    waiting_job.spec.deadline_height = 4711
    waiting_job.spec.idempotency_key = "my own name"
    scripted_coordinator.put(waiting_job)
    _, out, _ = run("jobs", "show", "pow_0001")
    for part in ("bulk, weight 5", "economy", "nothing is submitted", "block 4711", "my own name", "starts at age 10"):
        assert part in out


def test_a_start_difficulty_is_shown_in_place_of_the_start_mode(
    run: Run, scripted_coordinator: Any, waiting_job: job_pb2.Job
) -> None:
    waiting_job.spec.start_difficulty = 8
    scripted_coordinator.put(waiting_job)
    out = run("jobs", "show", "pow_0001")[1]
    assert "once 8 zeros or fewer are asked" in out
    assert "balanced" not in out


def test_a_returned_proof_is_complete_without_a_transaction(
    run: Run, scripted_coordinator: Any, completed_job: job_pb2.Job
) -> None:
    completed_job.spec.mode = job_pb2.MODE_RETURN_PROOF
    completed_job.ClearField("transaction")
    scripted_coordinator.put(completed_job)
    out = run("jobs", "show", "pow_0001")[1]
    assert "completed: a proof of 3 zeros is here, valid once block 1180 is there" in out


def test_list_shows_quantiles_and_the_best_hash(run: Run, scripted_coordinator: Any, running_job: job_pb2.Job) -> None:
    scripted_coordinator.put(running_job)
    heading, row = run("jobs", "list")[1].splitlines()[:2]
    assert row[heading.index("50/90 %") :].startswith("8.5 seconds / 29 seconds")
    assert row[heading.index("BEST") :].startswith("7 zeros")


def test_show_tells_everything_about_a_job(run: Run, scripted_coordinator: Any, completed_job: job_pb2.Job) -> None:
    completed_job.notes.append("a note [with brackets]")
    scripted_coordinator.put(completed_job)
    status, out, _ = run("jobs", "show", "pow_0001")
    assert status == 0
    for part in (
        "completed: transaction",
        "build of 5-28 for player 1-11",
        "anchor 1000, range 220",
        completed_job.proof.nonce,
        f"{completed_job.proof.hash} (3 zeros)",
        "4.5 k hashes in 1.2 seconds, found by w_1",
        f"{'AB' * 32} (included)",
        "a note [with brackets]",
    ):
        assert part in out


def test_show_of_a_waiting_job_says_until_when(run: Run, scripted_coordinator: Any, waiting_job: job_pb2.Job) -> None:
    scripted_coordinator.put(waiting_job)
    _, out, _ = run("jobs", "show", "pow_0001")
    assert "waiting: 6 blocks (32 seconds) until hashing starts at age 10, with 38 zeros asked" in out


def test_json_is_the_message_of_the_proto(run: Run, scripted_coordinator: Any, running_job: job_pb2.Job) -> None:
    scripted_coordinator.put(running_job)
    _, out, _ = run("jobs", "show", "pow_0001", "--json")
    shown = json.loads(out)
    assert (shown["job_id"], shown["state"]) == ("pow_0001", "JOB_STATE_RUNNING")
    assert shown["progress"]["hashes"] == str(2**40)


def test_an_unknown_job_is_told_with_exit_status_1(run: Run) -> None:
    assert run("jobs", "show", "pow_9") == (1, "", "hashfleet: there is no job pow_9\n")


def test_list_shows_a_row_for_each_job_and_how_to_go_on(
    run: Run, scripted_coordinator: Any, waiting_job: job_pb2.Job, running_job: job_pb2.Job
) -> None:
    scripted_coordinator.put(waiting_job)
    running_job.job_id = "pow_0002"
    scripted_coordinator.put(running_job)
    status, out, _ = run("jobs", "list", "--limit", "1")
    lines = out.splitlines()
    assert status == 0
    assert lines[0].split()[:3] == ["JOB", "STATE", "ACTION"]
    assert lines[1].startswith("pow_0002  running  build   5-28    1-11    bulk")
    assert "1.1 T hashes, 33 GH/s on 2 workers, expected in 12 seconds (block 1134)" in lines[1]
    assert lines[2:] == ["more with --page-token 1"]
    assert "pow_0001" in run("jobs", "list", "--page-token", "1")[1]


def test_list_filters(run: Run, scripted_coordinator: Any) -> None:
    status, out, _ = run("jobs", "list", "--status", "waiting", "--status", "running", "--player", "1-11")
    assert (status, out) == (0, "no jobs\n")
    request = scripted_coordinator.requests[0]
    assert list(request.states) == [job_pb2.JOB_STATE_WAITING, job_pb2.JOB_STATE_RUNNING]
    assert request.player_id == "1-11"


def test_list_json_is_valid_when_there_are_no_jobs(run: Run) -> None:
    assert json.loads(run("jobs", "list", "--json")[1]) == {"jobs": [], "next_page_token": ""}


def watched(run: Run, coordinator: Any, first: job_pb2.Job, then: job_pb2.Job, *options: str) -> tuple[int, str, str]:
    """Watch a job that changes once it is being watched."""
    coordinator.put(first)

    def change() -> None:
        coordinator.wait_for_stream()
        coordinator.put(then)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        return run("jobs", "watch", "pow_0001", *options)
    finally:
        changing.join()


def test_watch_prints_each_change_and_ends_with_0_when_completed(
    run: Run, scripted_coordinator: Any, running_job: job_pb2.Job, completed_job: job_pb2.Job
) -> None:
    status, out, _ = watched(run, scripted_coordinator, running_job, completed_job)
    assert status == 0
    assert [line.partition(":")[0] for line in out.splitlines()] == ["running", "completed"]


@pytest.mark.parametrize("state", [job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED])
def test_watch_ends_with_1_when_it_did_not_complete(
    run: Run, scripted_coordinator: Any, running_job: job_pb2.Job, state: Any
) -> None:
    ended = job_pb2.Job()
    ended.CopyFrom(running_job)
    ended.state = state
    ended.error = "the struct was destroyed"
    status, out, _ = watched(run, scripted_coordinator, running_job, ended)
    assert status == 1
    assert "the struct was destroyed" in out.splitlines()[-1]


def test_watch_json_is_one_object_a_line(
    run: Run, scripted_coordinator: Any, running_job: job_pb2.Job, completed_job: job_pb2.Job
) -> None:
    _, out, _ = watched(run, scripted_coordinator, running_job, completed_job, "--json")
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["JOB_STATE_RUNNING", "JOB_STATE_COMPLETED"]


def test_watch_on_a_terminal_redraws_one_line_and_leaves_the_last(
    scripted_coordinator: Any, running_job: job_pb2.Job, completed_job: job_pb2.Job
) -> None:
    scripted_coordinator.put(running_job)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "hashfleet.cli.main", "jobs", "watch", "pow_0001"]
    environment = os.environ | {
        "HASHFLEET_COORDINATOR": scripted_coordinator.address,
        "TERM": "xterm",
        "COLUMNS": "120",
    }
    watching = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while piece := read(ours):
            shown += piece
            if b"running: 1.1 T hashes" in shown:
                scripted_coordinator.put(completed_job)
        assert watching.wait(30) == 0
    finally:
        watching.kill()
        watching.wait()
        os.close(ours)
    assert b"\x1b[2K" in shown  # the line was erased and drawn again
    assert (
        shown.rstrip().rpartition(b"\x1b")[2].endswith(f"completed: transaction {'AB' * 32} is in block 1200".encode())
    )


def read(terminal: int) -> bytes:
    """What was written to the terminal since; nothing once its last writer is gone, which Linux tells as EIO."""
    try:
        return os.read(terminal, 4096)
    except OSError as error:
        assert error.errno == errno.EIO
        return b""


def test_cancel_shows_the_cancelled_job(run: Run, scripted_coordinator: Any, waiting_job: job_pb2.Job) -> None:
    scripted_coordinator.put(waiting_job)
    status, out, _ = run("jobs", "cancel", "pow_0001")
    assert status == 0
    assert "cancelled: cancelled on request" in out


def test_cancelling_a_finished_job_is_refused_with_the_coordinators_sentence(
    run: Run, scripted_coordinator: Any, completed_job: job_pb2.Job
) -> None:
    scripted_coordinator.put(completed_job)
    assert run("jobs", "cancel", "pow_0001") == (1, "", "hashfleet: job pow_0001 is over; it cannot be cancelled\n")


def test_priority_is_changed(run: Run, scripted_coordinator: Any, waiting_job: job_pb2.Job) -> None:
    scripted_coordinator.put(waiting_job)
    status, out, _ = run("jobs", "priority", "pow_0001", "critical")
    assert status == 0
    assert "critical" in out


def test_an_unreachable_coordinator_is_named_on_stderr(run: Run, scripted_coordinator: Any) -> None:
    scripted_coordinator.stop()
    status, _, err = run("jobs", "list")
    assert status == 1
    assert f"no coordinator answers at {scripted_coordinator.address}" in err


def test_the_option_beats_the_environment(run: Run) -> None:
    _, _, err = run("jobs", "list", "--coordinator", "nowhere")
    assert "'nowhere'; it should be HOST:PORT" in err


def test_a_failure_inside_the_coordinator_is_told_as_one(run: Run, scripted_coordinator: Any) -> None:
    scripted_coordinator.refusal = (grpc.StatusCode.INTERNAL, "disk full")
    status, _, err = run("jobs", "list")
    assert status == 1
    assert "failed with INTERNAL: disk full" in err
