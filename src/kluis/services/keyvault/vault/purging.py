"""Forgetting a name and its versions for good: with one change of the store, or with as many as it takes.

A change holds only so many records, and a key may have any number of versions. What takes more than one is
marked with the first: from then on nobody has the key, whatever becomes of the rest, and its name is taken
until all is gone. What an instance left in the middle, the next one clears away after a minute.
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
"""Versions that one change takes, of the 1024 records that the store takes."""
PURGE_SECONDS: Final = 60


def purge(
    storage: Storage, name: str, now: int, begin: Callable[[Writing], KeyRecord | None]
) -> KeyRecord | None:
    """Forget a name and its versions; not what was promised of them.

    Args:
        storage: the vault's.
        name: whose.
        now: seconds since 1970.
        begin: finds, in the first change, what is to be forgotten, and puts on record that it is; None:
            nothing is. What it raises is raised, and nothing is forgotten.

    Returns:
        What ``begin`` found.
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
    """Forget what is left of a name that nobody may have any more, if anything is.

    Returns:
        The number of the entry that its time to be purged has come; None where nothing had to be said.

    Raises:
        Conflict: another is at it.
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
    """The mark of a name of which some versions are not there, or not any more."""
    return Deletion(now, now + PURGE_SECONDS, partial=True)


def busy(name: str) -> Conflict:
    """The refusal of a name that is being forgotten, or brought back."""
    return Conflict(
        f"Key {name} is currently being deleted or restored and cannot be created; retry later.",
        "ObjectIsBeingDeleted",
    )


def _drop(writing: Writing, record: KeyRecord, mark: Deletion) -> bool:
    """Forget as much as one change takes; whether that is all."""
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
