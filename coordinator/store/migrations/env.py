"""Alembic's entry: run the steps on the connection, and in the transaction, that the store has opened."""

from __future__ import annotations

from alembic import context

from coordinator.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # All steps or none: SQLite's DDL takes part in transactions, and `engine` begins them itself.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
