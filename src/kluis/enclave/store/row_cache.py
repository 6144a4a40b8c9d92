"""A cache of sealed rows, which saves requests to the host.

A row is cached in sealed form, and is valid only while the directory lists its version: so the cache contains
no secret, and nothing older than this instance has seen. Another instance may have written since: a reader
must confirm it by a commit, or by a request to the host.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from kluis.enclave.store.directory import Name

MOST_BYTES: Final = 4 << 20
MOST_ROW: Final = 64 << 10
ROW_BYTES: Final = 512
"""Approximate cost of a row in addition to its value."""


class Remembered:
    """Rows by name, evicted in order of least use. Not thread-safe."""

    def __init__(self) -> None:
        self._rows: OrderedDict[Name, tuple[bytes, bytes]] = OrderedDict()
        self._bytes = 0

    def keep(self, name: Name, version: bytes, sealed: bytes) -> None:
        """Store a row, replacing an older one of its name."""
        self.forget(name)
        if len(sealed) > MOST_ROW:
            return
        self._rows[name] = version, sealed
        self._bytes += len(sealed) + ROW_BYTES
        while self._bytes > MOST_BYTES:
            _, (_, oldest) = self._rows.popitem(last=False)
            self._bytes -= len(oldest) + ROW_BYTES

    def row(self, name: Name, version: bytes) -> bytes | None:
        """The sealed value of that version, or None."""
        row = self._rows.get(name)
        if row is None or row[0] != version:
            return None
        self._rows.move_to_end(name)
        return row[1]

    def forget(self, name: Name) -> None:
        """Drop the row of a name."""
        row = self._rows.pop(name, None)
        if row is not None:
            self._bytes -= len(row[1]) + ROW_BYTES
