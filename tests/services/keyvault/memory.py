"""A store in memory: what it keeps is all at once or not at all, and a change may be made to run twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")
Rows = dict[tuple[str, str], tuple[bytes, str]]


class MemoryStorage:
    """Keeps records in a dictionary.

    Attributes:
        twice: whether each change runs twice, as one that lost a race does.
        reads: how many records were asked for.
    """

    rollback = "undetected"

    def __init__(self) -> None:
        self.rows: Rows = {}
        self.twice = False
        self.reads = 0
        self._lock = threading.RLock()

    def get(self, table: str, key: str) -> bytes | None:
        """One value."""
        self.reads += 1
        row = self.rows.get((table, key))
        return None if row is None else row[0]

    def scan(self, table: str, index: str = "") -> Iterator[tuple[str, bytes]]:
        """All of a table, or of an index."""
        for (where, key), (value, held) in sorted(self.rows.items()):
            if where == table and index in ("", held):
                yield key, value

    def update(self, work: Callable[[MemoryWriting], T]) -> T:
        """Change all at once."""
        with self._lock:
            if self.twice:
                work(MemoryWriting(dict(self.rows)))
            writing = MemoryWriting(dict(self.rows))
            result = work(writing)
            self.rows = writing.rows
            return result


class MemoryWriting(MemoryStorage):
    """Changes that are not kept yet."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows = rows

    def put(self, table: str, key: str, value: bytes, *, index: str = "") -> None:
        """Keep a value."""
        assert 1 <= len(table) <= 64
        assert 1 <= len(key) <= 512
        assert len(value) <= 4 << 20
        self.rows[table, key] = (value, index)

    def delete(self, table: str, key: str) -> None:
        """Forget a value."""
        self.rows.pop((table, key), None)
