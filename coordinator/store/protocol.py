"""What the coordinator asks of a store. SQLite implements it; one contract suite tests every implementation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from coordinator.core.job import Job, JobState
from coordinator.submission.attempt import Attempt
from hashfleet.action import Work
from hashfleet.autopilot_rule import AutopilotRule
from hashfleet.errors import HashfleetError
from hashfleet.job_request import JobRequest


class StoreError(HashfleetError):
    """The store cannot be opened, read or written; the message says what to do."""


class StoreDamaged(StoreError):
    """What is stored cannot be relied upon any more: waiting does not help, a person has to act."""


class LiveAttemptExists(StoreError):
    """The (object, action, anchor) of this attempt already has a live one."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a listing shows; empty means all."""

    states: frozenset[JobState] = frozenset()
    player_id: str | None = None


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request with an idempotency key, as it was asked, and the job that the key stands for since."""

    job_id: str
    request: JobRequest


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule of the autopilot, and when it was set (Unix seconds)."""

    rule: AutopilotRule
    set_at: float


@dataclass(frozen=True, slots=True)
class EndedJob:
    """What has to be known of a job in a final state to forget it. Times are Unix seconds."""

    job_id: str
    created_at: float
    ended_at: float
    #: One of its attempts may still land, as far as the ledger knows.
    has_live_attempt: bool
    #: The last height at which any of its attempts could have landed; None without attempts.
    last_timeout_height: int | None


class Store(Protocol):
    """Durable jobs and attempts. Every method is atomic, and durable (fsynced) when it returns."""

    async def save_jobs(self, jobs: Sequence[Job], keyed: Sequence[KeyedRequest] = ()) -> None:
        """Insert or replace these jobs and remember these keys, all or none. A key that is known stays as it is."""
        ...

    async def keyed_requests(self, keys: Collection[str]) -> dict[str, KeyedRequest]:
        """What these idempotency keys stand for, by key; keys that nobody used are absent. A key lasts as long as
        its job, in any state."""
        ...

    async def unfinished_jobs(self) -> list[Job]:
        """Every job whose state is not final, oldest first."""
        ...

    async def completed_works(self, limit: int) -> list[Work]:
        """The puzzles that transactions of ours completed last, newest first."""
        ...

    async def job(self, job_id: str) -> Job | None:
        """One job in any state."""
        ...

    async def list_jobs(self, which: JobFilter, limit: int, after: tuple[float, str] | None) -> list[Job]:
        """Jobs, newest first by (created_at, job_id), strictly after that key in this order."""
        ...

    async def count_jobs(self) -> dict[JobState, int]:
        """Number of jobs by state; states without jobs are absent."""
        ...

    async def add_attempt(self, attempt: Attempt) -> Attempt:
        """Store a new attempt and return it with its ledger_id. Raises LiveAttemptExists."""
        ...

    async def update_attempt(self, attempt: Attempt) -> None:
        """Replace the stored attempt of the same ledger_id."""
        ...

    async def add_attempts(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Store new attempts, all or none, and return them with their ledger_ids. Raises LiveAttemptExists."""
        ...

    async def update_attempts(self, attempts: Sequence[Attempt]) -> None:
        """Replace the stored attempts of the same ledger_ids, all or none."""
        ...

    async def live_attempts(self) -> list[Attempt]:
        """Attempts that may still land, oldest first."""
        ...

    async def attempts_of(self, job_id: str) -> list[Attempt]:
        """Every attempt of a job, oldest first."""
        ...

    async def ended_jobs(self, created_before: float, limit: int, after: tuple[float, str] | None) -> list[EndedJob]:
        """Jobs in a final state, oldest first by (created_at, job_id), strictly after that key."""
        ...

    async def delete_jobs(self, job_ids: Sequence[str]) -> None:
        """Delete those of these jobs that are in a final state, with their attempts and their keys."""
        ...

    async def save_rule(self, stored: StoredRule) -> None:
        """Insert the autopilot's rule for a player, or replace the one that he has."""
        ...

    async def rules(self) -> list[StoredRule]:
        """Every rule of the autopilot, in any order."""
        ...

    async def remove_rule(self, player_id: str) -> bool:
        """Delete a player's rule; False if he has none."""
        ...

    async def close(self) -> None: ...
