"""Keep how a job starts, its best hash and its key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what jobs may ask for since; a job from before asked for the defaults, had no key and kept no best hash."""
    for column in (
        sa.Column("mode", sa.String(16), nullable=False, server_default="submit"),
        sa.Column("start_mode", sa.String(16), nullable=False, server_default="balanced"),
        sa.Column("start_difficulty", sa.SmallInteger()),
        sa.Column("deadline_height", sa.BigInteger()),
        sa.Column("weight", sa.SmallInteger(), nullable=False, server_default="1"),
        sa.Column("idempotency_key", sa.String(128)),
        sa.Column("best_nonce", sa.Text()),
        sa.Column("best_hash", sa.String(64)),
        sa.Column("best_worker_id", sa.Text()),
        sa.Column("best_hashes", sa.String(80)),
        sa.Column("best_seconds", sa.Double()),
    ):
        op.add_column("jobs", column)
    op.create_index("one_job_per_key", "jobs", ["idempotency_key"], unique=True)
    op.create_table(
        "request_keys",
        sa.Column("idempotency_key", sa.String(128), primary_key=True),
        sa.Column("job_id", sa.String(64), sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
    )
    op.create_index("keys_of_job", "request_keys", ["job_id"])


def downgrade() -> None:
    """Drop the table and the columns again."""
    op.drop_table("request_keys")
    op.drop_index("one_job_per_key", "jobs")
    for name in (
        "best_seconds",
        "best_hashes",
        "best_worker_id",
        "best_hash",
        "best_nonce",
        "idempotency_key",
        "weight",
        "deadline_height",
        "start_difficulty",
        "start_mode",
        "mode",
    ):
        op.drop_column("jobs", name)
