"""Random histories of joins, losses, hits, blocks, pauses, moved anchors, restarts: whatever happens, promises hold.

`Play.tell` checks the invariants of conftest.check_invariants after every event: among them, that no nonce is granted
twice at once. The rules here add what only a history shows: nothing is skipped for good, nothing is solved twice, the
best hash is never lost while its anchor lives, and in the end every job ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools

import hypothesis.strategies as st
from hypothesis import Phase, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from coordinator.core.commands import GrantLease, SendVerdict, SubmitProof, WithdrawProof
from coordinator.core.events import (
    BlockCommitted,
    CancelRequested,
    JobsRestored,
    LeaseEnd,
    LeaseEnded,
    LeaseProgressed,
    PriorityRequested,
    ProofWithdrawn,
    SubmissionStale,
    Ticked,
    TransactionIncluded,
    Trouble,
    WithdrawalRefused,
    WorkerDraining,
    WorkerHeard,
    WorkerLost,
    WorkNotRead,
    WorkRead,
)
from coordinator.core.job import Job, JobState, Transaction, TransactionState
from coordinator.core.lease import Lease
from coordinator.core.schedule import zeros_needed
from hashfleet.action import Action, Work
from hashfleet.errors import JobNotFound
from hashfleet.job_request import Mode, Priority, StartMode
from hashfleet.proof import verify

from .conftest import Play, nonces

OBJECTS = ("5-1", "5-2", "5-3", "5-4")
#: The last two share a clock.
CLOCKS = {"5-3": "2-9/MINE", "5-4": "2-9/MINE"}
WORKERS = ("w_1", "w_2", "w_3")
INCLUDED = Transaction("AB" * 32, TransactionState.INCLUDED, 1, height=1)
#: Blocks after the anchor at which a history puts an object: 2 zeros are asked, or 3 at the largest range.
AGE = 190
RANGES = (185, 200, 210)


def find(lease: Lease, zeros: int) -> str | None:
    """A nonce of this lease with that many leading zeros, or more, among its first ones."""
    prefix = hashlib.sha256(lease.space.prefix)
    for nonce in itertools.islice(nonces(lease), 2_000):
        digest = prefix.copy()
        digest.update(nonce.encode())
        if digest.hexdigest().startswith("0" * zeros):
            return nonce
    return None


class Histories(RuleBasedStateMachine):
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.play = Play()
        self.anchors = dict.fromkeys(OBJECTS, 1000)
        self.used_up = dict.fromkeys(OBJECTS, 1000)
        self.ranges = dict.fromkeys(OBJECTS, 200)
        self.play.block(1000 + AGE)
        self.number = 0
        #: Every lease granted since the last restart, and how much of each is searched.
        self.old_leases: list[Lease] = []
        self.searched: dict[str, int] = {}
        #: What is on its way, and every (puzzle, nonce) that was handed to the lane since the last restart.
        self.submitted: list[tuple[str, Work]] = []
        self.sent: set[tuple[Work, str]] = set()
        #: Jobs whose proof is to be withdrawn, until the lane has answered.
        self.withdrawals: dict[str, None] = {}
        #: Most zeros that were accepted, by job and prefix.
        self.accepted: dict[tuple[str, bytes], int] = {}
        self.hits: list[tuple[Lease, str]] = []
        #: Prefixes that each job had, in order; and jobs that were shown an earlier one again by a node that lags.
        self.prefixes: dict[str, list[bytes]] = {}
        self.went_back: set[str] = set()
        self.seen = 0
        self.play.join("w_1", rate=2000.0, devices=2)
        self.submit_one("5-1", StartMode.RACE, Mode.SUBMIT)

    # ---- the chain as it is

    def work(self, object_id: str, *, lagging: bool = False) -> Work:
        anchor = self.used_up[object_id] if lagging else self.anchors[object_id]
        return Work(Action.BUILD, object_id, anchor, self.ranges[object_id])

    def mates(self, object_id: str) -> list[str]:
        clock = CLOCKS.get(object_id)
        return [object_id] if clock is None else [other for other in OBJECTS if CLOCKS.get(other) == clock]

    def tell_work(self, job_id: str, *, lagging: bool = False) -> None:
        job = self.play.machine.job(job_id)
        if job is not None:
            object_id = job.request.object_id
            work = self.work(object_id, lagging=lagging)
            clock = CLOCKS.get(object_id, "")
            self.play.tell(WorkRead(self.play.now, job_id, work, frozenset({object_id, "2-9"}), clock))

        self.note_prefixes()

    def note_prefixes(self) -> None:
        for job_id, entry in self.play.machine.state.entries.items():
            if entry.job.work is not None:
                known = self.prefixes.setdefault(job_id, [])
                if entry.job.work.prefix not in known:
                    known.append(entry.job.work.prefix)
                elif known[-1] != entry.job.work.prefix:
                    self.went_back.add(job_id)

    def job(self, job_id: str) -> Job | None:
        return self.play.machine.job(job_id)

    # ---- rules

    def submit_one(self, object_id: str, start_mode: StartMode, mode: Mode, weight: int = 1) -> str:
        self.number += 1
        job_id = f"pow_{self.number}"
        if (Action.BUILD, object_id) not in self.play.machine.state.claims:
            self.play.submit(self.work(object_id), job_id, start_mode=start_mode, mode=mode, weight=weight)
            self.tell_work(job_id)
        return job_id

    @rule(
        target=jobs,
        object_id=st.sampled_from(OBJECTS),
        start_mode=st.sampled_from(StartMode),
        mode=st.sampled_from(Mode),
        weight=st.integers(1, 3),
    )
    def submit(self, object_id: str, start_mode: StartMode, mode: Mode, weight: int) -> str:
        return self.submit_one(object_id, start_mode, mode, weight)

    @rule(job_id=jobs, lagging=st.booleans())
    def read(self, job_id: str, lagging: bool) -> None:
        self.tell_work(job_id, lagging=lagging)

    @rule()
    def answer_all(self) -> None:
        for job_id in sorted(self.play.machine.state.asked):
            self.tell_work(job_id)

    @rule(job_id=jobs, trouble=st.sampled_from([Trouble.PAUSED, Trouble.UNAVAILABLE]))
    def trouble(self, job_id: str, trouble: Trouble) -> None:
        if self.job(job_id) is not None:
            self.play.tell(WorkNotRead(self.play.now, job_id, trouble, "not now"))

    @rule(object_id=st.sampled_from(OBJECTS))
    def move_anchor(self, object_id: str) -> None:
        for mate in self.mates(object_id):
            self.used_up[mate] = self.anchors[mate]
            self.anchors[mate] = max(self.play.height - AGE, self.anchors[mate] + 1)

    @rule(object_id=st.sampled_from(OBJECTS), difficulty_range=st.sampled_from(RANGES))
    def change_range(self, object_id: str, difficulty_range: int) -> None:
        self.ranges[object_id] = difficulty_range

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

    @rule(seconds=st.sampled_from([1.0, 20.0, 100.0]))
    def tick(self, seconds: float) -> None:
        self.play.now += seconds
        self.play.tell(Ticked(self.play.now))

    @rule(touched=st.one_of(st.none(), st.frozensets(st.sampled_from([*OBJECTS, "2-9", "9-1"]))))
    def block(self, touched: frozenset[str] | None) -> None:
        self.play.height, self.play.now = self.play.height + 1, self.play.now + 5.0
        self.play.tell(BlockCommitted(self.play.now, self.play.height, self.play.now, touched))

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
    @rule(data=st.data(), zeros=st.integers(0, 3), worker=st.sampled_from(WORKERS))
    def hit(self, data: st.DataObject, zeros: int, worker: str) -> None:
        """Good, weak, late (the lease may be lost or its anchor gone), or from a worker who does not hold it."""
        lease = data.draw(st.sampled_from(self.old_leases[-8:]))
        nonce = find(lease, min(zeros, lease.zeros))
        if nonce is not None:
            self.claim(lease, nonce, worker)

    @precondition(lambda self: self.old_leases)
    @rule(data=st.data(), nonce=st.integers(0, 10**6))
    def false_hit(self, data: st.DataObject, nonce: int) -> None:
        self.claim(data.draw(st.sampled_from(self.old_leases[-8:])), f"{nonce}")

    @precondition(lambda self: self.hits)
    @rule(data=st.data())
    def hit_again(self, data: st.DataObject) -> None:
        lease, nonce = data.draw(st.sampled_from(self.hits[-8:]))
        self.claim(lease, nonce)

    def claim(self, lease: Lease, nonce: str, worker: str | None = None) -> None:
        job = self.job(lease.job_id)
        self.hits.append((lease, nonce))
        commands = self.play.hit(lease, nonce, worker)
        accepted = any(isinstance(command, SendVerdict) and command.rejection is None for command in commands)
        if accepted:
            assert job is not None and job.work is not None
            key = (job.job_id, job.work.prefix)
            zeros = verify(job.work.prefix, nonce).zeros
            assert zeros > 0
            self.accepted[key] = max(zeros, self.accepted.get(key, 0))

    @rule(job_id=consumes(jobs))
    def cancel(self, job_id: str) -> None:
        with contextlib.suppress(JobNotFound):
            self.play.tell(CancelRequested(self.play.now, job_id))

    @precondition(lambda self: self.withdrawals)
    @rule(data=st.data(), withdrawn=st.booleans())
    def answer_withdrawal(self, data: st.DataObject, withdrawn: bool) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.withdrawals)))
        del self.withdrawals[job_id]
        before = self.job(job_id)
        self.play.tell((ProofWithdrawn if withdrawn else WithdrawalRefused)(self.play.now, job_id))
        if before is not None and withdrawn:
            assert self.play.stored[job_id].state is JobState.CANCELLED, "a withdrawn proof leaves its job unfinished"
        elif before is not None:
            assert self.play.stored[job_id].state is before.state is JobState.SUBMITTING

    @rule(job_id=jobs, priority=st.sampled_from(Priority))
    def prioritise(self, job_id: str, priority: Priority) -> None:
        with contextlib.suppress(JobNotFound):
            self.play.tell(PriorityRequested(self.play.now, job_id, priority))

    @rule(job_id=jobs, end=st.sampled_from(["included", "moved", "range rose", "refused"]))
    def settle(self, job_id: str, end: str) -> None:
        job = self.job(job_id)
        if job is None or job.state is not JobState.SUBMITTING or job.work is None:
            return
        if end == "included":
            self.include(job)
            return
        self.submitted = [one for one in self.submitted if one[0] != job_id]
        if end == "moved":
            self.move_anchor(job.request.object_id)
        elif end == "range rose":
            self.ranges[job.request.object_id] = 260
        else:
            # of no use for this very puzzle; a lesser one beside it is what is left
            self.accepted[job_id, job.work.prefix] = 0 if job.best is None else job.best.proof.zeros
        self.play.tell(SubmissionStale(self.play.now, job_id, end))

    def include(self, job: Job) -> None:
        self.move_anchor(job.request.object_id)
        self.play.tell(TransactionIncluded(self.play.now, job.job_id, INCLUDED))

    @rule()
    def restart(self) -> None:
        """kill -9: what was stored is all there is."""
        unfinished = tuple(job for job in self.play.stored.values() if not job.state.final)
        again = Play(now=self.play.now, stored=dict(self.play.stored))
        again.machine.state.salt = self.play.machine.state.salt + 1
        self.play, height, self.seen = again, self.play.height, 0
        self.submitted.clear()
        self.sent.clear()
        self.withdrawals.clear()
        self.old_leases.clear()
        self.hits.clear()
        self.play.tell(JobsRestored(again.now, unfinished))
        self.play.block(height)

    # ---- promises

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
                assert (command.work, command.proof.nonce) not in self.sent, "a proof is sent twice"
                self.sent.add((command.work, command.proof.nonce))
                assert self.play.stored[command.job_id].found is not None, "a proof is submitted before it is stored"
                assert command.proof.zeros >= zeros_needed(command.work, self.play.height), "a proof is too weak"
            elif isinstance(command, WithdrawProof):
                assert command.job_id not in self.withdrawals, "a proof is withdrawn twice"
                self.withdrawals[command.job_id] = None
        self.seen = len(self.play.commands)

    @invariant()
    def the_best_hash_is_never_lost(self) -> None:
        for entry in self.play.machine.state.entries.values():
            job = entry.job
            if job.work is None or job.job_id in self.went_back:
                continue
            kept = max((f.proof.zeros for f in (job.best, job.found) if f is not None), default=0)
            assert kept >= self.accepted.get((job.job_id, job.work.prefix), 0)
            stored = self.play.stored[job.job_id]
            assert (stored.best, stored.found) == (job.best, job.found), "a hash is used before it is stored"

    @invariant()
    def one_clock_is_worked_on_once(self) -> None:
        working: dict[str, str] = {}
        for job_id, entry in self.play.machine.state.entries.items():
            if entry.clock and entry.job.state in (JobState.RUNNING, JobState.SUBMITTING) and entry.checked:
                assert entry.clock not in working, "two jobs void each other"
                working[entry.clock] = job_id

    @invariant()
    def who_waits_has_a_reason(self) -> None:
        state = self.play.machine.state
        for job_id, entry in state.entries.items():
            job = entry.job
            read_soon = job_id in state.asked or entry.wanted is not None or entry.retry_at > 0
            if job.state is JobState.QUEUED:
                assert read_soon or (entry.solved and job.error), "a queued job is forgotten"
            elif job.state is JobState.WAITING and entry.checked:
                assert job.start_height is not None
                later = job.start_height > self.play.height and entry.wake_at > self.play.height
                assert read_soon or job.error or later, "a waiting job is forgotten"

    @invariant()
    def nothing_is_skipped(self) -> None:
        """Of every extranonce a live job was given: what is searched, leased and returned leaves no gap."""
        state = self.play.machine.state
        for lease in state.leases.values():
            self.searched[lease.lease_id] = max(self.searched.get(lease.lease_id, 0), lease.done)
        for entry in state.entries.values():
            if entry.job.work is None or entry.job.job_id in self.went_back:
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

    def teardown(self) -> None:
        """From wherever the history led: if the chain answers and workers hash, every job ends."""
        self.every_command_is_lawful()
        play = self.play
        play.join("w_last", rate=2000.0, devices=3)
        for _ in range(120):
            state = play.machine.state
            if not state.entries:
                return
            for job_id in sorted(state.asked):
                self.tell_work(job_id)
            for entry in list(state.entries.values()):
                if entry.job.state is JobState.SUBMITTING:
                    self.include(entry.job)
            for lease in list(state.leases.values()):
                if lease.worker_id == "w_last" and lease.lease_id in state.leases and not lease.cancelled:
                    nonce = find(lease, lease.zeros)
                    if nonce is not None:
                        self.claim(lease, nonce)
                    play.tell(LeaseEnded(play.now, "w_last", lease.lease_id, lease.range.count, LeaseEnd.EXHAUSTED))
            self.play.tell(WorkerHeard(play.now, "w_last"))
            self.block(None)
            self.tick(1.0)
            self.every_command_is_lawful()
        raise AssertionError(f"these jobs do not end: {[entry.job for entry in play.machine.state.entries.values()]}")


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=300,
    stateful_step_count=60,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # explaining takes minutes here
)
