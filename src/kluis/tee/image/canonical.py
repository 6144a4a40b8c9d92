"""Canonical JSON (RFC 8785) for typed records: each value has one encoding.

For plain values use ``formats.jcs``; an index may be 64 MiB, so records use msgspec. Keys of records, and of
the maps in them, are ASCII: for these, code points sort like UTF-16 units.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from kluis.errors import FormatError
from kluis.formats.encoding.unreadable import UNREADABLE

LARGEST: Final = 2**53 - 1
T = TypeVar("T")
_encoder: Final = msgspec.json.Encoder(order="sorted")


def encode(record: object) -> bytes:
    """Write a record, or a list of records, in canonical form."""
    return _encoder.encode(record)


def decode(data: bytes, kind: type[T], what: str) -> T:
    """Parse the output of ``encode`` as ``kind``; any other encoding of the same value is refused.

    Raises:
        FormatError: not JSON, not of this shape, or not canonical.
    """
    try:
        value = msgspec.json.decode(data, type=kind)
        again = _encoder.encode(value)
    except (*UNREADABLE, UnicodeError) as error:
        text = str(error)
        raise FormatError(f"{what}: {text[:1].lower()}{text[1:]}") from error
    if again != data:
        raise FormatError(f"{what}: want canonical JSON (RFC 8785), got another spelling")
    return value
