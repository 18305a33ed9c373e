"""Runs of the fault suite for a guild stack: a fault, a step and a seed make one history of one coordinator.

``guild_stack_runs.py FAULT STEP FIRST LAST`` runs the seeds from FIRST to LAST on a PostgreSQL server of its own, and
prints a JSON line for each. With one seed (``guild_stack_runs.py FAULT STEP SEED``) it prints what was logged, too.
With nothing but the URL of a database, whose schemas are made anew, it reads such lines from its input.

A history: one to four works are ripe or nearly so, jobs are asked for them, and the fault is ordered when the
submission reaches the step for the first or the second time. In every other seed the coordinator is killed besides,
before or after a write to its store or a statement that makes a row, and started again on its database. An operator
ends what the coordinator says cannot end by itself. Once all jobs have ended the fault is over, and a work that nobody
asked for before has to be completed. Then the chain, the agent's memory and the ledger are compared.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg

sys.path.insert(0, str(Path(__file__).parent))

from fault_house import new_database, opened_store
from guild_stack_catalogue import FAULTS, Fault, Scene, Step
from guild_stack_house import House
from guild_stack_wire import SOCKET, Wire
from guild_stack_world import (
    BLOCK_SECONDS,
    OPERATOR_SECONDS,
    RAIDED,
    Agent,
    Indexer,
    Node,
    Sent,
    add_keys,
    empty,
    let_time_pass,
    signed,
)

from coordinator.core.job import Job, JobState
from coordinator.store.protocol import JobFilter
from coordinator.submission.attempt import Attempt, AttemptState
from coordinator.submission.keys import SigningKey
from coordinator.submission.outcome import Paused
from devnet.messages import Completion
from devnet.node import Devnet
from devnet.rules import VERSIONS
from devnet.staging import Condition, Stage
from devnet.transactions import decode
from hashfleet.action import Action, prefix
from hashfleet.difficulty import first_age
from hashfleet.job_request import JobRequest, StartMode
from hashfleet.proof import verify

START = 100_000
SCHEMA = Path(__file__).parents[2] / "guild-stack-schema.sql"
OWNER, GRANTER = "1-7", "1-8"
KEYS = (SigningKey(bytes(range(1, 33))), SigningKey(bytes(range(2, 34))))
STRANGER = SigningKey(bytes(range(3, 35)))
HASH_BITS = 15_728_640
FRESH = "5-90"
RELEASES = ("v0.20", "v0.21", "v0.22")
ALL = {"5-1": Action.BUILD, "5-2": Action.BUILD, "5-3": Action.MINE, "5-4": Action.REFINE, "9-7": Action.RAID}
#: Blocks after which a history has got stuck: pauses grow to 64 blocks at most.
MOST_BLOCKS, MOST_FRESH_BLOCKS, MOST_LAST_BLOCKS = 260, 120, 60
#: What a coordinator tells of a success that it did not see as a transaction.
SEEN = "seen in the guild stack's tables"


@dataclass
class Told:
    """What came of a run."""

    fault: str
    step: str
    seed: int
    wrong: list[str] = field(default_factory=list)
    #: Whether the step was reached, and the fault took place as far as that is counted.
    ordered: bool = False
    happened: bool = False
    crashed: str = ""
    #: Rows that an operator had to end.
    helped: int = 0
    blocks: int = 0
    seconds: float = 0.0
    #: States in which the jobs ended.
    ended: list[str] = field(default_factory=list)


class Run:
    """One history."""

    def __init__(self, fault_name: str, step: Step, seed: int, database: psycopg.Connection[Any], folder: Path) -> None:
        self.random = random.Random(f"{fault_name} {step.value} {seed}")
        self.fault: Fault = FAULTS[fault_name]
        self.told = Told(fault_name, step.value, seed)
        self._step, self._database, self._folder = step, database, folder
        self.version = self.random.choice(RELEASES)
        with_node = self.random.random() < 0.6
        self.has_node = with_node if self.fault.node is None else self.fault.node
        self._occasion = self.random.randint(1, 2)
        #: How many chances to crash pass before it does; never if None.
        self._crash_in = self.random.randint(1, 60) if seed % 2 else None
        self._crash_now = asyncio.Event()
        self._take_back: Callable[[], None] | None = None
        self._over_at: int | None = None
        #: Rows that might land together: (height, rows).
        self._together: list[tuple[int, list[dict[str, Any]]]] = []

    def clock(self) -> float:
        return 1_800_000_000.0 + BLOCK_SECONDS * (self.devnet.height - START)

    async def play(self, path: Path) -> Told:
        """Play it, and tell what was wrong."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(60):
                await self._play(path)
        except Exception:  # noqa: BLE001 - whatever breaks a run is told with its seed
            self.told.wrong.append(traceback.format_exc())
        self.told.seconds = time.perf_counter() - began
        return self.told

    async def _play(self, path: Path) -> None:
        self.devnet = devnet = Devnet(
            scenario_name="empty", start_height=START, version=self.version, seed=self.told.seed, rest_port=None
        )
        devnet.chain._clock = self.clock
        works = self._pose()
        empty(self._database)
        add_keys(self._database, OWNER, KEYS)
        info = self._database.info
        self.indexer = Indexer(self._database, devnet, devnet.chain_id)
        self.agent = Agent(self._database, devnet, KEYS, self.random, self._reached)
        node = Node(devnet)
        wire = Wire(self._folder, Path(info.host) / SOCKET, lambda: self._reached(None))
        self.scene = Scene(
            devnet,
            self.random,
            self._database,
            wire,
            self.indexer,
            self.agent,
            node,
            works,
            self._complete,
            set(),
            set(),
            set(),
        )
        self.indexer.index()
        await wire.open()
        async with opened_store(path) as store:
            self.house = house = House(
                self._folder,
                info.dbname,
                devnet.chain_id,
                node if self.has_node else None,  # type: ignore[arg-type]
                store,
                self.clock,
                self._reached,
                lambda: self.random.randrange(10**7),
            )
            await house.move_in()
            try:
                for object_id, action in works.items():
                    await self._ask(action, object_id)
                await self._until(self._all_ended, MOST_BLOCKS, "the jobs do not end")
                self._lift()
                await self._ask(Action.BUILD, FRESH)
                await self._until(self._all_ended, MOST_FRESH_BLOCKS, "a fresh job does not end: the outbox is stuck")
                await self._until(self._none_live, MOST_LAST_BLOCKS, "a row of the ledger stays live")
            finally:
                self.told.blocks = devnet.height - START
                await house.crash()
                await wire.close()
            self.told.wrong += [f"the coordinator failed: {failure!r}" for failure in house.failures]
            jobs = await store.list_jobs(JobFilter(), 100, None)
            self.told.ended = sorted(job.state.value for job in jobs)
            attempts = [attempt for job in jobs for attempt in await store.attempts_of(job.job_id)]
            counts = {"wire": wire.happened, "agent": self.agent.happened, "": 1}
            counted = self.fault.counted
            happened = counts[counted] if counted in counts else devnet.faults.happened[counted]
            self.told.happened = self.told.ordered and happened > 0
            self.told.wrong += [
                *self._wrong_with_jobs(jobs, attempts),
                *self._wrong_with_rows(attempts),
                *self._wrong_with_ledger(attempts),
            ]

    # ---- the stage -----------------------------------------------------------------------------------------------

    def _pose(self) -> dict[str, Action]:
        """Some works whose difficulty is low, or falls in a few blocks."""
        wanted = self.random.sample(sorted(ALL), self.random.choice((1, 2, 2, 3, 4)))
        with self.devnet.edit() as stage:
            stage.add_player(OWNER, KEYS[0].address, ore=5)
            stage.add_address(KEYS[1].address, OWNER, HASH_BITS | 1)
            stage.add_player(GRANTER, STRANGER.address)
            stage.grant(GRANTER, OWNER, HASH_BITS)
            stage.grant(OWNER, GRANTER, HASH_BITS)
            for object_id in wanted:
                self._stage(stage, object_id)
            stage.add_struct(FRESH, 9, OWNER, anchor=START - 300)
        return {object_id: ALL[object_id] for object_id in wanted}

    def _stage(self, stage: Stage, object_id: str) -> None:
        match object_id:
            case "5-1":
                stage.add_struct(object_id, 9, OWNER, anchor=self._anchor(220))
            case "5-2":
                stage.add_struct(object_id, 9, GRANTER, anchor=self._anchor(220))
            case "5-3":
                stage.add_struct(object_id, 14, OWNER, Condition.ONLINE, anchor=self._anchor(14_000))
            case "5-4":
                stage.add_struct(object_id, 15, OWNER, Condition.ONLINE, anchor=self._anchor(28_000))
            case _:
                stage.send_fleet(object_id, RAIDED, anchor=self._anchor(VERSIONS[self.version].base_shield))

    def _anchor(self, difficulty_range: int) -> int:
        """One to three zeros are asked for now, or one more for a block or two."""
        return START - first_age(self.random.choice((1, 2, 2, 3)), difficulty_range) + self.random.randint(-3, 2)

    def _complete(self, object_id: str) -> bool:
        """Somebody else, who may, completes a work in the next block."""
        action, state = self.scene.works[object_id], self.devnet.chain.state
        anchor = self._clock_of(object_id)
        if not anchor:
            return False
        before = prefix(action, object_id, anchor, RAIDED if action is Action.RAID else None)
        account = state.accounts[STRANGER.address]
        for number in range(200_000):
            proof = verify(before, f"9{number}")
            if proof.zeros >= 3:
                raw = signed(action, object_id, proof, STRANGER, self.devnet.chain_id, account.number, account.sequence)
                return self.devnet.chain.simulate(raw).code == 0 and self.devnet.chain.broadcast(raw)[1].code == 0
        return False

    def _clock_of(self, object_id: str) -> int:
        action, state = self.scene.works[object_id], self.devnet.chain.state
        if action is Action.RAID:
            fleet = state.fleets[object_id]
            return state.planets[fleet.location_id].block_start_raid if fleet.away else 0
        struct = state.structs[object_id]
        if action is Action.BUILD:
            return 0 if struct.built else struct.block_start_build
        clocks = state.planets[struct.location_id] if state.rules.planet_clocks else struct
        return clocks.block_start_ore_mine if action is Action.MINE else clocks.block_start_ore_refine

    # ---- its course ----------------------------------------------------------------------------------------------

    async def _ask(self, action: Action, object_id: str) -> None:
        mode = self.random.choice((StartMode.RACE, StartMode.RACE, StartMode.BALANCED))
        request = JobRequest(action, object_id, OWNER, start_mode=mode, idempotency_key=f"once-{object_id}")
        while True:
            # The answer may be lost in a crash; then it is asked again, as a client does.
            asked = asyncio.ensure_future(self.house.service.submit(request))
            crash = asyncio.ensure_future(self._crash_now.wait())
            await asyncio.wait((asked, crash), return_when=asyncio.FIRST_COMPLETED)
            crash.cancel()
            if asked.done():
                await asked
                return
            asked.cancel()
            await self._restart()

    async def _until(self, reached: Callable[[], Any], most: int, trouble: str) -> None:
        for _ in range(most):
            await self.house.settle()
            if self._crash_now.is_set():
                await self._restart()
                continue
            if (ended := self.house.ended_of()) is not None:
                raise RuntimeError("the coordinator ended by itself") from ended
            if await reached():
                return
            await self._block()
        raise AssertionError(f"{trouble}: {await self._standing()}")

    async def _block(self) -> None:
        """A block, with all that happens around it."""
        let_time_pass(self._database)
        self._look_for_doubles()
        await self.agent.turn()
        if self.devnet.chain.pending():
            await self._reached(Step.BEFORE_INCLUSION)
        block = self.devnet.chain.produce_block()
        if block.txs:
            await self._reached(Step.BEFORE_INDEX)
        height = self.indexer.index()
        if self.devnet.height % 5 == 0:
            self._help()
        if self._over_at is not None and self.devnet.height >= self._over_at:
            self._lift()
        await self.house.see(height)

    def _look_for_doubles(self) -> None:
        alive: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in self.agent.rows():
            if self.agent.may_land(row):
                alive.setdefault((row["command"], row["args"][0]), []).append(row)
        self._together += [(self.devnet.height, rows) for rows in alive.values() if len(rows) > 1]

    def _help(self) -> None:
        """An operator ends what the coordinator says is stuck, once sure that nothing can come of it."""
        if self.agent.off:
            return
        said = " ".join(outcome.reason for outcome in self.house.told if isinstance(outcome, Paused))
        for row in self.agent.rows():
            if (
                row["status"] in ("claimed", "broadcast")
                and row["age"] > OPERATOR_SECONDS
                and f"signer.transaction_error({row['id']}," in said
                and not self.agent.may_land(row)
                and not self.agent.has_landed(row)
            ):
                self._database.execute("SELECT signer.transaction_error(%s, 'given up')", (row["id"],))
                self.told.helped += 1
        if self.devnet.height % 10 == 0:
            self.agent.free_accounts()

    async def _all_ended(self) -> bool:
        jobs = await self.house.store.list_jobs(JobFilter(), 100, None)
        return all(job.state.final for job in jobs)

    async def _none_live(self) -> bool:
        return not await self.house.store.live_attempts()

    async def _standing(self) -> list[str]:
        jobs = await self.house.store.list_jobs(JobFilter(), 100, None)
        live = await self.house.store.live_attempts()
        return [
            *(
                f"{job.request.object_id} {job.state.value} from {job.start_height}: {job.error}; {job.work}"
                for job in jobs
                if not job.state.final
            ),
            *(f"attempt {row.ledger_id} {row.state.value} row {row.signer_row}" for row in live),
            *(f"row {row['id']} {row['status']} {row['age']:.0f} s {row['args'][0]}" for row in self.agent.rows()),
            f"height {self.devnet.height}, {self.version}, node {self.has_node}, sent {self.agent.sent}",
            f"told {self.house.told[-3:]}",
        ]

    async def _restart(self) -> None:
        self._crash_now.clear()
        await self.house.crash()
        await self.scene.wire.hang_up()
        await self.house.move_in()

    async def _reached(self, step: Step | None) -> None:
        """The submission reached a step (or a place where a crash would matter)."""
        if step is None:
            self._pass_crash()
            await self.house.life.still_alive()
        elif step is self._step and not self.told.ordered:
            self._occasion -= 1
            if self._occasion <= 0:
                self.told.ordered = True
                logging.getLogger(__name__).info("Ordering %s at height %d.", self.told.fault, self.devnet.height)
                self._take_back = self.fault.order(self.scene)
                self._over_at = self.devnet.height + self.random.randint(*self.fault.lasts)

    def _pass_crash(self) -> None:
        if self._crash_in is None or self._crash_now.is_set():
            return
        self._crash_in -= 1
        if self._crash_in == 0:
            self._crash_in = None
            self.told.crashed = f"at height {self.devnet.height}"
            self.house.life.over = True
            self._crash_now.set()

    def _lift(self) -> None:
        """The fault is over."""
        if self._over_at is None:
            return
        logging.getLogger(__name__).info("Taking back %s at height %d.", self.told.fault, self.devnet.height)
        self._over_at = None
        self.devnet.faults.clear()
        self.scene.wire.clear()
        self.agent.orders = dict.fromkeys(self.agent.orders, 0)
        if self._take_back is not None:
            self._take_back()

    # ---- what must be true at the end ----------------------------------------------------------------------------

    def _wrong_with_jobs(self, jobs: list[Job], attempts: list[Attempt]) -> Iterator[str]:
        """Every job completed, or failed for a reason that there is."""
        asked = [*self.scene.works, FRESH]
        if sorted(job.request.object_id for job in jobs) != sorted(asked):
            yield f"there are jobs for {[job.request.object_id for job in jobs]}, asked for were {asked}"
        executed = self._executed()
        for job in jobs:
            object_id = job.request.object_id
            by = executed.get(object_id, [])
            if len(by) > 1 and not any("do not tell" in o.reason for o in self.house.told if hasattr(o, "reason")):
                yield f"{object_id} was completed {len(by)} times, by {by}"
            if job.state is JobState.COMPLETED:
                shown = job.transaction.hash if job.transaction else None
                seen = SEEN in (job.transaction.message if job.transaction else "")
                if shown is None or (shown and not seen and shown not in [sent.hash for sent in by]):
                    yield f"{object_id} is completed by {job.transaction}, but the chain executed {by}"
                elif not by and not self._was_touched(object_id):
                    yield f"{object_id} is completed by {job.transaction}, and the chain executed nothing"
                elif not shown and not seen:
                    yield f"{object_id} is completed by {job.transaction}, which does not say how that was seen"
            elif by:
                yield f"{object_id} is {job.state.value} ({job.error}), but {by[0].hash} completed it"
            elif not self._may_fail(job):
                yield f"{object_id} is {job.state.value}: {job.error}"

    def _was_touched(self, object_id: str) -> bool:
        return object_id in self.scene.others | self.scene.moved

    def _may_fail(self, job: Job) -> bool:
        object_id, error = job.request.object_id, job.error or ""
        if job.state is not JobState.FAILED:
            return False
        if object_id in self.scene.gone:
            return any(word in error for word in ("destroyed", "offline", "not set", "1250"))
        if object_id in self.scene.others and ALL[object_id] in (Action.BUILD, Action.RAID):
            return any(word in error for word in ("built", "station", "1250", "1453"))
        return self.fault.may_refuse and "the chain answered structs 12" in error

    def _executed(self) -> dict[str, list[Sent]]:
        """What of the agent's succeeded, by object."""
        executed: dict[str, list[Sent]] = {}
        sent = self.agent.by_hash
        for included in self.devnet.transactions():
            if included.result.code == 0 and included.hash in sent:
                (message,) = decode(included.raw, VERSIONS[self.version]).messages
                assert isinstance(message, Completion)
                executed.setdefault(message.object_id, []).append(sent[included.hash])
        return executed

    def _wrong_with_rows(self, attempts: list[Attempt]) -> Iterator[str]:
        """Never two rows for one claim that could both land."""
        for height, rows in self._together:
            for attempt in attempts:
                work = attempt.work
                same = [row for row in rows if verify(work.prefix, row["args"][2]).hash == row["args"][1]]
                if len(same) > 1:
                    yield f"at height {height} rows {[row['id'] for row in same]} for {work} could both land"
                    return

    def _wrong_with_ledger(self, attempts: list[Attempt]) -> Iterator[str]:
        """The ledger says what the chain says."""
        by_row = {attempt.signer_row: attempt for attempt in attempts}
        for attempt in attempts:
            if attempt.state.live:
                yield f"attempt {attempt.ledger_id} is still {attempt.state.value}"
            if attempt.state is AttemptState.INCLUDED and not self._is_included(attempt):
                yield f"attempt {attempt} is included, but no block holds a transaction of its row"
        for sent in self.agent.by_hash.values():
            landed = self.devnet.chain.find(sent.hash)
            told = by_row.get(sent.row)
            if told is None:
                yield f"{sent} is in no attempt"
            elif landed is not None and landed.result.code == 0:
                if told.state is not AttemptState.INCLUDED:
                    yield f"block {landed.height} holds {sent}, but the ledger says {told.state.value}: {told.log}"
                elif told.tx_hash is not None and told.code == 0 and told.height != landed.height:
                    yield f"block {landed.height} holds {sent}, but the ledger says {told.height}"
                elif told.height is None or told.height < landed.height:
                    yield f"block {landed.height} holds {sent}, but the ledger has it at {told.height}"

    def _is_included(self, attempt: Attempt) -> bool:
        landed = [self.devnet.chain.find(sent.hash) for sent in self.agent.sent if sent.row == attempt.signer_row]
        if any(found is not None and found.result.code == 0 for found in landed):
            return True
        return SEEN in attempt.log and self._was_touched(attempt.work.object_id)


class _Noted(logging.Handler):
    """Keeps tracebacks: a run that logs one is wrong, whatever else comes of it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.tracebacks: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.tracebacks.append(self.format(record))


def play(fault: str, step: str, seed: int, database: psycopg.Connection[Any], folder: Path) -> Told:
    """One run in an event loop of its own."""
    random.seed(seed)  # the pauses of the client
    noted = _Noted()
    logging.getLogger().addHandler(noted)  # as the first handler it also keeps warnings off the terminal
    try:
        told = asyncio.run(Run(fault, Step(step), seed, database, folder).play(new_database(folder)))
    finally:
        logging.getLogger().removeHandler(noted)
    return replace(told, wrong=told.wrong + noted.tracebacks)


def main(url: str, arguments: list[str]) -> int:
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(prefix="hf-gs-", dir=memory if memory.is_dir() else None) as name,
        psycopg.connect(url, autocommit=True) as database,
    ):
        database.execute("SET client_min_messages = warning")
        database.execute("DROP SCHEMA IF EXISTS structs, signer, view CASCADE")
        database.execute(SCHEMA.read_bytes())
        # Tables without statistics look large to the planner, and a disk is not what is tested.
        for setting in ("jit = off", "synchronous_commit = off"):
            database.execute(f"ALTER DATABASE {database.info.dbname} SET {setting}".encode())
        folder, wrong = Path(name), 0
        lines = [" ".join(arguments)] if arguments else sys.stdin
        for line in lines:
            fault, step, first, *last = line.split()
            if not last:
                logging.basicConfig(level=logging.DEBUG, format="%(relativeCreated)6d %(name)s %(message)s")
                for noisy in ("alembic", "asyncio", "psycopg"):
                    logging.getLogger(noisy).setLevel(logging.WARNING)
            for seed in range(int(first), int(last[0] if last else first) + 1):
                told = play(fault, step, seed, database, folder)
                wrong += bool(told.wrong)
                print(json.dumps(vars(told)), flush=True)  # noqa: T201 - what this program is for
        return 1 if wrong else 0


def main_on_own_server(arguments: list[str]) -> int:
    """On a server that ends with it."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from conftest import PostgresServer, postgres_binaries

    binaries = postgres_binaries()
    if binaries is None:
        raise SystemExit("there is no PostgreSQL server here; install one (Debian: postgresql)")
    server = PostgresServer(binaries)
    try:
        return main(server.url(server.create()), arguments)
    finally:
        server.stop()


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main(given[0], given[1:]) if given[0].startswith("postgresql:") else main_on_own_server(given))
