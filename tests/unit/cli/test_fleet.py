"""`hashfleet fleet status` against a scripted coordinator."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from hashfleet.cli.main import cli


def shown(coordinator: Any, *options: str) -> str:
    result = CliRunner().invoke(cli, ["fleet", "status", "--coordinator", coordinator.address, *options])
    assert result.exception is None, result.exception
    return result.output


def test_status_shows_chain_queue_and_every_device(scripted_coordinator: Any, busy_fleet: Any) -> None:
    scripted_coordinator.fleet = busy_fleet
    out = shown(scripted_coordinator)
    for part in (
        "structstestnet-111 at height 679700, a block every 5.28 seconds",
        "3 waiting, 1 running",
        "1 worker, 2 devices, 32.5 GH/s of 33.1 GH/s",
        "none: proofs are found, but not submitted",
    ):
        assert part in out
    gpu = next(line for line in out.splitlines() if "cuda:0" in line)
    assert gpu.split()[-9:] == ["GH/s", "33", "GH/s", "1", "P", "5", "1", "0", "pow_0001"]
    assert "idle" in next(line for line in out.splitlines() if "EPYC" in line)


def test_an_empty_fleet_without_a_chain_is_shown_as_one(scripted_coordinator: Any) -> None:
    out = shown(scripted_coordinator)
    assert "NOT CONNECTED" in out
    assert "0 workers, 0 devices, 0 H/s of 0 H/s" in out
    assert "WORKER" not in out


@pytest.mark.parametrize("draining", [True, False])
def test_a_draining_worker_is_marked(scripted_coordinator: Any, busy_fleet: Any, draining: bool) -> None:
    busy_fleet.workers[0].draining = draining
    scripted_coordinator.fleet = busy_fleet
    assert ("rig (draining)" in shown(scripted_coordinator)) is draining


def test_json_is_the_message_of_the_proto(scripted_coordinator: Any, busy_fleet: Any) -> None:
    scripted_coordinator.fleet = busy_fleet
    answer = json.loads(shown(scripted_coordinator, "--json"))
    assert answer["workers"][0]["devices"][0]["device"]["engine"] == "ENGINE_KIND_CUDA"
    assert answer["jobs"]["waiting"] == 3
