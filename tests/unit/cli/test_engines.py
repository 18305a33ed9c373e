"""From --engine and --devices to engines: what is taken, what is refused, and when the CPU steps in."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from cpu_fallback.settings import CpuSettings
from gpu_worker.settings import CudaSettings
from hashfleet.cli import engines, tuned_settings
from hashfleet.cli.engines import EngineOptions, Refused, find_tunable, open_engines, read_options, survey
from hashfleet.cli.tuned_settings import AnySettings, entry_of, tunable_cpu, tunable_gpu
from hashfleet.engine import DeviceInfo, EngineKind, HashEngine
from hashfleet.errors import EngineError, EngineUnavailable, InvalidInput, SelfTestFailed
from hashfleet.tuning import Outcome, Trial, Tunable
from hashfleet.tuning_file import TuningFile, default_path

sys.path.append(str(Path(__file__).parents[1] / "gpu_worker" / "doubles"))

from scripted_engine import ScriptedEngine


class Machine:
    """A computer with the devices that a test puts into it."""

    def __init__(self) -> None:
        #: Device ids by what is asked for; an error instead of a list is raised.
        self.found: dict[str, list[str] | EngineError] = {
            "auto": [],
            "cuda": EngineUnavailable("no CUDA driver"),
            "opencl": EngineUnavailable("no OpenCL driver"),
        }
        self.wrong: dict[str, EngineError] = {}
        self.opened: dict[str, ScriptedEngine] = {}
        #: With which settings each device was opened, in order.
        self.settings: list[tuple[str, object]] = []
        #: Settings that the device does not stand.
        self.bad_settings: list[object] = []

    def find(self, function: object, kind: str, what: str, seconds: float) -> list[DeviceInfo]:
        answer = self.found[kind]
        if isinstance(answer, EngineError):
            raise answer
        return [DeviceInfo(device_id, "a GPU", EngineKind.CUDA, "driver 1") for device_id in answer]

    def open_gpu(self, device: DeviceInfo, open_engine: Any) -> ScriptedEngine:
        return self._open(device.device_id, open_engine.keywords["settings"])

    def open_cpu(
        self, processes: int | None, niceness: int, *, target: str, streams: int | None, compile_first: bool
    ) -> ScriptedEngine:
        return self._open("cpu", CpuSettings(target, processes, streams))

    def _open(self, device_id: str, settings: object) -> ScriptedEngine:
        self.opened[device_id] = ScriptedEngine(device_id)
        self.settings.append((device_id, settings))
        return self.opened[device_id]

    def self_test(self, engine: HashEngine) -> None:
        if engine.device.device_id in self.wrong:
            raise self.wrong[engine.device.device_id]
        if self.settings[-1][1] in self.bad_settings:
            raise SelfTestFailed("it missed a hit")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """No GPU, a CPU that works, nothing tuned."""
    made = Machine()
    monkeypatch.setattr(engines, "call_in_process", made.find)
    monkeypatch.setattr(tuned_settings, "DeviceProcess", made.open_gpu)
    monkeypatch.setattr(tuned_settings, "CpuEngine", made.open_cpu)
    monkeypatch.setattr(engines, "self_test", made.self_test)
    monkeypatch.setattr(engines, "measure_rate", lambda _: 31.25e9)
    return made


def ids(ready: list[Any]) -> list[str]:
    return [each.engine.device.device_id for each in ready]


def test_every_gpu_found_is_opened_and_logged_with_its_rate(machine: Machine, caplog: Any) -> None:
    machine.found["auto"] = ["cuda:0", "cuda:1", "opencl:1.0"]
    with caplog.at_level(logging.INFO):
        assert ids(open_engines(EngineOptions())) == ["cuda:0", "cuda:1", "opencl:1.0"]
    assert "device cuda:1: a fake" in caplog.text
    assert "31.2 GH/s" in caplog.text


def test_a_device_that_fails_its_self_test_is_refused_closed_and_logged_while_the_others_work(
    machine: Machine, caplog: Any
) -> None:
    machine.found["auto"] = ["cuda:0", "cuda:1"]
    machine.wrong["cuda:0"] = SelfTestFailed("cuda:0 missed a hit")
    with caplog.at_level(logging.WARNING):
        assert ids(open_engines(EngineOptions())) == ["cuda:1"]
    assert "cuda:0 is refused: cuda:0 missed a hit" in caplog.text
    assert machine.opened["cuda:0"].closed.is_set()


def test_without_a_gpu_the_cpu_steps_in_and_the_log_says_why(machine: Machine, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING):
        assert ids(open_engines(EngineOptions())) == ["cpu"]
    assert "no GPU can be used (no CUDA driver); falling back to CPU processes" in caplog.text


def test_when_every_gpu_is_refused_the_cpu_steps_in_and_the_log_says_why(machine: Machine, caplog: Any) -> None:
    machine.found["auto"] = ["cuda:0"]
    machine.wrong["cuda:0"] = SelfTestFailed("it missed a hit")
    with caplog.at_level(logging.WARNING):
        assert ids(open_engines(EngineOptions())) == ["cpu"]
    assert "no GPU can be used (cuda:0 is refused: it missed a hit); falling back" in caplog.text


def test_a_driver_that_crashes_when_asked_for_devices_does_not_keep_the_cpu_from_stepping_in(
    machine: Machine, caplog: Any
) -> None:
    machine.found["auto"] = EngineError("the search for auto devices was ended by SIGSEGV")
    assert ids(open_engines(EngineOptions())) == ["cpu"]
    assert "SIGSEGV" in caplog.text


@pytest.mark.parametrize("engine", ["cuda", "opencl"])
def test_an_engine_asked_for_by_name_is_never_replaced_by_the_cpu(machine: Machine, engine: str) -> None:
    with pytest.raises(EngineUnavailable, match=rf"no {engine} device can be used: no (CUDA|OpenCL) driver"):
        open_engines(EngineOptions(engine))
    assert machine.opened == {}


def test_a_device_asked_for_by_name_is_never_replaced_by_the_cpu(machine: Machine) -> None:
    machine.found["cuda"] = ["cuda:0"]
    machine.wrong["cuda:0"] = SelfTestFailed("it missed a hit")
    with pytest.raises(EngineUnavailable, match="no cuda:0 can be used: cuda:0 is refused: it missed a hit"):
        open_engines(EngineOptions(device_ids=("cuda:0",)))


def test_when_the_cpu_fails_too_both_reasons_are_told(machine: Machine) -> None:
    machine.wrong["cpu"] = SelfTestFailed("the CPU missed a hit")
    with pytest.raises(EngineUnavailable, match=r"neither .* no CUDA driver; the CPU missed a hit"):
        open_engines(EngineOptions())


def test_named_devices_are_taken_in_the_order_named_and_no_others(machine: Machine) -> None:
    machine.found["cuda"] = ["cuda:0", "cuda:1", "cuda:2"]
    machine.found["opencl"] = ["opencl:0.0"]
    options = EngineOptions(device_ids=("cuda:2", "opencl:0.0", "cuda:0", "cpu"))
    assert ids(open_engines(options)) == ["cuda:2", "opencl:0.0", "cuda:0", "cpu"]


def test_a_device_that_is_not_there_is_an_error_that_names_those_that_are(machine: Machine) -> None:
    machine.found["cuda"] = ["cuda:0", "cuda:1"]
    with pytest.raises(InvalidInput, match="no device 'cuda:7', but cuda:0, cuda:1"):
        open_engines(EngineOptions(device_ids=("cuda:7",)))


def test_a_device_of_another_engine_than_the_one_asked_for_is_an_error(machine: Machine) -> None:
    with pytest.raises(InvalidInput, match="--engine is opencl"):
        open_engines(EngineOptions("opencl", ("cuda:0",)))


@pytest.mark.parametrize("text", ["cuda:0,", ",", "cuda:0,cuda:0"])
def test_a_garbled_device_list_is_an_error(text: str) -> None:
    with pytest.raises(InvalidInput, match="--devices"):
        read_options("auto", text, None, 5)


def test_device_ids_are_read_with_or_without_spaces() -> None:
    assert read_options("auto", "cuda:0, cuda:1", None, 5).device_ids == ("cuda:0", "cuda:1")


def test_a_survey_shows_refused_devices_and_the_cpu_and_leaves_nothing_open(machine: Machine) -> None:
    machine.found["auto"] = ["cuda:0", "cuda:1"]
    machine.wrong["cuda:1"] = SelfTestFailed("it missed a hit")
    first, second, cpu = survey(EngineOptions())
    assert not isinstance(first, Refused)
    assert first[1] == 31.25e9
    assert isinstance(second, Refused)
    assert second.reason == "it missed a hit"
    assert not isinstance(cpu, Refused)
    assert all(engine.closed.is_set() for engine in machine.opened.values())


# --- tuned settings

GPU = DeviceInfo("cuda:0", "a GPU", EngineKind.CUDA, "driver 1")
BEST = CudaSettings(group_size=128, multiplied_of_four=2)


def outcome(winner: AnySettings | None) -> Outcome[AnySettings]:
    return Outcome((Trial(CudaSettings()),), winner, 1.25, {"T": 2e9, "S": 1e9})


def store(tunable: Tunable[AnySettings], winner: AnySettings | None) -> None:
    TuningFile(default_path()).put(entry_of(tunable, outcome(winner)))


def store_for(driver: str, winner: AnySettings | None = BEST) -> None:
    store(tunable_gpu(DeviceInfo("cuda:0", "a GPU", EngineKind.CUDA, driver)), winner)


@pytest.fixture
def one_gpu(machine: Machine) -> Machine:
    """One CUDA device."""
    machine.found["auto"] = ["cuda:0"]
    return machine


def test_a_device_that_was_never_tuned_opens_with_its_defaults_at_once(
    one_gpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuned_settings, "tune", lambda *_, **__: pytest.fail("a device was tuned"))
    open_engines(EngineOptions(), renew=True)
    assert one_gpu.settings == [("cuda:0", CudaSettings())]


def test_stored_settings_are_used_and_logged(one_gpu: Machine, caplog: Any) -> None:
    store_for("driver 1")
    with caplog.at_level(logging.INFO):
        open_engines(EngineOptions())
    assert one_gpu.settings == [("cuda:0", BEST)]
    assert "group size 128" in caplog.text
    assert "1.25 times the default" in caplog.text


def test_equal_cards_share_their_settings(machine: Machine) -> None:
    machine.found["auto"] = ["cuda:0", "cuda:1"]
    store_for("driver 1")
    open_engines(EngineOptions())
    assert machine.settings == [("cuda:0", BEST), ("cuda:1", BEST)]


def test_a_device_whose_defaults_were_the_best_opens_with_them(one_gpu: Machine) -> None:
    store_for("driver 1", None)
    open_engines(EngineOptions(), renew=True)
    assert one_gpu.settings == [("cuda:0", CudaSettings())]


def test_settings_that_no_candidate_has_are_not_used(one_gpu: Machine, caplog: Any) -> None:
    store_for("driver 1", CudaSettings(group_size=96, tails_per_thread=7))
    open_engines(EngineOptions())
    assert one_gpu.settings == [("cuda:0", CudaSettings())]
    assert "none that hashfleet would try" in caplog.text


def test_tuned_settings_that_fail_give_way_to_the_defaults(one_gpu: Machine, caplog: Any) -> None:
    store_for("driver 1")
    one_gpu.bad_settings = [BEST]
    assert ids(open_engines(EngineOptions())) == ["cuda:0"]
    assert one_gpu.settings == [("cuda:0", BEST), ("cuda:0", CudaSettings())]
    assert "cuda:0 does not work with its tuned settings" in caplog.text


def test_tuned_settings_of_the_cpu_that_fail_give_way_to_the_defaults(machine: Machine, caplog: Any) -> None:
    store(tunable_cpu(None, 5), CpuSettings("sse2"))
    machine.bad_settings = [CpuSettings("sse2")]
    assert ids(open_engines(EngineOptions("cpu"))) == ["cpu"]
    assert machine.settings == [("cpu", CpuSettings("sse2")), ("cpu", CpuSettings())]


def test_a_number_of_processes_that_is_given_stands_whatever_was_tuned(machine: Machine) -> None:
    store(tunable_cpu(None, 5), CpuSettings("avx2"))
    open_engines(EngineOptions("cpu", cpu_processes=7))
    assert machine.settings == [("cpu", CpuSettings("avx2", 7))]


def test_after_a_change_of_driver_a_worker_measures_again_and_stores_it(
    one_gpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = CudaSettings(group_size=64, multiplied_of_four=2)
    store_for("driver 0")
    monkeypatch.setattr(tuned_settings, "tune", lambda *_, **__: outcome(better))
    open_engines(EngineOptions(), renew=True)
    assert one_gpu.settings == [("cuda:0", better)]
    monkeypatch.setattr(tuned_settings, "tune", lambda *_, **__: pytest.fail("it was tuned a second time"))
    open_engines(EngineOptions(), renew=True)
    assert one_gpu.settings == [("cuda:0", better)] * 2


def test_who_cannot_wait_gets_the_defaults_after_a_change_of_driver(one_gpu: Machine, caplog: Any) -> None:
    store_for("driver 0")
    with caplog.at_level(logging.INFO):
        open_engines(EngineOptions())
    assert one_gpu.settings == [("cuda:0", CudaSettings())]
    assert "`hashfleet tune` measures again" in caplog.text


def test_a_device_that_cannot_be_measured_again_opens_with_its_defaults(
    one_gpu: Machine, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise EngineError("the device did not answer")

    store_for("driver 0")
    monkeypatch.setattr(tuned_settings, "tune", fail)
    open_engines(EngineOptions(), renew=True)
    assert one_gpu.settings == [("cuda:0", CudaSettings())]
    assert "cuda:0 is not tuned: the device did not answer" in caplog.text


def test_a_damaged_file_is_said_once_and_the_defaults_are_used(machine: Machine, caplog: Any) -> None:
    machine.found["auto"] = ["cuda:0", "cuda:1"]
    default_path().parent.mkdir(parents=True)
    default_path().write_text("{")
    open_engines(EngineOptions())
    assert machine.settings == [("cuda:0", CudaSettings()), ("cuda:1", CudaSettings())]
    assert caplog.text.count("is damaged or unreadable") == 1


def test_tuning_takes_every_gpu_and_the_cpu_unless_told(machine: Machine) -> None:
    machine.found["auto"] = ["cuda:0", "opencl:1.0"]
    assert [each.device_id for each in find_tunable(EngineOptions())] == ["cuda:0", "opencl:1.0", "cpu"]
    assert [each.device_id for each in find_tunable(EngineOptions("cpu"))] == ["cpu"]
    machine.found["cuda"] = ["cuda:0", "cuda:1"]
    assert [each.device_id for each in find_tunable(EngineOptions(device_ids=("cuda:1",)))] == ["cuda:1"]


def test_tuning_an_engine_that_is_not_there_says_why(machine: Machine) -> None:
    with pytest.raises(EngineUnavailable, match="no cuda device can be tuned: no CUDA driver"):
        find_tunable(EngineOptions("cuda"))
