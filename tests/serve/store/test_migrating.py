"""A database is brought to the schema that the code has, by one of those who start, or it is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from kluis.errors import UnsupportedError
from kluis.serve.store import Database, migrating
from kluis.serve.store.database import read_url
from kluis.serve.store.schema import METADATA


def test_the_steps_lead_to_the_schema(database_url: str) -> None:
    """What the migrations make is what the statements are written for."""
    Database(database_url).close()
    engine = create_engine(read_url(database_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == migrating.NEWEST
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_all_may_start_at_once(database_url: str) -> None:
    """Several processes that start on an empty database at once all find it ready."""
    processes = [subprocess.Popen([sys.executable, "-c", START, database_url]) for _ in range(4)]
    assert [one.wait(300) for one in processes] == [0] * 4


START = """
import sys
from kluis.serve.store import Database, records
for _ in range(3):
    records(Database(sys.argv[1]), "one").read([], -1)
"""


def test_a_newer_schema_is_refused(database_url: str) -> None:
    """A database that a later version has changed is not modified."""
    Database(database_url).close()
    engine = create_engine(read_url(database_url))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    engine.dispose()
    with pytest.raises(UnsupportedError) as refused:
        Database(database_url)
    assert refused.value.message == "database schema: want 0002 or older, got 0999"
