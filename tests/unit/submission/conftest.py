"""A small chain with a mempool that can be told to misbehave, a store in memory, and a lane between the two."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio

from coordinator.chain.client import Account, Block, SigningRight, TxAnswer, WorkReading
from coordinator.core.job import Job, JobState
from coordinator.store.protocol import EndedJob, JobFilter, KeyedRequest, LiveAttemptExists, Store
from coordinator.submission.attempt import Attempt
from coordinator.submission.keys import SigningKey
from coordinator.submission.lane import Included, Lane, Outcome, Settings, Submission
from coordinator.submission.lanes import Lanes
from coordinator.submission.outcome import claim_of
from hashfleet.action import Action, CharterTerms, Work
from hashfleet.charter import Founding
from hashfleet.difficulty import safe
from hashfleet.errors import ChainUnavailable, KeyProblem, WorkGone, WorkPaused
from hashfleet.proof import Proof, verify
from hashfleet.rpc.cosmos.tx.v1beta1.tx_pb2 import AuthInfo, TxBody, TxRaw
from hashfleet.rpc.structs.structs.tx_pb2 import MsgGuildCreate, MsgStructBuildComplete, MsgStructOreMinerComplete

KEY = SigningKey(bytes(range(1, 33)))
#: More keys, for several lanes.
KEYS = (KEY, *(SigningKey(bytes(range(start, start + 32))) for start in (2, 3)))
#: The height at which a scene starts; works are anchored 30 blocks before, at a range of 25: one zero is enough.
START = 130
ANCHOR = 100
RANGE = 25
MESSAGES = {
    "/structs.structs.MsgStructBuildComplete": (Action.BUILD, MsgStructBuildComplete),
    "/structs.structs.MsgStructOreMinerComplete": (Action.MINE, MsgStructOreMinerComplete),
    "/structs.structs.MsgGuildCreate": (Action.CHARTER, MsgGuildCreate),
}


async def nothing(call: str) -> None:
    """A network and a disk on which nothing happens in between."""


@dataclass(frozen=True)
class Sent:
    """A transaction as the chain reads it."""

    tx_hash: str
    address: str
    sequence: int
    timeout_height: int
    #: Action, object and nonce of each message; the object is empty where whoever signs founds a guild of his own.
    proofs: tuple[tuple[Action, str, str], ...]

    @property
    def objects(self) -> list[str]:
        return [object_id for _, object_id, _ in self.proofs]


def read_transaction(tx_bytes: bytes) -> Sent:
    raw = TxRaw.FromString(tx_bytes)
    body = TxBody.FromString(raw.body_bytes)
    proofs, creators = [], set()
    for packed in body.messages:
        action, kind = MESSAGES[packed.type_url]
        message = kind.FromString(packed.value)
        object_id = message.founderPlayerId if action is Action.CHARTER else message.structId
        proofs.append((action, object_id, message.nonce))
        creators.add(message.creator)
    (creator,) = creators
    return Sent(
        hashlib.sha256(tx_bytes).hexdigest().upper(),
        creator,
        AuthInfo.FromString(raw.auth_info_bytes).signer_infos[0].sequence,
        body.timeout_height,
        tuple(proofs),
    )


class ScriptedChain:
    """A chain with the rules that matter to a lane. It fulfils ChainClient."""

    def __init__(self) -> None:
        self.height = START
        self.works: dict[tuple[Action, str], Work | Exception] = {}
        self.no_reactors: set[str] = set()
        self.sequences = {key.address: 7 for key in KEYS}
        #: What each address may do; for all that are not named, as the owner.
        self.rights: dict[str, SigningRight | Exception] = {}
        #: Transactions that an address gets into the mempool per block, and messages that are taken in one.
        self.address_cap = 1000
        self.most_messages = 40
        self.mempool: list[Sent] = []
        self.foreign_pending = 0
        #: Everything that a block holds: hash -> answer.
        self.included: dict[str, TxAnswer] = {}
        #: (hash, code) in the order of inclusion; ante failures left out.
        self.executed: list[tuple[str, int]] = []
        #: Blocks after which a look-up knows of an inclusion.
        self.index_lag = 0
        self.includes = True
        #: What the next broadcasts meet: "lost before" or "lost after" reaching the mempool, or a refusal.
        self.next_broadcasts: deque[str | tuple[str, int]] = deque()
        #: Objects that somebody else attempts in every block, so that there is no room for ours.
        self.crowded: set[str] = set()
        #: What the next transactions meet in their block: codespace and code.
        self.next_results: deque[tuple[str, int]] = deque()
        #: What blocks say of transactions whose first message is for an object.
        self.logs: dict[str, str] = {}
        #: Raised by every call while set.
        self.trouble: Exception | None = None
        self.broadcasts: list[bytes] = []
        self.reads: list[str] = []
        self.interrupt: Callable[[str], Awaitable[None]] = nothing

    @property
    def chain_id(self) -> str:
        return "scripted-1"

    async def connect(self) -> None: ...

    async def close(self) -> None: ...

    async def latest_block(self) -> Block:
        await self._call("latest_block")
        return Block(self.height, float(self.height))

    async def blocks(self) -> AsyncIterator[Block]:
        yield Block(self.height, float(self.height))

    async def outstanding_work(self, player_id: str) -> list[tuple[Action, str]]: ...  # a lane never asks

    async def check_signer(self, address: str, action: Action, object_id: str) -> SigningRight:
        await self._call("check_signer")
        right = self.rights.get(address, SigningRight("1-7", "1-7"))
        if isinstance(right, Exception):
            raise right
        return right

    async def read_work(self, action: Action, object_id: str) -> WorkReading:
        await self._call("read_work")
        self.reads.append(object_id)
        work = self.works.get((action, object_id), WorkGone(f"{object_id} is no more"))
        if isinstance(work, Exception):
            raise work
        return WorkReading(work, frozenset({object_id}))

    async def read_charter(self, founder_id: str, solver_id: str, reactor_id: str = "") -> WorkReading:
        if reactor_id in self.no_reactors:
            raise WorkGone(f"reactor {reactor_id} is no more")
        reading = await self.read_work(Action.CHARTER, founder_id)
        terms = CharterTerms(self.chain_id, solver_id)
        return replace(reading, work=replace(reading.work, charter=terms), clock="CHARTER")

    async def account(self, address: str) -> Account:
        await self._call("account")
        if address not in self.sequences:
            raise KeyProblem(f"the account {address} does not exist")
        return Account(address, 17, self.sequences[address])

    async def find_transaction(self, tx_hash: str) -> TxAnswer | None:
        await self._call("find_transaction")
        answer = self.included.get(tx_hash)
        return answer if answer and (answer.height or 0) <= self.height - self.index_lag else None

    async def broadcast(self, tx_bytes: bytes) -> TxAnswer:
        await self._call("broadcast")
        self.broadcasts.append(tx_bytes)
        sent = read_transaction(tx_bytes)
        order = self.next_broadcasts.popleft() if self.next_broadcasts else ""
        if order == "lost before":
            raise ChainUnavailable("no answer in time")
        if isinstance(order, str) and order.startswith("expect "):
            log = f"account sequence mismatch, expected {order.split()[1]}, got {sent.sequence}"
            return TxAnswer(sent.tx_hash, 32, "sdk", log)
        answer = self._check(sent) if isinstance(order, str) else TxAnswer(sent.tx_hash, order[1], order[0], "refused")
        if answer.code == 0:
            self.mempool.append(sent)
        if order == "lost after":
            raise ChainUnavailable("no answer in time")
        await self.interrupt("broadcast answered")
        return answer

    def _check(self, sent: Sent) -> TxAnswer:
        before = sum(other.address == sent.address for other in self.mempool)
        foreign = self.foreign_pending if sent.address == KEY.address else 0
        expected = self.sequences[sent.address] + foreign + before
        if any(other.tx_hash == sent.tx_hash for other in self.mempool):
            return TxAnswer(sent.tx_hash, 19, "sdk", "tx already exists in cache")
        if sent.timeout_height <= self.height:
            return TxAnswer(sent.tx_hash, 30, "sdk", "timeout height")
        if sent.sequence != expected:
            log = f"account sequence mismatch, expected {expected}, got {sent.sequence}"
            return TxAnswer(sent.tx_hash, 32, "sdk", log)
        if len(sent.proofs) > self.most_messages:
            return TxAnswer(sent.tx_hash, 2001, "structs-ante", "too many messages")
        if before >= self.address_cap:
            return TxAnswer(sent.tx_hash, 2041, "structs-ante", "too many transactions of this address")
        if isinstance(self.rights.get(sent.address), Exception):
            return TxAnswer(sent.tx_hash, 2011, "structs-ante", "lacks the permission")
        if not self.crowded.isdisjoint(sent.objects):
            return TxAnswer(sent.tx_hash, 2031, "structs-ante", "object already attempted this block")
        return TxAnswer(sent.tx_hash, 0, "", "")

    async def _call(self, name: str) -> None:
        await self.interrupt(name)
        if self.trouble is not None:
            raise self.trouble

    # what tests do to it

    def commit(self) -> None:
        """Commit a block: execute what can be executed, drop what no longer can."""
        self.height += 1
        self.sequence += self.foreign_pending if self.includes else 0
        self.foreign_pending = 0 if self.includes else self.foreign_pending
        objects: set[str] = set()
        left: list[Sent] = []
        for sent in self.mempool:
            expected = self.sequences[sent.address]
            if sent.timeout_height < self.height or sent.sequence < expected:
                continue
            if not self.includes or sent.sequence > expected or not objects.isdisjoint(sent.objects):
                left.append(sent)
                continue
            objects |= set(sent.objects)
            self.sequences[sent.address] += 1
            self._execute(sent)
        self.mempool = left

    def _execute(self, sent: Sent) -> None:
        """All messages or none."""
        codespace, code = self.next_results.popleft() if self.next_results else ("", 0)
        works = dict(self.works)
        for action, object_id, nonce in sent.proofs:
            if code == 0:
                codespace, code = self._complete(action, object_id, nonce, sent.address)
        if code != 0:
            self.works = works
        log = self.logs.get(sent.objects[0], "as executed")
        self.included[sent.tx_hash] = TxAnswer(sent.tx_hash, code, codespace, log, height=self.height)
        self.executed.append((sent.tx_hash, code))

    def _complete(self, action: Action, object_id: str, nonce: str, address: str) -> tuple[str, int]:
        right = self.rights.get(address, SigningRight("1-7", "1-7"))
        solver = right.player_id if isinstance(right, SigningRight) else "1-7"
        work = self.works.get((action, object_id or solver))
        if isinstance(work, Work) and work.charter is not None:
            work = replace(work, charter=replace(work.charter, solver_id=solver))
        if not isinstance(work, Work):
            return "structs", 1650 if isinstance(work, WorkPaused) else 1250
        if verify(work.prefix, nonce).zeros < safe(self.height - work.anchor, work.range):
            return "structs", 1800
        if action is Action.BUILD:
            del self.works[action, object_id]
        else:
            self.works[action, work.object_id] = replace(work, anchor=self.height)
        return "", 0

    @property
    def sequence(self) -> int:
        """Of the first key."""
        return self.sequences[KEY.address]

    @sequence.setter
    def sequence(self, value: int) -> None:
        self.sequences[KEY.address] = value

    def rival_completes(self, action: Action, object_id: str) -> None:
        """Somebody else's proof lands first."""
        work = self.works[action, object_id]
        assert isinstance(work, Work)
        if action is Action.BUILD:
            del self.works[action, object_id]
        else:
            self.works[action, object_id] = replace(work, anchor=self.height)

    def sent_objects(self) -> list[str]:
        return [object_id for sent in self.sent() for object_id in sent.objects]

    def sent(self) -> list[Sent]:
        return [read_transaction(tx_bytes) for tx_bytes in self.broadcasts]


class MemoryStore:
    """The ledger part of a Store, kept in memory across restarts of the lane. It enforces the claim as SQL does."""

    def __init__(self) -> None:
        self.rows: list[Attempt] = []
        self.interrupt: Callable[[str], Awaitable[None]] = nothing

    async def add_attempt(self, attempt: Attempt) -> Attempt:
        (stored,) = await self.add_attempts([attempt])
        return stored

    async def add_attempts(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        await self.interrupt("add_attempts")
        claims = [claim_of(attempt.work) for attempt in attempts]
        assert len(set(claims)) == len(claims)
        if any(row.state.live and claim_of(row.work) in claims for row in self.rows):
            raise LiveAttemptExists("live already")
        stored = [replace(attempt, ledger_id=len(self.rows) + place) for place, attempt in enumerate(attempts, start=1)]
        self.rows += stored
        await self.interrupt("add_attempts done")
        return stored

    async def update_attempt(self, attempt: Attempt) -> None:
        await self.update_attempts([attempt])

    async def update_attempts(self, attempts: Sequence[Attempt]) -> None:
        await self.interrupt("update_attempts")
        for attempt in attempts:
            assert attempt.ledger_id is not None
            self.rows[attempt.ledger_id - 1] = attempt
        await self.interrupt("update_attempts done")

    async def live_attempts(self) -> list[Attempt]:
        await self.interrupt("live_attempts")
        return [row for row in self.rows if row.state.live]

    async def attempts_of(self, job_id: str) -> list[Attempt]:
        await self.interrupt("attempts_of")
        return [row for row in self.rows if row.job_id == job_id]

    # A lane keeps no jobs; these are here so that this is a whole Store.
    async def save_jobs(self, jobs: Sequence[Job], keyed: Sequence[KeyedRequest] = ()) -> None: ...

    async def keyed_requests(self, keys: Collection[str]) -> dict[str, KeyedRequest]:
        return {}

    async def unfinished_jobs(self) -> list[Job]:
        return []

    async def completed_works(self, limit: int) -> list[Work]:
        return []

    async def job(self, job_id: str) -> Job | None:
        return None

    async def list_jobs(self, which: JobFilter, limit: int, after: tuple[float, str] | None) -> list[Job]:
        return []

    async def count_jobs(self) -> dict[JobState, int]:
        return {}

    async def ended_jobs(self, created_before: float, limit: int, after: tuple[float, str] | None) -> list[EndedJob]:
        return []

    async def delete_jobs(self, job_ids: Sequence[str]) -> None: ...

    async def close(self) -> None: ...


def find_proof(work: Work, zeros: int) -> Proof:
    """A proof with exactly that many zeros."""
    return next(proof for nonce in range(10**7) if (proof := verify(work.prefix, str(nonce))).zeros == zeros)


class Scene:
    """A chain, a ledger, a lane that runs, and what the lane told."""

    def __init__(self, chain: ScriptedChain, store: Store, ledger: MemoryStore) -> None:
        self.chain, self.store, self.ledger = chain, store, ledger
        self.told: list[Outcome] = []
        self.settings = Settings()
        self.lane: Any
        self.task: asyncio.Task[None]

    def make_lane(self) -> Lane:
        return Lane(
            self.chain,
            self.store,
            KEY,
            clock=lambda: 1000.0 + self.chain.height,
            on_outcome=self._hear,
            settings=self.settings,
        )

    def make_lanes(self, keys: Sequence[SigningKey]) -> Lanes:
        """All keys, each with a lane."""
        return Lanes(
            self.chain,
            self.store,
            keys,
            clock=lambda: 1000.0 + self.chain.height,
            on_outcome=self._hear,
            settings=self.settings,
        )

    async def start(self, lane: Lane | Lanes | None = None) -> None:
        self.lane = lane or self.make_lane()
        await self.lane.recover()
        self.task = asyncio.create_task(self.lane.run())
        self.lane.block_seen(self.chain.height)

    async def _hear(self, outcome: Outcome) -> None:
        self.told.append(outcome)

    async def settle(self) -> None:
        """Let the lane do all it can; with a chain and a ledger in memory nothing waits for anything else."""
        for _ in range(60):
            await asyncio.sleep(0)
        if self.task.done():
            self.task.result()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def restart(self) -> None:
        await self.stop()
        await self.start()
        await self.settle()

    async def block(self, count: int = 1) -> None:
        """Commit blocks, one after the other, and let the lane act on each."""
        for _ in range(count):
            self.chain.commit()
            self.lane.block_seen(self.chain.height)
            await self.settle()

    def pose(
        self, number: int, *, action: Action = Action.MINE, zeros: int = 1, priority: int = 2, anchor: int = ANCHOR
    ) -> Submission:
        """Let the chain pose a puzzle, and find its proof."""
        work = Work(action, f"5-{number}", anchor, RANGE)
        self.chain.works[action, work.object_id] = work
        return Submission(f"pow_{number}", work, find_proof(work, zeros), priority)

    def pose_charter(self, founder: str, solver: str, signer: str) -> Submission:
        """Let the chain pose a charter, and find the proof of this solver."""
        work = Work(Action.CHARTER, founder, ANCHOR, RANGE, charter=CharterTerms(self.chain.chain_id, solver))
        self.chain.works[Action.CHARTER, founder] = work
        founding = Founding("3-1", "guild.example")
        return Submission("pow_guild", work, find_proof(work, 1), 2, signer, "CHARTER", founding)

    async def submit(self, *submissions: Submission) -> None:
        for submission in submissions:
            self.lane.submit(submission)
        await self.settle()

    async def run_lanes(self, *keys: SigningKey, **settings: int) -> None:
        """Go on with several keys, or other settings."""
        await self.stop()
        self.settings = Settings(**settings)
        await self.start(self.make_lanes(keys or KEYS))

    def of(self, job_id: str) -> list[str]:
        """The kinds of outcome told of a job, in order."""
        return [type(outcome).__name__ for outcome in self.told if outcome.job_id == job_id]

    @property
    def included(self) -> list[str]:
        return [outcome.job_id for outcome in self.told if isinstance(outcome, Included)]


@pytest.fixture
def chain() -> ScriptedChain:
    return ScriptedChain()


@pytest.fixture
def ledger() -> MemoryStore:
    return MemoryStore()


@pytest_asyncio.fixture
async def scene(chain: ScriptedChain, ledger: MemoryStore) -> AsyncIterator[Scene]:
    scene = Scene(chain, ledger, ledger)
    await scene.start()
    yield scene
    await scene.stop()


@pytest.fixture
def make_scene() -> Callable[[], Scene]:
    """A scene that is not started yet."""

    def make() -> Scene:
        ledger = MemoryStore()
        return Scene(ScriptedChain(), ledger, ledger)

    return make
