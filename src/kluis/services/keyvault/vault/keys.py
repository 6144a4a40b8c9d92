"""Layout of keys in the store: names, older versions, and the schedule."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from kluis.enclave.store.model import Reading, Writing
from kluis.services.keyvault.faults import Conflict, KeyNotFound
from kluis.services.keyvault.names import LATEST, fold_case
from kluis.services.keyvault.vault import clock, pinned_policies, schedule
from kluis.services.keyvault.vault.records import Deletion, Due, KeyRecord, KeyVersion, decode, encode

NAMES, VERSIONS, DUE = "keys", "versions", "due"
LIVE, DELETED, PARTIAL = "live", "deleted", "partial"


def find(reading: Reading, name: str, now: int) -> KeyRecord | None:
    """The record of a name, deleted or not; None if there is none, or its purge time has come."""
    record = any_record(reading, name)
    return None if record is None or _is_being_purged(reading, record, now) else record


def being_purged(reading: Reading, name: str, now: int) -> KeyRecord | None:
    """The record of a name that is being purged, if something of it is left; else None."""
    record = any_record(reading, name)
    return record if record is not None and _is_being_purged(reading, record, now) else None


def any_record(reading: Reading, name: str) -> KeyRecord | None:
    """The record of a key, including one that is being purged."""
    value = reading.get(NAMES, fold_case(name))
    return None if value is None else decode(KeyRecord, value, "stored key")


def existing(reading: Reading, name: str, now: int) -> KeyRecord | None:
    """The record of a name that is not deleted; None if there is none.

    Raises:
        Conflict: deleted and recoverable.
    """
    record = find(reading, name, now)
    if record is not None and record.deleted is not None:
        raise Conflict(
            f"Key {record.name} is currently in a deleted but recoverable state, and its name cannot be "
            "reused; in this state, the key can only be recovered or purged.",
            "ObjectIsDeletedButRecoverable",
        )
    return record


def demand(reading: Reading, name: str, now: int) -> KeyRecord:
    """The record of a name that exists and is not deleted.

    Raises:
        KeyNotFound: it does not exist, or is deleted.
    """
    record = find(reading, name, now)
    if record is None or record.deleted is not None:
        raise KeyNotFound(name)
    return record


def version(reading: Reading, record: KeyRecord, wanted: str) -> KeyVersion:
    """One version of a key; "" is the latest.

    Raises:
        KeyNotFound: the key has no such version.
    """
    if wanted in (LATEST, record.current.id):
        return record.current
    value = reading.get(VERSIONS, f"{fold_case(record.name)}/{wanted}")
    if value is None:
        raise KeyNotFound(f"{record.name}/{wanted}")
    return decode(KeyVersion, value, "stored key version")


def versions(reading: Reading, record: KeyRecord, after: str = "") -> Iterator[KeyVersion]:
    """Every version of a key, in the order of their ids; only those after one."""
    name = fold_case(record.name)
    older = (
        decode(KeyVersion, value, "stored key version")
        for _, value in reading.scan(VERSIONS, name, after=f"{name}/{after}")
    )
    latest = [record.current] if record.current.id > after else []
    return heapq.merge(older, latest, key=lambda each: each.id)


def live(reading: Reading, now: int, *, deleted: bool = False, after: str = "") -> Iterator[KeyRecord]:
    """Every existing key, or every deleted and recoverable one, in order of name.

    Args:
        reading: the store.
        now: seconds since 1970.
        deleted: which of the two.
        after: only names, folded, that come after this one.
    """
    until = min(now, clock.vault_time(reading)) if deleted else now
    for _, value in reading.scan(NAMES, DELETED if deleted else LIVE, after=after):
        record = decode(KeyRecord, value, "stored key")
        if record.deleted is None or record.deleted.purge_at > until:
            yield record


def due(reading: Reading, now: int) -> list[str]:
    """Names with something due by now, the longest waiting first."""
    every = [(decode(Due, value, "stored due time").at, name) for name, value in reading.scan(DUE)]
    return [name for at, name in sorted(every) if at <= now]


def deletions(reading: Reading) -> Iterator[Deletion]:
    """The times of deletion and purge of each deleted key, in order of name."""
    for _, value in reading.scan(NAMES, DELETED):
        record = decode(KeyRecord, value, "stored key")
        if record.deleted is not None:
            yield record.deleted


def keep(writing: Writing, record: KeyRecord, *, instead_of: KeyRecord | None = None) -> None:
    """Store a record; the latest version of the record that it replaces becomes an older one."""
    if instead_of is not None and instead_of.current.id != record.current.id:
        keep_version(writing, record, instead_of.current)
    if record.release is not None and record.release.immutable and not _is_partial(record):
        before = any_record(writing, record.name)
        # Versions that were immutable before already have pins, except a new version.
        known = before is not None and before.release == record.release and not _is_partial(before)
        several = [record.current] if known else versions(writing, record)
        pinned_policies.keep(writing, record, [each.id for each in several])
    index = LIVE if record.deleted is None else PARTIAL if _is_partial(record) else DELETED
    writing.put(NAMES, fold_case(record.name), encode(record), index=index)
    at = schedule.next_at(record)
    if at is None:
        writing.delete(DUE, fold_case(record.name))
    else:
        writing.put(DUE, fold_case(record.name), encode(Due(at)))


def keep_version(writing: Writing, record: KeyRecord, one: KeyVersion) -> None:
    """Store a version that is not the latest."""
    writing.put(VERSIONS, f"{fold_case(record.name)}/{one.id}", encode(one), index=fold_case(record.name))


def _is_being_purged(reading: Reading, record: KeyRecord, now: int) -> bool:
    gone = record.deleted
    if gone is None or gone.partial:
        return gone is not None
    return gone.purge_at <= now and gone.purge_at <= clock.vault_time(reading)


def _is_partial(record: KeyRecord) -> bool:
    return record.deleted is not None and record.deleted.partial
