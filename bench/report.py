"""What a benchmark gives: the shape of `--json`, of bench/results/*.json and of what the document is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bench import samples
from hashfleet.errors import InvalidInput

Hardware = Literal["one core", "all cores", "GPU"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Machine(_Model):
    """Where it was measured."""

    #: As the CPU names itself.
    cpu: str
    #: Cores that the benchmark may run on.
    cores: int
    #: Names of the GPUs that were measured or could have been.
    gpus: tuple[str, ...] = ()
    #: Operating system and kernel.
    platform: str
    python: str


class Made(_Model):
    """When, of what and where."""

    #: UTC, ISO 8601 to the second.
    date: str
    hashfleet: str
    #: git's short hash, "+changes" behind it if files differed from it; None outside a checkout.
    commit: str | None
    machine: Machine
    #: Load average of the minute before: what others did on the machine.
    load: float


class Limit(_Model):
    """What the hardware could do at most with this amount of work per hash."""

    #: Hashes a second; None if it was not measured here.
    rate: float | None
    #: How it was computed, or why it was not.
    how: str


class Figure(_Model):
    """One contender's hash rate."""

    #: Unique within a report: "hashlib", "cpu-1/T".
    id: str
    #: For people.
    what: str
    hardware: Hardware
    #: Hashes a second, one value a round.
    rounds: tuple[float, ...] = Field(min_length=1)
    #: Cores that others used meanwhile, one value a round.
    others: tuple[float, ...] = ()
    #: Version of the tool, or driver of the device.
    version: str
    limit: Limit | None = None
    #: Id of another contender -> how many times as fast this one is; median over the rounds.
    ratios: dict[str, float] = {}

    @property
    def rate(self) -> float:
        """Median hashes a second."""
        return samples.median(self.rounds)

    @property
    def spread(self) -> float:
        """How far the rounds lie apart, over the median."""
        return samples.spread(self.rounds)


class NotMeasured(_Model):
    """Said, not left out."""

    what: str
    reason: str


class KernelsReport(_Model):
    """`hashfleet bench kernels`."""

    kind: Literal["kernels"] = "kernels"
    made: Made
    #: Length of a round per contender; tools that choose their own length say so in `what`.
    seconds: float
    figures: tuple[Figure, ...]
    not_measured: tuple[NotMeasured, ...]


class Times(_Model):
    """Seconds, each measured once."""

    seconds: tuple[float, ...] = Field(min_length=1)

    @property
    def median(self) -> float:
        return samples.median(self.seconds)

    @property
    def p99(self) -> float:
        return samples.percentile(self.seconds, 99)


class FleetReport(_Model):
    """`hashfleet bench fleet`: coordinator, chain and one worker with one device, all on this machine."""

    kind: Literal["fleet"] = "fleet"
    made: Made
    device: str
    driver: str
    #: Hashes a second booked by the coordinator, and of the same kind of engine alone, in turns.
    booked: tuple[float, ...] = Field(min_length=1)
    raw: tuple[float, ...] = Field(min_length=1)
    #: From the cancel call to the device being idle.
    cancel: Times
    #: From the end of one lease on the device to the beginning of the next.
    between_leases: Times

    @property
    def share(self) -> float:
        """Booked over raw; median over the rounds."""
        return samples.paired_ratio(self.booked, self.raw)


class RipeJobs(_Model):
    """Jobs that waited until one block made all of them ripe."""

    jobs: int
    #: Leading hex zeros asked for, evenly shared among the jobs.
    difficulties: tuple[int, ...]
    block_seconds: float
    #: From when the coordinator told the block until every job had a checked proof and was handed to submission.
    solving_seconds: float
    #: Transactions included by then.
    included: int
    #: Processor seconds that each process took meanwhile, by name.
    cpu_seconds: dict[str, float] = {}

    @property
    def solved_per_second(self) -> float:
        return self.jobs / self.solving_seconds


class JobsReport(_Model):
    """`hashfleet bench jobs`: many small jobs through coordinator, chain and one worker, all on this machine."""

    kind: Literal["jobs"] = "jobs"
    made: Made
    device: str
    jobs: int
    #: Leading hex zeros asked for when the chain began, evenly shared among the jobs.
    difficulties: tuple[int, ...]
    block_seconds: float
    #: Seconds from the first call until the last job was stored.
    submitting_seconds: float
    #: Jobs that had a proof checked by the coordinator, and the seconds since the first call.
    solved: int
    solving_seconds: float
    #: Transactions included by then.
    included: int
    #: Processor seconds that each process took meanwhile, by name.
    cpu_seconds: dict[str, float] = {}
    #: The same with jobs that wait for one block; None in results of before that was measured.
    ripe: RipeJobs | None = None

    @property
    def solved_per_second(self) -> float:
        return self.solved / self.solving_seconds

    @property
    def submitted_per_second(self) -> float:
        return self.jobs / self.submitting_seconds


#: What was known of the objects that a block touched.
Touched = Literal["nothing", "a handful", "unknown", "nothing, after the fleet changed"]


class HeightTimes(_Model):
    """Seconds in which the core handled blocks."""

    touched: Touched
    handled: Times


class IdleFigure(_Model):
    """A coordinator process in which very many jobs wait."""

    jobs: int
    #: Resident memory before the first job, and in the end.
    empty_bytes: int
    full_bytes: int
    #: From the first call until every job was stored and read from the chain, and waited.
    settling_seconds: float
    #: Length of the look, and the processor seconds that the process took meanwhile.
    seconds: float
    cpu_seconds: float
    #: That came meanwhile.
    blocks: int

    @property
    def bytes_above_empty(self) -> int:
        return self.full_bytes - self.empty_bytes

    @property
    def share_of_a_core(self) -> float:
        return self.cpu_seconds / self.seconds


class CoreReport(_Model):
    """`hashfleet bench core`: the coordinator with very many jobs and workers."""

    kind: Literal["core"] = "core"
    made: Made
    #: What solved the ripe jobs.
    device: str
    height_jobs: int
    heights: tuple[HeightTimes, ...]
    #: Simulated workers, one device each, of the real service in one process.
    workers: int
    #: From the report of a lease's end to the next lease in that worker's stream.
    grant: Times
    #: From a hit to the last order to stop in the streams of all devices.
    stop: Times
    wire_workers: int
    #: The same over gRPC: from writing the hit to the last order read.
    wire_stop: Times
    #: One per round, with real processes.
    ripe: tuple[RipeJobs, ...] = Field(min_length=1)
    idle: IdleFigure


class PlayersFigure(_Model):
    """The proofs of many players that were ripe at once, handed in under some number of keys."""

    name: str
    #: Signing keys, each of a player of its own. Each may sign for all owners if they are `shared`, else for its share.
    keys: int
    shared: bool = False
    #: Proofs in one transaction at most.
    batch: int
    players: int
    proofs: int
    included: int
    #: Proofs that became void before they landed, and those that were refused or failed in a block.
    stale: int
    rejected: int
    #: In blocks, and how many of them failed.
    transactions: int
    failed: int
    #: From the one before the first transaction to the last one's.
    blocks: int
    #: What the chain's limits leave.
    least_blocks: int
    #: From the first request until every proof was found and the first transactions were sent.
    found_seconds: float
    #: What the coordinator, with the devnet in the same process, took over each block.
    block_seconds: tuple[float, ...]


class PlayersReport(_Model):
    """`hashfleet bench players`: how many blocks the proofs of many players take."""

    kind: Literal["players"] = "players"
    made: Made
    #: The chain's version that the devnet behaved like.
    version: str
    figures: tuple[PlayersFigure, ...] = Field(min_length=1)


Report: TypeAlias = KernelsReport | FleetReport | JobsReport | CoreReport | PlayersReport
_ADAPTER: TypeAdapter[Report] = TypeAdapter(Annotated[Report, Field(discriminator="kind")])


def as_json(report: Report) -> str:
    """Two spaces deep, numbers of six significant digits: more is noise, and shorter files are easier to compare."""
    return json.dumps(_rounded(report.model_dump(mode="json")), indent=2, ensure_ascii=False)


def read(path: Path) -> Report:
    """A result file. Raises InvalidInput with what is wrong where."""
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InvalidInput(f"{path.name} is no benchmark result: {first['msg']} at {where}") from error


def _rounded(value: object) -> object:
    match value:
        case float():
            return float(f"{value:.6g}")
        case dict():
            return {key: _rounded(entry) for key, entry in value.items()}
        case list():
            return [_rounded(entry) for entry in value]
        case _:
            return value
