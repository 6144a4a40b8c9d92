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
        twice: whether each change runs twice, as after a lost race.
        reads: how many records were read.
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

    def scan(self, table: str, index: str = "", *, after: str = "") -> Iterator[tuple[str, bytes]]:
        """All of a table, or of an index."""
        for (where, key), (value, held) in sorted(self.rows.items()):
            if where == table and index in ("", held) and key > after:
                yield key, value

    def update(self, work: Callable[[MemoryWriting], T], *meanwhile: Callable[[], None]) -> T:
        """Change all at once."""
        with self._lock:
            if self.twice:
                work(MemoryWriting(self.rows))
            writing = MemoryWriting(self.rows)
            result = work(writing)
            for place, row in writing.changes.items():
                if row is None:
                    self.rows.pop(place, None)
                else:
                    self.rows[place] = row
            for each in meanwhile if writing.changes else ():
                each()
            return result


class MemoryWriting:
    """Changes that are not kept yet, over what is."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.changes: dict[tuple[str, str], tuple[bytes, str] | None] = {}

    def get(self, table: str, key: str) -> bytes | None:
        """One value."""
        place = (table, key)
        row = self.changes[place] if place in self.changes else self.rows.get(place)
        return None if row is None else row[0]

    def scan(self, table: str, index: str = "", *, after: str = "") -> Iterator[tuple[str, bytes]]:
        """All of a table, or of an index."""
        merged = {**self.rows, **self.changes}
        for (where, key), row in sorted(merged.items(), key=lambda one: one[0]):
            if row is not None and where == table and index in ("", row[1]) and key > after:
                yield key, row[0]

    def put(self, table: str, key: str, value: bytes, *, index: str = "") -> None:
        """Keep a value."""
        assert 1 <= len(table) <= 64
        assert 1 <= len(key) <= 512
        assert len(value) <= 4 << 20
        self.changes[table, key] = (value, index)

    def delete(self, table: str, key: str) -> None:
        """Forget a value."""
        self.changes[table, key] = None
