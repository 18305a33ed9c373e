"""What tuning has found, kept in one JSON file for the next start.

    $XDG_CACHE_HOME/hashfleet/tuning.json (~/.cache/hashfleet/tuning.json)

It is a cache: a file that is missing, damaged, too large or not ours to read costs a measurement and nothing else. An
entry holds for one model of device with one version of driver and kernels; after a change of any of them it is stale.
Writers take turns by a lock beside the file and replace it as a whole, so no reader ever sees half of one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hashfleet.engine import EngineKind
from hashfleet.errors import HashfleetError
from hashfleet.tuning import DeviceModel, SettingValue, Shape

logger = logging.getLogger(__name__)

#: Entries kept; the oldest go first. A rig has a handful of models, and each new driver makes one entry.
MAX_ENTRIES = 64
MAX_BYTES = 256 * 1024
#: A writer holds the lock for milliseconds.
LOCK_SECONDS = 5.0
_LOCK_PAUSE = 0.02

_Text = Annotated[str, Field(max_length=500)]
_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Entry(BaseModel):
    """What is kept of one tuning."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    engine: Literal["cuda", "opencl", "cpu"]
    name: _Text
    driver: _Text
    kernels: _Text
    #: None: the default settings, which nothing beat.
    settings: dict[_Text, Annotated[int, Field(ge=-(2**63), lt=2**63)] | _Text | None] | None = Field(max_length=32)
    #: Median ratio to the default settings, measured in the same rounds.
    ratio: _Rate
    #: Hashes a second, by shape of nonces.
    rates: dict[Shape, _Rate]
    #: UTC, ISO 8601 to the second.
    measured: _Text
    hashfleet: _Text

    @property
    def model(self) -> DeviceModel:
        return DeviceModel(EngineKind(self.engine), self.name, self.driver, self.kernels)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    #: Of this layout of the file.
    version: Literal[2]
    #: Oldest first.
    entries: list[Entry] = Field(max_length=MAX_ENTRIES)


def default_path() -> Path:
    """Where the file lies, by the XDG base directory specification. Raises HashfleetError for a user with no home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if Path(given).is_absolute():  # the specification has relative ones ignored
        return Path(given) / "hashfleet" / "tuning.json"
    try:
        return Path.home() / ".cache" / "hashfleet" / "tuning.json"
    except RuntimeError as error:
        raise HashfleetError(
            "tuned settings have no place: set XDG_CACHE_HOME to a directory, for this user has no home"
        ) from error


class TuningFile:
    """The file at one path. Reading never raises; what is wrong with the file is logged once per object."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._complained = False

    def find(self, model: DeviceModel) -> Entry | None:
        """The entry of exactly this model, driver and kernels."""
        return next((entry for entry in self._read() if entry.model == model), None)

    def find_stale(self, model: DeviceModel) -> Entry | None:
        """The newest entry of this model for another driver or other kernels; None if there is a fitting one."""
        same = [entry for entry in self._read() if (entry.model.kind, entry.name) == (model.kind, model.name)]
        return None if not same or any(entry.model == model for entry in same) else same[-1]

    def put(self, entry: Entry) -> None:
        """Add an entry, in place of an older one for the same. Raises HashfleetError if it cannot be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                others = [other for other in self._read() if other.model != entry.model]
                kept = _File(version=2, entries=[*others, entry][-MAX_ENTRIES:])
                self._replace(kept.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise HashfleetError(
                f"the tuned settings cannot be written to {self.path}: {error.strerror or error}; this user should "
                "have write access to its directory"
            ) from error

    def _read(self) -> list[Entry]:
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES} bytes")
            return _File.model_validate_json(data).entries
        except FileNotFoundError:
            return []
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            self._complain(f"{where}: {first['msg']}" if where else str(first["msg"]))
        except ValueError as error:
            self._complain(str(error))
        except OSError as error:
            self._complain(str(error.strerror or error))
        return []

    def _complain(self, why: str) -> None:
        if not self._complained:
            logger.warning(
                "The tuned settings in %s are ignored, for the file is damaged or unreadable (%s). "
                "`hashfleet tune` measures again and writes it anew.",
                self.path,
                why[:200],
            )
        self._complained = True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock beside the file. It is never deleted: whoever holds a deleted file holds nothing."""
        deadline = time.monotonic() + LOCK_SECONDS
        descriptor = os.open(
            self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= deadline:
                        raise HashfleetError(
                            f"the tuned settings were not written: another process has held {self.path}.lock for "
                            f"{LOCK_SECONDS:g} s"
                        ) from error
                    time.sleep(_LOCK_PAUSE)
            yield
        finally:
            os.close(descriptor)  # and with it the lock

    def _replace(self, text: str) -> None:
        descriptor, name = tempfile.mkstemp(prefix=self.path.name + ".", dir=self.path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise


def values_in(entry: Entry) -> dict[str, SettingValue] | None:
    """The entry's settings by name; None for the default ones."""
    return None if entry.settings is None else dict(entry.settings)
