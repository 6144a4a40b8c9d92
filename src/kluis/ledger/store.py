"""A ledger's tables as they are now, and transactions over them that hold no lock.

A transaction keeps its writes to itself, and notes what it read. It sees one state: once another
transaction changed something that it reads, it ends with :class:`Conflict` and is run again.

    transaction = store.begin()
    transaction.put("public:balances", b"a", b"1")
    if not store.conflicts(transaction):
        store.apply(seqno, transaction.writes)
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

from kluis.errors import KluisError, UsageError
from kluis.formats.ccf.domain import MAX_NAME, Writes

MAX_REMOVED: Final = 100_000


class Conflict(KluisError):
    """What a transaction reads changed since it began: it is to be run again, from its beginning."""

    code = "transaction_conflict"
    http_status = 503
    exit_code = 7


class _Table:
    __slots__ = ("changed", "forgotten", "keys", "removed", "values")

    def __init__(self) -> None:
        self.values: dict[bytes, tuple[int, bytes]] = {}
        self.keys: list[bytes] | None = []  # sorted; None until they are wanted again
        self.removed: dict[bytes, int] = {}  # in the order of removal
        self.forgotten = 0  # of the keys that are not there, some changed up to this version
        self.changed = 0

    def version(self, key: bytes) -> int:
        """When a key last changed; later than it did where that is forgotten."""
        if (written := self.values.get(key)) is not None:
            return written[0]
        return self.removed.get(key, self.forgotten)

    def change(self, key: bytes, value: bytes | None, version: int) -> None:
        self.changed = version
        if value is None:
            if self.values.pop(key, None) is not None:
                self.keys = None
            self.removed.pop(key, None)
            self.removed[key] = version
            if len(self.removed) > MAX_REMOVED:
                oldest = next(iter(self.removed))
                self.forgotten = max(self.forgotten, self.removed.pop(oldest))
            return
        if key not in self.values:
            self.removed.pop(key, None)
            if self.keys is not None and (not self.keys or key > self.keys[-1]):
                self.keys.append(key)
            else:
                self.keys = None
        self.values[key] = (version, value)

    def sorted_keys(self) -> list[bytes]:
        if self.keys is None:
            self.keys = sorted(self.values)
        return self.keys


class Store:
    """All tables of a ledger at its latest version. One thread uses it at a time.

    Attributes:
        version: the seqno of the last entry that was applied; 0 before the first.
    """

    __slots__ = ("_changes", "_tables", "_undo", "version")

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}
        self._undo: deque[tuple[int, str, bytes, bytes | None]] = deque()
        # Rises with every change, also when entries are undone and their seqnos are used again.
        self._changes = 0
        self.version = 0

    def begin(self) -> Transaction:
        """Begin a transaction over the present state."""
        return Transaction(self)

    def tables(self) -> tuple[str, ...]:
        """The names of the tables that have ever been written to, sorted."""
        return tuple(sorted(self._tables))

    def conflicts(self, transaction: Transaction) -> bool:
        """Whether something that a transaction read has changed since it began."""
        since = transaction.began
        if self._changes == since:
            return False
        return any(
            (table := self._tables.get(name)) is not None and table.version(key) > since
            for name, key in transaction.reads
        ) or any(
            (table := self._tables.get(name)) is not None and table.changed > since
            for name in transaction.scans
        )

    def apply(self, seqno: int, writes: Writes, *, final: bool = False) -> None:
        """Make an entry's writes the present state.

        Args:
            seqno: of the entry.
            writes: by table and key; None removes.
            final: whether it is never undone, nor any before it, as in a log that is read at a start.

        Raises:
            UsageError: the seqno is not later than the last one.
        """
        if seqno <= self.version:
            raise UsageError(f"store: want a seqno after {self.version}, got {seqno}")
        self._changes += 1
        for name, changes in writes.items():
            table = self._tables.get(name)
            if table is None:
                table = self._tables[name] = _Table()
            for key, value in changes.items():
                if not final:
                    before = table.values.get(key)
                    self._undo.append((seqno, name, key, None if before is None else before[1]))
                table.change(key, value, self._changes)
        self.version = seqno

    def compact(self, seqno: int) -> None:
        """Note that the entries up to ``seqno`` are committed, and are never undone."""
        while self._undo and self._undo[0][0] <= seqno:
            self._undo.popleft()

    def rollback(self, seqno: int) -> None:
        """Undo the entries after ``seqno``; transactions that read what they wrote conflict.

        Args:
            seqno: at least the one that :meth:`compact` was last called with.

        Raises:
            UsageError: it was never reached.
        """
        if seqno > self.version:
            raise UsageError(f"store: want a seqno up to {self.version}, got {seqno}")
        self._changes += 1
        while self._undo and self._undo[-1][0] > seqno:
            _, name, key, before = self._undo.pop()
            self._tables[name].change(key, before, self._changes)
        self.version = seqno

    def table(self, name: str) -> _Table | None:
        """A table's state, for transactions; None before its first write."""
        return self._tables.get(name)

    @property
    def changes(self) -> int:
        """How often the state has changed."""
        return self._changes


class Transaction:
    """What one request reads and writes.

    Attributes:
        read_version: the seqno of the state that it reads.
        began: how often the store had changed when the transaction began.
        reads: the keys that it read, by table.
        scans: the tables that it read whole.
    """

    __slots__ = ("_store", "_writes", "began", "read_version", "reads", "scans")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writes: dict[str, dict[bytes, bytes | None]] = {}
        self.read_version = store.version
        self.began = store.changes
        self.reads: set[tuple[str, bytes]] = set()
        self.scans: set[str] = set()

    @property
    def writes(self) -> Mapping[str, Mapping[bytes, bytes | None]]:
        """What it writes: by table and key; None removes."""
        return self._writes

    def get(self, table: str, key: bytes) -> bytes | None:
        """A key's value; None if it has none.

        Raises:
            Conflict: it changed since the transaction began.
        """
        own = self._writes.get(table)
        if own is not None and key in own:
            return own[key]
        self.reads.add((table, key))
        known = self._store.table(table)
        if known is None:
            return None
        value = known.values.get(key)
        if (value[0] if value is not None else known.version(key)) > self.began:
            raise _changed_conflict(table)
        return None if value is None else value[1]

    def has(self, table: str, key: bytes) -> bool:
        """Whether a key has a value.

        Raises:
            Conflict: it changed since the transaction began.
        """
        return self.get(table, key) is not None

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Give a key a value.

        Raises:
            UsageError: the table's name is empty or longer than 1,024 bytes.
        """
        self._writes_of(table)[key] = value

    def remove(self, table: str, key: bytes) -> None:
        """Take a key's value away; a key without one may be removed, too."""
        self._writes_of(table)[key] = None

    def items(self, table: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Every key that has a value, and the value, sorted by key.

        Args:
            table: its name.
            start: the first key that is wanted.

        Raises:
            Conflict: the table changed since the transaction began.
        """
        self.scans.add(table)
        known, own = self._store.table(table), dict(self._writes.get(table, {}))
        keys = [] if known is None else known.sorted_keys()
        if own:
            keys = sorted({*keys, *own})
        for key in keys[bisect.bisect_left(keys, start) :]:
            if known is not None and known.changed > self.began:
                raise _changed_conflict(table)
            value = own[key] if key in own else known.values[key][1] if known is not None else None
            if value is not None:
                yield key, value

    def _writes_of(self, table: str) -> dict[bytes, bytes | None]:
        writes = self._writes.get(table)
        if writes is None:
            if not 0 < len(table.encode()) <= MAX_NAME:
                raise UsageError(f"table: want a name of 1 to {MAX_NAME} bytes, got {len(table)} characters")
            writes = self._writes[table] = {}
        return writes


def _changed_conflict(table: str) -> Conflict:
    return Conflict(f"table {table}: changed while a transaction read it", hint="run the transaction again")
