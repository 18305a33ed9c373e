"""Keep what a charter is about."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add how the guild of a job is founded, and the chain and solver that its puzzle names, to jobs and attempts."""
    op.add_column("jobs", sa.Column("founding", sa.Text()))
    op.add_column("jobs", sa.Column("work_chain_id", sa.String(64)))
    op.add_column("jobs", sa.Column("work_solver_id", sa.String(32)))
    op.add_column("attempts", sa.Column("chain_id", sa.String(64)))
    op.add_column("attempts", sa.Column("solver_id", sa.String(32)))


def downgrade() -> None:
    """Forget the charters, which this version cannot read, and drop the columns again."""
    op.execute("DELETE FROM attempts WHERE action = 'GUILDCHARTER'")
    op.execute("DELETE FROM request_keys WHERE job_id IN (SELECT job_id FROM jobs WHERE action = 'GUILDCHARTER')")
    op.execute("DELETE FROM jobs WHERE action = 'GUILDCHARTER'")
    for table, column in (
        ("attempts", "solver_id"),
        ("attempts", "chain_id"),
        ("jobs", "work_solver_id"),
        ("jobs", "work_chain_id"),
        ("jobs", "founding"),
    ):
        op.drop_column(table, column)
