"""FleetClient: the coordinator's gRPC API as async Python.

::

    async with FleetClient("127.0.0.1:7337") as fleet:
        answer = await fleet.submit_job(Action.BUILD, "5-28", player_id="1-11")
        async for job in fleet.watch_job(answer.job.job_id):
            print(state_name(job.state))

Answers are the generated messages of `hashfleet.v1` (proto/hashfleet/v1), typed by their stubs. Everything that goes
wrong is a HashfleetError: InvalidInput, JobNotFound, JobFinal, CoordinatorUnavailable, or else CoordinatorError.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self, TypeVar, get_args

import grpc
import grpc.aio

from hashfleet.action import PLAYER_TYPE, Action, check_object_id
from hashfleet.autopilot_message import rule_message
from hashfleet.autopilot_rule import AutopilotRule
from hashfleet.charter import Founding
from hashfleet.errors import (
    CoordinatorError,
    CoordinatorUnavailable,
    HashfleetError,
    InvalidInput,
    JobFinal,
    JobNotFound,
)
from hashfleet.job_request import JobRequest, Mode, Priority, StartMode
from hashfleet.job_spec import spec_of
from hashfleet.proof import MAX_NONCE_DIGITS
from hashfleet.rpc.hashfleet.v1 import (
    autopilot_service_pb2,
    autopilot_service_pb2_grpc,
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    worker_service_pb2,
)

logger = logging.getLogger(__name__)

#: Where a coordinator listens for gRPC unless told otherwise.
DEFAULT_ADDRESS = "127.0.0.1:7337"
StateName = Literal["queued", "waiting", "running", "submitting", "completed", "failed", "cancelled"]
PriorityName = Literal["critical", "interactive", "bulk"]
ModeName = Literal["submit", "return_proof"]
StartModeName = Literal["economy", "balanced", "race"]
TransactionStateName = Literal["signed", "broadcast", "included", "rejected"]
EngineName = Literal["cuda", "opencl", "cpu"]
#: In the order in which a job passes through them.
JOB_STATES: tuple[StateName, ...] = get_args(StateName)
#: The first goes first.
PRIORITIES: tuple[PriorityName, ...] = get_args(PriorityName)
MODES: tuple[ModeName, ...] = get_args(ModeName)
#: From the fewest hashes to the earliest start.
START_MODES: tuple[StartModeName, ...] = get_args(StartModeName)
#: The states that nothing leaves.
FINAL_STATES = frozenset({job_pb2.JOB_STATE_COMPLETED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED})
#: Most jobs on one page of a listing.
MAX_PAGE_SIZE = 500
#: Most jobs of one SubmitJobs call.
MAX_BATCH = 500

#: A watch stream is opened anew after this many seconds. A connection that died without a word (a host gone, a NAT
#: entry dropped) is noticed then; gRPC's own keepalive pings would need the server's consent to be this frequent.
_WATCH_RENEWAL_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
#: How a stream ends when the coordinator goes away or the renewal is due; any other code is an answer.
_STREAM_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)

_CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # gRPC waits up to two minutes before it tries a lost server again; a restarted coordinator is back in seconds.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # The coordinator stands in one's own network: an http_proxy meant for the internet would only break the way.
    ("grpc.enable_http_proxy", 0),
)

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", re.ASCII)
_TOKEN = re.compile(r"[\x21-\x7e]{1,500}")

_STATE_NAMES = {job_pb2.JobState.Value(f"JOB_STATE_{name.upper()}"): name for name in JOB_STATES}
_PRIORITY_NAMES = {job_pb2.Priority.Value(f"PRIORITY_{name.upper()}"): name for name in PRIORITIES}
_MODE_NAMES = {job_pb2.Mode.Value(f"MODE_{name.upper()}"): name for name in MODES}
_START_MODE_NAMES = {job_pb2.StartMode.Value(f"START_MODE_{name.upper()}"): name for name in START_MODES}
_TRANSACTION_STATE_NAMES: dict[job_pb2.TransactionState.ValueType, TransactionStateName] = {
    job_pb2.TRANSACTION_STATE_SIGNED: "signed",
    job_pb2.TRANSACTION_STATE_BROADCAST: "broadcast",
    job_pb2.TRANSACTION_STATE_INCLUDED: "included",
    job_pb2.TRANSACTION_STATE_REJECTED: "rejected",
}
_ENGINE_NAMES: dict[worker_service_pb2.EngineKind.ValueType, EngineName] = {
    worker_service_pb2.ENGINE_KIND_CUDA: "cuda",
    worker_service_pb2.ENGINE_KIND_OPENCL: "opencl",
    worker_service_pb2.ENGINE_KIND_CPU: "cpu",
}
_ACTIONS = {job_pb2.Action.Value(f"ACTION_{action.name}"): action for action in Action}

#: Status codes, by number, whose sentence is for the caller as it is.
_REFUSALS: dict[int, type[HashfleetError]] = {
    grpc.StatusCode.INVALID_ARGUMENT.value[0]: InvalidInput,
    grpc.StatusCode.NOT_FOUND.value[0]: JobNotFound,
    grpc.StatusCode.FAILED_PRECONDITION.value[0]: JobFinal,
}

_AnswerT = TypeVar("_AnswerT")
_NumberT = TypeVar("_NumberT", bound=int)
_NameT = TypeVar("_NameT")


def state_name(state: job_pb2.JobState.ValueType) -> StateName:
    """The state in one word. Raises CoordinatorError for a number that is none."""
    return _named(_STATE_NAMES, state, "job state")


def priority_name(priority: job_pb2.Priority.ValueType) -> PriorityName:
    """The priority in one word; an unset one is interactive, as the coordinator reads it. Raises as state_name does."""
    return _named(_PRIORITY_NAMES, priority or job_pb2.PRIORITY_INTERACTIVE, "priority")


def mode_name(mode: job_pb2.Mode.ValueType) -> ModeName:
    """What is done with the proof, in one word; unset is submit. Raises as state_name does."""
    return _named(_MODE_NAMES, mode or job_pb2.MODE_SUBMIT, "mode")


def start_mode_name(mode: job_pb2.StartMode.ValueType) -> StartModeName:
    """When hashing starts, in one word; unset is balanced. Raises as state_name does."""
    return _named(_START_MODE_NAMES, mode or job_pb2.START_MODE_BALANCED, "start mode")


def transaction_state_name(state: job_pb2.TransactionState.ValueType) -> TransactionStateName:
    """Where a transaction stands, in one word. Raises as state_name does."""
    return _named(_TRANSACTION_STATE_NAMES, state, "transaction state")


def engine_name(engine: worker_service_pb2.EngineKind.ValueType) -> EngineName:
    """What drives a device, in one word. Raises as state_name does."""
    return _named(_ENGINE_NAMES, engine, "engine kind")


def action_of(spec: job_pb2.JobSpec) -> Action:
    """The Action of a spec. Raises as state_name does."""
    return _named(_ACTIONS, spec.action, "action")


class FleetClient:
    """A connection to one coordinator. Use it as an async context manager; many tasks may share it.

    The connection is made by the first call and made again by itself after a loss.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, timeout: float = 5.0) -> None:
        """`address` is HOST:PORT; `timeout` is the limit of every call in seconds.

        Raises InvalidInput for an address or timeout that cannot be right.
        """
        self._address = _checked_address(address)
        if not 0 < timeout <= 3600:
            raise InvalidInput(f"the timeout is {timeout}; it should be more than 0 and at most 3600 seconds")
        self._timeout = timeout
        self._channel: grpc.aio.Channel | None = None

    @property
    def address(self) -> str:
        """HOST:PORT as given."""
        return self._address

    def __repr__(self) -> str:
        return f"FleetClient({self._address!r}, timeout={self._timeout})"

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._address, options=_CHANNEL_OPTIONS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop the connection; calls and watches under way fail."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def submit_job(
        self,
        action: Action,
        entity_id: str,
        player_id: str,
        *,
        target_id: str | None = None,
        anchor: int | None = None,
        difficulty_range: int | None = None,
        max_hashes: int | None = None,
        priority: PriorityName = "interactive",
        max_nonce_digits: int = MAX_NONCE_DIGITS,
        mode: ModeName = "submit",
        start_mode: StartModeName = "balanced",
        start_difficulty: int | None = None,
        deadline_height: int | None = None,
        weight: int = 1,
        idempotency_key: str | None = None,
        founding: Founding | None = None,
    ) -> job_service_pb2.SubmitJobResponse:
        """Ask for a proof; returns at once with the job and whether it is a new one.

        `entity_id` is a struct id ("5-28"), a fleet id ("9-11") for a raid, or for a charter the id of the player who
        founds the guild ("1-7"), by the terms in `founding`; `player_id` ("1-11") is whose transaction it becomes;
        `target_id` is the planet of a raid ("2-1"). `anchor` (a block height) and
        `difficulty_range` (blocks) are only hints: the chain's own values win. `max_hashes` is a budget, None for no
        limit. `priority` is one of PRIORITIES. `max_nonce_digits`, 26 to 200, is the longest nonce that you can use.
        `mode` is one of MODES: with "return_proof" nothing is submitted, the proof is yours. `start_mode`, one of
        START_MODES, says when hashing starts; `start_difficulty` (leading hex zeros) overrides it. `deadline_height`
        is the height by which the proof should be there; `weight`, 1 to 1000, the share beside jobs that tie.

        The same unfinished work asked twice gives the job that already runs. `idempotency_key`, 1 to 128 printable
        ASCII characters of your own, makes a repeated request give its first job in any state, finished too; another
        request with that key is InvalidInput.

        Raises InvalidInput, CoordinatorUnavailable, CoordinatorError.
        """
        asked = JobRequest(
            action,
            entity_id,
            player_id,
            target_id,
            anchor,
            difficulty_range,
            max_hashes,
            _checked_priority(priority),
            max_nonce_digits,
            Mode(_checked_name(mode, MODES, "mode")),
            StartMode(_checked_name(start_mode, START_MODES, "start_mode")),
            start_difficulty,
            deadline_height,
            weight,
            idempotency_key,
            founding,
        )
        return await self._answer(
            self._jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec_of(asked)), timeout=self._timeout)
        )

    async def submit_jobs(
        self, requests: Sequence[JobRequest]
    ) -> list[job_service_pb2.SubmitJobResponse | HashfleetError]:
        """Ask for many proofs, MAX_BATCH a call; for each, in order, its job and whether it is a new one, or its error.

        Far quicker than a submit_job for each: the coordinator stores a call's jobs together. If this raises, the jobs
        of calls that were answered are accepted, and those of the last call may be; with an idempotency key in each
        request all may be asked again without fear.

        Raises CoordinatorUnavailable, CoordinatorError.
        """
        answers: list[job_service_pb2.SubmitJobResponse | HashfleetError] = []
        for start in range(0, len(requests), MAX_BATCH):
            specs = [spec_of(request) for request in requests[start : start + MAX_BATCH]]
            call = self._jobs.SubmitJobs(job_service_pb2.SubmitJobsRequest(specs=specs), timeout=self._timeout)
            results = (await self._answer(call)).results
            if len(results) != len(specs):
                raise CoordinatorError(f"the coordinator answered {len(specs)} specs with {len(results)} results")
            answers += [
                self._error_of(result.error.code, result.error.message) if result.HasField("error") else result.accepted
                for result in results
            ]
        return answers

    async def get_job(self, job_id: str) -> job_pb2.Job:
        """One job as it stands now. Raises JobNotFound, InvalidInput, CoordinatorUnavailable, CoordinatorError."""
        request = job_service_pb2.GetJobRequest(job_id=_job_id(job_id))
        return (await self._answer(self._jobs.GetJob(request, timeout=self._timeout))).job

    async def list_jobs(
        self,
        *,
        states: Iterable[StateName] = (),
        player_id: str | None = None,
        page_size: int = 50,
        page_token: str = "",
    ) -> job_service_pb2.ListJobsResponse:
        """One page of jobs, newest first, and the token of the next page ("" after the last).

        `states` are names out of JOB_STATES, none for all; `page_size` is 1 to MAX_PAGE_SIZE.
        Raises InvalidInput, CoordinatorUnavailable, CoordinatorError.
        """
        if player_id is not None:
            check_object_id(player_id, PLAYER_TYPE, "player_id")
        if not 1 <= page_size <= MAX_PAGE_SIZE:
            raise InvalidInput(f"limit is {page_size}; it should be from 1 to {MAX_PAGE_SIZE}")
        if page_token and not _TOKEN.fullmatch(page_token):
            raise InvalidInput("page_token should be the next_page_token of the page before, unchanged")
        request = job_service_pb2.ListJobsRequest(
            page_size=page_size,
            page_token=page_token,
            states=[_state(name) for name in states],
            player_id=player_id or "",
        )
        return await self._answer(self._jobs.ListJobs(request, timeout=self._timeout))

    async def watch_job(self, job_id: str, *, patience: float = 300.0) -> AsyncGenerator[job_pb2.Job]:
        """Yield the job now and after each change; end after a final state.

        A lost coordinator is looked for again for `patience` seconds at a time; what changed meanwhile is yielded
        as one change. Raises JobNotFound, InvalidInput, CoordinatorUnavailable (the coordinator cannot be reached
        at the start, or not again within `patience`), CoordinatorError.
        """
        request = job_service_pb2.WatchJobRequest(job_id=_job_id(job_id))
        job = await self.get_job(job_id)
        yield job
        pause = _FIRST_PAUSE_SECONDS
        while job.state not in FINAL_STATES:
            stream = self._jobs.WatchJob(request, timeout=_WATCH_RENEWAL_SECONDS)
            try:
                async for response in stream:
                    if response.job == job:
                        continue
                    job, pause = response.job, _FIRST_PAUSE_SECONDS
                    yield job
            except grpc.aio.AioRpcError as error:
                if error.code() not in _STREAM_LOST:
                    raise self._translated(error) from error
                logger.debug("The watch of job %s is opened again after %s.", job_id, error.code().name)
            finally:
                stream.cancel()
            if job.state in FINAL_STATES:
                return
            # The pause keeps a coordinator that ends every stream at once from being called in a tight loop.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            found = await self._reach_again(job_id, patience)
            if found != job:
                job = found
                yield job

    async def cancel_job(self, job_id: str) -> job_pb2.Job:
        """Stop a job; cancelling a cancelled one is no error.

        Raises JobFinal (it is over, or a transaction may land), JobNotFound, InvalidInput, CoordinatorUnavailable,
        CoordinatorError.
        """
        request = job_service_pb2.CancelJobRequest(job_id=_job_id(job_id))
        return (await self._answer(self._jobs.CancelJob(request, timeout=self._timeout))).job

    async def set_job_priority(self, job_id: str, priority: PriorityName) -> job_pb2.Job:
        """Change who goes first; `priority` is one of PRIORITIES. Raises as cancel_job does."""
        request = job_service_pb2.SetJobPriorityRequest(
            job_id=_job_id(job_id), priority=_priority_message(_checked_priority(priority))
        )
        return (await self._answer(self._jobs.SetJobPriority(request, timeout=self._timeout))).job

    async def fleet_status(self) -> fleet_service_pb2.GetFleetStatusResponse:
        """Workers, rates, queue lengths and the chain. Raises CoordinatorUnavailable, CoordinatorError."""
        stub = fleet_service_pb2_grpc.FleetServiceStub(self._opened())
        return await self._answer(stub.GetFleetStatus(fleet_service_pb2.GetFleetStatusRequest(), timeout=self._timeout))

    async def set_autopilot_rule(self, rule: AutopilotRule) -> autopilot_service_pb2.AutopilotStatus:
        """Have the coordinator pick up the outstanding work of a player by itself, from now on and after restarts.

        It takes the place of the player's former rule. Returns at once: the chain is asked in the background.
        Raises InvalidInput, CoordinatorUnavailable, CoordinatorError.
        """
        request = autopilot_service_pb2.SetRuleRequest(rule=rule_message(rule))
        return (await self._answer(self._autopilot.SetRule(request, timeout=self._timeout))).status

    async def list_autopilot_rules(
        self, *, player_id: str | None = None, page_size: int = 50, page_token: str = ""
    ) -> autopilot_service_pb2.ListRulesResponse:
        """One page of rules, by player, with how each is served, and the token of the next page ("" after the last).

        `player_id` asks for that player's rule only. Raises InvalidInput, CoordinatorUnavailable, CoordinatorError.
        """
        if player_id is not None:
            check_object_id(player_id, PLAYER_TYPE, "player_id")
        if not 1 <= page_size <= MAX_PAGE_SIZE:
            raise InvalidInput(f"limit is {page_size}; it should be from 1 to {MAX_PAGE_SIZE}")
        if page_token and not _TOKEN.fullmatch(page_token):
            raise InvalidInput("page_token should be the next_page_token of the page before, unchanged")
        request = autopilot_service_pb2.ListRulesRequest(
            player_id=player_id or "", page_size=page_size, page_token=page_token
        )
        return await self._answer(self._autopilot.ListRules(request, timeout=self._timeout))

    async def remove_autopilot_rule(self, player_id: str) -> bool:
        """Serve a player no longer; his jobs under way go on. False if he had no rule. Raises as set_autopilot_rule."""
        check_object_id(player_id, PLAYER_TYPE, "player_id")
        request = autopilot_service_pb2.RemoveRuleRequest(player_id=player_id)
        return (await self._answer(self._autopilot.RemoveRule(request, timeout=self._timeout))).removed

    @property
    def _autopilot(self) -> autopilot_service_pb2_grpc.AutopilotServiceAsyncStub:
        return autopilot_service_pb2_grpc.AutopilotServiceStub(self._opened())

    @property
    def _jobs(self) -> job_service_pb2_grpc.JobServiceAsyncStub:
        return job_service_pb2_grpc.JobServiceStub(self._opened())

    def _opened(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise HashfleetError("the FleetClient is not open; use it in `async with FleetClient(address) as fleet`")
        return self._channel

    async def _reach_again(self, job_id: str, patience: float) -> job_pb2.Job:
        """The job as soon as the coordinator answers again, within `patience` seconds."""
        give_up_at = time.monotonic() + patience
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self.get_job(job_id)
            except CoordinatorUnavailable:
                if time.monotonic() + pause > give_up_at:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _answer(self, call: Awaitable[_AnswerT]) -> _AnswerT:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise self._translated(error) from error

    def _error_of(self, code: int, message: str) -> HashfleetError:
        """Our exception for the error of one spec of many."""
        if refusal := _REFUSALS.get(code):
            return refusal(message)
        return CoordinatorError(f"the coordinator at {self._address} failed with status {code}: {message}")

    def _translated(self, error: grpc.aio.AioRpcError) -> HashfleetError:
        """Our exception for a gRPC status. The coordinator's own sentence is kept where it is one for the caller."""
        code, details = error.code(), error.details() or ""
        match code:
            case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.NOT_FOUND | grpc.StatusCode.FAILED_PRECONDITION:
                return _REFUSALS[code.value[0]](details)
            case grpc.StatusCode.UNAVAILABLE:
                return CoordinatorUnavailable(
                    f"no coordinator answers at {self._address}; check the address and that it is running "
                    f"(`hashfleet coordinator`)"
                )
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return CoordinatorUnavailable(
                    f"the coordinator at {self._address} did not answer within {self._timeout:g} seconds; check the "
                    "address and that it is running, then ask again"
                )
            case _:
                return CoordinatorError(
                    f"the coordinator at {self._address} failed with {code.name}: {details or 'no reason given'}"
                )


def _checked_address(address: str) -> str:
    found = _ADDRESS.fullmatch(address)
    if not found or not 1 <= int(found[2]) <= 65535:
        raise InvalidInput(
            f"the coordinator's address is {address[:80]!a}; it should be HOST:PORT such as {DEFAULT_ADDRESS}"
        )
    return address


def _named(names: Mapping[_NumberT, _NameT], number: _NumberT, what: str) -> _NameT:
    # proto3 enums are open: a newer coordinator may send a number that the stubs here have no name for.
    found = names.get(number)
    if found is None:
        raise CoordinatorError(f"the coordinator sent {what} {number}, which is not known here; update hashfleet")
    return found


def _job_id(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise InvalidInput(f"job_id is {text[:40]!a}; it should be an id such as pow_..., as the submission returned")
    return text


def _state(name: str) -> job_pb2.JobState.ValueType:
    if name not in JOB_STATES:
        raise InvalidInput(f"status is {name[:40]!a}; it should be one of {', '.join(JOB_STATES)}")
    return job_pb2.JobState.Value(f"JOB_STATE_{name.upper()}")


def _checked_priority(name: str) -> Priority:
    return Priority[_checked_name(name, PRIORITIES, "priority").upper()]


def _checked_name(name: str, names: tuple[str, ...], what: str) -> str:
    if name not in names:
        raise InvalidInput(f"{what} is {name[:40]!a}; it should be one of {', '.join(names)}")
    return name


def _priority_message(priority: Priority) -> job_pb2.Priority.ValueType:
    return job_pb2.Priority.Value(f"PRIORITY_{priority.name}")
