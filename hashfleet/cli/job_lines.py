"""Jobs as JSON lines: many at once into a coordinator, and what became of each line out.

A line is an object with the names of `hashfleet.v1.JobSpec` (proto/hashfleet/v1/job.proto). Its enums may be written
as on the command line, "build" for "ACTION_BUILD"::

    {"action": "build", "entity_id": "5-28", "player_id": "1-11", "idempotency_key": "build-5-28"}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import click
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from hashfleet.client import MAX_BATCH, FleetClient, state_name
from hashfleet.errors import CoordinatorError, CoordinatorUnavailable, HashfleetError, InvalidInput
from hashfleet.job_request import JobRequest
from hashfleet.job_spec import request_of
from hashfleet.rpc.hashfleet.v1 import job_pb2, job_service_pb2

#: Characters of a line at most: several times what the longest job needs.
MAX_LINE = 4096
_ENUMS = {"action": "ACTION_", "priority": "PRIORITY_", "mode": "MODE_", "start_mode": "START_MODE_"}

Outcome = job_service_pb2.SubmitJobResponse | HashfleetError


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is not empty; `asked` is an error if it cannot be submitted."""

    number: int
    asked: JobRequest | InvalidInput


def read_lines(text: Iterable[str]) -> Iterator[Line]:
    """The lines as they come; empty ones are left out, but counted."""
    for number, line in enumerate(text, start=1):
        if line.strip():
            yield Line(number, _asked(line))


async def submit_lines(fleet: FleetClient, lines: Iterable[Line], wants_json: bool) -> int:
    """Submit the lines and tell what became of each; the exit status: 0 if all are jobs now, else 1.

    Raises CoordinatorUnavailable, CoordinatorError, with the lines that were not reached.
    """
    good = True
    for batch in _batches(lines):
        requests = [line.asked for line in batch if isinstance(line.asked, JobRequest)]
        try:
            answers = iter(await fleet.submit_jobs(requests))
        except (CoordinatorUnavailable, CoordinatorError) as error:
            raise type(error)(
                f"{error}; lines {batch[0].number} to {batch[-1].number} may or may not be accepted, and no line after "
                "them was sent"
            ) from error
        for line in batch:
            outcome: Outcome = line.asked if isinstance(line.asked, InvalidInput) else next(answers)
            good = good and not isinstance(outcome, HashfleetError)
            _tell(line.number, outcome, wants_json)
    return 0 if good else 1


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    for line in lines:
        batch.append(line)
        if len(batch) == MAX_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _asked(line: str) -> JobRequest | InvalidInput:
    if len(line) > MAX_LINE:
        return InvalidInput(f"the line has more than {MAX_LINE} characters; a job needs far fewer")
    try:
        members = json.loads(line)
    except (ValueError, RecursionError) as error:
        return InvalidInput(f"it is no JSON ({str(error)[:80]}); a line should be one JSON object")
    if not isinstance(members, dict):
        return InvalidInput("it is no JSON object; a line should be an object with action, entity_id and player_id")
    for name, prefix in _ENUMS.items():
        value = members.get(name)
        if isinstance(value, str) and not value.startswith(prefix):
            members[name] = prefix + value.upper()
    try:
        return request_of(ParseDict(members, job_pb2.JobSpec()))
    except ParseError as error:
        return InvalidInput(f"it is no job: {' '.join(str(error).split())[:300]}")
    except InvalidInput as error:
        return error


def _tell(number: int, outcome: Outcome, wants_json: bool) -> None:
    if wants_json:
        if isinstance(outcome, HashfleetError):
            told: dict[str, object] = {"line": number, "error": str(outcome)}
        else:
            answer = MessageToDict(outcome, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
            told = {"line": number, **answer}
        click.echo(json.dumps(told))
    elif isinstance(outcome, HashfleetError):
        click.echo(f"line {number}: {outcome}", err=True)
    else:
        click.echo(shown(outcome))


def shown(answer: job_service_pb2.SubmitJobResponse) -> str:
    """The job id, and that the job was there before."""
    if answer.created:
        return answer.job.job_id
    return f"{answer.job.job_id} (there already: {state_name(answer.job.state)})"
