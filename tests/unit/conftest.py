"""A scripted coordinator: the gRPC services over real sockets, with answers that a test sets by hand."""

# ruff: noqa: N802 - the methods of a servicer are named by the proto

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from hashfleet.action import Action, Work
from hashfleet.proof import verify
from hashfleet.rpc.hashfleet.v1 import (
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    worker_service_pb2,
)

FINAL = (job_pb2.JOB_STATE_COMPLETED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)


class ScriptedCoordinator(job_service_pb2_grpc.JobServiceServicer, fleet_service_pb2_grpc.FleetServiceServicer):
    """Keeps jobs in memory and does to them what a test says, never anything by itself."""

    def __init__(self) -> None:
        self.jobs: dict[str, job_pb2.Job] = {}
        #: Every request as it came in.
        self.requests: list[Message] = []
        #: Set to (code, sentence) to refuse every call.
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        #: Player id -> (code, sentence): what SubmitJobs says of this player's specs.
        self.refused: dict[str, tuple[grpc.StatusCode, str]] = {}
        self.fleet = fleet_service_pb2.GetFleetStatusResponse(version="0.0.0")
        self._changed = threading.Condition()
        self._epoch = 0
        self._streams = 0
        self._server: grpc.Server | None = None
        self.port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(max_workers=8))
        job_service_pb2_grpc.add_JobServiceServicer_to_server(self, self._server)
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self.break_streams()
            self._server.stop(0).wait(5)
            self._server = None

    def put(self, job: job_pb2.Job) -> job_pb2.Job:
        """Store a job as it stands now; watchers see it."""
        kept = job_pb2.Job()
        kept.CopyFrom(job)
        with self._changed:
            self.jobs[job.job_id] = kept
            self._changed.notify_all()
        return kept

    def break_streams(self) -> None:
        """End every watch under way with UNAVAILABLE."""
        with self._changed:
            self._epoch += 1
            self._changed.notify_all()

    def wait_for_stream(self, count: int = 1) -> None:
        """Block until so many watches have been opened since the start."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._streams >= count, timeout=10)

    def _received(self, request: Message, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        if self.refusal is not None:
            context.abort(*self.refusal)

    def _found(self, job_id: str, context: grpc.ServicerContext) -> job_pb2.Job:
        if job_id not in self.jobs:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no job {job_id}")
        return self.jobs[job_id]

    def SubmitJob(self, request: Any, context: Any) -> Any:
        self._received(request, context)
        return self._accepted(request.spec)

    def SubmitJobs(self, request: Any, context: Any) -> Any:
        """Refuses the specs of `refused` player ids."""
        self._received(request, context)
        answer = job_service_pb2.SubmitJobsResponse()
        for spec in request.specs:
            refusal = self.refused.get(spec.player_id)
            if refusal is None:
                answer.results.add(accepted=self._accepted(spec))
            else:
                answer.results.add(error=job_service_pb2.SubmitError(code=refusal[0].value[0], message=refusal[1]))
        return answer

    def _accepted(self, spec: job_pb2.JobSpec) -> job_service_pb2.SubmitJobResponse:
        for job in self.jobs.values():
            if (job.spec.action, job.spec.entity_id) == (spec.action, spec.entity_id):
                return job_service_pb2.SubmitJobResponse(job=job, created=False)
        job = job_pb2.Job(job_id=f"pow_{len(self.jobs) + 1:04}", spec=spec, state=job_pb2.JOB_STATE_QUEUED, notes=[])
        job.created_at.FromJsonString("2026-08-01T12:00:00.250Z")
        job.updated_at.CopyFrom(job.created_at)
        return job_service_pb2.SubmitJobResponse(job=self.put(job), created=True)

    def GetJob(self, request: Any, context: Any) -> Any:
        self._received(request, context)
        return job_service_pb2.GetJobResponse(job=self._found(request.job_id, context))

    def ListJobs(self, request: Any, context: Any) -> Any:
        self._received(request, context)
        chosen = [
            job
            for job in reversed(self.jobs.values())
            if (not request.states or job.state in request.states)
            and (not request.player_id or job.spec.player_id == request.player_id)
        ]
        start = int(request.page_token or 0)
        end = start + (request.page_size or 50)
        token = str(end) if end < len(chosen) else ""
        return job_service_pb2.ListJobsResponse(jobs=chosen[start:end], next_page_token=token)

    def WatchJob(self, request: Any, context: Any) -> Any:
        self._received(request, context)
        self._found(request.job_id, context)
        context.add_callback(self._wake)
        sent = None
        with self._changed:
            epoch = self._epoch
            self._streams += 1
            self._changed.notify_all()
        while True:
            with self._changed:
                while self._epoch == epoch and context.is_active() and self.jobs[request.job_id] == sent:
                    self._changed.wait(timeout=30)
                if not context.is_active():
                    return
                if self._epoch != epoch:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the coordinator is stopping")
                sent = self.jobs[request.job_id]
            yield job_service_pb2.WatchJobResponse(job=sent)
            if sent.state in FINAL:
                return

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def CancelJob(self, request: Any, context: Any) -> Any:
        self._received(request, context)
        job = self._found(request.job_id, context)
        if job.state in (job_pb2.JOB_STATE_COMPLETED, job_pb2.JOB_STATE_FAILED):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"job {job.job_id} is over; it cannot be cancelled")
        job.state = job_pb2.JOB_STATE_CANCELLED
        return job_service_pb2.CancelJobResponse(job=self.put(job))

    def SetJobPriority(self, request: Any, context: Any) -> Any:
        self._received(request, context)
        job = self._found(request.job_id, context)
        job.spec.priority = request.priority
        return job_service_pb2.SetJobPriorityResponse(job=self.put(job))

    def GetFleetStatus(self, request: Any, context: Any) -> Any:
        self._received(request, context)
        return self.fleet


@pytest.fixture
def scripted_coordinator() -> Iterator[ScriptedCoordinator]:
    """A coordinator without jobs, on a free port of this machine."""
    coordinator = ScriptedCoordinator()
    yield coordinator
    coordinator.stop()


def _job(state: job_pb2.JobState.ValueType) -> job_pb2.Job:
    job = job_pb2.Job(
        job_id="pow_0001",
        spec=job_pb2.JobSpec(
            action=job_pb2.ACTION_BUILD, entity_id="5-28", player_id="1-11", priority=job_pb2.PRIORITY_BULK
        ),
        state=state,
    )
    job.created_at.FromJsonString("2026-08-01T12:00:00.250Z")
    job.updated_at.CopyFrom(job.created_at)
    return job


@pytest.fixture
def waiting_job() -> job_pb2.Job:
    """A build that waits for age 10, with a note on a hint that was wrong."""
    job = _job(job_pb2.JOB_STATE_WAITING)
    job.work.CopyFrom(
        job_pb2.Work(prefix="5-28BUILD1000NONCE", anchor=1000, range=220, current_age=4, current_difficulty=47)
    )
    job.waiting.CopyFrom(
        job_pb2.WaitingInfo(
            current_age=4,
            target_age=10,
            blocks_remaining=6,
            difficulty=47,
            target_difficulty=38,
            seconds_remaining=31.7,
            reason="hashing starts at age 10",
        )
    )
    job.eta.CopyFrom(job_pb2.Eta(seconds=40, seconds_50=36, block_50=1011, seconds_90=70, block_90=1018))
    job.notes.append("block_start 999 differs from the chain's 1000; the chain's is used")
    return job


@pytest.fixture
def running_job() -> job_pb2.Job:
    """A build that is being hashed, with an estimate."""
    job = _job(job_pb2.JOB_STATE_RUNNING)
    job.work.CopyFrom(
        job_pb2.Work(prefix="5-28BUILD1000NONCE", anchor=1000, range=220, current_age=130, current_difficulty=8)
    )
    job.progress.CopyFrom(
        job_pb2.Progress(hashes=2**40, hash_rate=33e9, eta_seconds=12.5, expected_block=1134, workers=2, fraction=0.25)
    )
    job.eta.CopyFrom(job_pb2.Eta(seconds=12.5, seconds_50=8.5, block_50=1133, seconds_90=29.0, block_90=1137))
    best = verify(b"5-28BUILD1000NONCE", "0")
    job.best.CopyFrom(
        job_pb2.Proof(
            nonce="0", hash=best.hash, zeros=7, hashes=2**39, seconds=9, worker_id="w_1", valid_from_height=1150
        )
    )
    return job


@pytest.fixture
def completed_job() -> job_pb2.Job:
    """A build whose real proof of 3 zeros landed at age 200, where 2 are asked; the chain has gone on to age 900."""
    work = Work(Action.BUILD, "5-28", anchor=1000, range=220)
    proof = next(p for n in range(10**6) if (p := verify(work.prefix, str(n))).zeros == 3)
    job = _job(job_pb2.JOB_STATE_COMPLETED)
    job.completed_at.FromJsonString("2026-08-01T12:20:01Z")
    job.work.CopyFrom(
        job_pb2.Work(prefix=work.prefix.decode(), anchor=1000, range=220, current_age=900, current_difficulty=1)
    )
    job.proof.CopyFrom(
        job_pb2.Proof(
            nonce=proof.nonce,
            hash=proof.hash,
            zeros=3,
            hashes=4500,
            seconds=1.25,
            worker_id="w_1",
            valid_from_height=1180,
        )
    )
    job.transaction.CopyFrom(
        job_pb2.Transaction(hash="AB" * 32, state=job_pb2.TRANSACTION_STATE_INCLUDED, height=1200, ledger_id=7)
    )
    return job


@pytest.fixture
def busy_fleet() -> fleet_service_pb2.GetFleetStatusResponse:
    """One worker with a GPU at work and an idle CPU."""
    worker = fleet_service_pb2.WorkerStatus(worker_id="w_1", name="rig", version="0.1.0")
    worker.connected_at.FromJsonString("2026-08-01T11:00:00Z")
    worker.devices.append(
        fleet_service_pb2.DeviceStatus(
            device=worker_service_pb2.Device(
                device_id="cuda:0", name="H100", engine=worker_service_pb2.ENGINE_KIND_CUDA, nominal_rate=33e9
            ),
            hash_rate=32.5e9,
            hashes=10**15,
            job_id="pow_0001",
            accepted=5,
            stale=1,
        )
    )
    worker.devices.append(
        fleet_service_pb2.DeviceStatus(
            device=worker_service_pb2.Device(
                device_id="cpu", name="EPYC", engine=worker_service_pb2.ENGINE_KIND_CPU, nominal_rate=115e6
            )
        )
    )
    return fleet_service_pb2.GetFleetStatusResponse(
        workers=[worker],
        hash_rate=32.5e9,
        nominal_rate=33.115e9,
        jobs=fleet_service_pb2.JobCounts(waiting=3, running=1),
        chain=fleet_service_pb2.ChainStatus(
            chain_id="structstestnet-111", height=679700, block_interval=5.28, connected=True
        ),
        version="0.1.0",
    )
