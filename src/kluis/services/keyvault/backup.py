"""Backups: a key with all its versions as one opaque blob, which this vault alone can open.

    blob = "KLUISKEY" 1 || nonce (12) || AES-256-GCM ciphertext and tag

The key is derived from the vault's identity, which lies sealed in the vault's store. A backup does not
outlive that store: if it did, an operator could restore it under authorities of their own choice.
"""

from __future__ import annotations

import os
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kluis.enclave.store.model import Writing
from kluis.services.keyvault import audit, shelf
from kluis.services.keyvault.faults import BadParameter, Conflict
from kluis.services.keyvault.names import check_name
from kluis.services.keyvault.octets import octets
from kluis.services.keyvault.records import KeyRecord, KeyVersion, decode, encode
from kluis.services.keyvault.vault import Vault

__all__ = ["back_up", "restore"]

MAGIC: Final = b"KLUISKEY\x01"
NONCE: Final = 12
MAX_BLOB: Final = 512 * 1024


class Copy(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a backup holds."""

    format: int = 1
    record: KeyRecord
    versions: tuple[KeyVersion, ...]

    def __repr__(self) -> str:
        return f"Copy({self.record.name})"


def back_up(vault: Vault, name: str, now: int, subject: str) -> bytes:
    """Make a backup.

    Raises:
        KeyNotFound: there is no such key.
        BadParameter: it has more versions than a backup holds.
    """
    check_name(name)

    def work(writing: Writing) -> Copy:
        record = shelf.demand(writing, name, now)
        every = tuple(one for one in shelf.versions(writing, record) if one.id != record.current.id)
        audit.append(writing, audit.Event("backup", record.name, record.current.id, subject, now))
        return Copy(record=record, versions=every)

    nonce = os.urandom(NONCE)
    blob = MAGIC + nonce + _cipher(vault).encrypt(nonce, encode(vault.storage.update(work)), MAGIC)
    if len(blob) > MAX_BLOB:
        raise BadParameter(f"key {name}: want a backup of at most {MAX_BLOB} bytes, got {len(blob)}")
    return blob


def restore(vault: Vault, value: object, now: int, subject: str) -> KeyRecord:
    """Bring a key back from a backup.

    Raises:
        BadParameter: not a backup of this vault; or of before its release policy became immutable.
        Conflict: the name is taken, by a key that is there, or deleted and recoverable.
    """
    copy = _opened(vault, octets(value, "value", most=MAX_BLOB))

    def work(writing: Writing) -> KeyRecord:
        if shelf.undeleted(writing, copy.record.name, now) is not None:
            raise Conflict(f"The key {copy.record.name} already exists in this vault.")
        shelf.promised(writing, copy.record, [*copy.versions, copy.record.current])
        shelf.drop(writing, copy.record.name)
        for one in copy.versions:
            shelf.keep_version(writing, copy.record, one)
        shelf.keep(writing, copy.record)
        audit.append(writing, audit.Event("restore", copy.record.name, copy.record.current.id, subject, now))
        return copy.record

    return vault.storage.update(work)


def _opened(vault: Vault, blob: bytes) -> Copy:
    start = len(MAGIC) + NONCE
    try:
        if blob[: len(MAGIC)] != MAGIC:
            raise InvalidTag
        plain = _cipher(vault).decrypt(blob[len(MAGIC) : start], blob[start:], MAGIC)
    except (InvalidTag, ValueError):
        raise BadParameter("value: want a backup that this vault made, got another") from None
    return decode(Copy, plain, "backup")


def _cipher(vault: Vault) -> AESGCM:
    return AESGCM(vault.derived("backup"))
