"""`kill -9` wherever it could matter: nothing acknowledged is lost, nothing is done twice.

What happens in these histories stands in `doubles/killed_coordinator.py`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

HISTORIES = Path(__file__).with_name("doubles") / "killed_coordinator.py"
SOLVED = {"5-1", "5-2", "5-3"}


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One for each point at which the first life and the second were killed; the last one was not killed at all."""
    folder = tmp_path_factory.mktemp("lives")
    done = subprocess.run(
        [sys.executable, str(HISTORIES), str(folder)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Traceback" not in done.stderr, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_kind_of_point_was_killed_at(histories: list[dict[str, Any]]) -> None:
    killed = [history for history in histories if history["statuses"][0] == signal.SIGKILL]
    assert len(killed) >= 60 and killed == histories[:-1]
    assert sum(len(history["points"]) == 2 for history in killed) >= 30
    assert {point for history in killed for point in history["points"]} >= {
        "before save_jobs",
        "after save_jobs",
        "before add_attempts",
        "after add_attempts",
        "before update_attempts",
        "after update_attempts",
        "before broadcast",
        "after broadcast",
        "before ReadWork",
        "before GrantLease",
        "before SubmitProof",
    }


def test_after_a_kill_at_any_point_the_restart_resumes_and_every_job_ends(histories: list[dict[str, Any]]) -> None:
    for history in histories:
        assert history["ended"] and history["statuses"][-1] == 0, history


def test_a_kill_at_any_point_loses_no_acknowledged_job(histories: list[dict[str, Any]]) -> None:
    for history in histories:
        states = {job_id: state for job_id, _, state, _, _ in history["jobs"]}
        acknowledged = history["acknowledged"]
        assert {states[acknowledged[object_id]] for object_id in SOLVED} == {"completed"}, history
        assert states[acknowledged["5-8"]] == "cancelled", history
        assert states[acknowledged["5-9"]] == "failed", history


def test_a_kill_at_any_point_makes_no_request_two_jobs(histories: list[dict[str, Any]]) -> None:
    for history in histories:
        objects = Counter(object_id for _, object_id, _, _, _ in history["jobs"])
        # One was asked without a key: if it ended before the answer came, asking again is asking anew.
        unkeyed = objects.pop("5-1")
        assert unkeyed == 1 or history["executed"][0][0] == "5-1", history
        assert set(objects.values()) == {1}, history


def test_a_kill_at_any_point_sends_one_transaction_for_each_anchor(histories: list[dict[str, Any]]) -> None:
    for history in histories:
        executed = [(object_id, anchor) for object_id, anchor, _, _ in history["executed"]]
        assert sorted(executed) == [(object_id, 100) for object_id in sorted(SOLVED)], history
        assert {code for _, _, code, _ in history["executed"]} == {0}, history


def test_after_a_kill_at_any_point_the_ledger_says_what_the_chain_says(histories: list[dict[str, Any]]) -> None:
    for history in histories:
        assert (history["integrity"], history["orphans"]) == ([["ok"]], []), history
        landed = {tx_hash: (object_id, anchor) for object_id, anchor, _, tx_hash in history["executed"]}
        ledger = {
            tx_hash: (object_id, anchor)
            for _, _, object_id, anchor, state, tx_hash in history["attempts"]
            if state == "included"
        }
        assert ledger == landed, history
        assert not [row for row in history["attempts"] if row[4] in ("signed", "broadcast")], history
        rows = {row[0]: row for row in history["attempts"]}
        for job_id, object_id, state, tx_hash, ledger_id in history["jobs"]:
            if state == "completed":
                assert rows[ledger_id][1:3] == [job_id, object_id] and rows[ledger_id][5] == tx_hash, history
