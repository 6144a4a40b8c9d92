"""The database drivers' exceptions and their meaning here, for SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from kluis.errors import UnavailableError

DRIVERS: Final = (sqlite3.Error, psycopg.Error)
BROKEN: Final = (psycopg.OperationalError, psycopg.InterfaceError, sqlite3.ProgrammingError)
"""What a connection raises that the server, or somebody else, has closed."""
MEND: Final = "check that it runs, that its disk has space, and that the URL is right"


@contextmanager
def unavailable() -> Iterator[None]:
    """Convert the database's own errors into UnavailableError.

    Raises:
        UnavailableError: one was raised within.
    """
    try:
        yield
    except (SQLAlchemyError, *DRIVERS) as error:
        message = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise UnavailableError(f"database: {message}", hint=MEND, code="store_database") from None
