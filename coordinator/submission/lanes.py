"""All signing accounts of this coordinator: a lane each, and who signs for what. A `Submitter`.

The key for a job is chosen when its work is first read, before anything is hashed: one of those whose player owns the
object, else one of those that the owner lets do it. Keys that are equal in this take turns, because each address may
send five transactions per block and no more. A job keeps its key; one that loses its right is replaced by another, and
if there is none, the job is held with the reason.

A charter's puzzle names the player who solves it, so its proof is given to keys of that player only. If none of them
may sign any more, but another player's may, the proof is given back, and the work is read and solved anew for that one.

Without any key nothing is sent: jobs that ask for a transaction wait and say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from coordinator.chain.client import ChainClient
from coordinator.store.protocol import Store
from coordinator.submission.decision import MESSAGES_PER_PLAYER
from coordinator.submission.keys import SigningKey
from coordinator.submission.lane import Lane
from coordinator.submission.limits import Settings
from coordinator.submission.outcome import Outcome, Paused, Reassigned, Stale, Submission, claim_of
from coordinator.submission.reporter import Reporter
from coordinator.submission.submitter import SignerStatus
from coordinator.submission.withdrawal import nothing_may_land
from hashfleet.action import Action, Work
from hashfleet.errors import ChainError, InvalidInput, KeyProblem, WorkPaused

logger = logging.getLogger(__name__)

#: Why a job waits where there is no key.
NO_KEY: Final = (
    "no key may sign: the coordinator runs without signing keys; give it --key-file, or ask for the proof to be "
    "returned instead"
)
#: Proofs without a key for which one is looked for per block at most.
CHOICES_PER_BLOCK: Final = 32


class Lanes:
    """Gets proofs into the chain under several keys. Used from one event loop."""

    def __init__(
        self,
        chain: ChainClient,
        store: Store,
        keys: Sequence[SigningKey],
        *,
        clock: Callable[[], float],
        on_outcome: Callable[[Outcome], Awaitable[None]],
        settings: Settings | None = None,
    ) -> None:
        """`keys` in the order in which they are preferred; none at all only watches."""
        self._chain = chain
        self._store = store
        self._height = -1
        self._reporter = Reporter(on_outcome)
        self._lanes: dict[str, Lane] = {}
        for key in keys:
            if key.address in self._lanes:
                raise InvalidInput(f"the key of {key.address} is given twice; each should be given once")
            self._lanes[key.address] = Lane(
                chain,
                store,
                key,
                clock=clock,
                on_outcome=on_outcome,
                settings=settings,
                company=self,
                takes_orphans=not self._lanes,
            )
        #: Addresses that are known to have an account.
        self._with_account: set[str] = set()
        #: Addresses, the one chosen longest ago first.
        self._turns = list(self._lanes)
        #: Proofs whose key is not known or not here any more, by job; and what was told of them.
        self._unassigned: dict[str, Submission] = {}
        self._told: dict[str, str] = {}
        self._wake = asyncio.Event()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that it signs with, first choice first."""
        return tuple(self._lanes)

    @property
    def waiting(self) -> int:
        """Proofs that have no live transaction."""
        return len(self._unassigned) + sum(lane.waiting for lane in self._lanes.values())

    @property
    def in_flight(self) -> int:
        """Live transactions."""
        return sum(lane.in_flight for lane in self._lanes.values())

    def status(self) -> tuple[SignerStatus, ...]:
        """How each of its addresses fares, in their order."""
        return tuple(lane.status() for lane in self._lanes.values())

    async def who_may_sign(self, action: Action, object_id: str) -> tuple[str, ...]:
        """The addresses that may sign for this work, equally well; see `Submitter.who_may_sign`."""
        if not self._lanes:
            raise WorkPaused(NO_KEY)
        owner = ""
        owners: list[str] = []
        delegates: list[str] = []
        refusals: list[str] = []
        waits: list[str] = []
        for address, lane in self._lanes.items():
            if owner and lane.player_id not in ("", owner):
                continue  # a delegate at best: one question less of a thousand, where each player brings a key
            try:
                right = await self._chain.check_signer(address, action, object_id)
                lane.player_id = right.player_id
                await self._check_account(address)
            except KeyProblem as error:
                refusals.append(str(error))
                continue
            except WorkPaused as error:
                waits.append(str(error))
                continue
            if right.owns:
                owner = right.player_id
            (owners if right.owns else delegates).append(address)
        if best := owners or delegates:
            return tuple(best)
        if waits:
            raise WorkPaused("; ".join(waits))
        raise KeyProblem(refusals[0] if len(refusals) == 1 else f"no key may do it: {'; '.join(refusals)}")

    async def _check_account(self, address: str) -> None:
        """Raise WorkPaused if nothing that this address signs would be taken, because it has no account yet.

        A delegate may be registered before it has one. An account that is there stays, so each is asked for once.
        """
        if address in self._with_account:
            return
        try:
            await self._chain.account(address)
        except KeyProblem as error:
            raise WorkPaused(str(error)) from error
        self._with_account.add(address)

    async def choose_signer(self, action: Action, object_id: str, current: str = "") -> str:
        """The address that is to sign for this work; see `Submitter.choose_signer`."""
        best = await self.who_may_sign(action, object_id)
        if current in best:
            return current
        return self._in_turn(best)

    def _in_turn(self, equal: Sequence[str]) -> str:
        """Of addresses that may sign equally well, the one chosen longest ago."""
        chosen = min(equal, key=self._turns.index)
        self._turns.remove(chosen)
        self._turns.append(chosen)
        return chosen

    async def recover(self) -> None:
        """Take up the live attempts of the ledger. May be called again until it is run. Raises StoreError."""
        for lane in self._lanes.values():
            await lane.recover()

    def submit(self, submission: Submission) -> None:
        """Queue a proof with the lane of its key. A claim that is on its way already goes on as it is."""
        self._unassigned.pop(submission.job_id, None)
        claim = claim_of(submission.work)
        on_its_way = next((lane for lane in self._lanes.values() if lane.has(claim)), None)
        target = on_its_way or self._lanes.get(submission.signer or "")
        for lane in self._lanes.values():
            if lane is not target:
                lane.let_go(submission.job_id)
        if target is None:
            self._unassigned[submission.job_id] = submission
            self._wake.set()
            return
        self._told.pop(submission.job_id, None)
        target.submit(submission)

    def prioritise(self, job_id: str, priority: int) -> None:
        """The job's proof has this priority from now on."""
        if (submission := self._unassigned.get(job_id)) is not None:
            self._unassigned[job_id] = replace(submission, priority=priority)
            self._wake.set()
        for lane in self._lanes.values():
            lane.prioritise(job_id, priority)

    async def withdraw(self, job_id: str) -> bool:
        """Let go of the job's proof, unless a transaction for it may land; see `Submitter.withdraw`."""
        failed = self._failed_signings()
        attempts = await self._store.attempts_of(job_id)
        if not nothing_may_land(attempts, self._height) or self._failed_signings() != failed:
            return False
        if any(lane.is_on_its_way(job_id) for lane in self._lanes.values()):
            return False
        self._unassigned.pop(job_id, None)
        self._told.pop(job_id, None)
        for lane in self._lanes.values():
            lane.let_go(job_id)
        return True

    def _failed_signings(self) -> int:
        return sum(lane.failed_signings for lane in self._lanes.values())

    def block_seen(self, height: int) -> None:
        """A block of this height is committed."""
        self._height = max(self._height, height)
        for lane in self._lanes.values():
            lane.block_seen(height)
        if self._unassigned:
            self._wake.set()

    async def run(self) -> None:
        """Work until cancelled. Raises StoreDamaged, in a group."""
        async with asyncio.TaskGroup() as group:
            for address, lane in self._lanes.items():
                group.create_task(lane.run(), name=f"lane {address}")
            group.create_task(self._assign(), name="keys")

    # ---- what the lanes ask of each other ------------------------------------------------------------------------

    def has_lane(self, address: str) -> bool:
        """Whether some lane signs with this address."""
        return address in self._lanes

    def messages_left(self, lane: Lane) -> int:
        """Messages that the lane's player may still have on their way: a limit over all keys of a player.

        Lanes whose player is not known yet are taken for the same player's.
        """
        shared = (each for each in self._lanes.values() if not (each.player_id and lane.player_id) or _same(each, lane))
        return max(0, MESSAGES_PER_PLAYER - sum(each.messages for each in shared))

    async def reassign(self, submission: Submission, lane: Lane) -> Stale | None:
        """The chain says that the lane's key may not do this: let another lane have it; see `Company.reassign`."""
        address = await self._choose_for(submission.work, lane.address)
        if address is None:
            assert submission.work.charter is not None
            solver = submission.work.charter.solver_id
            return Stale(
                submission.job_id,
                f"player {solver} solved the charter, but no key of player {solver} may sign any more; a new search",
            )
        if address == lane.address:
            raise KeyProblem(f"the key {address} has its rights all the same; the chain should be asked again later")
        current = lane.submission_of(submission.job_id)
        if current is None or current.work != submission.work:
            return None  # withdrawn meanwhile, or about another puzzle now
        logger.info("Job %s is signed for with %s from now on, not with %s.", submission.job_id, address, lane.address)
        await self._give(current, address)
        return None

    async def _choose_for(self, work: Work, current: str = "") -> str | None:
        """The address that is to sign for a proof of this work, `current` if it may.

        None if other keys may, but none of the player who solved a charter: under theirs its proof is none. Raises what
        `choose_signer` raises; then the proof is kept, for its key may get its right back.
        """
        if work.charter is None:
            return await self.choose_signer(work.action, work.object_id, current)
        solvers: list[str] = []
        for address, lane in self._lanes.items():
            # Who may not sign, or not yet, is no choice; whether that is everybody, see below.
            with contextlib.suppress(KeyProblem, WorkPaused):
                right = await self._chain.check_signer(address, work.action, work.object_id)
                lane.player_id = right.player_id
                await self._check_account(address)
                if right.player_id == work.charter.solver_id:
                    solvers.append(address)
        if current in solvers:
            return current
        if solvers:
            return self._in_turn(solvers)
        await self.who_may_sign(work.action, work.object_id)
        return None

    # ---- proofs without a key ------------------------------------------------------------------------------------

    async def _assign(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for submission in list(self._unassigned.values())[:CHOICES_PER_BLOCK]:
                try:
                    address = await self._choose_for(submission.work)
                except (KeyProblem, ChainError) as error:
                    if self._unassigned.get(submission.job_id) is submission:
                        del self._unassigned[submission.job_id]
                        self._unassigned[submission.job_id] = submission  # the others' turn comes first
                        await self._tell_paused(submission, str(error))
                    continue
                if self._unassigned.get(submission.job_id) is not submission:
                    continue
                if address is None:
                    # Any lane finds that out at its door, but looks first whether it landed before.
                    del self._unassigned[submission.job_id]
                    next(iter(self._lanes.values())).submit(submission)
                else:
                    await self._give(submission, address)

    async def _give(self, submission: Submission, address: str) -> None:
        self.submit(replace(submission, signer=address))
        await self._reporter.tell(Reassigned(submission.job_id, address))

    async def _tell_paused(self, submission: Submission, reason: str) -> None:
        if self._told.get(submission.job_id) != reason:
            self._told[submission.job_id] = reason
            await self._reporter.tell(Paused(submission.job_id, reason))


def _same(one: Lane, other: Lane) -> bool:
    return one.player_id == other.player_id
