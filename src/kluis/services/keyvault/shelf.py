"""Where keys lie in the store: names, older versions, what is due when, and what was promised for ever."""

from __future__ import annotations

from collections.abc import Iterator

from kluis.enclave.store.model import Reading, Writing
from kluis.hashes import sha256
from kluis.services.keyvault import schedule
from kluis.services.keyvault.faults import BadParameter, Conflict, KeyNotFound
from kluis.services.keyvault.names import LATEST, folded
from kluis.services.keyvault.records import Due, KeyRecord, KeyVersion, decode, encode

__all__ = [
    "demand",
    "drop",
    "due",
    "find",
    "keep",
    "keep_version",
    "live",
    "promised",
    "undeleted",
    "version",
    "versions",
]

NAMES, VERSIONS, PROMISES, DUE = "keys", "versions", "promises", "due"
LIVE, DELETED = "live", "deleted"


def find(reading: Reading, name: str, now: int) -> KeyRecord | None:
    """The record of a name, deleted or not; None if there is none, or its time to be purged has come."""
    value = reading.get(NAMES, folded(name))
    if value is None:
        return None
    record = decode(KeyRecord, value, "stored key")
    return None if record.deleted is not None and record.deleted.purge_at <= now else record


def undeleted(reading: Reading, name: str, now: int) -> KeyRecord | None:
    """The record of a name that is not deleted; None if there is none.

    Raises:
        Conflict: deleted, and can be recovered.
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
    """The record of a name that is there and not deleted.

    Raises:
        KeyNotFound: none, or deleted.
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
    value = reading.get(VERSIONS, f"{folded(record.name)}/{wanted}")
    if value is None:
        raise KeyNotFound(f"{record.name}/{wanted}")
    return decode(KeyVersion, value, "stored key version")


def versions(reading: Reading, record: KeyRecord) -> list[KeyVersion]:
    """Every version of a key, in the order of their ids."""
    older = [
        decode(KeyVersion, value, "stored key version")
        for _, value in reading.scan(VERSIONS, folded(record.name))
    ]
    return sorted((*older, record.current), key=lambda each: each.id)


def live(reading: Reading, now: int, *, deleted: bool = False) -> Iterator[KeyRecord]:
    """Every key that is there, or every one that is deleted and can be recovered, in order of name."""
    for _, value in reading.scan(NAMES, DELETED if deleted else LIVE):
        record = decode(KeyRecord, value, "stored key")
        if record.deleted is None or record.deleted.purge_at > now:
            yield record


def due(reading: Reading, now: int) -> list[str]:
    """Names about which something is to be done by now, those that wait longest first."""
    every = [(decode(Due, value, "stored due time").at, name) for name, value in reading.scan(DUE)]
    return [name for at, name in sorted(every) if at <= now]


def keep(writing: Writing, record: KeyRecord, *, instead_of: KeyRecord | None = None) -> None:
    """Keep a record; the latest version of the one that it takes the place of becomes an older one.

    Raises:
        BadParameter: a version was promised another policy, for ever.
    """
    if instead_of is not None and instead_of.current.id != record.current.id:
        keep_version(writing, record, instead_of.current)
    if record.release is not None and record.release.immutable:
        _promise(writing, record)
    index = LIVE if record.deleted is None else DELETED
    writing.put(NAMES, folded(record.name), encode(record), index=index)
    at = schedule.next_at(record)
    if at is None:
        writing.delete(DUE, folded(record.name))
    else:
        writing.put(DUE, folded(record.name), encode(Due(at)))


def keep_version(writing: Writing, record: KeyRecord, one: KeyVersion) -> None:
    """Keep a version that is not the latest."""
    writing.put(VERSIONS, f"{folded(record.name)}/{one.id}", encode(one), index=folded(record.name))


def drop(writing: Writing, name: str) -> None:
    """Forget a name and its versions for good; not what was promised of them."""
    for key in [key for key, _ in writing.scan(VERSIONS, folded(name))]:
        writing.delete(VERSIONS, key)
    writing.delete(NAMES, folded(name))


def promised(reading: Reading, record: KeyRecord, several: list[KeyVersion]) -> None:
    """Hold a key that comes back to what its versions were promised before they went.

    An immutable policy outlives a purge: else an old backup, from before the policy was immutable, would
    bring the material back under the old policy.

    Raises:
        BadParameter: a version was promised another policy.
    """
    digest = _digest(record)
    for one in several:
        if (promise := reading.get(PROMISES, one.id)) is not None and promise != digest:
            raise BadParameter("AKV.SKR.1020: Immutable Key Release Policy cannot be modified.")


def _promise(writing: Writing, record: KeyRecord) -> None:
    digest = _digest(record)
    for one in versions(writing, record):
        if writing.get(PROMISES, one.id) != digest:
            writing.put(PROMISES, one.id, digest)


def _digest(record: KeyRecord) -> bytes:
    rule = record.release
    return b"" if rule is None else sha256(rule.data) + bytes([rule.immutable])
