"""A transaction: the reads and changes of one run of an update's work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Protocol

import msgspec

from kluis.enclave.store.directory import Directory, Name
from kluis.enclave.store.records import MAX_CHANGES, MAX_COMMIT_BYTES, MAX_IDS, MAX_VALUE_BYTES
from kluis.errors import UsageError


class MovedInterrupt(BaseException):
    """The data that the work has read has changed: it must run again. The work must not catch it."""


class Put(msgspec.Struct, frozen=True):
    """A value to store, and its index."""

    value: bytes
    index: str


class Source(Protocol):
    """The source of a transaction's reads."""

    def read(self, names: list[Name]) -> tuple[dict[Name, bytes], int]:
        """Values of the existing ones of these names, and the epoch from which on they are right."""
        ...

    def recall(self, names: list[Name]) -> tuple[dict[Name, bytes], int] | None:
        """Like :meth:`read`, from the cache, or None; there may be later epochs."""
        ...

    def names(self, table: str, index: str, after: str) -> tuple[list[Name], Mapping[Name, bytes], int]:
        """The names of a table or index in order, some of their values, and the epoch of both."""
        ...

    def conflicts_with(self, transaction: Transaction) -> bool:
        """Whether something that the transaction has read was changed after its epoch."""
        ...


class Transaction:
    """Reads as of one moment, and collects changes. Not thread-safe.

    Attributes:
        epoch: of the reads; None before the first one.
        changes: values to store, by name; None deletes.
        bytes: total size of the values to store.
        recalled: whether it has read something without a request to the host.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.epoch: int | None = None
        self.changes: dict[Name, Put | None] = {}
        self._names: set[Name] = set()
        self._scans: set[tuple[str, str]] = set()
        self.bytes = 0
        self.recalled = False

    def get(self, table: str, key: str) -> bytes | None:
        """As :meth:`kluis.enclave.store.model.Reading.get`."""
        name = name_of(table, key)
        if name in self.changes:
            put = self.changes[name]
            return None if put is None else put.value
        return self._read([name]).get(name)

    def scan(self, table: str, index: str = "", *, after: str = "") -> Iterator[tuple[str, bytes]]:
        """As :meth:`kluis.enclave.store.model.Reading.scan`."""
        name_of(table, "any", index)
        names, values, epoch = self._source.names(table, index, after)
        self._scans.add((table, index))
        self._names.update(names)
        self._settle(epoch)
        staged = {
            name
            for name, put in self.changes.items()
            if name.table == table
            and name.key > after
            and put is not None
            and (not index or put.index == index)
        }
        left = [name for name in names if name not in self.changes]
        return self._pages(sorted(staged.union(left)), dict(values))

    def put(self, table: str, key: str, value: bytes, *, index: str = "") -> None:
        """As :meth:`kluis.enclave.store.model.Writing.put`."""
        name = name_of(table, key, index)
        if len(value) > MAX_VALUE_BYTES:
            raise UsageError(f"store value: want at most {MAX_VALUE_BYTES} bytes, got {len(value)}")
        self._stage(name, Put(bytes(value), index))

    def delete(self, table: str, key: str) -> None:
        """As :meth:`kluis.enclave.store.model.Writing.delete`."""
        self._stage(name_of(table, key), None)

    def touched_by(self, directory: Directory) -> bool:
        """Whether a commit after this transaction's epoch changed what it has read."""
        if self.epoch is None or self.epoch == directory.epoch:
            return False
        changes = directory.changes_since(self.epoch)
        return changes is None or any(
            self._reads(Name(change.table, change.key), change.index) for change in changes
        )

    def reads_any(self, changes: Mapping[Name, Put | None]) -> bool:
        """Whether its reads include one of ``changes``."""
        return bool(self._names or self._scans) and any(
            self._reads(name, put.index if put else "") for name, put in changes.items()
        )

    def _reads(self, name: Name, index: str) -> bool:
        # A record that left an index is among the names that the scan of the index returned.
        return name in self._names or not self._scans.isdisjoint({(name.table, ""), (name.table, index)})

    def _read(self, names: list[Name]) -> dict[Name, bytes]:
        self._names.update(names)
        known = self._source.recall(names)
        self.recalled = self.recalled or known is not None
        values, epoch = self._source.read(names) if known is None else known
        self._settle(epoch)
        return values

    def _settle(self, epoch: int) -> None:
        """Ensure that all reads so far are right as of one epoch: the first read's."""
        if self.epoch is None:
            self.epoch = epoch
        if self._source.conflicts_with(self):
            raise MovedInterrupt

    def _pages(self, names: list[Name], values: dict[Name, bytes]) -> Iterator[tuple[str, bytes]]:
        for at in range(0, len(names), MAX_IDS):
            page = names[at : at + MAX_IDS]
            missing = [name for name in page if name not in values and name not in self.changes]
            if missing:
                values |= self._read(missing)
            for name in page:
                put = self.changes.get(name)
                value = put.value if put is not None else values.pop(name, None)
                if value is not None:
                    yield name.key, value

    def _stage(self, name: Name, put: Put | None) -> None:
        before = self.changes.get(name)
        self.bytes += (len(put.value) if put else 0) - (len(before.value) if before else 0)
        self.changes[name] = put
        if len(self.changes) > MAX_CHANGES:
            raise UsageError(f"store update: want at most {MAX_CHANGES} changes, got one more")
        if self.bytes > MAX_COMMIT_BYTES:
            raise UsageError(f"store update: want at most {MAX_COMMIT_BYTES} bytes, got {self.bytes}")


def name_of(table: str, key: str, index: str = "") -> Name:
    """A record's name.

    Raises:
        UsageError: a part is out of bounds.
    """
    if table == FORMER_KEYS:
        raise UsageError(f"store table: want another name than {FORMER_KEYS}, which is the store's own")
    for what, text, least, most in (
        ("table", table, 1, MAX_TABLE),
        ("key", key, 1, MAX_KEY),
        ("index", index, 0, MAX_KEY),
    ):
        if not least <= len(text) <= most:
            raise UsageError(f"store {what}: want {least} to {most} characters, got {len(text)}")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise UsageError(f"store {what}: want Unicode text, got half a surrogate pair") from None
    return Name(table, key)


FORMER_KEYS: Final = "kluis.former-keys"
"""The table of the public names of a store's earlier keys, hex."""
MAX_TABLE: Final = 64
MAX_KEY: Final = 512
