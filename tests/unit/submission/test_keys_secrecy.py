"""A planted secret is looked for in everything that an error, a log, a database or a debugger's view could show."""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
import os
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from coordinator.core.job import Job, JobState
from coordinator.store.sql import open_store
from coordinator.submission import keys, keys_keyring, keys_sealed
from coordinator.submission.keys_private_file import write_private
from coordinator.submission.keys_sealed import Cost
from coordinator.submission.keys_secret import Secret, concealed
from hashfleet.errors import KeyProblem
from hashfleet.job_request import JobRequest

MNEMONIC = "legal winner thank year wave sausage worth useful legal winner thank yellow"
SECRET = bytes(range(1, 33))
HEX = SECRET.hex()
PASSPHRASE = "zyxwvu tsrqponm"
PLANTED = {"HASHFLEET_MNEMONIC": MNEMONIC.replace("yellow", "yelow"), "HOME": "/"}
MISSPELT = MNEMONIC.replace("sausage", "sausgae")


def forms() -> Iterator[str]:
    """How the planted secrets could be written."""
    yield from (HEX, HEX.upper(), repr(SECRET)[2:-1], base64.b64encode(SECRET).decode(), str(int(HEX, 16)), PASSPHRASE)
    for text in (MNEMONIC, MISSPELT):
        words = text.split()
        yield from (" ".join(pair) for pair in itertools.pairwise(words))


def leaks(shown: str) -> list[str]:
    return [form for form in forms() if form in shown]


def frames(trace: TracebackType | None) -> Iterator[Any]:
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def everything_shown(error: BaseException) -> str:
    """What a crash reporter that shows local variables would send: of every exception in the chain, but not of this
    file's own frames, which planted the secret."""
    shown: list[str] = []
    chain: BaseException | None = error
    while chain is not None:
        shown.append(f"{chain!r} {chain.args!r} {getattr(chain, '__notes__', '')}")
        for frame in frames(chain.__traceback__):
            if frame.f_code.co_filename != __file__:
                shown += [f"{name}={value!r} {value!s}" for name, value in frame.f_locals.items()]
        chain = chain.__cause__ or chain.__context__
    return "\n".join(shown)


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def encrypted(path: Path) -> Path:
    write_private(path, keys.sealed(Secret(SECRET), Secret(PASSPHRASE), Cost(2, 1, 1)).text())
    return path


def pointer(path: Path) -> Path:
    key = keys.from_hex(HEX)
    file = keys_sealed.KeyFile(address=key.address, public_key=key.public_key.hex(), kept_in="keyring")
    return private(path, file.text())


FAILURES: dict[str, Callable[[Path], object]] = {
    "hex": lambda _: keys.from_hex(HEX + "0"),
    "hex, not of the curve": lambda _: keys.SigningKey(SECRET + b"\0"),
    "mnemonic": lambda _: keys.from_mnemonic(MISSPELT),
    "mnemonic, path": lambda _: keys.from_mnemonic(MNEMONIC, path="m/x"),
    "text": lambda _: keys.from_text(MISSPELT),
    "secret_of": lambda _: keys.secret_of(Secret(MISSPELT)),
    "derive": lambda _: keys.derive(SECRET, "m/x"),
    "file": lambda folder: keys.from_file(private(folder / "key", MISSPELT)),
    "file, too long": lambda folder: keys.from_file(private(folder / "key", HEX * 100)),
    "identity": lambda folder: keys.identity(private(folder / "key", MISSPELT)),
    "environment": lambda _: keys.from_environment(PLANTED),
    "load": lambda _: keys.load_keys([], PLANTED),
    "load, two": lambda _: keys.load_keys([], PLANTED | {"HASHFLEET_PRIVATE_KEY": HEX}),
    "load, file": lambda folder: keys.load_keys([private(folder / "key", MISSPELT)], PLANTED),
    "wrong passphrase": lambda folder: keys.load_keys(
        [encrypted(folder / "key")], {"HASHFLEET_KEY_PASSPHRASE": PASSPHRASE + "!"}
    ),
    "wrong passphrase, asked": lambda folder: keys.load_keys(
        [encrypted(folder / "key")], {}, ask=lambda _: Secret(PASSPHRASE + "!")
    ),
    "passphrase file": lambda folder: keys.load_keys(
        [], {"HASHFLEET_KEY_PASSPHRASE_FILE": str(private(folder / "p", f"{PASSPHRASE}\n{PASSPHRASE}"))}
    ),
    "two passphrases": lambda _: keys.passphrase_in(
        {"HASHFLEET_KEY_PASSPHRASE": PASSPHRASE, "HASHFLEET_KEY_PASSPHRASE_FILE": "p"}
    ),
    "seal": lambda _: keys.sealed(Secret(SECRET), Secret(PASSPHRASE * 100), Cost(2, 1, 1)),
    "seal, no key": lambda _: keys.sealed(Secret(SECRET + SECRET), Secret(PASSPHRASE), Cost(2, 1, 1)),
    "keyring": lambda folder: keys.from_file(pointer(folder / "key")),
    "into the keyring": lambda _: keys.into_keyring(Secret(SECRET)),
}


@pytest.fixture
def failing_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(f"{HEX} {MNEMONIC}")

    monkeypatch.setattr(keys_keyring, "_backend", Failing)


@pytest.mark.parametrize("failure", FAILURES)
def test_no_error_carries_a_secret_in_its_text_or_its_frames(
    failure: str, tmp_path: Path, failing_keyring: None
) -> None:
    with pytest.raises(KeyProblem) as caught:
        FAILURES[failure](tmp_path)
    assert leaks(everything_shown(caught.value)) == []
    assert leaks("".join(traceback.format_exception(caught.value))) == []


def test_the_search_finds_what_is_not_concealed() -> None:
    """The test above could find something."""
    code = compile("def careless(text):\n    raise ValueError('no')\n", "elsewhere.py", "exec")
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    with pytest.raises(ValueError, match="no") as caught:
        namespace["careless"](MNEMONIC)
    assert leaks(everything_shown(caught.value)) != []
    with pytest.raises(KeyProblem) as concealed_one:
        concealed(namespace["careless"])(MNEMONIC)
    assert leaks(everything_shown(concealed_one.value)) == []
    assert "ValueError at elsewhere.py:2" in str(concealed_one.value)


def test_a_secret_shows_nothing_of_itself() -> None:
    secret = Secret(MNEMONIC)
    assert leaks(f"{secret} {secret!r} {[secret]} {vars(Secret)}") == []
    assert not hasattr(secret, "__dict__")
    with pytest.raises(TypeError, match="pickled"):
        secret.__reduce_ex__(4)


async def test_a_run_of_lane_and_store_leaves_no_secret_anywhere(
    make_scene: Callable[[], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = make_scene()
    store = await open_store(tmp_path / "jobs.sqlite")
    scene.store = store
    scene.chain.next_broadcasts.extend([("sdk", 4), "lost before", "lost after", ("sdk", 32)])
    with caplog.at_level(logging.DEBUG):
        submissions = [scene.pose(number) for number in range(4)]
        await store.save_jobs(
            [
                Job(
                    one.job_id,
                    JobRequest(one.work.action, one.work.object_id, "1-7"),
                    JobState.SUBMITTING,
                    1.0,
                    1.0,
                    work=one.work,
                )
                for one in submissions
            ]
        )
        await scene.start()
        for submission in submissions:
            scene.lane.submit(submission)
        async with asyncio.timeout(30):
            while len(set(scene.included)) < 2:
                await scene.block()
                await asyncio.sleep(0.01)  # the store answers from a thread of its own
            scene.chain.trouble = ArithmeticError("a defect in the middle of the lane")
            scene.lane.submit(scene.pose(9))
            with pytest.raises(ArithmeticError) as crash:
                await scene.task
    rows = [await store.attempts_of(one.job_id) for one in submissions]
    await store.close()
    kept = contents(tmp_path)
    assert len(kept) > 1000
    assert any(rows)
    printed = capsys.readouterr()
    shown = caplog.text + repr(scene.told) + repr(rows) + repr(vars(scene.lane)) + printed.out + printed.err
    assert "lane.py" in "".join(traceback.format_tb(crash.tb))
    assert leaks(shown + everything_shown(crash.value) + kept.decode("latin-1")) == []
    assert SECRET not in kept


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_protected_process_leaves_no_core_file_and_shows_no_memory() -> None:
    code = """
        import ctypes, resource
        from coordinator.submission.keys_secret import protect_process
        before = ctypes.CDLL(None).prctl(3)
        protect_process()
        print(before, ctypes.CDLL(None).prctl(3), resource.getrlimit(resource.RLIMIT_CORE)[0])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["1", "0", "0"]
