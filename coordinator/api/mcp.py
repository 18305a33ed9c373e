"""The MCP tools: one implementation over FleetClient, served over stdio (`hashfleet mcp`) and over HTTP (`/mcp`).

It stands on the SDK's low-level server rather than on its `MCPServer`: that one drops unknown arguments in silence and
puts its own prefix and pydantic's report of many lines into every error; agents do better with one sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)
from pydantic import BaseModel, ValidationError

from coordinator.api import mcp_autopilot, mcp_schema
from coordinator.api.mcp_schema import (
    AgentSchema,
    Arguments,
    FleetStatus,
    JobArguments,
    JobList,
    JobRecord,
    JobStatus,
    ListArguments,
    NoArguments,
    PriorityArguments,
    StartArguments,
    StartResult,
    StatusArguments,
)
from hashfleet.client import FINAL_STATES, FleetClient, state_name
from hashfleet.errors import HashfleetError, InvalidInput
from hashfleet.version import __version__

logger = logging.getLogger(__name__)

INSTRUCTIONS = (
    "hashfleet computes proofs of work for Structs and submits the completing transactions. Start a proof with "
    "structs_calculate_proof_of_work, keep the job_id and go on with something else; look at "
    "structs_query_proof_of_work_status now and then until the status is completed, failed or cancelled. "
    "You need not submit the transaction yourself. The difficulty falls as work ages, so waiting is normal. "
    "To have all work of a player done as it appears, call structs_set_autopilot_rule once."
)


#: Tells a caller that asked for it how far its call has come: (0 to 1, in words).
Report = Callable[[float, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class AgentTool:
    """One tool: what agents read about it, and what it does."""

    name: str
    title: str
    description: str
    arguments: type[Arguments]
    result: type[BaseModel]
    annotations: ToolAnnotations
    #: Gets an instance of `arguments`, gives one of `result`; raises HashfleetError.
    call: Callable[[FleetClient, Any, Report], Awaitable[BaseModel]]

    def published(self) -> Tool:
        """The tool as tools/list shows it."""
        return Tool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=self.arguments.model_json_schema(schema_generator=AgentSchema),
            output_schema=self.result.model_json_schema(schema_generator=AgentSchema),
            annotations=self.annotations,
        )

    def checked(self, given: Mapping[str, Any]) -> Arguments:
        """The arguments as a model. Raises InvalidInput with one sentence about everything that is wrong."""
        known = list(self.arguments.model_fields)
        unknown = [repr(name[:40]) for name in given if name not in known]
        if unknown:
            takes = f"the arguments {', '.join(known)}" if known else "no arguments"
            noun = "argument" if len(unknown) == 1 else "arguments"
            raise InvalidInput(f"unknown {noun} {', '.join(unknown[:5])}; {self.name} takes {takes}")
        try:
            return self.arguments.model_validate(dict(given))
        except ValidationError as error:
            raise InvalidInput("; ".join(_said(problem) for problem in _one_per_argument(error))) from error


async def _start(client: FleetClient, asked: StartArguments, report: Report) -> StartResult:
    answer = await client.submit_job(
        asked.action,
        asked.entity_id,
        asked.player_id,
        target_id=asked.target_id,
        anchor=asked.block_start,
        difficulty_range=asked.difficulty,
        max_hashes=asked.max_iterations,
        priority=asked.priority or "interactive",
        mode=asked.mode or "submit",
        start_mode=asked.start_mode or "balanced",
        start_difficulty=asked.start_difficulty,
        deadline_height=asked.deadline_height,
        weight=asked.weight or 1,
        idempotency_key=asked.idempotency_key,
        founding=asked.founding,
    )
    return mcp_schema.start_result(answer)


async def _status(client: FleetClient, asked: StatusArguments, report: Report) -> JobStatus:
    if not asked.wait_seconds:
        return mcp_schema.job_status(await client.get_job(asked.job_id))
    job = None
    told = -1.0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(asked.wait_seconds), contextlib.aclosing(client.watch_job(asked.job_id)) as watch:
            async for job in watch:
                # Progress may not go backwards, and a moved anchor starts the search anew.
                fraction = 1.0 if job.state in FINAL_STATES else job.progress.fraction
                if fraction > told:
                    told = fraction
                    await report(fraction, state_name(job.state))
    return mcp_schema.job_status(job or await client.get_job(asked.job_id))


async def _cancel(client: FleetClient, asked: JobArguments, report: Report) -> JobRecord:
    return mcp_schema.job_record(await client.cancel_job(asked.job_id))


async def _list(client: FleetClient, asked: ListArguments, report: Report) -> JobList:
    page = await client.list_jobs(
        states=[asked.status] if asked.status else [],
        player_id=asked.player_id,
        page_size=asked.limit or 50,
        page_token=asked.page_token or "",
    )
    return mcp_schema.job_list(page)


async def _set_priority(client: FleetClient, asked: PriorityArguments, report: Report) -> JobRecord:
    return mcp_schema.job_record(await client.set_job_priority(asked.job_id, asked.priority))


async def _fleet(client: FleetClient, asked: NoArguments, report: Report) -> FleetStatus:
    return mcp_schema.fleet_status(await client.fleet_status())


async def _set_rule(
    client: FleetClient, asked: mcp_autopilot.RuleArguments, report: Report
) -> mcp_autopilot.RuleStatus:
    return await mcp_autopilot.set_rule(client, asked)


async def _list_rules(
    client: FleetClient, asked: mcp_autopilot.RulesArguments, report: Report
) -> mcp_autopilot.RuleList:
    return await mcp_autopilot.list_rules(client, asked)


async def _remove_rule(
    client: FleetClient, asked: mcp_autopilot.PlayerArguments, report: Report
) -> mcp_autopilot.Removal:
    return await mcp_autopilot.remove_rule(client, asked)


_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)

TOOLS: Mapping[str, AgentTool] = {
    tool.name: tool
    for tool in (
        AgentTool(
            "structs_calculate_proof_of_work",
            "Start a proof of work",
            "Start computing the proof of work that completes a build, ore mining, ore refining or a raid in Structs, "
            "or that founds a guild by charter. "
            "Returns at once with a job_id; the fleet waits until hashing pays, hashes, and submits the completing "
            "transaction by itself. Calling it again for work that is still under way returns the same job_id. "
            "block_start and difficulty are optional hints: the chain's own values are used. The defaults are right "
            "for nearly every job; start_mode race, priority critical and deadline_height are for what must land soon, "
            "start_mode economy and priority bulk for what can wait, mode return_proof for a proof that somebody else "
            "submits.",
            StartArguments,
            StartResult,
            # It ends in a transaction on a public chain; the same work asked twice is one job.
            ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True),
            _start,
        ),
        AgentTool(
            "structs_query_proof_of_work_status",
            "Look at a proof of work",
            "Look at one proof-of-work job. While it is waiting, waiting_info says how many blocks remain until "
            "hashing starts: the difficulty (leading hex zeros) falls as the work ages, and hashing before that would "
            "be wasted. progress shows hashes per second, eta when the proof is expected (with 50 % and 90 % chance), "
            "best the best hash so far and the height from which it is valid. Once completed, result holds the proof "
            "and the transaction. Ages and ranges are in blocks, times in UTC. Instead of asking again and again, give "
            "wait_seconds.",
            StatusArguments,
            JobStatus,
            _READS,
            _status,
        ),
        AgentTool(
            "structs_cancel_proof_of_work",
            "Cancel a proof of work",
            "Stop a proof-of-work job for good; what was hashed is lost. Cancelling a cancelled job is no error. A job "
            "that is over cannot be cancelled, nor one whose transaction is on its way; one that has its proof but "
            "waits to send it can.",
            JobArguments,
            JobRecord,
            ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False),
            _cancel,
        ),
        AgentTool(
            "structs_list_proof_of_work",
            "List proofs of work",
            "List proof-of-work jobs, newest first, one page at a time; next_page_token leads to the next page and is "
            "absent on the last one.",
            ListArguments,
            JobList,
            _READS,
            _list,
        ),
        AgentTool(
            "structs_set_proof_of_work_priority",
            "Set the priority of a proof of work",
            "Change which jobs are hashed first: critical before interactive before bulk. Jobs start as interactive; "
            "use critical for a raid that must land now, bulk for what can wait.",
            PriorityArguments,
            JobRecord,
            ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False),
            _set_priority,
        ),
        AgentTool(
            "structs_fleet_status",
            "Look at the fleet",
            "Look at the fleet: connected workers and their devices, hashes per second, number of jobs by status, and "
            "the chain's height and block interval in seconds. Nothing is hashed while no worker is connected.",
            NoArguments,
            FleetStatus,
            _READS,
            _fleet,
        ),
        AgentTool(
            "structs_set_autopilot_rule",
            "Pick up a player's work",
            "Have the fleet pick up all outstanding work of a player by itself, as it appears, from now on: builds, "
            "mining, refining and raids. No further call is needed; the jobs show up in structs_list_proof_of_work. "
            "The rule takes the place of the player's former one. Works that were held back because their last job "
            "failed or was cancelled are asked for again.",
            mcp_autopilot.RuleArguments,
            mcp_autopilot.RuleStatus,
            ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True),
            _set_rule,
        ),
        AgentTool(
            "structs_list_autopilot_rules",
            "Look at the autopilot",
            "List the rules by which the fleet picks up players' work, by player, and how each player is served: jobs "
            "made, works held back and why, and what the signing key may not do for the player.",
            mcp_autopilot.RulesArguments,
            mcp_autopilot.RuleList,
            _READS,
            _list_rules,
        ),
        AgentTool(
            "structs_remove_autopilot_rule",
            "Stop picking up a player's work",
            "Pick up a player's work no longer. His jobs under way go on. Removing a rule that is not there is no "
            "error.",
            mcp_autopilot.PlayerArguments,
            mcp_autopilot.Removal,
            ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False),
            _remove_rule,
        ),
    )
}


def build_server(client: FleetClient) -> Server[dict[str, Any]]:
    """An MCP server whose tools ask the coordinator that `client` is opened for."""
    published = ListToolsResult(tools=[tool.published() for tool in TOOLS.values()])

    async def list_tools(
        context: ServerRequestContext[dict[str, Any]], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return published

    async def call_tool(context: ServerRequestContext[dict[str, Any]], params: CallToolRequestParams) -> CallToolResult:
        async def report(fraction: float, words: str) -> None:
            await context.session.report_progress(fraction, 1.0, words)

        return await _called(client, params.name, params.arguments or {}, report)

    return Server(
        "hashfleet",
        version=__version__,
        title="hashfleet",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _called(client: FleetClient, name: str, arguments: Mapping[str, Any], report: Report) -> CallToolResult:
    """What a tool answers. What is the caller's to mend is a tool error, so that the agent reads it."""
    tool = TOOLS.get(name)
    if tool is None:
        raise MCPError(INVALID_PARAMS, f"there is no tool {name[:80]!r}; there are {', '.join(TOOLS)}")
    try:
        result = await tool.call(client, tool.checked(arguments), report)
    except HashfleetError as error:
        logger.info("%s failed: %s", name, error)
        return CallToolResult(content=[TextContent(text=str(error))], is_error=True)
    except Exception as error:
        # A bug of ours. Its text may hold what is not the caller's business, so it goes to the log only.
        logger.exception("%s failed unexpectedly.", name)
        raise MCPError(INTERNAL_ERROR, f"{name} failed inside hashfleet; its log says why") from error
    told = result.model_dump(mode="json", exclude_none=True)
    return CallToolResult(
        content=[TextContent(text=result.model_dump_json(exclude_none=True))], structured_content=told
    )


def _one_per_argument(error: ValidationError) -> list[Any]:
    """The first problem of each argument: a union reports one for each of its members."""
    return list({problem["loc"][:1]: problem for problem in reversed(error.errors(include_url=False))}.values())[::-1]


def _said(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"][:1])
    if problem["type"] == "missing":
        return f"the argument {name} is missing"
    shown = ascii(problem["input"])
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    should = problem["msg"].removeprefix("Input ").removeprefix("String ")
    return f"{name} is {shown}; it {should}"
