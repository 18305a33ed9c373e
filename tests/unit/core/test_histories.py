"""Random histories of joins, losses, hits, blocks, restarts: whatever happens, the promises hold.

`Play.tell` checks the invariants of conftest.check_invariants after every event: among them, that no nonce is granted
twice at once. The rules here add what only a history shows.
"""

from __future__ import annotations

import contextlib

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from coordinator.core.commands import GrantLease, SubmitProof
from coordinator.core.events import (
    CancelRequested,
    JobsRestored,
    LeaseEnd,
    LeaseEnded,
    LeaseProgressed,
    SubmissionStale,
    Ticked,
    TransactionIncluded,
    WorkerDraining,
    WorkerLost,
)
from coordinator.core.job import JobState, Transaction, TransactionState
from coordinator.core.lease import Lease
from coordinator.core.schedule import zeros_needed
from hashfleet.action import Action, Work
from hashfleet.errors import JobFinal, JobNotFound

from .conftest import Play, solve

OBJECTS = ("5-1", "5-2", "5-3")
WORKERS = ("w_1", "w_2", "w_3")
INCLUDED = Transaction("AB" * 32, TransactionState.INCLUDED, 1, height=1)


class Histories(RuleBasedStateMachine):
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.play = Play()
        self.anchors = dict.fromkeys(OBJECTS, 1000)
        self.play.block(1190)
        self.number = 0
        #: Every lease granted since the last restart, and how much of each is searched.
        self.old_leases: list[Lease] = []
        self.searched: dict[str, int] = {}
        self.submitted: list[tuple[str, Work]] = []
        self.seen = 0
        self.play.join("w_1", rate=2000.0, devices=2)
        self.play.submit(self.work("5-1"), "pow_0")
        self.play.read(self.work("5-1"), "pow_0")

    def work(self, object_id: str) -> Work:
        return Work(Action.BUILD, object_id, self.anchors[object_id], 200)

    @rule(target=jobs, object_id=st.sampled_from(OBJECTS))
    def submit(self, object_id: str) -> str:
        self.number += 1
        job_id = f"pow_{self.number}"
        if (Action.BUILD, object_id) not in self.play.machine.state.claims:
            self.play.submit(self.work(object_id), job_id)
            self.play.read(self.work(object_id), job_id)
        return job_id

    @rule(job_id=jobs)
    def read(self, job_id: str) -> None:
        job = self.play.machine.job(job_id)
        if job is not None:
            self.play.read(self.work(job.request.object_id), job_id)

    @rule(object_id=st.sampled_from(OBJECTS))
    def move_anchor(self, object_id: str) -> None:
        self.anchors[object_id] = self.play.height - 190

    @rule(worker=st.sampled_from(WORKERS), devices=st.integers(1, 3), rate=st.sampled_from([2000.0, 20_000.0]))
    def join(self, worker: str, devices: int, rate: float) -> None:
        """At the higher rate, difficulty 2 is a small job."""
        self.play.join(worker, rate=rate, devices=devices)

    @rule(worker=st.sampled_from(WORKERS))
    def lose(self, worker: str) -> None:
        self.play.tell(WorkerLost(self.play.now, worker))

    @rule(worker=st.sampled_from(WORKERS))
    def drain(self, worker: str) -> None:
        self.play.tell(WorkerDraining(self.play.now, worker))

    @rule(seconds=st.sampled_from([1.0, 20.0]))
    def tick(self, seconds: float) -> None:
        self.play.now += seconds
        self.play.tell(Ticked(self.play.now))

    @rule()
    def block(self) -> None:
        self.play.block(self.play.height + 1)

    @precondition(lambda self: self.old_leases)
    @rule(data=st.data(), part=st.floats(0, 1.2), end=st.sampled_from([None, *LeaseEnd]))
    def report(self, data: st.DataObject, part: float, end: LeaseEnd | None) -> None:
        lease = data.draw(st.sampled_from(self.old_leases[-8:]))
        done = int(lease.range.count * part)
        if end is None:
            self.play.tell(LeaseProgressed(self.play.now, lease.worker_id, lease.lease_id, done, 2000.0))
        else:
            held = self.play.machine.state.leases.get(lease.lease_id)
            if held is not None:
                self.searched[lease.lease_id] = min(max(held.done, done), lease.range.count)
            self.play.tell(LeaseEnded(self.play.now, lease.worker_id, lease.lease_id, done, end))

    @precondition(lambda self: self.old_leases)
    @rule(data=st.data(), zeros=st.integers(0, 2), worker=st.sampled_from(WORKERS))
    def hit(self, data: st.DataObject, zeros: int, worker: str) -> None:
        lease = data.draw(st.sampled_from(self.old_leases[-8:]))
        self.play.hit(lease, solve(lease, min(zeros, lease.zeros)), worker)

    @rule(job_id=consumes(jobs))
    def cancel(self, job_id: str) -> None:
        with contextlib.suppress(JobNotFound, JobFinal):
            self.play.tell(CancelRequested(self.play.now, job_id))

    @rule(job_id=jobs, stale=st.booleans())
    def settle(self, job_id: str, stale: bool) -> None:
        job = self.play.machine.job(job_id)
        if job is None or job.state is not JobState.SUBMITTING:
            return
        if stale:
            self.submitted = [s for s in self.submitted if s[0] != job_id]
            self.play.tell(SubmissionStale(self.play.now, job_id, "moved"))
        else:
            self.play.tell(TransactionIncluded(self.play.now, job_id, INCLUDED))

    @rule()
    def restart(self) -> None:
        """kill -9: what was stored is all there is."""
        unfinished = tuple(job for job in self.play.stored.values() if not job.state.final)
        again = Play(now=self.play.now, stored=dict(self.play.stored))
        again.machine.state.salt = self.play.machine.state.salt + 1
        self.play, height, self.seen = again, self.play.height, 0
        self.submitted.clear()
        self.old_leases.clear()
        self.play.tell(JobsRestored(again.now, unfinished))
        self.play.block(height)

    @invariant()
    def every_command_is_lawful(self) -> None:
        for command in self.play.commands[self.seen :]:
            if isinstance(command, GrantLease):
                self.old_leases.append(command.lease)
                self.searched[command.lease.lease_id] = 0
            elif isinstance(command, SubmitProof):
                claim = (command.job_id, command.work)
                assert claim not in self.submitted, "a job is solved twice"
                self.submitted.append(claim)
                assert self.play.stored[command.job_id].found is not None, "a proof is submitted before it is stored"
                assert command.proof.zeros >= zeros_needed(command.work, self.play.height), "a proof is too weak"
        self.seen = len(self.play.commands)

    @invariant()
    def nothing_is_skipped(self) -> None:
        """Of every extranonce a live job was given: what is searched, leased and returned leaves no gap."""
        state = self.play.machine.state
        for lease in state.leases.values():
            self.searched[lease.lease_id] = max(self.searched.get(lease.lease_id, 0), lease.done)
        for entry in state.entries.values():
            if entry.job.work is None:
                continue
            parts: dict[str, list[tuple[int, int]]] = {}
            granted = [
                lease
                for lease in self.old_leases
                if lease.job_id == entry.job.job_id and lease.space.prefix == entry.job.work.prefix
            ]
            for lease in granted:
                start = lease.range.start
                parts.setdefault(lease.range.extranonce, []).append((start, start + self.searched[lease.lease_id]))
                if lease.lease_id in state.leases:
                    rest = (start + state.leases[lease.lease_id].done, start + lease.range.count)
                    parts[lease.range.extranonce].append(rest)
            for left in entry.returned:
                parts[left.extranonce].append((left.start, left.start + left.count))
            for extranonce, intervals in parts.items():
                end = max(x.range.start + x.range.count for x in granted if x.range.extranonce == extranonce)
                reached = 0
                for start, stop in sorted(intervals):
                    assert start <= reached, f"counters {reached} to {start} of {extranonce} are skipped"
                    reached = max(reached, stop)
                assert reached == end


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
