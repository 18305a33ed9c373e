"""The best device of a kind, opened as a worker opens it: a GPU in a process of its own, the CPU with all its cores."""

from __future__ import annotations

from typing import Literal, get_args

from cpu_fallback.engine import CpuEngine
from gpu_worker.device_process import DeviceProcess
from gpu_worker.discovery import find_devices, open_engine
from hashfleet.engine import HashEngine

Choice = Literal["auto", "cuda", "opencl", "cpu"]
CHOICES: tuple[Choice, ...] = get_args(Choice)


def open_device(choice: Choice) -> HashEngine:
    """ "auto" is what a worker takes: a GPU if there is one, else the CPU. Raises EngineUnavailable."""
    devices = [] if choice == "cpu" else find_devices(choice)
    return DeviceProcess(devices[0], open_engine) if devices else CpuEngine(niceness=0, compile_first=True)
