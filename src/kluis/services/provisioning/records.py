"""The records in the service's sealed store: its authority, its publications, and its platforms."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from kluis import authority
from kluis.errors import FormatError
from kluis.formats.encoding.unreadable import UNREADABLE

VERSION: Final = 1
R = TypeVar("R", bound="Record")


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A record; ``version`` is that of its format."""

    version: int = VERSION


class Authority(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The authority's private keys, PKCS#8 DER, and its state, canonical JSON. Never shown."""

    root: bytes
    platform_ca: bytes
    tcb_signing: bytes
    state: bytes

    def __repr__(self) -> str:
        return "<authority>"


class Published(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The last publication.

    Attributes:
        state: SHA-256 of the authority's state that it represents.
        issued: time, aware.
        said: documents, CRLs and their chains.
    """

    state: bytes
    issued: str
    said: authority.Published


class Certificate(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One PCK certificate's chain (PEM), and its TCB."""

    cpusvn: bytes
    pcesvn: int
    chain: bytes


class Pending(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A platform's request that is not yet approved; it proved possession of ``key``."""

    key: bytes
    cpusvn: bytes
    pcesvn: int
    made: str


class Refused(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The time of the last request that an owner refused: requests that are no newer are ignored."""

    made: str


class Platform(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A platform that was certified.

    Attributes:
        key: its public PCK, 65 bytes.
        certificates: newest first.
        revoked: when its key was revoked; empty if it is not.
        made: time of the newest request with its key that was answered or refused.
    """

    key: bytes
    certificates: list[Certificate]
    revoked: str
    made: str

    def certificate(self, cpusvn: bytes, pcesvn: int) -> Certificate | None:
        """Its certificate for exactly this TCB, or None."""
        return next((one for one in self.certificates if (one.cpusvn, one.pcesvn) == (cpusvn, pcesvn)), None)


class Holder(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The platform that a key was certified for; ``revoked`` is when it was revoked, or empty."""

    ppid: str
    revoked: str


class Terms(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The owner's terms: with ``open``, every platform is certified on request."""

    open: bool


class Vendor(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A vendor's document, unchanged."""

    body: bytes
    chain: bytes


def encode(record: Record) -> bytes:
    """A record's bytes."""
    return msgspec.msgpack.encode(record)


def decode(data: bytes, kind: type[R]) -> R:
    """Read a record.

    Raises:
        FormatError: another kind, or another version.
    """
    try:
        record = msgspec.msgpack.decode(data, type=kind)
    except (*UNREADABLE, ValueError):
        raise FormatError(f"record: is no {kind.__name__}", code="bad_encoding") from None
    if record.version != VERSION:
        raise FormatError(f"record.version: want {VERSION}, got {record.version}", code="bad_version")
    return record
