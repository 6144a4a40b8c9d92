"""What the service keeps in its sealed store: its authority, what that published, and its platforms."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from kluis import authority
from kluis.errors import FormatError
from kluis.formats.encoding.unreadable import UNREADABLE

VERSION: Final = 1
R = TypeVar("R", bound="Record")


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A record; ``version`` is of its own shape."""

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
    """What was signed last.

    Attributes:
        state: SHA-256 of the authority's state that it says.
        issued: when, aware.
        said: documents, CRLs and who signed them.
    """

    state: bytes
    issued: str
    said: authority.Published


class Certificate(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One PCK certificate's chain (PEM), and the TCB that it says."""

    cpusvn: bytes
    pcesvn: int
    chain: bytes


class Pending(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a platform asked for, and nobody has allowed yet; it proved that it holds ``key``."""

    key: bytes
    cpusvn: bytes
    pcesvn: int
    made: str


class Refused(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When the last request was made that an owner refused: one that is no newer is not looked at again."""

    made: str


class Platform(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A platform that was certified.

    Attributes:
        key: its public PCK, 65 bytes.
        certificates: newest first.
        revoked: when its key was revoked; empty while it is good.
        made: of the newest request of its key that was answered or refused.
    """

    key: bytes
    certificates: list[Certificate]
    revoked: str
    made: str

    def certificate(self, cpusvn: bytes, pcesvn: int) -> Certificate | None:
        """Its certificate of exactly this TCB, or None."""
        return next((one for one in self.certificates if (one.cpusvn, one.pcesvn) == (cpusvn, pcesvn)), None)


class Holder(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which platform a key was certified for; ``revoked`` is when it was revoked, or empty."""

    ppid: str
    revoked: str


class Terms(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whom the owner lets in: with ``open``, every platform that asks."""

    open: bool


class Vendor(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A maker's document, as it came."""

    body: bytes
    chain: bytes


def encode(record: Record) -> bytes:
    """A record's bytes."""
    return msgspec.msgpack.encode(record)


def decode(data: bytes, kind: type[R]) -> R:
    """Read a record.

    Raises:
        FormatError: it is of another kind, or another version.
    """
    try:
        record = msgspec.msgpack.decode(data, type=kind)
    except (*UNREADABLE, ValueError):
        raise FormatError(f"record: is no {kind.__name__}", code="bad_encoding") from None
    if record.version != VERSION:
        raise FormatError(f"record.version: want {VERSION}, got {record.version}", code="bad_version")
    return record
