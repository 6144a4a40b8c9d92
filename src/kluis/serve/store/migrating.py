"""Migrate a database to this version's schema, or refuse a newer one.

Runs at every start, under a lock of the database, so that instances can start at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from kluis.errors import UnsupportedError

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

NEWEST: Final = "0002"
"""The newest schema's revision."""


def migrate(engine: Engine) -> None:
    """Migrate the database to the newest schema.

    Raises:
        UnsupportedError: a newer version of Kluis made its schema.
    """
    if _revision(engine) == NEWEST:
        return
    from alembic.script import ScriptDirectory  # most starts need no migration, and not the time to load it

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


def _revision(engine: Engine) -> str | None:
    """The schema's revision; None if there is no schema, or no answer: the migration then reports it."""
    try:
        with engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT version_num FROM alembic_version").fetchall()
    except SQLAlchemyError:
        return None
    return str(rows[0][0]) if len(rows) == 1 else None


def _upgrade(connection: Connection, script: ScriptDirectory) -> None:
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

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
