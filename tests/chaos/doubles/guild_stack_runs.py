"""Runs of the fault suite for a guild stack: a fault, a step and a seed make one history of one coordinator.

``guild_stack_runs.py FAULT STEP FIRST LAST`` runs the seeds from FIRST to LAST on a PostgreSQL server of its own, and
prints a JSON line for each. With one seed (``guild_stack_runs.py FAULT STEP SEED``) it prints what was logged, too.
With nothing but the URL of a database, whose schemas are made anew, it reads such lines from its input.

What a history is stands in `common_runs`. Here one to four works are asked for, and the coordinator is killed before
or after a write to its store or a statement that makes a row. An operator ends what the coordinator says cannot end by
itself. At the end the chain, the agent's memory and the ledger are compared.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

sys.path.insert(0, str(Path(__file__).parent))

import common_runs
from common_faults import tells_of_end
from common_house import opened_store
from common_runs import (
    FRESH,
    GRANTER,
    HASH_BITS,
    KEYS,
    OWNER,
    RAIDED,
    START,
    STRANGER,
    WORKS,
    CommonRun,
    folder_in_memory,
)
from guild_stack_catalogue import FAULTS, Fault, Scene, Step
from guild_stack_house import House
from guild_stack_wire import SOCKET, Wire
from guild_stack_world import (
    OPERATOR_SECONDS,
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
from coordinator.submission.attempt import Attempt, AttemptState
from coordinator.submission.outcome import Paused
from devnet.messages import Completion
from devnet.node import Devnet
from devnet.rules import VERSIONS
from devnet.transactions import decode
from hashfleet.action import Action, prefix
from hashfleet.job_request import JobRequest, StartMode
from hashfleet.proof import verify

SCHEMA = Path(__file__).parents[2] / "guild-stack-schema.sql"
RELEASES = ("v0.20", "v0.21", "v0.22")
#: What a coordinator tells of a success that it did not see as a transaction.
SEEN = "seen in the guild stack's tables"


@dataclass
class Told(common_runs.Told):
    """What came of a run."""

    #: Rows that an operator had to end.
    helped: int = 0


class Run(CommonRun):
    """One history."""

    MOST_FRESH_BLOCKS, MOST_LAST_BLOCKS = 120, 60
    told: Told
    scene: Scene
    house: House

    def __init__(self, fault_name: str, step: Step, seed: int, database: psycopg.Connection[Any], folder: Path) -> None:
        super().__init__(Told(fault_name, step.value, seed), step)
        self.fault: Fault = FAULTS[fault_name]
        self._database, self._folder = database, folder
        self.version = self.random.choice(RELEASES)
        with_node = self.random.random() < 0.6
        self.has_node = with_node if self.fault.node is None else self.fault.node
        self._draw_moments(60)
        #: Rows that might land together: (height, rows).
        self._together: list[tuple[int, list[dict[str, Any]]]] = []

    async def _play(self, path: Path) -> None:
        devnet = Devnet(
            scenario_name="empty", start_height=START, version=self.version, seed=self.told.seed, rest_port=None
        )
        self._begin(devnet)
        works = self._pose()
        empty(self._database)
        add_keys(self._database, OWNER, KEYS)
        info = self._database.info
        self.indexer = Indexer(self._database, devnet, devnet.chain_id)
        self.agent = Agent(self._database, devnet, KEYS, self.random, self._reached)
        node = Node(devnet)
        wire = Wire(self._folder, Path(info.host) / SOCKET, lambda: self._reached(None))
        self.scene = Scene(
            devnet=devnet,
            random=self.random,
            works=works,
            database=self._database,
            wire=wire,
            indexer=self.indexer,
            agent=self.agent,
            node=node,
            complete=self._complete,
        )
        self.indexer.index()
        await wire.open()
        async with opened_store(path) as store:
            self.house = House(
                wire,
                info.dbname,
                devnet.chain_id,
                node if self.has_node else None,  # type: ignore[arg-type]
                store,
                self.clock,
                self._reached,
                self._salt,
            )
            try:
                jobs, attempts = await self._live()
            finally:
                await wire.close()
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
        wanted = self.random.sample(sorted(WORKS), self.random.choice((1, 2, 2, 3, 4)))
        with self.devnet.edit() as stage:
            stage.add_player(OWNER, KEYS[0].address, ore=5)
            stage.add_address(KEYS[1].address, OWNER, HASH_BITS | 1)
            stage.add_player(GRANTER, STRANGER.address)
            stage.grant(GRANTER, OWNER, HASH_BITS)
            stage.grant(OWNER, GRANTER, HASH_BITS)
            for object_id in wanted:
                self._stage(stage, object_id)
            stage.add_struct(FRESH, 9, OWNER, anchor=START - 300)
        return {object_id: WORKS[object_id] for object_id in wanted}

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

    def _request(self, action: Action, object_id: str) -> JobRequest:
        mode = self.random.choice((StartMode.RACE, StartMode.RACE, StartMode.BALANCED))
        return JobRequest(action, object_id, OWNER, start_mode=mode, idempotency_key=f"once-{object_id}")

    async def _block(self) -> None:
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
        self._lift_in_time()
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

    def _around(self) -> list[str]:
        return [
            *(f"row {row['id']} {row['status']} {row['age']:.0f} s {row['args'][0]}" for row in self.agent.rows()),
            f"node {self.has_node}, sent {self.agent.sent}",
            f"told {self.house.told[-3:]}",
        ]

    async def _reached(self, step: Step | None) -> None:
        """The submission reached a step (or a place where a crash would matter)."""
        if step is None:
            self._pass_crash()
            await self.house.life.still_alive()
        elif self._is_time(step):
            logging.getLogger(__name__).info("Ordering %s at height %d.", self.told.fault, self.devnet.height)
            if (take_back := self.fault.order(self.scene)) is not None:
                self._take_back.append(take_back)
            self._over_at = self.devnet.height + self.random.randint(*self.fault.lasts)

    def _clear(self) -> None:
        self.devnet.faults.clear()
        self.scene.wire.clear()
        self.agent.orders = dict.fromkeys(self.agent.orders, 0)

    # ---- what must be true at the end ----------------------------------------------------------------------------

    def _wrong_with_jobs(self, jobs: list[Job], attempts: list[Attempt]) -> Iterator[str]:
        """Every job completed, or failed for a reason that there is."""
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
            return tells_of_end(error)
        if object_id in self.scene.others and WORKS[object_id] in (Action.BUILD, Action.RAID):
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


def main(url: str, arguments: list[str]) -> int:
    with folder_in_memory("hf-gs-") as folder, psycopg.connect(url, autocommit=True) as database:
        database.execute("SET client_min_messages = warning")
        database.execute("DROP SCHEMA IF EXISTS structs, signer, view CASCADE")
        database.execute(SCHEMA.read_bytes())
        # Tables without statistics look large to the planner, and a disk is not what is tested.
        for setting in ("jit = off", "synchronous_commit = off"):
            database.execute(f"ALTER DATABASE {database.info.dbname} SET {setting}".encode())

        def play_one(fault: str, step: str, seed: int) -> common_runs.Told:
            return common_runs.play(Run(fault, Step(step), seed, database, folder), folder)

        return common_runs.play_lines(arguments, play_one, ("alembic", "asyncio", "psycopg"))


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
