"""A coordinator that is killed at every point at which a crash could matter, then restarted until all its jobs ended.

``killed_coordinator.py FOLDER`` prints a JSON line for each point. A life is a process of its own (forked, so that
nothing is imported anew): the real service, lane, core and SQLite store, a worker played in line, and a client that
asks for jobs and tells the parent of each acknowledgement. The chain lives in the parent, as a real one outlives the
coordinator. Points are counted, not timed: before and after every write to the store, before every command of the
core, before and after every broadcast. At the chosen one the process kills itself with SIGKILL, the next life is killed
at the same count again, and the third runs to its end.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pickle
import shutil
import signal
import socket
import sqlite3
import struct
import sys
import traceback
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from coordinator.chain.client import Account, Block, SigningRight, TxAnswer, WorkReading
from coordinator.core.commands import CancelLease, Command, GrantLease
from coordinator.core.events import HitReported, LeaseEnd, LeaseEnded, WorkerJoined
from coordinator.core.roster import DeviceOffer
from coordinator.service import Service
from coordinator.store.protocol import JobFilter
from coordinator.store.sql import SqlStore, open_store
from coordinator.submission.keys import SigningKey
from hashfleet.action import Action, Work
from hashfleet.difficulty import safe
from hashfleet.engine import DeviceInfo, EngineKind
from hashfleet.errors import WorkGone
from hashfleet.job_request import JobRequest
from hashfleet.proof import verify
from hashfleet.rpc.cosmos.tx.v1beta1.tx_pb2 import AuthInfo, TxBody, TxRaw
from hashfleet.rpc.structs.structs.tx_pb2 import MsgStructBuildComplete, MsgStructOreMinerComplete

KEY = SigningKey(bytes(range(1, 33)))
#: Works are anchored 30 blocks before the start at a range of 25: one zero is enough, and hashing pays at once.
START, ANCHOR, RANGE = 130, 100, 25
SOLVED = {"5-1": Action.BUILD, "5-2": Action.BUILD, "5-3": Action.MINE}
#: Waits for long: it is cancelled. And one that the chain does not know: it fails.
CANCELLED, UNKNOWN = "5-8", "5-9"
MESSAGES: dict[str, type[MsgStructBuildComplete] | type[MsgStructOreMinerComplete]] = {
    "/structs.structs.MsgStructBuildComplete": MsgStructBuildComplete,
    "/structs.structs.MsgStructOreMinerComplete": MsgStructOreMinerComplete,
}
#: Turns of the event loop without a write to the store after which nothing more happens before the next block.
QUIET_TURNS = 40
#: A life that needs more blocks has got stuck.
MOST_BLOCKS = 400


@dataclass
class Chain:
    """A chain of one account, in the parent: what it holds survives whatever befalls the coordinator."""

    height: int = START
    sequence: int = 7
    works: dict[str, Work] = field(default_factory=dict)
    #: hash, sequence, timeout height, object, nonce
    mempool: list[tuple[str, int, int, str, str]] = field(default_factory=list)
    included: dict[str, TxAnswer] = field(default_factory=dict)
    #: (object, anchor, code, hash) in the order of execution.
    executed: list[tuple[str, int, int, str]] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    points: list[str] = field(default_factory=list)
    ended: bool = False

    def read_work(self, object_id: str) -> WorkReading:
        if object_id not in self.works:
            raise WorkGone(f"there is no struct {object_id}")
        return WorkReading(self.works[object_id], frozenset({object_id}))

    def account(self) -> Account:
        return Account(KEY.address, 17, self.sequence)

    def find_transaction(self, tx_hash: str) -> TxAnswer | None:
        return self.included.get(tx_hash)

    def broadcast(self, tx_bytes: bytes) -> TxAnswer:
        raw = TxRaw.FromString(tx_bytes)
        body, auth = TxBody.FromString(raw.body_bytes), AuthInfo.FromString(raw.auth_info_bytes)
        message: MsgStructBuildComplete | MsgStructOreMinerComplete = MESSAGES[body.messages[0].type_url]()
        message.ParseFromString(body.messages[0].value)
        tx_hash, sequence = hashlib.sha256(tx_bytes).hexdigest().upper(), auth.signer_infos[0].sequence
        if any(known[0] == tx_hash for known in self.mempool):
            return TxAnswer(tx_hash, 19, "sdk", "tx already exists in cache")
        if body.timeout_height <= self.height:
            return TxAnswer(tx_hash, 30, "sdk", "timeout height")
        if sequence != self.sequence + len(self.mempool):
            return TxAnswer(tx_hash, 32, "sdk", f"expected {self.sequence + len(self.mempool)}, got {sequence}")
        self.mempool.append((tx_hash, sequence, body.timeout_height, message.structId, message.nonce))
        return TxAnswer(tx_hash, 0, "", "")

    def commit(self) -> Block:
        self.height += 1
        left = []
        for sent in self.mempool:
            tx_hash, sequence, timeout_height, object_id, nonce = sent
            if sequence > self.sequence:
                left.append(sent)
            elif sequence == self.sequence and timeout_height >= self.height:
                self.sequence += 1
                self._execute(tx_hash, object_id, nonce)
        self.mempool = left
        return Block(self.height, 5.0 * self.height)

    def _execute(self, tx_hash: str, object_id: str, nonce: str) -> None:
        work = self.works.get(object_id)
        code, anchor = 1250, 0
        if work is not None:
            anchor = work.anchor
            enough = verify(work.prefix, nonce).zeros >= safe(self.height - anchor, work.range)
            code = 0 if enough else 1800
            if enough and work.action is Action.BUILD:
                del self.works[object_id]
            elif enough:
                self.works[object_id] = replace(work, anchor=self.height)
        self.included[tx_hash] = TxAnswer(tx_hash, code, "structs" if code else "", "", self.height)
        self.executed.append((object_id, anchor, code, tx_hash))

    # what a life tells beside what it asks

    def acknowledge(self, key: str, job_id: str) -> None:
        self.acknowledged[key] = job_id

    def end(self) -> None:
        self.ended = True

    def point(self, name: str) -> None:
        self.points.append(name)


# ---- the wire between a life and the parent ------------------------------------------------------------------------


def send(wire: socket.socket, message: object) -> None:
    data = pickle.dumps(message)
    wire.sendall(struct.pack(">I", len(data)) + data)


def receive(wire: socket.socket) -> Any:
    """The next message; None if the other side is gone."""
    data, wanted = b"", 4
    while len(data) < wanted:
        part = wire.recv(wanted - len(data))
        if not part:
            return None
        data += part
        if wanted == 4 and len(data) == 4:
            wanted += struct.unpack(">I", data)[0]
    return pickle.loads(data[4:])


class Parent:
    """The parent as a life sees it: whatever method of the Chain is called is called there."""

    def __init__(self, wire: socket.socket, kill_at: int) -> None:
        self._wire, self._kill_at, self._points = wire, kill_at, 0

    def ask(self, method: str, *arguments: object) -> Any:
        send(self._wire, (method, arguments))
        kind, answer = receive(self._wire)
        if kind == "error":
            raise answer
        return answer

    def point(self, name: str) -> None:
        """Where a crash could matter: at the chosen one nothing more happens."""
        self._points += 1
        if self._points == self._kill_at:
            self.ask("point", name)
            os.kill(os.getpid(), signal.SIGKILL)


# ---- one life ------------------------------------------------------------------------------------------------------


class FatefulStore:
    """The real store, with a point before and after every write."""

    def __init__(self, store: SqlStore, parent: Parent) -> None:
        self._store, self._parent = store, parent
        #: Calls so far, and calls that are not answered yet.
        self.calls = self.under_way = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        writes = name in ("save_jobs", "add_attempts", "update_attempts", "add_attempt", "update_attempt")

        async def call(*arguments: Any) -> Any:
            self.calls += 1
            self.under_way += 1
            try:
                if writes:
                    self._parent.point(f"before {name}")
                return await found(*arguments)
            finally:
                self.under_way -= 1
                if writes:
                    self._parent.point(f"after {name}")

        return call


class ParentChain:
    """A ChainClient on the parent's chain."""

    chain_id = "test-1"

    def __init__(self, parent: Parent, store: FatefulStore) -> None:
        self._parent, self._store = parent, store

    async def connect(self) -> None: ...

    async def close(self) -> None: ...

    async def latest_block(self) -> Block:
        return Block(self._parent.ask("commit").height, 0.0)

    async def blocks(self) -> AsyncIterator[Block]:
        for _ in range(MOST_BLOCKS):
            turns = seen = 0
            while turns < QUIET_TURNS:
                await asyncio.sleep(0.0005 if self._store.under_way else 0)
                quiet = self._store.calls == seen and not self._store.under_way
                turns, seen = turns + 1 if quiet else 0, self._store.calls
            yield self._parent.ask("commit")
        raise RuntimeError("the jobs do not end")

    async def read_work(self, action: Action, object_id: str) -> WorkReading:
        reading: WorkReading = self._parent.ask("read_work", object_id)
        return reading

    async def outstanding_work(self, player_id: str) -> list[tuple[Action, str]]:
        return []

    async def check_signer(self, address: str, action: Action, object_id: str) -> SigningRight:
        return SigningRight("1-7", "1-7")

    async def account(self, address: str) -> Account:
        found: Account = self._parent.ask("account")
        return found

    async def find_transaction(self, tx_hash: str) -> TxAnswer | None:
        found: TxAnswer | None = self._parent.ask("find_transaction", tx_hash)
        return found

    async def broadcast(self, tx_bytes: bytes) -> TxAnswer:
        self._parent.point("before broadcast")
        answer: TxAnswer = self._parent.ask("broadcast", tx_bytes)
        self._parent.point("after broadcast")
        return answer


class FatefulService(Service):
    """The real service, with a point before every command."""

    parent: Parent

    def _carry_out(self, command: Command) -> None:
        self.parent.point(f"before {type(command).__name__}")
        super()._carry_out(command)


async def work(service: Service) -> None:
    """A worker of one device that hashes in line."""
    session = service.open_session("w_1")
    device = DeviceOffer(DeviceInfo("cpu", "test", EngineKind.CPU, ""), nominal_rate=1000.0)
    await service.apply(WorkerJoined(1.0, "w_1", "w_1", "test", (device,)))
    granted: dict[str, int] = {}
    while (command := await session.outgoing.get()) is not None:
        if isinstance(command, GrantLease):
            lease = command.lease
            granted[lease.lease_id] = lease.range.count
            for counter in range(lease.range.start, lease.range.start + lease.range.count):
                digest = hashlib.sha256(lease.space.message(counter)).hexdigest()
                if digest.startswith("0" * lease.zeros):
                    nonce = lease.space.nonce(counter)
                    await service.apply(HitReported(1.0, "w_1", lease.lease_id, lease.job_id, nonce))
                    break
        elif isinstance(command, CancelLease):
            done = granted.pop(command.lease_id)
            await service.apply(LeaseEnded(1.0, "w_1", command.lease_id, done, LeaseEnd.CANCELLED))


async def client(service: Service, parent: Parent, acknowledged: dict[str, str]) -> None:
    """Ask for what was not acknowledged yet, some of it twice, and follow all of it to its end."""
    asked = {key: JobRequest(action, key, "1-7", idempotency_key=f"once-{key}") for key, action in SOLVED.items()}
    asked["5-1"] = replace(asked["5-1"], idempotency_key=None)  # the same work is the same job without a key, too
    asked[CANCELLED] = JobRequest(Action.BUILD, CANCELLED, "1-7", idempotency_key="once-more")
    asked[UNKNOWN] = JobRequest(Action.BUILD, UNKNOWN, "1-7", idempotency_key="never")
    for key, request in asked.items():
        if key not in acknowledged:
            answers = await asyncio.gather(service.submit(request), service.submit(request))
            (job_id,) = {view.job.job_id for view, _ in answers}
            parent.ask("acknowledge", key, job_id)
            acknowledged[key] = job_id
    if f"cancel {CANCELLED}" not in acknowledged:
        await service.cancel(acknowledged[CANCELLED])
        parent.ask("acknowledge", f"cancel {CANCELLED}", acknowledged[CANCELLED])
    for job_id in acknowledged.values():
        async for _ in service.watch(job_id):
            pass


async def live(database: Path, parent: Parent, acknowledged: dict[str, str]) -> None:
    """From the start to the end of all jobs."""
    store = await open_store(database)
    fateful = FatefulStore(store, parent)
    service = FatefulService(ParentChain(parent, fateful), fateful, KEY)
    service.parent = parent
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(service.run()), group.create_task(work(service))]
            await client(service, parent, acknowledged)
            while await store.live_attempts():  # noqa: ASYNC110 - the lane tells nobody of a row's end
                await asyncio.sleep(0.001)
            for task in running:
                task.cancel()
        assert all(job.state.final for job in await store.list_jobs(JobFilter(), 100, None))
    finally:
        await store.close()
    parent.ask("end")


# ---- the parent ----------------------------------------------------------------------------------------------------


def run_life(database: Path, chain: Chain, kill_at: int) -> int:
    """Fork a life and be its chain until it is over; its wait status."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        try:
            asyncio.run(live(database, Parent(theirs, kill_at), dict(chain.acknowledged)))
        except BaseException:  # noqa: BLE001 - a forked life must never return into the parent's code
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    theirs.close()
    with ours:
        while (question := receive(ours)) is not None:
            method, arguments = question
            try:
                answer = ("answer", getattr(chain, method)(*arguments))
            except WorkGone as error:
                answer = ("error", WorkGone(str(error)))
            send(ours, answer)
    return os.waitpid(child, 0)[1]


def pose() -> Chain:
    chain = Chain()
    chain.works = {key: Work(action, key, ANCHOR, RANGE) for key, action in SOLVED.items()}
    chain.works[CANCELLED] = Work(Action.BUILD, CANCELLED, START, 20_000)
    return chain


def found_in(database: Path) -> dict[str, Any]:
    """What the database holds at the end."""
    with sqlite3.connect(database) as reader:
        found = {
            "integrity": reader.execute("PRAGMA integrity_check").fetchall(),
            "orphans": reader.execute("PRAGMA foreign_key_check").fetchall(),
            "jobs": reader.execute("SELECT job_id, object_id, state, tx_hash, tx_ledger_id FROM jobs").fetchall(),
            "attempts": reader.execute(
                "SELECT ledger_id, job_id, object_id, anchor, state, tx_hash FROM attempts ORDER BY ledger_id"
            ).fetchall(),
        }
    reader.close()
    return found


def main(folder: Path) -> None:
    template = folder / "template.db"

    async def make() -> None:
        await (await open_store(template)).close()

    asyncio.run(make())
    kill_at = 0
    while True:
        kill_at += 1
        database = folder / f"{kill_at}.db"
        shutil.copy(template, database)
        chain = pose()
        statuses = [run_life(database, chain, kill_at)]
        if statuses[0] == signal.SIGKILL:
            statuses.append(run_life(database, chain, kill_at))
            if statuses[1] == signal.SIGKILL:
                statuses.append(run_life(database, chain, 0))
        told = {
            "kill_at": kill_at,
            "points": chain.points,
            "statuses": statuses,
            "ended": chain.ended,
            "acknowledged": chain.acknowledged,
            "executed": chain.executed,
            **found_in(database),
        }
        print(json.dumps(told), flush=True)  # noqa: T201 - what this program is for
        for file in folder.glob(f"{kill_at}.db*"):
            file.unlink()
        if statuses[0] != signal.SIGKILL:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
