"""Let a job limit the length of its nonce."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add `jobs.max_nonce_digits`; a job from before had no limit but the fleet's own."""
    op.add_column("jobs", sa.Column("max_nonce_digits", sa.SmallInteger(), nullable=False, server_default="200"))


def downgrade() -> None:
    """Drop the column again."""
    op.drop_column("jobs", "max_nonce_digits")
