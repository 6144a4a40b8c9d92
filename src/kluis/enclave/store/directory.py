"""The directory inside: which records exist, and the version of each, as of one commit.

It is built by surveying every record once, and updated from the journal, entry by entry. All later answers of
the host are compared with it: a record is right only in the version listed here, and missing only if it is
not listed. It costs about 400 bytes for each record, in addition to its names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from kluis.enclave.store.cipher import GENESIS, Change, Cipher, epoch_of
from kluis.enclave.store.records import KEPT_EPOCHS
from kluis.errors import AuthenticityError


class Name(NamedTuple):
    """The name of a record."""

    table: str
    key: str


class Held(msgspec.Struct, frozen=True, gc=False):
    """The directory's entry for a record: its version (24 bytes) and its index."""

    version: bytes
    index: str


class Directory:
    """Every record as of :attr:`epoch`. Not thread-safe.

    Attributes:
        epoch: of the last applied commit.
        chain: of the journal after it, 32 bytes.
        members: the set hash of all records.
        whole: False if a change was interrupted, as by a cancelled call: then nothing here is valid.
    """

    def __init__(self, cipher: Cipher, epoch: int = 0, chain: bytes = GENESIS) -> None:
        self._cipher = cipher
        self.epoch = epoch
        self.chain = chain
        self.members = 0
        self.whole = True
        self._tables: dict[str, dict[str, Held]] = {}
        self._indexes: dict[tuple[str, str], set[str]] = {}
        self._chains: deque[bytes] = deque([chain], KEPT_EPOCHS + 1)
        self._changes: deque[list[Change]] = deque(maxlen=KEPT_EPOCHS)

    def find(self, name: Name) -> Held | None:
        """The entry of a record; None if there is none."""
        table = self._tables.get(name.table)
        return None if table is None else table.get(name.key)

    def keys(self, table: str, index: str, after: str = "") -> list[str]:
        """The keys of a table's records, or of those with ``index``, that come after one, in order."""
        matching = self._indexes.get((table, index), ()) if index else self._tables.get(table, ())
        return sorted([key for key in matching if key > after] if after else matching)

    def records(self) -> list[tuple[Name, Held]]:
        """Every record."""
        return [
            (Name(table, key), entry) for table, keys in self._tables.items() for key, entry in keys.items()
        ]

    def chain_at(self, epoch: int) -> bytes | None:
        """The chain after an earlier epoch; None if it is too old, or in the future."""
        back = self.epoch - epoch
        return self._chains[-1 - back] if 0 <= back < len(self._chains) else None

    def changes_since(self, epoch: int) -> Iterable[Change] | None:
        """Every change after ``epoch``; None if that is too old."""
        count = self.epoch - epoch
        if count > len(self._changes):
            return None
        return (change for at in range(-count, 0) for change in self._changes[at])

    def put(self, name: Name, record: bytes, entry: Held) -> None:
        """Add or replace a record's entry."""
        self.drop(name, record)
        self._tables.setdefault(name.table, {})[name.key] = entry
        if entry.index:
            self._indexes.setdefault((name.table, entry.index), set()).add(name.key)
        self.members ^= self._cipher.member(record, entry.version)

    def drop(self, name: Name, record: bytes) -> None:
        """Remove a record's entry, if there is one."""
        table = self._tables.get(name.table, {})
        known = table.pop(name.key, None)
        if known is None:
            return
        if not table:
            del self._tables[name.table]
        self.members ^= self._cipher.member(record, known.version)
        if known.index:
            keys = self._indexes[name.table, known.index]
            keys.discard(name.key)
            if not keys:
                del self._indexes[name.table, known.index]

    def follow(self, sealed: bytes) -> None:
        """Apply the journal entry of the next epoch.

        Raises:
            AuthenticityError: it does not follow the last applied entry.
        """
        epoch = self.epoch + 1
        entry = self._cipher.open_entry(epoch, self.chain, sealed)
        if epoch_of(entry.version) != epoch:
            raise AuthenticityError(
                f"store: journal entry {epoch}: is of epoch {epoch_of(entry.version)}", code="store_history"
            )
        self.whole = False
        for change in entry.changes:
            name = Name(change.table, change.key)
            record = self._cipher.id(*name)
            if change.deleted:
                self.drop(name, record)
            else:
                self.put(name, record, Held(entry.version, change.index))
        self.epoch = epoch
        self.chain = self._cipher.link(self.chain, sealed)
        self._chains.append(self.chain)
        self._changes.append(entry.changes)
        self.whole = True

    def members_after(self, version: bytes, changes: Iterable[Change]) -> int:
        """The set hash after a commit of ``changes``, one for each record, with ``version``."""
        members = self.members
        for change in changes:
            name = Name(change.table, change.key)
            record = self._cipher.id(*name)
            known = self.find(name)
            if known is not None:
                members ^= self._cipher.member(record, known.version)
            if not change.deleted:
                members ^= self._cipher.member(record, version)
        return members
