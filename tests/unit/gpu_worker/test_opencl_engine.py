"""What the OpenCL engine does when its device fails; that it hashes rightly is the contract suite's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gpu_worker.discovery import find_devices
from gpu_worker.opencl_engine import OpenClEngine
from hashfleet.errors import EngineError, EngineUnavailable
from hashfleet.message import NonceSpace

SPACE = NonceSpace(b"5-1MINE7NONCE", "", 12)


@pytest.fixture
def engine() -> Iterator[OpenClEngine]:
    """The first OpenCL device."""
    try:
        device_id = find_devices("opencl")[0].device_id
    except EngineUnavailable as error:
        pytest.skip(str(error))
    platform, device = device_id.removeprefix("opencl:").split(".")
    opened = OpenClEngine(int(platform), int(device))
    yield opened
    opened.close()


def test_a_device_that_does_not_answer_is_an_error_with_its_name(
    engine: OpenClEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_is_complete", lambda event: False)
    monkeypatch.setattr(engine, "_time_limit", 0.01)
    with pytest.raises(EngineError, match=rf"{engine.device.device_id} did not answer within 0\.01 s"):
        next(engine.search(SPACE, 0, 1000, 4))


def test_an_engine_that_has_failed_stays_failed(engine: OpenClEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_is_complete", lambda event: False)
        patch.setattr(engine, "_time_limit", 0.01)
        with pytest.raises(EngineError):
            next(engine.search(SPACE, 0, 1000, 4))

    with pytest.raises(EngineError, match="did not answer"):
        engine.search(SPACE, 0, 1000, 4)


def test_an_error_of_the_driver_is_an_engine_error(engine: OpenClEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyopencl as cl

    def refuse(*arguments: object) -> None:
        raise cl.RuntimeError("clEnqueueNDRangeKernel failed: OUT_OF_RESOURCES\nmore")

    monkeypatch.setattr(cl, "enqueue_nd_range_kernel", refuse)
    with pytest.raises(EngineError, match=r"failed: clEnqueueNDRangeKernel failed: OUT_OF_RESOURCES$"):
        next(engine.search(SPACE, 0, 1000, 4))


def test_a_launch_that_ends_in_error_is_an_engine_error(engine: OpenClEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failed:
        command_execution_status = -5

    monkeypatch.setattr("pyopencl.enqueue_nd_range_kernel", lambda *arguments: Failed())
    with pytest.raises(EngineError, match="OpenCL error -5"):
        next(engine.search(SPACE, 0, 1000, 4))


def test_a_kernel_that_does_not_compile_makes_the_engine_unavailable(
    engine: OpenClEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu_worker.opencl_engine.opencl_source", lambda: "this is no OpenCL C")
    platform, device = engine.device.device_id.removeprefix("opencl:").split(".")
    with pytest.raises(EngineUnavailable, match=f"{engine.device.device_id} cannot be used"):
        OpenClEngine(int(platform), int(device))
