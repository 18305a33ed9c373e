"""Which GPUs this machine has, and opening one by its id.

Drivers are loaded inside the functions: importing this module works on a machine with none.
"""

from __future__ import annotations

import logging
import re

from gpu_worker.cuda_engine import CudaEngine, cuda_device_info, import_cupy
from gpu_worker.opencl_engine import OpenClEngine, opencl_device_info
from gpu_worker.settings import CudaSettings, GpuSettings, OpenClSettings
from hashfleet.engine import DeviceInfo, HashEngine
from hashfleet.errors import EngineUnavailable, InvalidInput

logger = logging.getLogger(__name__)

#: What `find_devices` can be asked for.
ENGINES = ("auto", "cuda", "opencl", "cpu")

_DEVICE_ID = re.compile(r"cuda:(0|[1-9][0-9]{0,3})|opencl:(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})", re.ASCII)


def find_devices(engine: str) -> list[DeviceInfo]:
    """The devices to work with, best first; none of them is opened.

    - "auto": CUDA devices, then the OpenCL GPUs that are not the same cards; [] if there is neither.
    - "cuda": CUDA devices; EngineUnavailable if there is none, saying why.
    - "opencl": every OpenCL device, CPU devices such as PoCL's last; EngineUnavailable if there is none, saying why.
    - "cpu": [], for the CPU engine is not this package's: whoever composes the worker opens it.
    """
    if engine == "auto":
        return _automatic()
    if engine == "cuda":
        return _cuda_devices()
    if engine == "opencl":
        gpus, cpus = _opencl_devices()
        if not gpus + cpus:
            raise EngineUnavailable("OpenCL is installed but offers no device; install the OpenCL driver of your GPU")
        return [info for info, _ in gpus + cpus]
    if engine == "cpu":
        return []
    raise InvalidInput(f"the engine is {engine[:40]!r}; it should be one of {', '.join(ENGINES)}")


def open_engine(device_id: str, settings: GpuSettings | None = None) -> HashEngine:
    """Open a device by the id that `find_devices` gave it, with these settings or its default ones.

    Raises InvalidInput for anything that is not such an id, and for settings of another kind of device;
    EngineUnavailable if the device cannot be used. The engine has not been tested yet: see `hashfleet.self_test`.
    """
    found = _DEVICE_ID.fullmatch(device_id)
    if not found:
        raise InvalidInput(f"the device id is {device_id[:40]!r}; it should be a GPU's, such as cuda:0 or opencl:0.1")
    if found[1] is not None:
        chosen = CudaSettings() if settings is None else settings
        if not isinstance(chosen, CudaSettings):
            raise InvalidInput(
                f"the settings for {device_id} are those of an OpenCL device; they should be CudaSettings"
            )
        return CudaEngine(
            int(found[1]),
            group_size=chosen.group_size,
            tails_per_thread=chosen.tails_per_thread,
            in_flight=chosen.in_flight,
            multiplied_of_four=chosen.multiplied_of_four,
        )
    chosen = OpenClSettings() if settings is None else settings
    if not isinstance(chosen, OpenClSettings):
        raise InvalidInput(f"the settings for {device_id} are those of a CUDA device; they should be OpenClSettings")
    return OpenClEngine(
        int(found[2]),
        int(found[3]),
        width=chosen.width,
        group_size=chosen.group_size,
        tails_per_item=chosen.tails_per_item,
        in_flight=chosen.in_flight,
    )


def _automatic() -> list[DeviceInfo]:
    cuda: list[DeviceInfo] = []
    opencl: list[DeviceInfo] = []
    try:
        cuda = _cuda_devices()
    except EngineUnavailable as error:
        logger.info("No CUDA device: %s", error)
    try:
        gpus, _ = _opencl_devices()
        # NVIDIA's driver shows the same cards to both; one engine per card.
        opencl = [info for info, vendor in gpus if not (cuda and "nvidia" in vendor.lower())]
    except EngineUnavailable as error:
        logger.info("No OpenCL device: %s", error)
    return cuda + opencl


def _cuda_devices() -> list[DeviceInfo]:
    cupy = import_cupy()
    try:
        devices = [cuda_device_info(cupy, index) for index in range(cupy.cuda.runtime.getDeviceCount())]
    except RuntimeError as error:  # what CuPy raises for a missing or too old driver, and for a machine without a GPU
        raise EngineUnavailable(f"CUDA finds no device: {error}") from error
    if not devices:
        raise EngineUnavailable("CUDA finds no device: the driver is there, but it counts 0 GPUs")
    return devices


def _opencl_devices() -> tuple[list[tuple[DeviceInfo, str]], list[tuple[DeviceInfo, str]]]:
    """GPUs and accelerators, and CPUs, each with its vendor's name."""
    try:
        import pyopencl as cl
    except (ImportError, OSError) as error:
        raise EngineUnavailable(f"OpenCL needs the package pyopencl, which does not load: {error}") from error
    gpus: list[tuple[DeviceInfo, str]] = []
    cpus: list[tuple[DeviceInfo, str]] = []
    try:
        platforms = cl.get_platforms()
    except cl.Error as error:
        raise EngineUnavailable(f"OpenCL finds no driver on this machine: {error}") from error
    for p, platform in enumerate(platforms):
        try:
            for d, device in enumerate(platform.get_devices()):
                if device.available and device.compiler_available and device.endian_little:
                    kind = cpus if device.type & cl.device_type.CPU else gpus
                    kind.append((opencl_device_info(p, d, device), str(device.vendor)))
        except cl.Error as error:  # one broken driver must not hide the others' devices
            logger.warning("OpenCL platform %d does not list its devices: %s", p, error)
    return gpus, cpus
