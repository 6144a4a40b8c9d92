"""A database of stores: SQLite in a file, or PostgreSQL by URL."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from kluis.errors import UsageError
from kluis.serve.store.faults import closed_errors, drivers, unavailable
from kluis.serve.store.migrating import migrate
from kluis.serve.store.statements import statements_for

# As long as an enclave waits for a read.
ANSWER_SECONDS: Final = 30.0


class Database:
    """Connections to one database, one for each thread, and its stores.

    Args:
        url: in SQLAlchemy's form: ``sqlite:////var/lib/kluis/store.db``, or
            ``postgresql+psycopg://user@host/name`` (``postgresql://`` means the same).
        seconds: timeout of a statement; on SQLite, of waiting for another one.

    Raises:
        UsageError: the URL is not of a supported database.
        UnavailableError: the database is unreachable.
        UnsupportedError: a newer version of Kluis made its schema.
    """

    def __init__(self, url: str, seconds: float = ANSWER_SECONDS) -> None:
        self._engine = _engine(read_url(url), seconds)
        self.statements = statements_for(self._engine.dialect)
        self._mine = threading.local()
        self._all: dict[threading.Thread, Any] = {}
        self._lock = threading.Lock()
        with unavailable():
            migrate(self._engine)

    @property
    def shared(self) -> bool:
        """Whether hosts on other machines can use it too; a file belongs to one machine."""
        return self._engine.dialect.name != "sqlite"

    def cursor(self) -> Any:
        """A cursor of this thread's connection, with autocommit."""
        connection = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._connect()
        return connection.cursor()

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A cursor in a transaction that is committed at the end, or rolled back on an exception."""
        cursor = self._begin()
        try:
            yield cursor
            cursor.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(*drivers()):  # the database may have undone it already
                cursor.execute("ROLLBACK")
            raise

    def _begin(self) -> Any:
        """Begin a transaction, on a new connection if the existing one has broken."""
        begin = "BEGIN IMMEDIATE" if self._engine.dialect.name == "sqlite" else "BEGIN"
        try:
            cursor = self.cursor()
            cursor.execute(begin)
        except closed_errors():
            self.forget()
            cursor = self.cursor()
            cursor.execute(begin)
        return cursor

    def forget(self) -> None:
        """Close this thread's connection: the next cursor opens a new one."""
        connection = self._mine.__dict__.pop("connection", None)
        if connection is not None:
            with self._lock:
                self._all.pop(threading.current_thread(), None)
            with contextlib.suppress(*drivers()):
                connection.close()

    def close(self) -> None:
        """Close every connection; no other thread may use one now."""
        with self._lock:
            for connection in self._all.values():
                connection.close()
            self._all.clear()
        self._mine = threading.local()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> Any:
        pooled = self._engine.raw_connection()
        connection = pooled.dbapi_connection
        pooled.detach()
        self._mine.connection = connection
        with self._lock:
            # An enclave's ocalls have separate threads, which end with it. Each replaced enclave would leave
            # its connections open, until the server or this process runs out of them.
            left = [self._all.pop(one) for one in list(self._all) if not one.is_alive()]
            self._all[threading.current_thread()] = connection
        for one in left:
            with contextlib.suppress(*drivers()):
                one.close()
        return connection


def read_url(url: str) -> URL:
    """Parse a database's URL.

    Raises:
        UsageError: it is not of a supported database.
    """
    try:
        read = make_url(url)
    except ArgumentError:
        raise UsageError("database: want a URL", hint="sqlite:////var/lib/kluis/store.db") from None
    if read.drivername in {"postgresql", "postgres"}:
        read = read.set(drivername="postgresql+psycopg")
    if read.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise UsageError(f"database: want sqlite or postgresql, got {read.drivername}")
    return read


def database_file(url: str) -> Path | None:
    """The resolved path of a database file; None if the database is not a file.

    Raises:
        UsageError: the URL is not of a supported database.
    """
    read = read_url(url)
    named = read.database if read.get_backend_name() == "sqlite" else None
    return None if not named or named == ":memory:" else Path(named).resolve()


def _engine(url: URL, seconds: float) -> Engine:
    if url.get_backend_name() == "postgresql":
        from kluis.serve.store.bounded import prepare  # loads PostgreSQL's driver

        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        prepare(engine, seconds)
        return engine
    engine = create_engine(
        url,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args={"check_same_thread": False, "timeout": seconds},
    )
    event.listen(engine, "connect", functools.partial(_prepare_sqlite, seconds))
    return engine


def _prepare_sqlite(seconds: float, connection: Any, _: object) -> None:
    end = time.monotonic() + seconds
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY"):
        while True:
            try:
                connection.execute(f"PRAGMA {pragma}")
                break
            except sqlite3.OperationalError as error:
                # If two processes switch a new database to WAL at once, SQLite refuses one without waiting.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(AGAIN_SECONDS)


AGAIN_SECONDS: Final = 0.01
