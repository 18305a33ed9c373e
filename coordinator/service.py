"""The shell around the core: feeds it events, stores what it changed, then carries out what it wants done.

One task (`_pump`) handles events in the order in which they arrived, many at a time when many are there: all changed
jobs of a round are stored in one transaction, and only then are commands carried out, watchers told and callers
answered. So nothing is acted upon that a crash could forget.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TypeVar

from coordinator.autopilot import Autopilot
from coordinator.chain.block_events import permissions_on
from coordinator.chain.client import Block, ChainClient, TellsEndpoints
from coordinator.chain.endpoint_choice import EndpointStatus
from coordinator.chain.height_estimate import estimated_height
from coordinator.charter import read_charter
from coordinator.core.commands import (
    CancelLease,
    Command,
    DropWorker,
    GrantLease,
    PrioritiseProof,
    ReadWork,
    RetargetLease,
    SendVerdict,
    SubmitProof,
    WithdrawProof,
)
from coordinator.core.events import (
    BlockCommitted,
    CancelRequested,
    Event,
    JobsRestored,
    JobSubmitted,
    PriorityRequested,
    ProofWithdrawn,
    Ticked,
    Trouble,
    WithdrawalRefused,
    WorkNotRead,
    WorkRead,
)
from coordinator.core.job import Job, JobState
from coordinator.core.machine import Machine
from coordinator.core.planning import REMEMBERED_SOLVED
from coordinator.core.roster import Worker
from coordinator.core.view import JobView, view_job
from coordinator.idempotency import KeysInHand, check_same
from coordinator.store.protocol import JobFilter, KeyedRequest, Store, StoreDamaged, StoreError
from coordinator.store.prune import keep_pruned
from coordinator.submission.keys import SigningKey
from coordinator.submission.lane import Settings as LaneSettings
from coordinator.submission.lanes import Lanes
from coordinator.submission.outcome import Outcome, Submission, outcome_event
from coordinator.submission.submitter import SignerStatus, Submitter
from hashfleet.action import ADDRESS_TYPE, Action
from hashfleet.errors import (
    ChainError,
    ChainUnavailable,
    HashfleetError,
    InvalidInput,
    JobFinal,
    JobNotFound,
    KeyProblem,
    WorkGone,
    WorkPaused,
)
from hashfleet.job_request import JobRequest, Mode, Priority

logger = logging.getLogger(__name__)

#: Events handled in one round at most, so that one transaction stays short.
ROUND_EVENTS = 256
#: Questions to the chain in flight at most.
CHAIN_READS = 32
#: Messages a worker may leave unread before its stream is closed.
WORKER_BACKLOG = 16_384
TICK_SECONDS = 1.0
#: Seconds after which a caller is told that the store refuses: less than what clients wait for an answer.
REFUSAL_SECONDS = 3.0
_FIRST_PAUSE, _LAST_PAUSE = 0.2, 5.0

_T = TypeVar("_T")
#: A job as it stands now, and whether it was made for the request.
Accepted = tuple[JobView, bool]
#: Who hears what becomes of a submission.
OnOutcome = Callable[[Outcome], Awaitable[None]]
WorkerCommand = GrantLease | CancelLease | RetargetLease | SendVerdict


@dataclass(slots=True)
class WorkerSession:
    """The open stream of one worker: what is to be sent to it. None ends the stream."""

    worker_id: str
    outgoing: asyncio.Queue[WorkerCommand | None]
    #: Why the coordinator ends it, for the worker's log.
    reason: str = ""

    def end(self, reason: str) -> None:
        """Have the stream closed once what is queued is sent."""
        self.reason = reason
        with contextlib.suppress(asyncio.QueueFull):  # then the sender finds out by itself: it is that far behind
            self.outgoing.put_nowait(None)


@dataclass(frozen=True, slots=True)
class FleetView:
    """The fleet as it stands now."""

    workers: tuple[Worker, ...]
    #: Job that each lease in work belongs to, by lease id.
    lease_jobs: dict[str, str]
    jobs: dict[JobState, int]
    chain_id: str
    height: int
    #: Seconds; 0 until measured.
    block_interval: float
    connected: bool
    #: The first address that signs; empty in watch-only mode, and where a guild stack signs.
    signer_address: str
    #: How each way to get proofs into the chain fares.
    signers: tuple[SignerStatus, ...]
    #: Where the chain has probably come by now; for display only.
    estimated_height: int = 0
    endpoints: tuple[EndpointStatus, ...] = ()


class Service:
    """The coordinator without its doors. Used from one event loop."""

    def __init__(
        self,
        chain: ChainClient,
        store: Store,
        keys: SigningKey | Sequence[SigningKey],
        *,
        submitter: Callable[[OnOutcome], Submitter] | None = None,
        lanes: LaneSettings | None = None,
        clock: Callable[[], float] = time.time,
        keep_seconds: float | None = None,
    ) -> None:
        """`keys` sign for proofs, the first choice first; without any nothing is sent. `submitter` makes another way to
        get proofs into the chain instead. `clock` gives Unix seconds. Ended jobs are forgotten `keep_seconds` after
        their end; None keeps all.
        """
        self._chain = chain
        self._store = store
        self._clock = clock
        self._keep_seconds = keep_seconds
        self._machine = Machine(salt=secrets.randbelow(10**7))
        given = (keys,) if isinstance(keys, SigningKey) else tuple(keys)
        self._submitter: Submitter = (
            Lanes(chain, store, given, clock=clock, on_outcome=self._take_outcome, settings=lanes)
            if submitter is None
            else submitter(self._take_outcome)
        )
        self._inbox: asyncio.Queue[tuple[Event, asyncio.Future[object] | None, Callable[[], object]]] = asyncio.Queue()
        self._sessions: dict[str, WorkerSession] = {}
        self._watchers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._chain_reads = asyncio.Semaphore(CHAIN_READS)
        self._background: set[asyncio.Task[object]] = set()
        #: Who waits for a proof to be withdrawn, by job: done once what came of it is stored.
        self._withdrawals: dict[str, asyncio.Future[None]] = {}
        self._keys = KeysInHand()
        self._connected = False
        #: Why the store does not take what changed, while it does not.
        self._refusal: StoreError | None = None
        #: Asks for the work of players by rules; see there.
        self.autopilot = Autopilot(chain, store, self._submitter, self.submit_all, clock=clock)

    # ---- life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled. Raises StoreError if the store cannot be read, BadChainAnswer for the wrong chain."""
        unfinished = await self._store.unfinished_jobs()
        completed = await self._store.completed_works(REMEMBERED_SOLVED)
        if unfinished:
            logger.info("Going on with %d unfinished jobs.", len(unfinished))
        try:
            async with asyncio.TaskGroup() as group:
                restored: asyncio.Future[object] = asyncio.get_running_loop().create_future()
                restore = JobsRestored(self._clock(), tuple(unfinished), tuple(completed))
                group.create_task(self._pump(restore, restored), name="pump")
                await restored
                group.create_task(self._follow_chain(), name="chain")
                group.create_task(self.autopilot.run(), name="autopilot")
                group.create_task(self._tick(), name="tick")
                if self._keep_seconds is not None:
                    group.create_task(
                        keep_pruned(self._store, self._keep_seconds, self._clock, self._height), name="pruning"
                    )
        finally:
            for task in self._background:
                task.cancel()
            for session in self._sessions.values():
                session.end("the coordinator is stopping")

    async def _follow_chain(self) -> None:
        """Connect, however long it takes, then tell the core and the lane about every block."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._chain.connect()
                block = await self._chain.latest_block()
                await self._submitter.recover()
                break
            except ChainUnavailable as error:
                logger.warning("The chain does not answer (%s); trying again in %.1f s.", error, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)
        self._connected = True
        logger.info("Connected to chain %s at height %d.", self._chain.chain_id, block.height)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._submitter.run(), name="submitter")
            await self._see_block(block)
            async for block in self._chain.blocks():
                await self._see_block(block)

    async def _see_block(self, block: Block) -> None:
        self._submitter.block_seen(block.height)
        await self.apply(BlockCommitted(self._clock(), block.height, block.time, block.touched))
        self.autopilot.block_seen(block)

    def _height(self) -> int | None:
        """The last committed height; None until a block was seen."""
        head = self._machine.state.head
        return head.height if head else None

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self.apply(Ticked(self._clock()))

    # ---- the round: handle, store, act ---------------------------------------------------------------------------

    async def apply(self, event: Event, read: Callable[[], _T] | None = None) -> _T | None:
        """Hand the core an event; returns what `read` sees right after it, once everything it changed is stored.

        Raises what the core raises for a request that cannot be met.
        """
        return await self._post(event, read or _nothing)  # type: ignore[return-value]

    def _post(self, event: Event, read: Callable[[], object]) -> asyncio.Future[object]:
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait((event, done, read))
        return done

    def post_all(self, events: Sequence[Event]) -> asyncio.Future[object]:
        """Hand the core events that came together (one at least), in order; done once all they changed is stored."""
        for event in events[:-1]:
            self._inbox.put_nowait((event, None, _nothing))
        return self._post(events[-1], _nothing)

    async def _pump(self, first: Event, done: asyncio.Future[object]) -> None:
        """Work until cancelled. `first` goes before whatever was asked since the doors opened: the core has to know
        the jobs under way before it takes a request, or the same work would be two jobs.
        """
        pending: list[tuple[Event, asyncio.Future[object] | None, Callable[[], object]]] = [(first, done, _nothing)]
        while True:
            while len(pending) < ROUND_EVENTS and not self._inbox.empty():
                pending.append(self._inbox.get_nowait())
            changed: dict[str, Job] = {}
            keyed: list[KeyedRequest] = []
            heard: set[str] = set()
            commands: list[Command] = []
            answers: list[tuple[asyncio.Future[object], object]] = []
            for event, asker, read in pending:
                try:
                    out = self._machine.handle(event)
                except HashfleetError as error:
                    if asker is not None and not asker.cancelled():
                        asker.set_exception(error)
                    continue
                changed |= out.changed
                if isinstance(event, JobSubmitted) and event.request.idempotency_key is not None:
                    claimant = self._machine.claimant(event.request)
                    keyed.append(KeyedRequest(claimant.job_id if claimant else event.job_id, event.request))
                heard |= out.progressed
                commands += out.commands
                if asker is not None:
                    answers.append((asker, read()))
            if changed or keyed:
                await self._save(list(changed.values()), keyed)
                self.autopilot.jobs_changed(changed.values())
            for command in commands:
                self._carry_out(command)
            for job_id in heard | changed.keys():
                for watcher in self._watchers.get(job_id, ()):
                    watcher.set()
            for asked, answer in answers:
                if not asked.cancelled():
                    asked.set_result(answer)
            pending = [await self._inbox.get()]

    async def _save(self, jobs: list[Job], keyed: list[KeyedRequest]) -> None:
        """Store, however long it takes: until it is stored nothing is acted upon. Raises StoreDamaged."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._store.save_jobs(jobs, keyed)
                self._refusal = None
                return
            except StoreDamaged:
                raise  # it would never be stored: a person has to act
            except StoreError as error:
                self._refusal = error
                logger.error("The store does not take %d jobs: %s. Nothing goes on until it does.", len(jobs), error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)

    def _carry_out(self, command: Command) -> None:
        match command:
            case ReadWork():
                self._start(self._read_work(command))
            case SubmitProof():
                self._submitter.submit(_submission(command))
            case WithdrawProof():
                self._start(self._withdraw(command.job_id))
            case PrioritiseProof():
                self._submitter.prioritise(command.job_id, command.priority)
            case DropWorker():
                self._end_session(command.worker_id, command.reason)
            case _:
                self._send(command)

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _withdraw(self, job_id: str) -> None:
        """Have the submitter let go of a proof; tell the core, then whoever waits for it.

        If the ledger cannot be read, that is the StoreError they get, and the job goes on.
        """
        failure: StoreError | None = None
        try:
            withdrawn = await self._submitter.withdraw(job_id)
        except StoreError as error:
            logger.warning("The proof of job %s is not withdrawn: %s", job_id, error)
            withdrawn, failure = False, error
        event = (ProofWithdrawn if withdrawn else WithdrawalRefused)(self._clock(), job_id)
        # Who asks from then on asks for the next withdrawal.
        waiting = await self.apply(event, lambda: self._withdrawals.pop(job_id, None))
        if waiting is not None and failure is not None:
            waiting.set_exception(failure)
        elif waiting is not None:
            waiting.set_result(None)

    def _withdrawal(self, job_id: str) -> asyncio.Future[None] | None:
        """The withdrawal that a cancel led to, or joined; None if it ended the job at once."""
        if self._machine.job(job_id) is None:
            return None
        if job_id not in self._withdrawals:
            waiting = self._withdrawals[job_id] = asyncio.get_running_loop().create_future()
            waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # its callers may be gone
        return self._withdrawals[job_id]

    async def _read_work(self, command: ReadWork) -> None:
        request = command.request
        submitted = request.mode is Mode.SUBMIT
        current, signer, watched = self._signer_of(command.job_id), "", frozenset[str]()
        try:
            async with self._chain_reads:
                if request.action is Action.CHARTER:
                    # The puzzle names the solver, so the key comes before the puzzle, with each reading.
                    if submitted:
                        signer = await self._submitter.choose_signer(request.action, request.object_id, current)
                    reading = await read_charter(self._chain, request, signer)
                else:
                    reading = await self._chain.read_work(request.action, request.object_id)
                    watched = reading.depends_on
                    if command.check_signer:
                        signer = await self._submitter.choose_signer(request.action, request.object_id, current)
        except WorkGone as error:
            event: Event = WorkNotRead(self._clock(), command.job_id, Trouble.GONE, str(error), error.depends_on)
        except WorkPaused as error:
            event = WorkNotRead(self._clock(), command.job_id, Trouble.PAUSED, str(error), error.depends_on)
        except KeyProblem as error:
            # Whoever gives a key its rights touches the key, not the work.
            watched |= frozenset(map(_rights_of, self._submitter.addresses)) if watched else watched
            event = WorkNotRead(self._clock(), command.job_id, Trouble.NOT_ALLOWED, str(error), watched)
        except ChainError as error:
            event = WorkNotRead(self._clock(), command.job_id, Trouble.UNAVAILABLE, str(error))
        else:
            # Whoever takes a key its rights touches the key, not the work. The key was chosen before, if not now.
            known = signer or current
            depends_on = reading.depends_on | {_rights_of(known)} if known else reading.depends_on
            event = WorkRead(self._clock(), command.job_id, reading.work, depends_on, reading.clock, signer)
        self._inbox.put_nowait((event, None, _nothing))

    def _signer_of(self, job_id: str) -> str:
        job = self._machine.job(job_id)
        return (job.signer or "") if job is not None else ""

    async def _take_outcome(self, outcome: Outcome) -> None:
        await self.apply(outcome_event(outcome, self._clock()))

    # ---- what the doors ask --------------------------------------------------------------------------------------

    async def submit(self, request: JobRequest) -> Accepted:
        """Accept a job; returns once it is stored.

        Raises InvalidInput if its idempotency key was used for another request, StoreError if keys cannot be read.
        """
        (answer,) = await self.submit_all([request])
        if isinstance(answer, HashfleetError):
            raise answer
        return answer

    async def submit_all(self, requests: Sequence[JobRequest]) -> list[Accepted | HashfleetError]:
        """Accept jobs, or say for each why not; returns once they are stored, together. Raises StoreError."""
        keys = frozenset(request.idempotency_key for request in requests if request.idempotency_key is not None)
        return await self._once_stored(self._accept_keyed(requests, keys) if keys else self._accept(requests))

    async def _once_stored(self, work: Coroutine[object, object, _T]) -> _T:
        """The result of what is stored first; StoreError with the reason if the store refuses for long.

        `work` goes on then, and whenever its caller goes away: what was asked may be stored later, and keys must not
        be let go before.
        """
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # its caller may be gone
        while not task.done():
            await asyncio.wait({task}, timeout=REFUSAL_SECONDS)
            if self._refusal is not None and not task.done():
                raise StoreError(
                    f"what was asked is not stored yet, because {self._refusal}; asking again is safe, it stays one job"
                ) from self._refusal
        return task.result()

    async def _accept_keyed(
        self, requests: Sequence[JobRequest], keys: frozenset[str]
    ) -> list[Accepted | HashfleetError]:
        """Accept what is new, and find the jobs of keys that are known; see `coordinator.idempotency`."""
        async with self._keys.holding(keys):
            known = await self._store.keyed_requests(keys)
            asked_first: dict[str, int] = {}
            new: list[int] = []
            for place, request in enumerate(requests):
                key = request.idempotency_key
                if key is None or (key not in known and asked_first.setdefault(key, place) == place):
                    new.append(place)
            answers = dict(zip(new, await self._accept([requests[place] for place in new]), strict=True))
            for place, request in enumerate(requests):
                key = request.idempotency_key
                if place in answers or key is None:
                    continue
                first = answers[asked_first[key]] if key in asked_first else None
                if isinstance(first, HashfleetError):
                    answers[place] = first
                    continue
                keyed = KeyedRequest(first[0].job.job_id, requests[asked_first[key]]) if first else known[key]
                answers[place] = await self._accepted_before(keyed, request)
            return [answers[place] for place in range(len(requests))]

    async def _accepted_before(self, keyed: KeyedRequest, request: JobRequest) -> Accepted | HashfleetError:
        try:
            check_same(keyed, request)
            return await self.job(keyed.job_id), False
        except (InvalidInput, JobNotFound) as error:
            return error

    async def _accept(self, requests: Sequence[JobRequest]) -> list[Accepted | HashfleetError]:
        """Hand the core requests that came together. False beside a job: the same work was already under way."""
        now = self._clock()
        # 48 random bits: hundreds of ids are made within one millisecond.
        ids = [f"pow_{int(now * 1000)}_{secrets.token_hex(6)}" for _ in requests]
        posted = [
            self._post(JobSubmitted(now, job_id, request), functools.partial(self._claimed, request))
            for job_id, request in zip(ids, requests, strict=True)
        ]
        answers: list[Accepted | HashfleetError] = []
        for job_id, answer in zip(ids, await asyncio.gather(*posted, return_exceptions=True), strict=True):
            if isinstance(answer, JobView):
                answers.append((answer, answer.job.job_id == job_id))
            elif isinstance(answer, HashfleetError):
                answers.append(answer)
            else:
                assert isinstance(answer, BaseException)
                raise answer
        return answers

    def _claimed(self, request: JobRequest) -> JobView:
        job = self._machine.claimant(request)
        assert job is not None
        return self._view(job)

    async def job(self, job_id: str) -> JobView:
        """A job as it stands now. Raises JobNotFound."""
        job = self._machine.job(job_id) or await self._store.job(job_id)
        if job is None:
            raise JobNotFound(f"there is no job {job_id[:80]}")
        return self._view(job)

    async def jobs(self, which: JobFilter, limit: int, after: tuple[float, str] | None) -> list[JobView]:
        """Jobs, newest first by (created_at, job_id), after that key."""
        stored = await self._store.list_jobs(which, limit, after)
        return [self._view(self._machine.job(job.job_id) or job) for job in stored]

    async def watch(self, job_id: str) -> AsyncGenerator[JobView]:
        """The job now and after each change, until a final state. Changes in quick succession come as one."""
        changed = asyncio.Event()
        self._watchers[job_id].add(changed)
        try:
            while True:
                changed.clear()
                view = await self.job(job_id)
                yield view
                if view.job.state.final:
                    return
                await changed.wait()
        finally:
            self._watchers[job_id].discard(changed)
            if not self._watchers[job_id]:
                del self._watchers[job_id]

    async def cancel(self, job_id: str) -> JobView:
        """Stop a job. Raises JobNotFound, StoreError; JobFinal if it has ended, or if a transaction of it may land."""
        view = await self._change(CancelRequested(self._clock(), job_id), JobState.CANCELLED)
        if view.job.state is JobState.CANCELLED:
            return view
        if view.job.state.final:
            raise JobFinal(f"{job_id} is {view.job.state.value}; a finished job cannot be changed any more")
        if view.job.state is not JobState.SUBMITTING:
            return await self.cancel(job_id)  # its proof came back void just after that was refused
        raise JobFinal(
            f"{job_id} has its proof and its transaction is on its way; it cannot be cancelled while that may land"
        )

    async def set_priority(self, job_id: str, priority: Priority) -> JobView:
        """Change who goes first. Raises JobNotFound, JobFinal."""
        return await self._change(PriorityRequested(self._clock(), job_id, priority), None)

    async def _change(self, event: CancelRequested | PriorityRequested, already: JobState | None) -> JobView:
        try:
            await self._once_stored(self._carry_through(event))
        except JobNotFound:
            view = await self.job(event.job_id)
            if view.job.state is not already:
                state = view.job.state.value
                raise JobFinal(f"{event.job_id} is {state}; a finished job cannot be changed any more") from None
        return await self.job(event.job_id)

    async def _carry_through(self, event: CancelRequested | PriorityRequested) -> None:
        """Done once the request is stored, and what it led to."""
        if isinstance(event, PriorityRequested):
            await self.apply(event)
        elif (withdrawal := await self.apply(event, lambda: self._withdrawal(event.job_id))) is not None:
            await asyncio.shield(withdrawal)  # others may wait for it, too

    async def fleet(self) -> FleetView:
        """Workers, queue lengths and the chain."""
        counts = await self._store.count_jobs()
        state = self._machine.state
        return FleetView(
            workers=tuple(state.workers.values()),
            lease_jobs={lease.lease_id: lease.job_id for lease in state.leases.values()},
            jobs=counts,
            chain_id=self._chain.chain_id if self._connected else "",
            height=state.head.height if state.head else 0,
            block_interval=state.block_seconds if state.block_seconds_measured else 0.0,
            connected=self._connected,
            signer_address=next(iter(self._submitter.addresses), ""),
            signers=self._submitter.status(),
            estimated_height=self._estimated_height(),
            endpoints=tuple(self._chain.endpoints()) if isinstance(self._chain, TellsEndpoints) else (),
        )

    def _estimated_height(self) -> int:
        state = self._machine.state
        if state.head is None:
            return 0
        pace = state.block_seconds if state.block_seconds_measured else 0.0
        return estimated_height(state.head.height, state.head.seen_at, pace, self._clock())

    def _view(self, job: Job) -> JobView:
        return view_job(self._machine.state, job)

    # ---- workers -------------------------------------------------------------------------------------------------

    def open_session(self, worker_id: str) -> WorkerSession:
        """Begin to collect messages for a worker. A stream it left open before is closed."""
        self._end_session(worker_id, "the same worker connected again")
        session = WorkerSession(worker_id, asyncio.Queue(WORKER_BACKLOG))
        self._sessions[worker_id] = session
        return session

    def close_session(self, session: WorkerSession) -> bool:
        """The stream ended. False if another one of the same worker took its place, or it was dropped before."""
        if self._sessions.get(session.worker_id) is not session:
            return False
        del self._sessions[session.worker_id]
        return True

    def _end_session(self, worker_id: str, reason: str) -> None:
        session = self._sessions.pop(worker_id, None)
        if session is not None:
            session.end(reason)

    def _send(self, command: WorkerCommand) -> None:
        session = self._sessions.get(command.worker_id)
        if session is None:
            return  # its stream ended a moment ago; WorkerLost is on its way to the core
        try:
            session.outgoing.put_nowait(command)
        except asyncio.QueueFull:
            logger.warning("Worker %s leaves %d messages unread; dropping it.", command.worker_id, WORKER_BACKLOG)
            session.reason = "too many messages unread"
            session.outgoing.get_nowait()  # make room for the end of the stream
            session.outgoing.put_nowait(None)


def _rights_of(address: str) -> str:
    """What a block touches that changes the rights of a signing address."""
    return permissions_on(f"{ADDRESS_TYPE}-{address}")


def _nothing() -> None:
    """What is read for whoever only waits until it is stored."""


def _submission(command: SubmitProof) -> Submission:
    return Submission(
        command.job_id,
        command.work,
        command.proof,
        command.priority,
        command.signer,
        command.clock,
        command.founding,
    )
