"""Canonical JSON (RFC 8785) of typed records: one value, one sequence of bytes.

For plain values see ``formats.jcs``; an index may be 64 MiB, so records go through msgspec.
Keys of records, and of the maps in them, are ASCII: there code points sort as UTF-16 units do.
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
    """Write a record, or a list of records, in the one canonical form."""
    return _encoder.encode(record)


def decode(data: bytes, kind: type[T], what: str) -> T:
    """Read what ``encode`` wrote, as ``kind``; any other spelling of the same value is refused.

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
