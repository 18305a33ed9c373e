"""Everything the core remembers between two events. Values only; `books` is where a job changes."""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from coordinator.core.commands import Command
from coordinator.core.job import FoundProof, Job, JobState
from coordinator.core.lease import Lease, NonceRange
from coordinator.core.room import Room
from coordinator.core.roster import Worker
from coordinator.core.schedule import ASSUMED_BLOCK_SECONDS, Pace
from hashfleet.action import Action
from hashfleet.job_request import Priority

#: Who is leased first; `order` says what stands in it.
Rank = tuple[int, int, float, float, str]
#: Which queue a ripe job stands in: the zeros its next block asks for, and whether somebody works on it already.
QueueKey = tuple[int, bool]

NO_LEASES: frozenset[str] = frozenset()


class Urgency(enum.Enum):
    """How soon the chain should be asked about a job."""

    #: Somebody waits for the answer, or hashes in the hope that nothing changed.
    NOW = "now"
    #: Only to be safe: an event should have told.
    SOME_TIME = "some time"


@dataclass(slots=True)
class Refused:
    """A proof that the lane gave back, and the range under which it did."""

    nonce: str
    range: int
    #: The best hash beside it, in case the proof is of no use any more.
    fallback: FoundProof | None


@dataclass(slots=True)
class Entry:
    """An unfinished job and what is known about it only while the coordinator runs.

    There may be 100,000 of them, nearly all waiting: what a waiting job has none of is a shared constant.
    """

    job: Job
    #: The work was read from the chain since the coordinator started, and it takes a proof; nothing is leased before.
    checked: bool = False
    #: A permission that it hangs on changed since a key was chosen, or may have: the next reading chooses anew.
    choose_signer: bool = False
    #: It stands in line to be read.
    wanted: Urgency | None = None
    #: It was asked for once more while a reading was under way, which may be older than what made us ask.
    ask_again: bool = False
    #: Committed height when the chain was asked last, and when the reading that we have was asked for.
    asked_at: int = 0
    read_at: int = 0
    #: Time before which the chain is not asked again, after it gave no work; 0 if it did.
    retry_at: float = 0.0
    #: Answers missed in a row.
    misses: int = 0
    #: Objects whose change makes the reading doubtful.
    depends_on: tuple[str, ...] = ()
    #: The clock that it shares with other works, if it does.
    clock: str = ""
    #: Height at which something is to be decided anew; 0 for never. A later one than the agenda's is no harm.
    wake_at: int = 0
    #: The chain still shows a puzzle that is solved; it is read again with the next block.
    solved: bool = False
    #: Ranges that came back unfinished, to be issued first.
    returned: tuple[NonceRange, ...] = ()
    #: Leases out, by id.
    leases: set[str] | frozenset[str] = NO_LEASES
    #: Seconds of hashing granted so far, for the current anchor.
    granted: float = 0.0
    #: When it was granted a lease last, or became ripe.
    idle_since: float = 0.0
    #: It stands in `State.aging`.
    aging: bool = False
    #: Until when hashing time is counted in job.hash_seconds.
    counted_until: float = 0.0
    #: Its place in `State.queues`; None while it wants no lease.
    rank: Rank | None = None
    queue: QueueKey | None = None
    refused: Refused | None = None
    #: The final state that it takes once its proof is withdrawn, which was asked for; None if it was not.
    leaving: JobState | None = None

    def hold(self, lease_id: str) -> None:
        """Note a lease that was granted."""
        if isinstance(self.leases, frozenset):
            self.leases = {lease_id}
        else:
            self.leases.add(lease_id)

    def let_go(self, lease_id: str) -> None:
        """Note a lease that ended."""
        if not isinstance(self.leases, frozenset):
            self.leases.discard(lease_id)
            if not self.leases:
                self.leases = NO_LEASES


@dataclass(frozen=True, slots=True)
class Head:
    """The chain's last committed block."""

    height: int
    #: Its header's time, and when we saw it: the chain's clock need not be ours.
    time: float
    seen_at: float


@dataclass(slots=True)
class Clock:
    """A clock that several works share: a success with one of them voids the others."""

    members: dict[str, None] = field(default_factory=dict)
    #: The job that is worked on.
    holder: str | None = None


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the start heights of waiting jobs were computed for."""

    rate: float
    block_seconds: float
    #: Ripe jobs by priority.
    runnable: tuple[int, ...]


@dataclass(slots=True)
class State:
    """The fleet, its jobs and the chain as seen so far."""

    #: Random part of this run's extranonces.
    salt: int
    #: Time of the last event.
    now: float = 0.0

    # ---- jobs
    entries: dict[str, Entry] = field(default_factory=dict)
    #: Which unfinished job works on which clock.
    claims: dict[tuple[Action, str], str] = field(default_factory=dict)
    #: Ids of finished jobs, oldest first.
    over: OrderedDict[str, None] = field(default_factory=OrderedDict)
    #: (height, job id): what to decide anew when. Items whose height is not the job's wake_at are dead.
    agenda: list[tuple[int, str]] = field(default_factory=list)
    #: Jobs to be decided anew now, first come first served: what they waited for has ended.
    reviews: dict[str, None] = field(default_factory=dict)
    #: Waiting jobs whose start height is still to be recomputed, those that start soonest last.
    replanning: list[str] = field(default_factory=list)
    #: What start heights were last recomputed for.
    planned_for: Circumstances | None = None

    # ---- ripe jobs
    #: Ids of jobs that are ripe, checked and may be leased.
    ripe: set[str] = field(default_factory=set)
    #: How many of them there are, by priority.
    runnable: list[int] = field(default_factory=lambda: [0] * (max(Priority) + 1))
    #: Those that want a lease, best rank first. Items whose rank or queue is not the job's are dead.
    queues: dict[QueueKey, list[tuple[Rank, str]]] = field(default_factory=dict)
    #: (time, job id): who rises by a class when, unless it was granted a lease meanwhile.
    aging: list[tuple[float, str]] = field(default_factory=list)

    # ---- what the chain says
    #: Ids of jobs whose reading is under way.
    asked: set[str] = field(default_factory=set)
    #: Ids of jobs in line to be read; those whose `wanted` says otherwise are dead.
    to_read: dict[Urgency, deque[str]] = field(default_factory=lambda: {urgency: deque() for urgency in Urgency})
    #: Ids of jobs that were read, the longest ago first.
    readings: OrderedDict[str, None] = field(default_factory=OrderedDict)
    #: (time, job id): jobs about which the chain gave no work. Items whose time is not the job's retry_at are dead.
    retries: list[tuple[float, str]] = field(default_factory=list)
    #: Which jobs hang on an object.
    dependents: dict[str, set[str]] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)
    #: Anchor that was solved last, by (action, object id) and by ("", clock); oldest first.
    solved: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict)

    # ---- the fleet
    workers: dict[str, Worker] = field(default_factory=dict)
    room: Room = field(default_factory=Room)
    #: (time, worker id, device id): devices that rest after a failure.
    resting: list[tuple[float, str, str]] = field(default_factory=list)
    next_device: int = 1
    leases: dict[str, Lease] = field(default_factory=dict)
    next_lease: int = 1
    #: Hashes a second that the fleet can bring to bear, as of the last block, tick or change of workers.
    fleet_rate: float = 0.0

    # ---- the chain's pace
    head: Head | None = None
    #: The last height at which it was not known what changed.
    blind_at: int = 0
    #: Smoothed seconds per block.
    block_seconds: float = ASSUMED_BLOCK_SECONDS
    #: True once block_seconds is a measurement.
    block_seconds_measured: bool = False

    @property
    def pace(self) -> Pace:
        """How fast the fleet and the chain are now."""
        return Pace(self.fleet_rate, self.block_seconds)

    def rivals(self, job: Job) -> int:
        """Other ripe jobs of the same or a higher class."""
        count = sum(self.runnable[: int(job.request.priority) + 1])
        return count - (job.job_id in self.ripe)


@dataclass(slots=True)
class Outbox:
    """What one event leads to: jobs to store, then commands to carry out."""

    changed: dict[str, Job] = field(default_factory=dict)
    #: Jobs whose progress or forecast moved; watchers hear of it, the store does not.
    progressed: set[str] = field(default_factory=set)
    commands: list[Command] = field(default_factory=list)

    def command(self, command: Command) -> None:
        self.commands.append(command)
