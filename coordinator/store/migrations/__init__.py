"""How a database of an older version becomes one of this version.

One file in `versions` per step, named by a sentence. A step that has been released is never edited: databases out
there have run it. `python -m pytest tests/unit/store` proves that all steps together give `coordinator.store.schema`.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from coordinator.store.protocol import StoreError


def upgrade(connection: Connection, database: Path) -> bool:
    """Bring the database to this version, inside the caller's transaction. Returns whether anything was done.

    Raises StoreError if a newer hashfleet or another program wrote it.
    """
    config = Config()
    config.set_main_option("script_location", "coordinator.store:migrations")
    config.attributes["connection"] = connection
    known = ScriptDirectory.from_config(config)
    newest = known.get_current_head()
    present = MigrationContext.configure(connection).get_current_heads()
    if not present and inspect(connection).get_table_names():
        raise StoreError(
            f"the database {database} belongs to another program; name a new file, hashfleet creates its own database"
        )
    unknown = set(present) - {script.revision for script in known.walk_revisions()}
    if unknown:
        raise StoreError(
            f"the database {database} was written by a newer hashfleet (its schema is {', '.join(sorted(unknown))}, "
            f"this version knows up to {newest}); install that newer version, or name another database"
        )
    if present == (newest,):
        return False
    command.upgrade(config, "head")
    return True
