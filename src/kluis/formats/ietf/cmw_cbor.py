"""Conceptual message wrapper in CBOR: a record, a tag, or a collection of them. Nothing here is verified.

Spec: RFC 9999, "Record CMW", "Tag CMW" and "Collection CMW", in CBOR, "Transporting CMW in X.509 Messages";
RFC 9277, "TN() transform", for the tag of a content format.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import cbor, der
from kluis.formats.encoding.cbor import Key, Tagged, Value
from kluis.formats.encoding.entries import kind_of
from kluis.formats.ietf import cmw
from kluis.formats.ietf.cmw import MAX_PARTS, MAX_SIZE, Indicator, Part
from kluis.frozen import frozen

# One tag for each content format that has one; every 256th number of the range is unassigned.
FIRST_TAG: Final = 0x6374_0101
LAST_TAG: Final = 0x6374_FFFF
TAGS: Final = range(FIRST_TAG, LAST_TAG + 1)
CERTIFICATE_OID: Final = "1.3.6.1.5.5.7.1.35"
NESTED: Final = "application/cmw+cbor"
_TYPED: Final = "__cmwc_t"
_WHAT: Final = "CMW"
_RECORDS: Final = (b"\x82", b"\x83")
_UTF8_STRING: Final = b"\x0c"
_OCTETS: Final = b"\x04"
_TAG: Final = b"\xda\x63\x74"


class Tag(enum.IntEnum):
    """Tags whose content is not a byte string: those of the content formats 273 and 274."""

    COLLECTION = 1668547091
    SIGNED = 1668547092


@frozen
class Record:
    """A single part.

    Attributes:
        part: the part; its type is a content format if it came from a tag.
        message: the bytes it was read from.
    """

    part: Part
    message: Value

    def encode(self) -> bytes:
        """Write it: the bytes it was read from."""
        return cbor.dumps(self.message)


@frozen
class Collection:
    """Parts by label, in their order.

    Attributes:
        parts: 1 to 32, by labels that are text or integers; a collection within is its CBOR.
        type: what the collection is, a URI, or an object identifier in DER's octets; or None.
        message: the bytes it was read from.
    """

    parts: Mapping[Key, Part]
    type: str | bytes | None
    message: Value

    def encode(self) -> bytes:
        """Write it: the bytes it was read from."""
        return cbor.dumps(self.message)


Message: TypeAlias = Record | Collection


def tag_of(content_format: int) -> int:
    """The tag for a content format, 0..65024."""
    return FIRST_TAG + content_format // 255 * 256 + content_format % 255


def format_of(tag: int) -> int | None:
    """The content format of a tag in the range; None if the tag is unassigned."""
    block, place = divmod(tag - FIRST_TAG, 256)
    return None if place == 255 else 255 * block + place


def matches(data: bytes) -> bool:
    """Whether bytes start like a record or a tag. A collection is a map, like much other CBOR, and does not
    count.
    """
    return data[:3] == _TAG or (data[:1] in _RECORDS and data[1:2] != b"" and data[1] >> 5 in (0, 3))


def of_extension(data: bytes) -> bytes | None:
    """The message in a certificate's extension, in text or bytes; None if it contains none.

    Raises:
        FormatError: bytes follow it.
    """
    if data[:1] not in (_UTF8_STRING, _OCTETS):
        return data if matches(data) else None
    start, end = der.within(data, 0, len(data), data[0], _WHAT)
    if end != len(data):
        raise FormatError(f"{_WHAT}: bytes after the end", code="trailing_data")
    inner = data[start:end]
    text = data[:1] == _UTF8_STRING
    return inner if text or matches(inner) or b"\xa0" < inner[:1] < b"\xbc" else None


def parse(data: bytes) -> Message:
    """Parse one message, at most 16 MiB.

    Raises:
        FormatError: malformed, or more than 32 parts in a collection.
        UnsupportedError: a signed message: nothing states which signer to expect.
    """
    return of_value(cbor.loads(data, _WHAT, tags=TAGS, max_size=MAX_SIZE))


def of_value(value: Value) -> Message:
    """The message in CBOR that was already decoded.

    Raises:
        FormatError: it contains no message.
        UnsupportedError: a signed message.
    """
    match value:
        case dict(entries) | Tagged(tag=Tag.COLLECTION, value=dict(entries)):
            return _collection(entries, value)
        case _:
            return Record(_part(value, _WHAT), value)


def _collection(entries: dict[Key, Value], message: Value) -> Collection:
    kind = entries.get(_TYPED)
    if _TYPED in entries and not (isinstance(kind, str | bytes) and 1 <= len(kind) <= 256):
        raise FormatError(f"{_WHAT}.{_TYPED}: want a URI or an object identifier", code="bad_type")
    labels = [label for label in entries if label != _TYPED]
    if not 1 <= len(labels) <= MAX_PARTS:
        raise FormatError(f"{_WHAT}: want 1..{MAX_PARTS} parts, got {len(labels)}", code="too_large")
    parts = {label: _part(entries[label], f"{_WHAT}.{label!a:.40}") for label in labels}
    return Collection(MappingProxyType(parts), kind if isinstance(kind, str | bytes) else None, message)


def _part(value: Value, what: str) -> Part:
    match value:
        case dict() | Tagged(tag=Tag.COLLECTION, value=dict()):
            return Part(NESTED, of_value(value).encode())
        case Tagged(tag=tag, value=bytes(content)) if (number := format_of(tag)) is not None:
            return Part(number, content)
        case Tagged(tag=Tag.SIGNED):
            raise UnsupportedError(f"{what}: a signed message is not handled", code="bad_type")
        case [int() | str() as kind, bytes(content)] if cmw.is_type(kind):
            return Part(kind, content)
        case [int() | str() as kind, bytes(content), int(bits)] if cmw.is_type(kind) and 0 < bits < 32:
            return Part(kind, content, Indicator(bits))
    raise FormatError(
        f"{what}: want a type, bytes and an indicator of 1..31, or a tag of bytes, got {kind_of(value)}",
        code="bad_type",
    )
