"""What the public tables of a ledger hold at one entry, as far as checks need them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import Writes

_KEPT: Final = "public:ccf."
_NONE: Final[Mapping[bytes, bytes]] = {}
# Large, and read by no check: each is checked as it is written.
_PASSED: Final = frozenset({tables.SIGNATURES, tables.COSE_SIGNATURES, tables.TREE, tables.SNAPSHOT_EVIDENCE})


class State:
    """The tables of the framework and of governance, after the entries so far."""

    __slots__ = ("_tables", "_versions")

    def __init__(self) -> None:
        self._tables: dict[str, dict[bytes, bytes]] = {}
        self._versions: dict[str, int] = {}

    def apply(self, seqno: int, writes: Writes) -> None:
        """Take an entry's writes in."""
        for name, changes in writes.items():
            if not name.startswith(_KEPT) or name in _PASSED:
                continue
            table = self._tables.setdefault(name, {})
            for key, value in changes.items():
                if value is None:
                    table.pop(key, None)
                else:
                    table[key] = value
            self._versions[name] = seqno

    def table(self, name: str) -> Mapping[bytes, bytes]:
        """A table; empty if nothing was written to it."""
        return self._tables.get(name, _NONE)

    def only(self, name: str) -> bytes | None:
        """The value of a table that holds one; None if it holds none."""
        return self.table(name).get(tables.ONLY)

    def version(self, name: str) -> int:
        """The seqno of the last entry that wrote to a table; 0 if none did."""
        return self._versions.get(name, 0)

    def tables(self) -> Mapping[str, Mapping[bytes, bytes]]:
        """All that are kept."""
        return self._tables
