"""`hashfleet tune`: on made-up devices, and from end to end on the CPU and on an OpenCL CPU device."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cpu_fallback import settings as cpu_settings
from cpu_fallback.settings import CpuSettings
from gpu_worker import settings as gpu_settings
from gpu_worker.discovery import find_devices
from gpu_worker.settings import OpenClSettings
from hashfleet.cli import engines, tune, tuned_settings
from hashfleet.cli.engines import EngineOptions, open_engines
from hashfleet.cli.tuned_settings import AnySettings
from hashfleet.engine import EngineKind
from hashfleet.errors import EngineUnavailable, HashfleetError
from hashfleet.tuning import DeviceModel, Outcome, Progress, Trial, Tunable
from hashfleet.tuning_file import TuningFile, default_path

DEFAULT, BETTER, BROKEN = OpenClSettings(), OpenClSettings(group_size=128), OpenClSettings(width=16)
TRIALS = (
    Trial(DEFAULT, 1.0e9, 1.0, 36),
    Trial(BETTER, 1.2e9, 1.25, 12, finalist=True),
    Trial(BROKEN, refused="it [does] not compile"),
)
WON = Outcome(TRIALS, BETTER, 1.25, {"T": 1.2e9, "S": 0.9e9})
LOST = Outcome(TRIALS[:1], None, 1.0, {"T": 1.0e9, "S": 0.9e9})


def card(device_id: str, name: str = "a card") -> Tunable[AnySettings]:
    def closed(settings: AnySettings) -> Any:
        raise AssertionError("no device is opened here")

    return Tunable(device_id, DeviceModel(EngineKind.OPENCL, name, "driver 1", "aa"), DEFAULT, (BETTER, BROKEN), closed)


class Rig:
    """A computer whose tuning gives what a test says."""

    def __init__(self) -> None:
        self.cards = [card("opencl:0.0")]
        self.outcome: Outcome[OpenClSettings] | HashfleetError = WON
        self.asked: list[EngineOptions] = []
        self.tuned: list[tuple[str, float]] = []

    def find(self, options: EngineOptions) -> list[Tunable[AnySettings]]:
        self.asked.append(options)
        return self.cards

    def tune(self, tunable: Tunable[AnySettings], seconds: float, *, progress: Progress) -> Outcome[OpenClSettings]:
        self.tuned.append((tunable.device_id, seconds))
        progress(0, 1, "group size 128")
        if isinstance(self.outcome, HashfleetError):
            raise self.outcome
        return self.outcome


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    """One card."""
    made = Rig()
    monkeypatch.setattr(engines, "find_tunable", made.find)
    monkeypatch.setattr(tuned_settings, "tune", made.tune)
    return made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(tune.command, arguments)


def test_the_table_shows_each_candidate_with_its_rate_and_ratio_and_what_was_stored(rig: Rig) -> None:
    result = run()

    assert result.exit_code == 0
    rows = {line.split("│")[1].strip(): line for line in result.output.splitlines() if line.startswith("│")}
    assert "1 GH/s" in rows["the default settings"]
    assert "1.250" in rows["group size 128"]
    assert "refused: it [does] not compile" in rows["width 16"]
    assert "stored: group size 128, 1.250 times the default" in result.output
    assert str(default_path()) in result.output


def test_the_winner_is_stored_for_the_next_start(rig: Rig) -> None:
    run()
    entry = TuningFile(default_path()).find(rig.cards[0].model)

    assert entry is not None
    assert rig.cards[0].matching(dict(entry.settings or {})) == BETTER


def test_where_nothing_beats_the_default_no_settings_are_stored_and_older_ones_are_gone(rig: Rig) -> None:
    run()
    rig.outcome = LOST
    result = run()
    entry = TuningFile(default_path()).find(rig.cards[0].model)

    assert "nothing beat the default settings by more than the noise; they stay" in result.output
    assert entry is not None
    assert entry.settings is None


def test_cards_of_one_model_are_tuned_once_and_named_together(rig: Rig) -> None:
    rig.cards = [card("opencl:0.0"), card("opencl:0.1", "another"), card("opencl:0.2")]
    result = run("--seconds", "2.5")

    assert rig.tuned == [("opencl:0.0", 2.5), ("opencl:0.1", 2.5)]
    assert "opencl:0.0, opencl:0.2: a card (OpenCL, driver 1)" in result.output


def test_json_is_one_array_with_every_trial(rig: Rig) -> None:
    answer = json.loads(run("--json").stdout)

    assert [each["device_ids"] for each in answer] == [["opencl:0.0"]]
    assert answer[0]["stored"]["settings"] == {
        "width": None, "group_size": 128, "tails_per_item": None, "in_flight": 2
    }  # fmt: skip
    assert [trial["ratio"] for trial in answer[0]["trials"]] == [1.0, 1.25, None]
    assert answer[0]["trials"][2]["refused"] == "it [does] not compile"


def test_a_device_that_fails_is_told_with_status_1_and_the_others_are_tuned(rig: Rig) -> None:
    rig.outcome = EngineUnavailable("the device is gone")
    rig.cards = [card("opencl:0.0"), card("opencl:0.1", "another")]
    result = run()

    assert result.exit_code == 1
    assert len(rig.tuned) == 2
    assert "opencl:0.1 is not tuned: the device is gone" in result.stderr
    assert json.loads(run("--json").stdout)[0]["failure"] == "the device is gone"


def test_settings_that_cannot_be_stored_are_a_failure_not_a_silence(rig: Rig) -> None:
    default_path().parent.parent.touch()
    result = run()

    assert result.exit_code == 1
    assert "cannot be written to" in result.stderr


def test_the_devices_asked_for_are_those_tuned(rig: Rig) -> None:
    run("--engine", "opencl", "--devices", "opencl:0.0,opencl:0.1")

    assert rig.asked == [EngineOptions("opencl", ("opencl:0.0", "opencl:0.1"), None, 5)]


@pytest.mark.parametrize("seconds", ["0", "-1", "1e9"])
def test_a_time_that_makes_no_sense_is_refused(rig: Rig, seconds: str) -> None:
    assert run("--seconds", seconds).exit_code == 2
    assert rig.tuned == []


# --- from end to end


def test_the_cpu_is_tuned_and_a_worker_then_uses_what_was_stored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # hashlib alone as the default: whatever LLVM makes beats it a hundredfold.
    slow = CpuSettings("hashlib", 1)
    monkeypatch.setattr(
        cpu_settings, "candidates", lambda cores: (CpuSettings("no such target"), CpuSettings("host", 1))
    )
    monkeypatch.setattr(cpu_settings, "default_settings", lambda: slow)
    result = run("--engine", "cpu", "--seconds", "0.5")

    assert result.exit_code == 0, result.output
    assert "refused: the target is 'no such target'" in result.output
    assert "stored: target host, " in result.output
    with caplog.at_level(logging.INFO):
        (ready,) = open_engines(EngineOptions("cpu"))
    ready.engine.close()
    assert "cpu uses the settings tuned on" in caplog.text
    assert ready.engine.device.name.endswith("1 process")


def test_an_opencl_device_is_tuned_in_processes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        device = find_devices("opencl")[0]
    except EngineUnavailable as error:
        pytest.skip(str(error))
    narrow = OpenClSettings(width=4)
    monkeypatch.setattr(gpu_settings, "candidates", lambda info: (narrow,))
    result = run("--engine", "opencl", "--devices", device.device_id, "--seconds", "0.5", "--json")

    assert result.exit_code == 0, result.output
    (answer,) = json.loads(result.stdout)
    assert [trial["settings"]["width"] for trial in answer["trials"]] == [None, 4]
    assert all(trial["rate"] > 0 and trial["refused"] is None for trial in answer["trials"])
    assert TuningFile(default_path()).find(gpu_settings.device_model(device)) is not None
