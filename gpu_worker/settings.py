"""What can be chosen on a GPU without changing what it finds, and which choices are worth a measurement.

None leaves a choice to the engine, which then goes by what the driver says of the device. The candidates change one or
two things at a time: every one of them is a compilation and a self-test, and all combinations would be hundreds.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

from gpu_worker.kernel_source import cuda_source, opencl_lane_source, opencl_source
from hashfleet.engine import DeviceInfo, EngineKind
from hashfleet.errors import InvalidInput
from hashfleet.tuning import DeviceModel, digest_of

#: Launches queued on a device at a time: one is a device that waits for the host, more are a search slow to stop.
MAX_IN_FLIGHT = 8
MAX_TAILS = 10_000

#: What compiles and launches the CUDA kernels, whichever of them is installed; pyopencl leaves that to the driver.
_CUDA_PACKAGES = ("cupy-cuda12x", "cupy-cuda13x", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc")


@dataclass(frozen=True, slots=True)
class CudaSettings:
    """How a `CudaEngine` launches its kernels for the two shapes."""

    #: Threads per block, a multiple of a warp's 32; the kernels are compiled for at most 256.
    group_size: int = 256
    #: Tails that one thread tries: its fixed cost is about two hashes, and long threads leave a launch's end uneven.
    tails_per_thread: int = 500
    #: Launches queued at a time.
    in_flight: int = 2
    #: Rounds of four whose rotations go to the multiply-add pipe, 0, 2 or 4; None times them when the engine opens.
    multiplied_of_four: int | None = None

    def __post_init__(self) -> None:
        if self.group_size not in range(32, 257, 32):
            raise InvalidInput(f"the group size is {self.group_size}; it should be a multiple of 32 up to 256")
        if self.multiplied_of_four not in (None, 0, 2, 4):
            raise InvalidInput(f"multiplied_of_four is {self.multiplied_of_four}; it should be 0, 2 or 4")
        _check_launch(self.tails_per_thread, self.in_flight)


@dataclass(frozen=True, slots=True)
class OpenClSettings:
    """How an `OpenClEngine` compiles and launches its kernels for the two shapes."""

    #: Lanes that one work item hashes side by side: 1, 2, 4, 8 or 16; None goes by the device's vectors.
    width: int | None = None
    #: Work items per group.
    group_size: int | None = None
    #: Tails that one work item tries.
    tails_per_item: int | None = None
    #: Launches queued at a time.
    in_flight: int = 2

    def __post_init__(self) -> None:
        if self.width not in (None, 1, 2, 4, 8, 16):
            raise InvalidInput(f"the vector width is {self.width}; it should be 1, 2, 4, 8 or 16")
        if self.group_size is not None and not 1 <= self.group_size <= 1024:
            raise InvalidInput(f"the group size is {self.group_size}; it should be 1 to 1024")
        _check_launch(1 if self.tails_per_item is None else self.tails_per_item, self.in_flight)


def _check_launch(tails: int, in_flight: int) -> None:
    if not 1 <= tails <= MAX_TAILS:
        raise InvalidInput(f"the number of tails is {tails}; it should be 1 to {MAX_TAILS}")
    if not 1 <= in_flight <= MAX_IN_FLIGHT:
        raise InvalidInput(f"the launches in flight are {in_flight}; they should be 1 to {MAX_IN_FLIGHT}")


GpuSettings = CudaSettings | OpenClSettings


def default_settings(device: DeviceInfo) -> GpuSettings:
    """What an engine for this device takes if it is given nothing."""
    return CudaSettings() if device.kind is EngineKind.CUDA else OpenClSettings()


def candidates(device: DeviceInfo) -> tuple[GpuSettings, ...]:
    """Other settings worth a measurement on this device, the likeliest first."""
    return _CUDA_CANDIDATES if device.kind is EngineKind.CUDA else _OPENCL_CANDIDATES


_CUDA_CANDIDATES = (
    *(CudaSettings(group, multiplied_of_four=multiplied) for group in (256, 128, 64) for multiplied in (2, 4, 0)),
    CudaSettings(tails_per_thread=250),
    CudaSettings(tails_per_thread=1000),
    CudaSettings(group_size=128, tails_per_thread=250),
    CudaSettings(in_flight=3),
)
_OPENCL_CANDIDATES = (
    *(OpenClSettings(width=width) for width in (1, 2, 4, 8, 16)),
    *(OpenClSettings(group_size=group) for group in (32, 128, 256)),
    *(OpenClSettings(tails_per_item=tails) for tails in (250, 1000, 5000)),
    OpenClSettings(group_size=128, tails_per_item=1000),
    OpenClSettings(in_flight=3),
)


def device_model(device: DeviceInfo) -> DeviceModel:
    """What settings measured on this device hold for."""
    if device.kind is EngineKind.CUDA:
        versions = [f"{name} {version}" for name in _CUDA_PACKAGES if (version := _version(name))]
        # NVRTC compiles the kernels, the driver only finishes them for the chip.
        driver, sources = ", ".join((device.driver, *versions)), [cuda_source()]
    else:
        driver, sources = device.driver, [opencl_source(), opencl_lane_source()]
    return DeviceModel(device.kind, device.name, driver, digest_of(*sources, _what_is_tried(device)))


def _what_is_tried(device: DeviceInfo) -> str:
    """In the digest too: a winner among other candidates, over another default, says nothing of these."""
    return repr((default_settings(device), *candidates(device)))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
