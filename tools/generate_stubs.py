"""Make the Python stubs in hashfleet/rpc/ from proto/; with --check, only say whether they are fresh.

protoc writes absolute imports by proto path (``from cosmos.tx.v1beta1 import ...``); ours live under hashfleet.rpc,
so the imports are moved there. Descriptors keep the original names, which reflection and the chain rely on.
"""

from __future__ import annotations

import argparse
import filecmp
import re
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
STUBS = ROOT / "hashfleet" / "rpc"
MODULES = (ROOT / "proto", ROOT / "proto" / "chain")
PACKAGES = ("hashfleet", "structs", "cosmos", "tendermint")
_IMPORT = re.compile(rf"^(from|import) ((?:{'|'.join(PACKAGES)})\.[\w.]+)", re.MULTILINE)
_QUALIFIED = re.compile(rf"(?<![\w.\"'/])((?:{'|'.join(PACKAGES)})(?:\.\w+)*\.\w+_pb2(?:_grpc)?)\b")


def protos(module: Path) -> list[str]:
    found = (p.relative_to(module).as_posix() for p in module.rglob("*.proto"))
    return sorted(p for p in found if not p.startswith("chain/"))


def generate(into: Path) -> None:
    """Write all stubs below `into`, as packages."""
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    scripts = Path(sysconfig.get_path("scripts"))
    for module in MODULES:
        status = protoc.main(
            [
                "protoc",
                f"-I{module}",
                f"-I{well_known}",
                f"--python_out={into}",
                f"--grpc_python_out={into}",
                # by path: the virtual environment need not be active
                *(f"--plugin={name}={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")),
                f"--mypy_out=quiet:{into}",
                f"--mypy_grpc_out=quiet:{into}",
                *protos(module),
            ]
        )
        if status:
            sys.exit(f"protoc failed for {module.relative_to(ROOT)}")
    for path in [*into.rglob("*.py"), *into.rglob("*.pyi")]:
        text = _IMPORT.sub(r"\1 hashfleet.rpc.\2", path.read_text())
        if path.suffix == ".pyi":
            text = _QUALIFIED.sub(r"hashfleet.rpc.\1", text)
        path.write_text(text)
    for folder in {p.parent for p in into.rglob("*_pb2.py")}:
        while folder != into:
            (folder / "__init__.py").touch()
            folder = folder.parent


def differences(left: Path, right: Path) -> list[str]:
    """Relative paths of generated files that differ or stand on one side only."""
    names = {
        p.relative_to(base)
        for base in (left, right)
        for p in base.rglob("*.py*")
        if p.suffix in {".py", ".pyi"} and len(p.relative_to(base).parts) > 1
    }
    return sorted(
        name.as_posix()
        for name in names
        if not (left / name).exists()
        or not (right / name).exists()
        or not filecmp.cmp(left / name, right / name, shallow=False)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if the stubs in the tree are not what proto/ makes")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        stale = differences(STUBS, fresh)
        if check:
            if stale:
                sys.exit("stubs are not fresh, run `make proto`: " + ", ".join(stale))
            return
        for package in PACKAGES:
            shutil.rmtree(STUBS / package, ignore_errors=True)
            shutil.copytree(fresh / package, STUBS / package)


if __name__ == "__main__":
    main()
