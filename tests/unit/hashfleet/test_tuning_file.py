"""The file of tuned settings is a cache: whatever happens to it costs a measurement and nothing else."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashfleet import tuning_file
from hashfleet.engine import EngineKind
from hashfleet.errors import HashfleetError
from hashfleet.tuning import DeviceModel
from hashfleet.tuning_file import MAX_BYTES, MAX_ENTRIES, Entry, TuningFile, default_path, values_in


def entry(name: str = "H100", driver: str = "CUDA 12.8", kernels: str = "aa", **others: Any) -> Entry:
    return Entry(
        **{
            "engine": "cuda",
            "name": name,
            "driver": driver,
            "kernels": kernels,
            "settings": {"group_size": 128, "multiplied_of_four": None},
            "ratio": 1.125,
            "rates": {"T": 3.1e10, "S": 2.5e10},
            "measured": "2026-11-23T19:00:00Z",
            "hashfleet": "0.1.0",
            **others,
        }
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a file may be written, in a directory that does not exist yet."""
    return tmp_path / "hashfleet" / "tuning.json"


def test_an_entry_is_found_again_by_its_model_driver_and_kernels(path: Path) -> None:
    TuningFile(path).put(entry())

    assert TuningFile(path).find(entry().model) == entry()
    assert values_in(entry()) == {"group_size": 128, "multiplied_of_four": None}


@pytest.mark.parametrize("change", [{"name": "H200"}, {"driver": "CUDA 13.0"}, {"kernels": "bb"}, {"engine": "opencl"}])
def test_an_entry_holds_for_nothing_else(path: Path, change: dict[str, str]) -> None:
    TuningFile(path).put(entry())

    assert TuningFile(path).find(entry(**change).model) is None


@pytest.mark.parametrize("change", [{"driver": "CUDA 13.0"}, {"kernels": "bb"}])
def test_another_driver_or_other_kernels_make_an_entry_stale(path: Path, change: dict[str, str]) -> None:
    file = TuningFile(path)
    file.put(entry())

    assert file.find_stale(entry(**change).model) == entry()
    assert file.find_stale(entry().model) is None


def test_another_device_was_never_tuned_and_so_is_not_stale(path: Path) -> None:
    file = TuningFile(path)
    file.put(entry())

    assert file.find_stale(entry(name="H200").model) is None
    assert file.find_stale(DeviceModel(EngineKind.OPENCL, "H100", "CUDA 12.8", "aa")) is None


def test_an_entry_for_the_old_driver_stays_beside_that_for_the_new_one(path: Path) -> None:
    file = TuningFile(path)
    file.put(entry())
    file.put(entry(driver="CUDA 13.0"))

    assert file.find(entry().model) is not None
    assert file.find_stale(entry().model) is None


def test_measuring_again_replaces_what_was_measured_before(path: Path) -> None:
    file = TuningFile(path)
    file.put(entry())
    file.put(entry(settings=None, ratio=1.0))

    assert file.find(entry().model) == entry(settings=None, ratio=1.0)
    assert len(json.loads(path.read_text())["entries"]) == 1


def test_the_oldest_entries_make_room(path: Path) -> None:
    file = TuningFile(path)
    for number in range(MAX_ENTRIES + 2):
        file.put(entry(name=str(number)))

    assert file.find(entry(name="1").model) is None
    assert file.find(entry(name="2").model) is not None
    assert len(path.read_bytes()) < MAX_BYTES


def test_no_file_is_no_entry_and_no_complaint(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert TuningFile(path).find(entry().model) is None
    assert caplog.text == ""


DAMAGED = {
    "nothing": b"",
    "half of it": b'{"version": 2, "entries": [{"engine": "cu',
    "no JSON": b"\x80\x81\x82",
    "another version": b'{"version": 1, "entries": []}',
    "another shape": b'[{"engine": "cuda"}]',
    "an unknown field": b'{"version": 2, "entries": [], "more": 1}',
    "a rate of nothing": json.dumps(
        {"version": 2, "entries": [entry().model_dump() | {"rates": {"T": 0.0, "S": 1.0}}]}
    ).encode(),
    "a list for a setting": json.dumps(
        {"version": 2, "entries": [entry().model_dump() | {"settings": {"group_size": [1]}}]}
    ).encode(),
    "too much": b" " * (MAX_BYTES + 1),
    "deeply nested": b"[" * 200_000,
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_ignored_said_once_and_written_anew(
    path: Path, damaged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(damaged)
    file = TuningFile(path)

    assert file.find(entry().model) is None
    assert file.find_stale(entry().model) is None
    file.put(entry())
    assert caplog.text.count("is damaged or unreadable") == 1
    assert str(path) in caplog.text
    assert TuningFile(path).find(entry().model) == entry()


@given(st.binary(max_size=200), st.integers(0, 600))
def test_no_damage_at_all_makes_reading_fail(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int) -> None:
    path = tmp_path_factory.mktemp("damaged") / "tuning.json"
    file = TuningFile(path)
    file.put(entry())
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    found = file.find(entry().model)

    assert found is None or found.model == entry().model


def test_a_directory_in_the_files_place_is_ignored_and_said(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.mkdir(parents=True)

    assert TuningFile(path).find(entry().model) is None
    assert "Is a directory" in caplog.text
    with pytest.raises(HashfleetError, match="cannot be written"):
        TuningFile(path).put(entry())
    assert {each.name for each in path.parent.iterdir()} == {"tuning.json", "tuning.json.lock"}


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(HashfleetError, match=r"cannot be written to .*a file/tuning\.json"):
        TuningFile(tmp_path / "a file" / "tuning.json").put(entry())


def test_a_failed_write_leaves_the_old_file_and_no_scrap(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TuningFile(path).put(entry())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HashfleetError, match="No space left"):
        TuningFile(path).put(entry(name="H200"))
    assert TuningFile(path).find(entry().model) == entry()
    assert {each.name for each in path.parent.iterdir()} == {"tuning.json", "tuning.json.lock"}


def test_a_lock_that_is_never_released_is_an_error_with_its_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_file, "LOCK_SECONDS", 0.05)
    path.parent.mkdir()
    with TuningFile(path)._locked(), pytest.raises(HashfleetError, match=r"tuning\.json\.lock"):
        TuningFile(path).put(entry())
    TuningFile(path).put(entry())

    assert TuningFile(path).find(entry().model) == entry()


def put_five(path: str, writer: int) -> None:
    for number in range(5):
        TuningFile(Path(path)).put(entry(name=f"{writer}-{number}"))


def test_writers_at_the_same_time_lose_nothing(path: Path) -> None:
    writers = [multiprocessing.get_context("fork").Process(target=put_five, args=(str(path), n)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)

    assert [writer.exitcode for writer in writers] == [0] * 4
    assert {each["name"] for each in json.loads(path.read_text())["entries"]} == {
        f"{writer}-{number}" for writer in range(4) for number in range(5)
    }


def test_the_file_is_for_its_user_alone(path: Path) -> None:
    TuningFile(path).put(entry())

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_lies_in_the_cache_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/tmp/cache")
    assert default_path() == Path("/var/tmp/cache/hashfleet/tuning.json")
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        monkeypatch.setenv("HOME", "/home/somebody")
        assert default_path() == Path("/home/somebody/.cache/hashfleet/tuning.json")


def test_a_user_with_no_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(HashfleetError, match="XDG_CACHE_HOME"):
        default_path()
