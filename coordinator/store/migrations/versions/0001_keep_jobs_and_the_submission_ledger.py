"""Keep jobs and the submission ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `jobs` and `attempts`, and let an anchor have one live attempt only."""
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("completed_at", sa.Double()),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("object_id", sa.String(32), nullable=False),
        sa.Column("player_id", sa.String(32), nullable=False),
        sa.Column("target_id", sa.String(32)),
        sa.Column("anchor_hint", sa.BigInteger()),
        sa.Column("range_hint", sa.BigInteger()),
        sa.Column("max_hashes", sa.BigInteger()),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("work_action", sa.String(16)),
        sa.Column("work_object_id", sa.String(32)),
        sa.Column("work_anchor", sa.BigInteger()),
        sa.Column("work_range", sa.BigInteger()),
        sa.Column("work_target_id", sa.String(32)),
        sa.Column("start_height", sa.BigInteger()),
        sa.Column("hashes", sa.String(80), nullable=False),
        sa.Column("hash_seconds", sa.Double(), nullable=False),
        sa.Column("found_nonce", sa.Text()),
        sa.Column("found_hash", sa.String(64)),
        sa.Column("found_worker_id", sa.Text()),
        sa.Column("found_hashes", sa.String(80)),
        sa.Column("found_seconds", sa.Double()),
        sa.Column("tx_hash", sa.String(64)),
        sa.Column("tx_state", sa.String(16)),
        sa.Column("tx_ledger_id", sa.BigInteger()),
        sa.Column("tx_height", sa.BigInteger()),
        sa.Column("tx_message", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("notes", sa.Text(), nullable=False),
    )
    op.create_index("jobs_by_age", "jobs", ["created_at", "job_id"])
    op.create_index("jobs_by_state", "jobs", ["state", "created_at", "job_id"])
    op.create_index("jobs_by_player", "jobs", ["player_id", "created_at", "job_id"])
    op.create_table(
        "attempts",
        sa.Column(
            "ledger_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True
        ),
        sa.Column("job_id", sa.String(64), sa.ForeignKey("jobs.job_id"), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("object_id", sa.String(32), nullable=False),
        sa.Column("anchor", sa.BigInteger(), nullable=False),
        sa.Column("difficulty_range", sa.BigInteger(), nullable=False),
        sa.Column("target_id", sa.String(32)),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("address", sa.String(128), nullable=False),
        sa.Column("account_number", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("tx_bytes", sa.LargeBinary(), nullable=False),
        sa.Column("tx_hash", sa.String(64), nullable=False),
        sa.Column("timeout_height", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("height", sa.BigInteger()),
        sa.Column("code", sa.BigInteger()),
        sa.Column("codespace", sa.Text()),
        sa.Column("log", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("attempts_of_job", "attempts", ["job_id", "ledger_id"])
    live = sa.text("state IN ('signed', 'broadcast')")
    op.create_index(
        "one_live_attempt_per_anchor",
        "attempts",
        ["object_id", "action", "anchor"],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )
