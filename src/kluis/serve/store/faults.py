"""The database drivers' exceptions and their meaning here, for SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from kluis.errors import UnavailableError

MEND: Final = "check that it runs, that its disk has space, and that the URL is right"


def drivers() -> tuple[type[Exception], ...]:
    """The exceptions of the drivers that are loaded: PostgreSQL's is, if one is used."""
    if "psycopg" not in sys.modules:
        return (sqlite3.Error,)
    import psycopg

    return (sqlite3.Error, psycopg.Error)


def closed_errors() -> tuple[type[Exception], ...]:
    """What a connection raises that the server, or somebody else, has closed."""
    if "psycopg" not in sys.modules:
        return (sqlite3.ProgrammingError,)
    import psycopg

    return (psycopg.OperationalError, psycopg.InterfaceError, sqlite3.ProgrammingError)


@contextmanager
def unavailable() -> Iterator[None]:
    """Convert the database's own errors into UnavailableError.

    Raises:
        UnavailableError: one was raised within.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, (SQLAlchemyError, *drivers())):
            raise
        message = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise UnavailableError(f"database: {message}", hint=MEND, code="store_database") from None
