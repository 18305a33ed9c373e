"""Jobs as people read them in a terminal, and as programs read them with --json."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table

from hashfleet.cli.quantity import show_count, show_rate, show_seconds
from hashfleet.client import action_of, priority_name, start_mode_name, state_name, transaction_state_name
from hashfleet.rpc.hashfleet.v1 import job_pb2

#: Columns of a table that goes into a pipe or a file; a terminal has its own width.
_PIPE_WIDTH = 240


def open_console(stderr: bool = False) -> Console:
    """A console that prints what it is given: no markup, so that a name in square brackets stays one."""
    to_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr, markup=False, highlight=False, emoji=False, width=None if to_terminal else _PIPE_WIDTH
    )


def as_json(message: Message, indent: int | None = 2) -> str:
    """The message in protobuf's JSON mapping, with the field names of proto/; 64-bit integers are strings there."""
    return MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=indent
    )


def show_time(stamp: Timestamp) -> str:
    """Local time to the second."""
    return stamp.ToDatetime(tzinfo=datetime.UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def status_line(job: job_pb2.Job) -> str:
    """Where the job stands and what comes next, in one line."""
    return f"{state_name(job.state)}: {_what_happens(job)}"


def job_table(jobs: Iterable[job_pb2.Job]) -> Table:
    """One row for each job."""
    table = Table(box=None, pad_edge=False)
    for heading in (
        "JOB",
        "STATE",
        "ACTION",
        "ENTITY",
        "PLAYER",
        "PRIORITY",
        "SINCE",
        "50/90 % WITHIN",
        "BEST",
        "NEXT",
    ):
        table.add_column(heading, no_wrap=heading != "NEXT")
    for job in jobs:
        table.add_row(
            job.job_id,
            state_name(job.state),
            action_of(job.spec).name.lower(),
            job.spec.entity_id,
            job.spec.player_id,
            priority_name(job.spec.priority),
            show_time(job.created_at),
            _quantiles(job),
            f"{job.best.zeros} zeros" if job.HasField("best") else "",
            _what_happens(job),
        )
    return table


def _quantiles(job: job_pb2.Job) -> str:
    if not job.HasField("eta"):
        return ""
    return f"{show_seconds(job.eta.seconds_50)} / {show_seconds(job.eta.seconds_90)}"


def job_sheet(job: job_pb2.Job) -> Table:
    """Everything about one job, a line for each fact."""
    sheet = Table.grid(padding=(0, 2))
    sheet.add_row("job", job.job_id)
    sheet.add_row("state", status_line(job))
    sheet.add_row(
        "action", f"{action_of(job.spec).name.lower()} of {job.spec.entity_id} for player {job.spec.player_id}"
    )
    if target := job.work.target_id or job.spec.target_id:
        sheet.add_row("target", target)
    if job.spec.HasField("founding"):
        sheet.add_row("guild", _guild(job.spec.founding))
    sheet.add_row("priority", _order(job.spec))
    sheet.add_row("start", _start(job.spec))
    if job.spec.mode == job_pb2.MODE_RETURN_PROOF:
        sheet.add_row("mode", "the proof is returned, nothing is submitted")
    if job.spec.deadline_height:
        sheet.add_row("deadline", f"block {job.spec.deadline_height}")
    if job.spec.idempotency_key:
        sheet.add_row("key", job.spec.idempotency_key)
    sheet.add_row("submitted", show_time(job.created_at))
    if job.HasField("completed_at"):
        sheet.add_row("ended", show_time(job.completed_at))
    if job.HasField("work"):
        work = job.work
        sheet.add_row(
            "work",
            f"anchor {work.anchor}, range {work.range}, age {work.current_age}, "
            f"difficulty {work.current_difficulty} zeros",
        )
    if job.HasField("waiting") and job.waiting.reason:
        sheet.add_row("waits", job.waiting.reason)
    if job.HasField("eta"):
        eta = job.eta
        sheet.add_row(
            "expected",
            f"in {show_seconds(eta.seconds)}; 50 % within {show_seconds(eta.seconds_50)} (block {eta.block_50}), "
            f"90 % within {show_seconds(eta.seconds_90)} (block {eta.block_90})",
        )
    if job.HasField("progress"):
        sheet.add_row("hashed", f"{show_count(job.progress.hashes)} ({job.progress.hashes})")
        sheet.add_row("progress", f"{job.progress.fraction:.1%}")
    if job.HasField("best") and not job.HasField("proof"):
        sheet.add_row(
            "best", f"{job.best.hash} ({job.best.zeros} zeros), valid once block {job.best.valid_from_height} is there"
        )
    if job.HasField("proof"):
        sheet.add_row("nonce", job.proof.nonce)
        sheet.add_row("hash", f"{job.proof.hash} ({job.proof.zeros} zeros)")
        sheet.add_row(
            "cost",
            f"{show_count(job.proof.hashes)} hashes in {show_seconds(job.proof.seconds)}, "
            f"found by {job.proof.worker_id}",
        )
    if job.HasField("transaction"):
        sheet.add_row("transaction", f"{job.transaction.hash} ({transaction_state_name(job.transaction.state)})")
        if job.transaction.message:
            sheet.add_row("chain says", job.transaction.message)
    if job.error:
        sheet.add_row("error", job.error)
    for note in job.notes:
        sheet.add_row("note", note)
    return sheet


def _guild(founding: job_pb2.Founding) -> str:
    entry = f", entry substation {founding.entry_substation_id}" if founding.entry_substation_id else ""
    consent = f", consent of {founding.consent.address}" if founding.HasField("consent") else ""
    return f"{founding.endpoint} on reactor {founding.reactor_id}{entry}{consent}"


def _order(spec: job_pb2.JobSpec) -> str:
    return priority_name(spec.priority) + (f", weight {spec.weight}" if spec.weight > 1 else "")


def _start(spec: job_pb2.JobSpec) -> str:
    if spec.start_difficulty:
        return f"once {spec.start_difficulty} zeros or fewer are asked"
    return start_mode_name(spec.start_mode)


def _what_happens(job: job_pb2.Job) -> str:
    match job.state:
        case job_pb2.JOB_STATE_QUEUED:
            happens = "its work is being read from the chain"
        case job_pb2.JOB_STATE_WAITING:
            waiting = job.waiting
            happens = (
                f"{waiting.blocks_remaining} blocks ({show_seconds(waiting.seconds_remaining)}) until hashing starts "
                f"at age {waiting.target_age}, with {waiting.target_difficulty} zeros asked"
            )
        case job_pb2.JOB_STATE_RUNNING:
            happens = _search(job.progress)
        case job_pb2.JOB_STATE_SUBMITTING:
            happens = f"a proof of {job.proof.zeros} zeros is found"
            if job.HasField("transaction"):
                happens += f", its transaction is {transaction_state_name(job.transaction.state)}"
        case job_pb2.JOB_STATE_COMPLETED if job.spec.mode == job_pb2.MODE_RETURN_PROOF:
            happens = (
                f"a proof of {job.proof.zeros} zeros is here, valid once block {job.proof.valid_from_height} is there"
            )
        case job_pb2.JOB_STATE_COMPLETED:
            happens = f"transaction {job.transaction.hash} is in block {job.transaction.height}"
        case job_pb2.JOB_STATE_FAILED:
            return job.error
        case _:
            happens = "cancelled on request"
    return f"{happens}; {job.error}" if job.error else happens


def _search(progress: job_pb2.Progress) -> str:
    if not progress.hashes and not progress.hash_rate:
        return "first in line for a worker"
    workers = f"{progress.workers} worker{'' if progress.workers == 1 else 's'}"
    line = f"{show_count(progress.hashes)} hashes, {show_rate(progress.hash_rate)} on {workers}"
    if progress.HasField("eta_seconds"):
        line += f", expected in {show_seconds(progress.eta_seconds)}"
    if progress.HasField("expected_block"):
        line += f" (block {progress.expected_block})"
    return line
