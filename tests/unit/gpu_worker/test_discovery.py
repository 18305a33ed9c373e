"""Which devices are found, in which order, and what is said where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import pytest

from gpu_worker.discovery import find_devices, open_engine
from hashfleet.engine import EngineKind
from hashfleet.errors import EngineUnavailable, InvalidInput

CPU, GPU = 2, 4


class ClError(Exception):
    """pyopencl.Error of the fake."""


def opencl_device(name: str, vendor: str = "AMD", kind: int = GPU, available: bool = True) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        name=name,
        vendor=vendor,
        type=kind,
        available=available,
        compiler_available=True,
        endian_little=True,
        driver_version=" 3.1 ",
        platform=types.SimpleNamespace(name=f"{vendor} platform"),
    )


def install_opencl(
    monkeypatch: pytest.MonkeyPatch, *platforms: list[types.SimpleNamespace] | Exception, error: Exception | None = None
) -> None:
    """Make `import pyopencl` give these platforms, each with its devices or the error it lists them with."""

    def devices_of(content: list[types.SimpleNamespace] | Exception) -> list[types.SimpleNamespace]:
        if isinstance(content, Exception):
            raise content
        return content

    def get_platforms() -> list[types.SimpleNamespace]:
        if error:
            raise error
        return [types.SimpleNamespace(get_devices=lambda content=content: devices_of(content)) for content in platforms]

    module = types.ModuleType("pyopencl")
    module.__dict__.update(
        get_platforms=get_platforms, Error=ClError, device_type=types.SimpleNamespace(CPU=CPU, GPU=GPU)
    )
    monkeypatch.setitem(sys.modules, "pyopencl", module)


def install_cuda(monkeypatch: pytest.MonkeyPatch, *names: str, error: Exception | None = None) -> None:
    """Make `import cupy` give these GPUs."""

    def count() -> int:
        if error:
            raise error
        return len(names)

    runtime = types.SimpleNamespace(
        getDeviceCount=count,
        getDeviceProperties=lambda index: {"name": names[index].encode()},
        driverGetVersion=lambda: 12080,
    )
    module = types.ModuleType("cupy")
    module.__dict__.update(cuda=types.SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", module)


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with neither CuPy nor pyopencl."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setitem(sys.modules, "pyopencl", None)


def ids(engine: str) -> list[str]:
    return [device.device_id for device in find_devices(engine)]


def test_cuda_devices_come_before_opencl_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    install_cuda(monkeypatch, "H100", "H100")
    install_opencl(monkeypatch, [opencl_device("gfx1100")])

    assert ids("auto") == ["cuda:0", "cuda:1", "opencl:0.0"]


def test_a_card_that_cuda_drives_is_not_offered_by_opencl_too(monkeypatch: pytest.MonkeyPatch) -> None:
    install_cuda(monkeypatch, "H100")
    install_opencl(monkeypatch, [opencl_device("H100", "NVIDIA Corporation")], [opencl_device("gfx1100")])

    assert ids("auto") == ["cuda:0", "opencl:1.0"]


def test_without_cuda_nvidia_cards_are_used_through_opencl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    install_opencl(monkeypatch, [opencl_device("H100", "NVIDIA Corporation")])

    assert ids("auto") == ["opencl:0.0"]


def test_opencl_cpu_devices_are_used_only_when_opencl_is_asked_for_and_come_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    install_opencl(monkeypatch, [opencl_device("pthread", kind=CPU)], [opencl_device("gfx1100")])

    assert ids("auto") == ["opencl:1.0"]
    assert ids("opencl") == ["opencl:1.0", "opencl:0.0"]


def test_a_device_is_numbered_by_its_place_even_if_one_before_it_is_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    install_opencl(monkeypatch, [opencl_device("broken", available=False), opencl_device("gfx1100")])

    assert ids("opencl") == ["opencl:0.1"]


def test_a_platform_that_fails_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install_opencl(monkeypatch, ClError("DEVICE_NOT_FOUND"), [opencl_device("gfx1100")])

    assert ids("opencl") == ["opencl:1.0"]
    assert "OpenCL platform 0 does not list its devices" in caplog.text


def test_devices_carry_what_the_driver_calls_them(monkeypatch: pytest.MonkeyPatch) -> None:
    install_cuda(monkeypatch, "NVIDIA H100 80GB HBM3")
    install_opencl(monkeypatch, [opencl_device(" gfx1100 ")])
    cuda, opencl = find_devices("auto")

    assert (cuda.name, cuda.kind, cuda.driver) == ("NVIDIA H100 80GB HBM3", EngineKind.CUDA, "CUDA 12.8")
    assert (opencl.name, opencl.kind, opencl.driver) == ("gfx1100", EngineKind.OPENCL, "AMD platform, 3.1")


@pytest.mark.usefixtures("no_packages")
def test_a_machine_with_no_driver_package_has_no_gpu_but_no_error_either() -> None:
    assert find_devices("auto") == []


@pytest.mark.usefixtures("no_packages")
@pytest.mark.parametrize(
    ("engine", "reason"), [("cuda", "CUDA devices need CuPy"), ("opencl", "OpenCL needs the package pyopencl")]
)
def test_asking_for_an_engine_whose_package_is_missing_says_so(engine: str, reason: str) -> None:
    with pytest.raises(EngineUnavailable, match=reason):
        find_devices(engine)


@pytest.mark.usefixtures("no_packages")
@pytest.mark.parametrize("device_id", ["cuda:0", "opencl:0.0"])
def test_opening_a_device_whose_package_is_missing_says_so(device_id: str) -> None:
    with pytest.raises(EngineUnavailable, match=r"CuPy|pyopencl"):
        open_engine(device_id)


def test_a_missing_cuda_driver_is_a_reason_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    install_cuda(monkeypatch, error=RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient"))
    install_opencl(monkeypatch, error=ClError("clGetPlatformIDs failed: PLATFORM_NOT_FOUND_KHR"))

    assert find_devices("auto") == []
    with pytest.raises(EngineUnavailable, match="cudaErrorInsufficientDriver"):
        find_devices("cuda")
    with pytest.raises(EngineUnavailable, match="PLATFORM_NOT_FOUND_KHR"):
        find_devices("opencl")


def test_drivers_without_a_device_are_said_to_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    install_cuda(monkeypatch)
    install_opencl(monkeypatch, [])

    with pytest.raises(EngineUnavailable, match="counts 0 GPUs"):
        find_devices("cuda")
    with pytest.raises(EngineUnavailable, match="offers no device"):
        find_devices("opencl")


def test_asking_for_the_cpu_finds_no_gpu() -> None:
    assert find_devices("cpu") == []


def test_an_unknown_engine_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(InvalidInput, match="auto, cuda, opencl, cpu"):
        find_devices("vulkan")


@pytest.mark.parametrize(
    "device_id", ["", "cpu", "cuda", "cuda:", "cuda:-1", "cuda:00", "opencl:0", "opencl:0.0.0", "cuda:0\n", "cuda:٣"]
)
def test_what_is_not_a_gpu_id_is_refused(device_id: str) -> None:
    with pytest.raises(InvalidInput, match=r"such as cuda:0 or opencl:0\.1"):
        open_engine(device_id)


@pytest.mark.parametrize("device_id", ["opencl:99.0", "opencl:0.99"])
def test_an_opencl_device_that_does_not_exist_is_unavailable(device_id: str) -> None:
    with pytest.raises(EngineUnavailable, match=device_id.replace(".", r"\.")):
        open_engine(device_id)


def test_importing_the_engines_loads_no_driver() -> None:
    code = "import sys, gpu_worker.discovery; sys.exit(any(name in sys.modules for name in ('pyopencl', 'cupy')))"

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_test_run_without_an_opencl_driver_says_so_in_its_header() -> None:
    pytest.importorskip("pyopencl")
    environment = {**os.environ, "OCL_ICD_VENDORS": os.devnull, "HASHFLEET_PREREQUISITES": ""}
    command = [sys.executable, "-m", "pytest", "--collect-only", __file__]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "OpenCL kernels: NOT TESTED, no OpenCL CPU platform here" in run.stdout
