"""What other programs print, as captured from them, and what happens where they are missing."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from bench import tools
from bench.kernels import find_others
from bench.tools import Hashcat, NodeLoop, OpenSslSpeed, ToolFailed, find, parse_hashcat, parse_node, parse_openssl, run

#: hashcat 6.2.6 -b -m 1400 -D 1 --machine-readable, on PoCL
HASHCAT = """\
# version: v6.2.6
# option: --opencl-device-types=1
# option: --optimized-kernel-enable
1:1400:4294967295:4294967295:5.24:195240099
Started: Mon Nov 23 19:07:35 2026
Stopped: Mon Nov 23 19:08:03 2026
"""
#: openssl 3.0.19 speed -mr -seconds 1 -bytes 64 -evp sha256, standard output
OPENSSL = "+H:64\n+F:25:sha256:447649939.39\n"
#: NODE_PROGRAM on Node 20.20.2
NODE = '{"hashes":580000,"seconds":0.500275417}\n'


def test_the_speed_of_hashcat_is_read() -> None:
    assert parse_hashcat(HASHCAT) == 195_240_099


def test_the_devices_of_hashcat_are_added_up() -> None:
    assert parse_hashcat(HASHCAT + "2:1400:1410:1593:4.10:9000000000\n") == 9_195_240_099


def test_another_hash_mode_of_hashcat_is_not_counted() -> None:
    with pytest.raises(ToolFailed, match="hashcat printed something else"):
        parse_hashcat("1:1000:4294967295:4294967295:5.24:195240099\n")


def test_the_speed_of_openssl_is_told_in_bytes_and_read_in_hashes() -> None:
    assert parse_openssl(OPENSSL) == pytest.approx(6_994_530.3, rel=1e-7)


def test_the_loop_of_node_is_read() -> None:
    assert parse_node(NODE) == pytest.approx(1_159_361.4, rel=1e-7)


@pytest.mark.parametrize("parse", [parse_hashcat, parse_openssl, parse_node])
@pytest.mark.parametrize("output", ["", "\n", "No devices found/left.\n", "[]", '{"hashes": 1, "seconds": 0}'])
def test_output_that_tells_no_rate_is_a_failure(parse, output: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ToolFailed, match="printed something else than a rate"):
        parse(output)


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ToolFailed, match="hashcat is not installed"):
        find("hashcat")


def test_where_no_other_program_is_installed_all_are_named_and_the_loops_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    found, missing = find_others()
    assert [contender.id for contender in found] == ["hashlib", "hashlib-midstate"]
    assert [(each.what.split()[0], each.reason) for each in missing] == [
        ("Node:", "node is not installed"),
        ("openssl", "openssl is not installed"),
        ("hashcat", "hashcat is not installed"),
        ("hashcat", "hashcat is not installed"),
    ]


def test_a_program_that_fails_is_quoted() -> None:
    program = "import sys; print('No devices found/left.', file=sys.stderr); sys.exit(255)"
    with pytest.raises(ToolFailed, match=r"ended with status 255: No devices found/left\."):
        run([sys.executable, "-c", program], 30)


def test_a_program_that_does_not_end_is_ended() -> None:
    with pytest.raises(ToolFailed, match="did not end within"):
        run([sys.executable, "-c", "import time; time.sleep(600)"], 0.2)


def test_a_file_that_is_no_program_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "node"
    path.write_bytes(b"\x00")
    path.chmod(0o755)
    with pytest.raises(ToolFailed, match="does not start"):
        run([str(path)], 30)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The programs are all installed and answer as captured; hashcat does so only when forced."""
    asked: list[list[str]] = []

    def answer(command: list[str], time_limit: float) -> str:
        asked.append(command)
        match command[0], command[-1]:
            case _, "--version" | "version":
                return "v6.2.6\n"
            case "/hashcat", "--force":
                return HASHCAT
            case "/hashcat", _:
                raise ToolFailed("hashcat ended with status 255: You can use --force to override")
            case "/openssl", _:
                return OPENSSL
            case _:
                return NODE

    monkeypatch.setattr(shutil, "which", lambda program: f"/{program}")
    monkeypatch.setattr(tools, "run", answer)
    return asked


def test_hashcat_is_forced_only_if_it_asks_for_that(commands: list[list[str]]) -> None:
    assert Hashcat(on_gpu=False).measure(1.0) == 195_240_099
    plain = ["/hashcat", "-b", "-m", "1400", "-D", "1", "--machine-readable"]
    assert commands[1:] == [plain, [*plain, "--force"]]


def test_hashcat_on_a_gpu_is_asked_for_gpus(commands: list[list[str]]) -> None:
    gpu = Hashcat(on_gpu=True)
    gpu.measure(1.0)
    assert gpu.hardware == "GPU"
    assert commands[1][commands[1].index("-D") + 1] == "2"


def test_openssl_is_asked_for_whole_seconds_of_64_bytes(commands: list[list[str]]) -> None:
    OpenSslSpeed().measure(1.2)
    assert commands[1] == ["/openssl", "speed", "-mr", "-seconds", "2", "-bytes", "64", "-evp", "sha256"]


def test_node_runs_for_the_seconds_asked(commands: list[list[str]]) -> None:
    NodeLoop().measure(1.5)
    assert commands[1][:2] == ["/node", "-e"]
    assert commands[1][3] == "1.5"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_program_for_node_runs() -> None:
    assert NodeLoop().measure(0.05) > 0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_of_this_machine_prints_what_is_read() -> None:
    assert OpenSslSpeed().measure(1.0) > 0
