"""What a store asks of its host: three batch requests, of opaque bytes, that one ocall each can carry.

To the host a record is ``(id, version, label, value)``: a keyed hash of table and key; which commit wrote
it; its names, sealed; its value, sealed. Beside the records it keeps one sealed head, replaced with every
commit, and a journal of sealed entries, one a commit. :mod:`kluis.serve.store` keeps them in a
database; :mod:`kluis.enclave.store.ocalls` carries them out of an enclave. Nothing here is trusted.
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
"""After so many bytes of rows or entries a host stops adding more; one alone may be larger."""
MAX_LABELS: Final = 2048
KEPT_EPOCHS: Final = 4096
"""Journal entries that a host keeps at least."""
SEALING_BYTES: Final = 28
"""What sealing adds: a nonce of 12 and a tag of 16."""

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
    """A record's value, as some commit wrote it."""

    id: Id
    version: Version
    value: Value


class StoreAnswer(msgspec.Struct, array_like=True, frozen=True):
    """What the host has, at one moment.

    Attributes:
        epoch: of the last commit; 0 where there was none.
        head: the sealed head of that commit, empty where there was none or the asker knows it.
        entries: of the journal, in order, from the one after the epoch that the asker knows; fewer than
            there are if they are many, none if that one is pruned.
        rows: those of the asked ids that there are; fewer if they are large.
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
    """The next records in order of id; there are no more where there are none here."""

    labels: Annotated[list[StoreLabel], msgspec.Meta(max_length=MAX_LABELS)]


class StorePut(msgspec.Struct, array_like=True, frozen=True):
    """A record to keep, in place of the one with its id."""

    id: Id
    label: Label
    value: Value


class StoreCommit(msgspec.Struct, array_like=True, frozen=True):
    """One commit: all of it is kept, or nothing.

    Attributes:
        epoch: of this commit; the host keeps it only if the epoch before is its last.
        version: of the records put.
        head: sealed, in place of the one before.
        entry: sealed, added to the journal.
        puts: records to keep.
        deletes: ids to forget.
        prune: journal entries up to this epoch may go.
    """

    epoch: Epoch
    version: Version
    head: Head
    entry: Entry
    puts: Annotated[list[StorePut], msgspec.Meta(max_length=MAX_CHANGES)]
    deletes: Annotated[list[Id], msgspec.Meta(max_length=MAX_CHANGES)]
    prune: Epoch


class StoreKeys(msgspec.Struct, array_like=True, frozen=True):
    """The sealed copies of a storage key that the host has.

    Attributes:
        sealed: the one for the platform asked about; empty if there is none.
        any: whether there is one for any platform.
    """

    sealed: SealedKey
    any: bool


class StoreRekey(msgspec.Struct, array_like=True, frozen=True):
    """The end of a re-keying: what was gathered takes the store's place, or nothing changes.

    Attributes:
        epoch: of the store from then on; only if the epoch before is its last.
        head: sealed, in place of the one before.
        count: of the records that were gathered.
        platform: where the key opens.
        sealed: the key, in place of every copy of the one before.
    """

    epoch: Epoch
    head: Head
    count: Epoch
    platform: Id
    sealed: SealedKey


Puts = Annotated[list[StorePut], msgspec.Meta(max_length=MAX_IDS)]


class Rekeys(Protocol):
    """The host's side of a re-keying. Every method may raise what the host likes."""

    def rekey_begin(self) -> None:
        """Begin to gather, beside the store; what others gathered and did not finish is forgotten."""
        ...

    def rekey_put(self, version: bytes, puts: list[StorePut]) -> None:
        """Gather records of ``version`` (24 bytes)."""
        ...

    def rekey_finish(self, last: StoreRekey) -> bool:
        """Put what was gathered in the store's place, on disk by the return; False, and nothing changed."""
        ...


class Records(Protocol):
    """The host's side of a store. Every method may raise what the host likes."""

    def read(self, ids: list[bytes], known: int) -> StoreAnswer:
        """Rows, and what was committed after epoch ``known``, as of one moment.

        Args:
            ids: at most ``MAX_IDS``.
            known: the last epoch the asker knows; -1 for one that wants the head and no entries.
        """
        ...

    def survey(self, after: bytes) -> StoreSurvey:
        """At most ``MAX_LABELS`` records whose id is greater than ``after`` (32 bytes, or none)."""
        ...

    def commit(self, commit: StoreCommit) -> bool:
        """Keep a commit, on disk by the return; False, and nothing kept, if another was first."""
        ...
