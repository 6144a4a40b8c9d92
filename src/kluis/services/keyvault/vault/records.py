"""The store's records of keys: one for each name, with its latest version, and one for each older version.

A release needs the name's release policy and the latest material: one record has both, so one read is enough.
Values are MessagePack of these types; the store seals them. No record shows its material in a ``repr``.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from kluis.errors import InternalError
from kluis.formats.encoding.unreadable import UNREADABLE

FORMAT: Final = 1
T = TypeVar("T", bound=msgspec.Struct)


class KeyVersion(
    msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True, repr_omit_defaults=True
):
    """One version of a key.

    Attributes:
        id: 32 hexadecimal digits.
        kty: in clients' names: ``RSA``, ``RSA-HSM``, ``EC``, ``EC-HSM``, ``oct``, ``oct-HSM``.
        secret: PKCS#8 DER of an RSA or EC key; the bytes of an oct key.
        public: the JWK's public members, base64url: n and e, or crv, x and y; empty for an oct key.
        size: bits of the modulus, of the curve's field, or of the bytes.
        key_ops: its allowed operations.
        created: seconds since 1970, as are all times here.
        exportable: whether it may be released.
    """

    id: str
    kty: str
    secret: bytes
    public: dict[str, str]
    size: int
    key_ops: tuple[str, ...]
    created: int
    updated: int
    enabled: bool = True
    nbf: int | None = None
    exp: int | None = None
    exportable: bool = False
    tags: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"KeyVersion({self.id}, {self.kty}, {self.size} bits)"


class ReleaseRule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A stored release policy, unchanged.

    Attributes:
        data: the document, unchanged.
        content_type: stated by the client.
        immutable: whether it can never change.
        epoch: the number of the vault's set of authorities when it was set, which defines the names in it.
    """

    data: bytes
    content_type: str
    immutable: bool = False
    epoch: int = 0


class LifetimeAction(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An action and its time: ISO 8601 durations, one of the two."""

    action: str
    after_create: str | None = None
    before_expiry: str | None = None


class RotationRule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A rotation policy: ``expiry`` is the ISO 8601 lifetime of each new version."""

    actions: tuple[LifetimeAction, ...]
    expiry: str | None
    created: int
    updated: int


class Told(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The version and expiry whose approach was recorded."""

    version: str
    exp: int | None


class Due(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """When something is due for a key."""

    at: int


class Deletion(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """The times of a key's deletion and purge.

    Attributes:
        at: time of the deletion.
        purge_at: time from which it no longer exists; for a partial one, time from which any process clears
            it.
        partial: whether some of its versions are missing: several transactions are purging or restoring it.
    """

    at: int
    purge_at: int
    partial: bool = False


class KeyRecord(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A name, and everything that its versions share."""

    format: int = FORMAT
    name: str
    current: KeyVersion
    release: ReleaseRule | None = None
    rotation: RotationRule | None = None
    deleted: Deletion | None = None
    told: Told | None = None

    def __repr__(self) -> str:
        return f"KeyRecord({self.name}, {self.current!r})"


def encode(record: msgspec.Struct) -> bytes:
    """Write a record."""
    return msgspec.msgpack.encode(record)


def decode(kind: type[T], value: bytes, what: str) -> T:
    """Read a record.

    Raises:
        InternalError: another kind or format: only this module writes what is sealed here.
    """
    try:
        record = msgspec.msgpack.decode(value, type=kind)
    except UNREADABLE:
        raise InternalError(f"{what}: want a record of format {FORMAT}, got another") from None
    if getattr(record, "format", FORMAT) != FORMAT:
        raise InternalError(f"{what}: want a record of format {FORMAT}, got another")
    return record
