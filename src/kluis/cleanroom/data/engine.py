"""DuckDB in a locked-down configuration: it computes on given tables, without files, extensions or output.

Its errors contain cell values ("Could not convert string 'Alice Smith'"), and their class depends on values.
So a caller gets the same error with the same code, whatever the cause. It has no directory to spill to; out
of memory is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import duckdb
import polars as pl

from kluis.cleanroom.data.datasets import Stream
from kluis.errors import KluisError

_T = TypeVar("_T")

THREADS = 4
MOST_ROWS = 200_000
MEMORY = "768MB"
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "allow_community_extensions": False,
    "allow_unsigned_extensions": False,
    "python_enable_replacements": False,
    "temp_directory": "",
    "max_temp_directory_size": "0KB",
    "memory_limit": MEMORY,
    "threads": THREADS,
    "preserve_insertion_order": True,
}


class AnalysisFailed(KluisError):
    """An analysis failed inside; nothing states why."""

    code = "analysis_failed"
    exit_code = 7
    http_status = 500


class Engine:
    """A locked database over some tables, for one run.

    Args:
        tables: by the names that queries use.
    """

    def __init__(self, tables: Mapping[str, pl.DataFrame]) -> None:
        self._connection = duckdb.connect(":memory:", config=_CONFIG)
        for name, table in tables.items():
            self._connection.register(name, Stream(table))
        self._connection.execute("SET lock_configuration = true")

    def table(self, sql: str) -> pl.DataFrame:
        """Run a statement that Kluis generated; return the table with its columns in order.

        Raises:
            AnalysisFailed: the same for every cause, never with the engine's text.
        """
        return self._run(lambda: pl.DataFrame(self._connection.sql(sql)))

    def rows(self, sql: str, most: int = MOST_ROWS) -> list[tuple[Any, ...]]:
        """Run a statement that Kluis generated; whole numbers of any size stay exact.

        Args:
            sql: the statement.
            most: rows.

        Raises:
            AnalysisFailed: the engine stopped, or there are more rows.
        """
        fetched: list[tuple[Any, ...]] = self._run(lambda: self._connection.execute(sql).fetchmany(most + 1))
        if len(fetched) > most:
            raise AnalysisFailed(f"analysis: want at most {MOST_ROWS} groups and parts, or fewer")
        return fetched

    def _run(self, ask: Callable[[], _T]) -> _T:
        try:
            return ask()
        except (duckdb.Error, pl.exceptions.PolarsError):
            pass
        # Raised here, outside the handler, so that no traceback or cause contains the engine's message.
        raise AnalysisFailed("analysis: the engine stopped")

    def close(self) -> None:
        """Release the tables."""
        self._connection.close()
