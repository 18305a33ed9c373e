"""What can be tuned on this machine's devices, and the settings that were stored for them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TypeAlias, TypeVar

from cpu_fallback import settings as cpu
from cpu_fallback.engine import DEVICE_ID as CPU
from cpu_fallback.engine import CpuEngine
from cpu_fallback.settings import CpuSettings
from gpu_worker import settings as gpu
from gpu_worker.device_process import DeviceProcess
from gpu_worker.discovery import open_engine
from gpu_worker.settings import CudaSettings, OpenClSettings
from hashfleet.engine import DeviceInfo, HashEngine
from hashfleet.errors import HashfleetError
from hashfleet.tuning import Outcome, Progress, Settings, Tunable, describe, tune, values_of
from hashfleet.tuning_file import Entry, TuningFile, default_path, values_in
from hashfleet.version import __version__

logger = logging.getLogger(__name__)

#: How long a device is measured anew at a worker's start, once after a change of its driver or kernels.
RENEWAL_SECONDS = 10.0

AnySettings: TypeAlias = CpuSettings | CudaSettings | OpenClSettings
S = TypeVar("S", bound=Settings)


def tunable_gpu(device: DeviceInfo) -> Tunable[AnySettings]:
    """A GPU, each of its engines in a process of its own: a candidate that crashes the driver ends nothing else."""

    def opened(settings: AnySettings) -> HashEngine:
        assert not isinstance(settings, CpuSettings)
        return DeviceProcess(device, partial(open_engine, settings=settings))

    return Tunable(
        device.device_id, gpu.device_model(device), gpu.default_settings(device), gpu.candidates(device), opened
    )


def tunable_cpu(processes: int | None, niceness: int) -> Tunable[AnySettings]:
    """The CPU. A number of processes that the caller gave stands, whatever was tuned.

    Its kernels are compiled before it is tested and measured: that takes 0.3 s longer, and else the self-test would
    test hashlib, and the rate would be a quarter of what it is a second later (51 instead of 211 Mh/s on two cores).
    """
    cores = cpu.usable_cores()

    def opened(settings: AnySettings) -> HashEngine:
        assert isinstance(settings, CpuSettings)
        count = settings.processes if processes is None else processes
        return CpuEngine(count, niceness, target=settings.target, streams=settings.streams, compile_first=True)

    return Tunable(CPU, cpu.device_model(cores), cpu.default_settings(), cpu.candidates(cores), opened)


def settings_file() -> TuningFile | None:
    """Where settings are kept; None, with a word in the log, for a user with no place to keep them."""
    try:
        return TuningFile(default_path())
    except HashfleetError as error:
        logger.warning("%s", error)
        return None


def best_known(tunable: Tunable[S], file: TuningFile | None, renew: bool) -> S:
    """The settings to open a device with: the stored ones if they hold for it, else its defaults.

    With `renew`, a device that was tuned once is measured again if its driver or its kernels have changed since.
    """
    if file is None:
        return tunable.default
    entry = file.find(tunable.model)
    if entry is None:
        stale = file.find_stale(tunable.model)
        if stale is None:
            return tunable.default
        what = f"the settings tuned for {tunable.device_id} were measured with another driver or other kernels"
        if not renew:
            logger.info("%s and are not used; `hashfleet tune` measures again", what)
            return tunable.default
        logger.info("%s; measuring again, for about %.0f s", what, RENEWAL_SECONDS)
        return _renewed(tunable, file)
    values = values_in(entry)
    if values is None:
        return tunable.default
    settings = tunable.matching(values)
    if settings is None:
        logger.warning(
            "the settings stored for %s in %s are none that hashfleet would try; the defaults are used instead",
            tunable.device_id,
            file.path,
        )
        return tunable.default
    logger.info(
        "%s uses the settings tuned on %s: %s (%.2f times the default)",
        tunable.device_id, entry.measured, describe(settings, tunable.default), entry.ratio,
    )  # fmt: skip
    return settings


def entry_of(
    tunable: Tunable[S], outcome: Outcome[S], now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Entry:
    """What is stored of an outcome."""
    model = tunable.model
    return Entry(
        engine=model.kind.value,
        name=model.name,
        driver=model.driver,
        kernels=model.kernels,
        settings=None if outcome.winner is None else values_of(outcome.winner),
        ratio=outcome.ratio,
        rates={"T": outcome.rates["T"], "S": outcome.rates["S"]},
        measured=now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        hashfleet=__version__,
    )


def measure_and_store(
    tunable: Tunable[S],
    file: TuningFile,
    seconds: float,
    progress: Progress = lambda done, total, what: None,
) -> Outcome[S]:
    """Tune a device and store what came out. Raises HashfleetError if either fails."""
    outcome = tune(tunable, seconds, progress=progress)
    file.put(entry_of(tunable, outcome))
    return outcome


def _renewed(tunable: Tunable[S], file: TuningFile) -> S:
    try:
        outcome = measure_and_store(tunable, file, RENEWAL_SECONDS)
    except HashfleetError as error:
        logger.warning("%s is not tuned: %s; the defaults are used", tunable.device_id, error)
        return tunable.default
    chosen = tunable.default if outcome.winner is None else outcome.winner
    logger.info(
        "%s is tuned: %s (%.2f times the default)", tunable.device_id, describe(chosen, tunable.default), outcome.ratio
    )
    return chosen
