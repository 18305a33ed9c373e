"""Prepare attempts before they are signed, and keep which key signs for a job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_KEPT = (
    "ledger_id, job_id, action, object_id, anchor, difficulty_range, target_id, nonce, hash, address, account_number, "
    "sequence, tx_bytes, tx_hash, timeout_height, state, created_at, updated_at, height, code, codespace, log"
)


def upgrade() -> None:
    """Let an attempt be live before it is signed; add its place in its transaction, why it was rejected, the row of a
    guild stack's outbox that stands for it, and `jobs.signer`."""
    op.add_column("jobs", sa.Column("signer", sa.String(128)))
    _rebuild(
        "state IN ('prepared', 'signed', 'broadcast')",
        signed_only=False,
        more=(
            sa.Column("message_index", sa.SmallInteger(), nullable=False, server_default="0"),
            sa.Column("cause", sa.String(64)),
            sa.Column("signer_row", sa.BigInteger()),
        ),
    )


def downgrade() -> None:
    """Forget what has no signed bytes, and the new columns."""
    op.execute("DELETE FROM attempts WHERE tx_bytes IS NULL OR sequence IS NULL OR tx_hash IS NULL")
    op.execute("DELETE FROM attempts WHERE account_number IS NULL OR timeout_height IS NULL")
    _rebuild("state IN ('signed', 'broadcast')", signed_only=True, more=())
    op.drop_column("jobs", "signer")


def _rebuild(live: str, *, signed_only: bool, more: tuple[sa.Column[object], ...]) -> None:
    """Make `attempts` anew and move its rows: SQLite cannot change whether a column may be NULL."""
    op.drop_index("one_live_attempt_per_anchor", "attempts")
    op.drop_index("attempts_of_job", "attempts")
    op.rename_table("attempts", "attempts_before")
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
        sa.Column("account_number", sa.BigInteger(), nullable=not signed_only),
        sa.Column("sequence", sa.BigInteger(), nullable=not signed_only),
        sa.Column("tx_bytes", sa.LargeBinary(), nullable=not signed_only),
        sa.Column("tx_hash", sa.String(64), nullable=not signed_only),
        sa.Column("timeout_height", sa.BigInteger(), nullable=not signed_only),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("height", sa.BigInteger()),
        sa.Column("code", sa.BigInteger()),
        sa.Column("codespace", sa.Text()),
        sa.Column("log", sa.Text(), nullable=False),
        *more,
        sqlite_autoincrement=True,
    )
    op.execute(f"INSERT INTO attempts ({_KEPT}) SELECT {_KEPT} FROM attempts_before ORDER BY ledger_id")
    # A ledger id is given once and never again, even if the rows with the highest ones are gone.
    op.execute("DELETE FROM sqlite_sequence WHERE name = 'attempts'")
    op.execute("INSERT INTO sqlite_sequence SELECT 'attempts', seq FROM sqlite_sequence WHERE name = 'attempts_before'")
    op.drop_table("attempts_before")
    op.create_index("attempts_of_job", "attempts", ["job_id", "ledger_id"])
    op.create_index(
        "one_live_attempt_per_anchor",
        "attempts",
        ["object_id", "action", "anchor"],
        unique=True,
        sqlite_where=sa.text(live),
        postgresql_where=sa.text(live),
    )
