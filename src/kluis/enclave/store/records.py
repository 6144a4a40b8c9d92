"""A store's requests to its host: batches of opaque bytes, each carried by one ocall.

To the host a record is ``(id, version, label, value)``: a keyed hash of table and key; the commit that wrote
it; its sealed names; its sealed value. It also stores one sealed head, replaced with every commit, and a
journal of sealed entries, one for each commit. :mod:`kluis.serve.store` stores them in a database;
:mod:`kluis.enclave.store.ocalls` carries them out of an enclave. Nothing here is trusted.
"""

from __future__ import annotations

from typing import Annotated, Final, Protocol

import msgspec

ID_BYTES: Final = 32
VERSION_BYTES: Final = 24
MAX_VALUE_BYTES: Final = 4 << 20
MAX_CHANGES: Final = 1024
MAX_COMMIT_BYTES: Final = 64 << 20
MAX_IDS: Final = 256
MAX_ENTRIES: Final = 256
MAX_ANSWER_BYTES: Final = 8 << 20
"""After this many bytes of rows or entries a host stops adding more; a single one may be larger."""
MAX_LABELS: Final = 2048
KEPT_EPOCHS: Final = 4096
"""Journal entries that a host keeps at least."""
SEALING_BYTES: Final = 28
"""Bytes added by sealing: a nonce of 12 and a tag of 16."""

Id = Annotated[bytes, msgspec.Meta(min_length=ID_BYTES, max_length=ID_BYTES)]
Version = Annotated[bytes, msgspec.Meta(min_length=VERSION_BYTES, max_length=VERSION_BYTES)]
Epoch = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]
Known = Annotated[int, msgspec.Meta(ge=-1, le=(1 << 53) - 1)]
Head = Annotated[bytes, msgspec.Meta(max_length=256)]
Label = Annotated[bytes, msgspec.Meta(max_length=8192)]
Value = Annotated[bytes, msgspec.Meta(max_length=MAX_VALUE_BYTES + SEALING_BYTES)]
Entry = Annotated[bytes, msgspec.Meta(max_length=12 << 20)]
Ids = Annotated[list[Id], msgspec.Meta(max_length=MAX_IDS)]


SealedKey = Annotated[bytes, msgspec.Meta(max_length=1024)]


class StoreRow(msgspec.Struct, array_like=True, frozen=True):
    """A record's value, written by some commit."""

    id: Id
    version: Version
    value: Value


class StoreAnswer(msgspec.Struct, array_like=True, frozen=True):
    """The host's state at one moment.

    Attributes:
        epoch: of the last commit; 0 if there was none.
        head: the sealed head of that commit, empty if there was none or the requester has it.
        entries: of the journal, in order, from the one after the requester's epoch; fewer if there are many,
            none if that one is pruned.
        rows: the existing ones of the requested ids; fewer if they are large.
    """

    epoch: Epoch
    head: Head
    entries: Annotated[list[Entry], msgspec.Meta(max_length=MAX_ENTRIES)]
    rows: Annotated[list[StoreRow], msgspec.Meta(max_length=MAX_IDS)]


class StoreLabel(msgspec.Struct, array_like=True, frozen=True):
    """A record without its value."""

    id: Id
    version: Version
    label: Label


class StoreSurvey(msgspec.Struct, array_like=True, frozen=True):
    """The next records in order of id; empty at the end."""

    labels: Annotated[list[StoreLabel], msgspec.Meta(max_length=MAX_LABELS)]


class StorePut(msgspec.Struct, array_like=True, frozen=True):
    """A record to store, replacing the one with its id."""

    id: Id
    label: Label
    value: Value


class StoreCommit(msgspec.Struct, array_like=True, frozen=True):
    """One commit: all of it is stored, or nothing.

    Attributes:
        epoch: of this commit; the host stores it only if the previous epoch is its last.
        version: of the records put.
        head: sealed, replacing the previous one.
        entry: sealed, added to the journal.
        puts: records to store.
        deletes: ids to delete.
        prune: journal entries up to this epoch may be deleted.
    """

    epoch: Epoch
    version: Version
    head: Head
    entry: Entry
    puts: Annotated[list[StorePut], msgspec.Meta(max_length=MAX_CHANGES)]
    deletes: Annotated[list[Id], msgspec.Meta(max_length=MAX_CHANGES)]
    prune: Epoch


class StoreKeys(msgspec.Struct, array_like=True, frozen=True):
    """The host's sealed copies of a storage key.

    Attributes:
        sealed: the one for the requested platform; empty if there is none.
        any: whether there is one for any platform.
    """

    sealed: SealedKey
    any: bool


class StoreRekey(msgspec.Struct, array_like=True, frozen=True):
    """The end of a re-keying: the collected records replace the store, or nothing changes.

    Attributes:
        epoch: of the store from then on; only if the previous epoch is its last.
        head: sealed, replacing the previous one.
        count: of the collected records.
        platform: where the key opens.
        sealed: the key, replacing every copy of the previous one.
    """

    epoch: Epoch
    head: Head
    count: Epoch
    platform: Id
    sealed: SealedKey


Puts = Annotated[list[StorePut], msgspec.Meta(max_length=MAX_IDS)]


class Rekeys(Protocol):
    """The host's side of a re-keying. Methods may raise any exception."""

    def rekey_begin(self) -> None:
        """Begin to collect records, alongside the store; unfinished records of others are deleted."""
        ...

    def rekey_put(self, version: bytes, puts: list[StorePut]) -> None:
        """Collect records of ``version`` (24 bytes)."""
        ...

    def rekey_finish(self, last: StoreRekey) -> bool:
        """Replace the store with the collected records, on disk by the return; False if nothing changed."""
        ...


class Records(Protocol):
    """The host's side of a store. Methods may raise any exception."""

    def read(self, ids: list[bytes], known: int) -> StoreAnswer:
        """Rows, and the commits after epoch ``known``, as of one moment.

        Args:
            ids: at most ``MAX_IDS``.
            known: the requester's last epoch; -1 to get the head and no entries.
        """
        ...

    def survey(self, after: bytes) -> StoreSurvey:
        """At most ``MAX_LABELS`` records whose id is greater than ``after`` (32 bytes, or none)."""
        ...

    def commit(self, commit: StoreCommit) -> bool:
        """Store a commit, on disk by the return; False, and nothing stored, if another came first."""
        ...
