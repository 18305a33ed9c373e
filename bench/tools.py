"""Other people's programs: Node, openssl and hashcat, each run as its users run it, and what their output says."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import tempfile

from bench.python_loops import PREFIX
from bench.report import Hardware
from hashfleet.errors import HashfleetError

#: hashcat compiles its kernels in its first run, which takes PoCL half a minute.
HASHCAT_SECONDS = 240.0
_SLACK_SECONDS = 30.0
#: As long as a short prefix and nonce, padded: two compressions a hash, like a nonce of shape T.
OPENSSL_BYTES = 64

NODE_PROGRAM = """\
const {createHash} = require('crypto');
const seconds = Number(process.argv[1]), prefix = process.argv[2];
let nonce = 100000000000;
function run(seconds) {
  const began = process.hrtime.bigint();
  for (let hashes = 0; ; ) {
    for (let i = 0; i < 500; i++, hashes++, nonce++) {
      const digest = createHash('sha256').update(prefix + nonce).digest('hex');
      if (digest.startsWith('0000000000000000')) throw new Error('a hash of 16 zeros');
    }
    const elapsed = Number(process.hrtime.bigint() - began) / 1e9;
    if (elapsed >= seconds) return {hashes, seconds: elapsed};
  }
}
run(seconds / 2);
console.log(JSON.stringify(run(seconds)));
"""


class ToolFailed(HashfleetError):
    """A program is missing, failed, or said something unexpected."""


class NodeLoop:
    """What JavaScript clients of the game do."""

    id = "node"
    what = "Node: a loop of crypto.createHash"
    hardware: Hardware = "one core"
    limit = None

    def __init__(self) -> None:
        self._program = find("node")
        self.version = f"Node {_first_line(run([self._program, '--version'], _SLACK_SECONDS))}"

    def measure(self, seconds: float) -> float:
        """See `Contender.measure`."""
        command = [self._program, "-e", NODE_PROGRAM, str(seconds), PREFIX]
        return parse_node(run(command, 2 * seconds + _SLACK_SECONDS))


class OpenSslSpeed:
    """openssl's own benchmark of its assembler; it counts whole seconds only."""

    id = "openssl"
    what = "openssl speed, messages of 64 bytes"
    hardware: Hardware = "one core"
    limit = None

    def __init__(self) -> None:
        self._program = find("openssl")
        self.version = _first_line(run([self._program, "version"], _SLACK_SECONDS))

    def measure(self, seconds: float) -> float:
        """See `Contender.measure`."""
        whole = math.ceil(seconds)
        command = [self._program, "speed", "-mr", "-seconds", str(whole), "-bytes", str(OPENSSL_BYTES)]
        return parse_openssl(run([*command, "-evp", "sha256"], whole + _SLACK_SECONDS))


class Hashcat:
    """hashcat's benchmark of SHA-256, which takes as long as it likes."""

    limit = None

    def __init__(self, on_gpu: bool) -> None:
        self.id = "hashcat-gpu" if on_gpu else "hashcat-cpu"
        self.what = f"hashcat -b -m 1400 -D {2 if on_gpu else 1}"
        self.hardware: Hardware = "GPU" if on_gpu else "all cores"
        self._program = find("hashcat")
        self._command = [*self.what.split(), "--machine-readable"]
        self._command[0] = self._program
        self.version = f"hashcat {_first_line(run([self._program, '--version'], _SLACK_SECONDS))}"

    def measure(self, seconds: float) -> float:
        """See `Contender.measure`; `seconds` is not hashcat's to choose."""
        try:
            output = run(self._command, HASHCAT_SECONDS)
        except ToolFailed as error:
            if "--force" not in str(error):
                raise
            output = run([*self._command, "--force"], HASHCAT_SECONDS)
        return parse_hashcat(output)


def find(program: str) -> str:
    """Path of a program. Raises ToolFailed if it is not installed."""
    path = shutil.which(program)
    if path is None:
        raise ToolFailed(f"{program} is not installed")
    return path


def run(command: list[str], time_limit: float) -> str:
    """Standard output of a program that should succeed. Raises ToolFailed with the end of what it said if not."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=time_limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ToolFailed(f"{command[0]} did not end within {time_limit:.0f} s") from error
        except OSError as error:
            raise ToolFailed(f"{command[0]} does not start: {error.strerror or error}") from error
    if done.returncode != 0:
        said = " ".join((done.stdout + done.stderr).split())
        raise ToolFailed(f"{command[0]} ended with status {done.returncode}: {said[-300:] or 'it says nothing'}")
    return done.stdout


def parse_node(output: str) -> float:
    """Hashes a second, from the JSON line of NODE_PROGRAM."""
    try:
        told = json.loads(output)
        return float(told["hashes"]) / float(told["seconds"])
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise _unexpected("node", output) from error


def parse_openssl(output: str) -> float:
    """Hashes a second, from `openssl speed -mr -bytes 64`: the line +F:number:algorithm:bytes a second."""
    found = re.search(r"^\+F:\d+:[^:\n]*:([\d.]+)$", output, re.MULTILINE)
    if not found or not float(found[1]):
        raise _unexpected("openssl", output)
    return float(found[1]) / OPENSSL_BYTES


def parse_hashcat(output: str) -> float:
    """Hashes a second over all devices, from the lines device:mode:clock:memory clock:milliseconds:speed."""
    lines = re.findall(r"^\d+:1400:[^:\n]*:[^:\n]*:[\d.]+:(\d+)$", output, re.MULTILINE)
    total = sum(map(int, lines))
    if not total:
        raise _unexpected("hashcat", output)
    return float(total)


def _unexpected(program: str, output: str) -> ToolFailed:
    return ToolFailed(f"{program} printed something else than a rate: {' '.join(output.split())[:200]!a}")


def _first_line(output: str) -> str:
    return output.strip().partition("\n")[0].strip()
