"""A coordinator's core driven by hand: every event is written out, every command is looked at."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from coordinator.core.commands import Command, GrantLease
from coordinator.core.events import (
    BlockCommitted,
    Event,
    HitReported,
    JobSubmitted,
    WorkerJoined,
    WorkRead,
)
from coordinator.core.job import Job, JobState
from coordinator.core.lease import Lease
from coordinator.core.machine import Machine
from coordinator.core.roster import DeviceOffer
from hashfleet.action import Action, Work
from hashfleet.engine import DeviceInfo, EngineKind
from hashfleet.job_request import JobRequest

NOW = 1_700_000_000.0


@dataclass
class Play:
    """The machine, a clock, and what came out so far."""

    machine: Machine = field(default_factory=lambda: Machine(salt=1234567))
    now: float = NOW
    height: int = 0
    commands: list[Command] = field(default_factory=list)
    stored: dict[str, Job] = field(default_factory=dict)

    def tell(self, event: Event) -> list[Command]:
        """Hand over one event; returns the commands that it led to."""
        out = self.machine.handle(event)
        self.stored |= out.changed
        self.commands += out.commands
        check_invariants(self.machine)
        return out.commands

    def block(self, height: int) -> list[Command]:
        gap = height - self.height if self.height else 1
        self.height, self.now = height, self.now + 5.0 * max(1, gap)
        return self.tell(BlockCommitted(self.now, height, self.now))

    def join(self, worker_id: str = "w_1", rate: float = 1e4, devices: int = 1) -> list[Command]:
        offers = tuple(DeviceOffer(DeviceInfo(f"cpu{i}", "test", EngineKind.CPU, "none"), rate) for i in range(devices))
        return self.tell(WorkerJoined(self.now, worker_id, worker_id, "1", offers))

    def submit(self, work: Work, job_id: str = "pow_1", **asked: object) -> Job:
        request = JobRequest(work.action, work.object_id, "1-11", **asked)  # type: ignore[arg-type]
        self.tell(JobSubmitted(self.now, job_id, request))
        return self.job(job_id)

    def read(self, work: Work, job_id: str = "pow_1") -> list[Command]:
        return self.tell(WorkRead(self.now, job_id, work))

    def hit(self, lease: Lease, nonce: str, worker_id: str | None = None) -> list[Command]:
        return self.tell(HitReported(self.now, worker_id or lease.worker_id, lease.lease_id, lease.job_id, nonce))

    def job(self, job_id: str = "pow_1") -> Job:
        return self.stored[job_id] if job_id not in self.machine.state.entries else self._entry_job(job_id)

    def _entry_job(self, job_id: str) -> Job:
        return self.machine.state.entries[job_id].job


def grants(commands: list[Command]) -> list[Lease]:
    return [command.lease for command in commands if isinstance(command, GrantLease)]


def nonces(lease: Lease) -> Iterator[str]:
    """Every nonce of this lease."""
    return (lease.space.nonce(counter) for counter in range(lease.range.start, lease.range.start + lease.range.count))


def solve(lease: Lease, zeros: int) -> str:
    """A nonce of this lease with that many leading zeros, or more."""
    prefix = hashlib.sha256(lease.space.prefix)
    for nonce in nonces(lease):
        digest = prefix.copy()
        digest.update(nonce.encode())
        if digest.hexdigest().startswith("0" * zeros):
            return nonce
    raise AssertionError(f"no nonce with {zeros} zeros in this lease")


def check_invariants(machine: Machine) -> None:
    """What holds after every event."""
    state = machine.state
    for job_id, entry in state.entries.items():
        job = entry.job
        assert job.job_id == job_id
        assert not job.state.final
        assert state.claims[job.request.claim] == job_id
        assert (job.start_height is not None) == (job.state is JobState.WAITING)
        assert (job.found is not None) == (job.state is JobState.SUBMITTING)
        assert (job_id in state.ripe) <= (job.state is JobState.RUNNING and entry.checked)
        assert all(state.leases[lease_id].job_id == job_id for lease_id in entry.leases)
        if job.state is not JobState.RUNNING:
            assert all(state.leases[lease_id].cancelled for lease_id in entry.leases)
    assert len(state.claims) == len(state.entries)
    assert state.ripe <= state.entries.keys()
    held = [lease_id for w in state.workers.values() for d in w.devices.values() for lease_id in d.leases]
    assert sorted(held) == sorted(state.leases)
    for worker in state.workers.values():
        for device in worker.devices.values():
            in_hand = [state.leases[lease_id] for lease_id in device.leases if not state.leases[lease_id].cancelled]
            assert device.small == sum(lease.ends_with_hit for lease in in_hand)
            assert device.large == len(in_hand) - device.small
    for job_id in state.ripe:
        entry = state.entries[job_id]
        held_by_one = any(state.leases[lease_id].ends_with_hit for lease_id in entry.leases)
        queued = entry.queue is not None and (entry.rank, job_id) in state.queues[entry.queue]
        assert held_by_one or entry.job.request.max_hashes or queued, "a job is forgotten"
    open_ranges = [
        (
            lease.space.prefix,
            lease.range.extranonce,
            lease.range.start + lease.done,
            lease.range.start + lease.range.count,
        )
        for lease in state.leases.values()
    ]
    open_ranges += [
        (entry.job.work.prefix, left.extranonce, left.start, left.start + left.count)
        for entry in state.entries.values()
        for left in entry.returned
        if entry.job.work is not None
    ]
    open_ranges.sort()
    for one, other in itertools.pairwise(open_ranges):
        assert one[:2] != other[:2] or one[3] <= other[2], "the same nonces are granted twice at once"


@pytest.fixture
def play() -> Play:
    return Play()


@pytest.fixture
def work() -> Work:
    """A build whose difficulty is 3 from age 170 on and 2 from age 184 on (range 200)."""
    return Work(Action.BUILD, "5-28", anchor=1000, range=200)


@pytest.fixture
def running(play: Play, work: Work) -> Callable[[], Lease]:
    """One worker with one device, one ripe job; gives the lease in work."""

    def start() -> Lease:
        play.block(1175)
        play.join()
        play.submit(work)
        return grants(play.read(work))[0]

    return start
