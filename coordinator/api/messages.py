"""Between the core's values and the messages of proto/hashfleet/v1. No decisions, only translation and bounds."""

from __future__ import annotations

import math

from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.chain.endpoint_choice import EndpointStatus
from coordinator.core.commands import Rejection
from coordinator.core.events import (
    HitReported,
    LeaseEnd,
    LeaseEnded,
    LeaseProgressed,
    WorkerDraining,
    WorkerHeard,
    WorkerJoined,
)
from coordinator.core.job import FoundProof, JobState, TransactionState
from coordinator.core.lease import Lease
from coordinator.core.roster import Device, DeviceOffer, Worker
from coordinator.core.schedule import valid_height
from coordinator.core.view import JobView
from coordinator.service import FleetView
from coordinator.submission.submitter import SignerStatus
from hashfleet.action import Work
from hashfleet.engine import DeviceInfo, EngineKind
from hashfleet.errors import InvalidInput
from hashfleet.job_spec import spec_of
from hashfleet.rpc.hashfleet.v1 import fleet_service_pb2, job_pb2, worker_service_pb2
from hashfleet.version import __version__

#: What a worker may claim at most; anything above is a mistake or a lie (an H100 does some 3e10).
MAX_RATE = 1e15
MAX_DEVICES = 256
MAX_TEXT = 200
#: Characters of an error that a status shows.
MAX_SHOWN = 1000

_STATES = {job_pb2.JobState.Value(f"JOB_STATE_{state.name}"): state for state in JobState}
_ENGINES = {worker_service_pb2.EngineKind.Value(f"ENGINE_KIND_{kind.name}"): kind for kind in EngineKind}
_TRANSACTION_STATES = {
    state: job_pb2.TransactionState.Value(f"TRANSACTION_STATE_{state.name}") for state in TransactionState
}
_REJECTIONS = {
    rejection: worker_service_pb2.RejectReason.Value(f"REJECT_REASON_{rejection.name}") for rejection in Rejection
}
_LEASE_ENDS = {
    worker_service_pb2.END_REASON_EXHAUSTED: LeaseEnd.EXHAUSTED,
    worker_service_pb2.END_REASON_CANCELLED: LeaseEnd.CANCELLED,
    worker_service_pb2.END_REASON_FAILED: LeaseEnd.FAILED,
}


# ---- jobs --------------------------------------------------------------------------------------------------------


def state_from(value: job_pb2.JobState.ValueType) -> JobState:
    """Raises InvalidInput."""
    if value not in _STATES:
        raise InvalidInput(f"job state {value} is unknown")
    return _STATES[value]


def job_message(view: JobView) -> job_pb2.Job:
    """A job as callers see it."""
    job = view.job
    message = job_pb2.Job(
        job_id=job.job_id,
        spec=spec_of(job.request),
        state=_state_message(job.state),
        created_at=_timestamp(job.created_at),
        updated_at=_timestamp(job.updated_at),
        completed_at=_timestamp(job.completed_at) if job.completed_at is not None else None,
        error=job.error or "",
        notes=job.notes,
    )
    if job.work is not None:
        message.work.CopyFrom(
            job_pb2.Work(
                prefix=job.work.prefix.decode("ascii"),
                anchor=job.work.anchor,
                range=job.work.range,
                target_id=job.work.target_id or "",
                current_age=view.current_age or 0,
                current_difficulty=view.current_difficulty or 0,
            )
        )
    if view.waiting is not None:
        waiting = view.waiting
        message.waiting.CopyFrom(
            job_pb2.WaitingInfo(
                current_age=waiting.current_age,
                target_age=waiting.target_age,
                blocks_remaining=waiting.blocks_remaining,
                difficulty=waiting.difficulty,
                target_difficulty=waiting.target_difficulty,
                seconds_remaining=waiting.seconds_remaining,
                reason=waiting.reason,
            )
        )
    if view.progress is not None:
        progress = view.progress
        message.progress.CopyFrom(
            job_pb2.Progress(
                hashes=progress.hashes,
                hash_rate=progress.hash_rate,
                eta_seconds=progress.eta_seconds,
                expected_block=progress.expected_block,
                workers=progress.workers,
                fraction=progress.fraction,
            )
        )
    if view.eta is not None:
        eta = view.eta
        message.eta.CopyFrom(
            job_pb2.Eta(
                seconds=eta.seconds,
                seconds_50=eta.seconds_50,
                block_50=eta.block_50,
                seconds_90=eta.seconds_90,
                block_90=eta.block_90,
            )
        )
    if job.found is not None:
        message.proof.CopyFrom(_proof_message(job.found, job.work))
    if job.best is not None:
        message.best.CopyFrom(_proof_message(job.best, job.work))
    if job.transaction is not None:
        transaction = job.transaction
        message.transaction.CopyFrom(
            job_pb2.Transaction(
                hash=transaction.hash,
                state=_TRANSACTION_STATES[transaction.state],
                height=transaction.height or 0,
                ledger_id=transaction.ledger_id,
                message=transaction.message,
            )
        )
    return message


def _proof_message(found: FoundProof, work: Work | None) -> job_pb2.Proof:
    return job_pb2.Proof(
        nonce=found.proof.nonce,
        hash=found.proof.hash,
        zeros=found.proof.zeros,
        hashes=found.hashes,
        seconds=found.seconds,
        worker_id=found.worker_id,
        valid_from_height=valid_height(work, found.proof.zeros) if work is not None else 0,
    )


def _state_message(state: JobState) -> job_pb2.JobState.ValueType:
    return job_pb2.JobState.Value(f"JOB_STATE_{state.name}")


def _timestamp(seconds: float) -> Timestamp:
    whole = math.floor(seconds)
    return Timestamp(seconds=whole, nanos=int((seconds - whole) * 1e9))


# ---- the fleet ---------------------------------------------------------------------------------------------------


def fleet_message(view: FleetView) -> fleet_service_pb2.GetFleetStatusResponse:
    """The fleet as callers see it."""
    devices = [device for worker in view.workers for device in worker.devices.values()]
    return fleet_service_pb2.GetFleetStatusResponse(
        workers=[_worker_message(worker, view.lease_jobs) for worker in view.workers],
        hash_rate=sum(device.rate for device in devices),
        nominal_rate=sum(device.offer.nominal_rate for device in devices),
        jobs=fleet_service_pb2.JobCounts(**{state.value: count for state, count in view.jobs.items()}),
        chain=fleet_service_pb2.ChainStatus(
            chain_id=view.chain_id,
            height=view.height,
            block_interval=view.block_interval,
            connected=view.connected,
            signer_address=view.signer_address,
            estimated_height=view.estimated_height,
            endpoints=[_endpoint_message(endpoint) for endpoint in view.endpoints],
        ),
        version=__version__,
        signers=[_signer_message(signer) for signer in view.signers],
    )


def _signer_message(signer: SignerStatus) -> fleet_service_pb2.SignerStatus:
    return fleet_service_pb2.SignerStatus(
        address=signer.address,
        player_id=signer.player_id,
        in_flight=signer.in_flight,
        waiting=signer.waiting,
        included=signer.included,
        rejected=signer.rejected,
        stale=signer.stale,
        last_error=_shown(signer.last_error),
        alarm=_shown(signer.alarm),
    )


def _shown(text: str) -> str:
    """What a node's log may be part of, as protobuf can hold it."""
    return text[:MAX_SHOWN].encode("utf-8", "backslashreplace").decode("utf-8")


def _endpoint_message(endpoint: EndpointStatus) -> fleet_service_pb2.ChainEndpoint:
    return fleet_service_pb2.ChainEndpoint(
        name=endpoint.name,
        state=fleet_service_pb2.ChainEndpointState.Value(f"CHAIN_ENDPOINT_STATE_{endpoint.state.name}"),
        height=endpoint.height,
        seconds=endpoint.seconds,
        version=endpoint.version,
        error=endpoint.error,
    )


def _worker_message(worker: Worker, lease_jobs: dict[str, str]) -> fleet_service_pb2.WorkerStatus:
    return fleet_service_pb2.WorkerStatus(
        worker_id=worker.worker_id,
        name=worker.name,
        version=worker.version,
        connected_at=_timestamp(worker.connected_at),
        draining=worker.draining,
        devices=[_device_message(device, lease_jobs) for device in worker.devices.values()],
    )


def _device_message(device: Device, lease_jobs: dict[str, str]) -> fleet_service_pb2.DeviceStatus:
    offer = device.offer
    return fleet_service_pb2.DeviceStatus(
        device=worker_service_pb2.Device(
            device_id=offer.info.device_id,
            name=offer.info.name,
            engine=worker_service_pb2.EngineKind.Value(f"ENGINE_KIND_{offer.info.kind.name}"),
            nominal_rate=offer.nominal_rate,
            driver=offer.info.driver,
        ),
        hash_rate=device.rate,
        hashes=device.hashes,
        job_id=lease_jobs.get(next(iter(device.leases)), "") if device.leases else "",
        accepted=device.accepted,
        stale=device.stale,
        invalid=device.invalid,
    )


# ---- workers -----------------------------------------------------------------------------------------------------


def hello_from(hello: worker_service_pb2.Hello, now: float) -> WorkerJoined:
    """A checked hello. Raises InvalidInput."""
    if not hello.worker_id or len(hello.worker_id) > MAX_TEXT:
        raise InvalidInput(f"worker_id should be 1 to {MAX_TEXT} characters")
    if not 1 <= len(hello.devices) <= MAX_DEVICES:
        raise InvalidInput(f"the worker brings {len(hello.devices)} devices; it should bring 1 to {MAX_DEVICES}")
    offers = tuple(_offer_from(device) for device in hello.devices)
    if len({offer.info.device_id for offer in offers}) != len(offers):
        raise InvalidInput("two devices of the worker have the same device_id")
    return WorkerJoined(now, hello.worker_id, hello.name[:MAX_TEXT], hello.version[:MAX_TEXT], offers)


def _offer_from(device: worker_service_pb2.Device) -> DeviceOffer:
    if not device.device_id or len(device.device_id) > MAX_TEXT:
        raise InvalidInput(f"device_id should be 1 to {MAX_TEXT} characters")
    if device.engine not in _ENGINES:
        raise InvalidInput(f"the engine of device {device.device_id!r} is unknown to this coordinator")
    if not 0 < device.nominal_rate <= MAX_RATE:
        raise InvalidInput(f"the nominal rate of device {device.device_id!r} is {device.nominal_rate}, not above 0")
    kind = _ENGINES[device.engine]
    info = DeviceInfo(device.device_id, device.name[:MAX_TEXT], kind, device.driver[:MAX_TEXT])
    return DeviceOffer(info, device.nominal_rate)


WorkerEvent = HitReported | LeaseProgressed | LeaseEnded | WorkerDraining | WorkerHeard


def worker_event(message: worker_service_pb2.ConnectRequest, worker_id: str, now: float) -> WorkerEvent:
    """What a worker says after hello. Raises InvalidInput for a message that it may not send."""
    match message.WhichOneof("message"):
        case "hit":
            hit = message.hit
            return HitReported(now, worker_id, hit.lease_id, hit.job_id, hit.nonce)
        case "progress":
            progress = message.progress
            if not 0 <= progress.hash_rate <= MAX_RATE:
                raise InvalidInput(f"a progress report claims {progress.hash_rate} hashes a second")
            return LeaseProgressed(now, worker_id, progress.lease_id, progress.done, progress.hash_rate)
        case "lease_ended":
            ended = message.lease_ended
            if ended.reason not in _LEASE_ENDS:
                raise InvalidInput("a lease ended for a reason that this coordinator does not know")
            end = _LEASE_ENDS[ended.reason]
            return LeaseEnded(now, worker_id, ended.lease_id, ended.done, end, ended.error[: 2 * MAX_TEXT])
        case "draining":
            return WorkerDraining(now, worker_id)
        case "heartbeat":
            return WorkerHeard(now, worker_id)
        case other:
            raise InvalidInput(f"a worker may not send {other or 'an empty message'} after its hello")


def lease_message(lease: Lease) -> worker_service_pb2.Lease:
    """A lease as granted."""
    return worker_service_pb2.Lease(
        lease_id=lease.lease_id,
        generation=lease.range.generation,
        device_id=lease.device_id,
        job_id=lease.job_id,
        prefix=lease.space.prefix,
        extranonce=lease.space.extranonce,
        counter_digits=lease.space.counter_digits,
        filler_digits=lease.space.filler_digits,
        start=lease.range.start,
        count=lease.range.count,
        zeros=lease.zeros,
        ends_with_hit=lease.ends_with_hit,
    )


def verdict_message(lease_id: str, nonce: str, rejection: Rejection | None) -> worker_service_pb2.HitVerdict:
    """What became of a hit."""
    rejected = _REJECTIONS[rejection] if rejection else worker_service_pb2.REJECT_REASON_UNSPECIFIED
    return worker_service_pb2.HitVerdict(lease_id=lease_id, nonce=nonce, rejected=rejected)
