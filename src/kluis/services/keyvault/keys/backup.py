"""Backups: a key with all its versions as one opaque blob, which only this vault can open.

    blob = "KLUISKEY" 1 || nonce (12) || AES-256-GCM ciphertext and tag

The key is derived from the vault's identity, which is sealed in the vault's store. A backup does not outlive
that store: otherwise an operator could restore it under other authorities.
"""

from __future__ import annotations

import functools
import os
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kluis.enclave.store.model import Writing
from kluis.services.keyvault.faults import BadParameter, Conflict
from kluis.services.keyvault.names import check_name
from kluis.services.keyvault.octets import decode_base64
from kluis.services.keyvault.vault import audit, keys, pinned_policies, purging
from kluis.services.keyvault.vault.records import KeyRecord, KeyVersion, decode, encode
from kluis.services.keyvault.vault.vault import Vault

MAGIC: Final = b"KLUISKEY\x01"
NONCE: Final = 12
AROUND: Final = len(MAGIC) + NONCE + 16
MAX_BLOB: Final = 4 << 20


class Copy(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The contents of a backup."""

    format: int = 1
    record: KeyRecord
    versions: tuple[KeyVersion, ...]

    def __repr__(self) -> str:
        return f"Copy({self.record.name})"


def back_up(vault: Vault, name: str, now: int, subject: str) -> bytes:
    """Back up a key.

    Raises:
        KeyNotFound: the key does not exist.
        BadParameter: it has too many versions for a backup.
    """
    check_name(name)

    def work(writing: Writing) -> bytes:
        record = keys.demand(writing, name, now)
        every = tuple(one for one in keys.versions(writing, record) if one.id != record.current.id)
        plain = encode(Copy(record=record, versions=every))
        if len(plain) > MAX_BLOB - AROUND:
            raise BadParameter(
                f"key {name}: want a backup of at most {MAX_BLOB} bytes, got {len(plain) + AROUND}: it has "
                f"{len(every) + 1} versions"
            )
        audit.append(writing, audit.Event("backup", record.name, record.current.id, subject, now))
        return plain

    nonce = os.urandom(NONCE)
    return MAGIC + nonce + _cipher(vault).encrypt(nonce, vault.storage.update(work), MAGIC)


def restore(vault: Vault, value: object, now: int, subject: str) -> KeyRecord:
    """Restore a key from a backup.

    Raises:
        BadParameter: not a backup of this vault; or from before its release policy became immutable.
        Conflict: the name is taken, by an existing or a deleted and recoverable key.
    """
    copy = _open(vault, decode_base64(value, "value", most=MAX_BLOB))

    record, versions = copy.record, copy.versions
    purging.clear(vault.storage, record.name, now)
    # Until all versions are restored the key is not accessible, and its name is taken.
    partial = msgspec.structs.replace(record, deleted=purging.purge_mark(now))

    def work(writing: Writing, at: int) -> None:
        if at:
            _still(writing, partial)
        else:
            _free(writing, record, versions, now)
        for one in versions[at : at + purging.BATCH]:
            keys.keep_version(writing, record, one)
        if at + purging.BATCH < len(versions):
            keys.keep(writing, partial)
            return
        keys.keep(writing, record)
        audit.append(writing, audit.Event("restore", record.name, record.current.id, subject, now))

    for at in range(0, max(len(versions), 1), purging.BATCH):
        vault.storage.update(functools.partial(work, at=at))
    return record


def _free(writing: Writing, record: KeyRecord, versions: tuple[KeyVersion, ...], now: int) -> None:
    """Raise unless the name is free, and may have such versions."""
    if keys.existing(writing, record.name, now) is not None:
        raise Conflict(f"The key {record.name} already exists in this vault.")
    if keys.any_record(writing, record.name) is not None:
        raise purging.busy(record.name)
    pinned_policies.check(writing, record, [one.id for one in (*versions, record.current)])


def _still(writing: Writing, partial: KeyRecord) -> None:
    """Raise if the versions restored so far were cleared, because the restore took too long."""
    if keys.any_record(writing, partial.name) != partial:
        raise purging.busy(partial.name)


def _open(vault: Vault, blob: bytes) -> Copy:
    start = len(MAGIC) + NONCE
    try:
        if blob[: len(MAGIC)] != MAGIC:
            raise InvalidTag
        plain = _cipher(vault).decrypt(blob[len(MAGIC) : start], blob[start:], MAGIC)
    except (InvalidTag, ValueError):
        raise BadParameter("value: want a backup that this vault made, got another") from None
    return decode(Copy, plain, "backup")


def _cipher(vault: Vault) -> AESGCM:
    return AESGCM(vault.derive_key("backup"))
