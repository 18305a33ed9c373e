"""Jobs and attempts as rows, and back. Pure; every field survives the round trip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import RowMapping

from coordinator.core.job import FoundProof, Job, JobState, Transaction, TransactionState
from coordinator.store.protocol import KeyedRequest
from coordinator.store.schema import storable
from coordinator.submission.attempt import Attempt, AttemptState
from hashfleet.action import Action, Work
from hashfleet.job_request import JobRequest, Mode, Priority, StartMode
from hashfleet.proof import Proof

#: Columns of the `jobs` table that hold optional parts, as they read while the part is absent.
_NO_WORK: Final = dict.fromkeys(("work_action", "work_object_id", "work_anchor", "work_range", "work_target_id"))
_PROOF: Final = ("nonce", "hash", "worker_id", "hashes", "seconds")
_NO_TRANSACTION: Final = dict.fromkeys(("tx_hash", "tx_state", "tx_ledger_id", "tx_height", "tx_message"))


def job_row(job: Job) -> dict[str, object]:
    """The row of a job: one value for every column of `schema.jobs`."""
    return {
        "job_id": job.job_id,
        "state": job.state.value,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "completed_at": job.completed_at,
        **_request_columns(job.request),
        "start_height": job.start_height,
        "hashes": job.hashes,
        "hash_seconds": job.hash_seconds,
        "error": job.error,
        # escaped first, so that the JSON holds the same characters as any other text for people
        "notes": json.dumps([storable(note) for note in job.notes], ensure_ascii=False),
        **_work_columns(job.work),
        **_proof_columns("best", job.best),
        **_proof_columns("found", job.found),
        **_transaction_columns(job.transaction),
    }


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
        "request": json.dumps(_request_columns(keyed.request)),
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
    }


def attempt_of(row: RowMapping) -> Attempt:
    """The attempt of a row. Raises ValueError (InvalidInput is one) if the row holds what no attempt can."""
    return Attempt(
        job_id=row["job_id"],
        work=Work(
            Action(row["action"]), row["object_id"], row["anchor"], row["difficulty_range"], target_id=row["target_id"]
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
    )


def _request_columns(request: JobRequest) -> dict[str, Any]:
    return {
        "action": request.action.value,
        "object_id": request.object_id,
        "player_id": request.player_id,
        "target_id": request.target_id,
        "anchor_hint": request.anchor_hint,
        "range_hint": request.range_hint,
        "max_hashes": request.max_hashes,
        "priority": int(request.priority),
        "max_nonce_digits": request.max_nonce_digits,
        "mode": request.mode.value,
        "start_mode": request.start_mode.value,
        "start_difficulty": request.start_difficulty,
        "deadline_height": request.deadline_height,
        "weight": request.weight,
        "idempotency_key": request.idempotency_key,
    }


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
    )


def _work_columns(work: Work | None) -> Mapping[str, Any]:
    if work is None:
        return _NO_WORK
    return {
        "work_action": work.action.value,
        "work_object_id": work.object_id,
        "work_anchor": work.anchor,
        "work_range": work.range,
        "work_target_id": work.target_id,
    }


def _work_of(row: RowMapping) -> Work | None:
    if row["work_action"] is None:
        return None
    return Work(
        Action(row["work_action"]),
        row["work_object_id"],
        row["work_anchor"],
        row["work_range"],
        target_id=row["work_target_id"],
    )


def _proof_columns(part: str, found: FoundProof | None) -> Mapping[str, Any]:
    """The columns of `Job.best` or `Job.found`."""
    if found is None:
        return {f"{part}_{name}": None for name in _PROOF}
    return {
        f"{part}_nonce": found.proof.nonce,
        f"{part}_hash": found.proof.hash,
        f"{part}_worker_id": found.worker_id,
        f"{part}_hashes": found.hashes,
        f"{part}_seconds": found.seconds,
    }


def _proof_of(row: RowMapping, part: str) -> FoundProof | None:
    if row[f"{part}_nonce"] is None:
        return None
    return FoundProof(
        Proof(row[f"{part}_nonce"], row[f"{part}_hash"]),
        worker_id=row[f"{part}_worker_id"],
        hashes=row[f"{part}_hashes"],
        seconds=row[f"{part}_seconds"],
    )


def _transaction_columns(transaction: Transaction | None) -> Mapping[str, Any]:
    if transaction is None:
        return _NO_TRANSACTION
    return {
        "tx_hash": transaction.hash,
        "tx_state": transaction.state.value,
        "tx_ledger_id": transaction.ledger_id,
        "tx_height": transaction.height,
        "tx_message": transaction.message,
    }


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
