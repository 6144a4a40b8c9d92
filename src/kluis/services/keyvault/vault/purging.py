"""Purge a name and its versions, in one transaction or as many as it takes.

A transaction is limited in size, and a key may have any number of versions. If one is not enough, the first
one marks the key: from then on it is not accessible, whatever happens next, and its name is taken until all
is purged. If a process stops in the middle, the next one continues after a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

import msgspec

from kluis.enclave.store.model import Storage, Writing
from kluis.services.keyvault.faults import Conflict
from kluis.services.keyvault.names import fold_case
from kluis.services.keyvault.vault import audit, keys
from kluis.services.keyvault.vault.records import Deletion, KeyRecord

BATCH: Final = 500
"""Versions in one transaction, of the 1024 records that the store allows."""
PURGE_SECONDS: Final = 60


def purge(
    storage: Storage, name: str, now: int, begin: Callable[[Writing], KeyRecord | None]
) -> KeyRecord | None:
    """Purge a name and its versions, but not their pins.

    Args:
        storage: the vault's.
        name: to purge.
        now: seconds since 1970.
        begin: determines, in the first transaction, what to purge, and records it; None: there is nothing to
            purge. If it raises, nothing is purged.

    Returns:
        The result of ``begin``.
    """
    mark = purge_mark(now)

    def first(writing: Writing) -> tuple[KeyRecord | None, bool]:
        record = begin(writing)
        return record, record is None or _drop(writing, record, mark)

    def further(writing: Writing) -> bool:
        record = keys.any_record(writing, name)
        return record is None or record.deleted != mark or _drop(writing, record, mark)

    record, done = storage.update(first)
    while not done:
        done = storage.update(further)
    return record


def clear(storage: Storage, name: str, now: int) -> int | None:
    """Purge the remains of a name that is being purged, if there are any.

    Returns:
        The number of the entry that its purge time has come; None if nothing had to be recorded.

    Raises:
        Conflict: another process is purging it.
    """
    entry: int | None = None

    def begin(writing: Writing) -> KeyRecord | None:
        nonlocal entry
        entry = None
        record = keys.being_purged(writing, name, now)
        if record is None or record.deleted is None:
            return None
        if record.deleted.partial and record.deleted.purge_at > now:
            raise busy(record.name)
        if not record.deleted.partial:
            event = audit.Event("auto-purge", record.name, record.current.id, "", now)
            entry = audit.append(writing, event)
        return record

    if keys.being_purged(storage, name, now) is not None:
        purge(storage, name, now, begin)
    return entry


def purge_mark(now: int) -> Deletion:
    """Marks a key whose versions are only partly restored or partly purged."""
    return Deletion(now, now + PURGE_SECONDS, partial=True)


def busy(name: str) -> Conflict:
    """The refusal for a name that is being purged or restored."""
    return Conflict(
        f"Key {name} is currently being deleted or restored and cannot be created; retry later.",
        "ObjectIsBeingDeleted",
    )


def _drop(writing: Writing, record: KeyRecord, mark: Deletion) -> bool:
    """Purge as much as one transaction allows; return whether that is all."""
    name = fold_case(record.name)
    several = [key for key, _ in islice(writing.scan(keys.VERSIONS, name), BATCH + 1)]
    for key in several[:BATCH]:
        writing.delete(keys.VERSIONS, key)
    if len(several) <= BATCH:
        writing.delete(keys.NAMES, name)
        writing.delete(keys.DUE, name)
        return True
    if record.deleted != mark:
        keys.keep(writing, msgspec.structs.replace(record, deleted=mark))
    return False
