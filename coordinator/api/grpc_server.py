"""The gRPC door: jobs, fleet, workers and the autopilot, with health and reflection for generic clients."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from coordinator.api.autopilot_servicer import AutopilotServicer
from coordinator.api.messages import (
    fleet_message,
    hello_from,
    job_message,
    lease_message,
    state_from,
    verdict_message,
    worker_event,
)
from coordinator.core.commands import CancelLease, GrantLease, RetargetLease, SendVerdict
from coordinator.core.events import WorkerLost
from coordinator.core.machine import SILENCE_LIMIT_SECONDS
from coordinator.service import Accepted, Service, WorkerCommand, WorkerSession
from coordinator.store.protocol import JobFilter, StoreError
from hashfleet.errors import HashfleetError, InvalidInput, JobFinal, JobNotFound
from hashfleet.job_request import JobRequest
from hashfleet.job_spec import priority_of, request_of
from hashfleet.rpc.hashfleet.v1 import (
    autopilot_service_pb2,
    autopilot_service_pb2_grpc,
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)

if TYPE_CHECKING:  # generic in its stubs only
    Context = grpc.aio.ServicerContext[Any, Any]

logger = logging.getLogger(__name__)

DEFAULT_PAGE, MAX_PAGE = 50, 500
#: Specs in one SubmitJobs call.
MAX_BATCH = 500
MAX_MESSAGE_BYTES = 1 << 20
#: Seconds a stream may take to say hello.
HELLO_SECONDS = 10.0
PROGRESS_INTERVAL_SECONDS = 1.0
#: Messages in one bundle, either way: some 150 bytes each.
MAX_BUNDLE = 256
#: Messages of one worker that the core has not heard yet at most; what comes after them stays in the network.
MAX_UNHEARD = 2_048

_STATUS = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    JobNotFound: grpc.StatusCode.NOT_FOUND,
    JobFinal: grpc.StatusCode.FAILED_PRECONDITION,
    # Not UNAVAILABLE, which clients take for a coordinator that is not there: it is, and says what is wrong.
    StoreError: grpc.StatusCode.INTERNAL,
}
_T = TypeVar("_T")


def _status(error: HashfleetError) -> grpc.StatusCode:
    return next((code for kind, code in _STATUS.items() if isinstance(error, kind)), grpc.StatusCode.UNAVAILABLE)


async def _refuse(context: Context, error: HashfleetError) -> NoReturn:
    await context.abort(_status(error), str(error))
    raise AssertionError("abort raises")


async def _answer(context: Context, work: Awaitable[_T]) -> _T:
    """The result, or the error as a status with its one sentence."""
    try:
        return await work
    except HashfleetError as error:
        await _refuse(context, error)


class JobServicer(job_service_pb2_grpc.JobServiceServicer):
    """hashfleet.v1.JobService."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def SubmitJob(  # noqa: N802
        self, request: job_service_pb2.SubmitJobRequest, context: Context
    ) -> job_service_pb2.SubmitJobResponse:
        try:
            asked = request_of(request.spec)
        except InvalidInput as error:
            await _refuse(context, error)
        view, created = await _answer(context, self._service.submit(asked))
        return job_service_pb2.SubmitJobResponse(job=job_message(view), created=created)

    async def SubmitJobs(  # noqa: N802
        self, request: job_service_pb2.SubmitJobsRequest, context: Context
    ) -> job_service_pb2.SubmitJobsResponse:
        if not 1 <= len(request.specs) <= MAX_BATCH:
            wrong = f"{len(request.specs)} specs are given; one call takes 1 to {MAX_BATCH}"
            await _refuse(context, InvalidInput(wrong))
        asked = [_request_or_error(spec) for spec in request.specs]
        good = [one for one in asked if isinstance(one, JobRequest)]
        accepted = iter(await _answer(context, self._service.submit_all(good)))
        outcomes = [one if isinstance(one, InvalidInput) else next(accepted) for one in asked]
        return job_service_pb2.SubmitJobsResponse(results=map(_result, outcomes))

    async def GetJob(  # noqa: N802
        self, request: job_service_pb2.GetJobRequest, context: Context
    ) -> job_service_pb2.GetJobResponse:
        view = await _answer(context, self._service.job(request.job_id))
        return job_service_pb2.GetJobResponse(job=job_message(view))

    async def ListJobs(  # noqa: N802
        self, request: job_service_pb2.ListJobsRequest, context: Context
    ) -> job_service_pb2.ListJobsResponse:
        try:
            which = JobFilter(frozenset(map(state_from, request.states)), request.player_id or None)
            after = _key_of_page(request.page_token) if request.page_token else None
            if request.page_size > MAX_PAGE:
                raise InvalidInput(f"page_size is {request.page_size}; the most is {MAX_PAGE}")
        except InvalidInput as error:
            await _refuse(context, error)
        size = request.page_size or DEFAULT_PAGE
        views = await _answer(context, self._service.jobs(which, size + 1, after))
        more = len(views) > size
        page = views[:size]
        token = _page_after(page[-1].job.created_at, page[-1].job.job_id) if more else ""
        return job_service_pb2.ListJobsResponse(jobs=map(job_message, page), next_page_token=token)

    async def WatchJob(  # noqa: N802
        self, request: job_service_pb2.WatchJobRequest, context: Context
    ) -> AsyncIterator[job_service_pb2.WatchJobResponse]:
        try:
            async with contextlib.aclosing(self._service.watch(request.job_id)) as views:
                async for view in views:
                    yield job_service_pb2.WatchJobResponse(job=job_message(view))
        except HashfleetError as error:
            await _refuse(context, error)

    async def CancelJob(  # noqa: N802
        self, request: job_service_pb2.CancelJobRequest, context: Context
    ) -> job_service_pb2.CancelJobResponse:
        view = await _answer(context, self._service.cancel(request.job_id))
        return job_service_pb2.CancelJobResponse(job=job_message(view))

    async def SetJobPriority(  # noqa: N802
        self, request: job_service_pb2.SetJobPriorityRequest, context: Context
    ) -> job_service_pb2.SetJobPriorityResponse:
        try:
            if request.priority == job_pb2.PRIORITY_UNSPECIFIED:
                raise InvalidInput("priority is missing; it should be critical, interactive or bulk")
            priority = priority_of(request.priority)
        except InvalidInput as error:
            await _refuse(context, error)
        view = await _answer(context, self._service.set_priority(request.job_id, priority))
        return job_service_pb2.SetJobPriorityResponse(job=job_message(view))


def _request_or_error(spec: job_pb2.JobSpec) -> JobRequest | InvalidInput:
    try:
        return request_of(spec)
    except InvalidInput as error:
        return error


def _result(outcome: Accepted | HashfleetError) -> job_service_pb2.SubmitJobsResult:
    if isinstance(outcome, HashfleetError):
        number: int = _status(outcome).value[0]
        return job_service_pb2.SubmitJobsResult(error=job_service_pb2.SubmitError(code=number, message=str(outcome)))
    view, created = outcome
    return job_service_pb2.SubmitJobsResult(
        accepted=job_service_pb2.SubmitJobResponse(job=job_message(view), created=created)
    )


def _page_after(created_at: float, job_id: str) -> str:
    return base64.urlsafe_b64encode(struct.pack(">d", created_at) + job_id.encode()).decode()


def _key_of_page(token: str) -> tuple[float, str]:
    wrong = InvalidInput("page_token is not one that this coordinator gave out; leave it out for the first page")
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii"))
        return struct.unpack(">d", raw[:8])[0], raw[8:].decode()
    except (ValueError, struct.error) as error:
        raise wrong from error


class FleetServicer(fleet_service_pb2_grpc.FleetServiceServicer):
    """hashfleet.v1.FleetService."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def GetFleetStatus(  # noqa: N802
        self, request: fleet_service_pb2.GetFleetStatusRequest, context: Context
    ) -> fleet_service_pb2.GetFleetStatusResponse:
        return fleet_message(await _answer(context, self._service.fleet()))


_Requests = AsyncIterator[worker_service_pb2.ConnectRequest]


class WorkerServicer(worker_service_pb2_grpc.WorkerServiceServicer):
    """hashfleet.v1.WorkerService: one stream per worker, read and written by two tasks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def Connect(  # noqa: N802
        self, request_iterator: _Requests, context: Context
    ) -> AsyncIterator[worker_service_pb2.ConnectResponse]:
        try:
            hello = await asyncio.wait_for(anext(request_iterator, None), HELLO_SECONDS)
            if hello is None or hello.WhichOneof("message") != "hello":
                raise InvalidInput("the first message of a worker should be hello")
            joined = hello_from(hello.hello, time.time())
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"no hello within {HELLO_SECONDS:.0f} s")
        except InvalidInput as error:
            await _refuse(context, error)
        yield worker_service_pb2.ConnectResponse(
            welcome=worker_service_pb2.Welcome(
                progress_interval_seconds=PROGRESS_INTERVAL_SECONDS, silence_limit_seconds=SILENCE_LIMIT_SECONDS
            )
        )
        session = self._service.open_session(joined.worker_id)
        names = ", ".join(offer.info.device_id for offer in joined.devices)
        logger.info("Worker %s (%s) joined with %s.", joined.name, joined.worker_id, names)
        reader = asyncio.create_task(self._read(request_iterator, session))
        try:
            await self._service.apply(joined)
            while (command := await session.outgoing.get()) is not None:
                yield _bundled([command, *_queued(session)])
            if session.reason:
                yield worker_service_pb2.ConnectResponse(drain=worker_service_pb2.Drain(reason=session.reason))
        finally:
            reader.cancel()
            if self._service.close_session(session):
                await asyncio.shield(self._service.apply(WorkerLost(time.time(), joined.worker_id)))
            logger.info(
                "Worker %s (%s) left%s.", joined.name, joined.worker_id, f": {session.reason}" * bool(session.reason)
            )

    async def _read(self, requests: _Requests, session: WorkerSession) -> None:
        """Feed the core with what the worker says until it hangs up; then end the session.

        What one message leads to is not waited for before the next is read: each would cost a round, with its commit.
        """
        unheard: deque[tuple[int, asyncio.Future[object]]] = deque()
        count = 0
        try:
            async for message in requests:
                said = message.bundle.messages if message.WhichOneof("message") == "bundle" else [message]
                if len(said) > MAX_BUNDLE:
                    raise InvalidInput(f"a bundle holds {len(said)} messages; the most is {MAX_BUNDLE}")
                if not said:
                    continue
                now = time.time()
                heard = self._service.post_all([worker_event(one, session.worker_id, now) for one in said])
                unheard.append((len(said), heard))
                count += len(said)
                while unheard and (count > MAX_UNHEARD or unheard[0][1].done()):
                    number, oldest = unheard.popleft()
                    count -= number
                    await oldest
        except InvalidInput as error:
            session.end(str(error))
        except grpc.aio.UsageError:  # the stream is over
            session.end("")
        else:
            session.end("")


def _queued(session: WorkerSession) -> list[WorkerCommand]:
    """What is queued besides, up to a bundle; the end of the stream stays in the queue."""
    more: list[WorkerCommand] = []
    while len(more) < MAX_BUNDLE - 1 and not session.outgoing.empty():
        command = session.outgoing.get_nowait()
        if command is None:
            session.end(session.reason)  # after what was queued before it
            break
        more.append(command)
    return more


def _bundled(commands: list[WorkerCommand]) -> worker_service_pb2.ConnectResponse:
    if len(commands) == 1:
        return _response(commands[0])
    bundle = worker_service_pb2.CoordinatorBundle(messages=map(_response, commands))
    return worker_service_pb2.ConnectResponse(bundle=bundle)


def _response(command: WorkerCommand) -> worker_service_pb2.ConnectResponse:
    match command:
        case GrantLease():
            return worker_service_pb2.ConnectResponse(lease=lease_message(command.lease))
        case CancelLease():
            return worker_service_pb2.ConnectResponse(
                cancel_lease=worker_service_pb2.CancelLease(lease_id=command.lease_id)
            )
        case RetargetLease():
            return worker_service_pb2.ConnectResponse(
                retarget=worker_service_pb2.Retarget(lease_id=command.lease_id, zeros=command.zeros)
            )
        case SendVerdict():
            return worker_service_pb2.ConnectResponse(
                verdict=verdict_message(command.lease_id, command.nonce, command.rejection)
            )


_SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (job_service_pb2, "JobService"),
        (fleet_service_pb2, "FleetService"),
        (worker_service_pb2, "WorkerService"),
        (autopilot_service_pb2, "AutopilotService"),
    )
)


async def build_server(service: Service) -> grpc.aio.Server:
    """A server with all services, not yet bound to a port."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            # Workers ping to keep their stream alive through NAT; without this, gRPC ends streams that ping often.
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.so_reuseport", 0),
        ]
    )
    job_service_pb2_grpc.add_JobServiceServicer_to_server(JobServicer(service), server)
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(FleetServicer(service), server)
    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(WorkerServicer(service), server)
    autopilot_service_pb2_grpc.add_AutopilotServiceServicer_to_server(AutopilotServicer(service.autopilot), server)
    alive = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(alive, server)
    for name in ("", *_SERVICES):
        await alive.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection([*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    return server
