"""The autopilot: looks at each player with a rule, and asks the service for what `core.autopilot` chooses.

A player is looked at when a block touched one of his objects (or may have), when a job of his ended, when a work is no
longer held back, when his rule was set, and at least every LOOK_BLOCKS. Looks are bounded per block; who was looked at
longest ago goes first. What a look could not do stands in the rule's status until one can.

What must outlast a restart is in the store: the rules, and what became of the player's jobs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from coordinator.chain.block_events import permissions_on
from coordinator.chain.client import Block, ChainClient
from coordinator.core.autopilot import Claim, Failure, actions_to_ask_for, choose, failure_after
from coordinator.core.job import Job, JobState
from coordinator.core.view import JobView
from coordinator.store.protocol import JobFilter, Store, StoreDamaged, StoredRule
from hashfleet.action import FLEET_TYPE, Action, Work
from hashfleet.autopilot_rule import MAX_RULES, AutopilotRule
from hashfleet.errors import HashfleetError, InvalidInput, KeyProblem, WorkGone, WorkPaused
from hashfleet.job_request import JobRequest, Mode

logger = logging.getLogger(__name__)

#: The number of the chain's address objects.
ADDRESS_TYPE: Final = 8
#: A player whom no block seems to touch is looked at after this many blocks nevertheless, and a right of the signing
#: key that was found is looked up again.
LOOK_BLOCKS: Final = 60
#: Looks at players in one block at most; the others' turn comes with the next blocks.
LOOKS_PER_BLOCK: Final = 16
#: Looks under way at the same time at most.
LOOKS_AT_ONCE: Final = 4
#: Jobs asked for at the same time at most: what the service stores in one transaction.
ASKED_AT_ONCE: Final = 256
#: Returned proofs of a player whose puzzles are looked up at one look at most.
PROOFS_CHECKED: Final = 32
#: Returned proofs of a player that are remembered.
PROOFS_KEPT: Final = 1000
#: Works held back that a status tells one by one.
TOLD: Final = 20
#: Finished jobs of a player, newest first, that are read to know what failed before a restart.
_HISTORY: Final = 1000
_PAGE: Final = 5000
_UNFINISHED: Final = frozenset(state for state in JobState if not state.final)
_FINAL: Final = frozenset(state for state in JobState if state.final)
_NEVER: Final = -1


class Signers(Protocol):
    """Who may sign for proofs: of `coordinator.submission.submitter`, what is asked here."""

    @property
    def addresses(self) -> tuple[str, ...]: ...

    async def who_may_sign(self, action: Action, object_id: str) -> tuple[str, ...]: ...


SubmitAll = Callable[[Sequence[JobRequest]], Awaitable[list[tuple[JobView, bool] | HashfleetError]]]


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule and how its player is served."""

    rule: AutopilotRule
    #: When the rule was set, Unix seconds.
    set_at: float
    #: The last look that succeeded: height and Unix seconds; None before the first.
    looked_height: int | None
    looked_at: float | None
    #: Works that the chain showed at that look, of any action.
    outstanding: int
    #: The player's unfinished jobs now, whoever asked for them.
    unfinished: int
    #: Jobs that the rule has made since the coordinator started.
    jobs_made: int
    #: Works that wait until the player has fewer unfinished jobs.
    queued: int
    #: Works held back at the last look because of what became of their last job, and the first of them.
    held: int
    held_first: tuple[tuple[Claim, Failure], ...]
    #: Actions that the signing key may not do for the player, and why.
    refusals: tuple[tuple[Action, str], ...]
    #: Why the last look failed, and when; None after one that succeeded.
    error: str | None
    error_at: float | None


@dataclass(slots=True)
class _Player:
    """What is known about a player with a rule."""

    rule: AutopilotRule
    set_at: float
    #: The objects of his that are known: a block that touches one is a reason to look.
    objects: set[str] = field(default_factory=set)
    #: Claims of his unfinished jobs, and the job of each.
    active: dict[Claim, str] = field(default_factory=dict)
    failures: dict[Claim, Failure] = field(default_factory=dict)
    #: Puzzles whose proof was returned to be submitted by somebody else.
    proven: dict[Claim, Work] = field(default_factory=dict)
    #: His jobs have been read from the store; until then `changed` is kept, to be applied after them.
    loaded: bool = False
    changed: list[Job] | None = None
    #: Something of his changed: he is looked at before those who only may have changed.
    touched: bool = True
    stale: bool = False
    #: A look at him is under way, or waits for its turn.
    looking: bool = False
    looked_height: int = _NEVER
    looked_at: float | None = None
    #: Height before which he is not looked at, after looks that failed, and how many did in a row.
    not_before: int = 0
    misses: int = 0
    #: When the first work is no longer held back, Unix seconds.
    hold_ends: float | None = None
    outstanding: int = 0
    jobs_made: int = 0
    queued: int = 0
    held: tuple[Claim, ...] = ()
    refusals: dict[Action, str] = field(default_factory=dict)
    #: Height at which the signing key was last found to have the right to an action.
    allowed: dict[Action, int] = field(default_factory=dict)
    error: str | None = None
    error_at: float | None = None


class Autopilot:
    """Serves players by their rules. Used from the service's event loop."""

    def __init__(
        self,
        chain: ChainClient,
        store: Store,
        signers: Signers,
        submit_all: SubmitAll,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`signers` says who may sign; `submit_all` is the service's, which joins a job that does the same work."""
        self._chain = chain
        self._store = store
        self._signers = signers
        self._submit_all = submit_all
        self._clock = clock
        self._players: dict[str, _Player] = {}
        self._restored = asyncio.Event()
        self._height: int | None = None
        self._looks_left = 0
        self._wake = asyncio.Event()

    # ---- rules ---------------------------------------------------------------------------------------------------

    async def set_rule(self, rule: AutopilotRule) -> RuleView:
        """Keep the rule, in place of the player's former one; the player is looked at soon.

        Whatever held works of his back is forgotten: setting the rule again is how to ask for them at once.
        Raises InvalidInput if there are too many rules, StoreError.
        """
        await self._restored.wait()
        if rule.player_id not in self._players and len(self._players) >= MAX_RULES:
            raise InvalidInput(f"there are rules for {MAX_RULES} players already; remove one first")
        stored = StoredRule(rule, self._clock())
        await self._store.save_rule(stored)
        former = self._players.get(rule.player_id)
        player = _Player(rule, stored.set_at, jobs_made=former.jobs_made if former else 0)
        self._players[rule.player_id] = player
        logger.info("The autopilot %s.", _told(rule))
        self._wake.set()
        return self._view(player)

    async def rule(self, player_id: str) -> RuleView | None:
        """The rule of a player and how he is served; None if he has none."""
        await self._restored.wait()
        player = self._players.get(player_id)
        return self._view(player) if player is not None else None

    async def rules(self, limit: int = MAX_RULES, after: str | None = None) -> list[RuleView]:
        """Rules and how their players are served, by player, beginning after that one."""
        await self._restored.wait()
        first = _by_number(after) + 1 if after is not None else 0
        wanted = sorted((one for one in self._players if _by_number(one) >= first), key=_by_number)
        return [self._view(self._players[one]) for one in wanted[:limit]]

    async def remove_rule(self, player_id: str) -> bool:
        """Serve this player no longer; jobs under way go on. False if there was no rule. Raises StoreError."""
        await self._restored.wait()
        removed = await self._store.remove_rule(player_id)
        if self._players.pop(player_id, None) is not None:
            logger.info("The autopilot serves player %s no longer; jobs under way go on.", player_id)
        return removed

    def _view(self, player: _Player) -> RuleView:
        held = [(claim, player.failures[claim]) for claim in player.held if claim in player.failures]
        return RuleView(
            rule=player.rule,
            set_at=player.set_at,
            looked_height=None if player.looked_height == _NEVER else player.looked_height,
            looked_at=player.looked_at,
            outstanding=player.outstanding,
            unfinished=len(player.active),
            jobs_made=player.jobs_made,
            queued=player.queued,
            held=len(held),
            held_first=tuple(held[:TOLD]),
            refusals=tuple(sorted(player.refusals.items(), key=lambda refusal: refusal[0].name)),
            error=player.error,
            error_at=player.error_at,
        )

    # ---- what the service tells ----------------------------------------------------------------------------------

    def block_seen(self, block: Block) -> None:
        """The chain committed a block."""
        self._height = block.height
        self._looks_left = LOOKS_PER_BLOCK
        for player in self._players.values():
            if block.touched is None:
                player.stale = True
            elif not block.touched.isdisjoint(player.objects):
                player.touched = True
        if self._players:
            self._wake.set()

    def jobs_changed(self, jobs: Iterable[Job]) -> None:
        """These jobs are stored as they are now."""
        if not self._players:
            return
        for job in jobs:
            player = self._players.get(job.request.player_id)
            if player is None:
                continue
            if player.loaded:
                _note(player, job)
                if job.state.final:
                    player.touched = True
                    self._wake.set()
            elif player.changed is not None:
                player.changed.append(job)

    # ---- looking -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled. Raises StoreError if the rules cannot be read."""
        for stored in await self._store.rules():
            self._players[stored.rule.player_id] = _Player(stored.rule, stored.set_at)
        if self._players:
            logger.info("The autopilot goes on with %d rules.", len(self._players))
        self._restored.set()
        self._wake.set()  # the first block may have come before
        at_once = asyncio.Semaphore(LOOKS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._height is None or not self._looks_left:
                    continue  # the next block brings more
                for player in self._due(self._height):
                    self._looks_left -= 1
                    player.looking = True
                    group.create_task(self._look(player, self._height, at_once))

    def _due(self, height: int) -> list[_Player]:
        """Whom to look at now."""
        now = self._clock()
        due = [
            player
            for player in self._players.values()
            if player.rule.enabled
            and not player.looking
            and height >= player.not_before
            and _has_reason(player, height, now)
        ]
        due.sort(key=lambda player: (not player.touched, player.looked_height))
        return due[: self._looks_left]

    async def _look(self, player: _Player, height: int, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            # Before the reading: what changes while it goes on is a reason to look again.
            player.touched = player.stale = False
            player.hold_ends = None
            try:
                await self._serve(player, height)
            except StoreDamaged:
                raise  # waiting does not help: a person has to act
            except HashfleetError as error:
                player.misses += 1
                player.not_before = height + min(2 ** min(player.misses - 1, 16), LOOK_BLOCKS)
                player.touched = True
                player.error, player.error_at = str(error), self._clock()
                logger.warning("The autopilot cannot look at player %s: %s", player.rule.player_id, error)
            else:
                player.misses, player.not_before = 0, 0
                player.error = player.error_at = None
                player.looked_height, player.looked_at = height, self._clock()
            finally:
                player.looking = False
        if player.touched:
            self._wake.set()

    async def _serve(self, player: _Player, height: int) -> None:
        if not player.loaded:
            await self._load(player)
        # A job that ends while the chain is read may be gone from the answer or not: it counts as there, and its end
        # is a reason to look again.
        active = set(player.active)
        outstanding = dict.fromkeys(await self._chain.outstanding_work(player.rule.player_id))
        active |= player.active.keys()
        await self._check_rights(player, actions_to_ask_for(player.rule, outstanding, active), height)
        proven = await self._check_proven(player, outstanding, active)
        now = self._clock()
        active |= player.active.keys()
        choice = choose(player.rule, outstanding, active, player.failures, player.refusals.keys(), now, proven)
        player.objects = self._known_objects(player, outstanding)
        player.outstanding, player.queued, player.held = len(outstanding), choice.queued, choice.held
        player.failures = {
            claim: failure
            for claim, failure in player.failures.items()
            if claim in outstanding or now < failure.until or claim in player.active
        }
        player.hold_ends = min((player.failures[claim].until for claim in choice.held), default=None)
        for start in range(0, len(choice.requests), ASKED_AT_ONCE):
            await self._ask(player, choice.requests[start : start + ASKED_AT_ONCE])

    async def _check_proven(
        self, player: _Player, outstanding: Collection[Claim], active: Collection[Claim]
    ) -> set[Claim]:
        """Works whose proof was returned and whose puzzle is still the same, as far as is known."""
        if player.rule.mode is not Mode.RETURN_PROOF:
            return set()
        open_now = [claim for claim in player.proven if claim in outstanding and claim not in active]
        for claim in open_now[:PROOFS_CHECKED]:
            work = player.proven.pop(claim)
            try:
                posed = (await self._chain.read_work(*claim)).work
            except (WorkGone, WorkPaused):
                posed = work  # not open any more since it was listed
            except HashfleetError:
                player.proven[claim] = work
                raise
            if posed.prefix == work.prefix:
                player.proven[claim] = work  # at the end: those that were not checked come first the next time
        while len(player.proven) > PROOFS_KEPT:
            del player.proven[next(iter(player.proven))]
        return set(player.proven)

    async def _load(self, player: _Player) -> None:
        """Read the player's jobs; those that change meanwhile are noted after them."""
        player_id = player.rule.player_id
        player.active.clear()
        player.failures.clear()
        player.proven.clear()
        player.changed = []
        unfinished = await self._all_unfinished(player_id)
        over = await self._store.list_jobs(JobFilter(_FINAL, player_id), _HISTORY, None)
        changed, player.changed, player.loaded = player.changed, None, True
        # What ended while this was read may be in all three.
        ended = {job.job_id for job in over}
        for job in reversed(over):
            # What failed before the rule was set holds nothing back; what was proven before is proven.
            if job.updated_at > player.set_at or job.state is JobState.COMPLETED:
                _note(player, job)
        for job in [*unfinished, *changed]:
            if job.job_id not in ended:
                _note(player, job)

    async def _all_unfinished(self, player_id: str) -> list[Job]:
        found: list[Job] = []
        key: tuple[float, str] | None = None
        while True:
            page = await self._store.list_jobs(JobFilter(_UNFINISHED, player_id), _PAGE, key)
            found += page
            if len(page) < _PAGE:
                return found
            key = (page[-1].created_at, page[-1].job_id)

    async def _check_rights(self, player: _Player, actions: dict[Action, str], height: int) -> None:
        """Find out what the signing key may do for the player; a right that it lacks is asked about at every look."""
        player.refusals = {
            action: reason for action, reason in player.refusals.items() if action in player.rule.actions
        }
        if player.rule.mode is Mode.RETURN_PROOF:
            player.refusals.clear()
            return
        for action, object_id in actions.items():
            checked = player.allowed.get(action)
            if checked is not None and height < checked + LOOK_BLOCKS:
                continue
            try:
                await self._signers.who_may_sign(action, object_id)
            except KeyProblem as error:
                player.allowed.pop(action, None)
                if player.refusals.get(action) != str(error):
                    logger.warning(
                        "The autopilot may not %s for player %s: %s",
                        action.value.lower(),
                        player.rule.player_id,
                        error,
                    )
                player.refusals[action] = str(error)
            except WorkGone:
                # The object went away since it was listed, which says nothing about the key: the job would find out.
                logger.debug("%s of player %s is gone.", object_id, player.rule.player_id)
            else:
                player.refusals.pop(action, None)
                player.allowed[action] = height

    def _known_objects(self, player: _Player, outstanding: Iterable[Claim]) -> set[str]:
        """What of a block is a reason to look at the player: him, his work, his fleet, which bears his number, and who
        may act for him. The chain's events name the owner of what is new."""
        player_id = player.rule.player_id
        return {
            player_id,
            f"{FLEET_TYPE}-{player_id.partition('-')[2]}",
            permissions_on(player_id),
            *(permissions_on(f"{ADDRESS_TYPE}-{address}") for address in self._signers.addresses),
            *(object_id for _, object_id in outstanding),
            *(object_id for _, object_id in player.active),
        }

    async def _ask(self, player: _Player, requests: Sequence[JobRequest]) -> None:
        if self._players.get(player.rule.player_id) is not player:
            return  # its rule was removed or set anew meanwhile
        refused: HashfleetError | None = None
        for answer in await self._submit_all(requests):
            if isinstance(answer, HashfleetError):
                refused = answer
                continue
            job, created = answer[0].job, answer[1]
            player.jobs_made += created
            logger.info(
                "The autopilot picked up %s of %s for player %s%s: %s.",
                job.request.action.value.lower(),
                job.request.object_id,
                player.rule.player_id,
                "" if created else ", which is under way already",
                job.job_id,
            )
        if refused is not None:
            raise refused


def _note(player: _Player, job: Job) -> None:
    """A job of the player is as it is now."""
    claim = (job.request.action, job.request.object_id)
    if not job.state.final:
        player.active[claim] = job.job_id
        return
    if player.active.get(claim) == job.job_id:
        del player.active[claim]
    if job.state is JobState.COMPLETED and job.request.mode is Mode.RETURN_PROOF and job.work is not None:
        player.proven[claim] = job.work
    failure = failure_after(job, player.failures.get(claim))
    if failure is None:
        player.failures.pop(claim, None)
    else:
        player.failures[claim] = failure


def _has_reason(player: _Player, height: int, now: float) -> bool:
    return (
        player.touched
        or player.stale
        or player.looked_height == _NEVER
        or height >= player.looked_height + LOOK_BLOCKS
        or (player.hold_ends is not None and now >= player.hold_ends)
    )


def _told(rule: AutopilotRule) -> str:
    actions = ", ".join(action.value.lower() for action in Action if action in rule.actions)
    return f"serves player {rule.player_id}: {actions}" if rule.enabled else f"keeps player {rule.player_id} paused"


def _by_number(player_id: str) -> int:
    return int(player_id.partition("-")[2])
