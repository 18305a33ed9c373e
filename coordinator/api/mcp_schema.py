"""What agents send and get: the arguments and results of the MCP tools, and the way there from `hashfleet.v1.Job`.

The names are a contract with agents that already call them; a snapshot test holds them. A member that has no value is
left out, never null, and the published schemas say so.
"""

from __future__ import annotations

import datetime
import math
from typing import Any, Literal, get_args

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from hashfleet.action import MAX_HEIGHT, MAX_RANGE, Action
from hashfleet.charter import MAX_ENDPOINT_LENGTH, Consent, Founding
from hashfleet.client import (
    FINAL_STATES,
    MAX_PAGE_SIZE,
    EngineName,
    ModeName,
    PriorityName,
    StartModeName,
    StateName,
    TransactionStateName,
    action_of,
    engine_name,
    mode_name,
    priority_name,
    start_mode_name,
    state_name,
    transaction_state_name,
)
from hashfleet.difficulty import MAX_DIFFICULTY, safe
from hashfleet.errors import CoordinatorError, InvalidInput
from hashfleet.job_request import MAX_KEY_LENGTH, MAX_WEIGHT
from hashfleet.proof import verify
from hashfleet.rpc.hashfleet.v1 import fleet_service_pb2, job_pb2, job_service_pb2

#: The longest that a status call may wait: clients give up on a call after a minute.
MAX_WAIT_SECONDS = 50
#: The completing message of each kind of work, as agents name it.
PickedUpType = Literal["struct_build_complete", "ore_miner_complete", "ore_refinery_complete", "planet_raid_complete"]
ActionType = Literal[
    "struct_build_complete", "ore_miner_complete", "ore_refinery_complete", "planet_raid_complete", "guild_create"
]
ACTIONS: dict[ActionType, Action] = {
    "struct_build_complete": Action.BUILD,
    "ore_miner_complete": Action.MINE,
    "ore_refinery_complete": Action.REFINE,
    "planet_raid_complete": Action.RAID,
    "guild_create": Action.CHARTER,
}
#: What the autopilot picks up by itself.
PICKED_UP_ACTIONS: dict[PickedUpType, Action] = {name: ACTIONS[name] for name in get_args(PickedUpType)}
ACTION_TYPES = {action: name for name, action in ACTIONS.items()}


class AgentSchema(GenerateJsonSchema):
    """JSON Schema as agents read it best: an optional member is simply not required; no null, no generated titles.

    A null that is sent nevertheless is taken as "left out".
    """

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = super().default_schema(schema)
        if described.get("default", 0) is None:
            del described["default"]
        return described

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class Arguments(BaseModel):
    """Base of all arguments: unknown ones are refused, and nothing is converted behind the caller's back."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StartArguments(Arguments):
    """Which proof is wanted."""

    action_type: ActionType = Field(
        description="What the proof completes: a build, mining ore, refining ore, a raid, or the founding of a guild "
        "by charter."
    )
    entity_id: str = Field(
        max_length=40,
        description='Id of the struct that is built, mines or refines, such as "5-28"; '
        'for planet_raid_complete the id of the raiding fleet, such as "9-11"; for guild_create the id of the player '
        'who founds the guild, such as "1-7".',
    )
    player_id: str = Field(
        max_length=40,
        description='Id of the player on whose behalf the transaction is submitted, such as "1-11". For guild_create '
        "with mode return_proof: the player whose key will submit it; the proof is of use to nobody else.",
    )
    target_id: str | None = Field(
        None,
        max_length=40,
        description='Only for planet_raid_complete: id of the raided planet, such as "2-1". '
        "Left out, it is the planet where the fleet stands.",
    )
    block_start: int | None = Field(
        None,
        ge=1,
        le=MAX_HEIGHT,
        description="Block height at which the clock of this work started. Only a hint: the chain's own value is "
        "used, and a difference is noted on the job.",
    )
    difficulty: int | None = Field(
        None,
        ge=2,
        le=MAX_RANGE,
        description="The difficulty RANGE in blocks (such as 220): the age at which the difficulty has fallen to 1. "
        "It is not a number of zero digits. Only a hint: the chain's own value is used.",
    )
    age: float | None = Field(
        None, description="Ignored: the age in blocks is computed from the chain. Accepted for older callers."
    )
    max_iterations: int | None = Field(
        None,
        ge=1,
        description="Budget in hashes after which the job fails. Left out, there is no limit, which is what you "
        "nearly always want: the difficulty falls with time, so every job can be finished.",
    )
    priority: PriorityName | None = Field(
        None,
        description="critical goes before interactive (if left out), interactive before bulk. It can be changed later.",
    )
    start_mode: StartModeName | None = Field(
        None,
        description="When hashing starts. balanced (if left out) suits nearly every job. race: at once, for a raid or "
        "whatever is worth much more hashing if it lands minutes earlier. economy: as late and as cheaply as possible, "
        "for what is not urgent.",
    )
    start_difficulty: int | None = Field(
        None,
        ge=1,
        le=MAX_DIFFICULTY,
        description="Start hashing as soon as the chain asks for this many leading hex zeros or fewer; overrides "
        "start_mode. Only if you know better than start_mode.",
    )
    deadline_height: int | None = Field(
        None,
        ge=1,
        le=MAX_HEIGHT,
        description="Block height by which the proof should be there: hashing starts early enough for it, and the job "
        "fails once the chain is past it.",
    )
    weight: int | None = Field(
        None, ge=1, le=MAX_WEIGHT, description="Share of the fleet beside jobs of the same standing; 1 if left out."
    )
    mode: ModeName | None = Field(
        None,
        description="submit (if left out): the coordinator submits the completing transaction. return_proof: it does "
        "not; the result holds the nonce for whoever submits it, and the height from which it is valid.",
    )
    idempotency_key: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_KEY_LENGTH,
        description="Your own name for this request. If you are not sure that a call went through, repeat it with the "
        "same key: it returns its job in any status, finished too. The same key with other arguments is an error.",
    )

    reactor_id: str | None = Field(
        None,
        max_length=40,
        description='Only for guild_create, which needs it: id of the reactor to found the guild on, such as "3-1".',
    )
    endpoint: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_ENDPOINT_LENGTH,
        description="Only for guild_create, which needs it: what the guild publishes as its address, such as "
        '"guild.example".',
    )
    entry_substation_id: str | None = Field(
        None,
        max_length=40,
        description='Only for guild_create: id of the substation that new members are connected to, such as "4-1"; '
        "none if left out.",
    )
    consent_address: str | None = Field(
        None,
        max_length=100,
        description="Only for guild_create, and needed if the coordinator's key is not the founder's: an address of "
        "the founder, who consents to this founding. The command hashfleet charter consent makes this and the next "
        "two. A consent is void once another guild is founded; then give a new one by the same call.",
    )
    consent_pub_key: str | None = Field(
        None, max_length=66, description="Public key of consent_address (proof_pub_key of the consent), hex."
    )
    consent_signature: str | None = Field(
        None, max_length=128, description="The founder's signature (proof_signature of the consent), hex."
    )

    @property
    def action(self) -> Action:
        return ACTIONS[self.action_type]

    @property
    def founding(self) -> Founding | None:
        """How the guild is founded, if anything of it is said. Raises InvalidInput."""
        signed = (self.consent_address, self.consent_pub_key, self.consent_signature)
        if all(each is None for each in (self.reactor_id, self.endpoint, self.entry_substation_id, *signed)):
            return None
        if self.reactor_id is None or self.endpoint is None:
            raise InvalidInput("reactor_id and endpoint should both be given, to say how the guild is founded")
        consent = None if signed == (None, None, None) else Consent(*(each or "" for each in signed))
        return Founding(self.reactor_id, self.endpoint, self.entry_substation_id or "", consent)


class JobArguments(Arguments):
    """Which job."""

    job_id: str = Field(max_length=100, description='Job id as the start call returned it, "pow_...".')


class StatusArguments(JobArguments):
    """Which job, and how long to wait for its end."""

    wait_seconds: int | None = Field(
        None,
        ge=0,
        le=MAX_WAIT_SECONDS,
        description="Answer as soon as the job has reached a final status, or after this many seconds; at once if left "
        "out. Over stdio, a caller that gave a progress token gets progress notifications (0 to 1) meanwhile.",
    )


class ListArguments(Arguments):
    """Which jobs, and which page of them."""

    status: StateName | None = Field(None, description="Only jobs with this status.")
    player_id: str | None = Field(None, max_length=40, description='Only jobs of this player, such as "1-11".')
    limit: int | None = Field(None, ge=1, le=MAX_PAGE_SIZE, description="Most jobs to return; 50 if left out.")
    page_token: str | None = Field(
        None, max_length=500, description="next_page_token of the page before; left out for the first page."
    )


class PriorityArguments(JobArguments):
    """Which job, and who goes first."""

    priority: PriorityName = Field(
        description="critical goes before interactive (what jobs start with), interactive before bulk."
    )


class NoArguments(Arguments):
    """Nothing to say."""


class StartResult(BaseModel):
    """The accepted job. The proof is not there yet."""

    job_id: str = Field(description="Keep it: the other tools ask for it.")
    status: StateName
    message: str
    note: str


class WaitingInfo(BaseModel):
    """Why nothing is hashed yet: the difficulty falls as the work ages, and now it would be wasted effort."""

    current_age: int = Field(description="Blocks since the clock of this work started.")
    target_age: int = Field(description="Age in blocks at which hashing starts.")
    blocks_remaining: int = Field(description="Blocks until then.")
    difficulty: int = Field(description="Leading hex zeros asked now.")
    target_difficulty: int = Field(description="Leading hex zeros asked at target_age.")
    seconds_remaining: float = Field(description="Estimated seconds until then.")
    reason: str | None = Field(None, description="Why it waits, in one sentence.")


class Eta(BaseModel):
    """When the proof is expected, as a distribution: a search is a matter of luck."""

    seconds: float = Field(description="Expected seconds from now (the mean).")
    seconds_50: float = Field(description="It takes at most this long with a chance of 50 %.")
    block_50: int = Field(description="The block in which the transaction can then be included.")
    seconds_90: float = Field(description="It takes at most this long with a chance of 90 %.")
    block_90: int = Field(description="The block in which the transaction can then be included.")


class BestHash(BaseModel):
    """The best nonce so far: not valid yet, but it will be, because the difficulty falls."""

    hash: str = Field(description="SHA-256 of the work's prefix followed by the nonce, lowercase hex.")
    nonce: str = Field(description="Decimal digits; leading zeros count.")
    zeros: int = Field(description="Leading hex zeros of the hash.")
    valid_from_height: int = Field(
        description="It can be submitted once the chain has committed this block, if nothing better comes before."
    )


class DifficultyInfo(BaseModel):
    """How hard the work is now."""

    current_difficulty: int = Field(description="Leading hex zeros asked of a transaction in the next block.")
    current_age: int = Field(description="Blocks since the clock of this work started.")
    difficulty_range: int = Field(description="Age in blocks at which the difficulty has fallen to 1.")


class Progress(BaseModel):
    """How far the search has come."""

    hashes: int = Field(description="Nonces tried for this job so far.")
    hash_rate: float = Field(description="Hashes per second now; 0 while no worker is on it.")
    eta_seconds: float | None = Field(None, description="Expected seconds until the proof; absent without a rate.")
    expected_block: int | None = Field(None, description="Block height at which it is expected.")
    fraction: float = Field(
        description="0 to 1: the chance that a search that has come this far has found its proof. It never falls for "
        "the same work."
    )


class ProofOfWork(BaseModel):
    """The nonce, hashed again by the tool that tells you of it."""

    hash: str = Field(description="SHA-256 of the work's prefix followed by the nonce, lowercase hex.")
    nonce: str = Field(description="Decimal digits; leading zeros count.")
    zeros: int = Field(description="Leading hex zeros of the hash.")
    valid_from_height: int = Field(description="It can be submitted once the chain has committed this block.")
    iterations: int = Field(description="Hashes spent on the job until this proof.")
    valid: bool = Field(description="Whether the nonce hashes to `hash`, as computed for this answer.")
    difficulty_met: bool = Field(
        description="Whether that hash has the leading hex zeros asked in the block of inclusion, or in the next "
        "block while there is none."
    )
    computation_time_ms: int = Field(description="Milliseconds of hashing; waiting is not counted.")


class TransactionResult(BaseModel):
    """The completing transaction."""

    transaction_hash: str = Field(description="Uppercase hex, as explorers take it.")
    transaction_id: int = Field(description="Row of the coordinator's submission ledger.")
    status: TransactionStateName = Field(
        description="included means in a block and successful; broadcast promises nothing yet."
    )
    message: str


class JobResult(BaseModel):
    """What came out of the job."""

    job_id: str
    status: StateName
    proof_of_work: ProofOfWork
    transaction: TransactionResult | None = Field(
        None, description="Absent until it is signed, and always with the mode return_proof."
    )


class JobStatus(BaseModel):
    """A job as it stands now."""

    job_id: str
    status: StateName = Field(
        description="queued: accepted. waiting: hashing now would be wasted, see waiting_info. running: being hashed. "
        "submitting: proof found, transaction under way, or error says what it waits for. "
        "completed, failed and cancelled are final."
    )
    started_at: str = Field(description="When the job was accepted, ISO 8601 in UTC.")
    completed_at: str | None = Field(None, description="When it reached a final status, ISO 8601 in UTC.")
    error: str | None = Field(None, description="Why it failed, or what holds it up for now.")
    waiting_info: WaitingInfo | None = Field(None, description="Only while waiting.")
    difficulty_info: DifficultyInfo | None = Field(None, description="Absent until the chain has been asked.")
    progress: Progress | None = Field(None, description="Absent until hashing has begun.")
    eta: Eta | None = Field(None, description="Only while waiting or running, and while a worker is connected.")
    best: BestHash | None = Field(None, description="Absent while there is none, and once there is a result.")
    result: JobResult | None = Field(None, description="Absent until a proof is found.")


class JobRecord(JobStatus):
    """A job as it stands now, and what was asked for."""

    action_type: ActionType
    entity_id: str
    player_id: str
    target_id: str | None = Field(None, description="Planet of a raid, once known.")
    reactor_id: str | None = Field(None, description="Only of guild_create.")
    endpoint: str | None = Field(None, description="Only of guild_create.")
    entry_substation_id: str | None = Field(None, description="Only of guild_create; absent for none.")
    priority: PriorityName
    mode: ModeName
    start_mode: StartModeName
    start_difficulty: int | None = Field(None, description="Absent while start_mode decides.")
    deadline_height: int | None = Field(None, description="Absent without a deadline.")
    weight: int
    idempotency_key: str | None = Field(None, description="Absent if the job was started without one.")
    notes: list[str] | None = Field(None, description="Remarks, such as that a hint differed from the chain.")


class JobList(BaseModel):
    """One page of jobs, newest first."""

    jobs: list[JobRecord]
    next_page_token: str | None = Field(None, description="Give it as page_token for the next page; absent at the end.")


class Device(BaseModel):
    """One GPU, or the CPU cores of a host."""

    device_id: str
    name: str
    engine: EngineName
    hash_rate: float = Field(description="Hashes per second now; 0 while idle.")
    nominal_rate: float = Field(description="Hashes per second as measured by its self-test.")
    hashes: int = Field(description="Hashes since its worker connected.")
    job_id: str | None = Field(None, description="The job it works on; absent while idle.")
    accepted: int = Field(description="Hits that led to a proof.")
    stale: int = Field(description="Hits that came too late.")
    invalid: int = Field(description="Hits that did not hash as claimed.")


class Worker(BaseModel):
    """One connected worker process."""

    worker_id: str
    name: str
    version: str
    connected_at: str = Field(description="ISO 8601 in UTC.")
    draining: bool = Field(description="True while it is stopping and takes no new work.")
    devices: list[Device]


class JobCounts(BaseModel):
    """Number of jobs by status."""

    queued: int
    waiting: int
    running: int
    submitting: int
    completed: int
    failed: int
    cancelled: int


class Chain(BaseModel):
    """The chain as the coordinator sees it."""

    chain_id: str
    height: int = Field(description="Last committed block height; 0 before the first answer.")
    block_interval_seconds: float = Field(description="Measured seconds per block; 0 until measured.")
    connected: bool
    signer_address: str | None = Field(None, description="Address that signs; absent in watch-only mode.")


class Signer(BaseModel):
    """An account that signs transactions, or a guild stack that does. Counts are of proofs, since the start."""

    address: str
    player_id: str | None = Field(None, description="Player that the address is registered to, once it was asked.")
    in_flight: int = Field(description="Transactions that may land in one of the next blocks.")
    waiting: int = Field(description="Proofs that have no transaction yet.")
    included: int
    rejected: int = Field(description="Refused by a node, or failed in a block.")
    stale: int = Field(description="Void before they could be sent.")
    last_error: str | None = Field(None, description="What went wrong last.")
    alarm: str | None = Field(None, description="Why a person should look at it: too many of its proofs are rejected.")


class FleetStatus(BaseModel):
    """Who works, how fast, on which chain."""

    hash_rate: float = Field(description="Hashes per second over all devices that hash now.")
    nominal_rate: float = Field(description="Hashes per second that all connected devices could reach.")
    jobs: JobCounts
    chain: Chain
    signers: list[Signer] = Field(description="Empty in watch-only mode.")
    workers: list[Worker]
    coordinator_version: str


def start_result(answer: job_service_pb2.SubmitJobResponse) -> StartResult:
    """What the start call answers."""
    job = answer.job
    if answer.created:
        message = f"Proof-of-work job {job.job_id} is accepted."
    elif job.state in FINAL_STATES:
        message = (
            f"This idempotency_key stands for job {job.job_id}, which is {state_name(job.state)}; no second job was "
            "made. To ask for the work anew, take another key."
        )
    else:
        message = f"This work is already under way as job {job.job_id}; no second job was made."
    if job.spec.mode == job_pb2.MODE_RETURN_PROOF:
        note = (
            "The fleet waits until hashing pays, hashes and checks the proof; it submits nothing. "
            "Ask structs_query_proof_of_work_status now and then; once completed, its result holds the nonce."
        )
    else:
        note = (
            "The fleet waits until hashing pays, hashes, checks the proof and submits the transaction by itself. "
            "Ask structs_query_proof_of_work_status now and then; nothing else is needed."
        )
    return StartResult(
        job_id=job.job_id,
        status=state_name(job.state),
        message=message,
        note=" ".join([note, *map(_sentence, job.notes)]),
    )


def job_status(job: job_pb2.Job) -> JobStatus:
    """The job as the status tool shows it. Raises CoordinatorError if the coordinator's answer contradicts itself."""
    return JobStatus(**_status_members(job))


def job_record(job: job_pb2.Job) -> JobRecord:
    """The job with what was asked for. Raises as job_status does."""
    target = job.work.target_id or job.spec.target_id
    founding = job.spec.founding
    return JobRecord(
        **_status_members(job),
        action_type=ACTION_TYPES[action_of(job.spec)],
        entity_id=job.spec.entity_id,
        player_id=job.spec.player_id,
        target_id=target or None,
        reactor_id=founding.reactor_id or None,
        endpoint=founding.endpoint or None,
        entry_substation_id=founding.entry_substation_id or None,
        priority=priority_name(job.spec.priority),
        mode=mode_name(job.spec.mode),
        start_mode=start_mode_name(job.spec.start_mode),
        start_difficulty=job.spec.start_difficulty or None,
        deadline_height=job.spec.deadline_height or None,
        weight=job.spec.weight or 1,
        idempotency_key=job.spec.idempotency_key or None,
        notes=list(job.notes) or None,
    )


def job_list(page: job_service_pb2.ListJobsResponse) -> JobList:
    """One page of jobs."""
    return JobList(jobs=[job_record(job) for job in page.jobs], next_page_token=page.next_page_token or None)


def fleet_status(status: fleet_service_pb2.GetFleetStatusResponse) -> FleetStatus:
    """The fleet as agents see it."""
    jobs, chain = status.jobs, status.chain
    return FleetStatus(
        hash_rate=status.hash_rate,
        nominal_rate=status.nominal_rate,
        jobs=JobCounts(
            queued=jobs.queued,
            waiting=jobs.waiting,
            running=jobs.running,
            submitting=jobs.submitting,
            completed=jobs.completed,
            failed=jobs.failed,
            cancelled=jobs.cancelled,
        ),
        chain=Chain(
            chain_id=chain.chain_id,
            height=chain.height,
            block_interval_seconds=chain.block_interval,
            connected=chain.connected,
            signer_address=chain.signer_address or None,
        ),
        signers=[
            Signer(
                address=signer.address,
                player_id=signer.player_id or None,
                in_flight=signer.in_flight,
                waiting=signer.waiting,
                included=signer.included,
                rejected=signer.rejected,
                stale=signer.stale,
                last_error=signer.last_error or None,
                alarm=signer.alarm or None,
            )
            for signer in status.signers
        ],
        workers=[_worker(worker) for worker in status.workers],
        coordinator_version=status.version,
    )


def _worker(worker: fleet_service_pb2.WorkerStatus) -> Worker:
    return Worker(
        worker_id=worker.worker_id,
        name=worker.name,
        version=worker.version,
        connected_at=_iso(worker.connected_at),
        draining=worker.draining,
        devices=[
            Device(
                device_id=status.device.device_id,
                name=status.device.name,
                engine=engine_name(status.device.engine),
                hash_rate=status.hash_rate,
                nominal_rate=status.device.nominal_rate,
                hashes=status.hashes,
                job_id=status.job_id or None,
                accepted=status.accepted,
                stale=status.stale,
                invalid=status.invalid,
            )
            for status in worker.devices
        ],
    )


def _status_members(job: job_pb2.Job) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "status": state_name(job.state),
        "started_at": _iso(job.created_at),
        "completed_at": _iso(job.completed_at) if job.HasField("completed_at") else None,
        "error": job.error or None,
        "waiting_info": _waiting(job.waiting) if job.HasField("waiting") else None,
        "difficulty_info": _difficulty(job.work) if job.HasField("work") else None,
        "progress": _progress(job.progress) if job.HasField("progress") else None,
        "eta": _eta(job.eta) if job.HasField("eta") and math.isfinite(job.eta.seconds) else None,
        "best": _best(job.best) if job.HasField("best") and not job.HasField("proof") else None,
        "result": _result(job) if job.HasField("proof") else None,
    }


def _iso(stamp: Timestamp) -> str:
    return stamp.ToDatetime(tzinfo=datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _waiting(waiting: job_pb2.WaitingInfo) -> WaitingInfo:
    return WaitingInfo(
        current_age=waiting.current_age,
        target_age=waiting.target_age,
        blocks_remaining=waiting.blocks_remaining,
        difficulty=waiting.difficulty,
        target_difficulty=waiting.target_difficulty,
        seconds_remaining=waiting.seconds_remaining,
        reason=waiting.reason or None,
    )


def _eta(eta: job_pb2.Eta) -> Eta:
    return Eta(
        seconds=eta.seconds,
        seconds_50=eta.seconds_50,
        block_50=eta.block_50,
        seconds_90=eta.seconds_90,
        block_90=eta.block_90,
    )


def _best(best: job_pb2.Proof) -> BestHash:
    return BestHash(hash=best.hash, nonce=best.nonce, zeros=best.zeros, valid_from_height=best.valid_from_height)


def _difficulty(work: job_pb2.Work) -> DifficultyInfo:
    return DifficultyInfo(
        current_difficulty=work.current_difficulty, current_age=work.current_age, difficulty_range=work.range
    )


def _progress(progress: job_pb2.Progress) -> Progress:
    return Progress(
        hashes=progress.hashes,
        hash_rate=progress.hash_rate,
        # JSON knows no infinity, and "never at this rate" is no estimate either.
        eta_seconds=progress.eta_seconds
        if progress.HasField("eta_seconds") and math.isfinite(progress.eta_seconds)
        else None,
        expected_block=progress.expected_block if progress.HasField("expected_block") else None,
        fraction=progress.fraction,
    )


def _result(job: job_pb2.Job) -> JobResult:
    if not job.HasField("work"):
        raise CoordinatorError(f"the coordinator sent a proof for job {job.job_id} without the work that it proves")
    return JobResult(
        job_id=job.job_id,
        status=state_name(job.state),
        proof_of_work=_proof(job),
        transaction=_transaction(job.transaction) if job.HasField("transaction") else None,
    )


def _proof(job: job_pb2.Job) -> ProofOfWork:
    try:
        proof = verify(job.work.prefix.encode(), job.proof.nonce)
    except InvalidInput:  # no nonce at all: as wrong as one that hashes to something else
        valid, zeros = False, 0
    else:
        valid, zeros = proof.hash == job.proof.hash, proof.zeros
    return ProofOfWork(
        hash=job.proof.hash,
        nonce=job.proof.nonce,
        zeros=job.proof.zeros,
        valid_from_height=job.proof.valid_from_height,
        iterations=job.proof.hashes,
        valid=valid,
        difficulty_met=zeros >= _zeros_asked(job),
        computation_time_ms=round(job.proof.seconds * 1000),
    )


def _zeros_asked(job: job_pb2.Job) -> int:
    """Leading hex zeros that the chain asked in the block of inclusion, or asks in the next block.

    After inclusion the age goes on rising, so the current difficulty would flatter a proof that was too weak.
    """
    landed = job.transaction.height
    return safe(landed - job.work.anchor, job.work.range) if landed else job.work.current_difficulty


def _transaction(transaction: job_pb2.Transaction) -> TransactionResult:
    return TransactionResult(
        transaction_hash=transaction.hash,
        transaction_id=transaction.ledger_id,
        status=transaction_state_name(transaction.state),
        message=transaction.message or _transaction_message(transaction),
    )


def _transaction_message(transaction: job_pb2.Transaction) -> str:
    match transaction.state:
        case job_pb2.TRANSACTION_STATE_SIGNED:
            return "Signed; no node has answered yet."
        case job_pb2.TRANSACTION_STATE_BROADCAST:
            return "Admitted to a node's mempool; not in a block yet."
        case job_pb2.TRANSACTION_STATE_INCLUDED:
            return f"Included in block {transaction.height}."
        case job_pb2.TRANSACTION_STATE_REJECTED:
            return "Rejected by the chain."
        case _:
            return "Its state is not known."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
