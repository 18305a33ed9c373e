"""Keep the rules of the autopilot."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `autopilot_rules`: a row for each player who is served without being asked for each job."""
    op.create_table(
        "autopilot_rules",
        sa.Column("player_id", sa.String(32), primary_key=True),
        sa.Column("actions", sa.String(64), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("start_mode", sa.String(16), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("weight", sa.SmallInteger(), nullable=False),
        sa.Column("max_jobs", sa.Integer()),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("set_at", sa.Double(), nullable=False),
    )


def downgrade() -> None:
    """Drop the table again."""
    op.drop_table("autopilot_rules")
