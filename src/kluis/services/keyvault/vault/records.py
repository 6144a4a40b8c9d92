"""What the store keeps of keys: one record a name, which holds the latest version, and one an older version.

A release needs the name's release policy and the latest material: one record has both, so one read does.
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
        kty: as clients name it: ``RSA``, ``RSA-HSM``, ``EC``, ``EC-HSM``, ``oct``, ``oct-HSM``.
        secret: PKCS#8 DER of an RSA or EC key; the bytes themselves of an oct key.
        public: the JWK's public members, base64url: n and e, or crv, x and y; none of an oct key.
        size: bits of the modulus, of the curve's field, or of the bytes.
        key_ops: what it may be used for.
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
    """A release policy as it is kept: verbatim.

    Attributes:
        data: the document, as it was given.
        content_type: what the client said it is.
        immutable: whether it is so for ever.
        epoch: of the vault's sets of authorities, the one under which it was set: what the names in it mean.
    """

    data: bytes
    content_type: str
    immutable: bool = False
    epoch: int = 0


class LifetimeAction(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is to be done when: ISO 8601 durations, one of the two."""

    action: str
    after_create: str | None = None
    before_expiry: str | None = None


class RotationRule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A rotation policy: ``expiry`` is the ISO 8601 life of each new version."""

    actions: tuple[LifetimeAction, ...]
    expiry: str | None
    created: int
    updated: int


class Told(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Of which version, with which expiry, it was told that it is about to expire."""

    version: str
    exp: int | None


class Due(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """When something is next to be done about a key."""

    at: int


class Deletion(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """When a key was deleted, and when it is gone for good.

    Attributes:
        at: when.
        purge_at: from when on it is no more; of a partial one, from when on whoever comes clears it away.
        partial: whether some of its versions are not there: it is being purged or restored, by many changes.
    """

    at: int
    purge_at: int
    partial: bool = False


class KeyRecord(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A name, and all that every version of it shares."""

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
        InternalError: it is none of this kind and format: what is sealed here was written here.
    """
    try:
        record = msgspec.msgpack.decode(value, type=kind)
    except UNREADABLE:
        raise InternalError(f"{what}: want a record of format {FORMAT}, got another") from None
    if getattr(record, "format", FORMAT) != FORMAT:
        raise InternalError(f"{what}: want a record of format {FORMAT}, got another")
    return record
