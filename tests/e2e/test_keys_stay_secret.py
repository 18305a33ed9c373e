"""A key is planted in a coordinator, which hashes, signs and crashes; then everything that came of it is searched."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.submission import keys

from .conftest import HASHFLEET, SCENARIO, House, Process

PASSPHRASE = "zyxwvu tsrqponm"


@pytest.fixture
def mnemonic() -> str:
    """A mnemonic of this test alone."""
    return keys.new_mnemonic().reveal()


@pytest.fixture
def world(mnemonic: str) -> dict[str, Any]:
    """The usual world, in which the planted key is player 1-11's."""
    scenario = copy.deepcopy(SCENARIO)
    scenario["players"][0]["address"] = keys.from_mnemonic(mnemonic).address  # type: ignore[index]
    return scenario


@pytest.fixture
def kept(tmp_path: Path, mnemonic: str) -> Path:
    """The planted key in a file that `hashfleet keys` encrypted, beside the file with its passphrase."""
    folder = tmp_path / "kept"
    folder.mkdir()
    passphrase = folder / "passphrase"
    passphrase.write_text(PASSPHRASE)
    passphrase.chmod(0o600)
    done = subprocess.run(
        [*HASHFLEET, "keys", "import", "planted", "--folder", str(folder), "--passphrase-file", str(passphrase),
         "--scrypt-n", "1024", "--json"],
        input=mnemonic, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["address"] == keys.from_mnemonic(mnemonic).address
    return folder


def forms(mnemonic: str) -> Iterator[bytes]:
    """How the planted secrets could be written."""
    secret = keys.secret_of(keys.Secret(mnemonic)).reveal()
    yield from (
        secret,
        secret.hex().encode(),
        secret.hex().upper().encode(),
        str(int.from_bytes(secret, "big")).encode(),
    )
    yield repr(secret)[2:-1].encode()
    yield PASSPHRASE.encode()
    yield from (" ".join(pair).encode() for pair in itertools.pairwise(mnemonic.split()))


def searched(folder: Path) -> bytes:
    """Every file of the run, but for those that hold the key and its passphrase on purpose."""
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "passphrase")


def argument_lists() -> bytes:
    """What `ps` shows of every process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:  # it ended meanwhile
            continue
    return b"\n".join(found)


async def test_a_planted_key_is_found_nowhere_after_a_run(
    house: House, kept: Path, tmp_path: Path, mnemonic: str
) -> None:
    await house.coordinator.kill()
    arguments = [*house.coordinator.arguments, "--key-file", str(kept / "planted.json"), "--verbose"]
    environment = {"HASHFLEET_KEY_PASSPHRASE_FILE": str(kept / "passphrase")}
    house.coordinator = Process(arguments, tmp_path / "planted.log", environment=environment)
    await house.coordinator.start()
    house.stack.push_async_callback(house.coordinator.kill)
    assert house.coordinator.announced["signer"] == keys.from_mnemonic(mnemonic).address
    worker = await house.worker()
    async with house.agent("http") as agent:
        job_id = await agent.start("struct_build_complete", "5-1")
        told = json.dumps(await agent.completed(job_id)) + json.dumps(await agent.call("structs_fleet_status"))
        refused = await agent.start("ore_miner_complete", "5-202")  # of a player who granted nothing
        told += json.dumps(await agent.until(refused, lambda status: status["status"] in ("failed", "waiting")))
    listed = await asyncio.to_thread(argument_lists)
    await house.coordinator.kill()
    await worker.kill()
    assert b"planted.json" in listed
    everything = searched(tmp_path) + told.encode() + json.dumps(house.coordinator.announced).encode() + listed
    assert b"included" in everything
    assert [form for form in forms(mnemonic) if form in everything] == []


@pytest.mark.parametrize("broken", ["passphrase", "mnemonic", "hex", "two", "permissions"])
def test_a_coordinator_that_cannot_read_its_key_says_so_in_one_sentence_without_the_key(
    kept: Path, tmp_path: Path, mnemonic: str, broken: str
) -> None:
    secret = keys.secret_of(keys.Secret(mnemonic)).reveal().hex()
    environment = {
        "passphrase": {"HASHFLEET_KEY_FILE": str(kept / "planted.json"), "HASHFLEET_KEY_PASSPHRASE": PASSPHRASE[::-1]},
        "mnemonic": {"HASHFLEET_MNEMONIC": mnemonic + "x"},
        "hex": {"HASHFLEET_PRIVATE_KEY": secret + "0"},
        "two": {"HASHFLEET_PRIVATE_KEY": secret, "HASHFLEET_MNEMONIC": mnemonic},
        "permissions": {"HASHFLEET_KEY_FILE": str(kept / "open")},
    }[broken]
    (kept / "open").write_text(mnemonic)
    (kept / "open").chmod(0o644)
    done = subprocess.run(
        [*HASHFLEET, "coordinator", "--chain-grpc", "127.0.0.1:1", "--database", str(tmp_path / "no.db")],
        env={"PATH": "/usr/bin:/bin"} | environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("hashfleet: ") and done.stderr.count("\n") == 1
    shown = (done.stdout + done.stderr).encode()
    assert [form for form in forms(mnemonic) if form in shown] == []
