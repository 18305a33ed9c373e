"""From `--engine` and `--devices` to opened, self-tested engines.

The one place that knows both gpu_worker and cpu_fallback; neither knows the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import click

from cpu_fallback.engine import DEVICE_ID as CPU
from cpu_fallback.engine import MAX_PROCESSES
from gpu_worker.device_process import call_in_process
from gpu_worker.device_runner import ReadyEngine
from gpu_worker.discovery import find_devices
from hashfleet.cli.quantity import show_rate
from hashfleet.cli.tuned_settings import AnySettings, best_known, settings_file, tunable_cpu, tunable_gpu
from hashfleet.engine import DeviceInfo, EngineKind, HashEngine
from hashfleet.errors import EngineError, EngineUnavailable, InvalidInput
from hashfleet.self_test import measure_rate, self_test
from hashfleet.tuning import Tunable
from hashfleet.tuning_file import TuningFile

logger = logging.getLogger(__name__)

CHOICES = ("auto", "cuda", "opencl", "cpu")
_LABELS = {EngineKind.CUDA: "CUDA", EngineKind.OPENCL: "OpenCL", EngineKind.CPU: "CPU"}

#: Loading a driver and asking it for its devices.
FIND_SECONDS = 60.0

_Command = TypeVar("_Command", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the command line says about engines."""

    #: One of CHOICES.
    engine: str = "auto"
    #: Only these devices; empty means all.
    device_ids: tuple[str, ...] = ()
    #: None means one per core.
    cpu_processes: int | None = None
    niceness: int = 5


@dataclass(frozen=True, slots=True)
class Refused:
    """A device that is not used."""

    device_id: str
    #: None if it did not even open far enough to be named.
    device: DeviceInfo | None
    #: One sentence.
    reason: str


def engine_options(command: _Command) -> _Command:
    """Add the options that choose engines to a click command."""
    for option in (
        click.option("--niceness", type=click.IntRange(0, 19), default=5, show_default=True, help="Of CPU processes."),
        click.option(
            "--cpu-processes", type=click.IntRange(1, MAX_PROCESSES), help="CPU processes; one per core if not given."
        ),
        click.option(
            "--devices", metavar="ID,ID", default="", help="Only these devices, as --list-devices names them."
        ),
        click.option(
            "--engine",
            type=click.Choice(CHOICES),
            default="auto",
            show_default=True,
            help="auto takes CUDA, then other GPUs by OpenCL, then the CPU.",
        ),
    ):
        command = option(command)
    return command


def read_options(engine: str, devices: str, cpu_processes: int | None, niceness: int) -> EngineOptions:
    """The options as given. Raises InvalidInput for a device named twice or an empty name."""
    if engine not in CHOICES:
        raise InvalidInput(f"the engine is {engine[:40]!a}; it should be one of {', '.join(CHOICES)}")
    ids = tuple(part.strip() for part in devices.split(",")) if devices.strip() else ()
    if "" in ids or len(set(ids)) != len(ids):
        raise InvalidInput(
            f"--devices is {devices!a}; it should be different ids with commas between, such as cuda:0,cuda:1"
        )
    return EngineOptions(engine, ids, cpu_processes, niceness)


def open_engines(options: EngineOptions, renew: bool = False) -> list[ReadyEngine]:
    """Open every device asked for, one engine each, after its self-test; devices that fail are logged and left out.

    Devices that were tuned (`hashfleet tune`) are opened with the settings that were stored, others with their
    defaults. With `renew`, those whose driver or kernels have changed since are measured again first, some seconds
    each. With engine "auto" and no device named, the CPU steps in where no GPU can be used. Raises EngineUnavailable if
    nothing can be used, InvalidInput if a device is named that is not there.
    """
    reasons: list[str] = []
    file = settings_file()
    trials = _try_out(options, reasons, file, renew)
    ready = [trial for trial in trials if isinstance(trial, ReadyEngine)]
    refused = [trial for trial in trials if isinstance(trial, Refused)]
    for refusal in refused:
        logger.error("%s is refused: %s", refusal.device_id, refusal.reason)
    if not ready:
        reasons += [f"{refusal.device_id} is refused: {refusal.reason}" for refusal in refused]
        why = "; ".join(reasons) or "none was found"
        if options.engine != "auto" or options.device_ids:
            what = " or ".join(options.device_ids) or f"{options.engine} device"
            raise EngineUnavailable(f"no {what} can be used: {why}")
        logger.warning("no GPU can be used (%s); falling back to CPU processes", why)
        fallback = _try_cpu(options, file, renew)
        if isinstance(fallback, Refused):
            raise EngineUnavailable(f"neither a GPU nor the CPU can be used: {why}; {fallback.reason}")
        ready = [fallback]
    for each in ready:
        device = each.engine.device
        logger.info(
            "device %s: %s (%s, %s), %s",
            device.device_id, device.name, label(device.kind), device.driver, show_rate(each.rate),
        )  # fmt: skip
    return ready


def survey(options: EngineOptions) -> list[tuple[DeviceInfo, float] | Refused]:
    """Try out every device there is, the CPU too if the engine is "auto": its rate in hashes a second, or why not.

    All of them are closed again. Raises InvalidInput if a device is named that is not there.
    """
    reasons: list[str] = []
    file = settings_file()
    trials = _try_out(options, reasons, file, renew=False)
    if options.engine == "auto" and not options.device_ids:
        trials.append(_try_cpu(options, file, renew=False))
    for reason in reasons:
        logger.warning("%s", reason)
    found: list[tuple[DeviceInfo, float] | Refused] = []
    for trial in trials:
        if isinstance(trial, ReadyEngine):
            found.append((trial.engine.device, trial.rate))
            trial.engine.close()
        else:
            found.append(trial)
    return found


def label(kind: EngineKind) -> str:
    """The engine's name as its makers write it."""
    return _LABELS[kind]


def find_tunable(options: EngineOptions) -> list[Tunable[AnySettings]]:
    """Every device that the options name, for tuning; with engine "auto" and none named, all GPUs and the CPU.

    Raises EngineUnavailable if there is no device of the engine asked for, InvalidInput for one that is not there.
    """
    reasons: list[str] = []
    found = [tunable_gpu(device) for device in _find_gpus(options, reasons)]
    everything = options.engine == "auto" and not options.device_ids
    if everything or options.engine == CPU or CPU in options.device_ids:
        found.append(tunable_cpu(options.cpu_processes, options.niceness))
    if not found:
        raise EngineUnavailable(f"no {options.engine} device can be tuned: {'; '.join(reasons) or 'none was found'}")
    for reason in reasons:
        logger.info("%s", reason)
    return found


def _try_out(
    options: EngineOptions, reasons: list[str], file: TuningFile | None, renew: bool
) -> list[ReadyEngine | Refused]:
    """Open and test what the options ask for; why a kind of device is missing altogether is added to `reasons`."""
    gpus = [tunable_gpu(device) for device in _find_gpus(options, reasons)]
    chosen = [best_known(tunable, file, renew) for tunable in gpus]
    # All processes start before the first is waited for: drivers load and kernels compile side by side.
    opened = [tunable.open(settings) for tunable, settings in zip(gpus, chosen, strict=True)]
    trials: list[ReadyEngine | Refused] = []
    try:
        for number, (tunable, settings) in enumerate(zip(gpus, chosen, strict=True)):
            trial = _test(opened[number])
            if isinstance(trial, Refused) and settings != tunable.default:
                _warn_of(trial)
                opened[number] = tunable.open(tunable.default)
                trial = _test(opened[number])
            trials.append(trial)
    except BaseException:  # Ctrl-C
        for engine in opened:
            engine.close()
        raise
    if options.engine == CPU or CPU in options.device_ids:
        trials.append(_try_cpu(options, file, renew))
    return trials


def _try_cpu(options: EngineOptions, file: TuningFile | None, renew: bool) -> ReadyEngine | Refused:
    tunable = tunable_cpu(options.cpu_processes, options.niceness)
    settings = best_known(tunable, file, renew)
    trial = _open_cpu(tunable, settings)
    if isinstance(trial, Refused) and settings != tunable.default:
        _warn_of(trial)
        return _open_cpu(tunable, tunable.default)
    return trial


def _open_cpu(tunable: Tunable[AnySettings], settings: AnySettings) -> ReadyEngine | Refused:
    def reopen() -> HashEngine:
        return tunable.open(settings)

    try:
        engine = reopen()
    except EngineError as error:
        return Refused(CPU, None, str(error))
    try:
        return _test(engine, reopen)
    except BaseException:  # Ctrl-C
        engine.close()
        raise


def _warn_of(refusal: Refused) -> None:
    logger.warning(
        "%s does not work with its tuned settings, so it is tried with the default ones: %s",
        refusal.device_id,
        refusal.reason,
    )


def _test(engine: HashEngine, reopen: Callable[[], HashEngine] | None = None) -> ReadyEngine | Refused:
    """Check an engine against hashlib and measure it; closed again if it fails."""
    try:
        self_test(engine)
        return ReadyEngine(engine, measure_rate(engine), reopen)
    except EngineError as error:
        engine.close()
        return Refused(engine.device.device_id, engine.device, str(error))


def _find_gpus(options: EngineOptions, reasons: list[str]) -> list[DeviceInfo]:
    """The GPUs that the options ask for, in the order in which they are named."""
    gpu_ids = [device_id for device_id in options.device_ids if device_id != CPU]
    kinds = list(dict.fromkeys(device_id.partition(":")[0] for device_id in gpu_ids)) or [options.engine]
    for kind in kinds:
        if kind not in CHOICES or options.engine not in ("auto", kind):
            raise InvalidInput(
                f"--devices names {', '.join(options.device_ids)!a}, but --engine is {options.engine}; device ids "
                "are such as cuda:0, opencl:0.1 or cpu, and belong to the engine asked for"
            )
    if kinds == [CPU] or (options.device_ids and not gpu_ids):
        return []
    found: dict[str, DeviceInfo] = {}
    for kind in kinds:
        try:
            devices = call_in_process(find_devices, kind, f"the search for {kind} devices", FIND_SECONDS)
            if not devices and kind == "auto":
                # "auto" finds nothing without a word; asking for CUDA says why, for the log
                call_in_process(find_devices, "cuda", "the search for cuda devices", FIND_SECONDS)
        except EngineError as error:
            reasons.append(str(error))
        else:
            found |= {device.device_id: device for device in devices}
    missing = [device_id for device_id in gpu_ids if device_id not in found]
    if missing:
        there = ", ".join(found) or "no such device here"
        raise InvalidInput("; ".join([f"there is no device {missing[0]!a}, but {there}", *reasons]))
    return [found[device_id] for device_id in gpu_ids] or list(found.values())
