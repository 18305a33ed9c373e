"""Whatever is chosen on a GPU, it finds what hashlib finds; and what a choice holds for."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import Any

import pytest

from cpu_fallback.search import search_range
from gpu_worker import discovery, settings
from gpu_worker.discovery import find_devices, open_engine
from gpu_worker.settings import CudaSettings, OpenClSettings, candidates, default_settings, device_model
from hashfleet.engine import DeviceInfo, EngineKind
from hashfleet.errors import EngineUnavailable, InvalidInput
from hashfleet.message import NonceSpace
from hashfleet.self_test import SHARED, SHORT

CUDA = DeviceInfo("cuda:0", "H100", EngineKind.CUDA, "CUDA 12.8")
OPENCL = DeviceInfo("opencl:0.1", "gfx1100", EngineKind.OPENCL, "AMD, 3.1")
START, COUNT = 8_999_123, 100_000


@pytest.fixture(scope="module")
def wanted() -> dict[NonceSpace, list[int]]:
    """The hits of hashlib by space."""
    return {
        space: list(search_range(space.constant, space.counter_digits, START, COUNT, 2, space.filler_digits))
        for space in (SHARED, SHORT)
    }


@pytest.mark.parametrize(
    "chosen",
    [OpenClSettings(width=1, group_size=32, tails_per_item=250, in_flight=3), OpenClSettings(16, 3, 777, 1)],
    ids=str,
)
def test_any_opencl_settings_find_the_hits_of_hashlib(
    chosen: OpenClSettings, wanted: dict[NonceSpace, list[int]]
) -> None:
    try:
        engine = open_engine(find_devices("opencl")[0].device_id, chosen)
    except EngineUnavailable as error:
        pytest.skip(str(error))
    with closing(engine):
        for space, hits in wanted.items():
            assert [hit for batch in engine.search(space, START, COUNT, 2) for hit in batch.hits] == hits


@pytest.mark.parametrize(
    ("device", "engine", "chosen"),
    [
        (CUDA, "CudaEngine", CudaSettings(128, 250, 3, 4)),
        (OPENCL, "OpenClEngine", OpenClSettings(4, 128, 250, 3)),
        (CUDA, "CudaEngine", CudaSettings()),
        (OPENCL, "OpenClEngine", OpenClSettings()),
    ],
)
def test_every_setting_reaches_the_engine(
    monkeypatch: pytest.MonkeyPatch, device: DeviceInfo, engine: str, chosen: CudaSettings | OpenClSettings
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(discovery, engine, lambda *_, **keywords: given.append(keywords))
    open_engine(device.device_id, chosen)
    open_engine(device.device_id)

    assert given == [dataclasses.asdict(chosen), dataclasses.asdict(default_settings(device))]


@pytest.mark.parametrize(("device_id", "chosen"), [("cuda:0", OpenClSettings()), ("opencl:0.0", CudaSettings())])
def test_settings_of_another_kind_of_device_are_refused(device_id: str, chosen: Any) -> None:
    with pytest.raises(InvalidInput, match="are those of"):
        open_engine(device_id, chosen)


@pytest.mark.parametrize("device", [CUDA, OPENCL])
def test_the_candidates_are_different_and_none_is_the_default(device: DeviceInfo) -> None:
    tried = candidates(device)

    assert len(set(tried)) == len(tried)
    assert default_settings(device) not in tried
    assert {type(each) for each in tried} == {type(default_settings(device))}


@pytest.mark.parametrize(
    "make",
    [
        lambda: CudaSettings(group_size=100),
        lambda: CudaSettings(group_size=512),
        lambda: CudaSettings(multiplied_of_four=3),
        lambda: CudaSettings(tails_per_thread=0),
        lambda: CudaSettings(in_flight=0),
        lambda: OpenClSettings(width=3),
        lambda: OpenClSettings(group_size=0),
        lambda: OpenClSettings(tails_per_item=10_001),
        lambda: OpenClSettings(in_flight=9),
    ],
)
def test_settings_that_no_engine_can_have_are_refused(make: Any) -> None:
    with pytest.raises(InvalidInput):
        make()


@pytest.mark.parametrize("device", [CUDA, OPENCL])
def test_a_measurement_holds_for_the_model_its_driver_and_these_kernels(
    device: DeviceInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = device_model(device)
    assert device_model(dataclasses.replace(device, device_id="cuda:7")) == before
    assert device_model(dataclasses.replace(device, name="another")) != before
    assert device_model(dataclasses.replace(device, driver="another")) != before
    monkeypatch.setattr(settings, "cuda_source", lambda: "other kernels")
    monkeypatch.setattr(settings, "opencl_lane_source", lambda: "other kernels")

    assert device_model(device).kernels != before.kernels


def test_a_measurement_on_cuda_holds_for_the_compiler_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = device_model(CUDA)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99.0")

    assert device_model(CUDA).driver != before.driver
