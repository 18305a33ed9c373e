"""Jobs and attempts as rows, and back. Pure; every field survives the round trip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import RowMapping

from coordinator.core.job import FoundProof, Job, JobState, Transaction, TransactionState
from coordinator.store.protocol import KeyedRequest
from coordinator.store.schema import storable
from coordinator.submission.attempt import Attempt, AttemptState, RejectionCause
from hashfleet.action import Action, CharterTerms, Work
from hashfleet.charter import Consent, Founding
from hashfleet.job_request import JobRequest, Mode, Priority, StartMode
from hashfleet.proof import Proof

#: The columns of `schema.jobs` that hold what was asked, in their order.
_REQUEST: Final = (
    "action",
    "object_id",
    "player_id",
    "target_id",
    "anchor_hint",
    "range_hint",
    "max_hashes",
    "priority",
    "max_nonce_digits",
    "mode",
    "start_mode",
    "start_difficulty",
    "deadline_height",
    "weight",
    "idempotency_key",
    "founding",
)
#: A part of a job reads so while it is absent.
_ABSENT: Final = (None,) * 5
_NO_WORK: Final = (None,) * 7


def job_values(job: Job) -> tuple[object, ...]:
    """The row of a job: one value for every column of `schema.jobs`, in their order, as the driver takes them.

    A tuple and not a mapping, and converted here and not by SQLAlchemy: every job is saved about four times, and this
    way costs a third.
    """
    work, transaction = job.work, job.transaction
    return (
        job.job_id,
        job.state.value,
        job.created_at,
        job.updated_at,
        job.completed_at,
        *_request_values(job.request),
        *(_work_values(work) if work else _NO_WORK),
        job.signer,
        job.start_height,
        str(job.hashes),
        job.hash_seconds,
        *_proof_values(job.best),
        *_proof_values(job.found),
        *(_transaction_values(transaction) if transaction else _ABSENT),
        None if job.error is None else storable(job.error),
        # escaped first, so that the JSON holds the same characters as any other text for people
        json.dumps([storable(note) for note in job.notes], ensure_ascii=False) if job.notes else "[]",
    )


def job_of(row: RowMapping) -> Job:
    """The job of a row. Raises ValueError (InvalidInput is one) if the row holds what no job can."""
    return Job(
        job_id=row["job_id"],
        request=_request_of(row),
        state=JobState(row["state"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        completed_at=row["completed_at"],
        work=_work_of(row),
        signer=row["signer"],
        start_height=row["start_height"],
        hashes=row["hashes"],
        hash_seconds=row["hash_seconds"],
        best=_proof_of(row, "best"),
        found=_proof_of(row, "found"),
        transaction=_transaction_of(row),
        error=row["error"],
        notes=tuple(json.loads(row["notes"])),
    )


def keyed_row(keyed: KeyedRequest) -> dict[str, object]:
    """The row of a request with a key: every column of `schema.request_keys`."""
    return {
        "idempotency_key": keyed.request.idempotency_key,
        "job_id": keyed.job_id,
        "request": json.dumps(dict(zip(_REQUEST, _request_values(keyed.request), strict=True))),
    }


def keyed_of(row: RowMapping) -> KeyedRequest:
    """The request with a key of a row. Raises ValueError (InvalidInput is one) if the row holds what none can."""
    try:
        return KeyedRequest(row["job_id"], _request_of(json.loads(row["request"])))
    except KeyError as error:
        raise ValueError(f"its request has no {error}") from error


def attempt_row(attempt: Attempt) -> dict[str, object]:
    """The row of an attempt: every column of `schema.attempts` but ledger_id, which the ledger gives."""
    return {
        "job_id": attempt.job_id,
        "action": attempt.work.action.value,
        "object_id": attempt.work.object_id,
        "anchor": attempt.work.anchor,
        "difficulty_range": attempt.work.range,
        "target_id": attempt.work.target_id,
        **_charter_row(attempt.work.charter),
        "nonce": attempt.proof.nonce,
        "hash": attempt.proof.hash,
        "address": attempt.address,
        "account_number": attempt.account_number,
        "sequence": attempt.sequence,
        "tx_bytes": attempt.tx_bytes,
        "tx_hash": attempt.tx_hash,
        "timeout_height": attempt.timeout_height,
        "state": attempt.state.value,
        "created_at": attempt.created_at,
        "updated_at": attempt.updated_at,
        "height": attempt.height,
        "code": attempt.code,
        "codespace": attempt.codespace,
        "log": attempt.log,
        "message_index": attempt.message_index,
        "cause": None if attempt.cause is None else attempt.cause.value,
        "signer_row": attempt.signer_row,
    }


def attempt_of(row: RowMapping) -> Attempt:
    """The attempt of a row. Raises ValueError (InvalidInput is one) if the row holds what no attempt can."""
    return Attempt(
        job_id=row["job_id"],
        work=Work(
            Action(row["action"]),
            row["object_id"],
            row["anchor"],
            row["difficulty_range"],
            target_id=row["target_id"],
            charter=_charter_of(row["chain_id"], row["solver_id"]),
        ),
        proof=Proof(row["nonce"], row["hash"]),
        address=row["address"],
        account_number=row["account_number"],
        sequence=row["sequence"],
        tx_bytes=row["tx_bytes"],
        tx_hash=row["tx_hash"],
        timeout_height=row["timeout_height"],
        state=AttemptState(row["state"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        ledger_id=row["ledger_id"],
        height=row["height"],
        code=row["code"],
        codespace=row["codespace"],
        log=row["log"],
        message_index=row["message_index"],
        cause=None if row["cause"] is None else RejectionCause(row["cause"]),
        signer_row=row["signer_row"],
    )


def _request_values(request: JobRequest) -> tuple[object, ...]:
    return (
        request.action.value,
        request.object_id,
        request.player_id,
        request.target_id,
        request.anchor_hint,
        request.range_hint,
        request.max_hashes,
        int(request.priority),
        request.max_nonce_digits,
        request.mode.value,
        request.start_mode.value,
        request.start_difficulty,
        request.deadline_height,
        request.weight,
        request.idempotency_key,
        None if request.founding is None else json.dumps(asdict(request.founding)),
    )


def _request_of(row: Mapping[str, Any] | RowMapping) -> JobRequest:
    return JobRequest(
        action=Action(row["action"]),
        object_id=row["object_id"],
        player_id=row["player_id"],
        target_id=row["target_id"],
        anchor_hint=row["anchor_hint"],
        range_hint=row["range_hint"],
        max_hashes=row["max_hashes"],
        priority=Priority(row["priority"]),
        max_nonce_digits=row["max_nonce_digits"],
        mode=Mode(row["mode"]),
        start_mode=StartMode(row["start_mode"]),
        start_difficulty=row["start_difficulty"],
        deadline_height=row["deadline_height"],
        weight=row["weight"],
        idempotency_key=row["idempotency_key"],
        founding=_founding_of(row.get("founding")),
    )


def _founding_of(text: str | None) -> Founding | None:
    """Raises ValueError (InvalidInput is one) if the text holds what no founding can."""
    if text is None:
        return None
    try:
        told = json.loads(text)
        consent = None if told["consent"] is None else Consent(**told["consent"])
        return Founding(told["reactor_id"], told["endpoint"], told["entry_substation_id"], consent)
    except (KeyError, TypeError) as error:
        raise ValueError(f"its founding lacks or misnames a member: {error}") from error


def _work_values(work: Work) -> tuple[object, ...]:
    charter = work.charter
    return (
        work.action.value,
        work.object_id,
        work.anchor,
        work.range,
        work.target_id,
        None if charter is None else charter.chain_id,
        None if charter is None else charter.solver_id,
    )


def _charter_row(charter: CharterTerms | None) -> dict[str, object]:
    return {
        "chain_id": None if charter is None else charter.chain_id,
        "solver_id": None if charter is None else charter.solver_id,
    }


def _charter_of(chain_id: str | None, solver_id: str | None) -> CharterTerms | None:
    return None if solver_id is None else CharterTerms(chain_id, solver_id)


def _work_of(row: RowMapping) -> Work | None:
    if row["work_action"] is None:
        return None
    return Work(
        Action(row["work_action"]),
        row["work_object_id"],
        row["work_anchor"],
        row["work_range"],
        target_id=row["work_target_id"],
        charter=_charter_of(row["work_chain_id"], row["work_solver_id"]),
    )


def _proof_values(found: FoundProof | None) -> tuple[object, ...]:
    """The columns of `Job.best` or `Job.found`."""
    if found is None:
        return _ABSENT
    return found.proof.nonce, found.proof.hash, found.worker_id, str(found.hashes), found.seconds


def _proof_of(row: RowMapping, part: str) -> FoundProof | None:
    if row[f"{part}_nonce"] is None:
        return None
    return FoundProof(
        Proof(row[f"{part}_nonce"], row[f"{part}_hash"]),
        worker_id=row[f"{part}_worker_id"],
        hashes=row[f"{part}_hashes"],
        seconds=row[f"{part}_seconds"],
    )


def _transaction_values(transaction: Transaction) -> tuple[object, ...]:
    message = storable(transaction.message)
    return transaction.hash, transaction.state.value, transaction.ledger_id, transaction.height, message


def _transaction_of(row: RowMapping) -> Transaction | None:
    if row["tx_hash"] is None:
        return None
    return Transaction(
        hash=row["tx_hash"],
        state=TransactionState(row["tx_state"]),
        ledger_id=row["tx_ledger_id"],
        height=row["tx_height"],
        message=row["tx_message"],
    )
