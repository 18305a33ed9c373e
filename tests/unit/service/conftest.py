"""A whole coordinator but for its chain and its disk: the real service, lane, core and gRPC server in one loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import pytest

from coordinator.api.grpc_server import build_server
from coordinator.chain.client import Account, Block, ChainClient, SigningRight, TxAnswer, WorkReading
from coordinator.core.job import Job, JobState
from coordinator.service import Service
from coordinator.store.protocol import KeyedRequest, StoreError
from coordinator.store.sql import SqlStore, open_store
from coordinator.submission.keys import SigningKey
from coordinator.submission.transaction import transaction_hash
from hashfleet.action import Action, Work
from hashfleet.errors import ChainUnavailable, WorkGone
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2_grpc

KEY = SigningKey(bytes(range(1, 33)))
#: Ripe builds: difficulty 2 at the start height.
WORKS = {f"5-{n}": Work(Action.BUILD, f"5-{n}", anchor=1000, range=200) for n in range(1, 6)}
START = 1190


class OneNodeChain:
    """A chain that holds WORKS, makes a block when told to, and includes what was broadcast before. A ChainClient."""

    chain_id = "test-1"

    def __init__(self) -> None:
        self.height = START
        self.reachable = True
        self.works = dict(WORKS)
        self.mempool: list[str] = []
        self.included: dict[str, TxAnswer] = {}
        #: Every broadcast, in order.
        self.sent: list[str] = []
        self._news: asyncio.Queue[Block] = asyncio.Queue()

    def make_block(self, touched: frozenset[str] | None = None) -> None:
        self.height += 1
        for tx_hash in self.mempool:
            self.included[tx_hash] = TxAnswer(tx_hash, 0, "", "", self.height)
        self.mempool.clear()
        self._news.put_nowait(Block(self.height, 5.0 * self.height, touched))

    async def connect(self) -> None:
        self._check()

    async def latest_block(self) -> Block:
        self._check()
        return Block(self.height, 5.0 * self.height)

    async def blocks(self) -> AsyncIterator[Block]:
        while True:
            yield await self._news.get()

    async def read_work(self, action: Action, object_id: str) -> WorkReading:
        self._check()
        if object_id not in self.works:
            raise WorkGone(f"there is no struct {object_id}")
        return WorkReading(self.works[object_id], frozenset({object_id, "1-7@"}))

    async def outstanding_work(self, player_id: str) -> list[tuple[Action, str]]:
        self._check()
        return [(work.action, work.object_id) for work in self.works.values()]

    async def check_signer(self, address: str, action: Action, object_id: str) -> SigningRight:
        self._check()
        return SigningRight("1-7", "1-7")

    async def account(self, address: str) -> Account:
        self._check()
        return Account(address, 1, len(self.included))

    async def broadcast(self, tx_bytes: bytes) -> TxAnswer:
        self._check()
        tx_hash = transaction_hash(tx_bytes)
        self.sent.append(tx_hash)
        self.mempool.append(tx_hash)
        return TxAnswer(tx_hash, 0, "", "")

    async def find_transaction(self, tx_hash: str) -> TxAnswer | None:
        self._check()
        return self.included.get(tx_hash)

    async def close(self) -> None:
        pass

    def _check(self) -> None:
        if not self.reachable:
            raise ChainUnavailable("no node answers")


class FailingDisk:
    """The real store; `full` makes it refuse to save jobs, as a full disk does."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.full = False
        self.refused = asyncio.Event()
        #: States in which each job was saved, in order.
        self.saved: dict[str, list[JobState]] = {}
        #: Keys that were saved in the same call as a job, by its id.
        self.keyed_with: dict[str, list[str | None]] = {}
        #: Jobs in each call, in order.
        self.batches: list[int] = []

    async def save_jobs(self, jobs: Sequence[Job], keyed: Sequence[KeyedRequest] = ()) -> None:
        if self.full:
            self.refused.set()
            raise StoreError("the disk is full; make room")
        await self._store.save_jobs(jobs, keyed)
        self.batches.append(len(jobs))
        for job in jobs:
            self.saved.setdefault(job.job_id, []).append(job.state)
            keys = [one.request.idempotency_key for one in keyed if one.job_id == job.job_id]
            self.keyed_with.setdefault(job.job_id, []).extend(keys)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


@dataclass
class HandWorker:
    """A worker that a test plays by hand."""

    stream: grpc.aio.StreamStreamCall  # type: ignore[type-arg]
    _unheard: list[pb.ConnectResponse] = field(default_factory=list)

    async def say(self, **message: object) -> None:
        await self.stream.write(pb.ConnectRequest(**message))  # type: ignore[arg-type]

    async def hear(self, kind: str) -> pb.ConnectResponse:
        """The next message of this kind; others are kept to be heard later."""
        async with asyncio.timeout(10):
            while True:
                for message in self._unheard:
                    if message.WhichOneof("message") == kind:
                        self._unheard.remove(message)
                        return message
                message = await self.stream.read()
                assert message is not grpc.aio.EOF, "the coordinator ended the stream"
                together = message.bundle.messages if message.WhichOneof("message") == "bundle" else [message]
                self._unheard += together

    async def ended(self) -> list[pb.ConnectResponse]:
        """What comes until the coordinator ends the stream."""
        rest = []
        async with asyncio.timeout(10):
            while (message := await self.stream.read()) is not grpc.aio.EOF:
                rest.append(message)
        return rest


@dataclass
class Coordinator:
    """What a test holds in its hands."""

    service: Service
    chain: OneNodeChain
    disk: FailingDisk
    channel: grpc.aio.Channel
    #: HOST:PORT of its gRPC server.
    address: str

    @contextlib.asynccontextmanager
    async def worker(self, worker_id: str = "w_1", rate: float = 1000.0) -> AsyncIterator[HandWorker]:
        stub = worker_service_pb2_grpc.WorkerServiceStub(self.channel)
        worker = HandWorker(stub.Connect())
        device = pb.Device(device_id="cpu", name="test", engine=pb.ENGINE_KIND_CPU, nominal_rate=rate)
        await worker.say(hello=pb.Hello(worker_id=worker_id, name=worker_id, devices=[device]))
        await worker.hear("welcome")
        try:
            yield worker
        finally:
            worker.stream.cancel()


@contextlib.asynccontextmanager
async def serving(chain: ChainClient, key: SigningKey, path: Path) -> AsyncIterator[Coordinator]:
    """A coordinator on this chain, with its jobs in this folder."""
    async with contextlib.AsyncExitStack() as stack:
        store = await open_store(path / "jobs.db")
        stack.push_async_callback(store.close)
        disk = FailingDisk(store)
        service = Service(chain, disk, key)  # type: ignore[arg-type]
        running = asyncio.create_task(service.run())
        server = await build_server(service)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        try:
            yield Coordinator(service, chain, disk, channel, f"127.0.0.1:{port}")  # type: ignore[arg-type]
        finally:
            await server.stop(0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await chain.close()


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[Coordinator]:
    async with serving(OneNodeChain(), KEY, tmp_path) as made:  # type: ignore[arg-type]
        yield made
