"""A database is named by a URL, is durable, and its failures are told as what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.errors import UnavailableError, UsageError
from kluis.services.storage import Database, records


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "database: want a URL"),
        ("mysql://localhost/x", "database: want sqlite or postgresql, got mysql"),
        ("postgresql+asyncpg://localhost/x", "database: want sqlite or postgresql, got postgresql+asyncpg"),
    ],
)
def test_urls(url: str, message: str) -> None:
    """Another database than the two is refused, in words that hold none of the URL's secrets."""
    with pytest.raises(UsageError) as refused:
        Database(url)
    assert refused.value.message == message


def test_a_database_that_does_not_answer(tmp_path: Path) -> None:
    """Its failure is the host's to mend."""
    with pytest.raises(UnavailableError) as refused:
        records(f"sqlite:///{tmp_path / 'no' / 'folder' / 'store.db'}")
    assert refused.value.message == "database: unable to open database file"
    with pytest.raises(UnavailableError):
        records(f"postgresql://kluis:secret@/kluis?host={tmp_path}")


def test_sqlite_is_durable(tmp_path: Path) -> None:
    """Every commit is flushed: write-ahead log, synchronous FULL."""
    with Database(f"sqlite:///{tmp_path / 'store.db'}") as database:
        cursor = database.cursor()
        assert cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert cursor.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_broken_connection_is_replaced(tmp_path: Path) -> None:
    """After a failure the next request has a new connection."""
    with Database(f"sqlite:///{tmp_path / 'store.db'}") as database:
        store = database.records("one")
        database.cursor().connection.close()
        with pytest.raises(UnavailableError):
            store.read([], -1)
        assert store.read([], -1).epoch == 0
