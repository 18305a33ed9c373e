"""What is installed is whole: device code, migrations and stubs are inside, tests are not, and the locks are clean."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

from hashfleet.version import __version__

LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-cuda12.lock", "requirements-cuda13.lock")
PACKAGES = {"hashfleet", "coordinator", "gpu_worker", "cpu_fallback", "kernels", "devnet", "bench"}


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text())


def build(kind: str, root: Path, into: Path) -> Path:
    """Call the build backend as pip does, in a process of its own (its API works on the current folder)."""
    code = f"import sys, hatchling.build; print(hatchling.build.build_{kind}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(into)], cwd=root, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return into / done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", root, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def wheel_files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def source_files(root: Path, *suffixes: str) -> set[str]:
    """Files of the packages with one of these suffixes, relative to the checkout."""
    return {
        path.relative_to(root).as_posix()
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.suffix in suffixes and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_every_module_stub_and_type_marker(root: Path, wheel_files: set[str]) -> None:
    assert source_files(root, ".py", ".pyi", ".typed") <= wheel_files
    assert "hashfleet/rpc/hashfleet/v1/job_service_pb2_grpc.py" in wheel_files
    assert "hashfleet/py.typed" in wheel_files


def test_the_wheel_holds_the_device_code(root: Path, wheel_files: set[str]) -> None:
    device_code = source_files(root, ".cl", ".cu", ".h", ".cuh")
    assert {"kernels/sha256.cl", "kernels/sha256.cu"} <= device_code
    assert device_code <= wheel_files


def test_the_wheel_holds_the_migrations(root: Path, wheel_files: set[str]) -> None:
    migrations = {name for name in source_files(root, ".py", ".mako", ".ini") if "/migrations/" in name}
    assert any(re.search(r"/versions/\w+\.py$", name) for name in migrations)
    assert migrations <= wheel_files


def test_the_wheel_holds_every_other_file_of_the_packages(root: Path, wheel_files: set[str]) -> None:
    ours = {
        path.relative_to(root).as_posix()
        for package in PACKAGES
        for path in (root / package).rglob("*")
        # what .gitignore names comes from running, not from us
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in {".db", ".db-wal", ".db-shm"}
    }
    assert len(ours) > 100
    assert ours == {name for name in wheel_files if ".dist-info/" not in name}


def test_the_wheel_holds_the_packages_and_nothing_else(wheel_files: set[str]) -> None:
    assert {name.split("/")[0] for name in wheel_files} == PACKAGES | {f"hashfleet-{__version__}.dist-info"}
    assert not [name for name in wheel_files if re.search(r"(^|/)(tests?/|test_|conftest\.py)", name)]


def test_the_sdist_holds_the_sources_and_the_protos_but_no_tests(root: Path, tmp_path: Path) -> None:
    with tarfile.open(build("sdist", root, tmp_path)) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert source_files(root, ".py", ".pyi", ".cl", ".cu", ".h") <= names
    assert {"proto/hashfleet/v1/job_service.proto", "LICENSE", "README.md", "pyproject.toml"} <= names
    assert not [name for name in names if name.startswith(("tests/", ".venv/", ".git/"))]


def test_the_metadata_is_true(wheel: Path, project: dict[str, Any]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(f"hashfleet-{__version__}.dist-info/METADATA").decode())
    assert metadata["Name"] == "hashfleet"
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert {"cuda12", "cuda13", "pocl", "dev"} <= set(metadata.get_all("Provides-Extra", []))
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(required) == len(project["project"]["dependencies"])


def test_the_license_is_apache_2(root: Path) -> None:
    text = (root / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_installed_command_tells_its_version() -> None:
    command = Path(sysconfig.get_path("scripts")) / "hashfleet"
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(__version__)


def test_the_unpacked_wheel_is_a_working_distribution(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    packages = ", ".join(sorted(PACKAGES))
    code = f"import {packages}, hashfleet.cli.main; print(*(p.__file__ for p in ({packages})), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all(Path(line).is_relative_to(tmp_path) for line in done.stdout.split())


def locked(path: Path) -> dict[str, str]:
    """Package -> version of a lock, each with at least one hash."""
    entries = re.split(r"\n(?=[a-z0-9])", path.read_text())[1:]
    found = {}
    for entry in entries:
        assert "--hash=sha256:" in entry, f"{path.name} has no hash for {entry.splitlines()[0]}"
        name, version = re.match(r"([a-z0-9._-]+)==([^ ;\\]+)", entry).groups()  # type: ignore[union-attr]
        found[name] = version
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_place_to_download_from(root: Path, lock: str) -> None:
    text = (root / lock).read_text()
    assert not re.search(r"https?://|file:|--find-links|--index-url|--extra-index-url| @ ", text)
    assert re.search(r"^#    make lock$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("lock", "package"), list(zip(LOCKS[1:], ("pytest", "cupy-cuda12x", "cupy-cuda13x"), strict=True))
)
def test_every_lock_holds_the_runtime_lock_version_for_version(root: Path, lock: str, package: str) -> None:
    runtime, larger = locked(root / "requirements.lock"), locked(root / lock)
    assert runtime.items() <= larger.items()
    assert package in larger.keys() - runtime.keys()


def test_every_dependency_of_the_project_is_locked(root: Path, project: dict[str, Any]) -> None:
    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[\[<>=!~; ]", line)[0].lower().replace("_", "-") for line in requirements}

    runtime = names(project["project"]["dependencies"]) | names(project["dependency-groups"]["build"])
    dev = names(project["project"]["optional-dependencies"]["dev"])
    assert runtime <= locked(root / "requirements.lock").keys()
    assert dev <= locked(root / "requirements-dev.lock").keys()
