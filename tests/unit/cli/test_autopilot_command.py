"""`hashfleet autopilot` from its arguments to its exit status, against a scripted coordinator."""

# ruff: noqa: N802 - the methods of a servicer are named by the proto

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from hashfleet.cli import autopilot
from hashfleet.cli.main import main
from hashfleet.rpc.hashfleet.v1 import (
    autopilot_service_pb2,
    autopilot_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
)

Run = Callable[..., tuple[int, str, str]]


class ScriptedAutopilot(autopilot_service_pb2_grpc.AutopilotServiceServicer, job_service_pb2_grpc.JobServiceServicer):
    """Keeps what it is told; a test says what it tells."""

    def __init__(self) -> None:
        self.rules: dict[str, autopilot_service_pb2.AutopilotStatus] = {}
        self.jobs: list[job_pb2.Job] = []
        #: Called with each listing of jobs; once it says False, the listing fails, which ends --follow as well.
        self.on_listing: Callable[[], bool] = lambda: True

    def SetRule(self, request: Any, context: Any) -> Any:
        status = autopilot_service_pb2.AutopilotStatus(rule=request.rule)
        self.rules[request.rule.player_id] = status
        return autopilot_service_pb2.SetRuleResponse(status=status)

    def ListRules(self, request: Any, context: Any) -> Any:
        chosen = [s for p, s in self.rules.items() if request.player_id in ("", p)]
        start = int(request.page_token or 0)
        more = "1" if start == 0 and not request.player_id and len(chosen) > 1 else ""
        shown = chosen[:1] if more else chosen[start:]
        return autopilot_service_pb2.ListRulesResponse(rules=shown, next_page_token=more)

    def RemoveRule(self, request: Any, context: Any) -> Any:
        removed = self.rules.pop(request.player_id, None) is not None
        return autopilot_service_pb2.RemoveRuleResponse(removed=removed)

    def ListJobs(self, request: Any, context: Any) -> Any:
        if not self.on_listing():
            context.abort(grpc.StatusCode.INTERNAL, "the end")
        return job_service_pb2.ListJobsResponse(jobs=list(reversed(self.jobs)))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedAutopilot]:
    coordinator = ScriptedAutopilot()
    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    autopilot_service_pb2_grpc.add_AutopilotServiceServicer_to_server(coordinator, server)
    job_service_pb2_grpc.add_JobServiceServicer_to_server(coordinator, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("HASHFLEET_COORDINATOR", f"127.0.0.1:{port}")
    yield coordinator
    server.stop(0).wait(5)


@pytest.fixture
def run(scripted: ScriptedAutopilot, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the `hashfleet` command in this process; gives exit status, stdout, stderr."""

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


def test_a_player_alone_is_all_it_takes(run: Run, scripted: ScriptedAutopilot) -> None:
    status, out, _ = run("autopilot", "--player", "1-11")
    assert (status, out) == (0, "picking up for player 1-11: build, mine, refine, raid\n")
    rule = scripted.rules["1-11"].rule
    assert (len(rule.actions), rule.priority, rule.weight, rule.enabled) == (
        4,
        job_pb2.PRIORITY_INTERACTIVE,
        1,
        True,
    )


def test_every_option_is_sent_for_every_player(run: Run, scripted: ScriptedAutopilot) -> None:
    options = ["--action", "mine", "--action", "refine", "--priority", "bulk", "--start-mode", "economy"]
    options += ["--mode", "return_proof", "--weight", "5", "--max-jobs", "9", "--pause"]
    status, out, _ = run("autopilot", "set", "--player", "1-11", "--player", "1-12", *options)
    assert status == 0
    assert "the rule for player 1-12 is kept, and nothing is picked up" in out
    for player_id in ("1-11", "1-12"):
        assert scripted.rules[player_id].rule == autopilot_service_pb2.AutopilotRule(
            player_id=player_id,
            actions=[job_pb2.ACTION_MINE, job_pb2.ACTION_REFINE],
            priority=job_pb2.PRIORITY_BULK,
            start_mode=job_pb2.START_MODE_ECONOMY,
            mode=job_pb2.MODE_RETURN_PROOF,
            weight=5,
            max_jobs=9,
            enabled=False,
        )


def test_json_is_the_message_of_the_listing(run: Run, scripted: ScriptedAutopilot) -> None:
    _, out, _ = run("autopilot", "--player", "1-11", "--json")
    (rule,) = json.loads(out)["rules"]
    assert rule["rule"]["actions"] == ["ACTION_BUILD", "ACTION_MINE", "ACTION_REFINE", "ACTION_RAID"]
    _, out, _ = run("autopilot", "list", "--json")
    assert json.loads(out)["rules"][0]["rule"]["player_id"] == "1-11"


def test_a_wrong_player_is_refused_before_anything_is_set(run: Run, scripted: ScriptedAutopilot) -> None:
    status, _, err = run("autopilot", "--player", "1-11", "--player", "5-1")
    assert status == 1 and "player_id is '5-1'" in err
    assert scripted.rules == {}


def test_the_listing_shows_every_page_and_what_stands_in_the_way(run: Run, scripted: ScriptedAutopilot) -> None:
    assert run("autopilot", "list")[1] == "no rules\n"
    run("autopilot", "--player", "1-11", "--player", "1-12", "--action", "mine")
    first = scripted.rules["1-11"]
    first.looked_height, first.held, first.error = 679_700, 2, "no node answers"
    first.held_first.add(action=job_pb2.ACTION_MINE, entity_id="5-2", reason="no ore", failures=1)
    first.refusals.add(action=job_pb2.ACTION_RAID, reason="the key lacks PermHashRaid")
    status, out, _ = run("autopilot", "list")
    assert status == 0
    assert "block 679700" in out and "1-12" in out and "not yet" in out
    assert "player 1-11: the last look failed: no node answers" in out
    assert "player 1-11: may not raid: the key lacks PermHashRaid" in out
    assert "player 1-11: mine of 5-2 is held back until" in out and out.endswith("player 1-11: 1 more are held back\n")


def test_removing_tells_whether_there_was_a_rule(run: Run, scripted: ScriptedAutopilot) -> None:
    run("autopilot", "--player", "1-11")
    assert run("autopilot", "remove", "--player", "1-11")[:2] == (0, "player 1-11 is served no longer\n")
    assert run("autopilot", "remove", "--player", "1-11")[:2] == (1, "player 1-11 has no rule\n")


def test_without_arguments_it_says_how_it_is_used(run: Run) -> None:
    _, out, err = run("autopilot")
    assert "hashfleet autopilot --player 1-11" in out + err
    _, out, _ = run("autopilot", "--help")
    assert all(name in out for name in ("set", "list", "remove"))


def test_follow_shows_each_job_when_its_state_changes_and_each_trouble_once(
    run: Run,
    scripted: ScriptedAutopilot,
    waiting_job: job_pb2.Job,
    running_job: job_pb2.Job,
    completed_job: job_pb2.Job,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(autopilot, "FOLLOW_SECONDS", 0.01)
    completed_job.job_id = "pow_before"
    looks = [[completed_job], [completed_job, waiting_job], [completed_job, waiting_job], [running_job]]

    def next_look() -> bool:
        scripted.rules["1-11"].error = "no node answers"
        scripted.jobs = looks.pop(0) if looks else []
        return bool(scripted.jobs)

    scripted.on_listing = next_look
    _, out, err = run("autopilot", "--player", "1-11", "--follow")
    served, *lines = out.splitlines()
    assert served.startswith("picking up for player 1-11")
    assert [line.split(" for ")[0] for line in lines] == ["pow_0001 build of 5-28"] * 2
    assert ["waiting" in lines[0], "running" in lines[1]] == [True, True]
    assert err.count("player 1-11: the last look failed: no node answers") == 1
