"""Sealed rows that this enclave has seen: what the host would give again, without asking it.

A row is kept as the host has it, sealed, and counts only while the directory names its version: so no
secret lies here, and nothing older than this instance has heard of. It may be older than what another
instance has written since: whoever reads from here must have it proven by a commit, or by asking the host.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from kluis.enclave.store.directory import Name

MOST_BYTES: Final = 4 << 20
MOST_ROW: Final = 64 << 10
ROW_BYTES: Final = 512
"""What a row costs beside its value, about."""


class Remembered:
    """Rows by name, the least used of which go first. Not thread-safe."""

    def __init__(self) -> None:
        self._rows: OrderedDict[Name, tuple[bytes, bytes]] = OrderedDict()
        self._bytes = 0

    def keep(self, name: Name, version: bytes, sealed: bytes) -> None:
        """Remember a row, in place of what is remembered of its name."""
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
        """Forget what is remembered of a name."""
        row = self._rows.pop(name, None)
        if row is not None:
            self._bytes -= len(row[1]) + ROW_BYTES
