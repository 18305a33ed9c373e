"""The tables. Portable SQL: what only SQLite knows stands in `engine`.

`migrations/versions` builds these tables step by step; a test compares the two.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
)

from coordinator.submission.attempt import AttemptState


class Count(TypeDecorator[int]):
    """A count without upper bound, kept as decimal digits: a fleet can pass 2**63 hashes on one job within days."""

    impl = String(80)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value)


class Prose(TypeDecorator[str]):
    r"""Text for people, which may come from a node's log and hold anything.

    Databases keep valid Unicode without NUL only; what they cannot keep is written as a backslash escape, because a
    log line must never be the reason why a transaction's outcome is not stored.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)


def storable(text: str) -> str:
    r"""`text` with NUL and lone surrogates escaped.

    >>> storable("a\x00b\udc80")
    'a\\x00b\\udc80'
    """
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


#: SQLite counts rows in INTEGER columns only; elsewhere a ledger id is a BIGINT.
_LedgerId = BigInteger().with_variant(Integer(), "sqlite")

metadata: Final = MetaData()

jobs: Final = Table(
    "jobs",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("completed_at", Double),
    # what was asked
    Column("action", String(16), nullable=False),
    Column("object_id", String(32), nullable=False),
    Column("player_id", String(32), nullable=False),
    Column("target_id", String(32)),
    Column("anchor_hint", BigInteger),
    Column("range_hint", BigInteger),
    Column("max_hashes", BigInteger),
    Column("priority", SmallInteger, nullable=False),
    Column("max_nonce_digits", SmallInteger, nullable=False, server_default="200"),
    Column("mode", String(16), nullable=False, server_default="submit"),
    Column("start_mode", String(16), nullable=False, server_default="balanced"),
    Column("start_difficulty", SmallInteger),
    Column("deadline_height", BigInteger),
    Column("weight", SmallInteger, nullable=False, server_default="1"),
    Column("idempotency_key", String(128)),
    Column("founding", Text),  # JSON object of a charter's terms and consent; NULL for everything else
    # the puzzle as the chain posed it last; work_action is NULL exactly while it is not known
    Column("work_action", String(16)),
    Column("work_object_id", String(32)),
    Column("work_anchor", BigInteger),
    Column("work_range", BigInteger),
    Column("work_target_id", String(32)),
    Column("work_chain_id", String(64)),
    Column("work_solver_id", String(32)),
    # the address that is to sign for it; NULL until one is chosen
    Column("signer", String(128)),
    # the search
    Column("start_height", BigInteger),
    Column("hashes", Count, nullable=False),
    Column("hash_seconds", Double, nullable=False),
    # the best hash while the chain asks for more; best_nonce is NULL exactly while there is none
    Column("best_nonce", Text),
    Column("best_hash", String(64)),
    Column("best_worker_id", Text),
    Column("best_hashes", Count),
    Column("best_seconds", Double),
    # the proof; found_nonce is NULL exactly while there is none
    Column("found_nonce", Text),
    Column("found_hash", String(64)),
    Column("found_worker_id", Text),
    Column("found_hashes", Count),
    Column("found_seconds", Double),
    # the transaction as the job shows it; tx_hash is NULL exactly while there is none
    Column("tx_hash", String(64)),
    Column("tx_state", String(16)),
    Column("tx_ledger_id", BigInteger),
    Column("tx_height", BigInteger),
    Column("tx_message", Prose),
    # for people
    Column("error", Prose),
    Column("notes", Prose, nullable=False),  # JSON list of sentences
    # Listings go newest first, page by page, over all jobs, over one state, or over one player.
    Index("jobs_by_age", "created_at", "job_id"),
    Index("jobs_by_state", "state", "created_at", "job_id"),
    Index("jobs_by_player", "player_id", "created_at", "job_id"),
    # Two jobs for one key would be the second one wasted; jobs without a key do not meet here (NULLs are distinct).
    Index("one_job_per_key", "idempotency_key", unique=True),
)

#: Which job a caller's key stands for: the one that was made for it, or the one under way that it joined. It is kept
#: as long as that job, and with the request as it was asked, which the job's own row need not hold (any more).
request_keys: Final = Table(
    "request_keys",
    metadata,
    Column("idempotency_key", String(128), primary_key=True),
    Column("job_id", String(64), ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False),
    Column("request", Text, nullable=False),  # JSON object of the columns of `jobs` under "what was asked"
    Index("keys_of_job", "job_id"),
)

attempts: Final = Table(
    "attempts",
    metadata,
    Column("ledger_id", _LedgerId, primary_key=True, autoincrement=True),
    Column("job_id", String(64), ForeignKey("jobs.job_id"), nullable=False),
    Column("action", String(16), nullable=False),
    Column("object_id", String(32), nullable=False),
    Column("anchor", BigInteger, nullable=False),
    Column("difficulty_range", BigInteger, nullable=False),
    Column("target_id", String(32)),
    Column("chain_id", String(64)),
    Column("solver_id", String(32)),
    Column("nonce", Text, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("address", String(128), nullable=False),
    # NULL until it is signed, and where a guild stack signs
    Column("account_number", BigInteger),
    Column("sequence", BigInteger),
    Column("tx_bytes", LargeBinary),
    Column("tx_hash", String(64)),
    Column("timeout_height", BigInteger),
    Column("state", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("height", BigInteger),
    Column("code", BigInteger),
    Column("codespace", Text),
    Column("log", Prose, nullable=False),
    Column("message_index", SmallInteger, nullable=False, server_default="0"),
    Column("cause", String(64)),
    Column("signer_row", BigInteger),
    Index("attempts_of_job", "job_id", "ledger_id"),
    # A ledger id is given once and never again, even if rows were ever pruned.
    sqlite_autoincrement=True,
)

_live = attempts.c.state.in_([state.value for state in AttemptState if state.live])
#: Two transactions for one puzzle would be the second one wasted: the database itself refuses the second live one, and
#: that before it is signed: a prepared attempt is live.
ONE_LIVE_ATTEMPT: Final = Index(
    "one_live_attempt_per_anchor",
    attempts.c.object_id,
    attempts.c.action,
    attempts.c.anchor,
    unique=True,
    sqlite_where=_live,
    postgresql_where=_live,
)
