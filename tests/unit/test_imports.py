"""Arrows between the rooms run one way, and nothing needs a GPU driver until it uses a GPU.

The contracts stand in pyproject.toml under [tool.importlinter]; `make lint` runs the same ones.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest

ROOMS = ("hashfleet", "coordinator", "gpu_worker", "cpu_fallback", "kernels", "devnet", "bench")
#: Standard library modules that do I/O, read a clock, or wait: not for the core.
IMPURE = {
    "asyncio", "concurrent", "ctypes", "http", "io", "multiprocessing", "os", "pathlib", "queue", "random", "secrets",
    "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading",
    "time", "urllib", "uuid",
}  # fmt: skip


def lint_imports(checkout: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of `checkout`/pyproject.toml over the packages that lie there."""
    command = Path(sysconfig.get_path("scripts")) / "lint-imports"
    return subprocess.run(
        [command, "--no-cache", "--config", "pyproject.toml"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "COLUMNS": "500", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_import_of_the_project_keeps_the_contracts(root: Path) -> None:
    done = lint_imports(root)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def house_of_empty_rooms(root: Path, tmp_path: Path) -> Path:
    """The rooms without furniture, and the project's own contracts: a place to plant a violation."""
    (tmp_path / "pyproject.toml").write_text((root / "pyproject.toml").read_text())
    packages = [*ROOMS, "hashfleet/cli", *(f"coordinator/{room}" for room in ("api", "chain", "core", "store"))]
    for package in [*packages, "coordinator/submission"]:
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "__init__.py").touch()
    for module in ("hashfleet/action.py", "hashfleet/cli/up.py", "coordinator/service.py"):
        (tmp_path / module).touch()
    return tmp_path


def test_the_empty_rooms_keep_the_contracts(house_of_empty_rooms: Path) -> None:
    done = lint_imports(house_of_empty_rooms)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("hashfleet/cli/up.py", "coordinator.service"),
        ("hashfleet/cli/up.py", "gpu_worker"),
        ("hashfleet/cli/up.py", "cpu_fallback"),
        ("hashfleet/cli/up.py", "devnet"),
        ("hashfleet/cli/up.py", "bench"),
        ("bench/fleet.py", "coordinator.core"),
        ("bench/fleet.py", "cpu_fallback"),
        ("bench/fleet.py", "hashfleet.action"),
        ("coordinator/api/door.py", "coordinator.service"),
        ("coordinator/api/door.py", "coordinator.core"),
        ("coordinator/service.py", "coordinator.store"),
        ("coordinator/store/sql.py", "coordinator.submission"),
        ("coordinator/submission/lane.py", "coordinator.chain"),
        ("coordinator/chain/structsd.py", "coordinator.core"),
        ("gpu_worker/engine.py", "kernels"),
        ("gpu_worker/engine.py", "hashfleet.action"),
    ],
)
def test_an_arrow_of_the_design_is_allowed(house_of_empty_rooms: Path, module: str, imported: str) -> None:
    (house_of_empty_rooms / module).write_text(f"import {imported}\n")
    done = lint_imports(house_of_empty_rooms)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("hashfleet/action.py", "coordinator", "hashfleet is what every part shares"),
        ("hashfleet/action.py", "kernels", "hashfleet is what every part shares"),
        ("hashfleet/action.py", "devnet", "hashfleet is what every part shares"),
        ("hashfleet/action.py", "hashfleet.cli", "nobody imports the command line"),
        ("coordinator/service.py", "hashfleet.cli.up", "nobody imports the command line"),
        ("gpu_worker/session.py", "hashfleet.cli", "nobody imports the command line"),
        ("bench/fleet.py", "hashfleet.cli.up", "nobody imports the command line"),
        ("coordinator/service.py", "bench", "the benchmarks measure every part"),
        ("gpu_worker/session.py", "bench", "the benchmarks measure every part"),
        ("hashfleet/action.py", "bench", "the benchmarks measure every part"),
        ("coordinator/core/machine.py", "asyncio", "the core has no I/O"),
        ("coordinator/core/machine.py", "time", "the core has no I/O"),
        ("coordinator/core/machine.py", "grpc", "the core has no I/O"),
        ("coordinator/core/machine.py", "sqlalchemy", "the core has no I/O"),
        ("coordinator/core/machine.py", "coordinator.store", "the coordinator's arrows run one way"),
        ("coordinator/core/machine.py", "coordinator.service", "the coordinator's arrows run one way"),
        ("coordinator/chain/structsd.py", "coordinator.service", "the coordinator's arrows run one way"),
        ("coordinator/store/sql.py", "coordinator.api", "the coordinator's arrows run one way"),
        ("coordinator/submission/lane.py", "coordinator.service", "the coordinator's arrows run one way"),
        ("coordinator/service.py", "coordinator.api", "the coordinator's arrows run one way"),
        ("coordinator/service.py", "gpu_worker", "the coordinator knows no worker"),
        ("coordinator/chain/structsd.py", "devnet", "the coordinator knows no worker"),
        ("gpu_worker/session.py", "coordinator.core", "the GPU worker knows hashfleet and kernels only"),
        ("gpu_worker/session.py", "cpu_fallback", "the GPU worker knows hashfleet and kernels only"),
        ("cpu_fallback/lanes.py", "gpu_worker", "the CPU fallback knows hashfleet only"),
        ("cpu_fallback/lanes.py", "kernels", "the CPU fallback knows hashfleet only"),
        ("devnet/node.py", "coordinator.chain", "the devnet knows hashfleet only"),
        ("kernels/loader.py", "hashfleet.action", "kernels hold device code only"),
    ],
)
def test_an_arrow_against_the_design_breaks_its_contract(
    house_of_empty_rooms: Path, module: str, imported: str, contract: str
) -> None:
    (house_of_empty_rooms / module).write_text(f"import {imported}\n")
    done = lint_imports(house_of_empty_rooms)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [line for line in done.stdout.splitlines() if line.rstrip().endswith("BROKEN")]
    assert any(line.startswith(contract) for line in broken), done.stdout


def imported_modules(path: Path) -> set[str]:
    """Absolute names that a file imports, wherever in it the statement stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import; write the whole name"
            assert node.module is not None
            found.add(node.module)
    return found


def test_the_core_imports_hashfleet_itself_and_pure_standard_library_only(root: Path) -> None:
    files = sorted((root / "coordinator" / "core").rglob("*.py"))
    assert len(files) > 1
    strangers = {
        (file.name, name)
        for file in files
        for name in imported_modules(file)
        if name.split(".")[0] not in (sys.stdlib_module_names - IMPURE)
        and not name.startswith("coordinator.core")
        and name.split(".")[0] != "hashfleet"
    }
    assert strangers == set()


def run_without_gpu_libraries(body: str) -> subprocess.CompletedProcess[str]:
    """Run `body` in a fresh interpreter where importing a GPU library fails as if it were not installed."""
    program = textwrap.dedent(
        """
        import sys

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {"cupy", "cupy_backends", "pyopencl", "pynvml"}:
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Absent())
        """
    ) + textwrap.dedent(body)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def test_the_block_on_gpu_libraries_works() -> None:
    done = run_without_gpu_libraries("import pyopencl")
    assert done.returncode == 1
    assert "No module named 'pyopencl'" in done.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_imported_without_gpu_libraries(room: str) -> None:
    done = run_without_gpu_libraries(f"import {room}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_the_command_answers_without_gpu_libraries(arguments: list[str]) -> None:
    done = run_without_gpu_libraries(
        f"""
        from hashfleet.cli.main import main
        sys.argv = ["hashfleet", *{arguments!r}]
        main()
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
