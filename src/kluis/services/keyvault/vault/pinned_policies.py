"""Pins of versions to their release policies, stored permanently once a policy is immutable.

A pin outlives a purge: otherwise an old backup, from before the policy was immutable, would restore the
material under the old policy. Each version has its own record. Versions that are pinned together, when a
key's policy becomes immutable, share one record of the name, because a transaction is limited in size.
"""

from __future__ import annotations

from typing import Final

from kluis.enclave.store.model import Reading, Writing
from kluis.hashes import sha256
from kluis.services.keyvault.faults import BadParameter
from kluis.services.keyvault.names import fold_case
from kluis.services.keyvault.vault.records import KeyRecord

PINNED: Final = "promises"
MOST_ALONE: Final = 32
MOST_TOGETHER: Final = 100_000
_DIGEST: Final = 33
_ID: Final = 16


def check(reading: Reading, record: KeyRecord, versions: list[str]) -> None:
    """Check a restored key against the pins of its versions.

    Raises:
        BadParameter: a version is pinned to another policy.
    """
    digest = _of(record)
    if any(pinned not in (None, digest) for pinned in _pinned_digests(reading, record, versions)):
        raise BadParameter("AKV.SKR.1020: Immutable Key Release Policy cannot be modified.")


def keep(writing: Writing, record: KeyRecord, versions: list[str]) -> None:
    """Pin versions of a key to their current policy."""
    digest = _of(record)
    pinned = _pinned_digests(writing, record, versions)
    fresh = [version for version, known in zip(versions, pinned, strict=True) if known != digest]
    if len(fresh) <= MOST_ALONE:
        for version in fresh:
            writing.put(PINNED, version, digest)
        return
    for at in range(0, len(fresh), MOST_TOGETHER):
        several = fresh[at : at + MOST_TOGETHER]
        value = digest + b"".join(map(bytes.fromhex, several))
        writing.put(PINNED, f"{fold_case(record.name)}/{several[0]}", value, index=fold_case(record.name))


def _pinned_digests(reading: Reading, record: KeyRecord, versions: list[str]) -> list[bytes | None]:
    """The pin of each version."""
    together: dict[bytes, bytes] = {}
    for _, value in reading.scan(PINNED, fold_case(record.name)):
        for at in range(_DIGEST, len(value), _ID):
            together[value[at : at + _ID]] = value[:_DIGEST]
    return [together.get(bytes.fromhex(each)) or reading.get(PINNED, each) for each in versions]


def _of(record: KeyRecord) -> bytes:
    rule = record.release
    return b"" if rule is None else sha256(rule.data) + bytes([rule.immutable])
