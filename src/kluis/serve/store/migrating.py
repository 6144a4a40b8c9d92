"""Migrate a database to this version's schema, or refuse a newer one.

Runs at every start, under a lock of the database, so that instances can start at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from kluis.errors import UnsupportedError


def migrate(engine: Engine) -> None:
    """Migrate the database to the newest schema.

    Raises:
        UnsupportedError: a newer version of Kluis made its schema.
    """
    script = ScriptDirectory(str(MIGRATIONS))
    with engine.connect() as connection:
        for statement in LOCKS[connection.dialect.name]:
            connection.exec_driver_sql(statement)
        try:
            _upgrade(connection, script)
        except BaseException:
            connection.rollback()
            raise
        connection.commit()


def _upgrade(connection: Connection, script: ScriptDirectory) -> None:
    context = MigrationContext.configure(connection)
    current = context.get_current_revision()
    newest = script.get_current_head()
    known = {one.revision for one in script.walk_revisions()}
    if current is not None and current not in known:
        raise UnsupportedError(
            f"database schema: want {newest} or older, got {current}",
            hint="a newer Kluis made it: run that one, or start with another database",
            code="store_schema",
        )
    if current == newest or newest is None:
        return
    steps = list(script.iterate_revisions(newest, current or "base"))
    with Operations.context(context):
        for step in reversed(steps):
            step.module.upgrade()
            context.stamp(script, step.revision)


MIGRATIONS: Final = Path(__file__).parent / "migrations"
ADVISORY: Final = 0x6B6C756973  # "kluis"
LOCKS: Final = {
    "sqlite": ("BEGIN IMMEDIATE",),
    "postgresql": ("BEGIN", f"SELECT pg_advisory_xact_lock({ADVISORY})"),
}
"""Locks that block another instance's migration until this one has ended."""
