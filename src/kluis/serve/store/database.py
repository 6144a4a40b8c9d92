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
from kluis.serve.store.bounded import bound
from kluis.serve.store.faults import BROKEN, DRIVERS, unavailable
from kluis.serve.store.migrating import migrate
from kluis.serve.store.statements import Statements

# As an enclave waits for what it reads.
ANSWER_SECONDS: Final = 30.0


class Database:
    """Connections to one database, one a thread, and the stores in it.

    Args:
        url: as SQLAlchemy reads it: ``sqlite:////var/lib/kluis/store.db``, or
            ``postgresql+psycopg://user@host/name`` (``postgresql://`` means the same).
        seconds: that a statement may take; on SQLite, that one waits for another's.

    Raises:
        UsageError: the URL is of no database that this knows.
        UnavailableError: the database does not answer.
        UnsupportedError: a newer version of Kluis made its schema.
    """

    def __init__(self, url: str, seconds: float = ANSWER_SECONDS) -> None:
        self._engine = _engine(read_url(url), seconds)
        self.statements = Statements(self._engine.dialect)
        self._mine = threading.local()
        self._all: dict[threading.Thread, Any] = {}
        self._lock = threading.Lock()
        with unavailable():
            migrate(self._engine)

    @property
    def shared(self) -> bool:
        """Whether hosts on other machines may have it too: a file is of one machine."""
        return self._engine.dialect.name != "sqlite"

    def cursor(self) -> Any:
        """A cursor of this thread's own connection, which commits by itself."""
        connection = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._connect()
        return connection.cursor()

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A cursor in a transaction that is kept at the end, or undone if something is raised."""
        cursor = self._begin()
        try:
            yield cursor
            cursor.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(*DRIVERS):  # the database may have undone it already
                cursor.execute("ROLLBACK")
            raise

    def _begin(self) -> Any:
        """A cursor in a transaction; of a new connection, if the one there was has broken since."""
        begin = "BEGIN IMMEDIATE" if self._engine.dialect.name == "sqlite" else "BEGIN"
        try:
            cursor = self.cursor()
            cursor.execute(begin)
        except BROKEN:
            self.forget()
            cursor = self.cursor()
            cursor.execute(begin)
        return cursor

    def forget(self) -> None:
        """Close this thread's connection: the next cursor has a new one."""
        connection = self._mine.__dict__.pop("connection", None)
        if connection is not None:
            with self._lock:
                self._all.pop(threading.current_thread(), None)
            with contextlib.suppress(*DRIVERS):
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
            # An enclave's ocalls have threads of their own, which end with it: each that is replaced would
            # leave its connections open, until the server, or this process, has none left.
            left = [self._all.pop(one) for one in list(self._all) if not one.is_alive()]
            self._all[threading.current_thread()] = connection
        for one in left:
            with contextlib.suppress(*DRIVERS):
                one.close()
        return connection


def read_url(url: str) -> URL:
    """Read a database's URL.

    Raises:
        UsageError: it is of no database that this knows.
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
    """The file that a database is, with no links on its way; None for one that is none.

    Raises:
        UsageError: the URL is of no database that this knows.
    """
    read = read_url(url)
    named = read.database if read.get_backend_name() == "sqlite" else None
    return None if not named or named == ":memory:" else Path(named).resolve()


def _engine(url: URL, seconds: float) -> Engine:
    if url.get_backend_name() == "postgresql":
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        bound(engine, seconds)
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
                # Of two who turn a new database to WAL at once, SQLite refuses one without a wait.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(AGAIN_SECONDS)


AGAIN_SECONDS: Final = 0.01
