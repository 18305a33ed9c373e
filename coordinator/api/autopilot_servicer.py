"""The gRPC door of the autopilot: rules in, rules and how they fare out. No decisions, only translation and bounds."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.autopilot import Autopilot, RuleView
from hashfleet.action import PLAYER_TYPE, check_object_id
from hashfleet.autopilot_message import action_message, rule_message, rule_of
from hashfleet.errors import HashfleetError, InvalidInput
from hashfleet.rpc.hashfleet.v1 import autopilot_service_pb2, autopilot_service_pb2_grpc

if TYPE_CHECKING:  # generic in its stubs only
    Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_PAGE, MAX_PAGE = 50, 500
_T = TypeVar("_T")


class AutopilotServicer(autopilot_service_pb2_grpc.AutopilotServiceServicer):
    """hashfleet.v1.AutopilotService."""

    def __init__(self, autopilot: Autopilot) -> None:
        self._autopilot = autopilot

    async def SetRule(  # noqa: N802
        self, request: autopilot_service_pb2.SetRuleRequest, context: Context
    ) -> autopilot_service_pb2.SetRuleResponse:
        async def work() -> RuleView:
            return await self._autopilot.set_rule(rule_of(request.rule))

        return autopilot_service_pb2.SetRuleResponse(status=status_message(await _answer(context, work())))

    async def ListRules(  # noqa: N802
        self, request: autopilot_service_pb2.ListRulesRequest, context: Context
    ) -> autopilot_service_pb2.ListRulesResponse:
        size = request.page_size or DEFAULT_PAGE

        async def work() -> list[RuleView]:
            if request.page_size > MAX_PAGE:
                raise InvalidInput(f"page_size is {request.page_size}; the most is {MAX_PAGE}")
            if request.page_token:
                check_object_id(request.page_token, PLAYER_TYPE, "page_token")
            if not request.player_id:
                return await self._autopilot.rules(size + 1, request.page_token or None)
            view = await self._autopilot.rule(check_object_id(request.player_id, PLAYER_TYPE, "player_id"))
            return [view] if view is not None else []

        views = await _answer(context, work())
        return autopilot_service_pb2.ListRulesResponse(
            rules=map(status_message, views[:size]),
            next_page_token=views[size - 1].rule.player_id if len(views) > size else "",
        )

    async def RemoveRule(  # noqa: N802
        self, request: autopilot_service_pb2.RemoveRuleRequest, context: Context
    ) -> autopilot_service_pb2.RemoveRuleResponse:
        async def work() -> bool:
            check_object_id(request.player_id, PLAYER_TYPE, "player_id")
            return await self._autopilot.remove_rule(request.player_id)

        return autopilot_service_pb2.RemoveRuleResponse(removed=await _answer(context, work()))


def status_message(view: RuleView) -> autopilot_service_pb2.AutopilotStatus:
    """A rule and how its player is served, as callers see it."""
    return autopilot_service_pb2.AutopilotStatus(
        rule=rule_message(view.rule),
        set_at=_timestamp(view.set_at),
        looked_height=view.looked_height or 0,
        looked_at=_timestamp(view.looked_at),
        outstanding=view.outstanding,
        unfinished_jobs=view.unfinished,
        jobs_made=view.jobs_made,
        queued=view.queued,
        held=view.held,
        held_first=[
            autopilot_service_pb2.HeldWork(
                action=action_message(action),
                entity_id=object_id,
                reason=failure.reason,
                failures=failure.count,
                until=_timestamp(failure.until),
            )
            for (action, object_id), failure in view.held_first
        ],
        refusals=[
            autopilot_service_pb2.AutopilotRefusal(action=action_message(action), reason=reason)
            for action, reason in view.refusals
        ],
        error=view.error or "",
        error_at=_timestamp(view.error_at),
    )


def _timestamp(seconds: float | None) -> Timestamp | None:
    if seconds is None:
        return None
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp


async def _answer(context: Context, work: Awaitable[_T]) -> _T:
    """The result, or the error as a status with its one sentence."""
    try:
        return await work
    except HashfleetError as error:
        invalid = isinstance(error, InvalidInput)
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT if invalid else grpc.StatusCode.UNAVAILABLE, str(error))
        raise AssertionError("abort raises") from error
