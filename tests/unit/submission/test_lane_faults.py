"""The lane under random faults: lost answers, late inclusion, forgetful mempools, stolen sequences, rivals, crashes.

Every history is made from a seed, so a failure names the seed that repeats it.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coordinator.submission.decision import MAX_FAILURES
from coordinator.submission.keys import SigningKey
from coordinator.submission.lane import GaveUp, Included, Settings, Stale, Submission
from coordinator.submission.outcome import Reassigned, claim_of
from hashfleet.action import Action, Work
from hashfleet.errors import ChainUnavailable, KeyProblem, WorkPaused
from hashfleet.proof import Proof, verify

JOBS = 9
#: Blocks with faults, then the most blocks without until everything must have ended.
BAD_BLOCKS = 60
GOOD_BLOCKS = 120


class Crash(BaseException):
    """The process is gone."""


class History:
    """A coordinator, a chain and a lane to which things happen."""

    def __init__(self, scene: Any, seed: int, keys: tuple[SigningKey, ...] = (), batch: int = 1) -> None:
        """Without keys there is one lane; with them each has one, and their rights come and go."""
        self.scene, self.random = scene, random.Random(seed)
        self.keys = keys
        scene.settings = Settings(batch=batch, sends_per_block=5 if batch == 1 else 2)
        self.faults = True
        self.waiting: dict[str, Submission] = {}
        self.ended: dict[str, str] = {}
        self.proofs: dict[bytes, Proof] = {}
        self.paused: dict[tuple[Action, str], Work] = {}
        self.rivals: set[str] = set()
        self.crashes = self.reassigned = 0
        scene._hear = self.hear
        scene.chain.interrupt = scene.ledger.interrupt = self.interrupt

    async def interrupt(self, call: str) -> None:
        """Before and after every call to chain and ledger."""
        if not self.faults:
            return
        chance = self.random.random()
        if chance < 0.01:
            raise Crash(call)
        if chance < 0.03 and call in ("account", "find_transaction", "read_work", "latest_block", "broadcast"):
            raise ChainUnavailable(f"{call}: no answer in time")
        if chance < 0.2:
            await asyncio.sleep(0)

    async def hear(self, outcome: Any) -> None:
        await self.interrupt("on_outcome")
        job_id = outcome.job_id
        assert job_id not in self.ended or not isinstance(outcome, GaveUp | Stale), f"{job_id} ended twice"
        if isinstance(outcome, Included | GaveUp):
            self.ended[job_id] = type(outcome).__name__
            self.waiting.pop(job_id, None)
        elif isinstance(outcome, Stale):
            self.mine_again(job_id)
        elif isinstance(outcome, Reassigned) and job_id in self.waiting:
            self.waiting[job_id] = replace(self.waiting[job_id], signer=outcome.signer)
            self.reassigned += 1

    def mine_again(self, job_id: str) -> None:
        """What the coordinator does with a stale proof: read the work, search, submit."""
        old = self.waiting[job_id]
        key = old.work.action, old.work.object_id
        work = self.paused.get(key) or self.scene.chain.works.get(key)
        if isinstance(work, Work):
            assert work.anchor != old.work.anchor, f"{job_id} was told stale, but its anchor stands"
            self.waiting[job_id] = Submission(job_id, work, self.find(work), old.priority, old.signer)
            self.scene.lane.submit(self.waiting[job_id])
        else:
            self.ended[job_id] = "GaveUp"
            del self.waiting[job_id]

    def find(self, work: Work) -> Proof:
        if work.prefix not in self.proofs:
            numbers = range(10**6)
            self.proofs[work.prefix] = next(p for n in numbers if (p := verify(work.prefix, str(n))).zeros >= 1)
        return self.proofs[work.prefix]

    def befall(self) -> None:
        """What may happen to the chain between two blocks."""
        chain, chance = self.scene.chain, self.random.random
        chain.includes = chance() < 0.75
        chain.index_lag = 1 if chance() < 0.4 else 0
        if chance() < 0.1:
            chain.mempool.clear()
        if chance() < 0.15:
            chain.foreign_pending += 1
        if chance() < 0.3:
            chain.next_broadcasts.append(
                self.random.choice(["lost before", "lost after", ("structs-ante", 2031), ("sdk", 20), ("sdk", 32)])
            )
        if chance() < 0.1:
            chain.next_results.append(self.random.choice([("structs", 1800), ("structs", 1201)]))
        if chance() < 0.08:
            action, object_id = self.random.choice(list(chain.works)) if chain.works else (Action.MINE, "")
            if isinstance(chain.works.get((action, object_id)), Work):
                chain.rival_completes(action, object_id)
                self.rivals.add(object_id)
        if chance() < 0.15:
            self.pause_or_go_on()
        if self.keys and chance() < 0.2:
            address = self.random.choice(self.keys).address
            if chain.rights.pop(address, None) is None:
                chain.rights[address] = KeyProblem("the owner withdrew the permission")

    def pause_or_go_on(self) -> None:
        chain = self.scene.chain
        if self.paused:
            key, work = self.paused.popitem()
            chain.works[key] = replace(work, anchor=work.anchor)
        elif chain.works:
            key = self.random.choice(list(chain.works))
            work = chain.works[key]
            if isinstance(work, Work):
                self.paused[key] = work
                chain.works[key] = WorkPaused(f"{key[1]} is under raid")

    async def step(self) -> None:
        """One block; a crash restarts lane and coordinator, which submits again what has not ended."""
        scene = self.scene
        scene.chain.commit()
        scene.lane.block_seen(scene.chain.height)
        for _ in range(60):
            await asyncio.sleep(0)
            if scene.task.done():
                break
        while scene.task.done():
            failed = scene.task.exception()
            while isinstance(failed, BaseExceptionGroup):
                failed = failed.exceptions[0]
            assert isinstance(failed, Crash), failed
            self.crashes += 1
            await self.restart()
            for _ in range(60):
                await asyncio.sleep(0)

    async def restart(self) -> None:
        while True:
            try:
                # A key may also be gone from the configuration after a restart.
                some = self.random.sample(self.keys, self.random.randint(1, len(self.keys))) if self.keys else ()
                await self.scene.start(self.scene.make_lanes(some if self.faults else self.keys) if self.keys else None)
            except (Crash, ChainUnavailable):
                continue
            break
        again = list(self.waiting.values())
        self.random.shuffle(again)
        for submission in again:
            self.scene.lane.submit(submission)

    async def run(self) -> None:
        scene = self.scene
        for number in range(JOBS):
            action = self.random.choice([Action.MINE, Action.BUILD])
            submission = scene.pose(number, action=action, priority=self.random.choice([1, 2, 3]))
            if self.keys:
                submission = replace(submission, signer=self.random.choice(self.keys).address)
            self.waiting[submission.job_id] = submission
        await self.restart()
        for _ in range(BAD_BLOCKS):
            self.befall()
            await self.step()
        self.faults = False
        chain = scene.chain
        chain.rights.clear()
        if self.keys:  # with all keys again: a transaction of a missing one is nobody's to count sequences for
            await scene.stop()
            await self.restart()
        chain.includes, chain.index_lag = True, 0
        chain.next_broadcasts.clear()
        chain.next_results.clear()
        while self.paused:
            self.pause_or_go_on()
        for _ in range(GOOD_BLOCKS):
            if not self.waiting and not scene.lane.in_flight:
                break
            await self.step()
        await scene.stop()


KEYS = tuple(SigningKey(bytes(range(start, start + 32))) for start in (1, 2, 3))
#: Lanes and proofs in a transaction at most.
WAYS: dict[str, tuple[tuple[SigningKey, ...], int]] = {
    "one lane": ((), 1),
    "one lane, batches": ((), 4),
    "three lanes": (KEYS, 1),
    "three lanes, batches": (KEYS, 4),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first_seed", range(0, 100, 50))
async def test_whatever_fails_one_anchor_gets_one_transaction_and_every_job_ends(
    first_seed: int, way: str, make_scene: Callable[[], Any]
) -> None:
    crashes = reassigned = together = 0
    keys, batch = WAYS[way]
    for seed in range(first_seed, first_seed + 50):
        history = History(make_scene(), seed, keys, batch)
        await history.run()
        chain, lane = history.scene.chain, history.scene.lane
        # Sets: after a crash within a block the same bytes may be signed again, and have a second row.
        claims: defaultdict[str, set[Any]] = defaultdict(set)
        for row in history.scene.ledger.rows:
            if row.tx_hash is not None:
                claims[row.tx_hash].add(claim_of(row.work))
        assert all(tx_hash in claims for tx_hash, _ in chain.executed)  # every one is in the ledger
        executed = [(claim, code) for tx_hash, code in chain.executed for claim in claims[tx_hash]]
        successes = Counter(claim for claim, code in executed if code == 0)
        assert all(count == 1 for count in successes.values()), f"seed {seed}: two transactions for one anchor"
        landed = {claim[0] for claim in successes}
        for number in range(JOBS):
            job_id, object_id = f"pow_{number}", f"5-{number}"
            assert job_id in history.ended, f"seed {seed}: {job_id} never ended: {history.waiting}"
            if object_id in landed:
                assert history.ended[job_id] == "Included", f"seed {seed}: {job_id} landed, but was {history.ended}"
            else:
                failed = [row for row in history.scene.ledger.rows if row.job_id == job_id and row.code == 1800]
                reason = object_id in history.rivals or len(failed) >= MAX_FAILURES
                assert reason, f"seed {seed}: {job_id} was given up without a reason"
        # What is sent once a claim has landed could only fail: no transaction is wasted so.
        after: set[Any] = set()
        for claim, code in executed:
            assert claim not in after, f"seed {seed}: a second transaction for {claim}, after the first had landed"
            if code == 0:
                after.add(claim)
        assert (lane.waiting, lane.in_flight) == (0, 0), f"seed {seed}: the lane has not ended"
        assert not [row for row in history.scene.ledger.rows if row.state.live], f"seed {seed}: a live row is left"
        crashes += history.crashes
        reassigned += history.reassigned
        together += sum(len(landed) > 1 for landed in claims.values())
    # Or these histories tell nothing about crashes, keys and batches.
    assert crashes > 50
    assert reassigned > 50 or not keys
    assert together > 50 or batch == 1
